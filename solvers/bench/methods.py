"""The benchmark's methods behind one contract, each with the best settings known to us.

A method is a function (problem, tol, threads) -> Answer. The methods of this library get the bare matrix, and their
set-up includes finding the grid in it. The others are given the box or the matrix that they want; the time it takes to
bring A into that form is not counted. Whether a method has converged is decided by `LinearProblem.judge` alone. A
method that does not take a problem raises `Unsuited`.
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
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import cg

from deepcd.pde.extras import advice, is_installed
from deepcd.solvers.bench import hypre, petsc
from deepcd.solvers.bench.box_incomplete_cholesky import BoxIncompleteCholesky
from deepcd.solvers.bench.linear_problem import LinearProblem, MeshProblem, PressureProblem
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.grids.embedding import NotAGrid
from deepcd.solvers.preconditioners.incomplete_cholesky import TAU
from deepcd.solvers.solution import Solution

F64 = NDArray[np.float64]
clock = time.perf_counter
MAXITER = 5_000
AMGCL_SETTINGS = {"coarsening.type": "smoothed_aggregation", "relax.type": "gauss_seidel", "coarse_enough": 1000}
DCDM_MAXITER = 100  # as in the tests of its authors
AMGCL = (
    "no pyamgcl (Debian: apt-get install libboost-dev; then pip install pybind11 setuptools wheel, and "
    "pip install --no-build-isolation pyamgcl)"
)
APXCHOL = "no apxchol (pip install apxchol)"
# One Gauss-Seidel sweep forward before, and one backward after the correction make the cycle symmetric, at half the
# price of symmetric sweeps.
SWEEPS = {
    "presmoother": ("gauss_seidel", {"sweep": "forward"}),
    "postsmoother": ("gauss_seidel", {"sweep": "backward"}),
}


@dataclass(frozen=True)
class Answer:
    """What a method returned: x, iterations, seconds of set-up and solve, and residual norms relative to b.

    `peak_bytes` is known where the method ran in a process of its own, and `conversion` is the seconds it took to bring
    A into the method's form.
    """

    x: NDArray[np.floating[Any]]
    iterations: int
    setup: float
    solve: float
    residuals: Sequence[float] = ()
    peak_bytes: int | None = None
    conversion: float = 0.0


Method = Callable[[LinearProblem, float, int], Answer]


class Unsuited(ValueError):
    """The method does not take this problem; the message says why."""


def automatic(problem: LinearProblem, tol: float, threads: int, pointed: bool = True) -> Answer:
    """Solve with DeepCD as a newcomer calls it, in one call: the matrix, and points where a mesh has some."""
    points = problem.points if pointed and isinstance(problem, MeshProblem) else None
    start = clock()
    solution = DeepCD(threads=threads).solve(problem.A, problem.b, tol, points=points)
    solve = clock() - start - solution.setup_time
    return Answer(solution.x, solution.iterations, solution.setup_time, solve, _history(solution))


def ours(problem: LinearProblem, tol: float, threads: int, preconditioner: str, maxiter: int = MAXITER) -> Answer:
    """Solve with DeepCD, prepared for the bare matrix."""
    start = clock()
    try:
        system = DeepCD(preconditioner=preconditioner, threads=threads).setup(problem.A)
    except ValueError as error:
        if isinstance(error.__cause__, NotAGrid):
            raise Unsuited(f"there is no grid behind A: {error.__cause__}") from error
        raise
    ready = clock()
    solution = system.solve(problem.b, tol, maxiter=maxiter)
    done = clock()
    return Answer(solution.x, solution.iterations, ready - start, done - ready, _history(solution))


def _history(solution: Solution) -> list[float]:
    """Return the residual norms relative to the first."""
    size = float(solution.residuals[0]) or 1.0
    return (solution.residuals / size).tolist()


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


def on_box(problem: LinearProblem, tol: float, threads: int, scaled: bool) -> Answer:
    """Solve with CG or Jacobi-CG in our loop on the box: three passes, a byte of A per cell, float32 with float64 x.

    Where the couplings are not all the same, the matrix is iterated on.
    """
    if not isinstance(problem, PressureProblem):
        return ours(problem, tol, threads, "jacobi" if scaled else "none")
    operator = problem.operator.twin(threads)
    b = problem.to_box(problem.b).ravel()
    start = clock()
    diagonal = operator.diagonal.astype(np.float32)
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    M = _Diagonal("jacobi" if scaled else "none", inverse if scaled else (diagonal > 0).astype(np.float32))
    ready = clock()
    size = float(np.linalg.norm(b)) or 1.0
    operator.project(b)
    record = conjugate_directions(operator, b / size, M, 0.999 * tol, maxiter=MAXITER)
    done = clock()
    x = problem.from_box(record.x * size, problem.b)
    return Answer(x, len(record.residuals) - 1, ready - start, done - ready, record.residuals)


def incomplete_cholesky(problem: LinearProblem, tol: float, threads: int, modified: bool) -> Answer:
    """Solve with IC(0)-CG or MIC(0)-CG on the box, three passes per iteration, on one thread: sweeps are sequential.

    Where the couplings are not all the same, the matrix is factored.
    """
    if not isinstance(problem, PressureProblem):
        return ours(problem, tol, threads, "mic0" if modified else "ic0")
    box = problem.to_box(problem.b)
    start = clock()
    method = BoxIncompleteCholesky(problem.diagonal, np.float32, TAU if modified else 0.0)
    ready = clock()
    x, iterations = method.solve(box, tol, maxiter=MAXITER)
    done = clock()
    return Answer(problem.from_box(x, problem.b), iterations, ready - start, done - ready, method.residuals)


def scipy_cg(problem: LinearProblem, tol: float, threads: int) -> Answer:
    """Solve with SciPy's conjugate gradients and the diagonal; the time that the curve takes is taken off."""
    size = float(np.linalg.norm(problem.b))
    curve, spent = [1.0], 0.0

    def record(x: F64) -> None:
        nonlocal spent
        begin = clock()
        curve.append(float(np.linalg.norm(problem.b - problem.A @ x)) / size)
        spent += clock() - begin

    start = clock()
    M = sp.diags_array(1 / problem.A.diagonal(), format="csr")
    ready = clock()
    x, _ = cg(problem.A, problem.b, rtol=0.999 * tol, maxiter=MAXITER, M=M, callback=record)
    done = clock()
    return Answer(x, len(curve) - 1, ready - start, done - ready - spent, curve)


