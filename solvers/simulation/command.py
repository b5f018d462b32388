"""What the command ``deepcd simulate`` does: read the scene, run it, and say how each frame went on standard error."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepcd.data import SCENES
from deepcd.pde import PressureSolve
from deepcd.solvers.console import plain_console
from deepcd.solvers.options import usable_threads
from deepcd.solvers.simulation.running import Row
from deepcd.solvers.simulation.running import run as run_scene
from deepcd.solvers.simulation.scenes import read_scene
from deepcd.solvers.simulation.tables import SceneError

HEADER = "frame    time  unknowns  iter.  advection   setup   solve    rest  divergence"


def run(
    name: str,
    out: Path | None,
    *,
    frames: int | None,
    scale: float,
    resume: bool,
    vti_every: int,
    threads: int | None,
) -> list[Row]:
    """Run a scene and return one row per frame.

    Parameters
    ----------
    name : str
        Path of a .toml file, or name of a shipped scene.
    out : Path or None
        Default: ``out/`` and the name of the scene.
    frames : int or None
        Default: what the scene says.
    scale, resume, vti_every
        See `read_scene` and `deepcd.solvers.simulation.running.run`.
    threads : int or None
        Default: one per core.

    Returns
    -------
    list of dict
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = SCENES / f"{name}.toml"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in SCENES.glob("*.toml")))
            raise SceneError(f"there is no scene {name!r}; give a .toml file or one of {known}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scene = read_scene(path, scale)
    if frames is not None:
        scene = replace(scene, frames=frames)
    number = usable_threads() if threads is None else threads
    folder = Path("out") / path.stem if out is None else out
    console = plain_console(stderr=True)
    for warning in caught:
        console.print(f"warning: {warning.message}")
    console.print(f"{scene.title}: {' x '.join(map(str, scene.shape))} cells, {scene.frames} frames", style="bold")
    console.print(HEADER, style="bold")

    def tell(row: Row, _: PressureSolve) -> None:
        rest = row["seconds"] - row["advection_s"] - row["setup_s"] - row["solve_s"]
        console.print(
            "{frame:5.0f} {time:7.3f} {unknowns:9,.0f} {iterations:6.0f} {advection_s:10.3f} {setup_s:7.3f} "
            "{solve_s:7.3f} {rest:7.3f} {divergence:11.1e}".format(rest=rest, **row)
        )

    progress = run_scene(scene, folder, threads=number, resume=resume, vti_every=vti_every, tell=tell)
    seconds = np.array([row["seconds"] for row in progress.rows])
    solve = np.array([row["solve_s"] for row in progress.rows])
    most = max(row["iterations"] for row in progress.rows)
    console.print(
        f"{seconds.sum():.0f} s for {len(seconds)} frames, {np.median(seconds):.2f} s each, of which the pressure "
        f"solve takes {100 * np.median(solve / seconds):.0f} %; at most {most:.0f} iterations. Pictures: {folder}"
    )
    return progress.rows
