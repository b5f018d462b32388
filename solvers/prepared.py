"""A matrix made ready, from the strategy's point of view: it can be solved with, or it is known why it cannot be.

Both kinds answer the same calls, so that no caller has to ask which of them it has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.diagnosis import as_singular
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.refinement import refine
from deepcd.solvers.relaxed import relax
from deepcd.solvers.solution import Status
from deepcd.solvers.space import space_of

_STUCK = 50  # iterations with factors, which are exact but for rounding, that only rounding explains

F64 = NDArray[np.float64]
DType = type[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Solvable:
    """The parts of a matrix, and how many directions an iteration keeps.

    Attributes
    ----------
    parts : Parts
        Where the iteration runs.
    keep : int
        Directions that a new one is made orthogonal to.
    on_grid : bool
        Whether the vectors of the iteration are those of a grid.
    by_levels : bool
        Whether the coupled rows are numbered anew, level by level.
    refusal : str
        Why points that the caller gave are of no use; empty if they are, or if there are none.
    """

    parts: Parts
    keep: int
    on_grid: bool
    by_levels: bool = False
    refusal: str = ""

    solvable = True

    @property
    def preconditioner(self) -> str:
        """Name of the preconditioner."""
        return self.parts.M.name

    @property
    def work(self) -> float:
        """Passes over the unknowns per iteration."""
        return self.parts.M.work

    def solve(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType) -> Outcome:
        """Solve A x = b; see `refine`. Where a watcher ends it, the status is MAXITER before the last iteration."""
        begun = relax(self.parts, b, x0, limits) if self.is_simple else None
        if begun is None:
            outcome = refine(self.parts, b, x0, limits, self.keep, dtype)
            if self.preconditioner == "direct" and outcome.status is Status.MAXITER and outcome.iterations > _STUCK:
                return replace(outcome, status=Status.ATTAINABLE_ACCURACY)
            return outcome
        outcome = Outcome(begun.x, begun.status, begun.residuals)
        if begun.left:
            return outcome
        stopped = begun.status in (Status.CALLBACK, Status.TIMEOUT)
        rest = 0 if stopped else limits.maxiter - len(begun.residuals) + 1
        after = refine(self.parts, b, begun.x, replace(limits, maxiter=rest, watch=None), self.keep, dtype)
        if stopped and after.status is Status.MAXITER:
            after = replace(after, status=begun.status)
        return outcome.then(after)

    @property
    def is_simple(self) -> bool:
        """Whether an iteration is a few passes over the matrix, which are compiled as a whole; see `relax`."""
        return self.keep == 1 and getattr(self.parts.M, "vectors", 0) > 0

    def together(self, B: F64, X: F64, targets: F64, limits: Limits) -> list[Outcome] | None:
        """Iterate on all columns of B at once, from X and into it; see `iterate_together`.

        None on a grid, where there is no matrix whose passes the columns could share.
        """
        if self.on_grid or self.parts.operator is None:
            return None
        from deepcd.solvers.columns import iterate_together  # which loads the compiler

        return iterate_together(self.parts, B, X, targets, limits)

    def twin(self) -> Solvable:
        """Return the same parts of a grid with work vectors of their own, for one thread."""
        return Solvable(self.parts.twin(), self.keep, self.on_grid)

    def singular(self, b: F64, x0: F64 | None, limits: Limits, spent: int) -> Solvable | None:
        """Look for a null vector that explains why b could not be solved for; return parts that know of it, or None."""
        parts = as_singular(self.parts, b, x0, limits.target, spent, limits.deadline)
        return None if parts is None else replace(self, parts=parts)

    def precondition(self, v: NDArray[np.floating[Any]]) -> F64:
        """Return M v; M must be symmetric, which those rely on who ask for it."""
        if not self.parts.M.symmetric:
            raise ValueError(f"{self.preconditioner} is not symmetric: use it through solve")
        return self.parts.precondition(v)

    def describe(self) -> list[str]:
        """Return lines about the rows, the null space and the preconditioner."""
        passes = f"passes over the unknowns per iteration: {self.work:.1f}, directions kept: {self.keep}"
        return [*self.parts.describe(), passes]


@dataclass(frozen=True, eq=False)
class Unsolvable:
    """A matrix that is known not to be positive semidefinite.

    Attributes
    ----------
    A : csr_array of float64 or GridMatrix, shape (n, n)
        The matrix, where vectors are.
    status : Status
        Why it cannot be solved with.
    detail : str
        A sentence about this very matrix, or nothing.
    """

    A: Any
    status: Status
    detail: str

    solvable = on_grid = by_levels = is_simple = False
    refusal = ""
    preconditioner = "none"
    work = 0.0

    def solve(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType) -> Outcome:
        """Return the start, with the norm of its residual."""
        space = space_of(b)
        x = space.cast(space.zeros(b) if x0 is None else space.copy(x0), dtype)
        image = self.A @ space.cast(x, np.float64)
        left = space.norm(space.subtract(b, image, out=image))
        return Outcome(x, self.status, [left], self.detail)

    def together(self, B: F64, X: F64, targets: F64, limits: Limits) -> list[Outcome] | None:
        """Return None: there is nothing to iterate on."""
        return None

    def twin(self) -> Unsolvable:
        """Return itself: there is nothing to iterate on."""
        return self

    def singular(self, b: F64, x0: F64 | None, limits: Limits, spent: int) -> None:
        """Return None: it is known why no solve succeeds."""

    def precondition(self, v: NDArray[np.floating[Any]]) -> F64:
        """Raise a ValueError that says why there is no preconditioner."""
        raise ValueError(f"this system has no preconditioner. {self.status.value} {self.detail}".rstrip())

    def describe(self) -> list[str]:
        """Return why it cannot be solved."""
        return [f"cannot be solved. {self.status.value} {self.detail}".rstrip()]


Prepared = Solvable | Unsolvable
