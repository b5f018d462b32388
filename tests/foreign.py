"""Run another library's own tests in a process of their own, with one of its functions replaced, and count.

A test module is its own pytest plugin there: it puts its solver in place, and calls `count_iterations` and `tell`.
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

import deepcd


def solver() -> str:
    """Return, in the plugin, the name of the solver that `run` was given."""
    return os.environ["SOLVER"]


def count_iterations(counts: dict[str, int]) -> None:
    """Count in the plugin how often the loop of `deepcd.cg` is started."""
    module = importlib.import_module("deepcd.solvers.refinement")
    loop: Callable[..., Any] = module.conjugate_directions

    def conjugate_directions(*args: Any, **kwargs: Any) -> Any:
        counts["iterations started"] += 1
        return loop(*args, **kwargs)

    vars(module)["conjugate_directions"] = conjugate_directions


def tell(counts: dict[str, int]) -> None:
    """Leave the counts of the plugin to `run`."""
    Path(os.environ["COUNTS"]).write_text(json.dumps(counts))


def run(plugin: str, solver: str, folder: Path, *selection: str | Path) -> tuple[dict[str, str], dict[str, int]]:
    """Run a selection of tests on a solver; return the outcome of each test, and the counts."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    environment |= {
        "COUNTS": str(folder / "counts.json"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(deepcd.__file__).parents[1])]),
        "SOLVER": solver,
    }
    options = ["-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider", "-p", plugin]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--junitxml", "outcomes.xml", *map(str, selection)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = ET.parse(folder / "outcomes.xml").iter("testcase")
    outcomes = {
        f"{case.attrib['classname']}.{case.attrib['name']}": next((child.tag for child in case), "passed")
        for case in cases
    }
    return outcomes, json.loads((folder / "counts.json").read_text())
