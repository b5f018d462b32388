"""The solids of a flow at one time: what is open of the faces beside them, how they move, how velocities go on in them.

A solid is made of whole cells, or it is a shape whose surface cuts cells. Fluid moves through the open part of a cut
face, and its velocity goes on in the shape without the component that would enter it (Batty, Bertails and Bridson, A
fast variational framework for accurate solid-fluid coupling, ACM Trans. Graphics 26, 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.domains import Shape
from deepcd.pde.extrapolation import extrapolate_velocity
from deepcd.pde.fractions import fractions
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.mac import Velocity, face_shapes, faces_of, no_penetration, sides

F64 = NDArray[np.float64]

LEAST = 1e-3  # a face of which less is open is closed: it bounds the condition number


class Solids:
    """The solids in a box at one time.

    Parameters
    ----------
    grid : Grid
        The box, whose solid cells are whole ones.
    distance : ndarray of float64, optional
        The distance from the surface of a cut solid at the corners of cells, negative inside; see
        :func:`corner_distance`.
    motion : tuple of ndarray of float64, optional
        The velocity of the solids on the faces of each axis. Default: they are at rest.

    Attributes
    ----------
    grid : Grid
        The box with the cells solid of which nothing is open, all others fluid.
    opened : tuple of ndarray of float64
        The part of each face that is not inside of the shape.
    volume : ndarray of float64, shape of the grid
        The part of each cell that is open.
    layers : list of ndarray of bool, shape of the grid
        The solid cells of the shape that are beside open ones, and those behind them: a level set goes on linearly
        into these, so that its distance is that of a surface which goes on in the solid.
    buried : ndarray of bool, shape of the grid
        All other solid cells.
    motion : tuple of ndarray of float64, or None

    Examples
    --------
    >>> from deepcd.pde import domain, half_space
    >>> from deepcd.pde.solids import Solids, corner_distance
    >>> floor = half_space((0.0, 1.25), (0.0, 1.0))
    >>> grid = domain((2, 3))
    >>> solids = Solids(grid, corner_distance(floor, grid))
    >>> solids.grid.cells[0].tolist(), solids.volume[0].tolist(), solids.opened[0][1].tolist()
    ([1, 0, 0], [0.0, 0.75, 1.0], [0.0, 0.75, 1.0])
    """

    def __init__(self, grid: Grid, distance: F64 | None = None, motion: Velocity | None = None) -> None:
        self.motion, self._distance = motion, distance
        whole = np.equal(grid.cells, Cell.SOLID)
        if distance is None:
            closed = whole
            self.opened: Velocity = tuple(np.broadcast_to(1.0, shape) for shape in face_shapes(grid))
            self.volume: F64 = np.where(whole, 0.0, 1.0)
            self.buried, self.layers = whole, []
        else:
            parts = fractions(distance, grid.shape)
            self.opened = tuple(np.where(part < LEAST, 0.0, part) for part in parts.faces)
            reached = np.zeros(grid.shape, dtype=bool)
            for axis, part in enumerate(self.opened):
                n = grid.shape[axis]
                reached |= (np.take(part, range(n), axis) > 0) | (np.take(part, range(1, n + 1), axis) > 0)
            closed = whole | ~reached
            self.volume = np.where(closed, 0.0, parts.volume)
            near = _within_a_cell(~closed, grid.periodic)
            deep = closed & ~near
            self.layers = [near & closed & ~whole, _within_a_cell(near, grid.periodic) & deep & ~whole]
            self.buried = closed & ~self.layers[0] & ~self.layers[1]
        self.grid, self._whole = with_solid(grid, closed), with_solid(grid, whole)

    def same(self, distance: F64 | None, cells: NDArray[np.bool_]) -> bool:
        """Return whether the solids are where they were: the same distances, and the same whole cells."""
        if distance is None or self._distance is None:
            still = distance is self._distance
        else:
            still = np.array_equal(distance, self._distance)
        return still and np.array_equal(cells, np.equal(self._whole.cells, Cell.SOLID))

    def slopes(self) -> Velocity:
        """Return 1 on the faces that the pressure moves, 0 on walls and those of whole cells: slopes of a fluid.

        At an open wall with ``air_at="face"``, where the pressure is 0 half a cell away, it is 2.
        """
        result = []
        for axis, walls in enumerate(self.grid.walls):
            low, high = sides(self._whole, axis)
            slope = np.where((low == Cell.SOLID) | (high == Cell.SOLID), 0.0, 1.0)
            for end, kind in zip((0, -1), walls, strict=True):
                if kind == "air" and self.grid.air_at == "face":
                    np.moveaxis(slope, axis, 0)[end] *= 2.0
            result.append(slope)
        return tuple(result)

    def system(self) -> CutSystem:
        """Return the pressure system of a single fluid that fills what is open."""
        return CutSystem(self.grid, self.opened, self.slopes())

    def held(self, velocity: Velocity) -> Velocity:
        """Return the velocity with that of the solids on the faces of whole cells, and none through walls."""
        return no_penetration(self._whole, velocity, self.motion)

    def continued(self, velocity: Velocity, grid: Grid, layers: int) -> Velocity:
        """Return the velocity of a fluid, which is known on the open faces of fluid cells, some layers beyond them.

        Parameters
        ----------
        velocity : tuple of ndarray of float64
            One array per axis.
        grid : Grid
            The fluid, solid and air cells.
        layers : int
            Number of layers, in faces along the axes.

        Returns
        -------
        tuple of ndarray of float64
            New arrays. Inside of a cut solid the component along the normal of its surface is that of the solid.
        """
        opened = None if self._distance is None else self.opened
        flow = extrapolate_velocity(grid, velocity, layers, opened=opened)
        before = [component.copy() for component in flow]
        for axis, (index, normal) in enumerate(self._normals):
            entering = np.zeros(len(index[0]))
            for other, along in enumerate(normal):
                places = _beside(index, axis, other, grid.shape)
                relative = np.mean([before[other][place] for place in places], axis=0)
                if self.motion is not None:
                    relative -= np.mean([self.motion[other][place] for place in places], axis=0)
                entering += along * relative
            flow[axis][index] -= entering * normal[axis]
        return flow

    @cached_property
    def _normals(self) -> list[tuple[tuple[NDArray[np.int64], ...], list[F64]]]:
        """Per axis the faces that a shape closes, and the components of the normals of its surface there."""
        if self._distance is None:
            return []
        result = []
        distance, ndim = self._distance, self._distance.ndim
        for axis, part in enumerate(self.opened):
            others = [d for d in range(ndim) if d != axis]
            closed = (part == 0) & ~faces_of(np.equal(self._whole.cells, Cell.SOLID), self.grid, axis)
            index = np.nonzero(closed)
            normal = []
            for d in range(ndim):
                # At the ends of its own axis the difference is one-sided.
                slope = np.gradient(distance, axis=d) if d == axis else np.diff(distance, axis=d)
                for other in others:
                    if other != d:
                        slope = _halfway(slope, other)
                normal.append(slope[index])
            size = np.sqrt(sum(n**2 for n in normal))
            result.append((index, [n / np.where(size > 0, size, 1.0) for n in normal]))
        return result


def corner_distance(shape: Shape | None, grid: Grid) -> F64 | None:
    """Return the distance of a shape at the corners of the cells of a grid; None without a shape that knows its own.

    Parameters
    ----------
    shape : Shape or None
    grid : Grid
        The grid, of which the shape and the spacing are used.

    Returns
    -------
    ndarray of float64, one longer than the grid along each axis, or None
        Where the box repeats, the last corners are the first ones.
    """
    if shape is None or shape.distance is None:
        return None
    places = np.meshgrid(*(np.arange(n + 1) * grid.spacing for n in grid.shape), indexing="ij", sparse=True)
    result = np.array(np.broadcast_to(shape.distance(places), [n + 1 for n in grid.shape]))
    for axis in grid.periodic:
        ends = np.moveaxis(result, axis, 0)
        ends[0] = ends[-1] = np.minimum(ends[0], ends[-1])
    return result


def nearer(one: F64, other: F64, axis: int) -> NDArray[np.bool_]:
    """Return on which faces of an axis the first of two distances, given at corners, is the smaller one.

    Parameters
    ----------
    one, other : ndarray of float64
        Distances, as of :func:`corner_distance`.
    axis : int
        The axis of the faces.

    Returns
    -------
    ndarray of bool
    """
    gap = other - one
    for d in range(gap.ndim):
        if d != axis:
            gap = _halfway(gap, d)
    return np.asarray(gap > 0)


def with_solid(grid: Grid, solid: NDArray[np.bool_]) -> Grid:
    """Return a grid whose cells are solid where they are marked, and fluid elsewhere.

    Parameters
    ----------
    grid : Grid
        The grid, of which all but the cells is kept.
    solid : ndarray of bool, shape of the grid
        The mask.

    Returns
    -------
    Grid
    """
    cells = np.where(solid, np.uint8(Cell.SOLID), np.uint8(Cell.FLUID))
    return Grid(cells, walls=grid.walls, spacing=grid.spacing, air_at=grid.air_at)


def _within_a_cell(cells: NDArray[np.bool_], periodic: Sequence[int]) -> NDArray[np.bool_]:
    """Mark the cells that are marked or share a face with a marked one."""
    result = cells.copy()
    for axis in range(cells.ndim):
        for step in (1, -1):
            beside = np.roll(cells, step, axis)
            if axis not in periodic:
                np.moveaxis(beside, axis, 0)[0 if step == 1 else -1] = False
            result |= beside
    return result


def _halfway(values: F64, axis: int) -> F64:
    n = values.shape[axis]
    return np.asarray(0.5 * (np.take(values, range(n - 1), axis) + np.take(values, range(1, n), axis)))


def _beside(
    index: Sequence[NDArray[np.int64]], axis: int, other: int, shape: Sequence[int]
) -> list[tuple[NDArray[np.int64], ...]]:
    """Return where the faces of another axis lie around faces of an axis; for the same axis the faces themselves."""
    if other == axis:
        return [tuple(index)]
    places = []
    for back in (1, 0):
        for ahead in (0, 1):
            place = list(index)
            place[axis] = np.clip(index[axis] - back, 0, shape[axis] - 1)
            place[other] = index[other] + ahead
            places.append(tuple(place))
    return places
