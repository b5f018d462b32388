"""Compiled passes of advection: tracing back along the velocity, interpolating, and correcting what that smooths.

`n` is the number of cells per axis of a box (`boxes.py`); `axis` says where a quantity lives: on the faces of axis 0, 1
or 2, or (3) at the centres. Positions are in cells from the corner of the box, and `c` is dt / h. A pass goes row by
row through the planes start .. stop - 1. Operations without a gather are loops of their own over the row, which are
vectorised; their intermediate results, `rows` and `index`, stay in the nearest cache.

Arithmetic is in float64 for all types of fields. Indices are unsigned, because signed ones are tested for their sign.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

EDGE = 1e-6  # distance in cells below which a point counts as lying on the boundary of a cell, in spite of rounding
ONE = np.uint64(1)
ROWS = 18  # number of float64 rows that a trace works in
WEIGHTS = (6, 8, 10)  # numbers of the rows with the weights of the foot, per axis


@njit(cache=True, nogil=True, inline="always")
def _between(a, b, t):
    """Return the value between a and b at t from 0 to 1, exactly a where they are equal."""
    return a + t * (b - a)


@njit(cache=True, nogil=True, inline="always")
def _interpolate(f, at, s0, s1, s2, x, y, z):
    """Return f between the eight entries whose first is `at`; s are the distances of the others, 0 on a single cell."""
    low = _between(_between(f[at], f[at + s2], z), _between(f[at + s1], f[at + s1 + s2], z), y)
    at = at + s0
    high = _between(_between(f[at], f[at + s2], z), _between(f[at + s1], f[at + s1 + s2], z), y)
    return _between(low, high, x)


@njit(cache=True, nogil=True, fastmath=FAST)
def _cut(p, offset, last, cell, weight):
    """Split the positions p, clamped to entries 0 .. last that begin at offset, into the entry before and the rest."""
    top = max(last - 1.0, 0.0)
    for k in range(np.uint64(p.size)):
        q = min(max(p[k] - offset, 0.0), last)
        first = min(np.floor(q), top)
        cell[k] = first
        weight[k] = q - first


@njit(cache=True, nogil=True, fastmath=FAST)
def _number(i, j, k, s0, s1, at):
    """Set at to i s0 + j s1 + k, computed in float64, which holds every index exactly and is vectorised."""
    for h in range(np.uint64(at.size)):
        at[h] = np.uint64(np.int64(i[h] * s0 + j[h] * s1 + k[h]))


@njit(cache=True, nogil=True, fastmath=FAST)
def _go(first, step, c, speed, p):
    """Set p to first + step k - c speed."""
    for k in range(np.uint64(p.size)):
        p[k] = first + step * k - c * speed[k]


@njit(cache=True, nogil=True, inline="always")
def _pair(i, axis, component, d, n):
    """Return the two entries along axis d whose mean is the component at entry i of what lives on `axis`."""
    if (axis == d) == (component == d):
        return i, i
    return (i, i + 1) if component == d else (max(i - 1, 0), min(i, n - 1))


@njit(cache=True, nogil=True, fastmath=FAST)
def _mean(a, b, c, d, out):
    for k in range(np.uint64(out.size)):
        out[k] = 0.25 * ((np.float64(a[k]) + np.float64(b[k])) + (np.float64(c[k]) + np.float64(d[k])))


@njit(cache=True, nogil=True, fastmath=FAST)
def _own(n, axis, component, f, i, j, out, row):
    """Set out to the velocity component at the points of row (i, j) that live on `axis`; `row` is scratch."""
    m1, m2 = n[1] + (component == 1), n[2] + (component == 2)
    i0, i1 = _pair(i, axis, component, 0, n[0])
    j0, j1 = _pair(j, axis, component, 1, n[1])
    a, b = f[(i0 * m1 + j0) * m2 : (i0 * m1 + j0 + 1) * m2], f[(i0 * m1 + j1) * m2 : (i0 * m1 + j1 + 1) * m2]
    c, d = f[(i1 * m1 + j0) * m2 : (i1 * m1 + j0 + 1) * m2], f[(i1 * m1 + j1) * m2 : (i1 * m1 + j1 + 1) * m2]
    if (axis == 2) == (component == 2):
        _mean(a, b, c, d, out)
        return
    _mean(a, b, c, d, row[:m2])
    shift = 0 if component == 2 else 1  # entry k lies between k and k + 1, or between k - 1 and k
    for k in range(np.uint64(shift), np.uint64(n[2])):
        out[k] = 0.5 * (row[k + np.uint64(1 - shift)] + row[k - np.uint64(shift)])
    if axis == 2:
        out[0], out[n[2]] = row[0], row[n[2] - 1]


@njit(cache=True, nogil=True, fastmath=FAST)
def _velocities(n, u, v, w, at, x, y, z, x_half, y_half, z_half, a, b, c):
    """Interpolate the components to points cut both at faces (x, y, z) and at centres (x_half, y_half, z_half)."""
    u1, v1, w1 = np.uint64(n[2] * (n[1] > 1)), np.uint64(n[2]), np.uint64((n[2] + 1) * (n[1] > 1))
    u0, v0 = np.uint64(n[1] * n[2]), np.uint64((n[1] + 1) * n[2] * (n[0] > 1))
    w0, across = np.uint64(n[1] * (n[2] + 1) * (n[0] > 1)), np.uint64(n[2] > 1)
    of_u, of_v, of_w = at[0], at[1], at[2]
    for k in range(np.uint64(a.size)):
        a[k] = _interpolate(u, of_u[k], u0, u1, across, x[k], y_half[k], z_half[k])
        b[k] = _interpolate(v, of_v[k], v0, v1, across, x_half[k], y[k], z_half[k])
        c[k] = _interpolate(w, of_w[k], w0, w1, ONE, x_half[k], y_half[k], z[k])


@njit(cache=True, nogil=True, fastmath=FAST)
def _find(inside, before, after, x, y, z, a, b, c, within):
    """Set within: whether a point is in the box around (a, b, c) and the cells on both sides of it are inside."""
    for k in range(np.uint64(within.size)):
        within[k] = (abs(x[k] - a) <= a + EDGE) & (abs(y[k] - b) <= b + EDGE) & (abs(z[k] - c) <= c + EDGE)
    for k in range(np.uint64(within.size)):
        within[k] &= inside[before[k]] & inside[after[k]]


@njit(cache=True, nogil=True, fastmath=FAST)
def _trace(n, axis, velocity, inside, c, i, j, rows, spare, index, within):
    """Trace row (i, j) back by the midpoint rule; set index[0] and `rows[WEIGHTS]` to the places of the feet.

    Set within: whether the foot lies in the box and in a cell that is inside, or between two such cells.
    """
    u, v, w = velocity
    n0, n1, n2 = n
    m0, m1, m2 = n0 + (axis == 0), n1 + (axis == 1), n2 + (axis == 2)
    o0, o1, o2 = 0.5 * (axis != 0), 0.5 * (axis != 1), 0.5 * (axis != 2)
    a, b, d, x, y, z = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    fx, gx, fy, gy, fz, gz = rows[6], rows[7], rows[8], rows[9], rows[10], rows[11]
    ix, jx, iy, jy, iz, jz = rows[12], rows[13], rows[14], rows[15], rows[16], rows[17]
    _own(n, axis, 0, u, i, j, a, spare)
    _own(n, axis, 1, v, i, j, b, spare)
    _own(n, axis, 2, w, i, j, d, spare)
    _go(i + o0, 0.0, 0.5 * c, a, x)
    _go(j + o1, 0.0, 0.5 * c, b, y)
    _go(o2, 1.0, 0.5 * c, d, z)
    _cut(x, 0.0, np.float64(n0), ix, fx)
    _cut(x, 0.5, n0 - 1.0, jx, gx)
    _cut(y, 0.0, np.float64(n1), iy, fy)
    _cut(y, 0.5, n1 - 1.0, jy, gy)
    _cut(z, 0.0, np.float64(n2), iz, fz)
    _cut(z, 0.5, n2 - 1.0, jz, gz)
    _number(ix, jy, jz, np.float64(n1 * n2), np.float64(n2), index[0])
    _number(jx, iy, jz, np.float64((n1 + 1) * n2), np.float64(n2), index[1])
    _number(jx, jy, iz, np.float64(n1 * (n2 + 1)), np.float64(n2 + 1), index[2])
    _velocities(n, u, v, w, index, fx, fy, fz, gx, gy, gz, a, b, d)
    _go(i + o0, 0.0, c, a, x)
    _go(j + o1, 0.0, c, b, y)
    _go(o2, 1.0, c, d, z)
    _cut(x, EDGE, np.float64(n0), ix, fx)
    _cut(y, EDGE, np.float64(n1), iy, fy)
    _cut(z, EDGE, np.float64(n2), iz, fz)
    _number(ix, iy, iz, np.float64(n1 * n2), np.float64(n2), index[1])
    _cut(x, -EDGE, np.float64(n0), ix, fx)
    _cut(y, -EDGE, np.float64(n1), iy, fy)
    _cut(z, -EDGE, np.float64(n2), iz, fz)
    _number(ix, iy, iz, np.float64(n1 * n2), np.float64(n2), index[2])
    _find(inside, index[1], index[2], x, y, z, 0.5 * n0, 0.5 * n1, 0.5 * n2, within)
    _cut(x, o0, m0 - 1.0, ix, fx)
    _cut(y, o1, m1 - 1.0, iy, fy)
    _cut(z, o2, m2 - 1.0, iz, fz)
    _number(ix, iy, iz, np.float64(m1 * m2), np.float64(m2), index[0])


@njit(cache=True, nogil=True, inline="always")
def _is_between(t):
    return (t > EDGE) & (t < 1.0 - EDGE)


@njit(cache=True, nogil=True)
def _range(f, at, s0, s1, s2, x, y, z):
    """Return the least and the largest of the entries that count in the interpolation; on an edge, those on it."""
    low, high = np.inf, -np.inf
    for i in range(2):
        for j in range(2):
            for k in range(2):
                weights = x if i else 1.0 - x, y if j else 1.0 - y, z if k else 1.0 - z
                if min(weights) > EDGE:
                    value = f[at + np.uint64(i) * s0 + np.uint64(j) * s1 + np.uint64(k) * s2]
                    low, high = min(low, value), max(high, value)
    return low, high


@njit(cache=True, nogil=True, fastmath=FAST)
def _predict_row(f, at, s0, s1, s2, x, y, z, within, out, low, high):
    for k in range(np.uint64(out.size)):
        p = at[k]
        q = p + s0
        a, b, c, d = f[p], f[p + s2], f[p + s1], f[p + s1 + s2]
        e, g, h, o = f[q], f[q + s2], f[q + s1], f[q + s1 + s2]
        near = _between(_between(a, b, z[k]), _between(c, d, z[k]), y[k])
        far = _between(_between(e, g, z[k]), _between(h, o, z[k]), y[k])
        value = _between(near, far, x[k])
        out[k] = value
        if not within[k]:
            low[k] = high[k] = value
        elif _is_between(x[k]) & _is_between(y[k]) & _is_between(z[k]):
            low[k], high[k] = min(a, b, c, d, e, g, h, o), max(a, b, c, d, e, g, h, o)
        else:
            low[k], high[k] = _range(f, p, s0, s1, s2, x[k], y[k], z[k])


@njit(cache=True, nogil=True, fastmath=FAST)
def _correct_row(f, at, s0, s1, s2, x, y, z, within, before, low, high, predicted, out):
    for k in range(np.uint64(out.size)):
        back = _interpolate(f, at[k], s0, s1, s2, x[k], y[k], z[k])
        value = predicted[k]
        out[k] = min(max(value + 0.5 * (before[k] - back), low[k]), high[k]) if within[k] else value


@njit(cache=True, nogil=True, inline="always")
def _layout(n, axis):
    """Return the numbers of entries per row and plane for `axis`, and the distances between neighbours in memory."""
    m0, m1, m2 = n[0] + (axis == 0), n[1] + (axis == 1), n[2] + (axis == 2)
    return m1, m2, np.uint64(m1 * m2 * (m0 > 1)), np.uint64(m2 * (m1 > 1)), np.uint64(m2 > 1)


@njit(cache=True, nogil=True, fastmath=FAST)
def predict(n, axis, velocity, inside, c, fields, out, low, high, start, stop):
    """Set out to the fields at the feet of the points, and low, high to the range of the entries around each foot.

    Where a trace leaves the cells that are inside, the range is the value itself.
    """
    m1, m2, s0, s1, s2 = _layout(n, axis)
    rows, spare = np.empty((ROWS, m2)), np.empty(n[2] + 1)
    index, within = np.empty((3, m2), np.uint64), np.empty(m2, np.bool_)
    x, y, z = rows[WEIGHTS[0]], rows[WEIGHTS[1]], rows[WEIGHTS[2]]
    for i in range(start, stop):
        for j in range(m1):
            _trace(n, axis, velocity, inside, c, i, j, rows, spare, index, within)
            own = slice((i * m1 + j) * m2, (i * m1 + j + 1) * m2)
            for e in range(fields.shape[0]):
                f = fields[e]
                _predict_row(f, index[0], s0, s1, s2, x, y, z, within, out[e][own], low[e][own], high[e][own])


@njit(cache=True, nogil=True, fastmath=FAST)
def correct(n, axis, velocity, inside, c, fields, predicted, low, high, out, start, stop):
    """Set out to predicted + (field - predicted carried back) / 2, limited to the range, for each of the fields."""
    m1, m2, s0, s1, s2 = _layout(n, axis)
    rows, spare = np.empty((ROWS, m2)), np.empty(n[2] + 1)
    index, within = np.empty((3, m2), np.uint64), np.empty(m2, np.bool_)
    x, y, z = rows[WEIGHTS[0]], rows[WEIGHTS[1]], rows[WEIGHTS[2]]
    for i in range(start, stop):
        for j in range(m1):
            _trace(n, axis, velocity, inside, -c, i, j, rows, spare, index, within)
            own = slice((i * m1 + j) * m2, (i * m1 + j + 1) * m2)
            for e in range(fields.shape[0]):
                f = predicted[e]
                limits = low[e][own], high[e][own]
                _correct_row(f, index[0], s0, s1, s2, x, y, z, within, fields[e][own], *limits, f[own], out[e][own])
