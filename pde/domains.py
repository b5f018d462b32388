"""Shapes that compose a domain: boxes, balls, cylinders, half-spaces, height fields, and their boolean combinations.

A shape is a set of points; a cell belongs to it when its centre does. The box of a grid starts at the origin, so the
centre of cell i is at (i + 1/2) h. Shapes combine by constructive solid geometry (Requicha, ACM Computing Surveys 12,
1980): ``a | b``, ``a & b``, ``a - b``, ``~a``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Cell, Grid, Walls

Points = Sequence[NDArray[np.float64]]
Distance = Callable[[Points], NDArray[np.float64]]


class Shape:
    """A set of points given by its membership test.

    Parameters
    ----------
    contains : callable
        Maps the coordinates of points, one broadcastable array per axis, to a bool array.
    distance : callable, optional
        Maps them to the distance from the surface, negative inside; near the surface it must be right to first order.
        Combinations of shapes that know theirs know it too, except near edges at which surfaces meet.
    """

    def __init__(
        self,
        contains: Callable[[Points], NDArray[np.bool_]],
        distance: Distance | None = None,
    ) -> None:
        self.contains = contains
        self.distance = distance

    def __or__(self, other: Shape) -> Shape:
        """Return the union."""
        return Shape(lambda x: self.contains(x) | other.contains(x), self._joined(other, np.minimum))

    def __and__(self, other: Shape) -> Shape:
        """Return the intersection."""
        return Shape(lambda x: self.contains(x) & other.contains(x), self._joined(other, np.maximum))

    def __sub__(self, other: Shape) -> Shape:
        """Return the difference."""
        return Shape(lambda x: self.contains(x) & ~other.contains(x), self._joined(~other, np.maximum))

    def __invert__(self) -> Shape:
        """Return the complement."""
        distance = self.distance
        return Shape(lambda x: ~self.contains(x), None if distance is None else lambda x: -distance(x))

    def _joined(self, other: Shape, extremum: np.ufunc) -> Distance | None:
        """Return the distance of a combination, if both shapes know theirs."""
        own, its = self.distance, other.distance
        return None if own is None or its is None else lambda x: np.asarray(extremum(own(x), its(x)))


Region = Shape | ArrayLike


def box(low: Sequence[float], high: Sequence[float]) -> Shape:
    """Return the axis-parallel box low <= x < high.

    Parameters
    ----------
    low, high : sequence of float
        Opposite corners, one coordinate per axis, in units of length.

    Returns
    -------
    Shape

    Raises
    ------
    ValueError
        If an argument is malformed.
    """
    lo, hi = _point(low, "low"), _point(high, "high")
    if len(lo) != len(hi):
        raise ValueError(f"low and high must have as many coordinates as each other, got {low!r} and {high!r}")

    def contains(x: Points) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = np.ones((), dtype=bool)
        for from_low, from_high in zip(_relative(x, lo), _relative(x, hi), strict=True):
            inside = inside & (from_low >= 0) & (from_high < 0)
        return inside

    def distance(x: Points) -> NDArray[np.float64]:
        pairs = zip(_relative(x, lo), _relative(x, hi), strict=True)
        return functools.reduce(np.maximum, [side for low, high in pairs for side in (-low, high)])

    return Shape(contains, distance)


def ball(center: Sequence[float], radius: float) -> Shape:
    """Return the ball |x - center| < radius (in 2D a disc).

    Parameters
    ----------
    center : sequence of float
        The centre, one coordinate per axis, in units of length.
    radius : float
        The radius, positive, in units of length.

    Returns
    -------
    Shape

    Raises
    ------
    ValueError
        If an argument is malformed.
    """
    c, r = _point(center, "center"), _radius(radius)
    return _round(lambda x: _sum(d**2 for d in _relative(x, c)), r)


def cylinder(center: Sequence[float], radius: float, axis: int = -1) -> Shape:
    """Return the infinite circular cylinder around an axis-parallel line.

    Parameters
    ----------
    center : sequence of float
        A point of the line, one coordinate per axis, in units of length; the one along `axis` is not used.
    radius : float
        The radius, positive, in units of length.
    axis : int, default -1
        The direction of the line.

    Returns
    -------
    Shape
        The infinite cylinder; ``& box(...)`` cuts it to length.

    Raises
    ------
    ValueError
        If an argument is malformed.
    """
    c, r = _point(center, "center"), _radius(radius)
    along = _axis(axis, len(c))
    return _round(lambda x: _sum(d**2 for i, d in enumerate(_relative(x, c)) if i != along), r)


def half_space(point: Sequence[float], normal: Sequence[float]) -> Shape:
    """Return the half-space on the side of a plane that its normal points away from.

    Parameters
    ----------
    point : sequence of float
        A point of the plane, in units of length.
    normal : sequence of float
        A vector that points out of the half-space, of any length but zero.

    Returns
    -------
    Shape

    Raises
    ------
    ValueError
        If an argument is malformed.
    """
    p, n = _point(point, "point"), _point(normal, "normal")
    if len(p) != len(n) or not np.any(n):
        raise ValueError(f"normal must be a vector other than zero with {len(p)} components, got {normal!r}")

    def along(x: Points) -> NDArray[np.float64]:
        return _sum(d * m for d, m in zip(_relative(x, p), n, strict=True))

    return Shape(lambda x: along(x) < 0, lambda x: along(x) / np.linalg.norm(n))


def height_field(height: Callable[..., ArrayLike] | ArrayLike, axis: int = -1) -> Shape:
    """Return the points below a height that depends on the other coordinates.

    Parameters
    ----------
    height : callable or array_like
        The height in units of length: a function of the other coordinates (one broadcastable array each), an array with
        one height per column of cells of the grid that the shape will be used on, or a float.
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
        along = _axis(axis, len(x))
        others = [a for d, a in enumerate(x) if d != along]
        if callable(height):
            return np.asarray(x[along] < np.asarray(height(*others)))
        level = np.asarray(height, dtype=float)
        columns = tuple(a.size for a in others)
        if level.shape not in ((), columns):
            raise ValueError(
                f"height must be a function, a float or one number per column of cells, shape {columns}; "
                f"got an array of shape {level.shape}"
            )
        return np.asarray(x[along] < (np.expand_dims(level, along) if level.ndim else level))

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
        Number of cells per axis: two or three numbers from 1 up.
    solid, air : Shape, optional
        The obstacles and the air; all other cells are fluid. Cells that belong to both are solid.
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
    cells = np.zeros([int(n) for n in shape], dtype=np.uint8)
    centres: list[NDArray[np.float64]] = [(i + 0.5) * spacing for i in np.ogrid[tuple(map(slice, cells.shape))]]
    for kind, region in ((Cell.AIR, air), (Cell.SOLID, solid)):
        if region is not None:
            cells[np.broadcast_to(region.contains(centres), cells.shape)] = kind
    return Grid(cells, walls=walls, spacing=spacing, air_at=air_at)


