"""How fast is every pass of an iteration, and how near to what the memory gives?

    python -m benchmarks.kernels [--sizes 128 256] [--threads 1 2] [--repeats 9]

STREAM's triad is measured in float32 and float64 first (McCalpin 1995; three arrays of 128 MB or more), then every pass
of the outer iteration and of both cycles on an open-top box with obstacles, and a product with its sparse matrix.
Nanoseconds are medians per cell of the box without its padding. Bytes are counted from the code, not measured: every
array that a pass reads or writes counts once, as if planes stayed in the cache between the stages of a pass. Memory
that the processor reads only because it is about to be written (write-allocate) is counted separately and left out of
the shares. The share is the rate of the pass over that of the triad with as many threads, in the precision that most of
its bytes have.
"""

from __future__ import annotations

import argparse
import itertools
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.problems import operator_of, save_results, test_rhs, test_system
from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels import coarse, csr
from deepcd.solvers.kernels.layout import WEIGHT
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.classical import classical_cycle
from deepcd.solvers.preconditioners.multigrid.coarse import LearnedCoarse
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest

INSTANCE = 200
TRIAD = {"float32": 1 << 25, "float64": 1 << 24}  # number of entries per array


@dataclass(frozen=True)
class Traffic:
    """Bytes per cell of the box, by array, and the bytes that are allocated in the cache for writing."""

    reads: dict[str, float]
    writes: dict[str, float]
    allocated: float
    precision: str

    @property
    def counted(self) -> float:
        """Bytes per cell without write-allocate."""
        return sum(self.reads.values()) + sum(self.writes.values())


def outer_traffic() -> dict[str, Traffic]:
    """Return the traffic of kernels/outer.py: r, z and p are float32, x and b float64, the operator is a byte."""
    return {
        "conjugate": Traffic({"z": 4, "p": 4, "diagonal": 1}, {"p": 4}, 0, "float32"),
        "step": Traffic({"p": 4, "x": 8, "r": 4, "diagonal": 1}, {"x": 8, "r": 4}, 0, "float64"),
        "residual": Traffic({"b": 8, "x": 8, "diagonal": 1}, {"r": 4}, 4, "float64"),
        "dot": Traffic({"r": 4, "z": 4}, {}, 0, "float32"),
    }


def listed_bytes(M: Cycle) -> float:
    """Return the bytes of the cells that have coefficients of their own, and of these coefficients.

    Transfers list their cells one by one, smoothers list runs of cells, whose first cells are looked up.
    """
    assert isinstance(M.finest, UnitFinest)
    own = M.finest.smoothing
    arrays: list[NDArray[Any]] = list(M.finest.scaling[1:])
    smoothers = [own.first, own.second] if isinstance(own, FusedPair) else []
    total = 0.0
    for _, delta, runs, ends, cells in smoothers:
        arrays += [delta, runs, ends]
        total = cells.itemsize * (len(ends) - 1)
    return total + sum({id(a): a.nbytes for a in arrays}.values())  # both smoothers have the same runs


def finest_traffic(listed: float) -> dict[str, Traffic]:
    """Return the traffic of kernels/fused.py and gauss_seidel.py; an eighth as many coarse cells are added to.

    `listed` is the cost of cells with coefficients of their own, in bytes per cell of the box.
    """
    down = {"r": 4, "diagonal": 1, "listed": listed, "coarse r": 4 / 8}
    up = {"r": 4, "z before": 4, "diagonal": 1, "listed": listed, "coarse z": 4 / 8}
    return {
        "descend": Traffic(down, {"z": 4, "coarse r": 8 / 8}, 4 + 4 / 8, "float32"),
        "ascend": Traffic(up, {"z": 4}, 4, "float32"),
    }


def level_traffic(learned: bool, lower: float) -> dict[str, Traffic]:
    """Return the traffic of kernels/coarse.py and gauss_seidel.py: each pass of one visit, per cell of a coarse level.

    Cells have the weights of three faces. `lower` is the number of cells of the next level per cell, where r is zeroed,
    added to and scaled. In the learned cycle the way up of the first cycle and the way down of the second are one pass,
    `turn`.
    """
    smoother = 4 + 12 if learned else 4  # a and c, or the inverse of the diagonal
    fields: dict[str, float] = {"smoother": smoother, "diagonal, w": 4 + 12, "phi": 4}
    below = {"lower r, psi": lower * 12.0}
    above = {"lower z": lower * 4.0}
    restricted = {"lower r": lower * 12.0}
    zeroed = {} if learned else {"z zeroed": 4.0}  # Gauss-Seidel starts from there
    descend = Traffic({"r": 4} | fields | below, {"z": 4} | zeroed | restricted, 4 + 4 * lower, "float32")
    up = {"r": 4, "z before": 4} | fields | above
    combined = {"e": 4.0, "z": 4.0, "psi": 4.0}
    if learned:
        turned = {"z": 4.0, "r": 4.0, "z again": 4.0}
        return {
            "descend": descend,
            "turn": Traffic(up | below, turned | restricted, 12 + 4 * lower, "float32"),
            "ascend": Traffic(up, {"z": 4}, 4, "float32"),
            "combine": Traffic(combined, {"z": 4}, 4, "float32"),
        }
    return {
        "descend": descend,
        "ascend": Traffic(up, {"z": 4, "r": 4}, 4, "float32"),  # and the residual that is left
        "descend again": descend,
        "ascend again": Traffic(up, {"z": 4}, 0, "float32"),
        "combine": Traffic(combined, {"z": 4}, 0, "float32"),
    }


