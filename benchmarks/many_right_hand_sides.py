"""How much faster are many right-hand sides solved in one call than one by one?

    python -m benchmarks.many_right_hand_sides [--sizes 32 48 64 96] [--repeats 5]

The domain is an open-top box with obstacles; right-hand sides of norm one are smooth and random in turn, and solved to
1e-6. One call with all columns, which the threads share column by column, is compared with one call per column, whose
passes the threads share. Systems are prepared; for the largest number of columns, `DeepCD.solve(A, B)` is compared with
`DeepCD.solve(A, b)` for each column as well. Both ways alternate, so that other load of the machine affects both.
"again" is the ratio of two series of single calls, which says how far the other ratios can be trusted.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import save_results, test_rhs, test_system
from deepcd import DeepCD, Solution, System

COLUMNS = (1, 2, 4, 8, 16)
TOL = 1e-6


def timed(system: System, right: NDArray[np.float64]) -> tuple[Solution, float]:
    """Return the solution and the seconds that it took."""
    start = time.perf_counter()
    solution = system.solve(right, TOL)
    seconds = time.perf_counter() - start
    if solution.info != 0:
        raise RuntimeError(solution.message)
    return solution, seconds


def from_the_matrix(solver: DeepCD, A: Any, B: NDArray[np.float64], repeats: int) -> dict[str, float]:
    """Return median seconds of one call from the matrix with all columns, and of one for each of them."""
    seconds: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(repeats):
        for way, blocks in (("together", [B]), ("alone", [np.ascontiguousarray(b) for b in B.T])):
            start = time.perf_counter()
            if any(solver.solve(A, block, TOL).info for block in blocks):
                raise RuntimeError("not converged")
            seconds[way].append(time.perf_counter() - start)
    return {way: float(np.median(values)) for way, values in seconds.items()}


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64, 96])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in args.sizes:
        problem = test_system("open-top", (size,) * 3, 500)
        kinds = ("smooth", "random")
        B = np.stack([test_rhs(problem, kinds[j % 2], 500 + j) for j in range(max(COLUMNS))], axis=1)
        B /= np.linalg.norm(B, axis=0)
        single = [np.ascontiguousarray(b) for b in B.T]
        for threads in args.threads:
            system = DeepCD(threads=threads).setup(problem.A)
            for k in COLUMNS:
                block = np.ascontiguousarray(B[:, :k])
                timed(system, block)  # compiles
                times: dict[str, list[float]] = {"together": [], "alone": [], "again": []}
                for _ in range(args.repeats):
                    together, seconds = timed(system, block)
                    times["together"].append(seconds)
                    for way in ("alone", "again"):
                        runs = [timed(system, b) for b in single[:k]]
                        times[way].append(sum(run[1] for run in runs))
                x = together.x.reshape(-1, k)
                error = max(float(np.abs(x[:, j] - runs[j][0].x).max()) for j in range(k))
                median = {way: float(np.median(values)) for way, values in times.items()}
                rows.append({
                    "size": size, "unknowns": len(B), "threads": threads, "columns": k,
                    "seconds together": median["together"], "seconds one by one": median["alone"],
                    "ratio": median["alone"] / median["together"], "again": median["alone"] / median["again"],
                    "iterations together": together.iterations, "iterations alone": [run[0].iterations for run in runs],
                    "difference": error / float(np.abs(x).max()),
                })  # fmt: skip
                if k == max(COLUMNS):
                    fresh = from_the_matrix(DeepCD(threads=threads), problem.A, block, args.repeats)
                    rows[-1]["from the matrix"] = fresh
                    print(
                        f"{size}^3, {threads} threads, {k} columns from the matrix: {fresh['together']:.3f} s, "
                        f"one by one {fresh['alone']:.3f} s, ratio {fresh['alone'] / fresh['together']:.2f}"
                    )
                text = f"together {median['together']:.4f} s, one by one {median['alone']:.4f} s"
                trust = (
                    f"(again {rows[-1]['again']:.2f}), iterations {together.iterations}, alone {runs[0][0].iterations}"
                )
                print(
                    f"{size}^3, {threads} threads, {k:2d} columns: {text}, ratio {rows[-1]['ratio']:.2f} {trust}",
                    flush=True,
                )
    print("saved", save_results("many-right-hand-sides", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
