"""CUDA kernels of the outer iteration: the operator from bytes, the CSR product, vector updates, inner products.

Geometry as in `kernels/outer.py`: a flat padded box, `s` = (s0, s1) the strides of planes and rows. Every thread takes
cells one grid apart, padding included, so that neighbouring threads read neighbouring entries. Vectors may be float32
or float64; what the kernels compute in is said there. Indices are unsigned, so that none is tested for being negative.

Inner products are float64 and come out the same every time: each block writes what its threads have to `partials`, in a
fixed tree, and `total` adds these up in one block. `kernels/reference.py` holds the definitions.
"""

from __future__ import annotations

import numpy as np
from numba import config, cuda, float64

SIMULATED = bool(config.ENABLE_CUDASIM)
# In the simulator a thread is a Python thread: few of them, whatever is asked of a device.
THREADS, BLOCKS = (4, 2) if SIMULATED else (256, 1024)  # powers of two; at most so many blocks
LANES, ROWS = (2, 2) if SIMULATED else (32, 8)  # of the CSR product: threads of a row, rows of a block
ONE = np.uint64(1)


@cuda.jit(device=True)
def add_up(value, partials, slot):
    """Set partials[slot] to the sum of the values of a block's threads."""
    shared = cuda.shared.array(256, float64)
    t = cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y
    half = cuda.blockDim.x * cuda.blockDim.y
    shared[t] = value
    cuda.syncthreads()
    while half > 1:
        half >>= 1
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
    if t == 0:
        partials[slot] = shared[0]


@cuda.jit(device=True)
def own_cells(first, last):
    """Return the first of a thread's entries from `first` to `last` - 1, their end, and the distance between them."""
    return np.uint64(first + cuda.grid(1)), np.uint64(last), np.uint64(cuda.gridsize(1))


@cuda.jit
def total(partials, count, out):
    """out[0] <- partials[0] + ... + partials[count - 1]. One block."""
    value = 0.0
    e, end, stride = np.uint64(cuda.threadIdx.x), np.uint64(count), np.uint64(cuda.blockDim.x)
    while e < end:
        value += partials[e]
        e += stride
    add_up(value, out, 0)


@cuda.jit(device=True)
def _product(d, v, h, s0, s1, m):
    """Return entry h of d v minus its neighbours, in float64."""
    around = np.float64(v[h - s0]) + np.float64(v[h + s0])
    around += m * (np.float64(v[h - s1]) + np.float64(v[h + s1]))
    around += np.float64(v[h - ONE]) + np.float64(v[h + ONE])
    return np.float64(d) * np.float64(v[h]) - around


@cuda.jit
def residual(s, diagonal, b, x, r, partials):
    """r <- b - A x in float64, rounded to r's precision; the square of its norm before."""
    s0, s1, m, square = np.uint64(s[0]), np.uint64(s[1]), np.float64(s[1] > 0), 0.0
    h, end, stride = own_cells(s[0], diagonal.size - s[0])
    while h < end:
        d = diagonal[h]
        value = 0.0
        if d != 0:
            value = b[h] - _product(d, x, h, s0, s1, m)
        r[h] = value
        square += value * value
        h += stride
    add_up(square, partials, cuda.blockIdx.x)


@cuda.jit
def image(s, diagonal, p, q):
    """q <- A p in float64."""
    s0, s1, m = np.uint64(s[0]), np.uint64(s[1]), np.float64(s[1] > 0)
    h, end, stride = own_cells(s[0], diagonal.size - s[0])
    while h < end:
        d = diagonal[h]
        value = 0.0
        if d != 0:
            value = _product(d, p, h, s0, s1, m)
        q[h] = value
        h += stride


@cuda.jit(device=True)
def direction(z, beta, p, h):
    """Return entry h of z + beta p; with beta = 0 whatever p holds."""
    if beta == 0:
        return z[h]
    return z[h] + beta * p[h]


@cuda.jit
def conjugate(s, diagonal, z, beta, p, out, partials):
    """out <- z + beta p in float32; out.A out, each term in float32, their sum in float64.

    The neighbours of a cell are computed anew: other threads may not have written theirs yet.
    """
    s0, s1, m, energy = np.uint64(s[0]), np.uint64(s[1]), np.float32(s[1] > 0), 0.0
    h, end, stride = own_cells(s[0], diagonal.size - s[0])
    while h < end:
        d = diagonal[h]
        own = np.float32(0)
        if d != 0:
            own = direction(z, beta, p, h)
            around = direction(z, beta, p, h - s0) + direction(z, beta, p, h + s0)
            around += m * (direction(z, beta, p, h - s1) + direction(z, beta, p, h + s1))
            around += direction(z, beta, p, h - ONE) + direction(z, beta, p, h + ONE)
            energy += np.float64(own * (np.float32(d) * own - around))
        out[h] = own
        h += stride
    add_up(energy, partials, cuda.blockIdx.x)


@cuda.jit
def step(s, diagonal, alpha, p, x, r, first, partials):
    """x <- x + alpha p, r <- r - alpha A p in float64; the square of the norm of r before it is rounded.

    In the `first` step x counts as zero, whatever it holds.
    """
    s0, s1, m, square = np.uint64(s[0]), np.uint64(s[1]), np.float64(s[1] > 0), 0.0
    h, end, stride = own_cells(s[0], diagonal.size - s[0])
    while h < end:
        d = diagonal[h]
        before = 0.0 if first else x[h]
        value = 0.0
        if d != 0:
            value = np.float64(r[h]) - alpha * _product(d, p, h, s0, s1, m)
        x[h] = before + alpha * np.float64(p[h])
        r[h] = value
        square += value * value
        h += stride
    add_up(square, partials, cuda.blockIdx.x)


