"""What the passes over a grid with face weights take as one argument."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]  # bfloat16, the upper half of the bits of a float32

UNIT = 252  # code of the interpolation weight one; thirds, quarters and halves are whole codes, too


class Faces(NamedTuple):
    """An operator on a flat padded box, A x = extra x + sum over faces of w (x_i - x_j), and the inverse diagonal.

    `w0`, `w1` and `w2` hold in each cell the weight of its face towards the next cell along an axis: zero on the faces
    of the box and in its padding, but for axes that repeat, where the padding before the first cell repeats the weight
    of the last one. A box with two axes has no middle one, and `w1` is `w0`.
    """

    w0: F32
    w1: F32
    w2: F32
    extra: F32
    inverse: F32


class ShortFaces(NamedTuple):
    """The same with fields of bfloat16, as a cycle keeps them."""

    w0: U16
    w1: U16
    w2: U16
    extra: U16
    inverse: U16


class Around(NamedTuple):
    """An operator whose cells are coupled to all around them, on a padded box: A x = extra x + sum of w (x_i - x_j).

    `w`, shape (planes, 4 or 13, plane), holds in each cell the weights, of either sign, towards the cells after it: the
    next one in its row; in 3D the three beside it in the next row; and those in the next plane, row by row. `extra` and
    the inverse diagonal are flat.
    """

    w: F32
    extra: F32
    inverse: F32


class Codes(NamedTuple):
    """Interpolation along up to three axes, one after the other: weights of the own and of the next coarse cell.

    Those of an axis are codes of `UNIT` parts, on the box whose earlier axes are halved already; they are empty for an
    axis that is not halved.
    """

    near0: U8
    far0: U8
    near1: U8
    far1: U8
    near2: U8
    far2: U8


class Grid(NamedTuple):
    """A flat padded box, as in `kernels/outer.py`, and which of its axes repeat."""

    n: tuple[int, int, int]  # cells per axis
    s: tuple[int, int]  # entries from plane to plane and from row to row
    wrap: tuple[bool, bool, bool]
