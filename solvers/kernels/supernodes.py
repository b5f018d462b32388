"""Compiled symbolic part of a supernodal factorisation: columns of L with (nearly) the same rows, taken together.

A supernode is a run of columns that is dense below its diagonal but for few zeros: fundamental supernodes, merged with
their parents where that costs few zeros (Ashcraft and Grimes, ACM Trans. Math. Softw. 15, 1989), cut where they are too
wide for a cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def postorder(pointers, columns, order):
    """Return an order with the same factors in which each subtree of the elimination tree is contiguous.

    Parameters
    ----------
    pointers, columns : ndarray
        Lower triangle of P A P', by rows.
    order : ndarray of int32, shape (n,)
        The rows of A in the order P.
    """
    n = len(order)
    parent, above = np.full((2, n), np.int32(-1))  # above: towards the root, shortened
    for k in range(n):
        for e in range(pointers[k], pointers[k + 1]):
            i = columns[e]
            while i < k:
                following = above[i]
                above[i] = k
                if following < 0:
                    parent[i] = k
                    break
                i = following
    child, sibling = np.full((2, n + 1), np.int32(-1))
    for k in range(n - 1, -1, -1):
        sibling[k] = child[parent[k]]  # that of -1, the last one, are the roots
        child[parent[k]] = k
    result, stack = np.empty(n, np.int32), np.empty(n + 1, np.int32)
    count = top = 0
    stack[0] = n
    while top >= 0:
        i = stack[top]
        if child[i] >= 0:
            top += 1
            stack[top] = child[i]
            child[i] = sibling[child[i]]
        else:
            top -= 1
            if i < n:
                result[count] = order[i]
                count += 1
    return result


@njit(cache=True, nogil=True)
def supernodes(parent, heights, widest):
    """Return where the supernodes begin, ndarray of int32, shape (supernodes + 1,).

    Parameters
    ----------
    parent : ndarray of int32, shape (n,)
        The elimination tree, postordered.
    heights : ndarray of int64, shape (n,)
        Numbers of entries in the columns of L, without the diagonal.
    widest : int
        Number of columns at which a supernode is cut.
    """
    n = len(parent)
    begins = np.empty(n + 1, np.int32)
    filled = np.empty(n + 1, np.float64)  # true entries of a supernode
    count = 0
    for k in range(n):
        entries = heights[k] + 1.0
        if k and parent[k - 1] == k and heights[k] == heights[k - 1] - 1:
            filled[count - 1] += entries
        else:
            begins[count], filled[count] = k, entries
            count += 1
    begins[count] = n
    merged = 0  # supernodes 0 .. merged are final but for the last, with which those that follow may be merged
    for s in range(1, count + 1):
        if s == count:
            merged += 1
            break
        merged += 1
        begins[merged], filled[merged] = begins[s], filled[s]
        end = begins[s + 1]
        while merged > 0 and begins[merged] <= parent[begins[merged] - 1] < end:
            width = end - begins[merged - 1]
            total = width * (width + 1) / 2 + float(width) * heights[end - 1]
            entries = filled[merged - 1] + filled[merged]
            zeros = 1 - entries / total
            if not (width <= 4 or (width <= 16 and zeros < 0.4) or (width <= 48 and zeros < 0.1) or zeros < 0.05):
                break
            merged -= 1
            filled[merged] = entries
    begins[merged] = n
    parts = 0
    for s in range(merged):
        parts += (begins[s + 1] - begins[s] + widest - 1) // widest
    result = np.empty(parts + 1, np.int32)
    parts = 0
    for s in range(merged):
        width = begins[s + 1] - begins[s]
        pieces = (width + widest - 1) // widest
        for piece in range(pieces):
            result[parts] = begins[s] + width * piece // pieces
            parts += 1
    result[parts] = n
    return result


@njit(cache=True, nogil=True)
def structure(pointers, columns, begins, parent):
    """Return the rows of the supernodes: those of its own columns, then those below them, ascending.

    Parameters
    ----------
    pointers, columns : ndarray
        Lower triangle of the matrix, by rows.
    begins : ndarray of int32, shape (supernodes + 1,)
        What `supernodes` returns.
    parent : ndarray of int32, shape (n,)
        The elimination tree.

    Returns
    -------
    owner : ndarray of int32, shape (n,)
        The supernode of each column.
    starts : ndarray of int64, shape (supernodes + 1,)
        Where the rows of a supernode begin.
    rows : ndarray of int32
        The rows.
    """
    n, count = len(parent), len(begins) - 1
    owner = np.empty(n, np.int32)
    for s in range(count):
        owner[begins[s] : begins[s + 1]] = s
    starts = np.zeros(count + 1, np.int64)
    rows = np.empty(0, np.int32)
    seen = np.empty(count, np.int32)
    for filling in (False, True):
        if filling:
            for s in range(count):
                starts[s + 1] += starts[s]
            rows = np.empty(starts[count], np.int32)
            ends = starts[:count].copy()
        seen[:] = -1
        for k in range(n):
            own = owner[k]
            for e in range(pointers[k], pointers[k + 1]):
                s = owner[columns[e]]
                while seen[s] != k:
                    seen[s] = k
                    if filling:
                        rows[ends[s]] = k
                        ends[s] += 1
                    else:
                        starts[s + 1] += 1
                    if s == own:
                        break
                    s = owner[parent[begins[s + 1] - 1]]
    return owner, starts, rows
