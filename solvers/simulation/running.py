"""Runs a scene frame by frame: a line each, pictures on the way, and checkpoints from which it goes on bit for bit."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.data.files import replace, sole_writer
from deepcd.pde import LiquidState, PressureSolve, SmokeState, divergence, write_pvd, write_vti
from deepcd.pde.extras import require
from deepcd.pde.grids import Cell, Grid
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.simulation import pictures
from deepcd.solvers.simulation.pressure import PressureSolver
from deepcd.solvers.simulation.scenes import Scene, State, Stepper

LOG = logging.getLogger("deepcd")
CHECKPOINT = "checkpoint.npz"
KEEP_EVERY = 30.0  # seconds between two checkpoints
FILM = 120  # pictures at most
ARRAYS = {"smoke": ("density", "temperature", "pressure"), "liquid": ("phi", "pressure")}
Row = dict[str, float]


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    state : SmokeState or LiquidState
    rows : list of dict
        A row per frame: frame, time, unknowns, iterations, divergence (largest, relative to the largest before the
        projection), seconds of advection, setup, solve and in all.
    """

    state: State
    rows: list[Row] = field(default_factory=list)


def run(
    scene: Scene,
    out: Path,
    *,
    pressure: PressureSolver | None = None,
    threads: int = 1,
    resume: bool = False,
    vti_every: int = 0,
    tell: Callable[[Row, PressureSolve], object] | None = None,
) -> Progress:
    """Run a scene to its last frame.

    Parameters
    ----------
    scene : Scene
    out : Path
        Folder of checkpoint, ``frames.json``, pictures and ``.vti`` files; made if it is not there.
    pressure : PressureSolver, optional
        Default: that of ``DeepCD(threads=threads)`` to the tolerance of the scene.
    threads : int, default 1
        Of advection.
    resume : bool, default False
        Go on from the checkpoint in `out`.
    vti_every : int, default 0
        Write every so many frames for ParaView; the last one in any case.
    tell : callable, optional
        Called after each frame with its row and what was solved.

    Returns
    -------
    Progress

    Raises
    ------
    FileExistsError
        If there is a run in `out` already, and it is not to be resumed.
    FileNotFoundError
        If it is to be resumed and is not there.
    ValueError
        If the checkpoint is damaged or of another scene.
    NotConvergedError
        If a pressure system is not solved; the last checkpoint is kept.
    OSError
        If `out` cannot be written or is full.
    """
    require("matplotlib", "PIL", extra="simulate", by="A simulation's pictures")
    out.mkdir(parents=True, exist_ok=True)
    path = out / CHECKPOINT
    pressure = pressure or PressureSolver(DeepCD(threads=threads), scene.tol)
    stepper = scene.stepper(pressure, threads)
    with sole_writer(path):
        if resume:
            progress = load(path, scene)
        elif path.exists():
            raise FileExistsError(f"{path} is there already: resume that run, or choose another folder")
        else:
            progress = Progress(scene.start(stepper))
            save(path, scene, progress)  # to find out now whether there is room
        _advance(scene, stepper, pressure, progress, out, vti_every, tell)
    return progress


