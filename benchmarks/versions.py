"""Did a change cost time? Set-up and solve by two versions of deepcd, in turn.

    git worktree add ../before REVISION
    python -m benchmarks.versions ../before --sizes 64 128 --repeats 15

Each version runs in a process of its own and is asked in turn for one measurement, so that both meet the same moods of
the machine. What is printed for a step is the median of both versions in milliseconds, and the median of the ratios
after / before of neighbouring measurements. A set-up starts from the bare matrix or from the grid.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

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
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each version")
    args = parser.parse_args()
    before, after = Version(args.before), Version(Path(__file__).parents[1])
    print(f"{'':<46}{'step':<24}{'before':>10}{'after':>10}{'ratio':>8}")
    for name in args.preconditioners:
        for size in args.sizes:
            for family in args.families:
                what = family, size, args.threads, name
                before.measure(*what), after.measure(*what)  # which compiles and reads
                seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
                for turn in range(args.repeats):
                    first, second = (before, after) if turn % 2 else (after, before)
                    pair = {first: first.measure(*what), second: second.measure(*what)}
                    for step in pair[before]:
                        seconds[step].append((pair[before][step], pair[after][step]))
                for step, pairs in seconds.items():
                    old, new = (statistics.median(column) for column in zip(*pairs, strict=True))
                    ratio = statistics.median(b / a for a, b in pairs)
                    title = f"{family} {size}^3, {name}"
                    print(f"{title:<46}{step:<24}{1e3 * old:10.2f}{1e3 * new:10.2f}{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    main()
