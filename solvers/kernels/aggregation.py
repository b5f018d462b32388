"""Compiled passes of smoothed aggregation: strong couplings, aggregates, the smoothed prolongator, products.

Matrices are in CSR with 32-bit indices, without duplicates; their rows need not be sorted. Results are written into
arrays that are long enough, or said not to be. `tests/test_aggregation.py` defines each pass in plain NumPy.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def measure(indptr, indices, data, factor, most, reach):
    """Set what the couplings of each row are measured by, `reach` (n,).

    That is the largest magnitude of the negative ones, and `factor` times the sum of the positive ones beside it, which
    cancel negative ones; at most `most` times the former.
    """
    for i in range(np.uint64(indptr.size - 1)):
        largest, positive = 0.0, 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            value = data[e]
            largest = max(largest, -value)
            positive += max(value, 0.0) if np.uint64(indices[e]) != i else 0.0
        reach[i] = min(largest + factor * positive, most * largest)


@njit(cache=True, nogil=True, error_model="numpy")
def strong_couplings(indptr, indices, data, reach, theta, starts, columns, values, kept):
    """Write the strong couplings of each row; return how many there are.

    A coupling is strong if it is negative, and its square larger than theta^2 times the reach of both its ends. `kept`,
    shape (n,), becomes the diagonal with the weak couplings added, so that row sums stay. `columns` and `values` have
    one place more than the matrix has entries.
    """
    end = np.uint64(0)
    starts[0] = 0
    for i in range(np.uint64(indptr.size - 1)):
        limit = theta * theta * reach[i]
        own = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            j, value = np.uint64(indices[e]), data[e]
            # Written in any case, and kept or not: no processor foresees which couplings are strong.
            columns[end], values[end] = indices[e], value
            strong = (j != i) & (value < 0.0) & (value * value > limit * reach[j])
            own += 0.0 if strong else value
            end += np.uint64(strong)
        kept[i] = own
        starts[i + np.uint64(1)] = end
    return end


@njit(cache=True, nogil=True, error_model="numpy")
def aggregate(starts, columns, aggregates):
    """Give each row (n,) the number of its aggregate, -1 where it has no strong coupling; return how many there are.

    A row and its neighbours are an aggregate if none of them belongs to one yet; what is left joins a neighbour's; what
    is left then is made into aggregates of neighbours that are left.
    """
    aggregates[:] = -1
    n, count = np.uint64(starts.size - 1), 0
    for i in range(n):
        first, last = np.uint64(starts[i]), np.uint64(starts[i + np.uint64(1)])
        if aggregates[i] >= 0 or first == last:
            continue
        free = True
        for e in range(first, last):
            if aggregates[np.uint64(columns[e])] >= 0:
                free = False
                break
        if free:
            aggregates[i] = count
            for e in range(first, last):
                aggregates[np.uint64(columns[e])] = count
            count += 1
    for i in range(n):
        if aggregates[i] == -1:
            for e in range(np.uint64(starts[i]), np.uint64(starts[i + np.uint64(1)])):
                beside = aggregates[np.uint64(columns[e])]
                if beside >= 0:
                    aggregates[i] = -2 - beside  # so that nobody joins because of this one
                    break
    for i in range(n):
        first, last = np.uint64(starts[i]), np.uint64(starts[i + np.uint64(1)])
        if aggregates[i] < -1:
            aggregates[i] = -2 - aggregates[i]
        elif aggregates[i] == -1 and first < last:
            aggregates[i] = count
            for e in range(first, last):
                if aggregates[np.uint64(columns[e])] == -1:
                    aggregates[np.uint64(columns[e])] = count
            count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def smooth(starts, columns, values, kept, aggregates, omega, marker, p_starts, p_columns, p_values):
    """Write P = T - omega W F T, T the piecewise constant on aggregates; return its number of entries.

    F holds the strong couplings and the diagonal `kept`, W the inverse of each row's sum of magnitudes in F, but of
    twice that of the diagonal entry where this is more. Where T is zero in a row, P is. `marker`, one number per
    aggregate, is -1 at first.
    """
    end = 0
    p_starts[0] = 0
    for i in range(np.uint64(starts.size - 1)):
        first = end
        own = aggregates[i]
        if own >= 0:
            marker[own], p_columns[end], p_values[end] = end, own, kept[i]
            end += 1
            total = 0.0
            for e in range(np.uint64(starts[i]), np.uint64(starts[i + np.uint64(1)])):
                value = values[e]
                total += abs(value)
                other = aggregates[np.uint64(columns[e])]
                if other < 0:  # of a row that has no strong coupling, as rounding may have it; it counts as weak
                    other = own
                place = marker[other]
                if place >= first:
                    p_values[place] += value
                else:
                    marker[other], p_columns[end], p_values[end] = end, other, value
                    end += 1
            total = abs(kept[i]) + max(total, abs(kept[i]))
            weight = -omega / total if total > 0.0 else 0.0
            for e in range(first, end):
                p_values[e] *= weight
            p_values[first] += 1.0
        p_starts[i + np.uint64(1)] = end
    return end


@njit(cache=True, nogil=True, error_model="numpy")
def transpose(indptr, indices, data, starts, columns, values):
    """Write the transpose of a matrix, its rows sorted."""
    n, m = np.uint64(indptr.size - 1), starts.size - 1
    starts[:] = 0
    for e in range(np.uint64(indices.size)):
        starts[np.uint64(indices[e]) + np.uint64(1)] += 1
    for j in range(m):
        starts[j + 1] += starts[j]
    free = starts[:-1].copy()
    for i in range(n):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            j = np.uint64(indices[e])
            place = np.uint64(free[j])
            free[j] += 1
            columns[place], values[place] = i, data[e]


@njit(cache=True, nogil=True, error_model="numpy")
def multiply(a_starts, a_columns, a_values, b_starts, b_columns, b_values, marker, starts, columns, values):
    """Write the product of two matrices; return whether `columns` and `values` are long enough.

    `marker`, one number per column, is -1 at first.
    """
    room, one = columns.size, np.uint64(1)
    starts[0] = end = 0
    for i in range(np.uint64(a_starts.size - 1)):
        first = end
        for e in range(np.uint64(a_starts[i]), np.uint64(a_starts[i + one])):
            j, value = np.uint64(a_columns[e]), a_values[e]
            for f in range(np.uint64(b_starts[j]), np.uint64(b_starts[j + one])):
                k = np.uint64(b_columns[f])
                place = marker[k]
                if place >= first:
                    values[np.uint64(place)] += value * b_values[f]
                elif end == room:
                    return False
                else:
                    marker[k] = end
                    columns[np.uint64(end)], values[np.uint64(end)] = b_columns[f], value * b_values[f]
                    end += 1
        starts[i + one] = end
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def energies(indptr, indices, data, diagonal, sums):
    """Set `sums`, shape (m,), to the diagonal of P' diag(diagonal) P."""
    sums[:] = 0.0
    for i in range(np.uint64(indptr.size - 1)):
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + np.uint64(1)])):
            sums[np.uint64(indices[e])] += data[e] * data[e] * diagonal[i]
