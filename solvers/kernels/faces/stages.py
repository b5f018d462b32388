"""One plane at a time: smoothing steps, residuals, and transfers to the next coarser box and back.

A plane is a flat array of rows with padding. Loops run over whole planes, padding included, where the inverse diagonal
is zero, so that what is written there is what was there; `close` then repeats the other end of axes that repeat.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces.records import UNIT
from deepcd.solvers.kernels.outer import ONE

PART = np.float32(1 / UNIT)


@njit(cache=True, nogil=True)
def close(n, s, wrap, v):
    """Repeat the other end of a plane in its padding, along axes that repeat."""
    s1 = s[1]
    if wrap[1]:
        for h in range(s1):
            v[h] = v[n[1] * s1 + h]
            v[(n[1] + 1) * s1 + h] = v[s1 + h]
    if wrap[2]:
        for j in range(n[1]):
            first = (j + 1) * s1
            v[first] = v[first + n[2]]
            v[first + n[2] + 1] = v[first + 1]


@njit(cache=True, nogil=True, fastmath=FAST)
def begin_plane(omega, inverse, r, lo, hi, out):
    """out <- omega r / d."""
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[h] = omega * inverse[h] * r[h]


@njit(cache=True, nogil=True, inline="always")
def _flat_image(v0, w0, w2, extra, below, here, above, h):
    """Return entry h of A x where there is no middle axis; v0 are weights towards the plane below."""
    x = here[h]
    return (
        extra[h] * x
        + (v0[h] * (x - below[h]) + w0[h] * (x - above[h]))
        + (w2[h - ONE] * (x - here[h - ONE]) + w2[h] * (x - here[h + ONE]))
    )


@njit(cache=True, nogil=True, inline="always")
def _image(v0, w0, w1, w2, extra, below, here, above, h, s):
    """Return entry h of A x; rows of the middle axis are s entries apart."""
    x = here[h]
    return (
        extra[h] * x
        + (v0[h] * (x - below[h]) + w0[h] * (x - above[h]))
        + (w1[h - s] * (x - here[h - s]) + w1[h] * (x - here[h + s]))
        + (w2[h - ONE] * (x - here[h - ONE]) + w2[h] * (x - here[h + ONE]))
    )


@njit(cache=True, nogil=True, fastmath=FAST)
def relax_plane(s1, omega, v0, w0, w1, w2, extra, inverse, below, here, above, r, lo, hi, out):
    """out <- x + omega (r - A x) / d; `here` is the plane of x."""
    omega = np.float32(omega)
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            image = _flat_image(v0, w0, w2, extra, below, here, above, h)
            out[h] = here[h] + omega * inverse[h] * (r[h] - image)
        return
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        image = _image(v0, w0, w1, w2, extra, below, here, above, h, s)
        out[h] = here[h] + omega * inverse[h] * (r[h] - image)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_plane(s1, v0, w0, w1, w2, extra, below, here, above, r, lo, hi, out):
    """out <- r - A x."""
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            out[h] = r[h] - _flat_image(v0, w0, w2, extra, below, here, above, h)
        return
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[h] = r[h] - _image(v0, w0, w1, w2, extra, below, here, above, h, s)


@njit(cache=True, nogil=True, fastmath=FAST)
def image_plane(s1, v0, w0, w1, w2, extra, below, here, above, lo, hi, q):
    """q <- A p; returns the energy of the extra diagonal and of the faces to the next cells, each counted once."""
    total = np.float32(0)
    if s1 == 0:
        for h in range(np.uint64(lo), np.uint64(hi)):
            p = here[h]
            up, forth = w0[h] * (p - above[h]), w2[h] * (p - here[h + ONE])
            own = extra[h] * p
            q[h] = own + (v0[h] * (p - below[h]) + up) + (w2[h - ONE] * (p - here[h - ONE]) + forth)
            total += own * p + (up * (p - above[h]) + forth * (p - here[h + ONE]))
        return np.float64(total)
    s = np.uint64(s1)
    for h in range(np.uint64(lo), np.uint64(hi)):
        p = here[h]
        up, across, forth = w0[h] * (p - above[h]), w1[h] * (p - here[h + s]), w2[h] * (p - here[h + ONE])
        own = extra[h] * p
        q[h] = (
            own
            + (v0[h] * (p - below[h]) + up)
            + (w1[h - s] * (p - here[h - s]) + across)
            + (w2[h - ONE] * (p - here[h - ONE]) + forth)
        )
        total += own * p + (up * (p - above[h]) + across * (p - here[h + s]) + forth * (p - here[h + ONE]))
    return np.float64(total)


@njit(cache=True, nogil=True)
def clear_padding(n, s, w2, p, q):
    """Set q to zero between the rows of a plane; return the energy that was counted there."""
    total = 0.0
    for j in range(n[1]):
        h = (j + 1) * s[1]
        if j > 0:  # a loop over the plane begins behind the first row's padding
            total += np.float64(w2[h] * (p[h] - p[h + 1]) * (p[h] - p[h + 1]))
            q[h] = 0
        q[h + n[2] + 1] = 0
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def add_coded(code, v, lo, hi, out):
    """out <- out + weight v."""
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[h] += np.float32(code[h]) * PART * v[h]


@njit(cache=True, nogil=True, fastmath={"contract"}, inline="always")
def _between(near, far, own, other):
    """Return near own + far other, to the last bit own where both are equal and nothing is lost to the ground.

    Constants on strongly coupled cells would become rough otherwise, and large ones drown everything else.
    """
    n, f = np.float32(near), np.float32(far)
    return PART * (n + f) * own + PART * f * (other - own)


@njit(cache=True, nogil=True, fastmath=FAST)
def correct(near, far, own, other, z, lo, hi, out):
    """out <- z + near own + far other."""
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[h] = z[h] + _between(near[h], far[h], own[h], other[h])


@njit(cache=True, nogil=True, inline="always")
def beside(c, n, wrap):
    """Return the cells that hang on coarse cell c with their far weight: the one before its pair, and the one after.

    -1 where there is none. The last of an odd number of cells is a pair by itself, and hangs on nothing else.
    """
    m = (n + 1) // 2
    before = 2 * c - 1 if c > 0 else (n - 1 if wrap and n % 2 == 0 and m > 1 else -1)
    after = 2 * c + 2 if c < m - 1 else (0 if wrap and m > 1 else -1)
    return before, after


@njit(cache=True, nogil=True, inline="always")
def hangs_on(i, n, wrap):
    """Return the two coarse cells that cell i hangs on; the second is the first where there is no other."""
    m, own = (n + 1) // 2, i // 2
    other = own + 2 * (i % 2) - 1
    if other < 0 or other >= m:
        other = (other + m) % m if wrap else own
    return own, other


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_rows(n, s, wrap, near, far, v, out):
    """Sum rows of a plane into rows of the next coarser one along the middle axis, by their weights."""
    s1, width = s[1], np.uint64(n[2] + 1)
    for c in range((n[1] + 1) // 2):
        a, b, o = np.uint64((2 * c + 1) * s1), np.uint64((2 * c + 2) * s1), np.uint64((c + 1) * s1)
        if 2 * c + 1 < n[1]:
            for k in range(ONE, width):
                out[o + k] = PART * (np.float32(near[a + k]) * v[a + k] + np.float32(near[b + k]) * v[b + k])
        else:
            for k in range(ONE, width):
                out[o + k] = PART * np.float32(near[a + k]) * v[a + k]
        for other in beside(c, n[1], wrap):
            if other >= 0:
                q = np.uint64((other + 1) * s1)
                for k in range(ONE, width):
                    out[o + k] += PART * np.float32(far[q + k]) * v[q + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_columns(rows, n2, s1, ms1, wrap, near, far, v, out):
    """Do the same along the last axis; a row has s1 entries before and ms1 after."""
    m2 = (n2 + 1) // 2
    before, after = beside(0, n2, wrap)[0], beside(m2 - 1, n2, wrap)[1]
    for j in range(rows):
        i, o = np.uint64((j + 1) * s1 + 1), np.uint64((j + 1) * ms1 + 1)
        for c in range(np.uint64(m2)):
            a = i + c + c
            total = np.float32(near[a]) * v[a] + np.float32(far[a - ONE]) * v[a - ONE]
            total += np.float32(near[a + ONE]) * v[a + ONE]
            if c + ONE < np.uint64(m2):
                total += np.float32(far[a + ONE + ONE]) * v[a + ONE + ONE]
            out[o + c] = PART * total
        if before >= 0:
            q = i + np.uint64(before)
            out[o] += PART * np.float32(far[q]) * v[q]
        if after >= 0:
            q = i + np.uint64(after)
            out[o + np.uint64(m2 - 1)] += PART * np.float32(far[q]) * v[q]


@njit(cache=True, nogil=True, fastmath=FAST)
def spread_rows(n, s, wrap, near, far, e, out):
    """Interpolate rows of a plane from those of the next coarser one along the middle axis."""
    s1, width = s[1], np.uint64(n[2] + 1)
    for j in range(n[1]):
        own, other = hangs_on(j, n[1], wrap)
        o, a, b = np.uint64((j + 1) * s1), np.uint64((own + 1) * s1), np.uint64((other + 1) * s1)
        for k in range(ONE, width):
            out[o + k] = _between(near[o + k], far[o + k], e[a + k], e[b + k])


@njit(cache=True, nogil=True, fastmath=FAST)
def spread_columns(rows, n2, s1, ms1, wrap, near, far, e, out):
    """Do the same along the last axis; a row has ms1 entries before and s1 after."""
    m2 = (n2 + 1) // 2
    for j in range(rows):
        o, i = np.uint64((j + 1) * s1 + 1), np.uint64((j + 1) * ms1 + 1)
        for c in range(np.uint64(m2)):
            k = o + c + c
            own = e[i + c]
            out[k] = _between(near[k], far[k], own, e[i + c - ONE])
            out[k + ONE] = _between(near[k + ONE], far[k + ONE], own, e[i + c + ONE])
        if n2 % 2:
            out[o + np.uint64(n2)] = 0
        elif wrap:
            k = o + np.uint64(n2 - 1)
            out[k] = _between(near[k], far[k], e[i + np.uint64(m2 - 1)], e[i])
        if wrap and m2 > 1:
            out[o] = _between(near[o], far[o], e[i], e[i + np.uint64(m2 - 1)])
