"""Why did it not converge? A null vector of A that b is not orthogonal to answers it (the Fredholm alternative)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import magnitude, power_of_two
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.parts import Parts

_NULL = 1e-12  # times the largest entry of A: the size of A v, for a unit vector v, that rounding explains


def as_singular(
    parts: Parts, b: NDArray[np.float64], x: NDArray[np.float64] | None, target: float, maxiter: int
) -> Parts | None:
    """Look for a null vector of A that keeps b - A x above the target whatever x is.

    A y = A r, with r = b - A x, can be solved even if A is singular; what y misses of r is in the null space.

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
        Iterations to spend.

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
    r = operator.embed(part, 1 / unit)
    right, image = operator.zeros(), operator.zeros()
    operator.apply(r, right)
    v = r - conjugate_directions(operator, right, parts.M, 0.0, maxiter=maxiter).x
    size = operator.norm(v)
    if size == 0:
        return None
    v /= size
    operator.apply(v, image)
    # Whatever x is, |b - A x| >= |v.(b - A x)| >= |v.b| - |A v| |x|, and |v.r| = |v.b| but for |A v| |x|.
    least = unit * abs(operator.dot(v, r))
    if operator.norm(image) > _NULL * magnitude(operator.A.data) or least <= target:
        return None
    null = np.ascontiguousarray(v[:, None])
    return replace(parts, operator=CSROperator(operator.A, null=null), singular=True)
