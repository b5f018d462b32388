"""The plain NumPy definitions of the compiled passes over a grid, in two and three axes; tests compare with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.kernels.redistancing import KEPT, MENDED

EDGE = 1e-6  # distance in cells below which a point counts as lying on the boundary of a cell
Array = NDArray[np.float64]


def offsets(ndim: int, axis: int | None) -> Array:
    """Return the place of the first entry, on a face of `axis` or at a centre, in cells from the corner of the box."""
    return np.array([0.0 if d == axis else 0.5 for d in range(ndim)])


def interpolate(f: Array, points: Array, axis: int | None) -> tuple[Array, Array, Array]:
    """Return f, which lives on `axis`, at points of shape (ndim, ...), and the range of the entries behind it."""
    weight, entries = [], []
    for d, n in enumerate(f.shape):
        q = np.clip(points[d] - offsets(f.ndim, axis)[d], 0, n - 1)
        first = np.minimum(np.floor(q), max(n - 2, 0))
        weight.append(q - first)
        entries.append((first.astype(int), np.minimum(first.astype(int) + 1, n - 1)))
    corners = {side: f[tuple(e[s] for e, s in zip(entries, side, strict=True))] for side in _sides(f.ndim)}
    low, high = np.full(points.shape[1:], np.inf), np.full(points.shape[1:], -np.inf)
    for side, value in corners.items():
        counts = np.all([(w if s else 1 - w) > EDGE for s, w in zip(side, weight, strict=True)], axis=0)
        low, high = np.where(counts, np.minimum(low, value), low), np.where(counts, np.maximum(high, value), high)
    for d in reversed(range(f.ndim)):
        corners = {s: corners[*s, 0] + weight[d] * (corners[*s, 1] - corners[*s, 0]) for s in _sides(d)}
    return corners[()], low, high


def feet(shape: Sequence[int], velocity: Sequence[Array], c: float, axis: int | None) -> Array:
    """Return the points from which the values on `axis` come, by the midpoint rule, in cells."""
    entries = [n + (d == axis) for d, n in enumerate(shape)]
    points = np.stack(np.meshgrid(*map(np.arange, entries), indexing="ij"), dtype=float)
    points += offsets(len(shape), axis).reshape(-1, *[1] * len(shape))
    middle = points - 0.5 * c * _flow(velocity, points)
    return points - c * _flow(velocity, middle)


def advect(
    f: Array, velocity: Sequence[Array], c: float, axis: int | None, inside: NDArray[np.bool_], maccormack: bool
) -> Array:
    """Return f, which lives on `axis`, after a step of c = dt / h; `inside` marks the cells that traces may end in."""
    there, back = (feet(inside.shape, velocity, sign * c, axis) for sign in (1, -1))
    predicted, low, high = interpolate(f, there, axis)
    if not maccormack:
        return predicted
    corrected = np.clip(predicted + 0.5 * (f - interpolate(predicted, back, axis)[0]), low, high)
    return np.where(_within(inside, there) & _within(inside, back), corrected, predicted)


def _flow(velocity: Sequence[Array], points: Array) -> Array:
    return np.stack([interpolate(component, points, axis)[0] for axis, component in enumerate(velocity)])


def _within(inside: NDArray[np.bool_], points: Array) -> NDArray[np.bool_]:
    """Return whether points lie in the box and in a cell that is inside, or between two such cells."""
    box = np.array(inside.shape).reshape(-1, *[1] * inside.ndim)
    result = np.asarray(((points >= -EDGE) & (points <= box + EDGE)).all(axis=0))
    for shift in (-EDGE, EDGE):
        result &= inside[tuple(np.clip(np.floor(points + shift), 0, box - 1).astype(int))]
    return result


def _sides(ndim: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=ndim))


def extrapolate(f: Array, known: NDArray[np.bool_], layers: int) -> Array:
    """Return f with layers of unknown entries set to the mean of their neighbours that are known."""
    f, known = f.copy(), known.copy()
    inner = (slice(1, -1),) * f.ndim
    for _ in range(layers):
        total, count = np.zeros_like(f), np.zeros(f.shape, dtype=int)
        values, there = np.pad(np.where(known, f, 0.0), 1), np.pad(known, 1)
        for axis in range(f.ndim):
            for side in (-1, 1):
                total += np.roll(values, side, axis)[inner]
                count += np.roll(there, side, axis)[inner]
        new = ~known & (count > 0)
        f[new] = total[new] / count[new]
        known |= new
    return f


def confinement(velocity: Sequence[Array], fluid: NDArray[np.bool_]) -> list[Array]:
    """Return N x curl on the faces between fluid cells, in units of cells, where N is the direction of grad |curl|."""
    ndim = fluid.ndim
    u = [0.5 * (_take(c, axis, slice(1, None)) + _take(c, axis, slice(None, -1))) for axis, c in enumerate(velocity)]
    if ndim == 2:
        spin = _derivative(u[0], 1) - _derivative(u[1], 0)
        size = np.abs(spin)
        gradient = [_derivative(size, axis) for axis in range(2)]
        cross = [-gradient[1] * spin, gradient[0] * spin]
    else:
        pairs = [(1, 2), (2, 0), (0, 1)]
        curl = [_derivative(u[b], a) - _derivative(u[a], b) for a, b in pairs]
        size = np.sqrt(sum(c * c for c in curl))
        gradient = [_derivative(size, axis) for axis in range(3)]
        cross = [gradient[a] * curl[b] - gradient[b] * curl[a] for a, b in pairs]
    norm = np.sqrt(sum(g * g for g in gradient)) + 1e-6 * size + 1e-300
    result = []
    for axis, part in enumerate(cross):
        force = part / norm
        low, high = slice(None, -1), slice(1, None)
        both = _take(fluid, axis, low) & _take(fluid, axis, high)
        mean = np.where(both, 0.5 * (_take(force, axis, low) + _take(force, axis, high)), 0.0)
        result.append(np.pad(mean, [(int(d == axis),) * 2 for d in range(ndim)]))
    return result


def _derivative(f: Array, axis: int) -> Array:
    """Return central differences; beyond the ends, the last entry is taken once more."""
    padded = np.pad(f, [(int(d == axis),) * 2 for d in range(f.ndim)], mode="edge")
    return 0.5 * (_take(padded, axis, slice(2, None)) - _take(padded, axis, slice(None, -2)))


def _take(f: Any, axis: int, part: slice) -> Any:
    return f[(slice(None),) * axis + (part,)]


def distance(phi: Array, inside: NDArray[np.bool_]) -> Array:
    """Return the signed distance to phi = 0, both in cells: upwind differences of |grad d| = 1, iterated to the end.

    Cells that are not inside are treated as if they lay beyond the box.
    """
    ndim, far = phi.ndim, float(sum(phi.shape))
    across, mean = np.zeros_like(phi), np.zeros_like(phi)
    for axis in range(ndim):
        pads = [(int(d == axis),) * 2 for d in range(ndim)]
        values, there = np.pad(phi, pads), np.pad(inside, pads)
        steps = [
            np.where(_take(there, axis, part), sign * (_take(values, axis, part) - phi), 0.0)
            for part, sign in ((slice(None, -2), -1), (slice(2, None), 1))
        ]
        both = _take(there, axis, slice(None, -2)) & _take(there, axis, slice(2, None))
        crossed = [(phi < 0) != (phi + sign * step < 0) for sign, step in zip((-1, 1), steps, strict=True)]
        across += np.maximum(*[np.where(c, step**2, 0.0) for c, step in zip(crossed, steps, strict=True)])
        mean += (np.where(both, 0.5, 1.0) * (steps[0] + steps[1])) ** 2
    beside = inside & (across > 0)
    slope = np.sqrt(np.where(beside, np.maximum(across, mean), 1.0))
    part = np.clip((np.abs(slope - 1) - KEPT) / (MENDED - KEPT), 0, 1)
    d = np.where(beside, np.abs(phi) / (1 + part * (slope - 1)), far)
    while True:
        padded = np.pad(d, 1, constant_values=far)
        inner = [slice(1, -1)] * ndim
        lower = np.sort(
            [
                np.minimum(
                    padded[(*inner[:a], slice(None, -2), *inner[a + 1 :])],
                    padded[(*inner[:a], slice(2, None), *inner[a + 1 :])],
                )
                for a in range(ndim)
            ],
            axis=0,
        )
        new = lower[0] + 1
        for m in range(2, ndim + 1):  # m is the number of smallest neighbours that lie below the solution
            total, squares = lower[:m].sum(axis=0), (lower[:m] ** 2).sum(axis=0)
            root = np.sqrt(np.maximum(total**2 - m * (squares - 1), 0.0))
            new = np.where(new > lower[m - 1], (total + root) / m, new)
        new = np.where(beside | ~inside, d, np.minimum(d, new))
        if np.array_equal(new, d):
            return np.where(inside, np.where(phi < 0, -d, d), phi)
        d = new


def distance_from_triangles(points: Array, vertices: Array, triangles: NDArray[np.int64]) -> Array:
    """Return the distance of points of shape (n, 3) from the nearest triangle: from its inside or from its edges."""
    corners = vertices[triangles]  # (m, 3 corners, 3)
    result = np.full((len(points), len(triangles)), np.inf)
    for i in range(3):
        start, along = corners[:, i], corners[:, (i + 1) % 3] - corners[:, i]
        to_start = points[:, None] - start
        t = np.clip((to_start * along).sum(-1) / (along**2).sum(-1), 0, 1)
        result = np.minimum(result, np.linalg.norm(to_start - t[..., None] * along, axis=-1))
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=-1)
    for m in np.flatnonzero(area):
        to_corners = points[:, None] - corners[m]
        beside = [
            (np.cross(corners[m, (i + 1) % 3] - corners[m, i], to_corners[:, i]) * normal[m]).sum(-1) for i in range(3)
        ]
        above = np.abs(to_corners[:, 0] @ normal[m]) / area[m]
        result[:, m] = np.where(np.min(beside, axis=0) >= 0, np.minimum(result[:, m], above), result[:, m])
    return np.asarray(result.min(axis=1))
