"""Scenes run frame by frame: every pressure system is solved, and a run that was stopped goes on bit for bit."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from deepcd.cli import app
from deepcd.data import SCENES
from deepcd.pde import icosphere, write_vtu
from deepcd.solvers.simulation import running
from deepcd.solvers.simulation.pressure import NotConvergedError, PressureAnswer
from deepcd.solvers.simulation.running import Progress, Row, run
from deepcd.solvers.simulation.scenes import Scene, SceneWarning, read_scene
from deepcd.solvers.simulation.tables import SceneError

pytestmark = pytest.mark.compiled
NAMES = ("plume", "paddle", "dam_break", "tunnel", "bubble")
SMOKE = 'kind = "smoke"\nshape = [16, 16, 16]\n'


def shipped(name: str, frames: int) -> Scene:
    return replace(read_scene(SCENES / f"{name}.toml", 0.125), frames=frames)


def written(folder: Path, text: str) -> Path:
    path = folder / "scene.toml"
    path.write_text(text)
    return path


def arrays(progress: Progress) -> dict[str, Any]:
    state = progress.state
    return {
        **{f"u{axis}": component for axis, component in enumerate(state.velocity)},
        **{own.name: getattr(state, own.name) for own in fields(state) if own.name != "velocity"},
    }


def test_all_scenes_that_ship_are_tested() -> None:
    assert sorted(file.stem for file in SCENES.glob("*.toml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_runs_and_leaves_no_divergence(name: str, tmp_path: Path) -> None:
    scene = shipped(name, 5)
    progress = run(scene, tmp_path)
    assert [row["frame"] for row in progress.rows] == [1, 2, 3, 4, 5]
    for row in progress.rows:
        assert row["divergence"] <= 10 * scene.tol
        assert row["iterations"] <= 8
        assert row["seconds"] >= row["advection_s"] + row["setup_s"] + row["solve_s"]
        assert row["advection_s"] > 0
    assert any(np.abs(component).max() > 0 for component in progress.state.velocity)
    for file in ("summary.png", "film.gif", "frame-00005.vti", "frames.pvd", "film/00001.png"):
        assert (tmp_path / file).stat().st_size > 500 or file == "frames.pvd"
    assert json.loads((tmp_path / "frames.json").read_text()) == progress.rows


class StoppedError(Exception):
    """The run was ended from outside."""


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", -1.0)
    whole = run(shipped(name, 6), tmp_path / "whole")

    def stop(row: Row, _: object) -> None:
        if row["frame"] == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(shipped(name, 6), tmp_path / "parts", tell=stop)
    again = run(shipped(name, 6), tmp_path / "parts", resume=True)
    for key, value in arrays(whole).items():
        np.testing.assert_array_equal(arrays(again)[key], value, err_msg=key)
    assert [row["iterations"] for row in again.rows] == [row["iterations"] for row in whole.rows]


def test_a_static_scene_is_prepared_once_and_a_moving_one_each_time_its_cells_change(tmp_path: Path) -> None:
    still = run(shipped("plume", 4), tmp_path / "still").rows
    moving = run(shipped("paddle", 4), tmp_path / "moving").rows
    assert all(row["setup_s"] < 0.1 * still[0]["setup_s"] for row in still[1:])
    assert max(row["setup_s"] for row in moving[1:]) > 10 * max(row["setup_s"] for row in still[1:])


def test_a_frame_without_unknowns_takes_no_solver(tmp_path: Path) -> None:
    """A full box of solids: nothing is solved, and the row says so instead of repeating the one before."""
    text = 'kind = "smoke"\nshape = [4, 4]\nframes = 2\n[obstacle]\nbox = { low = [-1, -1], high = [2, 2] }\n'

    def never(*_: object) -> PressureAnswer:
        raise AssertionError

    with pytest.warns(SceneWarning, match="fill the whole box, so that there is nothing to simulate"):
        scene = read_scene(written(tmp_path, text))
    for row in run(scene, tmp_path / "out", pressure=never).rows:
        assert (row["unknowns"], row["iterations"], row["setup_s"], row["solve_s"]) == (0, 0, 0, 0)


def test_an_obstacle_comes_from_a_mesh_file(tmp_path: Path) -> None:
    import meshio

    mesh = icosphere(2)
    meshio.write(tmp_path / "ball.stl", meshio.Mesh(mesh.vertices, [("triangle", mesh.triangles)]))
    text = SMOKE + '[obstacle]\nmesh = { file = "ball.stl", fit = [[0.25, 0.25, 0.25], [0.75, 0.75, 0.75]] }\n'
    scene = read_scene(written(tmp_path, text))
    grid = scene.stepper(lambda system, b, x0: x0).grid
    share = float(np.mean(~grid.fluid))
    assert share == pytest.approx(4 / 3 * np.pi * 0.25**3, rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "kind must be one of smoke, liquid, bubbles"),
        ('kind = "smoke', "is no TOML"),
        ('kind = "smoke"', "'shape' is missing"),
        (SMOKE + "smoke = 1", "unknown key smoke in the scene; known: title, kind"),
        ('kind = "smoke"\nshape = [16, 3, 16]', "at least 4 cells per axis, got 16 x 3 x 16"),
        ('kind = "smoke"\nshape = [16.0, 16]', "whole numbers"),
        (SMOKE + "frames = 0", "frames must be"),
        (SMOKE + "tol = 2.0", "tol must be between"),
        (SMOKE + "view = 5", "view must be an axis"),
        (SMOKE + "dt = -1.0", "dt must be positive"),
        (SMOKE + 'walls = ["glass", "solid", "solid"]', "glass"),
        (SMOKE + "[[source]]\ndensity = 1.0", "source must hold one of ball, box, cylinder, mesh, got none"),
        (
            SMOKE + "[[source]]\nball = { center = [0, 0, 0], radius = 1, colour = 1 }",
            "unknown key colour in source.ball",
        ),
        (SMOKE + '[obstacle]\nmesh = { name = "teapot" }', "must be one of knot, torus, icosphere"),
        (SMOKE + '[obstacle]\nmesh = { file = "nowhere.stl" }', "nowhere.stl"),
        (SMOKE + '[obstacle]\nmesh = { name = "knot", fit = [[2, 2, 2], [3, 3, 3]] }', "outside"),
        (SMOKE + "[obstacle]\nball = { center = [0, 0], radius = 1 }", "scene"),
        (
            SMOKE + "[obstacle]\nball = { center = [1, 1, 1], radius = 1 }\nturn = { center = [0, 0], period = 0 }",
            "period of a turn must be finite and not 0",
        ),
        ('kind = "liquid"\nshape = [8, 8]', "at least one"),
        ('kind = "liquid"\nshape = [8, 8]\n[[fill]]\nbox = { low = [0], high = [1] }', "a list of 2 numbers"),
    ],
)
def test_a_scene_that_cannot_be_is_refused_with_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="scene") as caught:
        read_scene(written(tmp_path, text))
    assert message in str(caught.value)
    assert "scene.toml" in str(caught.value) or "'scene'" in str(caught.value)


def test_an_open_mesh_is_named(tmp_path: Path) -> None:
    import meshio

    mesh = icosphere(1)
    meshio.write(tmp_path / "open.stl", meshio.Mesh(mesh.vertices, [("triangle", mesh.triangles[1:])]))
    with pytest.raises(SceneError, match=r"open\.stl.*edge"):
        read_scene(written(tmp_path, SMOKE + '[obstacle]\nmesh = { file = "open.stl" }'))


def test_a_folder_that_holds_a_run_is_not_overwritten_nor_is_another_scene_resumed(tmp_path: Path) -> None:
    run(shipped("plume", 1), tmp_path)
    before = (tmp_path / running.CHECKPOINT).read_bytes()
    with pytest.raises(FileExistsError, match="resume that run, or choose another folder"):
        run(shipped("plume", 2), tmp_path)
    with pytest.raises(ValueError, match="another scene"):
        run(shipped("dam_break", 2), tmp_path, resume=True)
    assert (tmp_path / running.CHECKPOINT).read_bytes() == before
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run(shipped("plume", 2), tmp_path / "new", resume=True)
    (tmp_path / running.CHECKPOINT).write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="damaged"):
        run(shipped("plume", 2), tmp_path, resume=True)


def test_a_pressure_that_is_not_solved_for_ends_the_run_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", -1.0)
    scene = replace(shipped("plume", 4), tol=1e-30)
    with pytest.raises(NotConvergedError, match="not solved for"):
        run(scene, tmp_path)
    assert (tmp_path / running.CHECKPOINT).exists()


def test_the_command_prints_a_line_per_frame_and_json(tmp_path: Path) -> None:
    options = ["--scale", "0.1", "--frames", "2", "--threads", "1", "--out", str(tmp_path / "o"), "--json"]
    result = CliRunner().invoke(app, ["simulate", "plume", *options])
    assert result.exit_code == 0, result.output
    assert [row["frame"] for row in json.loads(result.stdout)] == [1, 2]
    assert "divergence" in result.stderr
    assert "Pictures" in result.stderr
    result = CliRunner().invoke(app, ["simulate", "plume", *options])
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    result = CliRunner().invoke(app, ["simulate", "teapot"])
    assert result.exit_code == 2
    assert "bubble, dam_break, paddle, plume, tunnel" in result.stderr


def test_the_command_says_what_a_scene_loses(tmp_path: Path) -> None:
    text = SMOKE + "frames = 2\n[[obstacle]]\nbox = { low = [0, 0.501, 0], high = [1, 0.502, 1] }\n"
    path, out = written(tmp_path, text), str(tmp_path / "o")
    result = CliRunner().invoke(app, ["simulate", str(path), "--threads", "1", "--out", out])
    assert result.exit_code == 0, result.output
    assert [line[:9] for line in result.stderr.splitlines()].count("warning: ") == 1
    assert f"warning: scene {path}: obstacle.box covers no cell: it is 16 x 0.016 x 16 cells large" in result.stderr


def test_a_mesh_can_be_looked_at_in_paraview(tmp_path: Path) -> None:
    write_vtu(tmp_path / "knot.vtu", icosphere(1))
    assert (tmp_path / "knot.vtu").stat().st_size > 500
