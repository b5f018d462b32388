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
from deepcd.solvers.conjugate_directions import Preconditioner, Workspace

Vector = NDArray[np.floating[Any]]

_ORDINARY = 64  # binary exponents of A that leave inner products of small residuals far from the ends of float64


class LinearMap:
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
    >>> p, q = A.embed(np.array([1.0, 1j])), A.zeros()
    >>> A.apply(p, q), A.extract(q).tolist()
    (2.0, [(1+0j), 1j])
    """

    roundoff = float(np.finfo(np.float64).eps)

    def __init__(self, A: LinearOperator, dtype: np.dtype[Any], *, narrow: bool = False) -> None:
        self._A = A
        self._dtype = np.dtype(dtype)
        own = np.dtype(A.dtype)
        self._apart = self._dtype.kind == "c" and own.kind != "c"
        self._takes = own if narrow and own in (np.float32, np.complex64) else None
        self._measured = False
        self._q: Vector = np.empty(0)  # A p
        self.exponent = 0

    @property
    def _kernels(self) -> Any:
        """The compiled passes: not imported before there is something to compute, since they load the compiler."""
        from deepcd.solvers.kernels import csr

        return csr

    def product(self, v: NDArray[Any]) -> NDArray[Any]:
        """Return A v, unscaled, as a new vector; both of shape (n,) and of the dtype that the vectors hold."""
        out = np.empty(v.shape, self._dtype)
        self._into(v, out)
        return out

    def zeros(self) -> Vector:
        """Return a new zero vector."""
        return np.zeros(self._A.shape[0], self._dtype).view(np.float64)

    def embed(self, v: NDArray[Any], scale: float = 1.0) -> Vector:
        """Return scale * v, where v is of shape (n,), as a new vector."""
        return np.multiply(v, scale, dtype=self._dtype).view(np.float64)

    def extract(self, v: Vector) -> NDArray[Any]:
        """Return v as a new array of shape (n,) of the dtype that the vectors hold."""
        return v.view(self._dtype).copy()

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

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return new vectors to iterate on."""
        self._q = self.zeros()
        b, x, p, r = (self.zeros() for _ in range(4))
        return Workspace(b, x, p, r, M.zeros())

    def conjugate(self, z: Vector, beta: float, p: Vector) -> float:
        """Set p <- z + beta p and return p.A p; with beta = 0 whatever p was."""
        if beta == 0:
            p[:] = z
        else:
            self._kernels.direction(z, beta, p, 0, p.size)
        return self.apply(p, self._q)

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the square of |r|."""
        if first:
            x[:] = 0
        return float(self._kernels.update(alpha, p, self._q, x, r, 0, p.size))

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""
        return self.dot(self._q, z)

    def image(self, p: Vector) -> Vector:
        """Return A p, a new vector."""
        q = self.zeros()
        self.multiply(p, q)
        return q

    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""
        self.multiply(p, q)
        return self.dot(p, q)

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v: the real part of u^H v."""
        return float(self._kernels.dot(u, v, 0, u.size))

    def norm(self, r: Vector) -> float:
        """Return the Euclidean norm of r."""
        return math.sqrt(self.dot(r, r))

    def project(self, v: Vector) -> bool:
        """Return False: no null space is known of an operator without entries."""
        return False

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
    """Return the binary exponent of size / unit if that is far from one, else 0."""
    exponent = math.frexp(size)[1] - math.frexp(unit)[1]
    return exponent if abs(exponent) > _ORDINARY else 0
