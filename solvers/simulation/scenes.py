"""Scenes: what a simulation starts from, read from TOML files.

    kind = "smoke"                      # or "liquid", or "bubbles": gas in liquid
    shape = [64, 64, 96]                # cells per axis, at least 4; the last axis points up
    frames = 100
    dt = 0.02                           # longest time step; the unit of length is the edge of the box along axis 0
    cfl = 2.0                           # cells per step that the flow may cross
    walls = ["periodic", "solid", ["solid", "air"]]  # per axis, or per end of an axis
    tol = 1e-6                          # tolerance of the pressure solves
    view = 1                            # axis along which pictures are seen
    beta = 1.0                          # smoke: alpha, beta, epsilon; liquid: gravity; bubbles: gravity, ratio

    [[source]]                          # smoke: where smoke and heat flow in
    ball = { center = [0.5, 0.5, 0.2], radius = 0.1 }
    density = 1.0
    temperature = 1.0

    [[inflow]]                          # through the solid wall from which the velocity points into the box; a shape,
    velocity = [1.0, 0.0, 0.0]          # as of a source, limits it to a part of the wall, or is a nozzle inside the box
    axis = 0                            # optional: the wall at the "low" or "high" end of this axis, also where the
    end = "low"                         # velocity points out of the box and fluid leaves
    density = 1.0                       # smoke: density and temperature that it brings along

    [[fill]]                            # liquid: what is full at the start
    box = { low = [0, 0, 0], high = [0.3, 1, 0.6] }

    [[bubble]]                          # bubbles: what is full of gas at the start, all else is liquid
    ball = { center = [0.5, 0.5, 0.3], radius = 0.2 }

    [[obstacle]]                        # as many as needed
    mesh = { name = "knot", fit = [[0.2, 0.2, 0.5], [0.8, 0.8, 1.1]] }

    [obstacle.turn]                     # smoke in 3D only: turns around a vertical axis
    center = [0.5, 0.5]
    period = 2.0

Sources, fills, bubbles and obstacles have one of `ball`, `box`, `cylinder` and `mesh` each. A mesh has either a `file`
(STL, PLY or OBJ, relative to the scene) or the `name` of a mesh that the code makes, and it is fitted into a box.
Obstacles cut cells; nozzles are whole cells. Unknown keys are refused, and a warning names whatever the grid is too
coarse for.
"""

from __future__ import annotations

import functools
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.pde import (
    BubbleStepper,
    Cell,
    Inflow,
    LiquidState,
    LiquidStepper,
    Shape,
    SmokeState,
    SmokeStepper,
    Source,
    domain,
    filling,
    together,
    turning,
)
from deepcd.pde.domains import cells_of
from deepcd.pde.projection import SolveFunction
from deepcd.pde.stepping import Stepper
from deepcd.solvers.simulation.shapes import SOLIDS, Part, read_shape
from deepcd.solvers.simulation.tables import SceneError, at, known, listed, numbers

State = SmokeState | LiquidState
Turn = tuple[tuple[float, float], float]

COMMON = ("title", "kind", "shape", "frames", "walls", "tol", "view", "obstacle")
PLACES = {"smoke": ("source", "inflow"), "liquid": ("fill", "inflow"), "bubbles": ("bubble",)}
# Options that are passed on to the stepper. It has defaults of its own, except for those of REQUIRED.
OPTIONS = {
    "smoke": ("dt", "cfl", "alpha", "beta", "epsilon"),
    "liquid": ("dt", "cfl", "gravity"),
    "bubbles": ("dt", "cfl", "gravity", "ratio"),
}
REQUIRED = {"smoke": {"dt": 0.02}, "liquid": {"dt": 0.02, "gravity": 1.0}, "bubbles": {"dt": 0.02, "gravity": 1.0}}
BRINGS: dict[str, tuple[str, ...]] = {"smoke": ("density", "temperature"), "liquid": ()}  # what an inflow may carry


