"""CUDA kernels of the learned cycle on its coarse levels: the way down, the way up, and all small levels in one block.

Fields and geometry as in `kernels/coarse.py`, tiles and waves of stages as in `finest.py`. Levels that
are small enough take one launch: `visit` is one block of threads that walks over the whole hierarchy below, laid out as
`kernels/layout.py` says. Everything is float32.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numba import cuda, float32

from deepcd.solvers.backends.cuda.kernels.finest import ZERO, cell, inside, parent, transfers
from deepcd.solvers.backends.cuda.kernels.outer import ONE, SIMULATED
from deepcd.solvers.kernels import layout
from deepcd.solvers.kernels.layout import N0, N1, N2, S0, S1

R0, R1, R2 = np.uint64(0), np.uint64(1), np.uint64(2)
ONE_BLOCK = 8192  # largest number of entries of a padded box that one block takes
# Columns of a hierarchy's table and of its numbers, unsigned
SIZE, DIAGONAL, W, A, C, PHI, PSI, R, Z, T, E, Y = (np.uint64(k) for k in range(layout.SIZE, layout.RINGS))
FAR, WEIGHT = np.uint64(layout.FAR), np.uint64(layout.WEIGHT)


@cuda.jit(device=True)
def coupled(w, s, h, x):
    """Return the sum over the neighbours of face weight times x."""
    s0, s1 = np.uint64(s[0]), np.uint64(s[1])
    value = w[R0, h - s0] * x[h - s0] + w[R0, h] * x[h + s0]
    value += w[R1, h - s1] * x[h - s1] + w[R1, h] * x[h + s1]
    return value + (w[R2, h - ONE] * x[h - ONE] + w[R2, h] * x[h + ONE])


@cuda.jit(device=True)
def combined(w, s, h, x, below, o, above, line):
    """Return the same, x given by places in a ring: the cell's own and those in the planes around it."""
    s0, s1 = np.uint64(s[0]), np.uint64(s[1])
    value = w[R0, h - s0] * x[below] + w[R0, h] * x[above]
    value += w[R1, h - s1] * x[o - line] + w[R1, h] * x[o + line]
    return value + (w[R2, h - ONE] * x[o - ONE] + w[R2, h] * x[o + ONE])


