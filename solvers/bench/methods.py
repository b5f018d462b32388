"""The benchmark's methods behind one contract, each with the best settings known to us.

A method is a function (problem, tol, threads) -> Answer. Those of this library get the bare matrix, and their set-up
contains finding the grid in it; the others are given the box or matrix that they want, and what it takes to bring A
into their form is not counted. Nobody's word is taken for convergence: see `Problem.judge`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.extras import advice, is_installed
from deepcd.solvers.bench import hypre, petsc
from deepcd.solvers.bench.problems import Problem
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.deepcd import DeepCD

F64 = NDArray[np.float64]
clock = time.perf_counter
MOST = 5_000  # iterations
AMGCL = "no pyamgcl (needs Boost, pybind11 and wheel: pip install --no-build-isolation pyamgcl)"
MOST_DCDM = 100  # as in the tests of its authors
# Gauss-Seidel forward before and backward after: symmetric, and half the price of symmetric sweeps.
SWEEPS = {
    "presmoother": ("gauss_seidel", {"sweep": "forward"}),
    "postsmoother": ("gauss_seidel", {"sweep": "backward"}),
}


@dataclass(frozen=True)
class Answer:
    """What a method returned: x, iterations, seconds of set-up and solve, and residual norms relative to b.

    Where a method ran in a process of its own, it says how many bytes it took there.
    """

    x: NDArray[np.floating[Any]]
    iterations: int
    setup: float
    solve: float
    residuals: Sequence[float] = ()
    peak_bytes: int | None = None


Method = Callable[[Problem, float, int], Answer]


def ours(problem: Problem, tol: float, threads: int, preconditioner: str, most: int = MOST) -> Answer:
    """DeepCD as a newcomer calls it: from the bare matrix."""
    start = clock()
    system = DeepCD(preconditioner=preconditioner, threads=threads).setup(problem.A)
    ready = clock()
    solution = system.solve(problem.b, tol, maxiter=most)
    done = clock()
    size = float(solution.residuals[0]) or 1.0
    return Answer(solution.x, solution.iterations, ready - start, done - ready, (solution.residuals / size).tolist())


class _Diagonal:
    """M = D^-1 on the padded box in float32; D^-1 is zero where there is no unknown."""

    symmetric = linear = True

    def __init__(self, name: str, inverse: NDArray[np.float32]) -> None:
        self.name, self.work, self._inverse = name, 1.0, inverse

    def zeros(self) -> NDArray[np.float32]:
        return np.zeros_like(self._inverse)

    def apply(self, r: NDArray[Any], z: NDArray[Any]) -> float:
        np.multiply(r, self._inverse, out=z)
        return float(np.dot(r, z))


def on_box(problem: Problem, tol: float, threads: int, scaled: bool) -> Answer:
    """CG, or Jacobi-CG, in our loop on the box: three passes and a byte per cell for A, in float32 with float64 x."""
    operator = problem.operator.twin(threads)
    b = problem.to_box(problem.b).ravel()
    start = clock()
    diagonal = operator.diagonal.astype(np.float32)
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    M = _Diagonal("jacobi" if scaled else "cg", inverse if scaled else (diagonal > 0).astype(np.float32))
    ready = clock()
    size = float(np.linalg.norm(b)) or 1.0
    operator.project(b)
    record = conjugate_directions(operator, b / size, M, 0.999 * tol, maxiter=MOST)
    done = clock()
    x = problem.from_box(record.x * size, problem.b)
    return Answer(x, len(record.residuals) - 1, ready - start, done - ready, record.residuals)


def incomplete_cholesky(problem: Problem, tol: float, threads: int, modified: bool) -> Answer:
    """IC(0)-CG or MIC(0)-CG on the box, three passes per iteration, on one thread: the sweeps are sequential."""
    from deepcd.solvers.bench.box_incomplete_cholesky import BoxIncompleteCholesky
    from deepcd.solvers.preconditioners.incomplete_cholesky import TAU

    box = problem.to_box(problem.b)
    start = clock()
    method = BoxIncompleteCholesky(problem.diagonal, np.float32, TAU if modified else 0.0)
    ready = clock()
    x, iterations = method.solve(box, tol, maxiter=MOST)
    done = clock()
    return Answer(problem.from_box(x, problem.b), iterations, ready - start, done - ready, method.residuals)


def smoothed_aggregation(A: Any, theta: float = 0.0) -> Any:
    """Return PyAMG's smoothed aggregation; the default was the fastest on these problems."""
    import pyamg

    return pyamg.smoothed_aggregation_solver(A, strength=("symmetric", {"theta": theta}), **SWEEPS)


