"""``python -m deepcd`` is the command ``deepcd``."""

from deepcd.cli import app

if __name__ == "__main__":
    app(prog_name="deepcd")
