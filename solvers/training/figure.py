"""The live figure of a training run: the loss, and the residual after every unrolled iteration."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from deepcd.data.files import replace
from deepcd.solvers.training.checkpoints import LONGEST, CycleSettings, Log


def draw(path: Path, log: Log, settings: CycleSettings) -> None:
    """Write the figure of a run so far; a viewer never sees an incomplete one.

    Parameters
    ----------
    path : Path
        A .png file.
    log : Log
    settings : CycleSettings

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    step = np.array(log.step) + 1
    unrolled = np.array([len(r) for r in log.residuals])
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True)
    for phase in np.unique(unrolled):
        _curve(left, step[unrolled == phase], np.array(log.loss)[unrolled == phase], "#333333", None)
    left.set(title="loss: log10 of the last residual, 0.3 of the first", xlabel="step")
    colours = colormaps["viridis"](np.linspace(0.9, 0.0, LONGEST))
    for n in range(LONGEST):
        reached = unrolled > n
        values = np.array([r[n] for r in log.residuals if len(r) > n])
        _curve(right, step[reached], values, colours[n], f"iteration {n + 1}")
    right.set(title="relative residual, geometric mean over the batch", xlabel="step")
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.0f}}}$"))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for at in step[1:][np.diff(unrolled) != 0]:
            axes.axvline(at, color="#999999", linewidth=0.8, linestyle=":")
    if log.step:
        right.legend(fontsize=8, ncols=2, loc="lower left", framealpha=0.8)
    skipped = f", {len(log.skipped)} skipped" if log.skipped else ""
    done = max([*log.step, *log.skipped], default=-1) + 1
    figure.suptitle(f"{settings.architecture}, seed {settings.seed}: step {done} of {settings.steps}{skipped}")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace(path, picture.getvalue())


def _curve(axes: Axes, x: NDArray[np.int64], y: NDArray[np.float64], colour: ColorType, label: str | None) -> None:
    """Draw y faintly, and over it its centred running mean over a fortieth of its length."""
    if not len(y):
        return
    half = len(y) // 80
    total = np.concatenate([[0.0], np.cumsum(y)])
    index = np.arange(len(y))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(y))
    axes.plot(x, y, color=colour, alpha=0.15, linewidth=0.6)
    axes.plot(x, (total[last] - total[first]) / (last - first), color=colour, linewidth=1.6, label=label)
