"""A general sparse matrix as an operator on plain vectors, and its null space."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import columns, csr
from deepcd.solvers.kernels.rows import lanes
from deepcd.solvers.operators.null_space import Constants, NullSpace, Span
from deepcd.solvers.operators.plain import PlainOperator

Vector = NDArray[np.floating[Any]]


class CSROperator(PlainOperator):
    """A on vectors of shape (n,), float64.

    Parameters
    ----------
    A : csr_array of float32 or float64, shape (n, n)
        Symmetric positive (semi)definite. Not copied, not changed.
    component : ndarray of int, shape (n,), optional
        The connected component of each row; needed when one of them is sealed.
    sealed : ndarray of bool, shape (number of components,), optional
        Which components have the constant in the null space of A.
    null : ndarray of float64, shape (n, m), optional
        Orthonormal columns: any null space of A, instead of the constants.

    Raises
    ------
    ValueError
        If both the constants on components and another null space are given.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.operators.csr import CSROperator
    >>> A = CSROperator(sp.csr_array([[2.0, -1.0], [-1.0, 2.0]]))
    >>> p, q = np.array([1.0, 2.0]), A.zeros()
    >>> A.apply(p, q), q.tolist()
    (6.0, [0.0, 3.0])
    """

    def __init__(
        self,
        A: sp.csr_array,
        component: NDArray[np.integer[Any]] | None = None,
        sealed: NDArray[np.bool_] | None = None,
        null: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        super().__init__(A.shape[0], _null_space(component, sealed, null))
        self.A = A
        self._matrix = (A.indptr, A.indices, A.data)
        self._n: int = A.shape[0]
        self._memory: Vector = np.empty(0)  # of blocks of columns

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_memory": np.empty(0)}

    def renumbered(self, A: sp.csr_array, order: NDArray[np.int64]) -> CSROperator:
        """Return the operator of A, which is this one's matrix with its rows and columns in another order."""
        other = CSROperator(A)
        other.null_space = None if self.null_space is None else self.null_space.renumbered(order)
        return other

    @property
    def nullity(self) -> int:
        """Dimension of the null space that is known."""
        return 0 if self.null_space is None else self.null_space.nullity

    def columns(self, k: int) -> CSRColumns:
        """Return A on k right-hand sides at once: 1, 2, 4 or 8."""
        return CSRColumns(self, k)

    def memory(self, size: int) -> Vector:
        """Return an array of any content, the same memory at each call: fetching pages takes as long as two passes."""
        if self._memory.size < size:
            self._memory = np.empty(size)
        return self._memory[:size]

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""
        return csr.residual(*self._matrix, b, x, r, 0, self._n)

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        return csr.matvec(*self._matrix, p, q, 0, self._n)


class CSRColumns:
    """A on a block of k right-hand sides, shape (n, k): entry (i, j) of the block is entry i * k + j of a vector.

    A vector ends with zeros that make its length a multiple of eight. What there is one of for each column, such as an
    inner product, is an array of shape (k,), which belongs to the operator and lasts until its next call.

    Parameters
    ----------
    operator : CSROperator
        A and its null space.
    k : {1, 2, 4, 8}
        Number of right-hand sides.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.operators.csr import CSROperator
    >>> A = CSROperator(sp.csr_array([[2.0, -1.0], [-1.0, 2.0]])).columns(2)
    >>> p, q = A.embed(np.array([[1.0, 0.0], [2.0, 1.0]])), A.zeros()
    >>> A.product(p, q).tolist(), A.block(q).tolist()
    ([6.0, 2.0], [[0.0, -1.0], [3.0, 2.0]])
    """

    def __init__(self, operator: CSROperator, k: int) -> None:
        self._matrix = (operator.A.indptr, operator.A.indices, operator.A.data)
        self.null_space = operator.null_space and operator.null_space.columns(k)
        self._n, self._k = operator.A.shape[0], k
        self._operator, self._lanes, self._sums = operator, lanes(k), np.empty(k)

    def workspace(self, count: int) -> list[Vector]:
        """Return vectors that hold anything, to iterate on until the next call for any number of columns."""
        size = self.zeros().size
        vectors = list(self._operator.memory(count * size).reshape(count, size))
        for v in vectors:
            v[self._n * self._k :] = 0
        return vectors

    def zeros(self) -> Vector:
        """Return a new zero vector."""
        return np.zeros(-(-self._n * self._k // columns.LANES) * columns.LANES)

    def block(self, v: Vector) -> Vector:
        """Return a vector as the block that it is, shape (n, k), in the same memory."""
        return v[: self._n * self._k].reshape(self._n, self._k)

    def embed(self, V: Vector, scale: float | Vector = 1.0, out: Vector | None = None) -> Vector:
        """Return the columns of V, shape (n, m), m <= k, each times scale, a float or of shape (m,), as a vector."""
        v = self.zeros() if out is None else out
        block = self.block(v)
        np.multiply(V, scale, out=block[:, : V.shape[1]])
        block[:, V.shape[1] :] = 0
        return v

    def project(self, v: Vector) -> bool:
        """Remove the null space from v, in place; return whether one is known."""
        if self.null_space is None:
            return False
        self.null_space.remove(v[: self._n * self._k])
        return True

    def product(self, p: Vector, q: Vector) -> Vector:
        """Set q <- A p and return p.q."""
        columns.matvec(*self._matrix, self._lanes, p, q, self._sums)
        return self._sums

    def residual(self, b: Vector, x: Vector, r: Vector) -> Vector:
        """Set r <- b - A x and return r.r."""
        columns.residual(*self._matrix, self._lanes, b, x, r, self._sums)
        return self._sums

    def dot(self, u: Vector, v: Vector) -> Vector:
        """Return u.v."""
        uv = np.empty(self._k)
        columns.dot(lanes(columns.LANES), np.empty(columns.LANES), u, v, uv)
        return uv


def _null_space(
    component: NDArray[np.integer[Any]] | None,
    sealed: NDArray[np.bool_] | None,
    null: NDArray[np.floating[Any]] | None,
) -> NullSpace | None:
    """Return the null space that the arguments of `CSROperator` describe."""
    if null is not None and not null.shape[1]:
        null = None
    if sealed is None or not sealed.any():
        return None if null is None else Span(null)
    if component is None:
        raise ValueError("sealed components are given without component, which says what rows they consist of")
    if null is not None:
        raise ValueError("give constants on sealed components or another null space, not both")
    sizes = np.bincount(component, minlength=sealed.size)
    return Constants(component, np.where(sealed, 1.0 / np.maximum(sizes, 1), 0.0))
