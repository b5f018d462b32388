"""Jacobi on a CUDA device: M is the inverse of the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch


class CudaJacobi:
    """M = diag(A)^-1 on float64 vectors of shape (n,).

    Parameters
    ----------
    diagonal : ndarray of float64, shape (n,)
        Diagonal of A, positive, on the host.
    sums : Sums
        Shared with the operator.
    """

    name = "jacobi"
    symmetric = linear = True
    work = 1.0

    def __init__(self, diagonal: NDArray[np.float64], sums: Sums) -> None:
        self._inverse, self._sums = CudaVector.upload(1 / diagonal, sums), sums

    def zeros(self) -> Any:
        """Return a new zero vector, float64 of shape (n,)."""
        return CudaVector.zeros(self._inverse.size, np.float64, self._sums)

    def apply(self, r: CudaVector, z: CudaVector) -> float:
        """Set z to r / diag(A) and return r.z."""
        arrays = self._inverse.array, r.array, z.array
        return self._sums.total(launch(cuda_outer.scale, r.size, *arrays, self._sums.partials))

    def __str__(self) -> str:
        """Return what it is."""
        return "jacobi: the inverse of the diagonal; on a CUDA device"
