"""Pictures of a simulation: one per frame, an animation of them, and a sheet with the seconds per frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.data.files import replace
from deepcd.pde import CutSystem, LiquidState
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.smoke import SmokeState
from deepcd.pde.solids import with_solid

EDGE = 320  # pixels on the longer side, approximately
SHOWN = 5  # number of frames on the sheet
PAUSE = 60  # milliseconds between two frames of the animation


def frame(state: SmokeState | LiquidState, system: CutSystem, view: int = 1, *, gas: bool = False) -> bytes:
    """Return a picture in PNG, seen along the axis `view`, which has no meaning in two dimensions.

    Smoke is as dark as the light that it absorbs, hot air is red, a liquid is as blue as it is thick, gas in it is as
    bright as it is thick where that is asked for, and solids are darker the farther away their front is.
    """
    from PIL import Image

    grid = _half_covered(system)
    if isinstance(state, SmokeState):
        colours = _smoke(state, grid, view)
    else:
        colours = _gas(state, grid, view) if gas else _liquid(state, grid, view)
    pixels = (255 * np.clip(colours, 0, 1)).astype(np.uint8)
    pixels = pixels.swapaxes(0, 1)[::-1]
    factor = max(1, round(EDGE / max(pixels.shape[:2])))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.resize((pixels.shape[1] * factor, pixels.shape[0] * factor), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.save(content, format="png")
    return content.getvalue()


def _half_covered(system: CutSystem) -> Grid:
    """Return the grid with those cells solid half of whose faces, or more, are covered."""
    covered, grid = np.zeros(system.shape), system.grid
    for axis, part in enumerate(system.opened):
        n = grid.shape[axis]
        covered += 1 - 0.5 * (np.take(part, range(n), axis) + np.take(part, range(1, n + 1), axis))
    return with_solid(grid, np.equal(grid.cells, Cell.SOLID) | (covered >= 0.5 * len(grid.shape)))


def _smoke(state: SmokeState, grid: Grid, view: int) -> NDArray[np.float64]:
    depth = grid.shape[view] if len(grid.shape) == 3 else 1
    smoke, heat = (_along(field, view) / depth for field in (state.density, np.maximum(state.temperature, 0)))
    dark = np.exp(-10 * smoke)[..., None]
    glow = 1 - np.exp(-6 * heat)[..., None]
    air = np.array([0.96, 0.97, 1.0]) * dark + np.array([0.30, 0.30, 0.34]) * (1 - dark)
    air = air * (1 - 0.6 * glow) + np.array([0.85, 0.25, 0.1]) * 0.6 * glow
    return _with_solids(air, grid, view)


def _liquid(state: LiquidState, grid: Grid, view: int) -> NDArray[np.float64]:
    inside = np.clip(0.5 - state.phi / grid.spacing, 0, 1) * (grid.cells != Cell.SOLID)
    depth = grid.shape[view] if len(grid.shape) == 3 else 1
    share = (_along(inside, view) / depth)[..., None]
    sea = np.array([0.97, 0.97, 0.96]) * (1 - share) + np.array([0.05, 0.30, 0.60]) * share
    return _with_solids(np.where(share > 0, 0.85 * sea + 0.15 * np.array([0.3, 0.6, 0.9]), sea), grid, view)


def _gas(state: LiquidState, grid: Grid, view: int) -> NDArray[np.float64]:
    inside = np.clip(0.5 + state.phi / grid.spacing, 0, 1) * (grid.cells != Cell.SOLID)
    depth = grid.shape[view] if len(grid.shape) == 3 else 1
    bright = 1 - np.exp(-5 * _along(inside, view) / depth)[..., None]
    return _with_solids(np.array([0.09, 0.34, 0.64]) * (1 - bright) + np.array([0.97, 0.97, 0.96]) * bright, grid, view)


def _along(field: NDArray[Any], view: int) -> NDArray[np.float64]:
    """Return the sums along the axis `view` of a field with three axes, and other fields as they are."""
    return np.asarray(field.sum(axis=view) if field.ndim == 3 else field, dtype=np.float64)


def _with_solids(colours: NDArray[np.float64], grid: Grid, view: int) -> NDArray[np.float64]:
    """Draw the solids, darker where they are farther away; smoke in front of them is partly transparent."""
    solid = grid.cells == Cell.SOLID
    if solid.ndim == 2:
        return np.where(solid[..., None], 0.45, colours)
    if view == 2:
        solid = solid[:, :, ::-1]  # from above
    first = np.argmax(solid, axis=view) / solid.shape[view]
    there = solid.any(axis=view)
    shade = (0.75 - 0.5 * first)[..., None] * np.array([1.0, 0.93, 0.80])
    return np.where(there[..., None], 0.65 * shade + 0.35 * colours * shade, colours)


def animation(files: Sequence[Path], path: Path) -> None:
    """Write an animated GIF of pictures."""
    from PIL import Image

    images = [Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE) for file in files]
    content = io.BytesIO()
    images[0].save(content, format="gif", save_all=True, append_images=images[1:], duration=PAUSE, loop=0)
    replace(path, content.getvalue())


def summary(title: str, rows: Sequence[dict[str, float]], files: Sequence[Path], path: Path) -> None:
    """Write a sheet with some of the frames, the seconds that each frame took, and its iterations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(SHOWN, len(files))).round().astype(int))]
    figure = Figure(figsize=(13, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    top, bottom = parts
    for axes, file in zip(np.atleast_1d(top.subplots(1, len(chosen))), chosen, strict=True):
        axes.imshow(imread(file))
        axes.set_axis_off()
        axes.set_title(f"frame {int(file.stem)}", fontsize=9)
    times, counts = bottom.subplots(1, 2)
    at = [row["frame"] for row in rows]
    spent = {name: np.array([row[f"{name}_s"] for row in rows]) for name in ("advection", "setup", "solve")}
    rest = np.maximum(np.array([row["seconds"] for row in rows]) - sum(spent.values()), 0)
    labels = ("advection", "set-up of the solver", "pressure solve", "rest")
    times.stackplot(at, *spent.values(), rest, labels=labels, colors=("#9bb8d3", "#f2b48a", "#c8102e", "#cccccc"))
    times.set(xlabel="frame", ylabel="seconds")
    times.legend(fontsize=8, loc="upper left")
    counts.step(at, [row["iterations"] for row in rows], where="mid", color="#c8102e")
    counts.set(xlabel="frame", ylabel="iterations to the tolerance", ylim=(0, None))
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace(path, picture.getvalue())
