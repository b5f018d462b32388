"""Hand-tuned geometric multigrid on the same kernels as the learned one: the classical yardstick.

Red-black Gauss-Seidel (black-red after the correction, so that the cycle is symmetric), trilinear interpolation
renormalised where it would reach into walls, half-weight coarse faces. Briggs, Henson and McCormick (SIAM 2000),
chapters 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, finest
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.multigrid import (
    F32,
    CoarseLevel,
    Multigrid,
    Taps,
)

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

DIRICHLET = 0.5  # of the summed Dirichlet weights: the boundary lies half a coarse cell away
LEAST_WEIGHT = 0.2  # of the interpolation weights that fall on unknowns or Dirichlet cells


class GeometricMultigrid(Multigrid):
    """M of a classical cycle on the box of an embedding.

    Parameters
    ----------
    embedding : Embedding
    sweeps : int, default 2
        Gauss-Seidel sweeps before and after the coarse correction: V(sweeps, sweeps) on the finest level.
    threads : int, default 1
    """

    name = "geometric-multigrid"

    def __init__(self, embedding: Embedding, sweeps: int = 2, threads: int = 1) -> None:
        n, s = geometry(embedding.shape)
        super().__init__(n, s, embedding.diagonal.ravel(), threads)
        self.sweeps = sweeps
        self.work = 2.0 * (2 * sweeps) + 2 + 3  # half-sweeps; restrict, prolong; direction, product, update
        for level, _ in self.coarsen(DIRICHLET):
            level.finish()
            level.taps = Taps.of(0.25, level.n)
        self._renormalise()
        self.solve_exactly()

    def _renormalise(self) -> None:
        """Divide the interpolation by its weights on coarse unknowns, except beside Dirichlet data.

        There the missing weights stand for zeros that are really prescribed.
        """
        for level in self.levels:
            level.psi = (level.inverse > 0).astype(np.float32)
        for fine, lower in zip(self.levels, self.levels[1:], strict=False):
            share = np.zeros_like(fine.volume)
            coarse.prolong_add(
                fine.n, fine.s, np.ones_like(share), lower.n, lower.s, fine.taps.near, fine.taps.far, lower.psi,
                fine.row, fine.buffer, share,
            )  # fmt: skip
            share[fine.dirichlet > 0] = 1
            fine.phi = np.where(
                fine.inverse > 0, 1 / np.maximum(share, np.float32(LEAST_WEIGHT)), np.float32(0)
            ).astype(np.float32)
        last = self.levels[-1]
        last.phi = np.zeros_like(last.volume)
        top, share = self.levels[0], np.zeros(self.diagonal.size, dtype=np.float32)
        row, buffer = self.scratch[0]
        finest.prolong_add(
            self.n, self.s, self.diagonal, np.float32(1), self.starts, self.cells, self.ratio,
            top.n, top.s, self.taps.near, self.taps.far, top.psi, row, buffer, share, 0, self.n[0],
        )  # fmt: skip
        neighbours = sum(np.roll(self.diagonal, o) != 0 for d in {*self.s, 1} - {0} for o in (d, -d))
        cells = np.flatnonzero((self.diagonal == neighbours) & (self.diagonal > 0) & (share < 1 - 1e-6))
        self.list_cells(cells, np.reciprocal(np.maximum(share[cells], np.float32(LEAST_WEIGHT))))

    def smooth_down(self, r: NDArray[np.float64], z: F32) -> F32:
        """Gauss-Seidel from zero, red first."""
        self.team.run(finest.cast, self.s, r, self.r32)
        z[:] = 0
        for _ in range(self.sweeps):
            for colour in (0, 1):
                self._half_sweep(z, colour)
        return z

    def smooth_up(self, r: NDArray[np.float64], q: NDArray[np.float64], smoothed: F32, z: F32) -> tuple[float, float]:
        """Gauss-Seidel on the corrected vector, black first."""
        top = self.levels[0]
        self.team.run(
            finest.prolong_add, self.n, self.s, self.diagonal, self.phi, self.starts, self.cells, self.ratio,
            top.n, top.s, self.taps.near, self.taps.far, top.z,
            scratch=[(row, buffer, z) for row, buffer in self.scratch],
        )  # fmt: skip
        for _ in range(self.sweeps):
            for colour in (1, 0):
                self._half_sweep(z, colour)
        parts = self.team.run(finest.dots, self.s, r, q, z)
        return float(sum(p[0] for p in parts)), float(sum(p[1] for p in parts))

    def _half_sweep(self, z: F32, colour: int) -> None:
        rows = [(row,) for row, _ in self.scratch]
        self.team.run(finest.red_black, self.n, self.s, self.diagonal, self.r32, z, colour, scratch=rows)

    def smooth_level_down(self, level: CoarseLevel) -> None:
        """Gauss-Seidel from zero, red first."""
        level.z[:] = 0
        for _ in range(self.sweeps):
            for colour in (0, 1):
                coarse.red_black(level.n, level.s, level.inverse, *level.w, level.r, level.z, colour, level.row)

    def smooth_level_up(self, level: CoarseLevel) -> None:
        """Gauss-Seidel, black first."""
        for _ in range(self.sweeps):
            for colour in (1, 0):
                coarse.red_black(level.n, level.s, level.inverse, *level.w, level.r, level.z, colour, level.row)
