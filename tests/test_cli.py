"""The command ``deepcd``: right answers, honest exit statuses, and a sentence instead of a traceback for bad input."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import scipy.io
import typer
from PIL import Image
from rich.table import Table
from scipy.sparse import csr_array, eye_array, save_npz
from typer.testing import CliRunner

from deepcd.cli import app
from deepcd.data import weight_files
from deepcd.pde import ball, domain, poisson
from deepcd.solvers.backends.cuda import device as cuda
from deepcd.solvers.console import plain_console
from deepcd.solvers.fem import command as mesh_command
from deepcd.solvers.fem import solving

from .tagged_meshes import cube, grouped, written

runner = CliRunner()
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def A() -> csr_array:
    """A five-point Laplacian with a hole, which converges without any preconditioner."""
    return poisson(domain((12, 9), solid=ball((5, 4), 2), walls="air")).A


@pytest.fixture
def matrix(tmp_path: Path, A: csr_array) -> Path:
    path = tmp_path / "A.mtx"
    scipy.io.mmwrite(path, A, precision=17)
    return path


def solve(*arguments: object, expected: int = 0) -> Any:
    """Run ``deepcd solve`` with plain conjugate gradients."""
    result = runner.invoke(app, ["solve", *map(str, arguments), "--preconditioner", "none"])
    assert result.exit_code == expected, result.stderr
    return result


def refused(*arguments: object, says: str) -> None:
    """The command ends with status 2 and a message on standard error alone."""
    result = solve(*arguments, expected=2)
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


class TestSolve:
    def test_json_and_answer(self, tmp_path: Path, matrix: Path, A: csr_array) -> None:
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        np.save(tmp_path / "b.npy", b)
        out = tmp_path / "x.npy"
        result = solve(matrix, tmp_path / "b.npy", "--tol", "1e-9", "--out", out, "--json")
        facts = json.loads(result.stdout)
        x = np.load(out)
        true = np.linalg.norm(b - A @ x) / np.linalg.norm(b)
        assert true <= 1e-9
        assert facts["converged"]
        assert (facts["info"], facts["status"], facts["preconditioner"]) == (0, "CONVERGED", "none")
        assert facts["relative_residual"] == pytest.approx(true, rel=1e-6)
        assert len(facts["residuals"]) == facts["iterations"] + 1
        assert facts["residuals"][0] == pytest.approx(np.linalg.norm(b))
        assert (facts["unknowns"], facts["entries"], facts["tol"], facts["out"]) == (A.shape[0], A.nnz, 1e-9, str(out))
        assert facts["setup_seconds"] >= 0
        assert facts["solve_seconds"] > 0

    def test_people_read_standard_error(self, matrix: Path) -> None:
        result = solve(matrix)
        assert result.stdout == ""
        assert "b = 1 in all" in result.stderr
        assert "converged" in result.stderr
        assert "give --out" in result.stderr

    @pytest.mark.parametrize("kind", ["npz", "mtx.gz"])
    def test_other_matrix_files(self, tmp_path: Path, A: csr_array, matrix: Path, kind: str) -> None:
        path = tmp_path / f"B.{kind}"
        if kind == "npz":
            save_npz(path, A)
        else:
            path.write_bytes(gzip.compress(matrix.read_bytes()))
        assert json.loads(solve(path, "--json").stdout)["entries"] == A.nnz

    @pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
    def test_right_hand_sides_may_be_columns_rows_or_sparse(
        self, tmp_path: Path, matrix: Path, A: csr_array, shape: tuple[int, ...]
    ) -> None:
        b = np.arange(A.shape[0], dtype=np.int32).reshape(shape)
        np.save(tmp_path / "b.npy", b)
        files = ["b.npy"]
        if b.ndim == 2:
            scipy.io.mmwrite(tmp_path / "dense.mtx", b)
            scipy.io.mmwrite(tmp_path / "sparse.mtx", csr_array(b))
            files += ["dense.mtx", "sparse.mtx"]
        for name in files:
            facts = json.loads(solve(matrix, tmp_path / name, "--json").stdout)
            assert facts["residuals"][0] == pytest.approx(np.linalg.norm(b))

    def test_not_converged_is_status_1(self, tmp_path: Path, matrix: Path) -> None:
        result = solve(matrix, "--maxiter", 2, "--json", "--out", tmp_path / "x.npy", expected=1)
        facts = json.loads(result.stdout)
        assert not facts["converged"]
        assert (facts["status"], facts["info"], facts["iterations"]) == ("MAXITER", 2, 2)
        assert facts["relative_residual"] > 1e-6
        assert "NOT converged" in result.stderr
        assert np.load(tmp_path / "x.npy").shape == (facts["unknowns"],)

    def test_indefinite_is_status_1(self, tmp_path: Path, A: csr_array) -> None:
        save_npz(tmp_path / "A.npz", csr_array(A - 3 * eye_array(A.shape[0])))
        facts = json.loads(solve(tmp_path / "A.npz", "--json", expected=1).stdout)
        assert facts["info"] < 0
        assert "INDEFINITE" in facts["status"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "is not a Matrix Market file"),
            (b"hello", "is not a Matrix Market file"),
            (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n", "is truncated: it holds 0 of the 1 entries"),
            (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 1.0\n", "row 3 is not one of 1 to 2"),
            (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 x\n", "is not a number"),
            (b"%%MatrixMarket matrix coordinate real general\n2 3 1\n1 1 1.0\n", "must be square and not empty"),
            (b"%%MatrixMarket matrix coordinate real general\n0 0 0\n", "must be square and not empty"),
            (b"%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n", "must be real"),
            (b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 nan\n2 2 1\n", "error: "),
            (b"%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 inf\n2 2 1\n", "error: "),
        ],
    )
    def test_matrix_files(self, tmp_path: Path, content: bytes, says: str) -> None:
        path = tmp_path / "A.mtx"
        path.write_bytes(content)
        refused(path, says=says)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100])
    def test_archives(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "A.npz"
        path.write_bytes(content)
        refused(path, says="is not a sparse matrix written by scipy.sparse.save_npz")

    def test_an_archive_of_something_else(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "A.npz", a=np.ones(3))
        refused(tmp_path / "A.npz", says="is not a sparse matrix written by")

    @pytest.mark.parametrize(("name", "says"), [("nowhere.mtx", "no such file"), ("A.txt", "must be a .mtx")])
    def test_paths(self, tmp_path: Path, name: str, says: str) -> None:
        refused(tmp_path / name, says=says)

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "A.mtx").mkdir()
        refused(tmp_path / "A.mtx", says="Is a directory")

    def test_objects_are_not_unpickled(self, tmp_path: Path, matrix: Path, A: csr_array) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.mkdir, (tmp_path / "exploded",))

        np.save(tmp_path / "b.npy", np.array([Bomb()] * A.shape[0]), allow_pickle=True)
        refused(matrix, tmp_path / "b.npy", says="holds pickled objects")
        (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
        refused(matrix, tmp_path / "b.npy", says="without pickled objects")
        with (tmp_path / "A.npz").open("wb") as stream:
            np.savez(stream, format=np.array([Bomb()]), shape=(1, 1))
        refused(tmp_path / "A.npz", says="holds pickled objects")
        assert not (tmp_path / "exploded").exists()

    def test_right_hand_sides(self, tmp_path: Path, matrix: Path, A: csr_array) -> None:
        n = A.shape[0]
        for b, says in (
            (np.ones(n - 1), f"must have the {n} entries"),
            (np.ones((n, 2)), f"got shape ({n}, 2)"),
            (np.full(n, 1j), "must be real"),
            (np.full(n, np.nan), "error: "),
            (np.array(["a"] * n), "must be real"),
        ):
            np.save(tmp_path / "b.npy", b)
            refused(matrix, tmp_path / "b.npy", says=says)
        refused(matrix, tmp_path / "b.txt", says="must be a .npy")
        np.save(tmp_path / "b.npy", np.ones(n))
        (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-8])
        refused(matrix, tmp_path / "b.npy", says=f"describes {8 * n} bytes of data, it holds {8 * n - 8}")

    @pytest.mark.parametrize(
        "option", [("--tol", -1), ("--tol", 0), ("--tol", "nan"), ("--maxiter", 0), ("--timeout", -1), ("--threads", 0)]
    )
    def test_numbers(self, matrix: Path, option: tuple[str, object]) -> None:
        result = solve(matrix, *option, expected=2)
        assert option[0].strip("-") in result.stderr

    def test_the_preconditioner(self, matrix: Path) -> None:
        result = runner.invoke(app, ["solve", str(matrix), "--preconditioner", "magic"])
        assert result.exit_code == 2
        assert "magic" in result.stderr

    @pytest.mark.parametrize("out", ["x.txt", "nowhere/x.npy"])
    def test_an_answer_that_could_not_be_written_is_refused_before_solving(
        self, tmp_path: Path, matrix: Path, out: str
    ) -> None:
        refused(matrix, "--out", tmp_path / out, says="in a folder that exists")

    def test_an_answer_that_cannot_be_written_after_all(self, tmp_path: Path, matrix: Path) -> None:
        (tmp_path / "x.npy").mkdir()
        refused(matrix, "--out", tmp_path / "x.npy", says="x was not written (Is a directory)")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["A.mtx", "x.npy"]

    def test_bombs_and_pipes(self, tmp_path: Path) -> None:
        (tmp_path / "A.mtx").write_text("%%MatrixMarket matrix coordinate real general\n9 9 1000000000000\n1 1 1\n")
        refused(tmp_path / "A.mtx", says="it holds 1 of the 1000000000000 entries")
        os.mkfifo(tmp_path / "A.npz")
        refused(tmp_path / "A.npz", says="Not a regular file")


class TestMesh:
    """``deepcd solve --mesh``: the equation comes from options."""

    @pytest.fixture(autouse=True)
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The points that reach deepcd, which solves without them."""
        calls: list[Any] = []

        def solve_at(points: Any, method: Any, A: Any, b: Any, **options: Any) -> Any:
            calls.append(points)
            return method.solve(A, b, **options)

        monkeypatch.setattr(solving, "solve_at", solve_at)
        return calls

    @pytest.fixture
    def mesh(self, tmp_path: Path) -> Path:
        return written(grouped(cube("triangle", 4)), tmp_path / "part.msh")

    EQUATION = (
        "--coefficient",
        "west=50",
        "--coefficient",
        "east=0.5",
        "--dirichlet",
        "left=0",
        "--robin",
        "right=2,1",
    )

    def test_an_answer_on_all_nodes_and_a_picture(self, tmp_path: Path, mesh: Path, seen: list[Any]) -> None:
        out, figure = tmp_path / "u.vtu", tmp_path / "u.png"
        command = ("--mesh", mesh, *self.EQUATION, "--order", 2, "--tol", "1e-12", "--out", out, "--figure", figure)
        result = solve(*command, "--json")
        facts = json.loads(result.stdout)
        read = meshio.vtu.read(out)
        flux = 1 / (0.5 / 50 + 0.5 / 0.5 + 1 / 2)
        x = read.points[:, 0]
        expected = np.where(x < 0.5, flux * x / 50, flux * (0.5 / 50 + (x - 0.5) / 0.5))
        np.testing.assert_allclose(read.point_data["u"], expected, atol=1e-9)
        assert read.cells[0].type == "triangle6"
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert facts["converged"]
        assert (facts["nodes"], facts["unknowns"], facts["least"]) == (81, 72, 0)
        assert facts["largest"] == pytest.approx(expected.max())
        assert (facts["out"], facts["figure"]) == (str(out), str(figure))
        assert seen[0].shape == (72, 2)
        assert "72 unknowns of 81" in result.stderr
        assert "u written to" in result.stderr

    def test_an_answer_that_is_not_kept(self, mesh: Path) -> None:
        assert "give --out u.vtu" in solve("--mesh", mesh, "--dirichlet", "boundary=1", "--source", 2).stderr

    def test_every_part_of_the_equation_is_handed_on(self, mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[dict[str, Any]] = []

        def record(*_: Any, **equation: Any) -> None:
            calls.append(equation)
            raise ValueError("enough")

        monkeypatch.setattr(mesh_command, "fem", record)
        options = (
            "--reaction 3 --source west=4 --source a=b=-5e-1 --neumann 1=6 --robin x=7,-8 --dirichlet top=9 --order 2"
        )
        refused("--mesh", mesh, *options.split(), says="enough")
        assert calls == [
            {
                "order": 2,
                "reaction": 3.0,
                "source": {"west": 4.0, "a=b": -0.5},
                "neumann": {"1": 6.0},
                "robin": {"x": (7.0, -8.0)},
                "dirichlet": {"top": 9.0},
            }
        ]

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ("--dirichlet left", "--dirichlet left: give TAG=NUMBER, as often as there are parts"),
            ("--dirichlet =1", "--dirichlet =1: give TAG=NUMBER"),
            ("--dirichlet left=x", "--dirichlet left=x: give TAG=NUMBER with a number"),
            ("--dirichlet left=1 --dirichlet left=2", "--dirichlet: the part 'left' is given twice"),
            ("--robin left=1", "--robin left=1: give TAG=H,U_OUTSIDE with two numbers"),
            ("--coefficient 1 --coefficient 2", "--coefficient 1: give one number, or TAG=NUMBER"),
            ("--coefficient steel", "--coefficient steel: give TAG=NUMBER with a number"),
            ("--coefficient west=1", "coefficient is not given in 16 of 32 cells"),
            ("--coefficient nan", "coefficient must be finite and above 0, got nan"),
            ("--dirichlet wall=1", "the tag 'wall' of dirichlet is unknown; tags of boundary parts: 'left'"),
            ("--out u.npy", "--out u.npy: give a .vtu file in a folder that exists"),
            ("--figure u.jpg", "--figure u.jpg: give a .png file in a folder that exists"),
            ("A.mtx", "give either a file of A, and maybe one of B, or --mesh"),
        ],
    )
    def test_bad_options(self, mesh: Path, options: str, says: str) -> None:
        refused("--mesh", mesh, *options.split(), says=says)

    def test_options_of_meshes_without_one(self, matrix: Path) -> None:
        for name, value in (("coefficient", "1"), ("robin", "a=1,2"), ("figure", "u.png"), ("order", "2")):
            refused(matrix, f"--{name}", value, says=f"--{name} is for --mesh, which is not given")
        refused(says="give either a file of A, and maybe one of B, or --mesh")

    def test_a_mesh_that_cannot_be_read(self, tmp_path: Path) -> None:
        refused("--mesh", tmp_path / "a.msh", says="a.msh: no such file")

    def test_not_converged_is_status_1(self, tmp_path: Path, mesh: Path) -> None:
        result = solve("--mesh", mesh, *self.EQUATION, "--maxiter", 1, "--out", tmp_path / "u.vtu", expected=1)
        assert "NOT converged" in result.stderr
        assert (tmp_path / "u.vtu").is_file()

    @pytest.mark.parametrize(("kind", "source"), [("quad", 1), ("quad", 0), ("tetra", 1), ("hexahedron", 0)])
    def test_pictures_of_other_cells(self, tmp_path: Path, kind: str, source: int) -> None:
        """Without a source u is a constant, which has a colour, too."""
        path, figure = written(grouped(cube(kind, 2)), tmp_path / "a.vtu"), tmp_path / "u.png"
        solve("--mesh", path, "--dirichlet", "1=3", "--source", source, "--figure", figure)
        pixels = np.asarray(Image.open(figure).convert("RGB")).reshape(-1, 3)
        middle = pixels[(pixels < 230).any(axis=1) & (np.ptp(pixels, axis=1) > 40)]  # what is coloured
        assert 0.2 < len(middle) / len(pixels) < 0.8


