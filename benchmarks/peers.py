"""The solvers that time_to_solution compares, ours among them, each with the best settings known to us.

    python -m benchmarks.peers [--size 64] [--family open-top]    tries PyAMG's settings, on seeds never reported

A method is a function (problem, tol) -> Answer. `Answer.setup` is the time that the method itself needs for A alone;
the time that Python needs to bring A into the method's form (`conversion`) is not part of it. Methods for grids are
given the box; only DeepCD has to find it, and its time includes that. `LinearProblem.judge` decides whether a method
has converged.
"""

from __future__ import annotations

import argparse
import itertools
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pyamg
import scipy.sparse.linalg
from numpy.typing import NDArray

from benchmarks import hypre_settings
from benchmarks.problems import SeededProblem
from deepcd import DeepCD
from deepcd.solvers.bench import hypre, methods
from deepcd.solvers.bench.box_incomplete_cholesky import BoxIncompleteCholesky
from deepcd.solvers.bench.methods import Answer, ours, ruge_stuben, smoothed_aggregation
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.preconditioners.multigrid.classical import classical_cycle

F64 = NDArray[np.float64]


Method = Callable[[SeededProblem, float], Answer]
clock = time.perf_counter
deepcd = partial(ours, threads=1, preconditioner="auto")


def prepared(problem: SeededProblem, tol: float, threads: int = 1, preconditioner: str = "auto") -> Answer:
    """Solve with DeepCD prepared once, for a right-hand side that is not its first."""
    start = clock()
    system = DeepCD(preconditioner=preconditioner, threads=threads).setup(problem.A)
    ready = clock()
    system.solve(problem.other, tol)
    again = clock()
    solution = system.solve(problem.b, tol)
    return Answer(solution.x, solution.iterations, ready - start, clock() - again)


def geometric(problem: SeededProblem, tol: float, sweeps: int) -> Answer:
    """Solve with our classical multigrid, V(sweeps, sweeps), in our loop without checks; not a first solve."""
    target = tol * float(np.linalg.norm(problem.b))
    shape, diagonal = problem.operator.embedding.shape, problem.diagonal
    start = clock()
    M = classical_cycle(shape, diagonal, sweeps=sweeps)
    ready = clock()
    conjugate_directions(problem.operator, problem.to_box(problem.other).ravel(), M, target, maxiter=1)
    again = clock()
    record = conjugate_directions(problem.operator, problem.to_box(problem.b).ravel(), M, target, maxiter=1000)
    x = problem.from_box(record.x, problem.b)
    return Answer(x, len(record.residuals) - 1, ready - start, clock() - again)


def incomplete_cholesky(problem: SeededProblem, tol: float, dtype: Any) -> Answer:
    """Solve with MIC(0)-CG on the box; not a first solve."""
    diagonal = problem.diagonal
    box = problem.to_box(problem.b)
    start = clock()
    method = BoxIncompleteCholesky(diagonal, dtype)
    ready = clock()
    method.solve(box, tol, maxiter=1)
    again = clock()
    x, iterations = method.solve(box, tol)
    done = clock()
    return Answer(problem.from_box(x, problem.b), iterations, ready - start, done - again)


# Settings in use, by what they minimise: the total or the seconds of the solve alone. See `choose_settings`.
PFMG = dict.fromkeys(("total", "solve"), hypre.SHORTLIST[0])


def pfmg(problem: SeededProblem, tol: float, aim: str = "total") -> Answer:
    """Solve with hypre's PFMG in its conjugate gradients; where the settings in use fail, with the safest ones."""
    return methods.pfmg(problem, tol, 1, (PFMG[aim], hypre.SHORTLIST[0]))


def scipy_cg(problem: SeededProblem, tol: float) -> Answer:
    """Solve with SciPy's conjugate gradients, without a preconditioner."""
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


def algebraic(problem: SeededProblem, tol: float, build: str | Callable[[Any], Any]) -> Answer:
    """Solve with one of PyAMG's hierarchies, or the one in use of a kind, and its conjugate gradients."""
    chosen = HIERARCHIES[PYAMG[build]] if isinstance(build, str) else build
    return methods.algebraic(problem, tol, 1, chosen, regular=False)


