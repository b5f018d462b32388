"""Learned factors of a coarse operator: what networks read of its cells, and how their answers are applied."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
NEXT = np.uint64(1)


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
