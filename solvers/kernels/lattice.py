"""Compiled passes that lay a lattice over the nodes of a mesh, and carry vectors from one to the other.

A lattice is a padded box whose cells are its points. A node lies in a lattice cell of 2^d points: `base` is the flat
index of the lowest of them, `fraction` where in the cell the node is, per axis, and `strides` are the flat distances to
the next point along each axis. Interpolation is multilinear.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

ROUNDED = 1e-9  # share of its diagonal entry up to which the sum of a row is taken for zero
COUNTS = 0.05  # interpolation weight from which on it matters whether a node is joined to a point
TOUCHED = 1e-6  # sum of weights from which on a point is an unknown


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def look(indptr, indices, data, points, lengths, energies, rests):
    """Look at the couplings of each node along the axes.

    Parameters
    ----------
    indptr, indices, data
        The matrix A in CSR, of n rows.
    points : ndarray of float64, shape (n, d)
        Where the nodes are.
    lengths : ndarray of float64, shape (n,)
        Set to the mean of |x_j - x_i|^2 over the couplings of a node.
    energies : ndarray of float64, shape (n, d)
        Set to half the sum of -a_ij (x_j - x_i)^2 along each axis: the energy of u = x_a is the sum of these.
    rests : ndarray of float64, shape (n,)
        Set to the sum of a row, zero where rounding explains it.
    """
    n, d = points.shape
    for i in range(n):
        total = own = squares = 0.0
        count = 0
        for a in range(d):
            energies[i, a] = 0.0
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            j, value = indices[e], data[e]
            total += value
            if j == i:
                own = value
                continue
            count += 1
            for a in range(d):
                offset = points[j, a] - points[i, a]
                offset *= offset
                squares += offset
                energies[i, a] -= 0.5 * value * offset
        lengths[i] = squares / max(count, 1)
        rests[i] = total if total > ROUNDED * own else 0.0


@njit(cache=True, nogil=True, fastmath=FAST)
def offsets(indptr, indices, points, nodes, moments):
    """Set the mean of (x_j - x_i) (x_j - x_i)' over the couplings of some nodes; `moments` is (nodes, d, d).

    Returns how many of these nodes are coupled to another one at the same point.
    """
    d, doubled = points.shape[1], 0
    for k in range(nodes.size):
        i = nodes[k]
        moments[k] = 0.0
        count, same = max(indptr[i + 1] - indptr[i] - 1, 1), False
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            square = 0.0
            for a in range(d):
                offset = points[j, a] - points[i, a]
                square += offset * offset
                for c in range(d):
                    moments[k, a, c] += offset * (points[j, c] - points[i, c]) / count
            same |= j != i and square == 0.0
        doubled += same
    return doubled


@njit(cache=True, nogil=True)
def extents(points, body, low, high):
    """Set the least and the largest coordinates of each body; `low` and `high` are (bodies, d)."""
    low[:] = np.inf
    high[:] = -np.inf
    for i in range(points.shape[0]):
        k = body[i]
        for a in range(points.shape[1]):
            low[k, a] = min(low[k, a], points[i, a])
            high[k, a] = max(high[k, a], points[i, a])


@njit(cache=True, nogil=True, fastmath=FAST)
def place(points, body, unit, shift, strides, base, fraction):
    """Set where nodes lie at the coordinates unit * points + shift, a row of `shift` for each body."""
    n, d = points.shape
    for i in range(n):
        flat = 0
        for a in range(d):
            q = unit * points[i, a] + shift[body[i], a]
            k = np.int64(q)  # not negative
            flat += (k + 1) * strides[a]
            fraction[i, a] = q - k
        base[i] = flat


@njit(cache=True, nogil=True)
def _shifts(strides):
    """Return the flat distances from the lowest point of a lattice cell to its 2^d points, in the order of `_weigh`."""
    d = strides.size
    shifts = np.zeros(1 << d, dtype=np.int64)
    for a in range(d):
        for c in range(1 << a):
            shifts[(1 << a) + c] = shifts[c] + strides[a]
    return shifts


@njit(cache=True, nogil=True)
def inherit(base, strides, label, labels):
    """Give the points around each node its label, if that is not negative."""
    shifts = _shifts(strides)
    for i in range(base.size):
        if label[i] >= 0:
            for c in range(shifts.size):
                labels[base[i] + shifts[c]] = label[i]


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _weigh(fraction, i, d, weights):
    """Set the interpolation weights of the 2^d points around node i; bit a of a number means the next one along a."""
    weights[0] = 1.0
    count = 1
    for a in range(d):
        t = np.float64(fraction[i, a])
        for c in range(count):
            weights[count + c] = t * weights[c]
            weights[c] *= 1.0 - t
        count *= 2


@njit(cache=True, nogil=True, fastmath=FAST)
def aggregate(base, fraction, strides, energies, volumes, rests, sums):
    """Sum up over nodes what the operator on the lattice is made of.

    The gradient of an interpolated function along an axis is the mean of the differences across 2^(d-1) faces; a face
    gets its share of the energy of the node, as if it did not vary across.

    Parameters
    ----------
    base, fraction, strides
        Where the nodes lie.
    energies : ndarray of float64, shape (n, d)
        Energies of nodes along the axes, in units of the lattice's spacing.
    volumes, rests : ndarray of float64, shape (n,)
        Volumes in units of lattice cells, and sums of rows.
    sums : ndarray of float64, shape (points, 2 + 2 d)
        Added to: the weights of nodes, their rests; energies of the faces to the next points, and their volumes.
    """
    n, d = energies.shape
    weights, shifts = np.empty(8), _shifts(strides)
    for i in range(n):
        _weigh(fraction, i, d, weights)
        rest, volume = rests[i], volumes[i]
        for c in range(1 << d):
            p = base[i] + shifts[c]
            sums[p, 0] += weights[c]
            sums[p, 1] += weights[c] * rest
            for a in range(d):
                if not c >> a & 1:
                    both = weights[c] + weights[c | 1 << a]
                    sums[p, 2 + a] += both * energies[i, a]
                    sums[p, 2 + d + a] += both * volume


@njit(cache=True, nogil=True, fastmath=FAST)
def smooth(field, open_, stride, out):
    """out <- field averaged by (1 2 1) / 4 with its neighbours at a distance, those that are open; zero elsewhere."""
    quarter, half = np.float32(0.25), np.float32(0.5)
    out[:] = 0
    for p in range(np.uint64(stride), np.uint64(field.size - stride)):
        if open_[p]:
            before, after = p - np.uint64(stride), p + np.uint64(stride)
            total = half * field[p]
            share = half
            if open_[before]:
                total += quarter * field[before]
                share += quarter
            if open_[after]:
                total += quarter * field[after]
                share += quarter
            out[p] = total / share


@njit(cache=True, nogil=True)
def sort(base, size, starts, nodes):
    """Sort nodes by lattice cells: those of cell p are nodes[starts[p] : starts[p + 1]]; `starts` is (size + 1,)."""
    starts[:] = 0
    for i in range(base.size):
        starts[base[i] + 1] += 1
    for p in range(size):
        starts[p + 1] += starts[p]
    free = starts[:-1].copy()
    for i in range(base.size):
        nodes[free[base[i]]] = i
        free[base[i]] += 1


@njit(cache=True, nogil=True, inline="always")
def _weight(fraction, i, c):
    """Return the interpolation weight of a node's point c, whose bits say on which side of the cell it is."""
    weight = 1.0
    for a in range(fraction.shape[1]):
        weight *= fraction[i, a] if c >> a & 1 else 1.0 - fraction[i, a]
    return weight


