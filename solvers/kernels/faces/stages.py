"""One plane at a time: smoothing steps, residuals, and transfers to the next coarser box and back.

A plane is rows with padding, one after the other from some entry of an array on: an array comes with where its plane
begins, since slices of arrays are counted references, which short rows would wait for. Loops run over whole planes,
padding included, where the inverse diagonal is zero, so that what is written there is what was there; `close` then
repeats the other end of axes that repeat.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces.records import UNIT
from deepcd.solvers.kernels.lanes import LANES, entry, evens, load, odds, splat, store, total
from deepcd.solvers.kernels.outer import ONE

PART = np.float32(1 / UNIT)
WIDTH, TWO = np.uint64(LANES), np.uint64(2)


@njit(cache=True, nogil=True)
def close(n, s, wrap, v, at):
    """Repeat the other end of a plane in its padding, along axes that repeat."""
    s1 = s[1]
    if wrap[1]:
        for h in range(at, at + s1):
            v[h] = v[h + n[1] * s1]
            v[h + (n[1] + 1) * s1] = v[h + s1]
    if wrap[2]:
        for j in range(n[1]):
            first = at + (j + 1) * s1
            v[first] = v[first + n[2]]
            v[first + n[2] + 1] = v[first + 1]


@njit(cache=True, nogil=True, fastmath=FAST)
def fill(value, v, at, count):
    """Set so many entries to a value."""
    for h in range(np.uint64(at), np.uint64(at + count)):
        v[h] = value


@njit(cache=True, nogil=True, fastmath=FAST)
def copy(v, at, count, out, to):
    """Copy so many entries."""
    at, to = np.uint64(at), np.uint64(to)
    for h in range(np.uint64(count)):
        out[to + h] = v[at + h]


@njit(cache=True, nogil=True, fastmath=FAST)
def begin_plane(omega, inverse, r, at, lo, hi, out, to):
    """out <- omega r / d."""
    h, last, step, at, to = np.uint64(lo), np.uint64(hi) - WIDTH, splat(omega), np.uint64(at), np.uint64(to)
    for _ in range(blocks(lo, hi)):
        store(out, to + h, step * load(inverse, at + h) * load(r, at + h))
        h = min(h + WIDTH, last)


@njit(cache=True, nogil=True, fastmath=FAST)
def begin_cells(omega, inverse, r, at, lo, hi, out, to):
    """Do the same in planes of fewer than sixteen entries."""
    at, to = np.uint64(at), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[to + h] = omega * entry(inverse, at + h) * r[at + h]


@njit(cache=True, nogil=True, fastmath=FAST)
def _image(x, extra, below, v0, above, w0, left, u2, right, w2):
    """Return A x of a cell, or of many, without a middle axis, from what x is there and around, and the weights."""
    return extra * x + (v0 * (x - below) + w0 * (x - above)) + (u2 * (x - left) + w2 * (x - right))


@njit(cache=True, nogil=True, fastmath=FAST)
def _of_cell(w0, w1, w2, extra, g, s0, s, v, below, here, above):
    """Return A x in entry g; x there, below and above are entries of v. s0 and s are from plane to plane, row to row.

    There are no rows where s is None.
    """
    x, left, right = v[here], v[here - ONE], v[here + ONE]
    low, high, back, forth = entry(w0, g - s0), entry(w0, g), entry(w2, g - ONE), entry(w2, g)
    image = _image(x, entry(extra, g), v[below], low, v[above], high, left, back, right, forth)
    if s is None:
        return image
    return image + (entry(w1, g - s) * (x - v[here - s]) + entry(w1, g) * (x - v[here + s]))


@njit(cache=True, nogil=True, fastmath=FAST)
def _of_block(w0, w1, w2, extra, g, s0, s, v, below, here, above):
    """Return A x in sixteen entries from g on."""
    x = load(v, here)
    image = _image(
        x, load(extra, g), load(v, below), load(w0, g - s0), load(v, above), load(w0, g),
        load(v, here - ONE), load(w2, g - ONE), load(v, here + ONE), load(w2, g),
    )  # fmt: skip
    if s is None:
        return image
    return image + (load(w1, g - s) * (x - load(v, here - s)) + load(w1, g) * (x - load(v, here + s)))


@njit(cache=True, nogil=True, fastmath=FAST)
def relax_plane(s0, s, omega, f, p, v, x, r, lo, hi, out, to):
    """out <- x + omega (r - A x) / d in plane p; x are where v has planes p - 1, p and p + 1.

    Rows of the middle axis are s entries apart; s is None where there is none. The last block of sixteen ends with the
    plane: what overlaps comes out the same twice.
    """
    w0, w1, w2, extra, inverse = f.w0, f.w1, f.w2, f.extra, f.inverse
    h, last, step = np.uint64(lo), np.uint64(hi) - WIDTH, splat(omega)
    o, s0, below, here = np.uint64((p + 1) * s0), np.uint64(s0), np.uint64(x[0]), np.uint64(x[1])
    above, to = np.uint64(x[2]), np.uint64(to)
    for _ in range(blocks(lo, hi)):
        image = _of_block(w0, w1, w2, extra, o + h, s0, s, v, below + h, here + h, above + h)
        store(out, to + h, load(v, here + h) + step * load(inverse, o + h) * (load(r, o + h) - image))
        h = min(h + WIDTH, last)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_plane(s0, s, f, p, v, x, r, lo, hi, out, to):
    """out <- r - A x in plane p."""
    w0, w1, w2, extra = f.w0, f.w1, f.w2, f.extra
    h, last = np.uint64(lo), np.uint64(hi) - WIDTH
    o, s0, below, here = np.uint64((p + 1) * s0), np.uint64(s0), np.uint64(x[0]), np.uint64(x[1])
    above, to = np.uint64(x[2]), np.uint64(to)
    for _ in range(blocks(lo, hi)):
        image = _of_block(w0, w1, w2, extra, o + h, s0, s, v, below + h, here + h, above + h)
        store(out, to + h, load(r, o + h) - image)
        h = min(h + WIDTH, last)


@njit(cache=True, nogil=True, fastmath=FAST)
def relax_cells(s0, s, omega, f, p, v, x, r, lo, hi, out, to):
    """Do as `relax_plane`, in planes of fewer than sixteen entries."""
    o, s0, below, here = np.uint64((p + 1) * s0), np.uint64(s0), np.uint64(x[0]), np.uint64(x[1])
    above, to = np.uint64(x[2]), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        image = _of_cell(f.w0, f.w1, f.w2, f.extra, o + h, s0, s, v, below + h, here + h, above + h)
        out[to + h] = v[here + h] + omega * entry(f.inverse, o + h) * (r[o + h] - image)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual_cells(s0, s, f, p, v, x, r, lo, hi, out, to):
    """Do as `residual_plane`, in planes of fewer than sixteen entries."""
    o, s0, below, here = np.uint64((p + 1) * s0), np.uint64(s0), np.uint64(x[0]), np.uint64(x[1])
    above, to = np.uint64(x[2]), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        image = _of_cell(f.w0, f.w1, f.w2, f.extra, o + h, s0, s, v, below + h, here + h, above + h)
        out[to + h] = r[o + h] - image


@njit(cache=True, nogil=True, inline="always")
def blocks(lo, hi):
    """Return how many blocks of sixteen cover the entries of a plane."""
    return (np.uint64(hi - lo) + WIDTH - ONE) // WIDTH


@njit(cache=True, nogil=True, fastmath=FAST)
def _energy(x, extra, right, w2, above, w0):
    """Return the energy of the extra diagonal and of faces to later cells of the first and the last axis."""
    return extra * (x * x) + (w0 * ((x - above) * (x - above)) + w2 * ((x - right) * (x - right)))


@njit(cache=True, nogil=True, fastmath=FAST)
def _energy_of_cell(w0, w1, w2, extra, g, s, v, here, above):
    """Return the energy of entry g."""
    x = v[here]
    energy = _energy(x, extra[g], v[here + ONE], w2[g], v[above], w0[g])
    if s is None:
        return energy
    return energy + w1[g] * ((x - v[here + s]) * (x - v[here + s]))


@njit(cache=True, nogil=True, fastmath=FAST)
def _energy_of_block(w0, w1, w2, extra, g, s, v, here, above):
    """Return that of sixteen entries from g on."""
    x = load(v, here)
    energy = _energy(x, load(extra, g), load(v, here + ONE), load(w2, g), load(v, above), load(w0, g))
    if s is None:
        return energy
    across = x - load(v, here + s)
    return energy + load(w1, g) * (across * across)


@njit(cache=True, nogil=True, fastmath=FAST)
def image_plane(s0, s, f, p, v, x, lo, hi, q):
    """q <- A v in plane p; returns the energy of extra diagonal and faces to the next cells, counted once."""
    w0, w1, w2, extra = f.w0, f.w1, f.w2, f.extra
    h, sums = np.uint64(lo), splat(np.float32(0))
    o, s0, below, here, above = (
        np.uint64((p + 1) * s0),
        np.uint64(s0),
        np.uint64(x[0]),
        np.uint64(x[1]),
        np.uint64(x[2]),
    )
    for _ in range(np.uint64(hi - lo) // WIDTH):
        store(q, o + h, _of_block(w0, w1, w2, extra, o + h, s0, s, v, below + h, here + h, above + h))
        sums = sums + _energy_of_block(w0, w1, w2, extra, o + h, s, v, here + h, above + h)
        h += WIDTH
    return np.float64(total(sums) + _image_of_rest(f, s0, s, o, v, x, h, hi, q))


@njit(cache=True, nogil=True, fastmath=FAST)
def _image_of_rest(f, s0, s, o, v, x, h, hi, q):
    """Do the same with the last entries of a plane, fewer than sixteen; o is where the plane begins."""
    summed, below, here, above = np.float32(0), np.uint64(x[0]), np.uint64(x[1]), np.uint64(x[2])
    for k in range(h, np.uint64(hi)):
        q[o + k] = _of_cell(f.w0, f.w1, f.w2, f.extra, o + k, s0, s, v, below + k, here + k, above + k)
        summed += _energy_of_cell(f.w0, f.w1, f.w2, f.extra, o + k, s, v, here + k, above + k)
    return summed


@njit(cache=True, nogil=True)
def clear_padding(n, s, w2, p, q, at):
    """Set q to zero between the rows of a plane; return the energy that was counted there."""
    total = 0.0
    for j in range(n[1]):
        h = at + (j + 1) * s[1]
        if j > 0:  # a loop over the plane begins behind the first row's padding
            total += np.float64(w2[h] * (p[h] - p[h + 1]) * (p[h] - p[h + 1]))
            q[h] = 0
        q[h + n[2] + 1] = 0
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def add_coded(code, at, v, of, lo, hi, out, to):
    """out <- out + weight v."""
    at, of, to = np.uint64(at), np.uint64(of), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[to + h] += np.float32(code[at + h]) * PART * v[of + h]


@njit(cache=True, nogil=True, fastmath={"contract"}, inline="always")
def _between(near, far, own, other):
    """Return near own + far other, to the last bit own where both are equal and nothing is lost to the ground.

    Constants on strongly coupled cells would become rough otherwise, and large ones drown everything else.
    """
    n, f = np.float32(near), np.float32(far)
    return PART * (n + f) * own + PART * f * (other - own)


@njit(cache=True, nogil=True, fastmath=FAST)
def correct(near, far, at, e, own, other, z, lo, hi, out, to):
    """out <- z + near own + far other; own and other are planes of e."""
    at, own, other, to = np.uint64(at), np.uint64(own), np.uint64(other), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[to + h] = z[at + h] + _between(near[at + h], far[at + h], e[own + h], e[other + h])


@njit(cache=True, nogil=True, fastmath=FAST)
def add_plane(z, at, e, of, lo, hi, out, to):
    """out <- z + e."""
    at, of, to = np.uint64(at), np.uint64(of), np.uint64(to)
    for h in range(np.uint64(lo), np.uint64(hi)):
        out[to + h] = z[at + h] + e[of + h]


@njit(cache=True, nogil=True, fastmath=FAST)
def product(r, at, v, of, lo, hi):
    """Return r.v on a plane."""
    summed, at, of = np.float32(0), np.uint64(at), np.uint64(of)
    for h in range(np.uint64(lo), np.uint64(hi)):
        summed += r[at + h] * v[of + h]
    return np.float64(summed)


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
def gather_rows(n, s, wrap, near, far, at, v, of, out, to):
    """Sum rows of a plane into rows of the next coarser one along the middle axis, by their weights."""
    s1, width = s[1], np.uint64(n[2] + 1)
    for c in range((n[1] + 1) // 2):
        first, o = (2 * c + 1) * s1, np.uint64(to + (c + 1) * s1)
        a, x = np.uint64(at + first), np.uint64(of + first)
        if 2 * c + 1 < n[1]:
            b, y = a + np.uint64(s1), x + np.uint64(s1)
            for k in range(ONE, width):
                out[o + k] = PART * (np.float32(near[a + k]) * v[x + k] + np.float32(near[b + k]) * v[y + k])
        else:
            for k in range(ONE, width):
                out[o + k] = PART * np.float32(near[a + k]) * v[x + k]
        for other in beside(c, n[1], wrap):
            if other >= 0:
                a, x = np.uint64(at + (other + 1) * s1), np.uint64(of + (other + 1) * s1)
                for k in range(ONE, width):
                    out[o + k] += PART * np.float32(far[a + k]) * v[x + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _gather_pair(near, far, a, v, x, more):
    """Return what a coarse cell sums up along the last axis; `more` says whether another one follows."""
    summed = np.float32(near[a]) * v[x] + np.float32(far[a - ONE]) * v[x - ONE]
    summed += np.float32(near[a + ONE]) * v[x + ONE]
    if more:
        summed += np.float32(far[a + TWO]) * v[x + TWO]
    return PART * summed


@njit(cache=True, nogil=True, fastmath=FAST)
def _weighted(code, a, v, x):
    """Return entries times their weights, thirty-two from a and x on."""
    return load(code, a) * load(v, x), load(code, a + WIDTH) * load(v, x + WIDTH)


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_columns(rows, n2, s1, ms1, wrap, near, far, at, v, of, out, to):
    """Do the same along the last axis; a row has s1 entries before and ms1 after."""
    m2 = (n2 + 1) // 2
    before, after = beside(0, n2, wrap)[0], beside(m2 - 1, n2, wrap)[1]
    end, sixteens = np.uint64(m2), np.uint64(m2 - 1) // WIDTH
    for j in range(rows):
        i, x, o = np.uint64(at + (j + 1) * s1 + 1), np.uint64(of + (j + 1) * s1 + 1), np.uint64(to + (j + 1) * ms1 + 1)
        for block in range(sixteens):
            c = block * WIDTH
            a, y = i + c + c, x + c + c
            own, low = _weighted(near, a, v, y), _weighted(far, a - ONE, v, y - ONE)
            high = _weighted(far, a + TWO, v, y + TWO)
            sums = (evens(own[0], own[1]) + odds(own[0], own[1])) + (evens(low[0], low[1]) + evens(high[0], high[1]))
            store(out, o + c, splat(PART) * sums)
        for c in range(sixteens * WIDTH, end):
            out[o + c] = _gather_pair(near, far, i + c + c, v, x + c + c, c + ONE < end)
        if before >= 0:
            q = np.uint64(before)
            out[o] += PART * np.float32(far[i + q]) * v[x + q]
        if after >= 0:
            q = np.uint64(after)
            out[o + end - ONE] += PART * np.float32(far[i + q]) * v[x + q]


@njit(cache=True, nogil=True, fastmath=FAST)
def spread_rows(n, s, wrap, near, far, at, e, of, out, to):
    """Interpolate rows of a plane from those of the next coarser one along the middle axis."""
    s1, width = s[1], np.uint64(n[2] + 1)
    for j in range(n[1]):
        own, other = hangs_on(j, n[1], wrap)
        first = (j + 1) * s1
        c, o = np.uint64(at + first), np.uint64(to + first)
        a, b = np.uint64(of + (own + 1) * s1), np.uint64(of + (other + 1) * s1)
        for k in range(ONE, width):
            out[o + k] = _between(near[c + k], far[c + k], e[a + k], e[b + k])


@njit(cache=True, nogil=True, fastmath=FAST)
def spread_columns(rows, n2, s1, ms1, wrap, near, far, at, e, of, out, to):
    """Do the same along the last axis; a row has ms1 entries before and s1 after."""
    m2 = (n2 + 1) // 2
    for j in range(rows):
        a, i, o = np.uint64(at + (j + 1) * s1 + 1), np.uint64(of + (j + 1) * ms1 + 1), np.uint64(to + (j + 1) * s1 + 1)
        for c in range(np.uint64(m2)):
            k = c + c
            own = e[i + c]
            out[o + k] = _between(near[a + k], far[a + k], own, e[i + c - ONE])
            out[o + k + ONE] = _between(near[a + k + ONE], far[a + k + ONE], own, e[i + c + ONE])
        if n2 % 2:
            out[o + np.uint64(n2)] = 0
        elif wrap:
            k = np.uint64(n2 - 1)
            out[o + k] = _between(near[a + k], far[a + k], e[i + np.uint64(m2 - 1)], e[i])
        if wrap and m2 > 1:
            out[o] = _between(near[a], far[a], e[i], e[i + np.uint64(m2 - 1)])
