"""Is an answer true? The residual of a claimed solution, recomputed in extended precision from the caller's arrays.

This module shares no code with the solvers that it judges. Where long double is no wider than double (Windows, some
ARM), norms of vectors beyond 1e154 overflow, and claims about them count as missed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

EPS = float(np.finfo(np.float64).eps)
SLACK = 1e-10  # relative allowance for the order of summation in a norm, not for the residual itself

Long = NDArray[np.longdouble]


def plain(A: Any) -> sp.csr_array:
    """Return A as a float64 csr_array (complex128 if it is complex), sorted and without duplicates."""
    entries = A if sp.issparse(A) else np.atleast_2d(np.asarray(A))
    matrix = sp.csr_array(entries.astype(np.complex128 if entries.dtype.kind == "c" else np.float64), copy=True)
    matrix.sum_duplicates()
    return matrix


def columns(v: Any) -> NDArray[Any]:
    """Return v, of shape (n,) or (n, k), as (n, k)."""
    array = np.asarray(v)
    array = array.astype(np.clongdouble if array.dtype.kind == "c" else np.longdouble)
    return array[:, None] if array.ndim == 1 else array


def _double(v: Any) -> type:
    return np.complex128 if np.asarray(v).dtype.kind == "c" else np.float64


def norms(v: NDArray[Any]) -> Long:
    """Return the norm of each column in extended precision: no under- or overflow for anything that float64 holds."""
    return np.sqrt((np.abs(columns(v)) ** 2).sum(axis=0))


def residual_norms(A: Any, b: Any, x: Any) -> Long:
    """Return the norm of b - A x of each column, every product and sum in extended precision."""
    matrix, x, b = plain(A), columns(x), columns(b)
    wide = matrix.astype(np.clongdouble if matrix.dtype.kind == "c" else np.longdouble)
    with np.errstate(all="ignore"):
        return norms(b - wide @ x)


def targets(b: Any, tol: float, atol: float = 0.0) -> Long:
    """Return max(tol |b|, atol) of each column."""
    return np.maximum(np.longdouble(tol) * norms(b), np.longdouble(atol))


def meets(A: Any, b: Any, x: Any, tol: float, atol: float = 0.0) -> bool:
    """Return whether ``norm(b - A @ x) <= max(tol * norm(b), atol)`` holds, column by column.

    The promise counts as kept if either the residual in extended precision or the one that a user gets in float64 meets
    it: near the unit roundoff neither implies the other. With NaN it is never kept.
    """
    if columns(x).shape != columns(b).shape or not all(np.isfinite(columns(v)).all() for v in (x, b)):
        return False
    bound = targets(b, tol, atol) * (1 + np.longdouble(SLACK))
    kept = residual_norms(A, b, x) <= bound
    if not kept.all():
        matrix = plain(A) if sp.issparse(A) else np.atleast_2d(np.asarray(A)).astype(_double(A))  # in its own order
        with np.errstate(all="ignore"):
            double = norms(np.asarray(columns(b), dtype=_double(b)) - matrix @ np.asarray(columns(x), dtype=_double(x)))
        kept |= double <= bound
    return bool(kept.all())


def rounding_level(A: Any, b: Any, x: Any, eps: float = EPS) -> float:
    """Return eps * norm(|A||x| + |b|): the residual that rounding x alone to relative precision eps leaves."""
    matrix = plain(A)
    wide = sp.csr_array((np.abs(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape).astype(np.longdouble)
    return float(eps * norms(wide @ np.abs(columns(x)) + np.abs(columns(b))).max(initial=0))


def fingerprint(*inputs: Any) -> str:
    """Return a digest of matrices, arrays and lists, which shows whether a solver changed the values of its input."""
    digest = hashlib.sha256()
    for item in inputs:
        matrix = plain(item) if sp.issparse(item) else None
        for array in (np.asarray(item),) if matrix is None else (matrix.data, matrix.indices, matrix.indptr):
            digest.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return digest.hexdigest()
