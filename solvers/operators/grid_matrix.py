"""The Poisson matrix of a grid without its entries: what a solve on a grid keeps of A."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.operators.stencil import StencilOperator

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

F64 = NDArray[np.float64]


class GridMatrix:
    """A, whose coupled rows are those of an embedding, entry by entry, and whose other rows have only a diagonal.

    Parameters
    ----------
    embedding : Embedding
    n : int
        Rows of A.
    alone : ndarray of int64
        The rows that are not in the embedding.
    diagonal : ndarray of float64
        Their diagonal entries.
    threads : int, default 1

    Examples
    --------
    >>> from deepcd.pde import Grid
    >>> from deepcd.solvers.grid_discovery import embed
    >>> from deepcd.solvers.operators.grid_matrix import GridMatrix
    >>> A = GridMatrix(embed(Grid([[0, 0, 2]])), 2, np.array([], dtype=int), np.array([]))
    >>> (A @ np.array([1.0, 2.0])).tolist(), A.tocsr().toarray().tolist()
    ([-1.0, 3.0], [[1.0, -1.0], [-1.0, 2.0]])
    """

    def __init__(self, embedding: Embedding, n: int, alone: NDArray[np.int64], diagonal: F64, threads: int = 1) -> None:
        self.embedding, self.alone, self.diagonal = embedding, alone, diagonal
        self.rows: slice | NDArray[np.int64] = slice(None) if embedding.rows is None else embedding.rows
        self.shape = n, n
        self._operator = StencilOperator(embedding, threads=threads)

    def __matmul__(self, x: NDArray[np.floating[Any]]) -> F64:
        """Return A x for x of shape (n,) or (n, k), computed in float64."""
        if x.ndim == 2:
            return np.stack([self @ column for column in x.T], axis=1)
        y = np.zeros(self.shape[0])
        y[self.alone] = self.diagonal * x[self.alone]
        image = self._operator.image(self._operator.embed(np.ascontiguousarray(x[self.rows], dtype=np.float64)))
        y[self.rows] = self._operator.extract(image) * self.embedding.scale
        return y

    def tocsr(self) -> sp.csr_array:
        """Return A with its entries, sorted."""
        box, position = self.embedding.diagonal.ravel(), self.embedding.position
        number = np.zeros(box.size, dtype=np.int32)
        number[position] = np.arange(position.size) if isinstance(self.rows, slice) else self.rows
        padded = self.embedding.diagonal.shape
        strides = [int(np.prod(padded[axis + 1 :])) for axis in range(len(padded))]
        offsets = [*(-s for s in strides), 0, *reversed(strides)]
        present = np.stack([box[position + offset] != 0 for offset in offsets], axis=1)
        columns = np.stack([number[position + offset] for offset in offsets], axis=1)
        values = np.full(present.shape, -self.embedding.scale)
        values[:, len(strides)] = box[position] * self.embedding.scale
        row = np.repeat(number[position], present.sum(axis=1))
        entries = np.concatenate([values[present], self.diagonal])
        where = np.concatenate([row, self.alone]), np.concatenate([columns[present], self.alone])
        A = sp.csr_array(sp.coo_array((entries, where), shape=self.shape))
        A.sort_indices()
        return A
