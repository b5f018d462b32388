"""Compiled passes that find out what a matrix in CSR is: its form, its rows, its components, and another numbering.

Indices are int32 or int64, values float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# What `rows` finds wrong with a matrix.
OUT_OF_RANGE, UNSORTED, ZERO, DIRTY = 1, 2, 4, 8


@njit(cache=True, nogil=True)
def rows(indptr, indices, data, eps, diagonal, is_open, sums):
    """Look at each row of a matrix: its form, its diagonal entry, what it couples to, and whether it sums to zero.

    Parameters
    ----------
    indptr, indices, data
        The matrix in CSR, of n rows.
    eps : float
        Unit roundoff that the entries carry.
    diagonal : ndarray of float64, shape (n,)
        Set to the diagonal entries, 0 where there is none.
    is_open : ndarray of bool, shape (n,)
        Set to whether the sum of a row is larger than rounding explains.
    sums : ndarray of float64, shape (5,)
        Set to the number of rows without off-diagonal entries, the largest magnitude of an entry, the sum of all
        entries, that of the diagonal entries, and that of u^2 / d with u the sum of a row right of its diagonal.

    Returns
    -------
    int
        0 if all is well, else a sum of flags, and the arrays are not of use: UNSORTED if a row is not strictly
        ascending, ZERO if zeros are stored, DIRTY if an entry is not finite; OUT_OF_RANGE alone if a column is.
    """
    n, found = indptr.size - 1, 0
    lone, largest, total, trace, squares, check = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        own, left, right, size, before = 0.0, 0.0, 0.0, 0.0, -1
        first, last = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
        for e in range(first, last):
            j, value = indices[e], data[e]
            if j <= before:
                found |= OUT_OF_RANGE if j < 0 else UNSORTED
            before = j
            magnitude = abs(value)
            if magnitude == 0.0:
                found |= ZERO
            size += magnitude
            largest = max(largest, magnitude)
            if j < i:
                left += value
            elif j > i:
                right += value
            else:
                own = value
        if before >= n:  # of an unsorted row another one may be out of range
            found |= OUT_OF_RANGE
        diagonal[i] = own
        lone += last - first == (own != 0.0)
        row = left + own + right
        is_open[i] = abs(row) > eps * np.float64(last - first) * size
        total += row
        trace += own
        check += size
        if own > 0.0:
            squares += right * right / own
    if found & UNSORTED:
        for e in range(indptr[n]):
            if indices[e] < 0 or indices[e] >= n:
                found |= OUT_OF_RANGE
    if found & OUT_OF_RANGE:
        return OUT_OF_RANGE
    if not check < np.inf:  # which may be the sum of finite entries
        for e in range(indptr[n]):
            if not abs(data[e]) < np.inf:
                found |= DIRTY
    sums[0], sums[1], sums[2], sums[3], sums[4] = lone, largest, total, trace, squares
    return found


@njit(cache=True, nogil=True)
def without_zeros(indptr, indices, data, row_starts, columns, values):
    """Fill row_starts (n + 1,), columns and values with a matrix without its zeros; return how many are left."""
    row_starts[0] = kept = 0
    for i in range(indptr.size - 1):
        for e in range(indptr[i], indptr[i + 1]):
            columns[kept], values[kept] = indices[e], data[e]  # a zero is written over
            kept += data[e] != 0.0
        row_starts[i + 1] = kept
    return kept


@njit(cache=True, nogil=True)
def is_symmetric(indptr, indices):
    """Return whether the pattern of a sorted matrix is symmetric: each entry has one in the mirrored place."""
    n = indptr.size - 1
    following = indptr[:-1].copy()  # the first entry of each row that no earlier row has asked for
    for i in range(n):
        first = following[i]
        if first < indptr[i + 1] and indices[first] < i:
            return False
        for e in range(first, indptr[i + 1]):
            j = indices[e]
            if j > i:
                f = following[j]
                if f == indptr[j + 1] or indices[f] != i:
                    return False
                following[j] += 1
    return True


@njit(cache=True, nogil=True)
def probe(indptr, indices, data, scaling, u, v, sums):
    """Set `sums`, shape (6,), to u.S v, v.S u, u.S u, v.S v, |S u|^2, |S v|^2 for S = diag(scaling) A diag(scaling)."""
    sums[:] = 0.0
    for i in range(indptr.size - 1):
        su = sv = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j = np.uint64(indices[e])
            value = data[e] * scaling[j]
            su += value * u[j]
            sv += value * v[j]
        su, sv = su * scaling[i], sv * scaling[i]
        sums[0] += u[i] * sv
        sums[1] += v[i] * su
        sums[2] += u[i] * su
        sums[3] += v[i] * sv
        sums[4] += su * su
        sums[5] += sv * sv


@njit(cache=True, nogil=True)
def reaches_all(indptr, indices, reached):
    """Return whether each row is coupled, over however many others, to one that is `reached` (n,) at first.

    Sweeps up and down are enough for most numberings; False may mean that more would be needed.
    """
    n = indptr.size - 1
    left = n
    for sweep in range(6):
        before, left = left, 0
        for k in range(n):
            i = k if sweep % 2 == 0 else n - 1 - k
            if not reached[i]:
                for e in range(indptr[i], indptr[i + 1]):
                    if reached[indices[e]]:
                        reached[i] = True
                        break
                left += not reached[i]
        if left in (0, before):
            break
    return left == 0


@njit(cache=True, nogil=True)
def number_by_levels(indptr, indices, order, component):
    """Sort rows by their distance from the first one of their component; return the number of components.

    Parameters
    ----------
    indptr, indices
        The pattern of the matrix in CSR, of n rows.
    order : ndarray of int32 or int64, shape (n,)
        Set to the rows in that order.
    component : ndarray of int32, shape (n,)
        Set to the component of each row, 0 .. count - 1.
    """
    n, root, head, tail, count = indptr.size - 1, 0, 0, 0, 0
    component[:] = -1
    while tail < n:
        while component[root] >= 0:
            root += 1
        component[root] = count
        order[tail] = root
        tail += 1
        while head < tail:
            i = order[head]
            head += 1
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                if component[j] < 0:
                    component[j] = count
                    order[tail] = j
                    tail += 1
        count += 1
    return count


_COLOURS, _BINS = 4, 8  # of rows within a level, and lengths of loops that are told apart
_FEW = 32  # rows of a level that is left as it is


@njit(cache=True, nogil=True)
def arrange_by_levels(indptr, indices, order):
    """Set `order` (n,) to the rows, level by level, and within a level such that loops are predictable.

    Rows of a level are coloured, greedily, so that few of one colour are coupled. They are sorted by colours, and then
    by how many couplings lead to rows before them and behind them. So a loop over the couplings to one side is as long
    as that of the row before, mostly, which is what a processor expects.
    """
    n = indptr.size - 1
    mark = np.full(n, -1, dtype=np.int32)  # 8 * level + colour; 7: not coloured yet
    scratch, keys = np.empty(n, dtype=order.dtype), np.empty(n, dtype=np.uint8)
    count = np.empty(_COLOURS * _BINS * _BINS + 1, dtype=np.int64)
    root, start, end = 0, 0, 0  # the rows of the present level are order[start:end]
    while end < n:
        while mark[root] >= 0:
            root += 1
        mark[root], order[end] = 7, root
        end += 1
        level = 0
        while start < end:
            tail = end
            for k in range(start, end):
                i = order[k]
                for e in range(indptr[i], indptr[i + 1]):
                    j = indices[e]
                    if mark[j] < 0:
                        mark[j], order[tail] = level + 15, j
                        tail += 1
            if end - start > _FEW:
                _colour(indptr, indices, order, start, end, level, mark)
                _sort(indptr, indices, order, start, end, mark, keys, count, scratch)
            start, end, level = end, tail, level + 8


@njit(cache=True, nogil=True)
def _colour(indptr, indices, order, start, end, level, mark):
    """Give each row of a level the first colour that none of its neighbours there has, or the last one."""
    for k in range(start, end):
        i, used = order[k], 0
        for e in range(indptr[i], indptr[i + 1]):
            colour = mark[indices[e]] - level
            used |= (0 <= colour < 7) << (colour & 7)
        colour = 0
        while colour < _COLOURS - 1 and (used >> colour) & 1:
            colour += 1
        mark[i] = level + colour


@njit(cache=True, nogil=True)
def _sort(indptr, indices, order, start, end, mark, keys, count, scratch):
    """Sort the rows of a level by colour, by couplings to rows before, and by others."""
    count[:] = 0
    for k in range(start, end):
        i, before = order[k], 0
        for e in range(indptr[i], indptr[i + 1]):
            before += mark[indices[e]] < mark[i]
        others = indptr[i + 1] - indptr[i] - 1 - before
        keys[k] = ((mark[i] & 7) * _BINS + min(before, _BINS - 1)) * _BINS + min(others, _BINS - 1)
        count[np.int64(keys[k]) + 1] += 1
    for key in range(count.size - 1):
        count[key + 1] += count[key]
    for k in range(start, end):
        scratch[start + count[keys[k]]] = order[k]
        count[keys[k]] += 1
    order[start:end] = scratch[start:end]


@njit(cache=True, nogil=True)
def count_levels(indptr, indices, longest):
    """Return the number of levels of a breadth-first search that stops at rows of more entries, of all components."""
    n, count = indptr.size - 1, 0
    reached, order = np.zeros(n, dtype=np.bool_), np.empty(n, dtype=np.int32)
    root, start, end = 0, 0, 0
    while end < n:
        while reached[root]:
            root += 1
        reached[root], order[end] = True, root
        end += 1
        while start < end:
            tail = end
            for k in range(start, end):
                first, last = indptr[order[k]], indptr[order[k] + 1]
                for e in range(first, last if last - first <= longest else first):
                    j = indices[e]
                    if not reached[j]:
                        reached[j], order[tail] = True, j
                        tail += 1
            start, end, count = end, tail, count + 1
    return count


@njit(cache=True, nogil=True)
def levels_of_ball(indptr, indices, centre, size):
    """Return in how many levels from one row so many are reached, or n where there are fewer of them."""
    n = indptr.size - 1
    reached, order = np.zeros(n, dtype=np.bool_), np.empty(n, dtype=np.int32)
    reached[centre], order[0] = True, centre
    start, end, count = 0, 1, 1
    while end < size:
        tail = end
        for k in range(start, end):
            for e in range(indptr[order[k]], indptr[order[k] + 1]):
                j = indices[e]
                if not reached[j]:
                    reached[j], order[tail] = True, j
                    tail += 1
        if tail == end:
            return n
        start, end, count = end, tail, count + 1
    return count


@njit(cache=True, nogil=True)
def has_triangles(indptr, indices, samples):
    """Return whether two neighbours of a row are coupled, for one of some rows of a sorted matrix."""
    n = indptr.size - 1
    for sample in range(min(samples, n)):
        i = sample * n // min(samples, n)
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            f, g = indptr[i], indptr[j]
            while j != i and f < indptr[i + 1] and g < indptr[j + 1]:
                if indices[f] == indices[g]:
                    if indices[f] != i and indices[f] != j:
                        return True
                    f, g = f + 1, g + 1
                elif indices[f] < indices[g]:
                    f += 1
                else:
                    g += 1
    return False


@njit(cache=True, nogil=True)
def permute(indptr, indices, data, order, place, row_starts, columns, values):
    """Fill row_starts (m + 1,), columns and values with the rows and columns `order` (m,) of a matrix, sorted.

    `place`, shape (n,), says where in `order` a row is, and is negative for rows that are left out.
    """
    row_starts[0] = 0
    for k in range(order.size):
        i, first = order[k], row_starts[k]
        last = first
        for e in range(indptr[i], indptr[i + 1]):
            j = place[indices[e]]
            if j < 0:
                continue
            h = last
            while h > first and columns[h - 1] > j:
                columns[h], values[h] = columns[h - 1], values[h - 1]
                h -= 1
            columns[h], values[h] = j, data[e]
            last += 1
        row_starts[k + 1] = last


@njit(cache=True, nogil=True)
def renumber(indptr, indices, data, order, place, row_starts, columns, values):
    """Fill row_starts (n + 1,), columns and values with rows and columns `order` (n,) of a symmetric matrix, sorted.

    The rows are dealt out to the columns: what arrives there is in order. `place` is the inverse of `order`. Returns
    False, with nothing of use in them, if the pattern is not symmetric.
    """
    n = order.size
    free = np.empty(n, dtype=row_starts.dtype)  # the next free place of each column
    row_starts[0] = 0
    for k in range(n):
        free[k] = row_starts[k]
        row_starts[k + 1] = row_starts[k] + indptr[order[k] + 1] - indptr[order[k]]
    for k in range(n):
        for e in range(indptr[order[k]], indptr[order[k] + 1]):
            row = place[indices[e]]
            if free[row] == row_starts[row + 1]:
                return False
            columns[free[row]], values[free[row]] = k, data[e]
            free[row] += 1
    return True
