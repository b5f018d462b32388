"""How much faster are several right-hand sides solved in one call than one by one?

    python -m benchmarks.many_right_hand_sides [--systems elasticity ...] [--columns 2 3 4 8 16] [--repeats 5]

Matrices off the grid: plane elasticity, a 7-point Laplacian in random order, jumps of eight decades, the Laplacian of a
random graph, a mass matrix, a small one, and one whose right-hand sides are unequally hard. On the grid: an open-top
box with obstacles. Right-hand sides of norm one, all random but for the second, which is smooth, are solved to 1e-6.
One call with all columns is compared with one call per column; systems are prepared. Both ways alternate, so that other
load of the machine affects both; on one thread, processor time is taken. "again" is the ratio of two series of single
calls, which says how far the other ratios can be trusted.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.problems import save_results, test_rhs, test_system
from deepcd import DeepCD, Solution, System

COLUMNS = (2, 3, 4, 8, 16)
TOL = 1e-6
GRIDS = {"grid 300^2": (300, 300), "grid 48^3": (48, 48, 48)}


def poisson(*shape: int) -> sp.csr_array:
    """Return the five- or seven-point Laplacian."""
    return sp.csr_array(pyamg.gallery.poisson(shape, format="csr").astype(np.float64))


def shuffled(A: sp.csr_array) -> sp.csr_array:
    """Return A in a random order."""
    order = np.random.default_rng(0).permutation(A.shape[0])
    return sp.csr_array(A[order][:, order])


def laplacian(ends: NDArray[np.int64], weights: Any, n: int) -> sp.csr_array:
    """Return the Laplacian of a graph with edges ends[0] - ends[1]."""
    W = sp.csr_array((weights, (ends[0], ends[1])), shape=(n, n))
    W = sp.csr_array(W + W.T)
    return sp.csr_array(sp.diags_array(W.sum(axis=1)) - W)


def jumps(n: int) -> sp.csr_array:
    """Return a five-point matrix of n^2 cells whose coefficients vary over eight decades from cell to cell."""
    k: NDArray[np.float64] = 10.0 ** np.random.default_rng(0).uniform(-4, 4, (n, n))
    i = np.arange(n * n).reshape(n, n)
    ends = np.array([np.r_[i[1:].ravel(), i[:, 1:].ravel()], np.r_[i[:-1].ravel(), i[:, :-1].ravel()]])
    means: list[NDArray[np.float64]] = [2 / (1 / a + 1 / b) for a, b in ((k[1:], k[:-1]), (k[:, 1:], k[:, :-1]))]
    A = laplacian(ends, np.concatenate([mean.ravel() for mean in means]), n * n)
    return sp.csr_array(A + 1e-3 * sp.eye_array(n * n))


def graph(n: int, edges: int) -> sp.csr_array:
    """Return the Laplacian of a random graph, singular."""
    rng = np.random.default_rng(0)
    ends = rng.integers(0, n, (2, edges))
    path = np.array([np.arange(n - 1), np.arange(1, n)])
    ends = np.concatenate([ends[:, ends[0] != ends[1]], path], axis=1)
    return laplacian(ends, rng.uniform(0.5, 2, ends.shape[1]), n)


def mass(n: int) -> sp.csr_array:
    """Return the mass matrix of bilinear elements on n^2 cells of unequal size."""
    h = np.random.default_rng(0).uniform(0.1, 1, n)
    line = sp.diags_array([np.r_[h, 0] / 3 + np.r_[0, h] / 3, h / 6, h / 6], offsets=[0, 1, -1])
    return sp.csr_array(sp.kron(line, line))


SYSTEMS: dict[str, tuple[str, Callable[[], sp.csr_array]]] = {
    "elasticity": ("auto", lambda: sp.csr_array(pyamg.gallery.linear_elasticity((80, 80))[0])),
    "shuffled 30^3": ("auto", lambda: shuffled(poisson(30, 30, 30))),
    "shuffled 64^3": ("auto", lambda: shuffled(poisson(64, 64, 64))),
    "jumps": ("auto", lambda: jumps(110)),
    "graph": ("auto", lambda: graph(20_000, 60_000)),
    "mass": ("jacobi", lambda: mass(150)),
    "small": ("auto", lambda: shuffled(poisson(50, 50))),
    "small, factored": ("direct", lambda: shuffled(poisson(40, 40))),
    "unequally hard": ("jacobi", lambda: sp.csr_array(sp.block_diag([mass(70), poisson(100, 100)], format="csr"))),
    "grid 300^2": ("auto", lambda: test_system("open-top", GRIDS["grid 300^2"], 500).A),
    "grid 48^3": ("auto", lambda: test_system("open-top", GRIDS["grid 48^3"], 500).A),
}


def right_hand_sides(name: str, n: int) -> NDArray[np.float64]:
    """Return sixteen right-hand sides of norm one in the range of the matrix."""
    B = np.random.default_rng(1).standard_normal((n, max(COLUMNS)))
    B[:, 1] = np.sin(np.linspace(0, 20, n))
    if name.startswith("grid"):
        problem = test_system("open-top", GRIDS[name], 500)
        B = np.stack([test_rhs(problem, ("random", "smooth")[j % 2], 500 + j) for j in range(max(COLUMNS))], axis=1)
    if name == "graph":
        B -= B.mean(axis=0)
    if name == "unequally hard":  # every other one is zero where conjugate gradients take long
        B[71**2 :, ::2] = 0
    return B / np.linalg.norm(B, axis=0)


def timed(system: System, right: NDArray[np.float64], clock: Callable[[], float]) -> tuple[Solution, float]:
    """Return the solution and the seconds that it took."""
    start = clock()
    solution = system.solve(right, TOL)
    seconds = clock() - start
    if solution.info != 0:
        raise RuntimeError(solution.message)
    return solution, seconds


def compare(system: System, B: NDArray[np.float64], repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Return the row of a table for these columns."""
    k = B.shape[1]
    single = [np.ascontiguousarray(b) for b in B.T]
    timed(system, B, clock)  # compiles
    times: dict[str, list[float]] = {"together": [], "alone": [], "again": []}
    for _ in range(repeats):
        together, seconds = timed(system, B, clock)
        times["together"].append(seconds)
        for way in ("alone", "again"):
            runs = [timed(system, b, clock) for b in single]
            times[way].append(sum(run[1] for run in runs))
    error = max(float(np.abs(together.x[:, j] - runs[j][0].x).max()) for j in range(k))
    median = {way: float(np.median(values)) for way, values in times.items()}
    return {
        "columns": k,
        "seconds together": median["together"],
        "seconds one by one": median["alone"],
        "ratio": float(np.median(np.divide(times["together"], times["alone"]))),
        "again": float(np.median(np.divide(times["again"], times["alone"]))),
        "iterations together": [column.iterations for column in together.columns],
        "iterations alone": [run[0].iterations for run in runs],
        "difference": error / float(np.abs(together.x).max()),
    }


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--columns", type=int, nargs="+", default=list(COLUMNS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in args.systems:
        preconditioner, make = SYSTEMS[name]
        A = make()
        B = right_hand_sides(name, A.shape[0])
        for threads in args.threads:
            system = DeepCD(preconditioner, threads=threads).setup(A)
            timed(system, B[:, 0], time.perf_counter)
            for k in args.columns:
                clock = time.process_time if threads == 1 else time.perf_counter
                row = compare(system, np.ascontiguousarray(B[:, :k]), args.repeats, clock)
                rows.append({"system": name, "unknowns": len(B), "threads": threads, **row})
                print(
                    f"{name}, {len(B)} unknowns, {threads} threads, {k:2d} columns: "
                    f"together {row['seconds together']:.4f} s, one by one {row['seconds one by one']:.4f} s, "
                    f"ratio {row['ratio']:.2f} (again {row['again']:.2f}), "
                    f"iterations {max(row['iterations together'])}, alone {max(row['iterations alone'])}",
                    flush=True,
                )
    print("saved", save_results("many-right-hand-sides", rows, tol=TOL, repeats=args.repeats))


if __name__ == "__main__":
    main()
