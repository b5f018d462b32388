"""How much faster are many right-hand sides iterated on together than one by one?

    python benchmarks/many_right_hand_sides.py [--sizes 32 48 64 96] [--repeats 5]

Open-top box with obstacles, prepared before the clock starts; smooth and random right-hand sides in turn, of norm one;
tolerance 1e-6. `columns(k)` of operator and preconditioner are iterated on as one system against the k single ones,
vectors put into the box and taken out again in both. Both ways alternate, so that what else the machine does falls on
both; "again" is the ratio of two runs one by one, which says how far to trust the others.
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
from problems import embedding_of, save_results, test_rhs, test_system

from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.operators.stencil import StencilOperator
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid

COLUMNS = (1, 2, 4, 8, 16)
TOL = 1e-6


def iterate(operator: StencilOperator, M: LearnedMultigrid, block: NDArray[np.float64]) -> tuple[Any, int, float]:
    """Return the solution, the iterations and the seconds."""
    start = time.perf_counter()
    record = conjugate_directions(operator, operator.embed(block), M, TOL, maxiter=100)
    x = operator.extract(record.x)
    return x, len(record.residuals) - 1, time.perf_counter() - start


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
        embedding = embedding_of(problem)
        kinds = ("smooth", "random")
        B = np.stack([test_rhs(problem, kinds[j % 2], 500 + j) for j in range(max(COLUMNS))], axis=1)
        B = B if embedding.rows is None else B[embedding.rows]
        B /= np.linalg.norm(B, axis=0)
        single = [np.ascontiguousarray(b) for b in B.T]
        for threads in args.threads:
            operator, M = StencilOperator(embedding, threads), LearnedMultigrid(embedding, threads=threads)
            for k in COLUMNS:
                block, columns = np.ascontiguousarray(B[:, :k]), (operator.columns(k), M.columns(k))
                iterate(*columns, block)  # compiles
                times: dict[str, list[float]] = {"together": [], "alone": [], "again": []}
                for _ in range(args.repeats):
                    x, iterations, seconds = iterate(*columns, block)
                    times["together"].append(seconds)
                    for way in ("alone", "again"):
                        runs = [iterate(operator, M, b) for b in single[:k]]
                        times[way].append(sum(run[2] for run in runs))
                error = max(float(np.abs(x.reshape(-1, k)[:, j] - runs[j][0]).max()) for j in range(k))
                median = {way: float(np.median(values)) for way, values in times.items()}
                rows.append({
                    "size": size, "unknowns": len(B), "threads": threads, "columns": k,
                    "seconds together": median["together"], "seconds one by one": median["alone"],
                    "ratio": median["alone"] / median["together"], "again": median["alone"] / median["again"],
                    "iterations together": iterations, "iterations alone": [run[1] for run in runs],
                    "difference": error / float(np.abs(x).max()),
                })  # fmt: skip
                text = f"together {median['together']:.4f} s, one by one {median['alone']:.4f} s"
                trust = f"(again {rows[-1]['again']:.2f}), iterations {iterations}, alone {runs[0][1]}"
                print(
                    f"{size}^3, {threads} threads, {k:2d} columns: {text}, ratio {rows[-1]['ratio']:.2f} {trust}",
                    flush=True,
                )
    print("saved", save_results("many-right-hand-sides", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
