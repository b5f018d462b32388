"""What the operators of grids have in common: vectors on a padded box, r and p in float32."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.kernels import outer
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.space import HOST, Preconditioner, Workspace

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Vector = NDArray[np.floating[Any]]


class BoxOperator:
    """Vectors on the padded box of an embedding.

    Parameters
    ----------
    embedding : Embedding
        Where the rows of A lie.
    sealed : ndarray of bool, shape (components,)
        Whether the constant on each component is in the null space of A.
    threads : int
        Number of threads that share a pass.
    """

    space = HOST
    roundoff = float(np.finfo(np.float32).eps)

    def __init__(self, embedding: Embedding, sealed: NDArray[np.bool_], threads: int) -> None:
        self.embedding, self.n, self.s = embedding, embedding.n, embedding.s
        self.size = (self.n[0] + 2) * self.s[0]
        self.team = Team(threads, self.n[0], self.size)
        self._work: tuple[Preconditioner, Workspace] | None = None
        chambers = np.flatnonzero(sealed)
        everything = len(sealed) == 1 and len(chambers) == 1
        self.sealed = [
            embedding.position if everything else embedding.position[embedding.component == c] for c in chambers
        ]

    def on(self, A: Any) -> Self:
        """Return the same operator that reads another copy of its matrix, if it reads one."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_work": None}

    def zeros(self) -> F64:
        """Return a zero vector on the padded box."""
        return np.zeros(self.size)

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return work vectors to iterate on, which may be used until the next call."""
        if self._work is None or self._work[0] is not M:
            p, r = (np.zeros(self.size, dtype=np.float32) for _ in range(2))
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

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v, summed in float64."""
        return float(sum(self.team.run(outer.dot, self.s, u, v)))

    def project(self, v: Vector) -> bool:
        """Remove the constants on sealed chambers from v in place; return whether there are any."""
        for cells in self.sealed:
            outer.remove_mean(cells, v)
        return bool(self.sealed)
