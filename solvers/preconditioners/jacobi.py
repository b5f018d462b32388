"""Jacobi: M is the inverse of the diagonal, and conjugate gradients with it are compiled as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import columns, jacobi
from deepcd.solvers.preconditioners.columnwise import PassOverColumns

Vector = NDArray[np.floating[Any]]


class Jacobi:
    """M = diag(A)^-1 on vectors of shape (n,).

    Parameters
    ----------
    diagonal : ndarray of float64, shape (n,)
        Diagonal of A, positive.
    A : csr_array of float64, shape (n, n), optional
        The matrix, not copied, not changed: with it, conjugate gradients are compiled as a whole.

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

    def __init__(self, diagonal: NDArray[np.float64], A: sp.csr_array | None = None) -> None:
        self._inverse = 1 / diagonal
        self._matrix = None if A is None else (A.indptr, A.indices, A.data, self._inverse)
        # Number of vectors that `begin` and `iterate` work on: x, the best x, r and others.
        self.vectors = 5 if A is not None else 0

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

    def begin(self, vectors: Vector) -> float:
        """Prepare vectors (5, n), the third of which is r, for `iterate`; return r.M r."""
        assert self._matrix is not None
        square: float = jacobi.start(self._matrix[-1], vectors[2], vectors[3])
        return square

    def iterate(self, vectors: Vector, square: float, *given: Any) -> tuple[int, float]:
        """Take some steps of conjugate gradients; see `kernels.jacobi.iterate`."""
        assert self._matrix is not None
        done, square = jacobi.iterate(*self._matrix, vectors, square, *given)
        return done, square

    def __str__(self) -> str:
        """Return what it is."""
        return "jacobi: the inverse of the diagonal"
