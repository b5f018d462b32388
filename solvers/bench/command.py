"""The command ``deepcd bench``: runs every method, prints and saves a row after each run, and writes the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepcd.pde.extras import require
from deepcd.solvers.bench import report
from deepcd.solvers.bench.methods import METHODS
from deepcd.solvers.bench.problems import PROBLEMS
from deepcd.solvers.bench.running import check, save
from deepcd.solvers.bench.running import run as run_all
from deepcd.solvers.console import plain_console

KEYS = ("problem", "size", "method", "tol")
HEADER = (
    f"{'problem':16s} {'size':>4s} {'method':20s} {'iter.':>5s} {'setup':>8s} {'solve':>8s} {'MB':>6s} "
    f"{'residual':>8s}  status"
)


def run(
    problems: Sequence[str],
    sizes: Sequence[str],
    methods: Sequence[str],
    tol: float,
    out: Path,
    *,
    threads: int,
    timeout: float,
) -> Path:
    """Run the benchmark; return the path of the report.

    Parameters
    ----------
    problems, methods : sequence of str
        Names. An empty sequence stands for all.
    sizes : sequence of str
        Cells per edge.
    tol : float
        Relative tolerance of the true residual.
    out : Path
        Folder of the results, which is created if it does not exist. Rows of other runs in its results.json are kept.
    threads : int
        Number of threads of deepcd's methods and of AMGCL.
    timeout : float
        Time limit of a run in seconds.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If a name is unknown, a number is out of range, or results.json is not one of this command.
    """
    require("matplotlib", extra="bench", by="deepcd bench")
    try:
        edges = [int(size) for size in sizes]
    except ValueError:
        raise ValueError(f"sizes must be whole numbers of cells, got {', '.join(sizes)}") from None
    problems, methods = problems or list(PROBLEMS), methods or list(METHODS)
    check(problems, edges, methods, tol)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    kept = {tuple(row[key] for key in KEYS): row for row in _saved(path)}
    console = plain_console()
    console.print(HEADER, style="bold")
    for row in run_all(problems, edges, methods, tol, threads=threads, timeout=timeout):
        kept[tuple(row[key] for key in KEYS)] = row
        console.print(_line(row), style="" if row["status"] == "converged" else "yellow")
        save(path, list(kept.values()))
    rows = sorted(kept.values(), key=_order)
    save(path, rows)
    written = report.write(rows, out)
    for text in report.break_even(rows, report.trained_for()):
        console.print(text)
    console.print(f"Report: {written}")
    return written


def _saved(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run."""
    if not path.exists():
        return []
    with suppress(ValueError, TypeError, KeyError):
        rows = json.loads(path.read_text(encoding="utf-8"))
        if all("status" in row and "tol" in row and _order(row) for row in rows):
            return list(rows)
    raise ValueError(f"{path} holds no rows of this command; give another folder")


def _order(row: dict[str, Any]) -> tuple[int, int, float, int]:
    names = (list(PROBLEMS).index(row["problem"]), list(METHODS).index(row["method"]))
    return names[0], row["size"], row["tol"], names[1]


def _line(row: dict[str, Any]) -> str:
    start = f"{row['problem']:16s} {row['size']:4d} {row['method']:20s} "
    if row["iterations"] is None:
        return f"{start}{'':39s}  {row['status']}"
    return (
        f"{start}{row['iterations']:5d} {row['setup_s']:8.3f} {row['solve_s']:8.3f} {row['peak_bytes'] / 1e6:6.0f} "
        f"{row['residual']:8.1e}  {row['status']}"
    )