def cells_of(region: Region, grid: Grid, name: str) -> NDArray[np.bool_]:
    """Return the cells of a grid that belong to a region.

    Parameters
    ----------
    region : Shape or array_like of bool, shape of the grid
        The region.
    grid : Grid
        The grid, of which the shape and the spacing are used.
    name : str
        Name of the region in messages.

    Returns
    -------
    ndarray of bool, shape of the grid
        A mask of the cells.

    Raises
    ------
    ValueError
        If the region is neither a shape nor of the shape of the grid.
    """
    if isinstance(region, Shape):
        return np.equal(domain(grid.shape, solid=region, spacing=grid.spacing).cells, Cell.SOLID)
    mask = np.asarray(region, dtype=bool)
    if mask.shape != grid.shape:
        raise ValueError(f"{name} must be a Shape or a bool array of shape {grid.shape}, got shape {mask.shape}")
    return mask


def _relative(x: Points, point: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the coordinates of points relative to another point."""
    if len(x) != len(point):
        raise ValueError(f"a shape in {len(point)}D, at {point.tolist()}, was put on a grid in {len(x)}D")
    return [a - p for a, p in zip(x, point, strict=True)]


def _round(square: Callable[[Points], NDArray[np.float64]], r: float) -> Shape:
    """Return the points whose squared distance from a centre or an axis is less than r^2."""
    return Shape(lambda x: square(x) < r * r, lambda x: np.sqrt(square(x)) - r)


def _sum(terms: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the sum of broadcastable arrays."""
    return np.asarray(functools.reduce(np.add, terms))


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis must be from {-ndim} to {ndim - 1} in {ndim}D, got {axis!r}")
    return axis % ndim


def _point(values: Sequence[float], name: str) -> NDArray[np.float64]:
    point = np.asarray(values, dtype=float)
    if point.ndim != 1 or len(point) not in (2, 3) or not np.isfinite(point).all():
        raise ValueError(f"{name} must be two or three finite coordinates, got {values!r}")
    return point


def _radius(radius: float) -> float:
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be positive and finite, got {radius!r}")
    return float(radius)
