"""Learned factors of a coarse operator: what networks read of its cells, and how their answers are applied."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.lanes import LANES, load, positive, splat, store

ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
NEXT, EIGHT, WIDTH = np.uint64(1), np.uint64(8), np.uint64(LANES)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _look_at_faces(w, v, at, diagonal, inverse, p, side, share, root, beside, tempered):
    """Write the four features of a row of faces, which lie at `at`, of the cells from p on, and lead to p + side."""
    at, p, q = np.uint64(at), np.uint64(p), np.uint64(p + side)
    for k in range(np.uint64(share.size)):
        part = w[at + k] * inverse[p + k]
        share[k], root[k] = part, np.sqrt(np.sqrt(part))
        d, other = diagonal[p + k], diagonal[q + k]
        beside[k] = other / (d + other) if d > ZERO else ZERO
        tempered[k] = w[at + k] / v[at + k] if v[at + k] > ZERO else ONE


@njit(cache=True, nogil=True, fastmath=FAST)
def _look_at_extra(extra, inverse, p, share, root):
    """Write the two features of the extra diagonal of cells from p on."""
    p = np.uint64(p)
    for k in range(np.uint64(share.size)):
        part = extra[p + k] * inverse[p + k]
        share[k], root[k] = part, np.sqrt(np.sqrt(part))


@njit(cache=True, nogil=True)
def look(s, halved, w, v, extra, diagonal, inverse, start, out):
    """Write the features of consecutive entries of a padded box.

    Parameters
    ----------
    s : tuple of int
        Strides of the padded box.
    halved : tuple of 3 bools
        The axes that were halved to make the level.
    w, v : tuple of 3 ndarrays of float32
        Its faces, and what they were before tempering.
    extra, diagonal, inverse : ndarray of float32
    start : int
        The first entry, a plane from the beginning at least.
    out : ndarray of float32, shape (FEATURES, entries)
        As many entries as are to be looked at; the last one is a plane from the end at least.
    """
    for axis in range(3):
        side = s[0] if axis == 0 else s[1] if axis == 1 else 1
        row = 8 * axis
        if side == 0:
            out[row : row + 8] = ZERO
            continue
        f, g = (w[0], v[0]) if axis == 0 else (w[1], v[1]) if axis == 1 else (w[2], v[2])
        _look_at_faces(
            f, g, start - side, diagonal, inverse, start, -side, out[row], out[row + 1], out[row + 2], out[row + 3]
        )
        _look_at_faces(
            f, g, start, diagonal, inverse, start, side, out[row + 4], out[row + 5], out[row + 6], out[row + 7]
        )
    _look_at_extra(extra, inverse, start, out[24], out[25])
    for axis in range(3):
        out[26 + axis] = ONE if halved[axis] else ZERO


@njit(cache=True, nogil=True, fastmath=FAST)
def _layer(w, x, at, stride, out, rectified):
    """Write a layer's outputs for sixteen cells, eight outputs at a time, whose sums stay in registers.

    The last column of w are the biases; the inputs begin at `at` in x, `stride` entries from one to the next.
    """
    inputs = w.shape[1] - 1
    for o in range(np.uint64(0), np.uint64(w.shape[0]), EIGHT):
        a, b, c, d = splat(w[o, inputs]), splat(w[o + 1, inputs]), splat(w[o + 2, inputs]), splat(w[o + 3, inputs])
        e, f, g, h = splat(w[o + 4, inputs]), splat(w[o + 5, inputs]), splat(w[o + 6, inputs]), splat(w[o + 7, inputs])
        place = np.uint64(at)
        for i in range(np.uint64(inputs)):
            v = load(x, place)
            a = a + splat(w[o, i]) * v
            b = b + splat(w[o + 1, i]) * v
            c = c + splat(w[o + 2, i]) * v
            d = d + splat(w[o + 3, i]) * v
            e = e + splat(w[o + 4, i]) * v
            f = f + splat(w[o + 5, i]) * v
            g = g + splat(w[o + 6, i]) * v
            h = h + splat(w[o + 7, i]) * v
            place += np.uint64(stride)
        to = o * WIDTH
        for value in (a, b, c, d, e, f, g, h):
            store(out, to, positive(value) if rectified else value)
            to += WIDTH


@njit(cache=True, nogil=True)
def answer(x, count, first, second, third, one, two, out, start):
    """Write what a network of three layers answers for so many cells, a multiple of sixteen.

    Parameters
    ----------
    x : ndarray of float32, shape (FEATURES * count,)
        Features, each of all cells.
    count : int
        Number of cells.
    first, second, third : ndarray of float32, shape (outputs, inputs + 1)
        Weights and biases of the layers; numbers of outputs are multiples of eight.
    one, two : ndarray of float32
        Scratch for the outputs of a layer, sixteen of each.
    out : ndarray of float32, shape (FACTORS, entries)
        The answers for the cells are written from entry `start` on.
    """
    for k in range(np.uint64(0), np.uint64(count), WIDTH):
        _layer(first, x, k, count, one, True)
        _layer(second, one, 0, WIDTH, two, True)
        _layer(third, two, 0, WIDTH, one, False)
        for factor in range(out.shape[0]):
            for j in range(WIDTH):
                if np.uint64(start) + k + j < np.uint64(out.shape[1]):
                    out[factor, np.uint64(start) + k + j] = one[np.uint64(factor) * WIDTH + j]


@njit(cache=True, nogil=True, fastmath=FAST)
def _scale_row(w, f, p, q, count):
    """w[p ...] <- w f[p ...] f[q ...]."""
    p, q = np.uint64(p), np.uint64(q)
    for k in range(np.uint64(count)):
        w[p + k] *= f[p + k] * f[q + k]


@njit(cache=True, nogil=True)
def scale_faces(n, s, wrap, axis, f, w):
    """Multiply the weight of each face along an axis by the factors f of both its cells."""
    side = s[0] if axis == 0 else s[1] if axis == 1 else 1
    for i in range(n[0]):
        for j in range(n[1]):
            p = (i + 1) * s[0] + (j + 1) * s[1] + 1
            place = i if axis == 0 else j
            if axis < 2:
                if place < n[axis] - 1:
                    _scale_row(w, f, p, p + side, n[2])
                elif wrap[axis]:
                    _scale_row(w, f, p, p - (n[axis] - 1) * side, n[2])
            else:
                _scale_row(w, f, p, p + 1, n[2] - 1)
                if wrap[2]:
                    w[p + n[2] - 1] *= f[p + n[2] - 1] * f[p]
