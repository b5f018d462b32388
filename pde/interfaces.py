"""Coefficients on faces beside a surface between liquid and air, or between two phases, that is given by a level set.

The surface cuts the line between the centres of two neighbouring cells, and the level set says where: its value phi is
negative in the liquid, and linear between centres. Both kinds of coefficients go to :func:`diffusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.projection import require_positive

F64 = NDArray[np.float64]

LEAST = 1e-3  # shortest distance of the surface from a centre, in parts of the distance between centres


def free_surface(
    phi: ArrayLike, coefficient: Sequence[ArrayLike] | None = None, *, periodic: Sequence[int] = ()
) -> tuple[F64, ...]:
    """Return the coefficient on faces with which u = 0 holds on a surface instead of at the centres of air cells.

    This is the ghost-fluid method of Gibou, Fedkiw, Cheng and Kang (Journal of Computational Physics 176, 2002), which
    is symmetric and of second order. Where the surface cuts the line from a liquid cell to an air cell after the part
    theta, the coefficient is divided by theta, which counts as 0.001 where it is less, to bound the condition number.

    Parameters
    ----------
    phi : array_like, shape of the box
        Level set at the centres of cells, negative in the liquid. Only ratios of neighbouring values matter.
    coefficient : sequence of array_like, optional
        The coefficient on faces, such as the open :func:`fractions` beside a solid: one array per axis, of the shape of
        the box but one longer along its axis. Default: 1.
    periodic : sequence of int, default ()
        The axes along which the box repeats.

    Returns
    -------
    tuple of ndarray of float64
        One array per axis over the faces. They are meant for a Grid whose air cells are those where phi is not
        negative, with ``air_at="center"``.

    Raises
    ------
    ValueError
        If an argument is of the wrong shape, phi is not finite, or there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import Cell, Grid, diffusion, free_surface
    >>> phi = np.array([[-1.0, -0.25, 0.75]])
    >>> pool = Grid(np.where(phi < 0, Cell.FLUID, Cell.AIR))
    >>> diffusion(pool, free_surface(phi)).A.toarray().tolist()
    [[1.0, -1.0], [-1.0, 5.0]]
    """
    level = _level_set(phi)
    shares = liquid_shares(level, periodic=periodic)
    given = [np.ones(share.shape) for share in shares] if coefficient is None else coefficient
    result = tuple(np.array(k, dtype=np.float64) for k in given)
    if [k.shape for k in result] != [share.shape for share in shares]:
        raise ValueError(
            f"coefficient must hold one array per axis, of shapes {[share.shape for share in shares]} on the faces, "
            f"got {[k.shape for k in result]}"
        )
    for axis, (k, share) in enumerate(zip(result, shares, strict=True)):
        low, high = _sides(level < 0, axis, axis in periodic)
        k[low != high] /= np.maximum(share, LEAST)[low != high]
    return result


def two_phase(phi: ArrayLike, liquid: float, gas: float, *, periodic: Sequence[int] = ()) -> tuple[F64, ...]:
    """Return 1 / density on faces, the coefficient of the pressure of two phases.

    The density of a face is the mean along the line between the centres on either side, so that the flux between them
    is exact for a pressure that is linear in either phase (Liu, Fedkiw and Kang, Journal of Computational Physics 160,
    2000, whose harmonic mean of 1 / density this is).

    Parameters
    ----------
    phi : array_like, shape of the box
        Level set at the centres of cells, negative in the liquid. Only ratios of neighbouring values matter.
    liquid, gas : float
        The densities, positive.
    periodic : sequence of int, default ()
        The axes along which the box repeats.

    Returns
    -------
    tuple of ndarray of float64
        One array per axis, of the shape of the box but one longer along its axis, in units of 1 / density. Faces at the
        ends of the box belong to the phase of their cell.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import two_phase
    >>> along, across = two_phase([[-3.0, -1.0, 3.0]], liquid=1000.0, gas=1.0)
    >>> (1 / across).round(9).tolist()
    [[1000.0, 1000.0, 250.75, 1.0]]
    """
    require_positive(liquid=liquid, gas=gas)
    return tuple(1 / (gas + (liquid - gas) * share) for share in liquid_shares(_level_set(phi), periodic=periodic))


def liquid_shares(phi: F64, *, periodic: Sequence[int] = ()) -> tuple[F64, ...]:
    """Return the part of the line between the centres on either side of each face that lies in the liquid.

    Parameters
    ----------
    phi : ndarray of float64, shape of the box
        Level set at the centres of cells, negative in the liquid.
    periodic : sequence of int, default ()
        The axes along which the box repeats.

    Returns
    -------
    tuple of ndarray of float64
        One array per axis, of the shape of the box but one longer along its axis, from 0 to 1.

    Raises
    ------
    ValueError
        If there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.interfaces import liquid_shares
    >>> liquid_shares(np.array([[-3.0, -1.0, 3.0]]), periodic=[1])[1].tolist()
    [[0.5, 1.0, 0.25, 0.5]]
    """
    if not set(periodic) <= set(range(phi.ndim)):
        raise ValueError(f"periodic must hold axes from 0 to {phi.ndim - 1}, got {periodic!r}")
    shares = []
    for axis in range(phi.ndim):
        low, high = _sides(phi, axis, axis in periodic)
        inside = np.maximum(-low, 0) + np.maximum(-high, 0)
        outside = np.maximum(low, 0) + np.maximum(high, 0)
        wet = np.where((low < 0) & (high < 0), 1.0, 0.0)
        shares.append(np.divide(inside, inside + outside, out=wet, where=(low < 0) != (high < 0)))
    return tuple(shares)


def _sides(field: NDArray[Any], axis: int, repeats: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values before and after each face of an axis; beyond the ends the end cells, or the other end."""
    padded = np.pad(field, [(int(d == axis),) * 2 for d in range(field.ndim)], mode="wrap" if repeats else "edge")
    n = padded.shape[axis]
    return np.take(padded, range(n - 1), axis), np.take(padded, range(1, n), axis)


def _level_set(phi: ArrayLike) -> F64:
    level = np.asarray(phi, dtype=np.float64)
    if level.ndim not in (2, 3) or level.size == 0:
        raise ValueError(f"phi must be a non-empty array of two or three axes, got shape {level.shape}")
    if not np.isfinite(level).all():
        raise ValueError("phi holds NaN or infinite values; give a finite level set, such as that of redistance")
    return level
