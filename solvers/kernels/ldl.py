"""Compiled factors P A P' = L D L' of a sparse symmetric matrix, without pivoting: the signs of D are A's inertia.

Up-looking, after Davis ("Algorithm 849", ACM Trans. Math. Softw. 31, 2005): row k of L follows from the rows above it
by a triangular solve, whose pattern is read off the elimination tree (Liu, SIAM J. Matrix Anal. Appl. 11, 1990). L has
the unit diagonal left out and is kept by columns, D as it is. The vectors of k right-hand sides interleave.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.rows import load, store


@njit(cache=True, nogil=True)
def permute(indptr, indices, data, scaling, shift, order, pointers, columns, values):
    """Write the lower triangle of P (S A S + shift I) P' row by row, with S = diag(scaling) and row k that of order[k].

    Parameters
    ----------
    indptr, indices, data : ndarray
        A in CSR.
    scaling : ndarray of float64, shape (n,)
        Diagonal of S.
    shift : float
        What is added to the diagonal.
    order : ndarray of int32, shape (n,)
        Rows of A in their new order.
    pointers, columns, values : ndarray, shapes (n + 1,), (nnz,) and (nnz,), out
        The rows; nnz entries are enough, (nnz + n) / 2 are used if no diagonal entry is missing.
    """
    n = len(order)
    position = np.empty(n, np.int32)
    for k in range(n):
        position[order[k]] = k
    count = 0
    pointers[0] = 0
    for k in range(n):
        i = order[k]
        for e in range(indptr[i], indptr[i + 1]):
            j = position[indices[e]]
            if j <= k:
                columns[count] = j
                values[count] = data[e] * scaling[i] * scaling[indices[e]] + (shift if j == k else 0.0)
                count += 1
        pointers[k + 1] = count


@njit(cache=True, nogil=True)
def analyse(pointers, columns, parent, starts):
    """Write the elimination tree, and where the columns of L begin; return the number of its entries.

    Parameters
    ----------
    pointers, columns : ndarray
        Lower triangle of a symmetric pattern, by rows.
    parent : ndarray of int32, shape (n,), out
        The elimination tree; -1 for roots.
    starts : ndarray of int64, shape (n + 1,), out
        Column k of L, without its diagonal, has the entries starts[k] .. starts[k + 1] - 1.
    """
    n = len(parent)
    seen = np.empty(n, np.int32)
    starts[:] = 0
    for k in range(n):
        parent[k] = -1
        seen[k] = k
        for e in range(pointers[k], pointers[k + 1]):
            i = columns[e]
            while seen[i] != k:
                if parent[i] < 0:
                    parent[i] = k
                starts[i + 1] += 1
                seen[i] = k
                i = parent[i]
    for k in range(n):
        starts[k + 1] += starts[k]
    return starts[n]


@njit(cache=True, nogil=True, fastmath=FAST)
def factor(pointers, columns, values, parent, starts, rows, L, D):
    """Write L and D; return the smallest pivot, or the first one that is not positive, at which it stops.

    Parameters
    ----------
    pointers, columns, values : ndarray
        Lower triangle of the matrix, by rows.
    parent, starts : ndarray
        What `analyse` writes.
    rows, L : ndarray of int32 and float64, shape (entries,), out
        Entries of L below its diagonal.
    D : ndarray of float64, shape (n,), out
        The pivots.
    """
    n = len(parent)
    y = np.zeros(n)  # row k of L D
    pattern = np.empty(n, np.int32)
    seen = np.empty(n, np.int32)
    ends = starts[:n].copy()
    least = np.inf
    for k in range(n):
        top = n
        seen[k] = k
        for e in range(pointers[k], pointers[k + 1]):
            i = columns[e]
            y[i] = values[e]
            count = 0
            while seen[i] != k:
                pattern[count] = i
                seen[i] = k
                count += 1
                i = parent[i]
            while count > 0:
                top -= 1
                count -= 1
                pattern[top] = pattern[count]
        pivot = y[k]
        y[k] = 0.0
        for at in range(top, n):
            i = pattern[at]
            value = y[i]
            y[i] = 0.0
            for e in range(np.uint64(starts[i]), np.uint64(ends[i])):
                y[np.uint64(rows[e])] -= L[e] * value
            entry = value / D[i]
            pivot -= entry * value
            rows[ends[i]] = k
            L[ends[i]] = entry
            ends[i] += 1
        D[k] = pivot
        least = min(least, pivot)
        if not pivot > 0:
            return pivot
    return least


@njit(cache=True, nogil=True, fastmath=FAST)
def solve(starts, rows, L, D, order, b):
    """Return the solution for b, in the order of A."""
    n = len(order)
    x, y = np.empty(n), np.empty(n)
    for k in range(n):
        y[k] = b[order[k]]
    for k in range(n):
        value = y[k]
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            y[np.uint64(rows[e])] -= L[e] * value
    for back in range(n):
        k = n - 1 - back
        value = y[k] / D[k]
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            value -= L[e] * y[np.uint64(rows[e])]
        y[k] = value
        x[order[k]] = value
    return x


@njit(cache=True, nogil=True, fastmath=FAST)
def solve_columns(lanes, starts, rows, L, D, order, b):
    """Return the solutions for a block b of columns, whose rows lie in registers."""
    n, x, y = len(order), np.empty(b.size), np.empty(b.size)
    for k in range(n):
        store(y, k, load(b, order[k], lanes))
    for k in range(n):
        row = load(y, k, lanes)
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            store(y, rows[e], load(y, rows[e], lanes) - L[e] * row)
    for k in range(n - 1, -1, -1):
        row = (1.0 / D[k]) * load(y, k, lanes)
        for e in range(np.uint64(starts[k]), np.uint64(starts[k + 1])):
            row -= L[e] * load(y, rows[e], lanes)
        store(y, k, row)
        store(x, order[k], row)
    return x
