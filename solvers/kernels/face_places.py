"""Compiled passes between a matrix and the weights of faces where the pattern alone says in which cells rows lie."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.face_values import (
    ALIKE,
    APART,
    ASYMMETRIC,
    COLUMN,
    COUNT,
    DIAGONAL,
    FINITE,
    MANY,
    OPEN,
    POSITIVE,
    SMALL,
    SMALLEST,
    UNSORTED,
    remainder,
)

ONE, THREE, SEVEN = np.uint64(1), np.uint64(3), np.uint64(7)


@njit(cache=True, nogil=True)
def crossing(rows, columns):
    """Return the first of some couplings that cells of three axes in C order cannot have, or -1.

    If two cells couple to the next ones along an axis, the order of these is their own. So couplings other than those
    to the next row, sorted by row and then by column from the last one on, are two ascending sequences at most.

    Parameters
    ----------
    rows, columns : ndarray of int64, shape (k,)
        Couplings to later rows.
    """
    high = low = np.int64(-1)  # the last columns of two sequences
    for k in range(rows.size):
        j = columns[k]
        if j == rows[k] + 1:
            continue
        if j > high:
            high = j
        elif j > low:
            low = j
        else:
            return k
    return -1


@njit(cache=True, nogil=True)
def census(indptr, indices, data, degree, tally):
    """Count the couplings of each row.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR; explicit zeros count as absent.
    degree : ndarray of uint8, shape (n,), out
        Couplings per row.
    tally : ndarray of int64, shape (4,), out
        Column of the entry with the reason.

    Returns
    -------
    reason : int
        0 for none.
    row : int
        First row with this reason, -1 for none.
    zeros : bool
        There are explicit zeros.
    planar : bool
        No row has three earlier or three later neighbours.
    """
    zeros, most = False, 0
    for i in range(indptr.size - 1):
        start, end = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
        if end - start == SEVEN and indices[start + THREE] == i:  # most rows: less time if spelled out
            usual, total = data[start + THREE] > 0.0, 0.0
            for k in range(3):
                low, high = start + np.uint64(k), start + np.uint64(k) + THREE + ONE
                usual &= (indices[low] < indices[low + ONE]) & (indices[high - ONE] < indices[high])
                usual &= (data[low] < 0.0) & (data[high] < 0.0)
                total += np.float64(data[low]) + np.float64(data[high])
            usual &= (indices[start] >= 0) & (indices[start + SEVEN - ONE] < indptr.size - 1)
            if usual and np.float64(data[start + THREE]) - total < np.inf:
                degree[i], most = 6, 3
                continue
        before, after, previous, diagonal = 0, 0, np.int64(-1), 0.0
        for e in range(start, end):
            j, a = np.int64(indices[e]), np.float64(data[e])
            if j <= previous or j >= indptr.size - 1:
                return UNSORTED, i, zeros, False
            previous = j
            zeros |= a == 0.0
            if j == i:
                diagonal = a
            elif a != 0.0:
                tally[COLUMN] = j
                if not -np.inf < a < 0.0:
                    return POSITIVE if a > 0.0 else FINITE, i, zeros, False
                before += j < i
                after += j > i
        if before + after > 0:
            tally[COLUMN] = i
            if max(before, after) > 3:
                return MANY, i, zeros, False
            if not 0.0 < diagonal < np.inf:
                return DIAGONAL if diagonal <= 0.0 else FINITE, i, zeros, False
        most = max(most, before, after)
        degree[i] = before + after
    return 0, -1, zeros, most < 3


@njit(cache=True, nogil=True)
def compress(indptr, indices, data, index, new_indptr, new_indices):
    """Write the pattern, diagonal included, of the rows with index[row] >= 0 (all: shape (0,)) without zeros.

    Returns a row and a column that couple though the latter row has no couplings, or -1 and -1.
    """
    to = row = 0
    new_indptr[0] = 0
    for i in range(indptr.size - 1):
        if index.size and index[i] < 0:
            continue
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if data[e] != 0.0:
                if index.size:
                    if index[j] < 0:
                        return i, j
                    j = index[j]
                new_indices[to] = j
                to += 1
        row += 1
        new_indptr[row] = to
    return -1, -1


@njit(cache=True, nogil=True)
def _axis(step, s):
    """Return the axis along which one cell lies behind another, or -1."""
    return 2 if step == 1 else (1 if step == s[1] else (0 if step == s[0] else -1))


@njit(cache=True, nogil=True)
def stray(indptr, indices, position, component, s, wrong):
    """Set `wrong`, shape (components,), where a pattern couples rows that do not lie side by side."""
    for i in range(position.size):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if j > i and _axis(position[j] - position[i], s) < 0:
                wrong[component[i]] = True


@njit(cache=True, nogil=True)
def placed(indptr, indices, data, index, position, s, unit, eps, faces, following, tally):
    """Read the weights of faces off a matrix whose rows lie in known cells.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR with sorted rows, as `census` has found it; explicit zeros count as absent.
    index : ndarray of int32, shape (n,) or (0,)
        Number of each row among those with couplings, -1 for others; empty if all rows have them.
    position : ndarray of int32 or int64, shape (m,)
        Places in the padded box of the rows with couplings.
    s : tuple of 3 ints
        Strides of the padded box; the second one is 0 in 2D.
    unit, eps, faces
        As in `face_values.whole`.
    following : ndarray of the type of indptr, shape (n,), out
        First entry of each row that no later row has been compared with.
    tally : ndarray of int64, shape (4,), out
        As in `face_values.whole`; neighbours without couplings are not counted.

    Returns
    -------
    reason, row, largest
        As in `face_values.whole`.
    """
    largest, given, taken = 0.0, 0, 0
    for i in range(indptr.size - 1):
        at = np.int64(index[i]) if index.size else i
        if at < 0:
            continue
        here, total, diagonal = np.int64(position[np.uint64(at)]), 0.0, 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j, weight = np.int64(indices[e]), -np.float64(data[e])
            if j == i:
                diagonal = -weight
                following[i] = e + ONE
                continue
            if weight == 0.0:
                continue
            to = np.int64(index[j]) if index.size else j
            tally[COLUMN] = j
            if to < 0:
                return ASYMMETRIC, i, largest
            step = np.int64(position[np.uint64(to)]) - here
            axis = _axis(abs(step), s)
            if axis < 0 or (step > 0) != (j > i):
                return APART, i, largest
            total += weight
            if j > i:
                value = weight * unit
                if value < SMALLEST:
                    return SMALL, i, largest
                if axis == 0:
                    faces.w0[np.uint64(here)] = value
                elif axis == 1:
                    faces.w1[np.uint64(here)] = value
                else:
                    faces.w2[np.uint64(here)] = value
                given += 1
            else:
                f, end = np.uint64(following[np.uint64(j)]), np.uint64(indptr[np.uint64(j + 1)])
                while f < end and data[f] == 0.0:
                    f += ONE
                if f == end or indices[f] != i or not abs(np.float64(data[f]) + weight) <= ALIKE * eps * weight:
                    if f < end and indices[f] < i:
                        tally[COLUMN] = indices[f]
                        return ASYMMETRIC, j, largest
                    return ASYMMETRIC, i, largest
                following[np.uint64(j)] = f + ONE
                taken += 1
        reason, rest = remainder(total, diagonal, eps)
        if reason:
            tally[COLUMN] = i
            return reason, i, largest
        faces.extra[np.uint64(here)], faces.inverse[np.uint64(here)] = rest * unit, 1.0 / (diagonal * unit)
        largest = max(largest, diagonal)
        tally[COUNT] += 1
        tally[OPEN] += rest > 0.0
    if given != taken:
        for i in range(indptr.size - 1):
            if index.size == 0 or index[i] >= 0:
                for e in range(following[i], indptr[i + 1]):
                    if data[e] != 0.0:
                        tally[COLUMN] = indices[e]
                        return ASYMMETRIC, i, largest
    return 0, -1, largest


@njit(cache=True, nogil=True)
def runs(faces):
    """Return where runs of cells that are coupled along the last axis begin, and where they end, ascending."""
    w2, inverse = faces.w2, faces.inverse
    count = 0
    for p in range(1, inverse.size):
        count += (inverse[p] != 0.0) & ((inverse[p - 1] == 0.0) | (w2[p - 1] == 0.0))
    starts, ends = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    begun = ended = 0
    for p in range(1, inverse.size - 1):
        if inverse[p] != 0.0:
            if inverse[p - 1] == 0.0 or w2[p - 1] == 0.0:
                starts[begun] = p
                begun += 1
            if inverse[p + 1] == 0.0 or w2[p] == 0.0:
                ends[ended] = p + 1
                ended += 1
    return starts, ends


@njit(cache=True, nogil=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent, i, j):
    a, b = _root(parent, i), _root(parent, j)
    parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def label_runs(starts, ends, faces, n, s, label):
    """Assign numbers to the components that runs form over faces with weights, in the order of their first cells.

    Parameters
    ----------
    starts, ends : ndarray of int64, shape (k,)
        What `runs` returns.
    faces : Faces
    n, s : tuple of int
        Cells per axis and strides of the padded box, as in `Grid`; axes may repeat.
    label : ndarray of int32, shape (k,), out
        Number of the component of each run.

    Returns
    -------
    int
        Number of components.
    """
    parent, inverse = np.arange(starts.size), faces.inverse
    for axis in range(2):
        w, stride, other = (faces.w0 if axis == 0 else faces.w1), s[axis], 0
        for run in range(starts.size if stride else 0):
            p = starts[run]
            while p < ends[run]:
                if w[p] == 0.0:
                    p += 1
                elif inverse[p + stride] == 0.0:  # a link across the box
                    far = np.searchsorted(starts, p - (n[axis] - 1) * stride, side="right") - 1
                    _unite(parent, far, run)
                    p = min(ends[run], ends[far] + (n[axis] - 1) * stride)
                else:
                    while ends[other] <= p + stride:  # runs ascend, and so do those behind them
                        other += 1
                    _unite(parent, run, other)
                    p = min(ends[run], ends[other] - stride)
    for run in range(starts.size):
        p = ends[run] - 1
        if faces.w2[p] != 0.0:
            _unite(parent, np.searchsorted(starts, p - (n[2] - 1), side="right") - 1, run)
    count = 0
    for run in range(starts.size):  # roots are the first of their components
        if parent[run] == run:
            label[run] = count
            count += 1
        else:
            label[run] = label[parent[run]]
    return count
