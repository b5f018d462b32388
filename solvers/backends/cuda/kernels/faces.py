"""CUDA kernels of grids with face weights: directions and their images, smoothing, transfers, the exact solution.

Fields and geometry as in `kernels/faces/records.py`; `kernels/faces/reference.py` has the definitions. A thread has a
cell in each plane of its share, and threads beside each other have cells beside each other. Padding is never written,
and holds zeros: where an axis repeats, the cells at its ends find each other by their indices. A is applied to
differences, in float32, as `kernels/faces/stages.py` says, and only the sum of p.A p is in float64. In 2D the stride of
rows is zero, so that a cell is its own neighbour along the middle axis.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.kernels.finest import ZERO, cell
from deepcd.solvers.backends.cuda.kernels.outer import BLOCKS, ONE, SIMULATED, add_up, direction, own_cells
from deepcd.solvers.kernels.faces.records import UNIT

PART = np.float32(1 / UNIT)
BOX, PLANE = ((2, 2), (4, 1)) if SIMULATED else ((32, 8), (256, 1))  # threads of a block, along columns and rows


def division(n, s):
    """Return the blocks that share a box, over columns, rows and planes, the threads of each, and its planes."""
    threads = BOX if s[1] else PLANE
    columns, rows = -(-n[2] // threads[0]), -(-n[1] // threads[1])
    share = -(-n[0] // max(1, min(n[0], BLOCKS // (columns * rows))))
    return (columns, rows, -(-n[0] // share)), threads, share


@cuda.jit(device=True)
def own_planes(n, share):
    """Return the first of a thread's planes and their end, its row and its column; a thread beside the box has none."""
    k, j = cuda.grid(2)
    i = cuda.blockIdx.z * share
    return i, min(i + share, n[0]) if j < n[1] and k < n[2] else i, j, k


@cuda.jit(device=True)
def neighbours(h, stride, at, n, wrap):
    """Return the cells before and after cell h along an axis of n cells; it is number `at` of them."""
    step = np.uint64(stride)
    before, after = h - step, h + step
    if wrap:
        across = np.uint64((n - 1) * stride)
        if at == 0:
            before = h + across
        if at == n - 1:
            after = h - across
    return before, after


@cuda.jit(device=True)
def image(n, s, wrap, w0, w1, w2, extra, x, i, j, k):
    """Return the entry of A x in a cell."""
    h = cell(s, i, j, k)
    b0, a0 = neighbours(h, s[0], i, n[0], wrap[0])
    b1, a1 = neighbours(h, s[1], j, n[1], wrap[1])
    b2, a2 = neighbours(h, 1, k, n[2], wrap[2])
    s0, s1, v = np.uint64(s[0]), np.uint64(s[1]), x[h]
    value = extra[h] * v + (w0[h - s0] * (v - x[b0]) + w0[h] * (v - x[a0]))
    value += w1[h - s1] * (v - x[b1]) + w1[h] * (v - x[a1])
    return value + (w2[h - ONE] * (v - x[b2]) + w2[h] * (v - x[a2]))


@cuda.jit
def conjugate(share, n, s, wrap, w0, w1, w2, extra, z, beta, p, out, q, partials):
    """out <- z + beta p and q <- A out; out.A out, each term in float32, their sum in float64.

    The neighbours of a cell are computed anew: other threads may not have written theirs yet.
    """
    s0, s1, energy = np.uint64(s[0]), np.uint64(s[1]), 0.0
    i, stop, j, k = own_planes(n, share)
    while i < stop:
        h = cell(s, i, j, k)
        b0, a0 = neighbours(h, s[0], i, n[0], wrap[0])
        b1, a1 = neighbours(h, s[1], j, n[1], wrap[1])
        b2, a2 = neighbours(h, 1, k, n[2], wrap[2])
        own = direction(z, beta, p, h)
        up, across = own - direction(z, beta, p, a0), own - direction(z, beta, p, a1)
        forth, rest = own - direction(z, beta, p, a2), extra[h] * own
        value = rest + (w0[h - s0] * (own - direction(z, beta, p, b0)) + w0[h] * up)
        value += w1[h - s1] * (own - direction(z, beta, p, b1)) + w1[h] * across
        value += w2[h - ONE] * (own - direction(z, beta, p, b2)) + w2[h] * forth
        out[h] = own
        q[h] = value
        energy += np.float64(rest * own + (w0[h] * up * up + w1[h] * across * across + w2[h] * forth * forth))
        i += 1
    block = cuda.blockIdx.x + cuda.gridDim.x * (cuda.blockIdx.y + cuda.gridDim.y * cuda.blockIdx.z)
    add_up(energy, partials, block)


