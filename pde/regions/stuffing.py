"""Triangles that fill a domain of the plane of which only membership is known.

The lattice of its bounds is cut where edges leave the domain, and nodes that are near a cut are moved onto it first, so
that no triangle is thin: isosurface stuffing (Labelle and Shewchuk, ACM Trans. Graph. 26, 2007) in the plane.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
NEAR = 0.2  # part of an edge; two neighbours that are both moved so far cannot fold a triangle
LEAST = 1e-3  # part of an edge that remains at a node of the bounds, which cannot be moved off them
HALVINGS = 40
IN, ON, OUT = -1, 0, 1


def stuffed(
    points: Floats, triangles: Indices, bounds: Floats, inside: Callable[[Floats], NDArray[np.bool_]]
) -> tuple[Floats, Indices]:
    """Fill a domain with triangles whose outer nodes lie on its boundary.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
    triangles : ndarray of int64, shape (m, 3)
        Those of a lattice that covers the bounds.
    bounds : ndarray of float64, shape (2, 2)
        The low and the high end of each axis.
    inside : callable
        ``inside(x)`` tells which points, shape (k, 2), are inside, as bool of shape (k,).

    Returns
    -------
    points, triangles : ndarray of float64 and int64, shapes (n', 2) and (m', 3)
        Parts of the domain that fit between the nodes of the lattice are lost. Corners are cut off between nodes.

    Raises
    ------
    ValueError
        If no triangle is left.
    """
    side = np.where(inside(points), IN, OUT)
    a, b = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).T
    crossed = side[a] != side[b]
    inner, outer = np.where(side[a] == IN, a, b)[crossed], np.where(side[a] == IN, b, a)[crossed]
    inner, outer = np.unique(np.stack([inner, outer], axis=1), axis=0).T
    share = _share(points[inner], points[outer], inside)
    points, side = _moved(points, side, inner, outer, share, bounds)
    cut = (side[inner] == IN) & (side[outer] == OUT)
    inner, outer, share = inner[cut], outer[cut], np.clip(share[cut], LEAST, 1 - LEAST)
    keys = np.minimum(inner, outer) * len(points) + np.maximum(inner, outer)
    order = np.argsort(keys)

    def between(p: Indices, q: Indices) -> Indices:
        """Return the numbers of the new nodes on edges that are cut."""
        sought = np.minimum(p, q) * len(points) + np.maximum(p, q)
        return np.asarray(len(points) + order[np.searchsorted(keys[order], sought)])

    new = points[inner] + share[:, None] * (points[outer] - points[inner])
    everything = np.vstack([points, new])
    cells = _clipped(triangles, side, everything, between, inside)
    if not len(cells):
        raise ValueError("no cell lies inside the domain: take a larger n")
    used = np.zeros(len(everything), dtype=bool)
    used[cells] = True
    return everything[used], (np.cumsum(used) - 1)[cells]


def _share(inner: Floats, outer: Floats, inside: Callable[[Floats], NDArray[np.bool_]]) -> Floats:
    """Return how far along each edge the domain ends, by bisection, as a part of the edge."""
    low, high = np.zeros(len(inner)), np.ones(len(inner))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        within = inside(inner + middle[:, None] * (outer - inner))
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return low


def _moved(
    points: Floats, side: Indices, inner: Indices, outer: Indices, share: Floats, bounds: Floats
) -> tuple[Floats, Indices]:
    """Move nodes onto the nearest cut, if one is near; nodes on the bounds move along them only."""
    cuts = points[inner] + share[:, None] * (points[outer] - points[inner])
    nodes, part = np.concatenate([inner, outer]), np.concatenate([share, 1 - share])
    target = np.vstack([cuts, cuts])
    held = (points[nodes] == bounds[:, 0]) | (points[nodes] == bounds[:, 1])
    free = (~held | (target == points[nodes])).all(axis=1)
    near = np.flatnonzero((part < NEAR) & free)
    near = near[np.argsort(((target - points[nodes]) ** 2).sum(axis=1)[near], kind="stable")[::-1]]
    points, side = points.copy(), side.copy()
    points[nodes[near]] = target[near]  # the nearest comes last, and stays
    side[nodes[near]] = ON
    return points, side


def _clipped(
    triangles: Indices,
    side: Indices,
    points: Floats,
    between: Callable[[Indices, Indices], Indices],
    inside: Callable[[Floats], NDArray[np.bool_]],
) -> Indices:
    """Return the triangles, and the parts of those that are cut, which lie inside."""
    out = side[triangles] == OUT
    count = out.sum(axis=1)
    whole = triangles[count == 0]
    flat = (side[whole] == ON).all(axis=1)
    flat[flat] = ~inside(points[whole[flat]].mean(axis=1))
    kept = [whole[~flat]]

    def turned(chosen: NDArray[np.bool_], first: NDArray[np.bool_]) -> tuple[Indices, ...]:
        """Return the corners of the chosen triangles, turned such that the one that is marked comes first."""
        turn = (first[chosen].argmax(axis=1)[:, None] + np.arange(3)) % 3
        return tuple(np.take_along_axis(triangles[chosen], turn, 1).T)

    c, a, b = turned(count == 1, out)
    for within in ((side[a] == IN) & (side[b] == ON), (side[a] == ON) & (side[b] == IN)):
        p, q, r = a[within], b[within], c[within]
        kept.append(np.stack([p, q, between(np.where(side[p] == IN, p, q), r)], axis=1))
    both = (side[a] == IN) & (side[b] == IN)
    a, b, c = a[both], b[both], c[both]
    p, q = between(a, c), between(b, c)
    shorter = ((points[a] - points[q]) ** 2).sum(axis=1) <= ((points[b] - points[p]) ** 2).sum(axis=1)
    kept.append(np.stack([a, b, np.where(shorter, q, p)], axis=1))
    kept.append(np.stack([np.where(shorter, a, b), q, p], axis=1))
    a, b, c = turned(count == 2, ~out)
    a, b, c = a[side[a] == IN], b[side[a] == IN], c[side[a] == IN]
    kept.append(np.stack([a, between(a, b), between(a, c)], axis=1))
    return np.vstack(kept)
