"""Random functions on a box of cells, of which random coefficients are made: noise, blocks, layers, drops, steps.

They work for boxes of any shape, with axes of a single cell too. Lengths are in cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

F64 = NDArray[np.float64]


def smooth_noise(
    shape: Sequence[int], length: float | Sequence[float], rng: np.random.Generator, *, periodic: bool = False
) -> F64:
    """Return a Gaussian field of mean 0 and variance 1, over the box.

    Parameters
    ----------
    shape : sequence of int
        Number of cells per axis.
    length : float or sequence of float
        Correlation length in cells, twice the deviation of the Gaussian filter; one number, or one per axis.
    rng : numpy.random.Generator
        Source of the random numbers.
    periodic : bool, default False
        Whether the field goes on at the other ends of the box.

    Returns
    -------
    ndarray of float64, shape of the box
        The field; 0 on a box of one cell.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_fields import smooth_noise
    >>> noise = smooth_noise((40, 30), 4.0, np.random.default_rng(0))
    >>> round(float(noise.std()), 9), bool(np.abs(np.diff(noise, axis=0)).max() < 1.5)
    (1.0, True)
    """
    noise = rng.standard_normal(tuple(shape))
    lengths = np.broadcast_to(np.asarray(length, dtype=float), len(noise.shape))
    noise = ndimage.gaussian_filter(noise, lengths / 2, mode="wrap" if periodic else "reflect")
    noise -= noise.mean()
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def blocks(shape: Sequence[int], rng: np.random.Generator, shortest: int = 3, longest: int = 32) -> F64:
    """Return a number from 0 to 1 for each block of a division of the box by planes at random distances.

    Parameters
    ----------
    shape : sequence of int
        Number of cells per axis.
    rng : numpy.random.Generator
        Source of the random numbers.
    shortest, longest : int, default 3, 32
        Range of the edges of blocks, in cells; the first and the last along an axis may be shorter.

    Returns
    -------
    ndarray of float64, shape of the box

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_fields import blocks
    >>> rows = blocks((8, 5), np.random.default_rng(0), shortest=3, longest=3)
    >>> bool((np.diff(rows, axis=0) != 0).any()), len(np.unique(rows)) <= 4 * 3
    (True, True)
    """
    numbers = []
    for n in shape:
        edges = rng.integers(shortest, longest + 1, n // shortest + 2)
        edges[0] = rng.integers(1, longest + 1)
        numbers.append(np.repeat(np.arange(len(edges)), edges)[:n])
    values = rng.random([number[-1] + 1 for number in numbers])
    return np.asarray(values[np.ix_(*numbers)])


def drops(shape: Sequence[int], rng: np.random.Generator) -> F64:
    """Return the signed distance from a union of 2 to 13 balls, negative inside, or outside in half of the draws.

    Parameters
    ----------
    shape : sequence of int
        Number of cells per axis.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    ndarray of float64, shape of the box
        Distances in cells at the centres; the radii are 3 to 25 per cent of the longest edge.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_fields import drops
    >>> phi = drops((30, 20), np.random.default_rng(0))
    >>> bool(np.abs(np.diff(phi, axis=0)).max() <= 1)
    True
    """
    centers = [i + 0.5 for i in np.ogrid[tuple(map(slice, shape))]]
    nearest = np.full(tuple(shape), np.inf)
    for _ in range(rng.integers(2, 14)):
        place, radius = rng.random(len(shape)) * shape, max(shape) * rng.uniform(0.03, 0.25)
        square = sum((x - p) ** 2 for x, p in zip(centers, place, strict=True))
        nearest = np.minimum(nearest, np.sqrt(square) - radius)
    return -nearest if rng.random() < 0.5 else nearest


def with_both_signs(phi: F64) -> F64:
    """Return a level set moved just so far that a tenth of its values, at least, lies on either side of zero."""
    return phi - np.clip(0.0, *np.quantile(phi, [0.1, 0.9]))


def ranks(field: F64) -> F64:
    """Return a field of the same order in which all values from 0 to 1 are equally frequent."""
    order = np.empty(field.size)
    order[np.argsort(field, axis=None)] = np.arange(field.size)
    return ((order + 0.5) / field.size).reshape(field.shape)


def tanh_widths(n: int, stretch: float) -> F64:
    """Return the widths of cells whose faces lie at tanh of equidistant points, from -stretch to stretch.

    Parameters
    ----------
    n : int
        Number of cells.
    stretch : float
        The higher, the thinner the cells at both ends: with 2.5, nearly 40 times as thin as the others.

    Returns
    -------
    ndarray of float64, shape (n,)
        Widths of which the largest is 1.

    Examples
    --------
    >>> from deepcd.data.random_fields import tanh_widths
    >>> tanh_widths(5, 2.5).round(3).tolist()
    [0.088, 0.479, 1.0, 0.479, 0.088]
    """
    width = np.diff(np.tanh(stretch * np.linspace(-1, 1, n + 1)))
    return np.asarray(width / width.max())
