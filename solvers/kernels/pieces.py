"""Packed positions, and the forest of pieces: rows whose positions relative to each other are known.

A position (x, y, z) is the integer x 2^42 + y 2^21 + z: sums of positions are sums of integers, and the lexicographic
order is the order of the integers, as long as no axis exceeds 2^20 cells.

A piece is a tree of a union-find forest whose links carry offsets (weighted union-find: Tarjan, Journal of the ACM 26,
1979). Roots hold minus the size of their piece.
"""

from __future__ import annotations

from numba import njit

Z, Y, X = 1, 1 << 21, 1 << 42
LIMIT = 1 << 20  # largest number of cells per axis that packed positions can tell apart


@njit(cache=True, nogil=True)
def unpack(packed):
    """Return the coordinates (x, y, z) of a packed position."""
    z = ((packed + LIMIT) & (Y - 1)) - LIMIT
    rest = (packed - z) >> 21
    y = ((rest + LIMIT) & (Y - 1)) - LIMIT
    return (rest - y) >> 21, y, z


@njit(cache=True, nogil=True)
def find(parent, offset, i):
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
def unite(parent, offset, ring, last, a, b, shift):
    """Join the pieces of two roots; `shift` is the position of root b relative to root a."""
    if parent[a] > parent[b]:  # roots hold minus the size of the piece
        a, b, shift = b, a, -shift
    parent[a] += parent[b]
    parent[b] = a
    offset[b] = shift
    ring[a], ring[b] = ring[b], ring[a]
    last[a] = max(last[a], last[b])


@njit(cache=True, nogil=True)
def entry(indptr, indices, i, j):
    """Return where the entry (i, j) is stored, or -1."""
    for k in range(indptr[i], indptr[i + 1]):
        if indices[k] == j:
            return k
    return -1


@njit(cache=True, nogil=True)
def step_of(k, choice, a):
    """Return the offset of a row from the a-th of its k earlier neighbours under a choice; 0 takes the fastest axes."""
    if k == 3:
        return X if a == 0 else (Y if a == 1 else Z)
    if k == 1:
        return Z if choice == 0 else (Y if choice == 1 else X)
    if a == 0:
        return Y if choice == 0 else X
    return Y if choice == 2 else Z


@njit(cache=True, nogil=True)
def can_lie(indptr, indices, j, i, unit):
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