def ruge_stuben(A: Any, theta: float = 0.25, splitting: str = "RS", interpolation: str = "classical") -> Any:
    """Return PyAMG's Ruge-Stueben coarsening; the defaults were the fastest on these problems."""
    import pyamg

    strength = ("classical", {"theta": theta})
    return pyamg.ruge_stuben_solver(A, strength=strength, CF=splitting, interpolation=interpolation, **SWEEPS)


def algebraic(problem: Problem, tol: float, threads: int, build: Callable[[Any], Any], regular: bool) -> Answer:
    """PyAMG's multigrid and its conjugate gradients.

    Smoothed aggregation is better off with a regular matrix (on sealed boxes of 14^3 its cycle was not definite in one
    of six trials, and in none so), Ruge-Stueben coarsening with the singular one (8 iterations, not 10, at 32^3).
    """
    history: list[float] = []
    A = problem.pinned() if regular else problem.A
    start = clock()
    hierarchy = build(A)
    ready = clock()
    x = hierarchy.solve(problem.b, tol=tol, accel="cg", residuals=history, maxiter=MOST)
    done = clock()
    size = float(np.linalg.norm(problem.b))
    return Answer(x, len(history) - 1, ready - start, done - ready, [norm / size for norm in history])


def pfmg(problem: Problem, tol: float, threads: int) -> Answer:
    """hypre's structured multigrid in its conjugate gradients; where its fastest settings fail, the safest."""
    box = problem.to_box(problem.b)
    for settings in (hypre.Settings(weight=0.9), hypre.SHORTLIST[0]):
        found = hypre.solve(problem.diagonal, box, tol, settings)
        x = problem.from_box(found["x"], problem.b)
        if problem.judge(x) <= tol:
            break
    return Answer(x, found["iterations"], found["setup"], found["solve"], peak_bytes=found["peak_bytes"])


def amgcl(problem: Problem, tol: float, threads: int) -> Answer:
    """AMGCL's smoothed aggregation and its conjugate gradients; of its smoothers and coarsenings the fastest here.

    It gets the regular matrix: the singular one ends in NaN (porous media) or not at all (sealed boxes).
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when AMGCL is loaded
    import pyamgcl

    A = problem.pinned()
    start = clock()
    hierarchy = pyamgcl.amg(A, {"coarsening.type": "smoothed_aggregation", "relax.type": "gauss_seidel"})
    solver = pyamgcl.solver(hierarchy, {"type": "cg", "tol": tol, "maxiter": MOST})
    ready = clock()
    x = solver(problem.b)
    done = clock()
    return Answer(x, solver.iters, ready - start, done - ready)


def through_petsc(problem: Problem, tol: float, threads: int, method: str) -> Answer:
    """One of PETSc's preconditioners in its conjugate gradients, or a sparse factorisation."""
    found = petsc.solve(problem.pinned(), problem.b, tol, method)
    return Answer(
        found["x"], found["iterations"], found["setup"], found["solve"], found["residuals"], found["peak_bytes"]
    )


METHODS: dict[str, Method] = {
    "cg": partial(on_box, scaled=False),
    "jacobi": partial(on_box, scaled=True),
    "ic0": partial(incomplete_cholesky, modified=False),
    "mic0": partial(incomplete_cholesky, modified=True),
    "deflation": partial(ours, preconditioner="deflation"),
    "geometric-multigrid": partial(ours, preconditioner="geometric-multigrid"),
    "learned": partial(ours, preconditioner="learned-multigrid"),
    "dcdm": partial(ours, preconditioner="dcdm", most=MOST_DCDM),
    "pyamg-sa": partial(algebraic, build=smoothed_aggregation, regular=True),
    "pyamg-rs": partial(algebraic, build=ruge_stuben, regular=False),
    "pfmg": pfmg,
    "amgcl": amgcl,
    **{name: partial(through_petsc, method=name) for name in petsc.OPTIONS},
}
CLASSICAL = tuple(name for name in METHODS if name not in ("learned", "dcdm"))


def absent(name: str) -> str:
    """Return why a method cannot run here, or an empty string."""
    if name == "pfmg":
        return hypre.missing()
    if name == "amgcl":
        return "" if find_spec("pyamgcl") else AMGCL
    if name == "dcdm":
        return "" if is_installed("torch") else f"no torch ({advice('train')})"
    return petsc.missing() if name in petsc.OPTIONS else ""
