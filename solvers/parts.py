"""The parts of a matrix made ready: rows solved on their own, and the coupled rest with operator and preconditioner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.arguments import magnitude, power_of_two
from deepcd.solvers.space import Preconditioner


@dataclass(frozen=True, eq=False)
class Parts:
    """What a matrix A consists of.

    Attributes
    ----------
    A : csr_array of float64 or GridMatrix, shape (n, n)
        The matrix.
    rows : slice or ndarray of int64, shape (m,)
        The rows with off-diagonal entries.
    alone : ndarray of int64, shape (n - m,)
        The other rows: x_i = b_i / a_ii.
    diagonal : ndarray of float64, shape (n - m,)
        Their a_ii; 0 for empty rows.
    operator : MatrixOperator or GridOperator or None
        A[rows, rows] / scale; None if there are no such rows.
    scale : float
        What the coupled part was divided by.
    M : Preconditioner
        An approximate inverse of the operator.
    singular : bool
        Whether the operator's null space is known to hold more than zero, such as constants on some components.
    exact : bool
        Whether each entry of A has been compared with the operator, so that they differ by rounding only.
    """

    A: Any
    rows: slice | NDArray[np.int64]
    alone: NDArray[np.int64]
    diagonal: NDArray[np.float64]
    operator: Any
    scale: float
    M: Preconditioner
    singular: bool
    exact: bool

    def twin(self) -> Parts:
        """Return the same parts of a grid with work vectors of their own, for one thread."""
        M: Any = self.M
        return replace(self, operator=self.operator and self.operator.twin(1), M=M.twin(1))

    def solve_alone(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> None:
        """Set x, shape (n,) or (n, k), on the rows without off-diagonal entries, unless they are empty."""
        diagonal = self.diagonal if b.ndim == 1 else self.diagonal[:, None]
        empty = diagonal == 0
        with np.errstate(over="ignore"):
            x[self.alone] = np.where(empty, x[self.alone], b[self.alone] / np.where(empty, 1.0, diagonal))

    def spread(self, v: NDArray[np.floating[Any]], factor: Any, x: NDArray[np.float64]) -> None:
        """Add factor * v, a vector of the operator, to the rows of x, shape (n,), in place."""
        assert self.operator is not None
        if isinstance(self.rows, slice) and x.flags.c_contiguous:
            self.operator.spread(v, factor, x)
        else:
            part = np.ascontiguousarray(x[self.rows])
            self.operator.spread(v, factor, part)
            x[self.rows] = part

    def precondition(self, v: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return M v on vectors of A's rows, shape (n,), in units of A's inverse."""
        result = np.zeros(self.A.shape[0])
        result[self.alone] = v[self.alone] / np.where(self.diagonal == 0, 1.0, self.diagonal)
        largest = magnitude(v[self.rows])
        if self.operator is not None and largest > 0:
            unit = power_of_two(largest)
            b, _, _, r, z = self.operator.workspace(self.M)
            self.operator.embed(v[self.rows], 1 / unit, out=b)
            self.operator.project(b)
            r[...] = b
            self.M.apply(r, z)
            self.operator.project(z)
            self.spread(z, unit / self.scale, result)
        return result

    def describe(self) -> list[str]:
        """Return lines about the rows, the null space and the preconditioner."""
        lines = []
        if self.alone.size:
            lines.append(f"rows without off-diagonal entries, solved on their own: {self.alone.size}")
        if self.singular:
            lines.append("singular: solved up to a vector of the null space, such as a constant on a sealed component")
        return [*lines, f"preconditioner: {self.M}"]


def alone(A: Any, rows: slice | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows of a csr_array or GridMatrix that are not among `rows`, and their diagonal entries."""
    if not isinstance(A, sp.csr_array):
        return A.alone, A.diagonal
    if isinstance(rows, slice):
        return np.empty(0, dtype=np.int64), np.empty(0)
    rest = np.ones(A.shape[0], dtype=np.bool_)
    rest[rows] = False
    alone = np.flatnonzero(rest)
    return alone, A.diagonal()[alone]
