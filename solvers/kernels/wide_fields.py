"""Compiled passes from a matrix whose rows couple to all cells around their own to fields of its couplings."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.wide_values import _apart, _steps_around


@njit(cache=True, nogil=True)
def fill(indptr, indices, data, n, floor, scale, strides, rest, w, extra, inverse):
    """Read the couplings of a matrix into fields.

    Parameters
    ----------
    indptr, indices, data, n, floor
        As in `wide_values.inspect`, which has found nothing to refuse.
    scale : float
        What A is divided by.
    strides : tuple of 2 ints
        Entries from plane to plane and from row to row of the padded box; 0 in place of the latter in 2D.
    rest : ndarray of float64, shape (rows,)
        Sum of each row with couplings.
    w, extra, inverse : ndarray of float32, in and out
        The fields of `Around`, zeros at first.

    Returns
    -------
    float
        Largest sum of magnitudes in a row of D^-1 A: a bound of its eigenvalues (Gershgorin).
    """
    s0, s1 = strides
    steps, after = _steps_around(n), 14 if n[1] > 1 else 5  # steps up to the own cell come before
    i, largest = 0, 0.0
    for x in range(n[0]):
        inner_plane = 0 < x < n[0] - 1
        for y in range(n[1]):
            inner_row = inner_plane and (n[1] == 1 or 0 < y < n[1] - 1)
            first = (y + 1) * s1 + 1
            for z in range(n[2]):
                inner, k, at = inner_row and 0 < z < n[2] - 1, after, first + z
                size, diagonal = 0.0, 0.0
                for e in range(np.int64(indptr[i]), np.int64(indptr[i + 1])):
                    step = np.int64(indices[e]) - i
                    if step == 0:
                        diagonal = np.float64(data[e])
                        continue
                    value = np.float64(data[e])
                    if abs(value) <= floor:
                        continue
                    size += abs(value)
                    if step < 0:
                        continue
                    if inner:
                        while steps[k] < step:
                            k += 1
                        w[x + 1, k - after, at] = -value / scale
                    else:
                        dx, dy, dz = _apart(step, (x, y, z), n)
                        w[x + 1, _number(dx, dy, dz, n[1] > 1), at] = -value / scale
                if size > 0.0:
                    p = (x + 1) * s0 + at
                    extra[p], inverse[p] = rest[i] / scale, scale / diagonal
                    largest = max(largest, (diagonal + size) / diagonal)
                i += 1
    return largest


@njit(cache=True, nogil=True, inline="always")
def _number(dx, dy, dz, full):
    """Return the number of the field that leads so many cells on, to a later one."""
    if not full:
        return 2 + dz if dx else 0
    return 8 + 3 * dy + dz if dx else 2 * dy + dz if dy else 0
