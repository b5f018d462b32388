"""Pictures of a run: the solution with its error and residual, the training history, and the points over time.

In more than two dimensions the pictures show the plane of the first two axes through the centre of the box.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deepcd.data.files import replace
from deepcd.solvers.pinn.run import Run
from deepcd.solvers.pinn.samplers.generative import Generative

SIDE = 201  # number of points along each side of a picture
DECADES = 6  # number of decades that a logarithmic picture shows below its largest value


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
        solution.png, history.png, samples.png and, with at least two rounds, samples.gif.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    pictures = {"solution.png": _solution(run), "history.png": _history(run), "samples.png": _samples(run)}
    for name, figure in pictures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png")
        replace(folder / name, content.getvalue())
    paths = [folder / name for name in pictures]
    if len(run.film) > 1:
        paths.append(folder / "samples.gif")
        _animate(paths[-1], run)
    return paths


def _solution(run: Run) -> Figure:
    """Draw u, its error, the residual and, if the sampler has a flow, the density of the points."""
    plane, extent = _plane(run)
    u, exact, residual = run.predict(plane), run.problem.solution(plane), np.abs(run.residual(plane))
    panels: list[tuple[str, NDArray[np.float64], bool]] = [
        ("u", u, False),
        ("error", np.abs(u - exact), True),
        ("residual", residual, True),
    ]
    if isinstance(run.sampler, Generative):
        with torch.no_grad():
            density = run.sampler.density(torch.from_numpy(plane.astype(np.float32)))
        panels.append(("density of the points, uniform = 1", density.numpy().astype(float), True))
    figure = _figure(4.2 * len(panels), 4.0)
    for axes, (title, values, logarithmic) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        norm: Any = None
        if logarithmic:
            largest = max(float(values.max()), 1e-300)
            least = max(float(values.min()), largest * 10.0**-DECADES)
            norm = LogNorm(least, largest * (1 + 1e-9))
            values = np.maximum(values, least)
        picture = values.reshape(SIDE, SIDE).T
        image = axes.imshow(picture, origin="lower", extent=extent, aspect="auto", norm=norm, cmap="viridis")
        figure.colorbar(image, ax=axes, shrink=0.85)
        _label(axes, run, title)
    figure.suptitle(f"{run.problem.title}: {run.problem.metric} {run.history[-1]['error']:.2e}")
    return figure


def _history(run: Run) -> Figure:
    """Draw error, loss and residual against the number of gradients."""
    gradients = [row["gradients"] for row in run.history]
    figure = _figure(7.0, 4.4)
    axes = figure.subplots()
    for name, colour in (
        ("error", "#1b3a57"),
        ("loss", "#999999"),
        ("mean square", "#2a9d8f"),
        ("largest square", "#e76f51"),
    ):
        label = {"mean square": "mean r² (held out)", "largest square": "largest r² (held out)"}.get(name, name)
        axes.semilogy(gradients, [max(row[name], 1e-300) for row in run.history], color=colour, label=label)
    axes.set(
        xlabel="gradients of the loss", title=f"{run.problem.name}, {run.settings.sampler}, {run.settings.optimizer}"
    )
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)
    return figure


def _samples(run: Run) -> Figure:
    """Draw the points of six rounds."""
    numbers = sorted(run.film)
    chosen = [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, 6).astype(int))]
    figure = _figure(3.0 * len(chosen), 3.3)
    for axes, number in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        points = run.film[number]
        axes.plot(points[:, 0], points[:, min(1, points.shape[1] - 1)], ".", markersize=1.5, color="#1b3a57")
        _label(axes, run, f"round {number + 1}")
    return figure


def _animate(path: Path, run: Run) -> None:
    numbers = sorted(run.film)
    figure = _figure(4.0, 4.2)
    axes = figure.subplots()
    (dots,) = axes.plot([], [], ".", markersize=2, color="#1b3a57")

    def show(k: int) -> list[Any]:
        points = run.film[numbers[k]]
        dots.set_data(points[:, 0], points[:, min(1, points.shape[1] - 1)])
        _label(axes, run, f"round {numbers[k] + 1}")
        return [dots]

    # PillowWriter cannot write to a buffer, so the file is written beside its place and moved.
    beside = path.with_name(f".{path.name}")
    FuncAnimation(figure, show, frames=len(numbers)).save(beside, writer=PillowWriter(fps=6))
    beside.replace(path)


def _plane(run: Run) -> tuple[NDArray[np.float64], tuple[float, float, float, float]]:
    """Return the points of a picture, shape (SIDE^2, d), and the extent of the picture."""
    bounds = run.problem.bounds
    first, second = (np.linspace(low, high, SIDE) for low, high in (bounds[0], bounds[min(1, len(bounds) - 1)]))
    plane = np.tile(bounds.mean(axis=1), (SIDE * SIDE, 1))
    plane[:, 0], plane[:, min(1, len(bounds) - 1)] = (
        part.ravel() for part in np.meshgrid(first, second, indexing="ij")
    )
    return plane, (first[0], first[-1], second[0], second[-1])


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _label(axes: Axes, run: Run, title: str) -> None:
    names, bounds = run.problem.axes, run.problem.bounds
    second = min(1, len(bounds) - 1)
    axes.set(title=title, xlabel=names[0], ylabel=names[second], xlim=bounds[0], ylim=bounds[second])
