"""Diagonal preconditioners on several right-hand sides at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import columns
from deepcd.solvers.kernels.rows import lanes

Vector = NDArray[np.floating[Any]]


class ScaledColumns:
    """M = diag(factors) on k right-hand sides, shape (n, k): entry (i, j) of the block is entry i * k + j of a vector.

    Parameters
    ----------
    factors : ndarray of float64, shape (n,)
        Positive.
    k : int
        Number of right-hand sides.
    """

    def __init__(self, factors: NDArray[np.float64], k: int) -> None:
        self._factors, self._lanes, self._rz = factors, lanes(k), np.empty(k)

    def apply(self, r: Vector, z: Vector) -> Vector:
        """Set z to M r and return r.z of each column."""
        columns.scale(self._lanes, self._factors, r, z, self._rz)
        return self._rz
