"""Where the coarse levels lie in memory, and all visits to them in one compiled call.

A row of `table` describes a level: its box, which axes repeat, and where its operator begins in `fields`, its vectors
in `pool`, and the codes of its transfer in `codes`. Functions that take a row work in Python and compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces import waves
from deepcd.solvers.kernels.faces.records import F32, U8, U16, Codes, Grid, ShortFaces

N0, N1, N2, S0, S1, WRAP0, WRAP1, WRAP2, SIZE, STEPS = range(10)
W0, W1, W2, EXTRA, INVERSE, FIELDS_END, R, Z, T, E, Y, RINGS, END = range(10, 23)
NEAR0, FAR0, NEAR1, FAR1, NEAR2, FAR2, CODES_END = range(23, 30)
SPARE = 5  # planes of scratch besides three for each step


class Memory(NamedTuple):
    """What a compiled visit reads and writes."""

    table: NDArray[np.int64]
    omegas: F32  # (levels, steps): of the smoothing steps
    weights: F32  # (levels,): of second visits
    fields: U16
    pool: F32
    codes: U8
    cells: NDArray[np.int64]  # unknowns of the last level
    inverse: F32  # on these


class Vectors(NamedTuple):
    """Work vectors of a level."""

    r: F32
    z: F32
    t: F32
    e: F32
    y: F32


def row_of(grid: Grid, steps: int, begin: tuple[int, int, int], lengths: list[int]) -> list[int]:
    """Return the row of a level; `begin` is where its operator, its vectors and its codes, of six lengths, begin."""
    size, flat = (grid.n[0] + 2) * grid.s[0], grid.s[1] == 0
    field, vector, code = begin
    fields = [field, field if flat else field + size]  # a flat box has no middle axis: w1 is w0
    fields += [fields[-1] + size * k for k in range(1, 5)]
    vectors = [vector + size * k for k in range(6)]
    end = vectors[-1] + (3 * steps + SPARE) * grid.s[0]
    codes = [code + sum(lengths[:k]) for k in range(7)]
    return [*grid.n, *grid.s, *map(int, grid.wrap), size, steps, *fields, *vectors, end, *codes]


def grid_of(row: Any) -> Any:
    """Return the box of a level."""
    wrap = (row[WRAP0] != 0, row[WRAP1] != 0, row[WRAP2] != 0)
    return Grid((row[N0], row[N1], row[N2]), (row[S0], row[S1]), wrap)


def faces_of(row: Any, fields: Any) -> Any:
    """Return the operator of a level."""
    size = row[SIZE]
    return ShortFaces(
        fields[row[W0] : row[W0] + size],
        fields[row[W1] : row[W1] + size],
        fields[row[W2] : row[W2] + size],
        fields[row[EXTRA] : row[EXTRA] + size],
        fields[row[INVERSE] : row[INVERSE] + size],
    )


def vectors_of(row: Any, pool: Any) -> Any:
    """Return the work vectors of a level."""
    size = row[SIZE]
    return Vectors(
        pool[row[R] : row[R] + size],
        pool[row[Z] : row[Z] + size],
        pool[row[T] : row[T] + size],
        pool[row[E] : row[E] + size],
        pool[row[Y] : row[Y] + size],
    )


def codes_of(row: Any, codes: Any) -> Any:
    """Return the codes of a level's transfer to the next coarser one."""
    return Codes(
        codes[row[NEAR0] : row[FAR0]],
        codes[row[FAR0] : row[NEAR1]],
        codes[row[NEAR1] : row[FAR1]],
        codes[row[FAR1] : row[NEAR2]],
        codes[row[NEAR2] : row[FAR2]],
        codes[row[FAR2] : row[CODES_END]],
    )


def rings_of(row: Any, pool: Any) -> Any:
    """Return the scratch of a level."""
    plane = row[S0]
    planes = 3 * row[STEPS] + SPARE
    return pool[row[RINGS] : row[RINGS] + planes * plane]


_grid_of, _faces_of, _vectors_of = (njit(f) for f in (grid_of, faces_of, vectors_of))
_codes_of, _rings_of = njit(codes_of), njit(rings_of)


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve(cells, inverse, r, t, z):
    """z <- inverse r on some cells; t is scratch."""
    m = np.uint64(cells.size)
    for j in range(m):
        t[j] = r[cells[j]]
    for k in range(m):
        total = np.float32(0)
        for j in range(m):
            total += inverse[k, j] * t[j]
        z[cells[k]] = total


