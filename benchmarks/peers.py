"""Other ways to solve the same system, and ours, under one contract: each with the best settings known to us.

    python benchmarks/peers.py [--size 64]          tries PyAMG's settings, on seeds that no benchmark reports

A method is a function (problem, tol) -> Answer. `Answer.setup` is what the method itself needs of A alone; what Python
needs to bring A into the method's form (`conversion`) is no part of it. Methods for grids are given the box: finding it
is DeepCD's affair, and is in DeepCD's time only. Nobody's word is taken for convergence: see `judge`.
"""

from __future__ import annotations

import argparse
import itertools
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import hypre
import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg
from incomplete_cholesky import IncompleteCholesky
from numpy.typing import NDArray
from problems import test_rhs, test_system

from deepcd import DeepCD
from deepcd.pde import Grid
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.grid_discovery import Embedding, embed
from deepcd.solvers.operators.stencil import StencilOperator
from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid

F64 = NDArray[np.float64]


@dataclass
class Problem:
    """A x = b, and the grid that A came from.

    Attributes
    ----------
    A : csr_array
    b : ndarray of float64
    grid : Grid
    other : ndarray of float64
        Another right-hand side, for what a first solve of a prepared method does once.
    """

    A: sp.csr_array
    b: F64
    grid: Grid
    other: F64

    @classmethod
    def of(cls, family: str, shape: tuple[int, ...], instance: int, kind: str = "smooth") -> Problem:
        """Return a problem of the benchmarks' seeds."""
        system = test_system(family, shape, instance)
        b, other = (test_rhs(system, k, instance) for k in (kind, "random"))
        return cls(system.A, b, system.grid, other)

    @cached_property
    def embedding(self) -> Embedding:
        """How A lies in a box."""
        return embed(self.grid)

    @cached_property
    def operator(self) -> StencilOperator:
        """What puts vectors into the box."""
        return StencilOperator(self.embedding)

    def to_box(self, b: F64) -> F64:
        """Return b on the padded box."""
        rows = self.embedding.rows
        return self.operator.embed(b if rows is None else b[rows]).reshape(self.embedding.diagonal.shape)

    def from_box(self, x: F64, b: F64) -> F64:
        """Return the solution whose part in the box is x; the rows that are not in it have a diagonal only."""
        result = b / self.A.diagonal()
        rows = self.embedding.rows
        result[slice(None) if rows is None else rows] = self.operator.extract(x.ravel()) / self.embedding.scale
        return result


@dataclass(frozen=True)
class Answer:
    """What a method returned, and its seconds: of its own set-up, of the solve, and of conversion into its form."""

    x: NDArray[np.floating[Any]]
    iterations: int
    setup: float
    solve: float
    conversion: float = 0.0


Method = Callable[[Problem, float], Answer]
clock = time.perf_counter


def judge(problem: Problem, x: NDArray[np.floating[Any]]) -> float:
    """Return the true relative residual, recomputed with SciPy in float64."""
    return float(np.linalg.norm(problem.b - problem.A @ x) / np.linalg.norm(problem.b))


def deepcd(problem: Problem, tol: float, threads: int = 1) -> Answer:
    """DeepCD as a newcomer calls it: from the bare matrix, discovery of the grid included."""
    start = clock()
    solution = DeepCD(threads=threads).solve(problem.A, problem.b, tol)
    total = clock() - start
    return Answer(solution.x, solution.iterations, total - solution.solve_time, solution.solve_time)


def prepared(problem: Problem, tol: float, threads: int = 1, preconditioner: str = "auto") -> Answer:
    """DeepCD prepared once, for a right-hand side that is not its first."""
    start = clock()
    system = DeepCD(preconditioner=preconditioner, threads=threads).setup(problem.A)
    ready = clock()
    system.solve(problem.other, tol)
    again = clock()
    solution = system.solve(problem.b, tol)
    return Answer(solution.x, solution.iterations, ready - start, clock() - again)


