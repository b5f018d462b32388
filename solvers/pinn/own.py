"""Problems that a user has stated in a program of theirs, for the command line."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepcd.pde.equations.statements import Problem


def own_problem(reference: str) -> Problem:
    """Return a problem by the file that states it and its name, such as "heat.py:rod".

    The file is the user's own program. It is executed, as ``python heat.py`` would, but for what is under
    ``if __name__ == "__main__"``.

    Parameters
    ----------
    reference : str
        A path that ends with .py, a colon, and the name of a `Problem` in the file, or of a function without arguments
        that returns one.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        If there is no such file or name, the program fails, or the name is of anything else.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file or name).absolute()
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"there is no program {path}: give FILE.py:NAME, with a file of Python that exists")
    names = _guarded(path, lambda: _executed(path))
    stated = [key for key, value in names.items() if isinstance(value, Problem)]
    there = f"the problems in it are {', '.join(stated)}" if stated else "there is no pinn.Problem in it"
    if not file or name not in names:
        asked = f"has no {name!r}" if file else "may have several problems"
        raise ValueError(f"{path} {asked}: give {path}:NAME; {there}")
    found = names[name]
    if callable(found):
        found = _guarded(path, found)
    if not isinstance(found, Problem):
        raise ValueError(f"{name} of {path} is a {type(found).__name__}, but must be a pinn.Problem; {there}")
    return found


def _executed(path: Path) -> dict[str, Any]:
    """Execute a program, and return its names."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # modules that the program imports may be beside it
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return vars(module)


def _guarded(path: Path, work: Callable[[], Any]) -> Any:
    """Do what executes the program, and say in a sentence where it failed."""
    try:
        return work()
    except SyntaxError as error:
        raise ValueError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        where = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"{path}{where}: {type(error).__name__}: {error}") from error
