"""A compiled look at how the off-diagonal entries of a matrix in CSR differ.

Indices are int32 or int64, values float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def couplings(indptr, indices, data, weak, rough, rounded):
    """Return how off-diagonal entries differ: five numbers.

    The longest row over the mean; the share of positive entries in the sum of magnitudes; that of weak ones in their
    number, which are positive, or smaller than `weak` times the largest of the negative ones of their row; that of
    rough ones, between rows whose largest negative entries differ by more than a factor of 1 / `rough`; and that of
    rows whose diagonal entry is smaller than the sum of the others' magnitudes, by more than `rounded` times it.
    """
    n = indptr.size - 1
    strongest = np.zeros(n)
    positive, total, longest, dominated = 0.0, 0.0, 0, 0
    for i in range(n):
        longest = max(longest, indptr[i + 1] - indptr[i])
        own = others = most = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            value = data[e]
            if indices[e] != i:
                most = max(most, -value)
                others += abs(value)
                positive += max(value, 0.0)
            else:
                own = value
        strongest[i] = most
        total += others
        dominated += own < (1.0 - rounded) * others
    few, torn, count = 0, 0, 0
    for i in range(n):
        own = strongest[i]
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j = indices[e]
            if j != i:
                few += -data[e] < weak * own
                torn += min(own, strongest[j]) < rough * max(own, strongest[j])
                count += 1
    mean, count = indptr[n] / max(n, 1), max(count, 1)
    return longest / max(mean, 1.0), positive / max(total, 1e-300), few / count, torn / count, dominated / max(n, 1)
