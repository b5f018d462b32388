"""``deepcd bench``: every run has its row, failures included, and the report opens in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import save_npz
from typer.testing import CliRunner

from deepcd import DeepCD
from deepcd.cli import app
from deepcd.solvers.bench import command, methods, petsc, report, running
from deepcd.solvers.bench.cases import named
from deepcd.solvers.bench.linear_problem import LinearProblem
from deepcd.solvers.bench.methods import METHODS, Answer, Unsuited, absent
from deepcd.solvers.bench.problems import FAMILIES, PROBLEMS, USUAL

pytestmark = pytest.mark.compiled
TOL = 1e-6
CURVES = "residuals-A_1.npz+b.npy-729-1e-06"  # the figure of a matrix from a file
FIELDS = {
    "problem", "size", "method", "tol", "unknowns", "iterations", "setup_s", "solve_s", "peak_bytes", "residual",
    "status", "residuals",
}  # fmt: skip


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dcdm"])
@pytest.mark.parametrize("problem", ["plume-obstacle", "mixed-walls"])
def test_a_method_solves_and_its_curve_ends_at_the_tolerance(method: str, problem: str) -> None:
    if absent(method):
        pytest.skip(absent(method))
    system = next(PROBLEMS[problem](14))
    answer = METHODS[method](system, TOL, 1)
    assert system.judge(answer.x) <= TOL
    assert answer.iterations > 0
    assert answer.setup >= 0
    assert answer.solve > 0
    if len(answer.residuals) > 1:
        assert answer.residuals[0] == pytest.approx(1, rel=0.5)
        assert answer.residuals[-1] <= 1.01 * TOL


@pytest.mark.parametrize("problem", FAMILIES)
def test_families_of_coefficients_are_problems(problem: str) -> None:
    system = next(PROBLEMS[problem](12))
    assert system.A.shape == (system.b.size,) * 2
    assert system.judge(METHODS["auto"](system, TOL, 1).x) <= TOL
    assert problem not in USUAL


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dcdm"])
@pytest.mark.parametrize("boxed", [True, False])
def test_a_method_takes_a_matrix_with_coefficients_or_says_what_it_needs(method: str, boxed: bool) -> None:
    if absent(method):
        pytest.skip(absent(method))
    system = next(PROBLEMS["two-phase-ball"](14))
    if not boxed:
        system = LinearProblem(system.A, system.b)
    if not boxed and method.startswith("pfmg"):
        with pytest.raises(Unsuited, match="box of cells"):
            METHODS[method](system, TOL, 1)
        return
    answer = METHODS[method](system, TOL, 1)
    assert system.judge(answer.x) <= TOL
    assert answer.iterations > 0
    if len(answer.residuals) > 1:
        assert len(answer.residuals) == answer.iterations + 1
        assert answer.residuals[0] == pytest.approx(1)
        assert answer.residuals[-1] <= 1.01 * TOL


def _wrong(problem: LinearProblem, tol: float, threads: int) -> Answer:
    return Answer(np.zeros(len(problem.b)), 3, 0.0, 0.1, [1.0, 1e-9])


def _raises(problem: LinearProblem, tol: float, threads: int) -> Answer:
    raise ArithmeticError("no such luck")


def _sleeps(problem: LinearProblem, tol: float, threads: int) -> Answer:
    time.sleep(60)
    raise AssertionError


def test_a_method_that_says_it_converged_is_not_believed() -> None:
    METHODS["wrong"] = _wrong
    try:
        row = running._measure(named(["plume"], [8])[0], "wrong", TOL, 1)
    finally:
        del METHODS["wrong"]
    assert row["status"] == "not converged"
    assert row["residual"] == pytest.approx(1)


def _task(name: str) -> dict[str, Any]:
    return {"raises": _raises, "sleeps": _sleeps}[name](next(PROBLEMS["plume"](8)), TOL, 1).__dict__


def test_an_error_and_a_run_that_takes_too_long_are_rows() -> None:
    assert running._in_child(_task, ("raises",), 60)["status"] == "failed: ArithmeticError: no such luck"
    assert running._in_child(_task, ("sleeps",), 0.5)["status"] == "timeout after 0.5 s"


def _starts_a_program(path: str) -> dict[str, Any]:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(str(program.pid), encoding="ascii")
    time.sleep(600)
    return {}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_programs_end_with_the_run_that_started_them(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    row = running._in_child(_starts_a_program, (str(path),), 10)
    assert row["status"] == "timeout after 10 s"
    pid, deadline = int(path.read_text(encoding="ascii")), time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _dies() -> dict[str, Any]:
    import os

    os._exit(9)


def test_a_run_that_dies_is_a_row() -> None:
    assert "exit code 9" in running._in_child(_dies, (), 60)["status"]


def test_the_peak_of_a_program_is_not_that_of_the_one_that_started_it() -> None:
    ballast = np.ones(40_000_000)
    program = "import memory; before = memory.forget_peak(); x = bytearray(60_000_000); print(memory.peak() - before)"
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=Path(running.__file__).parent
    )
    assert ballast.nbytes > 3e8
    assert 55e6 < int(run.stdout) < 80e6


def test_memory_that_was_freed_before_counts_when_it_is_used_again() -> None:
    program = (
        "import memory, numpy as np; x = [np.ones(1000) for _ in range(6000)]; y = x[::2]; del x; y = y[:1]; "
        "before = memory.forget_peak(); x = [np.ones(1000) for _ in range(6000)]; print(memory.peak() - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=Path(running.__file__).parent
    )
    assert 40e6 < int(run.stdout) < 60e6


def test_without_petsc_the_rows_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(petsc, "interpreter", lambda: None)
    (row,) = running.run(named(["plume"], [8]), ["boomeramg"], TOL)
    assert "apt-get install" in row["status"]
    assert set(row) == FIELDS
    with pytest.raises(RuntimeError, match="petsc4py"):
        petsc.solve(None, None, TOL, "ml")


@pytest.mark.parametrize(
    ("name", "command"),
    [("amgcl", "pip install --no-build-isolation pyamgcl"), ("apxchol", "pip install apxchol")],
)
def test_without_a_package_the_rows_say_what_to_install(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    (row,) = running.run(named(["plume"], [8]), [name], TOL)
    assert row["status"].startswith("not installed: ")
    assert command in row["status"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench")
    first = ["bench", "--problems", "plume,porous", "--sizes", "12", "--methods", "mic0,learned-multigrid,pyamg-sa"]
    for more in (first, ["bench", "--problems", "plume", "--sizes", "16", "--methods", "learned-multigrid"]):
        result = CliRunner().invoke(app, [*more, "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert "converged" in result.output
    return out


def test_results_are_an_array_of_rows_and_other_runs_stay(folder: Path) -> None:
    rows = json.loads((folder / "results.json").read_text())
    assert len(rows) == 7
    for row in rows:
        assert set(row) == FIELDS
        assert row["status"] == "converged"
        assert row["residual"] <= TOL
        assert row["iterations"] >= 1
        assert row["peak_bytes"] >= 0
        assert row["setup_s"] >= 0 < row["solve_s"]


def test_the_report_stands_alone_and_links_each_row_to_its_curve(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "<script src" not in text
    assert not re.findall(r'(?:src|href)="https?:', text)
    links = re.findall(r'<a href="#([^"]+)">', text)
    assert len(links) == 7
    for link in links:
        assert f'id="{link}"' in text
    assert "training of learned-multigrid has paid for itself" in text
    assert "cores, Python" in text


@pytest.fixture(scope="module")
def of_a_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a matrix with coefficients from a file, beside a row of another problem."""
    out = tmp_path_factory.mktemp("file")
    problem = next(PROBLEMS["log-normal"](9))
    save_npz(out / "A 1.npz", problem.A)
    np.save(out / "b.npy", problem.b)
    given = ["--matrix", str(out / "A 1.npz"), "--rhs", str(out / "b.npy")]
    run = ["--methods", "jacobi,learned-multigrid,auto,pfmg", *given]
    for more in (["--problems", "log-normal", "--sizes", "8", "--methods", "jacobi"], run):
        result = CliRunner().invoke(app, ["bench", *more, "--out", str(out / "results")])
        assert result.exit_code == 0, result.output
    return out / "results"


