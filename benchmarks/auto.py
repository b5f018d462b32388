"""Is "auto" near the best method that was at hand, on any matrix?

    python -m benchmarks.auto [--most 30000] [--only PATTERN] [--kinds KIND ...] [--seed 0] [--output auto]
    python -m benchmarks.auto --least 40001 --output auto-large    # a part of the systems, to be drawn with the others
    python -m benchmarks.auto --draw [--output auto]               # instead: table and figure of what was saved

Every method solves every system of `benchmarks/auto_systems.py` from a bare matrix, set-up included, on one thread:
SciPy's conjugate gradients, plain and with the diagonal, and its sparse factors with two orderings; PyAMG's smoothed
aggregation and Ruge-Stueben coarsening, accelerated by CG; AMGCL and apxchol, where they are installed; deepcd's
methods by name, and "auto". A method counts only where the true residual meets the tolerance. Seconds are CPU seconds,
the least of several runs where these are quick. Each method runs in a process of its own, forked from this one so that
nothing is compiled or imported in it; it is stopped once it has taken `PATIENCE` times as long as the quickest so far.
"auto" and the quickest of the others are measured again at the end, in turns, so that a change of the machine's speed
in between does not decide.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import contextlib
import gc
import math
import multiprocessing
import re
import resource
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from benchmarks.auto_systems import F64, NamedSystem, systems
from benchmarks.problems import RESULTS, save_results, saved_rows
from deepcd import DeepCD
from deepcd.solvers.bench import methods as bench
from deepcd.solvers.bench.linear_problem import LinearProblem

PATIENCE = 8.0  # a method is stopped once it has taken so many times as long as the best so far,
GRACE, LONGEST = 0.4, 60.0  # and so many seconds more: to read compiled code; or so many seconds in any case
REPEATS, ENOUGH = 5, 1.5  # a method is repeated so many times, or until its runs have taken so many seconds
MEMORY = 12 << 30  # bytes of address space of a method
FACTORS = 60_000  # unknowns of a matrix of more than 6.5 entries per row from which nobody would factor it

Result = dict[str, Any]
Method = Callable[[sp.csr_array, F64, float], tuple[Any, str]]  # (A, b, tol) -> x and what was done
forked = multiprocessing.get_context("fork")


def ours(A: sp.csr_array, b: F64, tol: float, name: str = "auto") -> tuple[Any, str]:
    """Solve with deepcd; say what it did, and what it tried."""
    solution = DeepCD(name, threads=1).solve(A, b, tol)
    tried = " > ".join(attempt.method for attempt in solution.attempts)
    return solution.x, f"{tried} {solution.iterations} it {solution.status.name}"


def scipy_cg(A: sp.csr_array, b: F64, tol: float, jacobi: bool = False) -> tuple[Any, str]:
    """Solve with SciPy's conjugate gradients, with or without the diagonal."""
    iterations, M = 0, None
    if jacobi:
        inverse = 1 / A.diagonal()
        M = sla.LinearOperator(A.shape, lambda r: inverse * r, dtype=float)

    def count(_: F64) -> None:
        nonlocal iterations
        iterations += 1

    x, info = sla.cg(A, b, rtol=tol, M=M, callback=count)
    return x, f"{iterations} it, info {info}"


def algebraic(A: sp.csr_array, b: F64, tol: float, build: Callable[..., Any]) -> tuple[Any, str]:
    """Solve with one of PyAMG's hierarchies and its conjugate gradients."""
    history: list[float] = []
    x = build(A).solve(b, tol=tol, accel="cg", maxiter=1000, residuals=history)
    return x, f"{len(history) - 1} it"


def factors(A: sp.csr_array, b: F64, tol: float, ordering: str) -> tuple[Any, str]:
    """Solve with SuperLU."""
    return sla.spsolve(A.tocsc(), b, permc_spec=ordering, use_umfpack=False), ""


