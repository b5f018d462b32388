"""Where the coarse levels of a hierarchy lie in memory: the one place that knows it.

All their fields lie in one array, `pool`, so that a hierarchy is a few arrays whatever the number of its levels. A row
of `table` describes a level: its box, its entries, and where in the pool each field and the scratch of a compiled visit
begin. A row of `numbers` holds the taps to the next coarser level and the weight of the second visit. The functions
below work in Python, compiled, and on arrays of a device alike.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels.records import F32, Box, Coefficients, Scratch, scratch_shapes

SETS = 6  # sets of three planes that a pass over a coarse level keeps
# Columns of `table`
N0, N1, N2, S0, S1, SIZE = range(6)
DIAGONAL, W, A, C, PHI, PSI, R, Z, T, E, Y = range(6, 17)
RINGS, ROW, ALONG, END = range(17, 21)
# Columns of `numbers`
NEAR, FAR, WEIGHT, NUMBERS = 0, 3, 6, 7


class Fields(NamedTuple):
    """The fields of a coarse level, in the order of their columns: coefficients, then vectors."""

    diagonal: F32
    w: F32  # (3, box)
    a: F32
    c: F32  # (3, box)
    phi: F32
    psi: F32
    r: F32
    z: F32
    t: F32
    e: F32
    y: F32


class Below(NamedTuple):
    """What a pass reads and writes of the level below."""

    psi: F32
    r: F32
    z: F32


class Memory(NamedTuple):
    """What a compiled visit reads and writes: all coarse levels, and the exact solution on the last one."""

    table: NDArray[np.int64]
    numbers: F32
    pool: F32
    cells: NDArray[np.int64]  # unknowns of the last level
    inverse: F32  # on these


def table_of(boxes: list[Box]) -> NDArray[np.int64]:
    """Return the table of the levels on some boxes. The last column of the last row is the size of the pool."""
    rows, end = [], 0
    for box in boxes:
        lengths = [3 * box.size if column in (W, C) else box.size for column in range(DIAGONAL, RINGS)]
        lengths += [math.prod(shape) for shape in scratch_shapes(box, SETS)]
        begins = np.cumsum([end, *lengths])
        rows.append([*box.n, *box.s, box.size, *begins])
        end = begins[-1]
    return np.array(rows, dtype=np.int64)


def box_of(row: Any) -> Any:
    """Return the box of a level, given its row of the table."""
    return Box((row[N0], row[N1], row[N2]), (row[S0], row[S1]))


def fields_of(row: Any, pool: Any) -> Any:
    """Return the fields of a level, parts of the pool."""
    size = row[SIZE]
    return Fields(
        pool[row[DIAGONAL] : row[DIAGONAL] + size],
        pool[row[W] : row[W] + 3 * size].reshape(3, size),
        pool[row[A] : row[A] + size],
        pool[row[C] : row[C] + 3 * size].reshape(3, size),
        pool[row[PHI] : row[PHI] + size],
        pool[row[PSI] : row[PSI] + size],
        pool[row[R] : row[R] + size],
        pool[row[Z] : row[Z] + size],
        pool[row[T] : row[T] + size],
        pool[row[E] : row[E] + size],
        pool[row[Y] : row[Y] + size],
    )


def below_of(row: Any, pool: Any) -> Any:
    """Return what a pass over the level above reads and writes of a level; fewer views than `fields_of` makes."""
    size = row[SIZE]
    return Below(pool[row[PSI] : row[PSI] + size], pool[row[R] : row[R] + size], pool[row[Z] : row[Z] + size])


def coefficients_of(fields: Any) -> Any:
    """Return what the passes over a level read of its fields."""
    return Coefficients(fields.diagonal, fields.w, fields.a, fields.c, fields.phi)


def scratch_of(row: Any, pool: Any) -> Any:
    """Return the scratch of a compiled visit to a level."""
    plane, line, lines = row[S0] + row[S1] + 4, row[N2] + 4, (row[N1] + 1) // 2 + 2
    return Scratch(
        pool[row[RINGS] : row[RINGS] + 3 * SETS * plane].reshape(SETS, 3, plane),
        pool[row[ROW] : row[ROW] + line],
        pool[row[ALONG] : row[ALONG] + lines * line].reshape(lines, line),
    )
