"""Whether factors fit into memory, which is asked before anything is factored."""

from __future__ import annotations

import math
import os
from pathlib import Path

from deepcd.solvers.preconditioners.factors.plan import Plan

_GIB = 2.0**30
_LITTLE = 2.0**27  # bytes that are taken without asking, which would take longer than factoring


class FactorsTooLargeError(MemoryError):
    """The factors of a matrix do not fit into memory."""


def available() -> float:
    """Return the number of bytes that can be had: infinity where the system does not say."""
    try:
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(row.split()[1]) for row in rows if row.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not on Linux
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf


def refuse_what_does_not_fit(plan: Plan) -> None:
    """Make sure that there is memory for the factors.

    Raises
    ------
    FactorsTooLargeError
        If there is not.
    """
    if plan.complete and plan.bytes <= _LITTLE:
        return
    if plan.entries == math.inf:
        raise FactorsTooLargeError("The matrix has too many entries for sparse factors: take another preconditioner.")
    there = available()
    if plan.complete and plan.bytes <= there:
        return
    least = "" if plan.complete else "at least "
    raise FactorsTooLargeError(
        f"The sparse factors of {plan.n:,} unknowns have {least}{plan.entries:,.0f} entries and need {least}"
        f"{plan.bytes / _GIB:.1f} GiB of memory, of which {there / _GIB:.1f} GiB are available: "
        "take another preconditioner."
    )
