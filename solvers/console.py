"""Consoles of the commands. They show text as it is: rich would drop brackets in names of files and extras."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that reads neither markup nor emoji codes in what it prints.

    Parameters
    ----------
    stderr : bool, default False
        Print to standard error instead of standard output.

    Examples
    --------
    >>> from deepcd.solvers.console import plain_console
    >>> plain_console().print('pip install "deepcd[cuda]"')
    pip install "deepcd[cuda]"
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
