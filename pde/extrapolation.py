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


def extended(
    phi: NDArray[np.float64], known: NDArray[np.bool_], wanted: NDArray[np.bool_], periodic: Sequence[int] = ()
) -> NDArray[np.float64]:
    """Continue a level set linearly into cells beside those where it is known, so that planes go on as planes.

    Parameters
    ----------
    phi : ndarray of float64
        Values at the centres of the cells of a box.
    known : ndarray of bool, shape of phi
        Marks the entries that are known.
    wanted : ndarray of bool, shape of phi
        Marks others, each beside a known one.
    periodic : sequence of int, default ()
        The axes along which the box repeats.

    Returns
    -------
    ndarray of float64
        A new array: what is wanted is on the line through two known entries in a row, of which the nearer one is next
        to the surface, or the mean of several such lines; where there is no line, the mean of the known neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.extrapolation import extended
    >>> known = np.array([[True, True, False, False]])
    >>> extended(np.array([[1.0, 3.0, 0.0, 0.0]]), known, np.array([[False, False, True, False]])).tolist()
    [[1.0, 3.0, 5.0, 0.0]]
    """
    place = np.nonzero(wanted)
    values, ranks = [], []
    for axis, n in enumerate(phi.shape):
        for step in (1, -1):
            near, far = list(place), list(place)
            near[axis], far[axis] = place[axis] + step, place[axis] + 2 * step
            there = [axis in periodic or (at[axis] >= 0) & (at[axis] < n) for at in (near, far)]
            near[axis], far[axis] = near[axis] % n, far[axis] % n
            beside = there[0] & known[tuple(near)]
            line = beside & there[1] & known[tuple(far)]
            one, two = phi[tuple(near)], phi[tuple(far)]
            values.append(np.where(line, 2 * one - two, one))
            ranks.append(np.where(line, np.abs(one), np.where(beside, 1e300, np.inf)))
    best = np.min(ranks, axis=0)
    chosen = (np.array(ranks) <= best * (1 + 1e-9)) & np.isfinite(best)
    result = phi.copy()
    result[place] = np.where(chosen, values, 0.0).sum(axis=0) / np.maximum(chosen.sum(axis=0), 1)
    return result


def extrapolate_velocity(
    grid: Grid,
    velocity: Sequence[ArrayLike],
    layers: int | None = None,
    *,
    opened: Sequence[NDArray[np.float64]] | None = None,
) -> Velocity:
    """Continue the velocity of the fluid into solids and air.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, on the faces of the grid, in units of velocity. It is known on the faces of fluid cells.
    layers : int, optional
        As in :func:`extrapolate`.
    opened : sequence of ndarray of float64, optional
        The part of each face that is open, one array per axis; on a face of which it is 0 the velocity is not known.

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
        parts = opened and [widened(part, grid.periodic, width, axis) for axis, part in enumerate(opened)]
        wide = extrapolate_velocity(widened_grid(grid, width), flow, layers, opened=parts)
        return tuple(narrowed(c, grid.periodic, width, axis) for axis, c in enumerate(wide))
    result = []
    for axis, component in enumerate(checked_velocity(grid, velocity)):
        low, high = sides(grid, axis)
        known = (low == Cell.FLUID) | (high == Cell.FLUID)
        if opened is not None:
            known &= opened[axis] > 0
        result.append(extrapolate(component, known, layers))
    return tuple(result)
