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

ONE, TWO, THREE, FOUR, FIVE = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)


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


@njit(cache=True, nogil=True)
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
        if not weight > 0.0:
            return POSITIVE if weight < 0.0 else FINITE
        if weight * unit < SMALLEST:
            return SMALL
    # What the cells before said, and what this one says to those behind it.
    at = y * n2 + z, z
    said = before[0][at[0]], before[1][at[1]], state[0]
    linked = link[0][at[0]] if wrap[0] else 0.0, link[1][at[1]] if wrap[1] else 0.0, state[1]
    own, far = (b0, b1, b2), (c0, c1, c2)
    for axis in range(3):
        if cell[axis] > 0 and not abs(own[axis] - said[axis]) <= ALIKE * eps * own[axis]:
            tally[COLUMN] = i - t[axis]
            return ASYMMETRIC
        if wrap[axis] and cell[axis] == n[axis] - 1 and not abs(far[axis] - linked[axis]) <= ALIKE * eps * far[axis]:
            tally[COLUMN] = i - (n[axis] - 1) * t[axis]
            return ASYMMETRIC
    before[0][at[0]], before[1][at[1]], state[0] = a0, a1, a2
    if wrap[0] and x == 0:
        link[0][at[0]] = c0
    if wrap[1] and y == 0:
        link[1][at[1]] = c1
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
    plane, three_axes = n1 * n2, s[1] > 0
    before, link = (np.zeros(plane), np.zeros(n2)), (np.zeros(plane if wrap[0] else 0), np.zeros(n2))
    before0, before1 = before
    state = np.zeros(3)
    tiny, spare = SMALLEST / unit, ZERO * eps
    is_open = 0
    largest = 0.0
    i = np.int64(0)
    for x in range(n0):
        for y in range(n1):
            p = (x + 1) * s[0] + (y + 1) * s[1] + 1
            inner = 0 < x < n0 - 1 and (not three_axes or 0 < y < n1 - 1)
            width = (7 if three_axes else 5) if inner else -1
            for z in range(n2):
                e = np.uint64(indptr[i])
                done = False
                if np.int64(indptr[i + 1]) - np.int64(e) == width and 0 < z < n2 - 1:  # most rows
                    k0, k1 = np.uint64(y * n2 + z), np.uint64(z)
                    b0 = -np.float64(data[e])
                    done = indices[e] == i - plane
                    b1 = a1 = 0.0
                    if three_axes:
                        e += ONE
                        b1, a1 = -np.float64(data[e]), -np.float64(data[e + FOUR])
                        done &= (indices[e] == i - n2) & (indices[e + FOUR] == i + n2)
                        done &= abs(b1 - before1[k1]) <= ALIKE * eps * b1
                        done &= (b1 >= tiny) & (a1 >= tiny)
                    b2, diagonal, a2 = (
                        -np.float64(data[e + ONE]),
                        np.float64(data[e + TWO]),
                        -np.float64(data[e + THREE]),
                    )
                    done &= (indices[e + ONE] == i - 1) & (indices[e + TWO] == i) & (indices[e + THREE] == i + 1)
                    last = e + (FIVE if three_axes else FOUR)
                    a0 = -np.float64(data[last])
                    done &= indices[last] == i + plane
                    done &= (abs(b0 - before0[k0]) <= ALIKE * eps * b0) & (abs(b2 - state[0]) <= ALIKE * eps * b2)
                    done &= (b0 >= tiny) & (b2 >= tiny) & (a2 >= tiny) & (a0 >= tiny)
                    rest = diagonal - (b0 + b1 + b2 + a2 + a1 + a0)
                    if abs(rest) <= spare * diagonal:
                        rest = 0.0
                    if done & (rest >= 0.0) & (rest < np.inf):
                        q = np.uint64(p)
                        before0[k0], before1[k1], state[0] = a0, a1, a2
                        faces.w0[q], faces.w2[q] = a0 * unit, a2 * unit
                        if three_axes:
                            faces.w1[q] = a1 * unit
                        faces.extra[q], faces.inverse[q] = rest * unit, 1.0 / (diagonal * unit)
                        position[np.uint64(tally[COUNT])] = p
                        tally[COUNT] += 1
                        is_open += rest > 0.0
                        largest = max(largest, diagonal)
                    else:
                        done = False
                if not done:
                    reason = _row(
                        indptr, indices, data, i, (x, y, z), p, n, s, wrap, unit, eps, faces, before, link, state,
                        position, tally,
                    )  # fmt: skip
                    if reason:
                        return reason, i, largest
                i += 1
                p += 1
    tally[OPEN] += is_open
    return 0, -1, max(largest, state[2])
