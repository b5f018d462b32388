"""Level sets: a surface as the zero of its signed distance phi, negative in the liquid.

Redistancing is the fast sweeping of Zhao (Mathematics of Computation 74, 2005): Gauss-Seidel sweeps in alternating
orders over the upwind differences of |grad phi| = 1, from the cells beside the surface outward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Cell, Grid
from deepcd.pde.kernels.boxes import three_axes
from deepcd.pde.periodic import narrowed, widened
from deepcd.pde.projection import require_positive


def redistance(
    phi: ArrayLike,
    spacing: float = 1.0,
    *,
    inside: ArrayLike | None = None,
    reach: float = np.inf,
    periodic: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Return the signed distance to the surface phi = 0.

    Parameters
    ----------
    phi : array_like
        Any function that is negative in the liquid, at the centres of cells of a grid with two or three axes.
    spacing : float, default 1.0
        Edge length of a cell, in units of length.
    inside : array_like of bool, shape of phi, optional
        The cells that are not solid. Distances are measured around the solid ones, which keep their values. Default:
        all cells.
    reach : float, optional
        Distance in units of length at which the result is cut off, which saves time. Default: no limit.
    periodic : sequence of int, default ()
        The axes along which the box repeats.

    Returns
    -------
    ndarray of float64, shape of phi
        The signed distance in units of length. It is of first order, and exact in the cells beside a plane. Beside the
        surface, values whose slope is within a twentieth of 1 are kept, so that the surface does not move. Where no
        surface is within reach, it is plus or minus the reach, or the sum of the box's edges if that is less.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import redistance
    >>> redistance([[-8.0, -4.0, 4.0, 5.0, 9.0]], spacing=2.0).tolist()
    [[-3.0, -1.0, 1.0, 3.0, 5.0]]
    """
    from deepcd.pde.kernels import redistancing as kernels

    function = np.ascontiguousarray(phi, dtype=np.float64)
    if function.ndim not in (2, 3) or function.size == 0:
        raise ValueError(f"phi must be a non-empty array of two or three axes, got shape {function.shape}")
    if not np.isfinite(function).all():
        raise ValueError("phi holds NaN or infinite values; look for a step that was too long or a solve that failed")
    require_positive(spacing=spacing)
    if not reach > 0:
        raise ValueError(f"reach must be positive, got {reach!r}")
    count = np.ones(function.shape, dtype=bool) if inside is None else np.ascontiguousarray(inside, dtype=bool)
    if count.shape != function.shape:
        raise ValueError(f"inside must have the shape of phi, {function.shape}, got {count.shape}")
    if periodic:
        width = int(min(np.ceil(reach / spacing) + 2, max(function.shape)))
        wide = [widened(array, periodic, width) for array in (function, count)]
        signed = redistance(wide[0], spacing, inside=None if inside is None else wide[1], reach=reach)
        return narrowed(signed, periodic, width)
    n = three_axes(function.shape)
    distance, fixed = np.empty(n), np.empty(n, dtype=bool)
    far = min(float(sum(function.shape)), reach / spacing)
    kernels.distance((function / spacing).reshape(n), count.reshape(n), distance, fixed, far)
    distance *= spacing
    signed = np.where(function < 0, -1.0, 1.0) * distance.reshape(function.shape)
    return signed if inside is None else np.where(count, signed, function)


def liquid_volume(grid: Grid, phi: ArrayLike, opened: NDArray[np.float64] | None = None) -> float:
    """Return the volume (in 2D the area) in which a signed distance is negative, outside solids.

    Parameters
    ----------
    grid : Grid
        The grid, of which only the solids and the spacing h are used.
    phi : array_like, shape of the grid
        Signed distance in units of length. A cell counts with the fraction 1/2 - phi / h, limited to 0 .. 1.
    opened : ndarray of float64, shape of the grid, optional
        The part of each cell that is not solid, by which it counts. Default: all of it.

    Returns
    -------
    float
        The volume in units of length^3, or the area in units of length^2.

    Raises
    ------
    ValueError
        If phi is of the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import Grid, liquid_volume
    >>> liquid_volume(Grid(np.zeros((4, 2))), np.arange(4)[:, None] + np.full((4, 2), -1.75))
    4.5
    """
    values = _outside_solids(grid, phi)
    filled = np.clip(0.5 - values / grid.spacing, 0.0, 1.0)
    total = filled.sum() if opened is None else np.vdot(filled, _outside_solids(grid, opened))
    return float(total * grid.spacing ** len(grid.shape))


def shift_to_volume(
    grid: Grid, phi: ArrayLike, volume: float, opened: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Move a surface along its normal, everywhere by the same distance, until it encloses the given volume.

    Parameters
    ----------
    grid : Grid
        The grid, of which only the solids and the spacing h are used.
    phi : array_like, shape of the grid
        Signed distance in units of length.
    volume : float
        The volume to reach, as :func:`liquid_volume` counts it.
    opened : ndarray of float64, shape of the grid, optional
        The part of each cell that is not solid. Default: all of it.

    Returns
    -------
    ndarray of float64, shape of the grid
        A new array: phi plus a number from -h/2 to h/2. If a larger shift would be needed, the volume is missed.

    Raises
    ------
    ValueError
        If phi is of the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import Grid, shift_to_volume
    >>> shift_to_volume(Grid(np.zeros((4, 1))), [[-1.5], [-0.5], [0.5], [1.5]], volume=2.25).ravel().tolist()
    [-1.75, -0.75, 0.25, 1.25]
    """
    h = grid.spacing
    values = _outside_solids(grid, phi) / h
    sizes = np.ones(values.shape) if opened is None else _outside_solids(grid, opened)
    beside = np.abs(values) < 1.5  # all other cells stay full or empty
    near, size = values[beside], sizes[beside]
    wanted = volume / h ** len(grid.shape) - sizes[values <= -1.5].sum()
    low, high = -0.5, 0.5
    # The volume is monotone in the shift, and linear between a few kinks, so Newton's method within a bracket finds it.
    shift = 0.0
    for _ in range(50):
        fraction = 0.5 - near - shift
        excess = np.vdot(np.clip(fraction, 0.0, 1.0), size) - wanted
        low, high = (shift, high) if excess > 0 else (low, shift)
        area = size[(fraction > 0) & (fraction < 1)].sum()
        if abs(excess) <= 1e-12 * max(abs(wanted), 1.0):
            break
        newton = shift + excess / area if area else np.inf
        shift = newton if low < newton < high else 0.5 * (low + high)
    return np.asarray(phi, dtype=np.float64) + shift * h


def _outside_solids(grid: Grid, phi: ArrayLike) -> NDArray[np.float64]:
    """Return the values in the cells that are not solid."""
    function = np.asarray(phi, dtype=np.float64)
    if function.shape != grid.shape:
        raise ValueError(f"phi must have the shape of the grid, {grid.shape}, got {function.shape}")
    return function[grid.cells != Cell.SOLID]
