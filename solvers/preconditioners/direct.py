"""The exact inverse of a matrix by sparse factors, its inertia, and its null space if it has one.

Without pivoting off the diagonal, P A P' = L D L', and the signs of D are those of the eigenvalues (Sylvester's law of
inertia). Everything happens on the diagonally scaled matrix, whose condition number no other diagonal scaling improves
by more than a factor n (van der Sluis, Numerische Mathematik 14, 1969).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import qr

from deepcd.solvers.preconditioners.factors.factorisations import Factors, factorise
from deepcd.solvers.preconditioners.factors.memory import available, refuse_what_does_not_fit
from deepcd.solvers.preconditioners.factors.plan import Plan
from deepcd.solvers.preconditioners.factors.plan import plan as plan_of
from deepcd.solvers.survey import with_symmetric_pattern

Vector = NDArray[np.floating[Any]]

_EPS = float(np.finfo(np.float64).eps)
_SMALL = 1e-2  # pivot of the scaled matrix from which its smallest eigenvalue may be at the level of rounding
_ROUNDING = 8  # roundoffs by which those of the entries may move an eigenvalue of the scaled matrix
_FEW = 100_000  # unknowns up to which factors are planned without asking how much memory there is
_MOST = 64  # largest number of null vectors to look for


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
    plan : Plan, optional
        How to factor it, see `factors.plan.plan`; default: that is found out.

    Attributes
    ----------
    null : ndarray of float64, shape (n, m)
        Orthonormal basis of the null space of A.

    Raises
    ------
    NotPositiveDefiniteError
        If A has a negative eigenvalue that rounding of its entries does not explain.
    FactorsTooLargeError
        If the factors do not fit into memory: a MemoryError.

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
    fewest_columns = 4  # for which a block pays, since there are so few iterations

    def __init__(self, A: sp.csr_array, eps: float = _EPS, plan: Plan | None = None) -> None:
        A = with_symmetric_pattern(A)
        self._n, self._A = A.shape[0], A
        self.plan = plan_of(A, available() / 8 if self._n > _FEW else None) if plan is None else plan
        refuse_what_does_not_fit(self.plan)
        self._scaling = 1 / np.sqrt(A.diagonal())
        self.null = np.zeros((self._n, 0))
        eps = max(eps, _EPS)
        # The constant bounds the smallest eigenvalue from above: where it is in the null space, this is known at once.
        regular, lowest = None, float(A.data.sum() / max(A.diagonal().sum(), 1e-300))
        if lowest > _ROUNDING * eps:
            regular = factorise(self.plan, A, self._scaling)
            lowest = _lowest(regular, self._n)
        # Rounding in the factors of rows of k entries is some sqrt(k) roundoffs, and the shift well above.
        shift = 64 * math.sqrt(self.plan.entries / max(self._n, 1)) * eps
        if regular is None or lowest <= shift / 4:
            self._factors: Factors = factorise(self.plan, A, self._scaling, shift)
            if self._factors.pivots is None:
                raise NotPositiveDefiniteError("Factoring the diagonally scaled A met a negative pivot.")
            self.null = self._null_space(shift)
        if regular is not None and not self.null.size and lowest > _ROUNDING * eps:
            self._factors = regular

    def _null_space(self, shift: float) -> NDArray[np.float64]:
        """Return the null space of A, found by inverse subspace iteration on ever more vectors.

        There are no more null vectors than pivots near the shift. Where these are very many, as in a matrix of many
        blocks, none is returned: a basis would take n numbers for each, and A remains shifted.
        """
        none = np.zeros((self._n, 0))
        assert self._factors.pivots is not None
        if np.count_nonzero(self._factors.pivots <= 1e4 * shift) > _MOST:
            return none
        rng, count = np.random.default_rng(0), 2
        while True:
            basis = rng.standard_normal((self._n, min(count, self._n)))
            for _ in range(3):
                basis = _orthonormal(self._factors.solve(basis))
            basis = basis @ np.linalg.eigh(basis.T @ self._image(basis))[1]
            zero = (basis * self._image(basis)).sum(axis=0) <= _ROUNDING * _EPS  # sharper than what eigh calls values
            if not zero.all() or count >= self._n:
                return _orthonormal(basis[:, zero] * self._scaling[:, None])
            if count >= _MOST:
                return none
            count = min(4 * count, _MOST)

    def _image(self, block: Vector) -> Vector:
        """Return the scaled A times a block of vectors."""
        return self._scaling[:, None] * (self._A @ (self._scaling[:, None] * block))

    def fits(self, A: sp.csr_array) -> bool:
        """Return whether A has entries where the matrix of this preconditioner has, so that the plan is good for it."""
        return np.array_equal(self._A.indptr, A.indptr) and np.array_equal(self._A.indices, A.indices)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._n)

    def columns(self, k: int) -> DirectColumns:
        """Return the same M on k right-hand sides."""
        return DirectColumns(self, k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""
        z[:] = self.answer(r[:, None])[:, 0]
        return float(r @ z)

    def answer(self, block: Vector) -> Vector:
        """Return M times a block of vectors, shape (n, k)."""
        scaling = self._scaling[:, None]
        return self._in_range(scaling * self._factors.solve(scaling * self._in_range(block)))

    def _in_range(self, block: Vector) -> Vector:
        """Return a block without its part in the null space, which the shift would magnify."""
        return block - self.null @ (self.null.T @ block) if self.null.size else block

    def __str__(self) -> str:
        """Return what it is."""
        return f"direct: {self.plan.kind} factors, {self._factors.nnz} entries, of {self._n} unknowns"


class DirectColumns:
    """M on a block of right-hand sides, for which the factors are read once."""

    def __init__(self, M: Direct, k: int) -> None:
        self._M, self._k = M, k

    def apply(self, r: Vector, z: Vector) -> NDArray[np.float64]:
        """Set z to M r, vectors of k interleaved columns, and return r.z of each column."""
        n, k = self._M.zeros().size, self._k
        R, Z = (v[: n * k].reshape(n, k) for v in (r, z))
        Z[:] = self._M.answer(R)
        return np.einsum("ij,ij->j", R, Z)


def _orthonormal(B: Vector) -> NDArray[np.float64]:
    """Return an orthonormal basis of the range of B, shape (n, k); NumPy takes six times as long where n is large."""
    return qr(B, mode="economic", overwrite_a=True, check_finite=False)[0]


def _lowest(factors: Factors, n: int) -> float:
    """Return an estimate of the smallest eigenvalue of the factored matrix; minus infinity if it is not positive.

    The smallest pivot bounds it from above. In a singular matrix that pivot is rounding, over the square of the
    component of the unit null vector in its row: it is small, but how small depends on where the row lies. Inverse
    iteration tells; it is spared where no pivot is small.
    """
    if factors.pivots is None:
        return -math.inf
    lowest = float(factors.pivots.min())
    if lowest <= _SMALL:
        v = np.random.default_rng(0).standard_normal((n, 1))
        for _ in range(2):
            v /= np.linalg.norm(v)
            v = factors.solve(v)
        lowest = min(lowest, 1 / float(np.linalg.norm(v)))
    return lowest
