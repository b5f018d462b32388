"""What the kernels of the multigrid cycle take as one argument: boxes, coefficients, transfers and scratch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class Box(NamedTuple):
    """A flat padded box as `kernels/outer.py` describes it."""

    n: tuple[int, int, int]  # cells per axis
    s: tuple[int, int]  # entries from plane to plane and from row to row

    @property
    def size(self) -> int:
        """Entries of the padded box."""
        return (self.n[0] + 2) * self.s[0]

    @property
    def strides(self) -> tuple[int, int, int]:
        """Flat distance of neighbours per axis, 0 where there are none."""
        return self.s[0], self.s[1], 1


class Coefficients(NamedTuple):
    """Operator, smoother and transfer scaling of a coarse level: one number per cell, or one per axis and cell."""

    diagonal: F32
    w: F32  # (3, box): weights of the faces
    a: F32
    c: F32  # (3, box)
    phi: F32


class Taps(NamedTuple):
    """Interpolation from the next coarser box: the weights of the own and of the next coarse cell per axis."""

    near: F32
    far: F32


class Transfer(NamedTuple):
    """The next coarser box and the taps between it and the finer one."""

    n: tuple[int, int, int]
    s: tuple[int, int]
    near: F32
    far: F32


class Scaling(NamedTuple):
    """The transfer scaling of the finest level: a constant, and a factor on it for listed cells, see `finest.py`."""

    phi: np.float32
    starts: NDArray[np.int64]
    cells: NDArray[np.int32]
    ratio: F32


class Smoother(NamedTuple):
    """S of the finest level: constants, and what is added to them for listed cells, see `finest.py`."""

    constants: tuple[np.float32, ...]
    delta: F32
    runs: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: NDArray[np.int32]


class Scratch(NamedTuple):
    """Memory of one thread: planes that a pass keeps, a fine row, and a fine row for each coarse one."""

    rings: F32
    row: F32
    along: F32


def scratch_shapes(box: Box, sets: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a thread's scratch for a box: `sets` of three planes, a row, a row per coarse row."""
    row = box.n[2] + 4
    return (sets, 3, box.s[0] + box.s[1] + 4), (row,), ((box.n[1] + 1) // 2 + 2, row)


def scratch_for(box: Box, sets: int) -> Scratch:
    """Return scratch of one thread for a box."""
    return Scratch(*(np.zeros(shape, dtype=np.float32) for shape in scratch_shapes(box, sets)))


def taps(q: float, n: tuple[int, ...]) -> Taps:
    """Return the weights (1 - q, q) for every axis that is halved, and (1, 0) for axes of one cell.

    Examples
    --------
    >>> taps(0.25, (4, 1, 7)).near.tolist()
    [0.75, 1.0, 0.75]
    """
    far = np.array([q if k > 1 else 0.0 for k in n], dtype=np.float32)
    return Taps(np.float32(1) - far, far)
