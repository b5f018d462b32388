"""Operators from face weights: diagonals, padding of axes that repeat, cells that are none, and coupling along axes."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

ONE, ZERO, NEXT = np.float32(1), np.float32(0), np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST)
def form_diagonal(n, s, w0, w1, w2, extra, diagonal):
    """Set the diagonal: the extra one and the weights of all faces of a cell."""
    s0, s1 = np.uint64(s[0]), np.uint64(s[1])
    for i in range(n[0]):
        for j in range(n[1]):
            p = np.uint64((i + 1) * s[0] + (j + 1) * s[1] + 1)
            if s[1]:
                for h in range(p, p + np.uint64(n[2])):
                    diagonal[h] = (extra[h] + (w0[h] + w0[h - s0])) + ((w1[h] + w1[h - s1]) + (w2[h] + w2[h - NEXT]))
            else:
                for h in range(p, p + np.uint64(n[2])):
                    diagonal[h] = (extra[h] + (w0[h] + w0[h - s0])) + (w2[h] + w2[h - NEXT])


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def invert(diagonal, inverse):
    """inverse <- 1 / diagonal, zero where that is not positive."""
    for h in range(np.uint64(diagonal.size)):
        inverse[h] = ONE / diagonal[h] if diagonal[h] > ZERO else ZERO


@njit(cache=True, nogil=True, fastmath=FAST)
def dominance(extra, inverse):
    """Return the least share of a diagonal entry that is not in faces."""
    least = ONE
    for h in range(np.uint64(extra.size)):
        share = extra[h] * inverse[h] if inverse[h] > ZERO else ONE
        least = share if share < least else least
    return least


@njit(cache=True, nogil=True)
def close_faces(n, s, wrap, w0, w1, w2):
    """Repeat the weight of the last face of axes that repeat in the padding before the first cell."""
    s0, s1 = s[0], s[1]
    if wrap[0]:
        w0[:s0] = w0[n[0] * s0 : (n[0] + 1) * s0]
    for i in range(n[0]):
        o = (i + 1) * s0
        if wrap[1]:
            w1[o : o + s1] = w1[o + n[1] * s1 : o + (n[1] + 1) * s1]
        if wrap[2]:
            for j in range(n[1]):
                w2[o + (j + 1) * s1] = w2[o + (j + 1) * s1 + n[2]]


@njit(cache=True, nogil=True)
def sum_floor(n, s, halved, diagonal, m, ms, part, least, out):
    """out <- sum over the children of each coarse cell of part * diagonal + least."""
    for i in range(n[0]):
        c0 = i // 2 if halved[0] else i
        for j in range(n[1]):
            c1 = j // 2 if halved[1] else j
            p, e = np.uint64((i + 1) * s[0] + (j + 1) * s[1] + 1), np.uint64((c0 + 1) * ms[0] + (c1 + 1) * ms[1] + 1)
            if halved[2]:
                for c in range(np.uint64(n[2] // 2)):
                    out[e + c] += part * (diagonal[p + c + c] + diagonal[p + c + c + NEXT]) + (least + least)
                if n[2] % 2:
                    out[e + np.uint64(n[2] // 2)] += part * diagonal[p + np.uint64(n[2] - 1)] + least
            else:
                for k in range(np.uint64(n[2])):
                    out[e + k] += part * diagonal[p + k] + least


@njit(cache=True, nogil=True)
def inherit(n, s, halved, diagonal, label, ms, strongest, out):
    """Set the label of each coarse cell to that of its child with the largest diagonal.

    `out` and `strongest` hold -1 and 0 before; a label below zero is none.
    """
    for i in range(n[0]):
        c0 = i // 2 if halved[0] else i
        for j in range(n[1]):
            c1 = j // 2 if halved[1] else j
            for k in range(n[2]):
                p = (i + 1) * s[0] + (j + 1) * s[1] + k + 1
                e = (c0 + 1) * ms[0] + (c1 + 1) * ms[1] + (k // 2 if halved[2] else k) + 1
                if diagonal[p] > strongest[e]:
                    strongest[e], out[e] = diagonal[p], label[p]


@njit(cache=True, nogil=True)
def remove_cells(n, s, wrap, floor, diagonal, w0, w1, w2, extra):
    """Remove the faces and the extra diagonal of cells whose diagonal is at most the floor: it comes from rounding."""
    s0, s1 = s[0], s[1]
    for i in range(n[0]):
        for j in range(n[1]):
            for k in range(n[2]):
                p = (i + 1) * s0 + (j + 1) * s1 + k + 1
                if diagonal[p] > floor[p]:
                    continue
                extra[p] = 0
                w0[p] = w2[p] = 0
                if i > 0 or wrap[0]:
                    w0[p - s0 if i > 0 else p + (n[0] - 1) * s0] = 0
                if k > 0 or wrap[2]:
                    w2[p - 1 if k > 0 else p + n[2] - 1] = 0
                if s1:
                    w1[p] = 0
                    if j > 0 or wrap[1]:
                        w1[p - s1 if j > 0 else p + (n[1] - 1) * s1] = 0


@njit(cache=True, nogil=True, fastmath=FAST)
def _coupling(w, inverse, p, q, count):
    """Return the sum of w / sqrt(d d) of a row of faces between the cells from p and those from q."""
    p, q = np.uint64(p), np.uint64(q)
    total = ZERO
    for k in range(np.uint64(count)):
        total += w[p + k] * np.sqrt(inverse[p + k] * inverse[q + k])
    return np.float64(total)


@njit(cache=True, nogil=True)
def couplings(n, s, w0, w1, w2, inverse):
    """Return the mean of w / sqrt(d d) over the faces inside the box, per axis: how strongly cells are coupled."""
    s0, s1 = s[0], s[1]
    sums, unknowns = np.zeros(3), 0
    for i in range(n[0]):
        for j in range(n[1]):
            p = (i + 1) * s0 + (j + 1) * s1 + 1
            if i < n[0] - 1:
                sums[0] += _coupling(w0, inverse, p, p + s0, n[2])
            if j < n[1] - 1:
                sums[1] += _coupling(w1, inverse, p, p + s1, n[2])
            sums[2] += _coupling(w2, inverse, p, p + 1, n[2] - 1)
            for h in range(p, p + n[2]):
                unknowns += inverse[h] > 0
    for axis in range(3):
        if n[axis] > 1:
            sums[axis] *= n[axis] / (n[axis] - 1)
    return sums / max(unknowns, 1)
