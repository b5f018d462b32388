"""How long does it take from a sparse matrix to the solution, compared with every available peer?

    python -m benchmarks.time_to_solution [--size 128] [--repeats 5] [--tol 1e-6] [--families open-top porous-15]
        [--methods deepcd "hypre PFMG-PCG" ...]
    python -m benchmarks.time_to_solution --draw [--size 128]        draws the figure from the saved numbers

Every repeat has its own A and b, and the order of the methods rotates with the repeats. Methods use one thread unless
their name says otherwise. Set-up and solve are reported separately, in seconds and in units of t, the time of one SciPy
product with the same matrix in float64 in the same repeat. A method has converged if the residual that SciPy recomputes
in float64 meets the tolerance. benchmarks/peers.py has the methods. The settings of hypre and PyAMG are chosen before,
on domains of the same family and size that are not reported. Saved rows of families that are not run are kept. Ratios
are ratios of medians within one run. The set-up of hypre and of MIC(0) does not include the conversion into their form,
which is saved separately, nor finding the grid, which DeepCD's set-up includes.
"""

from __future__ import annotations

import argparse
import json
import operator
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import timeit
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import METHODS, absent, choose_settings
from benchmarks.problems import RESULTS, SeededProblem, save_results

GEOMETRIC = ("geometric V(1,1)", "geometric V(2,2)", "deepcd geometric")
HYPRE = ("hypre PFMG-PCG", "hypre PFMG-PCG, least solve")
PYAMG = ("pyamg SA", "pyamg RS")
FIRST_INSTANCE = 100


def measure(problem: SeededProblem, name: str, tol: float, unit: float) -> dict[str, Any]:
    """Run one method on copies of the problem's A and b; one row."""
    own = replace(problem, A=problem.A.copy(), b=problem.b.copy())
    answer = METHODS[name](own, tol)
    residual, total = problem.judge(answer.x), answer.setup + answer.solve
    seconds = {"setup": answer.setup, "solve": answer.solve, "total": total}
    return {
        **{f"{key} s": value for key, value in seconds.items()},
        **{f"{key} t": value / unit for key, value in seconds.items()},
        "conversion s": answer.conversion,
        "iterations": answer.iterations,
        "residual": residual,
        "status": "converged" if residual <= tol else "not converged",
    }


def run(family: str, size: int, repeats: int, tol: float, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Measure every method on every repeat of a family, and print each row."""
    rows = []
    for repeat in range(repeats):
        problem = SeededProblem.of(family, (size,) * 3, FIRST_INSTANCE + repeat)
        unit = min(timeit.repeat(partial(operator.matmul, problem.A, problem.b), number=1, repeat=5))
        turn = repeat % len(methods)
        for name in (*methods[turn:], *methods[:turn]):
            row = {"family": family, "repeat": repeat, "method": name, "unknowns": len(problem.b), "t": unit}
            if absent(name):
                rows.append(row | {"status": absent(name)})
            else:
                rows.append(row | measure(problem, name, tol, unit))
                r = rows[-1]
                text = f"setup {r['setup s']:8.4f} s  solve {r['solve s']:8.4f} s  {r['iterations']:4d} iterations"
                print(f"{family} {repeat} {name:28s} {text}  {r['residual']:.1e}  {r['status']}", flush=True)
    return rows


def medians(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the medians of one family, by method, for methods that converged in every repeat."""
    found = {}
    for name in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == name]
        if all(r["status"] == "converged" for r in own):
            keys = [f"{part} {unit}" for part in ("setup", "solve", "total") for unit in "st"]
            found[name] = {
                key: float(np.median([r[key] for r in own])) for key in (*keys, "iterations", "conversion s")
            }
            found[name]["residual"] = max(r["residual"] for r in own)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return the medians as text, with the names of methods that failed or are absent."""
    median, lines = medians(rows), []
    lines.append(
        f"{'method':28s} {'setup s':>9s} {'solve s':>9s} {'total s':>9s} {'t':>7s} {'t':>7s} {'t':>7s}  iterations"
    )
    for name in dict.fromkeys(r["method"] for r in rows):
        if name in median:
            m = median[name]
            numbers = " ".join(f"{m[f'{part} s']:9.4f}" for part in ("setup", "solve", "total"))
            units = " ".join(f"{m[f'{part} t']:7.1f}" for part in ("setup", "solve", "total"))
            lines.append(f"{name:28s} {numbers} {units}  {m['iterations']:g}  worst residual {m['residual']:.1e}")
        else:
            why = dict.fromkeys(r["status"] for r in rows if r["method"] == name)
            lines.append(f"{name:28s} {'; '.join(why)}")
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return all ratios, by the sentences that say what they compare."""
    m, found = medians(rows), {}

    def compare(sentence: str, ours: str, part: str, theirs: Sequence[str], of: str | None = None) -> None:
        there = [name for name in theirs if name in m]
        if ours in m and there:
            key = f"{of or part} s"
            best = min(there, key=lambda name: m[name][key])
            found[sentence.format(best)] = m[best][key] / m[ours][f"{part} s"]

    compare("{} takes so many times DeepCD's total", "deepcd", "total", PYAMG)
    compare("{} takes so many times DeepCD's total, two threads", "deepcd, two threads", "total", PYAMG)
    compare("{}, own set-up and solve, takes so many times DeepCD's total", "deepcd", "total", HYPRE)
    compare("{}'s solve takes so many times DeepCD's prepared solve", "deepcd prepared", "solve", HYPRE)
    compare("{}'s solve takes so many times DeepCD's prepared solve", "deepcd prepared", "solve", GEOMETRIC)
    for name in ("MIC(0)-CG float64", "MIC(0)-CG float32"):
        compare("{}'s solve takes so many times DeepCD's prepared solve", "deepcd prepared", "solve", [name])
        compare("{}, set-up and solve, takes so many times DeepCD's total", "deepcd", "total", [name])
    compare("{}'s solve takes so many times DeepCD's total", "deepcd", "total", ["scipy cg"])
    if "deepcd prepared" in m:
        own = m["deepcd prepared"]
        found["DeepCD's set-up takes so many times its solve"] = own["setup s"] / own["solve s"]
    compare(
        "DeepCD's prepared solve takes so many times itself with two threads",
        "deepcd prepared, two threads", "solve", ["deepcd prepared"],
    )  # fmt: skip
    return found


