"""The report of the benchmark: figures, a page that opens from disk, and the number of solves that pay for a training.

Curves over time begin with the set-up, and all iterations of a solve count as equally long. The curve of a method that
does not report its residuals is a straight line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.data import weight_files
from deepcd.solvers.bench import page
from deepcd.solvers.bench.methods import CLASSICAL, METHODS
from deepcd.solvers.bench.problems import COEFFICIENTS, FAMILIES, PROBLEMS

Row = dict[str, Any]
NETWORKS = {"learned-multigrid": "learned-multigrid-3d/2", "dcdm": "dcdm-64/1"}
FACTORS = "face-multigrid-3d/1"  # the networks of "learned-multigrid" where couplings differ
CONSTANT = ("boxes", "obstacles")  # families where they do not
# Seconds of the earlier phases of training; the record of the shipped weights has only the last phase.
EARLIER = {"learned-multigrid": 66 * 60.0, "dcdm": 276.0 + 2164.0 + 2913.0}
NOT_RUN = ("not installed", "left out")  # how the status of methods begins that solved nothing
SETUP_AND_SOLVE = ("setup_s", "solve_s")
COLUMNS = ("problem", "size", "method", "tol", "unknowns", "iterations", "setup s", "solve s", "total s",
           "peak MB", "residual", "status")  # fmt: skip


Place = tuple[str, int, float]


def places(rows: Sequence[Row]) -> dict[Place, list[Row]]:
    """Return the rows by problem, size and tolerance, which the runs that are compared have in common."""
    found: dict[Place, list[Row]] = {}
    for row in rows:
        found.setdefault((row["problem"], row["size"], row["tol"]), []).append(row)
    return found


def extent(problem: str, size: int) -> str:
    """Return how large a problem is, as a text: a cube's edge, or the rows of a matrix from a file."""
    return f"{size}^3" if problem in PROBLEMS else f"{size:,d} rows"


def total(row: Row, parts: Sequence[str] = SETUP_AND_SOLVE) -> float:
    """Return the seconds of set-up and solve, or of one of them; infinity where the run did not converge."""
    return float(sum(row[part] for part in parts)) if row["status"] == "converged" else math.inf


def trained_for(problem: str) -> dict[str, float]:
    """Return the seconds that the training of each shipped network took that a problem is solved with."""
    records = {name: weight_files.load(None, architecture)[1] for name, architecture in NETWORKS.items()}
    took = {name: float(record["seconds"]) + EARLIER[name] for name, record in records.items()}
    if problem not in CONSTANT and (problem in COEFFICIENTS or problem in FAMILIES):
        took["learned-multigrid"] = float(weight_files.load(None, FACTORS)[1]["seconds"])
    return took


def break_even(rows: Sequence[Row], training: Callable[[str], dict[str, float]] = trained_for) -> list[str]:
    """Return sentences: after how many solves each network's training pays, against the fastest classical method.

    Each sentence has two numbers: one for systems that each have a matrix of their own, where set-up counts, and one
    for right-hand sides on one matrix, where it does not count.
    """
    lines = []
    for place, here in places(rows).items():
        own, where = {row["method"]: row for row in here}, f"{place[0]}, {extent(*place[:2])}"
        rivals = [name for name in own if name in CLASSICAL]
        if not rivals:
            continue
        for network, seconds in training(place[0]).items():
            if network not in own or own[network]["status"].startswith(NOT_RUN):
                continue
            if total(own[network]) == math.inf:
                lines.append(f"{where}: {network} did not converge, so its training is never paid for.")
                continue
            said = []
            for what, parts in (("systems", SETUP_AND_SOLVE), ("right-hand sides on one matrix", ("solve_s",))):
                best = min(rivals, key=lambda name: total(own[name], parts))
                gain = total(own[best], parts) - total(own[network], parts)
                if 0 < gain < math.inf:
                    said.append(f"after {_rounded(seconds / gain)} {what} (the next is {best})")
                elif gain == math.inf:
                    said.append(f"with the first of {what} (nothing classical converged)")
                else:
                    said.append(f"never with {what} ({best} is faster)")
            lines.append(f"{where}: training of {network} has paid for itself {'; '.join(said)}.")
    return lines


