"""Hand-tuned geometric multigrid on the same kernels as the learned one: the classical yardstick.

Red-black Gauss-Seidel (black-red after the correction, so that the cycle is symmetric), trilinear interpolation
renormalised where it would reach into walls, half-weight coarse faces. Briggs, Henson and McCormick (SIAM 2000),
chapters 3 and 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import coarse, gauss_seidel
from deepcd.solvers.preconditioners.multigrid import (
    F32,
    NOWHERE,
    RINGS,
    Box,
    CoarseLevel,
    Multigrid,
    Taps,
)

DIRICHLET = 0.5  # of the summed Dirichlet weights: the boundary lies half a coarse cell away
MOST_SWEEPS = (3 * RINGS - 2) // 2  # whose planes the rings of a thread hold
LEAST_WEIGHT = 0.2  # of the interpolation weights that fall on unknowns or Dirichlet cells


class GeometricMultigrid(Multigrid):
    """M of a classical cycle on the padded box of a unit stencil.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis without padding.
    diagonal : ndarray of uint8, shape of the padded box
        Diagonal entries of A / scale; 0 where there is no unknown.
    sweeps : int, default 2
        From 1 to 5: Gauss-Seidel sweeps before and after the coarse correction: V(sweeps, sweeps) on the finest level.
    threads : int, default 1
    """

    name = "geometric-multigrid"

    def __init__(self, shape: tuple[int, ...], diagonal: NDArray[np.uint8], sweeps: int = 2, threads: int = 1) -> None:
        n, s = geometry(shape)
        if not 1 <= sweeps <= MOST_SWEEPS:
            raise ValueError(f"sweeps must be from 1 to {MOST_SWEEPS}, got {sweeps}")
        self.sweeps = sweeps
        super().__init__(n, s, diagonal.ravel(), threads)
        for _, level, _ in self.coarsen(DIRICHLET):
            level.finish()
            level.a[:] = level.inverse
            level.taps = Taps.of(0.25, level.n)
        self._renormalise()
        self.finish()

    def _renormalise(self) -> None:
        """Divide the interpolation by its weights on coarse unknowns, except beside Dirichlet data.

        There the missing weights stand for zeros that are really prescribed.
        """
        for level in self.levels:
            level.psi[:] = level.inverse > 0
        for fine, lower in zip(self.levels, self.levels[1:], strict=False):
            share = _interpolated(fine.n, fine.s, fine.taps, lower)
            share[fine.dirichlet > 0] = 1
            fine.phi[:] = np.where(fine.inverse > 0, 1 / np.maximum(share, np.float32(LEAST_WEIGHT)), 0)
        share = _interpolated(self.n, self.s, self.taps, self.levels[0])
        neighbours = sum(np.roll(self.diagonal, o) != 0 for d in {*self.s, 1} - {0} for o in (d, -d))
        cells = np.flatnonzero((self.diagonal == neighbours) & (self.diagonal > 0) & (share < 1 - 1e-6))
        self.list_cells(cells, np.reciprocal(np.maximum(share[cells], np.float32(LEAST_WEIGHT))))

    def allocate(self) -> None:
        """Make the work vectors; of a thread's planes, as many are a ring as half-sweeps need."""
        super().allocate()
        self.scratch = [
            (rings.reshape(-1, rings.shape[-1])[: 2 * self.sweeps + 2], np.zeros_like(rings[0, 0]), row, along)
            for rings, row, along in self.scratch
        ]

    def descend(self, r: F32) -> None:
        """Gauss-Seidel from zero, red first, into `smoothed`; restrict the residual."""
        top = self.levels[0]
        self.team.run(
            gauss_seidel.descend, self.n, self.s, self.diagonal, self.sweeps, self.starts, self.cells, self.phi,
            self.ratio, r, self.smoothed, top.n, top.s, self.taps.near, self.taps.far, top.r,
            scratch=[own[:3] for own in self.scratch], bounds=self.team.halved,
        )  # fmt: skip

    def ascend(self, r: F32, z: F32) -> float:
        """Gauss-Seidel on the corrected vector, black first."""
        top = self.levels[0]
        parts = self.team.run(
            gauss_seidel.ascend, self.n, self.s, self.diagonal, self.sweeps, self.starts, self.cells, self.phi,
            self.ratio, r, self.smoothed, z, top.n, top.s, self.taps.near, self.taps.far, top.z, scratch=self.scratch,
        )  # fmt: skip
        return float(sum(parts))

    def descend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Gauss-Seidel from zero, red first; restrict the residual."""
        gauss_seidel.descend_coarse(
            level.n, level.s, level.diagonal, level.a, level.w, self.sweeps, level.phi, r, out,
            lower.n, lower.s, level.taps.near, level.taps.far, lower.psi, lower.r, *level.scratch[0][:2],
        )  # fmt: skip

    def ascend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Gauss-Seidel on the corrected vector, black first."""
        gauss_seidel.ascend_coarse(
            level.n, level.s, level.diagonal, level.a, level.w, self.sweeps, level.phi, r, out,
            lower.n, lower.s, level.taps.near, level.taps.far, lower.z, NOWHERE, *level.scratch[0],
        )  # fmt: skip


def _interpolated(n: Box, s: tuple[int, ...], taps: Taps, lower: CoarseLevel) -> F32:
    """Return P psi on the box (n, s)."""
    size = (n[0] + 2) * s[0]
    share, ones = np.zeros(size, dtype=np.float32), np.ones(size, dtype=np.float32)
    row = np.zeros(n[2] + 4, dtype=np.float32)
    along = np.zeros(((n[1] + 1) // 2 + 2, n[2] + 4), dtype=np.float32)
    coarse.prolong(n, s, ones, lower.n, lower.s, taps.near, taps.far, lower.psi, row, along, share)
    return share
