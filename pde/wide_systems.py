"""Matrices that couple each point of a box to all eight or 26 around it: multilinear elements, and graphs of cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

F64 = NDArray[np.float64]
Offset = tuple[int, ...]


def elements(k: F64, widths: Sequence[float] | None = None) -> csr_array:
    """Return the stiffness matrix of -div(k grad u) for multilinear elements (Q1) on a box, with nothing prescribed.

    Parameters
    ----------
    k : ndarray of float, one entry for each element, 2D or 3D
        Coefficient, not negative.
    widths : sequence of float, optional
        Width of an element along each axis; default: one.

    Returns
    -------
    csr_array
        Rows are nodes in C order, one more along each axis than there are elements. The constant is in the null space;
        for Dirichlet data, rows and columns of the nodes that have them are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.wide_systems import elements
    >>> np.round(elements(np.ones((2, 2))).toarray()[4] * 3, 6)
    array([-1., -1., -1., -1.,  8., -1., -1., -1., -1.])
    """
    sizes = (1.0,) * k.ndim if widths is None else tuple(widths)
    nodes = tuple(size + 1 for size in k.shape)
    corners = list(itertools.product((0, 1), repeat=k.ndim))
    fields: dict[Offset, F64] = {}
    for a, b in itertools.product(corners, corners):
        weight = 0.0
        for axis in range(k.ndim):  # of an element: stiffness along one axis times mass along the others
            parts = [
                (1 if p == q else -1) / h if d == axis else (2 if p == q else 1) * h / 6
                for d, (p, q, h) in enumerate(zip(a, b, sizes, strict=True))
            ]
            weight += math.prod(parts)
        field = fields.setdefault(tuple(q - p for p, q in zip(a, b, strict=True)), np.zeros(nodes))
        field[tuple(slice(p, p + size) for p, size in zip(a, k.shape, strict=True))] += weight * k
    return _assembled(fields)


def all_neighbours(conductance: F64) -> csr_array:
    """Return the Laplacian of the graph of cells that touch, corners included.

    Parameters
    ----------
    conductance : ndarray of float, shape of a box in 2D or 3D
        Conductance of each cell. Where it is zero there is a hole, whose row is empty. Two cells are coupled by the
        mean of theirs, divided by the distance of their centres.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.wide_systems import all_neighbours
    >>> np.round(all_neighbours(np.ones((2, 2))).toarray(), 3)[0]
    array([ 2.707, -1.   , -1.   , -0.707])
    """
    shape = conductance.shape
    fields: dict[Offset, F64] = {}
    total = np.zeros(shape)
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        if not any(step):
            continue
        here = tuple(slice(max(0, -d), size - max(0, d)) for d, size in zip(step, shape, strict=True))
        there = tuple(slice(max(0, d), size - max(0, -d)) for d, size in zip(step, shape, strict=True))
        own, other = conductance[here], conductance[there]
        field = np.zeros(shape)
        field[here] = np.where((own > 0) & (other > 0), -(own + other) / 2, 0.0) / math.hypot(*step)
        fields[step] = field
        total -= field
    return _assembled(fields | {(0,) * len(shape): total})


def _assembled(fields: dict[Offset, F64]) -> csr_array:
    """Return the matrix whose entries towards the points so many steps away are given; zeros are not stored."""
    shape = next(iter(fields.values())).shape
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    parts = []
    for step, field in fields.items():
        row = np.flatnonzero(field)
        parts.append((row, row + sum(d * s for d, s in zip(step, strides, strict=True)), field.ravel()[row]))
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    A = csr_array(coo_array((values, (rows, columns)), shape=(math.prod(shape),) * 2))
    A.sort_indices()
    return A