class TestInfo:
    def test_json(self) -> None:
        facts = json.loads(runner.invoke(app, ["info", "--json"]).stdout)
        assert facts["numpy"] == np.__version__
        assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
        assert facts["cores"] >= facts["usable_cores"] >= 1
        assert set(facts["weights"]) == set(weight_files.checksums())

    def test_a_cuda_device_or_why_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> str:
            raise RuntimeError("no CUDA device: look behind the desk")

        monkeypatch.setattr(cuda, "require", lambda: "a device")
        assert json.loads(runner.invoke(app, ["info", "--json"]).stdout)["cuda"] == "a device"
        monkeypatch.setattr(cuda, "require", missing)
        assert json.loads(runner.invoke(app, ["info", "--json"]).stdout)["cuda"].endswith("behind the desk")

    def test_weights_with_their_record_and_damaged_ones_with_the_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(weight_files, "SHIPPED", tmp_path)
        assert "none shipped" in runner.invoke(app, ["info"]).stdout
        weight_files.save(tmp_path / "a-1.safetensors", {"w": np.ones(2)}, {"architecture": "a/1", "seed": 41})
        (tmp_path / "b-1.safetensors").write_bytes(b"damaged")
        (tmp_path / "CHECKSUMS").write_text("0  a-1.safetensors\n0  b-1.safetensors\n")
        weights = json.loads(runner.invoke(app, ["info", "--json"]).stdout)["weights"]
        assert weights["a-1.safetensors"]["seed"] == 41
        assert "truncated" in weights["b-1.safetensors"]["error"]
        shown = runner.invoke(app, ["info"]).stdout
        assert "41" in shown
        assert "truncated" in shown