def _rounded(count: float) -> str:
    """Return a number of solves, rounded up to two digits, since measured seconds have no more."""
    number = math.ceil(count)
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // unit) * unit:,d}"


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, as texts."""

    def text(value: Any, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        [
            row["problem"], str(row["size"]), row["method"], f"{row['tol']:g}", text(row["unknowns"], "d"),
            text(row["iterations"], "d"), text(row["setup_s"], ".3f"), text(row["solve_s"], ".3f"),
            "" if row["setup_s"] is None else f"{row['setup_s'] + row['solve_s']:.3f}",
            "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
            text(row["residual"], ".1e"), row["status"],
        ]
        for row in rows
    ]  # fmt: skip


def summary(rows: Sequence[Row]) -> str:
    """Return a Markdown table per size and tolerance: seconds of set-up and solve, iterations in brackets.

    The fastest method of a column is bold; the cell of a run that did not converge has the first words of its status.
    """

    def cell(row: Row | None, best: float) -> str:
        if row is None:
            return ""
        if total(row) == math.inf:
            return str(row["status"]).partition(":")[0]
        text = f"{total(row):{'.2g' if total(row) < 10 else '.0f'}} ({row['iterations']})"
        return f"**{text}**" if total(row) == best else text

    def sized(row: Row) -> tuple[str, float]:
        return extent(row["problem"], row["size"]), row["tol"]

    blocks = []
    for size, tol in dict.fromkeys(map(sized, rows)):
        found = {(row["method"], row["problem"]): row for row in rows if sized(row) == (size, tol)}
        problems = list(dict.fromkeys(problem for _, problem in found))
        best = {name: min(total(row) for (_, own), row in found.items() if own == name) for name in problems}
        lines = ["| " + " | ".join([f"{size}, to {tol:g}", *problems]) + " |", "|---" * (len(problems) + 1) + "|"]
        for method in (name for name in METHODS if any(name == own for own, _ in found)):
            cells = [cell(found.get((method, name)), best[name]) for name in problems]
            lines.append("| " + " | ".join([method, *cells]) + " |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def write(rows: Sequence[Row], folder: Path) -> Path:
    """Draw the figures, and write the page and its summary, ``tables.md``.

    Parameters
    ----------
    rows : sequence of dict
        Rows of `deepcd.solvers.bench.running.run`.
    folder : Path
        Folder of the files; it exists.

    Returns
    -------
    Path
        Path of ``report.html``.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    figures = [_time_against_unknowns(rows, folder / "time-against-unknowns.png")]
    even = break_even(rows)
    if even:
        figures.append(_paying(rows, folder / "break-even.png"))
    figures += [_residuals(own, folder / f"{_stem(own[0])}.png") for own in places(rows).values()]
    (folder / "tables.md").write_text(summary(rows), encoding="utf-8")
    text = (
        "Each row is one run in a process of its own: seconds of set-up and of the solve (medians of five where that "
        "takes less than a second), memory above the memory in use before, and the true residual |b - A x| / |b|, "
        "recomputed in float64. Methods of deepcd get the bare matrix and find its grid during set-up. A click on the "
        "head of a column sorts the table. The first cell of a row leads to its residual curve, which is a straight "
        "line for methods that do not report their residuals."
    )
    path = folder / "report.html"
    page.write(
        path,
        "Linear systems, method by method",
        [text, *even],
        figures,
        COLUMNS,
        table(rows),
        [_stem(row) for row in rows],
    )
    return path


def _stem(row: Row) -> str:
    """Return the stem of the figure that has the residual curve of a row, which is part of a link."""
    return f"residuals-{re.sub('[^a-zA-Z0-9.+-]', '_', row['problem'])}-{row['size']}-{row['tol']:g}"


