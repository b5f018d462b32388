"""Triangulations of polygons: ears are cut off, and the longest edges bisected until all are short."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
TOUCHING = 1e-12  # distance from an ear, in units of its height, at which a corner lies in it


def ears(corners: Floats) -> Indices:
    """Cut a simple polygon into triangles between its corners; the fattest ear first.

    Parameters
    ----------
    corners : ndarray of float64, shape (m, 2)
        In order, clockwise or counterclockwise.

    Returns
    -------
    ndarray of int64, shape (m - 2, 3)
        The corners of each triangle, counterclockwise.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.regions.triangles import ears
    >>> ears(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [[3, 0, 1], [1, 2, 3]]
    """
    left = np.arange(len(corners))
    if _twice(corners, np.roll(corners, -1, axis=0), corners.mean(axis=0)).sum() < 0:
        left = left[::-1]
    triangles = []
    while len(left) > 3:
        candidates = np.stack([np.roll(left, 1), left, np.roll(left, -1)], axis=1)
        a, b, c = corners[candidates].swapaxes(0, 1)
        longest = np.maximum.reduce([((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a))])
        order = np.argsort(-_twice(a, b, c) / longest, kind="stable")
        best = next(int(k) for k in order if _empty(corners, left, candidates[k]))
        triangles.append(candidates[best])
        left = np.delete(left, best)
    return np.array([*triangles, left], dtype=np.int64)


def bisected(points: Floats, triangles: Indices, longest: float) -> tuple[Floats, Indices]:
    """Bisect edges until none is longer than a bound; in each triangle that is cut, the longest edge is.

    Angles stay above half of the smallest one (Rosenberg and Stenger, Math. Comp. 29, 1975; Rivara, IJNME 20, 1984).

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
    triangles : ndarray of int64, shape (m, 3)
        They meet in whole edges.
    longest : float
        The bound, in units of length.

    Returns
    -------
    points, triangles : ndarray of float64 and int64, shapes (n', 2) and (m', 3)
        The old points are the first.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.regions.triangles import bisected
    >>> points, triangles = bisected(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]]), 1.0)
    >>> points[3:].tolist(), triangles.tolist()
    ([[0.5, 0.5]], [[3, 0, 1], [3, 2, 0]])
    """
    while True:
        sides = np.sort(triangles[:, [[1, 2], [2, 0], [0, 1]]], axis=2)  # side k is opposite to corner k
        keys, number = np.unique(sides[..., 0] * len(points) + sides[..., 1], return_inverse=True)
        number = number.reshape(-1, 3)
        first, second = points[keys // len(points)], points[keys % len(points)]
        length = np.hypot(*(second - first).T)
        marked = length > longest
        if not marked.any():
            return points, triangles
        base = length[number].argmax(axis=1)
        turn = (base[:, None] + np.arange(3)) % 3  # the longest side comes to be opposite to the first corner
        triangles, number = np.take_along_axis(triangles, turn, 1), np.take_along_axis(number, turn, 1)
        before, count = -1, int(marked.sum())
        while count > before:  # no triangle keeps its longest side while another one is cut
            before = count
            marked[number[marked[number].any(axis=1), 0]] = True
            count = int(marked.sum())
        middle = np.full(len(keys), -1)
        middle[marked] = len(points) + np.arange(count)
        points = np.vstack([points, 0.5 * (first + second)[marked]])
        triangles = _cut(triangles, middle[number])


def _cut(triangles: Indices, middle: Indices) -> Indices:
    """Cut triangles at the middles of their sides, -1 where a side stays; the first side is cut wherever another is."""
    whole = middle[:, 0] < 0
    a, b, c = triangles[~whole].T
    m, at_b, at_c = middle[~whole].T  # middles of bc, ca and ab
    parts = [triangles[whole]]
    for p, q, between in ((a, b, at_c), (c, a, at_b)):
        cut = between >= 0
        parts.append(np.stack([m, p, q], axis=1)[~cut])
        parts.append(np.stack([m, p, between], axis=1)[cut])
        parts.append(np.stack([m, between, q], axis=1)[cut])
    return np.vstack(parts)


def _empty(corners: Floats, left: Indices, ear: Indices) -> bool:
    """Tell whether a triangle has an area, and no other corner lies in it."""
    a, b, c = corners[ear]
    area = _twice(a, b, c)
    x = corners[np.setdiff1d(left, ear)]
    within = np.minimum.reduce([_twice(a, b, x), _twice(b, c, x), _twice(c, a, x)]) >= -TOUCHING * area
    return bool(area > 0 and not within.any())


def _twice(a: Floats, b: Floats, c: Floats) -> Floats:
    """Return twice the areas of triangles; negative where they are clockwise."""
    u, v = b - a, c - a
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