# The cycle


@cuda.jit
def begin(omega, inverse, r, out):
    """out <- omega r / d, a smoothing step from zero."""
    e, end, stride = own_cells(0, out.size)
    while e < end:
        out[e] = omega * inverse[e] * r[e]
        e += stride


@cuda.jit
def relax(share, n, s, wrap, w0, w1, w2, extra, inverse, omega, r, x, out):
    """out <- x + omega (r - A x) / d."""
    i, stop, j, k = own_planes(n, share)
    while i < stop:
        h = cell(s, i, j, k)
        left = r[h] - image(n, s, wrap, w0, w1, w2, extra, x, i, j, k)
        out[h] = x[h] + omega * inverse[h] * left
        i += 1


@cuda.jit
def residual(share, n, s, wrap, w0, w1, w2, extra, r, x, out):
    """out <- r - A x."""
    i, stop, j, k = own_planes(n, share)
    while i < stop:
        h = cell(s, i, j, k)
        out[h] = r[h] - image(n, s, wrap, w0, w1, w2, extra, x, i, j, k)
        i += 1


@cuda.jit
def solve(cells, inverse, r, z):
    """z <- inverse r on some cells. The inverse is symmetric: threads beside each other read its columns."""
    e, end, stride = own_cells(0, cells.size)
    while e < end:
        value, p = ZERO, np.uint64(0)
        while p < end:
            value += inverse[p, e] * r[np.uint64(cells[p])]
            p += ONE
        z[np.uint64(cells[e])] = value
        e += stride


def transfers(axis):
    """Return the kernels that restrict and interpolate along one axis, from a box to one of half as many cells there.

    Both take the longer box, then the shorter one; `near` and `far` have the codes of the longer one's cells.
    """

    @cuda.jit
    def gather(share, n, s, wrap, m, ms, near, far, v, out):
        """out <- P' v."""
        length, stride = n[axis], np.uint64(s[axis] if axis < 2 else 1)
        repeats = wrap[axis] and m[axis] > 1
        i, stop, j, k = own_planes(m, share)
        while i < stop:
            at = i if axis == 0 else j if axis == 1 else k
            first = cell(s, 0 if axis == 0 else i, 0 if axis == 1 else j, 0 if axis == 2 else k)
            h = first + np.uint64(2 * at) * stride
            before = h - stride  # padding before the first pair, whose codes are zero, or the other end
            if at == 0 and repeats and length & 1 == 0:
                before = first + np.uint64(length - 1) * stride
            value = np.float32(near[h]) * v[h] + np.float32(near[h + stride]) * v[h + stride]
            value += np.float32(far[before]) * v[before]
            if at < m[axis] - 1 or repeats:
                after = h + stride + stride if at < m[axis] - 1 else first
                value += np.float32(far[after]) * v[after]
            out[cell(ms, i, j, k)] = PART * value
            i += 1

    @cuda.jit
    def spread(share, n, s, wrap, m, ms, near, far, e, add, out):
        """out <- P e, or out + P e if `add`. An entry is to the last bit that of e where both coarse ones are equal."""
        i, stop, j, k = own_planes(n, share)
        while i < stop:
            at = i if axis == 0 else j if axis == 1 else k
            own, other = at >> 1, (at >> 1) + 2 * (at & 1) - 1
            if other < 0:
                other = m[axis] - 1 if wrap[axis] else own
            elif other >= m[axis]:
                other = 0 if wrap[axis] else own
            h = cell(s, i, j, k)
            c, f = np.float32(near[h]), np.float32(far[h])
            x = e[cell(ms, own if axis == 0 else i, own if axis == 1 else j, own if axis == 2 else k)]
            y = e[cell(ms, other if axis == 0 else i, other if axis == 1 else j, other if axis == 2 else k)]
            value = PART * (c + f) * x + PART * f * (y - x)
            out[h] = out[h] + value if add else value
            i += 1

    return SimpleNamespace(gather=gather, spread=spread)


ALONG = tuple(map(transfers, range(3)))