def _style(method: str) -> dict[str, Any]:
    index = list(METHODS).index(method)
    ours = method in NETWORKS
    return {"label": method, "color": f"C{index % 10}", "ls": ("-", "--", ":")[index // 10], "lw": 2.6 if ours else 1.3}


def _residuals(rows: Sequence[Row], path: Path) -> Path:
    """Draw the residual against iterations and against seconds."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    for row in rows:
        curve = np.array(row["residuals"] or [1.0, row["residual"]] if row["residual"] is not None else [])
        if not curve.size or not row["iterations"]:
            continue
        share = np.linspace(0, 1, len(curve))
        left.semilogy(share * max(row["iterations"], 1), curve, **_style(row["method"]))
        right.semilogy(row["setup_s"] + share * row["solve_s"], curve, **_style(row["method"]))
    left.set(xscale="symlog", xlabel="iterations", ylabel="residual relative to b")
    right.set(xscale="log", xlabel="seconds, set-up included")
    for axes in (left, right):
        axes.axhline(rows[0]["tol"], color="#999999", lw=0.8, ls=":")
        axes.grid(alpha=0.25)
    if left.lines[1:]:
        handles = right.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    figure.suptitle(f"{rows[0]['problem']}, {extent(rows[0]['problem'], rows[0]['size'])}")
    return _saved(figure, path)


def _panels(problems: Sequence[str]) -> tuple[Any, Any]:
    """Return a figure and its axes, a panel per problem, four in a row."""
    import matplotlib.pyplot as plt

    columns = min(4, len(problems))
    lines = -(-len(problems) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 3.6 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(problems) :]:
        axis.set_visible(False)
    for axis in axes.flat:
        axis.grid(alpha=0.25)
    return figure, axes


def _time_against_unknowns(rows: Sequence[Row], path: Path) -> Path:
    """Draw the seconds of the runs that converged, a panel per problem."""
    from matplotlib.ticker import NullFormatter

    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, axes = _panels(problems)
    for axis, problem in zip(axes.flat, problems, strict=False):
        for method in METHODS:
            own = [r for r in rows if (r["problem"], r["method"]) == (problem, method) and total(r) < math.inf]
            if own:
                own.sort(key=lambda row: row["unknowns"])
                axis.loglog([r["unknowns"] for r in own], [total(r) for r in own], marker="o", **_style(method))
        axis.set_title(problem)
        axis.xaxis.set_minor_formatter(NullFormatter())  # sizes within one decade: their labels would overlap
    axes[-1, 0].set(xlabel="unknowns", ylabel="seconds, set-up and solve")
    named = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if named:
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=8, frameon=False)
    return _saved(figure, path)


def _paying(rows: Sequence[Row], path: Path) -> Path:
    """Draw the seconds spent so far, training included, against the systems solved, each problem's largest size."""
    largest: dict[str, int] = {}
    for row in rows:
        largest[row["problem"]] = max(row["size"], largest.get(row["problem"], 0))
    figure, axes = _panels(list(largest))
    solves = np.geomspace(1, 1e6, 200)
    for axis, (problem, size) in zip(axes.flat, largest.items(), strict=False):
        own = {r["method"]: total(r) for r in rows if (r["problem"], r["size"]) == (problem, size)}
        training = trained_for(problem)
        rivals = sorted((name for name in own if name in CLASSICAL and own[name] < math.inf), key=lambda n: own[n])
        for name in [*rivals[:3], *(n for n in training if own.get(n, math.inf) < math.inf)]:
            axis.loglog(solves, training.get(name, 0.0) + solves * own[name], **_style(name))
        axis.set_title(f"{problem}, {extent(problem, size)}")
        axis.legend(fontsize=7)
    axes[-1, 0].set(xlabel="systems solved, each with a matrix of its own", ylabel="seconds, training included")
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    """Write a figure and close it."""
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path
