"""CUDA kernels of the learned cycle on the finest level: the way down and the way up, each one pass over memory.

What `kernels/fused.py` does with a wave of planes in a processor's cache, a block of threads does in its shared memory.
It owns a tile of rows and columns, walks up the planes of its share, and keeps of each stage the last three planes, on
the tile and as many cells around it as later stages need; those are computed anew by every block that needs them. A row
of threads is a row of cells, so that what it reads lies side by side. Everything is float32 but for the sum of r.z.

A cell whose coefficients differ from the interior's is *listed*: `mask` has a bit for each cell, `before` how many are
listed ahead of every 32nd, so a cell finds its place in the list for a quarter of a byte. `delta`, (15, listed), holds
what is to be added to the coefficients of S1, of S2 (both in the order own, -0, +0, -1, +1, -2, +2), and the factor on
the transfer scaling phi. Geometry as in `kernels/outer.py`; a plane of a 2D box is a row, hence tiles of one long row.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numba import cuda, float32

from deepcd.solvers.backends.cuda.kernels.outer import ONE, SIMULATED, add_up

HALO = 4  # cells around a tile that the first stage covers
ZERO = np.float32(0)
S1, S2, RATIO = np.uint64(0), np.uint64(7), np.uint64(14)  # rows of delta where they begin
R1, R2, R3, R4, R5, R6 = (np.uint64(k) for k in range(1, 7))


@cuda.jit(device=True)
def place(mask, before, h):
    """Return where cell h is in the list, -1 if it is not listed."""
    word = h >> np.uint64(5)
    bits, bit = mask[word], np.uint32(1) << np.uint32(h & np.uint64(31))
    if bits & bit == 0:
        return np.int64(-1)
    return np.int64(before[word]) + np.int64(cuda.popc(np.uint32(bits & (bit - np.uint32(1)))))


@cuda.jit(device=True)
def inside(n, i, j, k):
    """Return whether a cell lies in the box."""
    return i >= 0 and i < n[0] and j >= 0 and j < n[1] and k >= 0 and k < n[2]


@cuda.jit(device=True)
def cell(s, i, j, k):
    """Return the index of a cell in its box."""
    return np.uint64((i + 1) * s[0] + (j + 1) * s[1] + k + 1)


@cuda.jit(device=True)
def parent(i):
    """Return the coarse index next to the parent of fine index i, on its side; it may be padding."""
    return (i >> 1) + 2 * (i & 1) - 1


def transfers(planar, wide, high, halo):
    """Return the device functions that interpolate, and restrict from a plane in shared memory.

    Parameters
    ----------
    planar : bool
        The box is 2D.
    wide, high : int
        Columns and rows of a tile with its halo.
    halo : int
        Even.
    """
    around = 0 if planar else halo
    coarse_wide, coarse_high = wide // 2 - halo, 1 if planar else high // 2 - halo
    coarse_plane = coarse_wide * coarse_high

    @cuda.jit(device=True)
    def interpolate(ms, near, far, e, i, j, k):
        """Return an entry of P e."""
        i_near, i_far, k_near, k_far = i >> 1, parent(i), k >> 1, parent(k)
        a = near[2] * e[cell(ms, i_near, j >> 1, k_near)] + far[2] * e[cell(ms, i_near, j >> 1, k_far)]
        b = near[2] * e[cell(ms, i_far, j >> 1, k_near)] + far[2] * e[cell(ms, i_far, j >> 1, k_far)]
        if not planar:
            j_far = parent(j)
            c = near[2] * e[cell(ms, i_near, j_far, k_near)] + far[2] * e[cell(ms, i_near, j_far, k_far)]
            d = near[2] * e[cell(ms, i_far, j_far, k_near)] + far[2] * e[cell(ms, i_far, j_far, k_far)]
            a = near[1] * a + far[1] * c
            b = near[1] * b + far[1] * d
        return near[0] * a + far[0] * b

    @cuda.jit(device=True)
    def row_sum(near, far, w, c):
        """Return the weighted sum of four adjacent entries of w, c being the second."""
        return near[2] * (w[c] + w[c + ONE]) + far[2] * (w[c - ONE] + w[c + np.uint64(2)])

    @cuda.jit(device=True)
    def restrict(m, ms, near, far, w, sums, psi, coarse, k, low, j0, k0):
        """Add fine plane k, given by w, to the sums of two coarse planes; store the one that is complete then."""
        jj = np.int64(cuda.threadIdx.y)
        while jj < coarse_high:
            kk = np.int64(cuda.threadIdx.x)
            while kk < coarse_wide:
                c = np.uint64((2 * jj + around) * wide + 2 * kk + halo)
                value = row_sum(near, far, w, c)
                if not planar:
                    line = np.uint64(wide)
                    value = near[1] * (value + row_sum(near, far, w, c + line))
                    value += far[1] * (row_sum(near, far, w, c - line) + row_sum(near, far, w, c + line + line))
                own = np.uint64((k >> 1 & 1) * coarse_plane + jj * coarse_wide + kk)
                other = np.uint64((1 - (k >> 1 & 1)) * coarse_plane + jj * coarse_wide + kk)
                if k & 1:
                    sums[own] += near[0] * value
                    sums[other] = far[0] * value
                else:
                    sums[own] += near[0] * value
                    i, j, q = (k >> 1) - 1, (j0 >> 1) + jj, (k0 >> 1) + kk
                    if 2 * i >= low and j < m[1] and q < m[2]:
                        h = cell(ms, i, j, q)
                        coarse[h] = psi[h] * (sums[other] + far[0] * value)
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y

    return interpolate, restrict, coarse_plane


def passes(planar, wide, high, threads):
    """Return the way down and the way up, with the shape of their tiles and blocks.

    Parameters
    ----------
    planar : bool
        The box is 2D.
    wide, high : int
        Columns and rows of a tile with its halo.
    threads : tuple of int
        Threads of a block, along columns and rows: a power of two.
    """
    plane, around = wide * high, 0 if planar else HALO
    ring, line = 3 * plane, np.uint64(0 if planar else wide)
    interpolate, restrict, coarse_plane = transfers(planar, wide, high, HALO)
    sums_size = 2 * coarse_plane

    @cuda.jit(device=True)
    def extent(halo):
        """Return the first row of a stage with so many cells around the tile, and the end of its rows."""
        more = min(halo, around)
        return around - more, high - around + more

    @cuda.jit(device=True)
    def smooth(S, delta, first, e, x, b, a, p, q, f, g):
        """Return an entry of S v from an entry of v and its neighbours -0, +0, -1, +1, -2, +2."""
        value = S[0] * x + S[1] * (b + a) + S[3] * (f + g)
        if not planar:
            value += S[2] * (p + q)
        if e >= 0:
            o = np.uint64(e)
            value += (delta[first, o] * x + delta[first + R1, o] * b) + delta[first + R2, o] * a
            value += delta[first + R5, o] * f + delta[first + R6, o] * g
            if not planar:
                value += delta[first + R3, o] * p + delta[first + R4, o] * q
        return value

    @cuda.jit(device=True)
    def smooth_stage(n, s, diagonal, mask, before, S, delta, r, out, to, i, j0, k0):
        """Set plane i of a ring, at `to`, to S1 r, r given by its box."""
        s0, s1 = np.uint64(s[0]), np.uint64(s[1])
        begin, end = extent(4)
        jj = begin + cuda.threadIdx.y
        while jj < end:
            kk = np.int64(cuda.threadIdx.x)
            while kk < wide:
                j, k, value = j0 + jj - around, k0 + kk - HALO, ZERO
                if inside(n, i, j, k):
                    h = cell(s, i, j, k)
                    if diagonal[h] != 0:
                        e = place(mask, before, h)
                        p, q = (ZERO, ZERO) if planar else (r[h - s1], r[h + s1])
                        value = smooth(S, delta, S1, e, r[h], r[h - s0], r[h + s0], p, q, r[h - ONE], r[h + ONE])
                out[to + np.uint64(jj * wide + kk)] = value
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y

    @cuda.jit(device=True)
    def residual_stage(n, s, diagonal, r, v, out, to, i, j0, k0, halo, below, here, above):
        """Set plane i of a ring, at `to`, to r - A v, v given by three planes of another."""
        begin, end = extent(halo)
        jj = begin + cuda.threadIdx.y
        while jj < end:
            kk = HALO - halo + np.int64(cuda.threadIdx.x)
            while kk < wide - HALO + halo:
                j, k, value = j0 + jj - around, k0 + kk - HALO, ZERO
                c = np.uint64(jj * wide + kk)
                if inside(n, i, j, k):
                    h = cell(s, i, j, k)
                    d = diagonal[h]
                    if d != 0:
                        o = here + c
                        value = r[h] + ((v[below + c] + v[above + c]) + (v[o - ONE] + v[o + ONE]))
                        if not planar:
                            value += v[o - line] + v[o + line]
                        value -= np.float32(d) * v[o]
                out[to + c] = value
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y

    @cuda.jit(device=True)
    def scale_stage(n, s, mask, before, delta, phi, w, i, j0, k0):
        """Multiply plane i, given by w, by phi and by the ratios of listed cells: each thread what it has written."""
        begin, end = extent(1)
        jj = begin + cuda.threadIdx.y
        while jj < end:
            kk = HALO - 1 + np.int64(cuda.threadIdx.x)
            while kk < wide - HALO + 1:
                j, k = j0 + jj - around, k0 + kk - HALO
                if inside(n, i, j, k):
                    e = place(mask, before, cell(s, i, j, k))
                    w[np.uint64(jj * wide + kk)] *= phi * delta[RATIO, np.uint64(e)] if e >= 0 else phi
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y

    @cuda.jit(device=True)
    def prolong_stage(n, s, diagonal, mask, before, delta, phi, ms, near, far, e, z, out, to, i, j0, k0):
        """Set plane i of a ring to z + phi P e, z and e given by their boxes."""
        begin, end = extent(4)
        jj = begin + cuda.threadIdx.y
        while jj < end:
            kk = np.int64(cuda.threadIdx.x)
            while kk < wide:
                j, k, value = j0 + jj - around, k0 + kk - HALO, ZERO
                if inside(n, i, j, k):
                    h = cell(s, i, j, k)
                    if diagonal[h] != 0:
                        q = place(mask, before, h)
                        factor = phi * delta[RATIO, np.uint64(q)] if q >= 0 else phi
                        value = z[h] + factor * interpolate(ms, near, far, e, i, j, k)
                out[to + np.uint64(jj * wide + kk)] = value
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y

    @cuda.jit(device=True)
    def correct_stage(
        n, s, diagonal, mask, before, S, delta, first, z, v, out, to, r, box, i, j0, k0, halo, below, here, above, store
    ):
        """Set plane i of a ring, at `to`, to z + S v, z and v given by rings; if `store`, the tile of a box, too.

        Returns the thread's part of r.(z + S v), r given by its box, as far as it is stored.
        """
        begin, end = extent(halo)
        product = 0.0
        jj = begin + cuda.threadIdx.y
        while jj < end:
            kk = HALO - halo + np.int64(cuda.threadIdx.x)
            while kk < wide - HALO + halo:
                j, k, value = j0 + jj - around, k0 + kk - HALO, ZERO
                c = np.uint64(jj * wide + kk)
                o = here + c
                if inside(n, i, j, k):
                    h = cell(s, i, j, k)
                    if diagonal[h] != 0:
                        e = place(mask, before, h)
                        p, q = (ZERO, ZERO) if planar else (v[o - line], v[o + line])
                        b, a = v[below + c], v[above + c]
                        value = z[o] + smooth(S, delta, first, e, v[o], b, a, p, q, v[o - ONE], v[o + ONE])
                    own = jj >= around and jj < high - around and kk >= HALO and kk < wide - HALO
                    if store and own:
                        box[h] = value
                        product += np.float64(r[h]) * np.float64(value)
                out[to + c] = value
                kk += cuda.blockDim.x
            jj += cuda.blockDim.y
        return product

    @cuda.jit
    def descend(n, s, diagonal, mask, before, first, second, delta, phi, r, z, m, ms, near, far, psi, coarse, share):
        """z <- S1 r, z + S2 (r - A z) and coarse <- psi P' phi (r - A z), on `share` planes per block, an even number.

        `first` and `second` are the interior's coefficients of S1 and S2, (own, axis 0, axis 1, axis 2).
        """
        t = cuda.shared.array(ring, float32)
        u = cuda.shared.array(ring, float32)
        v = cuda.shared.array(ring, float32)
        w = cuda.shared.array(plane, float32)
        sums = cuda.shared.array(sums_size, float32)
        k0, j0 = cuda.blockIdx.x * (wide - 2 * HALO), cuda.blockIdx.y * (high - 2 * around)
        low = cuda.blockIdx.z * share
        stop = min(low + share, 2 * m[0])
        # Where planes i, i - 1 and i - 2 of a ring begin; i - 3 is in the place of i.
        a, b, c, i = np.uint64(0), np.uint64(plane), np.uint64(2 * plane), low - 4
        while i < stop + 4:
            smooth_stage(n, s, diagonal, mask, before, first, delta, r, t, a, i, j0, k0)
            cuda.syncthreads()
            if i - 1 >= low - 3:
                residual_stage(n, s, diagonal, r, t, u, b, i - 1, j0, k0, 3, c, b, a)
            cuda.syncthreads()
            if i - 2 >= low - 2:
                store = i - 2 >= low and i - 2 < stop
                correct_stage(
                    n, s, diagonal, mask, before, second, delta, S2, t, u, v, c, r, z, i - 2, j0, k0, 2, a, c, b, store
                )
            cuda.syncthreads()
            if i - 3 >= low - 1:
                residual_stage(n, s, diagonal, r, v, w, np.uint64(0), i - 3, j0, k0, 1, b, a, c)
                scale_stage(n, s, mask, before, delta, phi, w, i - 3, j0, k0)
            cuda.syncthreads()
            if i - 3 >= low - 1:
                restrict(m, ms, near, far, w, sums, psi, coarse, i - 3, low, j0, k0)
            a, b, c, i = c, a, b, i + 1

    @cuda.jit
    def ascend(n, s, diagonal, mask, before, first, second, delta, phi, r, z, out, ms, near, far, e, share, partials):
        """y <- z + phi P e, y + S2 (r - A y), out <- y + S1 (r - A y); r.out. `e` is psi times the coarse vector."""
        y = cuda.shared.array(ring, float32)
        t = cuda.shared.array(ring, float32)
        u = cuda.shared.array(ring, float32)
        v = cuda.shared.array(ring, float32)
        k0, j0 = cuda.blockIdx.x * (wide - 2 * HALO), cuda.blockIdx.y * (high - 2 * around)
        low = cuda.blockIdx.z * share
        stop = min(low + share, n[0])
        a, b, c, i, product = np.uint64(0), np.uint64(plane), np.uint64(2 * plane), low - 4, 0.0
        while i < stop + 4:
            prolong_stage(n, s, diagonal, mask, before, delta, phi, ms, near, far, e, z, y, a, i, j0, k0)
            cuda.syncthreads()
            if i - 1 >= low - 3:
                residual_stage(n, s, diagonal, r, y, t, b, i - 1, j0, k0, 3, c, b, a)
            cuda.syncthreads()
            if i - 2 >= low - 2:
                correct_stage(
                    n, s, diagonal, mask, before, second, delta, S2, y, t, u, c, r, z, i - 2, j0, k0, 2, a, c, b, False
                )
            cuda.syncthreads()
            if i - 3 >= low - 1:
                residual_stage(n, s, diagonal, r, u, v, a, i - 3, j0, k0, 1, b, a, c)
            cuda.syncthreads()
            if i - 4 >= low:  # what it leaves in a ring nobody needs: that plane of t has served
                product += correct_stage(
                    n, s, diagonal, mask, before, first, delta, S1, u, v, t, a, r, out, i - 4, j0, k0, 0, c, b, a, True
                )
            a, b, c, i = c, a, b, i + 1
        block = cuda.blockIdx.x + cuda.gridDim.x * (cuda.blockIdx.y + cuda.gridDim.y * cuda.blockIdx.z)
        add_up(product, partials, block)

    return SimpleNamespace(
        descend=descend,
        ascend=ascend,
        tile=(1 if planar else high - 2 * HALO, wide - 2 * HALO),
        threads=threads,
    )


# In the simulator a thread is a Python thread: few of them, whatever is asked of a device.
BOX = passes(False, 32, 24, (2, 2) if SIMULATED else (32, 8))
PLANE = passes(True, 256, 1, (4, 1) if SIMULATED else (256, 1))