def passes(planar, wide, high, threads):
    """Return the way down and the way up, with the shapes of their tiles and blocks.

    Parameters
    ----------
    planar : bool
        The box is 2D.
    wide, high : int
        Columns and rows of a tile with two cells around it; with three, it has two rows more.
    threads : tuple of int
        Threads of a block, along columns and rows.
    """
    up = 0 if planar else 1
    plane, taller, line = wide * high, high + 2 * up, np.uint64(0 if planar else wide)
    ring, longer = 3 * plane, 3 * wide * taller
    _, restrict, coarse_plane = transfers(planar, wide, high, 2)
    interpolate = transfers(planar, wide, high, 2)[0]
    sums_size = 2 * coarse_plane

    @cuda.jit
    def descend(n, s, diagonal, w, a, c, phi, r, z, m, ms, near, far, psi, coarse, share):
        """z <- S r and coarse <- psi P' phi (r - A z), on `share` planes per block, an even number."""
        t = cuda.shared.array(ring, float32)
        v = cuda.shared.array(plane, float32)
        sums = cuda.shared.array(sums_size, float32)
        k0, j0 = cuda.blockIdx.x * (wide - 4), cuda.blockIdx.y * (high - 4 * up)
        low = cuda.blockIdx.z * share
        stop = min(low + share, 2 * m[0])
        # Where planes i, i - 1 and i - 2 of a ring begin.
        p0, p1, p2, i = np.uint64(0), np.uint64(plane), np.uint64(2 * plane), low - 2
        while i < stop + 2:
            jj = np.int64(cuda.threadIdx.y)
            while jj < high:
                kk = np.int64(cuda.threadIdx.x)
                while kk < wide:
                    j, k, value = j0 + jj - 2 * up, k0 + kk - 2, ZERO
                    if inside(n, i, j, k):
                        h = cell(s, i, j, k)
                        value = a[h] * r[h] + coupled(c, s, h, r)
                        own = jj >= 2 * up and jj < high - 2 * up and kk >= 2 and kk < wide - 2
                        if own and i >= low and i < stop:
                            z[h] = value
                    t[p0 + np.uint64(jj * wide + kk)] = value
                    kk += cuda.blockDim.x
                jj += cuda.blockDim.y
            cuda.syncthreads()
            if i - 1 >= low - 1:
                jj = up + np.int64(cuda.threadIdx.y)
                while jj < high - up:
                    kk = 1 + np.int64(cuda.threadIdx.x)
                    while kk < wide - 1:
                        j, k, value = j0 + jj - 2 * up, k0 + kk - 2, ZERO
                        o = np.uint64(jj * wide + kk)
                        if inside(n, i - 1, j, k):
                            h = cell(s, i - 1, j, k)
                            value = r[h] + combined(w, s, h, t, p2 + o, p1 + o, p0 + o, line)
                            value = phi[h] * (value - diagonal[h] * t[p1 + o])
                        v[o] = value
                        kk += cuda.blockDim.x
                    jj += cuda.blockDim.y
            cuda.syncthreads()
            if i - 1 >= low - 1:
                restrict(m, ms, near, far, v, sums, psi, coarse, i - 1, low, j0, k0)
            p0, p1, p2, i = p2, p0, p1, i + 1

    @cuda.jit
    def ascend(n, s, diagonal, w, a, c, phi, r, z, ms, near, far, coarse, out, left, psi, weight, first, again, share):
        """y <- z + phi P e and out <- y + S (r - A y); `coarse` holds psi e.

        Before a second visit (`again`) also left <- r - A out; after it, what is stored in the place of out is
        psi (weight out + first).
        """
        y = cuda.shared.array(longer, float32)
        t = cuda.shared.array(longer, float32)
        u = cuda.shared.array(longer, float32)
        k0, j0 = cuda.blockIdx.x * (wide - 6), cuda.blockIdx.y * (taller - 6 * up)
        low = cuda.blockIdx.z * share
        stop = min(low + share, n[0])
        p0, p1, p2, i = np.uint64(0), np.uint64(wide * taller), np.uint64(2 * wide * taller), low - 3
        while i < stop + 3:
            jj = np.int64(cuda.threadIdx.y)
            while jj < taller:
                kk = np.int64(cuda.threadIdx.x)
                while kk < wide:
                    j, k, value = j0 + jj - 3 * up, k0 + kk - 3, ZERO
                    if inside(n, i, j, k):
                        h = cell(s, i, j, k)
                        value = z[h] + phi[h] * interpolate(ms, near, far, coarse, i, j, k)
                    y[p0 + np.uint64(jj * wide + kk)] = value
                    kk += cuda.blockDim.x
                jj += cuda.blockDim.y
            cuda.syncthreads()
            if i - 1 >= low - 2:
                jj = up + np.int64(cuda.threadIdx.y)
                while jj < taller - up:
                    kk = 1 + np.int64(cuda.threadIdx.x)
                    while kk < wide - 1:
                        j, k, value = j0 + jj - 3 * up, k0 + kk - 3, ZERO
                        o = np.uint64(jj * wide + kk)
                        if inside(n, i - 1, j, k):
                            h = cell(s, i - 1, j, k)
                            value = r[h] + combined(w, s, h, y, p2 + o, p1 + o, p0 + o, line)
                            value -= diagonal[h] * y[p1 + o]
                        t[p1 + o] = value
                        kk += cuda.blockDim.x
                    jj += cuda.blockDim.y
            cuda.syncthreads()
            if i - 2 >= low - 1:  # of plane i - 2, at p2, the one below lies at p0 and the one above at p1
                jj = 2 * up + np.int64(cuda.threadIdx.y)
                while jj < taller - 2 * up:
                    kk = 2 + np.int64(cuda.threadIdx.x)
                    while kk < wide - 2:
                        j, k, value = j0 + jj - 3 * up, k0 + kk - 3, ZERO
                        o = np.uint64(jj * wide + kk)
                        if inside(n, i - 2, j, k):
                            h = cell(s, i - 2, j, k)
                            value = y[p2 + o] + a[h] * t[p2 + o] + combined(c, s, h, t, p0 + o, p2 + o, p1 + o, line)
                            own = jj >= 3 * up and jj < taller - 3 * up and kk >= 3 and kk < wide - 3
                            if own and i - 2 >= low and i - 2 < stop:
                                out[h] = value if again else psi[h] * (weight * value + first[h])
                        u[p2 + o] = value
                        kk += cuda.blockDim.x
                    jj += cuda.blockDim.y
            cuda.syncthreads()
            if again and i - 3 >= low:  # plane i - 3 lies at p0, between those at p1 and p2
                jj = 3 * up + np.int64(cuda.threadIdx.y)
                while jj < taller - 3 * up:
                    kk = 3 + np.int64(cuda.threadIdx.x)
                    while kk < wide - 3:
                        j, k = j0 + jj - 3 * up, k0 + kk - 3
                        o = np.uint64(jj * wide + kk)
                        if inside(n, i - 3, j, k):
                            h = cell(s, i - 3, j, k)
                            value = r[h] + combined(w, s, h, u, p1 + o, p0 + o, p2 + o, line)
                            left[h] = value - diagonal[h] * u[p0 + o]
                        kk += cuda.blockDim.x
                    jj += cuda.blockDim.y
            p0, p1, p2, i = p2, p0, p1, i + 1

    return SimpleNamespace(
        descend=descend,
        ascend=ascend,
        down=(1 if planar else high - 4, wide - 4),
        up=(1 if planar else taller - 6, wide - 6),
        threads=threads,
    )


