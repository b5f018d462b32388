"""Which sampler gives the smallest error at equal cost?

    python benchmarks/pinn_sampling.py [--problems one_peak burgers ...] [--samplers uniform rad ...]
                                       [--optimizers ssbroyden] [--seeds 3] [--cost 3000] [--processes 2]

Every run of a problem has the same network, optimiser, number of points and period between two resamplings, and the
same cost. The unit of cost is one gradient of the loss on the points; what a sampler takes beside, for probing the
residual and training its density, is converted by the seconds measured in that very run: cost = gradients + seconds of
the sampler / seconds of a gradient. So a sampler that thinks longer gets fewer gradients.

Seeds begin at 0; what is adjustable was chosen on seeds 100 and above. Medians over the seeds; the spread is largest
over smallest. Saved rows of other problems, samplers and optimisers are kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from typing import Any

import numpy as np
from problems import save_results, saved_rows

PROBLEMS = ("one_peak", "two_peaks", "gaussian_4d", "gaussian_6d", "burgers", "allen_cahn", "wave", "moving_gaussian")
SAMPLERS = ("uniform", "sobol", "rar-g", "rar-d", "rad", "r3", "vrba", "das", "das-g", "aas")
KEYS = ("problem", "sampler", "optimizer", "seed", "cost")


def measured(problem: str, sampler: str, optimizer: str, seed: int, cost: int) -> dict[str, Any]:
    """Return the row of one run."""
    import torch

    from deepcd import pinn

    torch.set_num_threads(1)

    def spent(run: pinn.Run) -> float:
        last = run.history[-1]
        gradient = (last["seconds"] - last["sampler seconds"]) / last["gradients"]
        return last["gradients"] + last["sampler seconds"] / gradient

    run = pinn.solve(
        problem,
        sampler=sampler,
        optimizer=optimizer,
        seed=seed,
        budget=cost,
        callback=lambda run: spent(run) >= cost,
    )
    last = run.history[-1]
    row = {"problem": problem, "sampler": sampler, "optimizer": optimizer, "seed": seed, "cost": cost}
    for name in ("gradients", "seconds", "sampler seconds", "error", "mean square", "largest square", "variance"):
        row[name] = last[name]
    return row | {"metric": run.problem.metric, "points": run.settings.points, "spent": spent(run)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return medians of the error, a line per problem and optimiser, a column per sampler; the smallest in bold."""
    names = [name for name in SAMPLERS if any(row["sampler"] == name for row in rows)]
    lines = ["| problem | optimizer | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for problem, optimizer in dict.fromkeys((row["problem"], row["optimizer"]) for row in rows):
        cells: dict[str, float] = {}
        spreads: dict[str, float] = {}
        for name in names:
            errors = [
                row["error"]
                for row in rows
                if (row["problem"], row["optimizer"], row["sampler"]) == (problem, optimizer, name)
            ]
            if errors:
                cells[name], spreads[name] = float(np.median(errors)), max(errors) / min(errors)
        texts = {name: f"{cells[name]:.1e} (x{spreads[name]:.1f})" for name in cells}
        best = min(cells, key=lambda name: cells[name])
        texts[best] = f"**{texts[best]}**"
        lines.append(f"| {problem} | {optimizer} | " + " | ".join(texts.get(name, "") for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=SAMPLERS)
    parser.add_argument("--optimizers", nargs="+", default=["ssbroyden"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cost", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = [
        (problem, sampler, optimizer, seed, args.cost)
        for problem in args.problems
        for optimizer in args.optimizers
        for seed in range(args.seeds)
        for sampler in args.samplers
    ]
    kept = {tuple(row[key] for key in KEYS): row for row in saved_rows("pinn-sampling")}
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
    print(table([row for row in kept.values() if row["cost"] == args.cost]))
    print("saved", file)


if __name__ == "__main__":
    main()
