"""Compiled passes from the entries of a matrix to the weights of the faces of a whole box, whose cells are its rows.

Row i is cell i of the box in C order. Each entry is looked at once: what a row says of its earlier neighbours is
compared with what these said of it, which is kept for as long as a plane, a line or a cell lasts.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Why a pass stopped.
UNSORTED, POSITIVE, ASYMMETRIC, APART, DIAGONAL, DOMINANCE, FINITE, SMALL, MANY = 1, 2, 3, 4, 5, 6, 7, 8, 9
ALIKE, ZERO = 64.0, 16.0  # relative to an entry, and to the diagonal, in rounding units: what counts as equal, as zero
SMALLEST = 1e-30  # weight, relative to the scale, that single precision is still good for

# Places in `tally`.
COLUMN, COUNT, OPEN, BROKEN = 0, 1, 2, 3

ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def look(indptr, indices, data, rows, pairs):
    """Collect the couplings of some rows.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR, in any order.
    rows : ndarray of int64, shape (k,)
        Rows to look at.
    pairs : ndarray of int64, shape (2, most), out
        Row and column of each off-diagonal entry that is not zero.

    Returns
    -------
    count : int
        Number of pairs; -1 if there are more than fit.
    largest : float
        Largest diagonal entry of these rows with couplings, if positive and finite; 0 if there is none.
    """
    count, largest = 0, 0.0
    for i in rows:
        before, diagonal = count, 0.0
        for e in range(indptr[i], indptr[i + 1]):
            j, a = np.int64(indices[e]), np.float64(data[e])
            if j == i:
                diagonal = a
            elif a != 0.0:
                if count == pairs.shape[1]:
                    return -1, largest
                pairs[0, count], pairs[1, count] = i, j
                count += 1
        if count > before and largest < diagonal < np.inf:
            largest = diagonal
    return count, largest


@njit(cache=True, nogil=True)
def first_coupled(indptr, indices, data, rows):
    """Write the first rows that have off-diagonal entries other than zero into `rows`; return how many there are."""
    count = 0
    for i in range(indptr.size - 1):
        if count == rows.size:
            break
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] != i and data[e] != 0.0:
                rows[count] = i
                count += 1
                break
    return count


@njit(cache=True, nogil=True)
def remainder(sum_of_weights, diagonal, eps):
    """Return the reason for which a diagonal entry is refused or 0, and what it exceeds the sum of weights by."""
    rest = diagonal - sum_of_weights
    if not diagonal > 0.0:
        return DIAGONAL if diagonal <= 0.0 else FINITE, rest
    if not abs(rest) < np.inf:
        return FINITE, rest
    if abs(rest) <= ZERO * eps * diagonal:
        return 0, 0.0
    return DOMINANCE if rest < 0.0 else 0, rest


@njit(cache=True, nogil=True, inline="always")
def _row(indptr, indices, data, i, cell, p, n, s, wrap, unit, eps, faces, before, link, state, position, tally):
    """Do one row, of whatever form; return a reason or 0. Arguments as in `whole`.

    The row is cell (x, y, z) = `cell`, `p` in the padded box. `before` has the weights that the cells before gave to
    their faces towards this one, along the first and the middle axis, by place in the plane and in the line, `link`
    those of links across the box; `state` has both along the last axis, and the largest diagonal entry.
    """
    n0, n1, n2 = n
    x, y, z = cell
    t = n1 * n2, n2, 1
    a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = diagonal = 0.0
    previous = np.int64(-1)
    for e in range(indptr[i], indptr[i + 1]):
        j, weight = np.int64(indices[e]), -np.float64(data[e])
        if j <= previous:
            return UNSORTED
        previous = j
        if j == i:
            diagonal = -weight
            continue
        if weight == 0.0:
            continue
        step = j - i
        tally[COLUMN] = j
        if step == 1 and z < n2 - 1:
            a2 = weight
        elif step == -1 and z > 0:
            b2 = weight
        elif step == n2 and y < n1 - 1:
            a1 = weight
        elif step == -n2 and y > 0:
            b1 = weight
        elif step == t[0] and x < n0 - 1:
            a0 = weight
        elif step == -t[0] and x > 0:
            b0 = weight
        elif wrap[2] and ((z == 0 and step == n2 - 1) or (z == n2 - 1 and step == 1 - n2)):
            c2 = weight
        elif wrap[1] and ((y == 0 and step == t[0] - n2) or (y == n1 - 1 and step == n2 - t[0])):
            c1 = weight
        elif wrap[0] and ((x == 0 and step == (n0 - 1) * t[0]) or (x == n0 - 1 and step == (1 - n0) * t[0])):
            c0 = weight
        else:
            return APART
        if not 0.0 < weight < np.inf:
            return POSITIVE if weight < 0.0 else FINITE
        if weight * unit < SMALLEST:
            return SMALL
    # What the cells before said, and what this one says to those behind it. Earlier neighbours are zero at the ends.
    at, alike = y * n2 + z, ALIKE * eps
    differs = np.int64(-1)
    if not abs(b0 - before[0][at]) <= alike * b0:
        differs = i - t[0]
    elif not abs(b1 - before[1][z]) <= alike * b1:
        differs = i - n2
    elif not abs(b2 - state[0]) <= alike * b2:
        differs = i - 1
    elif wrap[0] and x == n0 - 1 and not abs(c0 - link[0][at]) <= alike * c0:
        differs = i - (n0 - 1) * t[0]
    elif wrap[1] and y == n1 - 1 and not abs(c1 - link[1][z]) <= alike * c1:
        differs = i - (n1 - 1) * n2
    elif wrap[2] and z == n2 - 1 and not abs(c2 - state[1]) <= alike * c2:
        differs = i - (n2 - 1)
    if differs >= 0:
        tally[COLUMN] = differs
        return ASYMMETRIC
    before[0][at], before[1][z], state[0] = a0, a1, a2
    if wrap[0] and x == 0:
        link[0][at] = c0
    if wrap[1] and y == 0:
        link[1][z] = c1
    if z == 0:
        state[1] = c2
    tally[BROKEN] |= (z < n2 - 1 and a2 == 0.0) or (y < n1 - 1 and a1 == 0.0) or (x < n0 - 1 and a0 == 0.0)
    total = b0 + b1 + b2 + a2 + a1 + a0 + c0 + c1 + c2
    if total == 0.0:
        return 0
    reason, rest = remainder(total, diagonal, eps)
    if reason:
        tally[COLUMN] = i
        return reason
    if x == n0 - 1 and c0 > 0.0:
        a0 = c0
        faces.w0[p - n0 * s[0]] = c0 * unit
    if y == n1 - 1 and c1 > 0.0:
        a1 = c1
        faces.w1[p - n1 * s[1]] = c1 * unit
    if z == n2 - 1 and c2 > 0.0:
        a2 = c2
        faces.w2[p - n2] = c2 * unit
    faces.w0[p], faces.w2[p] = a0 * unit, a2 * unit
    if s[1]:
        faces.w1[p] = a1 * unit
    faces.extra[p], faces.inverse[p] = rest * unit, 1.0 / (diagonal * unit)
    position[tally[COUNT]] = p
    tally[COUNT] += 1
    tally[OPEN] += rest > 0.0
    state[2] = max(state[2], diagonal)
    return 0


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
        First row with this reason, -1 for none.
    largest : float
        Largest diagonal entry of rows with couplings.
    """
    n0, n1, n2 = n
    plane = n1 * n2
    before, link = (np.zeros(plane), np.zeros(n2)), (np.zeros(plane if wrap[0] else 0), np.zeros(n2))
    state = np.zeros(3)
    tiny, spare, alike, alone = SMALLEST / unit, ZERO * eps, ALIKE * eps, not (wrap[0] or wrap[1] or wrap[2])
    is_open, count, largest, i, last2 = 0, 0, 0.0, np.int64(0), 0.0
    for x in range(n0):
        for y in range(n1):
            p = (x + 1) * s[0] + (y + 1) * s[1] + 1
            before0, before1 = before[0][y * n2 : (y + 1) * n2], before[1]
            has_b0, has_a0, has_b1, has_a1 = x > 0, x < n0 - 1, y > 0, y < n1 - 1
            width = 1 + has_b0 + has_a0 + has_b1 + has_a1
            inner = alone or (has_b0 and has_a0 and (n1 == 1 or (has_b1 and has_a1)))
            for z in range(n2):
                e, k, q = np.uint64(indptr[i]), np.uint64(z), np.uint64(p)
                entries = np.int64(indptr[i + 1]) - np.int64(e)
                has_b2, has_a2 = z > 0, z < n2 - 1
                if entries == width + has_b2 + has_a2 and inner and (alone or (has_b2 and has_a2)):  # most rows
                    b0 = b1 = b2 = a2 = a1 = a0 = 0.0
                    other, usual = np.int64(0), True
                    if has_b0:
                        b0 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i + plane
                        e += ONE
                    if has_b1:
                        b1 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i + n2
                        e += ONE
                    if has_b2:
                        b2 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i + 1
                        e += ONE
                    diagonal = np.float64(data[e])
                    other |= np.int64(indices[e]) - i
                    e += ONE
                    if has_a2:
                        a2 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i - 1
                        usual &= a2 >= tiny
                        e += ONE
                    if has_a1:
                        a1 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i - n2
                        usual &= a1 >= tiny
                        e += ONE
                    if has_a0:
                        a0 = 0.0 - np.float64(data[e])
                        other |= np.int64(indices[e]) - i - plane
                        usual &= a0 >= tiny
                    # The weights of earlier faces have been found large enough before.
                    usual &= (abs(b0 - before0[k]) <= alike * b0) & (abs(b1 - before1[k]) <= alike * b1)
                    usual &= (abs(b2 - last2) <= alike * b2) & (other == 0)
                    rest = diagonal - (b0 + b1 + b2 + a2 + a1 + a0)
                    if abs(rest) <= spare * diagonal:
                        rest = 0.0
                    if usual & (rest >= 0.0) & (rest < diagonal) & (diagonal < np.inf):
                        before0[k], before1[k], last2 = a0, a1, a2
                        faces.w0[q], faces.w2[q] = a0 * unit, a2 * unit
                        if s[1]:
                            faces.w1[q] = a1 * unit
                        faces.extra[q], faces.inverse[q] = rest * unit, 1.0 / (diagonal * unit)
                        position[np.uint64(count)] = p
                        count += 1
                        is_open += rest > 0.0
                        largest = max(largest, diagonal)
                        i += 1
                        p += 1
                        continue
                elif entries == 1 and alone and indices[e] == i and before0[k] + before1[k] + last2 == 0.0:
                    tally[BROKEN] = True  # a cell without couplings
                    i += 1
                    p += 1
                    continue
                tally[COUNT], state[0] = count, last2
                reason = _row(
                    indptr, indices, data, i, (x, y, z), p, n, s, wrap, unit, eps, faces, before, link, state,
                    position, tally,
                )  # fmt: skip
                if reason:
                    return reason, i, largest
                count, last2 = tally[COUNT], state[0]
                i += 1
                p += 1
    tally[OPEN] += is_open
    tally[COUNT] = count
    return 0, -1, max(largest, state[2])