HIERARCHIES: dict[str, Callable[[Any], Any]] = {
    "SA": pyamg.smoothed_aggregation_solver,
    "RS": pyamg.ruge_stuben_solver,
    **{f"SA theta={theta}": partial(smoothed_aggregation, theta=theta) for theta in (0.0, 0.08, 0.2)},
    **{
        f"RS theta={theta} {splitting} {how}": partial(ruge_stuben, theta=theta, splitting=splitting, interpolation=how)
        for theta, splitting, how in itertools.product((0.1, 0.25, 0.5), ("RS", "PMIS"), ("classical", "direct"))
    },
}
# The best hierarchies in a run over all of them at 64^3.
SHORTLIST = (
    "SA", "SA theta=0.0", "RS theta=0.25 RS classical", "RS theta=0.1 RS classical", "RS theta=0.5 RS classical",
    "RS theta=0.1 RS direct", "RS theta=0.5 RS direct",
)  # fmt: skip
PYAMG = {"SA": "SA theta=0.0", "RS": "RS theta=0.25 RS classical"}  # the hierarchies in use


def tune_pyamg(
    family: str, size: int, repeats: int, tol: float, names: Iterable[str] = SHORTLIST
) -> list[tuple[dict[str, float], str]]:
    """Return the medians of every hierarchy that converged on all of some domains that are never reported."""
    seeds = range(hypre_settings.TUNING_INSTANCE, hypre_settings.TUNING_INSTANCE + repeats)
    problems = [SeededProblem.of(family, (size,) * 3, seed) for seed in seeds]
    found = []
    for name in names:
        try:
            runs = [algebraic(problem, tol, HIERARCHIES[name]) for problem in problems]
        except ValueError:  # some coarse operators are NaN
            continue
        if all(problem.judge(run.x) <= tol for problem, run in zip(problems, runs, strict=True)):
            keys = ("setup", "solve", "iterations")
            medians = {key: float(np.median([getattr(run, key) for run in runs])) for key in keys}
            found.append((medians | {"total": medians["setup"] + medians["solve"]}, name))
    return found


def choose_settings(family: str, size: int, tol: float, methods: Iterable[str], repeats: int = 2) -> dict[str, str]:
    """Try hypre's and PyAMG's settings on domains of this kind that are never reported; use the best afterwards."""
    chosen: dict[str, str] = {}
    wanted = {name.split()[0] for name in methods if not absent(name)}
    if "hypre" in wanted and (found := hypre_settings.tune(family, size, repeats, tol)):
        for aim in PFMG:
            PFMG[aim] = min(found, key=lambda f: f[0][aim])[1]
            chosen[f"hypre, least {aim}"] = str(PFMG[aim])
    if "pyamg" in wanted and (hierarchies := tune_pyamg(family, size, repeats, tol)):
        for kind in PYAMG:
            own = [f for f in hierarchies if f[1].startswith(kind)]
            if own:
                PYAMG[kind] = chosen[f"pyamg {kind}"] = min(own, key=lambda f: f[0]["total"])[1]
    return chosen


METHODS: dict[str, Method] = {
    "deepcd": deepcd,
    "deepcd, two threads": partial(ours, threads=2, preconditioner="auto"),
    "deepcd prepared": prepared,
    "deepcd prepared, two threads": partial(prepared, threads=2),
    "geometric V(1,1)": partial(geometric, sweeps=1),
    "geometric V(2,2)": partial(geometric, sweeps=2),
    "deepcd geometric": partial(prepared, preconditioner="geometric-multigrid"),
    "hypre PFMG-PCG": pfmg,
    "hypre PFMG-PCG, least solve": partial(pfmg, aim="solve"),
    "MIC(0)-CG float64": partial(incomplete_cholesky, dtype=np.float64),
    "MIC(0)-CG float32": partial(incomplete_cholesky, dtype=np.float32),
    "pyamg SA": partial(algebraic, build="SA"),
    "pyamg RS": partial(algebraic, build="RS"),
    "scipy cg": scipy_cg,
}


def absent(name: str) -> str:
    """Return why a method cannot run here, or an empty string."""
    return hypre.missing() if name.startswith("hypre") else ""


def main() -> None:
    """Print set-up and solve of PyAMG's settings, best total first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--family", default="open-top")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for m, name in sorted(
        tune_pyamg(args.family, args.size, args.repeats, 1e-6, HIERARCHIES), key=lambda f: f[0]["total"]
    ):
        text = f"setup {m['setup']:.3f} + solve {m['solve']:.3f} ({m['iterations']:g} iterations)"
        print(f"{m['total']:.3f} s = {text}  {name}")


if __name__ == "__main__":
    main()
