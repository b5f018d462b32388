"""Runs of rows of a sparse matrix that repeat one another, each a column further on, as along a line of a grid.

A row repeats another one if it has as many entries, each of them one column further on and of the same bits. What holds
for the first row of a run holds for the others, so that passes over the matrix of a grid look at few rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ONE = np.uint64(1)
FEW, BLOCK = np.uint64(3), np.uint64(8)  # after a few rows of a run, blocks of rows are compared at once


@njit(cache=True, nogil=True)
def may_repeat(indptr, indices, i, before):
    """Tell whether the next row may repeat row i, which has `before` entries before its diagonal one.

    It must be coupled to the row before it, too: it could belong to another line otherwise. A function apart from
    `end_of_run`, and without a loop, so that it becomes part of its caller; a call costs as much as twenty comparisons.
    """
    end = np.uint64(i) + ONE
    start, behind = np.uint64(indptr[i]), np.uint64(indptr[end])
    if before == 0 or behind == np.uint64(indptr[indptr.size - 1]):  # no row behind has an entry, or there is none
        return False
    at = start + np.uint64(before)
    coupled = (np.int64(indices[at - ONE]) == i - 1) & (np.int64(indices[at + ONE]) == i + 1)
    alike = (np.uint64(indptr[end + ONE]) - behind == behind - start) & (indices[behind] == indices[start] + 1)
    return coupled & alike


@njit(cache=True, nogil=True)
def end_of_run(indptr, indices, bits, i):
    """Return the first row after the i-th that does not repeat the one before it.

    Parameters
    ----------
    indptr, indices : ndarray
        CSR, sorted.
    bits : ndarray of int, shape (nnz,) or (0,)
        Values of the entries, seen as integers; empty if they need not agree.
    i : int
    """
    rows, end, step, blocks = np.uint64(indptr.size) - ONE, np.uint64(i) + ONE, ONE, True
    length = np.uint64(indptr[end]) - np.uint64(indptr[i])
    while end + step <= rows:
        start, uneven = np.uint64(indptr[end]), np.uint64(0)
        for c in range(step):
            uneven |= np.uint64(indptr[end + c + ONE]) - start - (c + ONE) * length
        shifted = changed = np.int64(uneven)
        if uneven == 0:  # no branches below, so that it is done by vectors
            for k in range(start, start + step * length):
                shifted |= np.int64(indices[k] - indices[k - length] - 1)
            if shifted == 0 and bits.size > 0:
                for k in range(start, start + step * length):
                    changed |= np.int64(bits[k] ^ bits[k - length])
        if shifted == 0 and changed == 0:
            end += step
            step = BLOCK if blocks and end - np.uint64(i) > FEW and end + BLOCK <= rows else ONE
        elif step == ONE:
            break
        else:
            step, blocks = ONE, False
    return np.int64(end)


@njit(cache=True, nogil=True)
def runs(indptr, indices, starts):
    """Write the first rows of the runs of a sorted pattern, and the number of rows behind them; return their number.

    `starts` has room for one entry per row and one more.
    """
    i, count, none = 0, 0, indices[:0]
    while i < indptr.size - 1:
        starts[count] = i
        count += 1
        before = 0
        while np.int64(indices[indptr[i] + before]) < i:
            before += 1
        i = end_of_run(indptr, indices, none, i) if may_repeat(indptr, indices, i, before) else i + 1
    starts[count] = i
    return count
