"""Compiled passes that take a part out of the graph of a matrix: all but its branches, a ball, any variables."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def peel(indptr, indices, order):
    """Order variables that have at most one neighbour left until there are none: trees, and those that hang on others.

    Parameters
    ----------
    indptr, indices : ndarray of int32, shapes (n + 1,) and (nnz,)
        Pattern in CSR without duplicates; diagonal entries are passed over.
    order : ndarray of int32, shape (n,), out
        Those variables, then the others as they were.

    Returns
    -------
    count : int
        How many they are.
    roots : int
        How many of them had no neighbour left.
    """
    n = len(order)
    left = np.zeros(n, np.int32)  # number of neighbours; -1: ordered
    neighbours = np.zeros(n, np.int32)  # exclusive or of those that are left: of a single one, itself
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] != i:
                left[i] += 1
                neighbours[i] ^= indices[e]
    count = roots = 0
    for first in range(n):
        i = first
        while 0 <= left[i] <= 1:
            order[count] = i
            count += 1
            if left[i] == 0:
                left[i] = -1
                roots += 1
            else:
                left[i] = -1
                j = neighbours[i]
                neighbours[j] ^= i
                left[j] -= 1
                i = j
    peeled = count
    for k in range(n):
        if left[k] > 0:
            order[count] = k
            count += 1
    return peeled, roots


@njit(cache=True, nogil=True)
def ball(indptr, indices, centre, size):
    """Return the variables nearest to one, ndarray of int32, shape (size,) or fewer if no more are connected to it."""
    seen = np.zeros(len(indptr) - 1, np.bool_)
    nearest = np.empty(size, np.int32)
    nearest[0], seen[centre] = centre, True
    count, at = 1, 0
    while at < count < size:
        i = nearest[at]
        at += 1
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if not seen[j] and count < size:
                seen[j] = True
                nearest[count] = j
                count += 1
    return nearest[:count]


@njit(cache=True, nogil=True)
def restrict(indptr, indices, kept):
    """Return the pattern among the variables `kept`, numbered in that order: indptr and indices."""
    number = np.full(len(indptr) - 1, np.int32(-1))
    total = 0
    for k in range(len(kept)):
        number[kept[k]] = k
        total += indptr[kept[k] + 1] - indptr[kept[k]]
    pointers, columns = np.empty(len(kept) + 1, np.int32), np.empty(total, np.int32)
    end, pointers[0] = 0, 0
    for k in range(len(kept)):
        for e in range(indptr[kept[k]], indptr[kept[k] + 1]):
            if number[indices[e]] >= 0:
                columns[end] = number[indices[e]]
                end += 1
        pointers[k + 1] = end
    return pointers, columns[:end]
