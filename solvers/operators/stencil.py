"""The matrix-free operator of a grid: one byte per cell, float64 vectors on the padded box."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import outer
from deepcd.solvers.kernels.team import Team

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

F64 = NDArray[np.float64]
Box = tuple[int, int, int]


def geometry(shape: tuple[int, ...], columns: int = 1) -> tuple[Box, tuple[int, ...]]:
    """Return entries per axis as three numbers and the strides of the padded box, as `kernels/outer.py` wants them.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis.
    columns : int, default 1
        Vectors that lie interleaved: so many entries per cell.

    Examples
    --------
    >>> geometry((4, 5, 6)), geometry((4, 6)), geometry((4, 6), 10)
    (((4, 5, 6), (56, 8)), ((4, 1, 6), (8, 0)), ((4, 1, 60), (80, 0, 10)))
    """
    row = (shape[-1] + 2) * columns
    strides = (row, 0) if len(shape) == 2 else ((shape[1] + 2) * row, row)
    middle = 1 if len(shape) == 2 else shape[1]
    return (shape[0], middle, shape[-1] * columns), (strides if columns == 1 else (*strides, columns))


class StencilOperator:
    """A / scale on the padded box of an embedding, diagonal minus the adjacent unknowns; for columns, I (x) A / scale.

    Parameters
    ----------
    embedding : Embedding
    threads : int, default 1
    columns : int, default 1
        Vectors that are worked on at once. They interleave: entry j of cell i is number columns * i + j.

    Attributes
    ----------
    squares : ndarray of float64, shape (columns,)
        The squared norms of the columns of the vector that `residual`, `update` or `norm` saw last.
    """

    def __init__(self, embedding: Embedding, threads: int = 1, columns: int = 1) -> None:
        self.embedding = embedding
        self._threads, self._columns = threads, columns
        self.n, self.s = geometry(embedding.shape, columns)
        self.diagonal = embedding.diagonal.ravel() if columns == 1 else np.repeat(embedding.diagonal, columns)
        self.team = Team(threads, self.n[0], self.diagonal.size)
        self.squares = np.zeros(columns)
        self._squares = [(np.zeros(self.n[2]),) for _ in range(self.team.threads)]
        chambers = np.flatnonzero(embedding.sealed)
        everything = len(embedding.sealed) == 1 and len(chambers) == 1
        self._sealed = [
            embedding.position if everything else embedding.position[embedding.component == c] for c in chambers
        ]

    def columns(self, k: int) -> StencilOperator:
        """Return I (x) A / scale for k vectors at once: blocks of shape (m, k) go in and out of its boxes."""
        return StencilOperator(self.embedding, self._threads, k)

    def zeros(self) -> F64:
        """Return a zero vector on the padded box."""
        return np.zeros(self.diagonal.size)

    def embed(self, v: NDArray[np.floating], scale: float | F64 = 1.0) -> F64:
        """Return scale * v on the padded box.

        Parameters
        ----------
        v : ndarray of float, shape (m,) or (m, columns)
            One entry, or row, per row of the embedding.
        scale : float or ndarray of float64, shape (columns,)
        """
        box = self.zeros()
        box.reshape(-1, self._columns)[self.embedding.position] = np.reshape(v, (-1, self._columns)) * scale
        return box

    def extract(self, box: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the entries of the unknowns, (m,) or (m, columns), in the order of the embedding's rows."""
        if self._columns == 1:
            return box[self.embedding.position]
        return box.reshape(-1, self._columns)[self.embedding.position]

    def norm(self, r: F64) -> float:
        """Return the norm of r; of columns the largest."""
        self.team.run(outer.sum_squares, self.n, self.s, r, scratch=self._squares)
        return math.sqrt(self._largest_square())

    def residual(self, b: F64, x: F64, r: F64) -> float:
        """Set r to b - A x and return the square of its norm; of columns the largest."""
        self.team.run(outer.residual, self.n, self.s, self.diagonal, b, x, r, scratch=self._squares)
        return self._largest_square()

    def direction(self, z: NDArray[np.floating], beta: float, p: F64) -> None:
        """Set p to z + beta p."""
        self.team.run(outer.direction, self.s, z, beta, p)

    def apply(self, p: F64, q: F64) -> float:
        """Set q to A p and return p.q."""
        return float(sum(self.team.run(outer.matvec, self.n, self.s, self.diagonal, p, q)))

    def update(self, alpha: float, p: F64, q: F64, x: F64, r: F64) -> float:
        """Add alpha p to x, subtract alpha q from r, and return the square of the norm of r; of columns the largest."""
        self.team.run(outer.update, self.n, self.s, alpha, p, q, x, r, scratch=self._squares)
        return self._largest_square()

    def dot(self, u: NDArray[np.floating], v: NDArray[np.floating]) -> float:
        """Return u.v, summed in float64."""
        return float(sum(self.team.run(outer.dot, self.s, u, v)))

    def project(self, v: NDArray[np.floating]) -> bool:
        """Remove the constants on sealed chambers from v in place; return whether there are any."""
        for cells in self._sealed:
            outer.remove_mean(cells, self._columns, v)
        return bool(self._sealed)

    def _largest_square(self) -> float:
        """Add up what the threads summed, and return the largest square of a column."""
        self.squares[:] = sum(sums.reshape(-1, self._columns).sum(axis=0) for (sums,) in self._squares)
        return float(self.squares.max())
