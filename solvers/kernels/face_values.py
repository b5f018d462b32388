"""What the compiled passes from a matrix to the weights of faces share: why they stop, and looks at single rows."""

from __future__ import annotations

import numpy as np
from numba import njit

# Why a pass stopped.
UNSORTED, POSITIVE, ASYMMETRIC, APART, DIAGONAL, DOMINANCE, FINITE, SMALL, MANY = 1, 2, 3, 4, 5, 6, 7, 8, 9
ALIKE, ZERO = 64.0, 16.0  # relative to an entry, and to the diagonal, in rounding units: what counts as equal, as zero
SMALLEST = 1e-30  # weight, relative to the scale, that single precision is still good for

# Places in `tally`.
COLUMN, COUNT, OPEN, BROKEN = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def look(indptr, indices, data, rows, pairs):
    """Collect the couplings of some rows.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR, in any order.
    rows : ndarray of int64, shape (k,)
        Rows to look at.
    pairs : ndarray of int64, shape (2, most), out
        Row and column of each off-diagonal entry that is not zero.

    Returns
    -------
    count : int
        Number of pairs; -1 if there are more than fit.
    largest : float
        Largest diagonal entry of these rows with couplings, if positive and finite; 0 if there is none.
    """
    count, largest = 0, 0.0
    for i in rows:
        before, diagonal = count, 0.0
        for e in range(indptr[i], indptr[i + 1]):
            j, a = np.int64(indices[e]), np.float64(data[e])
            if j == i:
                diagonal = a
            elif a != 0.0:
                if count == pairs.shape[1]:
                    return -1, largest
                pairs[0, count], pairs[1, count] = i, j
                count += 1
        if count > before and largest < diagonal < np.inf:
            largest = diagonal
    return count, largest


@njit(cache=True, nogil=True)
def first_coupled(indptr, indices, data, rows):
    """Write the first rows that have off-diagonal entries other than zero into `rows`; return how many there are."""
    count = 0
    for i in range(indptr.size - 1):
        if count == rows.size:
            break
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] != i and data[e] != 0.0:
                rows[count] = i
                count += 1
                break
    return count


@njit(cache=True, nogil=True)
def remainder(sum_of_weights, diagonal, eps):
    """Return the reason for which a diagonal entry is refused or 0, and what it exceeds the sum of weights by."""
    rest = diagonal - sum_of_weights
    if not diagonal > 0.0:
        return DIAGONAL if diagonal <= 0.0 else FINITE, rest
    if not abs(rest) < np.inf:
        return FINITE, rest
    if abs(rest) <= ZERO * eps * diagonal:
        return 0, 0.0
    return DOMINANCE if rest < 0.0 else 0, rest
