"""Bytes that an iteration on a CUDA device moves through memory, counted from the kernels; no device has been timed.

    python -m benchmarks.cuda_traffic

Assumptions: a kernel reads each array once, since its blocks read shared parts from the L2 cache; a store costs the
bytes that it stores, with no read before it; the cells of the finest level are interior (a listed cell adds 60 bytes to
each of the passes down and up). Levels that are small enough for one block are read again in each of its passes, at the
rate at which one multiprocessor reads from the L2 cache. ARCHITECTURE.md has the same table for the processor's
kernels. `tests/test_cuda_solves.py` compares the tables below with the memory that the kernels touch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

CPU = {"down": 14.0, "up": 18.0, "conjugate": 13.0, "step": 29.0}
COARSEST, ONE_BLOCK = 200, 8192  # `preconditioners.multigrid.levels.COARSEST`, `cuda.kernels.coarse.ONE_BLOCK`
FLAGS = 0.25  # bytes per cell: one bit, and a number of four bytes for every 32 of them
LAUNCH = 5e-6  # assumed seconds per kernel launch; Python may need more
ONE_SM = 64 * 1.4e9  # assumed bytes per second of one multiprocessor: 64 bytes per clock at 1.4 GHz
BANDWIDTHS = 2e12, 3.35e12  # bytes per second, from the data sheets of an A100 and of an H100


class Pass(NamedTuple):
    """Bytes per cell of a level, and per cell of the next coarser one."""

    own: float
    below: float = 0.0


FINEST = {
    "down": Pass(4 + 1 + FLAGS + 4, 4 + 4),  # r, byte, listed; z      psi; r
    "up": Pass(4 + 4 + 1 + FLAGS + 4, 4),  # r, z, byte, listed; z'     z
    "conjugate": Pass(4 + 4 + 1 + 4),  # z, p, byte; p
    "step": Pass(4 + 8 + 4 + 1 + 8 + 4),  # p, x, r, byte; x, r
}
COEFFICIENTS = 4 + 12 + 4 + 12 + 4  # diagonal, faces, and the smoother's, phi
COARSE = {
    "down": Pass(COEFFICIENTS + 4 + 4, 4 + 4),  # r; z      psi; r
    "up, first visit": Pass(COEFFICIENTS + 4 + 4 + 4 + 4, 4),  # r, z; z', r - A z'      z
    "up, second visit": Pass(COEFFICIENTS + 4 + 4 + 4 + 4 + 4, 4),  # r, z, psi, the first visit's z; z'     z
}
VISIT = ("down", "up, first visit", "down", "up, second visit")
# Bytes per cell in one block, where every step is a pass of its own: 2 S, 2 S added to a vector, 3 residuals, 2 scaled
# ones, 2 restrictions, 2 corrections, and the weighing of the second visit.
SMALL_VISIT = 2 * 24 + 2 * 28 + 3 * 28 + 2 * 32 + 2 * (4 + 8 / 8) + 2 * (12 + 4 / 8) + 16


class Traffic(NamedTuple):
    """Traffic of one iteration."""

    finest: float  # bytes per cell in the four passes over the finest level
    coarse: float  # bytes per cell of the finest level on all coarse levels
    launches: int
    transfers: int  # number of transfers of eight bytes for which the host waits
    bytes: float  # total bytes, without those of the one block
    block: float  # bytes that the one block reads and writes


def levels(n: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the boxes of all levels, the finest first."""
    boxes = [n, tuple(-(-k // 2) for k in n)]
    while math.prod(boxes[-1]) > COARSEST:
        boxes.append(tuple(-(-k // 2) for k in boxes[-1]))
    return boxes


def traffic(n: tuple[int, ...]) -> Traffic:
    """Count what an iteration on a box of n cells, all of them unknowns, moves and launches.

    Examples
    --------
    >>> count = traffic((128, 128, 128))
    >>> round(count.finest, 2), round(count.coarse, 1), count.launches
    (66.0, 31.1, 23)
    """
    boxes = levels(n)
    cells = [math.prod(box) for box in boxes]
    finest = sum(p.own + p.below * cells[1] / cells[0] for p in FINEST.values())
    launches = len(FINEST) + 3  # three of the passes leave partial sums, which a second kernel adds up
    coarse, block, visits = 0.0, 0.0, 1
    for depth in range(1, len(boxes)):
        if depth == len(boxes) - 1 or math.prod(k + 2 for k in boxes[depth]) <= ONE_BLOCK:
            rest = range(depth, len(boxes) - 1)
            block = visits * (SMALL_VISIT * sum(2 ** (d - depth) * cells[d] for d in rest))
            block += visits * 2 ** len(rest) * 4.0 * cells[-1] ** 2  # the dense inverse
            launches += visits
            break
        coarse += visits * sum(COARSE[p].own * cells[depth] + COARSE[p].below * cells[depth + 1] for p in VISIT)
        launches += visits * len(VISIT)
        visits *= 2
    padded = math.prod(k + 2 for k in n) / cells[0]  # the passes outside the cycle include the padding
    outer = (FINEST["conjugate"].own + FINEST["step"].own) * (padded - 1)
    return Traffic(finest, coarse / cells[0], launches, 3, (finest + outer) * cells[0] + coarse, block)


def seconds(count: Traffic, bandwidth: float) -> tuple[float, float]:
    """Return the seconds for memory alone, and for everything, with one kernel after the other."""
    alone = count.bytes / bandwidth
    return alone, alone + LAUNCH * count.launches + count.block / ONE_SM


if __name__ == "__main__":
    print(f"bytes per cell: {'CPU':>6} {'CUDA':>6}")
    for name, own in FINEST.items():
        print(f"{name:>14}: {CPU[name]:6.1f} {own.own + own.below / 8:6.1f}")
    print(f"{'in all':>14}: {sum(CPU.values()):6.1f} {traffic((128,) * 3).finest:6.1f}\n")
    print("      bytes per cell                ms predicted: memory alone      with launches and the one block")
    print("  n^3  finest  coarse  launches       2 TB/s  3.35 TB/s                 2 TB/s  3.35 TB/s")
    for size in (128, 192, 256, 384, 512):
        count = traffic((size,) * 3)
        (a, b), (c, d) = (seconds(count, w) for w in BANDWIDTHS)
        times = f"{1e3 * a:13.2f} {1e3 * c:10.2f} {1e3 * b:22.2f} {1e3 * d:10.2f}"
        print(f"{size:>5} {count.finest:7.1f} {count.coarse:7.1f} {count.launches:9} {times}")
