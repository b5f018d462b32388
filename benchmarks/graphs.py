"""Laplacians of graphs and networks: deepcd from the bare matrix beside its peers, on families that are drawn by seed.

    python -m benchmarks.graphs [--families NAME ...] [--size N] [--seeds 1 2 3] [--methods NAME ...]
    python -m benchmarks.graphs --families chimera --size 100000 --seeds $(seq 1 50)

Every method gets the same systems in the same run, on one thread, until the true relative residual is 1e-8; set-up and
solve are CPU seconds of the quickest of three runs. "chimera" mixes families as the generators of that name in
Laplacians.jl do: rings, grids, trees, regular and preferential attachment graphs, joined, multiplied and put in place
of each other's vertices, with weights of several laws; two in five are singular. "auto" sets up while it solves: all of
its seconds count as solve.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.auto_systems import ENTRIES
from benchmarks.problems import save_results
from deepcd.data.random_graphs import Drawn, chimeras, geometric, landscape, planar
from deepcd.solvers.bench import methods as bench
from deepcd.solvers.bench.linear_problem import LinearProblem, constants

Rng = np.random.Generator
Row = dict[str, Any]

TOL = 1e-8
SLOW = 10.0  # seconds of a run that is not repeated

GENERATORS = {name: generator for name, _, generator, _ in ENTRIES}
FAMILIES: dict[str, tuple[Callable[[Rng, int], Drawn], int]] = {
    "planar": (planar, 300_000),
    "attachment": (GENERATORS["attachment graph"], 300_000),
    "geometric 3D": (geometric, 100_000),
    "landscape log-normal": (partial(landscape, normal=True), 250_000),
    "landscape uniform": (partial(landscape, normal=False), 250_000),
    "grid 2D": (GENERATORS["grid 2D, closed"], 250_000),
    "chimera": (chimeras, 100_000),
}


def system(family: str, n: int | None, seed: int) -> LinearProblem:
    """Return a system of a family; one vertex in a hundred is held where it does not stay singular."""
    generator, size = FAMILIES[family]
    rng = np.random.default_rng((seed, zlib.crc32(family.encode())))
    A, singular = generator(rng, size if n is None else n)
    held = (rng.random(A.shape[0]) < 0.01) * (not singular)
    held[0] = not singular
    A = sp.csr_array(A + sp.diags_array(held * A.diagonal()))
    A = sp.csr_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)
    A.sort_indices()
    b = currents(rng, A) if family == "chimera" else rng.standard_normal(A.shape[0])
    return LinearProblem(A, b - constants(A, b))


def currents(rng: Rng, A: sp.csr_array) -> NDArray[np.float64]:
    """Return random currents through all edges, whose covariance is A.

    Each eigenvector of A has the same share in the energy of the solution. Of long rings with weights over many
    decades, white noise asks for solutions that are too large for a residual of 1e-8 in float64.
    """
    upper = sp.triu(A, 1, format="coo")
    i, j = upper.coords
    current = np.sqrt(-upper.data) * rng.standard_normal(i.size)
    ground = np.sqrt(np.maximum(A.sum(axis=1), 0)) * rng.standard_normal(A.shape[0])
    return np.bincount(i, current, A.shape[0]) - np.bincount(j, current, A.shape[0]) + ground


def measure(problem: LinearProblem, method: str) -> Row:
    """Run a method up to three times, so that nothing is compiled or read in what counts, and judge its answer."""
    best: Row = {}
    for _ in range(3):
        try:
            answer = bench.METHODS[method](problem, TOL, 1)
        except Exception as error:  # a peer may fail in any way, and that is a result
            return {"failed": f"{type(error).__name__}: {error}"[:80]}
        row = {"setup": answer.setup, "solve": answer.solve, "iterations": answer.iterations}
        row["residual"] = problem.judge(answer.x)
        if method == "auto":
            row |= {"setup": 0.0, "solve": row["setup"] + row["solve"]}
        if not best or row["setup"] + row["solve"] < best["setup"] + best["solve"]:
            best = row
        if row["setup"] + row["solve"] > SLOW:
            break
    return best


def line(row: Row) -> str:
    """Return a row of the table."""
    head = f"{row['family']:22s} {row['n']:8d} {row['seed']:5d}  {row['method']:22s}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    numbers = f"{row['setup']:8.3f} {row['solve']:8.3f} {row['iterations']:6d}  {row['residual']:.1e}"
    return f"{head} {numbers}" + ("" if row["residual"] <= 1.001 * TOL else "  not converged")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, metavar="NAME")
    parser.add_argument("--size", type=int, help="unknowns; default: that of the family")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="SEED")
    parser.add_argument("--methods", nargs="+", default=["approximate-cholesky", "auto", "apxchol", "amgcl"])
    parser.add_argument("--output", default="graphs", help="name of the file in benchmarks/results; '' for none")
    arguments = parser.parse_args()
    absent = [reason for name in arguments.methods if (reason := bench.absent(name))]
    if absent:
        parser.error("; ".join(absent))
    bench.clock = time.process_time  # other work on the machine does not count
    print(f"{'family':22s} {'n':>8s} {'seed':>5s}  {'method':22s} {'set-up':>8s} {'solve':>8s} {'steps':>6s}  residual")
    rows = []
    for family in arguments.families:
        for seed in arguments.seeds:
            problem = system(family, arguments.size, seed)
            for method in arguments.methods:
                row = {"family": family, "n": problem.A.shape[0], "seed": seed, "method": method}
                rows.append(row | measure(problem, method))
                print(line(rows[-1]), flush=True)
    if arguments.output:
        save_results(arguments.output, rows, tolerance=TOL, threads=1)


if __name__ == "__main__":
    main()