BOX = passes(False, 32, 20, (2, 2) if SIMULATED else (32, 8))
PLANE = passes(True, 256, 1, (4, 1) if SIMULATED else (256, 1))


# All small levels in one block

VISITORS = (2, 2) if SIMULATED else (32, 16)  # threads of that block, along columns and rows


@cuda.jit(device=True)
def own_part(row):
    """Return the first of a thread's entries of a level's box, padding planes left out, their end and distance."""
    t, threads = cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y, cuda.blockDim.x * cuda.blockDim.y
    return np.uint64(row[S0] + t), np.uint64(row[SIZE] - row[S0]), np.uint64(threads)


@cuda.jit(device=True)
def neighbours(pool, row, field, x, h):
    """Return the sum over the neighbours of a field's face weight times the field x."""
    s0, s1 = np.uint64(row[S0]), np.uint64(row[S1])
    f0, v = np.uint64(row[field]) + h, np.uint64(row[x]) + h
    f1, f2 = f0 + np.uint64(row[SIZE]), f0 + np.uint64(2 * row[SIZE])
    value = pool[f0 - s0] * pool[v - s0] + pool[f0] * pool[v + s0]
    value += pool[f1 - s1] * pool[v - s1] + pool[f1] * pool[v + s1]
    return value + (pool[f2 - ONE] * pool[v - ONE] + pool[f2] * pool[v + ONE])


@cuda.jit(device=True)
def smooth(pool, row, r, base, out):
    """Set out to base + S r, or to S r if `base` is r itself, all of them fields. Ends with a barrier."""
    h, end, stride = own_part(row)
    while h < end:
        value = pool[np.uint64(row[A]) + h] * pool[np.uint64(row[r]) + h] + neighbours(pool, row, C, r, h)
        if base != r:
            value += pool[np.uint64(row[base]) + h]
        pool[np.uint64(row[out]) + h] = value
        h += stride
    cuda.syncthreads()


@cuda.jit(device=True)
def residual(pool, row, r, x, out, scaled):
    """Set out to r - A x, times phi if `scaled`. Ends with a barrier."""
    h, end, stride = own_part(row)
    while h < end:
        value = pool[np.uint64(row[r]) + h] + neighbours(pool, row, W, x, h)
        value -= pool[np.uint64(row[DIAGONAL]) + h] * pool[np.uint64(row[x]) + h]
        if scaled:
            value *= pool[np.uint64(row[PHI]) + h]
        pool[np.uint64(row[out]) + h] = value
        h += stride
    cuda.syncthreads()


@cuda.jit(device=True)
def restrict(pool, row, below, taps, v):
    """Set r of the level below to psi P' v. Ends with a barrier."""
    i, j = np.int64(0), np.int64(cuda.threadIdx.y)
    while i < below[N0]:
        if j >= below[N1]:
            i, j = i + 1, j - below[N1]
            continue
        k = np.int64(cuda.threadIdx.x)
        while k < below[N2]:
            value, fi = ZERO, 2 * i - 1
            while fi < 2 * i + 3:
                fj = 2 * j - 1
                while fj < 2 * j + 3:
                    if fi >= 0 and fi < row[N0] and fj >= 0 and fj < row[N1]:
                        # Beyond the end of a row there is padding, even if it is that of the next one.
                        h = np.uint64(row[v] + (fi + 1) * row[S0] + (fj + 1) * row[S1] + 2 * k + 1)
                        line = taps[R2] * (pool[h] + pool[h + ONE])
                        line += taps[FAR + R2] * (pool[h - ONE] + pool[h + np.uint64(2)])
                        weight = taps[R0] if fi >> 1 == i else taps[FAR]
                        value += weight * (taps[R1] if fj >> 1 == j else taps[FAR + R1]) * line
                    fj += 1
                fi += 1
            h = cell((below[S0], below[S1]), i, j, k)
            pool[np.uint64(below[R]) + h] = pool[np.uint64(below[PSI]) + h] * value
            k += cuda.blockDim.x
        j += cuda.blockDim.y
    cuda.syncthreads()