def installed(A: sp.csr_array, b: F64, tol: float, name: str) -> tuple[Any, str]:
    """Solve with AMGCL or apxchol, where they are installed; see `deepcd.solvers.bench.methods`."""
    answer = bench.METHODS[name](LinearProblem(A, b), tol, 1)
    return answer.x, f"{answer.iterations} it"


_SWEEPS = {
    f"{when}smoother": ("gauss_seidel", {"sweep": way}) for when, way in (("pre", "forward"), ("post", "backward"))
}
OTHERS: dict[str, Method] = {
    "scipy cg": scipy_cg,
    "scipy cg, Jacobi": partial(scipy_cg, jacobi=True),
    "spsolve": partial(factors, ordering="COLAMD"),
    "spsolve, MMD": partial(factors, ordering="MMD_AT_PLUS_A"),
    "pyamg SA": partial(algebraic, build=partial(pyamg.smoothed_aggregation_solver, **_SWEEPS)),
    "pyamg RS": partial(algebraic, build=pyamg.ruge_stuben_solver),
    **{name: partial(installed, name=name) for name in ("amgcl", "apxchol") if not bench.absent(name)},
}
NAMES = (
    "jacobi", "none", "ssor", "direct", "ic0", "smoothed-aggregation", "approximate-cholesky", "pyamg-rs",
    "learned-multigrid", "geometric-multigrid",
)  # fmt: skip
METHODS: dict[str, Method] = {"auto": ours, **OTHERS, **{f"deepcd {name}": partial(ours, name=name) for name in NAMES}}