def smoothed_aggregation(A: Any, theta: float = 0.0) -> Any:
    """Return PyAMG's smoothed aggregation; the default was the fastest on these problems."""
    return pyamg.smoothed_aggregation_solver(A, strength=("symmetric", {"theta": theta}), **SWEEPS)


def ruge_stuben(A: Any, theta: float = 0.25, splitting: str = "RS", interpolation: str = "classical") -> Any:
    """Return PyAMG's Ruge-Stueben coarsening; the defaults were the fastest on these problems."""
    strength = ("classical", {"theta": theta})
    return pyamg.ruge_stuben_solver(A, strength=strength, CF=splitting, interpolation=interpolation, **SWEEPS)


def algebraic(problem: LinearProblem, tol: float, threads: int, build: Callable[[Any], Any], regular: bool) -> Answer:
    """Solve with PyAMG's multigrid and its conjugate gradients.

    Smoothed aggregation works better with a regular matrix: on sealed boxes of 14^3 its cycle was indefinite in one of
    six trials with the singular matrix, and in none with the regular one. Ruge-Stueben coarsening works better with the
    singular one: 8 iterations instead of 10 at 32^3.
    """
    history: list[float] = []
    A = problem.pinned() if regular else problem.A
    start = clock()
    hierarchy = build(A)
    ready = clock()
    x = hierarchy.solve(problem.b, tol=tol, accel="cg", residuals=history, maxiter=MAXITER)
    done = clock()
    size = float(np.linalg.norm(problem.b))
    return Answer(x, len(history) - 1, ready - start, done - ready, [norm / size for norm in history])


def pfmg(problem: LinearProblem, tol: float, threads: int, candidates: Sequence[hypre.PFMGSettings]) -> Answer:
    """Solve with hypre's structured multigrid in its conjugate gradients; where settings fail, with the next ones."""
    box = problem.box()
    if box is None:
        raise Unsuited("PFMG needs to know the box of cells that A comes from")
    b, others = box.spread(problem.b), problem.b / problem.A.diagonal()
    for settings in dict.fromkeys(candidates):
        found = hypre.solve(box.faces, box.extra, b, tol, settings)
        x = box.gather(found.pop("x"), others)
        if problem.judge(x) <= tol:
            break
    return Answer(x, **found)


