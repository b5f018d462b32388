"""Runs a scene frame by frame, with pictures on the way and checkpoints from which a run goes on bit for bit."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.data.files import replace, sole_writer
from deepcd.pde import CutSystem, LiquidState, PressureSolve, SmokeState, Step, write_pvd, write_vti
from deepcd.pde.extras import require
from deepcd.pde.grids import Cell
from deepcd.pde.stepping import Stepper
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.simulation import pictures
from deepcd.solvers.simulation.pressure import DeepCDPressure, Pressure, PressureAnswer
from deepcd.solvers.simulation.scenes import Scene, State

CHECKPOINT = "checkpoint.npz"
CHECKPOINT_SECONDS = 30.0  # shortest time between two checkpoints
MOST_PICTURES = 120  # upper bound for the pictures of a run
STATES: dict[str, type[SmokeState | LiquidState]] = {
    "smoke": SmokeState,
    "liquid": LiquidState,
    "bubbles": LiquidState,
}
Row = dict[str, float]
Tell = Callable[[Row, PressureSolve], object]


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    state : SmokeState or LiquidState
        The state after the last frame.
    rows : list of dict
        One row per frame: frame, time, unknowns and iterations of the pressure system, divergence (the largest left in
        a cell, relative to the largest before the projection), and the seconds advection_s, setup_s, solve_s and
        seconds (all of the frame).
    """

    state: State
    rows: list[Row] = field(default_factory=list)


def run(
    scene: Scene,
    out: Path,
    *,
    pressure: Pressure | None = None,
    threads: int = 1,
    resume: bool = False,
    vti_every: int = 0,
    tell: Tell | None = None,
) -> Progress:
    """Run a scene to its last frame.

    Parameters
    ----------
    scene : Scene
        The scene; its number of frames counts from the start of the run, also of a resumed one.
    out : Path
        Folder of the checkpoint, ``frames.json``, pictures and ``.vti`` files; made if it is not there.
    pressure : callable, optional
        The pressure solver. Default: ``DeepCD(threads=threads)``, to the tolerance of the scene.
    threads : int, default 1
        Number of threads for advection.
    resume : bool, default False
        Whether to go on from the checkpoint in `out`.
    vti_every : int, default 0
        Number of frames between two files for ParaView; 0 writes the last frame only. The last is always written.
    tell : callable, optional
        Called after each frame with its row and its pressure system.

    Returns
    -------
    Progress
        The last state and the rows of all frames.

    Raises
    ------
    FileExistsError
        If there is a run in `out` already and `resume` is False.
    FileNotFoundError
        If there is none and `resume` is True.
    ValueError
        If the checkpoint is damaged or belongs to another scene.
    NotConvergedError
        If a pressure system is not solved; the last checkpoint is kept.
    OSError
        If `out` cannot be written or the disk is full.
    """
    require("matplotlib", "PIL", extra="simulate", by="A simulation's pictures")
    out.mkdir(parents=True, exist_ok=True)
    path = out / CHECKPOINT
    stepper = scene.stepper(pressure or DeepCDPressure(DeepCD(threads=threads), scene.tol), threads)
    with sole_writer(path):
        if resume:
            progress = load(path, scene)
        elif path.exists():
            raise FileExistsError(f"{path} is there already: resume that run, or choose another folder")
        else:
            progress = Progress(scene.start(stepper))
            save(path, scene, progress)  # finds out now whether there is room
        _advance(scene, stepper, progress, out, vti_every, tell)
    return progress


