"""Gas in a liquid: the incompressible Euler equations in two phases of different density beside a level set.

One velocity fills the box, so no air is without weight or pressure. The density jumps where the level set cuts the
lines between centres (Kang, Fedkiw and Liu, A boundary condition capturing method for multiphase incompressible flow,
Journal of Scientific Computing 15, 2000); without surface tension and viscosity the pressure itself is continuous. All
else is as in `deepcd.pde.liquid`, the volume included, which is put back by moving the surface along its normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.domains import Shape
from deepcd.pde.grids import Grid
from deepcd.pde.interfaces import two_phase
from deepcd.pde.liquid import LiquidStepper
from deepcd.pde.mac import Velocity
from deepcd.pde.projection import SolveFunction, require_positive


class BubbleStepper(LiquidStepper):
    """Moves a :class:`LiquidState` on in time, around whose liquid there is gas.

    Parameters
    ----------
    grid : Grid
        Grid whose solids, which are whole cells, walls and spacing are used; the level set decides between liquid and
        gas. Both leave through open walls, where the pressure is 0.
    solve : callable
        ``solve(system, b, x0)`` returns the pressure x with A x = b, see :func:`pressure_step`. The
        :class:`CutSystem` is a new one in every step.
    gravity : float
        Downward acceleration, in units of length / time^2.
    dt : float
        Longest time step, in units of time.
    ratio : float, default 1000.0
        Density of the liquid over that of the gas.
    cfl : float, default 1.0
        Number of cells that the fastest component of the velocity may cross in a step; longer steps are shortened.
    solid : Shape, optional
        A solid that lies still, whose surface cuts cells; whole cells are taken of a shape without a distance.
    threads : int, default 1
        Number of threads for advection; results do not depend on it.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    A bubble rises:

    >>> from itertools import islice
    >>> import numpy as np
    >>> from deepcd import DeepCD
    >>> from deepcd.pde import BubbleStepper, Grid
    >>> x, z = np.meshgrid(np.arange(16) + 0.5, np.arange(24) + 0.5, indexing="ij")
    >>> solve = lambda system, b, x0: DeepCD.solve(system.A, b, 1e-8).x
    >>> tank = BubbleStepper(Grid(np.zeros((16, 24))), solve, gravity=1.0, dt=0.5)
    >>> start = tank.start(4 - np.hypot(x - 8, z - 6))  # negative in the liquid
    >>> for state, solved in islice(tank.iterate(start), 8):
    ...     pass
    >>> bool((z * (state.phi > 0)).sum() / (state.phi > 0).sum() > 7.0), round(16 * 24 - state.volume, 1)
    (True, 50.7)
    """

    def __init__(
        self,
        grid: Grid,
        solve: SolveFunction,
        *,
        gravity: float,
        dt: float,
        ratio: float = 1000.0,
        cfl: float = 1.0,
        solid: Shape | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(grid, solve, gravity=gravity, dt=dt, cfl=cfl, solid=solid, threads=threads)
        require_positive(ratio=ratio)
        self.ratio = float(ratio)

    def _moving(self, phi: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the cells of both phases."""
        return ~self._solid

    def _system(self, phi: NDArray[np.float64]) -> CutSystem:
        """Return the pressure system of both phases, for the pressure over the density of the liquid."""
        grid = self.solids.grid
        lightness = two_phase(phi, 1.0, 1.0 / self.ratio, periodic=grid.periodic)
        slopes = tuple(slope * light for slope, light in zip(self._slopes, lightness, strict=True))
        return CutSystem(grid, self.solids.opened, slopes)

    def _continued(self, grid: Grid, flow: Velocity) -> Velocity:
        """Return the velocity of the fluids beyond their faces, but not through the faces of solids."""
        return flow if not self._solid.any() else super()._continued(grid, flow)
