"""Solids that turn: the obstacle of a smoke simulation, as a function of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.domains import Shape, cells_of
from deepcd.pde.grids import Grid
from deepcd.pde.mac import face_shapes, faces_of
from deepcd.pde.smoke import Obstacle


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

        def contains(x: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
            u, v = x[0] - a, x[1] - b  # turned back to where the shape was at the start
            return still.contains([a + cosine * u + sine * v, b - sine * u + cosine * v, *x[2:]])

        return Shape(contains), [*along, 0.0]

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
        ``obstacle(time)`` returns the union of their cells and its velocity; on a face that belongs to several, it is
        that of the last one.
    """
    if len(obstacles) == 1:
        return obstacles[0]

    def at(time: float) -> tuple[NDArray[np.bool_], Sequence[ArrayLike]]:
        union, motion = np.zeros(grid.shape, dtype=bool), [np.zeros(shape) for shape in face_shapes(grid)]
        for obstacle in obstacles:
            region, own = obstacle(time)
            cells = cells_of(region, grid, "an obstacle")
            union |= cells
            for axis, (component, speed) in enumerate(zip(motion, own, strict=True)):
                np.copyto(component, speed, where=faces_of(cells, grid, axis))
        return union, motion

    return at
