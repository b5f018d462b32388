"""What operators on plain float64 vectors have in common, whatever their product is."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import csr
from deepcd.solvers.operators.null_space import NullSpace, Span
from deepcd.solvers.space import HOST, Preconditioner, Workspace

Vector = NDArray[np.floating[Any]]


class PlainOperator(ABC):
    """A on float64 vectors of some size, and the null space that `project` removes; an iteration allocates nothing."""

    space = HOST
    roundoff = float(np.finfo(np.float64).eps)
    row_bound = math.inf
    certain_null_space = False  # rounded entries may hide a null vector, or look like one

    def __init__(self, size: int, null_space: NullSpace | None = None) -> None:
        self._size, self.null_space = size, null_space
        self._work: tuple[Preconditioner, Workspace] | None = None
        self._q: Vector = np.empty(0)  # A p

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_work": None}

    def zeros(self) -> Vector:
        """Return a new zero vector."""
        return np.zeros(self._size)

    @abstractmethod
    def apply(self, p: Vector, q: Vector) -> float:
        """Set q <- A p and return p.q."""

    @abstractmethod
    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return r.r."""

    def with_null_space(self, null: list[Vector]) -> Self:
        """Return the same operator with the null space that these orthonormal vectors span."""
        twin = copy.copy(self)  # which leaves out the work vectors
        twin.null_space = Span(np.stack(null, axis=1))
        return twin

    def embed(self, v: Vector, scale: float = 1.0, out: Vector | None = None) -> Vector:
        """Return scale * v as a float64 vector, a new one or `out`."""
        return np.multiply(v, scale, dtype=np.float64, out=out)

    def spread(self, v: Vector, factor: float, x: Vector) -> None:
        """Add factor * v to x, in place."""
        x += np.multiply(v, factor)

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return vectors to iterate on, until the next call."""
        if self._work is None or self._work[0] is not M:
            b, x, p, r = (self.zeros() for _ in range(4))
            self._work = M, Workspace(b, x, p, r, M.zeros())
            self._q = self.zeros()
        return self._work[1]

    def conjugate(self, z: Vector, beta: float, p: Vector) -> float:
        """Set p <- z + beta p and return p.A p; with beta = 0 whatever p was."""
        if beta == 0:
            p[:] = z
        else:
            csr.direction(z, beta, p, 0, p.size)
        return self.apply(p, self._q)

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the square of |r|."""
        if first:
            x[:] = 0
        return csr.update(alpha, p, self._q, x, r, 0, p.size)

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""
        return self.dot(self._q, z)

    def image(self, p: Vector) -> Vector:
        """Return A p, a new vector."""
        q = self.zeros()
        self.apply(p, q)
        return q

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""
        return csr.dot(u, v, 0, u.size)

    def norm(self, r: Vector) -> float:
        """Return the Euclidean norm of r."""
        return math.sqrt(csr.dot(r, r, 0, r.size))

    def project(self, v: Vector) -> bool:
        """Remove the null space from v, in place; return whether one is known."""
        if self.null_space is None:
            return False
        self.null_space.remove(v)
        return True
