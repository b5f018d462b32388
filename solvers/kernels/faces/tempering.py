"""Between two bounds: coarse faces are too strong where strong fine ones end, and resistor networks know how much."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.faces.rows import zeros

ONE, HALF, ZERO, TINY, STIFF = np.float32(1), np.float32(0.5), np.float32(0), np.float32(1e-20), np.float32(1e20)
LEAST = np.float32(0.2)  # smallest ratio that is believed; below it, coarse faces do not follow fine ones
NEXT = np.uint64(1)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _series_row(w, own, crossing, following, pair, lone, lines, cross, inside, beyond):
    """Add rows of half cells and crossing faces in series to `lines`, and the faces themselves to the others."""
    a, c, b = np.uint64(own), np.uint64(crossing), np.uint64(following)
    first, second = HALF if pair else ZERO, ZERO if lone else HALF
    for k in range(np.uint64(lines.size)):
        h = first / (w[a + k] + TINY) + second / (w[b + k] + TINY)
        lines[k] += w[c + k] / (ONE + w[c + k] * h)
        cross[k] += w[c + k]
        inside[k] += w[a + k]
        beyond[k] += w[b + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _fold(halved, v, out):
    """out[c] <- v[2 c] + v[2 c + 1], or v[c] where the axis is not halved."""
    if not halved:
        out[:] = v[: out.size]
        return
    for c in range(np.uint64(out.size)):
        out[c] = v[c + c] + v[c + c + NEXT]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _temper_row(pair, lone, lines, cross, inside, beyond, at, W):
    """Multiply a row of coarse faces by the root of the ratio; return what `temper_across` does, of the row."""
    at = np.uint64(at)
    first, second = HALF if pair else ZERO, ZERO if lone else HALF
    total, small, least = ZERO, ZERO, ONE
    for k in range(np.uint64(lines.size)):
        h = first / (inside[k] + TINY) + second / (beyond[k] + TINY)
        resistor = np.sqrt(lines[k]) * np.sqrt(cross[k] / (ONE + cross[k] * h))
        weight = W[at + k]
        ratio = (resistor + TINY) / (weight + TINY)
        total += weight
        small += weight if ratio < LEAST else ZERO
        least = ratio if ratio < least else least
        ratio = ratio if ratio < ONE else ONE
        W[at + k] = weight * np.sqrt(ratio if ratio > LEAST else LEAST)
    return np.float64(total), np.float64(small), np.float64(least)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _temper_sums(sums, at, W):
    """Do the same with an axis that is not halved, whose fine faces lie side by side."""
    at = np.uint64(at)
    total, small, least = ZERO, ZERO, ONE
    for k in range(np.uint64(sums.size)):
        weight = W[at + k]
        ratio = (sums[k] + TINY) / (weight + TINY)
        total += weight
        small += weight if ratio < LEAST else ZERO
        least = ratio if ratio < least else least
        ratio = ratio if ratio < ONE else ONE
        W[at + k] = weight * np.sqrt(ratio if ratio > LEAST else LEAST)
    return np.float64(total), np.float64(small), np.float64(least)


@njit(cache=True, nogil=True, fastmath=FAST)
def _add(w, at, out):
    """out <- out + w[at ...]."""
    at = np.uint64(at)
    for k in range(np.uint64(out.size)):
        out[k] += w[at + k]


@njit(cache=True, nogil=True, fastmath=FAST)
def _stride(w, at, out):
    """out[k] <- w[at + 2 k]."""
    at = np.uint64(at)
    for k in range(np.uint64(out.size)):
        out[k] = w[at + k + k]


@njit(cache=True, nogil=True)
def temper_across(n, s, halved, axis, w, ms, m, W):
    """Multiply coarse faces by the root of the ratio of a resistor network's weight to theirs, kept in LEAST .. 1.

    The resistor's weight is the geometric mean of two bounds: fine lines in series, then side by side, and the reverse.

    Parameters
    ----------
    n, s, m, ms : tuples of int
        Cells per axis and strides of the padded boxes, the fine and the coarse one.
    halved : tuple of 3 bools
        The axes that were halved.
    axis : {0, 1}
        The axis of the faces.
    w, W : ndarray of float32
        Fine and coarse faces.

    Returns
    -------
    total, small, least : float
        The sum of the coarse weights, of those whose ratio is below `LEAST`, and the least ratio.
    """
    width, count = n[2] if halved[2] else m[2], m[2]
    side, step = s[1 - axis], s[axis]
    beside = halved[1 - axis]
    # A zero ends an odd number of entries.
    lines, cross, inside, beyond = zeros(2 * count), zeros(2 * count), zeros(2 * count), zeros(2 * count)
    a, b, c, d = zeros(count), zeros(count), zeros(count), zeros(count)
    total, small, least = 0.0, 0.0, 1.0
    for u0 in range(m[0]):
        for u1 in range(m[1]):
            at = (u0 + 1) * ms[0] + (u1 + 1) * ms[1] + 1
            place, other = (u0, u1) if axis == 0 else (u1, u0)
            first = 2 * other if beside else other
            rows = min(2, n[1 - axis] - first) if beside else 1
            lines[:], cross[:], inside[:], beyond[:] = ZERO, ZERO, ZERO, ZERO
            own = 2 * place if halved[axis] else place
            pair = own + 1 < n[axis]
            following = own + 2 if own + 2 < n[axis] else 0  # of an axis that repeats
            lone = following + 1 >= n[axis]
            for x in range(rows):
                line = (first + x + 1) * side + 1
                p = line + (own + 1) * step
                if halved[axis]:
                    q = line + (following + 1) * step
                    _series_row(
                        w, p, p + step if pair else p, q, pair, lone, lines[:width], cross[:width], inside[:width],
                        beyond[:width],
                    )  # fmt: skip
                else:
                    _add(w, p, lines[:width])
            _fold(halved[2], lines, a)
            if halved[axis]:
                _fold(halved[2], cross, b)
                _fold(halved[2], inside, c)
                _fold(halved[2], beyond, d)
                t, u, v = _temper_row(pair, lone, a, b, c, d, at, W)
            else:
                t, u, v = _temper_sums(a, at, W)
            total, small, least = total + t, small + u, min(least, v)
    return total, small, least


@njit(cache=True, nogil=True)
def temper_along(n, s, halved, w, ms, m, W):
    """Do the same for faces along the last axis."""
    count = m[2]
    lone_end = halved[2] and n[2] % 2 == 1
    lines, cross, inside, beyond = zeros(count), zeros(count), zeros(count), zeros(count)
    row = zeros(2 * count + 2)  # even faces and the first once more, then odd ones
    total, small, least = 0.0, 0.0, 1.0
    for u0 in range(m[0]):
        for u1 in range(m[1]):
            at = (u0 + 1) * ms[0] + (u1 + 1) * ms[1] + 1
            i0, j0 = 2 * u0 if halved[0] else u0, 2 * u1 if halved[1] else u1
            lines[:], cross[:], inside[:], beyond[:] = ZERO, ZERO, ZERO, ZERO
            for i in range(i0, min(i0 + 2, n[0]) if halved[0] else i0 + 1):
                for j in range(j0, min(j0 + 2, n[1]) if halved[1] else j0 + 1):
                    p = (i + 1) * s[0] + (j + 1) * s[1] + 1
                    if not halved[2]:
                        _add(w, p, lines)
                        continue
                    _stride(w, p, row[:count])
                    row[count] = row[0]
                    _stride(w, p + 1, row[count + 1 : 2 * count + 1])
                    if lone_end:  # the last cell is its own centre: as if a face of no resistance were within it
                        row[2 * count], row[count - 1] = row[count - 1], STIFF
                    _series_row(row, 0, count + 1, 1, True, False, lines, cross, inside, beyond)
            if halved[2]:
                t, u, v = _temper_row(True, False, lines, cross, inside, beyond, at, W)
            else:
                t, u, v = _temper_sums(lines, at, W)
            total, small, least = total + t, small + u, min(least, v)
    return total, small, least
