"""Smoke and hot air: the incompressible Euler equations on the MAC grid, one time step after another.

A step follows Stable Fluids (Stam, SIGGRAPH 1999) with the forces of Fedkiw, Stam and Jensen (SIGGRAPH 2001) and
MacCormack advection. First all fields are carried along the velocity, which is free of divergence at that point.
Sources, buoyancy and vorticity confinement follow. Then the faces of solids get the velocity of the solid, and the
pressure takes out the divergence. Solids that know the distance from their surface cut cells (Batty, Bertails and
Bridson, 2007, see `deepcd.pde.solids`). The last axis points up.

Smoke is interpolated, not handed from cell to cell, so its sum drifts where eddies are only a few cells wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.advection import advect_scalars, advect_velocity
from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.domains import Region, Shape, cells_of
from deepcd.pde.extrapolation import extrapolate
from deepcd.pde.forces import buoyancy, vorticity_confinement
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.inflow import Inflow, Openings
from deepcd.pde.mac import Velocity, face_shapes, faces_of
from deepcd.pde.projection import SolveFunction, pressure_step
from deepcd.pde.solids import Solids, corner_distance, nearer, with_solid
from deepcd.pde.stepping import Step, Stepper

Obstacle = Callable[[float], tuple[Region, Sequence[ArrayLike]]]


@dataclass(frozen=True, eq=False)
class SmokeState:
    """A flow with smoke in it, at one time.

    Parameters
    ----------
    velocity : tuple of ndarray of float64
        One array per axis, on the faces of the grid, in units of velocity.
    density : ndarray of float64, shape of the grid
        Density of the smoke at the centres of cells; 0 in solids.
    temperature : ndarray of float64, shape of the grid
        Temperature above that of the surrounding air, at the centres of cells; 0 in solids.
    pressure : ndarray of float64, shape of the grid
        Pressure of the last step, in units of length^2 / time; the next solve starts from it.
    time : float, default 0.0
        Time since the start.
    frame : int, default 0
        Number of steps since the start.
    """

    velocity: Velocity
    density: NDArray[np.float64]
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]
    time: float = 0.0
    frame: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """A region in which every step sets density, temperature or velocity; those that are None are left alone.

    Parameters
    ----------
    region : Shape or array_like of bool, shape of the grid
        The cells of the source; those that are solid are left out.
    density, temperature : float, optional
        Values that are set in these cells.
    velocity : sequence of float, optional
        One component per axis, in units of velocity, set on the faces of these cells before the pressure is solved for.
    """

    region: Region
    density: float | None = None
    temperature: float | None = None
    velocity: Sequence[float] | None = None


class SmokeStepper(Stepper[SmokeState]):
    """Moves a :class:`SmokeState` on in time.

    Parameters
    ----------
    grid : Grid
        Grid of fluid and solid cells; the solid ones are whole cells.
    solve : callable
        ``solve(system, b, x0)`` returns the pressure x with A x = b, see :func:`pressure_step`. As long as no obstacle
        moves, the :class:`CutSystem` is the same object in every step, so that its solver needs to be prepared only
        once.
    dt : float
        Longest time step, in units of time.
    cfl : float, default 2.0
        Number of cells that the fastest component of the velocity may cross in a step; longer steps are shortened.
    alpha : float, default 0.0
        Downward acceleration per unit of smoke density.
    beta : float, default 1.0
        Upward acceleration per unit of temperature.
    epsilon : float, default 0.0
        Strength of the vorticity confinement, in units of 1 / time.
    sources : sequence of Source, default ()
        Regions in which smoke, heat or velocity is set in every step.
    inflows : sequence of Inflow, default ()
        Parts of walls through which fluid enters or leaves.
    solid : Shape, optional
        A solid that lies still, whose surface cuts cells; whole cells are taken of a shape without a distance.
    obstacle : callable, optional
        ``obstacle(time)`` returns two things: a :class:`Shape` or the bool array of the cells of a solid, which is
        added to those that lie still, and its velocity, one entry per axis, each a float or an array over the faces of
        that axis. A solid that lies still may have a velocity (a conveyor, a drum). The system is replaced only when
        the solid has moved.
    threads : int, default 1
        Number of threads for all work but the solve; results do not depend on it.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from itertools import islice
    >>> from scipy.sparse.linalg import spsolve
    >>> from deepcd.pde import SmokeStepper, Source, ball, domain
    >>> grid = domain((16, 24), walls=["solid", ("solid", "air")])
    >>> fire = Source(ball((8, 4), 2), 1.0, 1.0)
    >>> plume = SmokeStepper(
    ...     grid, lambda system, b, x0: spsolve(system.A, b), dt=0.5, sources=[fire], solid=ball((8, 16), 3)
    ... )
    >>> for state, solved in islice(plume.iterate(), 10):
    ...     pass
    >>> state.frame, solved.b.shape, bool(state.velocity[1][8, 6] > 0.5)
    (10, (368,), True)
    """

    fields = ("density", "temperature", "pressure")

    def __init__(
        self,
        grid: Grid,
        solve: SolveFunction,
        *,
        dt: float,
        cfl: float = 2.0,
        alpha: float = 0.0,
        beta: float = 1.0,
        epsilon: float = 0.0,
        sources: Sequence[Source] = (),
        inflows: Sequence[Inflow] = (),
        solid: Shape | None = None,
        obstacle: Obstacle | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(grid, solve, dt=dt, cfl=cfl, solid=solid, threads=threads)
        if (grid.cells == Cell.AIR).any():
            raise ValueError('smoke fills fluid cells; the grid has cells of air. An open box is one with walls="air"')
        for name, number in (("alpha", alpha), ("beta", beta)):
            if not np.isfinite(number):
                raise ValueError(f"{name} must be finite, got {number!r}")
        if not (np.isfinite(epsilon) and epsilon >= 0):
            raise ValueError(f"epsilon must be finite and from 0 up, got {epsilon!r}")
        self.alpha, self.beta, self.epsilon = alpha, beta, epsilon
        self.sources = [(cells_of(source.region, grid, "the region of a source"), source) for source in sources]
        for _, source in self.sources:
            _check_source(source, len(grid.shape))
        self.openings = Openings(self.solids.grid, inflows)
        for inflow, layer in zip(self.openings.inflows, self.openings.layers(self.dt, cfl), strict=True):
            brought = Source(layer, inflow.density, inflow.temperature, inflow.velocity)
            _check_source(brought, len(grid.shape))
            self.sources.append((layer, brought))
        self.obstacle = obstacle
        self._now = (0.0, self._place(0.0, None))
        if self.openings:
            self.openings.check(self._now[1].system)

    def start(self) -> SmokeState:
        """Return clear air at rest.

        Returns
        -------
        SmokeState
            The state at time 0.
        """
        rest = tuple(np.zeros(shape) for shape in face_shapes(self.grid))
        density, temperature, pressure = (np.zeros(self.grid.shape) for _ in range(3))
        return SmokeState(rest, density, temperature, pressure)

    def iterate(self, state: SmokeState | None = None) -> Iterator[Step[SmokeState]]:
        """Step without end, from :meth:`start` unless a state is given."""
        return super().iterate(self.start() if state is None else state)

    def _advance(self, state: SmokeState, velocity: Velocity, dt: float) -> Step[SmokeState]:
        h = self.grid.spacing
        around = self.grid.periodic
        before = self._at(state.time)
        start = perf_counter()
        fluid = before.solids.grid.fluid
        scalars = [state.density, state.temperature]
        if not fluid.all():
            layers = math.ceil(self.cfl) + 1  # traces end at most so far inside a solid, and interpolate beyond that
            velocity = before.solids.continued(velocity, before.solids.grid, layers)
            scalars = [extrapolate(scalar, fluid, layers, around) for scalar in scalars]
        how: dict[str, Any] = {"inside": fluid, "periodic": around, "threads": self.threads}
        density, temperature = advect_scalars(scalars, velocity, dt, h, **how)
        moved = advect_velocity(velocity, dt, h, **how)
        seconds = perf_counter() - start
        if self.epsilon > 0:
            push = vorticity_confinement(before.solids.grid, velocity, self.epsilon, self.threads)
            for component, acceleration in zip(moved, push, strict=True):
                component += dt * acceleration

        after = self._at(state.time + dt)
        for region, source in self.sources:
            if source.density is not None:
                density[region] = source.density
            if source.temperature is not None:
                temperature[region] = source.temperature
        solid = np.not_equal(after.solids.grid.cells, Cell.FLUID)
        density[solid] = temperature[solid] = 0.0
        upward = buoyancy(density, temperature, self.alpha, self.beta, periodic=len(self.grid.shape) - 1 in around)
        moved[-1][...] += dt * upward
        for region, source in self.sources:
            for axis, speed in enumerate(() if source.velocity is None else source.velocity):
                moved[axis][faces_of(region, self.grid, axis)] = speed
        cut = after.solids.held(moved)
        self.openings.prescribe(cut)
        motion = after.solids.motion
        velocity, pressure, solved = pressure_step(after.system, cut, state.pressure, self.solve, motion)
        new = SmokeState(velocity, density, temperature, pressure, state.time + dt, state.frame + 1)
        return Step(new, solved, seconds)

    def _at(self, time: float) -> _Place:
        """Return the solids at a time and their system, which is the one before if they have not moved."""
        if self.obstacle is not None and time != self._now[0]:
            self._now = (time, self._place(time, self._now[1]))
        return self._now[1]

    def _place(self, time: float, last: _Place | None) -> _Place:
        if self.obstacle is None:
            return _Place(self.solids)
        region, motion = self.obstacle(time)
        shapes = face_shapes(self.grid)
        if len(motion) != len(shapes):
            raise ValueError(f"the obstacle needs one velocity per axis ({len(shapes)}), got {len(motion)}")
        speeds = []
        for axis, (speed, shape) in enumerate(zip(motion, shapes, strict=True)):
            array = np.asarray(speed, dtype=np.float64)
            if array.shape not in ((), shape) or not np.isfinite(array).all():
                raise ValueError(
                    f"the velocity of the obstacle along axis {axis} must be a finite float or an array of shape "
                    f"{shape}, got {speed!r}"
                )
            speeds.append(array)
        still, whole = self.distance, self.whole
        distance = corner_distance(region, self.grid) if isinstance(region, Shape) else None
        if distance is None:
            moving = cells_of(region, self.grid, "the obstacle")
            own = [np.where(faces_of(moving, self.grid, axis), v, 0.0) for axis, v in enumerate(speeds)]
            cells, joined = whole | moving, still
        else:
            # A face moves with the solid that is nearer to it; whole cells lie still.
            own = [np.where(faces_of(whole, self.grid, axis), 0.0, v) for axis, v in enumerate(speeds)]
            if still is not None:
                own = [np.where(nearer(distance, still, axis), v, 0.0) for axis, v in enumerate(own)]
            cells, joined = whole, distance if still is None else np.minimum(distance, still)
        if last is not None and last.solids.same(joined, cells):
            last.solids.motion = tuple(own)
            return last
        return _Place(Solids(with_solid(self.grid, cells), joined, tuple(own)))


class _Place:
    """The solids at one time, and their pressure system, assembled when first used."""

    def __init__(self, solids: Solids) -> None:
        self.solids = solids

    @cached_property
    def system(self) -> CutSystem:
        return self.solids.system()


def _check_source(source: Source, ndim: int) -> None:
    for name, value in (("density", source.density), ("temperature", source.temperature)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"the {name} of a source must be finite, got {value!r}")
    if source.velocity is not None and (len(source.velocity) != ndim or not np.isfinite(source.velocity).all()):
        raise ValueError(
            f"the velocity of a source must be one finite component per axis ({ndim}), got {source.velocity!r}"
        )
