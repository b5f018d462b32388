"""A general sparse matrix as an operator on plain vectors, and the constants in its null space."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

Vector = NDArray[np.floating[Any]]


class CSROperator:
    """A on vectors of shape (n,), by SciPy's products.

    Parameters
    ----------
    A : csr_array of float64 or LinearOperator, shape (n, n)
        Anything that ``A @ x`` works with.
    component : ndarray of int, shape (n,), optional
        The connected component of each row; needed when one of them is sealed.
    sealed : ndarray of bool, shape (number of components,), optional
        Which components have the constant in the null space of A.
    """

    def __init__(
        self,
        A: Any,
        component: NDArray[np.integer[Any]] | None = None,
        sealed: NDArray[np.bool_] | None = None,
    ) -> None:
        self.A = A
        self._scratch = np.empty(A.shape[0])
        self._component = component if sealed is not None and sealed.any() else None
        if self._component is not None and sealed is not None:
            sizes = np.bincount(self._component, minlength=sealed.size)
            self._weights = np.where(sealed, 1.0 / np.maximum(sizes, 1), 0.0)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self.A.shape[0])

    def embed(self, v: Vector, scale: float = 1.0) -> Vector:
        """Return scale * v as a new float64 vector."""
        return np.multiply(v, scale, dtype=np.float64)

    def extract(self, v: Vector) -> Vector:
        """Return a copy of v: the vectors of this operator are those of A."""
        return v.copy()

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""
        np.subtract(b, self.A @ x, out=r)
        return float(r @ r)

    def direction(self, z: Vector, beta: float, p: Vector) -> None:
        """Set p <- z + beta p."""
        p *= beta
        p += z

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        q[...] = self.A @ p
        return float(p @ q)

    def update(self, alpha: float, p: Vector, q: Vector, x: Vector, r: Vector) -> float:
        """Set x <- x + alpha p and r <- r - alpha q, and return r.r."""
        np.multiply(p, alpha, out=self._scratch)
        x += self._scratch
        np.multiply(q, alpha, out=self._scratch)
        r -= self._scratch
        return float(r @ r)

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""
        return float(u @ v)

    def project(self, v: Vector) -> None:
        """Subtract the mean of v on each sealed component, in place."""
        if self._component is not None:
            sums = np.bincount(self._component, weights=v, minlength=self._weights.size)
            v -= (sums * self._weights)[self._component]


def constant_null_space(A: sp.csr_array, eps: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find the connected components of A on which the constant is in its null space.

    Row sums count as zero up to the rounding of the entries: A + 1e-12 I, with entries of about one, is not singular.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric in structure.
    eps : float
        Unit roundoff that the entries of A carry.

    Returns
    -------
    component : ndarray of int32, shape (n,)
        Connected component of each row, 0 .. count - 1.
    sealed : ndarray of bool, shape (count,)
        Whether all row sums of the component are zero.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> chain = sp.csr_array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    >>> component, sealed = constant_null_space(chain, 2.2e-16)
    >>> sealed.tolist()
    [True, False]
    """
    ones = np.ones(A.shape[0])
    bound = eps * np.diff(A.indptr) * (abs(A) @ ones)
    open_rows = np.abs(A @ ones) > bound
    if open_rows.all():
        return np.zeros(A.shape[0], dtype=np.int32), np.zeros(1, dtype=np.bool_)
    count, component = connected_components(A, directed=False)
    return component, np.bincount(component[open_rows], minlength=count) == 0
