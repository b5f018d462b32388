"""Checks of the tables of a scene: what is missing, unknown or of the wrong type is named by its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class SceneError(ValueError):
    """A scene cannot be used; the message names the file, the key and the reason."""


@contextmanager
def at(key: str) -> Iterator[None]:
    """Name the key in what is raised about its value."""
    try:
        yield
    except SceneError:
        raise
    except KeyError as error:
        raise SceneError(f"{key}.{error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise SceneError(f"{key}: {error}") from error


def numbers(value: Any, where: str, count: int = 1) -> Any:
    """Return a number, or a list of as many numbers as there should be; refuse anything else."""
    values = [value] if count == 1 else value
    if not (isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values)):
        raise SceneError(f"{where} must be {'a number' if count == 1 else f'a list of {count} numbers'}, got {value!r}")
    return value


def known(table: Any, names: Sequence[str], where: str) -> None:
    """Refuse what is no table, and unknown keys."""
    if not isinstance(table, Mapping):
        raise SceneError(f"{where} must be a table, got {table!r}")
    unknown = [key for key in table if key not in names]
    if unknown:
        raise SceneError(f"unknown key {', '.join(unknown)} in {where}; known: {', '.join(names)}")


def listed(value: Any, name: str) -> list[tuple[str, Any]]:
    """Return the tables of a list with their names, which are numbered from 1 where there are several."""
    if not isinstance(value, list):
        raise SceneError(f"{name} must be a list of tables, [[{name}]], got {value!r}")
    return [(name if len(value) == 1 else f"{name} {number}", table) for number, table in enumerate(value, 1)]
