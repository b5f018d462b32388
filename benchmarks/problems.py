"""Shared by the benchmarks: test systems of named families, one solve with a given preconditioner, JSON results."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.data import random_grid, right_hand_side
from deepcd.pde import Grid, PoissonSystem, Shape, domain, poisson
from deepcd.solvers.bench.linear_problem import PressureProblem
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.grids.discovery import discover
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.space import Preconditioner

RESULTS = Path(__file__).parent / "results"
MAIN_FAMILIES = ("closed-cube", "open-top", "free-surface", "mixed-walls", "pure-neumann")
TEST_SEED = 777  # test domains are drawn from (777, instance), trainings draw from (training seed, step)


def test_grid(family: str, shape: tuple[int, ...], instance: int) -> Grid:
    """Return a test domain; "porous-15" is the family "porous" with 15 % of the cells solid."""
    rng = np.random.default_rng((TEST_SEED, instance))
    if family == "porous-15":
        grains = rng.random(shape) < 0.15
        return domain(shape, solid=Shape(lambda x: grains), walls=["solid"] * (len(shape) - 1) + [("solid", "air")])
    return random_grid(family, shape, rng)


def test_system(family: str, shape: tuple[int, ...], instance: int) -> PoissonSystem:
    """Return the pressure system of a test domain."""
    return poisson(test_grid(family, shape, instance))


def test_rhs(system: PoissonSystem, kind: Any, instance: int) -> NDArray[np.float64]:
    """Return a right-hand side of a test system."""
    return right_hand_side(system, kind, np.random.default_rng((TEST_SEED, instance, 1)))


@dataclass
class SeededProblem(PressureProblem):
    """A linear system of the test seeds.

    Attributes
    ----------
    other : ndarray of float64
        Another right-hand side, for the work that the first solve of a prepared method does only once.
    """

    other: NDArray[np.float64]

    @classmethod
    def of(cls, family: str, shape: tuple[int, ...], instance: int, kind: str = "smooth") -> SeededProblem:
        """Return a problem of a family."""
        system = test_system(family, shape, instance)
        b, other = (test_rhs(system, k, instance) for k in (kind, "random"))
        return cls(system.A, b, system.grid, other)


@dataclass(frozen=True)
class Run:
    """One solve: iterations, true relative residual, seconds of the iteration."""

    iterations: int
    residual: float
    seconds: float
    converged: bool


def solve(problem: PressureProblem, M: Preconditioner, tol: float, maxiter: int = 200) -> Run:
    """Run the iteration on the box of a problem and check the true residual with the sparse matrix."""
    box = problem.to_box(problem.b).ravel()
    start = time.perf_counter()
    record = conjugate_directions(problem.operator, box, M, tol * float(np.linalg.norm(problem.b)), maxiter=maxiter)
    seconds = time.perf_counter() - start
    residual = problem.judge(problem.from_box(record.x, problem.b))
    return Run(len(record.residuals) - 1, residual, seconds, residual <= tol)


def operator_of(system: PoissonSystem) -> UnitStencilOperator:
    """Discover the grid behind a system's matrix, and return its operator on one thread."""
    return UnitStencilOperator(*discover(system.A))


def saved_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of benchmarks/results/<name>.json, or no rows if there is no such file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def save_results(name: str, rows: list[dict[str, Any]], **settings: Any) -> Path:
    """Write the rows of a run, one per line, with the machine and the settings, to benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {"processor": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    lines = ",\n".join(map(json.dumps, rows))
    path.write_text(json.dumps({"machine": machine, "settings": settings})[:-1] + f', "rows": [\n{lines}\n]}}\n')
    return path