def _openmp(threads: int) -> None:
    """Set the number of threads of libraries with OpenMP, which read it when they are loaded."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


def amgcl(problem: LinearProblem, tol: float, threads: int) -> Answer:
    """Solve with AMGCL's smoothed aggregation and conjugate gradients, its fastest coarsening and smoother here.

    Systems of up to 1,000 unknowns are factored; its default of 3,000 takes up to ten times as long on these problems.
    It gets the regular matrix: with the singular one it ends in NaN (porous media) or never (sealed boxes).
    """
    _openmp(threads)
    import pyamgcl

    A = problem.pinned()
    start = clock()
    hierarchy = pyamgcl.amg(A, AMGCL_SETTINGS)
    solver = pyamgcl.solver(hierarchy, {"type": "cg", "tol": tol, "maxiter": MAXITER})
    ready = clock()
    x = solver(problem.b)
    done = clock()
    return Answer(x, solver.iters, ready - start, done - ready)


def approximate_cholesky(problem: LinearProblem, tol: float, threads: int) -> Answer:
    """Solve with apxchol's sampled Cholesky factors in its conjugate gradients.

    Its defaults were the fastest of its options here. They are made for diagonally dominant matrices without positive
    off-diagonal entries, singular ones included.
    """
    _openmp(threads)
    import apxchol

    A = sp.csc_matrix(problem.A)
    start = clock()
    solver = apxchol.factorize(A, keep_factor=False)
    ready = clock()
    found = solver.solve(problem.b, rtol=tol, maxiter=MAXITER)
    done = clock()
    return Answer(found.x, found.iters, ready - start, done - ready)


def through_petsc(problem: LinearProblem, tol: float, threads: int, method: str) -> Answer:
    """Solve with one of PETSc's preconditioners in its conjugate gradients, or with a sparse factorisation."""
    return Answer(**petsc.solve(problem.pinned(), problem.b, tol, method))


METHODS: dict[str, Method] = {
    "none": partial(on_box, scaled=False),
    "jacobi": partial(on_box, scaled=True),
    "scipy-cg": scipy_cg,
    "ic0": partial(incomplete_cholesky, modified=False),
    "mic0": partial(incomplete_cholesky, modified=True),
    "ssor": partial(ours, preconditioner="ssor"),
    "approximate-cholesky": partial(ours, preconditioner="approximate-cholesky"),
    "deflation": partial(ours, preconditioner="deflation"),
    "direct": partial(ours, preconditioner="direct"),
    "geometric-multigrid": partial(ours, preconditioner="geometric-multigrid"),
    "learned-multigrid": partial(ours, preconditioner="learned-multigrid"),
    "dcdm": partial(ours, preconditioner="dcdm", maxiter=DCDM_MAXITER),
    "deepcd-aggregation": partial(ours, preconditioner="smoothed-aggregation"),
    "deepcd-sa": partial(ours, preconditioner="pyamg-sa"),
    "deepcd-rs": partial(ours, preconditioner="pyamg-rs"),
    "auto": automatic,
    "auto-no-points": partial(automatic, pointed=False),
    "pyamg-sa": partial(algebraic, build=smoothed_aggregation, regular=True),
    "pyamg-rs": partial(algebraic, build=ruge_stuben, regular=False),
    "pfmg": partial(pfmg, candidates=(hypre.PFMGSettings(weight=0.9), hypre.SHORTLIST[0])),
    "pfmg-v22": partial(pfmg, candidates=(hypre.PFMGSettings(sweeps=2),)),
    "amgcl": amgcl,
    "apxchol": approximate_cholesky,
    **{name: partial(through_petsc, method=name) for name in petsc.OPTIONS},
}
LED_BY_NETWORKS = "learned-multigrid", "dcdm", "auto", "auto-no-points"  # "auto" takes learned cycles where it can
CLASSICAL = tuple(name for name in METHODS if name not in LED_BY_NETWORKS)


def absent(name: str) -> str:
    """Return why a method cannot run here, or an empty string."""
    if name.startswith("pfmg"):
        return hypre.missing()
    if name == "amgcl":
        return "" if find_spec("pyamgcl") else AMGCL
    if name == "apxchol":
        return "" if find_spec("apxchol") else APXCHOL
    if name == "dcdm":
        return "" if is_installed("torch") else f"no torch ({advice('train')})"
    return petsc.missing() if name in petsc.OPTIONS else ""
