"""The way down and the way up of a level, each in one pass over memory.

Smoothing steps follow each other as waves: a step works one plane behind the step before it, so that of what lies
between two of them only three planes exist. Threads share the planes, and compute anew what reaches over from a
neighbour's share. Planes have running numbers: where the first axis repeats, those before its first and behind its last
plane are planes of the other end.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces import kinds
from deepcd.solvers.kernels.faces.stages import (
    add_coded,
    begin_plane,
    close,
    correct,
    gather_columns,
    gather_rows,
    hangs_on,
    spread_columns,
    spread_rows,
)
from deepcd.solvers.kernels.outer import span


@njit(cache=True, nogil=True, inline="always")
def _around(ring, k):
    """Return planes k - 1, k and k + 1 of a ring of three."""
    return ring[(k + 2) % 3], ring[k % 3], ring[(k + 1) % 3]


@njit(cache=True, nogil=True)
def gather(grid, codes, below, c, v, tmp, coarse):
    """Sum a plane, gathered along the first axis already, into plane c of the next coarser box."""
    (n, s, wrap), (m, ms, _) = grid, below
    s0, q = s[0], (c + 1) * ms[0]
    out = coarse[q : q + ms[0]]
    rows, row, width = n[1], v, s0
    if codes.near1.size:
        o = (c + 1) * s0
        gather_rows(n, s, wrap[1], codes.near1[o : o + s0], codes.far1[o : o + s0], v, tmp)
        rows, row, width = m[1], tmp, (m[1] + 2) * s[1]
    if codes.near2.size:
        o = (c + 1) * width
        near, far = codes.near2[o : o + width], codes.far2[o : o + width]
        gather_columns(rows, n[2], s[1], ms[1], wrap[2], near, far, row, out)
    else:
        for j in range(rows):
            a, b = (j + 1) * s[1] + 1, (j + 1) * ms[1] + 1
            out[b : b + m[2]] = row[a : a + m[2]]


@njit(cache=True, nogil=True)
def spread(grid, codes, below, c, coarse, tmp, out):
    """Interpolate plane c of the next coarser box along its middle and last axes."""
    (n, s, wrap), (m, ms, _) = grid, below
    s0, q = s[0], (c + 1) * ms[0]
    e = coarse[q : q + ms[0]]
    rows = m[1]
    width = (m[1] + 2) * s[1] if codes.near1.size else s0
    across = tmp if codes.near1.size else out
    if codes.near2.size:
        o = (c + 1) * width
        near, far = codes.near2[o : o + width], codes.far2[o : o + width]
        spread_columns(rows, n[2], s[1], ms[1], wrap[2], near, far, e, across)
    else:
        for j in range(rows):
            a, b = (j + 1) * s[1] + 1, (j + 1) * ms[1] + 1
            across[a : a + m[2]] = e[b : b + m[2]]
    if codes.near1.size:
        o = (c + 1) * s0
        spread_rows(n, s, wrap[1], codes.near1[o : o + s0], codes.far1[o : o + s0], tmp, out)


@njit(cache=True, nogil=True)
def descend(grid, f, omegas, r, z, codes, below, coarse, rings, start, stop):
    """z <- smoothing steps from zero, and coarse <- P' (r - A z), on planes start .. stop - 1 of the coarser box.

    Planes of z are those that are gathered there. `rings` is scratch: three planes for each step and five more.
    """
    (n, s, wrap), steps, halved = grid, omegas.size, codes.near0.size > 0
    s0, n0, size = s[0], n[0], s[0]
    lo, hi = span(n, s, 0, n[1])
    first, last = (2 * start, min(2 * stop, n0)) if halved else (start, stop)  # planes of z
    low, high = (first - 1, last + 1) if halved else (first, last)  # residuals
    if not wrap[0]:
        low, high = max(low, 0), min(high, n0)
    x, sums, left, tmp = (
        rings[: 3 * steps],
        rings[3 * steps : 3 * steps + 3],
        rings[3 * steps + 3],
        rings[3 * steps + 4],
    )
    sums[:] = 0
    done = start  # coarse planes before it are complete
    for v in range(low - steps, high + steps):
        for k in range(steps):
            i = v - k
            if i < low - steps + k or i >= high + steps - k:
                continue
            out = x[3 * k + (i + 3 * n0) % 3]
            if not wrap[0] and (i < 0 or i >= n0):
                out[:] = 0
                continue
            p = (i + n0 * 4) % n0
            o = (p + 1) * s0
            if k == 0:
                begin_plane(omegas[0], f.inverse[o : o + size], r[o : o + size], lo, hi, out)
            else:
                y = x[3 * k - 3 : 3 * k]
                kinds.relax(grid, f, omegas[k], _around(y, i + 3 * n0), r, p, (lo, hi), out)
            if wrap[1] or wrap[2]:
                close(n, s, wrap, out)
            if k == steps - 1 and first <= i < last:
                z[o : o + size] = out[:size]
        i = v - steps
        if i < low or i >= high:
            continue
        p = (i + n0 * 4) % n0
        o, t = (p + 1) * s0, 3 * steps - 3
        target = left if halved else sums[0]
        kinds.subtract(grid, f, _around(x[t : t + 3], i + 3 * n0), r, p, (lo, hi), target)
        if not halved:
            gather(grid, codes, below, p, target, tmp, coarse)
            continue
        own, other = hangs_on(p, n0, wrap[0])
        if first <= i < last:
            add_coded(codes.near0[o : o + size], left, lo, hi, sums[own % 3])
            running = own + 2 * (p % 2) - 1  # the other one's running number
            if start <= running < stop:
                add_coded(codes.far0[o : o + size], left, lo, hi, sums[running % 3])
        elif i < first:  # reaches over from before
            if other == start:
                add_coded(codes.far0[o : o + size], left, lo, hi, sums[start % 3])
        elif other == stop - 1:
            add_coded(codes.far0[o : o + size], left, lo, hi, sums[(stop - 1) % 3])
        while done < stop and (i >= 2 * done + 2 or i == high - 1):
            gather(grid, codes, below, done, sums[done % 3], tmp, coarse)
            sums[done % 3] = 0
            done += 1


@njit(cache=True, nogil=True)
def ascend(grid, f, omegas, r, z, out, codes, below, coarse, rings, start, stop):
    """out <- smoothing steps from z + P e on planes start .. stop - 1, e being `coarse`; returns r.out."""
    (n, s, wrap), steps, halved = grid, omegas.size, codes.near0.size > 0
    s0, n0, size = s[0], n[0], s[0]
    m0 = below.n[0]
    lo, hi = span(n, s, 0, n[1])
    x, e, tmp = rings[: 3 * steps], rings[3 * steps : 3 * steps + 3], rings[3 * steps + 3]
    total = 0.0
    ready = -3 * n0  # running number of the first plane of e that is not there yet
    for v in range(start - steps, stop + steps):
        # The corrected plane
        y = x[(v + 3 * n0) % 3]
        if not wrap[0] and (v < 0 or v >= n0):
            y[:] = 0
        else:
            p = (v + 4 * n0) % n0
            o = (p + 1) * s0
            if halved:
                own, other = hangs_on(p, n0, wrap[0])
                c = own + m0 * ((v + 4 * n0) // n0 - 4)  # running number of its coarse cell
                d = c + 2 * (p % 2) - 1 if other != own else c
                ready = max(ready, c - 1)
                while ready <= max(c, d):
                    if wrap[0] or 0 <= ready < m0:
                        spread(grid, codes, below, (ready + 4 * m0) % m0, coarse, tmp, e[(ready + 3 * m0) % 3])
                    ready += 1
                correct(
                    codes.near0[o : o + size], codes.far0[o : o + size], e[(c + 3 * m0) % 3], e[(d + 3 * m0) % 3],
                    z[o : o + size], lo, hi, y,
                )  # fmt: skip
            else:
                spread(grid, codes, below, p, coarse, tmp, e[0])
                for h in range(np.uint64(lo), np.uint64(hi)):
                    y[h] = z[np.uint64(o) + h] + e[0, h]
            if wrap[1] or wrap[2]:
                close(n, s, wrap, y)
        for k in range(1, steps + 1):
            i = v - k
            if i < start - steps + k or i >= stop + steps - k:
                continue
            if not wrap[0] and (i < 0 or i >= n0):
                x[3 * k + (i + 3 * n0) % 3] = 0  # never the last step
                continue
            p = (i + 4 * n0) % n0
            o = (p + 1) * s0
            to = x[3 * k + (i + 3 * n0) % 3] if k < steps else out[o : o + size]
            kinds.relax(grid, f, omegas[k - 1], _around(x[3 * k - 3 : 3 * k], i + 3 * n0), r, p, (lo, hi), to)
            if wrap[1] or wrap[2]:
                close(n, s, wrap, to)
            if k == steps:
                total += _dot(r[o : o + size], to, lo, hi)
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def _dot(u, v, lo, hi):
    """Return u.v on a plane."""
    total = np.float32(0)
    for h in range(np.uint64(lo), np.uint64(hi)):
        total += u[h] * v[h]
    return np.float64(total)


@njit(cache=True, nogil=True)
def residual(grid, f, r, x, out, scratch):
    """out <- r - A x."""
    n, s, wrap = grid
    s0, n0 = s[0], n[0]
    lo, hi = span(n, s, 0, n[1])
    zero = scratch
    zero[:] = 0
    for i in range(n0):
        o, before = (i + 1) * s0, i * s0
        under = x[before : before + s0] if i > 0 else (x[n0 * s0 : (n0 + 1) * s0] if wrap[0] else zero[:s0])
        over = x[o + s0 : o + 2 * s0] if i < n0 - 1 else (x[s0 : 2 * s0] if wrap[0] else zero[:s0])
        kinds.subtract(grid, f, (under, x[o : o + s0], over), r, i, (lo, hi), out[o : o + s0])
