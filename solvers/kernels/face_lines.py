"""Compiled passes from the entries of a matrix to the weights of the faces of a whole box, whose cells are its rows.

Row i is cell i of the box in C order. The matrix is read line by line along the last axis. The entries of a line are
sorted by what they couple to: along most of it the columns are those of the row before plus one, so that this is one
comparison of indices. Then a line is checked, and written, by loops over contiguous numbers. What cells say of their
earlier neighbours is compared with what these said of them, which is kept for as long as a plane or a line lasts.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.face_values import (
    ALIKE,
    APART,
    ASYMMETRIC,
    BROKEN,
    COLUMN,
    COUNT,
    FINITE,
    OPEN,
    POSITIVE,
    SMALL,
    SMALLEST,
    UNSORTED,
    ZERO,
    remainder,
)

# What an entry is to its row, and where the entries of a line stand: the diagonal, couplings to the earlier and to the
# later neighbour along each axis, links across the box, and the sum of all couplings.
DIAGONAL, EARLIER, LATER, LINK, TOTAL, PLACES = 0, 1, 4, 7, 10, 11


@njit(cache=True, nogil=True)
def _place(step, cell, n, wrap):
    """Return what an entry is to the row of a cell, given its column minus the row; -1 for nothing."""
    stride = n[1] * n[2], n[2], 1
    if step == 0:
        return DIAGONAL
    for axis in (2, 1, 0):
        if step == stride[axis] and cell[axis] < n[axis] - 1:
            return LATER + axis
        if step == -stride[axis] and cell[axis] > 0:
            return EARLIER + axis
        across = (n[axis] - 1) * stride[axis]
        if wrap[axis] and (
            (step == across and cell[axis] == 0) or (step == -across and cell[axis] == n[axis] - 1 and across > 0)
        ):
            return LINK + axis
    return -1


@njit(cache=True, nogil=True)
def _row(indptr, indices, data, i, cell, n, wrap, line, places, tally):
    """Sort the entries of one row, of whatever form.

    `line`, shape (PLACES, cells of the line), zeros on entry, gets them; `places`, shape (PLACES,), what they are.
    Returns a reason or 0, and whether all entries have a place.
    """
    previous, all_placed, k, z = np.int64(-1), True, 0, cell[2]
    for e in range(indptr[i], indptr[i + 1]):
        j, a = np.int64(indices[e]), np.float64(data[e])
        if j <= previous:
            return UNSORTED, False
        previous = j
        place = _place(j - i, cell, n, wrap)
        if place < 0:
            if a != 0.0:
                tally[COLUMN] = j
                return APART, False
            all_placed = False
            continue
        if k < PLACES:
            places[k] = place
        k += 1
        if place == DIAGONAL:
            line[DIAGONAL, z] = a
        else:
            line[place, z] = 0.0 - a
            line[TOTAL, z] += 0.0 - a
    return 0, all_placed


@njit(cache=True, nogil=True)
def _alike(indptr, indices, i, last):
    """Return the end of the rows from i on, `last` at most, whose columns are those of the row before plus one."""
    start, width, end = np.int64(indptr[i]), indptr[i + 1] - indptr[i], i + 1
    while end < last and indptr[end + 1] - indptr[end] == width:
        end += 1
    here, behind = indices[start : start + (end - i - 1) * width], indices[start + width :]
    other = 0
    for e in range(here.size):
        other |= (np.int64(behind[e]) - np.int64(here[e])) ^ 1
    if other:
        for e in range(here.size):
            if np.int64(behind[e]) - np.int64(here[e]) != 1:
                return i + 1 + e // width
    return end


@njit(cache=True, nogil=True)
def _fill(data, start, width, place, row, total):
    """Take one entry each of rows of the same width."""
    if place == DIAGONAL:
        for t in range(row.size):
            row[t] = data[np.uint64(start + t * width)]
    else:
        for t in range(row.size):
            w = 0.0 - np.float64(data[np.uint64(start + t * width)])
            row[t] = w
            total[t] += w


@njit(cache=True, nogil=True)
def _sort(indptr, indices, data, i, x, y, n, wrap, line, places, tally):
    """Sort the entries of the line (x, y), whose first row is i; return a reason or 0, and the row with it."""
    line[:] = 0.0
    z, cells = 0, n[2]
    while z < cells:
        reason, plain = _row(indptr, indices, data, i + z, (x, y, z), n, wrap, line, places, tally)
        if reason:
            return reason, i + z
        end = z + 1
        if plain and 0 < z < cells - 2:  # the ends of the line have other neighbours
            end = _alike(indptr, indices, i + z, i + cells - 1) - i
            start, width = np.int64(indptr[i + z]), np.int64(indptr[i + z + 1] - indptr[i + z])
            if end > z + 1:
                for k in range(width):
                    place = places[k]
                    _fill(data, start + width + k, width, place, line[place, z + 1 : end], line[TOTAL, z + 1 : end])
        z = end
    return 0, -1


@njit(cache=True, nogil=True)
def _sound(w, tiny):
    """Tell whether a coupling is absent, or of a size that there may be."""
    return (w == 0.0) | (w >= tiny)


@njit(cache=True, nogil=True)
def _check(line, before0, before1, tiny, eps):
    """Judge a line: without branches, so that several cells are judged at once.

    Returns
    -------
    bad : bool
        Something is to be refused.
    coupled, is_open : int
        Cells with couplings, and those of them whose diagonal entry exceeds these.
    gaps : tuple of 3 ints
        Cells without a coupling to the next cell along each axis.
    """
    e0, e1, e2 = line[EARLIER], line[EARLIER + 1], line[EARLIER + 2]
    a0, a1, a2 = line[LATER], line[LATER + 1], line[LATER + 2]
    c0, c1, c2 = line[LINK], line[LINK + 1], line[LINK + 2]
    total, diagonal = line[TOTAL], line[DIAGONAL]
    alike, spare = ALIKE * eps, ZERO * eps
    wrong = coupled = is_open = gaps0 = gaps1 = gaps2 = 0
    for z in range(total.size):
        good = abs(e0[z] - before0[z]) <= alike * e0[z]
        good &= abs(e1[z] - before1[z]) <= alike * e1[z]
        good &= _sound(a0[z], tiny) & _sound(a1[z], tiny) & _sound(a2[z], tiny)
        good &= _sound(e0[z], tiny) & _sound(e1[z], tiny) & _sound(e2[z], tiny)
        good &= _sound(c0[z], tiny) & _sound(c1[z], tiny) & _sound(c2[z], tiny)
        rest = diagonal[z] - total[z]
        has = total[z] > 0.0
        good &= (not has) | ((rest >= -spare * diagonal[z]) & (diagonal[z] > 0.0) & (rest < np.inf))
        wrong += not good
        coupled += has
        is_open += has & (rest > spare * diagonal[z])
        gaps0 += a0[z] == 0.0
        gaps1 += a1[z] == 0.0
        gaps2 += a2[z] == 0.0
    ahead, behind = a2[: total.size - 1], e2[1:]
    for z in range(ahead.size):
        wrong += not abs(behind[z] - ahead[z]) <= alike * behind[z]
    return wrong > 0, coupled, is_open, (gaps0, gaps1, gaps2)


@njit(cache=True, nogil=True)
def _explain(line, i, x, y, n, before, link, tiny, eps, tally):
    """Return the reason to refuse a line whose first row is i, and the row with it; 0 and -1 for none.

    `before` has what the cells before this line gave to their faces towards it along the first and the middle axis,
    `link` what the first cells of these axes gave to links across the box.
    """
    stride = n[1] * n[2], n[2], 1
    for z in range(n[2]):
        cell = x, y, z
        for axis in range(3):
            own, far = line[EARLIER + axis, z], line[LINK + axis, z]
            for w, step in ((own, -1), (line[LATER + axis, z], 1), (far, n[axis] - 1 if cell[axis] == 0 else 1 - n[axis])):
                tally[COLUMN] = i + z + step * stride[axis]
                if not w >= 0.0:
                    return POSITIVE if w < 0.0 else FINITE, i + z
                if 0.0 < w < tiny:
                    return SMALL, i + z
                if w == np.inf:
                    return FINITE, i + z
            tally[COLUMN] = i + z - stride[axis]
            said = before[axis][z] if axis < 2 else (line[LATER + 2, z - 1] if z > 0 else 0.0)
            if not abs(own - said) <= ALIKE * eps * own:
                return ASYMMETRIC, i + z
            if cell[axis] == n[axis] - 1:
                tally[COLUMN] = i + z - (n[axis] - 1) * stride[axis]
                said = link[axis][z] if axis < 2 else line[LINK + 2, 0]
                if not abs(far - said) <= ALIKE * eps * far:
                    return ASYMMETRIC, i + z
        tally[COLUMN] = i + z
        if line[TOTAL, z] > 0.0:
            reason, _ = remainder(line[TOTAL, z], line[DIAGONAL, z], eps)
            if reason:
                return reason, i + z
    return 0, -1


@njit(cache=True, nogil=True)
def _write_weights(w, unit, out):
    for z in range(out.size):
        out[z] = w[z] * unit


@njit(cache=True, nogil=True)
def _write_rest(diagonal, total, unit, spare, extra):
    for z in range(extra.size):
        rest = diagonal[z] - total[z]
        extra[z] = rest * unit if (total[z] > 0.0) & (rest > spare * diagonal[z]) else 0.0


@njit(cache=True, nogil=True)
def _write_inverse(diagonal, total, unit, inverse):
    for z in range(inverse.size):
        one, below = (1.0, diagonal[z] * unit) if total[z] > 0.0 else (0.0, 1.0)
        inverse[z] = one / below


@njit(cache=True, nogil=True)
def _raise_peaks(diagonal, total, peaks):
    for z in range(peaks.size):
        peaks[z] = diagonal[z] if (total[z] > 0.0) & (diagonal[z] > peaks[z]) else peaks[z]


@njit(cache=True, nogil=True)
def _write_positions(total, p, position):
    """Write the places of the cells with couplings, `p` being that of the first one of the line."""
    count = 0
    if position.size == total.size:
        for z in range(total.size):
            position[z] = p + z
        return
    for z in range(total.size):
        if total[z] > 0.0:
            position[count] = p + z
            count += 1


@njit(cache=True, nogil=True)
def _write_links(line, x, y, p, n, s, unit, faces):
    """Write the weights of links at the last cells of axes, and once more in the padding before the first cells."""
    if x == n[0] - 1:
        for z in range(n[2]):
            if line[LINK, z] > 0.0:
                faces.w0[p + z] = faces.w0[p + z - n[0] * s[0]] = line[LINK, z] * unit
    if s[1] and y == n[1] - 1:
        for z in range(n[2]):
            if line[LINK + 1, z] > 0.0:
                faces.w1[p + z] = faces.w1[p + z - n[1] * s[1]] = line[LINK + 1, z] * unit
    if line[LINK + 2, n[2] - 1] > 0.0:
        faces.w2[p + n[2] - 1] = faces.w2[p - 1] = line[LINK + 2, n[2] - 1] * unit


@njit(cache=True, nogil=True)
def whole(indptr, indices, data, n, s, wrap, unit, eps, faces, position, tally):
    """Read the weights of the faces of a whole box off a matrix.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR with one row for each cell of the box in C order; explicit zeros count as absent.
    n : tuple of 3 ints
        Cells per axis; the middle one is 1 in 2D.
    s : tuple of 2 ints
        Strides of the padded box; the second one is 0 in 2D.
    wrap : tuple of 3 bools
        Axes, of three cells at least, whose last cells may be linked to their first ones.
    unit : float
        What entries are multiplied by before they are written.
    eps : float
        Rounding unit of the entries.
    faces : Faces
        Zeros on entry; in 2D `w1` is `w0`.
    position : ndarray of int32 or int64, shape (rows,), out
        Places in the padded box of the rows with couplings, ascending.
    tally : ndarray of int64, shape (4,), out
        Column of the entry with the reason, number of rows with couplings, of those among them whose diagonal entry
        exceeds their couplings, and whether any neighbours in the box are uncoupled. Zeros on entry.

    Returns
    -------
    reason : int
        0 for none.
    row : int
        A row with this reason, in the first line where there is one; -1 for none.
    largest : float
        Largest diagonal entry of rows with couplings.
    """
    cells, tiny, spare = n[2], SMALLEST / unit, ZERO * eps
    plane, before1 = np.zeros((n[1], cells)), np.zeros(cells)
    link0, link1 = np.zeros((n[1] if wrap[0] else 1, cells)), np.zeros(cells)
    line, places, peaks = np.empty((PLACES, cells)), np.empty(PLACES, dtype=np.int64), np.zeros(cells)
    total, diagonal, linked = line[TOTAL], line[DIAGONAL], wrap[0] or wrap[1] or wrap[2]
    for x in range(n[0]):
        for y in range(n[1]):
            i, p = np.int64((x * n[1] + y) * cells), (x + 1) * s[0] + (y + 1 if s[1] else 0) * s[1] + 1
            reason, row = _sort(indptr, indices, data, i, x, y, n, wrap, line, places, tally)
            if reason:
                return reason, row, peaks.max()
            before0, far0 = plane[y], link0[y if wrap[0] else 0]
            bad, coupled, is_open, gaps = _check(line, before0, before1, tiny, eps)
            if bad or linked:
                before, link = (before0, before1), (far0, link1)
                reason, row = _explain(line, i, x, y, n, before, link, tiny, eps, tally)
                if reason:
                    return reason, row, peaks.max()
            before0[:] = line[LATER]
            before1[:] = line[LATER + 1]
            if x == 0:
                far0[:] = line[LINK]
            if y == 0:
                link1[:] = line[LINK + 1]
            here = slice(p, p + cells)
            if s[1]:
                _write_weights(line[LATER + 1], unit, faces.w1[here])
            _write_weights(line[LATER], unit, faces.w0[here])
            _write_weights(line[LATER + 2], unit, faces.w2[here])
            if linked:
                _write_links(line, x, y, p, n, s, unit, faces)
            _write_rest(diagonal, total, unit, spare, faces.extra[here])
            _write_inverse(diagonal, total, unit, faces.inverse[here])
            _raise_peaks(diagonal, total, peaks)
            count = tally[COUNT]
            _write_positions(total, p, position[count : count + coupled])
            tally[COUNT] += coupled
            tally[OPEN] += is_open
            tally[BROKEN] |= gaps[2] > 1 or (y < n[1] - 1 and gaps[1] > 0) or (x < n[0] - 1 and gaps[0] > 0)
    return 0, -1, peaks.max()
