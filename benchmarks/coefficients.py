"""Variable coefficients on grids: deepcd from the bare matrix, and its peers, on families of `random_coefficients`.

    python -m benchmarks.coefficients --shape 96 96 96 [--seeds 5] [--families NAME ...] [--methods NAME ...]
    python -m benchmarks.coefficients --shape 512 512 --output coefficients-2d

Every method gets the same systems in the same run, on one thread, until the true relative residual is 1e-6. "auto" is
one call of `DeepCD.solve` with a bare CSR matrix; "again" is a later solve of a prepared system, in products of that
matrix with a vector by SciPy. Of the peers, the time to bring A into their form is not counted. Medians over the seeds,
none of which is one of a training.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from typing import Any

import numpy as np

from benchmarks.problems import save_results
from deepcd import DeepCD
from deepcd.data import COEFFICIENTS, OWN_ENDS, random_coefficients
from deepcd.data.random_fields import smooth_noise
from deepcd.solvers.bench.linear_problem import Box, BoxProblem, LinearProblem, constants
from deepcd.solvers.bench.methods import METHODS, Unsuited, absent

SEED = 31_337  # systems are drawn from (SEED, number)
TOL = 1e-6
FAMILIES = [
    *(name for name in COEFFICIENTS if name != "screened"),  # which draws its reaction: the others name theirs
    *OWN_ENDS,
    "sealed log-normal 2/8",
    "sealed blocks 1e4",
    "periodic log-normal 2/8",
    "periodic two phases",
]
Row = dict[str, Any]


def system(family: str, shape: tuple[int, ...], number: int) -> LinearProblem:
    """Return a system of a family, with a right-hand side that is smooth but for some noise, or noise alone."""
    rng = np.random.default_rng((SEED, number))
    weights = random_coefficients(family, shape, rng)
    field = rng.standard_normal(shape)
    if rng.random() < 0.5:
        field = 0.1 * field + 10 * smooth_noise(shape, max(shape) / 8, rng)
    A = weights.matrix()
    b = field.ravel()[weights.cells()]
    b -= constants(A, b)
    repeats = any(np.take(w, -1, axis).any() for axis, w in enumerate(weights.faces))
    return LinearProblem(A, b) if repeats else BoxProblem(A, b, Box(weights.faces, weights.extra))


def measure(problem: LinearProblem, method: str) -> Row:
    """Run a method, twice where that does not take long, so that nothing is compiled or read in what counts."""
    try:
        answer = METHODS[method](problem, TOL, 1)
        if answer.setup + answer.solve < 3:
            answer = METHODS[method](problem, TOL, 1)
    except Unsuited:
        return {}
    except Exception as error:  # a peer may fail in any way, and that is a result
        return {"failed": f"{type(error).__name__}: {error}"[:80]}
    residual = problem.judge(answer.x)
    if not residual <= 1.001 * TOL:
        return {"failed": f"residual {residual:.0e}"}
    return {"iterations": answer.iterations, "setup": answer.setup, "solve": answer.solve}


def again(problem: LinearProblem) -> Row:
    """Measure a later solve of a prepared system, in products with the matrix, and what the system remembers."""
    prepared = DeepCD(threads=1).setup(problem.A)
    prepared.solve(problem.b, TOL)
    products, solves = [], []
    for _ in range(3):
        start = time.perf_counter()
        prepared.solve(problem.b, TOL)
        solves.append(time.perf_counter() - start)
        for _ in range(3):
            start = time.perf_counter()
            _ = problem.A @ problem.b
            products.append(time.perf_counter() - start)
    M = prepared._strategy.prepared.parts.M  # type: ignore[union-attr]
    memory = M.memory() / problem.A.shape[0] if hasattr(M, "memory") else float("nan")
    return {"products": min(solves) / min(products), "setup": prepared.setup_time, "bytes": memory, "method": M.name}


def run(family: str, shape: tuple[int, ...], seeds: int, methods: list[str]) -> Row:
    """Measure the methods on the systems of a family."""
    found: dict[str, list[Row]] = {name: [] for name in methods}
    later = []
    for number in range(seeds):
        problem = system(family, shape, number)
        for name in methods:
            found[name].append(measure(problem, name))
        later.append(again(problem))
    row: Row = {"family": family, "shape": list(shape), "again": float(np.median([one["products"] for one in later]))}
    row |= {"bytes": float(np.median([one["bytes"] for one in later])), "method": later[0]["method"]}
    for name, runs in found.items():
        good = [one for one in runs if "iterations" in one]
        if len(good) * 2 <= len(runs):
            row[name] = next((one["failed"] for one in runs if "failed" in one), "")
            continue
        iterations = sorted(one["iterations"] for one in good) + [10_000] * (len(runs) - len(good))
        middle = sorted(good, key=lambda one: one["setup"] + one["solve"])[len(good) // 2]
        row[name] = {"iterations": iterations[len(runs) // 2], **{key: middle[key] for key in ("setup", "solve")}}
    return row


def line(row: Row, methods: list[str]) -> str:
    """Return a row of the table."""

    def total(name: str) -> float:
        own = row[name]
        return own["setup"] + own["solve"] if isinstance(own, dict) else float("inf")

    parts = [f"{row['family']:24s}"]
    for name in methods:
        own = row[name]
        text = (
            f"{own['iterations']:4d} {own['setup']:6.3f} +{own['solve']:6.3f}"
            if isinstance(own, dict)
            else str(own)[:20]
        )
        parts.append(f"{text:20s}")
    best = min((total(name) for name in methods if name != "auto"), default=float("inf"))
    ratio = f"{total('auto') / best:5.2f}" if np.isfinite(best) else "     "
    return "  ".join([*parts, ratio, f"{row['again']:5.1f}", f"{row['bytes']:5.0f}", row["method"]])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[96, 96, 96])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--families", nargs="+", default=FAMILIES, metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=["auto", "pfmg", "pfmg-v22"], metavar="NAME")
    parser.add_argument("--output", default="coefficients")
    arguments = parser.parse_args()
    methods = [name for name in arguments.methods if not absent(name)]
    rows = []
    heads = "  ".join(f"{name:20s}" for name in methods)
    print(f"{'family':24s}  {heads}  ratio again bytes method (iterations, seconds of set-up + solve)", flush=True)
    for family in arguments.families:
        rows.append(run(family, tuple(arguments.shape), arguments.seeds, methods))
        print(line(rows[-1], methods), flush=True)
        save_results(arguments.output, rows, shape=arguments.shape, seeds=arguments.seeds, tol=TOL, methods=methods)


if __name__ == "__main__":
    main()
