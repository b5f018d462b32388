"""Half as many cells along an axis: between coarse centres, the two fine cells of each line are eliminated.

Cells 2 c and 2 c + 1 make the coarse cell c, whose centre is their common face; the last of an odd number of cells is a
pair by itself. Between the centres of c and the next one lie the cells v1 = 2 c + 1 and v2 = 2 c + 2:

    E --g1-- v1 --w-- v2 --g2-- F        y1 and y2 to the ground

with g twice the weight of the face inside a pair. Eliminating v1 and v2 says how they hang on E and F, rounded to
codes, and what energy is left between E, F and the ground. Of the extra diagonal, what both cells of a pair have is a
reaction, which goes where the cells hang; the rest is a wall, y.

No weight is formed by subtraction of rounded numbers, so contrasts of many decades do no harm. Rows along the last axis
are worked on at once; where that is the axis of the pairs, its even and odd cells are taken apart first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces.records import UNIT
from deepcd.solvers.kernels.faces.rows import add, zeros
from deepcd.solvers.kernels.outer import span

CUT = np.float32(1e-6)  # of the smaller diagonal, added to the conductance to the own centre: no cell is cut off
STIFF = np.float32(1e10)  # conductance to its centre, over its diagonal, of a cell that is the centre
ONE, TWO, HALF, ZERO = np.float32(1), np.float32(2), np.float32(0.5), np.float32(0)
FULL, PART = np.float32(UNIT), np.float32(1 / UNIT)
NEXT = np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _pair_row(alone, w, e, o, extra, diagonal, g, least, y0, y1):
    """Of pairs whose even and odd cells begin at e and o: conductance to the centre, reaction and walls."""
    e, o = np.uint64(e), np.uint64(o)
    if alone:
        for k in range(np.uint64(g.size)):
            d = diagonal[e + k]
            g[k] = STIFF * d if d > ZERO else ONE
            least[k], y0[k], y1[k] = extra[e + k], ZERO, ZERO
        return
    for k in range(np.uint64(g.size)):
        d0, d1, a, b = diagonal[e + k], diagonal[o + k], extra[e + k], extra[o + k]
        low = a if a < b else b
        d = d0 if (d0 < d1 and d0 > ZERO) or d1 <= ZERO else d1
        g[k] = TWO * w[e + k] + CUT * d if d > ZERO else ONE
        least[k], y0[k], y1[k] = low, a - low, b - low


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _link_row(g1, y1, least1, w, at, g2, y2, least2, near1, far1, near2, far2, along, own, beyond):
    """Eliminate the two cells of each link: codes as floats, and what is left between both centres and the ground.

    The crossing faces are w[at], w[at + 1], ...
    """
    at = np.uint64(at)
    for k in range(np.uint64(g1.size)):
        cross = w[at + k]
        scale = ONE / (g1[k] + g2[k] + cross + y1[k] + y2[k])  # weights are ratios, and squares stay in range
        u1, u2, v, z1, z2 = g1[k] * scale, g2[k] * scale, cross * scale, y1[k] * scale, y2[k] * scale
        over = FULL / (u1 * u2 + u1 * (v + z2) + u2 * (v + z1) + v * (z1 + z2) + z1 * z2)
        n1 = np.float32(np.int32(u1 * (u2 + v + z2) * over + HALF))
        l1 = np.float32(np.int32((v * z2 + z1 * (u2 + v + z2)) * over + HALF))
        n1 = n1 if n1 < FULL - l1 else FULL - l1
        f1 = FULL - l1 - n1
        # Both cells differ by P E - Q F, and by as much in codes: strongly coupled ones hang on both centres alike.
        # What a cell loses to the ground is rounded by itself, and is zero to the last bit where there are no walls.
        P = np.float32(np.int32(u1 * (u2 + z2) * over + HALF))
        l2 = np.float32(np.int32((v * z1 + z2 * (u1 + v + z1)) * over + HALF))
        f2 = n1 - P if n1 > P else ZERO
        f2 = f2 if f2 < FULL - l2 else FULL - l2
        n2 = FULL - l2 - f2
        near1[k], far1[k], near2[k], far2[k] = n1, f1, n2, f2
        P, Q = PART * (n1 - f2), PART * (n2 - f1)
        P, Q = P if P > ZERO else ZERO, Q if Q > ZERO else ZERO
        l1, l2 = PART * l1, PART * l2
        n1, f1, n2, f2 = PART * n1, PART * f1, PART * n2, PART * f2
        low, top = (P, Q) if P < Q else (Q, P)
        along[k] = g1[k] * (f1 + l1) * f1 + g2[k] * (f2 + l2) * f2 + cross * top * low
        own[k] = (
            g1[k] * (f1 + l1) * l1 + cross * top * (P - low)
            + y1[k] * (n1 + f1) * n1 + y2[k] * (n2 + f2) * f2 + (f2 * least2[k] - f1 * least1[k])
        )  # fmt: skip
        beyond[k] = (
            g2[k] * (f2 + l2) * l2 + cross * top * (Q - low)
            + y1[k] * (n1 + f1) * f1 + y2[k] * (n2 + f2) * n2 + (f1 * least1[k] - f2 * least2[k])
        )  # fmt: skip


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _end_row(g, y, near, own):
    """Of cells at an end, which hang on their own centre only: codes as floats, and what goes to the ground."""
    for k in range(np.uint64(g.size)):
        lost = np.float32(np.int32(FULL * y[k] / (g[k] + y[k]) + HALF))
        near[k] = FULL - lost
        loss, kept = PART * lost, PART * (FULL - lost)
        own[k] = g[k] * loss * loss + y[k] * kept * kept


@njit(cache=True, nogil=True)
def _write(v, at, step, out):
    """Write a row of codes."""
    at, step = np.uint64(at), np.uint64(step)
    for k in range(np.uint64(v.size)):
        out[at + k * step] = np.uint8(v[k])


@njit(cache=True, nogil=True)
def _cling(at, count, near):
    """Let cells hang on their own centre with all their weight."""
    near[at : at + count] = np.uint8(UNIT)


@njit(cache=True, nogil=True)
def halve_across(n, s, wrap, axis, w, extra, diagonal, near, far, ms, W, X):
    """Set the codes of the first or the middle axis, the coarse faces along it, and the extra diagonal without others.

    Parameters
    ----------
    n, s : tuples of int
        Cells per axis, and strides of the padded box.
    wrap : bool
        Whether the axis repeats.
    axis : {0, 1}
    w : ndarray of float32
        Faces along the axis.
    extra, diagonal : ndarray of float32
    near, far : ndarray of uint8, out
    ms : tuple of int
        Strides of the coarser box.
    W, X : ndarray of float32, out
        Faces along the axis and extra diagonal of the coarser box; zeros on entry.
    """
    size, m = n[axis], (n[axis] + 1) // 2
    step, jump = s[axis], ms[axis]
    # Where planes are joined, they are rows, with padding that leaves zeros.
    lo, hi = span(n, s, 0, n[1])
    lines, count = (1, hi - lo) if axis == 0 else (n[0], n[2])
    side, far_side, inset = (0, 0, lo) if axis == 0 else (s[0], ms[0], 1)
    g1, least1, y_even, y1 = zeros(count), zeros(count), zeros(count), zeros(count)
    g2, least2, y2, y_odd = zeros(count), zeros(count), zeros(count), zeros(count)
    n1, f1, n2, f2, along, own, beyond = (
        zeros(count), zeros(count), zeros(count), zeros(count), zeros(count), zeros(count), zeros(count)
    )  # fmt: skip
    odd, joined = size % 2 == 1, wrap and m > 1
    for j in range(lines):
        for c in range(m):
            origin, target = (j + 1) * side + inset, (j + 1) * far_side + inset
            e = origin + (2 * c + 1) * step
            here, alone = target + (c + 1) * jump, odd and c == m - 1
            o = e if alone else e + step
            _pair_row(alone, w, e, o, extra, diagonal, g1, least1, y_even, y1)
            add(ONE if alone else TWO, least1, here, X)
            if alone:
                _cling(e, count, near)
            elif c == 0 and not joined:
                _end_row(g1, y_even, n1, own)
                _write(n1, e, 1, near)
                add(ONE, own, here, X)
            if c == m - 1 and not joined:
                if not alone:
                    _end_row(g1, y1, n1, own)
                    _write(n1, o, 1, near)
                    add(ONE, own, here, X)
                continue
            following = 0 if c == m - 1 else c + 1
            e2 = origin + (2 * following + 1) * step
            lone = odd and following == m - 1
            o2, there = e2 if lone else e2 + step, target + (following + 1) * jump
            _pair_row(lone, w, e2, o2, extra, diagonal, g2, least2, y2, y_odd)
            _link_row(g1, y1, least1, w, o, g2, y2, least2, n1, f1, n2, f2, along, own, beyond)
            if not alone:
                _write(n1, o, 1, near)
                _write(f1, o, 1, far)
            if not lone:
                _write(n2, e2, 1, near)
                _write(f2, e2, 1, far)
            add(ONE, along, here, W)
            add(ONE, own, here, X)
            add(ONE, beyond, there, X)


@njit(cache=True, nogil=True, fastmath=FAST)
def _part(v, at, out):
    """Take a row apart: its even entries, then its odd ones."""
    at, m = np.uint64(at), np.uint64(out.size // 2)
    for k in range(m):
        out[k] = v[at + k + k]
        out[m + k] = v[at + k + k + NEXT]


@njit(cache=True, nogil=True)
def halve_along(n, s, wrap, w, extra, diagonal, near, far, ms, W, X):
    """Do the same for the last axis."""
    size, m = n[2], (n[2] + 1) // 2
    odd, joined = size % 2 == 1, wrap and m > 1
    full, links = size // 2, m if joined else m - 1
    inner = min(links, m - 1)  # links that do not lead back to the first pair
    faces, x, d = zeros(2 * m), zeros(2 * m), zeros(2 * m)  # even cells, then odd ones
    g, least, y0, y1 = zeros(m + 1), zeros(m + 1), zeros(m + 1), zeros(m + 1)
    n1, f1, n2, f2, along, own, beyond = (
        zeros(links), zeros(links), zeros(links), zeros(links), zeros(links), zeros(links), zeros(links)
    )  # fmt: skip
    at_end, to_ground = zeros(1), zeros(1)
    for i in range(n[0]):
        for j in range(n[1]):
            p, here = (i + 1) * s[0] + (j + 1) * s[1] + 1, (i + 1) * ms[0] + (j + 1) * ms[1] + 1
            _part(w, p, faces)
            _part(extra, p, x)
            _part(diagonal, p, d)
            _pair_row(False, faces, 0, m, x, d, g[:full], least[:full], y0[:full], y1[:full])
            add(TWO, least[:full], here, X)
            if odd:
                _pair_row(True, faces, full, full, x, d, g[full:m], least[full:m], y0[full:m], y1[full:m])
                add(ONE, least[full:m], here + full, X)
                near[p + size - 1], far[p + size - 1] = np.uint8(UNIT), np.uint8(0)
                faces[m + full] = faces[full]
            if joined:
                g[m], least[m], y0[m] = g[0], least[0], y0[0]
            if links:
                _link_row(
                    g[:links], y1[:links], least[:links], faces, m, g[1 : links + 1], y0[1 : links + 1],
                    least[1 : links + 1], n1, f1, n2, f2, along, own, beyond,
                )  # fmt: skip
                _write(n1[:full], p + 1, 2, near)
                _write(f1[:full], p + 1, 2, far)
                add(ONE, along, here, W)
                add(ONE, own, here, X)
                add(ONE, beyond[:inner], here + 1, X)
            after = min(inner, full - 1)  # of them, those to a pair of two cells
            _write(n2[:after], p + 2, 2, near)
            _write(f2[:after], p + 2, 2, far)
            if joined:
                _write(n2[inner:], p, 1, near)
                _write(f2[inner:], p, 1, far)
                add(ONE, beyond[inner:], here, X)
                continue
            if full:
                _end_row(g[:1], y0[:1], at_end, to_ground)
                _write(at_end, p, 1, near)
                add(ONE, to_ground, here, X)
            if full and not odd:
                _end_row(g[m - 1 : m], y1[m - 1 : m], at_end, to_ground)
                _write(at_end, p + size - 1, 1, near)
                add(ONE, to_ground, here + m - 1, X)
