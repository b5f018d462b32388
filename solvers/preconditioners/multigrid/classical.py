"""Hand-tuned geometric multigrid on the same kernels as the learned one: the classical yardstick.

Red-black Gauss-Seidel (black-red after the correction, so that the cycle is symmetric), trilinear interpolation
renormalised where it would reach into walls, half-weight coarse faces. Briggs, Henson and McCormick (SIAM 2000),
chapters 3 and 4.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import coarse
from deepcd.solvers.kernels.records import F32, Box, Scaling, Taps, Transfer, scratch_for, taps
from deepcd.solvers.preconditioners.multigrid.coarse import RedBlackCoarse
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.exact import solve_exactly
from deepcd.solvers.preconditioners.multigrid.levels import COARSEST, Above, Aggregated, Formed, Hierarchy, Level
from deepcd.solvers.preconditioners.multigrid.unit_finest import RedBlackSweeps, UnitFinest, UnitGrid, scaling_of

DIRICHLET = 0.5  # share of the summed Dirichlet weights that is kept: the boundary lies half a coarse cell away
TAP = 0.25  # weight of the next coarse cell in trilinear interpolation
MOST_SWEEPS = 5  # largest number of sweeps that is tested
LEAST_WEIGHT = 0.2  # smallest share of interpolation weights that is divided by


def classical_cycle(
    shape: tuple[int, ...],
    diagonal: NDArray[np.uint8],
    threads: int = 1,
    sweeps: int = 2,
    *,
    coarsest: int = COARSEST,
    unweighed: int = 0,
) -> Cycle:
    """Return the classical cycle on a grid.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis.
    diagonal : uint8, padded box
        Diagonal of the operator, 0 where there is no unknown.
    threads : int, default 1
    sweeps : int, default 2
        Gauss-Seidel sweeps before and after the coarse correction, from 1 to 5: V(sweeps, sweeps) on the finest level.
    coarsest : int, optional
        Largest number of cells of a box that is solved exactly.
    unweighed : int, default 0
        See `Cycle`; by default second visits are weighed at once.

    Returns
    -------
    Cycle

    Raises
    ------
    ValueError
        If the number of sweeps is out of range.
    """
    if not 1 <= sweeps <= MOST_SWEEPS:
        raise ValueError(f"sweeps must be from 1 to {MOST_SWEEPS}, got {sweeps}")
    grid = UnitGrid(Box(*geometry(shape)), diagonal.ravel())
    hierarchy = Hierarchy.below(grid.box, coarsest, threads)
    formed = classical_levels(grid, hierarchy)
    for one in formed:
        one.level.fields.a[:] = one.inverse
    own = taps(TAP, grid.box.n)
    scaling = finest_scaling(grid, own, hierarchy.levels[0])
    finest = UnitFinest(grid, RedBlackSweeps(sweeps), scaling, own, len(scaling.cells), threads)
    exact = solve_exactly(formed[-1])
    cycle = Cycle("geometric-multigrid", finest, hierarchy, RedBlackCoarse(sweeps), exact, unweighed=unweighed)
    if not unweighed:
        cycle.weigh_second_visits()
    return cycle


def classical_levels(grid: UnitGrid, hierarchy: Hierarchy) -> list[Formed]:
    """Form operators and transfers of all coarse levels; what smooths them is left to be set."""
    above: Above = grid
    formed = []
    for level in hierarchy.levels:
        above = Aggregated.of(above, level, DIRICHLET).form()
        level.fields.psi[:] = above.inverse > 0
        level.set_taps(TAP)
        formed.append(above)
    for fine, lower in itertools.pairwise(formed):
        fine.level.fields.phi[:] = renormalisation(fine, lower.level)
    return formed


def renormalisation(fine: Formed, lower: Level) -> F32:
    """Return phi of a coarse level: interpolation is divided by its weights on unknowns of the level below.

    But not beside Dirichlet data, where the missing weights stand for zeros that are really prescribed.
    """
    share = _interpolated(fine.box, fine.level.transfer(lower), lower)
    share[fine.dirichlet > 0] = 1
    return np.where(fine.inverse > 0, 1 / np.maximum(share, np.float32(LEAST_WEIGHT)), 0)


def finest_scaling(grid: UnitGrid, own: Taps, top: Level) -> Scaling:
    """Return the same for the finest level, whose taps are `own`."""
    box, diagonal = grid.box, grid.diagonal
    share = _interpolated(box, Transfer(*top.box, *own), top)
    neighbours = sum(np.roll(diagonal, o) != 0 for d in {*box.s, 1} - {0} for o in (d, -d))
    cells = np.flatnonzero((diagonal == neighbours) & (diagonal > 0) & (share < 1 - 1e-6))
    return scaling_of(box, np.float32(1), cells, np.reciprocal(np.maximum(share[cells], np.float32(LEAST_WEIGHT))))


def _interpolated(box: Box, transfer: Transfer, lower: Level) -> F32:
    """Return P psi on a box."""
    share, ones = np.zeros(box.size, dtype=np.float32), np.ones(box.size, dtype=np.float32)
    coarse.prolong(box, ones, transfer, lower.fields.psi, scratch_for(box, 1), share)
    return share
