"""Conjugate gradients with SciPy's signature and an honest ``info``: the loop of DeepCD without its network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from deepcd.solvers.arguments import as_vector, count, magnitude, norm, refuse_type, tolerance
from deepcd.solvers.conjugate_directions import Operator, Preconditioner, conjugate_directions
from deepcd.solvers.operators.linear_map import LinearMap, scaling_exponent
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.solution import Solution, Status

_ROUND_ENDS = (Status.CONVERGED, Status.ATTAINABLE_ACCURACY, Status.MAXITER)
# Or A is not symmetric, or b not in its range.
_PUZZLING = (Status.ATTAINABLE_ACCURACY, Status.BREAKDOWN, Status.INDEFINITE_MATRIX, Status.MAXITER)


class _Given:
    """The M that a caller gave, as a preconditioner."""

    name = "M"
    symmetric = True
    linear = False
    work = 2.0

    def __init__(self, M: LinearMap) -> None:
        self._M = M

    def zeros(self) -> NDArray[np.floating[Any]]:
        return self._M.zeros()

    def apply(self, r: NDArray[Any], z: NDArray[Any]) -> float:
        self._M.multiply(r, z)
        return self._M.dot(r, z)


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
        Right-hand side.
    x0 : array_like, shape (n,), or "Mb", optional
        Where to start; default zero. "Mb" is M b. Not changed.
    rtol, atol : float, default 1e-5 and 0.0
        Converged when ``norm(b - A @ x) <= max(rtol * norm(b), atol)``. Both zero: as far as rounding allows.
    maxiter : int, optional
        At most so many iterations; default 10 n.
    M : sparse array, sparse matrix, array_like or LinearOperator, shape (n, n), optional
        Approximate inverse of A, symmetric or Hermitian positive definite. Real where A and b are. One of single
        precision is handed single-precision vectors.
    callback : callable, optional
        Called as ``callback(x)`` after each iteration; returning True stops.

    Returns
    -------
    Solution
        The pair ``x, info``, with attributes. x is complex if A or b is, and of single precision (float32, complex64)
        if both are. Computed is in double precision; long double input is rounded to it.

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
    start = time.perf_counter()
    A, own = _in_double("A", A)
    n: int = A.shape[0]
    right = as_vector("b", b, n, real=False)
    dtype = _common(own, right.dtype)
    double = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    right = right.astype(double, copy=False)
    rtol, atol = _tolerance("rtol", rtol), _tolerance("atol", atol)
    maxiter = max(10 * n, 1) if maxiter is None else count("maxiter", maxiter)
    mapped = LinearMap(aslinearoperator(A), double)
    preconditioner: Preconditioner = Identity(mapped.zeros().size)
    if M is not None:
        M, kind = _in_double("M", M)
        if M.shape != A.shape:
            raise ValueError(f"M must have the shape of A, {A.shape}, got {M.shape}")
        if kind.kind == "c" and double.kind == "f":
            raise TypeError(f"M must be real where A and b are, got {kind}")
        M = LinearMap(aslinearoperator(M), double, narrow=True)
        preconditioner = _Given(M)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    if not isinstance(x0, str):
        x = np.zeros(n, double) if x0 is None else as_vector("x0", x0, n, real=double.kind == "f").astype(double)
    elif x0 == "Mb":
        x = right.copy() if M is None else M.product(right)
    else:
        raise ValueError(f'x0 must be a vector or "Mb", got {x0!r}')

    residuals = [0.0]

    def solution(answer: NDArray[Any], status: Status) -> Solution:
        elapsed = time.perf_counter() - start
        work = preconditioner.work
        return Solution(answer.astype(dtype), status, residuals, preconditioner.name, work, solve_time=elapsed)

    def iterate(v: NDArray[np.floating[Any]]) -> NDArray[Any]:
        exponent = mapped.exponent if operator is mapped else scaled
        return origin + np.ldexp(v, unit - exponent).view(double)

    def told(v: NDArray[np.floating[Any]]) -> object:
        assert callback is not None
        return callback(iterate(v).astype(dtype))

    if not right.any():
        return solution(np.zeros(n, double), Status.CONVERGED)
    size = norm(right.view(np.float64))
    target = max(rtol * size, atol)
    operator: Operator = mapped
    scaled = 0
    if sp.issparse(A) and double.kind == "f":
        operator, scaled = _compiled(A)
    first, unit, origin, before = x, 0, x, math.inf
    # Null vectors that span what no x reaches of b, once it has turned out that there is such a thing.
    null: NDArray[np.floating[Any]] = np.empty((mapped.zeros().size, 0))
    status = Status.CONVERGED  # of the last round
    while True:
        answer = x.astype(dtype).astype(double)
        if not np.isfinite(answer).all():
            residuals[-1] = before
            return solution(origin, Status.NOT_FINITE)
        r = (right - mapped.product(answer) if x.any() else right).view(np.float64)
        residuals[-1] = true = norm(r)
        if not math.isfinite(true + size):
            return solution(answer, Status.NOT_FINITE)
        if true <= target and status in _ROUND_ENDS:
            return solution(answer, Status.CONVERGED)
        # Another round pays where the start was so far off that the rounding of its residual is what is left.
        end = status if status not in _ROUND_ENDS else Status.MAXITER if len(residuals) > maxiter else None
        if end is None and before < math.inf and (dtype != double or before <= size or true > 0.5 * before):
            end = Status.ATTAINABLE_ACCURACY
        if end is Status.ATTAINABLE_ACCURACY and null.size:
            return solution(answer, Status.INCONSISTENT)
        if end in _PUZZLING and _is_nonsymmetric(mapped, own):
            return solution(answer, Status.NONSYMMETRIC)
        # So is an end without convergence after n iterations, which are enough but for rounding. After fewer ones the
        # most likely null vector is looked at only, the constant: to search for others takes as long as the solve did.
        puzzling = end in _PUZZLING and status is not Status.CONVERGED
        if puzzling and not null.size:
            quick = end is Status.MAXITER and len(residuals) <= n
            null = _null_space(operator, right - mapped.product(first), preconditioner, target, len(residuals), quick)
            if null.size:
                x, before, status = first, math.inf, Status.CONVERGED
                residuals[1:] = []
                continue
        if end is not None:
            return solution(answer, end)
        unit, origin, before = math.frexp(magnitude(r))[1], x, true
        reachable = np.ldexp(r, -unit)
        part = null @ (null.T @ reachable)
        reachable -= part
        record = conjugate_directions(
            operator,
            reachable,
            preconditioner,
            math.ldexp(target, -unit),
            maxiter=maxiter - len(residuals) + 1,
            callback=None if callback is None else told,
        )
        residuals += np.ldexp(np.hypot(record.residuals[1:], norm(part)), unit).tolist()
        x, status = iterate(record.x), record.status


def _is_nonsymmetric(A: LinearMap, dtype: np.dtype[Any]) -> bool:
    """Return whether two products show that A, whose entries are of this dtype, is not symmetric or not Hermitian."""
    from deepcd.solvers.diagnosis import is_asymmetric

    u, v = np.random.default_rng(0).standard_normal((2, A.zeros().size))
    eps = float(np.finfo(dtype if dtype.kind in "fc" else np.float64).eps)
    return is_asymmetric(u, A.image(u), v, A.image(v), eps)


def _null_space(
    A: Operator, r: NDArray[Any], M: Preconditioner, target: float, maxiter: int, quick: bool
) -> NDArray[np.floating[Any]]:
    """Return null vectors of A, of its kind, that span what no x reaches of r; if `quick`, the constant at most."""
    from deepcd.solvers.diagnosis import is_beyond_reach, null_space

    vector = r.view(np.float64)
    unit = math.frexp(magnitude(vector))[1]
    vector, target = np.ldexp(vector, -unit), math.ldexp(target, -unit)
    if not quick:
        return null_space(A, vector, M, target, maxiter)
    constant = np.full(vector.size, vector.size**-0.5)
    beyond = is_beyond_reach(A, constant, abs(float(constant @ vector)), target)
    return constant[:, None] if beyond else np.empty((vector.size, 0))


def _in_double(name: str, A: Any) -> tuple[Any, np.dtype[Any]]:
    """Return a square matrix as csr_array or ndarray in double precision, or an operator as it is, and its dtype."""
    if not sp.issparse(A) and hasattr(A, "matvec"):
        A = aslinearoperator(A)
    elif not sp.issparse(A):
        A = np.asarray(A)
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


def _compiled(A: sp.csr_array) -> tuple[Operator, int]:
    """Return A / 2^exponent as an operator with compiled products, and the exponent."""
    exponent = scaling_exponent(magnitude(A.data))
    if exponent:
        A = sp.csr_array((np.ldexp(A.data, -exponent), A.indices, A.indptr), shape=A.shape)
    from deepcd.solvers.operators.csr import CSROperator

    return CSROperator(A), exponent
