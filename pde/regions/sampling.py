"""Boxes: their bounds, uniformly random points inside and on faces, and the nodes of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Points = NDArray[np.float64]


def as_box(bounds: Any) -> Points:
    """Return bounds as a new array of float64, shape (d, 2); raise a ValueError if they are not a box.

    Examples
    --------
    >>> from deepcd.pde.regions.sampling import as_box
    >>> as_box([(0, 1), (-1, 1)]).tolist()
    [[0.0, 1.0], [-1.0, 1.0]]
    """
    box = np.array(bounds, dtype=np.float64)
    if box.ndim != 2 or box.shape[1] != 2 or not len(box):
        raise ValueError(f"bounds must be a (low, high) pair per axis, got shape {box.shape}")
    if not np.isfinite(box).all() or not (box[:, 0] < box[:, 1]).all():
        raise ValueError(f"bounds must be finite with low < high on each axis, got {box.tolist()}")
    return box


def in_box(bounds: ArrayLike, n: int, generator: torch.Generator) -> Tensor:
    """Draw points uniformly from a box.

    Parameters
    ----------
    bounds : array_like, shape (d, 2)
        Low and high end of each axis.
    n : int
        Number of points, at least one.
    generator : torch.Generator
        A random stream on the CPU.

    Returns
    -------
    Tensor of float64, shape (n, d)

    Raises
    ------
    ValueError
        If n is less than one.
    """
    if n < 1:
        raise ValueError(f"n must be a positive number of points, got {n!r}")
    low, high = torch.tensor(np.array(bounds, dtype=np.float64)).T
    return low + (high - low) * torch.rand(n, len(low), dtype=torch.float64, generator=generator)


def on_face(bounds: ArrayLike, axis: int, end: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw points uniformly from one face of a box.

    Parameters
    ----------
    bounds, n, generator
        See :func:`in_box`.
    axis : int
        The axis that the face is perpendicular to. If axis 0 is time, axis 0 and end 0 give initial points.
    end : {0, 1}
        Whether the face is at the low or at the high end of the axis.

    Returns
    -------
    Tensor of float64, shape (n, d)

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions.sampling import on_face
    >>> on_face([(0, 1), (-1, 1)], 0, 0, 3, torch.Generator().manual_seed(0))[:, 0].tolist()
    [0.0, 0.0, 0.0]
    """
    points = in_box(bounds, n, generator)
    points[:, axis] = float(np.asarray(bounds)[axis, end])
    return points


def tensor_grid(bounds: ArrayLike, nodes: Sequence[int]) -> Points:
    """Return the nodes of an equidistant grid that includes both ends of each axis; the last axis runs fastest.

    Parameters
    ----------
    bounds : array_like, shape (d, 2)
    nodes : sequence of d int
        Number of nodes per axis.

    Returns
    -------
    ndarray of float64, shape (product of nodes, d)

    Examples
    --------
    >>> from deepcd.pde.regions.sampling import tensor_grid
    >>> tensor_grid([(0, 1), (-1, 1)], (2, 3)).tolist()
    [[0.0, -1.0], [0.0, 0.0], [0.0, 1.0], [1.0, -1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    axes = [np.linspace(low, high, m) for (low, high), m in zip(np.asarray(bounds), nodes, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
