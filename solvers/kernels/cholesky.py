"""Compiled supernodal Cholesky factors P A P' = L L': dense products do most of the work.

Left-looking (Ng and Peyton, SIAM J. Sci. Comput. 14, 1993): a supernode gathers its entries of A, subtracts the
products of those before it that reach its columns, and factors its dense block. The block of a supernode has its rows
in the order of `supernodes.structure`, in C order; products of more than a few entries are BLAS's.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.rows import load, store

_FEW = 4096  # multiplications up to which a loop takes less time than a call


@njit(cache=True, nogil=True)
def blocks(begins, starts):
    """Return where the blocks of the supernodes begin in L, ndarray of int64, shape (supernodes + 1,)."""
    places = np.zeros(len(begins), np.int64)
    for s in range(len(begins) - 1):
        places[s + 1] = places[s] + (starts[s + 1] - starts[s]) * (begins[s + 1] - begins[s])
    return places


@njit(cache=True, nogil=True, fastmath=FAST)
def factor(pointers, columns, values, begins, owner, starts, rows, places, L):
    """Write L; return the smallest pivot, the square of a diagonal entry, or the first one that is not positive.

    Parameters
    ----------
    pointers, columns, values : ndarray
        Lower triangle of the matrix, by rows.
    begins, owner, starts, rows, places : ndarray
        The supernodes, see `supernodes`, their rows, see `structure`, and the places of their blocks.
    L : ndarray of float64, shape (places[-1],), out
        The blocks; what lies above the diagonal has no meaning.
    """
    count = len(begins) - 1
    first = np.full(count, np.int32(-1))  # linked lists of the supernodes before that reach the columns of one
    following = np.full(count, np.int32(-1))
    reached = starts[:count].copy()  # the first of their rows that is not in a column yet
    place = np.zeros(len(owner), np.int32)  # of a row in the block
    _gather(pointers, columns, values, begins, owner, starts, rows, places, L)
    product = np.empty(_largest(begins, owner, starts, rows))
    least = np.inf
    for s in range(count):
        begin, end = begins[s], begins[s + 1]
        width, height = end - begin, starts[s + 1] - starts[s]
        block = L[places[s] : places[s + 1]].reshape(height, width)
        for at in range(height):
            place[rows[starts[s] + at]] = at
        d = first[s]
        while d >= 0:
            after, top = following[d], reached[d]
            bottom = top
            while bottom < starts[d + 1] and rows[bottom] < end:
                bottom += 1
            source = L[places[d] : places[d + 1]].reshape(starts[d + 1] - starts[d], begins[d + 1] - begins[d])
            _subtract(
                source, top - starts[d], bottom - starts[d], rows[top : starts[d + 1]], begin, place, product, block
            )
            _pass_on(d, bottom, owner, starts, rows, reached, first, following)
            d = after
        pivot = _dense(block, width)
        least = min(least, pivot)
        if not pivot > 0:
            return pivot
        _pass_on(s, starts[s] + width, owner, starts, rows, reached, first, following)
    return least


@njit(cache=True, nogil=True, inline="always")
def _pass_on(d, at, owner, starts, rows, reached, first, following):
    """Put the supernode d into the list of the one in whose columns its row number `at` lies."""
    reached[d] = at
    if at < starts[d + 1]:
        s = owner[rows[at]]
        following[d] = first[s]
        first[s] = d


@njit(cache=True, nogil=True)
def _gather(pointers, columns, values, begins, owner, starts, rows, places, L):
    """Put the entries of A into the blocks."""
    L[:] = 0.0
    reached = starts.copy()  # rows are met in ascending order, in each supernode as in A
    for k in range(len(owner)):
        for e in range(pointers[k], pointers[k + 1]):
            s = owner[columns[e]]
            while rows[reached[s]] < k:
                reached[s] += 1
            width = begins[s + 1] - begins[s]
            L[places[s] + (reached[s] - starts[s]) * width + columns[e] - begins[s]] = values[e]


@njit(cache=True, nogil=True)
def _largest(begins, owner, starts, rows):
    """Return the largest number of entries of a product."""
    largest = 0
    for d in range(len(begins) - 1):
        top = starts[d] + begins[d + 1] - begins[d]
        while top < starts[d + 1]:
            end, bottom = begins[owner[rows[top]] + 1], top
            while bottom < starts[d + 1] and rows[bottom] < end:
                bottom += 1
            largest = max(largest, (starts[d + 1] - top) * (bottom - top))
            top = bottom
    return largest


@njit(cache=True, nogil=True, fastmath=FAST)
def _subtract(source, top, bottom, rows, begin, place, product, block):
    """Subtract from a block the product of the rows of another from `top` on with those from there to `bottom`."""
    height, width = source.shape
    height -= top
    if height * (bottom - top) * width <= _FEW:
        for i in range(height):
            target = block[place[rows[i]]]
            for j in range(min(i + 1, bottom - top)):
                value = 0.0
                for k in range(width):
                    value += source[top + i, k] * source[top + j, k]
                target[rows[j] - begin] -= value
        return
    result = product[: height * (bottom - top)].reshape(height, bottom - top)
    np.dot(source[top:], source[top:bottom].T, result)
    for i in range(height):
        target = block[place[rows[i]]]
        for j in range(bottom - top):
            target[rows[j] - begin] -= result[i, j]


@njit(cache=True, nogil=True, fastmath=FAST)
def _dense(block, width):
    """Factor the diagonal block and divide the rows below it; return the smallest pivot, or one not positive."""
    least = np.inf
    for i in range(len(block)):
        row = block[i]
        for j in range(min(i, width)):
            other, value = block[j], row[j]
            for k in range(j):
                value -= row[k] * other[k]
            row[j] = value * other[j]
        if i < width:
            pivot = row[i]
            for k in range(i):
                pivot -= row[k] * row[k]
            least = min(least, pivot)
            if not pivot > 0:
                return pivot
            row[i] = 1 / math.sqrt(pivot)  # divisions become products
    for i in range(width):
        block[i, i] = 1 / block[i, i]
    return least


@njit(cache=True, nogil=True)
def pivots(begins, starts, places, L, D):
    """D <- the squares of the diagonal of L."""
    for s in range(len(begins) - 1):
        width = begins[s + 1] - begins[s]
        for j in range(width):
            D[begins[s] + j] = L[places[s] + j * width + j] ** 2


@njit(cache=True, nogil=True, fastmath=FAST)
def solve(begins, starts, rows, places, L, order, b):
    """Return the solution for b, in the order of A."""
    n, count = len(order), len(begins) - 1
    x, y = np.empty(n), np.empty(n)
    for k in range(n):
        y[k] = b[order[k]]
    for s in range(count):
        begin, width, height = begins[s], begins[s + 1] - begins[s], starts[s + 1] - starts[s]
        block, below = L[places[s] : places[s + 1]].reshape(height, width), rows[starts[s] : starts[s + 1]]
        own = y[begin : begin + width]
        for i in range(height):
            value = 0.0
            for k in range(min(i, width)):
                value += block[i, k] * own[k]
            y[below[i]] -= value
            if i < width:
                own[i] /= block[i, i]
    for back in range(count):
        s = count - 1 - back
        begin, width, height = begins[s], begins[s + 1] - begins[s], starts[s + 1] - starts[s]
        block, below = L[places[s] : places[s + 1]].reshape(height, width), rows[starts[s] : starts[s + 1]]
        own = y[begin : begin + width]
        for up in range(height):
            i = height - 1 - up
            if i < width:
                own[i] /= block[i, i]
            value = y[below[i]]
            for k in range(min(i, width)):
                own[k] -= block[i, k] * value
    for k in range(n):
        x[order[k]] = y[k]
    return x


@njit(cache=True, nogil=True, fastmath=FAST)
def solve_columns(lanes, begins, starts, rows, places, L, order, b):
    """Return the solutions for a block b of columns, whose rows lie in registers."""
    n, count = len(order), len(begins) - 1
    x, y = np.empty(b.size), np.empty(b.size)
    for k in range(n):
        store(y, k, load(b, order[k], lanes))
    for s in range(count):
        begin, width, height = begins[s], begins[s + 1] - begins[s], starts[s + 1] - starts[s]
        block, below = L[places[s] : places[s + 1]].reshape(height, width), rows[starts[s] : starts[s + 1]]
        for i in range(height):
            row = load(y, below[i], lanes)
            for k in range(min(i, width)):
                row -= block[i, k] * load(y, begin + k, lanes)
            if i < width:
                row = (1.0 / block[i, i]) * row
            store(y, below[i], row)
    for s in range(count - 1, -1, -1):
        begin, width, height = begins[s], begins[s + 1] - begins[s], starts[s + 1] - starts[s]
        block, below = L[places[s] : places[s + 1]].reshape(height, width), rows[starts[s] : starts[s + 1]]
        for i in range(height - 1, -1, -1):
            row = load(y, below[i], lanes)
            if i < width:
                row = (1.0 / block[i, i]) * row
                store(y, below[i], row)
            for k in range(min(i, width)):
                store(y, begin + k, load(y, begin + k, lanes) - block[i, k] * row)
    for k in range(n):
        store(x, order[k], load(y, k, lanes))
    return x
