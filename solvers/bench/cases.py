"""What the benchmark solves: its own problems by name and size, or a matrix from somebody's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.data.matrix_files import MatrixFileError, read_matrix, read_vector
from deepcd.solvers.arguments import count
from deepcd.solvers.bench.linear_problem import LinearProblem, PressureProblem, constants
from deepcd.solvers.bench.problems import PROBLEMS, SEED

WARM_UP_SIZE = 32  # cells per edge of the pressure system that is solved before others; 16 do not take the whole way


@dataclass(frozen=True)
class Case:
    """A problem as rows name it, with its systems, which each process makes for itself.

    Attributes
    ----------
    problem : str
        Name of the problem.
    size : int
        Cells per edge, or the rows of a matrix from a file.
    systems : callable
        Function that returns an iterator over the systems, which are solved one after the other.
    """

    problem: str
    size: int
    systems: Callable[[], Iterator[LinearProblem]]

    def warm_up(self) -> LinearProblem:
        """Return a system to solve beforehand, since nothing may be compiled during measurements.

        On the grids of pressure systems all but the smallest sizes take the same way; elsewhere the way depends on the
        matrix, and only the system itself is sure to take all of it.
        """
        first = next(self.systems())
        if self.size > WARM_UP_SIZE and isinstance(first, PressureProblem):
            return next(PROBLEMS[self.problem](WARM_UP_SIZE))
        return first


def named(problems: Sequence[str], sizes: Sequence[int]) -> list[Case]:
    """Return the cases of all these problems in all these sizes.

    Parameters
    ----------
    problems : sequence of str
        Keys of `PROBLEMS`.
    sizes : sequence of int
        Cells per edge, at least 8.

    Raises
    ------
    ValueError
        If a name is unknown, with a list of those that are known, or a size is out of range.
    """
    unknown = [name for name in problems if name not in PROBLEMS]
    if unknown or not problems:
        raise ValueError(f"unknown problem {', '.join(unknown) or '(none)'}; known: {', '.join(PROBLEMS)}")
    if not sizes:
        raise ValueError("give at least one size, in cells per edge")
    for size in sizes:
        count("size", size, least=8)
    return [Case(name, size, partial(PROBLEMS[name], size)) for name in problems for size in sizes]


def from_files(matrix: Path, rhs: Path | None, tol: float) -> Case:
    """Return the case of a matrix from a file.

    Parameters
    ----------
    matrix : Path
        File that `deepcd.data.matrix_files.read_matrix` takes.
    rhs : Path or None
        File of the right-hand side. None stands for normal random numbers from a fixed seed; where constants on
        components of A are in its null space, their part is taken off, so that there is a solution.
    tol : float
        Relative tolerance that the right-hand side has to allow for.

    Raises
    ------
    MatrixFileError
        If a file holds no such system.
    ValueError
        If the system has no solution, or only zero.
    """
    A = read_matrix(matrix)
    b = None if rhs is None else read_vector(rhs, A.shape[0])
    if not (np.isfinite(A.data).all() and (b is None or np.isfinite(b).all())):
        raise MatrixFileError(f"{matrix if b is None or np.isfinite(b).all() else rhs}: holds NaN or Inf")
    name = matrix.name if rhs is None else f"{matrix.name}+{rhs.name}"
    problem = _brought(A, b, tol)
    return Case(name, problem.A.shape[0], partial(_alone, problem))


def _brought(A: sp.csr_array, b: NDArray[np.float64] | None, tol: float) -> LinearProblem:
    """Return the problem of a matrix without the rows that have no entries, since hardly any method takes them."""
    A.eliminate_zeros()
    filled = np.diff(A.indptr) > 0
    if b is not None and b[~filled].any():
        raise ValueError(
            f"row {int(np.flatnonzero(~filled & (b != 0))[0])} of A has no entries, but b is not zero there"
        )
    if not filled.all():
        A, b = A[filled][:, filled], None if b is None else b[filled]
    if not A.nnz:
        raise ValueError("A has no entries other than zero")
    if b is None:
        b = np.random.default_rng(SEED).standard_normal(A.shape[0])
        return LinearProblem(A, b - constants(A, b))
    if not b.any():
        raise ValueError("b is zero, and so is the solution; give another right-hand side")
    outside = float(np.linalg.norm(constants(A, b)) / np.linalg.norm(b))
    if outside > tol:
        raise ValueError(
            f"A is singular, and no x brings the residual below {outside:.1e} of b: b must sum to zero on each "
            "component of A whose rows sum to zero"
        )
    return LinearProblem(A, b)


def _alone(problem: LinearProblem) -> Iterator[LinearProblem]:
    yield problem
