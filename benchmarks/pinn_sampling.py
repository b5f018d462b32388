"""Which sampler gives the smallest error at equal cost?

    python -m benchmarks.pinn_sampling [--problems one_peak burgers ...] [--samplers uniform rad ...]
                                       [--optimizers ssbroyden] [--seeds 3] [--cost 3000] [--processes 2]
    python -m benchmarks.pinn_sampling --draw        writes figure and page from the saved runs

Every run of a problem has the same network, optimiser, number of points and period between two resamplings, and the
same cost. The unit of cost is one gradient of the loss on the points. The time that a sampler itself takes, for probing
the residual and training its density, is converted by the seconds measured in the same run: cost = gradients + seconds
of the sampler / seconds of a gradient. So a sampler that takes more time gets fewer gradients.

Seeds begin at 0; adjustable parameters were chosen on seeds from 100 up. Results are medians over the seeds, and the
spread is the largest error over the smallest. Saved rows of other problems, samplers, optimisers and costs are kept.
Besides the rows, a figure (error against cost) and a page with the table, which opens from disk, are written.
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

PROBLEMS = ("one_peak", "two_peaks", "gaussian_4d", "gaussian_6d", "burgers", "allen_cahn", "wave", "moving_gaussian")
SAMPLERS = ("uniform", "sobol", "rar-g", "rar-d", "rad", "r3", "vrba", "das", "das-g", "aas")
MEASURED = ("gradients", "seconds", "sampler seconds", "error", "mean square", "largest square", "variance")
KEYS = ("problem", "sampler", "optimizer", "seed", "cost")


def measured(problem: str, sampler: str, optimizer: str, seed: int, cost: int) -> dict[str, Any]:
    """Return the row of one run."""
    import torch

    from deepcd import pinn

    torch.set_num_threads(1)

    def spent(row: dict[str, float]) -> float:
        gradient = (row["seconds"] - row["sampler seconds"]) / row["gradients"]
        return row["gradients"] + row["sampler seconds"] / gradient

    run = pinn.solve(
        problem,
        sampler=sampler,
        optimizer=optimizer,
        seed=seed,
        budget=cost,
        callback=lambda run: spent(run.history[-1]) >= cost,
    )
    last = run.history[-1]
    row: dict[str, Any] = {"problem": problem, "sampler": sampler, "optimizer": optimizer, "seed": seed, "cost": cost}
    row |= {name: last[name] for name in MEASURED}
    curve = [[round(spent(each)), float(f"{each['error']:.3g}")] for each in run.history]
    return row | {"metric": run.problem.metric, "points": run.settings.points, "spent": spent(last), "curve": curve}


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Return the runs that differ in their seeds only, by problem, optimiser and sampler."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: SAMPLERS.index(row["sampler"])):
        found.setdefault((row["problem"], row["optimizer"], row["sampler"]), []).append(row)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return medians of the error, a line per problem and optimiser, a column per sampler; the smallest in bold."""
    names = [name for name in SAMPLERS if any(row["sampler"] == name for row in rows)]
    lines = ["| problem | optimizer | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    runs = groups(rows)
    for problem, optimizer in dict.fromkeys((row["problem"], row["optimizer"]) for row in rows):
        own = {name: [r["error"] for r in runs[key]] for name in names if (key := (problem, optimizer, name)) in runs}
        cells = {name: float(np.median(errors)) for name, errors in own.items()}
        spreads = {name: max(errors) / min(errors) for name, errors in own.items()}
        texts = {name: f"{cells[name]:.1e} (x{spreads[name]:.1f})" for name in cells}
        best = min(cells, key=lambda name: cells[name])
        texts[best] = f"**{texts[best]}**"
        lines.append(f"| {problem} | {optimizer} | " + " | ".join(texts.get(name, "") for name in names) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], cost: int) -> Path:
    """Draw the median error against the cost, a panel per problem and optimiser, a line per sampler."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    runs = groups(rows)
    panels = list(dict.fromkeys((problem, optimizer) for problem, optimizer, _ in runs))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 3.4 * lines), layout="constrained", squeeze=False
    )
    at = np.linspace(cost / 20, cost, 100)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for colour, sampler in enumerate(SAMPLERS):
            own = runs.get((*panel, sampler), [])
            if own:
                # The error at a cost is the error after the last round that had ended by then.
                curves = [np.array(row["curve"]).T for row in own]
                errors = [error[np.searchsorted(spent, at, "right").clip(1) - 1] for spent, error in curves]
                thick = 2.6 if sampler == "aas" else 1.2
                axis.plot(at, np.median(errors, axis=0), label=sampler, color=f"C{colour}", lw=thick)
        axis.set_yscale("log")
        axis.set_title(f"{panel[0]}, {panel[1]}")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    axes[-1, 0].set_xlabel("cost: gradients, and the sampler's time in gradients")
    handles = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("Median error against cost")
    path = RESULTS / "pinn-sampling.png"
    figure.savefig(path, dpi=100)
    return path


def report(rows: list[dict[str, Any]], cost: int) -> Path:
    """Write the figure and the page."""
    head = [
        "problem", "optimiser", "sampler", "seeds", "measure", "median error", "largest / smallest error", "gradients",
        "seconds", "sampler's share", "mean r^2", "variance of r^2", "largest r^2",
    ]  # fmt: skip
    lines = []
    for (problem, optimizer, sampler), own in groups(rows).items():
        median = {name: float(np.median([row[name] for row in own])) for name in MEASURED}
        errors = [row["error"] for row in own]
        share = median["sampler seconds"] / median["seconds"]
        line = [problem, optimizer, sampler, str(len(own)), own[0]["metric"], f"{median['error']:.2e}"]
        line += [f"{max(errors) / min(errors):.1f}", f"{median['gradients']:.0f}", f"{median['seconds']:.0f}"]
        line += [f"{share:.2f}", *(f"{median[name]:.2e}" for name in ("mean square", "variance", "largest square"))]
        lines.append(line)
    text = (
        f"Networks were trained with points of different samplers, at a cost of {cost} gradients each. The seconds "
        "that a sampler itself takes are converted to gradients by the seconds per gradient of that run. Numbers are "
        "medians over the seeds; r is the residual on a held-out uniform set. A click on the head of a column sorts "
        "the table."
    )
    path = RESULTS / "pinn-sampling.html"
    page.write(path, "Samplers at equal cost", [text], [draw(rows, cost)], head, lines)
    return path


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    parser.add_argument("--optimizers", nargs="+", default=["ssbroyden"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cost", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="only write figure and page, from the saved runs")
    args = parser.parse_args()
    saved = saved_rows("pinn-sampling")
    if args.draw:
        print("written", report([row for row in saved if row["cost"] == args.cost], args.cost))
        return
    jobs = [
        (problem, sampler, optimizer, seed, args.cost)
        for problem in args.problems
        for optimizer in args.optimizers
        for seed in range(args.seeds)
        for sampler in args.samplers
    ]
    kept = {tuple(row[key] for key in KEYS): row for row in saved}
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for done in [pool.apply_async(measured, job) for job in jobs]:
            row = done.get()
            kept[tuple(row[key] for key in KEYS)] = row
            print(
                f"{row['problem']:16s} {row['sampler']:8s} {row['optimizer']} seed {row['seed']}: {row['metric']} "
                f"{row['error']:.2e}, {row['gradients']:.0f} gradients, {row['seconds']:.0f} s",
                flush=True,
            )
            file = save_results("pinn-sampling", list(kept.values()), cost=args.cost)
    rows = [row for row in kept.values() if row["cost"] == args.cost]
    print(table(rows))
    print("saved", file)
    print("written", report(rows, args.cost))


if __name__ == "__main__":
    main()
