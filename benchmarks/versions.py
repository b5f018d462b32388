"""Did a change cost time? Set-up and solve by two versions of deepcd, in turn.

    git worktree add ../before REVISION
    python -m benchmarks.versions ../before --sizes 64 128 --processes 6 --repeats 5

Each version runs in a process of its own and is asked in turn for one measurement, so that both meet the same moods of
the machine. Where a process has its arrays, and how many pages it has to ask for again, makes some per cent; so there
are several pairs of processes. What is printed for a step is the median of both versions in milliseconds, and the
median of the ratios after / before of neighbouring measurements. A set-up starts from the bare matrix or from the grid.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

WORKER = """
import json, sys, time
import numpy as np
from deepcd import DeepCD
from deepcd.data import random_grid
from deepcd.pde import poisson

def measure(family, size, threads, preconditioner):
    if problem.get("of") != (family, size):
        grid = random_grid(family, (size,) * 3, np.random.default_rng(7))
        A = poisson(grid).A
        b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
        problem.update(of=(family, size), grid=grid, A=A, b=b)
    A, grid, b = problem["A"], problem["grid"], problem["b"]
    solver, times, last = DeepCD(preconditioner, threads=threads), {}, time.perf_counter()
    def lap(name):
        nonlocal last
        times[name], last = time.perf_counter() - last, time.perf_counter()
    system = solver.setup(A)
    lap("set-up from the matrix")
    x = system.solve(b).x
    lap("first solve")
    system.solve(b)
    lap("solve")
    system = solver.setup(grid)
    lap("set-up from the grid")
    return times

problem = {}
for line in sys.stdin:
    print(json.dumps(measure(*json.loads(line))), flush=True)
"""


class Version:
    """A process that measures with the sources of one folder."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder.resolve() / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # which closes its input, and so ends it

    def measure(self, *what: Any) -> dict[str, float]:
        """Return the seconds of each step, by name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        seconds: dict[str, float] = json.loads(self._process.stdout.readline())
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of the version to compare with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="cells per axis")
    parser.add_argument("--families", nargs="+", default=["open-top", "closed-cube"], help="kinds of domain")
    parser.add_argument("--preconditioners", nargs="+", default=["learned-multigrid"], help="names for DeepCD")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=6, help="pairs of processes")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each version in each process")
    args = parser.parse_args()
    print(f"{'':<46}{'step':<24}{'before':>10}{'after':>10}{'ratio':>8}")
    for name, size, family in itertools.product(args.preconditioners, args.sizes, args.families):
        seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(args.processes):
            with Version(args.before) as before, Version(Path(__file__).parents[1]) as after:
                measure_in_turn(before, after, (family, size, args.threads, name), args.repeats, seconds)
        for step, pairs in seconds.items():
            old, new = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            title = f"{family} {size}^3, {name}"
            print(f"{title:<46}{step:<24}{1e3 * old:10.2f}{1e3 * new:10.2f}{ratio:8.3f}", flush=True)


def measure_in_turn(
    before: Version, after: Version, what: tuple[Any, ...], repeats: int, seconds: dict[str, list[tuple[float, float]]]
) -> None:
    """Add a pair of seconds for every step and repeat; whichever comes first changes from repeat to repeat."""
    before.measure(*what), after.measure(*what)  # which compiles and reads
    for turn in range(repeats):
        first, second = (before, after) if turn % 2 else (after, before)
        pair = {first: first.measure(*what), second: second.measure(*what)}
        for step in pair[before]:
            seconds[step].append((pair[before][step], pair[after][step]))


if __name__ == "__main__":
    main()
