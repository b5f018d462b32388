"""What ``deepcd solve --mesh`` was told, in words of the shell, as a system of finite elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepcd.pde import FemSystem, fem

FIELDS = ("coefficient", "reaction", "source")  # a number for all cells, or one for each part


def assembled(mesh: Path, order: int, equation: Mapping[str, Sequence[str] | None]) -> FemSystem:
    """Return the system on a mesh.

    Parameters
    ----------
    mesh : Path
        See `deepcd.pde.fem`.
    order : {1, 2}
    equation : mapping of str to sequence of str or None
        By the names of the arguments of `deepcd.pde.fem`: one number for a field, or ``TAG=NUMBER``, for robin
        ``TAG=H,U_OUTSIDE``, as often as there are parts; None for what is not given.

    Returns
    -------
    FemSystem

    Raises
    ------
    ValueError
        If a value cannot be read, a part is given twice, or the mesh or the equation cannot be used.
    """
    given: dict[str, Any] = {}
    for name, words in equation.items():
        if not words:
            continue
        if name in FIELDS and len(words) == 1 and "=" not in words[0]:
            given[name] = _numbers(name, words[0], words[0], 1)[0]
            continue
        parts: dict[str, Any] = {}
        for word in words:
            tag, equals, text = word.rpartition("=")  # a tag may hold an equals sign
            if not (equals and tag):
                also = "one number, or " if name in FIELDS else ""
                raise ValueError(f"--{name} {word}: give {also}{_form(name)}, as often as there are parts")
            if tag in parts:
                raise ValueError(f"--{name}: the part {tag!r} is given twice")
            values = _numbers(name, word, text, 2 if name == "robin" else 1)
            parts[tag] = values if name == "robin" else values[0]
        given[name] = parts
    return fem(mesh, order=order, **given)


def _form(name: str) -> str:
    return "TAG=H,U_OUTSIDE" if name == "robin" else "TAG=NUMBER"


def _numbers(name: str, word: str, text: str, count: int) -> tuple[float, ...]:
    """Return so many numbers, separated by commas."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ValueError(f"--{name} {word}: give {_form(name)} with {'a number' if count == 1 else 'two numbers'}")
    return values
