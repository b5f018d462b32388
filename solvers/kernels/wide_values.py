"""Compiled passes that read a matrix whose rows couple to all cells around, and give its couplings to faces."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.face_values import (
    ALIKE,
    APART,
    ASYMMETRIC,
    COLUMN,
    DIAGONAL,
    DOMINANCE,
    FINITE,
    UNSORTED,
    ZERO,
)

# The orders in which a step along several axes is made, one axis after the other.
ORDERS = np.array([[0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
WAYS = np.array([0, 1, 2, 6])  # how many of these there are for so many axes


@njit(cache=True, nogil=True)
def _apart(step, cell, n):
    """Return the way, -1 to 1 per axis, from a cell to the one `step` rows later; 2, 2, 2 if they do not touch."""
    x, y, z = cell
    for dx in range(-1, 2):
        for dy in range(-1, 2):
            dz = step - (dx * n[1] + dy) * n[2]
            if -1 <= dz <= 1 and 0 <= x + dx < n[0] and 0 <= y + dy < n[1] and 0 <= z + dz < n[2]:
                return dx, dy, dz
    return 2, 2, 2


@njit(cache=True, nogil=True)
def _steps_around(n):
    """Return the differences, ascending, between the row of a cell inside the box and those of the cells around it.

    The cell itself is among them, and a number that no difference reaches ends them.
    """
    steps, count = np.empty(28, dtype=np.int64), 0
    for dx in range(-1, 2):
        for dy in range(-1 if n[1] > 1 else 0, 2 if n[1] > 1 else 1):
            for dz in range(-1, 2):
                steps[count] = (dx * n[1] + dy) * n[2] + dz
                count += 1
    steps[count] = np.iinfo(np.int64).max
    return steps


@njit(cache=True, nogil=True)
def inspect(indptr, indices, data, n, eps, floor, coupled, rest, following, tally):
    """Make sure that a matrix is symmetric, and couples cells to those around them only.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR with one row for each cell of the box in C order; explicit zeros count as absent.
    n : tuple of 3 ints
        Cells per axis; the middle one is 1 in 2D.
    eps : float
        Rounding unit of the entries.
    floor : float
        Off-diagonal entries of this size and smaller ones count as absent: zeros that sums were rounded to.
    coupled : ndarray of uint8, shape (rows,), out
        Whether a row has couplings.
    rest : ndarray of float64, shape (rows,), out
        Sum of each row with couplings; exactly zero if it is rounding.
    following : ndarray of int64, shape (rows,), out
        First entry of each row that no later row has been compared with.
    tally : ndarray of int64, shape (4,), out
        Column of the entry with the reason.

    Returns
    -------
    reason, row : int
        As in `face_values.whole`.
    """
    rows = indptr.size - 1
    given = taken = 0
    steps = _steps_around(n)
    for i in range(rows):
        cell = i // (n[1] * n[2]), i // n[2] % n[1], i % n[2]
        x, y, z = cell
        inner = 0 < x < n[0] - 1 and (n[1] == 1 or 0 < y < n[1] - 1) and 0 < z < n[2] - 1
        diagonal, total, size, k = 0.0, 0.0, 0.0, 0
        previous, end = np.int64(-1), np.int64(indptr[i + 1])
        following[i] = end
        for e in range(np.int64(indptr[i]), end):
            j, a = np.int64(indices[e]), np.float64(data[e])
            if j <= previous or j >= rows:
                return UNSORTED, i
            previous, tally[COLUMN] = j, j
            if not abs(a) < np.inf:
                return FINITE, i
            if j > i and following[i] == end:
                following[i] = e
            if j == i:
                diagonal = a
            elif abs(a) > floor:
                if inner:  # most cells: steps to all around them ascend, as entries do
                    while steps[k] < j - i:
                        k += 1
                    if steps[k] != j - i:
                        return APART, i
                elif _apart(j - i, cell, n)[0] > 1:
                    return APART, i
                total, size = total + a, size + abs(a)
                if j > i:
                    given += 1
                    continue
                f, last = following[j], np.int64(indptr[j + 1])
                while f < last and abs(data[f]) <= floor:
                    f += 1
                if f == last or indices[f] != i or not abs(np.float64(data[f]) - a) <= ALIKE * eps * abs(a) + floor:
                    if f < last and indices[f] < i:
                        tally[COLUMN] = indices[f]
                        return ASYMMETRIC, j
                    return ASYMMETRIC, i
                following[j] = f + 1
                taken += 1
        coupled[i], rest[i] = size > 0.0, 0.0
        if size > 0.0:
            tally[COLUMN] = i
            if not diagonal > 0.0:
                return DIAGONAL, i
            if abs(diagonal + total) > ZERO * eps * (diagonal + size):
                rest[i] = diagonal + total
                if rest[i] < 0.0:
                    return DOMINANCE, i
    if given != taken:
        for i in range(rows):
            for e in range(following[i], np.int64(indptr[i + 1])):
                if abs(data[e]) > floor:
                    tally[COLUMN] = indices[e]
                    return ASYMMETRIC, i
    return 0, -1


@njit(cache=True, nogil=True)
def _is_open(inside, p, steps, many, way):
    """Tell whether the cells between a cell and the one that so many steps lead to all have couplings."""
    first = p + steps[ORDERS[way, 0]]
    return many == 1 or (inside[first] > 0 and (many == 2 or inside[first + steps[ORDERS[way, 1]]] > 0))


@njit(cache=True, nogil=True)
def _faces_of_steps(n, strides, cells):
    """Return, for each step to a later cell, what its paths are where all cells around have couplings.

    Returns
    -------
    behind : ndarray of int64, shape (k,)
        Difference between the rows at the two ends of the step, ascending.
    first : ndarray of int64, shape (k + 1,)
        Where the faces of each step begin in the following arrays.
    place : ndarray of int64
        Where the weights of these faces are in the flat array of three times so many cells, relative to the cell.
    share : ndarray of float64
        Part of the coupling that each face gets.
    """
    behind, first = np.empty(13, dtype=np.int64), np.zeros(14, dtype=np.int64)
    place, share = np.empty(13 * 12, dtype=np.int64), np.empty(13 * 12)
    axes, steps, count, total = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), 0, 0
    for dx in range(-1, 2):
        for dy in range(-1 if strides[1] else 0, 2 if strides[1] else 1):
            for dz in range(-1, 2):
                if (dx * 3 + dy) * 3 + dz <= 0:
                    continue
                many = 0
                for axis, d in enumerate((dx, dy, dz)):
                    if d:
                        axes[many], steps[many] = axis, d * strides[axis]
                        many += 1
                for way in range(WAYS[many]):
                    at = 0
                    for k in range(many):
                        step = steps[ORDERS[way, k]]
                        face = axes[ORDERS[way, k]] * cells + min(at, at + step)
                        at += step
                        t = first[count]
                        while t < total and place[t] != face:
                            t += 1
                        if t == total:
                            place[t], share[t] = face, 0.0
                            total += 1
                        share[t] += 1.0 / WAYS[many]
                behind[count] = (dx * n[1] + dy) * n[2] + dz
                count += 1
                first[count] = total
    return behind[:count], first, place, share


@njit(cache=True, nogil=True)
def _distribute_one(value, p, step, cell, n, strides, inside, w, axes, steps):
    """Distribute one coupling over its paths; return whether there are any. `axes` and `steps` (3,) are room."""
    many = 0
    for axis, d in enumerate(_apart(step, cell, n)):
        if d:
            axes[many], steps[many] = axis, d * strides[axis]
            many += 1
    ways, open_ways = WAYS[many], 0
    for way in range(ways):
        open_ways += _is_open(inside, p, steps, many, way)
    for way in range(ways if open_ways else 0):
        at = p
        if _is_open(inside, p, steps, many, way):
            for k in range(many):
                one = steps[ORDERS[way, k]]
                w[axes[ORDERS[way, k]], min(at, at + one)] += value / open_ways
                at += one
    return open_ways > 0


@njit(cache=True, nogil=True)
def _column(inside, p, strides):
    """Return how many of the nine, or three, cells around one and across the last axis have couplings."""
    count = 0
    for dx in range(-1, 2):
        for dy in range(-1 if strides[1] else 0, 2 if strides[1] else 1):
            count += inside[p + dx * strides[0] + dy * strides[1]] > 0
    return count


@njit(cache=True, nogil=True)
def distribute(indptr, indices, data, n, floor, strides, inside, w, tally):
    """Give the weight of each coupling to the faces on the shortest paths between its cells, in equal parts.

    Parameters
    ----------
    indptr, indices, data, n, floor
        As in `inspect`, which has found nothing to refuse.
    strides : tuple of 3 ints
        Distances along the axes of the padded box; 0 in place of the middle one in 2D.
    inside : ndarray of uint8, shape (cells of the padded box,)
        Whether a cell has couplings; paths lead through such cells only.
    w : ndarray of float64, shape (3, cells of the padded box), in and out
        Weights of the faces towards the next cells along each axis.
    tally : ndarray of int64, shape (4,), out
        Column of the coupling with the reason.

    Returns
    -------
    int
        A row with a coupling that no path leads along, or -1.
    """
    axes, steps = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    behind, first, place, share = _faces_of_steps(n, strides, inside.size)
    flat, around = w.reshape(-1), 27 if strides[1] else 9
    i = 0
    for x in range(n[0]):
        for y in range(n[1]):
            p = (x + 1) * strides[0] + (y + 1) * strides[1] + 1
            previous, here = 0, _column(inside, p, strides)
            for z in range(n[2]):
                following = _column(inside, p + 1, strides)
                inner, k = previous + here + following == around, behind.size - 1
                for e in range(np.int64(indptr[i + 1]) - 1, np.int64(indptr[i]) - 1, -1):
                    step, value = np.int64(indices[e]) - i, -np.float64(data[e])
                    if step <= 0:
                        break
                    if abs(value) <= floor:
                        continue
                    if inner:
                        while behind[k] > step:
                            k -= 1
                        for t in range(np.uint64(first[k]), np.uint64(first[k + 1])):
                            flat[np.uint64(p + place[t])] += share[t] * value
                    elif not _distribute_one(value, p, step, (x, y, z), n, strides, inside, w, axes, steps):
                        tally[COLUMN] = i + step
                        return i
                previous, here = here, following
                i += 1
                p += 1
    return -1
