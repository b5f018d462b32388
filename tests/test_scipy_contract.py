"""SciPy's own tests of `cg`, run on `deepcd.cg`: the same outcome, test by test.

This file is also the pytest plugin of the runs that it starts: there it puts a counted cg in the place of SciPy's
before SciPy's test module imports it.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import scipy
import scipy.sparse.linalg

import deepcd

THEIR_TESTS = Path(scipy.__file__).parent / "sparse/linalg/_isolve/tests/test_iterative.py"
SELECTION = "cg and not bicg and not cgs or precond_inverse"  # of the 43, the one that skips itself skips all but gmres

pytestmark = [
    pytest.mark.skipif(not scipy.__version__.startswith("1.17."), reason=f"of SciPy 1.17, got {scipy.__version__}"),
    pytest.mark.skipif(not THEIR_TESTS.exists(), reason="SciPy is installed without its tests"),
]

counts = {"calls": 0, "solved by iterating": 0, "iterations started": 0}


def pytest_configure(config: pytest.Config) -> None:
    """Put a counted solver in cg's place, as a plugin."""
    config.addinivalue_line("markers", "fail_slow: of a plugin that SciPy uses")
    isolve = importlib.import_module("scipy.sparse.linalg._isolve")
    ours = os.environ["SOLVER"] == "deepcd"
    solver = deepcd.cg if ours else isolve.cg

    @functools.wraps(solver)  # pytest names the tests by it
    def cg(*args: Any, **kwargs: Any) -> Any:
        counts["calls"] += 1
        answer = solver(*args, **kwargs)
        counts["solved by iterating"] += ours and answer.iterations > 0
        return answer

    for place in (isolve, scipy.sparse.linalg):
        vars(place)["cg"] = cg
    module = importlib.import_module("deepcd.solvers.cg")
    loop: Callable[..., Any] = module.conjugate_directions

    def conjugate_directions(*args: Any, **kwargs: Any) -> Any:
        counts["iterations started"] += 1
        return loop(*args, **kwargs)

    vars(module)["conjugate_directions"] = conjugate_directions


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
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-p", "test_scipy_contract"]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--junitxml", "outcomes.xml", "-k", SELECTION]
    done = subprocess.run(
        [*command, str(THEIR_TESTS)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ET.parse(folder / "outcomes.xml").iter("testcase")
    outcomes = {case.attrib["name"]: next((child.tag for child in case), "passed") for case in cases}
    return outcomes, json.loads((folder / "counts.json").read_text())


def test_every_test_of_scipys_cg_ends_as_with_scipys(tmp_path: Path) -> None:
    theirs, their_counts = run("scipy", tmp_path / "scipy")
    ours, our_counts = run("deepcd", tmp_path / "deepcd")
    assert ours == theirs
    assert len(ours) == 43
    assert sorted(ours.values()) == ["passed"] * 42 + ["skipped"]
    # Theirs ran without our iteration, ours with it: in every call that was not over before it began.
    assert their_counts["iterations started"] == 0
    assert our_counts["calls"] == their_counts["calls"] > 0
    assert our_counts["iterations started"] == our_counts["solved by iterating"] > 0
