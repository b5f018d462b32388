"""A liquid with a free surface: the incompressible Euler equations inside a level set, surrounded by weightless air.

Cells in which the signed distance is negative are fluid, the others are air (Foster and Fedkiw, Practical Animation of
Liquids, SIGGRAPH 2001; Bridson, Fluid Simulation for Computer Graphics, 2nd ed. 2015, chapter 8). The pressure is zero
where the surface cuts the lines between centres (Gibou, Fedkiw, Cheng and Kang, 2002, see `deepcd.pde.interfaces`), and
solids that know the distance from their surface cut cells (Batty, Bertails and Bridson, 2007, see `deepcd.pde.solids`).
A step carries surface and velocity along the velocity, which is defined a few cells into the air. Then it adds gravity,
solves for the pressure in the cells that are fluid now, and continues the velocity beyond the surface again. The last
axis points up.

A level set does not keep its volume by itself. The volume that advection and redistancing lose or gain is put back by
moving the whole surface along its normal, by a small fraction of a cell per step. Two limits of the model: enclosed air
has no pressure either and may vanish, for which there is `deepcd.pde.bubbles`, and walls hold on to the liquid, so that
a film comes off a closed lid slowly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.advection import advect_scalars, advect_velocity
from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.domains import Shape
from deepcd.pde.extrapolation import extended, extrapolate
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.inflow import Inflow, Openings
from deepcd.pde.interfaces import free_surface
from deepcd.pde.level_set import liquid_volume, redistance, shift_to_volume
from deepcd.pde.mac import Velocity, face_shapes, faces_of, sides
from deepcd.pde.projection import SolveFunction, pressure_step
from deepcd.pde.stepping import Step, Stepper


@dataclass(frozen=True, eq=False)
class LiquidState:
    """A liquid at one time.

    Parameters
    ----------
    velocity : tuple of ndarray of float64
        One array per axis, on the faces of the grid, in units of velocity. The velocity of the liquid is continued a
        few cells into the air and into solids; beyond that it is 0.
    phi : ndarray of float64, shape of the grid
        Signed distance to the surface at the centres of cells, negative in the liquid, in units of length; cut off at
        the distance to which the velocity is continued.
    volume : float
        Volume that the liquid is kept at, as :func:`liquid_volume` counts it; outflow through open walls lowers it.
    pressure : ndarray of float64, shape of the grid
        Pressure of the last step, in units of length^2 / time; the next solve starts from it.
    time : float, default 0.0
        Time since the start.
    frame : int, default 0
        Number of steps since the start.
    """

    velocity: Velocity
    phi: NDArray[np.float64]
    volume: float
    pressure: NDArray[np.float64]
    time: float = 0.0
    frame: int = 0


class LiquidStepper(Stepper[LiquidState]):
    """Moves a :class:`LiquidState` on in time.

    Parameters
    ----------
    grid : Grid
        Grid whose solids, which are whole cells, walls, spacing and `air_at` are used; the level set decides between
        liquid and air. `air_at` is of use at open walls only.
    solve : callable
        ``solve(system, b, x0)`` returns the pressure x with A x = b, see :func:`pressure_step`. The
        :class:`CutSystem` is a new one in every step.
    gravity : float
        Downward acceleration, in units of length / time^2.
    dt : float
        Longest time step, in units of time.
    cfl : float, default 1.0
        Number of cells that the fastest component of the velocity may cross in a step; longer steps are shortened.
    inflows : sequence of Inflow, default ()
        Parts of walls through which liquid enters, or leaves, as long as there is any. The cells beside the former are
        full at all times.
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
    A dam breaks:

    >>> from itertools import islice
    >>> import numpy as np
    >>> from scipy.sparse.linalg import spsolve
    >>> from deepcd.pde import LiquidStepper, domain
    >>> x, z = np.meshgrid(np.arange(32) + 0.5, np.arange(16) + 0.5, indexing="ij")
    >>> tank = LiquidStepper(domain((32, 16)), lambda system, b, x0: spsolve(system.A, b), gravity=1.0, dt=0.5)
    >>> dam = tank.start(np.maximum(x - 10, z - 12))
    >>> for state, solved in islice(tank.iterate(dam), 12):
    ...     pass
    >>> bool(state.phi[14, 0] < 0 < state.phi[8, 11]), round(state.volume)
    (True, 120)
    """

    fields = ("phi", "pressure")

    def __init__(
        self,
        grid: Grid,
        solve: SolveFunction,
        *,
        gravity: float,
        dt: float,
        cfl: float = 1.0,
        inflows: Sequence[Inflow] = (),
        solid: Shape | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(grid, solve, dt=dt, cfl=cfl, solid=solid, threads=threads)
        if not np.isfinite(gravity):
            raise ValueError(f"gravity must be finite, got {gravity!r}")
        self.gravity = float(gravity)
        self._solid = np.equal(self.solids.grid.cells, Cell.SOLID)
        self._slopes = self.solids.slopes()
        self.openings = Openings(self.solids.grid, inflows)
        self._layers = math.ceil(cfl) + 2  # a trace ends at most `cfl` cells away and interpolates beyond that

    def start(self, phi: ArrayLike) -> LiquidState:
        """Return a liquid at rest.

        Parameters
        ----------
        phi : array_like, shape of the grid
            Function at the centres of cells, negative in the liquid. Only its zero matters; it need not be a distance.

        Returns
        -------
        LiquidState
            The state at time 0.

        Raises
        ------
        ValueError
            If phi is of the wrong shape or not finite.
        """
        function = np.asarray(phi, dtype=np.float64)
        if function.shape != self.grid.shape:
            raise ValueError(f"phi must have the shape of the grid, {self.grid.shape}, got {function.shape}")
        distance = self._distance(self._fed(function))
        rest = tuple(np.zeros(shape) for shape in face_shapes(self.grid))
        volume = liquid_volume(self.solids.grid, distance, self.solids.volume)
        return LiquidState(rest, distance, volume, np.zeros(self.grid.shape))

    def _advance(self, state: LiquidState, velocity: Velocity, dt: float) -> Step[LiquidState]:
        start = perf_counter()
        how: dict[str, Any] = {"periodic": self.grid.periodic, "threads": self.threads}
        inside = ~self.solids.buried
        (phi,) = advect_scalars([state.phi], velocity, dt, self.grid.spacing, inside=inside, **how)
        wet = (state.phi < 0) & ~self._solid
        moved = advect_velocity(velocity, dt, self.grid.spacing, inside=self._moving(state.phi), **how)
        seconds = perf_counter() - start
        volume = max(state.volume - dt * self._outflow(velocity, wet), 0.0)
        distance = self._distance(self._fed(phi))
        phi = self._fed(shift_to_volume(self.solids.grid, distance, volume, self.solids.volume))
        self._push(moved)
        moved[-1][...] -= dt * self.gravity
        system = self._system(phi)
        self.openings.check(system)
        cut = self.solids.held(moved)
        self.openings.prescribe(cut)
        flow, pressure, solved = pressure_step(system, cut, state.pressure, self.solve)
        new = LiquidState(self._continued(system.grid, flow), phi, volume, pressure, state.time + dt, state.frame + 1)
        return Step(new, solved, seconds)

    def _moving(self, phi: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the cells in which the velocity is that of a fluid, and not a continuation."""
        return (phi < 0) & ~self._solid

    def _system(self, phi: NDArray[np.float64]) -> CutSystem:
        """Return the pressure system of the liquid, under a surface at pressure zero."""
        cells = np.where(phi < 0, np.uint8(Cell.FLUID), np.uint8(Cell.AIR))
        cells[self._solid] = Cell.SOLID
        grid = Grid(cells, walls=self.grid.walls, spacing=self.grid.spacing, air_at=self.grid.air_at)
        return CutSystem(grid, self.solids.opened, free_surface(phi, self._slopes, periodic=grid.periodic))

    def _distance(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the signed distance; it goes on linearly beside cut cells, and deeper in solids as beside them."""
        inside, around = ~self.solids.buried, self.grid.periodic
        known = ~self._solid
        for layer in self.solids.layers:
            phi = extended(phi, known, layer, around)
            known = known | layer
        reach = self._layers * self.grid.spacing
        distance = redistance(phi, self.grid.spacing, inside=inside, reach=reach, periodic=around)
        return distance if inside.all() else extrapolate(distance, inside, periodic=around)

    def _continued(self, grid: Grid, flow: Velocity) -> Velocity:
        """Return the velocity of the liquid beyond its faces, but not through the faces of solids."""
        reach = []
        for axis, component in enumerate(flow):
            low, high = sides(grid, axis)
            reach.append(np.where((low == Cell.FLUID) | (high == Cell.FLUID), component, 0.0))
        wide = self.solids.continued(tuple(reach), grid, self._layers)
        result = []
        for axis, (component, held) in enumerate(zip(wide, self.solids.held(wide), strict=True)):
            inner = np.logical_and(*(side == Cell.SOLID for side in sides(self.solids.grid, axis)))
            result.append(np.where(inner, component, held))
        self.openings.prescribe(tuple(result))
        return tuple(result)

    def _fed(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the level set with the cells full in which liquid enters."""
        for inflow, cells in zip(self.openings.inflows, self.openings.cells, strict=True):
            if inflow.inward > 0:
                phi = np.where(cells, np.minimum(phi, -0.5 * self.grid.spacing), phi)
        return phi

    def _push(self, velocity: Velocity) -> None:
        """Give the liquid that enters its velocity, in place."""
        for inflow, cells in zip(self.openings.inflows, self.openings.cells, strict=True):
            for axis, speed in enumerate(inflow.velocity if inflow.inward > 0 else ()):
                velocity[axis][faces_of(cells, self.grid, axis)] = speed

    def _outflow(self, velocity: Velocity, wet: NDArray[np.bool_]) -> float:
        """Return the volume per time that leaves through open walls and inflows, less what enters."""
        total = -self.openings.rate(wet, self.solids.opened)
        for axis, (component, walls) in enumerate(zip(velocity, self.grid.walls, strict=True)):
            for end, sign, kind in zip((0, -1), (-1.0, 1.0), walls, strict=True):
                if kind == "air":
                    flux = self.solids.opened[axis] * component
                    through = np.take(flux, end, axis=axis)[np.take(wet, end, axis=axis)]
                    total += sign * float(through.sum()) * self.grid.spacing ** (len(self.grid.shape) - 1)
        return total
