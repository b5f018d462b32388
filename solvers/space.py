"""What the iteration asks of vectors, of A and of a preconditioner: the contracts, and vectors in NumPy's arrays.

`conjugate_directions.py`, `refinement.py` and `diagnosis.py` treat a vector as a handle: whatever they do to one goes
through its `Space` or through the operator. Where vectors lie, and in how many pieces, is known to those two only.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deepcd.solvers.arguments import magnitude, norm

# A NumPy array of float64 or float32, or a handle with `size`, `dtype` and `space`, whose entries are read and written
# by arrays of indices.
Vector = Any


class Space:
    """Operations on vectors that are NumPy arrays of shape (n,); a subclass has them for vectors that lie elsewhere.

    Vectors may be of any length, and differ in precision: a result takes that of `out`.
    """

    def zeros(self, like: Vector) -> Vector:
        """Return a new zero vector of the same length and precision; unlike np.zeros_like, it touches no memory yet."""
        return np.zeros(like.shape, like.dtype)

    def empty(self, like: Vector) -> Vector:
        """Return a new vector of the same length and precision with any content."""
        return np.empty_like(like)

    def clear(self, v: Vector) -> None:
        """Set v to zero."""
        v[...] = 0

    def copy(self, v: Vector, out: Vector | None = None) -> Vector:
        """Set `out`, or a new vector, to v and return it."""
        if out is None:
            return v.copy()
        out[...] = v
        return out

    def cast(self, v: Vector, dtype: DTypeLike) -> Vector:
        """Return v in another precision: v itself if it has that precision already."""
        return v.astype(dtype, copy=False)

    def scale(self, factor: float, v: Vector, out: Vector | None = None) -> Vector:
        """Set `out`, or a new vector, to factor * v and return it."""
        return np.multiply(v, factor, out=out)

    def divide(self, v: Vector, number: float) -> None:
        """Divide v by a number, in place."""
        v /= number

    def subtract(self, u: Vector, v: Vector, out: Vector) -> Vector:
        """Set out to u - v, where it may be u or v, and return it."""
        return np.subtract(u, v, out=out)

    def combine(self, alpha: float, u: Vector, beta: float, v: Vector, out: Vector) -> Vector:
        """Set out to alpha u + beta v, where it may be v, and return it."""
        if out is not v or beta != 1:
            np.multiply(v, beta, out=out)
        out += u if alpha == 1 else alpha * u
        return out

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""
        return float(u @ v)

    def norm(self, v: Vector) -> float:
        """Return the Euclidean norm of v, whatever the magnitude of its entries."""
        return norm(v)

    def magnitude(self, v: Vector) -> float:
        """Return the largest absolute value in v; NaN if v holds NaN."""
        return magnitude(v)

    def random(self, like: Vector, seed: int) -> Vector:
        """Return a vector of standard Gaussian numbers: the same ones for a seed wherever the vector lies."""
        v = np.empty_like(like)
        v[...] = np.random.default_rng(seed).standard_normal(v.size)
        return v

    def agree(self, stop: bool) -> bool:
        """Return whether to stop: where several processes share the vectors, whether any of them wants to."""
        return stop


HOST = Space()


def space_of(v: Vector) -> Space:
    """Return what a vector is worked on with."""
    space: Space = getattr(v, "space", HOST)
    return space


class Workspace(NamedTuple):
    """Vectors that an iteration works on; those of an operator are the same ones at every call."""

    b: Vector  # for the caller's right-hand side; not used by the iteration
    x: Vector
    p: Vector
    r: Vector
    z: Vector  # of the preconditioner's kind


class Operator(Protocol):
    """A symmetric positive (semi)definite A on its own kinds of vector: x and b in float64, r and p as it likes."""

    @property
    def space(self) -> Space:
        """What its vectors are worked on with."""

    @property
    def roundoff(self) -> float:
        """Unit roundoff of r."""

    def zeros(self) -> Vector:
        """Return a new zero vector of the kind of x."""

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return vectors to iterate on, until the next call."""

    def norm(self, r: Vector) -> float:
        """Return the norm that convergence is judged by: the Euclidean one, of many columns the largest."""

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return the square of its norm, before r is rounded."""

    def conjugate(self, z: Vector, beta: float, p: Vector) -> float:
        """Set p <- z + beta p and return p.A p; with beta = 0 whatever p was."""

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the square of |r|.

        The `first` step is from x = 0, whatever the vector holds.
        """

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""

    def image(self, p: Vector) -> Vector:
        """Return A p, a new vector."""

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""

    def project(self, v: Vector) -> bool:
        """Remove the null space of A from v in place; return whether A has one."""