@njit(cache=True, nogil=True)
def torn(indptr, indices, base, fraction, strides, starts, nodes, sums, share):
    """Count nodes that no path of couplings joins to the node nearest to a lattice point which both depend on.

    So it is where a wall without thickness runs between them. One point in `share`, a power of two, is looked at. Nodes
    that hardly depend on a point are not counted: those at the rim of the mesh are joined by others farther off.

    Returns
    -------
    looked_at, torn : int
        Numbers of pairs of such a point and a node.
    """
    shifts = _shifts(strides)
    mark = np.full(base.size, -1, dtype=np.int64)  # the last point whose nodes a node was among
    queue = np.empty(base.size, dtype=np.int64)
    looked = lost = 0
    for p in range(sums.shape[0]):
        if sums[p, 0] <= TOUCHED or (p * 2654435761 >> 7) & (share - 1):
            continue
        nearest, most = -1, -1.0
        for c in range(shifts.size):
            cell = p - shifts[c]
            for k in range(starts[cell], starts[cell + 1]):
                i = nodes[k]
                mark[i] = p
                weight = _weight(fraction, i, c)
                looked += weight >= COUNTS
                if weight > most:
                    nearest, most = i, weight
        queue[0], first, last = nearest, 0, 1
        mark[nearest] = -2
        while first < last:
            i = queue[first]
            first += 1
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                if mark[j] == p:
                    mark[j] = -2
                    queue[last] = j
                    last += 1
        for c in range(shifts.size):
            cell = p - shifts[c]
            for k in range(starts[cell], starts[cell + 1]):
                lost += mark[nodes[k]] == p and _weight(fraction, nodes[k], c) >= COUNTS
    return looked, lost


