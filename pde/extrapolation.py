"""Extrapolation of scalars into solids, and of velocities into solids and into the air around a liquid.

Layer by layer, each unknown entry becomes the mean of its known neighbours (Bridson, Fluid Simulation for Computer
Graphics, 2nd ed. 2015, chapter 4), so that interpolation near a surface finds fluid values on both sides of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Cell, Grid
from deepcd.pde.kernels.boxes import three_axes
from deepcd.pde.mac import Velocity, checked_velocity, sides
from deepcd.pde.periodic import narrowed, widened, widened_grid


def extrapolate(
    field: ArrayLike, known: ArrayLike, layers: int | None = None, periodic: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Continue a field from the entries where it is known.

    Parameters
    ----------
    field : array_like
        An array of two or three axes.
    known : array_like of bool, shape of the field
        Marks the entries that are known.
    layers : int, optional
        Number of layers to fill, in entries along the axes. Default: all that can be reached.
    periodic : sequence of int, default ()
        The axes along which the box repeats, if these are values at the centres of its cells.

    Returns
    -------
    ndarray of float64
        A new array; entries that are known or out of reach are unchanged.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import extrapolate
    >>> extrapolate([[1.0, 2.0, 0.0, 0.0]], [[True, True, False, False]], layers=1).tolist()
    [[1.0, 2.0, 2.0, 0.0]]
    """
    from deepcd.pde.kernels import extrapolation as kernels

    result = np.array(field, dtype=np.float64, order="C")
    state = np.array(known, dtype=bool, order="C")
    if result.ndim not in (2, 3) or state.shape != result.shape:
        raise ValueError(
            f"field and known must be arrays of the same two or three axes, got shapes {result.shape}, {state.shape}"
        )
    if layers is not None and layers < 0:
        raise ValueError(f"layers must be a number from 0 up, got {layers!r}")
    reach = result.size if layers is None else layers
    if periodic:
        width = min(reach + 1, max(result.shape))
        wide = extrapolate(widened(result, periodic, width), widened(state, periodic, width), layers)
        return narrowed(wide, periodic, width)
    kernels.extrapolate(three_axes(result.shape), state.reshape(-1).view(np.uint8), result.reshape(-1), reach)
    return result


def extrapolate_velocity(grid: Grid, velocity: Sequence[ArrayLike], layers: int | None = None) -> Velocity:
    """Continue the velocity of the fluid into solids and air.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, on the faces of the grid, in units of velocity. It is known on the faces of fluid cells.
    layers : int, optional
        As in :func:`extrapolate`.

    Returns
    -------
    tuple of ndarray of float64
        The continued velocity, in new arrays.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import Grid, extrapolate_velocity
    >>> u, v = extrapolate_velocity(Grid([[0], [2], [2]]), [[[2.0], [4.0], [0.0], [0.0]], np.zeros((3, 2))])
    >>> u.ravel().tolist()
    [2.0, 4.0, 4.0, 4.0]
    """
    if grid.periodic:
        width = max(grid.shape) if layers is None else layers + 1
        flow = [widened(c, grid.periodic, width, axis) for axis, c in enumerate(checked_velocity(grid, velocity))]
        wide = extrapolate_velocity(widened_grid(grid, width), flow, layers)
        return tuple(narrowed(c, grid.periodic, width, axis) for axis, c in enumerate(wide))
    result = []
    for axis, component in enumerate(checked_velocity(grid, velocity)):
        low, high = sides(grid, axis)
        known = (low == Cell.FLUID) | (high == Cell.FLUID)
        result.append(extrapolate(component, known, layers))
    return tuple(result)
