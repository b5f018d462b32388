"""From a grid with face weights to the next coarser one, whose operator is of the same kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import Box, geometry
from deepcd.solvers.kernels.faces import distribution, elimination, forming, tempering
from deepcd.solvers.kernels.faces.records import F32, U8, Codes, Faces, Grid

STRONG = 0.3  # coupling along an axis, relative to the strongest one, from which on the axis is halved
# Diagonals of coarse cells that come from rounding: up to such parts of their cells' diagonals, and of the largest one.
ROUNDED, ROUNDED_LARGEST = np.float32(1e-9), 1e-13
NONE = np.zeros(0, dtype=np.uint8)


class FaceLevel(NamedTuple):
    """The operator of a level.

    `sealed`, if there is any, is the number of the component whose rows sum to zero that an entry of the padded box
    belongs to, -1 elsewhere.
    """

    grid: Grid
    faces: Faces
    diagonal: F32
    sealed: NDArray[np.int32] | None = None

    @classmethod
    def of(cls, grid: Grid, faces: Faces, sealed: NDArray[np.int32] | None = None) -> FaceLevel:
        """Return a level with its diagonal."""
        diagonal = np.zeros_like(faces.extra)
        forming.form_diagonal(grid.n, grid.s, faces.w0, faces.w1, faces.w2, faces.extra, diagonal)
        return cls(grid, faces, diagonal, sealed)

    @property
    def cells(self) -> int:
        """Number of cells of the box."""
        return math.prod(self.grid.n)

    def strong_axes(self) -> tuple[bool, bool, bool]:
        """Return along which axes cells are coupled strongly; at least one."""
        (n, s, _), f = self.grid, self.faces
        strength = forming.couplings(n, s, f.w0, f.w1, f.w2, f.inverse)
        if not strength.max() > 0:
            strength = np.array([size > 1 for size in n], dtype=float)
        first, middle, last = (n[a] > 1 and strength[a] >= STRONG * strength.max() for a in range(3))
        return bool(first), bool(middle), bool(last)


def halved_box(n: Box, s: tuple[int, int], axis: int) -> tuple[Box, tuple[int, int]]:
    """Return cells and strides of the box with half as many cells along an axis.

    Examples
    --------
    >>> halved_box((4, 5, 6), (56, 8), 1), halved_box((4, 1, 6), (8, 0), 2)
    (((4, 3, 6), (40, 8)), ((4, 1, 3), (5, 0)))
    """
    m0, m1, m2 = (size + 1 >> 1 if own == axis else size for own, size in enumerate(n))
    return geometry((m0, m2) if s[1] == 0 else (m0, m1, m2))


@dataclass
class _Halfway:
    """An operator while its axes are halved one after the other; without an axis `faces` has None in its place."""

    n: Box
    s: tuple[int, int]
    faces: list[F32]
    extra: F32

    def coarser(self, axis: int) -> _Halfway:
        """Return zero weights on the box of half as many cells along an axis."""
        m, s = halved_box(self.n, self.s, axis)
        first, last, extra = (np.zeros((m[0] + 2) * s[0], dtype=np.float32) for _ in range(3))
        middle = first if s[1] == 0 else np.zeros_like(first)
        return _Halfway(m, s, [first, middle, last], extra)

    def close(self, wrap: tuple[bool, bool, bool]) -> None:
        """Repeat the last face in the padding of axes that repeat."""
        forming.close_faces(self.n, self.s, wrap, *self.faces)

    def diagonal(self) -> F32:
        """Return the diagonal."""
        diagonal = np.zeros_like(self.extra)
        forming.form_diagonal(self.n, self.s, *self.faces, self.extra, diagonal)
        return diagonal


class Coarser(NamedTuple):
    """The next coarser level, and the transfer to it."""

    level: FaceLevel
    codes: Codes
    failing: float  # share of its face weights where geometry fails
    ratio: float  # least ratio of a resistor network's weight to that of a face
    halved: tuple[bool, bool, bool]  # the axes that were
    lumped: list[F32]  # the faces before they were tempered, if they were kept


def coarsen(fine: FaceLevel, *, keep: bool = True) -> Coarser:
    """Halve the axes along which cells are coupled strongly, one after the other; networks need what is kept."""
    (n, s, wrap), f, diagonal, sealed = fine
    halved, codes = fine.strong_axes(), [NONE] * 6
    now, d = _Halfway(n, s, [f.w0, f.w1, f.w2], f.extra), diagonal
    for axis in range(3):
        if halved[axis]:
            now, codes[2 * axis], codes[2 * axis + 1] = _halve(now, wrap, axis, d)
            d = now.diagonal()
    lumped = [w.copy() for w in now.faces] if keep else []
    failing, ratio = _temper(fine, now, halved)
    floor, inverse = np.zeros_like(now.extra), np.zeros_like(now.extra)
    least = np.float32(ROUNDED_LARGEST * float(diagonal.max()))
    forming.sum_floor(n, s, halved, diagonal, now.n, now.s, ROUNDED, least, floor)
    now.close(wrap)
    forming.remove_cells(now.n, now.s, wrap, floor, now.diagonal(), *now.faces, now.extra)
    now.close(wrap)
    d = now.diagonal()
    forming.invert(d, inverse)
    if sealed is not None:
        label = np.full(d.size, -1, dtype=np.int32)
        forming.inherit(n, s, halved, diagonal, sealed, now.s, np.zeros_like(d), label)
        sealed = label
    faces = Faces(now.faces[0], now.faces[1], now.faces[2], now.extra, inverse)
    level = FaceLevel(Grid(now.n, now.s, wrap), faces, d, sealed)
    return Coarser(level, Codes(*codes), failing, ratio, halved, lumped)


def _halve(fine: _Halfway, wrap: tuple[bool, bool, bool], axis: int, diagonal: F32) -> tuple[_Halfway, U8, U8]:
    """Return the operator with half as many cells along an axis, and how the cells hang on the coarser ones."""
    n, s, w, coarse = fine.n, fine.s, fine.faces, fine.coarser(axis)
    near, far = (np.zeros(fine.extra.size, dtype=np.uint8) for _ in range(2))
    where = (near, far, coarse.s, coarse.faces[axis], coarse.extra)
    if axis < 2:
        elimination.halve_across(n, s, wrap[axis], axis, w[axis], fine.extra, diagonal, *where)
    else:
        elimination.halve_along(n, s, wrap[axis], w[axis], fine.extra, diagonal, *where)
    for other in range(3):
        if other == axis or n[other] == 1:
            continue
        sums = (near, far, coarse.s, coarse.faces[other], coarse.faces[axis], coarse.extra)
        if axis < 2:
            distribution.distribute_across(n, s, wrap[axis], wrap[other], axis, other, w[other], *sums)
        else:
            distribution.distribute_along(n, s, wrap[axis], other, w[other], *sums)
    coarse.close(wrap)
    return coarse, near, far


def _temper(fine: FaceLevel, coarse: _Halfway, halved: tuple[bool, bool, bool]) -> tuple[float, float]:
    """Weaken coarse faces where resistor networks do; return what `Coarser` says of that."""
    (n, s, _), f = fine.grid, fine.faces
    total, small, ratio = 0.0, 0.0, 1.0
    for axis, w in enumerate((f.w0, f.w1, f.w2)):
        if n[axis] == 1:
            continue
        where = (w, coarse.s, coarse.n, coarse.faces[axis])
        own = (
            tempering.temper_across(n, s, halved, axis, *where)
            if axis < 2
            else tempering.temper_along(n, s, halved, *where)
        )
        total, small, ratio = total + own[0], small + own[1], min(ratio, own[2])
    return small / total if total > 0 else 0.0, ratio
