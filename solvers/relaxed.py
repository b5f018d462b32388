"""Conjugate gradients that are compiled as a whole, for a preconditioner of a few passes over a matrix, and watched.

This is an accelerator only: its answer is certified, or goes on, by `refinement.refine`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import is_finite, norm, power_of_two
from deepcd.solvers.forecast import Steps, looks
from deepcd.solvers.outcome import Limits
from deepcd.solvers.parts import Parts
from deepcd.solvers.solution import Status

Vector = NDArray[np.float64]

_AT_ONCE = 64  # largest number of steps between two looks at the clock
_LEAST = 1e-14  # least residual, relative to that of the start, that is iterated for without a look at the true one


@dataclass(frozen=True, eq=False)
class Relaxed:
    """How far an iteration came.

    Attributes
    ----------
    x : ndarray of float64, shape (n,)
        The iterate.
    residuals : list of float
        Norms of b - A x, the initial one first.
    status : Status
        CONVERGED if the recursion met the target, CALLBACK, TIMEOUT, else MAXITER.
    left : bool
        Whether the watcher ended it.
    """

    x: Vector
    residuals: list[float]
    status: Status
    left: bool


def relax(parts: Parts, b: Vector, x0: Vector | None, limits: Limits) -> Relaxed | None:
    """Iterate on A x = b with the preconditioner of the parts.

    Parameters
    ----------
    parts : Parts
        The parts of A, with a `CSROperator`, and an M that has `begin` and `iterate`.
    b : ndarray of float64, shape (n,)
        Right-hand side, finite, not zero.
    x0 : ndarray of float64, shape (n,), or None
        Where to start; None: zero. Not changed.
    limits : Limits
        When to stop, and whom to tell.

    Returns
    -------
    Relaxed or None
        None where there is nothing to iterate on, where no x can meet the target, or where x leaves float64's range.
    """
    x = np.zeros(b.size) if x0 is None else x0.copy()
    initial = norm(b if x0 is None else b - parts.A @ x)
    parts.solve_alone(b, x)
    r = b if x0 is None and not parts.alone.size else b - parts.A @ x
    part, rest = r[parts.rows], norm(r[parts.alone])
    size = norm(part)
    if not 0 < size < math.inf or min(initial, size) <= limits.target:
        return None
    unit = power_of_two(size)
    run = _Run(parts.M, parts.operator.embed(part, 1 / unit))
    beyond = rest / unit
    if parts.singular:
        null = run.r.copy()
        parts.operator.project(run.r)
        beyond = math.hypot(beyond, norm(null - run.r))
    goal = limits.target / unit
    if beyond >= goal > 0:
        return None

    whole = x0 is None and isinstance(parts.rows, slice) and not parts.singular  # all of x is what is iterated for

    def answer(found: Vector) -> Vector:
        with np.errstate(over="ignore", invalid="ignore"):
            if whole:
                return found * (unit / parts.scale)
            correction, full = found.copy(), x.copy()
            if parts.singular:
                parts.operator.project(correction)
            parts.spread(correction, unit / parts.scale, full)
        return full

    tell = limits.callback
    told = None if tell is None else lambda: tell(answer(run.x)) is True
    reach = math.sqrt(max(goal - beyond, 0.0) * (goal + beyond))
    status, left = run.go(max(reach, _LEAST * size / unit), limits, told)
    residuals = [initial, *np.hypot(run.norms[: run.done] * unit, beyond * unit).tolist()]
    last = left or status in (Status.CONVERGED, Status.CALLBACK)
    found = answer(run.x if last else run.best)
    return Relaxed(found, residuals, status, left) if is_finite(found) else None


class _Run:
    """The vectors and coefficients of one iteration."""

    def __init__(self, M: Any, r: Vector) -> None:
        self._M = M
        self._vectors = np.empty((M.vectors, r.size))
        self.x, self._saved, self.r = self._vectors[:3]
        self.x[:], self.r[:] = 0.0, r
        self._best = np.array([math.sqrt(float(r @ r)), 1.0])
        self.alphas, self.betas, self.norms = np.zeros((3, 64))
        self.done = 0

    @property
    def best(self) -> Vector:
        """The x of the smallest residual."""
        return self.x if self._best[1] else self._saved

    def go(self, target: float, limits: Limits, told: Callable[[], bool] | None) -> tuple[Status, bool]:
        """Iterate to a norm of r; return how it ended, and whether the watcher ended it."""
        vectors, M = self._vectors, self._M
        square = M.begin(vectors)
        when, look = looks(), 0
        while self.done < limits.maxiter:
            if self.done >= look:
                look = next(when)
            until = min(self.done + (1 if told else _AT_ONCE), look, limits.maxiter)
            if until >= self.alphas.size:
                self.alphas, self.betas, self.norms = (
                    np.concatenate([array, np.zeros(array.size)]) for array in (self.alphas, self.betas, self.norms)
                )
            before = self.done
            coefficients = self.alphas, self.betas, self.norms
            self.done, square = M.iterate(vectors, square, *coefficients, self._best, before, until, target)
            last = float(self.norms[self.done - 1]) if self.done else math.inf
            if told is not None and self.done > before and told():
                return Status.CALLBACK, False
            if last <= target:
                return Status.CONVERGED, False
            if self.done < until or not math.isfinite(last):
                return Status.MAXITER, False
            if time.perf_counter() > limits.deadline:
                return Status.TIMEOUT, False
            if limits.watch is not None and look <= self.done < limits.maxiter:
                done = self.done
                steps = Steps(self.alphas[:done], self.betas[:done], self.norms[:done], target)
                if limits.watch(steps):
                    return Status.MAXITER, True
        return Status.MAXITER, False
