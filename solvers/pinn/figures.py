"""Pictures of a run: the fields with their errors and the residual, the training history, and the points over time.

With more than two axes the pictures show a plane: that of the first two axes besides time, at the last time, and in the
middle of all other axes. With one axis they are curves.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from deepcd.data.files import replace
from deepcd.solvers.pinn.run import Run
from deepcd.solvers.pinn.samplers.generative import Generative

SIDE = 201  # number of points along each side of a picture
DECADES = 6  # number of decades that a logarithmic picture shows below its largest value
ROWS = 3  # largest number of fields that are drawn
LEAN = 2.5  # largest ratio of the sides of a picture that is drawn to scale
DARK, LIGHT, GREEN, ORANGE, YELLOW = "#1b3a57", "#999999", "#2a9d8f", "#e76f51", "#e9c46a"
CURVES = {
    "error": ("error", DARK),
    "loss": ("loss", LIGHT),
    "held-out loss": ("loss on held-out points", YELLOW),
    "mean square": ("mean r², uniform points", GREEN),
    "largest square": ("largest r² there", ORANGE),
}

Floats = NDArray[np.float64]


def draw(folder: Path, run: Run) -> list[Path]:
    """Write all pictures of a run into a folder; a viewer never sees an incomplete one.

    Parameters
    ----------
    folder : Path
    run : Run
        A run of at least one round.

    Returns
    -------
    list of Path
        solution.png, history.png, samples.png and, with at least two rounds and two axes, samples.gif.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    view = _view(run)
    pictures = {"solution.png": _solution(run, view), "history.png": _history(run), "samples.png": _samples(run, view)}
    for name, figure in pictures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png")
        replace(folder / name, content.getvalue())
    paths = [folder / name for name in pictures]
    if len(run.film) > 1 and len(view.shown) > 1:
        paths.append(folder / "samples.gif")
        _animate(paths[-1], run, view)
    return paths


class _View(NamedTuple):
    """What a picture shows of the domain: one axis, or a plane of two, at fixed values of the others."""

    run: Run
    shown: tuple[int, ...]
    at: Floats

    def side(self, axis: int) -> Floats:
        """Return SIDE coordinates along an axis."""
        low, high = self.run.bounds[axis].tolist()
        return np.linspace(low, high, SIDE)

    def points(self) -> Floats:
        """Return SIDE points along the axis, or SIDE^2 in the plane, shape (n, d)."""
        sides = [self.side(i) for i in self.shown]
        x = np.tile(self.at, (SIDE ** len(sides), 1))
        for i, part in zip(self.shown, np.meshgrid(*sides, indexing="ij"), strict=True):
            x[:, i] = part.ravel()
        return x

    def place(self) -> str:
        """Return the values of the axes that are not shown."""
        others = [
            f"{a} = {v:.4g}" for i, (a, v) in enumerate(zip(self.run.axes, self.at, strict=True)) if i not in self.shown
        ]
        return "at " + ", ".join([*others[:3], *["..."] * (len(others) > 3)]) if others else ""

    def label(self, axes: Axes, title: str) -> None:
        """Write on a picture of a plane what it shows, and set its limits."""
        names, bounds = [self.run.axes[i] for i in self.shown], [self.run.bounds[i] for i in self.shown]
        sides = [float(high - low) for low, high in bounds]
        to_scale = "t" not in names and max(sides) <= LEAN * min(sides)
        axes.set_aspect("equal" if to_scale else "auto")
        axes.set(title=title, xlabel=names[0], ylabel=names[1], xlim=bounds[0], ylim=bounds[1])


def _view(run: Run) -> _View:
    at = np.array(run.bounds.mean(axis=1))
    shown = list(range(len(run.axes)))
    if len(shown) > 2 and "t" in run.axes:
        time = run.axes.index("t")
        shown.remove(time)
        at[time] = run.bounds[time, 1]
    return _View(run, tuple(shown[:2]), at)


def _solution(run: Run, view: _View) -> Figure:
    """Draw the fields, their errors where they are known, the residual, and the density of a sampler that has one."""
    x = view.points()
    fields, residuals = run.masked(x)
    rows = min(len(fields), ROWS)
    columns: list[list[_Panel]] = [[_Panel(name, u) for name, u in zip(run.fields, fields, strict=True)][:rows]]
    if run.problem.solution is not None:
        errors = np.abs(fields - run.problem.exact(x))
        columns.append([_Panel(f"error of {name}", e, True) for name, e in zip(run.fields, errors, strict=True)][:rows])
    rest = [_Panel("size of the residual", np.linalg.norm(residuals, axis=0), True)]
    if isinstance(run.sampler, Generative):
        with torch.no_grad():
            density = run.sampler.density(torch.from_numpy(x.astype(np.float32))).numpy().astype(float)
        rest.append(_Panel("density of the points, uniform = 1", np.where(np.isnan(fields[0]), np.nan, density), True))
    columns += [rest[k : k + rows] for k in range(0, len(rest), rows)]
    figure = _figure(4.2 * len(columns), 3.6 * rows + 0.5)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for j, column in enumerate(columns):
        for i, axes in enumerate(grid[:, j]):
            if i < len(column):
                _draw(figure, axes, view, column[i])
            else:
                axes.set_axis_off()
    last = run.history[-1]
    how = (
        f"{run.problem.metric} {last['error']:.2e}" if "error" in last else f"residual {last['mean square'] ** 0.5:.2e}"
    )
    lines = textwrap.wrap(run.title, 28 * len(columns), max_lines=3, placeholder=" ...")
    figure.suptitle("\n".join([*lines, ", ".join(filter(None, [how, view.place()]))]), fontsize=11)
    return figure


