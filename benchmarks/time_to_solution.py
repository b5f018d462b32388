"""How long from a bare sparse matrix to the solution, beside algebraic multigrid?

    python benchmarks/time_to_solution.py [--size 128] [--repeats 5]

Fresh A and b in every repeat; setup and solve together; one thread; tolerance 1e-6; open-top box with obstacles.
PyAMG is given its best known settings for this problem: smoothed aggregation with forward/backward Gauss-Seidel, and
Ruge-Stueben, both accelerated by CG.
"""

from __future__ import annotations

import argparse
import operator
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyamg
from problems import save_results, test_rhs, test_system

from deepcd import DeepCD


def deepcd_solve(A: Any, b: Any, tol: float) -> tuple[Any, int]:
    """DeepCD as a newcomer calls it."""
    solution = DeepCD(threads=1).solve(A, b, tol)
    return solution.x, solution.iterations


def pyamg_solve(build: Callable[[Any], Any]) -> Callable[[Any, Any, float], tuple[Any, int]]:
    """One of PyAMG's hierarchies, accelerated by CG."""

    def run(A: Any, b: Any, tol: float) -> tuple[Any, int]:
        history: list[float] = []
        x = build(A).solve(b, tol=tol, accel="cg", residuals=history, maxiter=200)
        return x, len(history) - 1

    return run


def smoothed_aggregation(A: Any) -> Any:
    """Smoothed aggregation, Gauss-Seidel forward before and backward after."""
    sweeps = [("gauss_seidel", {"sweep": way}) for way in ("forward", "backward")]
    return pyamg.smoothed_aggregation_solver(A, presmoother=sweeps[0], postsmoother=sweeps[1])


METHODS: dict[str, Callable[[Any, Any, float], tuple[Any, int]]] = {
    "deepcd": deepcd_solve,
    "pyamg SA": pyamg_solve(smoothed_aggregation),
    "pyamg RS": pyamg_solve(pyamg.ruge_stuben_solver),
}


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    tol, rows = 1e-6, []
    warm = test_system("open-top", (20, 20, 20), 99)
    for run in METHODS.values():
        run(warm.A, test_rhs(warm, "smooth", 99), tol)
    for repeat in range(args.repeats):
        system = test_system("open-top", (args.size,) * 3, 100 + repeat)
        b = test_rhs(system, "smooth", 100 + repeat)
        product = min(timeit.repeat(partial(operator.matmul, system.A, b), number=1, repeat=5))
        for name, run in METHODS.items():
            A, fresh = system.A.copy(), b.copy()
            start = time.perf_counter()
            x, iterations = run(A, fresh, tol)
            seconds = time.perf_counter() - start
            residual = float(np.linalg.norm(b - system.A @ x) / np.linalg.norm(b))
            measured = {
                "seconds": seconds,
                "products": seconds / product,
                "iterations": iterations,
                "residual": residual,
            }
            rows.append({"method": name, "repeat": repeat, "unknowns": len(b)} | measured)
            text = f"{seconds:8.3f} s  {seconds / product:7.1f} products  {iterations:3d} iterations"
            print(f"{repeat} {name:9s} {text}  residual {residual:.1e}", flush=True)
    median = {name: float(np.median([r["seconds"] for r in rows if r["method"] == name])) for name in METHODS}
    best = min((name for name in METHODS if name != "deepcd"), key=median.__getitem__)
    print("medians:", ", ".join(f"{name} {value:.3f} s" for name, value in median.items()))
    print(f"deepcd is {median[best] / median['deepcd']:.1f} times faster than {best}")
    print("saved", save_results(f"time-to-solution-{args.size}", rows, tol=tol, medians=median))


if __name__ == "__main__":
    main()
