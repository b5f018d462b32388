"""Boxes that repeat along some axes: arrays are continued by copies of their other end, and cut back afterwards.

Whatever looks only a number of cells far, such as advection or extrapolation, is right on a repeating box if it runs on
arrays that are longer by that number at both ends. A face velocity has its first face twice, at both ends of its axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.grids import Grid


def widened(array: NDArray[Any], axes: Sequence[int], width: int, along: int | None = None) -> NDArray[Any]:
    """Continue an array by `width` entries at both ends of each of the axes.

    Parameters
    ----------
    array : ndarray
        Values at the centres of cells, or on the faces of an axis.
    axes : sequence of int
        The axes along which the box repeats.
    width : int
        Number of entries, which may be more than the array has.
    along : int, optional
        The axis of the faces, which has one entry more than the box has cells.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.periodic import widened
    >>> widened(np.array([[1, 2, 3]]), [1], 2).tolist(), widened(np.array([[1, 2, 1]]), [1], 1, along=1).tolist()
    ([[2, 3, 1, 2, 3, 1, 2]], [[2, 1, 2, 1, 2]])
    """
    for axis in axes:
        period = array.shape[axis] - (axis == along)
        array = np.take(array, np.arange(-width, array.shape[axis] + width) % period, axis=axis)
    return np.ascontiguousarray(array)


def narrowed(array: NDArray[Any], axes: Sequence[int], width: int, along: int | None = None) -> NDArray[Any]:
    """Undo :func:`widened`; faces at both ends of a repeating axis, which are the same, get the same value."""
    inner = tuple(slice(width, n - width) if axis in axes else slice(None) for axis, n in enumerate(array.shape))
    result = np.ascontiguousarray(array[inner])
    return joined(result, along) if along in axes else result


def joined(component: NDArray[Any], along: int | None) -> NDArray[Any]:
    """Set the last face of a repeating axis to the first, which is the same face, in place; return the array."""
    ends = np.moveaxis(component, along or 0, 0)
    ends[-1] = ends[0]
    return component


def widened_grid(grid: Grid, width: int) -> Grid:
    """Return a grid of which the cells are continued; its walls along repeating axes are solid."""
    walls = ["solid" if "periodic" in pair else pair for pair in grid.walls]
    return Grid(widened(grid.cells, grid.periodic, width), walls, grid.spacing, grid.air_at)
