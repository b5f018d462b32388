"""What the public functions accept: matrices, vectors and numbers are converted here, or refused with a sentence."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from deepcd.solvers.backends.arrays import host_array


def as_csr(A: Any) -> tuple[sp.csr_array, np.dtype[Any]]:
    """Convert A to CSR with float64 entries, which `survey.read` may have to bring into order; A itself is not changed.

    Parameters
    ----------
    A : sparse array or matrix, array_like, or tensor of torch on the CPU, shape (n, n)
        Real; see `host_array`. Shares its memory with the result where it has that form already.

    Returns
    -------
    A : csr_array of float64
    dtype : dtype
        float32 if that was A's, else float64.

    Raises
    ------
    TypeError
        If A is complex, not numeric, or an operator without entries.
    ValueError
        If A is not square.
    """
    if isinstance(A, LinearOperator) or callable(A):
        raise TypeError("A must be a sparse or dense matrix, got an operator without entries: use deepcd.cg")
    A = host_array("A", A, "a matrix of real numbers", sparse=True)
    if not sp.issparse(A):
        A = A.astype(np.float32) if A.dtype == np.float16 else A  # scipy.sparse knows no half precision
    refuse_type("A", A.dtype)
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be a square matrix, got shape {A.shape}")
    dtype = np.dtype(np.float32) if A.dtype == np.float32 else np.dtype(np.float64)
    matrix = A if isinstance(A, sp.csr_array) else sp.csr_array(A)
    return matrix.astype(np.float64, copy=False), dtype


def as_vector(name: str, v: ArrayLike, n: int, *, columns: bool = False, real: bool = True) -> NDArray[Any]:
    """Convert a vector to float32 or float64 of shape (n,); v itself is not changed.

    Parameters
    ----------
    name : str
        What the caller calls it, for the error message.
    v : array_like or tensor of torch on the CPU, shape (n,) or (n, 1)
        Real and finite; see `host_array`. Integers and half precision become float64.
    n : int
        Number of rows of A.
    columns : bool, default False
        Take several columns, shape (n, k) with k > 1, too.
    real : bool, default True
        Whether to refuse complex numbers; if not, they become complex64 or complex128.

    Returns
    -------
    ndarray of float32 or float64, shape (n,), or (n, k) in C order
        May share its memory with v.

    Raises
    ------
    TypeError
        If v is not numeric, or complex though it is to be real.
    ValueError
        If v has another shape, holds NaN or infinity, or has masked entries.
    """
    array = host_array(name, v, f"a vector of {'real ' * real}numbers")
    refuse_type(name, array.dtype, real=real)
    several = array.ndim == 2 and array.shape[0] == n and array.shape[1] > 1
    if array.shape not in ((n,), (n, 1)) and not (columns and several):
        expected = f"({n},), ({n}, 1) or ({n}, k)" if columns else f"({n},) or ({n}, 1)"
        hint = "; solve for one column at a time" if several else ""
        raise ValueError(f"{name} must have shape {expected} to match A, got {array.shape}{hint}")
    array = np.ascontiguousarray(array) if several else array.reshape(n)
    if array.dtype not in (np.float32, np.complex64):
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64, copy=False)
    if not (is_finite(array.reshape(-1)) if array.dtype.kind == "f" else np.isfinite(array).all()):
        entry = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, got {array[entry]} at {name}[{', '.join(map(str, entry))}]")
    return array


def as_columns(name: str, V: ArrayLike, n: int) -> NDArray[np.float64]:
    """Convert one or several vectors to float64 of shape (n, m), none of them zero, or raise as `as_vector` does."""
    columns = as_vector(name, V, n, columns=True).astype(np.float64).reshape(n, -1)
    if not columns.any(axis=0).all():
        raise ValueError(f"{name} must not hold zero vectors, got one as column {np.argmin(columns.any(axis=0))}")
    return columns


def as_null_space(nullspace: ArrayLike | str, A: sp.csr_array, eps: float) -> NDArray[np.float64]:
    """Convert a null space to float64 of shape (n, m) and make sure that A has it.

    Parameters
    ----------
    nullspace : array_like, shape (n,) or (n, m), or "constant"
    A : csr_array of float64, shape (n, n)
    eps : float
        Unit roundoff that the entries of A carry.

    Returns
    -------
    ndarray of float64, shape (n, m)

    Raises
    ------
    ValueError
        If it is malformed, or if A maps one of its vectors to anything but zero.
    """
    if isinstance(nullspace, str) and nullspace != "constant":
        raise ValueError(f'nullspace must be an array of shape (n, m) or "constant", got {nullspace!r}')
    null = np.ones((A.shape[0], 1)) if isinstance(nullspace, str) else as_columns("nullspace", nullspace, A.shape[0])
    rounding = 8 * eps * (abs(A) @ abs(null)).max(axis=0, initial=0.0)
    left = abs(A @ null).max(axis=0, initial=0.0)
    if (left > rounding + math.sqrt(eps) * rounding).any():
        j = int(np.argmax(left > rounding))
        raise ValueError(f"nullspace must be mapped to zero by A, but |A v| reaches {left[j]:.3g} for its column {j}")
    return null


def refuse_type(name: str, dtype: np.dtype[Any], *, real: bool = True) -> None:
    """Raise a TypeError unless the dtype is real, or merely a number's."""
    if real and dtype.kind == "c":
        raise TypeError(f"{name} must be real, got {dtype}; deepcd.cg solves complex Hermitian systems")
    if dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold {'real ' * real}numbers, got dtype {dtype}")


def tolerance(name: str, value: Any, *, zero: bool = False) -> float:
    """Return the value as a finite float > 0 (or >= 0 if `zero`), or raise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        # SciPy's users expect a ValueError of atol=None and atol="legacy".
        error = ValueError if value is None or isinstance(value, str) else TypeError
        raise error(f"{name} must be a real number, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be finite and {'not negative' if zero else 'positive'}, got {value!r}")
    return number


def count(name: str, value: Any, *, least: int = 1) -> int:
    """Return the value as an int that is not below the least one, or raise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def magnitude(v: NDArray[np.floating[Any]]) -> float:
    """Return the largest absolute value without a temporary array; NaN if there is one."""
    return float(max(v.max(), -v.min())) if v.size else 0.0


def is_finite(v: NDArray[np.floating[Any]]) -> bool:
    """Return whether all entries are finite: certainly so if their squares sum to something finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(v @ v)) or math.isfinite(magnitude(v))


def power_of_two(value: float) -> float:
    """Return the power of two just above a positive value, kept where its reciprocal is a normal number."""
    return math.ldexp(1.0, min(max(math.frexp(value)[1], -1000), 1000))


def norm(v: NDArray[np.floating[Any]]) -> float:
    """Return the Euclidean norm of a float64 vector of any magnitude."""
    with np.errstate(over="ignore"):
        square = float(v @ v)
    if 1e-280 < square < 1e280:
        return math.sqrt(square)
    largest = magnitude(v)
    if largest == 0 or not math.isfinite(largest):
        return largest
    scale = power_of_two(largest)
    scaled = v * (1 / scale)
    return math.sqrt(float(scaled @ scaled)) * scale


def norms(B: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the Euclidean norms of a float64 vector, shape (1,), or of the columns of a block, of any magnitude."""
    if B.ndim == 1:
        return np.array([norm(B)])
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->j", B, B)
    ordinary = (squares > 1e-280) & (squares < 1e280)
    return np.array([math.sqrt(s) if fine else norm(c) for s, fine, c in zip(squares, ordinary, B.T, strict=True)])