def draw(path: Path) -> Path:
    """Draw set-up and solve of every method from saved results, per family."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    saved = json.loads(path.read_text())
    families = list(dict.fromkeys(r["family"] for r in saved["rows"]))
    size, tol = saved["settings"]["size"], saved["settings"]["tol"]
    figure, axes = plt.subplots(1, len(families), figsize=(7 * len(families), 4.5), layout="constrained", squeeze=False)
    for axis, family in zip(axes[0], families, strict=True):
        median = medians([r for r in saved["rows"] if r["family"] == family])
        names = sorted(median, key=lambda name: -median[name]["total s"])
        setup, solve = ([median[n][f"{part} s"] for n in names] for part in ("setup", "solve"))
        axis.barh(names, setup, color="#9bbfdd", label="set-up")
        axis.barh(names, solve, left=setup, color="#1f6fb2", label="solve")
        for at, name in enumerate(names):
            axis.text(median[name]["total s"], at, f"  {median[name]['total s']:.2g} s", va="center")
        for label in axis.get_yticklabels():
            label.set_color("#c8102e" if label.get_text() in ("deepcd", "deepcd, two threads") else "black")
        longest = sorted(median[n]["total s"] for n in names)
        # One slow method would make all other bars short, so its bar may leave the picture; its number stays in it.
        cut = 1.25 * (longest[-1] if len(longest) < 2 or longest[-1] < 3 * longest[-2] else longest[-2])
        axis.set_xlim(0, cut)
        for text in axis.texts:
            if text.get_position()[0] > 0.9 * cut:
                text.set_x(0.88 * cut)
                text.set_color("white")
                text.set_ha("right")
        axis.set_title(f"{family}, ${size}^3$, residual {tol:g}")
        axis.set_xlabel("seconds, median; one thread unless said")
        axis.legend(loc="upper right", frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    picture = path.with_suffix(".png")
    figure.savefig(picture, dpi=110)
    return picture


def main() -> None:
    """Print and save the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--families", nargs="+", default=["open-top", "porous-15"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--draw", action="store_true", help="only draw the saved results")
    args = parser.parse_args()
    file = f"time-to-solution-{args.size}"
    if args.draw:
        print("drawn", draw(RESULTS / f"{file}.json"))
        return
    for method in args.methods:  # compiles, loads libraries and starts threads before measurements
        if not absent(method):
            METHODS[method](SeededProblem.of("open-top", (48,) * 3, 99), args.tol)
    saved = json.loads((RESULTS / f"{file}.json").read_text()) if (RESULTS / f"{file}.json").exists() else {}
    rows: list[dict[str, Any]] = [r for r in saved.get("rows", ()) if r["family"] not in args.families]
    families = [*dict.fromkeys(r["family"] for r in rows), *args.families]
    settings: dict[str, dict[str, str]] = {
        f: saved["settings"]["chosen"][f] for f in families if f not in args.families
    }
    for family in args.families:
        settings[family] = choose_settings(family, args.size, args.tol, args.methods)
        for name, chosen in settings[family].items():
            print(f"{family}: {name}: {chosen}", flush=True)
        rows += run(family, args.size, args.repeats, args.tol, args.methods)
    summary, compared = {}, {}
    for family in families:
        own = [r for r in rows if r["family"] == family]
        summary[family], compared[family] = medians(own), ratios(own)
        print(f"\n{family}, {args.size}^3, medians of {args.repeats}, tolerance {args.tol:g}")
        print(table(own))
        for sentence, value in compared[family].items():
            print(f"  {sentence}: {value:.2f}")
    about = {"size": args.size, "repeats": args.repeats, "tol": args.tol, "chosen": settings}
    path = save_results(file, rows, **about, medians=summary, ratios=compared)
    print("saved", path)
    print("drawn", draw(path))


if __name__ == "__main__":
    main()
