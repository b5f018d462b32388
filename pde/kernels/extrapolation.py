"""Compiled extrapolation from the known entries of an array into the others, layer by layer.

`n` is the number of entries per axis of a flat array (`boxes.py`). An entry is KNOWN, or OPEN until it is QUEUED.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit

OPEN, KNOWN, QUEUED = 0, 1, 2


@njit(cache=True, nogil=True, inline="always")
def _neighbours(n, e):
    """Return the indices of the six neighbours of entry e; where the array ends, e itself."""
    s1, s0 = n[2], n[1] * n[2]
    i, j, k = e // s0, e // s1 % n[1], e % s1
    return (
        e - s0 if i > 0 else e,
        e + s0 if i < n[0] - 1 else e,
        e - s1 if j > 0 else e,
        e + s1 if j < n[1] - 1 else e,
        e - 1 if k > 0 else e,
        e + 1 if k < n[2] - 1 else e,
    )


@njit(cache=True, nogil=True)
def _has_known(n, state, e):
    found = False
    for other in _neighbours(n, e):
        found |= state[np.uint64(other)] == KNOWN
    return found


@njit(cache=True, nogil=True)
def _mean_of_known(n, state, f, e):
    total, count = 0.0, 0
    for other in _neighbours(n, e):
        if state[np.uint64(other)] == KNOWN:
            total += f[np.uint64(other)]
            count += 1
    return total / count


@njit(cache=True, nogil=True)
def extrapolate(n, state, f, layers):
    """Set f on at most `layers` layers of open entries to the mean of their neighbours in earlier layers; update state.

    The means of a whole layer are taken before any of its entries counts as known, so the result has no preferred
    order.
    """
    front = np.empty(state.size - np.count_nonzero(state), np.int64)
    begin = end = 0
    for e in range(state.size):
        if state[np.uint64(e)] == OPEN and _has_known(n, state, e):
            front[end] = e
            end += 1
    for _ in range(layers):
        for q in range(begin, end):
            f[np.uint64(front[q])] = _mean_of_known(n, state, f, front[q])
            state[np.uint64(front[q])] = QUEUED
        for q in range(begin, end):
            state[np.uint64(front[q])] = KNOWN
        last = end
        for q in range(begin, last):
            for other in _neighbours(n, front[q]):
                if state[np.uint64(other)] == OPEN:
                    state[np.uint64(other)] = QUEUED
                    front[end] = other
                    end += 1
        begin = last
