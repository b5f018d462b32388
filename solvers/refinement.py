"""From a converged iteration to a certified answer: iterative refinement around the conjugate directions.

Each round solves the correction equation A e = b - A x, scaled to magnitude one, and recomputes b - A x from the
rounded x (Wilkinson, Rounding Errors in Algebraic Processes, 1963). One is enough unless rounding got in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import norm, power_of_two
from deepcd.solvers.conjugate_directions import Record, conjugate_directions, largest_eigenvalue
from deepcd.solvers.diagnosis import is_beyond_reach
from deepcd.solvers.parts import Parts
from deepcd.solvers.solution import Status

_EPS = float(np.finfo(np.float64).eps)
_SMALLEST, _LARGEST = 1e-280, 1e300  # norms of x between which nothing overflows, and underflow is below rounding
_ROUND = 1e-13  # of its right-hand side: no round asks for a smaller residual, which rounding might not allow

Callback = Callable[[NDArray[np.floating[Any]]], object]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a solve came to: the arguments of a `Solution` that it decides."""

    x: NDArray[np.floating[Any]]
    status: Status
    residuals: list[float]
    detail: str = ""

    def then(self, later: Outcome) -> Outcome:
        """Return the outcome of both, the later one having started from this one's x."""
        detail = f"{self.detail} {later.detail}".strip()
        return Outcome(later.x, later.status, [*self.residuals, *later.residuals[1:]], detail)


@dataclass(frozen=True, eq=False)
class Limits:
    """When to stop, and whom to tell.

    Attributes
    ----------
    target : float
        For the norm of b - A x.
    maxiter : int
        Iterations over all rounds.
    deadline : float
        Value of `time.perf_counter`.
    callback : callable or None
        Called with x, shape (n,).
    """

    target: float
    maxiter: int
    deadline: float
    callback: Callback | None


def refine(
    parts: Parts,
    b: NDArray[np.float64],
    x0: NDArray[np.float64] | None,
    limits: Limits,
    keep: int,
    dtype: type[np.floating[Any]],
) -> Outcome:
    """Solve A x = b until the recomputed residual of the rounded x meets the target.

    Parameters
    ----------
    parts : Parts
        Of A.
    b : ndarray of float64, shape (n,)
        Finite.
    x0 : ndarray of float64, shape (n,), or None
        Where to start; None: zero. Not changed.
    limits : Limits
    keep : int
        Directions kept.
    dtype : float32 or float64
        Of the x that is returned, and that has to meet the target.

    Returns
    -------
    Outcome
    """
    A, target = parts.A, limits.target
    x = np.zeros(b.shape, like=b) if x0 is None else x0.copy()  # which unlike zeros_like touches no memory yet
    residuals = [norm(b) if x0 is None else norm(b - A @ x0.astype(dtype).astype(np.float64, copy=False))]
    if not math.isfinite(residuals[0]):
        detail = "The norm of b - A x0 is beyond the range of float64."
        return Outcome(x.astype(dtype), Status.NOT_FINITE, residuals, detail)
    if residuals[0] <= target:
        return Outcome(x.astype(dtype), Status.CONVERGED, residuals)

    lost, detail = _solve_alone(parts, b, x, target)
    # What the rows solved on their own leave in their columns moves to the right-hand side.
    r = b if x0 is None and not parts.alone.size else b - A @ x
    goal, previous, extent = target, math.inf, 0.0
    # What no x reaches is a part of b. That of b - A x is the same but for the rounding of A x, which may be larger.
    beyond, singular = lost, True
    if parts.singular and x0 is not None:
        beyond, singular = _beyond_range(parts, _coupled(parts, b, x), lost, target)
    while True:
        part = r[parts.rows]
        largest = residuals[0] if r is b and isinstance(parts.rows, slice) else norm(part)
        certain, status = False, Status.CONVERGED
        if parts.operator is None or largest == 0:
            residuals.append(lost)
        else:
            unit = power_of_two(largest)
            right = parts.operator.embed(part, 1 / unit, out=parts.operator.workspace(parts.M).b)
            if parts.singular and len(residuals) == 1 and x0 is None:
                beyond, singular = _project(parts, right, unit, lost, target)
            elif parts.singular:
                parts.operator.project(right)
            # No x reaches what is beyond the range of A. It uses up its share of the tolerance.
            g, h = goal / unit, beyond / unit
            reach = g if beyond > target else math.sqrt(max(g - h, 0.0) * (g + h))
            reach = max(reach, _ROUND * largest / unit)
            record = _iterate(parts, right, x, unit, reach, limits, limits.maxiter - len(residuals) + 1, keep, dtype)
            residuals += [math.hypot(unit * value, beyond) for value in record.residuals[1:]]
            status = record.status
            if record.replaced:
                detail = f"{detail} Directions that broke down and were replaced: {record.replaced}.".lstrip()
            if parts.singular:
                parts.operator.project(record.x)
            parts.spread(record.x, unit / parts.scale, x)
            if parts.exact and x0 is None and dtype == np.float64:
                extent += unit * math.sqrt(parts.operator.dot(record.x, record.x))
                certain = is_certain(residuals[-1], residuals[0], extent, target, parts.scale)

        answer = x.astype(dtype, copy=False)
        if not (certain or math.isfinite(norm(answer))):
            residuals[-1] = residuals[0]
            first = np.zeros(b.shape, dtype, like=b) if x0 is None else x0.astype(dtype)
            return Outcome(first, Status.NOT_FINITE, residuals, detail)
        if status is Status.CONVERGED and certain and beyond <= target:
            return Outcome(answer, status, residuals, detail)
        r = b - A @ answer.astype(np.float64, copy=False)
        residuals[-1] = norm(r)
        if beyond > target:
            # What b has in the null space stays: being at that level is the end, however the iteration came to it.
            stopped = status in (Status.CALLBACK, Status.TIMEOUT)
            reached = status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY)
            if reached or (residuals[-1] <= 1.01 * beyond and not stopped):
                status = Status.ZERO_DIAGONAL if lost > target else Status.INCONSISTENT
                # As much as rounding makes of it there may be of any b.
                if lost <= target and (not singular or beyond <= 64 * _rounding(parts, b, x)):
                    status = Status.ATTAINABLE_ACCURACY
            return Outcome(answer, status, residuals, detail)
        if residuals[-1] <= target and status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY, Status.MAXITER):
            return Outcome(answer, Status.CONVERGED, residuals, detail)
        if status not in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY):
            return Outcome(answer, status, residuals, detail)
        if residuals[-1] > (0.9 if status is Status.CONVERGED else 0.1) * previous:
            return Outcome(answer, Status.ATTAINABLE_ACCURACY, residuals, detail)
        previous, goal = residuals[-1], 0.5 * goal
        if dtype != np.float64:
            r = b - A @ x


