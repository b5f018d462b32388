"""All coarse levels of a cycle in one compiled call: every level is visited twice, the last one solved exactly.

What a level consists of lies in one array, `pool`, so that the whole hierarchy is three arrays whatever the number of
levels. `table` holds per level n0, n1, n2, s0, s1, the entries of its box and where in the pool its fields begin, in
the order of `FIELDS`, and its scratch; `numbers` the taps to the next level (near, far) and the second visit's weight.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels import coarse, gauss_seidel
from deepcd.solvers.kernels.outer import FAST

FIELDS = ("diagonal", "w", "a", "c", "phi", "psi", "r", "z", "t", "e", "y")
SETS = 6  # of three planes that a pass over a coarse level keeps
AXES = ("w", "c")  # fields with one entry per cell and axis


def layout(n: tuple[int, int, int], s: tuple[int, int], start: int) -> tuple[list[int], int]:
    """Return a level's row of `table`, if its part of the pool begins at `start`, and where that ends."""
    size, row = (n[0] + 2) * s[0], n[2] + 4
    lengths = [size * (3 if name in AXES else 1) for name in FIELDS]
    lengths += [3 * SETS * (s[0] + s[1] + 4), row, ((n[1] + 1) // 2 + 2) * row]
    begins = [start + sum(lengths[:k]) for k in range(len(lengths))]
    return [*n, *s, size, *begins], start + sum(lengths)


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve(cells, inverse, psi, r, t, z):
    """z <- psi inverse r on some cells; t is scratch."""
    m = np.uint64(cells.size)
    for j in range(m):
        t[j] = r[cells[j]]
    for k in range(m):
        total = np.float32(0)
        for j in range(m):
            total += inverse[k, j] * t[j]
        z[cells[k]] = psi[cells[k]] * total


@njit(cache=True, nogil=True)
def visit(table, numbers, pool, cells, inverse, sweeps, depth):
    """z of a level <- psi times what two cycles, or on the last level the exact solution, make of its r.

    cells, inverse
        The unknowns of the last level, and the dense inverse on them.
    sweeps
        Of Gauss-Seidel, with the inverse of the diagonal in the place of `a`; 0: the smoother (a, c).
    """
    row = table[depth]
    n, s, size = (row[0], row[1], row[2]), (row[3], row[4]), row[5]
    diagonal, w = pool[row[6] : row[6] + size], pool[row[7] : row[7] + 3 * size].reshape(3, size)
    a, c = pool[row[8] : row[8] + size], pool[row[9] : row[9] + 3 * size].reshape(3, size)
    phi, psi = pool[row[10] : row[10] + size], pool[row[11] : row[11] + size]
    r, z, t = pool[row[12] : row[12] + size], pool[row[13] : row[13] + size], pool[row[14] : row[14] + size]
    e, y = pool[row[15] : row[15] + size], pool[row[16] : row[16] + size]
    if depth == table.shape[0] - 1:
        _solve(cells, inverse, psi, r, t, z)
        return
    below = table[depth + 1]
    m, ms, length = (below[0], below[1], below[2]), (below[3], below[4]), below[5]
    psi_below = pool[below[11] : below[11] + length]
    r_below, z_below = pool[below[12] : below[12] + length], pool[below[13] : below[13] + length]
    near, far = numbers[depth, :3], numbers[depth, 3:6]
    plane, line = s[0] + s[1] + 4, n[2] + 4
    rings = pool[row[17] : row[17] + 3 * SETS * plane].reshape(SETS, 3, plane)
    buffer, lines = pool[row[18] : row[18] + line], (n[1] + 1) // 2 + 2
    along = pool[row[19] : row[19] + lines * line].reshape(lines, line)
    if sweeps == 0:
        coefficients, transfer = (diagonal, w, a, c, phi), (m, ms, near, far)
        coarse.descend(n, s, *coefficients, r, y, *transfer, psi_below, r_below, rings, buffer, 0, m[0])
        visit(table, numbers, pool, cells, inverse, sweeps, depth + 1)
        coarse.turn(
            n, s, *coefficients, r, y, e, t, z, *transfer, z_below, psi_below, r_below, rings, buffer, along, 0, m[0]
        )
        visit(table, numbers, pool, cells, inverse, sweeps, depth + 1)
        coarse.ascend(n, s, *coefficients, t, z, y, *transfer, z_below, rings, buffer, along, 0, n[0])
        coarse.combine(numbers[depth, 6], e, psi, y, z)
        return
    for again in range(2):
        right, out, left = (t, z, pool[:0]) if again else (r, e, t)
        gauss_seidel.descend_coarse(
            n, s, diagonal, a, w, sweeps, phi, right, out, m, ms, near, far, psi_below, r_below, rings, buffer
        )
        visit(table, numbers, pool, cells, inverse, sweeps, depth + 1)
        gauss_seidel.ascend_coarse(
            n, s, diagonal, a, w, sweeps, phi, right, out, m, ms, near, far, z_below, left, rings, buffer, along
        )
    coarse.combine(numbers[depth, 6], e, psi, z, z)
