"""Faces across an axis that is halved: the Galerkin product with its diagonal couplings moved to faces.

A face of weight w joins two fine cells that hang on the same two coarse cells, with weights near and far. What both
have in common joins coarse cells across the axis; the difference would couple coarse cells that do not touch, and by
Jensen's inequality its energy is bounded by that of the two ways around. What only one of the cells leaves to the
ground stays a wall of its coarse cell.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces.records import UNIT
from deepcd.solvers.kernels.faces.rows import add, zeros
from deepcd.solvers.kernels.outer import span

ONE, HALF, ZERO, PART = np.float32(1), np.float32(0.5), np.float32(0), np.float32(1 / UNIT)
NEXT = np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _share_row(w, near, far, p, q, both, along, around, here, there):
    """Of a row of faces between the cells from p and those from q: how much goes where, per face."""
    p, q = np.uint64(p), np.uint64(q)
    for k in range(np.uint64(both.size)):
        n1, n2 = np.float32(near[p + k]), np.float32(near[q + k])
        f1, f2 = np.float32(far[p + k]), np.float32(far[q + k])
        weight = PART * w[p + k]
        kept1, kept2 = n1 + f1, n2 + f2
        n, f, kept = n1 if n1 < n2 else n2, f1 if f1 < f2 else f2, kept1 if kept1 < kept2 else kept2
        rest = kept - n - f
        rest = HALF * rest if rest > ZERO else ZERO
        both[k], along[k], around[k] = (n + rest) * weight, (f + rest) * weight, rest * weight
        here[k], there[k] = (kept1 - kept) * weight, (kept2 - kept) * weight


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_pairs(v, at, out):
    """out[at + c] <- out + v[2 c] + v[2 c + 1]; v ends with a zero."""
    at = np.uint64(at)
    for c in range(np.uint64(v.size // 2)):
        out[at + c] += v[c + c] + v[c + c + NEXT]


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_between(v, at, out):
    """out[at + c] <- out + v[2 c + 1] + v[2 c + 2]."""
    at = np.uint64(at)
    for c in range(np.uint64((v.size - 1) // 2)):
        out[at + c] += v[c + c + NEXT] + v[c + c + NEXT + NEXT]


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_shifted(v, at, out):
    """out[at + c] <- out + v[2 c + 2] + v[2 c - 1], as far as there are such c."""
    at = np.uint64(at)
    for c in range(np.uint64(v.size // 2 - 1)):
        out[at + c] += v[c + c + NEXT + NEXT]
    for c in range(np.uint64(v.size // 2 - 1)):
        out[at + c + NEXT] += v[c + c + NEXT]


@njit(cache=True, nogil=True)
def _both(codes, p, q):
    """Return two codes as an array."""
    pair = np.empty(2, dtype=codes.dtype)
    pair[0], pair[1] = codes[p], codes[q]
    return pair


@njit(cache=True, nogil=True)
def distribute_across(n, s, wrap, wrap_other, axis, other, w, near, far, ms, V, W, X):
    """Distribute the faces along another axis where the first or the middle one is halved.

    Parameters
    ----------
    n, s : tuples of int
        Cells per axis, and strides of the padded box.
    wrap, wrap_other : bool
        Whether the halved axis and that of the faces repeat.
    axis : {0, 1}
        The halved axis.
    other : {0, 1, 2}
        The axis of the faces.
    w : ndarray of float32
        Their weights.
    near, far : ndarray of uint8
        How the cells hang on coarse ones.
    ms : tuple of int
        Strides of the coarser box.
    V, W, X : ndarray of float32
        What is added to: coarse faces along the other axis, coarse faces along the halved one, and extra diagonal.
    """
    m = (n[axis] + 1) // 2
    # Where planes are joined, they are rows, with padding that leaves zeros; not if a face leads to their other end.
    lo, hi = span(n, s, 0, n[1])
    flat = axis == 0 and not wrap_other
    lines, width, inset = (1, hi - lo, lo - s[1]) if flat else (n[1], n[2], 1)
    side, far_side = (s[0], ms[0]) if other == 0 else ((s[1], ms[1]) if other == 1 else (1, 1))
    both, along, around, here, there = zeros(width), zeros(width), zeros(width), zeros(width), zeros(width)
    for i in range(n[0]):
        for j in range(lines):
            p = (i + 1) * s[0] + (j + 1) * s[1] + inset
            a, b = (i, j) if axis == 0 else (j, i)
            end = wrap_other and other < 2 and b == n[other] - 1
            back, far_back = (n[other] * side, n[other] * far_side) if end else (0, 0)
            _share_row(w, near, far, p, p + side - back, both, along, around, here, there)
            if other == 2 and wrap_other:
                # A face leads from the last cell to the first one, whose codes are not next to it.
                last, first, at = width - 1, p, p + width - 1
                _share_row(
                    w[at : at + 1], _both(near, at, first), _both(far, at, first), 0, 1, both[last:],
                    along[last:], around[last:], here[last:], there[last:],
                )  # fmt: skip
            c = a // 2
            d = c + 2 * (a % 2) - 1
            if d < 0 or d >= m:
                d = (d + m) % m if wrap else c
            own = ((c + 1) * ms[0] + (j + 1) * ms[1] if axis == 0 else (i + 1) * ms[0] + (c + 1) * ms[1]) + inset
            beyond = ((d + 1) * ms[0] + (j + 1) * ms[1] if axis == 0 else (i + 1) * ms[0] + (d + 1) * ms[1]) + inset
            at = own if a % 2 else beyond  # the face between both lies at the first of them
            add(ONE, both, own, V)
            add(ONE, here, own, X)
            if other == 2 and wrap_other:
                add(ONE, there[: width - 1], own + 1, X)
                X[own] += there[width - 1]
            else:
                add(ONE, there, own + far_side - far_back, X)
            if d == c:
                continue
            add(ONE, along, beyond, V)
            add(ONE, around, at, W)
            if other == 2 and wrap_other:
                add(ONE, around[: width - 1], at + 1, W)
                W[at] += around[width - 1]
            else:
                add(ONE, around, at + far_side - far_back, W)


@njit(cache=True, nogil=True)
def distribute_along(n, s, wrap, other, w, near, far, ms, V, W, X):
    """Do the same where the last axis is halved."""
    size, m = n[2], (n[2] + 1) // 2
    side, far_side = (s[0], ms[0]) if other == 0 else (s[1], ms[1])
    even = 2 * m  # a zero follows an odd number of cells
    both, along, around, here, there = zeros(even), zeros(even), zeros(even), zeros(even), zeros(even)
    for i in range(n[0]):
        for j in range(n[1]):
            p = (i + 1) * s[0] + (j + 1) * s[1] + 1
            end = (i if other == 0 else j) == n[other] - 1
            back, far_back = (n[other] * side, n[other] * far_side) if end else (0, 0)
            _share_row(
                w, near, far, p, p + side - back, both[:size], along[:size], around[:size], here[:size], there[:size]
            )
            own = (i + 1) * ms[0] + (j + 1) * ms[1] + 1
            across = own + far_side - far_back
            _add_pairs(both, own, V)
            _add_pairs(here, own, X)
            _add_pairs(there, across, X)
            # A cell 2 c + 1 also hangs on c + 1, and 2 c + 2 on c: the face between these lies at c.
            _add_shifted(along, own, V)
            _add_between(around, own, W)
            _add_between(around, across, W)
            if wrap and m > 1:
                V[own + m - 1] += along[0]
                W[own + m - 1] += around[0]
                W[across + m - 1] += around[0]
                if size % 2 == 0:
                    V[own] += along[size - 1]
                    W[own + m - 1] += around[size - 1]
                    W[across + m - 1] += around[size - 1]
