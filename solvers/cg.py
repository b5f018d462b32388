"""Conjugate gradients with SciPy's signature and an honest ``info``: the loop of DeepCD without its network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from deepcd.solvers.arguments import as_vector, count, magnitude, norm, power_of_two, refuse_type, tolerance
from deepcd.solvers.conjugate_directions import Preconditioner, conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.solution import Solution, Status


class _Given:
    """The M that a caller gave, as a preconditioner."""

    name = "M"
    symmetric = True
    work = 2.0

    def __init__(self, M: LinearOperator) -> None:
        self._M = M

    def zeros(self) -> NDArray[np.float64]:
        return np.zeros(self._M.shape[0])

    def apply(self, r: NDArray[Any], q: NDArray[Any], z: NDArray[Any]) -> tuple[float, float]:
        z[...] = self._M.matvec(r)
        return float(r @ z), float(q @ z)


def cg(
    A: Any,
    b: ArrayLike,
    x0: ArrayLike | str | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[NDArray[np.floating[Any]]], object] | None = None,
) -> Solution:
    """Solve A x = b by (preconditioned) conjugate gradients, as `scipy.sparse.linalg.cg` does.

    Unlike there, ``info == 0`` says that the residual recomputed from A, b and the returned x meets the tolerance; zero
    b gives a fresh x; magnitudes like 1e-200 in b do no harm; failures have a name.

    Parameters
    ----------
    A : sparse array, sparse matrix, ndarray or LinearOperator, shape (n, n)
        Real symmetric positive definite.
    b : array_like, shape (n,) or (n, 1)
        Right-hand side.
    x0 : array_like, shape (n,), or "Mb", optional
        Where to start; default zero. "Mb" is M b. Not changed.
    rtol, atol : float, default 1e-5 and 0.0
        Converged when ``norm(b - A @ x) <= max(rtol * norm(b), atol)``. Both zero: as far as rounding allows.
    maxiter : int, optional
        At most so many iterations; default 10 n.
    M : sparse array, sparse matrix, ndarray or LinearOperator, shape (n, n), optional
        Approximate inverse of A, symmetric positive definite.
    callback : callable, optional
        Called as ``callback(x)`` after each iteration; returning True stops.

    Returns
    -------
    Solution
        The pair ``x, info``, with attributes.

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
    """
    start = time.perf_counter()
    A = _operator("A", A)
    n = A.shape[0]
    b = as_vector("b", b, n)
    dtype = np.float32 if b.dtype == A.dtype == np.float32 else np.float64
    b = b.astype(np.float64, copy=False)
    rtol, atol = tolerance("rtol", rtol, zero=True), tolerance("atol", atol, zero=True)
    maxiter = max(10 * n, 1) if maxiter is None else count("maxiter", maxiter)
    preconditioner: Preconditioner = Identity(n)
    if M is not None:
        M = _operator("M", M)
        if M.shape != A.shape:
            raise ValueError(f"M must have the shape of A, {A.shape}, got {M.shape}")
        preconditioner = _Given(M)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f'x0 must be a vector or "Mb", got {x0!r}')
        x0 = b.copy() if M is None else M.matvec(b)
    x = np.zeros(n) if x0 is None else as_vector("x0", x0, n).astype(np.float64)

    def solution(answer: NDArray[np.float64], status: Status, residuals: list[float]) -> Solution:
        elapsed = time.perf_counter() - start
        work = preconditioner.work
        return Solution(answer.astype(dtype), status, residuals, preconditioner.name, work, solve_time=elapsed)

    target = max(rtol * norm(b), atol)
    if not b.any():
        return solution(np.zeros(n), Status.CONVERGED, [0.0])
    operator = CSROperator(A)
    residuals: list[float] = []
    while True:
        r = b - operator.A @ x.astype(dtype).astype(np.float64)
        true = norm(r)
        residuals[-1:] = [true]
        if true <= target or not np.isfinite(true):
            return solution(x, Status.CONVERGED if true <= target else Status.NOT_FINITE, residuals)
        if len(residuals) > 1:
            return solution(x, Status.ATTAINABLE_ACCURACY, residuals)
        unit = power_of_two(magnitude(r))
        origin = x

        def shifted(correction: NDArray[np.floating[Any]], origin: Any = origin, unit: float = unit) -> object:
            assert callback is not None
            return callback((origin + unit * correction).astype(dtype))

        record = conjugate_directions(
            operator,
            operator.embed(r, 1 / unit),
            preconditioner,
            target / unit,
            maxiter=maxiter,
            callback=None if callback is None else shifted,
        )
        residuals += [unit * value for value in record.residuals[1:]]
        x = origin + unit * record.x
        if record.status is not Status.CONVERGED:
            return solution(x, record.status, residuals)


def _operator(name: str, A: Any) -> LinearOperator:
    """Return A as a square real operator, or raise."""
    operator = aslinearoperator(A)
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"{name} must be square, got shape {operator.shape}")
    refuse_type(name, np.dtype(operator.dtype))
    return operator