def geometric(problem: Problem, tol: float, sweeps: int) -> Answer:
    """Our classical multigrid in our loop, without the checks around it: V(sweeps, sweeps), a solve not its first."""
    target = tol * float(np.linalg.norm(problem.b))
    problem.operator  # noqa: B018  # is there before the clock starts, as the box is
    start = clock()
    M = GeometricMultigrid(problem.embedding, sweeps)
    ready = clock()
    conjugate_directions(problem.operator, problem.to_box(problem.other).ravel(), M, target, maxiter=1)
    again = clock()
    record = conjugate_directions(problem.operator, problem.to_box(problem.b).ravel(), M, target, maxiter=1000)
    x = problem.from_box(record.x, problem.b)
    return Answer(x, len(record.residuals) - 1, ready - start, clock() - again)


def incomplete_cholesky(problem: Problem, tol: float, dtype: Any) -> Answer:
    """MIC(0)-CG on the box."""
    diagonal = problem.embedding.diagonal
    box = problem.to_box(problem.b)
    start = clock()
    method = IncompleteCholesky(diagonal, dtype)
    ready = clock()
    x, iterations = method.solve(box, tol)
    done = clock()
    return Answer(problem.from_box(x, problem.b), iterations, ready - start, done - ready)


# The settings with the least total and with the least time of the solve: see `choose_settings`.
PFMG = dict.fromkeys(("total", "solve"), hypre.SHORTLIST[0])


def choose_settings(family: str, size: int, tol: float, repeats: int = 2) -> dict[str, hypre.Settings]:
    """Try PFMG's settings on domains of this kind that are never reported, and use the best from now on."""
    found = hypre.tune(family, size, repeats, tol)
    for aim in PFMG if found else ():
        PFMG[aim] = min(found, key=lambda f: f[0][aim])[1]
    return dict(PFMG)


def pfmg(problem: Problem, tol: float, aim: str = "total") -> Answer:
    """hypre's PFMG in its conjugate gradients."""
    start = clock()
    box = problem.to_box(problem.b)
    converted = clock() - start
    for settings in dict.fromkeys((PFMG[aim], hypre.SHORTLIST[0])):  # where the best fails, the safe ones
        found = hypre.solve(problem.embedding.diagonal, box, tol, settings)
        x = problem.from_box(found["x"], problem.b)
        if judge(problem, x) <= tol:
            break
    return Answer(x, found["iterations"], found["setup"], found["solve"], converted + found["conversion"])


def scipy_cg(problem: Problem, tol: float) -> Answer:
    """SciPy's conjugate gradients, no preconditioner."""
    count = itertools.count(1)
    last = 0

    def callback(_: F64) -> None:
        nonlocal last
        last = next(count)

    start = clock()
    x, _ = scipy.sparse.linalg.cg(problem.A, problem.b, rtol=tol, maxiter=20_000, callback=callback)
    return Answer(x, last, 0.0, clock() - start)


def pyamg_solve(build: Callable[[Any], Any]) -> Callable[[Any, Any, float], tuple[Any, int]]:
    """Return a function of A, b and the tolerance that solves with one of PyAMG's hierarchies; x and iterations."""

    def run(A: Any, b: Any, tol: float) -> tuple[Any, int]:
        history: list[float] = []
        x = build(A).solve(b, tol=tol, accel="cg", residuals=history, maxiter=200)
        return x, len(history) - 1

    return run


def algebraic(problem: Problem, tol: float, build: Callable[[Any], Any]) -> Answer:
    """One of PyAMG's hierarchies, accelerated by its conjugate gradients."""
    history: list[float] = []
    start = clock()
    hierarchy = build(problem.A)
    ready = clock()
    x = hierarchy.solve(problem.b, tol=tol, accel="cg", residuals=history, maxiter=300)
    return Answer(x, len(history) - 1, ready - start, clock() - ready)


