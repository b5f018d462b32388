"""Solving a system whose unknowns lie at known points: the one place that hands the points to the solver."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.solution import Solution


def solve_at(
    points: NDArray[np.float64] | None, method: DeepCD, A: Any, b: NDArray[np.float64], **options: Any
) -> Solution:
    """Return ``method.solve(A, b, **options)`` for unknowns at `points`, shape (n, d); None if nobody knows where."""
    given: dict[str, Any] = {"points": points, **options}
    return method.solve(A, b, **given)
