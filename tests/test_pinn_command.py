"""The command ``deepcd pinn``: problems by name and from programs, what it writes, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deepcd import pinn
from deepcd.cli import app
from deepcd.pde.problems import PROBLEMS

runner = CliRunner()
SMALL = ("--steps", "4", "--points", "60")
PROGRAM = """
from beside import rate
from torch import exp

from deepcd import pinn

line = pinn.box(x=(0, 1))
decay = pinn.Problem(lambda x, u, k: u.x + k * u, line, pinn.observe([[0.5], [1.0]], u=[0.61, 0.37], sigma=0.01),
                     start=lambda: 1.0, unknowns={"k": rate})


def known():
    return pinn.Problem(lambda x, u: u.x + u, line, start=lambda: 1.0, solution=lambda x: exp(-x))


def endless():
    return pinn.Problem(lambda x, u: u.x + u / 0, line)


number = 3
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "beside.py").write_text("rate = 0.5\n")
    (tmp_path / "mine.py").write_text(PROGRAM)
    return str(tmp_path / "mine.py")


def done(*arguments: str) -> list[dict[str, Any]]:
    result = runner.invoke(app, ["pinn", *arguments, *SMALL, "--json"])
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_a_program_of_ones_own(program: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (row,) = done(f"{program}:decay", "--out", str(out))
    assert row["steps"] == 4
    assert row["unknowns"].keys() == row["deviations"].keys() == {"k"}
    assert "error" not in row
    names = {path.name for path in out.iterdir()}
    pictures = {"solution.png", "history.png", "samples.png"}
    assert names >= {"metrics.json", "checkpoint.safetensors", "fields.safetensors", *pictures}
    assert json.loads((out / "metrics.json").read_text())["metrics"] == row
    assert pinn.load(out / "fields.safetensors").unknowns == row["unknowns"]

    again = runner.invoke(app, ["pinn", f"{program}:decay", "--out", str(out), *SMALL])
    assert again.exit_code == 2
    assert "resume that run" in again.stderr
    (resumed,) = done(f"{program}:decay", "--out", str(out), "--resume")
    assert resumed["unknowns"] == row["unknowns"]
    assert resumed["deviations"]["k"] == pytest.approx(row["deviations"]["k"], rel=0.01)


def test_several_seeds_in_processes(program: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    command = ["pinn", f"{program}:known", "--sampler", "r3", "--seeds", "2", "--out", str(out), "--json", *SMALL]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["error"] != rows[1]["error"]
    assert "median" in result.stderr
    assert "residual rms" not in result.stderr
    assert (out / "seed-1" / "solution.png").is_file()


def test_it_lists_the_problems() -> None:
    result = runner.invoke(app, ["pinn", "list", "--json"])
    assert result.exit_code == 0
    assert {row["problem"] for row in json.loads(result.stdout)} == set(PROBLEMS)


def test_the_help_says_that_the_program_is_executed() -> None:
    assert "which is executed" in " ".join(runner.invoke(app, ["pinn", "--help"]).stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}"], "mine.py may have several problems: give"),
        (["{}:d"], "mine.py has no 'd': give"),
        (["{}:d"], "the problems in it are decay"),
        (["{}:number"], "number of"),
        (["{}:number"], "but must be a pinn.Problem"),
        (["{}:endless"], "mine.py, line 17: ZeroDivisionError"),
        (["{}x:decay"], "there is no program"),
        (["{}:known", "--sampler", "x"], "unknown sampler 'x'; known: uniform"),
        (["{}:known", "--optimizer", "x"], "unknown optimizer 'x'; known: "),
        (["{}:known", "--budget", "0"], "budget must be"),
        (["one_peek"], "unknown problem 'one_peek'; known: one_peak"),
    ],
)
def test_bad_input(arguments: list[str], said: str, program: str, tmp_path: Path) -> None:
    given = [argument.format(program) for argument in arguments]
    result = runner.invoke(app, ["pinn", *given, "--out", str(tmp_path / "out"), *SMALL])
    assert result.exit_code == 2, result.output
    assert said in result.stderr.replace("\n", " ")


def test_a_program_that_is_no_python_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "torn.py"
    path.write_text("from deepcd import pinn\nproblem = pinn.Problem(\n")
    result = runner.invoke(app, ["pinn", f"{path}:problem", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "torn.py, line 2: '(' was never closed" in result.stderr


def test_what_no_file_can_hold_costs_no_run(tmp_path: Path) -> None:
    path = tmp_path / "bell.py"
    path.write_text(
        "from torch.nn.functional import gelu\nfrom deepcd import pinn\n"
        "bell = pinn.Problem(lambda x, u: u.x + gelu(u), pinn.box(x=(0, 1)), start=lambda: 1.0)\n"
    )
    result = runner.invoke(app, ["pinn", f"{path}:bell", "--out", str(tmp_path / "out"), *SMALL])
    assert result.exit_code == 0, result.output
    assert "fields.safetensors is not written: gelu" in result.stderr
    assert (tmp_path / "out" / "metrics.json").is_file()
