"""Set-up of the finest level line by line: what is found for one line of a box holds for all that look the same.

A line is a row of a padded box along its last axis, of `length` entries. Where lines look the same, a few out of
thousands are looked at, and what was found is written out for the others.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def irregular_cells(codes, lines, length, around, cells, slots):
    """Write the unknowns of some lines whose neighbourhood is not all interior (code 1); return how many they are.

    Parameters
    ----------
    codes : ndarray of uint8, flat padded box
    lines : ndarray of int64, shape (m,)
    length : int
    around : ndarray of int64
        Flat offsets of the neighbourhood.
    cells, slots : ndarray of int64, shape (m * length,), out
        Flat index in the box, and in the lines one after the other.
    """
    count = 0
    for number in range(lines.size):
        begin = lines[number] * length
        for k in range(1, length - 1):
            if codes[begin + k] == 0:
                continue
            different = np.uint8(0)
            for o in around:
                different |= codes[begin + k + o] ^ np.uint8(1)
            if different != 0:
                cells[count], slots[count] = begin + k, number * length + k
                count += 1
    return count


@njit(cache=True, nogil=True)
def list_cells(diagonal, lines, length, steps, kinds, patterns, places, ends):
    """List the unknowns of some lines that are, or have a neighbour that is, of another pattern than the interior.

    Parameters
    ----------
    diagonal : ndarray of uint8, flat padded box
    lines : ndarray of int64, shape (m,)
    length : int
    steps : ndarray of int64, shape (2,)
        Distances of neighbouring lines; 0 for an axis that the box does not have.
    kinds : ndarray of int64, shape (all lines,)
        Number of each line among those that differ.
    patterns : ndarray of int32, shape (kinds, length)
        Number of the pattern of each cell, 0 for that of the interior.
    places : ndarray of int64, shape (m * length,), out
        Where the cells are in their lines, line after line.
    ends : ndarray of int64, shape (m + 1,), out
        Where the places of each line begin, and the end of those of the last one.
    """
    count = 0
    for number in range(lines.size):
        line = lines[number]
        ends[number] = count
        own, up, down = kinds[line], kinds[line + steps[1]], kinds[line - steps[1]]
        above, below = kinds[line + steps[0]], kinds[line - steps[0]]
        for k in range(1, length - 1):
            near = patterns[own, k - 1] | patterns[own, k] | patterns[own, k + 1]
            near |= patterns[up, k] | patterns[down, k] | patterns[above, k] | patterns[below, k]
            if near != 0 and diagonal[line * length + k] != 0:
                places[count] = k
                count += 1
    ends[lines.size] = count


@njit(cache=True, nogil=True)
def coefficients(diagonal, lines, length, steps, kinds, patterns, places, ends, factors, constants, delta):
    """Coefficients of both smoothers in listed cells as differences from those of the interior.

    Parameters
    ----------
    diagonal, lines, length, steps, kinds, patterns, places, ends
        As of `list_cells`, which has written the last two.
    factors : ndarray of float32, shape (patterns, 2, 4)
        Per smoother, a0 exp(output) of its first output and, per axis, the square root of c0 exp(output).
    constants : ndarray of float32, shape (2, 4)
        a, c0, c1, c2 of the interior.
    delta : ndarray of float32, shape (2, 7, places), out
        A column for the cell, and one for each neighbour: -x, +x, -y, +y, -z, +z.
    """
    inverse = np.zeros(256, dtype=np.float32)
    for d in range(1, 256):
        inverse[d] = np.float32(1) / np.float32(d)
    for number in range(lines.size):
        line = lines[number]
        for e in range(ends[number], ends[number + 1]):
            k = places[e]
            own, over = patterns[kinds[line], k], inverse[diagonal[line * length + k]]
            total0, total1 = np.float32(0), np.float32(0)
            for a in range(6):
                axis, sign = 1 + a // 2, 2 * (a % 2) - 1
                there = line + sign * (steps[axis - 1] if axis < 3 else 0)
                place = k + (sign if axis == 3 else 0)
                both = over * inverse[diagonal[there * length + place]]
                if both == 0 or (axis == 2 and steps[1] == 0):
                    delta[0, 1 + a, e] = delta[1, 1 + a, e] = 0
                    continue
                other = patterns[kinds[there], place]
                c0 = factors[own, 0, axis] * factors[other, 0, axis] * both
                c1 = factors[own, 1, axis] * factors[other, 1, axis] * both
                delta[0, 1 + a, e] = c0 - constants[0, axis]
                delta[1, 1 + a, e] = c1 - constants[1, axis]
                total0 += c0
                total1 += c1
            delta[0, 0, e] = factors[own, 0, 0] * over + total0 - constants[0, 0]
            delta[1, 0, e] = factors[own, 1, 0] * over + total1 - constants[1, 0]


@njit(cache=True, nogil=True)
def spread(lines, alike, length, places, ends, own, delta, listed, numbers, out):
    """Write out for all lines what was listed for those that differ.

    Parameters
    ----------
    lines, alike : ndarray of int64, shape (all,)
        The lines, ascending, and the number of the listed line that each looks like.
    length : int
    places, ends : ndarray of int64
        See `list_cells`.
    own : ndarray of int32, shape (places,)
        Pattern of each listed cell.
    delta : ndarray of float32, shape (2, 7, places)
    listed : ndarray of int64, shape (cells,), out
        Flat indices, ascending.
    numbers : ndarray of int32, shape (cells,), out
    out : ndarray of float32, shape (2, 7, cells), out
    """
    count = 0
    for m in range(lines.size):
        begin, end, first = ends[alike[m]], ends[alike[m] + 1], lines[m] * length
        for e in range(begin, end):
            listed[count + e - begin] = first + places[e]
            numbers[count + e - begin] = own[e]
        for s in range(2):
            for a in range(7):
                for e in range(begin, end):
                    out[s, a, count + e - begin] = delta[s, a, e]
        count += end - begin
