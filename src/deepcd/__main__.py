"""The command ``deepcd``, also as ``python -m deepcd``. Importing this module needs no optional package."""

import sys

from deepcd.pde.extras import MissingExtraError, require


def main() -> None:
    """Run the command; where an optional package is missing, say so in one sentence and exit with status 2."""
    try:
        require("typer", "rich", extra="cli", by="The command deepcd")
        from deepcd.cli import app

        app(prog_name="deepcd")
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
