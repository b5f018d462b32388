"""PyAMG's own tests of its Krylov methods and of multilevel solvers, run with `deepcd.cg` in the place of its cg.

This file is also the pytest plugin of the runs that it starts. PyAMG's signature differs from SciPy's, hence the
adapter; users need none, since PyAMG's ``accel=`` takes SciPy's signature as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyamg
import pyamg.krylov
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla

import deepcd

from . import foreign

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
    foreign.count_iterations(counts)
    if foreign.solver() == "deepcd":
        adapter.__name__ = "cg"  # pytest names the tests by it
        pyamg.krylov.cg = adapter
        sla.cg = deepcd.cg


def pytest_unconfigure(config: pytest.Config) -> None:
    """Tell what was counted, as a plugin."""
    foreign.tell(counts)


def test_every_test_of_pyamg_ends_as_with_its_own_cg(tmp_path: Path) -> None:
    theirs, their_counts = foreign.run("tests.test_pyamg_contract", "pyamg", tmp_path / "pyamg", *THEIR_TESTS)
    ours, our_counts = foreign.run("tests.test_pyamg_contract", "deepcd", tmp_path / "deepcd", *THEIR_TESTS)
    assert ours == theirs
    assert set(ours.values()) == {"passed"}
    assert any(name.endswith("test_defaults[cg]") for name in ours)
    assert their_counts == {"calls": 0, "iterations started": 0}
    assert our_counts["iterations started"] >= our_counts["calls"] > 0
