"""PyAMG's own tests of its Krylov methods and of multilevel solvers, run with `deepcd.cg` in the place of its cg.

This file is also the pytest plugin of the runs that it starts. PyAMG's signature differs from SciPy's, hence the
adapter; users need none, since PyAMG's ``accel=`` takes SciPy's signature as well.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyamg
import pyamg.krylov
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla

import deepcd

ROOT = Path(pyamg.__file__).parent
THEIR_TESTS = [ROOT / "krylov/tests", ROOT / "tests/test_multilevel.py"]

pytestmark = [
    pytest.mark.skipif(not pyamg.__version__.startswith("5.4."), reason=f"of PyAMG 5.4, got {pyamg.__version__}"),
    pytest.mark.skipif(not all(path.exists() for path in THEIR_TESTS), reason="PyAMG is installed without its tests"),
]

counts = {"calls": 0, "iterations started": 0}


def adapter(
    A: Any,
    b: Any,
    x0: Any = None,
    tol: float = 1e-5,
    criteria: str = "rr",
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[Any], object] | None = None,
    residuals: list[float] | None = None,
) -> tuple[Any, int]:
    """Solve by `deepcd.cg` with the signature of `pyamg.krylov.cg`: its other criteria stop through the callback."""
    counts["calls"] += 1
    right = np.ravel(b)
    precondition = (lambda r: r) if M is None else sla.aslinearoperator(M).matvec
    size = np.linalg.norm(right) or 1.0
    frobenius = np.linalg.norm(A.data if sp.issparse(A) else A) if criteria == "rr+" else 0.0

    def small_enough(x: Any) -> bool:
        r = right - A @ x
        if criteria == "rr+":
            return bool(np.linalg.norm(r) < tol * (frobenius * np.linalg.norm(x) + size))
        if criteria == "MrMr":
            return bool(np.linalg.norm(precondition(r)) < tol * np.linalg.norm(precondition(right)))
        return bool(np.sqrt(np.vdot(r, precondition(r)).real) < tol)

    def told(x: Any) -> bool:
        if callback is not None:
            callback(x)
        return criteria != "rr" and small_enough(x)

    solution = deepcd.cg(A, b, x0, rtol=tol if criteria == "rr" else 0.0, maxiter=maxiter, M=M, callback=told)
    if residuals is not None:
        residuals[:] = solution.residuals.tolist()
    return solution.x, 0 if solution.status is deepcd.Status.CALLBACK else solution.info


def pytest_configure(config: pytest.Config) -> None:
    """Put our cg in the place of PyAMG's and SciPy's, as a plugin."""
    module = importlib.import_module("deepcd.solvers.cg")
    loop: Callable[..., Any] = module.conjugate_directions

    def conjugate_directions(*args: Any, **kwargs: Any) -> Any:
        counts["iterations started"] += 1
        return loop(*args, **kwargs)

    vars(module)["conjugate_directions"] = conjugate_directions
    if os.environ["SOLVER"] == "deepcd":
        adapter.__name__ = "cg"  # pytest names the tests by it
        pyamg.krylov.cg = adapter
        sla.cg = deepcd.cg


def pytest_unconfigure(config: pytest.Config) -> None:
    """Tell what was counted, as a plugin."""
    Path(os.environ["COUNTS"]).write_text(json.dumps(counts))


def run(solver: str, folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Run their tests on a solver; return the outcome of each test, and the counts."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    environment |= {
        "COUNTS": str(folder / "counts.json"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(deepcd.__file__).parents[1])]),
        "SOLVER": solver,
    }
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-p", "test_pyamg_contract"]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--junitxml", "outcomes.xml", *map(str, THEIR_TESTS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ET.parse(folder / "outcomes.xml").iter("testcase")
    outcomes = {
        f"{case.attrib['classname']}.{case.attrib['name']}": next((child.tag for child in case), "passed")
        for case in cases
    }
    return outcomes, json.loads((folder / "counts.json").read_text())


def test_every_test_of_pyamg_ends_as_with_its_own_cg(tmp_path: Path) -> None:
    theirs, their_counts = run("pyamg", tmp_path / "pyamg")
    ours, our_counts = run("deepcd", tmp_path / "deepcd")
    assert ours == theirs
    assert set(ours.values()) == {"passed"}
    assert any(name.endswith("test_defaults[cg]") for name in ours)
    assert their_counts == {"calls": 0, "iterations started": 0}
    assert our_counts["iterations started"] >= our_counts["calls"] > 0
