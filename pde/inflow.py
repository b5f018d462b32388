"""Fluid that enters at a given velocity, or leaves, through a part of a solid wall or one side of a solid.

The faces of that part keep their velocity as the faces of a moving solid do, so the pressure system stays the same, and
its right-hand side gets what they let in. In a chamber without air, as much has to leave as enters; there is no flow
free of divergence otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.domains import Shape, cells_of
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.mac import Velocity, face_shapes

UNEVEN = 1e-9  # net flow into a chamber without air that counts as none, relative to all that enters and leaves


@dataclass(frozen=True, eq=False)
class Inflow:
    """A part of a wall, or a nozzle, through which fluid enters.

    Parameters
    ----------
    axis : int
        The axis along which fluid enters.
    end : {"low", "high"}
        The end of the axis at which the wall, or the nozzle, lies behind the fluid.
    velocity : sequence of float
        One component per axis, in units of velocity; fluid leaves where it points out of the box, or into the nozzle.
    region : Shape, optional
        The part of the wall: the cells beside it whose centres are inside. Default: all of the wall.
    nozzle : bool, default False
        Whether the region is a solid of the grid instead, which lets fluid out on one side.
    density, temperature : float, optional
        What the fluid that enters brings along, for smoke only.
    """

    axis: int
    end: Literal["low", "high"]
    velocity: Sequence[float]
    region: Shape | None = None
    nozzle: bool = False
    density: float | None = None
    temperature: float | None = None

    @property
    def inward(self) -> float:
        """The speed at which fluid enters; negative if it leaves."""
        return self.velocity[self.axis] * (1.0 if self.end == "low" else -1.0)


class Openings:
    """The inflows of a simulation on its grid.

    Parameters
    ----------
    grid : Grid
        The grid, with the solids that stay.
    inflows : sequence of Inflow

    Raises
    ------
    ValueError
        If an inflow is malformed, its wall is not solid, or none of the cells beside it are open.
    """

    def __init__(self, grid: Grid, inflows: Sequence[Inflow]) -> None:
        self.grid, self.inflows = grid, tuple(inflows)
        self.cells = [_beside(grid, inflow) for inflow in inflows]
        for i, one in enumerate(self.inflows):  # of those at the same place the last counts
            for other, cells in zip(self.inflows[i + 1 :], self.cells[i + 1 :], strict=True):
                if (one.axis, one.end, one.nozzle) == (other.axis, other.end, other.nozzle):
                    self.cells[i] = self.cells[i] & ~cells

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.inflows)

    def prescribe(self, velocity: Velocity) -> None:
        """Set the velocity on the faces through which fluid enters, in place."""
        for inflow, cells in zip(self.inflows, self.cells, strict=True):
            faces = np.moveaxis(velocity[inflow.axis], inflow.axis, 0)
            behind = faces[:-1] if inflow.end == "low" else faces[1:]
            behind[np.moveaxis(cells, inflow.axis, 0)] = inflow.velocity[inflow.axis]

    def rate(self, wet: NDArray[np.bool_], opened: Velocity | None = None) -> float:
        """Return the volume that enters per time, less what leaves, through the open faces of cells that are wet."""
        total, area = 0.0, self.grid.spacing ** (len(self.grid.shape) - 1)
        for inflow, cells in zip(self.inflows, self.cells, strict=True):
            shape = face_shapes(self.grid)[inflow.axis]
            faces = np.moveaxis(np.ones(shape) if opened is None else opened[inflow.axis], inflow.axis, 0)
            behind = faces[:-1] if inflow.end == "low" else faces[1:]
            total += inflow.inward * float(behind[np.moveaxis(cells & wet, inflow.axis, 0)].sum())
        return area * total

    def layers(self, dt: float, most: float) -> list[NDArray[np.bool_]]:
        """Return the open cells that each inflow crosses in a time step, at most so many in a row and at least one."""
        result = []
        for inflow, cells in zip(self.inflows, self.cells, strict=True):
            crossed = min(inflow.inward * dt / self.grid.spacing, most)
            layer = front = cells if crossed > 0 else np.zeros_like(cells)
            for _ in range(1, min(int(np.ceil(crossed)), self.grid.shape[inflow.axis])):
                front = _ahead(front, inflow) & np.not_equal(self.grid.cells, Cell.SOLID)
                layer = layer | front
            result.append(layer)
        return result

    def check(self, system: CutSystem) -> None:
        """Refuse inflows into a chamber that nothing leaves.

        Raises
        ------
        ValueError
            If the chamber has no air and what enters it does not leave through another part of a wall.
        """
        if not self.inflows or not system.sealed.any():
            return
        flow = tuple(np.zeros(shape) for shape in face_shapes(system.grid))
        self.prescribe(flow)
        entering = -system.from_field(system.divergence(flow)) * system.grid.spacing ** len(system.grid.shape)
        net = np.bincount(system.component, weights=entering)
        through = np.bincount(system.component, weights=np.abs(entering))
        wrong = system.sealed & (np.abs(net) > UNEVEN * through)
        if wrong.any():
            way = "enters, and nothing lets it out" if net[wrong][0] > 0 else "leaves, and nothing lets any in"
            raise ValueError(
                f"of an inflow {abs(net[wrong][0]):.3g} per unit of time {way}, since its chamber is full and closed; "
                'open a wall ("air"), or balance it by an inflow the other way'
            )


def _ahead(cells: NDArray[np.bool_], inflow: Inflow) -> NDArray[np.bool_]:
    """Return the cells one further away from where fluid enters."""
    result, beside = np.zeros_like(cells), np.moveaxis(cells, inflow.axis, 0)
    ahead = np.moveaxis(result, inflow.axis, 0)
    if inflow.end == "low":
        ahead[1:] = beside[:-1]
    else:
        ahead[:-1] = beside[1:]
    return result


def _beside(grid: Grid, inflow: Inflow) -> NDArray[np.bool_]:
    """Return the open cells that an inflow enters."""
    ndim = len(grid.shape)
    if inflow.axis not in range(ndim) or inflow.end not in ("low", "high"):
        raise ValueError(f'an inflow needs an axis from 0 to {ndim - 1} and an end, "low" or "high", got '
                         f"{inflow.axis!r} and {inflow.end!r}")  # fmt: skip
    if len(inflow.velocity) != ndim or not np.isfinite(inflow.velocity).all():
        raise ValueError(f"the velocity of an inflow must be one finite component per axis ({ndim}), got "
                         f"{inflow.velocity!r}")  # fmt: skip
    kind = grid.walls[inflow.axis][inflow.end == "high"]
    if kind != "solid" and not inflow.nozzle:
        raise ValueError(
            f'an inflow needs a solid wall, but that at the {inflow.end} end of axis {inflow.axis} is "{kind}"'
        )
    region, solid = inflow.region, np.equal(grid.cells, Cell.SOLID)
    covered = np.ones(grid.shape, dtype=bool) if region is None else cells_of(region, grid, "the region of an inflow")
    if inflow.nozzle:
        cells, where = _ahead(covered & solid, inflow) & ~solid, "beside its nozzle"
    else:
        wall = np.zeros(grid.shape, dtype=bool)
        np.moveaxis(wall, inflow.axis, 0)[0 if inflow.end == "low" else -1] = True
        cells, where = covered & wall & ~solid, f"at the {inflow.end} end of axis {inflow.axis}"
    if not cells.any():
        raise ValueError(f"an inflow covers no open cell {where}; move or enlarge it")
    return cells
