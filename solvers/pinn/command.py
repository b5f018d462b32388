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
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deepcd.data.files import replace
from deepcd.pde.problems import PROBLEMS, problem
from deepcd.solvers.console import plain_console
from deepcd.solvers.pinn.figures import draw
from deepcd.solvers.pinn.own import own_problem
from deepcd.solvers.pinn.run import Run
from deepcd.solvers.pinn.training import solve

FIELDS = "fields.safetensors"
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
        Name of a problem, or "file.py:name" for one that a program states, which is executed.
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
            CONSOLE.print(f"seed {rows[-1]['seed']}: {_result(rows[-1])}")
    CONSOLE.print(_table(name, rows), soft_wrap=False)
    return rows


def _one(name: str, folder: Path, seed: int, threads: int, options: dict[str, Any], *, bar: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    stated = own_problem(name) if ":" in name or name.endswith(".py") else name
    with _progress(bar) as show:
        trained = solve(stated, seed=seed, out=folder, callback=show, **options)
    row = {"problem": name, "sampler": trained.settings.sampler, "optimizer": trained.settings.optimizer, "seed": seed}
    row |= {"metric": trained.problem.metric} if trained.problem.solution is not None else {}
    row |= _finite(trained.history[-1]) | {"residual rms": trained.residual_rms}
    row |= {"unknowns": trained.unknowns, "deviations": trained.deviation}
    content = {"metrics": row, "history": [_finite(one) for one in trained.history]}
    replace(folder / "metrics.json", json.dumps(content, indent=1, allow_nan=False).encode())
    written = draw(folder, trained)
    try:
        trained.save(folder / FIELDS)
        written.append(folder / FIELDS)
    except ValueError as error:  # the run is good, even if its equation has a function that no file can hold
        CONSOLE.print(f"{FIELDS} is not written: {error}")
    if bar:
        CONSOLE.print(
            f"{name}: {_result(row)} after {row['steps']:.0f} steps, "
            f"{row['seconds']:.0f} s, of which the sampler took {row['sampler seconds']:.0f} s\n"
            + "\n".join(map(str, written))
        )
    return row


def _result(row: dict[str, Any]) -> str:
    """Return what a run has come to, in words."""
    size = f"{row['metric']} {row['error']:.3e}" if "error" in row else f"residual rms {row['residual rms']:.3e}"
    found = [
        f"{name} = {value:.6g}" + (f" ± {row['deviations'][name]:.1g}" if name in row["deviations"] else "")
        for name, value in row["unknowns"].items()
    ]
    return ", ".join([size, *found])


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    """Return the table of several seeds: the error where it is known, else the residual."""
    known = all("error" in row for row in rows)
    table = Table(title=f"{name}: {rows[0]['metric']}" if known else name)
    size = "error" if known else "residual rms"
    shown = {size: (".3e", [row[size] for row in rows]), "largest r²": (".3e", [row["largest square"] for row in rows])}
    shown |= {unknown: (".6g", [row["unknowns"][unknown] for row in rows]) for unknown in rows[0]["unknowns"]}
    texts = {
        heading: [f"{v:{form}}" for v in [*values, np.median(values)]] for heading, (form, values) in shown.items()
    }
    for heading in ("seed", *texts, "steps", "seconds"):
        table.add_column(heading, justify="right")
    for k, row in enumerate(rows):
        table.add_row(str(row["seed"]), *(t[k] for t in texts.values()), f"{row['steps']:.0f}", f"{row['seconds']:.0f}")
    table.add_section()
    table.add_row("median", *(t[-1] for t in texts.values()))
    return table


@contextmanager
def _progress(bar: bool) -> Iterator[Any]:
    """Yield a callback for `solve` that shows a progress bar, or None without a terminal."""
    if not (bar and CONSOLE.is_terminal):
        yield None
        return
    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task("", total=1.0)

        def show(trained: Run) -> None:
            last = trained.history[-1]
            error = f"error {last['error']:.2e}, " if "error" in last else ""
            text = f"step {trained.steps}, loss {last['loss']:.2e}, {error}largest r² {last['largest square']:.1e}"
            settings = trained.settings
            shares = [trained.steps / (settings.steps or math.inf), trained.seconds / (settings.budget or math.inf)]
            progress.update(task, completed=max(shares), description=text)

        yield show


def _finite(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}
