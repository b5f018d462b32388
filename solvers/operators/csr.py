"""A general sparse matrix as an operator on plain vectors, and its null space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from deepcd.solvers.conjugate_directions import Preconditioner, Workspace
from deepcd.solvers.kernels import csr

Vector = NDArray[np.floating[Any]]


class CSROperator:
    """A on vectors of shape (n,), float64; nothing of that size is allocated but by `zeros`, `embed` and `extract`.

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

    roundoff = float(np.finfo(np.float64).eps)

    def __init__(
        self,
        A: sp.csr_array,
        component: NDArray[np.integer[Any]] | None = None,
        sealed: NDArray[np.bool_] | None = None,
        null: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self.A = A
        self._matrix = (A.indptr, A.indices, A.data)
        self._n: int = A.shape[0]
        self._work: tuple[Preconditioner, Workspace] | None = None
        self._q: Vector = np.empty(0)  # A p
        self._component: NDArray[np.integer[Any]] | None = None
        self._null: NDArray[np.floating[Any]] | None = None
        if sealed is not None and sealed.any():
            if component is None:
                raise ValueError("sealed components are given without component, which says what rows they consist of")
            if null is not None and null.shape[1]:
                raise ValueError("give constants on sealed components or another null space, not both")
            sizes = np.bincount(component, minlength=sealed.size)
            self._component, self._weights = component, np.where(sealed, 1.0 / np.maximum(sizes, 1), 0.0)
            self._sums = np.empty((sealed.size, 1))
        elif null is not None and null.shape[1]:
            self._null, self._scratch = null, np.empty((self._n, 1))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_work": None}

    @property
    def null(self) -> NDArray[np.floating[Any]] | None:
        """The null space that was given in the place of constants, (n, m)."""
        return self._null

    def constants(self) -> list[NDArray[np.intp]]:
        """Return the rows of each component that has the constant in the null space of A."""
        if self._component is None:
            return []
        return [np.flatnonzero(self._component == c) for c in np.flatnonzero(self._weights)]

    def columns(self, k: int) -> CSRColumns:
        """Return A on k right-hand sides at once, which interleave in its vectors."""
        return CSRColumns(self, k)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._n)

    def embed(self, v: Vector, scale: float = 1.0, out: Vector | None = None) -> Vector:
        """Return scale * v as a float64 vector, a new one or `out`."""
        return np.multiply(v, scale, dtype=np.float64, out=out)

    def spread(self, v: Vector, factor: float | Vector, x: Vector) -> None:
        """Add factor * v to x, in place."""
        x += np.multiply(v, factor)

    def extract(self, v: Vector) -> Vector:
        """Return a copy of v: the vectors of this operator are those of A."""
        return v.copy()

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""
        return csr.residual(*self._matrix, b, x, r, 0, self._n)

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return vectors to iterate on, until the next call."""
        if self._work is None or self._work[0] is not M:
            b, x, p, r = (self.zeros() for _ in range(4))
            self._work = M, Workspace(b, x, p, r, M.zeros())
            self._q = self.zeros()
        return self._work[1]

    def conjugate(self, z: Vector, beta: float, p: Vector) -> float:
        """Set p <- z + beta p and return p.A p; with beta = 0 whatever p was."""
        if beta == 0:
            p[:] = z
        else:
            csr.direction(z, beta, p, 0, p.size)
        return self.apply(p, self._q)

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the square of |r|."""
        if first:
            x[:] = 0
        return csr.update(alpha, p, self._q, x, r, 0, self._n)

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""
        return self.dot(self._q, z)

    def image(self, p: Vector) -> Vector:
        """Return A p, a new vector."""
        q = self.zeros()
        self.apply(p, q)
        return q

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        return csr.matvec(*self._matrix, p, q, 0, self._n)

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""
        return csr.dot(u, v, 0, u.size)

    def norm(self, r: Vector) -> float:
        """Return the Euclidean norm of r."""
        return math.sqrt(csr.dot(r, r, 0, r.size))

    def project(self, v: Vector) -> bool:
        """Remove the null space from v, in place: means on sealed components, or the span of `null`; False if none."""
        if self._component is not None:
            csr.remove_means(self._component, self._weights, self._sums, v)
        elif self._null is not None:
            block = v.reshape(self._scratch.shape)
            np.matmul(self._null, self._null.T @ block, out=self._scratch)
            block -= self._scratch
        return self._component is not None or self._null is not None


class CSRColumns(CSROperator):
    """I (x) A on k right-hand sides: entry (i, j) of the (n, k) block is entry i * k + j of a vector.

    Parameters
    ----------
    operator : CSROperator
        A and its null space.
    k : int
        At least 1.
    """

    def __init__(self, operator: CSROperator, k: int) -> None:
        self.__dict__.update(operator.__dict__)
        self._k, self._work = k, None
        self.squares = np.empty(k)
        if self._component is not None:
            self._sums = np.empty((self._weights.size, k))
        elif self._null is not None:
            self._scratch = np.empty((self._n, k))

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n k,)."""
        return np.zeros(self._n * self._k)

    def embed(self, v: Vector, scale: float | Vector = 1.0, out: Vector | None = None) -> Vector:
        """Return the columns of v, shape (n, k), each times scale, a float or of shape (k,), as a vector."""
        block = None if out is None else out.reshape(self._n, self._k)
        return np.multiply(v, scale, dtype=np.float64, order="C", out=block).reshape(-1)

    def spread(self, v: Vector, factor: float | Vector, x: Vector) -> None:
        """Add the columns of v, each times its factor, to x, shape (n, k), in place."""
        x += np.multiply(v.reshape(self._n, self._k), factor)

    def extract(self, v: Vector) -> Vector:
        """Return the columns of v, shape (n, k)."""
        return v.reshape(self._n, self._k).copy()

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
    sums, lengths = np.abs(A @ ones), np.diff(A.indptr)
    open_rows = sums > eps * lengths.max(initial=0) ** 2 * np.abs(A.data).max(initial=0.0)
    if not open_rows.all():  # the bound above is the largest of these
        open_rows = sums > eps * lengths * (abs(A) @ ones)
    if open_rows.all():
        return np.zeros(A.shape[0], dtype=np.int32), np.zeros(1, dtype=np.bool_)
    count, component = connected_components(A, directed=False)
    return component, np.bincount(component[open_rows], minlength=count) == 0