def _measure(pipe: Any, method: Method, A: sp.csr_array, b: F64, tol: float) -> None:
    """Send the fewest seconds, the true residual and what was done, after each run."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    least, spent = math.inf, 0.0
    for run in range(REPEATS):
        M, right = A.copy(), b.copy()
        try:
            start = time.process_time()
            x, done = method(M, right, tol)
            seconds = time.process_time() - start
        except Exception as error:  # whatever it is, the method does not count
            pipe.send({"done": f"{type(error).__name__}: {str(error)[:80]}"})
            return
        least, spent = min(least, seconds), spent + seconds
        result = {"seconds": least, "residual": float(np.linalg.norm(b - A @ x) / np.linalg.norm(b)), "done": done}
        pipe.send(result)
        # The first run reads compiled code from disk: a second one follows unless that cannot matter.
        if not meets(result, tol) or spent > ENOUGH * (20 if run == 0 else 1):
            return


def measure(method: Method, A: sp.csr_array, b: F64, tol: float, limit: float) -> Result:
    """Run a method in a process of its own, for no more than so many CPU seconds per run."""
    received, sent = forked.Pipe(duplex=False)
    process = forked.Process(target=_measure, args=(sent, method, A, b, tol))
    process.start()
    sent.close()
    result: Result = {"done": f"stopped after {limit:.1f} s"}
    assert process.pid is not None
    clock = (~process.pid << 3) | 2  # the CPU time of that process, as Linux numbers clocks
    last = 0.0
    with contextlib.suppress(EOFError, OSError):
        while (used := time.clock_gettime(clock)) < last + limit:
            if received.poll(0.02):
                result, last = received.recv(), used
    process.kill()
    process.join()
    return result


def absurd(name: str, A: sp.csr_array) -> str:
    """Return why a method is not tried, or an empty string."""
    if ("spsolve" in name or name == "deepcd direct") and A.shape[0] > FACTORS and A.nnz > 6.5 * A.shape[0]:
        return f"skipped: more than {FACTORS:,} unknowns and 6.5 entries per row"
    return ""


def meets(result: Result, tol: float) -> bool:
    """Return whether a method counts."""
    return "seconds" in result and result["residual"] <= 1.01 * tol


def compare(system: NamedSystem, patience: float) -> Result:
    """Run all methods on a system and return its row of the table."""
    A, b, tol = system()
    found: dict[str, Result] = {}
    best = math.inf
    for name, method in METHODS.items():
        reason = absurd(name, A)
        limit = min(LONGEST, patience * best + GRACE)
        found[name] = {"done": reason} if reason else measure(method, A, b, tol, limit)
        if meets(found[name], tol):
            best = min(best, found[name]["seconds"])
    counted = [name for name in METHODS if name != "auto" and meets(found[name], tol)]
    again = [*sorted(counted, key=lambda name: found[name]["seconds"])[:2], "auto"]
    if "scipy cg" in counted:
        again.append("scipy cg")
    for name in dict.fromkeys(again):
        if "seconds" in found[name] and found[name]["seconds"] < 2:
            once_more = measure(METHODS[name], A, b, tol, LONGEST)
            found[name]["seconds"] = min(found[name]["seconds"], once_more.get("seconds", math.inf))
    return {
        "system": system.name, "kind": system.kind, "unknowns": A.shape[0], "entries": A.nnz, "tol": tol,
        **judged(found, tol), "methods": found,
    }  # fmt: skip


def judged(found: dict[str, Result], tol: float) -> Result:
    """Return how "auto" compares with the others; None where there is nothing to compare with."""

    def quickest(names: list[str]) -> str | None:
        counted = [name for name in names if meets(found[name], tol)]
        return min(counted, key=lambda name: found[name]["seconds"]) if counted else None

    best, other = quickest([name for name in METHODS if name != "auto"]), quickest(list(OTHERS))
    own = found["auto"]["seconds"] if meets(found["auto"], tol) else math.inf

    def ratio(name: str | None) -> float | None:
        return None if name is None else own / found[name]["seconds"]

    plain = found["scipy cg"]["seconds"] if meets(found["scipy cg"], tol) else None
    return {
        "best": best, "ratio": ratio(best), "best other": other, "ratio to others": ratio(other),
        "ratio to cg": None if plain is None else own / plain,
        "ms above cg": None if plain is None else 1e3 * (own - plain),
    }  # fmt: skip


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def summary(rows: list[Result]) -> Result:
    """Return the figures of a run."""

    def of(key: str, chosen: list[Result]) -> list[float]:
        return [row[key] for row in chosen if row[key] is not None]

    all_ratios, others = of("ratio", rows), of("ratio to others", rows)
    # Where "auto" did no more than one of its methods does by name, the difference is what deciding costs.
    deciding = [
        row["methods"]["auto"]["seconds"] / method["seconds"]
        for row in rows
        for name in NAMES
        if meets(method := row["methods"][f"deepcd {name}"], row["tol"])
        and method["done"] == row["methods"]["auto"]["done"]
    ]
    large = [row for row in rows if row["unknowns"] >= 2000]
    small = [row for row in rows if row["unknowns"] < 2000]
    return {
        "systems": len(rows),
        "share within 1.25 of the best": sum(r <= 1.25 for r in all_ratios) / max(len(all_ratios), 1),
        "largest ratio to the best": max(all_ratios, default=math.nan),
        "geometric mean against all methods": _mean(all_ratios),
        "geometric mean against other libraries": _mean(others),
        "median of the time to the same method by name": float(np.median(deciding)) if deciding else math.nan,
        "largest ratio to plain cg, from 2,000 unknowns": max(of("ratio to cg", large), default=math.nan),
        "most ms above plain cg, below 2,000 unknowns": max(of("ms above cg", small), default=math.nan),
    }


def warm() -> None:
    """Load and compile what methods need, in this process, which the others are forked from."""
    wanted = (
        "grid 3D, 8,000",
        "grid 2D, 10,000",
        "triangles, 5,000",
        "chain, 2,500",
        "494_bus",
        "elasticity 2D, 8,000",
    )
    for system in systems():
        if system.name in wanted:
            A, b, tol = system()
            for method in METHODS.values():
                with contextlib.suppress(Exception):  # methods for grids refuse other matrices
                    method(A.copy(), b.copy(), tol)
    gc.collect()
    gc.freeze()  # so that no method has to look through what others have imported


def draw(rows: list[Result], name: str) -> None:
    """Draw the sorted ratios of "auto" to the best of all methods and to the best of other libraries."""
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for key, colour, label in (
        ("ratio to others", "#1f6fb2", "the best of other libraries"),
        ("ratio", "#c8102e", "the best of these and of deepcd's methods by name"),
    ):
        found = sorted(row[key] for row in rows if row[key] is not None)
        mean = _mean(found)
        axes.plot(np.arange(len(found)) + 1, found, "o-", ms=3, lw=1, color=colour, label=f"{label}: mean {mean:.2f}")
    axes.axhline(1, color="black", lw=0.8)
    axes.axhline(1.25, color="0.6", lw=0.8, ls="--")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < high]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("systems, each curve in its own order")
    axes.set_ylabel('seconds of "auto", divided by those of')
    axes.legend(frameon=False, loc="upper left")
    axes.grid(axis="y", alpha=0.3)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=110)
    print("drawn", path)


_HEAD = "{:36s} {:>8s} {:>9s} {:>8s}  {:44s}  {:34s} {:>6s} {:>6s} {:>6s}".format(
    "system", "unknowns", "entries", "auto, s", "what it did", "best and its seconds", "ratio", "others", "cg"
)


def _text(row: Result) -> str:
    """Return a line of the table."""
    auto = row["methods"]["auto"]
    best = row["best"]
    shown = {key: "" if row[key] is None else f"{row[key]:.2f}" for key in ("ratio", "ratio to others", "ratio to cg")}
    quickest = "none" if best is None else f"{best} {row['methods'][best]['seconds']:.4f}"
    return (
        f"{row['system']:36s} {row['unknowns']:8d} {row['entries']:9d} {auto.get('seconds', math.nan):8.4f}  "
        f"{auto['done'][:44]:44s}  {quickest:34s} {shown['ratio']:>6s} {shown['ratio to others']:>6s} "
        f"{shown['ratio to cg']:>6s}"
    )


def _tell(rows: list[Result], name: str) -> None:
    """Print the figures of a run, write its table, and draw it."""
    figures = summary(rows)
    print("\n".join(f"{key:50s} {value:.3g}" for key, value in figures.items()))
    lines = [_HEAD, *map(_text, rows)]
    path = RESULTS / f"{name}.txt"
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")
    print("written", path)
    draw(rows, name)


def main() -> None:
    """Print, save and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=int, default=0, help="leave out systems of fewer unknowns")
    parser.add_argument("--most", type=int, default=1_000_000, help="leave out systems of more unknowns")
    parser.add_argument("--only", default="", help="regular expression that names of systems contain")
    parser.add_argument("--kinds", nargs="*", help="kinds of systems; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE)
    parser.add_argument("--output", default="auto", help="name of the files in benchmarks/results")
    parser.add_argument("--list", action="store_true", help="print the names and kinds of the systems instead")
    parser.add_argument("--draw", action="store_true", help="draw the figure of the saved run instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # PyAMG's and SuperLU's remarks on efficiency
    if args.draw:
        parts = sorted(RESULTS.glob(f"{args.output}*.json"))
        _tell([row for part in parts for row in saved_rows(part.stem)], args.output)
        return
    chosen = [
        system
        for system in systems(args.seed)
        if args.least <= system.size <= args.most
        and re.search(args.only, system.name)
        and (not args.kinds or system.kind in args.kinds)
    ]
    if args.list:
        print("\n".join(f"{system.kind:14s} {system.name}" for system in chosen))
        return
    warm()
    print(_HEAD)
    rows: list[Result] = []
    for system in chosen:
        rows.append(compare(system, args.patience))
        print(_text(rows[-1]), flush=True)
        save_results(args.output, rows, seed=args.seed, summary=summary(rows))
    _tell(rows, args.output)


if __name__ == "__main__":
    main()
