"""The definition of multigrid on face weights, in plain NumPy and SciPy, cell by cell; small boxes only.

Weights are three arrays of the shape of the box, the weight of each cell's face towards the next cell along an axis,
and an extra diagonal. Where an axis repeats, the last cell's face leads to the first one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels.faces.records import UNIT

F64 = NDArray[np.float64]
Wrap = tuple[bool, bool, bool]
Cell = tuple[int, ...]
CUT, LEAST = 1e-6, 0.2  # see `elimination.py` and `tempering.py`


class Weights(NamedTuple):
    """An operator on a box with three axes, some of which may have one cell."""

    w: tuple[F64, F64, F64]
    extra: F64
    wrap: Wrap = (False, False, False)


def faces(op: Weights, axis: int) -> Iterator[tuple[Cell, Cell, float]]:
    """Yield the two cells of each face along an axis, and its weight."""
    n = op.extra.shape
    for cell in np.ndindex(*n):
        if op.w[axis][cell] != 0:
            yield cell, step(cell, axis, 1, n), float(op.w[axis][cell])


def step(cell: Cell, axis: int, by: int, n: Cell) -> Cell:
    """Return the cell that lies `by` cells further along an axis, which repeats."""
    return (*cell[:axis], (cell[axis] + by) % n[axis], *cell[axis + 1 :])


def matrix(op: Weights) -> sp.csr_array:
    """Return the matrix A x = extra x + sum over faces of w (x_i - x_j), cells in C order."""
    number = np.arange(op.extra.size).reshape(op.extra.shape)
    A = sp.lil_array((op.extra.size, op.extra.size))
    A.setdiag(op.extra.ravel())
    for axis in range(3):
        for p, q, w in faces(op, axis):
            i, j = number[p], number[q]
            A[i, i] += w
            A[j, j] += w
            A[i, j] -= w
            A[j, i] -= w
    return A.tocsr()


def halve(op: Weights, axis: int) -> tuple[Weights, NDArray[np.int64], NDArray[np.int64]]:
    """Return the operator with half as many cells along an axis, and the codes near and far of all cells."""
    n, wrap = op.extra.shape, op.wrap[axis]
    m, diagonal = (n[axis] + 1) // 2, matrix(op).diagonal().reshape(n)
    shape = tuple(m if a == axis else k for a, k in enumerate(n))
    near, far = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    coarse = Weights((np.zeros(shape), np.zeros(shape), np.zeros(shape)), np.zeros(shape), op.wrap)
    joined = wrap and m > 1
    for line in itertools.product(*(range(1 if a == axis else k) for a, k in enumerate(n))):
        pairs = [_pair(op, diagonal, axis, (*line[:axis], c, *line[axis + 1 :])) for c in range(m)]
        for c, pair in enumerate(pairs):
            target = (*line[:axis], c, *line[axis + 1 :])
            coarse.extra[target] += len(pair.cells) * pair.least
            if len(pair.cells) == 1:
                near[pair.cells[0]] = UNIT
            ends = [0] if c == 0 and not joined and len(pair.cells) == 2 else []
            ends += [1] if c == m - 1 and not joined and len(pair.cells) == 2 else []
            for end in ends:
                y = pair.walls[end]
                lost = int(UNIT * y / (pair.g + y) + 0.5)
                near[pair.cells[end]] = UNIT - lost
                coarse.extra[target] += (pair.g * lost**2 + y * (UNIT - lost) ** 2) / UNIT**2
            if c < m - 1 or joined:
                other = pairs[(c + 1) % m]
                codes = _link(op, axis, pair, other, coarse, target)
                if len(pair.cells) == 2:
                    near[pair.cells[1]], far[pair.cells[1]] = codes[:2]
                if len(other.cells) == 2:
                    near[other.cells[0]], far[other.cells[0]] = codes[2:]
    for other_axis in range(3):
        if other_axis != axis:
            _distribute(op, axis, other_axis, near, far, coarse)
    return coarse, near, far


class _Pair(NamedTuple):
    cells: list[Cell]
    g: float  # conductance of a cell to the centre
    least: float  # reaction of each cell
    walls: list[float]


def _pair(op: Weights, diagonal: F64, axis: int, place: Cell) -> _Pair:
    n, c = op.extra.shape, place[axis]
    own = [(*place[:axis], i, *place[axis + 1 :]) for i in (2 * c, 2 * c + 1) if i < n[axis]]
    d, extra = min((diagonal[p] for p in own if diagonal[p] > 0), default=0.0), [op.extra[p] for p in own]
    if len(own) == 1:
        return _Pair(own, 1e10 * d if d > 0 else 1.0, extra[0], [0.0, 0.0])
    g = 2 * op.w[axis][own[0]] + CUT * d if d > 0 else 1.0
    return _Pair(own, g, min(extra), [x - min(extra) for x in extra])


def _link(op: Weights, axis: int, first: _Pair, second: _Pair, coarse: Weights, target: Cell) -> tuple[int, ...]:
    """Eliminate the two cells between two centres; return their codes."""
    w = op.w[axis][first.cells[-1]]
    g1, g2, y1, y2 = first.g, second.g, first.walls[1], second.walls[0]
    total = g1 + g2 + w + y1 + y2
    u1, u2, v, z1, z2 = g1 / total, g2 / total, w / total, y1 / total, y2 / total
    det = u1 * u2 + u1 * (v + z2) + u2 * (v + z1) + v * (z1 + z2) + z1 * z2

    def code(x: float) -> int:
        return int(UNIT * x / det + 0.5)

    l1, l2 = code(v * z2 + z1 * (u2 + v + z2)), code(v * z1 + z2 * (u1 + v + z1))
    n1 = min(code(u1 * (u2 + v + z2)), UNIT - l1)
    f1 = UNIT - l1 - n1
    f2 = min(max(n1 - code(u1 * (u2 + z2)), 0), UNIT - l2)
    n2 = UNIT - l2 - f2
    codes = n1, f1, n2, f2
    near1, far1, near2, far2, lost1, lost2 = (x / UNIT for x in (*codes, l1, l2))
    P, Q = max(near1 - far2, 0.0), max(near2 - far1, 0.0)
    low, top = min(P, Q), max(P, Q)
    beyond = step(target, axis, 1, coarse.extra.shape)
    coarse.w[axis][target] += g1 * (far1 + lost1) * far1 + g2 * (far2 + lost2) * far2 + w * top * low
    coarse.extra[target] += (
        g1 * (far1 + lost1) * lost1 + w * top * (P - low) + y1 * (near1 + far1) * near1 + y2 * (near2 + far2) * far2
    ) + (far2 * second.least - far1 * first.least)
    coarse.extra[beyond] += (
        g2 * (far2 + lost2) * lost2 + w * top * (Q - low) + y1 * (near1 + far1) * far1 + y2 * (near2 + far2) * near2
    ) + (far1 * first.least - far2 * second.least)
    return codes


def _hangs_on(cell: Cell, axis: int, n: Cell, wrap: bool) -> tuple[Cell, Cell, Cell]:
    """Return the coarse cells that a cell hangs on, near and far, and the one that their common face belongs to."""
    m, i = (n[axis] + 1) // 2, cell[axis]
    own, other = i // 2, i // 2 + 2 * (i % 2) - 1
    if not 0 <= other < m:
        other = other % m if wrap else own
    places = own, other, own if i % 2 else other
    near, far, face = ((*cell[:axis], c, *cell[axis + 1 :]) for c in places)
    return near, far, face


def _distribute(
    op: Weights, axis: int, other: int, near: NDArray[np.int64], far: NDArray[np.int64], coarse: Weights
) -> None:
    n = op.extra.shape
    for p, q, w in faces(op, other):
        own, beyond, face = _hangs_on(p, axis, n, op.wrap[axis])
        own_q, _, face_q = _hangs_on(q, axis, n, op.wrap[axis])
        kept_p, kept_q = near[p] + far[p], near[q] + far[q]
        both, along = min(near[p], near[q]), min(far[p], far[q])
        around = max(min(kept_p, kept_q) - both - along, 0) / 2
        coarse.w[other][own] += (both + around) / UNIT * w
        if beyond != own:
            coarse.w[other][beyond] += (along + around) / UNIT * w
            coarse.w[axis][face] += around / UNIT * w
            coarse.w[axis][face_q] += around / UNIT * w
        coarse.extra[own] += max(kept_p - kept_q, 0) / UNIT * w
        coarse.extra[own_q] += max(kept_q - kept_p, 0) / UNIT * w


def interpolation(near: NDArray[np.int64], far: NDArray[np.int64], axis: int, wrap: bool) -> sp.csr_array:
    """Return the matrix from coarse to fine cells along one axis."""
    n = near.shape
    m = tuple((k + 1) // 2 if a == axis else k for a, k in enumerate(n))
    fine, coarse = np.arange(near.size).reshape(n), np.arange(int(np.prod(m))).reshape(m)
    P = sp.lil_array((near.size, coarse.size))
    for cell in np.ndindex(*n):
        own, beyond, _ = _hangs_on(cell, axis, n, wrap)
        P[fine[cell], coarse[own]] += near[cell] / UNIT
        P[fine[cell], coarse[beyond]] += far[cell] / UNIT
    return P.tocsr()


def resistor(op: Weights, halved: tuple[bool, bool, bool], axis: int, cell: Cell) -> float:
    """Return the weight of a coarse face along an axis as that of a network of resistors."""
    n = op.extra.shape
    rows = [range(2 * c, min(2 * c + 2, k)) if h else range(c, c + 1) for c, k, h in zip(cell, n, halved, strict=True)]
    rows[axis] = range(2 * cell[axis], 2 * cell[axis] + 1) if halved[axis] else range(cell[axis], cell[axis] + 1)
    lines = [(i, j, k) for i in rows[0] for j in rows[1] for k in rows[2]]
    if not halved[axis]:
        return float(sum(op.w[axis][line] for line in lines))
    w, alone = op.w[axis], 2 * cell[axis] + 1 == n[axis]
    following = 2 * cell[axis] + 2 if 2 * cell[axis] + 2 < n[axis] else 0
    lone = following + 1 == n[axis]
    crossing = [w[line] if alone else w[step(line, axis, 1, n)] for line in lines]
    halves = [
        (np.inf if alone else w[line], np.inf if lone else w[(*line[:axis], following, *line[axis + 1 :])])
        for line in lines
    ]

    def series(cross: Any, a: Any, b: Any) -> float:
        return float(cross / (1 + cross * (0.5 / (a + 1e-20) + 0.5 / (b + 1e-20))))

    each = sum(series(c, a, b) for c, (a, b) in zip(crossing, halves, strict=True))
    together = series(sum(crossing), sum(a for a, _ in halves), sum(b for _, b in halves))
    return math.sqrt(each * together)


def coarsen(op: Weights, halved: tuple[bool, bool, bool]) -> tuple[Weights, sp.csr_array]:
    """Return the next coarser operator, and the interpolation from it."""
    coarse, P = op, sp.eye_array(op.extra.size).tocsr()
    for axis in range(3):
        if halved[axis]:
            coarse, near, far = halve(coarse, axis)
            P = P @ interpolation(near, far, axis, op.wrap[axis])
    for axis in range(3):
        if coarse.extra.shape[axis] == 1:
            continue
        for cell in np.ndindex(*coarse.extra.shape):
            weight = coarse.w[axis][cell]
            if weight > 0:
                ratio = float((resistor(op, halved, axis, cell) + 1e-20) / (weight + 1e-20))
                coarse.w[axis][cell] = weight * math.sqrt(min(max(ratio, LEAST), 1.0))
    return coarse, P


def smooth(A: sp.csr_array, omegas: F64, r: F64, z: F64) -> F64:
    """Return z after smoothing steps z <- z + omega D^-1 (r - A z)."""
    diagonal = A.diagonal()
    for omega in omegas:
        z = z + np.where(diagonal > 0, omega * (r - A @ z) / np.where(diagonal > 0, diagonal, 1.0), 0.0)
    return z


def features(coarse: Weights, lumped: Weights, halved: tuple[bool, bool, bool], cell: Cell) -> F64:
    """Return what networks read of a coarse cell: see `learned/face_architecture.py`; `lumped` is before tempering."""
    n, diagonal = coarse.extra.shape, matrix(coarse).diagonal().reshape(coarse.extra.shape)
    d, seen = diagonal[cell], []
    for axis in range(3):
        for by in (-1, 0):
            face, other = step(cell, axis, by, n), step(cell, axis, -1 if by else 1, n)
            w, before = coarse.w[axis][face], lumped.w[axis][face]
            if n[axis] == 1 or not (d > 0 and (coarse.wrap[axis] or 0 <= cell[axis] + (-1 if by else 1) < n[axis])):
                seen += [0.0, 0.0, 0.0, float(n[axis] > 1)]
                continue
            beside = diagonal[other]
            seen += [w / d, (w / d) ** 0.25, beside / (d + beside), w / before if before > 0 else 1.0]
    share = coarse.extra[cell] / d if d > 0 else 0.0
    return np.array([*seen, share, share**0.25, *map(float, halved)])


def scaled(coarse: Weights, logarithms: F64) -> Weights:
    """Return an operator whose faces and extra diagonal have factors; logarithms (4 or more, n0, n1, n2)."""
    w = [own.copy() for own in coarse.w]
    for axis in range(3):
        for p, q, weight in faces(coarse, axis):
            w[axis][p] = weight * np.exp((logarithms[axis][p] + logarithms[axis][q]) / 2)
    return Weights((w[0], w[1], w[2]), coarse.extra * np.exp(logarithms[3]), coarse.wrap)
