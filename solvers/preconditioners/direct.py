"""The exact inverse of a small matrix by sparse factors, its inertia, and its null space if it has one.

SuperLU (Demmel, Eisenstat, Gilbert, Li and Liu, SIAM J. Matrix Anal. Appl. 20, 1999) without pivoting off the diagonal
gives P A P' = L D L': the signs of D are those of the eigenvalues (Sylvester's law of inertia). Everything happens on
the diagonally scaled matrix, whose condition number no other diagonal scaling improves by more than a factor n (van
der Sluis, Numerische Mathematik 14, 1969).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

Vector = NDArray[np.floating[Any]]

_EPS = float(np.finfo(np.float64).eps)


class NotPositiveDefiniteError(ValueError):
    """An eigenvalue of the matrix is negative beyond rounding."""


class Direct:
    """M = A^-1, or nearly the pseudo-inverse if A is singular.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal.
    eps : float, default 2.2e-16
        Unit roundoff that the entries of A carry.

    Attributes
    ----------
    null : ndarray of float64, shape (n, m)
        Orthonormal basis of the null space of A.

    Raises
    ------
    NotPositiveDefiniteError
        If A has a negative eigenvalue that rounding of its entries does not explain.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.direct import Direct
    >>> chain = sp.csr_array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
    >>> M = Direct(chain)
    >>> M.null.round(4).ravel().tolist() in ([0.5774] * 3, [-0.5774] * 3)
    True
    """

    name = "direct"
    symmetric, linear = True, False
    work = 2.0

    def __init__(self, A: sp.csr_array, eps: float = _EPS) -> None:
        self._n = A.shape[0]
        self._scaling = 1 / np.sqrt(A.diagonal())
        S = sp.diags_array(self._scaling)
        self._scaled = sp.csc_array(S @ A @ S)
        self.null = np.zeros((self._n, 0))
        self._factors = _Factors(self._scaled)
        # A pivot at the level of rounding may be the rounding of a zero, or of less.
        if self._factors.least <= 100 * self._n * max(eps, _EPS):
            shift = 1024 * max(eps, _EPS)
            self._factors = _Factors(sp.csc_array(self._scaled + shift * sp.eye_array(self._n)))
            if self._factors.least <= 0:
                raise NotPositiveDefiniteError("Factoring the diagonally scaled A met a negative pivot.")
            self.null = self._null_space()

    def _null_space(self) -> NDArray[np.float64]:
        """Return the null space of A, found by inverse subspace iteration on ever more vectors."""
        rng, count = np.random.default_rng(0), 4
        while True:
            basis = rng.standard_normal((self._n, min(count, self._n)))
            for _ in range(3):
                basis = np.linalg.qr(self._factors.solve(basis))[0]
            values, turn = np.linalg.eigh(basis.T @ (self._scaled @ basis))
            zero = values <= 4 * math.sqrt(self._n) * _EPS
            if not zero.all() or count >= self._n:
                return np.linalg.qr((basis @ turn[:, zero]) * self._scaling[:, None])[0]
            count *= 4

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._n)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z.

        SuperLU gains too little from several right-hand sides to be given them at once.
        """
        z[:] = self._in_range(self._scaling * self._factors.solve(self._scaling * self._in_range(r)))
        return float(r @ z)

    def _in_range(self, v: Vector) -> Vector:
        """Return a vector without its part in the null space, which the shift would magnify."""
        return v - self.null @ (self.null.T @ v) if self.null.size else v

    def __str__(self) -> str:
        """Return what it is."""
        return f"direct: sparse factors, {self._factors.nnz} entries, of {self._n} unknowns"


class _Factors:
    """The sparse factors of a matrix, which SuperLU cannot store: copies and pickles factor anew.

    Attributes
    ----------
    least : float
        The smallest pivot; minus infinity if there are no factors without pivoting off the diagonal.
    """

    def __init__(self, A: sp.csc_array) -> None:
        self._A, self.least = A, -math.inf
        try:
            self._factors = splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        except RuntimeError:  # a pivot is exactly zero
            return
        if np.array_equal(self._factors.perm_r, self._factors.perm_c):
            self.least = float(self._factors.U.diagonal().min())

    def __reduce__(self) -> tuple[Any, ...]:
        return _Factors, (self._A,)

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return int(self._factors.nnz)

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n,) or (n, k)."""
        return self._factors.solve(B)
