"""The operator of a grid whose couplings differ: vectors on the padded box, and the matrix for the residual."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import scipy.sparse as sp

from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import AroundStencil, FaceStencil
from deepcd.solvers.kernels.faces import forming, outer
from deepcd.solvers.kernels.faces.records import Grid
from deepcd.solvers.operators.box import F32, F64, BoxOperator, Vector


class FaceStencilOperator(BoxOperator):
    """A / scale on the padded box of an embedding.

    The iteration applies A to differences in float32; residuals are computed from the entries of A in float64.

    Parameters
    ----------
    embedding : Embedding
        Where the rows of A lie.
    stencil : FaceStencil or AroundStencil
        What couples them: faces, or edges and corners as well.
    A : csr_array, shape (n, n)
        The matrix; rows that are not in the embedding have no off-diagonal entries. Not copied.
    threads : int, default 1
        Number of threads that share a pass.
    """

    certain_null_space = False  # row sums are rounded

    def __init__(
        self, embedding: Embedding, stencil: FaceStencil | AroundStencil, A: sp.csr_array, threads: int = 1
    ) -> None:
        super().__init__(embedding, stencil.sealed, threads)
        self.stencil, self.A, self.row_bound = stencil, A, stencil.row_bound
        self.grid = Grid(self.n, self.s, stencil.wrap)
        rows, number = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        if not isinstance(embedding.rows, slice):
            rows, number = embedding.rows, np.zeros(A.shape[0], dtype=np.int32)
            number[rows] = np.arange(rows.size, dtype=np.int32)
        self._numbering = rows, number
        self._q: F32 = np.empty(0, dtype=np.float32)  # A p

    @property
    def dominance(self) -> float:
        """Least share of a diagonal entry that couplings leave."""
        return float(forming.dominance(self.stencil.fields.extra, self.stencil.fields.inverse))

    def on(self, A: sp.csr_array) -> Self:
        """Return the same operator that reads another copy of its matrix."""
        twin = copy.copy(self)
        twin.A = A
        return twin

    def with_null_space(self, null: list[Vector]) -> Self:
        """Return the same operator with the constants on components in its null space that these vectors do not avoid.

        A null vector of such an A is constant on each component.
        """
        twin, component = copy.copy(self), self.embedding.component
        chosen = np.unique(component[np.any([v[self.embedding.position] != 0 for v in null], axis=0)])
        twin.sealed = [self.embedding.position[component == c] for c in chosen]
        return twin

    def twin(self, threads: int) -> FaceStencilOperator:
        """Return the same operator with work vectors and threads of its own."""
        return FaceStencilOperator(self.embedding, self.stencil, self.A, threads)

    def residual(self, b: F64, x: F64, r: Vector) -> float:
        """Set r to b - A x and return the square of its norm, before r is rounded."""
        cells, threads = self.embedding.position.size, self.team.threads
        bounds = [cells * t // threads for t in range(threads + 1)]
        matrix = self.A.indptr, self.A.indices, self.A.data, *self._numbering, self.embedding.position
        return float(sum(self.team.run(outer.residual, *matrix, 1 / self.stencil.scale, b, x, r, bounds=bounds)))

    def conjugate(self, z: F32, beta: float, p: F32) -> float:
        """Set p to z + beta p and return p.A p."""
        if not self._q.size:
            self._q = np.zeros(self.size, dtype=np.float32)
        team, fields = self.team, self.stencil.fields
        shared = team.threads > 1
        if shared:  # planes that two threads need
            ends = {i % self.n[0] for bound in team.bounds[1:-1] for i in (bound - 1, bound)}
            for i in sorted(ends | ({0, self.n[0] - 1} if self.grid.wrap[0] else set())):
                outer.turn_plane(self.grid, z, beta, p, i)
        return float(sum(team.run(outer.conjugate, self.grid, fields, z, beta, p, self._q, shared)))

    def step(self, alpha: float, p: F32, x: F64, r: F32, *, first: bool = False) -> float:
        """Add alpha p to x, or to zero, subtract alpha A p from r, and return the square of |r|."""
        return float(sum(self.team.run(outer.step, self.s, alpha, p, self._q, x, r, first)))

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""
        return self.dot(self._q, z)

    def image(self, p: Vector) -> F64:
        """Return A p, a new vector."""
        q = self.zeros()
        self.residual(self.zeros(), np.asarray(p, dtype=np.float64), q)
        return -q