# Gauss-Seidel forward before and backward after: symmetric, and half the price of symmetric sweeps.
SWEEPS = {
    "presmoother": ("gauss_seidel", {"sweep": "forward"}),
    "postsmoother": ("gauss_seidel", {"sweep": "backward"}),
}


def smoothed_aggregation(A: Any, theta: float = 0.0) -> Any:
    """Smoothed aggregation; the defaults are the best that `python benchmarks/peers.py` found."""
    return pyamg.smoothed_aggregation_solver(A, strength=("symmetric", {"theta": theta}), **SWEEPS)


def ruge_stuben(A: Any, theta: float = 0.25, splitting: str = "RS", interpolation: str = "classical") -> Any:
    """Ruge-Stueben coarsening; the defaults are the best that `python benchmarks/peers.py` found."""
    strength = ("classical", {"theta": theta})
    return pyamg.ruge_stuben_solver(A, strength=strength, CF=splitting, interpolation=interpolation, **SWEEPS)


METHODS: dict[str, Method] = {
    "deepcd": deepcd,
    "deepcd, two threads": partial(deepcd, threads=2),
    "deepcd prepared": prepared,
    "deepcd prepared, two threads": partial(prepared, threads=2),
    "geometric V(1,1)": partial(geometric, sweeps=1),
    "geometric V(2,2)": partial(geometric, sweeps=2),
    "deepcd geometric": partial(prepared, preconditioner="geometric-multigrid"),
    "hypre PFMG-PCG": pfmg,
    "hypre PFMG-PCG, least solve": partial(pfmg, aim="solve"),
    "MIC(0)-CG float64": partial(incomplete_cholesky, dtype=np.float64),
    "MIC(0)-CG float32": partial(incomplete_cholesky, dtype=np.float32),
    "pyamg SA": partial(algebraic, build=smoothed_aggregation),
    "pyamg RS": partial(algebraic, build=ruge_stuben),
    "scipy cg": scipy_cg,
}


def absent(name: str) -> str:
    """Return why a method cannot run here, or an empty string."""
    return hypre.missing() if name.startswith("hypre") else ""


def main() -> None:
    """Print set-up and solve of PyAMG's settings, best total first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    seeds = range(hypre.TUNING_INSTANCE, hypre.TUNING_INSTANCE + args.repeats)
    problems = [Problem.of("open-top", (args.size,) * 3, seed) for seed in seeds]
    builders: dict[str, Callable[[Any], Any]] = {
        "pyamg's own SA": pyamg.smoothed_aggregation_solver,
        "pyamg's own RS": pyamg.ruge_stuben_solver,
    }
    builders |= {f"SA theta={t}": partial(smoothed_aggregation, theta=t) for t in (0.0, 0.08, 0.2)}
    for theta, splitting, how in itertools.product((0.1, 0.25, 0.5), ("RS", "PMIS"), ("classical", "direct")):
        builders[f"RS theta={theta} {splitting} {how}"] = partial(
            ruge_stuben, theta=theta, splitting=splitting, interpolation=how
        )
    found = []
    for name, build in builders.items():
        try:
            runs = [algebraic(problem, 1e-6, build) for problem in problems]
        except ValueError as error:  # PyAMG's coarse operators may come out as NaN
            print(f"{name} fails: {error}")
            continue
        if any(not judge(problem, run.x) <= 1e-6 for problem, run in zip(problems, runs, strict=True)):
            print(f"{name} does not converge")
            continue
        setup, solve, iterations = (
            float(np.median([getattr(r, key) for r in runs])) for key in ("setup", "solve", "iterations")
        )
        found.append((setup + solve, f"setup {setup:.3f} + solve {solve:.3f} ({iterations:g} iterations)  {name}"))
    for total, text in sorted(found):
        print(f"{total:.3f} s = {text}")


if __name__ == "__main__":
    main()
