"""Where the rows of a matrix lie in a padded box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int]
Rows = slice | NDArray[np.int64]
SLENDER = 16  # times as long as it is wide, a box is a channel


class NotAGrid(ValueError):
    """The matrix is not the operator of a Cartesian grid in C order; the message says where and why."""


def geometry(shape: tuple[int, ...]) -> tuple[Box, tuple[int, int]]:
    """Return cells per axis as three numbers and the strides of the padded box, as `kernels/outer.py` wants them.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis.

    Examples
    --------
    >>> geometry((4, 5, 6)), geometry((4, 6))
    (((4, 5, 6), (56, 8)), ((4, 1, 6), (8, 0)))
    """
    row = shape[-1] + 2
    if len(shape) == 2:
        return (shape[0], 1, shape[1]), (row, 0)
    return (shape[0], shape[1], shape[2]), ((shape[1] + 2) * row, row)


def is_slender(shape: tuple[int, ...]) -> bool:
    """Return whether a box is a channel: more than 16 times as long as along its next longest axis.

    Across a channel there are few cells, which are alike over its whole length. What is a small error beside a wall in
    another box is one everywhere here; and the smoothest functions have so little energy that rounding shows.

    Examples
    --------
    >>> is_slender((1024, 16, 16)), is_slender((8, 8, 8192)), is_slender((512, 512, 4)), is_slender((160, 10))
    (True, True, False, False)
    """
    second, longest = sorted(shape)[-2:]
    return longest > SLENDER * second


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where the rows of a matrix lie in a padded box. It says nothing about the coefficients.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis without padding. Axes of one cell are dropped; a chain is (1, M).
    rows : slice or ndarray of int64, shape (m,)
        The matrix rows that are cells of the box, ascending; ``slice(None)`` if all of them are.
    position : ndarray of int32, or int64 for boxes beyond its range, shape (m,)
        Flat index in the padded box of each of these rows.
    component : ndarray of int32, shape (m,)
        Connected component of each of these rows: 0, 1, ... in the order of their first rows.
    """

    shape: tuple[int, ...]
    rows: Rows
    position: NDArray[np.int32 | np.int64]
    component: NDArray[np.int32]

    @property
    def n(self) -> Box:
        """Cells per axis as three numbers; see `geometry`."""
        return geometry(self.shape)[0]

    @property
    def s(self) -> tuple[int, int]:
        """Strides of the padded box along its first and its middle axis; see `geometry`."""
        return geometry(self.shape)[1]


def padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the padded box."""
    return tuple(size + 2 for size in shape)


def index_type(cells: int) -> type[np.int32 | np.int64]:
    """Return the type of integers that can number the cells of a box."""
    return np.int32 if cells <= np.iinfo(np.int32).max else np.int64
