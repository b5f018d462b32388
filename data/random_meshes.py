"""Meshes of triangles and tetrahedra by name: nodes near a jittered lattice inside a shape, and nodes on its boundary.

A shape is a signed distance, negative inside. Cells are those of Delaunay's triangulation whose centres are inside, so
they are of about equal size, and slivers lie among tetrahedra, as in meshes that people have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

F64 = NDArray[np.float64]
Distance = Callable[[F64], F64]  # points of shape (n, d) -> their signed distances, shape (n,)

JITTER = 0.25  # how far a node lies from its place in the lattice at most, in spacings
CLEAR = 0.5  # least distance of inner nodes from the boundary, in spacings
FLATTEST = 0.1  # d! times a volume, in cubes of the lattice, below which cells with all nodes on the rim are left out
NOTHING = 1e-4  # the same for cells anywhere


class Shape(NamedTuple):
    """A body: its signed distance, and a box that holds it."""

    distance: Distance
    low: tuple[float, ...]
    high: tuple[float, ...]


class Mesh(NamedTuple):
    """A mesh of simplices.

    Attributes
    ----------
    points : ndarray of float64, shape (n, d)
        Nodes; each belongs to a cell.
    cells : ndarray of int32, shape (m, d + 1)
        Nodes of each cell.
    """

    points: F64
    cells: NDArray[np.int32]


def _box(x: F64, low: tuple[float, ...], high: tuple[float, ...]) -> F64:
    """Return signed distances from a box, exact inside and across faces."""
    outside = np.maximum(np.array(low) - x, x - np.array(high))
    beyond = np.linalg.norm(np.maximum(outside, 0), axis=1)
    return np.where(beyond > 0, beyond, outside.max(axis=1))


def _ball(x: F64, centre: tuple[float, ...], radius: float) -> F64:
    return np.linalg.norm(x - np.array(centre), axis=1) - radius


def _rod(x: F64, axis: int, centre: tuple[float, float], radius: float) -> F64:
    """Return signed distances from an endless cylinder along an axis."""
    return np.linalg.norm(np.delete(x, axis, axis=1) - np.array(centre), axis=1) - radius


def _l_shape(x: F64) -> F64:
    return np.maximum(_box(x, (-1, -1), (1, 1)), -_box(x, (0, 0), (2, 2)))


def _holes(x: F64) -> F64:
    """Return signed distances from a disk with 21 holes."""
    distance, rng = _ball(x, (0.0, 0.0), 1.0), np.random.default_rng(1)
    for k in np.ndindex(5, 5):
        centre = (-0.64 + 0.32 * k[0], -0.64 + 0.32 * k[1])
        if np.hypot(*centre) < 0.84:
            distance = np.maximum(distance, -_ball(x, centre, rng.uniform(0.04, 0.11)))
    return distance


def _bracket(x: F64) -> F64:
    """Return signed distances from two plates at right angles, with bolt holes."""
    distance = np.minimum(_box(x, (0, 0, 0), (2, 1, 0.25)), _box(x, (0, 0, 0), (0.25, 1, 1.5)))
    for along in (0.7, 1.2, 1.7):
        for across in (0.25, 0.75):
            distance = np.maximum(distance, -_rod(x, 2, (along, across), 0.12))
    return np.maximum(distance, -np.maximum(_rod(x, 0, (0.5, 1.0), 0.25), x[:, 0] - 0.3))


def _airfoil(x: F64) -> F64:
    """Return signed distances from a flow's box around an airfoil, NACA 0012 at rest."""
    t = np.linspace(0, 1, 200) ** 2
    half = 0.6 * (0.2969 * np.sqrt(t) - 0.126 * t - 0.3516 * t**2 + 0.2843 * t**3 - 0.1036 * t**4)
    outline = np.concatenate([np.stack([t, half], axis=1), np.stack([t, -half], axis=1)[::-1]])
    inside = (np.abs(x[:, 1]) < np.interp(x[:, 0], t, half, left=0, right=0)) & (x[:, 0] > 0) & (x[:, 0] < 1)
    start, along = outline, np.roll(outline, -1, axis=0) - outline
    far = np.full(len(x), np.inf)
    for a, e in zip(start, along, strict=True):
        place = np.clip((x - a) @ e / max(float(e @ e), 1e-30), 0, 1)
        far = np.minimum(far, np.linalg.norm(x - a - place[:, None] * e, axis=1))
    return np.maximum(_box(x, (-1, -1), (2, 1)), np.where(inside, far, -far))


