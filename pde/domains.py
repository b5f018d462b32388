"""Shapes that compose a domain: boxes, balls, cylinders, half-spaces, height fields, and their boolean combinations.

A shape is a set of points; a cell belongs to it when its centre does. Constructive solid geometry after Requicha
(ACM Computing Surveys 12, 1980): ``a | b``, ``a & b``, ``a - b``, ``~a``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Cell, Grid, Walls

Points = Sequence[NDArray[np.float64]]


class Shape:
    """A set of points given by its membership test.

    Parameters
    ----------
    contains : callable
        Maps the coordinates of points, one broadcastable array per axis, to a bool array.
    """

    def __init__(self, contains: Callable[[Points], NDArray[np.bool_]]) -> None:
        self.contains = contains

    def __or__(self, other: Shape) -> Shape:
        return Shape(lambda x: self.contains(x) | other.contains(x))

    def __and__(self, other: Shape) -> Shape:
        return Shape(lambda x: self.contains(x) & other.contains(x))

    def __sub__(self, other: Shape) -> Shape:
        return Shape(lambda x: self.contains(x) & ~other.contains(x))

    def __invert__(self) -> Shape:
        return Shape(lambda x: ~self.contains(x))


def box(low: Sequence[float], high: Sequence[float]) -> Shape:
    """Return the axis-parallel box low <= x < high.

    Parameters
    ----------
    low, high : sequence of float
        Opposite corners, one coordinate per axis, in units of length.

    Returns
    -------
    Shape
    """
    lo, hi = _point(low, "low"), _point(high, "high")
    return Shape(lambda x: _all((a >= p) & (a < q) for a, p, q in zip(x, lo, hi, strict=True)))


def ball(center: Sequence[float], radius: float) -> Shape:
    """Return the ball |x - center| < radius (in 2D a disc).

    Parameters
    ----------
    center : sequence of float
        One coordinate per axis, in units of length.
    radius : float
        In units of length, positive.

    Returns
    -------
    Shape
    """
    c, r = _point(center, "center"), _radius(radius)
    return Shape(lambda x: np.asarray(sum((a - p) ** 2 for a, p in zip(x, c, strict=True)) < r * r))


def cylinder(center: Sequence[float], radius: float, axis: int = -1) -> Shape:
    """Return the infinite circular cylinder around an axis-parallel line.

    Parameters
    ----------
    center : sequence of float
        A point of the line, one coordinate per axis, in units of length; the one along `axis` is not used.
    radius : float
        In units of length, positive.
    axis : int, default -1
        The direction of the line.

    Returns
    -------
    Shape
        Cut it to length with ``& box(...)``.
    """
    c, r = _point(center, "center"), _radius(radius)
    across = [d for d in range(len(c)) if d != axis % len(c)]

    def contains(x: Points) -> NDArray[np.bool_]:
        inside = np.asarray(sum((x[d] - c[d]) ** 2 for d in across) < r * r)
        return inside & np.ones_like(x[axis], dtype=bool)

    return Shape(contains)


def half_space(point: Sequence[float], normal: Sequence[float]) -> Shape:
    """Return the half-space on the side of a plane that its normal points away from.

    Parameters
    ----------
    point : sequence of float
        A point of the plane, in units of length.
    normal : sequence of float
        Points out of the half-space; need not be of unit length, must not be zero.

    Returns
    -------
    Shape
    """
    p, n = _point(point, "point"), _point(normal, "normal")
    if not np.any(n):
        raise ValueError("normal must not be the zero vector")
    return Shape(lambda x: np.asarray(sum((a - q) * m for a, q, m in zip(x, p, n, strict=True)) < 0))


def height_field(height: Callable[..., NDArray[np.float64]] | ArrayLike, axis: int = -1) -> Shape:
    """Return the points below a height that depends on the other coordinates.

    Parameters
    ----------
    height : callable or array_like
        A function of the other coordinates (one broadcastable array each) that returns the height in units of length,
        or an array of heights, one per column of cells of the grid it will be used on, or a single float.
    axis : int, default -1
        The direction of height.

    Returns
    -------
    Shape

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import domain, height_field
    >>> surface = height_field(lambda x, y: 3 + np.sin(x) * np.cos(y))
    >>> domain((8, 8, 8), air=~surface).unknowns
    194
    """

    def contains(x: Points) -> NDArray[np.bool_]:
        others = [a for d, a in enumerate(x) if d != axis % len(x)]
        if callable(height):
            level = np.asarray(height(*others))
        else:
            level = np.asarray(height, dtype=float)
            if level.ndim:
                level = np.expand_dims(level, axis % len(x))
        return np.asarray(x[axis] < level)

    return Shape(contains)


def domain(
    shape: Sequence[int],
    *,
    solid: Shape | None = None,
    air: Shape | None = None,
    walls: Walls = "solid",
    spacing: float = 1.0,
    air_at: Literal["center", "face"] = "center",
) -> Grid:
    """Sample shapes at cell centres and return the grid.

    Parameters
    ----------
    shape : sequence of int
        Cells per axis, two or three numbers from 1 up.
    solid, air : Shape, optional
        Where the obstacles and the air are; the rest is fluid. Where both are, solid wins.
    walls, spacing, air_at
        As in :class:`Grid`.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import ball, box, domain
    >>> obstacles = ball((8, 8, 8), 3) | box((0, 0, 16), (4, 4, 20))
    >>> grid = domain((16, 16, 24), solid=obstacles, walls=["solid", "solid", ("solid", "air")])
    >>> grid.unknowns
    5944
    """
    if len(shape) not in (2, 3) or any(int(n) != n or n < 1 for n in shape):
        raise ValueError(f"shape must be two or three positive integers, got {shape!r}")
    centres = [
        (np.arange(n).reshape([-1 if a == d else 1 for a in range(len(shape))]) + 0.5) * spacing
        for d, n in enumerate(shape)
    ]
    cells = np.zeros(tuple(int(n) for n in shape), dtype=np.uint8)
    for kind, region in ((Cell.AIR, air), (Cell.SOLID, solid)):
        if region is not None:
            cells[np.broadcast_to(region.contains(centres), cells.shape)] = kind
    return Grid(cells, walls=walls, spacing=spacing, air_at=air_at)


def _all(masks: object) -> NDArray[np.bool_]:
    """Intersect broadcastable masks."""
    result: NDArray[np.bool_] = np.ones((), dtype=bool)
    for mask in masks:  # type: ignore[attr-defined]
        result = result & mask
    return result


def _point(values: Sequence[float], name: str) -> NDArray[np.float64]:
    point = np.asarray(values, dtype=float)
    if point.ndim != 1 or len(point) not in (2, 3) or not np.isfinite(point).all():
        raise ValueError(f"{name} must be two or three finite coordinates, got {values!r}")
    return point


def _radius(radius: float) -> float:
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be positive and finite, got {radius!r}")
    return float(radius)
