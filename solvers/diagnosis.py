"""Why did it not converge? Because A is not symmetric, or has a null vector that b is not orthogonal to."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from deepcd.solvers.arguments import norm, power_of_two
from deepcd.solvers.conjugate_directions import conjugate_directions, spectral_norm
from deepcd.solvers.parts import Parts
from deepcd.solvers.space import MatrixOperator, Operator, Preconditioner, Vector, space_of

_EPS = float(np.finfo(np.float64).eps)
_NULL = 64 * _EPS  # largest norm of A v over that of A, for a unit vector v, that rounding explains
_HOPELESS = 1e-6  # largest norm of A v over that of A from which another pass may still lead to a null vector
_MOST = 32  # largest number of null vectors to look for
# Iterations beside those of the solve that failed, which may have been few: a consistent system takes longer to solve.
_MORE = 200


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
    b: Vector,
    x: Vector | None,
    target: float,
    maxiter: int,
    deadline: float = math.inf,
    *,
    search: bool = True,
) -> Parts | None:
    """Look for a null vector of A that keeps b - A x above the target whatever x is.

    Parameters
    ----------
    parts : Parts
        The parts of A, whose null space is not known.
    b : vector of float64, shape (n,)
        The right-hand side.
    x : vector of float64, shape (n,), or None
        Where the solve started; None: zero.
    target : float
        Norm of b - A x that was to be reached.
    maxiter : int
        Number of iterations that the solve took.
    deadline : float, default inf
        Value of `time.perf_counter` after which the search is given up.
    search : bool, default True
        Search, which takes as long as the solve did. If not, only the constant, the likeliest null vector, is tried.

    Returns
    -------
    Parts or None
        The same parts with the null vector made known to the operator; None if there is none.
    """
    operator: MatrixOperator | None = parts.operator
    if operator is None or operator.certain_null_space or parts.singular:
        return None
    space = space_of(b)
    if x is not None:
        image = parts.A @ x
        b = space.subtract(b, image, out=image)
    part = b[parts.rows]
    largest = space.magnitude(part)
    if largest == 0:
        return None
    unit = power_of_two(largest)
    r, target = operator.embed(part, 1 / unit), target / unit
    null = null_space(operator, r, parts.M, target, maxiter, deadline) if search else _constant(operator, r, target)
    if not null:
        return None
    return replace(parts, operator=operator.with_null_space(null), singular=True)


def _constant(A: Operator, r: Vector, target: float) -> list[Vector]:
    """Return the constant unit vector if it is a null vector that keeps b - A x above the target, else nothing."""
    constant = A.zeros()
    constant += r.size**-0.5
    return [constant] if is_beyond_reach(A, constant, abs(A.dot(constant, r)), target) else []


def null_space(
    A: Operator, r: Vector, M: Preconditioner, target: float, maxiter: int, deadline: float = math.inf
) -> list[Vector]:
    """Return null vectors of A that span what r has in the null space, if that is why no x meets the target.

    A y = A r can be solved even if A is singular; what y misses of r is in the null space. Solving once more, with what
    it misses in the place of r, removes what rounding left. Of several null vectors this gives one at a time, unless M
    is the identity.

    Parameters
    ----------
    A : Operator
    r : vector of float64
        b - A x at the start, of magnitude about one.
    M : Preconditioner
    target : float
        Norm of b - A x that was to be reached.
    maxiter : int
        Number of iterations that the solve took.
    deadline : float, default inf
        Value of `time.perf_counter` after which the search is given up.

    Returns
    -------
    list of vectors
        Orthonormal; none if A has no null vector, or r no such part of it.
    """
    space = A.space
    found: list[Vector] = []
    rest, size, left = r, spectral_norm(A, r), maxiter + _MORE
    while len(found) < _MOST and time.perf_counter() < deadline:
        v: Vector | None = rest
        for _ in range(3):
            assert v is not None
            v, spent = _without_range(A, v, M, left, deadline)
            left = max(left - spent, _MORE)
            if v is None:
                break
            for other in found:
                space.combine(-A.dot(other, v), other, 1.0, v, v)
            square = A.dot(v, v)
            if not 0 < square < math.inf:  # nothing is left of it
                v = None
                break
            space.divide(v, math.sqrt(square))
            image = A.image(v)
            if is_beyond_reach(A, v, abs(A.dot(v, rest)), target, size):
                break
            if not A.dot(image, image) <= (_HOPELESS * size) ** 2:
                v = None
                break
        if v is None or not is_beyond_reach(A, v, abs(A.dot(v, rest)), target, size):
            break
        found.append(v)
        rest = space.combine(-A.dot(v, rest), v, 1.0, rest, space.empty(rest))
    return found


def _without_range(
    A: Operator, r: Vector, M: Preconditioner, maxiter: int, deadline: float
) -> tuple[Vector | None, int]:
    """Return r without its part in the range of A, if anything is left, and the iterations it took."""
    space, image = A.space, A.image(r)
    largest = space.magnitude(image)
    if largest == 0:
        return space.copy(r), 0
    if not largest < math.inf:
        return None, 0
    unit = power_of_two(largest)
    space.scale(1 / unit, image, out=image)
    record = conjugate_directions(A, image, M, 0.0, maxiter=maxiter, deadline=deadline)
    v = space.combine(1.0, r, -unit, record.x, space.empty(r))
    return v if 0 < A.dot(v, v) < math.inf else None, len(record.residuals)


def is_beyond_reach(A: Operator, v: Vector, part: float, target: float, size: float = 0.0) -> bool:
    """Return whether the part of b along v keeps b - A x above the target, whatever x.

    |b - A x| is not smaller than |v.b| - |A v| |x|. So it takes an x of norm (|v.b| - target) / |A v|; of that one A x
    is known to eps |A| |x|, and where this is more than the target no x can be said to meet it.

    Parameters
    ----------
    A : Operator
    v : vector of float64
        A unit vector.
    part : float
        |v.b|.
    target : float
        Norm of b - A x that is to be reached.
    size : float, optional
        The norm of A; default: it is computed.
    """
    image = A.image(v)
    length = math.sqrt(A.dot(image, image))
    if length == 0:
        return part > target
    size = size or spectral_norm(A, v)
    return part > target and length <= _NULL * size and length * target <= _EPS * size * (part - target)
