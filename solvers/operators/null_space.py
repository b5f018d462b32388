"""Null spaces of matrices, as what is removed from vectors: constants on components, or the span of some vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import columns
from deepcd.solvers.kernels.rows import lanes

Vector = NDArray[np.floating[Any]]


class Constants:
    """The constants on sealed components.

    Parameters
    ----------
    component : ndarray of int, shape (n,)
        The connected component of each row.
    weights : ndarray of float64, shape (number of components,)
        One over the number of rows of each sealed component, zero for the others.
    k : int, default 1
        Number of interleaved vectors.
    """

    def __init__(self, component: NDArray[np.integer[Any]], weights: NDArray[np.float64], k: int = 1) -> None:
        self._component, self._weights = component, weights
        self._lanes, self._sums = lanes(k), np.empty(weights.size * k)

    def remove(self, v: Vector) -> None:
        """Subtract the mean on each sealed component from v, in place."""
        if self._weights.size == 1:
            block = v.reshape(-1, self._sums.size)
            block -= self._weights * block.sum(axis=0)
        else:
            columns.remove_means(self._component, self._weights, self._lanes, self._sums, v)

    def columns(self, k: int) -> Constants:
        """Return those of k interleaved vectors."""
        return Constants(self._component, self._weights, k)

    def renumbered(self, order: NDArray[np.int64]) -> Constants:
        """Return those of the rows in another order."""
        return Constants(self._component[order], self._weights)

    @property
    def nullity(self) -> int:
        """Number of sealed components."""
        return int(np.count_nonzero(self._weights))

    def rows(self) -> list[NDArray[np.intp]]:
        """Return the rows of each sealed component."""
        return [np.flatnonzero(self._component == c) for c in np.flatnonzero(self._weights)]


class Span:
    """The span of orthonormal vectors.

    Parameters
    ----------
    vectors : ndarray of float64, shape (n, m)
        Orthonormal columns.
    k : int, default 1
        Number of interleaved vectors.
    """

    def __init__(self, vectors: NDArray[np.floating[Any]], k: int = 1) -> None:
        self.vectors, self._scratch = vectors, np.empty((vectors.shape[0], k))

    def remove(self, v: Vector) -> None:
        """Remove from v its part in the span, in place."""
        block = v.reshape(self._scratch.shape)
        np.matmul(self.vectors, self.vectors.T @ block, out=self._scratch)
        block -= self._scratch

    def renumbered(self, order: NDArray[np.int64]) -> Span:
        """Return that of the rows in another order."""
        return Span(self.vectors[order])

    @property
    def nullity(self) -> int:
        """Number of vectors."""
        return int(self.vectors.shape[1])

    def columns(self, k: int) -> Span:
        """Return that of k interleaved vectors."""
        return Span(self.vectors, k)


NullSpace = Constants | Span
