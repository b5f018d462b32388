"""Preconditioners on several right-hand sides at once that are a single compiled pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels.rows import lanes

Vector = NDArray[np.floating[Any]]


class PassOverColumns:
    """M on k right-hand sides, shape (n, k): entry (i, j) of the block is entry i * k + j of a vector.

    Parameters
    ----------
    kernel : callable
        ``kernel(lanes, *arguments, r, z, rz)`` sets z to M r, and rz to r.z of each column; see `kernels/rows.py`.
    arguments : tuple
        What M consists of.
    k : int
        Number of right-hand sides.
    """

    def __init__(self, kernel: Callable[..., None], arguments: tuple[Any, ...], k: int) -> None:
        self._kernel, self._arguments = kernel, (lanes(k), *arguments)
        self._rz = np.empty(k)

    def apply(self, r: Vector, z: Vector) -> NDArray[np.float64]:
        """Set z to M r and return r.z of each column."""
        self._kernel(*self._arguments, r, z, self._rz)
        return self._rz
