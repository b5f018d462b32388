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
def cell_codes(diagonal, strides, codes):
    """Write the code of every cell of a flat padded box: 0, or 1 + diagonal - number of neighbours, cut at 15.

    Strides are those of the box per axis, the middle one zero in 2D.
    """
    s0, s1, s2 = np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    middle = np.uint8(1) if strides[1] else np.uint8(0)
    one, largest = np.uint8(1), np.uint8(LARGEST_CODE)
    for p in range(s0, np.uint64(diagonal.size) - s0):
        d = diagonal[p]
        beside = np.uint8(diagonal[p - s1] != 0) + np.uint8(diagonal[p + s1] != 0)
        around = np.uint8(diagonal[p - s0] != 0) + np.uint8(diagonal[p + s0] != 0)
        around += np.uint8(diagonal[p - s2] != 0) + np.uint8(diagonal[p + s2] != 0)
        code = np.uint8(one + d - np.uint8(around + np.uint8(middle * beside)))
        codes[p] = min(code, largest) if d != 0 else np.uint8(0)


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


@njit(cache=True, nogil=True)
def number_windows(words, origins, offsets, repeated, slots, numbers, firsts):
    """Give numbers to the distinct windows words[origin + offsets], in the order in which they are met.

    Parameters
    ----------
    words : uint32, (size,)
    origins : int, (m,)
    offsets : int, (k,)
    repeated : bool, (m,)
        Windows that are known to be like the one before: most are, and that is found out for many at once.
    slots : int32 (capacity,)
        Open-addressing hash table, capacity a power of two above 2 len(firsts); starts at -1.
    numbers : int32 (m,)
        Receives the number of each window.
    firsts : int64 (most,)
        Receives the origin of the first window of each number.

    Returns
    -------
    int
        How many there are; -1 if `firsts` is too short for them.
    """
    mask, count = np.uint64(slots.size - 1), 0
    for e in range(origins.size):
        origin = origins[e]
        if repeated[e]:
            numbers[e] = numbers[e - 1]
            continue
        even, odd = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
        for k in range(0, offsets.size - 1, 2):
            even = (even ^ np.uint64(words[origin + offsets[k]])) * np.uint64(0xFF51AFD7ED558CCD)
            odd = (odd ^ np.uint64(words[origin + offsets[k + 1]])) * np.uint64(0xC4CEB9FE1A85EC53)
        if offsets.size % 2:
            even ^= np.uint64(words[origin + offsets[-1]])
        h = _hash(even, odd) & mask
        while slots[h] >= 0:
            first, same = firsts[slots[h]], True
            for o in offsets:
                if words[first + o] != words[origin + o]:
                    same = False
                    break
            if same:
                break
            h = (h + np.uint64(1)) & mask
        if slots[h] < 0:
            if count == firsts.size:
                return -1
            slots[h] = count
            firsts[count] = origin
            count += 1
        numbers[e] = slots[h]
    return count


@njit(cache=True, nogil=True)
def like_the_one_before(rows, same):
    """Mark the rows, uint32 (m, words), that equal the row before."""
    words, flat = np.uint64(rows.shape[1]), rows.reshape(-1)
    same[0] = False
    for e in range(np.uint64(1), np.uint64(rows.shape[0])):
        different, p = np.uint32(0), e * words
        for k in range(p, p + words):
            different |= flat[k] ^ flat[k - words]
        same[e] = different == 0


@njit(cache=True, nogil=True)
def repeated_windows(same, cells, offsets, repeated):
    """Mark the cells whose window is that of the cell before, which is the one before in `cells` as well."""
    together = same.copy()
    for p in range(same.size):
        together[p] = False
    margin, size = offsets.max(), same.size
    if size > 2 * margin:
        inner = together[margin : size - margin]
        inner[:] = True
        for o in offsets:
            shifted = same[margin + o : size - margin + o]
            for k in range(np.uint64(inner.size)):
                inner[k] &= shifted[k]
    repeated[0] = False
    for e in range(1, cells.size):
        repeated[e] = together[cells[e]] and cells[e] == cells[e - 1] + 1


def distinct_windows(
    words: NDArray[np.uint32],
    origins: NDArray[np.int64],
    offsets: NDArray[np.int64],
    repeated: NDArray[np.bool_],
    share: float = 0.5,
) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None:
    """Return the origins of the distinct windows words[origin + offsets] and the number of each.

    None if a larger share than `share` of them are distinct.

    Examples
    --------
    >>> words = np.array([7, 7, 7, 7, 8], dtype=np.uint32)
    >>> none = np.zeros(4, dtype=bool)
    >>> firsts, numbers = distinct_windows(words, np.arange(4), np.array([0, 1]), none)
    >>> firsts.tolist(), numbers.tolist()
    ([0, 3], [0, 0, 0, 1])
    """
    most = max(int(share * origins.size), 1)
    slots = np.full(1 << (2 * most + 2).bit_length(), -1, dtype=np.int32)
    numbers, firsts = np.empty(origins.size, dtype=np.int32), np.empty(most, dtype=np.int64)
    count = number_windows(words, origins, offsets, repeated, slots, numbers, firsts)
    return None if count < 0 else (firsts[:count].copy(), numbers)


def neighbourhood(strides: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the flat offsets of a 3 x 3 x 3 neighbourhood, first axis slowest; 3 x 3 where the middle stride is zero.

    Parameters
    ----------
    strides : tuple of int
        Strides of the padded box, in cells; the middle one is zero in 2D.
    """
    s0, s1, s2 = strides
    middle = (-1, 0, 1) if s1 else (0,)
    return np.array([a * s0 + b * s1 + c * s2 for a in (-1, 0, 1) for b in middle for c in (-1, 0, 1)])