@pytest.mark.compiled
def test_demo(tmp_path: Path) -> None:
    result = runner.invoke(app, ["demo", "--out", str(tmp_path / "out"), "--size", "20", "--frames", "4"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("prepared, warm") == 4
    assert result.stdout.count("PyAMG SA with CG") == result.stdout.count("SciPy CG   ") == 3
    assert "4 frames in" in result.stdout
    assert (tmp_path / "out/demo.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/demo.gif").read_bytes().startswith(b"GIF8")


def test_train_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepcd.solvers import training

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(training, "train", lambda **options: calls.append(options))
    out = tmp_path / "w.safetensors"
    command = ["train", "--dim", "2", "--out", str(out), "--steps", "5", "--seed", "3", "--resume", "--threads", "2"]
    assert runner.invoke(app, command).exit_code == 0
    given = {"ndim": 2, "out": out, "steps": 5, "seed": 3, "resume": True, "threads": 2}
    assert calls == [given | {"start": None, "rate": 3e-3}]
    start = tmp_path / "start.safetensors"
    assert runner.invoke(app, [*command, "--start", str(start), "--rate", "1e-3"]).exit_code == 0
    assert calls[1] == given | {"start": start, "rate": 1e-3}
    assert runner.invoke(app, ["train", "--dim", "4", "--out", str(out), "--steps", "5"]).exit_code == 2


def test_train_says_what_is_wrong_with_a_start(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    command = ["train", "--dim", "2", "--out", str(tmp_path / "w"), "--steps", "1", "--start", str(start)]
    missing = runner.invoke(app, command)
    start.write_bytes(b"hello")
    foreign = runner.invoke(app, command)
    for result, reason in ((missing, "No such file"), (foreign, "truncated, or not safetensors")):
        assert result.exit_code == 2
        assert reason in result.stderr
        assert str(start) in result.stderr


class TestBrackets:
    """Square brackets in messages are text, not markup."""

    def test_info_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = {"cuda": 'no device (pip install "deepcd[cuda]")'}
        monkeypatch.setattr("deepcd.solvers.backends.backend.devices", lambda: found)
        assert 'pip install "deepcd[cuda]"' in runner.invoke(app, ["info"]).stdout

    def test_names_of_files_and_options(self, tmp_path: Path) -> None:
        path = tmp_path / "A[bold]:smile:.mtx"
        refused(path, says="A[bold]:smile:.mtx: no such file")
        assert "--[red]tol" in runner.invoke(app, ["solve", str(path), "--[red]tol"]).stderr
        assert "[red]ve" in runner.invoke(app, ["[red]ve"]).stderr

    def test_scenes(self, tmp_path: Path) -> None:
        scene = tmp_path / "a[red].toml"
        scene.write_text('kind = "smoke"\n"[dim]key" = 1\n', encoding="utf-8")
        result = runner.invoke(app, ["simulate", str(scene), "--out", str(tmp_path)])
        assert result.exit_code == 2
        assert "a[red].toml" in result.stderr
        assert "[dim]key" in result.stderr

    def test_no_console_reads_markup(self, capsys: pytest.CaptureFixture[str]) -> None:
        table = Table("[red]heading", title="[red]title")
        table.add_row("[bold]cell :smile:")
        plain_console().print("a [red]b[/] :smile:")
        plain_console().print(table, soft_wrap=False)
        shown = capsys.readouterr().out
        for text in ("a [red]b[/] :smile:", "[red]heading", "[red]title", "[bold]cell :smile:"):
            assert text in shown

    def test_all_consoles_are_plain(self) -> None:
        files = [path for name in ("solvers", "src/deepcd") for path in (ROOT / name).rglob("*.py")]
        made = {path.name for path in files if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))}
        assert made == {"console.py", "progress.py"}  # the latter prints numbers only


def help_texts() -> list[str]:
    """Return the help of every command, argument and option."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined] # a group, as there are several
    parts = [part for command in commands.values() for part in command.params if part.name != "help"]
    return [text for text in (*(c.help for c in commands.values()), *(part.help for part in parts)) if text]


def test_help_is_in_full_phrases() -> None:
    texts = help_texts()
    assert len(texts) > 50
    for text in texts:
        assert not text.startswith(("Of ", "For ", "That ", "Whose ")), text
        assert text[0].isupper() or text.startswith("."), text
        assert text.rstrip().endswith("."), text
        assert "[" not in text, text  # would be read as markup


def test_the_module_runs_as_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "deepcd", "--help"], check=True, capture_output=True, text=True)
    for command in ("solve", "info", "demo", "train"):
        assert command in shown.stdout
