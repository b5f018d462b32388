"""Compiled passes over the entries of a matrix whose off-diagonal entries may all be equal, as those of a grid."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.repeats import end_of_run, may_repeat

EXPLICIT_ZERO = 1  # reason that `values` gives for an explicit zero


@njit(cache=True, nogil=True)
def scan(indptr, indices, data, bits, degree, count, starts):
    """Count as `values` does, provided that A is sorted and every entry is an exact multiple of the coupling.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR, n rows.
    bits : ndarray of int, shape (nnz,)
        The values, seen as integers.
    degree, count : ndarray of uint8, shape (n,), out
        As of `values`.
    starts : ndarray of int, shape (n + 1,), out
        First rows of the runs (see `repeats`), and n behind them.

    Returns
    -------
    scale : float
        Negative of the off-diagonal entries; 0 if `values` has to look.
    planar : bool
        No row has three earlier or three later neighbours.
    runs : int
        Number of runs.
    """
    scale, most, run, i = 0.0, 0, 0, 0
    for k in range(indptr[0], indptr[min(indptr.size - 1, 1)]):
        if indices[k] != 0:
            scale = -np.float64(data[k])
    if not 0.0 < scale < np.inf:
        return 0.0, False, 0
    coupling, unit = data.dtype.type(-scale), 1.0 / scale
    while i < indptr.size - 1:
        usual, previous, before, after, diagonal = True, np.int64(-1), 0, 0, 0.0
        for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j = np.int64(indices[k])
            usual &= j > previous
            previous = j
            if j == i:
                diagonal = np.float64(data[k])
            else:
                usual &= data[k] == coupling
                before += j < i
                after += j > i
        multiple = np.uint8(min(max(diagonal * unit + 0.5, 0.0), 255.0))
        most = max(most, before, after)
        if not usual or diagonal == 0 or diagonal != multiple * scale or multiple < before + after or most > 3:
            return 0.0, False, 0
        starts[run] = i
        run += 1
        end = end_of_run(indptr, indices, bits, i) if may_repeat(indptr, indices, i, before) else i + 1
        while i < end:
            degree[i] = before + after
            count[i] = multiple if before + after > 0 else 0
            i += 1
    starts[run] = i
    return scale, most < 3, run


@njit(cache=True, nogil=True)
def values(indptr, indices, data, eps, degree, count):
    """Check the values of A row by row and count.

    Parameters
    ----------
    indptr, indices, data : ndarray
        Canonical CSR (sorted, no duplicates), n rows.
    eps : float
        Rounding unit of the values.
    degree : ndarray of uint8, shape (n,), out
        Off-diagonal entries per row.
    count : ndarray of uint8, shape (n,), out
        Diagonal divided by the scale; 0 for rows without off-diagonal entries.

    Returns
    -------
    reason : int
        0 for none, 1 an explicit zero, 2 positive off-diagonal, 3 off-diagonals differ, 4 more than three earlier or
        later neighbours, 5 no diagonal, 6 diagonal no multiple of the coupling, 7 diagonal too small, 8 too large, 9
        not finite.
    row : int
        First row with this reason.
    scale : float
        Negative of the off-diagonal entries, 0 if there are none.
    planar : bool
        No row has three earlier or three later neighbours.
    """
    n = indptr.size - 1
    scale = 0.0
    planar = True
    for i in range(n):
        before = after = 0
        diagonal = 0.0
        found = False
        for k in range(indptr[i], indptr[i + 1]):
            j, a = indices[k], data[k]
            if a == 0.0:
                return EXPLICIT_ZERO, i, scale, planar
            if j == i:
                diagonal = a
                found = True
                continue
            if not np.isfinite(a):
                return 9, i, scale, planar
            if a > 0.0:
                return 2, i, scale, planar
            if scale == 0.0:
                scale = -a
            if not abs(a + scale) <= 64.0 * eps * scale:
                return 3, i, scale, planar
            if j < i:
                before += 1
            else:
                after += 1
        if before > 3 or after > 3:
            return 4, i, scale, planar
        degree[i] = before + after
        count[i] = 0
        if before + after == 0:
            continue
        if not found:
            return 5, i, scale, planar
        if not np.isfinite(diagonal):
            return 9, i, scale, planar
        ratio = diagonal / scale
        if not abs(ratio - np.rint(ratio)) <= 8.0 * eps * abs(ratio):
            return 6, i, scale, planar
        if ratio < before + after - 0.5:
            return 7, i, scale, planar
        if ratio > 255.5:
            return 8, i, scale, planar
        count[i] = np.uint8(np.rint(ratio))
        if before == 3 or after == 3:
            planar = False
    return 0, -1, scale, planar


@njit(cache=True, nogil=True)
def verify(indptr, indices, data, index, position, box, stride, scale, eps, component, wrong):
    """Compare every entry of A with the operator of the box.

    Parameters
    ----------
    indptr, indices, data : ndarray
        Canonical CSR; explicit zeros count as absent.
    index : ndarray of int32, shape (n,) or (0,)
        Cell of each row, -1 for rows outside the box; empty if rows and cells are the same.
    position, box : ndarray
        Flat indices of the cells, all different, and the flat padded box of diagonals.
    stride : tuple of 3 ints
        Strides of the box, 0 for an axis that it does not have.
    scale, eps : float
        Negative of the off-diagonal entries, and rounding unit of the entries.
    component : ndarray of int32, shape (m,)
        Component of each cell.
    wrong : ndarray of bool, shape (components,), out
        Components with a mismatch; zeros on entry.

    Returns
    -------
    reason : int
        Kind of the first mismatch: 0 for none, 1 touching cells not coupled, 2 coupled cells that do not touch, 3
        off-diagonal value, 4 diagonal value, 5 a coupling of a row outside the box.
    row, column : int
        Place of the first mismatch.
    """
    reason = row = column = 0
    for i in range(indptr.size - 1):
        at = index[i] if index.size else i
        here = 0 if at < 0 else position[at]
        coupled = 0
        diagonal = 0.0
        found = 0
        where = i
        for k in range(indptr[i], indptr[i + 1]):
            j, a = indices[k], data[k]
            if j == i:
                diagonal = a
            elif a != 0.0:
                coupled += 1
                there = index[j] if index.size else j
                if at < 0 or there < 0:
                    found, where = 5, j
                    continue
                d = abs(position[there] - here)
                if d != stride[2] and d != stride[1] and d != stride[0]:
                    found, where = 2, j
                elif not abs(a + scale) <= 64.0 * eps * scale:
                    found, where = 3, j
        if at >= 0:
            touching = 0
            for s in stride:
                if s > 0:
                    touching += int(box[here - s] != 0) + int(box[here + s] != 0)
            if touching != coupled and found == 0:
                found = 1 if touching > coupled else 2
            if found == 0 and not abs(diagonal - scale * box[here]) <= 8.0 * eps * abs(diagonal):
                found = 4
            if found == 0 and box[here] < coupled:
                found = 4
        if found:
            if at >= 0:
                wrong[component[at]] = True
            if reason == 0:
                reason, row, column = found, i, where
    return reason, row, column
