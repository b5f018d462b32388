"""The way down and the way up of a level, each in one pass over memory.

Smoothing steps follow each other as waves: a step works one plane behind the step before it, so that of what lies
between two of them only three planes exist. Threads share the planes, and compute anew what reaches over from a
neighbour's share. Planes have running numbers: where the first axis repeats, those before its first and behind its last
plane are planes of the other end.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.faces import kinds
from deepcd.solvers.kernels.faces.stages import (
    add_coded,
    add_plane,
    begin_cells,
    begin_plane,
    close,
    copy,
    correct,
    fill,
    gather_columns,
    gather_rows,
    hangs_on,
    product,
    spread_columns,
    spread_rows,
)
from deepcd.solvers.kernels.lanes import LANES
from deepcd.solvers.kernels.outer import span

NONE = np.float32(0)


@njit(cache=True, nogil=True, inline="always")
def _around(ring, k, size):
    """Return where planes k - 1, k and k + 1 of a ring of three begin; `ring` is where it does."""
    return ring + (k + 2) % 3 * size, ring + k % 3 * size, ring + (k + 1) % 3 * size


@njit(cache=True, nogil=True)
def gather(grid, codes, below, c, v, of, tmp, coarse):
    """Sum a plane of v, gathered along the first axis already, into plane c of the next coarser box.

    `of` and `tmp` are where the plane and scratch for another one begin in v.
    """
    (n, s, wrap), (m, ms, _) = grid, below
    s0, to = s[0], (c + 1) * ms[0]
    rows, width = n[1], s0
    if codes.near1.size:
        gather_rows(n, s, wrap[1], codes.near1, codes.far1, (c + 1) * s0, v, of, v, tmp)
        rows, of, width = m[1], tmp, (m[1] + 2) * s[1]
    if codes.near2.size:
        at = (c + 1) * width
        gather_columns(rows, n[2], s[1], ms[1], wrap[2], codes.near2, codes.far2, at, v, of, coarse, to)
    else:
        for j in range(rows):
            copy(v, of + (j + 1) * s[1] + 1, m[2], coarse, to + (j + 1) * ms[1] + 1)


@njit(cache=True, nogil=True)
def spread(grid, codes, below, c, coarse, v, tmp, to):
    """Interpolate plane c of the next coarser box along its middle and last axes, into v from `to` on.

    `tmp` is where scratch for another plane begins in v.
    """
    (n, s, wrap), (m, ms, _) = grid, below
    s0, of = s[0], (c + 1) * ms[0]
    rows = m[1]
    width = (m[1] + 2) * s[1] if codes.near1.size else s0
    across = tmp if codes.near1.size else to
    if codes.near2.size:
        at = (c + 1) * width
        spread_columns(rows, n[2], s[1], ms[1], wrap[2], codes.near2, codes.far2, at, coarse, of, v, across)
    else:
        for j in range(rows):
            copy(coarse, of + (j + 1) * ms[1] + 1, m[2], v, across + (j + 1) * s[1] + 1)
    if codes.near1.size:
        spread_rows(n, s, wrap[1], codes.near1, codes.far1, (c + 1) * s0, v, tmp, v, to)


@njit(cache=True, nogil=True)
def descend(grid, f, omegas, r, z, codes, below, coarse, rings, start, stop):
    """z <- smoothing steps from zero, and coarse <- P' (r - A z), on planes start .. stop - 1 of the coarser box.

    Planes of z are those that are gathered there. `rings` is scratch: three planes for each step and five more.
    """
    (n, s, wrap), steps, halved = grid, omegas.size, codes.near0.size > 0
    s0, n0 = s[0], n[0]
    bounds = span(n, s, 0, n[1])
    lo, hi = bounds
    first, last = (2 * start, min(2 * stop, n0)) if halved else (start, stop)  # planes of z
    low, high = (first - 1, last + 1) if halved else (first, last)  # residuals
    if not wrap[0]:
        low, high = max(low, 0), min(high, n0)
    sums = 3 * steps * s0  # where three planes begin, and after them the residual's and one more
    left, tmp = sums + 3 * s0, sums + 4 * s0
    fill(NONE, rings, sums, 3 * s0)
    done = start  # coarse planes before it are complete
    for v in range(low - steps, high + steps):
        for k in range(steps):
            i = v - k
            if i < low - steps + k or i >= high + steps - k:
                continue
            to = (3 * k + (i + 3 * n0) % 3) * s0
            if not wrap[0] and (i < 0 or i >= n0):
                fill(NONE, rings, to, s0)
                continue
            p = (i + n0 * 4) % n0
            if k == 0 and hi - lo < LANES:
                begin_cells(omegas[0], f.inverse, r, (p + 1) * s0, lo, hi, rings, to)
            elif k == 0:
                begin_plane(omegas[0], f.inverse, r, (p + 1) * s0, lo, hi, rings, to)
            else:
                x = _around(3 * (k - 1) * s0, i + 3 * n0, s0)
                kinds.relax(grid, f, omegas[k], p, rings, x, r, bounds, rings, to)
            if wrap[1] or wrap[2]:
                close(n, s, wrap, rings, to)
            if k == steps - 1 and first <= i < last:
                copy(rings, to, s0, z, (p + 1) * s0)
        i = v - steps
        if i < low or i >= high:
            continue
        p = (i + n0 * 4) % n0
        o = (p + 1) * s0
        target = left if halved else sums
        x = _around((3 * steps - 3) * s0, i + 3 * n0, s0)
        kinds.subtract(grid, f, p, rings, x, r, bounds, rings, target)
        if not halved:
            gather(grid, codes, below, p, rings, target, tmp, coarse)
            continue
        own, other = hangs_on(p, n0, wrap[0])
        if first <= i < last:
            add_coded(codes.near0, o, rings, left, lo, hi, rings, sums + own % 3 * s0)
            running = own + 2 * (p % 2) - 1  # the other one's running number
            if start <= running < stop:
                add_coded(codes.far0, o, rings, left, lo, hi, rings, sums + running % 3 * s0)
        elif i < first:  # reaches over from before
            if other == start:
                add_coded(codes.far0, o, rings, left, lo, hi, rings, sums + start % 3 * s0)
        elif other == stop - 1:
            add_coded(codes.far0, o, rings, left, lo, hi, rings, sums + (stop - 1) % 3 * s0)
        while done < stop and (i >= 2 * done + 2 or i == high - 1):
            gather(grid, codes, below, done, rings, sums + done % 3 * s0, tmp, coarse)
            fill(NONE, rings, sums + done % 3 * s0, s0)
            done += 1


@njit(cache=True, nogil=True)
def ascend(grid, f, omegas, r, z, out, codes, below, coarse, rings, start, stop):
    """out <- smoothing steps from z + P e on planes start .. stop - 1, e being `coarse`; returns r.out."""
    (n, s, wrap), steps, halved = grid, omegas.size, codes.near0.size > 0
    s0, n0, m0 = s[0], n[0], below.n[0]
    bounds = span(n, s, 0, n[1])
    lo, hi = bounds
    e = 3 * steps * s0  # where three planes begin, and after them one of scratch
    tmp = e + 3 * s0
    total = 0.0
    ready = -3 * n0  # running number of the first plane of e that is not there yet
    for v in range(start - steps, stop + steps):
        # The corrected plane
        to = (v + 3 * n0) % 3 * s0
        if not wrap[0] and (v < 0 or v >= n0):
            fill(NONE, rings, to, s0)
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
                        spread(
                            grid, codes, below, (ready + 4 * m0) % m0, coarse, rings, tmp, e + (ready + 3 * m0) % 3 * s0
                        )
                    ready += 1
                one, two = e + (c + 3 * m0) % 3 * s0, e + (d + 3 * m0) % 3 * s0
                correct(codes.near0, codes.far0, o, rings, one, two, z, lo, hi, rings, to)
            else:
                spread(grid, codes, below, p, coarse, rings, tmp, e)
                add_plane(z, o, rings, e, lo, hi, rings, to)
            if wrap[1] or wrap[2]:
                close(n, s, wrap, rings, to)
        for k in range(1, steps + 1):
            i = v - k
            if i < start - steps + k or i >= stop + steps - k:
                continue
            to = (3 * k + (i + 3 * n0) % 3) * s0
            if not wrap[0] and (i < 0 or i >= n0):
                fill(NONE, rings, to, s0)  # never the last step
                continue
            p = (i + 4 * n0) % n0
            x = _around(3 * (k - 1) * s0, i + 3 * n0, s0)
            if k < steps:
                kinds.relax(grid, f, omegas[k - 1], p, rings, x, r, bounds, rings, to)
                if wrap[1] or wrap[2]:
                    close(n, s, wrap, rings, to)
            else:
                to = (p + 1) * s0
                kinds.relax(grid, f, omegas[k - 1], p, rings, x, r, bounds, out, to)
                if wrap[1] or wrap[2]:
                    close(n, s, wrap, out, to)
                total += product(r, to, out, to, lo, hi)
    return total


@njit(cache=True, nogil=True)
def residual(grid, f, r, x, out):
    """out <- r - A x. Before the first plane and after the last one, x is zero unless the axis repeats."""
    n, s, wrap = grid
    s0, n0 = s[0], n[0]
    bounds = span(n, s, 0, n[1])
    for i in range(n0):
        o = (i + 1) * s0
        under = n0 * s0 if wrap[0] and i == 0 else o - s0
        over = s0 if wrap[0] and i == n0 - 1 else o + s0
        kinds.subtract(grid, f, i, x, (under, o, over), r, bounds, out, o)
