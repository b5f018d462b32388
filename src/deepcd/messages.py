"""What the commands say and how they end: messages on standard error, JSON on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import typer


def require(*packages: str, extra: str, by: str) -> None:
    """Do what `deepcd.pde.extras.require` does, which is imported here because NumPy comes with it."""
    from deepcd.pde.extras import require as imported

    imported(*packages, extra=extra, by=by)


def refuse(message: str) -> NoReturn:
    """End the program with status 2 and a message."""
    say(f"error: {message}")
    raise typer.Exit(2)


def say(message: str) -> None:
    """Print a message for people."""
    print(message, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print strict JSON, in which numbers that are not finite are null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    print(json.dumps(finite, indent=2, allow_nan=False))
