"""What a solve is told, and what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepcd.solvers.forecast import Watch
from deepcd.solvers.solution import Attempt, Status
from deepcd.solvers.space import Vector

Callback = Callable[[Any], object]

_PUZZLING = (Status.MAXITER, Status.ATTAINABLE_ACCURACY, Status.BREAKDOWN, Status.INDEFINITE_MATRIX)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a solve came to: the arguments of a `Solution` that it decides.

    Attributes
    ----------
    x : vector of float32 or float64, shape (n,)
        The answer, or the best iterate.
    status : Status
        How the solve ended.
    residuals : list of float
        Norms of b - A x, the initial one first.
    detail : str
        A sentence about this very system, or nothing.
    rounded : bool
        Whether the iteration met the target, and the rounding of its answer is what keeps x from it.
    attempts : tuple of Attempt
        The methods that were tried, the last one excluded.
    """

    x: Vector
    status: Status
    residuals: list[float]
    detail: str = ""
    rounded: bool = False
    attempts: tuple[Attempt, ...] = ()

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return len(self.residuals) - 1

    @property
    def is_puzzling(self) -> bool:
        """Whether the solve failed in a way that a null vector of A, or its asymmetry, may explain."""
        return self.status in _PUZZLING and not self.rounded

    def then(self, later: Outcome) -> Outcome:
        """Return the outcome of both, the later one having started from this one's x."""
        detail = f"{self.detail} {later.detail}".strip()
        # Without an iteration, the later one has recomputed the residual that this one ended with.
        recomputed = len(later.residuals) == 1
        before = self.residuals[:-1] if recomputed else self.residuals
        residuals = [*before, *later.residuals[not recomputed :]]
        attempts = self.attempts + later.attempts
        return Outcome(later.x, later.status, residuals, detail, later.rounded, attempts)


@dataclass(frozen=True, eq=False)
class Limits:
    """When to stop, and whom to tell.

    Attributes
    ----------
    target : float
        Norm of b - A x that is to be reached.
    maxiter : int
        Largest number of iterations, over all rounds.
    deadline : float
        Value of `time.perf_counter` after which no iteration starts.
    callback : callable or None
        Called with x, shape (n,), after each iteration; returning True stops.
    eps : float
        Unit roundoff that b carries: a part of b of that size may have been made by rounding it.
    watch : callable or None
        Told how the iteration goes now and then; returning True ends it. See `forecast`.
    """

    target: float
    maxiter: int
    deadline: float
    callback: Callback | None
    eps: float = float(np.finfo(np.float64).eps)
    watch: Watch | None = None
