"""Closed surface meshes of shapes that have a formula: sphere, torus, box and a knotted tube.

All triangles are counterclockwise seen from outside. The vertices lie on the shape, so where a curved shape is convex,
its mesh lies inside it, by the sagitta of the chords.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.meshes import Mesh, MeshError

MAX_SUBDIVISIONS = 9  # makes five million triangles
MAX_KNOT_RADIUS = 0.6  # in units of length; a thicker tube would touch itself

Floats = NDArray[np.float64]


def icosphere(subdivisions: int = 4) -> Mesh:
    """Return the sphere of radius 1 around the origin, from an icosahedron whose triangles are cut into four.

    Parameters
    ----------
    subdivisions : int, default 4
        Number of times that the triangles are cut, from 0 to 9; the result has 20 * 4^subdivisions triangles.

    Returns
    -------
    Mesh

    Raises
    ------
    MeshError
        If subdivisions is not such a number.

    Examples
    --------
    >>> from deepcd.pde import icosphere
    >>> icosphere(0).watertight, len(icosphere(2).triangles), round(icosphere(4).volume, 3)
    (True, 320, 4.18)
    """
    if subdivisions not in range(MAX_SUBDIVISIONS + 1):
        raise MeshError(f"subdivisions must be an integer from 0 to {MAX_SUBDIVISIONS}, got {subdivisions!r}")
    golden = (1 + 5**0.5) / 2
    rectangle = np.array([[-1, golden], [1, golden], [-1, -golden], [1, -golden]])
    vertices = np.vstack([np.roll(np.pad(rectangle, ((0, 0), (0, 1))), shift, axis=1) for shift in range(3)])
    vertices /= np.hypot(1, golden)
    # Three vertices form a triangle if the distance between any two of them is the length of an edge.
    near = np.isclose(np.linalg.norm(vertices[:, None] - vertices, axis=-1), 2 / np.hypot(1, golden))
    i, j, k = np.nonzero(near[:, :, None] & near[:, None, :] & near[None, :, :])
    triangles = np.stack([i, j, k], axis=1)[(i < j) & (j < k)]
    a, b, c = np.moveaxis(vertices[triangles], 1, 0)
    inward = (a * np.cross(b, c)).sum(-1) < 0
    triangles[inward] = triangles[inward, ::-1]
    for _ in range(int(subdivisions)):
        vertices, triangles = _subdivided(vertices, triangles)
    return Mesh(vertices, triangles, "icosphere")


def torus(major: float = 1.0, minor: float = 0.4, around: int = 96, across: int = 48) -> Mesh:
    """Return the torus around the last axis, (sqrt(x^2 + y^2) - major)^2 + z^2 = minor^2.

    Parameters
    ----------
    major, minor : float
        Radius of the circle in the middle of the tube and the smaller radius of the tube, in units of length.
    around, across : int
        Number of vertices along the circle and along each section of the tube, at least 3.

    Returns
    -------
    Mesh

    Raises
    ------
    MeshError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import torus
    >>> ring = torus(2, 0.5)
    >>> ring.watertight, len(ring.triangles), ring.bounds[1].round(6).tolist()
    (True, 9216, [2.5, 2.5, 0.5])
    """
    if not (np.isfinite(major) and 0 < minor < major):
        raise MeshError(f"the radii of a torus must be 0 < minor < major, got major {major!r} and minor {minor!r}")
    angle = _angles(around, "around")
    outward = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    up = np.broadcast_to([0.0, 0.0, 1.0], outward.shape)
    return Mesh(*_tube(major * outward, outward, up, minor, across), "torus")


def knot(radius: float = 0.4, around: int = 256, across: int = 32) -> Mesh:
    """Return a tube around the trefoil knot (sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t).

    Parameters
    ----------
    radius : float, default 0.4
        Radius of the tube, in units of length, at most 0.6; a thicker tube would touch itself.
    around, across : int
        Number of vertices along the knot and along each section of the tube, at least 3.

    Returns
    -------
    Mesh
        The knot, in a box of about 6 x 6 x 3; ``placed(fit=...)`` brings it to size.

    Raises
    ------
    MeshError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import domain, knot
    >>> obstacle = knot().placed(rotation=((1, 0, 0), 90), fit=((4, 4, 4), (28, 28, 28)))
    >>> domain((32, 32, 32), solid=obstacle.shape()).unknowns
    31970
    """
    if not 0 < radius <= MAX_KNOT_RADIUS:
        raise MeshError(f"radius must be positive and at most {MAX_KNOT_RADIUS}, got {radius!r}")
    t = _angles(around, "around")
    curve = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], axis=1)
    first = np.stack([np.cos(t) + 4 * np.cos(2 * t), -np.sin(t) + 4 * np.sin(2 * t), -3 * np.cos(3 * t)], axis=1)
    second = np.stack([-np.sin(t) - 8 * np.sin(2 * t), -np.cos(t) + 8 * np.cos(2 * t), 9 * np.sin(3 * t)], axis=1)
    # The curvature is nowhere zero, so the Frenet frame goes around without a jump.
    binormal = np.cross(first, second)
    binormal /= np.linalg.norm(binormal, axis=1, keepdims=True)
    normal = np.cross(binormal, first)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Mesh(*_tube(curve, binormal, normal, radius, across), "knot")


def box_mesh(low: ArrayLike, high: ArrayLike) -> Mesh:
    """Return the surface of an axis-parallel box as twelve triangles.

    Parameters
    ----------
    low, high : array_like of shape (3,)
        Opposite corners, in units of length.

    Returns
    -------
    Mesh
        The box; its shape holds the same points as :func:`deepcd.pde.box`, low <= x < high.

    Raises
    ------
    MeshError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import box_mesh
    >>> brick = box_mesh((0, 0, 0), (2, 3, 4))
    >>> len(brick.vertices), len(brick.triangles), brick.volume
    (8, 12, 24.0)
    """
    start, end = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    if not (start.shape == end.shape == (3,) and np.isfinite([start, end]).all() and (start < end).all()):
        raise MeshError(f"low and high must be three finite coordinates each, low < high; got {low!r} and {high!r}")
    vertices = np.where(np.indices((2, 2, 2)).reshape(3, -1).T == 1, end, start)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return Mesh(vertices, np.vstack([quads[:, :3], quads[:, [0, 2, 3]]]), "box")


def _tube(curve: Floats, across: Floats, up: Floats, radius: float, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return vertices and triangles of a tube around a closed curve; across x up points backward along the curve."""
    angle = _angles(count, "across")[:, None]
    ring = np.cos(angle) * across[:, None] + np.sin(angle) * up[:, None]
    vertices = (curve[:, None] + radius * ring).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(len(curve), count)
    ahead = np.roll(number, -1, axis=0)
    a, b, c, d = (v.ravel() for v in (number, ahead, np.roll(ahead, -1, axis=1), np.roll(number, -1, axis=1)))
    return vertices, np.vstack([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def _subdivided(vertices: Floats, triangles: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Cut each triangle of a sphere into four at the middles of its edges."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2).reshape(-1, 2)
    distinct, number = np.unique(edges[:, 0] * len(vertices) + edges[:, 1], return_inverse=True)
    middles = vertices[distinct // len(vertices)] + vertices[distinct % len(vertices)]
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    (a, b, c), (ab, bc, ca) = triangles.T, len(vertices) + number.reshape(-1, 3).T
    parts = [np.stack(corners, axis=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.vstack([vertices, middles]), np.vstack(parts)


def _angles(count: int, name: str) -> Floats:
    if count != int(count) or count < 3:
        raise MeshError(f"{name} must be an integer from 3 up, got {count!r}")
    return np.linspace(0, 2 * np.pi, int(count), endpoint=False)
