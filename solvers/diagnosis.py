"""Why did it not converge? Because A is not symmetric, or has a null vector that b is not orthogonal to."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import magnitude, norm, power_of_two
from deepcd.solvers.conjugate_directions import (
    Operator,
    Preconditioner,
    Vector,
    conjugate_directions,
    largest_eigenvalue,
)

if TYPE_CHECKING:
    from deepcd.solvers.parts import Parts

_EPS = float(np.finfo(np.float64).eps)
_NULL = 64 * _EPS  # times the size of A: the size of A v, for a unit vector v, that rounding explains
_HOPELESS = 1e-6  # the same: of a vector that does not become a null vector by doing it again
_MOST = 32  # null vectors to look for
_MORE = 200  # iterations beside those that failed, which may have been few: a consistent system takes longer to solve


def is_asymmetric(u: Vector, Au: Vector, v: Vector, Av: Vector, eps: float = _EPS) -> bool:
    """Return whether u.A v and v.A u, which are equal for a symmetric A, differ by more than rounding explains.

    Of standard Gaussian u and v they differ by the Frobenius norm of A - A^T, but for a factor of about one.

    Parameters
    ----------
    u, Au, v, Av : ndarray of float64, shape (n,)
        Two standard Gaussian vectors and their products.
    eps : float, optional
        Unit roundoff that A carries.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # which is no asymmetry
        return abs(float(u @ Av) - float(v @ Au)) > math.sqrt(eps) * max(norm(Au), norm(Av))


def as_singular(
    parts: Parts,
    b: NDArray[np.float64],
    x: NDArray[np.float64] | None,
    target: float,
    maxiter: int,
    deadline: float = math.inf,
) -> Parts | None:
    """Look for a null vector of A that keeps b - A x above the target whatever x is.

    Parameters
    ----------
    parts : Parts
        Of A, whose null space is not known.
    b : ndarray of float64, shape (n,)
    x : ndarray of float64, shape (n,), or None
        Where the solve started; None: zero.
    target : float
        For the norm of b - A x.
    maxiter : int
        Iterations that the solve took.
    deadline : float, default inf
        Value of `time.perf_counter` after which the search is given up.

    Returns
    -------
    Parts or None
        The same parts with the null vector made known to the operator; None if there is none.
    """
    from deepcd.solvers.operators.csr import CSROperator

    operator = parts.operator
    if not isinstance(operator, CSROperator) or parts.singular:
        return None
    part = (b if x is None else b - parts.A @ x)[parts.rows]
    largest = magnitude(part)
    if largest == 0:
        return None
    unit = power_of_two(largest)
    null = null_space(operator, operator.embed(part, 1 / unit), parts.M, target / unit, maxiter, deadline)
    if not null.size:
        return None
    return replace(parts, operator=CSROperator(operator.A, null=null), singular=True)


def null_space(
    A: Operator, r: Vector, M: Preconditioner, target: float, maxiter: int, deadline: float = math.inf
) -> NDArray[np.float64]:
    """Return null vectors of A that span what r has in the null space, if that is why no x meets the target.

    A y = A r can be solved even if A is singular; what y misses of r is in the null space. Solving once more, with what
    it misses in the place of r, removes what rounding left. Of several null vectors this gives one at a time, unless M
    is the identity.

    Parameters
    ----------
    A : Operator
    r : ndarray of float64
        b - A x at the start, of magnitude about one.
    M : Preconditioner
    target : float
        For the norm of b - A x.
    maxiter : int
        Iterations that the solve took.
    deadline : float, default inf
        Value of `time.perf_counter` after which the search is given up.

    Returns
    -------
    ndarray of float64, shape (n, m)
        Orthonormal columns; none if A has no null vector, or r no such part of it.
    """
    found: list[Vector] = []
    rest, size, left = r, largest_eigenvalue(A, r), maxiter + _MORE
    while len(found) < _MOST and time.perf_counter() < deadline:
        v: Vector | None = rest
        for _ in range(3):
            assert v is not None
            v, spent = _without_range(A, v, M, left, deadline)
            left = max(left - spent, _MORE)
            if v is None:
                break
            for other in found:
                v -= A.dot(other, v) * other
            v /= math.sqrt(A.dot(v, v))
            image = A.image(v)
            if is_beyond_reach(A, v, abs(A.dot(v, rest)), target, size):
                break
            if not A.dot(image, image) <= (_HOPELESS * size) ** 2:
                v = None
                break
        if v is None or not is_beyond_reach(A, v, abs(A.dot(v, rest)), target, size):
            break
        found.append(v)
        rest = rest - A.dot(v, rest) * v
    return np.stack(found, axis=1) if found else np.empty((r.size, 0))


def _without_range(
    A: Operator, r: Vector, M: Preconditioner, maxiter: int, deadline: float
) -> tuple[Vector | None, int]:
    """Return r without its part in the range of A, if anything is left, and the iterations it took."""
    image = A.image(r)
    largest = magnitude(image)
    if largest == 0:
        return r.copy(), 0
    if not largest < math.inf:
        return None, 0
    unit = power_of_two(largest)
    image *= 1 / unit
    record = conjugate_directions(A, image, M, 0.0, maxiter=maxiter, deadline=deadline)
    v = r - unit * record.x
    return v if 0 < A.dot(v, v) < math.inf else None, len(record.residuals)


def is_beyond_reach(A: Operator, v: Vector, part: float, target: float, size: float = 0.0) -> bool:
    """Return whether the part of b along v keeps b - A x above the target, whatever x.

    |b - A x| is not smaller than |v.b| - |A v| |x|. So it takes an x of norm (|v.b| - target) / |A v|; of that one A x
    is known to eps |A| |x|, and where this is more than the target no x can be said to meet it.

    Parameters
    ----------
    A : Operator
    v : ndarray of float64
        A unit vector.
    part : float
        |v.b|.
    target : float
    size : float, optional
        The norm of A; default: it is computed.
    """
    image = A.image(v)
    length = math.sqrt(A.dot(image, image))
    if length == 0:
        return part > target
    size = size or largest_eigenvalue(A, v)
    return part > target and length <= _NULL * size and length * target <= _EPS * size * (part - target)
