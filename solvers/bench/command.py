"""The command ``deepcd bench``: runs every method, prints and saves a row after each run, and writes the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepcd.pde.extras import require
from deepcd.solvers.bench import cases, report
from deepcd.solvers.bench.methods import METHODS
from deepcd.solvers.bench.problems import PROBLEMS, USUAL
from deepcd.solvers.bench.running import check, save
from deepcd.solvers.bench.running import run as run_all
from deepcd.solvers.console import plain_console

KEYS = ("problem", "size", "method", "tol")
HEADER = (
    f"{'problem':22s} {'size':>8s} {'method':20s} {'iter.':>5s} {'setup':>8s} {'solve':>8s} {'MB':>6s} "
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
    matrix: Path | None = None,
    rhs: Path | None = None,
) -> Path:
    """Run the benchmark; return the path of the report.

    Parameters
    ----------
    problems, methods : sequence of str
        Names. An empty sequence stands for all.
    sizes : sequence of str
        Cells per edge; they are not used for a matrix from a file.
    tol : float
        Relative tolerance of the true residual.
    out : Path
        Folder of the results, which is created if it does not exist. Rows of other runs in its results.json are kept.
    threads : int
        Number of threads of deepcd's methods, of AMGCL and of apxchol.
    timeout : float
        Time limit of a run in seconds.
    matrix, rhs : Path, optional
        Files of a matrix and a right-hand side, which are solved in place of problems by name; see
        `deepcd.solvers.bench.cases.from_files`.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If a name is unknown, a number is out of range, a file holds no system that can be solved, or results.json is
        not one of this command.
    """
    require("matplotlib", extra="bench", by="deepcd bench")
    methods = methods or list(METHODS)
    check(methods, tol)
    chosen = _cases(problems, sizes, tol, matrix, rhs)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    kept = {tuple(row[key] for key in KEYS): row for row in _saved(path)}
    console = plain_console()
    console.print(HEADER, style="bold")
    for row in run_all(chosen, methods, tol, threads=threads, timeout=timeout):
        kept[tuple(row[key] for key in KEYS)] = row
        console.print(_line(row), style="" if row["status"] == "converged" else "yellow")
        save(path, list(kept.values()))
    rows = sorted(kept.values(), key=_order)
    save(path, rows)
    written = report.write(rows, out)
    for text in report.break_even(rows):
        console.print(text)
    console.print(f"Report: {written}")
    return written


def _cases(
    problems: Sequence[str], sizes: Sequence[str], tol: float, matrix: Path | None, rhs: Path | None
) -> list[cases.Case]:
    """Return what to solve."""
    if matrix is not None:
        if problems:
            raise ValueError("give either problems by name or a matrix, not both")
        return [cases.from_files(matrix, rhs, tol)]
    if rhs is not None:
        raise ValueError("a right-hand side needs the matrix that it belongs to")
    try:
        edges = [int(size) for size in sizes]
    except ValueError:
        raise ValueError(f"sizes must be whole numbers of cells, got {', '.join(sizes)}") from None
    return cases.named(problems or USUAL, edges)


def _saved(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run."""
    if not path.exists():
        return []
    with suppress(ValueError, TypeError, KeyError):
        rows = json.loads(path.read_text(encoding="utf-8"))
        if all("status" in row and "tol" in row and _order(row) for row in rows):
            return list(rows)
    raise ValueError(f"{path} holds no rows of this command; give another folder")


def _order(row: dict[str, Any]) -> tuple[int, str, int, float, int]:
    """Return where a row stands: problems by name first, in the order of their list, then matrices from files."""
    name, known = row["problem"], list(PROBLEMS)
    place = known.index(name) if name in known else len(known)
    return place, name, row["size"], row["tol"], list(METHODS).index(row["method"])


def _line(row: dict[str, Any]) -> str:
    start = f"{row['problem']:22s} {row['size']:8d} {row['method']:20s} "
    if row["iterations"] is None:
        return f"{start}{'':39s}  {row['status']}"
    return (
        f"{start}{row['iterations']:5d} {row['setup_s']:8.3f} {row['solve_s']:8.3f} {row['peak_bytes'] / 1e6:6.0f} "
        f"{row['residual']:8.1e}  {row['status']}"
    )
