"""A general sparse matrix as an operator on plain vectors, and its null space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import csr
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

    @property
    def nullity(self) -> int:
        """Dimension of the null space that is known."""
        return 0 if self.null_space is None else self.null_space.nullity

    def columns(self, k: int) -> CSRColumns:
        """Return A on k right-hand sides at once, which interleave in its vectors."""
        return CSRColumns(self, k)

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""
        return csr.residual(*self._matrix, b, x, r, 0, self._n)

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        return csr.matvec(*self._matrix, p, q, 0, self._n)


class CSRColumns(CSROperator):
    """I (x) A on k right-hand sides: entry (i, j) of the (n, k) block is entry i * k + j of a vector.

    Parameters
    ----------
    operator : CSROperator
        A and its null space.
    k : int
        Number of right-hand sides, at least 1.

    Attributes
    ----------
    squares : ndarray of float64, shape (k,)
        Squares of the norms of the columns of the last r that `step`, `residual` or `norm` saw.
    """

    def __init__(self, operator: CSROperator, k: int) -> None:
        super().__init__(operator.A)
        self.null_space = operator.null_space and operator.null_space.columns(k)
        self._k, self._size, self.squares = k, self._n * k, np.empty(k)

    def embed(self, v: Vector, scale: float | Vector = 1.0, out: Vector | None = None) -> Vector:
        """Return the columns of v, shape (n, k), each times scale, a float or of shape (k,), as a vector."""
        block = None if out is None else out.reshape(self._n, self._k)
        return np.multiply(v, scale, dtype=np.float64, order="C", out=block).reshape(-1)

    def spread(self, v: Vector, factor: float | Vector, x: Vector) -> None:
        """Add the columns of v, each times its factor, to x, shape (n, k), in place."""
        x += np.multiply(v.reshape(self._n, self._k), factor)

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return the largest r.r of a column."""
        self.squares[:] = 0
        csr.residual_columns(*self._matrix, self._k, b, x, r, self.squares, 0, self._n)
        return float(self.squares.max())

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q, over all columns."""
        return csr.matvec_columns(*self._matrix, self._k, p, q, 0, self._n)

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the largest r.r."""
        if first:
            x[:] = 0
        self.squares[:] = 0
        csr.update_columns(alpha, p, self._q, x, r, self.squares, 0, self._n)
        return float(self.squares.max())

    def norm(self, r: Vector) -> float:
        """Return the largest Euclidean norm of a column of r."""
        self.squares[:] = 0
        csr.square_columns(r, self.squares, 0, self._n)
        return math.sqrt(self.squares.max())


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
