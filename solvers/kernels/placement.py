"""Compiled passes between a sparse matrix and a padded box: values, places of cells, and the comparison."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.discovery import LIMIT, X, Y, Z, entry, find, unpack

EXPLICIT_ZERO = 1  # reason of `values`
ONE, THREE, FOUR, SEVEN = np.uint64(1), np.uint64(3), np.uint64(4), np.uint64(7)
WAITING = 1 << 14  # rows that `walk` may leave for later


@njit(cache=True, nogil=True)
def scan(indptr, indices, data, degree, count):
    """Count as `values` does, if no entry asks for a second look: all are exact multiples of the coupling, and sorted.

    Returns
    -------
    scale : float
        Negative of the off-diagonal entries; 0 if `values` has to look.
    planar : bool
        No row has three earlier or three later neighbours.
    """
    scale, most = 0.0, 0
    for k in range(indptr[0], indptr[min(indptr.size - 1, 1)]):
        if indices[k] != 0:
            scale = -np.float64(data[k])
    if not 0.0 < scale < np.inf:
        return 0.0, False
    coupling, unit = data.dtype.type(-scale), 1.0 / scale
    for i in range(indptr.size - 1):
        start, end = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
        usual, previous, diagonal, at = True, -1, 0.0, end
        if end - start == SEVEN and indices[start + THREE] == i:  # most rows: less time if spelled out
            for k in range(3):
                low, high = start + np.uint64(k), start + np.uint64(k) + FOUR
                usual &= (data[low] == coupling) & (data[high] == coupling)
                usual &= (indices[low] < indices[low + ONE]) & (indices[high - ONE] < indices[high])
            diagonal, at = np.float64(data[start + THREE]), start + THREE
        else:
            for k in range(start, end):
                j, a = np.int64(indices[k]), data[k]
                usual &= j > previous
                previous = j
                if j == i:
                    diagonal, at = np.float64(a), k
                else:
                    usual &= a == coupling
        before, after = np.int64(at - start), np.int64(end - at) - 1
        multiple = np.uint8(min(max(diagonal * unit + 0.5, 0.0), 255.0))
        if not usual or at == end or diagonal != multiple * scale or multiple < before + after:
            return 0.0, False
        most = max(most, before, after)
        if most > 3:
            return 0.0, False
        degree[i] = before + after
        count[i] = multiple if before + after > 0 else 0
    return scale, most < 3


@njit(cache=True, nogil=True)
def walk(indptr, indices, packed, low, high):
    """Place row after row beside its earlier neighbours, as far as these leave no doubt in the usual case.

    Rows without any wait, with those that only touch such rows, until a row touches both them and placed ones. Where
    the axis of a coupling is open, the row before counts as the one at -z, and the rest follows from the order of
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
    rows, piece, offset = np.empty(WAITING, np.int64), np.empty(WAITING, np.int64), np.empty(WAITING, np.int64)
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
        if n == 3:
            step[0], step[1], step[2] = X, Y, Z
        elif n == 2 and (at[0] >= 0) == (at[1] >= 0):
            apart = at[1] - at[0] if placed >= 0 else offset[-1 - at[1]] - offset[-1 - at[0]]
            step[0], step[1] = (Y, Z) if apart == Y - Z else (X, Y if apart == X - Y else Z)
        elif n == 2:
            step[1] = Z if neighbours[1] == i - 1 else Y
            step[0] = Y if step[1] == Z and at[0] >= 0 and at[0] + Y > latest else X
        elif n == 1:
            step[0] = Z if neighbours[0] == i - 1 else (Y if at[0] < 0 or at[0] + Y > latest else X)
        if placed < 0:
            if waiting == WAITING:
                return False
            rows[waiting], packed[i] = i, -1 - waiting
            piece[waiting], offset[waiting] = (
                (waiting, 0) if n == 0 else (piece[-1 - at[0]], offset[-1 - at[0]] + step[0])
            )
            waiting += 1
            continue
        here = at[placed] + step[placed]
        if here <= latest:
            return False
        if here != latest + Z:  # of a run along z the ends are enough
            _widen(latest, low, high)
            _widen(here, low, high)
        packed[i] = latest = here
        for a in range(n):
            if at[a] >= 0:
                if at[a] + step[a] != here:
                    return False
            elif piece[-1 - at[a]] >= 0:  # not placed by the neighbour before
                own, shift = piece[-1 - at[a]], here - step[a] - offset[-1 - at[a]]
                for w in range(own, waiting):
                    if piece[w] == own:
                        piece[w], packed[rows[w]] = -1, offset[w] + shift
                        if packed[rows[w]] <= 0:  # before the first row
                            return False
                        _widen(packed[rows[w]], low, high)
    _widen(latest, low, high)
    for i in rows[:waiting]:  # the others ascend, and one without a place has a negative one
        if packed[i] <= packed[i - 1] or (i + 1 < packed.size and packed[i] >= packed[i + 1]):
            return False
    return True


@njit(cache=True, nogil=True)
def _widen(position, low, high):
    """Let an extent include a position."""
    x, y, z = unpack(position)
    low[0], high[0] = min(low[0], x), max(high[0], x)
    low[1], high[1] = min(low[1], y), max(high[1], y)
    low[2], high[2] = min(low[2], z), max(high[2], z)


@njit(cache=True, nogil=True)
def fits(indptr, indices, position, box, stride):
    """Whether every row is coupled to the cells beside its own and to no others; `verify` says where that is not so.

    Rows have to be sorted, positions to ascend.
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
        0 all is well, 1 an explicit zero, 2 positive off-diagonal, 3 off-diagonals differ, 4 more than three earlier or
        later neighbours, 5 no diagonal, 6 diagonal no multiple of the coupling, 7 diagonal too small, 8 too large, 9
        not finite.
    row : int
        Where the reason was met.
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
def place(component, packed, shift, stride, count, position, box):
    """Write flat positions and the diagonal into a box.

    Parameters
    ----------
    component, packed : ndarray, shape (m,)
        As left by :func:`measure`.
    shift : ndarray of int64, shape (components, 3)
        What to add to the coordinates of each component.
    stride : tuple of 3 ints
        Of the padded box; 0 for dropped axes.
    count : ndarray of uint8, shape (m,)
        Diagonal entries.
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
        box[at] = count[i]


@njit(cache=True, nogil=True)
def number_cells(box, position):
    """Write the flat indices of the cells that are not zero, ascending."""
    count = 0
    for p in range(box.size):
        if box[p]:
            position[count] = p
            count += 1


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
        Of the box, 0 for axes it does not have.
    scale, eps : float
        Negative of the off-diagonals; rounding unit.
    component : ndarray of int32, shape (m,)
        Component of each cell.
    wrong : ndarray of bool, shape (components,), out
        Components with a mismatch; zeros on entry.

    Returns
    -------
    reason : int
        Of the first mismatch. 0 none, 1 touching cells not coupled, 2 coupled cells that do not touch, 3 off-diagonal
        value, 4 diagonal value, 5 a coupling of a row outside the box.
    row, column : int
        Where.
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