def _advance(
    scene: Scene, stepper: Stepper[Any], progress: Progress, out: Path, vti_every: int, tell: Tell | None
) -> None:
    """Step to the last frame; write pictures, files and checkpoints on the way."""
    kept, stride = time.perf_counter(), max(1, -(-scene.frames // MOST_PICTURES))
    (out / "film").mkdir(exist_ok=True)
    while progress.state.frame < scene.frames:
        start = time.perf_counter()
        step = stepper.step(progress.state)
        row = _row(step, time.perf_counter() - start)
        state, system = step.state, step.solved.system
        assert isinstance(system, CutSystem)
        progress.state = state
        progress.rows.append(row)
        last = state.frame == scene.frames
        if state.frame % stride == 0 or last:
            picture = pictures.frame(state, system, scene.view, gas=scene.kind == "bubbles")
            replace(out / "film" / f"{state.frame:05d}.png", picture)
        if last or (vti_every and state.frame % vti_every == 0):
            _export(out, step, stepper.fields)
        if last or time.perf_counter() - kept > CHECKPOINT_SECONDS:
            save(out / CHECKPOINT, scene, progress)
            kept = time.perf_counter()
        if tell is not None:
            tell(row, step.solved)
    replace(out / "frames.json", (json.dumps(progress.rows, indent=1) + "\n").encode())
    film = sorted((out / "film").glob("*.png"))
    pictures.animation(film, out / "film.gif")
    pictures.summary(scene.title, progress.rows, film, out / "summary.png")


def _row(step: Step[Any], seconds: float) -> Row:
    """Return the row of a frame that took so many seconds in all."""
    solved, answer = step.solved, step.solved.answer
    largest = float(np.abs(solved.b).max(initial=0.0))
    left = solved.left / largest if largest > 0 else 0.0
    setup, solve, iterations = 0.0, 0.0, 0
    if isinstance(answer, PressureAnswer):  # nothing is solved where there is no unknown
        setup, solve, iterations = answer.setup, answer.solve, answer.iterations
    return {
        "frame": float(step.state.frame),
        "time": step.state.time,
        "unknowns": float(len(solved.b)),
        "iterations": float(iterations),
        "divergence": left,
        "advection_s": step.advection_seconds,
        "setup_s": setup,
        "solve_s": solve,
        "seconds": seconds,
    }


def _export(out: Path, step: Step[Any], names: tuple[str, ...]) -> None:
    """Write a frame for ParaView."""
    state, grid = step.state, step.solved.system.grid
    centres = []
    for axis, component in enumerate(state.velocity):
        low, high = (np.take(component, range(a, component.shape[axis] + a - 1), axis) for a in (0, 1))
        centres.append((0.5 * (low + high)).astype(np.float32))
    arrays: dict[str, Any] = {name: getattr(state, name).astype(np.float32) for name in names}
    arrays |= {"velocity": tuple(centres), "solid": np.equal(grid.cells, Cell.SOLID).astype(np.uint8)}
    write_vti(out / f"frame-{state.frame:05d}.vti", arrays, grid.spacing, compress=True)
    files = sorted(out.glob("frame-*.vti"))
    write_pvd(out / "frames.pvd", [(float(file.stem[6:]), file) for file in files])


def save(path: Path, scene: Scene, progress: Progress) -> None:
    """Write a checkpoint, whole or not at all: plain arrays, with the scene and the rows as JSON."""
    state = progress.state
    arrays: dict[str, Any] = {f"velocity_{axis}": component for axis, component in enumerate(state.velocity)}
    arrays |= {own.name: np.asarray(getattr(state, own.name)) for own in fields(state) if own.name != "velocity"}
    for name, value in (("scene", scene.record), ("rows", progress.rows)):
        arrays[name] = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)
    replace(path, content.getvalue())


def load(path: Path, scene: Scene) -> Progress:
    """Read the checkpoint of a scene, or refuse it."""
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from; check out, or start without resume")
    try:
        with np.load(path, allow_pickle=False) as archive:
            record, rows = (json.loads(archive[name].tobytes()) for name in ("scene", "rows"))
            make: Any = STATES[record["kind"]]
            values = {own.name: archive[own.name] for own in fields(make) if own.name != "velocity"}
            velocity = tuple(archive[f"velocity_{axis}"] for axis in range(len(record["shape"])))
            state = make(velocity, **{name: v if v.ndim else v.item() for name, v in values.items()})
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged ({str(error)[:200]}); start anew without resume") from error
    ours = json.loads(json.dumps(scene.record))
    differing = [key for key in {*ours, *record} if key != "frames" and ours.get(key) != record.get(key)]
    if differing:
        raise ValueError(
            f"checkpoint {path} belongs to another scene: {', '.join(sorted(differing))} differ; resume with the scene "
            "it was started with, or start anew in another folder"
        )
    return Progress(state, rows)
