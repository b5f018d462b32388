"""SciPy's own tests of `cg`, run on `deepcd.cg`: the same outcome, test by test.

This file is also the pytest plugin of the runs that it starts: there it puts a counted cg in the place of SciPy's
before SciPy's test module imports it.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import pytest
import scipy
import scipy.sparse.linalg

import deepcd

from . import foreign

THEIR_TESTS = Path(scipy.__file__).parent / "sparse/linalg/_isolve/tests/test_iterative.py"
SELECTION = "cg and not bicg and not cgs or precond_inverse"  # of the 43, the one that skips itself skips all but gmres
SELECTED = ("-k", SELECTION, THEIR_TESTS)

pytestmark = [
    pytest.mark.skipif(not scipy.__version__.startswith("1.17."), reason=f"of SciPy 1.17, got {scipy.__version__}"),
    pytest.mark.skipif(not THEIR_TESTS.exists(), reason="SciPy is installed without its tests"),
]

counts = {"calls": 0, "solved by iterating": 0, "iterations started": 0}


def pytest_configure(config: pytest.Config) -> None:
    """Put a counted solver in cg's place, as a plugin."""
    config.addinivalue_line("markers", "fail_slow: of a plugin that SciPy uses")
    isolve = importlib.import_module("scipy.sparse.linalg._isolve")
    ours = foreign.solver() == "deepcd"
    solver = deepcd.cg if ours else isolve.cg

    @functools.wraps(solver)  # pytest names the tests by it
    def cg(*args: Any, **kwargs: Any) -> Any:
        counts["calls"] += 1
        answer = solver(*args, **kwargs)
        counts["solved by iterating"] += ours and answer.iterations > 0
        return answer

    for place in (isolve, scipy.sparse.linalg):
        vars(place)["cg"] = cg
    foreign.count_iterations(counts)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Tell what was counted, as a plugin."""
    foreign.tell(counts)


def test_every_test_of_scipys_cg_ends_as_with_scipys(tmp_path: Path) -> None:
    theirs, their_counts = foreign.run("tests.test_scipy_contract", "scipy", tmp_path / "scipy", *SELECTED)
    ours, our_counts = foreign.run("tests.test_scipy_contract", "deepcd", tmp_path / "deepcd", *SELECTED)
    assert ours == theirs
    assert len(ours) == 43
    assert sorted(ours.values()) == ["passed"] * 42 + ["skipped"]
    # Theirs ran without our iteration, ours with it: in every call that was not over before it began.
    assert their_counts["iterations started"] == 0
    assert our_counts["calls"] == their_counts["calls"] > 0
    assert our_counts["iterations started"] == our_counts["solved by iterating"] > 0
