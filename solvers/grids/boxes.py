"""Which whole boxes, row i being cell i in C order, may have couplings between given rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry

DISTANCES = 6  # of neighbours along three axes, and of links across the box
SHARE = 0.9  # of the couplings that have to fit; where others are, the matrix is almost a grid


class Box(NamedTuple):
    """A box, and which of its axes repeat."""

    shape: tuple[int, ...]  # cells per axis, two at least
    wrap: tuple[bool, bool, bool]  # by axis as in `geometry`


def boxes(n: int, pairs: NDArray[np.int64]) -> list[Box]:
    """Return the boxes of n cells that most couplings fit into, the best first.

    Parameters
    ----------
    n : int
        Number of rows.
    pairs : ndarray of int64, shape (2, k)
        Rows and columns of couplings.

    Returns
    -------
    list of Box
        Boxes of two or three axes in which the couplings lie along two axes at least. An axis repeats only if there are
        links across the box.

    Examples
    --------
    >>> boxes(12, np.array([[0, 1, 0, 5, 0], [1, 2, 4, 9, 8]]))
    [Box(shape=(3, 4), wrap=(True, False, False))]
    """
    first, last = pairs.min(axis=0), pairs.max(axis=0)
    distances, counts = np.unique(last - first, return_counts=True)
    usual = sorted(distances[np.argsort(-counts, kind="stable")[:DISTANCES]].tolist())
    found = []
    for shape in _shapes(n, usual):
        share, wrap = _fit(shape, first, last)
        if share >= SHARE:
            found.append((-share, sum(wrap), len(shape), shape, wrap))
    return [Box(shape, wrap) for *_, shape, wrap in sorted(found)]


def _shapes(n: int, distances: list[int]) -> list[tuple[int, ...]]:
    """Return the shapes whose strides, or the lengths of whose links across the box, are among some distances."""
    shapes: list[tuple[int, ...]] = []
    for row in sorted({d + link for d in distances for link in (0, 1)}):
        if row < 2 or n % row or n == row:
            continue
        shapes.append((n // row, row))
        planes = sorted({d + link for d in distances for link in (0, row)})
        shapes += [
            (n // plane, plane // row, row)
            for plane in planes
            if plane > row and plane % row == 0 and n % plane == 0 and n > plane
        ]
    return shapes


def _fit(
    shape: tuple[int, ...], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[float, tuple[bool, bool, bool]]:
    """Return the share of couplings, given by first < last, that fit into a box, 0 if along one axis, and its links."""
    n, _ = geometry(shape)
    distance, fits = last - first, np.zeros(first.size, dtype=bool)
    wrap, along = [False, False, False], 0
    for axis, stride in enumerate((n[1] * n[2], n[2], 1)):
        if n[axis] > 1:
            at = first // stride % n[axis]
            beside = (distance == stride) & (at < n[axis] - 1)
            linked = (distance == (n[axis] - 1) * stride) & (at == 0) if n[axis] > 2 else np.zeros_like(fits)
            wrap[axis] = bool(linked.any())
            along += bool(beside.any()) or wrap[axis]
            fits |= beside | linked
    return (float(fits.mean()) if along > 1 else 0.0), (wrap[0], wrap[1], wrap[2])