class SceneWarning(UserWarning):
    """A part of a scene gets lost on its grid; the message names the file, the key and the size in cells."""


@dataclass(frozen=True)
class Scene:
    """A scene that has been read.

    Attributes
    ----------
    title : str
    kind : {"smoke", "liquid", "bubbles"}
    shape : tuple of 2 or 3 ints
        Cells per axis.
    frames : int
        Number of time steps.
    tol : float
        Tolerance of the pressure solves.
    view : {0, 1, 2}
        Axis along which pictures are seen.
    walls : sequence
        The walls of the grid, see `deepcd.pde.domain`.
    obstacles : tuple of (Part, turn)
        The solids in the box at time 0, and how each turns: None, or center and period, see `deepcd.pde.turning`.
    sources : tuple of Source
        Where smoke and heat flow in; none for a liquid.
    fills : tuple of Part
        What is full of liquid, or of gas in a scene of bubbles, at the start; nothing for smoke.
    inflows : tuple of Inflow
        Where fluid enters.
    nozzles : tuple of Part
        The shapes of inflows inside the box, which are solid.
    others : tuple of Part
        The shapes of the sources and of the other inflows.
    options : dict of str to float
        Options of the stepper, as `dt` and `cfl`.
    record : dict
        The content of the file, with the shape that is used. It decides every number of the run, so a checkpoint keeps
        it to recognise its scene.
    """

    title: str
    kind: str
    shape: tuple[int, ...]
    frames: int
    tol: float
    view: int
    walls: Sequence[Any]
    obstacles: tuple[tuple[Part, Turn | None], ...]
    sources: tuple[Source, ...]
    fills: tuple[Part, ...]
    inflows: tuple[Inflow, ...]
    nozzles: tuple[Part, ...]
    others: tuple[Part, ...]
    options: Mapping[str, float]
    record: Mapping[str, Any]

    def stepper(self, solve: SolveFunction, threads: int = 1) -> Stepper[Any]:
        """Return the stepper that moves the scene on, with a solver for the pressure.

        Parameters
        ----------
        solve : callable
            The solver, see `deepcd.pde.pressure_step`.
        threads : int, default 1
            Number of threads for advection.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        nozzles, solid = _union(self.nozzles), _union([part for part, turn in self.obstacles if turn is None])
        grid = domain(self.shape, solid=nozzles, walls=self.walls, spacing=1.0 / self.shape[0])
        options: dict[str, Any] = {"threads": threads, "solid": solid, **self.options}
        if self.kind == "bubbles":
            return BubbleStepper(grid, solve, **options)
        options["inflows"] = self.inflows
        if self.kind == "liquid":
            return LiquidStepper(grid, solve, **options)
        moving = [turning(part.shape, grid, *turn) for part, turn in self.obstacles if turn is not None]
        obstacle = together(moving, grid) if moving else None
        return SmokeStepper(grid, solve, sources=self.sources, obstacle=obstacle, **options)

    def start(self, stepper: Stepper[Any]) -> State:
        """Return the state that the scene begins with."""
        if isinstance(stepper, SmokeStepper):
            return stepper.start()
        assert isinstance(stepper, LiquidStepper)
        level = filling([part.shape for part in self.fills], stepper.grid)
        return stepper.start(-level if self.kind == "bubbles" else level)

    def losses(self) -> Iterator[str]:
        """Say what the grid loses of the scene, in one sentence each."""
        stepper = self.stepper(lambda system, b, x0: x0)
        grid = stepper.grid
        taken = np.equal(grid.cells, Cell.SOLID)
        for part in (*(part for part, _ in self.obstacles), *self.nozzles):
            yield part.loss(cells_of(part.shape, grid, part.where), grid.spacing)
        neighbours, dirichlet = grid.couplings()
        if not (~taken & (neighbours + dirichlet > 0)).any():
            yield "the obstacles fill the whole box, so that there is nothing to simulate; make room for fluid"
            return
        for part in (*self.fills, *self.others):
            cells = cells_of(part.shape, grid, part.where)
            yield part.loss(cells, grid.spacing)
            if cells.any() and taken[cells].all():
                yield f"{part.where} lies inside of obstacles, so that it has no effect"
        state = self.start(stepper)
        if self.kind == "liquid" and isinstance(state, LiquidState) and not (np.less(state.phi, 0) & ~taken).any():
            yield "no cell is full of liquid, so that there is nothing to simulate; enlarge the fills"


def _union(parts: Sequence[Part]) -> Shape | None:
    return functools.reduce(Shape.__or__, [part.shape for part in parts]) if parts else None


def read_scene(path: Path, scale: float = 1.0) -> Scene:
    """Read a scene, or refuse it.

    Parameters
    ----------
    path : Path
        A TOML file; see the head of this module.
    scale : float, default 1.0
        Factor for the number of cells per axis, for a look at a lower resolution.

    Returns
    -------
    Scene

    Raises
    ------
    SceneError
        If the file cannot be read, has unknown keys, or holds values that are out of range.

    Warns
    -----
    SceneWarning
        Once for each thing that is lost, in whole or in part, because the cells are too large for it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SceneError(f"scene {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SceneError(f"scene {path}: is no TOML ({error})") from error
    try:
        scene = _Reader(path, tables, scale).scene()
        losses = [loss for loss in scene.losses() if loss]  # this refuses numbers that are out of range, too
    except (KeyError, TypeError, AttributeError, ValueError, MemoryError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SceneError(f"scene {path}: {what}") from error
    for loss in losses:
        warnings.warn(f"scene {path}: {loss}", SceneWarning, stacklevel=2)
    return scene


class _Reader:
    """Turns the tables of a scene file into a `Scene`; keys and values that make no sense are refused."""

    def __init__(self, path: Path, tables: dict[str, Any], scale: float) -> None:
        self.path, self.tables = path, tables
        self.kind = str(tables.get("kind"))
        if self.kind not in PLACES:
            raise SceneError(f"kind must be one of {', '.join(PLACES)}, got {tables.get('kind')!r}")
        known(tables, (*COMMON, *OPTIONS[self.kind], *PLACES[self.kind]), "the scene")
        shape = tables["shape"]
        if not (isinstance(shape, list) and len(shape) in (2, 3) and all(type(n) is int for n in shape)):
            raise SceneError(f"shape must be two or three whole numbers of cells, got {shape!r}")
        self.shape = tuple(round(n * scale) for n in shape)
        if min(self.shape) < 4:
            raise SceneError(f"shape must have at least 4 cells per axis, got {' x '.join(map(str, self.shape))}")

    def scene(self) -> Scene:
        tables = self.tables
        frames, tol, view = tables.get("frames", 100), tables.get("tol", 1e-6), tables.get("view", 1)
        if not (type(frames) is int and frames >= 1):
            raise SceneError(f"frames must be a whole number from 1 up, got {frames!r}")
        if not (isinstance(tol, float) and 0 < tol < 1):
            raise SceneError(f"tol must be between 0 and 1, got {tol!r}")
        if type(view) is not int or view not in (0, 1, 2):
            raise SceneError(f"view must be an axis, 0, 1 or 2, got {view!r}")
        walls = tables.get("walls", ["solid"] * len(self.shape))
        if not isinstance(walls, list):
            raise SceneError(f"walls must be a list with one entry per axis, got {walls!r}")
        full = "bubble" if self.kind == "bubbles" else "fill"
        fills = tuple(self._part(table, where) for where, table in listed(tables.get(full, []), full))
        if self.kind != "smoke" and not fills:
            raise SceneError("a liquid needs at least one [[fill]]" if full == "fill" else "bubbles need a [[bubble]]")
        pairs = [self._source(table, where) for where, table in listed(tables.get("source", []), "source")]
        sources, parts = [source for source, _ in pairs], [part for _, part in pairs]
        inflows = [self._inflow(table, where) for where, table in listed(tables.get("inflow", []), "inflow")]
        several = tables.get("obstacle", [])
        obstacles = listed(several, "obstacle") if isinstance(several, list) else [("obstacle", several)]
        return Scene(
            title=str(tables.get("title", self.path.stem)),
            kind=self.kind,
            shape=self.shape,
            frames=frames,
            tol=tol,
            view=view,
            walls=[tuple(w) if isinstance(w, list) else w for w in walls],
            obstacles=tuple(self._obstacle(table, where) for where, table in obstacles),
            sources=tuple(sources),
            fills=fills,
            inflows=tuple(inflow for inflow, _ in inflows),
            nozzles=tuple(part for inflow, part in inflows if part is not None and inflow.nozzle),
            others=(*parts, *(part for inflow, part in inflows if part is not None and not inflow.nozzle)),
            options=REQUIRED[self.kind]
            | {name: numbers(tables[name], name) for name in OPTIONS[self.kind] if name in tables},
            record=tables | {"shape": list(self.shape)},
        )

    def _obstacle(self, table: Any, where: str) -> tuple[Part, Turn | None]:
        known(table, (*SOLIDS, "turn"), where)
        part = self._shape(table, where)
        if "turn" not in table:
            return part, None
        if self.kind != "smoke" or len(self.shape) != 3 or "mesh" in table:
            raise SceneError(f"{where}.turn is for a ball, box or cylinder in smoke, in three dimensions")
        turn = table["turn"]
        known(turn, ("center", "period"), f"{where}.turn")
        with at(f"{where}.turn"):
            a, b = numbers(turn["center"], f"{where}.turn.center", 2)
            return part, ((float(a), float(b)), float(numbers(turn["period"], f"{where}.turn.period")))

    def _part(self, table: Any, where: str) -> Part:
        known(table, SOLIDS, where)
        return self._shape(table, where)

    def _shape(self, table: Mapping[str, Any], where: str) -> Part:
        return read_shape(table, where, self.shape, self.path.parent)

    def _source(self, table: Any, where: str) -> tuple[Source, Part]:
        known(table, (*SOLIDS, "density", "temperature", "velocity"), where)
        values = self._values(table, where, "density", "temperature", "velocity")
        part = self._shape(table, where)
        return Source(part.shape, **values), part

    def _inflow(self, table: Any, where: str) -> tuple[Inflow, Part | None]:
        brings = BRINGS[self.kind]
        known(table, ("axis", "end", "velocity", *SOLIDS, *brings), where)
        values = self._values(table, where, "velocity", *brings)
        part = self._shape(table, where) if any(name in table for name in SOLIDS) else None
        with at(where):
            velocity = values.pop("velocity")
        axis = table.get("axis", int(np.argmax(np.abs(velocity))))
        if type(axis) is not int or axis not in range(len(self.shape)):
            raise SceneError(f"{where}.axis must be a whole number from 0 to {len(self.shape) - 1}, got {axis!r}")
        end = table.get("end", "low" if velocity[axis] >= 0 else "high")
        if part is None:
            return Inflow(axis, end, velocity, **values), None
        h = 1.0 / self.shape[0]
        away = part.low[axis] > 0.5 * h if end == "low" else part.high[axis] < (self.shape[axis] - 0.5) * h
        nozzle = bool(away) and "axis" not in table and "end" not in table
        return Inflow(axis, end, velocity, part.shape, nozzle, **values), part

    def _values(self, table: Mapping[str, Any], where: str, *names: str) -> dict[str, Any]:
        """Return the values that are given of density, temperature and velocity."""
        given = [name for name in names if name in table]
        return {n: numbers(table[n], f"{where}.{n}", len(self.shape) if n == "velocity" else 1) for n in given}
