"""Conjugate gradients with SciPy's signature and an honest ``info``: the loop of DeepCD without its network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from deepcd.solvers.arguments import as_vector, count, magnitude, norm, refuse_type, tolerance
from deepcd.solvers.backends.arrays import as_given, host_array
from deepcd.solvers.diagnosis import as_singular, is_asymmetric
from deepcd.solvers.options import check_callback
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.refinement import refine
from deepcd.solvers.solution import Solution, Status
from deepcd.solvers.space import Preconditioner

if TYPE_CHECKING:
    from deepcd.solvers.operators.csr import CSROperator


@np.errstate(over="ignore", invalid="ignore")  # the status says it
def cg(
    A: Any,
    b: ArrayLike,
    x0: ArrayLike | str | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[NDArray[Any]], object] | None = None,
) -> Solution:
    """Solve A x = b by (preconditioned) conjugate gradients, as `scipy.sparse.linalg.cg` does.

    Unlike there, ``info == 0`` says that the residual recomputed from A, b and the returned x meets the tolerance; zero
    b gives a fresh x; magnitudes like 1e-200 or 1e+200 in A, b or M do no harm; failures have a name.

    Parameters
    ----------
    A : sparse array, sparse matrix, array_like or LinearOperator, shape (n, n)
        Symmetric or, if complex, Hermitian positive definite. This is not checked beforehand.
    b : array_like, shape (n,) or (n, 1)
        Right-hand side. A tensor of torch on the CPU, too, for which x is a tensor; so may A and M be, dense or sparse.
    x0 : array_like, shape (n,), or "Mb", optional
        Where to start; default zero. "Mb" is M b. Not changed.
    rtol, atol : float, default 1e-5 and 0.0
        Converged when ``norm(b - A @ x) <= max(rtol * norm(b), atol)``. Both zero: as far as rounding allows.
    maxiter : int, optional
        Largest number of iterations; default 10 n.
    M : sparse array, sparse matrix, array_like or LinearOperator, shape (n, n), optional
        Approximate inverse of A, symmetric or Hermitian positive definite. Real where A and b are. One of single
        precision is handed single-precision vectors.
    callback : callable, optional
        Called as ``callback(x)`` after each iteration; returning True stops.

    Returns
    -------
    Solution
        The pair ``x, info``, with attributes. x is complex if A or b is, and of single precision (float32, complex64)
        if both are. The computation is in double precision; long double input is rounded to it.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> import deepcd
    >>> x, info = deepcd.cg(np.array([[4.0, 1.0], [1.0, 3.0]]), [1.0, 2.0], rtol=1e-12)
    >>> info, x.round(4).tolist()
    (0, [0.0909, 0.6364])
    >>> x, info = deepcd.cg(np.array([[2.0, 1j], [-1j, 2.0]]), [3.0, 0.0], rtol=1e-12)
    >>> info, x.round(4).tolist()
    (0, [(2+0j), 1j])
    """
    start, call = time.perf_counter(), _Call(A, b, M)
    outcome = call.solve(call.start(x0), call.limits(rtol, atol, maxiter, callback))
    M = call.parts.M
    elapsed = time.perf_counter() - start
    x, history = as_given(outcome.x.view(call.dtype), b), outcome.residuals
    return Solution(x, outcome.status, history, M.name, M.work, solve_time=elapsed, detail=outcome.detail)


class _Call:
    """The arguments of a call of `cg`, converted: its vectors are views in float64, twice as long where complex."""

    def __init__(self, A: Any, b: ArrayLike, M: Any) -> None:
        A, self._own = _in_double("A", A)
        self._given = b
        right = as_vector("b", b, A.shape[0], real=False)
        self.dtype, self._eps = _common(self._own, right.dtype), float(np.finfo(right.dtype).eps)
        self._double = np.dtype(np.complex128 if self.dtype.kind == "c" else np.float64)
        right = right.astype(self._double, copy=False)
        self._b = right.view(np.float64)
        # Not before there is something to compute: this loads the compiler.
        from deepcd.solvers.operators.linear_map import LinearMap

        self._A, self._M = LinearMap(aslinearoperator(A), self._double), None
        own: Preconditioner = Identity(self._b.size)
        if M is not None:
            M, kind = _in_double("M", M)
            if M.shape != A.shape:
                raise ValueError(f"M must have the shape of A, {A.shape}, got {M.shape}")
            if kind.kind == "c" and self._double.kind == "f":
                raise TypeError(f"M must be real where A and b are, got {kind}")
            from deepcd.solvers.preconditioners.given import Given

            self._M = LinearMap(aslinearoperator(M), self._double, narrow=True)
            own = Given(self._M)
        operator: Any = self._A
        scale, empty = 1.0, np.empty(0, dtype=np.int64)
        if sp.issparse(A) and self._double.kind == "f":
            operator, scale = _compiled(A)
            empty = _empty_rows(A)
        self.parts = Parts(
            self._A, slice(None), empty, np.zeros(empty.size), operator, scale, own, singular=False, exact=False
        )

    def limits(self, rtol: Any, atol: Any, maxiter: Any, callback: Any) -> Limits:
        """Return when to stop, after a look at the options."""
        rtol, atol = _tolerance("rtol", rtol), _tolerance("atol", atol)
        maxiter = max(10 * self._A.shape[0], 1) if maxiter is None else count("maxiter", maxiter)
        check_callback(callback)
        told = None if callback is None else lambda x: callback(as_given(x.view(self.dtype), self._given))
        target = max(rtol * norm(self._b), atol) if self._b.any() else 0.0
        return Limits(target, maxiter, math.inf, told, eps=self._eps)

    def start(self, x0: ArrayLike | str | None) -> NDArray[np.float64] | None:
        """Return where to start; None for zero."""
        if x0 is None:
            return None
        if not isinstance(x0, str):
            x = as_vector("x0", x0, self._A.shape[0], real=self._double.kind == "f").astype(self._double)
        elif x0 == "Mb":
            x = self._b.copy() if self._M is None else self._M @ self._b
        else:
            raise ValueError(f'x0 must be a vector or "Mb", got {x0!r}')
        return x.view(np.float64) if x.any() else None

    def solve(self, x0: NDArray[np.float64] | None, limits: Limits) -> Outcome:
        """Solve; if that fails, look for the reason: A is not symmetric, or b not in its range."""
        dtype = np.float32 if self.dtype in (np.float32, np.complex64) else np.float64
        if not self._b.any():
            return Outcome(np.zeros(self._b.size, dtype), Status.CONVERGED, [0.0])
        outcome = refine(self.parts, self._b, x0, limits, 1, dtype)
        if not outcome.is_puzzling:
            return outcome
        if self._is_nonsymmetric():
            return replace(outcome, status=Status.NONSYMMETRIC)
        spent = len(outcome.residuals) - 1
        # n iterations are enough but for rounding. After fewer ones the likeliest null vector is tried only, the
        # constant: to search for others takes as long as the solve did.
        search = outcome.status is not Status.MAXITER or spent >= self._A.shape[0]
        singular = as_singular(self.parts, self._b, x0, limits.target, spent, search=search)
        return outcome if singular is None else refine(singular, self._b, x0, limits, 1, dtype)

    def _is_nonsymmetric(self) -> bool:
        """Return whether two products show that A is not symmetric, or not Hermitian."""
        u, v = np.random.default_rng(0).standard_normal((2, self._b.size))
        eps = float(np.finfo(self._own if self._own.kind in "fc" else np.float64).eps)
        return is_asymmetric(u, self._A.image(u), v, self._A.image(v), eps)


def _in_double(name: str, A: Any) -> tuple[Any, np.dtype[Any]]:
    """Return a square matrix as csr_array or ndarray in double precision, or an operator as it is, and its dtype."""
    if not sp.issparse(A) and hasattr(A, "matvec"):
        A = aslinearoperator(A)
    else:
        A = host_array(name, A, "a matrix of numbers", sparse=True)
    refuse_type(name, np.dtype(A.dtype), real=False)
    if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} must be square, got shape {A.shape}")
    own = np.dtype(A.dtype)
    if isinstance(A, LinearOperator):
        return A, own
    A = A.astype(np.complex128 if own.kind == "c" else np.float64, copy=False)
    if sp.issparse(A):
        A = sp.csr_array(A)
    if not np.isfinite(A.data if sp.issparse(A) else A).all():
        entries = sp.coo_array(A)
        k = int(np.argmin(np.isfinite(entries.data)))
        raise ValueError(f"{name} must be finite, got {entries.data[k]} at {name}[{entries.row[k]}, {entries.col[k]}]")
    return A, own


def _common(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of x as SciPy does: single precision only if that is all there is, complex if anything is."""
    single = all(dtype in (np.float32, np.complex64) for dtype in dtypes)
    if any(dtype.kind == "c" for dtype in dtypes):
        return np.dtype(np.complex64 if single else np.complex128)
    return np.dtype(np.float32 if single else np.float64)


def _tolerance(name: str, value: Any) -> float:
    """Return a tolerance that may be zero or, as in SciPy, infinite."""
    return math.inf if value == math.inf else tolerance(name, value, zero=True)


def _empty_rows(A: sp.csr_array) -> NDArray[np.int64]:
    """Return the rows without entries, of which nothing but zero is asked for."""
    rows = np.flatnonzero(A.diagonal() == 0)
    return rows[abs(A[rows]).sum(axis=1) == 0] if rows.size else rows


def _compiled(A: sp.csr_array) -> tuple[CSROperator, float]:
    """Return A / scale, of ordinary magnitude, as an operator with compiled products, and the scale."""
    from deepcd.solvers.operators.csr import CSROperator
    from deepcd.solvers.operators.linear_map import scaling_exponent

    exponent = scaling_exponent(magnitude(A.data))
    if exponent:
        A = sp.csr_array((np.ldexp(A.data, -exponent), A.indices, A.indptr), shape=A.shape)
    return CSROperator(A), math.ldexp(1.0, exponent)
