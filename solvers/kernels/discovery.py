"""Compiled passes of grid discovery: from the pattern of a sparse matrix to positions of its rows in a box.

The rows of the matrix are the fluid cells of a Cartesian box in C order (last axis fastest). Cells whose relative position is
known form a *piece*. Pieces are kept in a union-find forest whose links carry offsets (weighted union-find: Tarjan, Journal
of the ACM 26, 1979), and grow row by row. Whatever follows from the C order with certainty is used at once:

1. the earlier neighbours of a cell are, in row order, those at -x, -y, -z; the later ones those at +z, +y, +x;
2. a neighbour at +z is the next row;
3. positions grow lexicographically with the row number;
4. two cells of a piece that touch are coupled, and never share a position.

A row that these leave open is set aside until the pieces around it are known from both sides. What is open even then (mostly
because either answer is right: a dead end may bend) is guessed, the fastest axis first.

A position (x, y, z) is the integer x 2^42 + y 2^21 + z: sums of positions are sums of integers, and the lexicographic order is the
order of the integers, as long as no axis exceeds 2^20 cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Z, Y, X = 1, 1 << 21, 1 << 42
LIMIT = 1 << 20  # cells per axis that a packed position can tell apart
SCAN = 64  # rows to look at on either side for the nearest one of a piece
EFFORT = 20_000  # retries of rows set aside, beside a sixteenth of all rows
MEMBERS = 256  # cells of the smaller of two pieces that are compared with the larger


@njit(cache=True, nogil=True)
def values(indptr, indices, data, eps, degree, count):  # noqa: ANN001, ANN201
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
        later neighbours, 5 no diagonal, 6 diagonal no multiple of the coupling, 7 diagonal too small, 8 too large, 9 not finite.
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
                return 1, i, scale, planar
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
        degree[i] = before + after
        count[i] = 0
        if before + after == 0:
            continue
        if before > 3 or after > 3:
            return 4, i, scale, planar
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
def compress(indptr, indices, rows, index, new_indptr, new_indices):  # noqa: ANN001, ANN201
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
def _find(parent, offset, i):  # noqa: ANN001, ANN202
    """Return the root of the piece of row i and the position of i relative to the root; compress the path."""
    up = parent[i]
    if up < 0:
        return i, 0
    if parent[up] < 0:
        return up, offset[i]
    root, total = i, 0
    while parent[root] >= 0:
        total += offset[root]
        root = parent[root]
    rest, j = total, i
    while j != root:
        step, up = offset[j], parent[j]
        parent[j], offset[j] = root, rest
        rest -= step
        j = up
    return root, total


@njit(cache=True, nogil=True)
def _union(parent, offset, ring, last, a, b, shift):  # noqa: ANN001, ANN202
    """Join the pieces of two roots; `shift` is the position of root b relative to root a."""
    if parent[a] > parent[b]:  # roots hold minus the size of the piece
        a, b, shift = b, a, -shift
    parent[a] += parent[b]
    parent[b] = a
    offset[b] = shift
    ring[a], ring[b] = ring[b], ring[a]
    last[a] = max(last[a], last[b])


@njit(cache=True, nogil=True)
def _unit(k, choice, a):  # noqa: ANN001, ANN202
    """Offset of a row from the a-th of its k earlier neighbours under one of the choices, the fastest axes first."""
    if k == 3:
        return X if a == 0 else (Y if a == 1 else Z)
    if k == 1:
        return Z if choice == 0 else (Y if choice == 1 else X)
    if a == 0:
        return Y if choice == 0 else X
    return Y if choice == 2 else Z


@njit(cache=True, nogil=True)
def _allowed(indptr, indices, j, i, unit):  # noqa: ANN001, ANN202
    """Tell whether row i can lie at +unit from the earlier row j, as far as the later neighbours of j tell."""
    if unit == Z and i != j + 1:
        return False
    end = indptr[j + 1]
    first = end
    while first > indptr[j] and indices[first - 1] > j:
        first -= 1
    later = end - first
    if later == 1:
        return True
    if later == 3:
        place = 0 if indices[first] == i else (1 if indices[first + 1] == i else 2)
        return unit == (Z if place == 0 else (Y if place == 1 else X))
    if indices[first] != j + 1:
        return unit == (Y if indices[first] == i else X)
    return unit != (X if indices[first] == i else Z)


@njit(cache=True, nogil=True)
def _coupled(indptr, indices, i, j):  # noqa: ANN001, ANN202
    for k in range(indptr[i], indptr[i + 1]):
        if indices[k] == j:
            return True
    return False


@njit(cache=True, nogil=True)
def _row_at(parent, offset, root, position):  # noqa: ANN001, ANN202
    """Return the row of a piece at a position (bisection over rows, which the C order sorts by position), or -1."""
    low, high = 0, parent.size - 1
    while low <= high:
        middle = (low + high) // 2
        row = middle
        there, at = _find(parent, offset, row)
        while there != root and row < high and row < middle + SCAN:
            row += 1
            there, at = _find(parent, offset, row)
        if there != root:
            if row < high:
                return -1
            high = middle - 1
        elif at == position:
            return row
        elif at < position:
            low = row + 1
        else:
            high = middle - 1
    return -1


@njit(cache=True, nogil=True)
def _fits(indptr, indices, parent, offset, ring, last, a, b, shift, deep):  # noqa: ANN001, ANN202
    """Tell whether two pieces can be joined with root b at `shift` from root a.

    Necessary conditions, tried on cells of the smaller piece: couplings join neighbours, order agrees with the nearest rows of
    the larger piece; with `deep`, cells that would touch are coupled.
    """
    if parent[a] > parent[b]:
        a, b, shift = b, a, -shift
    n = parent.size
    row = b
    for _ in range(MEMBERS):
        p = _find(parent, offset, row)[1] + shift
        for k in range(indptr[row], indptr[row + 1]):
            s = indices[k]
            if s != row:
                root, at = _find(parent, offset, s)
                if root == a:
                    d = at - p if s > row else p - at
                    if not (d == X or d == Y or (d == Z and abs(s - row) == 1)):
                        return False
        below = min(row - 1, last[a])
        for s in range(below, max(below - SCAN, -1), -1):
            root, at = _find(parent, offset, s)
            if root == a:
                if at >= p or (at == p - Z and not _coupled(indptr, indices, row, s)):
                    return False
                break
        for s in range(row + 1, min(row + 1 + SCAN, last[a] + 1, n)):
            root, at = _find(parent, offset, s)
            if root == a:
                if at <= p or (at == p + Z and not _coupled(indptr, indices, row, s)):
                    return False
                break
        if deep:
            for unit in (-X, -Y, Y, X):
                s = _row_at(parent, offset, a, p + unit)
                if s >= 0 and not _coupled(indptr, indices, row, s):
                    return False
        row = ring[row]
        if row == b:
            break
    return True


@njit(cache=True, nogil=True)
def _settle(indptr, indices, planar, parent, offset, ring, last, i, rank):  # noqa: ANN001, ANN202
    """Join row i to its earlier neighbours as far as the choice is certain, or on the best guess.

    `rank` < 0 forbids guessing, otherwise the choice of that rank among the possible ones is taken, the fastest axes
    first. Returns the number of choices that were possible: 0 is a contradiction, 1 settled.
    """
    start = indptr[i]
    k = 0
    while indices[start + k] < i:
        k += 1
    own, p = _find(parent, offset, i)
    possible = 0  # bit mask of choices
    number = 0
    choices = 1 if k == 3 else (3 - k if planar else 3)
    if planar and k == 3:
        return 0
    for deep in (False, True):
        for choice in range(choices):
            if deep and not possible >> choice & 1:
                continue
            good = True
            for a in range(k):
                j, unit = indices[start + a], _unit(k, choice, a)
                root, at = _find(parent, offset, j)
                shift = at + unit - p  # root of i's piece relative to the root of j's
                if not deep and not _allowed(indptr, indices, j, i, unit):
                    good = False
                elif root == own:
                    good = shift == 0
                elif parent[own] + parent[root] < -2 or deep:
                    good = _fits(indptr, indices, parent, offset, ring, last, root, own, shift, deep)
                for b in range(a):
                    root_b, at_b = _find(parent, offset, indices[start + b])
                    between = at + unit - at_b - _unit(k, choice, b)  # root of b's piece relative to the root of a's
                    if good and root_b == root:
                        good = between == 0
                    elif good:
                        good = _fits(indptr, indices, parent, offset, ring, last, root, root_b, between, deep)
                if not good:
                    break
            bit = 1 << choice
            if good and not deep:
                possible |= bit
                number += 1
            elif deep and not good:
                possible &= ~bit
                number -= 1
        if number < 2:
            break
    if number == 0:
        return 0
    pick = -1
    if rank >= 0 or number == 1:
        skip = rank if number > 1 else 0
        for choice in range(choices):
            if possible >> choice & 1:
                if skip == 0:
                    pick = choice
                    break
                skip -= 1
    for a in range(k):
        unit = 0
        for choice in range(choices):
            if possible >> choice & 1 and (pick < 0 or pick == choice):
                here = _unit(k, choice, a)
                unit = here if unit == 0 or unit == here else -1
        if unit > 0:
            own, p = _find(parent, offset, i)
            root, at = _find(parent, offset, indices[start + a])
            if root != own:
                _union(parent, offset, ring, last, root, own, at + unit - p)
    return number


@njit(cache=True, nogil=True)
def _join_anyhow(indptr, indices, parent, offset, ring, last, i):  # noqa: ANN001, ANN202
    """Join row i, which fits nowhere, so that pieces are connected components all the same."""
    k = indptr[i]
    while indices[k] < i:
        own, p = _find(parent, offset, i)
        root, at = _find(parent, offset, indices[k])
        if root != own:
            _union(parent, offset, ring, last, root, own, at + Z - p)
        k += 1


@njit(cache=True, nogil=True)
def link(indptr, indices, planar, stop, forced, rank, possible, parent, offset):  # noqa: ANN001, ANN201
    """Find the relative positions of coupled rows.

    Parameters
    ----------
    indptr, indices : ndarray
        Sorted pattern, m rows, diagonal included; at most three neighbours on either side of it.
    planar : bool
        Assume two axes only.
    stop : bool
        Return at the first contradiction.
    forced : int
        How many of the first guesses are prescribed by `rank`; the later ones take rank 0.
    rank, possible : ndarray of uint8, shape (k,), in and out
        The rank of each guess (0: the fastest axes) and how many choices it had. Guesses beyond the k-th are not recorded.
    parent : ndarray of int32, shape (m,), out
        Union-find forest, one tree per connected component unless stopped; roots are negative.
    offset : ndarray of int64, shape (m,), out
        Packed position relative to the parent.

    Returns
    -------
    guesses : int
        Rows whose position was guessed.
    contradictions : int
        Rows that fit nowhere after a guess; -1: one that fits nowhere whatever is guessed.
    """
    n = parent.size
    ring = np.empty(n, dtype=np.int32)  # next row of the same piece, cyclically
    last = np.empty(n, dtype=np.int32)  # of a root: last row of its piece
    aside = np.empty(n, dtype=np.int32)
    waiting = guesses = contradictions = 0
    for i in range(n):
        parent[i] = -1
        offset[i] = 0
        ring[i] = i
        last[i] = i
    for i in range(n):
        start = indptr[i]
        k = 0
        while indices[start + k] < i:
            k += 1
        if k == 0:
            continue
        # The common cases need no search: three earlier neighbours, two of one piece, two that cannot be at -z.
        root, at = _find(parent, offset, indices[start])
        first, second = X, Y
        known = k == 3 and not planar
        if k == 2:
            other, there = _find(parent, offset, indices[start + 1])
            d = there - at
            if other == root:
                known = d == X - Y or d == X - Z or d == Y - Z
                first, second = Y if d == Y - Z else X, Y if d == X - Y else Z
            else:
                known = indices[start + 1] != i - 1 and not planar
        if not known:
            number = _settle(indptr, indices, planar, parent, offset, ring, last, i, -1)
            if number == 0:
                return 0, -1
            if number > 1:
                aside[waiting] = i
                waiting += 1
            continue
        parent[i], offset[i] = root, at + first
        parent[root] -= 1
        ring[i], ring[root] = ring[root], i
        last[root] = i
        for a in range(1, k):
            own, p = _find(parent, offset, i)
            other, there = _find(parent, offset, indices[start + a])
            shift = there + (second if a == 1 else Z) - p
            if other != own:
                _union(parent, offset, ring, last, other, own, shift)
            elif shift != 0:
                return 0, -1
    head = 0  # aside[head:waiting] is open
    effort = EFFORT + n // 16
    certain = True
    while head < waiting:
        if certain and effort > 0:  # again, with what is known of both sides by now, until nothing more is certain
            left = head
            for w in range(head, waiting):
                i = aside[w]
                number = _settle(indptr, indices, planar, parent, offset, ring, last, i, -1)
                if number == 0:
                    contradictions += 1
                    if stop or guesses == 0:
                        return guesses, contradictions if guesses > 0 else -1
                    _join_anyhow(indptr, indices, parent, offset, ring, last, i)
                elif number > 1:
                    aside[left] = i
                    left += 1
            effort -= waiting - head
            certain = left < waiting
            waiting = left
            continue
        i = aside[head]
        head += 1
        choice = int(rank[guesses]) if guesses < forced else 0
        number = _settle(indptr, indices, planar, parent, offset, ring, last, i, choice)
        if number == 0:
            contradictions += 1
            if stop:
                return guesses, contradictions
            _join_anyhow(indptr, indices, parent, offset, ring, last, i)
        elif number > 1:
            if guesses < rank.size:
                rank[guesses], possible[guesses] = choice, number
            guesses += 1
            certain = True
    return guesses, contradictions


@njit(cache=True, nogil=True)
def measure(parent, offset, component, packed, low, high):  # noqa: ANN001, ANN201
    """Number the pieces in the order of their first rows and find their extents.

    Parameters
    ----------
    parent, offset : ndarray
        As left by :func:`link`.
    component : ndarray of int32, shape (m,), out
        Piece of each row.
    packed : ndarray of int64, shape (m,), out
        Position relative to the root of the piece; may be the same array as `offset`.
    low, high : ndarray of int64, shape (count, 3), out
        Smallest and largest coordinates of each piece.
    """
    component[:] = -1
    count = 0
    for i in range(component.size):
        root, at = _find(parent, offset, i)
        if component[root] < 0:
            component[root] = count
            low[count] = LIMIT
            high[count] = -LIMIT
            count += 1
        c = component[root]
        component[i] = c
        packed[i] = at
        x, y, z = unpack(at)
        low[c, 0], low[c, 1], low[c, 2] = min(low[c, 0], x), min(low[c, 1], y), min(low[c, 2], z)
        high[c, 0], high[c, 1], high[c, 2] = max(high[c, 0], x), max(high[c, 1], y), max(high[c, 2], z)


@njit(cache=True, nogil=True)
def unpack(packed):  # noqa: ANN001, ANN201
    """Return the coordinates (x, y, z) of a packed position."""
    z = ((packed + LIMIT) & (Y - 1)) - LIMIT
    rest = (packed - z) >> 21
    y = ((rest + LIMIT) & (Y - 1)) - LIMIT
    return (rest - y) >> 21, y, z


@njit(cache=True, nogil=True)
def place(component, packed, shift, stride, count, position, box):  # noqa: ANN001, ANN201
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
    for i in range(component.size):
        c = component[i]
        x, y, z = unpack(packed[i])
        at = (x + shift[c, 0]) * stride[0] + (y + shift[c, 1]) * stride[1] + (z + shift[c, 2]) * stride[2]
        position[i] = at
        box[at] = count[i]


@njit(cache=True, nogil=True)
def verify(indptr, indices, data, index, position, box, stride, scale, eps, component, wrong):  # noqa: ANN001, ANN201
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
        Of the first mismatch. 0 none, 1 touching cells not coupled, 2 coupled cells that do not touch, 3 off-diagonal value,
        4 diagonal value, 5 a coupling of a row outside the box.
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
                    touching += (box[here - s] != 0) + (box[here + s] != 0)
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
