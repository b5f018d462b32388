"""Geometric multigrid on a grid whose cells are coupled to all around them: bilinear elements, images, landscapes.

The matrix itself is smoothed with on the finest level. Coarse levels are those of an operator on faces that is close to
it in the sense of energies (`grids/wide.py`): smooth functions have the same energy in both, and what they differ by,
up to nine for what changes sign from cell to cell, is left to the smoothing.

The cycle is positive definite by construction. With S the smoothing polynomial and C the coarse correction, which is
positive semidefinite, I - M A = (I - S A) (I - C A) (I - S A), so that M A = I - (I - S A)^2 + (I - S A) C A (I - S A)
in the inner product of A; and the polynomial is made for an interval with all eigenvalues of D^-1 A, within which
|1 - s(t) t| < 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.stencils import AroundStencil
from deepcd.solvers.kernels.faces.records import Grid
from deepcd.solvers.preconditioners.multigrid.face_cycle import COARSEST, FaceCycle, chebyshev

# Smoothing steps before and after the correction, and the share of the eigenvalues of D^-1 A that they are to reduce,
# in two and in three dimensions.
FLAT_STEPS, FLAT_SHARE = 4, 1 / 6
STEPS, SHARE = 3, 1 / 4


class AroundCycle(FaceCycle):
    """M of a multigrid cycle whose finest level is the matrix itself, and whose coarser ones have faces.

    Parameters
    ----------
    grid : Grid
        The finest box.
    stencil : AroundStencil
        Its operator.
    threads : int, default 1
    coarsest : int, optional
        Largest number of cells of a box that is solved exactly.
    parameters : dict of str to ndarray, optional
        Parameters of the networks as they are stored; without them the cycle is the classical one.
    sealed : ndarray of int32, flat on the padded box, optional
        As for `FaceCycle`.
    """

    flat = 3, (2 / 10, 2.0)

    def __init__(
        self,
        grid: Grid,
        stencil: AroundStencil,
        threads: int = 1,
        *,
        coarsest: int = COARSEST,
        parameters: dict[str, Any] | None = None,
        sealed: NDArray[np.int32] | None = None,
    ) -> None:
        steps, share = (FLAT_STEPS, FLAT_SHARE) if grid.s[1] == 0 else (STEPS, SHARE)
        self.grid, self.omegas = grid, chebyshev(steps, share * stencil.bound, stencil.bound)
        self.fields = stencil.fields
        self._set_up(stencil.near.faces, coarsest, parameters, sealed)
        self._allocate(threads)