def _advance(
    scene: Scene,
    stepper: Stepper,
    pressure: PressureSolver,
    progress: Progress,
    out: Path,
    vti_every: int,
    tell: Callable[[Row, PressureSolve], object] | None,
) -> None:
    kept, stride = time.perf_counter(), max(1, -(-scene.frames // FILM))
    (out / "film").mkdir(exist_ok=True)
    while progress.state.frame < scene.frames:
        start = time.perf_counter()
        state, solved = stepper.step(progress.state)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        progress.state = state
        own, left = pressure.last, _divergence(solved.system.grid, state, solved.b)
        progress.rows.append(
            {
                "frame": float(state.frame),
                "time": state.time,
                "unknowns": float(own.unknowns),
                "iterations": float(own.iterations),
                "divergence": left,
                "advection_s": stepper.advection_seconds,
                "setup_s": own.setup,
                "solve_s": own.solve,
                "seconds": seconds,
            }
        )
        last = state.frame == scene.frames
        if state.frame % stride == 0 or last:
            replace(out / "film" / f"{state.frame:05d}.png", pictures.frame(state, solved.system.grid, scene.view))
        if last or (vti_every and state.frame % vti_every == 0):
            _export(out, state, solved.system.grid)
        if last or time.perf_counter() - kept > KEEP_EVERY:
            save(out / CHECKPOINT, scene, progress)
            kept = time.perf_counter()
        if tell is not None:
            tell(progress.rows[-1], solved)
    replace(out / "frames.json", (json.dumps(progress.rows, indent=1) + "\n").encode())
    film = sorted((out / "film").glob("*.png"))
    pictures.animation(film, out / "film.gif")
    pictures.summary(scene.title, progress.rows, film, out / "summary.png")


def _divergence(grid: Grid, state: State, b: NDArray[np.float64]) -> float:
    """Return the largest divergence in the fluid over the largest that the pressure had to take out."""
    largest = float(np.abs(b).max(initial=0.0))
    return float(np.abs(divergence(grid, state.velocity)).max()) / largest if largest > 0 else 0.0


def _export(out: Path, state: State, grid: Grid) -> None:
    """Write a frame for ParaView."""
    arrays: dict[str, Any] = {name: getattr(state, name) for name in ARRAYS[_kind(state)]}
    centres = []
    for axis, component in enumerate(state.velocity):
        low, high = (np.take(component, range(a, component.shape[axis] + a - 1), axis) for a in (0, 1))
        centres.append((0.5 * (low + high)).astype(np.float32))
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    arrays |= {"velocity": tuple(centres), "solid": np.equal(grid.cells, Cell.SOLID).astype(np.uint8)}
    write_vti(out / f"frame-{state.frame:05d}.vti", arrays, grid.spacing, compress=True)
    files = sorted(out.glob("frame-*.vti"))
    write_pvd(out / "frames.pvd", [(float(file.stem[6:]), file) for file in files])


def _kind(state: State) -> str:
    return "smoke" if isinstance(state, SmokeState) else "liquid"


def save(path: Path, scene: Scene, progress: Progress) -> None:
    """Write a checkpoint: plain arrays, and scene and rows as JSON; whole or not at all."""
    state = progress.state
    arrays: dict[str, Any] = {f"velocity_{axis}": component for axis, component in enumerate(state.velocity)}
    arrays |= {name: getattr(state, name) for name in ARRAYS[_kind(state)]}
    if isinstance(state, LiquidState):
        arrays["volume"] = np.float64(state.volume)
    arrays |= {"time": np.float64(state.time), "frame": np.int64(state.frame)}
    for name, value in (("scene", scene.facts), ("rows", progress.rows)):
        arrays[name] = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)
    replace(path, content.getvalue())


def load(path: Path, scene: Scene) -> Progress:
    """Read a checkpoint of a scene, or refuse it."""
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from; check out, or start without resume")
    try:
        with np.load(path, allow_pickle=False) as archive:
            facts, rows = (json.loads(archive[name].tobytes()) for name in ("scene", "rows"))
            names = ARRAYS[facts["kind"]]
            velocity = tuple(archive[f"velocity_{axis}"] for axis in range(len(facts["shape"])))
            arrays = {name: archive[name] for name in names}
            at: dict[str, Any] = {"time": float(archive["time"]), "frame": int(archive["frame"])}
            if facts["kind"] == "liquid":
                at["volume"] = float(archive["volume"])
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged ({str(error)[:200]}); start anew without resume") from error
    ours = json.loads(json.dumps(scene.facts))
    differing = [key for key in {*ours, *facts} if key != "frames" and ours.get(key) != facts.get(key)]
    if differing:
        raise ValueError(
            f"checkpoint {path} belongs to another scene: {', '.join(sorted(differing))} differ; resume with the scene "
            "it was started with, or start anew in another folder"
        )
    make: Any = SmokeState if facts["kind"] == "smoke" else LiquidState
    return Progress(make(velocity, **arrays, **at), rows)
