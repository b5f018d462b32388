"""What the steppers of smoke and liquid share: the checks of a state, its time step, and the result of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.domains import Shape, cells_of
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.mac import Velocity, checked_velocity
from deepcd.pde.projection import PressureSolve, SolveFunction, require_positive, time_step
from deepcd.pde.solids import Solids, corner_distance, with_solid


class _FlowState(Protocol):
    """The part of a state that every flow has."""

    @property
    def velocity(self) -> Velocity: ...
    @property
    def pressure(self) -> NDArray[np.float64]: ...
    @property
    def time(self) -> float: ...
    @property
    def frame(self) -> int: ...


S = TypeVar("S", bound=_FlowState)


class Step(tuple[S, PressureSolve], Generic[S]):
    """The pair ``(state, solved)`` that a step returns, with its timing as an attribute.

    Parameters
    ----------
    state : SmokeState or LiquidState
        The state after the step; its arrays are new.
    solved : PressureSolve
        The pressure system of the step, its right-hand side, and what the solver answered.
    advection_seconds : float
        Seconds spent on carrying the fields along, extrapolation into solids included.
    """

    state: S
    solved: PressureSolve
    advection_seconds: float

    def __new__(cls, state: S, solved: PressureSolve, advection_seconds: float) -> Step[S]:
        """Make the pair."""
        self = super().__new__(cls, (state, solved))
        self.state, self.solved, self.advection_seconds = state, solved, advection_seconds
        return self


class Stepper(ABC, Generic[S]):
    """Moves a state on in time: the base of :class:`SmokeStepper` and :class:`LiquidStepper`."""

    fields: ClassVar[tuple[str, ...]]  # names of the arrays at cell centres that its states hold

    def __init__(
        self, grid: Grid, solve: SolveFunction, *, dt: float, cfl: float, solid: Shape | None, threads: int
    ) -> None:
        require_positive(dt=dt, cfl=cfl, threads=threads)
        self.grid = grid  # with the cells solid whose centres are
        self.whole = np.equal(grid.cells, Cell.SOLID)
        self.distance = corner_distance(solid, grid)
        self.solids = Solids(grid, self.distance)
        if solid is not None:
            self.grid = with_solid(grid, self.whole | cells_of(solid, grid, "the solid"))
        if self.distance is None and solid is not None:
            self.whole, self.solids = np.equal(self.grid.cells, Cell.SOLID), Solids(self.grid)
        self.solve = solve
        self.dt, self.cfl = float(dt), float(cfl)
        self.threads = threads

    def step(self, state: S) -> Step[S]:
        """Move on by one time step.

        Parameters
        ----------
        state : SmokeState or LiquidState
            The state to start from; it is not changed.

        Returns
        -------
        Step
            The pair of the new state and of the pressure system that was solved.

        Raises
        ------
        ValueError
            If an array of the state does not fit the grid or holds NaN, or if `solve` or the obstacle returns arrays
            that do not fit.
        """
        velocity = checked_velocity(self.grid, state.velocity)
        for name in self.fields:
            array = getattr(state, name)
            if array.shape != self.grid.shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite and of shape {self.grid.shape}, got shape {array.shape}")
        return self._advance(state, velocity, time_step(velocity, self.grid.spacing, self.cfl, self.dt))

    @abstractmethod
    def _advance(self, state: S, velocity: Velocity, dt: float) -> Step[S]:
        """Move a state, whose arrays have been checked, on by a time step of length `dt`."""

    def iterate(self, state: S) -> Iterator[Step[S]]:
        """Step without end.

        Parameters
        ----------
        state : SmokeState or LiquidState
            The state to start from. It is optional for smoke, which starts from :meth:`SmokeStepper.start`.

        Yields
        ------
        Step
            What :meth:`step` returns, first after one step.
        """
        while True:
            step = self.step(state)
            yield step
            state = step.state
