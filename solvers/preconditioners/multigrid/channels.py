"""The coarse levels of the learned cycle in channels, long and narrow: classical but for their smoother.

The learned transfers and coarse operators are tuned to boxes whose walls are a small part of them. In a channel every
cell is near a wall. What interpolation makes of a constant then differs from one over the whole length, with an energy
that grows as the square of the length beside that of the smoothest functions, and iterations grow with it. Classical
interpolation is divided by its weights, so that constants are kept, and classical face weights keep conductances.
"""

from __future__ import annotations

import numpy as np

from deepcd.solvers.grids.embedding import SLENDER, is_slender
from deepcd.solvers.kernels.records import Scaling, Taps, taps
from deepcd.solvers.learned.architecture import A0, C0
from deepcd.solvers.preconditioners.multigrid.classical import TAP, classical_levels, finest_scaling
from deepcd.solvers.preconditioners.multigrid.levels import Formed, Hierarchy
from deepcd.solvers.preconditioners.multigrid.spectrum import limit_smoother
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitGrid


def is_channel(grid: UnitGrid) -> bool:
    """Return whether a grid is slender, and has no Dirichlet data over so long a stretch.

    Where there are such data beside every stretch, as on a long tank that is open above, nothing reaches far.
    """
    box, diagonal = grid.box, grid.diagonal
    sides = [k for axis, k in enumerate(box.n) if axis != 1 or box.s[1]]
    if not is_slender(tuple(sides)):
        return False
    neighbours = sum(np.roll(diagonal, o) != 0 for d in {*box.s, 1} - {0} for o in (d, -d))
    held = ((diagonal > 0) & (diagonal > neighbours)).reshape([k + 2 for k in sides])
    long = int(np.argmax(sides))
    planes = held.any(axis=tuple(axis for axis in range(len(sides)) if axis != long))
    planes[[0, -1]] = True  # of the padding: where the box ends
    return int(np.diff(np.flatnonzero(planes)).max()) > SLENDER * sorted(sides)[-2]


def channel_levels(grid: UnitGrid, hierarchy: Hierarchy, bound: float) -> tuple[Formed, Scaling, Taps]:
    """Set up all coarse levels of a channel, and the transfer to the first of them.

    Parameters
    ----------
    grid : UnitGrid
    hierarchy : Hierarchy
        Its fields are zero.
    bound : float
        Upper bound for eigenvalue estimates of S A.

    Returns
    -------
    last : Formed
        The coarsest level.
    scaling : Scaling
        Scaling of the transfer from the finest level.
    taps : Taps
        Its weights.
    """
    formed = classical_levels(grid, hierarchy)
    for one in formed:
        _smooth(one)
        limit_smoother(one.level, bound)
    own = taps(TAP, grid.box.n)
    return formed[-1], finest_scaling(grid, own, hierarchy.levels[0]), own


def _smooth(formed: Formed) -> None:
    """Set the smoother to what the learned one is where its networks answer zero.

    On a chain it leaves at most a fifth of what is not smooth.
    """
    own, inverse = formed.level.fields, formed.inverse
    own.a[:] = np.float32(A0) * inverse
    for axis, stride in enumerate(formed.box.strides):
        if stride:
            own.c[axis] = np.float32(C0) * own.w[axis] * inverse * np.roll(inverse, -stride)
            own.a[:] += own.c[axis] + np.roll(own.c[axis], stride)
