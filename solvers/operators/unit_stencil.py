"""The matrix-free operator of a unit stencil: one byte per cell, vectors on the padded box, r and p in float32."""

from __future__ import annotations

import numpy as np

from deepcd.solvers.grids.embedding import Embedding, is_slender
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import outer
from deepcd.solvers.operators.box import F32, F64, BoxOperator, Vector


class UnitStencilOperator(BoxOperator):
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

    certain_null_space = True  # which components are sealed follows from integers
    dominance = 0.0  # least share of a diagonal entry that couplings leave: nothing inside

    def __init__(self, embedding: Embedding, stencil: UnitStencil, threads: int = 1) -> None:
        super().__init__(embedding, stencil.sealed, threads)
        self.stencil, self.row_bound, self.diagonal = stencil, stencil.row_bound, stencil.diagonal.ravel()

    def twin(self, threads: int) -> UnitStencilOperator:
        """Return the same operator with work vectors and threads of its own."""
        return UnitStencilOperator(self.embedding, self.stencil, threads)

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