def test_a_matrix_from_a_file_has_a_row_per_method(of_a_file: Path) -> None:
    first, *rows = json.loads((of_a_file / "results.json").read_text())
    assert (first["problem"], first["size"]) == ("log-normal", 8), "names come first"
    assert {(row["problem"], row["size"]) for row in rows} == {("A 1.npz+b.npy", 729)}
    said = {row["method"]: row["status"] for row in rows}
    assert said["jacobi"] == said["auto"] == said["learned-multigrid"] == "converged"
    if not absent("pfmg"):
        assert said["pfmg"] == "left out: PFMG needs to know the box of cells that A comes from"


def test_a_matrix_from_a_file_has_its_curves_and_its_table(of_a_file: Path) -> None:
    text = (of_a_file / "report.html").read_text()
    assert set(re.findall(r'<a href="#([^"]+)">', text)) == {"residuals-log-normal-8-1e-06", CURVES}
    assert f'<img id="{CURVES}"' in text
    assert "training of learned-multigrid has paid for itself" in text
    table = (of_a_file / "tables.md").read_text().split("\n\n")[1]
    assert table.startswith("| 729 rows, to 1e-06 | A 1.npz+b.npy |")
    assert "| learned-multigrid | " in table
    assert "| learned-multigrid | left out |" not in table
    assert "| auto | " in table


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_a_browser_draws_the_report_and_sorts_its_table(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    click = "<script>document.querySelectorAll('th')[8].click()</script></body>"
    page.write_text((folder / "report.html").read_text().replace("</body>", click))
    picture = tmp_path / "report.png"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = [f"--screenshot={picture}", "--window-size=1300,4000"]
    subprocess.run([*command, *shot, page.as_uri()], check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 20_000
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=120)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown.stdout.decode())]
    totals = [float(row[8]) for row in cells if row]
    assert len(totals) == 7
    assert totals == sorted(totals)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problems", "smoke"], "unknown problem smoke; known: plume, plume-obstacle"),
        (["--methods", "multigrid"], "unknown method multigrid; known: none, jacobi"),
        (["--sizes", "many"], "whole numbers"),
        (["--sizes", "4"], "at least 8"),
        (["--tol", "0"], "tol"),
        (["--matrix", "A.npz"], "A.npz: no such file"),
        (["--matrix", "A.npz", "--problems", "plume"], "not both"),
        (["--rhs", "b.npy"], "needs the matrix"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["bench", *arguments, "--out", str(out)])
    assert result.exit_code == 2
    assert message in result.output
    assert not out.exists()


