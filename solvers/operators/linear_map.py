"""Any linear operator, real or complex Hermitian, as an operator on float64 vectors of magnitude about one.

With the real inner product Re(u^H v) a Hermitian positive definite matrix of order n is a symmetric positive definite
one of order 2 n, and conjugate gradients takes the same steps on both (alpha and beta are real: r^H M r and p^H A p
are). A vector of n complex numbers is therefore the float64 view of its memory, twice as long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from deepcd.solvers.arguments import magnitude
from deepcd.solvers.operators.plain import PlainOperator

Vector = NDArray[np.floating[Any]]

# Binary exponents of A up to this size, of either sign, leave inner products of small residuals far from the ends of
# float64.
_ORDINARY = 64
# The largest exponent that is divided by: its power of two and the reciprocal are normal numbers.
_MOST = 1000


class LinearMap(PlainOperator):
    """A / 2^exponent on float64 vectors of shape (n,), or (2 n,) where they hold complex numbers.

    The exponent is zero unless the first product shows that A is of a magnitude at which inner products overflow or
    underflow. Dividing by a power of two changes no digit.

    Parameters
    ----------
    A : LinearOperator, shape (n, n)
        Symmetric, or Hermitian, positive definite. If its dtype is real and the vectors are complex, it is applied to
        the real and imaginary parts one after the other.
    dtype : dtype
        float64 or complex128: the numbers that the vectors hold.
    narrow : bool, default False
        If A's dtype is of single precision, hand it vectors of that precision: PyAMG's compiled smoothers take no
        others.

    Attributes
    ----------
    exponent : int
        Multiply a solution with ``2.0 ** -exponent`` to get that of A itself. Zero before the first product.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> from deepcd.solvers.operators.linear_map import LinearMap
    >>> A = LinearMap(aslinearoperator(np.array([[2, 1j], [-1j, 2]])), np.dtype(complex))
    >>> p, q = np.array([1.0, 1j]).view(float), A.zeros()
    >>> A.apply(p, q), q.view(complex).tolist()
    (2.0, [(1+0j), 1j])
    """

    def __init__(self, A: LinearOperator, dtype: np.dtype[Any], *, narrow: bool = False) -> None:
        super().__init__(A.shape[0] * (2 if np.dtype(dtype).kind == "c" else 1))
        self._A, self.shape = A, A.shape
        self._dtype = np.dtype(dtype)
        own = np.dtype(A.dtype)
        self._apart = self._dtype.kind == "c" and own.kind != "c"
        self._takes = own if narrow and own in (np.float32, np.complex64) else None
        self._measured = False
        self.exponent = 0

    def product(self, v: NDArray[Any]) -> NDArray[Any]:
        """Return A v, unscaled, as a new vector; both of shape (n,) and of the dtype that the vectors hold."""
        out = np.empty(v.shape, self._dtype)
        self._into(v, out)
        return out

    def __matmul__(self, x: Vector) -> Vector:
        """Return A x, unscaled, as a new vector."""
        return self.product(x.view(self._dtype)).view(np.float64)

    def spread(self, v: Vector, factor: float, x: Vector) -> None:
        """Add factor * v / 2^exponent to x, in place: so a solution becomes one of A itself."""
        x += np.multiply(v, np.ldexp(factor, -self.exponent))

    def multiply(self, p: Vector, q: Vector) -> None:
        """Set q <- A p / 2^exponent."""
        self._into(p.view(self._dtype), q.view(self._dtype))
        if not self._measured:
            self._measure(p, q)
        if self.exponent:
            np.ldexp(q, -self.exponent, out=q)

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""
        self.multiply(x, r)
        np.subtract(b, r, out=r)
        return self.dot(r, r)

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        self.multiply(p, q)
        return self.dot(p, q)

    def _into(self, v: NDArray[Any], out: NDArray[Any]) -> None:
        if self._apart:
            out.real = self._matvec(v.real.copy())
            out.imag = self._matvec(v.imag.copy())
        else:
            out[...] = self._matvec(v)

    def _matvec(self, v: NDArray[Any]) -> NDArray[Any]:
        y = np.asarray(self._A.matvec(v if self._takes is None else v.astype(self._takes)))
        if y.dtype.kind == "c" and (self._apart or self._dtype.kind != "c"):
            raise TypeError(
                f"an operator of dtype {self._A.dtype} returned {y.dtype}: "
                "declare it complex, LinearOperator(..., dtype=complex), and so A or b"
            )
        return y

    def _measure(self, p: Vector, q: Vector) -> None:
        """Choose the exponent by the product q = A p, unless it is zero."""
        before, after = magnitude(p), magnitude(q)
        if before > 0 and 0 < after < math.inf:
            self.exponent = scaling_exponent(after, before)
            self._measured = True


def scaling_exponent(size: float, unit: float = 1.0) -> int:
    """Return the binary exponent of size / unit, at most 1000, if that is far from one, else 0."""
    exponent = math.frexp(size)[1] - math.frexp(unit)[1]
    return min(exponent, _MOST) if abs(exponent) > _ORDINARY else 0
