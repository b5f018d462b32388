"""The matrix-free operator of a unit stencil: one byte per cell, vectors on the padded box, r and p in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import Embedding, is_slender
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import outer
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.space import HOST, Preconditioner, Workspace

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Vector = NDArray[np.floating[Any]]


class UnitStencilOperator:
    """A / scale on the padded box of an embedding: diagonal minus the adjacent unknowns.

    Parameters
    ----------
    embedding : Embedding
        Where the rows of A lie.
    stencil : UnitStencil
        What couples them.
    threads : int, default 1
        Number of threads that share a pass.
    """

    space = HOST
    roundoff = float(np.finfo(np.float32).eps)
    certain_null_space = True  # which components are sealed follows from integers

    def __init__(self, embedding: Embedding, stencil: UnitStencil, threads: int = 1) -> None:
        self.embedding, self.stencil = embedding, stencil
        self.n, self.s, self.row_bound = embedding.n, embedding.s, stencil.row_bound
        self.diagonal = stencil.diagonal.ravel()
        self.team = Team(threads, self.n[0], self.diagonal.size)
        self._work: tuple[Preconditioner, Workspace] | None = None
        chambers = np.flatnonzero(stencil.sealed)
        everything = len(stencil.sealed) == 1 and len(chambers) == 1
        self.sealed = [
            embedding.position if everything else embedding.position[embedding.component == c] for c in chambers
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_work": None}

    def twin(self, threads: int) -> UnitStencilOperator:
        """Return the same operator with work vectors and threads of its own."""
        return UnitStencilOperator(self.embedding, self.stencil, threads)

    def zeros(self) -> F64:
        """Return a zero vector on the padded box."""
        return np.zeros(self.diagonal.size)

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return work vectors to iterate on, which may be used until the next call."""
        if self._work is None or self._work[0] is not M:
            p, r = (np.zeros(self.diagonal.size, dtype=np.float32) for _ in range(2))
            self._work = M, Workspace(self.zeros(), self.zeros(), p, r, M.zeros())
        return self._work[1]

    def embed(self, v: Vector, scale: float = 1.0, out: F64 | None = None) -> F64:
        """Return scale * v on the padded box.

        Parameters
        ----------
        v : ndarray of float, shape (m,)
            One entry per row of the embedding.
        scale : float, default 1.0
            Factor of v.
        out : ndarray of float64, optional
            Vector to write to, zero outside the unknowns; default: a new one.
        """
        box = self.zeros() if out is None else out
        outer.embed(self.embedding.position, v, float(scale), box)
        return box

    def extract(self, box: Vector) -> Vector:
        """Return the entries of the unknowns, shape (m,), in the order of the embedding's rows."""
        return box[self.embedding.position]

    def spread(self, box: Vector, factor: float, v: F64) -> None:
        """Add factor * box on the unknowns to v, shape (m,), in place."""
        outer.spread(self.embedding.position, box, float(factor), v)

    def norm(self, r: Vector) -> float:
        """Return the norm of r."""
        return math.sqrt(self.dot(r, r))

    def residual(self, b: F64, x: F64, r: Vector) -> float:
        """Set r to b - A x and return the square of its norm, before r is rounded."""
        return float(sum(self.team.run(outer.residual, self.n, self.s, self.diagonal, b, x, r)))

    def conjugate(self, z: F32, beta: float, p: F32) -> float:
        """Set p to z + beta p and return p.A p."""
        own = sum(self.team.run(outer.conjugate, self.n, self.s, self.diagonal, z, np.float32(beta), p))
        if is_slender(self.embedding.shape):
            return float(sum(self.team.run(outer.energy, self.n, self.s, self.diagonal, p)))
        return float(own - sum(outer.coupling(self.s, p, i) for i in self.team.bounds[1:-1]))

    def step(self, alpha: float, p: F32, x: F64, r: F32, *, first: bool = False) -> float:
        """Add alpha p to x, or to zero, subtract alpha A p from r, and return the square of |r|."""
        return float(sum(self.team.run(outer.step, self.n, self.s, self.diagonal, alpha, p, x, r, first)))

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z."""
        return self.dot(self.image(p), z)

    def image(self, p: Vector) -> F64:
        """Return A p, a new vector."""
        q = self.zeros()
        self.team.run(outer.image, self.n, self.s, self.diagonal, p, q)
        return q

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v, summed in float64."""
        return float(sum(self.team.run(outer.dot, self.s, u, v)))

    def project(self, v: Vector) -> bool:
        """Remove the constants on sealed chambers from v in place; return whether there are any."""
        for cells in self.sealed:
            outer.remove_mean(cells, v)
        return bool(self.sealed)