# One application of the auxiliary grid on A = L + D + U as it is stored: `middle` are the places of diagonal entries,
# `inverse` is D^-1. Triangles of their own would be read more quickly, but take as long to make as is saved.


@njit(cache=True, nogil=True, fastmath=FAST)
def forward(indptr, indices, data, middle, inverse, r, x):
    """(L + D) x = r: one forward Gauss-Seidel sweep from x = 0."""
    for i in range(np.uint64(middle.size)):
        value = r[i]
        for e in range(np.uint64(indptr[i]), np.uint64(middle[i])):
            value -= data[e] * x[np.uint64(indices[e])]
        x[i] = value * inverse[i]


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _subtract_upper(indptr, indices, data, middle, i, x, value):
    """Return value - (U x)_i."""
    for e in range(np.uint64(middle[i]) + np.uint64(1), np.uint64(indptr[i + np.uint64(1)])):
        value -= data[e] * x[np.uint64(indices[e])]
    return value


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_flat(indptr, indices, data, middle, x, base, fraction, strides, scale, box):
    """box <- scale P' r in two dimensions, with r = -U x, the residual that a forward sweep from zero leaves."""
    box[:] = 0
    one, s0, s1 = np.float32(1), np.uint64(strides[0]), np.uint64(strides[1])
    for i in range(np.uint64(base.size)):
        value = np.float32(scale * _subtract_upper(indptr, indices, data, middle, i, x, 0.0))
        p, t0, t1 = np.uint64(base[i]), fraction[i, 0], fraction[i, 1]
        low, high = value * (one - t0), value * t0
        box[p] += low * (one - t1)
        box[p + s1] += low * t1
        box[p + s0] += high * (one - t1)
        box[p + s0 + s1] += high * t1


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict(indptr, indices, data, middle, x, base, fraction, strides, scale, box):
    """box <- scale P' r in three dimensions, with r = -U x."""
    box[:] = 0
    one, s0, s1, s2 = np.float32(1), np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    for i in range(np.uint64(base.size)):
        value = np.float32(scale * _subtract_upper(indptr, indices, data, middle, i, x, 0.0))
        p, t0, t1, t2 = np.uint64(base[i]), fraction[i, 0], fraction[i, 1], fraction[i, 2]
        for side in range(2):
            plane = value * (t0 if side else one - t0)
            q = p + s0 if side else p
            low, high = plane * (one - t1), plane * t1
            box[q] += low * (one - t2)
            box[q + s2] += low * t2
            box[q + s1] += high * (one - t2)
            box[q + s1 + s2] += high * t2


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_flat(box, base, fraction, strides, x):
    """x <- x + P box in two dimensions."""
    one, s0, s1 = np.float32(1), np.uint64(strides[0]), np.uint64(strides[1])
    for i in range(np.uint64(base.size)):
        p, t0, t1 = np.uint64(base[i]), fraction[i, 0], fraction[i, 1]
        low = (one - t1) * box[p] + t1 * box[p + s1]
        high = (one - t1) * box[p + s0] + t1 * box[p + s0 + s1]
        x[i] += (one - t0) * low + t0 * high


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong(box, base, fraction, strides, x):
    """x <- x + P box in three dimensions."""
    one, s0, s1, s2 = np.float32(1), np.uint64(strides[0]), np.uint64(strides[1]), np.uint64(strides[2])
    for i in range(np.uint64(base.size)):
        p, t0, t1, t2 = np.uint64(base[i]), fraction[i, 0], fraction[i, 1], fraction[i, 2]
        total = np.float32(0)
        for side in range(2):
            q = p + s0 if side else p
            low = (one - t2) * box[q] + t2 * box[q + s2]
            high = (one - t2) * box[q + s1] + t2 * box[q + s1 + s2]
            total += (t0 if side else one - t0) * ((one - t1) * low + t1 * high)
        x[i] += total


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(indptr, indices, data, middle, inverse, r, x, z):
    """(D + U) z = r - L x: one backward Gauss-Seidel sweep, which x is written over by, too. Returns r.z."""
    total = 0.0
    n = middle.size
    for step in range(n):
        i = np.uint64(n - 1 - step)
        value = r[i]
        for e in range(np.uint64(indptr[i]), np.uint64(middle[i])):
            value -= data[e] * x[np.uint64(indices[e])]
        value = _subtract_upper(indptr, indices, data, middle, i, x, value) * inverse[i]
        x[i] = value
        z[i] = value
        total += value * r[i]
    return total
