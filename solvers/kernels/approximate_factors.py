"""Compiled solves with approximate Cholesky factors, whose columns serve both substitutions.

M = (L D L')^-1, rows in the order of elimination. A column of -L is its heaviest entry, float64, and the other ones,
float32; see `approximate_cholesky.py`, which makes them. The forward substitution scatters and the backward one
gathers. Another order of the rows was not quicker: what is eliminated next is near what was eliminated before.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.rows import load, store, zero

ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def renumber(order, position, heavy, rows):
    """Replace vertices by their positions in the order; `position` (n,) is set."""
    for k in range(np.uint64(order.size)):
        position[np.uint64(order[k])] = k
    for k in range(np.uint64(order.size)):
        heavy[k] = position[np.uint64(heavy[k])]
    for e in range(np.uint64(rows.size)):
        rows[e] = position[np.uint64(rows[e])]


@njit(cache=True, nogil=True, fastmath=FAST)
def apply(order, starts, rows, values, heavy, heaviest, inverses, y, r, z):
    """z <- M r; y is overwritten; returns r.z."""
    n, rz = order.size, 0.0
    for k in range(np.uint64(n)):
        y[k] = r[np.uint64(order[k])]
    for k in range(np.uint64(n)):
        value = y[k]
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + ONE])):
            y[np.uint64(rows[e])] += values[e] * value
        y[np.uint64(heavy[k])] += heaviest[k] * value
        y[k] = inverses[k] * value
        rz += value * y[k]
    for step in range(n):
        k = np.uint64(n - 1 - step)
        value = y[k] + heaviest[k] * y[np.uint64(heavy[k])]
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + ONE])):
            value += values[e] * y[np.uint64(rows[e])]
        y[k] = value
        z[np.uint64(order[k])] = value
    return rz


@njit(cache=True, nogil=True, fastmath=FAST)
def apply_columns(lanes, order, starts, rows, values, heavy, heaviest, inverses, y, r, z, rz):
    """z <- M r, rz <- r.z for several right-hand sides; see `columns.py`."""
    n, total = order.size, zero(lanes)
    for k in range(n):
        store(y, k, load(r, order[k], lanes))
    for k in range(n):
        value = load(y, k, lanes)
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            store(y, rows[e], load(y, rows[e], lanes) + values[e] * value)
        store(y, heavy[k], load(y, heavy[k], lanes) + heaviest[k] * value)
        store(y, k, inverses[k] * value)
        total += inverses[k] * (value * value)
    for k in range(n - 1, -1, -1):
        value = load(y, k, lanes) + heaviest[k] * load(y, heavy[k], lanes)
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            value += values[e] * load(y, rows[e], lanes)
        store(y, k, value)
        store(z, order[k], value)
    store(rz, 0, total)
