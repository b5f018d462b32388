"""Compiled incomplete Cholesky factors without fill, A ~ U'U, on the upper triangle of a sparse matrix in CSR.

Rows hold their diagonal entry first and the others by column. Right-looking: a row is finished, then it is taken off
the rows below it. What would fall outside the pattern is dropped, or, in the modified form, moved to the two diagonal
entries that it couples, which keeps row sums (Gustafsson, BIT 18, 1978).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.rows import load, store, zero


@njit(cache=True, nogil=True)
def factor(indptr, indices, data, modified, guard, growth):
    """Turn data into U; a pivot below guard times the entry of A is replaced by that. Returns how many were.

    It returns -1, with U unfinished, where the square of an entry in column j exceeds growth times A_jj.
    """
    n = len(indptr) - 1
    original = np.empty(n)
    for k in range(n):
        original[k] = data[indptr[k]]
    replaced = 0
    for k in range(n):
        first, last = indptr[k], indptr[k + 1]
        pivot = data[first]
        if not pivot > guard * original[k]:
            pivot, replaced = original[k], replaced + 1
        root = math.sqrt(pivot)
        data[first] = root
        for e in range(first + 1, last):
            data[e] /= root
            if not data[e] * data[e] <= growth * original[indices[e]]:
                return -1
        for e in range(first + 1, last):
            i = indices[e]
            data[indptr[i]] -= data[e] * data[e]
            at, end = indptr[i] + 1, indptr[i + 1]
            for f in range(e + 1, last):
                j, value = indices[f], data[e] * data[f]
                while at < end and indices[at] < j:
                    at += 1
                if at < end and indices[at] == j:
                    data[at] -= value
                else:
                    data[indptr[i]] -= modified * value
                    data[indptr[j]] -= modified * value
    return replaced


@njit(cache=True, nogil=True, fastmath=FAST)
def solve(indptr, indices, data, r, z):
    """z <- (U'U)^-1 r, U with the reciprocals of its diagonal; returns r.z."""
    n = len(indptr) - 1
    for k in range(n):
        z[k] = r[k]
    for k in range(n):
        first = np.uint64(indptr[k])
        value = z[k] * data[first]
        z[k] = value
        for e in range(first + np.uint64(1), np.uint64(indptr[k + 1])):
            z[np.uint64(indices[e])] -= data[e] * value
    total = 0.0
    for back in range(n):
        k = n - 1 - back
        first = np.uint64(indptr[k])
        value = z[k]
        for e in range(first + np.uint64(1), np.uint64(indptr[k + 1])):
            value -= data[e] * z[np.uint64(indices[e])]
        value *= data[first]
        z[k] = value
        total += value * r[k]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def solve_columns(lanes, indptr, indices, data, r, z, rz):
    """z <- (U'U)^-1 r, rz <- r.z for several right-hand sides; see `columns.py`."""
    n = len(indptr) - 1
    z[:] = r
    for k in range(n):
        first = np.uint64(indptr[k])
        row = data[first] * load(z, k, lanes)
        store(z, k, row)
        for e in range(first + np.uint64(1), np.uint64(indptr[k + 1])):
            store(z, indices[e], load(z, indices[e], lanes) - data[e] * row)
    total = zero(lanes)
    for k in range(n - 1, -1, -1):
        first = np.uint64(indptr[k])
        row = load(z, k, lanes)
        for e in range(first + np.uint64(1), np.uint64(indptr[k + 1])):
            row -= data[e] * load(z, indices[e], lanes)
        row = data[first] * row
        store(z, k, row)
        total += row * load(r, k, lanes)
    store(rz, 0, total)
