"""The matrix-free operator of a grid: one byte per cell, vectors on the padded box, r and p in float32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.conjugate_directions import Preconditioner, Workspace
from deepcd.solvers.kernels import outer
from deepcd.solvers.kernels.team import Team

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Vector = NDArray[np.floating[Any]]
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

    roundoff = float(np.finfo(np.float32).eps)

    def __init__(self, embedding: Embedding, threads: int = 1, columns: int = 1) -> None:
        self.embedding = embedding
        self._threads, self._columns = threads, columns
        self.n, self.s = geometry(embedding.shape, columns)
        self.diagonal = embedding.diagonal.ravel() if columns == 1 else np.repeat(embedding.diagonal, columns)
        self.team = Team(threads, self.n[0], self.diagonal.size)
        self.squares = np.zeros(columns)
        self._squares = [(np.zeros(columns),) for _ in range(self.team.threads)]
        self._work: tuple[Preconditioner, Workspace] | None = None
        chambers = np.flatnonzero(embedding.sealed)
        everything = len(embedding.sealed) == 1 and len(chambers) == 1
        self._sealed = [
            embedding.position if everything else embedding.position[embedding.component == c] for c in chambers
        ]

    def columns(self, k: int) -> StencilOperator:
        """Return I (x) A / scale for k vectors at once: blocks of shape (m, k) go in and out of its boxes."""
        return StencilOperator(self.embedding, self._threads, k)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_work": None}

    def zeros(self) -> F64:
        """Return a zero vector on the padded box."""
        return np.zeros(self.diagonal.size)

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return vectors to iterate on, until the next call."""
        if self._work is None or self._work[0] is not M:
            p, r = np.zeros((2, self.diagonal.size), dtype=np.float32)
            self._work = M, Workspace(self.zeros(), self.zeros(), p, r, M.zeros())
        return self._work[1]

    def embed(self, v: Vector, scale: float | F64 = 1.0, out: F64 | None = None) -> F64:
        """Return scale * v on the padded box.

        Parameters
        ----------
        v : ndarray of float, shape (m,) or (m, columns)
            One entry, or row, per row of the embedding.
        scale : float or ndarray of float64, shape (columns,)
        out : ndarray of float64, optional
            Where to; a vector that was zero outside the unknowns before.
        """
        box = self.zeros() if out is None else out
        k = self._columns
        outer.embed(self.embedding.position, k, np.reshape(v, (-1, k)), self._factors(scale), box)
        return box

    def extract(self, box: Vector) -> Vector:
        """Return the entries of the unknowns, (m,) or (m, columns), in the order of the embedding's rows."""
        k, m = self._columns, self.embedding.position.size
        v = np.zeros(m if k == 1 else (m, k), dtype=box.dtype)
        outer.spread(self.embedding.position, k, box, self._factors(1.0).astype(box.dtype), v.reshape(m, k))
        return v

    def spread(self, box: Vector, factor: float | F64, v: F64) -> None:
        """Add factor * box to v, (m,) or (m, columns), in place."""
        k = self._columns
        outer.spread(self.embedding.position, k, box, self._factors(factor), v.reshape(-1, k))

    def _factors(self, scale: float | F64) -> F64:
        return np.broadcast_to(np.asarray(scale, dtype=np.float64), (self._columns,)).copy()

    def norm(self, r: Vector) -> float:
        """Return the norm of r; of columns the largest."""
        self.team.run(outer.sum_squares, self.s, r, scratch=self._squares)
        return math.sqrt(self._largest_square())

    def residual(self, b: F64, x: F64, r: Vector) -> float:
        """Set r to b - A x and return the square of its norm; of columns the largest."""
        self.team.run(outer.residual, self.n, self.s, self.diagonal, b, x, r, scratch=self._squares)
        return self._largest_square()

    def conjugate(self, z: F32, beta: float, p: F32) -> float:
        """Set p to z + beta p and return p.A p."""
        own = sum(self.team.run(outer.conjugate, self.n, self.s, self.diagonal, z, np.float32(beta), p))
        return float(own - sum(outer.coupling(self.s, p, i) for i in self.team.bounds[1:-1]))

    def step(self, alpha: float, p: F32, x: F64, r: F32) -> float:
        """Add alpha p to x, subtract alpha A p from r, and return the square of |r|; of columns the largest."""
        self.team.run(outer.step, self.n, self.s, self.diagonal, alpha, p, x, r, scratch=self._squares)
        return self._largest_square()

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z."""
        return self.dot(self.image(p), z)

    def image(self, p: Vector) -> F64:
        """Return A p, a new vector."""
        q = self.zeros()
        self.team.run(outer.image, self.n, self.s, self.diagonal, p, q)
        return q

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
        self.squares[:] = sum(sums for (sums,) in self._squares)
        return float(self.squares.max())
