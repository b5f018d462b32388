"""Which multilevel method suits a matrix without a grid? How often is the choice wrong, and by how much?

    python -m benchmarks.choice [--only PATTERN] [--seed 0] [--output choice]
    python -m benchmarks.choice --judge                      # instead: the present rule on all times that were saved

Every method that `choose` chooses from solves every system by name, to 1e-8 from a bare matrix, set-up included, on one
thread: CPU seconds, the least of several runs, each method in a process of its own (`benchmarks/auto.py`). Systems that
"auto" factors, or solves by simple iterations, are among them: there, too, the choice is looked at.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.auto import measure, meets, ours, warm
from benchmarks.auto_systems import F64, systems
from benchmarks.problems import RESULTS, save_results, saved_rows
from deepcd.data.random_graphs import GRAPHS
from deepcd.solvers.bench.mesh_problems import MESHES, PROBLEMS
from deepcd.solvers.preconditioners.choice import CANDIDATES, Couplings, choose, look

TOL = 1e-8
LEAST, MOST = 2_500, 120_000  # unknowns: fewer are factored, and more take too long
KINDS = (
    "mesh",
    "jumps",
    "anisotropic",
    "graph",
    "permuted",
    "high order",
    "picture",
    "practice",
    "fourth order",
    "others",
)
LONGEST = 40.0  # seconds after which a method is stopped
Row = dict[str, Any]
Named = tuple[str, Callable[[], tuple[sp.csr_array, F64]]]


def chosen_systems(seed: int) -> Iterator[Named]:
    """Yield the systems by name."""
    for system in systems(seed):
        if LEAST <= system.size <= MOST and system.kind in KINDS:
            yield system.name, lambda system=system: system()[:2]  # type: ignore[misc]
    for name in (*MESHES, *GRAPHS):
        for size in (100, 250) if "tetra" not in name and "hexa" not in name and name not in SOLID else (20, 40):
            yield f"{name}, {size}", partial(_problem, name, size + seed)


SOLID = ("bracket", "thin-plate")


def _problem(name: str, size: int) -> tuple[sp.csr_array, F64]:
    problem = next(PROBLEMS[name](size))
    return problem.A, problem.b


def compare(name: str, A: sp.csr_array, b: F64) -> Row:
    """Return the row of a system."""
    seen = look(A)
    row: Row = {"system": name, "unknowns": A.shape[0], "entries": A.nnz, "seen": seen._asdict(), "methods": {}}
    best = math.inf
    for candidate in CANDIDATES:
        found = measure(partial(ours, name=candidate), A, b, TOL, min(LONGEST, 8 * best + 1))
        row["methods"][candidate] = found
        if meets(found, TOL):
            best = min(best, found["seconds"])
    return row


def judged(row: Row) -> tuple[str, float]:
    """Return what is chosen, and how many times as long as the best of all it takes."""
    name = choose(Couplings(**row["seen"]))
    seconds = {m: found["seconds"] for m, found in row["methods"].items() if meets(found, TOL)}
    best = min(seconds.values(), default=math.nan)
    return name, seconds.get(name, math.inf) / best


HEAD = f"{'system':36s} {'unknowns':>8s} {'/row':>5s} {'long':>6s} {'pos':>5s} {'weak':>5s}  "


def text(row: Row) -> str:
    """Return a line of the table."""
    name, ratio = judged(row)
    seen = row["seen"]
    parts = [f"{row['system']:36s} {row['unknowns']:8d} {row['entries'] / row['unknowns']:5.1f} {seen['longest']:6.1f}"]
    parts.append(f"{seen['positive']:5.3f} {seen['weak']:5.2f} ")
    for candidate in CANDIDATES:
        found = row["methods"][candidate]
        good = f"{found['seconds']:8.4f}" if meets(found, TOL) else "       -"
        count = re.search(r"(\d+) it", found["done"])
        parts.append(f"{good} {count.group(1) if count else '':>5s}")
    return " ".join([*parts, f" {name:22s} {ratio:5.2f}"])


def tell(rows: list[Row], output: str) -> None:
    """Print the table and what it comes to."""
    lines = [HEAD + " ".join(f"{name[:14]:>14s}" for name in CANDIDATES) + "  chosen", *map(text, rows)]
    ratios = np.array([judged(row)[1] for row in rows])
    ratios = ratios[~np.isnan(ratios)]
    wrong = ratios > 1.1
    mean = float(np.exp(np.log(np.minimum(ratios, 100)).mean()))
    lines.append(
        f"{len(ratios)} systems: the choice takes more than 1.1 times the best on {int(wrong.sum())}, "
        f"more than 1.5 on {int((ratios > 1.5).sum())}, {ratios.max():.2f} at most, {mean:.3f} in the geometric mean"
    )
    print("\n".join(lines))
    (RESULTS / f"{output}.txt").write_text("\n".join(line.rstrip() for line in lines) + "\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression that names of systems contain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="choice")
    parser.add_argument("--judge", action="store_true", help="judge the present rule by the times that were saved")
    args = parser.parse_args()
    rows: list[Row] = []
    if args.judge:
        rows = [row for part in sorted(RESULTS.glob("choice*.json")) for row in saved_rows(part.stem)]
    else:
        warm()
        for name, make in chosen_systems(args.seed):
            if re.search(args.only, name):
                rows.append(compare(name, *make()))
                print(text(rows[-1]), flush=True)
                save_results(args.output, rows, seed=args.seed, tol=TOL)
    tell(rows, args.output)


if __name__ == "__main__":
    main()
