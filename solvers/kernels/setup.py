"""Compiled passes of the multigrid setup: aggregation, local features, network evaluation, smoother coefficients.

Flat padded boxes as in `kernels/outer.py`. `step` holds per axis 2 if the axis is halved on the way to the coarse
level, 1 if not.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.outer import FAST


@njit(cache=True, nogil=True)
def erode(flags, offsets, eroded):
    """eroded <- 1 where flags is 1 in the whole neighbourhood; a pass per offset over blocks that fit a cache."""
    margin = offsets.max()
    block = 1 << 14
    eroded[:] = 0
    for start in range(margin, flags.size - margin, block):
        stop = min(start + block, flags.size - margin)
        eroded[start:stop] = 1
        for o in offsets:
            shifted = flags[start + o : stop + o]
            out = eroded[start:stop]
            for k in range(out.size):
                out[k] &= shifted[k]


@njit(cache=True, nogil=True)
def boundary_cells(codes, offsets):
    """Mark the unknowns whose neighbourhood is not all interior (code 1)."""
    flags, eroded = np.empty(codes.size, dtype=np.uint8), np.empty(codes.size, dtype=np.uint8)
    for p in range(codes.size):
        flags[p] = codes[p] == 1
    erode(flags, offsets, eroded)
    marked = np.empty(codes.size, dtype=np.bool_)
    for p in range(codes.size):
        marked[p] = codes[p] != 0 and eroded[p] == 0
    return marked


@njit(cache=True, nogil=True)
def listed_cells(codes, ids, neighbours):
    """Mark the unknowns that have, or have a neighbour with, another pattern than the interior."""
    marked, margin = np.zeros(codes.size, dtype=np.bool_), neighbours.max()
    for p in range(margin, codes.size - margin):
        if codes[p]:
            listed = ids[p] != 0
            for o in neighbours:
                listed |= (codes[p + o] != 0) and (ids[p + o] != 0)
            marked[p] = listed
    return marked


@njit(cache=True, nogil=True)
def listed_coefficients(cells, codes, diagonal, ids, table, first, axes, neighbours, c0, a0, constants, delta):
    """Smoother coefficients of the listed cells as differences from the constants (a, c0, c1, c2) of the interior.

    table : float32 (patterns, outputs)
        Clipped network outputs; those of the smoother are first .. first + 3.
    axes, neighbours
        Per column of `delta` from the second on, the axis and the flat offset of the neighbour (offset 0: no such
        neighbour).
    """
    common = (constants[1], constants[2], constants[3])
    for e in range(cells.size):
        p = cells[e]
        own = table[ids[p], first : first + 4]
        total = np.float32(0)
        for k in range(6):
            q = p + neighbours[k]
            c = np.float32(0)
            if neighbours[k] != 0 and codes[q] != 0:
                mean = np.float32(0.5) * (own[1 + axes[k]] + table[ids[q], first + 1 + axes[k]])
                c = c0 * np.exp(mean) / (np.float32(diagonal[p]) * np.float32(diagonal[q]))
            total += c
            delta[e, 1 + k] = c - common[axes[k]] if c != 0 else np.float32(0)
        delta[e, 0] = a0 * np.exp(own[0]) / np.float32(diagonal[p]) + total - constants[0]


@njit(cache=True, nogil=True)
def listed_ratios(cells, ids, table, phi, ratio):
    """Transfer scaling exp(output 0) of the listed cells over the interior's, phi."""
    for e in range(cells.size):
        ratio[e] = np.exp(table[ids[cells[e]], 0]) / phi


