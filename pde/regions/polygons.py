"""Simple polygons in the plane, whose sides are numbered pieces of the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.regions.binding import axis_names
from deepcd.pde.regions.contract import Domain
from deepcd.pde.regions.pieces import Piece

THINNEST = 1e-12  # a polygon of a smaller area, relative to its bounds, is degenerate

Floats = NDArray[np.float64]


class Polygon(Domain):
    """A domain that `polygon` made.

    Attributes
    ----------
    corners : ndarray of float64, shape (m, 2)
        The corners in order, as given; side k begins at corner k.
    """

    def __init__(self, axes: Sequence[str], corners: Floats, pieces: Sequence[Piece], area: float) -> None:
        bounds = np.stack([corners.min(axis=0), corners.max(axis=0)], axis=1)
        contains = partial(_contains, corners, np.roll(corners, -1, axis=0))
        super().__init__(axes, bounds, pieces, contains=contains, volume=area)
        self.corners = corners


def polygon(*corners: Sequence[float], axes: str | Sequence[str] = "xy") -> Polygon:
    """Return the inside of a polygon, such as ``polygon((0, 0), (1, 0), (0, 1))``.

    Parameters
    ----------
    *corners : (float, float)
        The corners in order, at least three, clockwise or counterclockwise.
    axes : str or sequence of str
        The names of the two coordinates.

    Returns
    -------
    Polygon
        Its boundary has the pieces 0, 1, ...: piece k runs from corner k to corner k + 1, the last one to corner 0.

    Raises
    ------
    ValueError
        If an argument is malformed, or sides cross, touch or lie on one another.

    Examples
    --------
    >>> from deepcd.pde.regions import polygon
    >>> L = polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
    >>> L.volume, L[2:5].names, [piece.measure for piece in L.pieces]
    (3.0, (2, 3, 4), [2.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    """
    names = axis_names(axes, 2)
    starts = _corners(corners)
    ends = np.roll(starts, -1, axis=0)
    sides = ends - starts
    centred = starts - starts.mean(axis=0)
    area = float(_cross(centred, np.roll(centred, -1, axis=0)).sum() / 2)
    _refuse_crossings(starts, ends)
    if abs(area) <= THINNEST * float(np.ptp(starts, axis=0).prod()):
        raise ValueError(
            f"the corners {_text(starts[0])} to {_text(starts[-1])} lie on a line; a polygon has an inside"
        )
    outward = np.sign(area) * np.stack([sides[:, 1], -sides[:, 0]], axis=1) + 0.0  # no -0
    pieces = []
    for k, (start, side, normal) in enumerate(zip(starts, sides, outward, strict=True)):
        length = float(np.hypot(*side))
        sample = partial(_sample, torch.tensor(start), torch.tensor(side), torch.tensor(normal / length))
        pieces.append(Piece(k, length, sample))
    return Polygon(names, starts, pieces, abs(area))


def _sample(start: Tensor, side: Tensor, normal: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    along = torch.rand(n, 1, dtype=torch.float64, generator=generator)
    return start + along * side, normal.repeat(n, 1)


def _contains(starts: Floats, ends: Floats, x: Tensor) -> Tensor:
    """Return which points see an odd number of sides in the direction of the first axis."""
    first, second = x.T
    inside = torch.zeros(len(x), dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(starts.tolist(), ends.tolist(), strict=True):
        if ay != by:
            beside = (ay > second) != (by > second)
            inside ^= beside & (first < ax + (bx - ax) * ((second - ay) / (by - ay)))
    return inside


def _corners(corners: tuple[Sequence[float], ...]) -> Floats:
    """Return the corners as an array of shape (m, 2)."""
    try:
        points = np.array(corners, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(
            f"a polygon must have at least three corners of two finite coordinates each, given one by one as in "
            f"polygon((0, 0), (1, 0), (0, 1)); got {corners!r:.200}"
        )
    return points


def _refuse_crossings(starts: Floats, ends: Floats) -> None:
    """Raise an error if two sides have more in common than the corner between them."""
    m = len(starts)
    sides = ends - starts
    short = np.flatnonzero((sides == 0).all(axis=1))
    if short.size:
        raise ValueError(f"the corner {_text(starts[short[0]])} of the polygon is there twice in a row; give it once")
    following = np.roll(sides, -1, axis=0)
    spikes = np.flatnonzero((_cross(sides, following) == 0) & ((sides * following).sum(axis=1) < 0))
    if spikes.size:
        raise ValueError(f"the sides of the polygon at its corner {_text(ends[spikes[0]])} lie on one another")
    for k in range(m - 2):
        others = np.arange(k + 2, m - (k == 0))  # neither the next side nor, for the first side, the last
        hit = others[_meets(starts[k], ends[k], starts[others], ends[others])]
        if hit.size:
            raise ValueError(
                f"sides {k} and {hit[0]} of the polygon, from {_text(starts[k])} to {_text(ends[k])} and from "
                f"{_text(starts[hit[0]])} to {_text(ends[hit[0]])}, cross or touch each other"
            )


def _meets(a: Floats, b: Floats, starts: Floats, ends: Floats) -> NDArray[np.bool_]:
    """Return which segments have a point in common with the segment from a to b."""

    def beside(p: Floats, q: Floats, x: Floats) -> Floats:
        return np.sign(_cross(q - p, x - p))

    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    near = ((low <= np.maximum(a, b)) & (high >= np.minimum(a, b))).all(axis=1)
    astride = beside(a, b, starts) * beside(a, b, ends) <= 0
    return near & astride & (beside(starts, ends, a) * beside(starts, ends, b) <= 0)


def _cross(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _text(point: Floats) -> str:
    return f"({point[0]:g}, {point[1]:g})"
