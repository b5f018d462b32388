"""Jacobi: M is the inverse of the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import columns
from deepcd.solvers.preconditioners.columnwise import PassOverColumns

Vector = NDArray[np.floating[Any]]


class Jacobi:
    """M = diag(A)^-1 on vectors of shape (n,).

    Parameters
    ----------
    diagonal : ndarray of float64, shape (n,)
        Diagonal of A, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.solvers.preconditioners.jacobi import Jacobi
    >>> M = Jacobi(np.array([2.0, 4.0]))
    >>> z = M.zeros()
    >>> M.apply(np.array([2.0, 2.0]), z), z.tolist()
    (3.0, [1.0, 0.5])
    """

    name = "jacobi"
    symmetric = linear = True
    work = 1.0

    def __init__(self, diagonal: NDArray[np.float64]) -> None:
        self._inverse = 1 / diagonal

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._inverse.size)

    def columns(self, k: int) -> PassOverColumns:
        """Return the same M on k right-hand sides."""
        return PassOverColumns(columns.scale, (self._inverse,), k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z to r / diag(A) and return r.z."""
        np.multiply(r, self._inverse, out=z)
        return float(r @ z)

    def __str__(self) -> str:
        """Return what it is."""
        return "jacobi: the inverse of the diagonal"