@njit(cache=True, nogil=True)
def aggregate_stencil(n, s, diagonal, m, ms, step, volume, dirichlet, inside, crossing):
    """Sum the finest level over coarse cells: unknowns, Dirichlet counts, faces inside and between them."""
    strides = (s[0], s[1], 1)
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                p = (i + 1) * s[0] + (j + 1) * s[1] + 1 + k
                if not diagonal[p]:
                    continue
                c = (i // step[0] + 1) * ms[0] + (j // step[1] + 1) * ms[1] + 1 + k // step[2]
                volume[c] += 1
                found = 0
                for axis in range(3):
                    if strides[axis] == 0:
                        continue
                    index = i if axis == 0 else (j if axis == 1 else k)
                    found += diagonal[p - strides[axis]] != 0
                    if diagonal[p + strides[axis]]:
                        found += 1
                        if step[axis] == 2 and index % 2 == 0:
                            inside[axis, c] += 1
                        else:
                            crossing[axis, c] += 1
                dirichlet[c] += diagonal[p] - found


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
def hand_down_patterns(n, s, diagonal, ids, table, first, m, ms, step, share, handed):
    """Sum share * table[pattern, first:] of the finest unknowns over coarse cells; handed is (box, channels)."""
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                p = (i + 1) * s[0] + (j + 1) * s[1] + 1 + k
                if diagonal[p]:
                    c = (i // step[0] + 1) * ms[0] + (j // step[1] + 1) * ms[1] + 1 + k // step[2]
                    for f in range(handed.shape[1]):
                        handed[c, f] += share * table[ids[p], first + f]


@njit(cache=True, nogil=True)
def hand_down(n, s, outputs, first, m, ms, step, share, handed):
    """Sum share * outputs[:, first:] of a coarse level over the cells of the next one."""
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                p = (i + 1) * s[0] + (j + 1) * s[1] + 1 + k
                c = (i // step[0] + 1) * ms[0] + (j // step[1] + 1) * ms[1] + 1 + k // step[2]
                for f in range(handed.shape[1]):
                    handed[c, f] += share * outputs[p, first + f]


@njit(cache=True, nogil=True, fastmath=FAST)
def _two_layers(hidden, w2, b2, w3, b3, second, out):
    """Apply the last two pointwise layers to the first layer's values."""
    for h in range(second.size):
        second[h] = b2[h]
    for g in range(hidden.size):
        value = max(hidden[g], np.float32(0))
        for h in range(second.size):
            second[h] += value * w2[g, h]
    for o in range(out.size):
        out[o] = b3[o]
    for h in range(second.size):
        value = max(second[h], np.float32(0))
        for o in range(out.size):
            out[o] += value * w3[h, o]


@njit(cache=True, nogil=True, fastmath=FAST)
def evaluate_patterns(patterns, w1, b1, w2, b2, w3, b3, out):
    """Evaluate the finest network on patterns (count, cells); inputs: occupied, then half the Dirichlet counts."""
    cells, width = patterns.shape[1], b1.size
    hidden, second = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    for e in range(patterns.shape[0]):
        for h in range(width):
            hidden[h] = b1[h]
        for c in range(cells):
            code = patterns[e, c]
            if code > 0:
                for h in range(width):
                    hidden[h] += w1[c, h]
            if code > 1:
                value = np.float32(0.5) * np.float32(code - 1)
                for h in range(width):
                    hidden[h] += value * w1[cells + c, h]
        _two_layers(hidden, w2, b2, w3, b3, second, out[e])


@njit(cache=True, nogil=True)
def interior_cell(n, s, offsets, features):
    """Return the first cell with volume whose whole neighbourhood has its features, or -1."""
    for i in range(1, n[0] - 1):
        for j in range(min(1, n[1] - 1), max(1, n[1] - 1)):
            for k in range(1, n[2] - 1):
                p = (i + 1) * s[0] + (j + 1) * s[1] + 1 + k
                uniform = features[p, 0] != 0
                for o in offsets:
                    for f in range(features.shape[1]):
                        if features[p + o, f] != features[p, f]:
                            uniform = False
                            break
                    if not uniform:
                        break
                if uniform:
                    return p
    return -1


@njit(cache=True, nogil=True, fastmath=FAST)
def _evaluate_cell(p, offsets, features, w1, b1, w2, b2, w3, b3, hidden, second, out):
    """Evaluate a coarse network in one cell."""
    for h in range(hidden.size):
        hidden[h] = b1[h]
    row = 0
    for o in offsets:
        for f in range(features.shape[1]):
            value = features[p + o, f]
            if value != 0:
                for h in range(hidden.size):
                    hidden[h] += value * w1[row, h]
            row += 1
    _two_layers(hidden, w2, b2, w3, b3, second, out)


@njit(cache=True, nogil=True)
def evaluate_features(n, s, offsets, features, w1, b1, w2, b2, w3, b3, outputs):
    """Evaluate a coarse network in every cell with volume; features (box, f), w1 (neighbours * f, hidden).

    Once in an undisturbed interior, whose cells and neighbourhoods are all alike: they are found by their features.
    """
    hidden, second = np.empty(b1.size, dtype=np.float32), np.empty(b1.size, dtype=np.float32)
    size, count = features.shape
    alike, interior = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    first = interior_cell(n, s, offsets, features)
    if first >= 0:
        for p in range(size):
            same = True
            for f in range(count):
                same &= features[p, f] == features[first, f]
            alike[p] = same
        erode(alike, offsets, interior)
        _evaluate_cell(first, offsets, features, w1, b1, w2, b2, w3, b3, hidden, second, outputs[first])
    for i in range(n[0]):
        for j in range(n[1]):
            start = (i + 1) * s[0] + (j + 1) * s[1] + 1
            for p in range(start, start + n[2]):
                if interior[p]:
                    outputs[p] = outputs[first]
                elif features[p, 0] != 0:
                    _evaluate_cell(p, offsets, features, w1, b1, w2, b2, w3, b3, hidden, second, outputs[p])


@njit(cache=True, nogil=True)
def scale_faces(strides, outputs, w, dirichlet):
    """Multiply face and Dirichlet weights by exp of the clipped outputs, averaged over both cells of a face."""
    low, high, half = np.float32(-2), np.float32(2), np.float32(0.5)
    for p in range(outputs.shape[0]):
        for axis in range(3):
            if w[axis, p] != 0:
                own, other = outputs[p, axis], outputs[p + strides[axis], axis]
                w[axis, p] *= np.exp(half * (min(max(own, low), high) + min(max(other, low), high)))
        if dirichlet[p] != 0:
            dirichlet[p] *= np.exp(min(max(outputs[p, 3], low), high))


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
def smoother_coefficients(strides, outputs, first, w, inverse, c0, a0, a, c, phi):
    """Phi and S of a coarse level from the outputs first .. first + 4: phi, a, c0, c1, c2."""
    half = np.float32(0.5)
    for p in range(outputs.shape[0]):
        for axis in range(3):
            if w[axis, p] != 0:
                q = p + strides[axis]
                own = min(max(outputs[p, first + 2 + axis], np.float32(-4)), np.float32(3))
                other = min(max(outputs[q, first + 2 + axis], np.float32(-4)), np.float32(3))
                c[axis, p] = c0 * np.exp(half * (own + other)) * w[axis, p] * inverse[p] * inverse[q]
    for p in range(strides[0], outputs.shape[0]):
        if inverse[p] != 0:
            total = np.float32(0)
            for axis in range(3):
                if strides[axis]:
                    total += c[axis, p] + c[axis, p - strides[axis]]
            a[p] = total + a0 * np.exp(min(max(outputs[p, first + 1], np.float32(-3)), np.float32(3))) * inverse[p]
            phi[p] = np.exp(min(max(outputs[p, first], np.float32(-3)), np.float32(3)))
