"""The core works without any optional package, and whatever needs one says which extra brings it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deepcd.pde.extras import MissingExtraError, require

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {"deepxde", "matplotlib", "meshio", "numba_cuda", "PIL", "pina", "rich", "torch", "typer", "zuko"}
OPTIONAL |= {"pytorch_optimizer", "skfem"}
BOX = "from deepcd import DeepCD; from deepcd.pde import *; A = poisson(domain((16, 16, 16), walls='air')).A"
CORE = {"numba", "numpy", "pyamg", "safetensors", "scipy"}
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def without(packages: set[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter in which some packages cannot be imported."""
    code = BLOCKED.format(packages=packages) + program
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def test_the_core_asks_for_five_packages() -> None:
    assert {re.split(r"[^\w-]", one)[0] for one in PROJECT["dependencies"]} == CORE
    assert all(">=" in one for one in PROJECT["dependencies"])


@pytest.mark.compiled
def test_the_core_solves_without_any_optional_package() -> None:
    program = (
        "import numpy as np, deepcd\n"
        "from deepcd.pde import ball, domain, poisson\n"
        "A = poisson(domain((16, 16, 16), solid=ball((8, 8, 8), 3), walls='air')).A\n"
        "permuted = A[::-1][:, ::-1].tocsr()\n"
        "b = np.ones(A.shape[0])\n"
        "infos = [deepcd.DeepCD(preconditioner=name).solve(A, b).info for name in ('auto', 'pyamg-sa', 'mic0')]\n"
        "print(infos, deepcd.DeepCD.solve(permuted, b).info, deepcd.cg(A, b)[1])"
    )
    done = without(OPTIONAL, program)
    assert done.stdout.strip() == "[0, 0, 0] 0 0", done.stderr


def test_only_what_has_an_extra_of_its_own_needs_more_than_the_core() -> None:
    program = (
        "import pkgutil, deepcd\n"
        "from deepcd.pde.extras import MissingExtraError\n"
        "failed = []\n"
        "for module in pkgutil.walk_packages(deepcd.__path__, 'deepcd.', onerror=lambda name: None):\n"
        "    try: __import__(module.name)\n"
        "    except MissingExtraError: pass\n"
        "    except ModuleNotFoundError: failed.append(module.name)\n"
        "print(*failed)"
    )
    done = without(OPTIONAL, program)
    assert done.returncode == 0, done.stderr
    allowed = (
        "deepcd.cli", "deepcd.demo", "deepcd.messages", "deepcd.solve_command", "deepcd.solvers.console",
        "deepcd.solvers.preconditioners.dcdm",
        "deepcd.solvers.learned.dcdm_network", "deepcd.solvers.learned.torch_threads",
    )  # fmt: skip
    failed = [name for name in done.stdout.split() if not name.startswith("deepcd.solvers.backends.cuda")]
    assert {name for name in failed if not name.endswith(".command")} <= set(allowed)


@pytest.mark.parametrize(
    ("package", "extra", "by", "program"),
    [
        ("torch", "pinn", "deepcd.pinn", "import deepcd.pinn"),
        ("zuko", "pinn", "deepcd.pinn", "import deepcd; deepcd.pinn"),
        ("pytorch_optimizer", "pinn", "deepcd.pinn", "import deepcd.solvers.pinn.training"),
        ("torch", "pinn", "deepcd.optim", "import deepcd; deepcd.optim"),
        ("torch", "pinn", "deepcd.pde.problems", "import deepcd.pde.problems"),
        ("torch", "pinn", "deepcd.pde.regions", "import deepcd.pde.regions"),
        ("torch", "train", "deepcd.solvers.training", "from deepcd.solvers.training import train"),
        ("torch", "train", 'DeepCD(preconditioner="dcdm")', f"{BOX}; DeepCD(preconditioner='dcdm').setup(A)"),
        ("meshio", "simulate", "read_mesh", "from deepcd.pde import read_mesh; read_mesh('a.ply')"),
        ("skfem", "fem", "fem", "from deepcd.pde import fem; fem('a.msh')"),
        ("meshio", "fem", "fem", "from deepcd.pde import fem; fem('a.msh')"),
        ("skfem", "fem", "deepcd.skfem.solver", "import deepcd; deepcd.skfem.solver(None)"),
        ("meshio", "simulate", "write_vtu", "from deepcd.pde import *; write_vtu('a.vtu', icosphere(1))"),
    ],
)
def test_one_sentence_names_the_missing_extra(package: str, extra: str, by: str, program: str) -> None:
    done = without({package}, program)
    assert done.returncode == 1
    said = f'{by} needs {package}, which is not installed: pip install "deepcd[{extra}]"'
    assert done.stderr.splitlines()[-1] == f"deepcd.pde.extras.MissingExtraError: {said}"


