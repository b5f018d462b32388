"""The command ``deepcd pinn``: runs of one or several seeds, with metrics and pictures in a folder."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deepcd.data.files import replace
from deepcd.pde.problems import PROBLEMS, problem
from deepcd.solvers.console import plain_console
from deepcd.solvers.pinn.figures import draw
from deepcd.solvers.pinn.run import Run
from deepcd.solvers.pinn.training import solve

CONSOLE = plain_console(stderr=True)


def listing() -> list[dict[str, Any]]:
    """Show a table of all problems, and return its rows."""
    table = Table(box=None)
    for heading in ("problem", "axes", "equation"):
        table.add_column(heading)
    rows = []
    for name in PROBLEMS:
        one = problem(name, solve=lambda A, b: b)
        rows.append({"problem": name, "axes": list(one.axes), "equation": one.title, "metric": one.metric})
        table.add_row(name, " ".join(one.axes), one.title)
    CONSOLE.print(table, soft_wrap=False)
    return rows


def run(name: str, folder: Path, seeds: Sequence[int], threads: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one seed in this process, or several in processes of their own, two at a time.

    Several seeds are also shown as a table.

    Parameters
    ----------
    name : str
        Name of a problem.
    folder : Path
        Folder of the results. If there are several seeds, each gets a folder of its own within it.
    seeds : sequence of int
    threads : int
        Number of threads that torch uses in each process.
    options : dict
        Further arguments of `solve`.

    Returns
    -------
    list of dict
        The metrics of each seed.
    """
    if len(seeds) == 1:
        return [_one(name, folder, seeds[0], threads, options, bar=True)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        jobs = [
            pool.apply_async(_one, (name, folder / f"seed-{seed}", seed, threads, options), {"bar": False})
            for seed in seeds
        ]
        rows = []
        for job in jobs:
            rows.append(job.get())
            CONSOLE.print(f"seed {rows[-1]['seed']}: {rows[-1]['metric']} {rows[-1]['error']:.3e}")
    table = Table(title=f"{name}: {rows[0]['metric']}")
    for heading in ("seed", "error", "mean r²", "largest r²", "gradients", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = (row["error"], row["mean square"], row["largest square"])
        table.add_row(
            str(row["seed"]), *(f"{v:.3e}" for v in numbers), f"{row['gradients']:.0f}", f"{row['seconds']:.0f}"
        )
    table.add_section()
    table.add_row(
        "median", *(f"{np.median([row[k] for row in rows]):.3e}" for k in ("error", "mean square", "largest square"))
    )
    CONSOLE.print(table, soft_wrap=False)
    return rows


def _one(name: str, folder: Path, seed: int, threads: int, options: dict[str, Any], *, bar: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    with _progress(bar) as show:
        trained = solve(name, seed=seed, out=folder, callback=show, **options)
    row = {"problem": name, "sampler": trained.settings.sampler, "optimizer": trained.settings.optimizer, "seed": seed}
    row |= {"metric": trained.problem.metric, **_finite(trained.history[-1])}
    content = {"metrics": row, "history": [_finite(one) for one in trained.history]}
    replace(folder / "metrics.json", json.dumps(content, indent=1, allow_nan=False).encode())
    pictures = draw(folder, trained)
    if bar:
        CONSOLE.print(
            f"{name}: {row['metric']} {row['error']:.3e} after {row['gradients']:.0f} gradients, "
            f"{row['seconds']:.0f} s, of which the sampler took {row['sampler seconds']:.0f} s\n"
            + "\n".join(map(str, pictures))
        )
    return row


@contextmanager
def _progress(bar: bool) -> Iterator[Any]:
    """Yield a callback for `solve` that shows a progress bar, or None without a terminal."""
    if not (bar and CONSOLE.is_terminal):
        yield None
        return
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task("", total=None)

        def show(trained: Run) -> None:
            last = trained.history[-1]
            text = f"loss {last['loss']:.2e}, error {last['error']:.2e}, largest r² {last['largest square']:.1e}"
            progress.update(task, total=trained.settings.budget, completed=int(last["gradients"]), description=text)

        yield show


def _finite(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}
