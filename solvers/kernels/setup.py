"""Compiled passes of the set-up of coarse levels: aggregation, local features, smoother coefficients.

Flat padded boxes as in `kernels/outer.py`. `step` holds per axis 2 if the axis is halved on the way to the coarse
level, 1 if not.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def aggregate_stencil(n, s, diagonal, m, ms, step, volume, dirichlet, inside, crossing):
    """Sum the finest level over coarse cells: unknowns, Dirichlet counts, faces inside and between them."""
    s0, s1, one = np.uint64(s[0]), np.uint64(s[1]), np.uint64(1)
    middle = np.uint8(1) if s[1] else np.uint8(0)
    # Sums of up to four fine rows over one coarse row, still with every fine column of its own.
    sums = np.empty((7, n[2] + 1), dtype=np.uint8)
    for ci in range(m[0]):
        for cj in range(m[1]):
            sums[:] = 0
            for i in range(step[0] * ci, min(step[0] * (ci + 1), n[0])):
                low0 = step[0] == 2 and i % 2 == 0
                for j in range(step[1] * cj, min(step[1] * (cj + 1), n[1])):
                    low1 = step[1] == 2 and j % 2 == 0
                    face0, face1 = sums[2 if low0 else 3], sums[4 if low1 else 5]
                    first = np.uint64((i + 1) * s[0] + (j + 1) * s[1] + 1)
                    for k in range(np.uint64(n[2])):
                        p = first + k
                        d = diagonal[p]
                        here = np.uint8(d != 0)
                        up0, up1, up2 = (
                            here & np.uint8(diagonal[p + s0] != 0),
                            here & np.uint8(diagonal[p + s1] != 0) & middle,
                            here & np.uint8(diagonal[p + one] != 0),
                        )
                        down = np.uint8(diagonal[p - s0] != 0) + np.uint8(diagonal[p - one] != 0)
                        down += middle * np.uint8(diagonal[p - s1] != 0)
                        sums[0, k] += here
                        sums[1, k] += (d - np.uint8(up0 + up1 + up2 + down)) if d != 0 else np.uint8(0)
                        face0[k] += up0
                        face1[k] += up1
                        sums[6, k] += up2
            out = (ci + 1) * ms[0] + (cj + 1) * ms[1] + 1
            if step[2] == 2:
                if n[2] % 2:
                    sums[:, n[2]] = 0
                for k in range(m[2]):
                    volume[out + k] = np.int32(sums[0, 2 * k]) + np.int32(sums[0, 2 * k + 1])
                    dirichlet[out + k] = np.int32(sums[1, 2 * k]) + np.int32(sums[1, 2 * k + 1])
                    for axis in range(2):
                        low, high = sums[2 + 2 * axis], sums[3 + 2 * axis]
                        inside[axis, out + k] = np.int32(low[2 * k]) + np.int32(low[2 * k + 1])
                        crossing[axis, out + k] = np.int32(high[2 * k]) + np.int32(high[2 * k + 1])
                    inside[2, out + k] = sums[6, 2 * k]
                    crossing[2, out + k] = sums[6, 2 * k + 1]
            else:
                for k in range(m[2]):
                    volume[out + k], dirichlet[out + k] = sums[0, k], sums[1, k]
                    for axis in range(2):
                        inside[axis, out + k], crossing[axis, out + k] = sums[2 + 2 * axis, k], sums[3 + 2 * axis, k]
                    crossing[2, out + k] = sums[6, k]


@njit(cache=True, nogil=True)
def aggregate_faces(n, s, w, fine_volume, fine_dirichlet, m, ms, step, volume, dirichlet, inside, crossing):
    """Sum a coarse level over the cells of the next one; `w` is (3, box)."""
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                p = (i + 1) * s[0] + (j + 1) * s[1] + 1 + k
                c = (i // step[0] + 1) * ms[0] + (j // step[1] + 1) * ms[1] + 1 + k // step[2]
                volume[c] += fine_volume[p]
                dirichlet[c] += fine_dirichlet[p]
                for axis in range(3):
                    index = i if axis == 0 else (j if axis == 1 else k)
                    if step[axis] == 2 and index % 2 == 0:
                        inside[axis, c] += w[axis, p]
                    else:
                        crossing[axis, c] += w[axis, p]


@njit(cache=True, nogil=True)
def hand_down_patterns(s, cells, numbers, table, first, ms, step, share, handed):
    """Add share * (table[pattern, first:] - table[0, first:]) of finest cells to coarse cells.

    `cells` are those whose patterns, `numbers`, are not 0; `handed`, (box, channels), holds what is right if all are.
    """
    shift0, shift1, shift2 = step[0] - 1, step[1] - 1, step[2] - 1  # steps are one or two
    i = j = 1  # of the padded box
    plane, row = s[0], s[0] + s[1]
    for e in range(cells.size):
        p = cells[e]
        while p >= plane + s[0]:
            plane, i, j = plane + s[0], i + 1, 1
            row = plane + s[1]
        while s[1] > 0 and p >= row + s[1]:
            row, j = row + s[1], j + 1
        c = (((i - 1) >> shift0) + 1) * ms[0] + (((j - 1) >> shift1) + 1) * ms[1] + 1 + ((p - row - 1) >> shift2)
        for f in range(handed.shape[1]):
            handed[c, f] += share * (table[numbers[e], first + f] - table[0, first + f])


@njit(cache=True, nogil=True)
def hand_down(n, s, numbers, table, first, ms, step, share, handed):
    """Add share * table[number, first:] of a coarse level's cells to the cells of the next one."""
    shift0, shift1, shift2 = step[0] - 1, step[1] - 1, step[2] - 1  # steps are one or two
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                row = numbers[(i + 1) * s[0] + (j + 1) * s[1] + 1 + k]
                c = ((i >> shift0) + 1) * ms[0] + ((j >> shift1) + 1) * ms[1] + 1 + (k >> shift2)
                for f in range(handed.shape[1]):
                    handed[c, f] += share * table[row, first + f]


