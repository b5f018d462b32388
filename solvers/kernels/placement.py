"""Compiled passes between the pattern of a sparse matrix and a padded box; none of them looks at a value."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.pieces import LIMIT, X, Y, Z, can_lie, entry, find, step_of, unpack

ONE, THREE, SEVEN = np.uint64(1), np.uint64(3), np.uint64(7)
WAITING = 1 << 15  # largest number of rows that `walk` leaves for later


@njit(cache=True, nogil=True)
def walk(indptr, indices, packed, low, high):
    """Place row after row beside its earlier neighbours, as far as these leave no doubt in the usual case.

    A row without earlier neighbours waits, and so do rows that touch only waiting rows, until a row touches both them
    and placed ones. Where the axis of a coupling is open, the fastest one is taken that agrees with the order of
    positions; where that was wrong, `fits` says so, and `discovery.link` is to be asked.

    Parameters
    ----------
    indptr, indices : ndarray
        Sorted pattern, diagonal included; at most three neighbours on either side of it.
    packed : ndarray of int64, shape (m,), out
        Positions, ascending, the first one 0.
    low, high : ndarray of int64, shape (3,), out
        Smallest and largest coordinates.

    Returns
    -------
    bool
        Whether all rows found a place.
    """
    # Of the w-th waiting row: its number, the first waiting row of its piece (-1 once it is placed), its position
    # relative to that row, and the next one of the piece (-1 for none). A row that waits has packed = -1 - w.
    rows, piece = np.empty(WAITING, np.int64), np.empty(WAITING, np.int64)
    offset, after = np.empty(WAITING, np.int64), np.empty(WAITING, np.int64)
    waiting, latest = 0, 0
    neighbours, at, step = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    packed[0] = 0
    low[:], high[:] = 0, 0
    for i in range(1, packed.size):
        start, n, placed = np.uint64(indptr[i]), 0, -1
        if np.uint64(indptr[i + 1]) - start > THREE and indices[start + THREE] == i:  # most rows
            at0, at1 = packed[np.uint64(indices[start])], packed[np.uint64(indices[start + ONE])]
            at2 = packed[np.uint64(indices[start + ONE + ONE])]
            if (at0 >= 0) & (at1 >= 0) & (at2 == latest) & (at0 + X == at1 + Y) & (at0 + X == at2 + Z):
                packed[i] = latest = at0 + X
                continue
        while np.int64(indices[start]) < i:
            neighbours[n] = indices[start]
            at[n] = packed[neighbours[n]]
            if at[n] >= 0:
                placed = n
            start += ONE
            n += 1
        if placed < 0:
            if waiting == WAITING:
                return False
            _wait(indptr, indices, i, neighbours[:n], at, rows, piece, offset, after, waiting)
            packed[i] = -1 - waiting
            waiting += 1
            continue
        here = np.int64(-1)
        for choice in range(1 if n == 3 else 3):
            here = _beside(
                indptr, indices, i, neighbours[:n], at, choice, rows, piece, offset, after, packed, latest, step
            )
            if here >= 0:
                break
        if here < 0:
            return False
        if here != latest + Z:  # of a run along z the ends are enough
            _widen(latest, low, high)
            _widen(here, low, high)
        packed[i] = latest = here
        for a in range(n):
            w = -1 - at[a]
            if w >= 0 and piece[w] >= 0:  # not placed by the neighbour before
                _settle(piece[w], here - step[a] - offset[w], rows, piece, offset, after, packed, low, high)
    _widen(latest, low, high)
    return _place_waiting(indptr, indices, rows[:waiting], piece, offset, after, packed, low, high)


@njit(cache=True, nogil=True)
def _wait(indptr, indices, i, neighbours, at, rows, piece, offset, after, w):
    """Enter row i as the w-th waiting one: in the piece of an earlier neighbour if its place there is beyond doubt."""
    rows[w], piece[w], offset[w], after[w] = i, w, 0, -1
    n, step, known = neighbours.size, np.int64(0), False
    if n == 1:
        for choice in range(3):
            unit = step_of(1, choice, 0)
            if can_lie(indptr, indices, neighbours[0], i, unit):
                known = step == 0
                step = unit if step == 0 else step
        known |= step == Z
    elif n == 2 and piece[-1 - at[0]] == piece[-1 - at[1]]:
        apart = offset[-1 - at[1]] - offset[-1 - at[0]]
        step, known = Y if apart == Y - Z else X, apart in (Y - Z, X - Y, X - Z)
    elif n == 3:
        step, known = X, True
    if known:
        first = piece[-1 - at[0]]
        piece[w], offset[w], after[w], after[-1 - at[0]] = first, offset[-1 - at[0]] + step, after[-1 - at[0]], w


@njit(cache=True, nogil=True)
def _beside(indptr, indices, i, neighbours, at, choice, rows, piece, offset, after, packed, latest, step):
    """Return the position of row i for one choice of the steps from its earlier neighbours, -1 if that does not fit.

    At least one of them has a place. `step` is written to.
    """
    n, here = neighbours.size, np.int64(-1)
    for a in range(n):
        step[a] = step_of(n, choice, a)
        if n < 3 and not can_lie(indptr, indices, neighbours[a], i, step[a]):
            return np.int64(-1)
        if at[a] >= 0:
            if at[a] + step[a] <= latest or (here >= 0 and here != at[a] + step[a]):
                return np.int64(-1)
            here = at[a] + step[a]
    for a in range(n):
        w = -1 - at[a]
        if w < 0 or piece[w] < 0:
            continue
        if not _between(i, piece[w], here - step[a] - offset[w], rows, offset, after, packed):
            return np.int64(-1)
    return here


@njit(cache=True, nogil=True)
def _between(end, first, shift, rows, offset, after, packed):
    """Tell whether the rows of a waiting piece would lie between the rows before and after them, those before `end`."""
    w = first
    while w >= 0:
        before, behind, there = rows[w] - 1, rows[w] + 1, offset[w] + shift
        while packed[before] < 0:  # the first row has a place
            before -= 1
        while behind < end and packed[behind] < 0:
            behind += 1
        if there <= packed[before] or (behind < end and there >= packed[behind]):
            return False
        w = after[w]
    return True


@njit(cache=True, nogil=True)
def _settle(first, shift, rows, piece, offset, after, packed, low, high):
    """Place the rows of a waiting piece."""
    w = first
    while w >= 0:
        piece[w], packed[rows[w]] = -1, offset[w] + shift
        _widen(packed[rows[w]], low, high)
        w = after[w]


@njit(cache=True, nogil=True)
def _place_waiting(indptr, indices, rows, piece, offset, after, packed, low, high):
    """Place what still waits beside any neighbour that has a place; return whether all rows have ascending places."""
    end, left, going = packed.size, rows.size, True
    while going:
        going, left = False, 0
        for w in range(rows.size):
            i = rows[w]
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                for choice in range(3):
                    if piece[w] >= 0 and j != i and packed[j] >= 0:
                        step = step_of(1, choice, 0)
                        shift = packed[j] + (step if j < i else -step) - offset[w]
                        if can_lie(indptr, indices, min(i, j), max(i, j), step) and _between(
                            end, piece[w], shift, rows, offset, after, packed
                        ):
                            _settle(piece[w], shift, rows, piece, offset, after, packed, low, high)
                            going = True
            left += piece[w] >= 0
    ascending = left == 0
    for i in rows:
        ascending &= packed[i - 1] < packed[i] and (i + 1 == end or packed[i] < packed[i + 1])
    return ascending


@njit(cache=True, nogil=True)
def _widen(position, low, high):
    """Extend a box so that it includes a position."""
    x, y, z = unpack(position)
    low[0], high[0] = min(low[0], x), max(high[0], x)
    low[1], high[1] = min(low[1], y), max(high[1], y)
    low[2], high[2] = min(low[2], z), max(high[2], z)


@njit(cache=True, nogil=True)
def fits(indptr, indices, position, box, stride):
    """Return whether every row is coupled to the cells beside its own and to no others.

    Rows must be sorted and positions must ascend. `unit_values.verify` says where it is not so.
    """
    offsets = (-stride[0], -stride[1], -stride[2], 0, stride[2], stride[1], stride[0])
    for i in range(np.uint64(position.size)):
        here = position[i]
        k, end = np.uint64(indptr[i]), np.uint64(indptr[i + ONE])
        if end - k == SEVEN:  # most rows: seven cells beside it that are coupled, and there are no more
            inner = True
            for a in range(7):
                inner &= position[np.uint64(indices[k + np.uint64(a)])] == here + offsets[a]
            if inner:
                continue
        for a in range(7):
            offset = offsets[a]
            there = here + offset
            if (offset != 0 or a == 3) and box[np.uint64(there)] != 0:
                if k == end or position[np.uint64(indices[k])] != there:
                    return False
                k += ONE
        if k != end:
            return False
    return True


@njit(cache=True, nogil=True)
def compress(indptr, indices, rows, index, new_indptr, new_indices):
    """Write the pattern of A[rows][:, rows]; return a row that couples to one outside `rows`, or -1."""
    k_new = 0
    for i in range(rows.size):
        new_indptr[i] = k_new
        for k in range(indptr[rows[i]], indptr[rows[i] + 1]):
            j = index[indices[k]]
            if j < 0:
                return rows[i]
            new_indices[k_new] = j
            k_new += 1
    new_indptr[rows.size] = k_new
    return -1


@njit(cache=True, nogil=True)
def measure(parent, offset, component, low, high, unordered):
    """Give the pieces numbers in the order of their first rows, and find their extents.

    Parameters
    ----------
    parent, offset : ndarray
        As left by :func:`deepcd.solvers.kernels.discovery.link`; afterwards offsets are relative to the root.
    component : ndarray of int32, shape (m,), out
        Piece of each row.
    low, high : ndarray of int64, shape (count, 3), out
        Smallest and largest coordinates of each piece.
    unordered : ndarray of bool, shape (count,), out
        Pieces in which positions do not ascend with the row; zeros on entry.
    """
    component[:] = -1
    before = np.empty(low.shape[0], dtype=np.int64)
    count = 0
    for i in range(component.size):
        root, at = find(parent, offset, i)
        if component[root] < 0:
            component[root] = count
            low[count] = LIMIT
            high[count] = -LIMIT
            before[count] = at - 1
            count += 1
        c = component[root]
        component[i] = c
        unordered[c] |= at <= before[c]
        before[c] = at
        x, y, z = unpack(at)
        low[c, 0], low[c, 1], low[c, 2] = min(low[c, 0], x), min(low[c, 1], y), min(low[c, 2], z)
        high[c, 0], high[c, 1], high[c, 2] = max(high[c, 0], x), max(high[c, 1], y), max(high[c, 2], z)


@njit(cache=True, nogil=True)
def place(component, packed, shift, stride, mark, position, box):
    """Write the flat position of each row, and its mark into its cell of the box.

    Parameters
    ----------
    component, packed : ndarray, shape (m,)
        As left by :func:`measure`.
    shift : ndarray of int64, shape (components, 3)
        What to add to the coordinates of each component.
    stride : tuple of 3 ints
        Strides of the padded box; 0 for dropped axes.
    mark : ndarray of uint8, shape (m,)
        Numbers other than zero, such as the diagonal entries.
    position : ndarray of int64, shape (m,), out
        Flat index into the box.
    box : ndarray of uint8, shape (cells,), out
        Zeros on entry.
    """
    before, at = packed[0], np.int64(0)
    for i in range(component.size):
        if packed[i] == before + Z and component[i] == component[i - 1]:
            at += stride[2]
        else:
            c = component[i]
            x, y, z = unpack(packed[i])
            at = (x + shift[c, 0]) * stride[0] + (y + shift[c, 1]) * stride[1] + (z + shift[c, 2]) * stride[2]
        before = packed[i]
        position[i] = at
        box[at] = mark[i]


@njit(cache=True, nogil=True)
def number_cells(box, position):
    """Write the flat indices of the cells that are not zero, ascending."""
    count = 0
    for p in range(box.size):
        if box[p]:
            position[count] = p
            count += 1


@njit(cache=True, nogil=True)
def extract(indptr, indices, mask, members, number, new_indptr, new_indices, new_mask):
    """Write the pattern of the rows `members` alone, renumbered by `number`; gaps become rows of a diagonal only."""
    k_new = 0
    row = 0
    for i in members:
        while row <= number[i]:
            new_indptr[row] = k_new
            if row < number[i]:
                new_indices[k_new] = row
                k_new += 1
            row += 1
        for k in range(indptr[i], indptr[i + 1]):
            new_indices[k_new] = number[indices[k]]
            new_mask[k_new] = mask[k]
            k_new += 1
    new_indptr[row] = k_new


@njit(cache=True, nogil=True)
def flatten(parent, offset):
    """Make the offsets of all rows relative to their roots."""
    for i in range(parent.size):
        find(parent, offset, i)


@njit(cache=True, nogil=True)
def induced(indptr, indices, rows, at):
    """Tell whether packed positions of rows ascend and the rows touch exactly where they are coupled."""
    for a in range(1, at.size):
        if at[a] <= at[a - 1]:
            return False
    for a in range(at.size):
        touching = 0
        for unit in (-X, -Y, -Z, Z, Y, X):
            b = np.searchsorted(at, at[a] + unit)
            if b < at.size and at[b] == at[a] + unit:
                touching += 1
                if entry(indptr, indices, rows[a], rows[b]) < 0:
                    return False
        if touching != indptr[rows[a] + 1] - indptr[rows[a]] - 1:
            return False
    return True
