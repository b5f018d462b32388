"""What a solve returns: the pair (x, info) of SciPy with the facts about the solve as attributes, and its status.

A status is an enum member whose value is the sentence to show, likely causes included, after lineax's RESULTS and
PETSc's converged reasons.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Status(enum.Enum):
    """How a solve ended; the value is the sentence to show."""

    CONVERGED = "The residual b - A x, recomputed in float64 from A, b and the returned x, meets the tolerance."
    ATTAINABLE_ACCURACY = (
        "The residual cannot be made smaller in this precision: the tolerance is below what rounding allows. "
        "Likely causes: a tolerance near the unit roundoff, an ill-conditioned A, or an answer returned in float32."
    )
    MAXITER = (
        "The limit of iterations was reached. Likely causes: maxiter is too small, A is ill-conditioned, "
        "or the preconditioner does not suit A."
    )
    TIMEOUT = "The time limit was reached; x is the best iterate so far."
    CALLBACK = "The callback returned True; x is the iterate it stopped at."
    INDEFINITE_MATRIX = (
        "A is not positive definite: a direction of negative curvature was found. Likely causes: a negative shift, a "
        "saddle-point system, or terms of the wrong sign."
    )
    INDEFINITE_PRECONDITIONER = (
        "The preconditioner is not positive definite, and the iteration did not converge with it. Likely causes: "
        "weights that do not suit this domain, or a smoother that is not symmetric."
    )
    NONSYMMETRIC = (
        "A is not symmetric. Likely causes: boundary conditions imposed on rows but not on columns, convection, or "
        "an assembly error. Pass check=False to iterate all the same."
    )
    INCONSISTENT = (
        "A is singular and b has a part outside its range: no x solves the system; x is a least-squares solution. "
        "Likely causes: a closed or periodic domain whose sources do not sum to zero, or a body that nothing holds."
    )
    ZERO_DIAGONAL = "A diagonal entry of A is zero. Likely causes: a cell or node without equation, or a missing term."
    NOT_FINITE = (
        "NaN or infinity appeared. Likely causes: a solution outside the range of float64, or an operator that "
        "returned NaN."
    )
    BREAKDOWN = (
        "The iteration broke down: no descent direction was left, or the residual grew without bound. Likely causes: "
        "A is singular and b is not in its range, or A is not symmetric."
    )


_BREAKDOWNS = frozenset(
    {
        Status.INDEFINITE_MATRIX,
        Status.INDEFINITE_PRECONDITIONER,
        Status.NONSYMMETRIC,
        Status.ZERO_DIAGONAL,
        Status.NOT_FINITE,
        Status.BREAKDOWN,
    }
)


@dataclass(frozen=True)
class Attempt:
    """A method that was tried in a solve.

    Attributes
    ----------
    method : str
        Name of the preconditioner.
    iterations : int
        Iterations done with it.
    reason : str
        Why it was left for the next one, as a sentence; empty for the last one.
    """

    method: str
    iterations: int
    reason: str = ""

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.method}: {self.iterations} iterations{'. ' * bool(self.reason)}{self.reason}"


class Solution(tuple[NDArray[np.floating[Any]], int]):
    """The pair ``(x, info)``, with what is known about the solve as attributes.

    Parameters
    ----------
    x : ndarray of float, shape (n,) or (n, k)
        The answer, or the best iterate if the solve did not converge.
    status : Status
        How the solve ended; of k right-hand sides, the first that failed.
    residuals : sequence of float, length iterations + 1
        Norms of b - A x, the initial one first. On a grid those between the first and the last, which follow from a
        residual in float32, may be off by 1e-7 of the first.
    preconditioner : str, default "none"
        Name of the preconditioner that was used.
    work : float, default 1.0
        Passes over the finest grid (for a general matrix: over A) per iteration.
    setup_time, solve_time : float, default 0.0
        Seconds spent on A alone, and on this right-hand side.
    detail : str, default ""
        A sentence about this very system, for instance the row at fault.
    columns : tuple of Solution, default ()
        One for each of several right-hand sides.
    left : tuple of Attempt, default ()
        The methods that were tried before the last one.

    Attributes
    ----------
    info : int
        0 converged, > 0 the iterations done without converging, < 0 breakdown.
    iterations : int
        Iterations done.
    message : str
        The sentence of the status, completed by the detail.
    attempts : tuple of Attempt
        All methods that were tried, in order, each with its iterations and the reason why it was left. The last one,
        which `preconditioner` names, was not left.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd import Solution, Status
    >>> solution = Solution(np.ones(2), Status.CONVERGED, residuals=[1.0, 1e-8])
    >>> x, info = solution
    >>> info, solution.iterations, solution.status.name
    (0, 1, 'CONVERGED')
    """

    x: NDArray[np.floating[Any]]
    info: int
    status: Status
    iterations: int
    residuals: NDArray[np.float64]
    preconditioner: str
    work: float
    setup_time: float
    solve_time: float
    detail: str
    columns: tuple[Solution, ...]
    attempts: tuple[Attempt, ...]

    def __new__(
        cls,
        x: NDArray[np.floating[Any]],
        status: Status,
        residuals: Sequence[float] | NDArray[np.float64],
        preconditioner: str = "none",
        work: float = 1.0,
        setup_time: float = 0.0,
        solve_time: float = 0.0,
        detail: str = "",
        columns: tuple[Solution, ...] = (),
        left: tuple[Attempt, ...] = (),
    ) -> Solution:
        """Make the pair; ``info`` follows from the status and the number of residuals."""
        iterations = len(residuals) - 1
        info = 0 if status is Status.CONVERGED else -1 if status in _BREAKDOWNS else max(iterations, 1)
        self = super().__new__(cls, (x, info))
        self.x, self.info, self.status, self.iterations = x, info, status, iterations
        self.residuals = np.array(residuals, dtype=np.float64)
        self.preconditioner, self.work = preconditioner, work
        self.setup_time, self.solve_time, self.detail = setup_time, solve_time, detail
        self.columns = columns
        rest = max(iterations - sum(attempt.iterations for attempt in left), 0)
        self.attempts = (*left, Attempt(preconditioner, rest))
        return self

    @classmethod
    def of_columns(cls, columns: tuple[Solution, ...], x: NDArray[np.floating[Any]]) -> Solution:
        """Return one solution for several right-hand sides: the status is that of the first that failed.

        Parameters
        ----------
        columns : tuple of Solution
            One for each of them, from one solve.
        x : ndarray of float, shape (n, k)
            All answers.
        """
        failed = [j for j, column in enumerate(columns) if column.info]
        worst = columns[failed[0]] if failed else columns[0]
        histories = [column.residuals for column in columns]
        iterates = np.arange(max(map(len, histories)))
        padded = np.array([history[np.minimum(iterates, len(history) - 1)] for history in histories])
        detail = f"{len(failed)} of {len(columns)} columns failed, the first one is {failed[0]}. " if failed else ""
        return cls(
            x,
            worst.status,
            np.hypot.reduce(padded, axis=0),
            preconditioner=worst.preconditioner,
            work=worst.work,
            setup_time=worst.setup_time,
            solve_time=worst.solve_time,
            detail=(detail + worst.detail).rstrip(),
            columns=columns,
            left=worst.attempts[:-1],
        )

    @property
    def message(self) -> str:
        """The sentence to show."""
        return f"{self.status.value} {self.detail}".rstrip()

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what copies and pickles rebuild the pair from."""
        return self.x, self.status, self.residuals

    def __repr__(self) -> str:
        """Return one line: how it ended."""
        return (
            f"Solution({self.status.name}, {self.iterations} iterations, residual {self.residuals[-1]:.2e}, "
            f"preconditioner {self.preconditioner!r}, setup {self.setup_time:.3g} s, solve {self.solve_time:.3g} s)"
        )

    def __str__(self) -> str:
        """Return a few lines: how it ended, and what was tried."""
        ended = f"{self.status.name} after {self.iterations} iterations, residual {self.residuals[-1]:.2e}"
        times = f"set up in {self.setup_time:.3g} s, solved in {self.solve_time:.3g} s"
        return "\n".join([f"{ended}; {times}", self.message, *map(str, self.attempts)])
