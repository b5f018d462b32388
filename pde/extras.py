"""One sentence for whoever calls a part of deepcd whose optional packages are not installed."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra, such as ``deepcd[pinn]``, is not installed; the message says how to install it."""


def require(*packages: str, extra: str, by: str) -> None:
    """Raise an error that names the extra to install, unless all packages are installed; none is imported.

    Parameters
    ----------
    *packages : str
        Import names.
    extra : str
        The extra of deepcd that brings them, without brackets.
    by : str
        What needs them, as the user calls it; the subject of the message.

    Raises
    ------
    MissingExtraError

    Examples
    --------
    >>> from deepcd.pde.extras import require
    >>> require("numpy", extra="pinn", by="deepcd.pinn")
    >>> require("none_such", extra="pinn", by="It")
    Traceback (most recent call last):
        ...
    deepcd.pde.extras.MissingExtraError: It needs none_such, which is not installed: pip install "deepcd[pinn]"
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        names = " and ".join(part for part in (", ".join(missing[:-1]), missing[-1]) if part)
        raise MissingExtraError(f"{by} needs {names}, which {verb} not installed: {advice(extra)}", name=missing[0])


def advice(extra: str) -> str:
    """Return the command that installs an extra of deepcd."""
    return f'pip install "deepcd[{extra}]"'


def is_installed(package: str) -> bool:
    """Return whether a package can be found by its import name; it is not imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a finder refuses it, or a stand-in without a specification took its place
        return False
