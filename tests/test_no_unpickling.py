"""Nothing is ever unpickled, and no text is ever run as code: by the sources, and by what really happens.

numba's cache of compiled kernels is the one exception: numba pickles its index and loads it again, from the folder
``__pycache__`` beside our kernels or the one named by NUMBA_CACHE_DIR. Who can write there can change our code as well.
A program that the user names to ``deepcd pinn`` is executed, as they ask.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A user's own program, which is named on the command line to be executed, as by python itself.
OWN_PROGRAMS = ROOT / "solvers/pinn/own.py", "spec.loader.exec_module"
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
BUILTINS = {"eval", "exec", "compile", "__import__"}


def violations(source: str) -> list[str]:
    """Name the constructs that could run what a file holds."""
    found = []
    tree = ast.parse(source)
    # NumPy's own reader unpickles nothing when it is told so where it is called.
    safe = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(keyword.arg == "allow_pickle" and ast.unparse(keyword.value) == "False" for keyword in node.keywords)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [name for name in names if set(name.split(".")) & MODULES or name in ("torch.load", "numpy.load")]
        if isinstance(node, ast.Attribute):
            called = ast.unparse(node)
            if called in ("torch.load", "torch.jit.load", "torch.hub.load"):
                found.append(called)
            if called in ("np.load", "numpy.load") and node not in safe:
                found.append(called)
            if node.attr in ("read_pickle", "load_module", "exec_module", "load_npz"):
                found.append(called)
        if isinstance(node, ast.Name) and node.id in BUILTINS | {"load_npz"}:
            found.append(node.id)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("allow_pickle")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy, cloudpickle as c",
        "from torch import load",
        "torch.load(f, weights_only=True)",
        "load = torch.load",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "read = np.load; read(f, allow_pickle=False)",
        "read(f, allow_pickle=True)",
        "read(f, allow_pickle=option)",
        "eval('1')",
        "exec(text)",
        "run = eval",
        "import yaml",
        "from marshal import load",
        "pd.read_pickle(f)",
        "scipy.sparse.load_npz(f)",
    ],
)
def test_the_scan_finds(source: str) -> None:
    assert violations(source)


def test_the_scan_finds_no_more_than_that() -> None:
    assert not violations(
        "import re\nre.compile('a').load\nnp.save(f, x, allow_pickle=False)\n"
        "np.load(f, allow_pickle=False)\nnet.eval()\nweights.load(f)"
    )


@pytest.mark.parametrize("folder", ["src/deepcd", "pde", "data", "solvers", "benchmarks"])
def test_the_sources_have_nothing_that_could(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*.py") if path.is_file()]
    assert files
    for path in files:
        found = violations(path.read_text(encoding="utf-8"))
        assert [what for what in found if (path, what) != OWN_PROGRAMS] == [], path


# The traps see pickle called from Python; the audit event comes from its C code too, however it was imported, when an
# unpickler looks up what to call.
TRAPS = """
import pickle, sys
from pathlib import Path
import numpy as np

folder, found = Path(sys.argv[1]), []

def by_numba():
    frame = sys._getframe(2)
    while frame:
        if "/numba/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False

def watch(event, arguments):
    if event == "pickle.find_class" and not by_numba():
        found.append(arguments)

def trap(module, name):
    original = getattr(module, name)
    def trapped(*arguments, **options):
        if by_numba():
            return original(*arguments, **options)
        raise AssertionError(f"{module.__name__}.{name} was called")
    setattr(module, name, trapped)

sys.addaudithook(watch)
for name in ("load", "loads", "_load", "_loads"):
    trap(pickle, name)
trap(np, "load")
"""


def test_nothing_is_unpickled_when_it_runs(tmp_path: Path) -> None:
    """A solve, a step of training, weights, a checkpoint, a matrix and a vector from files: no unpickler is asked."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAPS + RUN, str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["done", "caught", "caught"]


RUN = """
import torch
trap(torch, "load")

import scipy.io
from scipy.sparse import save_npz
from deepcd import DeepCD
from deepcd.data import weight_files
from deepcd.data.matrix_files import read_matrix, read_vector
from deepcd.pde import domain, poisson
from deepcd.solvers.training import samples, train

samples.random_shape = lambda ndim, rng: ((9, 10), 2)
out = folder / "w.safetensors"
train(2, out, steps=1, hidden=4, progress=False)
train(2, out, steps=1, hidden=4, progress=False, resume=True)
weight_files.load(out, None)
A = poisson(domain((12, 9), walls="air")).A
save_npz(folder / "A.npz", A)
scipy.io.mmwrite(folder / "A.mtx", A)
np.save(folder / "b.npy", np.ones(A.shape[0]))
for name in ("A.npz", "A.mtx"):
    b = read_vector(folder / "b.npy", A.shape[0])
    assert DeepCD(preconditioner="learned-multigrid").solve(read_matrix(folder / name), b).info == 0
assert not found, found
print("done")

# The traps do catch.
try:
    pickle.loads(b"N.")
except AssertionError:
    print("caught")
import _pickle
_pickle.loads(b"cos\\ngetpid\\n.")
if found:
    print("caught")
"""