@njit(cache=True, nogil=True)
def local_features(volume, dirichlet, inside, w, capacity, nominal, usual, features):
    """Set the features of each cell: volume, Dirichlet weight, weights inside it and of its faces, handed-down ones.

    Those that are handed down are as if all finest unknowns had the `usual` ones, shape (channels,).
    """
    largest, two = nominal.max(), np.float32(2)
    for p in range(volume.size):
        for f in range(usual.size):
            features[p, 8 + f] = volume[p] * usual[f]
        features[p, 0], features[p, 1] = volume[p] / capacity, dirichlet[p] / largest
        for axis in range(3):
            features[p, 2 + axis] = inside[axis, p] / (two * nominal[axis])
            features[p, 5 + axis] = w[axis, p] / nominal[axis]


@njit(cache=True, nogil=True)
def scale_faces(strides, numbers, factors, w, dirichlet):
    """Multiply face weights by factors 0, 1, 2 of both cells of a face, Dirichlet weights by factor 3 of the cell.

    `factors`, (patterns, 4 or more), are in the order of `architecture.COARSE`; `numbers` has the row of each cell.
    """
    for p in range(numbers.size):
        own = numbers[p]
        for axis in range(3):
            if w[axis, p] != 0:
                w[axis, p] *= factors[own, axis] * factors[numbers[p + strides[axis]], axis]
        dirichlet[p] *= factors[own, 3]


@njit(cache=True, nogil=True)
def form_diagonal(strides, w, dirichlet, smallest, diagonal, inverse):
    """Row sums of the weights; cells whose diagonal is not above `smallest` are no unknowns."""
    for p in range(strides[0], diagonal.size):
        total = dirichlet[p]
        for axis in range(3):
            if strides[axis]:
                total += w[axis, p] + w[axis, p - strides[axis]]
        diagonal[p] = total
        inverse[p] = 1 / total if total > smallest else 0


@njit(cache=True, nogil=True)
def smoother_coefficients(strides, numbers, factors, w, inverse, a, c, phi, psi):
    """Set S, phi and psi of a coarse level from factors per pattern, in the order of `architecture.COARSE`.

    Factors 4 and 5 are psi and phi, 6 is that of a, and 7, 8, 9 are those of c.
    """
    for p in range(numbers.size):
        own = numbers[p]
        for axis in range(3):
            if w[axis, p] != 0:
                q = p + strides[axis]
                both = factors[own, 7 + axis] * factors[numbers[q], 7 + axis]
                c[axis, p] = both * w[axis, p] * inverse[p] * inverse[q]
    for p in range(strides[0], numbers.size):
        if inverse[p] != 0:
            own = numbers[p]
            total = np.float32(0)
            for axis in range(3):
                if strides[axis]:
                    total += c[axis, p] + c[axis, p - strides[axis]]
            a[p] = total + factors[own, 6] * inverse[p]
            psi[p], phi[p] = factors[own, 4], factors[own, 5]
