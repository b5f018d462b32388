"""The shapes of a scene: balls, boxes, cylinders and meshes, as its tables give them, and what a grid loses of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde import Mesh, Shape, ball, box, cylinder, icosphere, knot, read_mesh, torus
from deepcd.pde.thickness import wall_thickness
from deepcd.solvers.simulation.tables import SceneError, at, known, numbers

Floats = NDArray[np.float64]

SHAPES: dict[str, tuple[Callable[..., Shape], tuple[str, ...]]] = {
    "ball": (ball, ("center", "radius")),
    "box": (box, ("low", "high")),
    "cylinder": (cylinder, ("center", "radius", "axis")),
}
MESHES: dict[str, Callable[[], Mesh]] = {"knot": knot, "torus": torus, "icosphere": icosphere}
SOLIDS = (*SHAPES, "mesh")
THIN = 0.1  # share of a surface that may be thinner than a cell, as sharp edges of any body are


@dataclass(frozen=True, eq=False)
class Part:
    """A shape of a scene.

    Attributes
    ----------
    where : str
        Its key in the scene, for messages.
    shape : Shape
        Its points.
    low, high : ndarray of float, one number per axis
        Its bounds in units of length, infinite along the axis of a cylinder.
    thickness : callable
        Returns thicknesses in units of length, at places that are spread evenly over its surface.
    """

    where: str
    shape: Shape
    low: Floats
    high: Floats
    thickness: Callable[[], Floats]

    def loss(self, covered: NDArray[np.bool_], spacing: float) -> str:
        """Say what a grid, whose cells that belong to the shape are marked, loses of it; nothing if it is all there."""
        edges = np.array(covered.shape) * spacing
        cells = np.count_nonzero(covered)
        if not cells and ((self.high <= 0) | (self.low >= edges)).any():
            return f"{self.where} lies outside of the box, which spans 0 to {_by(edges)}"
        size = np.maximum(np.minimum(self.high, edges) - np.maximum(self.low, 0), 0) / spacing
        found = self.thickness() / spacing
        thin = found[found < 1]
        if cells and len(thin) <= THIN * len(found):
            return ""
        lost = "is thinner than a cell and loses parts" if cells else "covers no cell"
        what = f"{self.where} {lost}: it is {_by(size)} cells large in the box"
        if not len(thin):
            return f"{what}; enlarge it, or give the box more cells"
        typical = float(np.median(thin))
        finer = f", or give the box {math.ceil(1 / typical)} times as many cells per axis" if typical > 0 else ""
        share = 100 * len(thin) / len(found)
        return f"{what}, and {share:.0f} % of it is {typical:.2g} cells thick; make it thicker than a cell{finer}"


def read_shape(table: Mapping[str, Any], where: str, shape: tuple[int, ...], folder: Path) -> Part:
    """Read the one shape in a table of a scene.

    Parameters
    ----------
    table : mapping
        A table of the scene; its other keys are ignored.
    where : str
        Name of the table in messages.
    shape : tuple of int
        Cells per axis of the box, whose edge along axis 0 is the unit of length.
    folder : Path
        The folder that names of files refer to.

    Returns
    -------
    Part

    Raises
    ------
    SceneError
        If there is not exactly one shape, or its values make no sense.
    """
    kinds = [name for name in SOLIDS if name in table]
    if len(kinds) != 1:
        raise SceneError(f"{where} must hold one of {', '.join(SOLIDS)}, got {', '.join(kinds) or 'none'}")
    own, where = table[kinds[0]], f"{where}.{kinds[0]}"
    with at(where):
        if kinds[0] == "mesh":
            mesh = _mesh(own, where, shape, folder)
            return Part(where, mesh.shape(), *mesh.bounds, lambda: wall_thickness(mesh))
        make, names = SHAPES[kinds[0]]
        known(own, names, where)
        for name in (*names[:2], *own):  # the third has a default
            numbers(own[name], f"{where}.{name}", 1 if name in ("radius", "axis") else len(shape))
        made = make(**own)
    if kinds[0] == "box":
        low, high = np.array(own["low"], dtype=float), np.array(own["high"], dtype=float)
    else:
        reach = np.full(len(shape), float(own["radius"]))
        if kinds[0] == "cylinder":
            reach[int(own.get("axis", -1))] = np.inf
        low, high = np.array(own["center"]) - reach, np.array(own["center"]) + reach
    return Part(where, made, low, high, lambda: np.maximum(high - low, 0).min(keepdims=True))


def _mesh(table: Mapping[str, Any], where: str, shape: tuple[int, ...], folder: Path) -> Mesh:
    known(table, ("file", "name", "fit", "rotation"), where)
    if ("file" in table) == ("name" in table):
        raise SceneError(f"{where} must have either a file or a name ({', '.join(MESHES)})")
    if "name" in table and table["name"] not in tuple(MESHES):
        raise SceneError(f"{where}.name must be one of {', '.join(MESHES)}, got {table['name']!r}")
    if not isinstance(table.get("file", ""), str):
        raise SceneError(f"{where}.file must be a path, got {table['file']!r}")
    mesh = MESHES[table["name"]]() if "name" in table else read_mesh(folder / table["file"])
    everything = ([0.0] * 3, [n / shape[0] for n in shape])
    turned, rotation = None, table.get("rotation")
    if rotation is not None:
        known(rotation, ("axis", "degrees"), f"{where}.rotation")
        with at(f"{where}.rotation"):
            turned = rotation["axis"], rotation["degrees"]
    return mesh.placed(rotation=turned, fit=table.get("fit", everything), within=everything)


def _by(sizes: Floats) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes.tolist())
