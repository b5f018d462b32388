"""Deflation: Jacobi, and an exact solve in the span of a few Ritz vectors of the smallest Ritz values.

In the form "A-DEF2" of Tang, Nabben, Vuik and Erlangga (J. Sci. Comput. 39, 2009), which needs no special start:

    M = (I - Q A) D^-1 + Q,   Q = W (W'A W)^-1 W'

The Ritz vectors are those of Lanczos with full re-orthogonalisation. Computing them is most of the set-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.data.ritz_vectors import ritz_pairs

Vector = NDArray[np.floating[Any]]

VECTORS = 16  # number of Ritz vectors in the coarse space
STEPS = 300  # largest number of Lanczos steps
MEMORY = 2**32  # bytes that the vectors of Lanczos may take
LARGE = 1e30  # tables with entries beyond this size, or all below its reciprocal, are kept in float64


class Deflation:
    """M of Jacobi with a coarse space of Ritz vectors.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal.
    vectors : int, default 16
        Number of Ritz vectors.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.deflation import Deflation
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50), format="csr")
    >>> M = Deflation(A)
    >>> z = M.zeros()
    >>> M.apply(np.ones(50), z) > 0
    True
    """

    name = "deflation"
    symmetric = linear = False  # M A is symmetric, but M on its own is not

    def __init__(self, A: sp.csr_array, vectors: int = VECTORS) -> None:
        n = A.shape[0]
        self._inverse = 1 / A.diagonal()
        steps = max(2 * vectors, min(STEPS, MEMORY // (8 * n)))
        self.ritz = ritz_pairs(A, steps, np.random.default_rng(0), lowest=vectors)
        W = self.ritz.vectors
        image = np.ascontiguousarray((A @ W.T).T)
        self._W = W.astype(np.float32)
        B = np.linalg.inv(W @ image.T) @ (W - image * self._inverse)  # E^-1 (W - D^-1 A W)'
        self._B = B.astype(np.float32) if 1 / LARGE < np.abs(B).max() < LARGE else B

    @property
    def work(self) -> float:
        """Passes over the unknowns per iteration: each Ritz vector is read twice."""
        return 2.0 + 2 * len(self._W)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._inverse.size)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z to M r and return r.z."""
        np.multiply(r, self._inverse, out=z)
        z += (self._B @ r.astype(np.float32)) @ self._W
        return float(r @ z)

    def __str__(self) -> str:
        """Return what it is."""
        return f"deflation: Jacobi and {len(self._W)} Ritz vectors"
