"""The matrix-free operator of a grid: one byte per cell, float64 vectors on the padded box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import outer
from deepcd.solvers.kernels.team import Team

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding


def geometry(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Return cells per axis as three numbers and the strides (planes, rows) of the padded box.

    Examples
    --------
    >>> geometry((4, 5, 6)), geometry((4, 6))
    (((4, 5, 6), (56, 8)), ((4, 1, 6), (8, 0)))
    """
    if len(shape) == 2:
        return (shape[0], 1, shape[1]), (shape[1] + 2, 0)
    return (shape[0], shape[1], shape[2]), ((shape[1] + 2) * (shape[2] + 2), shape[2] + 2)


class StencilOperator:
    """A / scale on the padded box of an embedding: diagonal minus the adjacent unknowns.

    Parameters
    ----------
    embedding : Embedding
    threads : int, default 1
    """

    def __init__(self, embedding: Embedding, threads: int = 1) -> None:
        self.embedding = embedding
        self.n, self.s = geometry(embedding.shape)
        self.diagonal = embedding.diagonal.ravel()
        self.team = Team(threads, self.n[0], self.diagonal.size)
        chambers = np.flatnonzero(embedding.sealed)
        everything = len(embedding.sealed) == 1 and len(chambers) == 1
        self._sealed = [
            embedding.position if everything else embedding.position[embedding.component == c] for c in chambers
        ]

    def zeros(self) -> NDArray[np.float64]:
        """Return a zero vector on the padded box."""
        return np.zeros(self.diagonal.size)

    def embed(self, v: NDArray[np.floating], scale: float = 1.0) -> NDArray[np.float64]:
        """Return scale * v on the padded box; v has one entry per row of the embedding."""
        box = self.zeros()
        box[self.embedding.position] = v if scale == 1.0 else v * scale
        return box

    def extract(self, box: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the entries of the unknowns, in the order of the embedding's rows."""
        return box[self.embedding.position]

    def residual(self, b: NDArray[np.float64], x: NDArray[np.float64], r: NDArray[np.float64]) -> float:
        """Set r to b - A x and return r.r."""
        return float(sum(self.team.run(outer.residual, self.n, self.s, self.diagonal, b, x, r)))

    def direction(self, z: NDArray[np.floating], beta: float, p: NDArray[np.float64]) -> None:
        """Set p to z + beta p."""
        self.team.run(outer.direction, self.s, z, beta, p)

    def apply(self, p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
        """Set q to A p and return p.q."""
        return float(sum(self.team.run(outer.matvec, self.n, self.s, self.diagonal, p, q)))

    def update(
        self,
        alpha: float,
        p: NDArray[np.float64],
        q: NDArray[np.float64],
        x: NDArray[np.float64],
        r: NDArray[np.float64],
    ) -> float:
        """Add alpha p to x, subtract alpha q from r, and return r.r."""
        return float(sum(self.team.run(outer.update, self.s, alpha, p, q, x, r)))

    def dot(self, u: NDArray[np.floating], v: NDArray[np.floating]) -> float:
        """Return u.v, summed in float64."""
        return float(sum(self.team.run(outer.dot, self.s, u, v)))

    def project(self, v: NDArray[np.floating]) -> None:
        """Remove the constants on sealed chambers from v in place."""
        for cells in self._sealed:
            outer.remove_mean(cells, v)