def together(parts: Iterable[tuple[float, Traffic]]) -> Traffic:
    """Return the sum of passes, each multiplied by the number of times that it runs."""
    reads: dict[str, float] = {}
    writes: dict[str, float] = {}
    allocated = 0.0
    for i, (times, own) in enumerate(parts):
        reads |= {f"{i} {name}": times * value for name, value in own.reads.items()}
        writes |= {f"{i} {name}": times * value for name, value in own.writes.items()}
        allocated += times * own.allocated
    return Traffic(reads, writes, allocated, "float32")


def csr_traffic(nonzeros: float, unknowns: float) -> Traffic:
    """Return the traffic of a product in float64 with int32 indices; both arguments are numbers per cell."""
    reads = {"data": 8 * nonzeros, "indices": 4 * nonzeros, "indptr": 4 * unknowns, "p": 8 * unknowns}
    return Traffic(reads, {"q": 8 * unknowns}, 8 * unknowns, "float64")


@njit(cache=True, nogil=True, fastmath=FAST)
def triad(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], s: Any, start: int, stop: int) -> None:
    """Set a to b + s c."""
    for i in range(np.uint64(start), np.uint64(stop)):
        a[i] = b[i] + s * c[i]


def median(run: Callable[[], object], repeats: int, before: Callable[[], object] | None = None) -> float:
    """Return the median seconds of a call after a first one; `before` is called before each, off the clock."""
    seconds = []
    for _ in range(repeats + 1):
        if before is not None:
            before()
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def stream(threads: int, repeats: int) -> dict[str, float]:
    """Return the triad's GB/s, three arrays counted, by precision: the best of the repeats, as STREAM has it."""
    found = {}
    for name, size in TRIAD.items():
        a, b, c = (np.full(size, value, dtype=name) for value in (0, 1, 2))
        team = Team(threads, threads, size)
        bounds = [size * t // threads for t in range(threads + 1)]
        once = partial(team.run, triad, a, b, c, a.dtype.type(0.5), bounds=bounds)
        best = min(median(once, 1) for _ in range(repeats))
        found[name] = 3 * a.nbytes / best / 1e9
    return found


def passes(
    operator: UnitStencilOperator, A: Any, rhs: NDArray[np.float64], threads: int, repeats: int
) -> list[tuple[str, float, Traffic]]:
    """Return (name, seconds, traffic) of every pass, traffic per cell of the box."""
    operator = operator.twin(threads)
    grid = operator.embedding.shape, operator.stencil.diagonal
    cells = float(np.prod(operator.embedding.shape))
    b = operator.embed(rhs[operator.embedding.rows])
    b /= np.linalg.norm(b)
    x = operator.zeros()
    r, p = b.astype(np.float32), b.astype(np.float32)
    z = r.copy()
    outer = {
        "conjugate": partial(operator.conjugate, z, 0.5, p),
        "step": partial(operator.step, 1e-3, p, x, r),
        "residual": partial(operator.residual, b, x, r),
        "dot": partial(operator.dot, r, z),
    }
    counts = outer_traffic()
    found = [(f"outer: {name}", median(run, repeats), counts[name]) for name, run in outer.items()]
    found += cycle("learned", learned_cycle(*grid, threads=threads), r, z, cells, repeats)
    for sweeps in (1, 2):
        M = classical_cycle(*grid, threads, sweeps)
        found += cycle(f"V({sweeps},{sweeps})", M, r, z, cells, repeats)
    traffic = csr_traffic(A.nnz / cells, A.shape[0] / cells)
    q, v = np.zeros(A.shape[0]), np.array(rhs)
    team = Team(threads, A.shape[0], A.shape[0])
    product = partial(team.run, csr.matvec, A.indptr, A.indices, A.data, v, q)
    found.append(("CSR product", median(product, repeats), traffic))
    if threads == 1:
        found.append(("CSR product, SciPy", median(partial(A.__matmul__, v), repeats), traffic))
    return found


def cycle(
    label: str, M: Cycle, r: NDArray[np.float32], z: NDArray[np.float32], cells: float, repeats: int
) -> list[tuple[str, float, Traffic]]:
    """Return the passes of a cycle: two on the finest level, the coarse levels together, and the second level alone."""
    counts = finest_traffic(listed_bytes(M) / cells)
    found = [(f"{label}: descend", median(partial(M.finest.descend, r, M.levels[0]), repeats), counts["descend"])]
    learned = isinstance(M.coarse, LearnedCoarse)
    sizes = [float(np.prod(level.box.n)) for level in M.levels]

    def fresh() -> None:  # visits change the right-hand side that they work on
        M.finest.descend(r, M.levels[0])

    whole = median(partial(M.visit, 0), repeats, fresh)
    below = median(partial(M.visit, 1), repeats, fresh) if len(sizes) > 1 else 0.0
    parts = []
    for depth, (size, lower) in enumerate(itertools.pairwise(sizes)):
        parts += [(2**depth * size / cells, own) for own in level_traffic(learned, lower / size).values()]
    exact = Traffic({"exact solution": 4 * M.exact.inverse.size / cells}, {}, 0, "float32")
    levels = together([*parts, (2 ** (len(sizes) - 1), exact)])
    found.append((f"{label}: coarse levels", whole, levels))
    if len(sizes) > 1:
        second = level_traffic(learned, sizes[1] / sizes[0])
        share = sizes[0] / cells
        only = together((share, own) for own in second.values())
        found.append((f"{label}: of these, the second level", max(whole - 2 * below, 0.0), only))
        fresh()
        if learned:
            for name, run in level_passes(M).items():
                found.append((f"{label}: its {name}", median(run, repeats), together([(share, second[name])])))
    M.apply(r, z)
    found.append((f"{label}: ascend", median(partial(M.finest.ascend, r, z, M.levels[0]), repeats), counts["ascend"]))
    total = together((1, own) for own in (counts["descend"], levels, counts["ascend"]))
    found.append((f"{label}: whole cycle", median(partial(M.apply, r, z), repeats), total))
    return found


def level_passes(M: Cycle) -> dict[str, Callable[[], object]]:
    """Return the passes of a visit to the second level, in their order, without those below."""
    level, lower = M.levels[:2]
    own, below, transfer, coefficients = level.fields, lower.fields, level.transfer(lower), level.coefficients
    run, scratch = level.team.run, level.scratch
    turn = (level.box, coefficients, own.r, own.y, own.e, own.t, own.z, transfer, below.z, below.psi, below.r)
    ascend = (level.box, coefficients, own.t, own.z, own.y, transfer, below.z)
    return {
        "descend": partial(M.coarse.descend, level, lower, own.r, own.y),
        "turn": partial(run, coarse.turn, *turn, scratch=scratch, bounds=level.team.halved),
        "ascend": partial(run, coarse.ascend, *ascend, scratch=scratch),
        "combine": partial(coarse.combine, M.hierarchy.numbers[0, WEIGHT], own.e, own.psi, own.y, own.z),
    }


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    rates = {threads: stream(threads, args.repeats) for threads in args.threads}
    for threads, rate in rates.items():
        print(f"triad, {threads} threads: " + ", ".join(f"{name} {value:.1f} GB/s" for name, value in rate.items()))
    for size in args.sizes:
        system = test_system("open-top", (size,) * 3, INSTANCE)
        operator, rhs = operator_of(system), test_rhs(system, "smooth", INSTANCE)
        cells = float(np.prod(operator.embedding.shape))
        for threads in args.threads:
            print(f"\n{size}^3, {threads} threads; bytes per cell")
            print(f"{'pass':36s} {'ns/cell':>8s} {'bytes':>7s} {'+ alloc':>8s} {'GB/s':>6s} {'of triad':>9s}")
            for name, seconds, traffic in passes(operator, system.A, rhs, threads, args.repeats):
                ns = 1e9 * seconds / cells
                rate_here = traffic.counted / ns if ns > 0 else float("nan")
                share = rate_here / rates[threads][traffic.precision]
                numbers = f"{ns:8.3f} {traffic.counted:7.2f} {traffic.allocated:8.2f} {rate_here:6.1f} {share:9.0%}"
                print(f"{name:36s} {numbers}", flush=True)
                rows.append({
                    "size": size, "threads": threads, "pass": name, "ns per cell": ns, "seconds": seconds,
                    "bytes per cell": traffic.counted, "allocated per cell": traffic.allocated,
                    "reads": traffic.reads, "writes": traffic.writes, "GB/s": rate_here,
                    "triad": traffic.precision, "share of triad": share,
                })  # fmt: skip
        del system, operator
    print("saved", save_results("kernels", rows, repeats=args.repeats, triad={str(k): v for k, v in rates.items()}))


if __name__ == "__main__":
    main()