# Vectors of any kind


@cuda.jit
def dot(u, v, partials):
    """Sum the products of the entries of u and v, in float64."""
    value = 0.0
    e, end, stride = own_cells(0, u.size)
    while e < end:
        value += np.float64(u[e]) * np.float64(v[e])
        e += stride
    add_up(value, partials, cuda.blockIdx.x)


@cuda.jit
def largest(v, sign, partials):
    """partials[0] <- the largest entry of sign v, NaN if there is one. One block."""
    shared = cuda.shared.array(256, float64)
    t, half, most = cuda.threadIdx.x, cuda.blockDim.x, -np.inf
    e, end, stride = np.uint64(t), np.uint64(v.size), np.uint64(half)
    while e < end:
        value = sign * np.float64(v[e])
        if not value <= most and most == most:  # noqa: PLR0124  false for a NaN only
            most = value
        e += stride
    shared[t] = most
    cuda.syncthreads()
    while half > 1:
        half >>= 1
        if t < half and not shared[t + half] <= shared[t] and shared[t] == shared[t]:
            shared[t] = shared[t + half]
        cuda.syncthreads()
    if t == 0:
        partials[0] = shared[0]


@cuda.jit
def combine(alpha, u, beta, v, out):
    """out <- alpha u + beta v in float64, entry by entry; with beta = 0 whatever v holds. out may be u or v."""
    e, end, stride = own_cells(0, out.size)
    while e < end:
        value = alpha * np.float64(u[e])
        if beta != 0:
            value += beta * np.float64(v[e])
        out[e] = value
        e += stride


@cuda.jit
def fill(value, out):
    """Set every entry of out."""
    e, end, stride = own_cells(0, out.size)
    while e < end:
        out[e] = value
        e += stride


@cuda.jit
def take(index, v, factor, out):
    """out <- factor v[index]."""
    e, end, stride = own_cells(0, index.size)
    while e < end:
        out[e] = factor * v[np.uint64(index[e])]
        e += stride


@cuda.jit
def put(index, v, factor, keep, out):
    """out[index] <- keep out[index] + factor v; with keep = 0 whatever out holds. No index twice."""
    e, end, stride = own_cells(0, index.size)
    while e < end:
        h = np.uint64(index[e])
        value = factor * np.float64(v[e])
        if keep != 0:
            value += keep * out[h]
        out[h] = value
        e += stride


@cuda.jit
def sum_at(index, v, partials):
    """Sum v[index], in float64."""
    value = 0.0
    e, end, stride = own_cells(0, index.size)
    while e < end:
        value += np.float64(v[np.uint64(index[e])])
        e += stride
    add_up(value, partials, cuda.blockIdx.x)


@cuda.jit
def subtract_mean(index, v, sums):
    """v[index] <- v[index] - sums[0] / size of index, in float64."""
    mean = sums[0] / np.float64(index.size)
    e, end, stride = own_cells(0, index.size)
    while e < end:
        h = np.uint64(index[e])
        v[h] = np.float64(v[h]) - mean
        e += stride


# General matrices, in float64


@cuda.jit
def matvec(indptr, indices, data, p, q, partials):
    """q <- A p, and p.q; a row of threads takes a row of A, so that its entries are read one beside the other."""
    shared = cuda.shared.array((8, 32), float64)
    lane, line, energy = cuda.threadIdx.x, cuda.threadIdx.y, 0.0
    rows = indptr.size - 1
    begin = cuda.blockIdx.x * cuda.blockDim.y
    while begin < rows:
        row = begin + line
        value = 0.0
        if row < rows:
            start, stop = np.uint64(indptr[np.uint64(row)]), np.uint64(indptr[np.uint64(row + 1)])
            e, end, stride = start + np.uint64(lane), stop, np.uint64(cuda.blockDim.x)
            while e < end:
                value += data[e] * p[np.uint64(indices[e])]
                e += stride
        shared[line, lane] = value
        cuda.syncthreads()
        half = cuda.blockDim.x
        while half > 1:
            half >>= 1
            if lane < half:
                shared[line, lane] += shared[line, lane + half]
            cuda.syncthreads()
        if lane == 0 and row < rows:
            q[np.uint64(row)] = shared[line, 0]
            energy += p[np.uint64(row)] * shared[line, 0]
        cuda.syncthreads()
        begin += cuda.gridDim.x * cuda.blockDim.y
    add_up(energy, partials, cuda.blockIdx.x)


@cuda.jit
def update(alpha, p, q, x, r, first, partials):
    """x <- x + alpha p, r <- r - alpha q; r.r. In the `first` step x counts as zero."""
    square = 0.0
    e, end, stride = own_cells(0, p.size)
    while e < end:
        before = 0.0 if first else x[e]
        value = r[e] - alpha * q[e]
        x[e] = before + alpha * p[e]
        r[e] = value
        square += value * value
        e += stride
    add_up(square, partials, cuda.blockIdx.x)


@cuda.jit
def scale(factor, r, z, partials):
    """z <- factor r, entry by entry; r.z."""
    product = 0.0
    e, end, stride = own_cells(0, r.size)
    while e < end:
        value = factor[e] * r[e]
        z[e] = value
        product += r[e] * value
        e += stride
    add_up(product, partials, cuda.blockIdx.x)
