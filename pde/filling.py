"""What is full of liquid at the start: a function that is negative inside shapes, sampled at the centres of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.domains import Shape, domain
from deepcd.pde.grids import Cell, Grid

SAMPLES = 2  # samples per axis of a cell, where a shape tells inside from outside only


def filling(shapes: Sequence[Shape], grid: Grid) -> NDArray[np.float64]:
    """Return a function whose zero is the surface of the union of shapes.

    Parameters
    ----------
    shapes : sequence of Shape
        What is full. Boxes, balls, cylinders, half-spaces and meshes know how far a point is from their surface, and so
        do combinations of them; of other shapes the fraction of each cell that they fill is sampled.
    grid : Grid
        The grid, of which the shape and the spacing are used.

    Returns
    -------
    ndarray of float64, shape of the grid
        Negative in the liquid, near the surface in units of length, infinite without a shape; `LiquidStepper.start`
        makes a distance of it.

    Examples
    --------
    >>> from deepcd.pde import Grid, ball
    >>> from deepcd.pde.filling import filling
    >>> filling([ball((2, 2), 1.5)], Grid(np.zeros((4, 1)))).round(3).ravel().tolist()
    [0.621, 0.081, 0.081, 0.621]
    """
    centres = [(i + 0.5) * grid.spacing for i in np.ogrid[tuple(map(slice, grid.shape))]]
    level = np.full(grid.shape, np.inf)
    for shape in shapes:
        own = _sampled(shape, grid) if shape.distance is None else shape.distance(centres)
        level = np.minimum(level, own)
    return level


def _sampled(shape: Shape, grid: Grid) -> NDArray[np.float64]:
    """Return half a cell minus the fraction of each cell that is inside."""
    fine = domain([SAMPLES * n for n in grid.shape], solid=shape, spacing=grid.spacing / SAMPLES)
    inside = np.equal(fine.cells, Cell.SOLID).reshape([m for n in grid.shape for m in (n, SAMPLES)])
    fraction = inside.mean(axis=tuple(range(1, inside.ndim, 2)))
    return np.asarray(grid.spacing * (0.5 - fraction))
