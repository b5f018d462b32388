"""Boxes: one interval per axis, with faces that have names, or ends that are joined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.regions.contract import Domain
from deepcd.pde.regions.pieces import Piece
from deepcd.pde.regions.sampling import on_face


def box(periodic: str | Sequence[str] = (), **axes: tuple[float, float]) -> Domain:
    """Return a box, such as ``box(t=(0, 1), x=(-1, 1), periodic="x")``.

    Parameters
    ----------
    periodic : str or sequence of str
        Names of the axes that are periodic: one name, a string of one-letter names, or a sequence.
    **axes : (low, high)
        The ends of each axis, by its name, in the order of the coordinates.

    Returns
    -------
    Domain
        Its boundary has the pieces "x-" and "x+", at the low and the high end, for each axis x that is not periodic.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde.regions import box
    >>> box(t=(0, 1), x=(-1, 1), periodic="x")
    <Domain t from 0 to 1, x from -1 to 1; boundary t-, t+>
    """
    bounds = np.array([_interval(axis, ends) for axis, ends in axes.items()])
    if not len(bounds):
        raise ValueError("a box must have at least one axis, such as x=(0, 1)")
    rings = tuple(periodic) if not isinstance(periodic, str) or periodic not in axes else (periodic,)
    for axis in rings:
        if axis not in axes:
            raise ValueError(f"periodic must be names of axes, which are {', '.join(axes)}; got {periodic!r}")
    lengths = bounds[:, 1] - bounds[:, 0]
    faces = [
        Piece(f"{axis}{'-+'[end]}", float(np.delete(lengths, k).prod()), partial(_sample, bounds, k, end), axis)
        for k, axis in enumerate(axes)
        for end in (0, 1)
        if axis not in rings
    ]
    in_order = tuple(axis for axis in axes if axis in rings)
    return Domain(tuple(axes), bounds, faces, volume=float(lengths.prod()), periodic=in_order)


def _sample(
    bounds: NDArray[np.float64], axis: int, end: int, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    x = on_face(bounds, axis, end, n, generator)
    normal = torch.zeros_like(x)
    normal[:, axis] = 2 * end - 1
    return x, normal


def _interval(axis: str, ends: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"{axis} must be (low, high), two finite numbers with low < high, got {ends!r}")
    return low, high
