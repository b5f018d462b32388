"""Incomplete Cholesky factors without fill, IC(0), and modified ones, MIC(0), of any matrix.

Meijerink and van der Vorst (Math. Comp. 31, 1977); the modified form after Gustafsson (BIT 18, 1978), with the
parameters of Bridson (Fluid Simulation for Computer Graphics, 2nd ed., section 5.2): 97 % of what is dropped goes to
the diagonal, and a pivot below a quarter of A's entry is replaced by that entry, so that M is positive definite for any
A.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import incomplete_cholesky
from deepcd.solvers.preconditioners.columnwise import PassOverColumns

Vector = NDArray[np.floating[Any]]

TAU, SIGMA = 0.97, 0.25  # share of what is dropped that goes to the diagonal; smallest pivot over the entry of A
# Largest square of an entry in column j over a_jj: beyond it the diagonal is all that is kept. The squares of a column
# sum to a_jj where no pivot is replaced; where one is, they may grow without bounds.
GROWTH = 1e6
LARGE = 1e30  # factors with entries beyond this size, or pivots below its reciprocal, are kept in float64


class IncompleteCholesky:
    """M = (U'U)^-1 with U on the pattern of A's upper triangle.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal.
    modified : bool, default False
        MIC(0) instead of IC(0).

    Attributes
    ----------
    replaced : int
        Number of pivots that were too small.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.incomplete_cholesky import IncompleteCholesky
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9), format="csr")
    >>> M = IncompleteCholesky(A)  # there is no fill to drop in a chain
    >>> z = M.zeros()
    >>> rz = M.apply(np.ones(9), z)
    >>> bool(np.allclose(A @ z, 1))
    True
    """

    symmetric = linear = True

    def __init__(self, A: sp.csr_array, modified: bool = False) -> None:
        self.name = "mic0" if modified else "ic0"
        U = sp.triu(A, format="csr")
        U.sum_duplicates()
        self._n = A.shape[0]
        data = U.data.astype(np.float64)
        first, shares = U.indptr[:-1], (TAU, SIGMA) if modified else (0.0, 1e-3)
        self.replaced = int(incomplete_cholesky.factor(U.indptr, U.indices, data, *shares, GROWTH))
        if self.replaced < 0:
            data[:], self.replaced = 0, self._n
            data[first] = np.sqrt(U.data[first])
        data[first] = 1 / data[first]
        fits = float(np.abs(data).max(initial=1.0)) < LARGE and float(data[first].min(initial=1.0)) > 1 / LARGE
        self._factors = U.indptr, U.indices, data.astype(np.float32) if fits else data

    @property
    def work(self) -> float:
        """Passes over the unknowns per iteration: that of A, and two over the factors."""
        return 4.0

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._n)

    def columns(self, k: int) -> PassOverColumns:
        """Return the same M on k right-hand sides, for all of which the factors are read once."""
        return PassOverColumns(incomplete_cholesky.solve_columns, self._factors, k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z to M r and return r.z."""
        return float(incomplete_cholesky.solve(*self._factors, r, z))

    def __str__(self) -> str:
        """Return what it is."""
        return f"{self.name}: incomplete Cholesky factors without fill, {self.replaced} pivots replaced"
