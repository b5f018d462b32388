"""From a converged iteration to a certified answer: iterative refinement around the conjugate directions.

Each round solves the correction equation A e = b - A x, scaled to magnitude one, and recomputes b - A x from the
rounded x (Wilkinson, Rounding Errors in Algebraic Processes, 1963). One is enough unless rounding got in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from deepcd.solvers.arguments import norm, power_of_two
from deepcd.solvers.conjugate_directions import conjugate_directions, spectral_norm
from deepcd.solvers.diagnosis import is_beyond_reach
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.solution import Status
from deepcd.solvers.space import RowOperator, Vector, space_of

_EPS = float(np.finfo(np.float64).eps)
_SMALLEST, _LARGEST = 1e-280, 1e300  # norms of x between which nothing overflows, and underflow is below rounding
# No round asks for a smaller residual relative to its right-hand side, which rounding might not allow; but one that is
# to go as far as rounding allows.
_ROUND = 1e-13


class Beyond(NamedTuple):
    """The norm of what no x reaches of a right-hand side, and whether it is a fact, not what rounding may have made."""

    norm: float
    certain: bool


def refine(
    parts: Parts, b: Vector, x0: Vector | None, limits: Limits, keep: int, dtype: type[np.floating[Any]]
) -> Outcome:
    """Solve A x = b until the recomputed residual of the rounded x meets the target.

    Parameters
    ----------
    parts : Parts
        The parts of A.
    b : vector of float64, shape (n,)
        Right-hand side, finite.
    x0 : vector of float64, shape (n,), or None
        Where to start; None: zero. Not changed.
    limits : Limits
        When to stop, and whom to tell.
    keep : int
        Number of directions kept.
    dtype : float32 or float64
        Precision of the x that is returned, and that has to meet the target.

    Returns
    -------
    Outcome
    """
    solve = _Refinement(parts, b, x0, limits, keep, dtype)
    outcome = solve.begin()
    while outcome is None:
        status, certain = solve.correct()
        outcome = solve.judge(status, certain)
    return outcome


class _Refinement:
    """A solve in rounds. The arguments are those of `refine`."""

    def __init__(
        self,
        parts: Parts,
        b: Vector,
        x0: Vector | None,
        limits: Limits,
        keep: int,
        dtype: type[np.floating[Any]],
    ) -> None:
        self.parts, self.b, self.x0, self.limits, self.keep, self.dtype = parts, b, x0, limits, keep, dtype
        space = self.space = space_of(b)
        self.x = space.zeros(b) if x0 is None else space.copy(x0)
        self.r = b  # what the next round starts from
        self.residuals: list[float]
        # The residual that the next round asks for, and that of the round before.
        self.goal, self.previous = limits.target, math.inf
        self.spared = False  # it asked for less than the goal
        self.extent = 0.0  # at least the norm of scale * x, for a start from zero
        self.detail = ""

    def begin(self) -> Outcome | None:
        """Look at the start, and solve the rows without off-diagonal entries; return the outcome if that is all."""
        parts, b, x0, target = self.parts, self.b, self.x0, self.limits.target
        if x0 is None:
            self.residuals = [self.space.norm(b)]
        else:
            self.residuals = [self.space.norm(self._left(self.space.cast(x0, self.dtype)))]
        if not math.isfinite(self.residuals[0]):
            self.detail = "The norm of b - A x0 is beyond the range of float64."
            return self._outcome(self.space.cast(self.x, self.dtype), Status.NOT_FINITE)
        if self.residuals[0] <= target:
            return self._outcome(self.space.cast(self.x, self.dtype), Status.CONVERGED)
        self.lost, self.detail = _solve_alone(parts, b, self.x, target)
        if self.lost > target:
            # Nothing that is done for the other rows would help: the caller is told at once.
            answer = self.space.cast(self.x, self.dtype)
            self.residuals = [self.space.norm(self._left(answer))]
            finite = math.isfinite(self.residuals[0])
            return self._outcome(answer, Status.ZERO_DIAGONAL if finite else Status.NOT_FINITE)
        # What the rows solved on their own leave in their columns moves to the right-hand side.
        if x0 is not None or parts.alone.size:
            self.r = self._left(self.x)
        # What no x reaches is a part of b; of b - A x it is the same but for the rounding of A x, which may be larger.
        self.beyond = Beyond(self.lost, True)
        if parts.singular and x0 is not None:
            self.beyond = _beyond_range(parts, _coupled(parts, b, self.x), self.lost, target)
        return None

    def correct(self) -> tuple[Status, bool]:
        """Add to x what the iteration makes of the residual; return its status, and if it met the target for sure.

        That is known where the operator is exact: its residual is that of A then, but for a bound on rounding.
        """
        parts, residuals, target = self.parts, self.residuals, self.limits.target
        operator: RowOperator | None = parts.operator
        part = self.r[parts.rows]
        known = self.r is self.b and isinstance(parts.rows, slice)
        largest = residuals[0] if known else self.space.norm(part)
        if operator is None or largest == 0:
            residuals.append(self.lost)
            return Status.CONVERGED, False
        unit = power_of_two(largest)
        right = operator.embed(part, 1 / unit, out=operator.workspace(parts.M).b)
        if parts.singular and len(residuals) == 1 and self.x0 is None:
            self.beyond = _project(parts, right, unit, self.lost, target)
        elif parts.singular:
            operator.project(right)
        # No x reaches what is beyond the range of A. It uses up its share of the tolerance.
        beyond, g, h = self.beyond.norm, self.goal / unit, self.beyond.norm / unit
        reach = g if beyond > target else math.sqrt(max(g - h, 0.0) * (g + h))
        least = _ROUND * largest / unit if target else 0.0
        self.spared = reach < least
        record = conjugate_directions(
            operator,
            right,
            parts.M,
            max(reach, least),
            maxiter=self.limits.maxiter - len(residuals) + 1,
            keep=self.keep,
            callback=self._tell(unit),
            deadline=self.limits.deadline,
            watch=self.limits.watch,
        )
        residuals += [math.hypot(unit * value, beyond) for value in record.residuals[1:]]
        if record.replaced:
            self.detail = f"{self.detail} Directions that broke down and were replaced: {record.replaced}.".lstrip()
        if parts.singular:
            operator.project(record.x)
        parts.spread(record.x, unit / parts.scale, self.x)
        if not (parts.exact and self.x0 is None and self.dtype == np.float64):
            return record.status, False
        self.extent += unit * math.sqrt(operator.dot(record.x, record.x))
        bound = operator.row_bound
        return record.status, is_certain(residuals[-1], residuals[0], self.extent, target, parts.scale, bound)

    def judge(self, status: Status, certain: bool) -> Outcome | None:
        """Return the outcome if this is the end; None if another round may come closer."""
        residuals, target = self.residuals, self.limits.target
        answer = self.space.cast(self.x, self.dtype)
        if not (certain or math.isfinite(self.space.norm(answer))):
            residuals[-1] = residuals[0]
            start = self.space.zeros(self.b) if self.x0 is None else self.space.copy(self.x0)
            return self._outcome(self.space.cast(start, self.dtype), Status.NOT_FINITE)
        if status is Status.CONVERGED and certain and self.beyond.norm <= target:
            return self._outcome(answer, status)
        self.r = self._left(answer)
        residuals[-1] = self.space.norm(self.r)
        if self.beyond.norm > target:
            return self._outcome(answer, self._short_of_target(status))
        if residuals[-1] <= target and status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY, Status.MAXITER):
            return self._outcome(answer, Status.CONVERGED)
        if status not in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY):
            return self._outcome(answer, status)
        converged = status is Status.CONVERGED
        attained = not target and self.x0 is None  # nothing is asked for but what the first round attains
        if attained or residuals[-1] > (0.9 if converged else 0.1) * self.previous:
            return self._outcome(answer, Status.ATTAINABLE_ACCURACY, rounded=converged)
        self.previous, self.goal = residuals[-1], self.goal if self.spared else 0.5 * self.goal
        if self.dtype != np.float64:
            self.r = self._left(self.x)
        return None

    def _short_of_target(self, status: Status) -> Status:
        """Return the status where what b has beyond the range of A is more than the target.

        Being at that level is the end, however the iteration came to it.
        """
        stopped = status in (Status.CALLBACK, Status.TIMEOUT)
        reached = status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY)
        if not (reached or (self.residuals[-1] <= 1.01 * self.beyond.norm and not stopped)):
            return status
        # As much as rounding makes of it there may be of any b.
        rounding = _rounding(self.parts, self.b, self.x, self.limits.eps)
        if not self.beyond.certain or self.beyond.norm <= 64 * rounding:
            return Status.ATTAINABLE_ACCURACY
        return Status.INCONSISTENT

    def _left(self, x: Vector) -> Vector:
        """Return b - A x, a new vector in float64."""
        image = self.parts.A @ self.space.cast(x, np.float64)
        return self.space.subtract(self.b, image, out=image)

    def _outcome(self, x: Vector, status: Status, *, rounded: bool = False) -> Outcome:
        return Outcome(x, status, self.residuals, self.detail, rounded)

    def _tell(self, unit: float) -> Callable[[Vector], object] | None:
        """Return a callback of the iteration that tells the caller's of x."""
        callback = self.limits.callback
        if callback is None:
            return None

        def told(correction: Vector) -> object:
            x = self.space.copy(self.x)
            self.parts.spread(correction, unit / self.parts.scale, x)
            return callback(self.space.cast(x, self.dtype))

        return told


