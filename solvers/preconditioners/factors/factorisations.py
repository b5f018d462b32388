"""Factors of S A S + shift I in four ways under one contract, S diagonal: each has `pivots`, `nnz` and `solve`.

None of them pivots off the diagonal, so that the signs of the pivots are those of the eigenvalues (Sylvester's law of
inertia). A factorisation that meets a pivot which is not positive stops: `pivots` is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.preconditioners.factors.plan import Plan, pattern

Vector = NDArray[np.float64]


class Factors(Protocol):
    """Factors of a matrix."""

    pivots: Vector | None
    """The pivots, all positive; None if there is one that is not."""
    nnz: int
    """Number of entries that are kept."""

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n, k), a new array."""


def factorise(plan: Plan, A: sp.csr_array, scaling: Vector, shift: float = 0.0) -> Factors:
    """Factor S A S + shift I.

    Parameters
    ----------
    plan : Plan
        That of the pattern of A, complete.
    A : csr_array of float64, shape (n, n)
        Symmetric, with a positive diagonal.
    scaling : ndarray of float64, shape (n,)
        The diagonal of S.
    shift : float, default 0
        What is added to the diagonal.
    """
    return _KINDS[plan.kind](plan, A, scaling, shift)


class Tridiagonal:
    """L D L' of a tridiagonal matrix by LAPACK."""

    def __init__(self, plan: Plan, A: sp.csr_array, scaling: Vector, shift: float) -> None:
        from scipy.linalg.lapack import dpttrf

        below = A.diagonal(1) * scaling[1:] * scaling[:-1]
        D, self._below, info = dpttrf(A.diagonal() * scaling**2 + shift, below, overwrite_d=True, overwrite_e=True)
        self.pivots = D if info == 0 else None
        self.nnz = 2 * plan.n - 1

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n, k)."""
        if B.shape[1] == 1:
            from scipy.linalg.lapack import dpttrs

            return dpttrs(self.pivots, self._below, B)[0]
        from deepcd.solvers.kernels.bands import solve_tridiagonal

        return solve_tridiagonal(self.pivots, self._below, np.ascontiguousarray(B))


class Banded:
    """The Cholesky factor of a band matrix by LAPACK."""

    def __init__(self, plan: Plan, A: sp.csr_array, scaling: Vector, shift: float) -> None:
        from scipy.linalg.lapack import dpbtrf

        n, width = plan.n, plan.width
        row = np.repeat(np.arange(n), np.diff(A.indptr))
        lower = A.indices <= row
        row, column = row[lower], A.indices[lower]
        band = np.zeros((n, width + 1))
        band.reshape(-1)[column * width + row] = A.data[lower] * scaling[row] * scaling[column]
        band[:, 0] += shift
        self._factor, info = dpbtrf(band.T, lower=True, overwrite_ab=True)
        self.pivots = self._factor[0] ** 2 if info == 0 else None
        self.nnz = n * (width + 1)

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n, k)."""
        if B.shape[1] < 3:
            from scipy.linalg.lapack import dpbtrs

            return dpbtrs(self._factor, B, lower=True)[0]
        from deepcd.solvers.kernels.bands import solve_banded

        return solve_banded(self._factor.T, np.ascontiguousarray(B))


class Sparse:
    """L D L' of a sparse matrix, P A P' in the order of the plan."""

    def __init__(self, plan: Plan, A: sp.csr_array, scaling: Vector, shift: float) -> None:
        from deepcd.solvers.kernels import ldl

        n = plan.n
        assert plan.order is not None
        self._order = plan.order
        lower = _lower(A, scaling, shift, plan.order)
        parent, self._starts = np.empty(n, np.int32), np.empty(n + 1, np.int64)
        entries = ldl.analyse(*lower[:2], parent, self._starts)
        self._rows, self._L, D = np.empty(entries, np.int32), np.empty(entries), np.empty(n)
        least = ldl.factor(*lower, parent, self._starts, self._rows, self._L, D)
        self.pivots = D if least > 0 else None
        self.nnz = entries + n

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n, k)."""
        from deepcd.solvers.kernels import ldl

        return _solve(ldl, (self._starts, self._rows, self._L, self.pivots, self._order), B)


class Supernodal:
    """The Cholesky factor of a sparse matrix by dense blocks, P A P' in an order as good as the plan's."""

    def __init__(self, plan: Plan, A: sp.csr_array, scaling: Vector, shift: float) -> None:
        from deepcd.solvers.kernels import cholesky, ldl, supernodes

        n = plan.n
        assert plan.order is not None
        self._order = supernodes.postorder(*_lower(A, scaling, shift, plan.order)[:2], plan.order)
        lower = _lower(A, scaling, shift, self._order)
        parent, heights = np.empty(n, np.int32), np.empty(n + 1, np.int64)
        ldl.analyse(*lower[:2], parent, heights)
        begins = supernodes.supernodes(parent, np.diff(heights), _WIDEST)
        owner, starts, rows = supernodes.structure(*lower[:2], begins, parent)
        places = cholesky.blocks(begins, starts)
        L, self.pivots = np.empty(places[-1]), None
        self._blocks, self.nnz = (begins, starts, rows, places, L), L.size
        if cholesky.factor(*lower, begins, owner, starts, rows, places, L) > 0:
            self.pivots = np.empty(n)
            cholesky.pivots(begins, starts, places, L, self.pivots)

    def solve(self, B: Vector) -> Vector:
        """Return the solution for right-hand sides (n, k)."""
        from deepcd.solvers.kernels import cholesky

        return _solve(cholesky, (*self._blocks, self._order), B)


def _lower(A: sp.csr_array, scaling: Vector, shift: float, order: NDArray[np.int32]) -> tuple[NDArray[Any], ...]:
    """Return the lower triangle of P (S A S + shift I) P' by rows: pointers, columns, values."""
    from deepcd.solvers.kernels import ldl

    lower = np.empty(len(order) + 1, np.int32), np.empty(A.nnz, np.int32), np.empty(A.nnz)
    ldl.permute(*pattern(A), np.require(A.data, np.float64, ["C", "W"]), scaling, shift, order, *lower)
    return lower


def _solve(kernels: Any, factors: tuple[Any, ...], B: Vector) -> Vector:
    """Return the solution for right-hand sides (n, k) by compiled factors, up to eight columns at a time."""
    from deepcd.solvers.kernels.rows import lanes

    (n, k), X, j = B.shape, np.empty(B.shape), 0
    while j < k:
        width = next(width for width in (8, 4, 2, 1) if width <= k - j)
        part = np.ascontiguousarray(B[:, j : j + width]).reshape(-1)
        found = kernels.solve(*factors, part) if width == 1 else kernels.solve_columns(lanes(width), *factors, part)
        X[:, j : j + width] = found.reshape(n, width)
        j += width
    return X


_WIDEST = 48  # columns of a supernode: its block of columns stays in a cache
_KINDS: dict[str, Callable[..., Factors]] = {
    "tridiagonal": Tridiagonal,
    "banded": Banded,
    "sparse": Sparse,
    "supernodal": Supernodal,
}
