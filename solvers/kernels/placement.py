"""Compiled passes between the pattern of a sparse matrix and a padded box; none of them looks at a value."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.pieces import LIMIT, X, Y, Z, can_lie, entry, find, step_of, unpack

ONE = np.uint64(1)
WAITING = 1 << 15  # largest number of rows that `walk` leaves for later


# Columns of the table of waiting rows: number of the row, first waiting row of its piece (-1 once that is placed),
# position relative to that row, and next waiting row of the piece (-1 for none).
ROW, PIECE, OFFSET, NEXT = range(4)


@njit(cache=True, nogil=True)
def walk(indptr, indices, starts, packed, low, high):
    """Place row after row beside its earlier neighbours, as far as these leave no doubt in the usual case.

    A row without earlier neighbours waits, and so do rows that touch only waiting rows, until a row touches both them
    and placed ones. Where the axis of a coupling is open, the fastest one is taken that agrees with the order of
    positions; where that was wrong, `fits` says so, and `discovery.link` is to be asked. Rows of a run (see `repeats`)
    lie behind the first one as their neighbours lie behind its neighbours.

    Parameters
    ----------
    indptr, indices : ndarray
        Sorted pattern, diagonal included; at most three neighbours on either side of it.
    starts : ndarray of int64, shape (runs + 1,)
        First rows of its runs, and the number of rows behind them.
    packed : ndarray of int64, shape (m,), out
        Positions, ascending, the first one 0.
    low, high : ndarray of int64, shape (3,), out
        Smallest and largest coordinates.

    Returns
    -------
    bool
        Whether all rows found a place.
    """
    wait = np.empty((WAITING, 4), np.int64)  # a row that waits as the w-th one has packed = -1 - w
    waiting, latest = 0, np.int64(0)
    packed[0] = 0
    low[:], high[:] = 0, 0
    for run in range(starts.size - 1):
        i, end = max(starts[run], 1), starts[run + 1]
        while i < end:
            n, placed = 0, 0
            while np.int64(indices[indptr[i] + n]) < i:
                placed += packed[indices[indptr[i] + n]] >= 0
                n += 1
            if placed == 0:
                if waiting == WAITING:
                    return False
                _wait(indptr, indices, i, n, packed, wait, waiting)
                waiting += 1
                i += 1
                continue
            choice, here = 0, latest + Z
            if not (
                n == 3
                and packed[indices[indptr[i]]] + X == here
                and packed[indices[indptr[i] + 1]] + Y == here
                and packed[indices[indptr[i] + 2]] == latest
            ):  # the usual case, without a call
                here = _beside(indptr, indices, i, n, packed, latest, 0)
            while placed < n or here < 0:
                if here >= 0 and _have_room(indptr, indices, i, n, packed, wait, choice, here):
                    break
                choice += 1
                if choice == 3 or n == 3:
                    return False
                here = _beside(indptr, indices, i, n, packed, latest, choice)
            if here != latest + Z:  # of a run along z the ends are enough
                _widen(latest, low, high)
                _widen(here, low, high)
            packed[i] = latest = here
            if placed < n:
                for a in range(n):
                    w = -1 - packed[indices[indptr[i] + a]]
                    if w >= 0:
                        shift = here - step_of(n, choice, a) - wait[w, OFFSET]
                        _settle(wait, wait[w, PIECE], shift, packed, low, high)
            i += 1
            more = end - i
            in_line = more > 0  # as many rows behind each earlier neighbour, but for the one just before row i - 1
            for k in range(indptr[i - 1], indptr[i - 1] + n - 1 if in_line else 0):
                j = np.int64(indices[k])
                in_line &= packed[j] >= 0 and j + more < i - 1 and packed[j + more] == packed[j] + more * Z
            if in_line:
                for k in range(more):
                    packed[i + k] = here + (k + 1) * Z
                latest, i = here + more * Z, end
    _widen(latest, low, high)
    return _place_waiting(indptr, indices, wait[:waiting], packed, low, high)


@njit(cache=True, nogil=True)
def _wait(indptr, indices, i, n, packed, wait, w):
    """Enter row i as the w-th waiting one: in the piece of an earlier neighbour if its place there is beyond doubt.

    All of its n earlier neighbours wait.
    """
    wait[w, ROW], wait[w, PIECE], wait[w, OFFSET], wait[w, NEXT] = i, w, 0, -1
    packed[i] = -1 - w
    if n == 0:
        return
    step, known, start = np.int64(0), False, indptr[i]
    first, last = -1 - packed[indices[start]], -1 - packed[indices[start + n - 1]]
    if n == 1:
        for choice in range(3):
            unit = step_of(1, choice, 0)
            if can_lie(indptr, indices, indices[start], i, unit):
                known = step == 0
                step = unit if step == 0 else step
        known |= step == Z
    elif n == 2 and wait[first, PIECE] == wait[last, PIECE]:
        apart = wait[last, OFFSET] - wait[first, OFFSET]
        step, known = Y if apart == Y - Z else X, apart in (Y - Z, X - Y, X - Z)
    elif n == 3:
        step, known = X, True
    if known:
        wait[w, PIECE], wait[w, OFFSET] = wait[first, PIECE], wait[first, OFFSET] + step
        wait[w, NEXT], wait[first, NEXT] = wait[first, NEXT], w


@njit(cache=True, nogil=True)
def _beside(indptr, indices, i, n, packed, latest, choice):
    """Return the position of row i for one choice of the steps from its n earlier neighbours, -1 if that does not fit.

    At least one of them has a place.
    """
    here, start = np.int64(-1), indptr[i]
    for a in range(n):
        j, step = indices[start + a], step_of(n, choice, a)
        if n < 3 and not can_lie(indptr, indices, j, i, step):
            return np.int64(-1)
        if packed[j] >= 0:
            if packed[j] + step <= latest or (here >= 0 and here != packed[j] + step):
                return np.int64(-1)
            here = packed[j] + step
    return here


@njit(cache=True, nogil=True)
def _have_room(indptr, indices, i, n, packed, wait, choice, here):
    """Tell whether the pieces of waiting neighbours find room among the rows if row i lies there."""
    for a in range(n):
        w = -1 - packed[indices[indptr[i] + a]]
        if w >= 0:
            shift = here - step_of(n, choice, a) - wait[w, OFFSET]
            if not _between(i, wait, wait[w, PIECE], shift, packed):
                return False
    return True


@njit(cache=True, nogil=True)
def _between(end, wait, first, shift, packed):
    """Tell whether the rows of a waiting piece would lie between the rows before and after them, those before `end`."""
    w = first
    while w >= 0:
        before, behind, there = wait[w, ROW] - 1, wait[w, ROW] + 1, wait[w, OFFSET] + shift
        while packed[before] < 0:  # the first row has a place
            before -= 1
        while behind < end and packed[behind] < 0:
            behind += 1
        if there <= packed[before] or (behind < end and there >= packed[behind]):
            return False
        w = wait[w, NEXT]
    return True


@njit(cache=True, nogil=True)
def _settle(wait, first, shift, packed, low, high):
    """Place the rows of a waiting piece."""
    w = first
    while w >= 0:
        wait[w, PIECE], packed[wait[w, ROW]] = -1, wait[w, OFFSET] + shift
        _widen(packed[wait[w, ROW]], low, high)
        w = wait[w, NEXT]


@njit(cache=True, nogil=True)
def _place_waiting(indptr, indices, wait, packed, low, high):
    """Place what still waits beside any neighbour that has a place; return whether all rows have ascending places."""
    end, left, going = packed.size, wait.shape[0], True
    while going:
        going, left = False, 0
        for w in range(wait.shape[0]):
            i = wait[w, ROW]
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                for choice in range(3):
                    if wait[w, PIECE] >= 0 and j != i and packed[j] >= 0:
                        step = step_of(1, choice, 0)
                        shift = packed[j] + (step if j < i else -step) - wait[w, OFFSET]
                        if can_lie(indptr, indices, min(i, j), max(i, j), step) and _between(
                            end, wait, wait[w, PIECE], shift, packed
                        ):
                            _settle(wait, wait[w, PIECE], shift, packed, low, high)
                            going = True
            left += wait[w, PIECE] >= 0
    ascending = left == 0
    for w in range(wait.shape[0]):
        i = wait[w, ROW]
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
def fits(indptr, indices, starts, position, box, stride):
    """Return whether every row is coupled to the cells beside its own and to no others.

    Rows must be sorted and positions must ascend; `starts` is that of `walk`. `unit_values.verify` says where it is not
    so. All in one function: a call for each row would take longer than the rest.
    """
    offsets = (-stride[0], -stride[1], -stride[2], 0, stride[2], stride[1], stride[0])
    for run in range(starts.size - 1):
        i, end = starts[run], starts[run + 1]
        while i < end:
            here, start = np.int64(position[i]), indptr[i]
            stop, k = indptr[i + 1], start
            for a in range(7):
                if (offsets[a] != 0 or a == 3) and box[here + offsets[a]] != 0:
                    if k == stop or position[indices[k]] != here + offsets[a]:
                        return False
                    k += 1
            if k != stop:
                return False
            i += 1
            more = end - i
            if more == 0:
                break
            # Positions ascend: if the last row is in line with the first one, all between are.
            in_line = np.int64(indices[stop - 1]) + more < position.size
            for k in range(start, stop if in_line else start):
                j = np.int64(indices[k])
                in_line &= position[j + more] == position[j] + more * stride[2]
            occupied = np.uint8(0)
            for a in range(7):
                there = np.uint64(here + offsets[a] + 1)
                if in_line and box[there - ONE] == 0:
                    for p in range(there, there + np.uint64(more)):
                        occupied |= box[p]
            if in_line and occupied == 0:
                i = end
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
