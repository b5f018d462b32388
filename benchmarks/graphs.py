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
from scipy.spatial import Delaunay, cKDTree

from benchmarks.auto_systems import ENTRIES, laplacian, largest_part
from benchmarks.problems import save_results
from deepcd.solvers.bench import methods as bench
from deepcd.solvers.bench.linear_problem import LinearProblem, constants

Rng = np.random.Generator
Index = NDArray[np.intp]
Graph = tuple[Index, Index, int]  # the ends of all edges, and the number of vertices
Row = dict[str, Any]

TOL = 1e-8
SLOW = 10.0  # seconds of a run that is not repeated
SMALL = 50  # vertices of a part of a chimera that is no mixture any more


# Parts of chimeras: unweighted and connected


def ring(rng: Rng, n: int) -> Graph:
    """Return a ring whose vertices are joined to others at a few random distances as well."""
    jumps = np.r_[1, rng.integers(1, max(2, n // 2), rng.integers(0, 3))]
    i = np.tile(np.arange(n), len(jumps))
    return i, (i + np.repeat(jumps, n)) % n, n


def grid(rng: Rng, n: int) -> Graph:
    """Return a grid of one to three axes of random lengths."""
    shape = [n]
    for _ in range(rng.integers(0, 3)):
        side = max(2, round(shape[-1] ** rng.uniform(0.2, 0.6)))
        shape[-1:] = [side, max(2, shape[-1] // side)]
    number = np.arange(np.prod(shape)).reshape(shape)
    i = [np.delete(number, -1, axis).ravel() for axis in range(len(shape))]
    j = [np.delete(number, 0, axis).ravel() for axis in range(len(shape))]
    return np.concatenate(i), np.concatenate(j), number.size


def regular(rng: Rng, n: int) -> Graph:
    """Return a union of two to five random rings through all vertices."""
    orders = [rng.permutation(n) for _ in range(rng.integers(2, 6))]
    return np.concatenate(orders), np.concatenate([np.roll(order, 1) for order in orders]), n


def tree(rng: Rng, n: int) -> Graph:
    """Return a binary tree, a random recursive one, or one whose vertices hang on recent ones."""
    j = np.arange(1, n)
    kind = rng.integers(3)
    if kind == 0:
        return (j - 1) // 2, j, n
    if kind == 1:
        return (rng.random(n - 1) * j).astype(np.intp), j, n
    return np.maximum(0, j - 1 - rng.exponential(5, n - 1).astype(np.intp)), j, n


def attachment(rng: Rng, n: int) -> Graph:
    """Return a graph whose new vertices join one to five ends of edges before them, drawn at random."""
    k = int(rng.integers(1, 6))
    i = np.repeat(np.arange(1, n), k)
    draws = (rng.random(i.size) * 2 * k * (i - 1)).astype(np.intp)  # the end of an edge, or of none for vertex 1
    j = np.zeros_like(i)
    for e in range(k, i.size):
        edge, side = divmod(int(draws[e]), 2)
        j[e] = i[edge] if side else j[edge]
    return i, j, n


def joined(rng: Rng, n: int) -> Graph:
    """Return two chimeras with some random edges between them."""
    size = int(n * rng.uniform(0.1, 0.9))
    i, j, m = chimera(rng, size)
    p, q, more = chimera(rng, n - size)
    count = int(rng.integers(1, max(2, min(m, more) // 2)))
    return (
        np.concatenate([i, p + m, rng.integers(0, m, count)]),
        np.concatenate([j, q + m, m + rng.integers(0, more, count)]),
        m + more,
    )


def product(rng: Rng, n: int) -> Graph:
    """Return the Cartesian product of two chimeras, one of them small."""
    size = int(rng.integers(2, max(3, min(round(n**0.5), 40))))
    i, j, m = chimera(rng, size)
    p, q, more = chimera(rng, n // size)
    first, second = np.arange(m), np.arange(more)
    return (
        np.concatenate([(i[:, None] * more + second).ravel(), (first[:, None] * more + p).ravel()]),
        np.concatenate([(j[:, None] * more + second).ravel(), (first[:, None] * more + q).ravel()]),
        m * more,
    )


def necklace(rng: Rng, n: int) -> Graph:
    """Return a chimera with a chimera in place of each vertex, and edges between random vertices of two of them."""
    size = int(rng.integers(3, max(4, min(n // 3, 2000))))
    i, j, m = chimera(rng, n // size)
    p, q, more = chimera(rng, size)
    copies, repeats = np.arange(m)[:, None] * more, int(rng.integers(1, 4))
    i, j = np.tile(i, repeats), np.tile(j, repeats)
    return (
        np.concatenate([(copies + p).ravel(), i * more + rng.integers(0, more, i.size)]),
        np.concatenate([(copies + q).ravel(), j * more + rng.integers(0, more, j.size)]),
        m * more,
    )


PARTS = (ring, grid, regular, tree, attachment)
MIXTURES = (joined, joined, product, necklace)


def chimera(rng: Rng, n: int) -> Graph:
    """Return a graph of about n vertices: one of the parts, or a mixture of smaller chimeras."""
    n = max(n, 2)
    kinds = PARTS if n < SMALL or rng.random() < 0.25 else MIXTURES
    return kinds[rng.integers(len(kinds))](rng, n)


def weights(rng: Rng, i: Index, j: Index, n: int) -> NDArray[np.float64]:
    """Return weights of edges by one of five laws."""
    kind = rng.integers(5)
    if kind == 0:
        return np.ones(i.size)
    if kind == 1:
        return rng.random(i.size) + 1e-3
    if kind == 2:
        return 1 / (rng.random(i.size) + 1e-6)
    if kind == 3:
        decades = rng.uniform(2, 8)
        return 10 ** rng.uniform(-decades / 2, decades / 2, i.size)
    potential = rng.standard_normal(n)
    return np.abs(potential[i] - potential[j]) ** rng.uniform(1, 3) + 1e-6


# Families: ``family(rng, n)`` returns a Laplacian and whether it stays singular


def chimeras(rng: Rng, n: int) -> tuple[sp.csr_array, bool]:
    """Return the Laplacian of a chimera with vertices in random order, or in their own."""
    i, j, n = chimera(rng, n)
    if rng.random() < 0.5:
        order = rng.permutation(n)
        i, j = order[i], order[j]
    return largest_part(laplacian(i, j, weights(rng, i, j, n), n)), bool(rng.random() < 0.4)


def planar(rng: Rng, n: int) -> tuple[sp.csr_array, bool]:
    """Return the Delaunay graph of random points in a square, weights over six decades."""
    corners = Delaunay(rng.random((n, 2))).simplices
    i, j = np.unique(np.sort(corners[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0).T
    return laplacian(i, j, 10 ** rng.uniform(-3, 3, i.size), n), False


def geometric(rng: Rng, n: int) -> tuple[sp.csr_array, bool]:
    """Return random points in a cube, joined to all within a radius, eight on average."""
    i, j = cKDTree(rng.random((n, 3))).query_pairs((6 / (np.pi * n)) ** (1 / 3), output_type="ndarray").T
    return largest_part(laplacian(i, j, np.ones(i.size), n)), False


def landscape(rng: Rng, n: int, normal: bool) -> tuple[sp.csr_array, bool]:
    """Return a square of cells of resistances over eight decades, each joined to its eight neighbours; singular."""
    side = round(n**0.5)
    number = np.arange(side * side).reshape(side, side)
    exponent = 4 / 3 * rng.standard_normal(number.size) if normal else rng.uniform(-4, 4, number.size)
    pairs = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    pairs += [(number[:-1, :-1], number[1:, 1:]), (number[:-1, 1:], number[1:, :-1])]
    i, j = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    length = np.repeat([1.0, 1.0, 2**0.5, 2**0.5], [pair[0].size for pair in pairs])
    return laplacian(i, j, 2 / (length * (10 ** exponent[i] + 10 ** exponent[j])), number.size), True


GENERATORS = {name: generator for name, _, generator, _ in ENTRIES}
FAMILIES: dict[str, tuple[Callable[[Rng, int], tuple[sp.csr_array, bool]], int]] = {
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