SHAPES = {
    "square": Shape(lambda x: _box(x, (0, 0), (1, 1)), (0, 0), (1, 1)),
    "l-shape": Shape(_l_shape, (-1, -1), (1, 1)),
    "disk with holes": Shape(_holes, (-1, -1), (1, 1)),
    "airfoil": Shape(_airfoil, (-1, -1), (2, 1)),
    "cube": Shape(lambda x: _box(x, (0, 0, 0), (1, 1, 1)), (0, 0, 0), (1, 1, 1)),
    "bracket": Shape(_bracket, (0, 0, 0), (2, 1, 1.5)),
    "thin plate": Shape(lambda x: _box(x, (0, 0, 0), (2, 2, 0.06)), (0, 0, 0), (2, 2, 0.06)),
}


def random_mesh(shape: str | Shape, nodes: int, rng: np.random.Generator) -> Mesh:
    """Return a mesh of a shape with about so many nodes.

    Parameters
    ----------
    shape : str or Shape
        One of `SHAPES`, or a shape of your own.
    nodes : int
        About how many; slender shapes get more.
    rng : Generator

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_meshes import random_mesh
    >>> points, cells = random_mesh("l-shape", 2000, np.random.default_rng(0))
    >>> points.shape[1], 1500 < len(points) < 2500
    (2, True)
    """
    distance, low, high = SHAPES[shape] if isinstance(shape, str) else shape
    d, sides = len(low), np.array(high, dtype=float) - low
    probes = np.array(low) + rng.random((20_000, d)) * sides
    volume = float(np.mean(distance(probes) < 0)) * float(np.prod(sides))
    h = (volume / nodes) ** (1 / d)
    counts = np.maximum(np.round(sides / h), 1).astype(int)
    axes = [
        start + (np.arange(-1, count + 2)) * side / count for start, side, count in zip(low, sides, counts, strict=True)
    ]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, d)
    inner = lattice + rng.uniform(-JITTER, JITTER, lattice.shape) * h
    inner = inner[distance(inner) < -CLEAR * h]
    rim = lattice[np.abs(distance(lattice)) < 0.75 * h] + rng.uniform(-0.05, 0.05, d) * h
    rim = _thinned(_projected(rim, distance, h), h)
    points = np.concatenate([inner, rim])
    cells = Delaunay(points, qhull_options="Qbb Qc QJ").simplices
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volumes = np.abs(np.linalg.det(edges))
    centres = points[cells].mean(axis=1)
    flat = (volumes < FLATTEST * h**d) & (cells >= len(inner)).all(axis=1)
    cells = cells[(distance(centres) < -1e-3 * h) & ~flat & (volumes > NOTHING * h**d)]
    used, back = np.unique(cells, return_inverse=True)
    return Mesh(points[used], back.reshape(cells.shape).astype(np.int32))


def _projected(x: F64, distance: Distance, h: float) -> F64:
    """Return points moved onto the boundary, by Newton's method; those that do not arrive are left out."""
    for _ in range(4):
        value = distance(x)
        gradient = np.stack([(distance(x + e) - value) / (1e-4 * h) for e in 1e-4 * h * np.eye(x.shape[1])], axis=1)
        x = x - value[:, None] * gradient / np.maximum((gradient**2).sum(axis=1), 1e-12)[:, None]
    return x[np.abs(distance(x)) < 1e-3 * h]


def _thinned(x: F64, h: float) -> F64:
    """Return points without those that are close to one before them that stays."""
    near = cKDTree(x).query_pairs(0.7 * h, output_type="ndarray")
    stays = np.ones(len(x), dtype=bool)
    for first, second in near[np.argsort(near.min(axis=1), kind="stable")].tolist():
        if stays[first] and stays[second]:
            stays[max(first, second)] = False
    return x[stays]
