"""The matrix of a grid without its entries: what a solve on a grid keeps of A."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

F64 = NDArray[np.float64]


class GridMatrix:
    """A, whose coupled rows are those of an operator on a grid, entry by entry; the others have only a diagonal.

    Parameters
    ----------
    operator : UnitStencilOperator
        A / scale on the coupled rows. It may be the one that a solver iterates with.
    n : int
        Number of rows of A.
    alone : ndarray of int64, shape (n - m,)
        The rows that are not in the operator's embedding.
    diagonal : ndarray of float64, shape (n - m,)
        Their diagonal entries.

    Examples
    --------
    >>> from deepcd.pde import Grid
    >>> from deepcd.solvers.grids.discovery import embed
    >>> from deepcd.solvers.operators.grid_matrix import GridMatrix
    >>> from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
    >>> A = GridMatrix(UnitStencilOperator(*embed(Grid([[0, 0, 2]]))), 2, np.array([], dtype=int), np.array([]))
    >>> (A @ np.array([1.0, 2.0])).tolist(), A.tocsr().toarray().tolist()
    ([-1.0, 3.0], [[1.0, -1.0], [-1.0, 2.0]])
    """

    def __init__(self, operator: UnitStencilOperator, n: int, alone: NDArray[np.int64], diagonal: F64) -> None:
        self.operator, self.alone, self.diagonal = operator, alone, diagonal
        self.shape = n, n

    def __matmul__(self, x: NDArray[np.floating[Any]]) -> F64:
        """Return A x for x of shape (n,) or (n, k), computed in float64."""
        if x.ndim == 2:
            return np.stack([self @ column for column in x.T], axis=1)
        operator, rows = self.operator, self.operator.embedding.rows
        y = np.zeros(self.shape[0])
        y[self.alone] = self.diagonal * x[self.alone]
        image = operator.image(operator.embed(np.ascontiguousarray(x[rows], dtype=np.float64)))
        y[rows] = operator.extract(image) * operator.stencil.scale
        return y

    def tocsr(self) -> sp.csr_array:
        """Return A with its entries, sorted."""
        embedding = self.operator.embedding
        A = self.operator.stencil.entries(embedding)
        if isinstance(embedding.rows, slice):
            return A
        coupled = A.tocoo()
        row, column = (np.concatenate((embedding.rows[v], self.alone)) for v in (coupled.row, coupled.col))
        A = sp.csr_array(sp.coo_array((np.concatenate((coupled.data, self.diagonal)), (row, column)), self.shape))
        A.sort_indices()
        return A
