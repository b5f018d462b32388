"""How much of each face and cell of a box is open beside a solid whose surface cuts through cells.

A solid is given by signed distances at the corners of cells. They are interpolated linearly on the simplices that join
the corners of a face, or of a cell, with the centres of its sides and its own; so the fractions of a half-space are
exact. Fluxes through the open part of each face make the cut-cell method of Batty, Bertails and Bridson (ACM Trans.
Graphics 26, 2007) and Ng, Min and Gibou (Journal of Computational Physics 228, 2009): with the fractions as coefficient
on faces, :func:`diffusion` is the Laplacian with no flux through the solid, of second order. The integrals over
simplices are those of Min and Gibou (Journal of Computational Physics 226, 2007).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.diffusion import Spacing, shape_of, widths_of
from deepcd.pde.domains import Shape

F64 = NDArray[np.float64]


class Fractions(NamedTuple):
    """The open parts of a box beside a solid.

    Parameters
    ----------
    faces : tuple of ndarray of float64
        Fraction of the area of each face, from 0 to 1: one array per axis, of the shape of the box but one longer along
        its axis.
    volume : ndarray of float64, shape of the box
        Fraction of the volume (in 2D the area) of each cell, from 0 to 1.
    """

    faces: tuple[F64, ...]
    volume: F64


def fractions(solid: Shape | ArrayLike, shape: Sequence[int], *, spacing: Spacing = 1.0) -> Fractions:
    """Return the fractions of faces and cells that a solid leaves open.

    Parameters
    ----------
    solid : Shape or array_like
        A shape that knows the distance from its surface, or an array of signed distances at the corners of cells,
        negative in the solid, one longer than the box along each axis. Only their ratios matter.
    shape : sequence of int
        Number of cells per axis, two or three.
    spacing : float or sequence, default 1.0
        Width of the cells, as in :func:`diffusion`. The box starts at the origin.

    Returns
    -------
    Fractions
        What is open of faces, the coefficient for :func:`diffusion`, and of cells, by which a source and a reaction are
        multiplied. Edges of the solid within a cell are cut off, and what lies between corners is lost.

    Raises
    ------
    ValueError
        If the shape has no distance, or an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import diffusion, fractions, half_space
    >>> opened = fractions(half_space((1.25, 0.0), (1.0, 0.0)), (3, 2))
    >>> opened.volume[:, 0].tolist(), opened.faces[1][:, 1].tolist()
    ([0.0, 0.75, 1.0], [0.0, 0.75, 1.0])
    >>> channel = diffusion((3, 2), opened.faces)
    >>> channel.A.toarray().tolist()
    [[1.75, -0.75, -1.0, 0.0], [-0.75, 1.75, 0.0, -1.0], [-1.0, 0.0, 2.0, -1.0], [0.0, -1.0, -1.0, 2.0]]
    >>> channel.rhs(source=opened.volume).tolist()
    [0.75, 0.75, 1.0, 1.0]
    """
    cells = shape_of(shape, "shape")
    widths, corners = widths_of(spacing, cells), tuple(n + 1 for n in cells)
    if isinstance(solid, Shape):
        if solid.distance is None:
            raise ValueError(
                "solid does not know the distance from its surface; combine balls, boxes, cylinders, half-spaces and "
                "meshes, or give an array of signed distances at the corners of cells"
            )
        places = np.meshgrid(*(np.r_[0.0, np.cumsum(w)] for w in widths), indexing="ij", sparse=True)
        distance = np.broadcast_to(solid.distance(places), corners)
    else:
        distance = np.asarray(solid, dtype=np.float64)
        if distance.shape != corners:
            raise ValueError(
                f"solid must be a Shape or hold one distance per corner, shape {corners}, got {distance.shape}"
            )
    if not np.isfinite(distance).all():
        raise ValueError("solid has distances that are NaN or infinite at corners of cells")
    ndim = len(corners)
    faces = tuple(_open(distance, [d for d in range(ndim) if d != axis]) for axis in range(ndim))
    return Fractions(faces, _open(distance, range(ndim)))


def _open(distance: F64, axes: Sequence[int]) -> F64:
    """Return where a distance at the corners of faces or cells, which extend along some axes, is positive."""
    sides = [(slice(None, -1), slice(1, None)) if d in axes else (slice(None),) for d in range(distance.ndim)]
    corners = np.stack([distance[part] for part in itertools.product(*sides)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    fraction = np.where(high > 0, 1.0, 0.0)
    cut = (low < 0) & (high > 0)
    values = corners[:, cut].reshape((2,) * len(axes) + (-1,))
    parts = [_positive(np.sort(simplex, axis=0)) for simplex in _simplices(values)]
    fraction[cut] = np.mean(parts, axis=0)
    return fraction


def _simplices(corners: F64) -> Iterator[F64]:
    """Yield the values at the vertices of simplices of equal size that make up segments, squares or cubes."""
    ndim = corners.ndim - 1
    if ndim == 1:
        yield corners
        return
    center = corners.mean(axis=tuple(range(ndim)))
    for axis, side in itertools.product(range(ndim), (0, 1)):
        for simplex in _simplices(np.take(corners, side, axis)):
            yield np.concatenate([simplex, center[None]])


def _positive(values: F64) -> F64:
    """Return the fraction of a simplex in which a linear function is positive, given by ascending values."""
    with np.errstate(divide="ignore", invalid="ignore"):  # in cases that do not apply

        def share(i: int, j: int) -> F64:
            """Return the part of the edge from i to j up to the zero."""
            return values[i] / (values[i] - values[j])

        last = len(values) - 1
        tip = np.prod([share(last, j) for j in range(last)], axis=0)  # only the last vertex is positive
        rest = 1 - np.prod([share(0, j) for j in range(1, last + 1)], axis=0)  # only the first one is not
        cases = [values[-1] <= 0, values[0] >= 0, values[-2] <= 0, values[1] >= 0]
        results = [np.zeros_like(tip), np.ones_like(tip), tip, rest]
        if last < 3:
            return np.select(cases, results)
        # Two vertices of a tetrahedron on either side: three tetrahedra, with the vertices 2 and 3, make up the prism.
        (c0, c1), (d0, d1) = ((share(i, 0), share(i, 1)) for i in (2, 3))
        return np.select(cases, results, c0 * c1 + d0 * d1 * (1 - c0) + c0 * d1 * (1 - c1))
