"""The command ``deepcd``, also as ``python -m deepcd``. Importing this module needs no optional package."""

import sys


def main() -> None:
    """Run the command; where an optional package is missing, say so in one sentence and exit with status 2."""
    try:
        from deepcd.cli import app

        app(prog_name="deepcd")
    except ModuleNotFoundError as error:
        from deepcd.pde.extras import MissingExtraError, advice

        message, package = str(error), (error.name or "").split(".")[0]
        if not isinstance(error, MissingExtraError):
            if package not in ("typer", "rich"):
                raise
            message = f"The command deepcd needs {package}, which is not installed: {advice('cli')}"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