def is_certain(residual: float, initial: float, extent: float, target: float, scale: float, row_bound: float) -> bool:
    """Return whether the residual that an exact operator computed proves that of A to meet the target.

    A and its operator differ by roundings of their entries, whose magnitudes over the scale sum to at most `row_bound`
    per row; `extent` is at least the norm of scale * x. Neither may x be so large or small that its entries leave
    float64.
    """
    if not _SMALLEST <= extent / scale <= _LARGEST:
        return False
    return residual + 64 * _EPS * (initial + row_bound * extent) <= target


def _coupled(parts: Parts, b: Vector, x: Vector) -> Vector:
    """Return the right-hand side of the coupled rows, the others being solved."""
    if not parts.alone.size:
        return b[parts.rows]
    space = space_of(b)
    others = space.zeros(x)
    others[parts.alone] = x[parts.alone]
    image = parts.A @ others
    return space.subtract(b, image, out=image)[parts.rows]


def _beyond_range(parts: Parts, part: Vector, lost: float, target: float) -> Beyond:
    """Return what no x reaches of a right-hand side of the coupled rows."""
    largest = space_of(part).norm(part)
    if parts.operator is None or largest == 0:
        return Beyond(lost, True)
    unit = power_of_two(largest)
    return _project(parts, parts.operator.embed(part, 1 / unit), unit, lost, target)


