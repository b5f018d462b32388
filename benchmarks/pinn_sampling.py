"""Which sampler gives the smallest error at equal cost, under Gauss-Newton?

    python -m benchmarks.pinn_sampling [--problems one_peak burgers ...] [--samplers sobol rad ...] [--seeds 5]
                                       [--budget 20] [--processes 1]
    python -m benchmarks.pinn_sampling --draw        writes figure and page from the saved runs

Every run of a problem has the same network, the same optimiser, the same number of points and the same budget in CPU
seconds on one thread, in which the time that a sampler takes is included. "dense" are Sobol points, four times as many.
Samplers that draw new points replace a fifth of them every two steps; R3 moves its points every ten steps, as it does
when it retains some. The error is that of the iterate that would be returned, which is chosen on held-out points.

Problems in eight and ten dimensions need 100 seconds before anything is learned, so they are not among the defaults:
--problems gaussian_8d gaussian_10d_nonlinear --budget 100.

Seeds begin at 0; adjustable parameters were chosen on seeds from 100 up. Results are medians over the seeds, and the
spread is the largest error over the smallest. Saved rows of other problems, samplers and budgets are kept. Besides the
rows, a figure (error against seconds) and a page with the table, which opens from disk, are written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import RESULTS, save_results, saved_rows
from deepcd.solvers.bench import page

PROBLEMS = (
    "one_peak", "two_peaks", "two_peaks_plain", "gaussian_4d", "gaussian_6d", "burgers", "allen_cahn",
    "moving_gaussian", "kdv", "wave", "diffusion",
)  # fmt: skip
SAMPLERS = ("sobol", "dense", "rad", "r3", "das", "aas")
DENSE = 16_000  # number of points of "dense"
KEYS = ("problem", "sampler", "seed", "budget")
NAME = "pinn-sampling"


def run(problem: str, sampler: str, seed: int, budget: float) -> dict[str, Any]:
    """Return the row of one run."""
    from benchmarks.pinn_accuracy import measured

    if sampler == "dense":
        return measured(problem, seed, budget, sampler="sobol", points=DENSE) | {"sampler": "dense"}
    return measured(problem, seed, budget, sampler=sampler)


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the runs that differ in their seeds only, by problem and sampler."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: SAMPLERS.index(row["sampler"])):
        found.setdefault((row["problem"], row["sampler"]), []).append(row)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return medians of the error, a line per problem, a column per sampler; the smallest in bold."""
    names = [name for name in SAMPLERS if any(row["sampler"] == name for row in rows)]
    lines = ["| problem | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    runs = groups(rows)
    for problem in dict.fromkeys(row["problem"] for row in rows):
        own = {name: [r["error"] for r in runs[key]] for name in names if (key := (problem, name)) in runs}
        cells = {name: float(np.median(errors)) for name, errors in own.items()}
        texts = {name: f"{cells[name]:.1e} (x{max(errors) / min(errors):.0f})" for name, errors in own.items()}
        best = min(cells, key=lambda name: cells[name])
        texts[best] = f"**{texts[best]}**"
        lines.append(f"| {problem} | " + " | ".join(texts.get(name, "") for name in names) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], budget: float) -> Path:
    """Draw the median error against CPU seconds, a panel per problem, a line per sampler."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    runs = groups(rows)
    panels = list(dict.fromkeys(problem for problem, _ in runs))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 3.4 * lines), layout="constrained", squeeze=False
    )
    at = np.linspace(budget / 20, budget, 100)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for colour, sampler in enumerate(SAMPLERS):
            own = runs.get((panel, sampler), [])
            if own:
                # The error at a time is the error after the last round that had ended by then.
                curves = [np.array(row["curve"]).T for row in own]
                errors = [error[np.searchsorted(spent, at, "right").clip(1) - 1] for spent, error, _ in curves]
                thick = 2.6 if sampler == "aas" else 1.2
                axis.plot(at, np.median(errors, axis=0), label=sampler, color=f"C{colour}", lw=thick)
        axis.set_yscale("log")
        axis.set_title(panel)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    axes[-1, 0].set_xlabel("CPU seconds")
    handles = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("Median error under Gauss-Newton against time")
    path = RESULTS / f"{NAME}.png"
    figure.savefig(path, dpi=100)
    return path


def report(rows: list[dict[str, Any]], budget: float) -> Path:
    """Write the figure and the page."""
    head = ["problem", "sampler", "seeds", "measure", "median error", "largest / smallest error", "steps", "parameters"]
    lines = []
    for (problem, sampler), own in groups(rows).items():
        errors = [row["error"] for row in own]
        line = [problem, sampler, str(len(own)), own[0]["metric"], f"{np.median(errors):.2e}"]
        line += [f"{max(errors) / min(errors):.1f}", f"{np.median([row['steps'] for row in own]):.0f}"]
        lines.append([*line, str(own[0]["parameters"])])
    text = (
        f"Networks were trained by Gauss-Newton on points of different samplers, for {budget:g} CPU seconds each, in "
        'which the time of the sampler is included. "dense" are Sobol points, four times as many as the others have. '
        "Numbers are medians over the seeds. A click on the head of a column sorts the table."
    )
    path = RESULTS / f"{NAME}.html"
    page.write(path, "Samplers at equal cost", [text], [draw(rows, budget)], head, lines)
    return path


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=float, default=20.0, help="CPU seconds of a run")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="only write figure and page, from the saved runs")
    args = parser.parse_args()
    kept = {tuple(row[key] for key in KEYS): row for row in saved_rows(NAME)}

    def of_this_budget() -> list[dict[str, Any]]:
        return [row for row in kept.values() if row["budget"] == args.budget]

    if args.draw:
        print("written", report(of_this_budget(), args.budget))
        return
    jobs = [
        (problem, sampler, seed, args.budget)
        for seed in range(args.first, args.first + args.seeds)
        for problem in args.problems
        for sampler in args.samplers
    ]
    jobs = [job for job in jobs if job not in kept]
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for done in [pool.apply_async(run, job) for job in jobs]:
            row = done.get()
            row["curve"] = [[round(t, 2), float(f"{e:.3g}"), round(k)] for t, e, k in row["curve"]]
            kept[tuple(row[key] for key in KEYS)] = row
            print(f"{row['problem']:16s} {row['sampler']:6s} seed {row['seed']}: {row['error']:.2e}", flush=True)
            save_results(NAME, list(kept.values()))
    print(table(of_this_budget()))
    print("written", report(of_this_budget(), args.budget))


if __name__ == "__main__":
    main()