@cuda.jit(device=True)
def correct(pool, row, below, taps, y):
    """Add phi P e to the field y; the level below holds psi e in z. Ends with a barrier."""
    i, j = np.int64(0), np.int64(cuda.threadIdx.y)
    while i < row[N0]:
        if j >= row[N1]:
            i, j = i + 1, j - row[N1]
            continue
        k = np.int64(cuda.threadIdx.x)
        while k < row[N2]:
            value, a = ZERO, 0
            while a < 2:  # near, far
                ci = parent(i) if a else i >> 1
                b = 0
                while b < 2:
                    cj = parent(j) if b else j >> 1
                    weight = taps[FAR if a else R0] * taps[FAR + R1 if b else R1]
                    # The missing neighbour of the only row of a 2D box: its weight is zero.
                    if weight != 0:
                        start = below[Z] + (ci + 1) * below[S0] + (cj + 1) * below[S1] + 1
                        own = pool[np.uint64(start + (k >> 1))]
                        value += weight * (taps[R2] * own + taps[FAR + R2] * pool[np.uint64(start + parent(k))])
                    b += 1
                a += 1
            h = cell((row[S0], row[S1]), i, j, k)
            pool[np.uint64(row[y]) + h] += pool[np.uint64(row[PHI]) + h] * value
            k += cuda.blockDim.x
        j += cuda.blockDim.y
    cuda.syncthreads()


@cuda.jit(device=True)
def solve(pool, row, cells, inverse):
    """Set z of the last level to psi times its exact solution for r. Ends with a barrier."""
    threads = np.uint64(cuda.blockDim.x * cuda.blockDim.y)
    t, m = np.uint64(cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y), np.uint64(cells.size)
    q = t
    while q < m:
        pool[np.uint64(row[T]) + q] = pool[np.uint64(row[R] + cells[q])]
        q += threads
    cuda.syncthreads()
    q = t
    while q < m:  # the inverse is symmetric: threads beside each other read its columns
        value, p = ZERO, np.uint64(0)
        while p < m:
            value += inverse[p, q] * pool[np.uint64(row[T]) + p]
            p += ONE
        h = np.uint64(cells[q])
        pool[np.uint64(row[Z]) + h] = pool[np.uint64(row[PSI]) + h] * value
        q += threads
    cuda.syncthreads()


@cuda.jit
def visit(table, numbers, pool, cells, inverse, top):
    """Set z of level `top` to psi times what two cycles make of its r, or the exact solution on the last. One block.

    What `kernels.cycle.visit` does by calling itself is a count of the exact solutions here: after the k-th, a level
    with h levels below it has been visited twice if k is a multiple of 2^h.
    """
    last = table.shape[0] - 1
    depth, solved, all_of_them = np.int64(top), np.int64(0), np.int64(1) << (last - top)
    while solved < all_of_them:
        while depth < last:  # first visits, down to the last level
            row, below, taps = table[depth], table[depth + 1], numbers[depth]
            smooth(pool, row, R, R, Y)
            residual(pool, row, R, Y, T, True)
            restrict(pool, row, below, taps, T)
            depth += 1
        solve(pool, table[last], cells, inverse)
        solved += 1
        while depth > top:
            depth -= 1
            row, below, taps = table[depth], table[depth + 1], numbers[depth]
            correct(pool, row, below, taps, Y)
            if solved & ((np.int64(1) << (last - depth)) - 1) != 0:  # between the visits
                residual(pool, row, R, Y, T, False)
                smooth(pool, row, T, Y, E)
                residual(pool, row, R, E, T, False)
                smooth(pool, row, T, T, Y)
                residual(pool, row, T, Y, Z, True)
                restrict(pool, row, below, taps, Z)
                depth += 1
                break
            residual(pool, row, T, Y, R, False)
            smooth(pool, row, R, Y, Z)
            h, end, stride = own_part(row)
            while h < end:
                z = np.uint64(row[Z]) + h
                pool[z] = pool[np.uint64(row[PSI]) + h] * (taps[WEIGHT] * pool[z] + pool[np.uint64(row[E]) + h])
                h += stride
            cuda.syncthreads()