def _project(parts: Parts, right: Vector, unit: float, lost: float, target: float) -> Beyond:
    """Remove what no x reaches from a right-hand side in units of `unit`, and return it."""
    operator: RowOperator = parts.operator
    space = operator.space
    null = space.copy(right)
    operator.project(right)
    space.subtract(null, right, out=null)
    part = space.norm(null)
    beyond = math.hypot(unit * part, lost)
    if beyond <= target or part == 0 or operator.certain_null_space:
        return Beyond(beyond, True)
    space.divide(null, part)
    rounding = space.copy(null)  # of the difference, which is large where the part is small
    operator.project(rounding)
    space.subtract(null, rounding, out=null)
    return Beyond(beyond, is_beyond_reach(operator, null, part, max(target - lost, 0.0) / unit))


def _rounding(parts: Parts, b: Vector, x: Vector, eps: float) -> float:
    """Return about how much rounding makes of b - A x, where b carries a unit roundoff of its own."""
    operator, space = parts.operator, space_of(b)
    size = 0.0 if operator is None else spectral_norm(operator, operator.workspace(parts.M).p)
    return eps * space.norm(b) + _EPS * parts.scale * size * space.norm(x[parts.rows])


def _solve_alone(parts: Parts, b: Vector, x: Vector, target: float) -> tuple[float, str]:
    """Set x on the rows without off-diagonal entries; return the norm of b on empty ones, with a sentence if large."""
    if not parts.alone.size:
        return 0.0, ""
    parts.solve_alone(b, x)
    rows = parts.alone[parts.diagonal == 0]
    lost = norm(b[rows])
    if lost <= target:
        return lost, ""
    row = int(rows[int(np.argmax(np.abs(b[rows])))])
    told = f"Row {row} of A is empty, but b[{row}] = {b[row]:.6g}."
    return lost, f"{told} Rows with couplings were not solved: leave the empty ones out, or set b to zero there."