@pytest.mark.parametrize(
    ("package", "extra", "by", "arguments"),
    [
        ("typer", "cli", "The command deepcd", ["--help"]),
        ("rich", "cli", "The command deepcd", ["info"]),
        ("matplotlib", "simulate", "deepcd demo", ["demo"]),
        ("meshio", "simulate", "deepcd simulate", ["simulate", "plume"]),
        ("skfem", "fem", "deepcd solve --mesh", ["solve", "--mesh", "a.msh"]),
        ("matplotlib", "fem", "deepcd solve --mesh", ["solve", "--mesh", "a.msh", "--figure", "u.png"]),
        ("torch", "train", "deepcd train", ["train", "--dim", "2", "--out", "w", "--steps", "1"]),
        ("torch", "train", "deepcd train-dcdm", ["train-dcdm", "--out", "w"]),
        ("torch", "pinn", "deepcd pinn", ["pinn", "list"]),
        ("matplotlib", "bench", "deepcd bench", ["bench", "--out", "w"]),
    ],
)
def test_the_command_ends_with_the_sentence(
    package: str, extra: str, by: str, arguments: list[str], tmp_path: Path
) -> None:
    program = f"import os, sys; os.chdir({str(tmp_path)!r}); sys.argv = ['deepcd', *{arguments}]\n"
    done = without({package}, program + "from deepcd.__main__ import main; main()")
    assert done.returncode == 2
    assert done.stderr == f'error: {by} needs {package}, which is not installed: pip install "deepcd[{extra}]"\n'
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_bench_says_which_extra_dcdm_needs() -> None:
    done = without({"torch"}, "from deepcd.solvers.bench.methods import absent; print(absent('dcdm'))")
    assert done.stdout.strip() == 'no torch (pip install "deepcd[train]")'


def test_several_packages_are_named_together() -> None:
    with pytest.raises(MissingExtraError, match="It needs none_a and none_b, which are not installed: "):
        require("numpy", "none_a", "none_b", extra="all", by="It")
    with pytest.raises(MissingExtraError, match="It needs none_a, none_b and none_c, which are not ") as caught:
        require("none_a", "none_b", "numpy", "none_c", extra="all", by="It")
    assert caught.value.name == "none_a"


def test_every_extra_that_is_named_exists() -> None:
    extras = PROJECT["optional-dependencies"]
    files = [path for name in ("data", "pde", "solvers", "src") for path in (ROOT / name).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"""extra="(\w+)"|advice\(['"](\w+)['"]\)|deepcd\[(\w+)\]""", code))
    assert {"".join(groups) for groups in named} - {"extra"} <= set(extras)
    others = {"lint", "test", "all"}
    (everything,) = extras["all"]
    assert set(everything.removeprefix("deepcd[").removesuffix("]").split(",")) == set(extras) - others


def test_the_lower_bounds_are_those_that_are_tried() -> None:
    groups = PROJECT["optional-dependencies"]
    stated = [one for group in (PROJECT["dependencies"], *groups.values()) for one in group if ">=" in one]
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(line.replace("_", "-").split("==") for line in lines if "==" in line)
    assert len(stated) > 10
    for one in stated:
        name, version = one.split(">=")
        assert tried[name].removesuffix(".0") == version.removesuffix(".0"), one
    for group in (PROJECT["dependencies"], *(groups[name] for name in ("cli", "fem", "pinn", "simulate", "train"))):
        assert all(">=" in one for one in group)
