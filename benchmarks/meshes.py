"""Meshes: deepcd from the bare matrix with its points, without them, and its peers, on the families of `mesh_systems`.

    python -m benchmarks.meshes [--families NAME ...] [--methods NAME ...] [--seeds 1] [--tol 1e-6] [--output meshes]

Every method gets the same system in the same run, on one thread, until the true relative residual meets the tolerance.
"auto" is one call of `DeepCD.solve` with a bare CSR matrix and points, "auto-no-points" one without points. Seconds are
CPU seconds of the quickest of three runs; hypre's BoomerAMG runs in PETSc, in a process of its own, twice. The columns
after the methods are the seconds of "auto" over those of PyAMG's best and of BoomerAMG, and of "auto" without points.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import math
import time
import warnings
from typing import Any

import numpy as np

from benchmarks.mesh_systems import FAMILIES, draw, missing
from benchmarks.problems import RESULTS, save_results
from deepcd import DeepCD
from deepcd.solvers.bench import methods as bench
from deepcd.solvers.bench.linear_problem import LinearProblem, MeshProblem, constants
from deepcd.solvers.bench.methods import METHODS, Unsuited, absent

Row = dict[str, Any]
USUAL = ["auto", "auto-no-points", "pyamg-sa", "pyamg-rs", "amgcl", "boomeramg"]


def measure(problem: LinearProblem, method: str, tol: float) -> Row:
    """Return the quickest of some runs of a method."""
    best: Row = {}
    for _ in range(2 if method == "boomeramg" else 3):
        try:
            answer = METHODS[method](problem, tol, 1)
        except Unsuited as error:
            return {"failed": str(error)[:60]}
        except Exception as error:  # a peer may fail in any way, and that is a result
            return {"failed": f"{type(error).__name__}: {error}"[:60]}
        residual = problem.judge(answer.x)
        if not residual <= 1.001 * tol:
            return {"failed": f"residual {residual:.0e}"}
        if not best or answer.setup + answer.solve < best["setup"] + best["solve"]:
            best = {"iterations": answer.iterations, "setup": answer.setup, "solve": answer.solve}
        if answer.setup + answer.solve > 10:
            break
    return best


def total(row: Row, method: str) -> float:
    """Return the seconds that a method took in all."""
    own = row["methods"].get(method, {})
    return own["setup"] + own["solve"] if "iterations" in own else math.inf


def run(name: str, seed: int, methods: list[str], tol: float) -> Row:
    """Return the row of a family."""
    A, points = draw(name, seed)
    b = np.random.default_rng((31_337, seed, 1)).standard_normal(A.shape[0])
    problem = MeshProblem(A, b - constants(A, b), points)
    row: Row = {"family": name, "seed": seed, "unknowns": A.shape[0], "entries": A.nnz, "tol": tol}
    row["methods"] = {method: measure(problem, method, tol) for method in methods}
    system = DeepCD(threads=1).setup(A, points=points)
    row |= {"prepared": system.setup_time, "preconditioner": system.preconditioner, "no grid": system.no_grid}
    return row


def text(row: Row, methods: list[str]) -> str:
    """Return a line of the table."""
    parts = [f"{row['family']:26s} {row['unknowns']:7d}"]
    for method in methods:
        own = row["methods"][method]
        cell = f"{own['iterations']:4d} {own['setup']:.3f}+{own['solve']:.3f}" if "iterations" in own else own["failed"]
        parts.append(f"{cell[:17]:17s}")
    auto, pyamg = total(row, "auto"), min(total(row, "pyamg-sa"), total(row, "pyamg-rs"))
    others = (pyamg, total(row, "boomeramg"), total(row, "auto-no-points"))
    parts.extend(f"{auto / other:6.2f}" if math.isfinite(other) else "      " for other in others)
    return " ".join([*parts, f" {row['preconditioner']}"])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=USUAL, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--output", default="meshes")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    bench.clock = time.process_time  # other work on the machine does not count
    methods = [name for name in args.methods if not absent(name)]
    lines = [" ".join([f"{'family':26s} unknowns", *(f"{name:17s}" for name in methods), "/pyamg /boomer /no points"])]
    print(lines[0], flush=True)
    rows: list[Row] = []
    for name in args.families:
        if reason := missing(name):
            print(f"{name:26s} {reason}")
            continue
        for seed in range(args.seeds):
            rows.append(run(name, seed, methods, args.tol))
            lines.append(text(rows[-1], methods))
            print(lines[-1], flush=True)
            save_results(args.output, rows, tol=args.tol, methods=methods)
    (RESULTS / f"{args.output}.txt").write_text("\n".join(line.rstrip() for line in lines) + "\n")


if __name__ == "__main__":
    main()
