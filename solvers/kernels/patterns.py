"""Local patterns of a domain: which distinct neighbourhoods its cells have.

What a network may know about a cell of the finest grid is its 3 x 3 (x 3) neighbourhood of codes. Neighbourhoods
repeat, so a network is evaluated once per distinct one. A code is one nibble: 0 where there is no unknown, 1 +
Dirichlet count (at most 14) where there is.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LARGEST_CODE = 15


@njit(cache=True, nogil=True)
def cell_codes(diagonal, offsets, codes):
    """Write the code of every cell of a flat padded box: 0, or 1 + diagonal - number of neighbours, cut at 15."""
    margin = offsets.max()
    for p in range(margin, diagonal.size - margin):
        if diagonal[p]:
            neighbours = 0
            for o in offsets:
                neighbours += diagonal[p + o] != 0
            codes[p] = min(1 + diagonal[p] - neighbours, LARGEST_CODE)


@njit(cache=True, nogil=True)
def _hash(low, high):
    """Mix 128 bits into 64 (finaliser of MurmurHash3, Appleby, public domain)."""
    h = low ^ (high * np.uint64(0x9E3779B97F4A7C15))
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@njit(cache=True, nogil=True)
def number_patterns(codes, positions, start, offsets, keys, slots, patterns, count, base, ids):
    """Give numbers to the neighbourhoods of positions[start:] until `patterns` is full.

    Parameters
    ----------
    codes : uint8, flat padded box
    positions : int, (m,)
        Flat indices of the cells.
    start : int
        First of them to look at.
    offsets : int, (k,)
        The neighbourhood: flat offsets, at most 32.
    keys, slots : uint64 (capacity, 2), int32 (capacity,)
        Open-addressing hash table, capacity a power of two above 2 len(patterns); slots start at -1.
    patterns : uint8, (most, k)
        Receives the codes of each distinct neighbourhood.
    count : int
        How many rows of it are taken already.
    base : int
        Added to the numbers that are written.
    ids : int32, (m,)
        Receives the number of each cell's neighbourhood.

    Returns
    -------
    stop, count : int
        The first position not done, and the rows taken now.
    """
    mask = slots.size - 1
    for n in range(start, positions.size):
        low = np.uint64(0)
        high = np.uint64(0)
        for k in range(offsets.size):
            code = np.uint64(codes[positions[n] + offsets[k]])
            if k < 16:
                low |= code << np.uint64(4 * k)
            else:
                high |= code << np.uint64(4 * (k - 16))
        h = np.int64(_hash(low, high) & np.uint64(mask))
        while slots[h] >= 0 and (keys[h, 0] != low or keys[h, 1] != high):
            h = (h + 1) & mask
        if slots[h] < 0:
            if count == patterns.shape[0]:
                return n, count
            slots[h] = count
            keys[h, 0] = low
            keys[h, 1] = high
            for k in range(offsets.size):
                patterns[count, k] = codes[positions[n] + offsets[k]]
            count += 1
        ids[n] = base + slots[h]
    return positions.size, count


def neighbourhood(strides: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the flat offsets of a 3 x 3 x 3 neighbourhood, first axis slowest; 3 x 3 where the middle stride is zero.

    Parameters
    ----------
    strides : tuple of int
        Of the padded box, in cells; the middle one is zero in 2D.
    """
    s0, s1, s2 = strides
    middle = (-1, 0, 1) if s1 else (0,)
    return np.array([a * s0 + b * s1 + c * s2 for a in (-1, 0, 1) for b in middle for c in (-1, 0, 1)])