class RowOperator(Operator, Protocol):
    """An operator that stands for the coupled rows of a matrix, whose vectors may be of another kind."""

    @property
    def row_bound(self) -> float:
        """The largest sum of magnitudes, in a row, of the entries whose rounding tells the matrix from the operator."""

    @property
    def certain_null_space(self) -> bool:
        """Whether what `project` removes is the whole null space, and nothing but it, beyond doubt."""

    def embed(self, v: Vector, scale: float = 1.0, out: Vector | None = None) -> Vector:
        """Return scale * v, v with an entry per row, as a vector of the kind of b: a new one or `out`."""

    def spread(self, v: Vector, factor: float, x: Vector) -> None:
        """Add factor * v to x, with an entry per row, in place."""


class GridOperator(RowOperator, Protocol):
    """An operator of a grid."""

    def twin(self, threads: int) -> Self:
        """Return the same operator with work vectors and threads of its own."""


class MatrixOperator(RowOperator, Protocol):
    """An operator of a matrix without a grid."""

    def columns(self, k: int) -> BlockOperator:
        """Return A on k right-hand sides at once: 1, 2, 4 or 8."""

    def with_null_space(self, null: list[Vector]) -> Self:
        """Return the same operator with the null space that these orthonormal vectors span; it had none before."""


class BlockOperator(Protocol):
    """A on a block of k right-hand sides, shape (n, k): entry (i, j) of the block is entry i * k + j of a vector.

    What an iteration has one of for each column, such as an inner product, is an array of shape (k,), which belongs to
    the operator and lasts until its next call.
    """

    def zeros(self) -> Vector:
        """Return a new zero vector."""

    def block(self, v: Vector) -> NDArray[np.float64]:
        """Return a vector as the block that it is, shape (n, k), in the same memory."""

    def workspace(self, count: int) -> list[Vector]:
        """Return vectors that hold anything, to iterate on until the next call for any number of columns."""

    def embed(
        self, V: NDArray[np.float64], scale: float | NDArray[np.float64] = 1.0, out: Vector | None = None
    ) -> Vector:
        """Return the columns of V, shape (n, m), m <= k, each times scale, a float or of shape (m,), as a vector."""

    def project(self, v: Vector) -> bool:
        """Remove the null space of A from v in place; return whether A has one."""

    def product(self, p: Vector, q: Vector) -> NDArray[np.float64]:
        """Set q <- A p and return p.q."""

    def residual(self, b: Vector, x: Vector, r: Vector) -> NDArray[np.float64]:
        """Set r <- b - A x and return r.r."""

    def dot(self, u: Vector, v: Vector) -> NDArray[np.float64]:
        """Return u.v."""


class BlockPreconditioner(Protocol):
    """M on a block of right-hand sides."""

    def apply(self, r: Vector, z: Vector) -> NDArray[np.float64]:
        """Set z to M r and return r.z of each column."""


class Preconditioner(Protocol):
    """An approximate inverse M of A; symmetric positive definite unless `symmetric` is False.

    One that can do better for k right-hand sides at once than one after the other has ``columns(k)``, a
    `BlockPreconditioner`, and ``fewest_columns`` if that takes more than two to pay; one on a grid that several threads
    use at a time has ``twin(threads)``, the same M with work vectors of its own.
    """

    @property
    def name(self) -> str:
        """What `Solution.preconditioner` says."""

    @property
    def symmetric(self) -> bool:
        """Whether M is symmetric positive definite."""

    @property
    def linear(self) -> bool:
        """Whether M is one linear map, symmetric up to rounding, of this library's making."""

    @property
    def work(self) -> float:
        """Passes over the finest grid per iteration, outer loop included."""

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""

    def zeros(self) -> Vector:
        """Return a z of the kind that `apply` writes."""