@njit(cache=True, nogil=True, fastmath=FAST)
def _add(weight, e, z):
    """z <- e + weight z."""
    for k in range(np.uint64(z.size)):
        z[k] = e[k] + weight * z[k]


@njit(cache=True, nogil=True)
def visit(memory, depth):
    """z of a level <- what one or two cycles, or on the last level the exact solution, make of its r."""
    row = memory.table[depth]
    v = _vectors_of(row, memory.pool)
    if depth == memory.table.shape[0] - 1:
        _solve(memory.cells, memory.inverse, v.r, v.t, v.z)
        return
    grid, f, codes = _grid_of(row), _faces_of(row, memory.fields), _codes_of(row, memory.codes)
    rings, omegas = _rings_of(row, memory.pool), memory.omegas[depth, : row[STEPS]]
    under = memory.table[depth + 1]
    below, lower = _grid_of(under), _vectors_of(under, memory.pool)
    waves.descend(grid, f, omegas, v.r, v.y, codes, below, lower.r, rings, 0, below.n[0])
    visit(memory, depth + 1)
    if memory.weights[depth] == 0:
        waves.ascend(grid, f, omegas, v.r, v.y, v.z, codes, below, lower.z, rings, 0, grid.n[0])
        return
    waves.ascend(grid, f, omegas, v.r, v.y, v.e, codes, below, lower.z, rings, 0, grid.n[0])
    waves.residual(grid, f, v.r, v.e, v.t)
    waves.descend(grid, f, omegas, v.t, v.y, codes, below, lower.r, rings, 0, below.n[0])
    visit(memory, depth + 1)
    waves.ascend(grid, f, omegas, v.t, v.y, v.z, codes, below, lower.z, rings, 0, grid.n[0])
    _add(memory.weights[depth], v.e, v.z)


@njit(cache=True, nogil=True, fastmath=FAST)
def _advance(alpha, norm, image, v, before):
    """v <- -image / norm - alpha u - norm before and before <- u, with u = v / norm: a step of Lanczos."""
    over = np.float32(1) / norm
    for h in range(np.uint64(v.size)):
        u = v[h] * over
        v[h] = -image[h] * over - alpha * u - norm * before[h]
        before[h] = u


@njit(cache=True, nogil=True, fastmath=FAST)
def _product(inverse, u, v):
    """Return u.v on the unknowns, and set u to zero elsewhere."""
    total = np.float32(0)
    for h in range(np.uint64(v.size)):
        u[h] = u[h] if inverse[h] > 0 else np.float32(0)
        total += u[h] * v[h]
    return np.float64(total)


@njit(cache=True, nogil=True)
def tridiagonalise(memory, depth, alphas, betas):
    """Do Lanczos steps on A M of a level but the last in the inner product of M, one cycle; return their number.

    Golub and Van Loan, Matrix Computations, 4th ed., section 10.1. The level's vectors are overwritten.
    """
    row, under = memory.table[depth], memory.table[depth + 1]
    grid, f, codes = _grid_of(row), _faces_of(row, memory.fields), _codes_of(row, memory.codes)
    rings, omegas, v = _rings_of(row, memory.pool), memory.omegas[depth, : row[STEPS]], _vectors_of(row, memory.pool)
    below, lower = _grid_of(under), _vectors_of(under, memory.pool)
    before, zero, state = np.zeros_like(v.r), np.zeros_like(v.r), np.uint64(1)
    for h in range(v.r.size):  # Knuth's linear congruences: the same start everywhere
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        v.r[h] = np.float32(state >> np.uint64(40)) / np.float32(1 << 23) - np.float32(1) if f.inverse[h] > 0 else 0
    for k in range(alphas.size):
        waves.descend(grid, f, omegas, v.r, v.y, codes, below, lower.r, rings, 0, below.n[0])
        visit(memory, depth + 1)
        square = waves.ascend(grid, f, omegas, v.r, v.y, v.z, codes, below, lower.z, rings, 0, grid.n[0])
        if not square > 0:
            return k
        waves.residual(grid, f, zero, v.z, v.t)
        alphas[k], betas[k] = -_product(f.inverse, v.t, v.z) / square, np.sqrt(square)
        _advance(np.float32(alphas[k]), np.float32(betas[k]), v.t, v.r, before)
    return alphas.size