def test_a_foreign_file_of_results_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"mine": 1}')
    result = CliRunner().invoke(app, ["bench", "--problems", "plume", "--sizes", "8", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "another folder" in result.output
    assert (tmp_path / "results.json").read_text() == '{"mine": 1}'


def rows_of(setup: float = 0.0, **solves: float) -> Iterator[dict[str, Any]]:
    for method, seconds in solves.items():
        status = "converged" if math.isfinite(seconds) else "not converged"
        yield {
            "problem": "plume", "size": 64, "tol": TOL, "method": method.replace("_", "-"), "status": status,
            "setup_s": setup if method == "learned_multigrid" else 0.0, "solve_s": seconds,
        }  # fmt: skip


def test_break_even_is_the_training_over_the_gain_per_solve_or_never() -> None:
    even = partial(report.break_even, training=lambda problem: {"learned-multigrid": 100.0, "dcdm": 50.0})
    lines = even(list(rows_of(mic0=3.0, none=9.0, learned_multigrid=1.0, dcdm=4.0)))
    assert (
        "training of learned-multigrid has paid for itself after 50 systems (the next is mic0); after 50 right"
        in lines[0]
    )
    assert "training of dcdm has paid for itself never with systems (mic0 is faster); never with right" in lines[1]
    assert "after 1,700 systems" in even(list(rows_of(mic0=3.0, learned_multigrid=2.94)))[0], "1,667, to two digits"
    assert "learned-multigrid did not converge" in even(list(rows_of(mic0=3.0, learned_multigrid=math.inf)))[0]
    assert "nothing classical converged" in even(list(rows_of(mic0=math.inf, learned_multigrid=1.0)))[0]
    assert even(list(rows_of(learned_multigrid=1.0))) == []
    (left_out,) = rows_of(learned_multigrid=math.inf)
    assert even([*rows_of(mic0=3.0), left_out | {"status": "left out: no grid"}]) == []


def test_the_training_is_that_of_the_networks_that_a_problem_needs() -> None:
    assert report.trained_for("plume")["learned-multigrid"] != report.trained_for("two-phases")["learned-multigrid"]
    assert report.trained_for("plume")["dcdm"] == report.trained_for("two-phases")["dcdm"]


def test_setup_counts_for_systems_of_their_own_alone() -> None:
    rows = list(rows_of(setup=2.5, mic0=3.0, learned_multigrid=1.0))
    (line,) = report.break_even(rows, lambda problem: {"learned-multigrid": 100.0})
    assert "never with systems (mic0 is faster); after 50 right-hand sides on one matrix (the next is mic0)" in line


def test_the_summary_has_a_cell_for_each_method_and_problem(folder: Path) -> None:
    head, rule, *lines = (folder / "tables.md").read_text().split("\n\n")[0].strip().splitlines()
    assert head == "| 12^3, to 1e-06 | plume | porous |"
    assert rule == "|---|---|---|"
    assert [line.split(" | ")[0] for line in lines] == ["| mic0", "| learned-multigrid", "| pyamg-sa"]
    assert sum(line.count("**") for line in lines) == 4, "one of each problem is the fastest"


def test_the_summary_tells_failures_and_leaves_out_what_was_not_run() -> None:
    rows = [dict(row, iterations=7) for row in rows_of(mic0=3.0, none=12.3, learned_multigrid=math.inf)]
    rows += [dict(next(rows_of(mic0=0.123)), iterations=5, problem="porous")]
    text = report.summary(rows)
    assert "| none | 12 (7) |  |" in text
    assert "| mic0 | **3 (7)** | **0.12 (5)** |" in text
    assert "| learned-multigrid | not converged |  |" in text


def test_methods_have_the_names_that_deepcd_gives_them() -> None:
    own = ("none", "jacobi", "ic0", "mic0", "ssor", "deflation", "direct", "geometric-multigrid", "auto", "pyamg-sa")
    for name in (*own, "approximate-cholesky", *report.NETWORKS):
        assert name in METHODS
        assert DeepCD(name).preconditioner == name


def test_saved_rows_have_a_line_each_and_no_nan(tmp_path: Path) -> None:
    rows = [
        {"method": "none", "residual": math.nan, "residuals": [1.0, 0.5]},
        {"method": "mic0", "residual": 0.1 + 0.2},
    ]
    running.save(tmp_path / "results.json", rows)
    text = (tmp_path / "results.json").read_text()
    assert len(text.splitlines()) == 2 + len(rows)
    assert json.loads(text) == [rows[0] | {"residual": None}, rows[1]]


def test_rows_of_methods_that_are_unknown_are_not_overwritten(tmp_path: Path) -> None:
    row = {"problem": "plume", "size": 8, "tol": TOL, "method": "learned", "status": "converged"}
    running.save(tmp_path / "results.json", [row])
    result = CliRunner().invoke(app, ["bench", "--problems", "plume", "--sizes", "8", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "another folder" in result.output


def test_the_rows_of_record_are_readable() -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "results" / "bench.json"
    rows = command._saved(path)
    assert len(rows) == 224
    assert {row["method"] for row in rows} <= set(METHODS)
    assert "| learned-multigrid |" in report.summary(rows)


def test_deflation_and_the_classical_ones_count_as_classical_and_networks_do_not() -> None:
    assert set(methods.CLASSICAL) == set(METHODS) - {"learned-multigrid", "dcdm", "auto", "auto-no-points"}


def test_a_curve_over_the_seconds_of_a_figure_begins_with_the_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, Any, Any]] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.semilogy", lambda self, x, y, label, **_: drawn.append((label, x.tolist(), y.tolist()))
    )
    row = {"problem": "A.mtx", "size": 9, "tol": TOL, "iterations": 2, "setup_s": 1.0, "solve_s": 4.0, "residual": 0.1}
    with_curve = row | {"method": "auto", "residuals": [1.0, 0.5, 0.1]}
    without = row | {"method": "apxchol", "residuals": []}
    report._residuals([with_curve, without], tmp_path / "curves.png")
    assert drawn == [
        ("auto", [0, 1, 2], [1, 0.5, 0.1]),
        ("auto", [1, 3, 5], [1, 0.5, 0.1]),
        ("apxchol", [0, 2], [1, 0.1]),
        ("apxchol", [1, 5], [1, 0.1]),
    ]
