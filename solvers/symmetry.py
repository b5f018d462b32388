"""Is a matrix symmetric? A probe by two products."""

from __future__ import annotations

import math

import numpy as np

from deepcd.solvers.arguments import norm
from deepcd.solvers.space import Vector

_EPS = float(np.finfo(np.float64).eps)


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