def is_certain(residual: float, initial: float, extent: float, target: float, scale: float) -> bool:
    """Return whether the residual that an exact operator computed proves that of A to meet the target.

    A and its operator differ by roundings of their entries, whose magnitudes over the scale sum to at most 18 per row;
    `extent` is at least the norm of scale * x. Neither may x be so large or small that its entries leave float64.
    """
    if not _SMALLEST <= extent / scale <= _LARGEST:
        return False
    return residual + 64 * _EPS * (initial + 18 * extent) <= target


def _coupled(parts: Parts, b: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the right-hand side of the coupled rows, the others being solved."""
    if not parts.alone.size:
        return b
    others = np.zeros_like(x)
    others[parts.alone] = x[parts.alone]
    right: NDArray[np.float64] = (b - parts.A @ others)[parts.rows]
    return right


def _beyond_range(parts: Parts, part: NDArray[np.float64], lost: float, target: float) -> tuple[float, bool]:
    """Return the norm of what no x reaches of a right-hand side of the coupled rows, and whether that is certain."""
    largest = norm(part)
    if parts.operator is None or largest == 0:
        return lost, True
    unit = power_of_two(largest)
    return _project(parts, parts.operator.embed(part, 1 / unit), unit, lost, target)


def _project(
    parts: Parts, right: NDArray[np.floating[Any]], unit: float, lost: float, target: float
) -> tuple[float, bool]:
    """Remove what no x reaches from a right-hand side in units of `unit`; return its norm, and if it is certain."""
    operator = parts.operator
    assert operator is not None
    null = right.copy()
    operator.project(right)
    null -= right
    part = norm(null.ravel())
    beyond = math.hypot(unit * part, lost)
    from deepcd.solvers.operators.csr import CSROperator

    if beyond <= target or part == 0 or not isinstance(operator, CSROperator):
        return beyond, True
    null /= part
    rounding = null.copy()  # of the difference, which is large where the part is small
    operator.project(rounding)
    null -= rounding
    return beyond, is_beyond_reach(operator, null, part, max(target - lost, 0.0) / unit)


def _rounding(parts: Parts, b: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return about how much rounding makes of b - A x."""
    operator = parts.operator
    size = 0.0 if operator is None else largest_eigenvalue(operator, operator.workspace(parts.M).p)
    return _EPS * (norm(b) + parts.scale * size * norm(x[parts.rows]))


def _solve_alone(parts: Parts, b: NDArray[np.float64], x: NDArray[np.float64], target: float) -> tuple[float, str]:
    """Set x on the rows without off-diagonal entries; return the norm of b on empty ones, with a sentence if large."""
    if not parts.alone.size:
        return 0.0, ""
    parts.solve_alone(b, x)
    empty = parts.diagonal == 0
    rows = parts.alone[empty]
    lost = norm(b[rows])
    if lost <= target:
        return lost, ""
    row = int(rows[int(np.argmax(np.abs(b[rows])))])
    return lost, f"Row {row} of A is empty, but b[{row}] = {b[row]:.6g}."


def _iterate(
    parts: Parts,
    right: NDArray[np.floating[Any]],
    x: NDArray[np.float64],
    unit: float,
    target: float,
    limits: Limits,
    maxiter: int,
    keep: int,
    dtype: type[np.floating[Any]],
) -> Record:
    """Run the conjugate directions on the correction equation, in units of `unit`."""
    assert parts.operator is not None
    callback = limits.callback

    def spread(correction: NDArray[np.floating[Any]]) -> object:
        assert callback is not None
        iterate = x.copy()
        parts.spread(correction, unit / parts.scale, iterate)
        return callback(iterate.astype(dtype, copy=False))

    return conjugate_directions(
        parts.operator,
        right,
        parts.M,
        target,
        maxiter=maxiter,
        keep=keep,
        callback=None if callback is None else spread,
        deadline=limits.deadline,
    )
