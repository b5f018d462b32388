"""Solids that turn: the obstacle of a smoke simulation, as a function of the time."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.domains import Points, Region, Shape, cells_of
from deepcd.pde.grids import Grid
from deepcd.pde.mac import face_shapes, faces_of
from deepcd.pde.smoke import Obstacle
from deepcd.pde.solids import corner_distance, nearer


def turning(still: Shape, grid: Grid, center: tuple[float, float], period: float) -> Obstacle:
    """Return the obstacle of a :class:`SmokeStepper` that turns around a vertical axis.

    Parameters
    ----------
    still : Shape
        The solid at time 0.
    grid : Grid
        The grid of the simulation, with three axes.
    center : tuple of 2 floats
        Where the axis of rotation stands, in units of length along the first two axes.
    period : float
        Time of a whole turn, counter-clockwise if positive.

    Returns
    -------
    callable
        ``obstacle(time)`` returns the shape and its velocity on the faces of each axis.

    Raises
    ------
    ValueError
        If the period is 0 or not finite.

    Examples
    --------
    >>> from deepcd.pde import box, domain, turning
    >>> grid = domain((8, 8, 4))
    >>> shape, velocity = turning(box((4, 3, 0), (8, 5, 4)), grid, (4.0, 4.0), period=4.0)(1.0)
    >>> domain(grid.shape, solid=shape).cells[4, :, 0].tolist()  # a quarter of a turn later it points along axis 1
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    if not np.isfinite(period) or period == 0:
        raise ValueError(f"the period of a turn must be finite and not 0, got {period!r}")
    (a, b), speed, h = center, 2 * math.pi / period, grid.spacing
    faces = [
        [(np.arange(n + (d == axis)) + 0.5 * (d != axis)) * h for d, n in enumerate(grid.shape)] for axis in (0, 1)
    ]
    along: list[NDArray[np.float64]] = [
        np.broadcast_to(values, [n + (d == axis) for d, n in enumerate(grid.shape)])
        for axis, values in (
            (0, -speed * (faces[0][1] - b)[None, :, None]),
            (1, speed * (faces[1][0] - a)[:, None, None]),
        )
    ]

    def at(time: float) -> tuple[Shape, Sequence[ArrayLike]]:
        cosine, sine = math.cos(speed * time), math.sin(speed * time)

        def back(x: Points) -> Points:
            """Return points turned back to where they were at the start."""
            u, v = x[0] - a, x[1] - b
            return [a + cosine * u + sine * v, b - sine * u + cosine * v, *x[2:]]

        distance = still.distance
        turned = None if distance is None else lambda x: distance(back(x))
        return Shape(lambda x: still.contains(back(x)), turned), [*along, 0.0]

    return at


def together(obstacles: Sequence[Obstacle], grid: Grid) -> Obstacle:
    """Return several obstacles of a :class:`SmokeStepper` as one.

    Parameters
    ----------
    obstacles : sequence of callable
        At least one; see :class:`SmokeStepper`.
    grid : Grid
        The grid of the simulation.

    Returns
    -------
    callable
        ``obstacle(time)`` returns the union of the solids and its velocity. If all of them are shapes that know their
        distance, a face moves with the nearest one; otherwise the solids are cells, and a face that belongs to several
        moves with the last one.
    """
    if len(obstacles) == 1:
        return obstacles[0]

    def at(time: float) -> tuple[Region, Sequence[ArrayLike]]:
        placed = [obstacle(time) for obstacle in obstacles]
        shapes = [region for region, _ in placed if isinstance(region, Shape)]
        distances = [
            distance for distance in (corner_distance(shape, grid) for shape in shapes) if distance is not None
        ]
        motion = [np.zeros(shape) for shape in face_shapes(grid)]
        if len(distances) == len(placed):
            least = distances[0]
            for (_, own), distance in zip(placed, distances, strict=True):
                for axis, (component, speed) in enumerate(zip(motion, own, strict=True)):
                    np.copyto(component, speed, where=~nearer(least, distance, axis))
                least = np.minimum(least, distance)
            return functools.reduce(Shape.__or__, shapes), motion
        union = np.zeros(grid.shape, dtype=bool)
        for region, own in placed:
            cells = cells_of(region, grid, "an obstacle")
            union |= cells
            for axis, (component, speed) in enumerate(zip(motion, own, strict=True)):
                np.copyto(component, speed, where=faces_of(cells, grid, axis))
        return union, motion

    return at