class _Panel(NamedTuple):
    title: str
    values: Floats
    logarithmic: bool = False


def _draw(figure: Figure, axes: Axes, view: _View, panel: _Panel) -> None:
    """Draw values at the points of a view; what is outside the domain stays white."""
    values = panel.values
    known = values[np.isfinite(values)]
    least, largest = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if panel.logarithmic:
        largest = max(largest, 1e-300)
        least = max(least, largest * 10.0**-DECADES)
        values = np.maximum(values, least)
    if len(view.shown) == 1:
        draw = axes.semilogy if panel.logarithmic else axes.plot
        draw(view.side(0), values, color=DARK)
        axes.set(title=panel.title, xlabel=view.run.axes[0])
        axes.grid(alpha=0.25)
        return
    norm = LogNorm(least, largest * (1 + 1e-9)) if panel.logarithmic else None
    extent = tuple(float(end) for i in view.shown for end in view.run.bounds[i])
    picture = np.ma.masked_invalid(values.reshape(SIDE, SIDE).T)
    image = axes.imshow(picture, origin="lower", extent=extent, norm=norm, cmap="viridis")  # type: ignore[arg-type]
    figure.colorbar(image, ax=axes, shrink=0.85)
    view.label(axes, panel.title)


def _history(run: Run) -> Figure:
    """Draw losses, error, residual, and unknowns if there are any, against seconds."""
    seconds = [row["seconds"] for row in run.history]
    figure = _figure(7.0 if not run.unknowns else 11.0, 4.4)
    axes, *rest = figure.subplots(1, 2 if run.unknowns else 1, squeeze=False)[0]
    for name, (label, colour) in CURVES.items():
        if any(name in row for row in run.history):
            values = [max(row.get(name, np.nan), 1e-300) for row in run.history]
            axes.semilogy(seconds, values, color=colour, label=label, marker=_marker(seconds))
    axes.set(xlabel="seconds")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)
    if run.unknowns:
        _unknowns(rest[0], run, seconds)
    settings = run.settings
    figure.suptitle(f"{run.problem.name}: {settings.sampler}, {settings.optimizer}, {run.steps:,} steps", fontsize=11)
    return figure


def _unknowns(axes: Axes, run: Run, seconds: Sequence[float]) -> None:
    """Draw the unknown parameters over time, with two standard deviations at the end where these are known."""
    deviation = run.deviation
    for name, value in run.unknowns.items():
        past = [row.get(f"unknown: {name}", np.nan) for row in run.history]
        (line,) = axes.plot(seconds, past, marker=_marker(seconds), label=f"{name} = {value:.6g}")
        if name in deviation:
            line.set_label(f"{name} = {value:.6g} ± {deviation[name]:.1g}")
            axes.errorbar(seconds[-1], value, yerr=2 * deviation[name], color=line.get_color(), capsize=4)
    axes.set(xlabel="seconds", title="unknowns")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)


def _marker(seconds: Sequence[float]) -> str:
    return "." if len(seconds) < 10 else ""


def _samples(run: Run, view: _View) -> Figure:
    """Draw the points of six rounds; along one axis, those of all rounds."""
    numbers = sorted(run.film)
    if len(view.shown) == 1:
        figure = _figure(7.0, 3.6)
        axes = figure.subplots()
        for number in numbers:
            x = run.film[number][:, 0]
            axes.plot(x, np.full(len(x), number + 1), "|", markersize=6, alpha=0.3, color=DARK)
        axes.set(title="points", xlabel=run.axes[0], ylabel="round", xlim=run.bounds[0])
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return figure
    chosen = [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, 6).astype(int))]
    figure = _figure(3.0 * len(chosen), 3.3)
    for axes, number in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        axes.plot(*run.film[number][:, view.shown].T, ".", markersize=1.5, color=DARK)
        view.label(axes, f"round {number + 1}")
    return figure


def _animate(path: Path, run: Run, view: _View) -> None:
    numbers = sorted(run.film)
    figure = _figure(4.0, 4.2)
    axes = figure.subplots()
    (dots,) = axes.plot([], [], ".", markersize=2, color=DARK)

    def show(k: int) -> list[Any]:
        dots.set_data(*run.film[numbers[k]][:, view.shown].T)
        view.label(axes, f"round {numbers[k] + 1}")
        return [dots]

    # PillowWriter cannot write to a buffer, so the file is written beside its place and moved.
    beside = path.with_name(f".{path.name}")
    FuncAnimation(figure, show, frames=len(numbers)).save(beside, writer=PillowWriter(fps=6))
    beside.replace(path)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
