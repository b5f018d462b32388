"""Scenes: what a simulation starts from, as a TOML file says it.

    kind = "smoke"                      # or "liquid"
    shape = [64, 64, 96]                # cells per axis, at least 4; the last axis points up
    frames = 100
    dt = 0.02                           # longest step; lengths are in edges of the first axis, which is 1 long
    cfl = 2.0
    walls = ["solid", "solid", ["solid", "air"]]
    view = 1                            # axis that the pictures are seen along, of three
    beta = 1.0                          # smoke: alpha, beta, epsilon; liquid: gravity

    [[source]]                          # smoke: what flows in
    ball = { center = [0.5, 0.5, 0.2], radius = 0.1 }
    density = 1.0
    temperature = 1.0

    [[fill]]                            # liquid: where it is at the start
    box = { low = [0, 0, 0], high = [0.3, 1, 0.6] }

    [obstacle]                          # one of ball, box, cylinder, mesh
    mesh = { name = "knot", fit = [[0.2, 0.2, 0.5], [0.8, 0.8, 1.1]] }

    [obstacle.turn]                     # smoke only: turns around a vertical axis
    center = [0.5, 0.5]
    period = 2.0

A mesh has a `file` (STL, PLY or OBJ, relative to the scene) or the `name` of one that the code makes, and is fitted
into a box. Unknown keys are refused.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde import (
    Grid,
    LiquidState,
    LiquidStepper,
    Mesh,
    MeshError,
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
)
from deepcd.pde.projection import PressureSolver

State = SmokeState | LiquidState
Stepper = SmokeStepper | LiquidStepper

SHAPES: dict[str, tuple[Callable[..., Shape], tuple[str, ...]]] = {
    "ball": (ball, ("center", "radius")),
    "box": (box, ("low", "high")),
    "cylinder": (cylinder, ("center", "radius", "axis")),
}
MESHES: dict[str, Callable[[], Mesh]] = {"knot": knot, "torus": torus, "icosphere": icosphere}
COMMON = ("title", "kind", "shape", "frames", "dt", "cfl", "walls", "tol", "obstacle", "view")
OWN = {"smoke": ("alpha", "beta", "epsilon", "source"), "liquid": ("gravity", "fill")}


class SceneError(ValueError):
    """A scene cannot be used; the message names the file, the key and why."""


@dataclass(frozen=True)
class Scene:
    """A scene that has been read.

    Attributes
    ----------
    title : str
    kind : {"smoke", "liquid"}
    shape : tuple of 2 or 3 ints
    frames : int
    tol : float
        Of the pressure solves.
    view : {0, 1, 2}
        Axis that pictures are seen along.
    facts : dict
        All that the file says, with the shape that is used: what decides every number of the run.
    folder : Path
        That mesh files are relative to.
    """

    title: str
    kind: str
    shape: tuple[int, ...]
    frames: int
    tol: float
    view: int
    facts: dict[str, Any]
    folder: Path

    def stepper(self, solve: PressureSolver, threads: int = 1) -> Stepper:
        """Return what moves the scene on, with a solver for the pressure.

        Parameters
        ----------
        solve : callable
            See `deepcd.pde.pressure_step`.
        threads : int, default 1

        Raises
        ------
        SceneError
            If a value is malformed.
        """
        facts = self.facts
        spacing = 1.0 / self.shape[0]
        given = {"dt": facts.get("dt", 0.02), "cfl": facts.get("cfl", 2.0 if self.kind == "smoke" else 1.0)}
        walls = [tuple(wall) if isinstance(wall, list) else wall for wall in facts.get("walls", ["solid"] * self.ndim)]
        obstacle = facts.get("obstacle")
        turn = obstacle.get("turn") if obstacle else None
        try:
            still = None if obstacle is None or turn else self._shape(obstacle, "obstacle")
            grid = domain(self.shape, solid=still, walls=walls, spacing=spacing)
            if self.kind == "liquid":
                return LiquidStepper(grid, solve, gravity=facts.get("gravity", 1.0), threads=threads, **given)
            forces = {name: facts[name] for name in ("alpha", "beta", "epsilon") if name in facts}
            return SmokeStepper(
                grid,
                solve,
                sources=[self._source(source) for source in facts.get("source", [])],
                obstacle=self._turning(obstacle, turn, grid) if obstacle and turn else None,
                threads=threads,
                **given,
                **forces,
            )
        except (TypeError, ValueError) as error:
            raise SceneError(f"scene {self.title!r}: {error}") from error

    def start(self, stepper: Stepper) -> State:
        """Return the state that the scene begins with."""
        if isinstance(stepper, SmokeStepper):
            return stepper.start()
        x = np.meshgrid(*((np.arange(n) + 0.5) * stepper.grid.spacing for n in self.shape), indexing="ij", sparse=True)
        phi = np.full(self.shape, np.inf)
        for part in self.facts.get("fill", []):
            low, high = part["box"]["low"], part["box"]["high"]
            outside = [np.maximum(a - v, v - b) for v, a, b in zip(x, low, high, strict=True)]
            whole = outside[0]
            for own in outside[1:]:
                whole = np.maximum(whole, own)
            phi = np.minimum(phi, whole)
        return stepper.start(phi)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> list[float]:
        """Edges of the box; the first is 1."""
        return [n / self.shape[0] for n in self.shape]

    def _shape(self, table: Mapping[str, Any], where: str) -> Shape:
        kinds = [name for name in (*SHAPES, "mesh") if name in table]
        if len(kinds) != 1:
            raise SceneError(
                f"{where} must hold one of {', '.join((*SHAPES, 'mesh'))}, got {', '.join(kinds) or 'none'}"
            )
        if kinds[0] == "mesh":
            return self._mesh(table["mesh"], where).shape()
        make, names = SHAPES[kinds[0]]
        own = table[kinds[0]]
        _known(own, names, f"{where}.{kinds[0]}")
        return make(**own)

    def _mesh(self, table: Mapping[str, Any], where: str) -> Mesh:
        _known(table, ("file", "name", "fit", "rotation"), f"{where}.mesh")
        if ("file" in table) == ("name" in table):
            raise SceneError(f"{where}.mesh must have either a file or a name ({', '.join(MESHES)})")
        if "name" in table:
            if table["name"] not in MESHES:
                raise SceneError(f"{where}.mesh.name must be one of {', '.join(MESHES)}, got {table['name']!r}")
            mesh = MESHES[table["name"]]()
        else:
            mesh = read_mesh(self.folder / table["file"])
        everything = ([0.0] * 3, self.size)
        rotation = table.get("rotation")
        turned = None if rotation is None else (rotation["axis"], rotation["degrees"])
        return mesh.placed(rotation=turned, fit=tuple(table.get("fit", everything)), within=everything)

    def _source(self, table: Mapping[str, Any]) -> Source:
        _known(table, (*SHAPES, "mesh", "density", "temperature", "velocity"), "source")
        return Source(
            self._shape(table, "source"), table.get("density"), table.get("temperature"), table.get("velocity")
        )

    def _turning(
        self, table: Mapping[str, Any], turn: Mapping[str, Any], grid: Grid
    ) -> Callable[[float], tuple[Shape, Sequence[ArrayLike]]]:
        """Return shape and velocity of an obstacle that turns around a vertical axis, as functions of the time."""
        _known(turn, ("center", "period"), "obstacle.turn")
        a, b = map(float, turn["center"])
        speed = 2 * math.pi / float(turn["period"])
        still = self._shape({key: value for key, value in table.items() if key != "turn"}, "obstacle")
        h = grid.spacing
        faces = [
            [(np.arange(n + (d == axis)) + 0.5 * (d != axis)) * h for d, n in enumerate(grid.shape)] for axis in (0, 1)
        ]
        along: list[NDArray[np.float64]] = [
            np.broadcast_to(values, [n + (d == axis) for d, n in enumerate(grid.shape)])
            for axis, values in (
                (0, -speed * (faces[0][1] - b)[None, :, None]),
                (1, speed * (faces[1][0] - a)[:, None, None]),
            )
        ]

        def at(time: float) -> tuple[Shape, Sequence[ArrayLike]]:
            cosine, sine = math.cos(speed * time), math.sin(speed * time)

            def contains(x: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
                u, v = x[0] - a, x[1] - b  # turned back to where the shape was at the start
                return still.contains([a + cosine * u + sine * v, b - sine * u + cosine * v, *x[2:]])

            return Shape(contains), [*along, 0.0]

        return at


def read_scene(path: Path, scale: float = 1.0) -> Scene:
    """Read a scene, or refuse it.

    Parameters
    ----------
    path : Path
        A TOML file; see the head of this module.
    scale : float, default 1.0
        Of the number of cells per axis, for a look at a lower resolution.

    Returns
    -------
    Scene

    Raises
    ------
    SceneError
        If it cannot be read, has keys that are unknown, or values that are out of range.
    """
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SceneError(f"scene {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SceneError(f"scene {path}: is no TOML ({error})") from error
    try:
        return _checked(facts, path, scale)
    except (KeyError, TypeError, AttributeError, MeshError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SceneError(f"scene {path}: {what}") from error
    except SceneError as error:
        raise SceneError(f"scene {path}: {error}") from error


def _checked(facts: dict[str, Any], path: Path, scale: float) -> Scene:
    if facts.get("kind") not in OWN:
        raise SceneError(f"kind must be one of {', '.join(OWN)}, got {facts.get('kind')!r}")
    kind = facts["kind"]
    _known(facts, (*COMMON, *OWN[kind]), "the scene")
    shape = facts["shape"]
    if not (isinstance(shape, list) and len(shape) in (2, 3) and all(type(n) is int for n in shape)):
        raise SceneError(f"shape must be two or three whole numbers of cells, got {shape!r}")
    cells = tuple(round(n * scale) for n in shape)
    if min(cells) < 4:
        raise SceneError(f"shape must have at least 4 cells per axis, got {' x '.join(map(str, cells))}")
    frames, tol = facts.get("frames", 100), facts.get("tol", 1e-6)
    if not (type(frames) is int and frames >= 1):
        raise SceneError(f"frames must be a whole number from 1 up, got {frames!r}")
    if not (isinstance(tol, float) and 0 < tol < 1):
        raise SceneError(f"tol must be between 0 and 1, got {tol!r}")
    view = facts.get("view", 1)
    if view not in (0, 1, 2):
        raise SceneError(f"view must be an axis, 0, 1 or 2, got {view!r}")
    obstacle = facts.get("obstacle")
    if obstacle is not None:
        _known(obstacle, (*SHAPES, "mesh", "turn"), "obstacle")
        if "turn" in obstacle and (kind != "smoke" or len(cells) != 3 or "mesh" in obstacle):
            raise SceneError("obstacle.turn is for a ball, box or cylinder in smoke, in three dimensions")
    for part in facts.get("fill", []):
        _known(part, ("box",), "fill")
        _known(part["box"], ("low", "high"), "fill.box")
        if {len(part["box"][name]) for name in ("low", "high")} != {len(cells)}:
            raise SceneError(f"fill.box needs low and high of {len(cells)} numbers each")
    if kind == "liquid" and not facts.get("fill"):
        raise SceneError("a liquid needs at least one [[fill]]")
    title = str(facts.get("title", path.stem))
    scene = Scene(title, kind, cells, frames, float(tol), view, facts | {"shape": list(cells)}, path.parent)
    scene.stepper(lambda system, b, x0: x0)  # so that what is wrong is said now
    return scene


def _known(table: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(table, Mapping):
        raise SceneError(f"{where} must be a table, got {table!r}")
    unknown = [key for key in table if key not in names]
    if unknown:
        raise SceneError(f"unknown key {', '.join(unknown)} in {where}; known: {', '.join(names)}")
