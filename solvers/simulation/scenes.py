"""Scenes: what a simulation starts from, read from TOML files.

    kind = "smoke"                      # or "liquid"
    shape = [64, 64, 96]                # cells per axis, at least 4; the last axis points up
    frames = 100
    dt = 0.02                           # longest time step; the unit of length is the edge of the box along axis 0
    cfl = 2.0                           # cells per step that the flow may cross
    walls = ["solid", "solid", ["solid", "air"]]
    tol = 1e-6                          # tolerance of the pressure solves
    view = 1                            # axis along which pictures are seen
    beta = 1.0                          # smoke: alpha, beta, epsilon; liquid: gravity

    [[source]]                          # smoke: where smoke and heat flow in
    ball = { center = [0.5, 0.5, 0.2], radius = 0.1 }
    density = 1.0
    temperature = 1.0

    [[fill]]                            # liquid: a box that is full at the start
    box = { low = [0, 0, 0], high = [0.3, 1, 0.6] }

    [obstacle]                          # one of ball, box, cylinder, mesh
    mesh = { name = "knot", fit = [[0.2, 0.2, 0.5], [0.8, 0.8, 1.1]] }

    [obstacle.turn]                     # smoke in 3D only: turns around a vertical axis
    center = [0.5, 0.5]
    period = 2.0

A mesh has either a `file` (STL, PLY or OBJ, relative to the scene) or the `name` of a mesh that the code makes, and it
is fitted into a box. Unknown keys are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.pde import (
    LiquidState,
    LiquidStepper,
    Mesh,
    Shape,
    SmokeState,
    SmokeStepper,
    Source,
    ball,
    box,
    cylinder,
    domain,
    icosphere,
    knot,
    read_mesh,
    torus,
    turning,
)
from deepcd.pde.projection import SolveFunction
from deepcd.pde.stepping import Stepper

State = SmokeState | LiquidState

SHAPES: dict[str, tuple[Callable[..., Shape], tuple[str, ...]]] = {
    "ball": (ball, ("center", "radius")),
    "box": (box, ("low", "high")),
    "cylinder": (cylinder, ("center", "radius", "axis")),
}
MESHES: dict[str, Callable[[], Mesh]] = {"knot": knot, "torus": torus, "icosphere": icosphere}
SOLIDS = (*SHAPES, "mesh")
COMMON = ("title", "kind", "shape", "frames", "walls", "tol", "view", "obstacle")
PLACES = {"smoke": "source", "liquid": "fill"}
# Options that are passed on to the stepper. It has defaults of its own, except for those of REQUIRED.
OPTIONS = {"smoke": ("dt", "cfl", "alpha", "beta", "epsilon"), "liquid": ("dt", "cfl", "gravity")}
REQUIRED = {"smoke": {"dt": 0.02}, "liquid": {"dt": 0.02, "gravity": 1.0}}


class SceneError(ValueError):
    """A scene cannot be used; the message names the file, the key and the reason."""


@dataclass(frozen=True)
class Scene:
    """A scene that has been read.

    Attributes
    ----------
    title : str
    kind : {"smoke", "liquid"}
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
    obstacle : Shape or None
        The solid in the box; where it turns, the solid at time 0.
    turn : tuple of center and period, or None
        How the obstacle turns, see `deepcd.pde.turning`.
    sources : tuple of Source
        Where smoke and heat flow in; none for a liquid.
    fills : tuple of (low, high)
        The boxes that are full of liquid at the start; none for smoke.
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
    obstacle: Shape | None
    turn: tuple[tuple[float, float], float] | None
    sources: tuple[Source, ...]
    fills: tuple[tuple[Sequence[float], Sequence[float]], ...]
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
        still = None if self.turn else self.obstacle
        grid = domain(self.shape, solid=still, walls=self.walls, spacing=1.0 / self.shape[0])
        options: dict[str, Any] = {"threads": threads, **self.options}
        if self.kind == "liquid":
            return LiquidStepper(grid, solve, **options)
        moving = turning(self.obstacle, grid, *self.turn) if self.turn and self.obstacle else None
        return SmokeStepper(grid, solve, sources=self.sources, obstacle=moving, **options)

    def start(self, stepper: Stepper[Any]) -> State:
        """Return the state that the scene begins with."""
        if isinstance(stepper, SmokeStepper):
            return stepper.start()
        assert isinstance(stepper, LiquidStepper)
        x = np.meshgrid(*((np.arange(n) + 0.5) * stepper.grid.spacing for n in self.shape), indexing="ij", sparse=True)
        phi = np.full(self.shape, np.inf)
        for low, high in self.fills:
            whole = np.full(self.shape, -np.inf)
            for v, a, b in zip(x, low, high, strict=True):
                whole = np.maximum(whole, np.maximum(a - v, v - b))
            phi = np.minimum(phi, whole)
        return stepper.start(phi)


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
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SceneError(f"scene {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SceneError(f"scene {path}: is no TOML ({error})") from error
    try:
        scene = _Reader(path, tables, scale).scene()
        scene.stepper(lambda system, b, x0: x0)  # refuses numbers that are out of range
    except (KeyError, TypeError, AttributeError, ValueError, MemoryError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SceneError(f"scene {path}: {what}") from error
    return scene


class _Reader:
    """Turns the tables of a scene file into a `Scene`; keys and values that make no sense are refused."""

    def __init__(self, path: Path, tables: dict[str, Any], scale: float) -> None:
        self.path, self.tables = path, tables
        self.kind = str(tables.get("kind"))
        if self.kind not in PLACES:
            raise SceneError(f"kind must be one of {', '.join(PLACES)}, got {tables.get('kind')!r}")
        _known(tables, (*COMMON, *OPTIONS[self.kind], PLACES[self.kind]), "the scene")
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
        fills = tuple(self._fill(part) for part in self._list("fill"))
        if self.kind == "liquid" and not fills:
            raise SceneError("a liquid needs at least one [[fill]]")
        obstacle, turn = self._obstacle(tables["obstacle"]) if "obstacle" in tables else (None, None)
        return Scene(
            title=str(tables.get("title", self.path.stem)),
            kind=self.kind,
            shape=self.shape,
            frames=frames,
            tol=tol,
            view=view,
            walls=[tuple(w) if isinstance(w, list) else w for w in walls],
            obstacle=obstacle,
            turn=turn,
            sources=tuple(self._source(table) for table in self._list("source")),
            fills=fills,
            options=REQUIRED[self.kind]
            | {name: _numbers(tables[name], name) for name in OPTIONS[self.kind] if name in tables},
            record=tables | {"shape": list(self.shape)},
        )

    def _list(self, name: str) -> list[Any]:
        """Return the tables of that name."""
        tables = self.tables.get(name, [])
        if not isinstance(tables, list):
            raise SceneError(f"{name} must be a list of tables, [[{name}]], got {tables!r}")
        return tables

    def _obstacle(self, table: Any) -> tuple[Shape, tuple[tuple[float, float], float] | None]:
        _known(table, (*SOLIDS, "turn"), "obstacle")
        shape = self._shape(table, "obstacle")
        if "turn" not in table:
            return shape, None
        if self.kind != "smoke" or len(self.shape) != 3 or "mesh" in table:
            raise SceneError("obstacle.turn is for a ball, box or cylinder in smoke, in three dimensions")
        turn = table["turn"]
        _known(turn, ("center", "period"), "obstacle.turn")
        with _at("obstacle.turn"):
            a, b = _numbers(turn["center"], "obstacle.turn.center", 2)
            return shape, ((float(a), float(b)), float(_numbers(turn["period"], "obstacle.turn.period")))

    def _shape(self, table: Mapping[str, Any], where: str) -> Shape:
        kinds = [name for name in SOLIDS if name in table]
        if len(kinds) != 1:
            raise SceneError(f"{where} must hold one of {', '.join(SOLIDS)}, got {', '.join(kinds) or 'none'}")
        own, where = table[kinds[0]], f"{where}.{kinds[0]}"
        with _at(where):
            if kinds[0] == "mesh":
                return self._mesh(own, where).shape()
            make, names = SHAPES[kinds[0]]
            _known(own, names, where)
            for name in (*names[:2], *own):  # the third has a default
                _numbers(own[name], f"{where}.{name}", 1 if name in ("radius", "axis") else len(self.shape))
            return make(**own)

    def _mesh(self, table: Mapping[str, Any], where: str) -> Mesh:
        _known(table, ("file", "name", "fit", "rotation"), where)
        if ("file" in table) == ("name" in table):
            raise SceneError(f"{where} must have either a file or a name ({', '.join(MESHES)})")
        if "name" in table and table["name"] not in tuple(MESHES):
            raise SceneError(f"{where}.name must be one of {', '.join(MESHES)}, got {table['name']!r}")
        if not isinstance(table.get("file", ""), str):
            raise SceneError(f"{where}.file must be a path, got {table['file']!r}")
        mesh = MESHES[table["name"]]() if "name" in table else read_mesh(self.path.parent / table["file"])
        everything = ([0.0] * 3, [n / self.shape[0] for n in self.shape])
        turned, rotation = None, table.get("rotation")
        if rotation is not None:
            _known(rotation, ("axis", "degrees"), f"{where}.rotation")
            with _at(f"{where}.rotation"):
                turned = rotation["axis"], rotation["degrees"]
        return mesh.placed(rotation=turned, fit=table.get("fit", everything), within=everything)

    def _source(self, table: Mapping[str, Any]) -> Source:
        _known(table, (*SOLIDS, "density", "temperature", "velocity"), "source")
        for name, count in (("density", 1), ("temperature", 1), ("velocity", len(self.shape))):
            if name in table:
                _numbers(table[name], f"source.{name}", count)
        values = (table.get(name) for name in ("density", "temperature", "velocity"))
        return Source(self._shape(table, "source"), *values)

    def _fill(self, table: Any) -> tuple[Sequence[float], Sequence[float]]:
        _known(table, ("box",), "fill")
        _known(table.get("box"), ("low", "high"), "fill.box")
        low, high = (table["box"].get(name) for name in ("low", "high"))
        if not all(_are_numbers(corner, len(self.shape)) for corner in (low, high)):
            raise SceneError(f"fill.box needs low and high of {len(self.shape)} numbers each, got {low!r} and {high!r}")
        return low, high


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Name the key in what is raised about its value."""
    try:
        yield
    except SceneError:
        raise
    except KeyError as error:
        raise SceneError(f"{key}.{error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise SceneError(f"{key}: {error}") from error


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(value) in (int, float) for value in values)


def _numbers(value: Any, where: str, count: int = 1) -> Any:
    """Return a number, or a list of as many numbers as there should be; refuse anything else."""
    if not _are_numbers([value] if count == 1 else value, count):
        raise SceneError(f"{where} must be {'a number' if count == 1 else f'a list of {count} numbers'}, got {value!r}")
    return value


def _known(table: Any, names: Sequence[str], where: str) -> None:
    """Refuse what is no table, and unknown keys."""
    if not isinstance(table, Mapping):
        raise SceneError(f"{where} must be a table, got {table!r}")
    unknown = [key for key in table if key not in names]
    if unknown:
        raise SceneError(f"unknown key {', '.join(unknown)} in {where}; known: {', '.join(names)}")
