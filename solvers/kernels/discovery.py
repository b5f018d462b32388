"""Compiled passes of grid discovery: from the pattern of a sparse matrix to positions of its rows in a box.

The rows of the matrix are the fluid cells of a Cartesian box in C order (last axis fastest). Cells whose relative
position is known form a *piece*. Pieces are kept in a union-find forest whose links carry offsets (weighted
union-find: Tarjan, Journal of the ACM 26, 1979), and grow row by row. Whatever follows from the C order with
certainty is used at once:

1. the earlier neighbours of a cell are, in row order, those at -x, -y, -z; the later ones those at +z, +y, +x;
2. a neighbour at +z is the next row;
3. positions grow lexicographically with the row number;
4. two cells of a piece never share a position; they are coupled if they touch, but for matrices whose coefficients
   may be zero.

A row that these leave open is set aside until the pieces around it are known from both sides. What is open even then
(mostly because either answer is right: a dead end may bend) is guessed, the fastest axis first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.pieces import X, Y, Z, can_lie, entry, find, step_of, unite

SCAN = 64  # number of rows on either side among which the nearest one of a piece is looked for
# Number of positions that are looked up for rows set aside before guesses are made, and how many more per entry.
EFFORT, PER_ENTRY = 5_000_000, 30
MEMBERS = 256  # largest number of cells of the smaller of two pieces that are compared with the larger one


@njit(cache=True, nogil=True)
def _row_at(parent, offset, root, position, budget):
    """Return the row of a piece at a position (bisection over rows, which the C order sorts by position), or -1."""
    low, high = 0, parent.size - 1
    while low <= high:
        middle = (low + high) // 2
        row = middle
        there, at = find(parent, offset, row)
        while there != root and row < high and row < middle + SCAN:
            row += 1
            there, at = find(parent, offset, row)
        budget[0] -= 1 + row - middle
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
def _fits(indptr, indices, induced, parent, offset, ring, last, a, b, shift, deep, budget):
    """Tell whether two pieces can be joined with root b at `shift` from root a.

    Necessary conditions, tried on cells of the smaller piece: couplings join neighbours, order agrees with the
    nearest rows of the larger piece; if `induced`, neighbours in a line are coupled, and with `deep` all that touch.
    """
    if parent[a] > parent[b]:
        a, b, shift = b, a, -shift
    n = parent.size
    row = b
    for _ in range(MEMBERS):
        p = find(parent, offset, row)[1] + shift
        budget[0] -= 1 + indptr[row + 1] - indptr[row]
        for k in range(indptr[row], indptr[row + 1]):
            s = indices[k]
            if s != row:
                root, at = find(parent, offset, s)
                if root == a:
                    d = at - p if s > row else p - at
                    if not (d in (X, Y) or (d == Z and abs(s - row) == 1)):
                        return False
        below = min(row - 1, last[a])
        for s in range(below, max(below - SCAN, -1), -1):
            root, at = find(parent, offset, s)
            budget[0] -= 1
            if root == a:
                if at >= p or (induced and at == p - Z and entry(indptr, indices, row, s) < 0):
                    return False
                break
        for s in range(row + 1, min(row + 1 + SCAN, last[a] + 1, n)):
            root, at = find(parent, offset, s)
            budget[0] -= 1
            if root == a:
                if at <= p or (induced and at == p + Z and entry(indptr, indices, row, s) < 0):
                    return False
                break
        if deep:
            for unit in (-X, -Y, Y, X):
                s = _row_at(parent, offset, a, p + unit, budget)
                if s >= 0 and entry(indptr, indices, row, s) < 0:
                    return False
        row = ring[row]
        if row == b:
            break
    return True


@njit(cache=True, nogil=True)
def _settle(indptr, indices, mask, planar, induced, parent, offset, ring, last, i, rank, budget):
    """Join row i to its earlier neighbours as far as the choice is certain, or on the best guess.

    `rank` < 0 forbids guessing, otherwise the choice of that rank among the possible ones is taken, the fastest axes
    first. Returns the number of choices that were possible: 0 is a contradiction, 1 settled.
    """
    start = indptr[i]
    k = 0
    while indices[start + k] < i:
        k += 1
    own, p = find(parent, offset, i)
    budget[0] -= 1
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
                j, unit = indices[start + a], step_of(k, choice, a)
                root, at = find(parent, offset, j)
                shift = at + unit - p  # root of i's piece relative to the root of j's
                axis = 1 if unit == Z else (2 if unit == Y else 4)
                if not deep and (
                    (mask.size and not mask[start + a] & axis) or not can_lie(indptr, indices, j, i, unit)
                ):
                    good = False
                elif root == own:
                    good = shift == 0
                elif parent[own] + parent[root] < -2 or deep:
                    good = _fits(indptr, indices, induced, parent, offset, ring, last, root, own, shift, deep, budget)
                for b in range(a):
                    root_b, at_b = find(parent, offset, indices[start + b])
                    between = at + unit - at_b - step_of(k, choice, b)  # root of b's piece relative to the root of a's
                    if good and root_b == root:
                        good = between == 0
                    elif good:
                        good = _fits(
                            indptr, indices, induced, parent, offset, ring, last, root, root_b, between, deep, budget
                        )
                if not good:
                    break
            bit = 1 << choice
            if good and not deep:
                possible |= bit
                number += 1
            elif deep and not good:
                possible &= ~bit
                number -= 1
        if number < 2 or not induced:
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
                here = step_of(k, choice, a)
                unit = here if unit in (0, here) else -1
        if unit > 0:
            own, p = find(parent, offset, i)
            root, at = find(parent, offset, indices[start + a])
            if root != own:
                unite(parent, offset, ring, last, root, own, at + unit - p)
    return number


@njit(cache=True, nogil=True)
def _join_anyhow(indptr, indices, parent, offset, ring, last, i):
    """Join row i, which fits nowhere, so that pieces are connected components all the same."""
    k = indptr[i]
    while indices[k] < i:
        own, p = find(parent, offset, i)
        root, at = find(parent, offset, indices[k])
        if root != own:
            unite(parent, offset, ring, last, root, own, at + Z - p)
        k += 1


@njit(cache=True, nogil=True)
def link(indptr, indices, mask, planar, induced, stop, forced, rank, possible, parent, offset, lookups):
    """Find the relative positions of coupled rows.

    Parameters
    ----------
    indptr, indices : ndarray
        Sorted pattern, m rows, diagonal included; at most three neighbours on either side of it.
    mask : ndarray of uint8, shape of indices or (0,)
        Axes along which couplings may lie, see :func:`deepcd.solvers.kernels.intervals.possible_axes`; empty: not
        known.
    planar : bool
        Whether to assume two axes only.
    induced : bool
        Whether cells that touch are coupled, all of them.
    stop : bool
        Whether to return at the first contradiction.
    forced : int
        How many of the first guesses are prescribed by `rank`; the later ones take rank 0.
    rank, possible : ndarray of uint8, shape (k,), in and out
        The rank of each guess (0: the fastest axes) and how many choices it had. Guesses beyond the k-th are not
        recorded.
    parent : ndarray of int32, shape (m,), out
        Union-find forest, one tree per connected component unless stopped; roots are negative.
    offset : ndarray of int64, shape (m,), out
        Packed position relative to the parent.
    lookups : int
        How many positions may be looked up.

    Returns
    -------
    guesses : int
        Rows whose position was guessed.
    contradictions : int
        Rows that fit nowhere after a guess; -1 - row: one that fits nowhere whatever is guessed; -1: lookups are used
        up.
    left : int
        How many positions may still be looked up; below zero: there were not enough.
    """
    n = parent.size
    budget = np.array([lookups - indices.size])
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
        root, at = find(parent, offset, indices[start])
        first, second = X, Y
        known = k == 3 and not planar
        if k == 2:
            other, there = find(parent, offset, indices[start + 1])
            d = there - at
            if other == root:
                known = d == X - Y or d == X - Z or d == Y - Z
                first, second = Y if d == Y - Z else X, Y if d == X - Y else Z
            else:
                known = indices[start + 1] != i - 1 and not planar
        if not known:
            number = _settle(indptr, indices, mask, planar, induced, parent, offset, ring, last, i, -1, budget)
            if budget[0] < 0:
                return 0, -1, budget[0]
            if number == 0:
                return 0, -1 - i, budget[0]
            if number > 1:
                aside[waiting] = i
                waiting += 1
            continue
        parent[i], offset[i] = root, at + first
        parent[root] -= 1
        ring[i], ring[root] = ring[root], i
        last[root] = i
        for a in range(1, k):
            own, p = find(parent, offset, i)
            other, there = find(parent, offset, indices[start + a])
            shift = there + (second if a == 1 else Z) - p
            if other != own:
                unite(parent, offset, ring, last, other, own, shift)
            elif shift != 0:
                return 0, -1 - i, budget[0]
    head = 0  # aside[head:waiting] is open
    enough = budget[0] - EFFORT - PER_ENTRY * indices.size
    certain = True
    while head < waiting:
        if certain and budget[0] > enough:  # again, with what is known of both sides by now, until nothing changes
            left = head
            for w in range(head, waiting):
                i = aside[w]
                number = _settle(indptr, indices, mask, planar, induced, parent, offset, ring, last, i, -1, budget)
                if budget[0] < 0:
                    return guesses, -1, budget[0]
                if number == 0:
                    contradictions += 1
                    if stop or guesses == 0:
                        return guesses, contradictions if guesses > 0 else -1 - i, budget[0]
                    _join_anyhow(indptr, indices, parent, offset, ring, last, i)
                elif number > 1:
                    aside[left] = i
                    left += 1
            certain = left < waiting
            waiting = left
            continue
        i = aside[head]
        head += 1
        choice = int(rank[guesses]) if guesses < forced else 0
        number = _settle(indptr, indices, mask, planar, induced, parent, offset, ring, last, i, choice, budget)
        if budget[0] < 0:
            return guesses, -1, budget[0]
        if number == 0:
            contradictions += 1
            if stop:
                return guesses, contradictions, budget[0]
            _join_anyhow(indptr, indices, parent, offset, ring, last, i)
        elif number > 1:
            if guesses < rank.size:
                rank[guesses], possible[guesses] = choice, number
            guesses += 1
            certain = True
    return guesses, contradictions, budget[0]
