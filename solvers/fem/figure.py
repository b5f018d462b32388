"""A picture of a solution: contours on a plane mesh, or the surface of a solid in the colours of the solution."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde import FemSystem

F64 = NDArray[np.float64]
Indices = NDArray[np.int64]

COLOURS = "viridis"
LEVELS = 25  # bands of colour on a plane mesh
SMOOTH = 12_000  # triangles that a surface is divided into, at least, so that colours have no steps
AZIMUTH, ELEVATION = np.radians(-58.0), np.radians(26.0)  # from where a solid is seen
# Triangles of a cell by its nodes, in the order of scikit-fem; of second order, corners before midpoints of edges.
TRIANGLES = {3: ((0, 1, 2),), 6: ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)), 4: ((0, 1, 2), (0, 2, 3))}


def picture(system: FemSystem, x: NDArray[np.floating[Any]]) -> bytes:
    """Draw u.

    Parameters
    ----------
    system : FemSystem
    x : ndarray of float, shape (n,)
        A solution of A x = b.

    Returns
    -------
    bytes
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    u = system.values(x)
    low, high = float(u.min()), float(u.max())
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-290):  # a constant has a colour, too
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    norm = Normalize(low, high)
    plane = system.nodes.shape[1] == 2
    width, height = np.ptp(system.nodes, axis=0) if plane else (1.0, 0.85)
    ratio = float(height / width)
    size = (7.2, max(1.9, 1.0 + 5.6 * ratio)) if ratio < 1.2 else (2.2 + 6.6 / ratio, 7.6)
    figure = Figure(figsize=size, dpi=140)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    if plane:
        _contours(axes, system, u, norm)
    else:
        _surface(axes, system, u, norm)
    axes.set_aspect("equal")
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, shrink=0.9, aspect=25)
    bar.set_label("u", rotation=0, labelpad=10)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _contours(axes: Any, system: FemSystem, u: F64, norm: Any) -> None:
    """Draw bands of colour, the outline, and lines between parts with different tags."""
    from matplotlib.collections import LineCollection
    from matplotlib.tri import Triangulation

    cells = np.asarray(system.basis.element_dofs.T)
    triangles = np.concatenate([cells[:, corners] for corners in TRIANGLES[cells.shape[1]]])
    levels = np.linspace(norm.vmin, norm.vmax, LEVELS + 1)
    axes.tricontourf(
        Triangulation(system.nodes[:, 0], system.nodes[:, 1], triangles),
        u,
        levels=levels,
        cmap=COLOURS,
        norm=norm,
        extend="both",
    )
    mesh = system.mesh.mesh
    second = mesh.f2t[1]
    parts: list[tuple[NDArray[np.bool_], dict[str, Any]]] = [
        (second < 0, {"colors": "black", "linewidths": 0.9}),
        (_between(system) & (second >= 0), {"colors": "white", "linewidths": 0.7, "linestyles": "dashed"}),
    ]
    for facets, style in parts:
        axes.add_collection(LineCollection(list(mesh.p[:, mesh.facets[:, facets]].transpose(2, 1, 0)), **style))
    axes.use_sticky_edges = False  # room for the outline
    axes.margins(0.02)
    names = [("x", "y", "z")[axis] for axis in system.mesh.axes]
    axes.set(xlabel=names[0], ylabel=names[1])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _between(system: FemSystem) -> NDArray[np.bool_]:
    """Return which facets lie between cells with different tags."""
    first, second = system.mesh.mesh.f2t
    differs = np.zeros(len(first), dtype=bool)
    for cells in system.mesh.cell_tags.values():
        inside = np.zeros(system.mesh.mesh.nelements, dtype=bool)
        inside[cells] = True
        differs |= inside[first] != inside[second]
    return differs


def _surface(axes: Any, system: FemSystem, u: F64, norm: Any) -> None:
    """Draw the facets that face the viewer, the farthest first, in the colours of u and lit from the viewer's left."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection

    right, up, towards = _view()
    corners, values, normals = _skin(system, u)
    seen = normals @ towards > 0
    corners, values, normals = _divided(corners[seen], values[seen], normals[seen])
    order = np.argsort(corners.mean(axis=1) @ towards)
    light = towards + 0.6 * up - 0.5 * right
    shade = 0.75 + 0.25 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)
    colours = colormaps[COLOURS](norm(values.mean(axis=1)))
    colours[:, :3] *= shade[:, None]
    flat = np.stack([corners @ right, corners @ up], axis=-1)[order]
    # Edges of their own colour: no seams.
    axes.add_collection(
        PolyCollection(list(flat), facecolors=colours[order], edgecolors=colours[order], linewidths=0.4)
    )
    axes.autoscale_view()
    axes.margins(0.03)
    axes.axis("off")
    for axis, name in enumerate("xyz"):  # how the axes of space lie, in a corner
        tip = 0.07 * np.array([right[axis], up[axis]])
        start = np.array([0.09, 0.1])
        arrow = {"arrowstyle": "-|>", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0, "color": "#444444"}
        axes.annotate("", start + tip, start, "axes fraction", "axes fraction", arrowprops=arrow)
        axes.annotate(name, start + 1.35 * tip, xycoords="axes fraction", ha="center", va="center", color="#444444")


def _view() -> tuple[F64, F64, F64]:
    """Return unit vectors to the right, upwards, and towards the viewer."""
    towards = np.array([
        np.cos(ELEVATION) * np.cos(AZIMUTH), np.cos(ELEVATION) * np.sin(AZIMUTH), np.sin(ELEVATION)
    ])  # fmt: skip
    right = np.array([-np.sin(AZIMUTH), np.cos(AZIMUTH), 0.0])
    return right, np.cross(towards, right), towards


def _skin(system: FemSystem, u: F64) -> tuple[F64, F64, F64]:
    """Return the triangles of the boundary, (m, 3, 3), u in their corners, (m, 3), and unit normals outwards."""
    mesh = system.mesh.mesh
    facets = np.asarray(mesh.boundary_facets())
    nodes = mesh.facets[:, facets].T  # those of a quadrilateral go around it
    split = TRIANGLES[nodes.shape[1]]
    triangles = np.concatenate([nodes[:, corners] for corners in split])
    inner = mesh.p[:, mesh.t[:, mesh.f2t[0, facets]]].mean(axis=1).T
    corners = mesh.p.T[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    inwards = ((np.tile(inner, (len(split), 1)) - corners[:, 0]) * normals).sum(axis=1) > 0
    normals[inwards] *= -1
    return corners, u[triangles], normals


def _divided(corners: F64, values: F64, normals: F64) -> tuple[F64, F64, F64]:
    """Return the triangles, each divided into four until they are many."""
    while len(corners) < SMOOTH:
        mid, middle = (corners + np.roll(corners, -1, axis=1)) / 2, (values + np.roll(values, -1, axis=1)) / 2
        parts = [np.stack([corners[:, i], mid[:, i], mid[:, i - 1]], axis=1) for i in range(3)]
        own = [np.stack([values[:, i], middle[:, i], middle[:, i - 1]], axis=1) for i in range(3)]
        corners, values = np.concatenate([*parts, mid]), np.concatenate([*own, middle])
        normals = np.tile(normals, (4, 1))
    return corners, values, normals
