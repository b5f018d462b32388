"""Parts of the multigrid cycle's passes over planes: cells with coefficients of their own, and the transfers.

Geometry and threads as in `kernels/outer.py`. Smoother and transfer coefficients of the finest level are constant in
the interior. Cells where any differs are *listed*.

* `Scaling`: starts[e] : starts[e + 1] are the listed cells of row e = i n1 + j, `cells` their numbers in the padded
  plane, `ratio` the factor on the constant scaling phi.
* `Smoother`: `constants` are (a, c0, c1, c2); `delta`, (7, cells), is what is added to them, for the cell itself and
  the neighbours in the order -0, +0, -1, +1, -2, +2, and zero where there is no such axis; runs[e] : runs[e + 1] are
  the runs of adjacent cells in row e, which a loop can take several at a time, and ends[q] : ends[q + 1] the cells of
  run q.

A vector that a pass keeps three planes of is a *ring*: plane k lies at k % 3. `row` and `along` of a thread's scratch
are one row, or one for each coarse row, as long as a padded fine one and two more entries.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.outer import ONE

TWO = np.uint64(2)


@njit(cache=True, nogil=True, inline="always")
def around(ring, k):
    """Return planes k - 1, k and k + 1 of a ring."""
    return ring[(k - 1) % 3], ring[k % 3], ring[(k + 1) % 3]


@njit(cache=True, nogil=True, inline="always")
def shared_planes(n, start, stop):
    """Return the first fine plane of the share of coarse planes start .. stop - 1, and the one behind its last."""
    return (2 * start, min(2 * stop, n[0])) if n[0] > 1 else (0, 1)


@njit(cache=True, nogil=True, fastmath=FAST)
def add_listed(box, S, v, i, begin, end, out):
    """Add to rows begin .. end - 1 of plane i what S differs by in listed cells, times v, given by three planes."""
    (n, s), (below, here, above) = box, v
    s1, (_, delta, runs, ends, cells) = np.uint64(s[1]), S
    d0, d1, d2, d3, d4, d5, d6 = delta[0], delta[1], delta[2], delta[3], delta[4], delta[5], delta[6]
    for q in range(runs[i * n[1] + begin], runs[i * n[1] + end]):
        start, stop = np.uint64(ends[q]), np.uint64(ends[q + 1])
        shift = np.uint64(cells[start]) - start
        for e in range(start, stop):
            h = e + shift
            value = (d0[e] * here[h] + d1[e] * below[h]) + (d2[e] * above[h] + d3[e] * here[h - s1])
            out[h] += value + ((d4[e] * here[h + s1] + d5[e] * here[h - ONE]) + d6[e] * here[h + ONE])


@njit(cache=True, nogil=True, inline="always")
def scale_listed(n, scaling, i, begin, end, v):
    """Multiply rows begin .. end - 1 of plane i, given by v, by the ratios of their listed cells."""
    _, starts, cells, ratio = scaling
    for e in range(starts[i * n[1] + begin], starts[i * n[1] + end]):
        v[np.uint64(cells[e])] *= ratio[e]


@njit(cache=True, nogil=True, inline="always")
def parents(i):
    """Return the coarse row of fine row i and the next one on its side, which may be padding."""
    near = i >> 1
    return near, near + 2 * (i & 1) - 1


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_plane(box, transfer, fine, row, coarse, i, start, stop, top, bottom):
    """Add the restriction of plane i, given by `fine`, to rows top .. bottom - 1 of coarse planes start .. stop - 1.

    `fine` is zero in its padding, and as many entries as a row behind its end may be read.
    """
    (n, s), (m, ms, near, far) = box, transfer
    near2, far2 = near[2], far[2]
    i_near, i_far = parents(i)
    w_near = near[0] if start <= i_near < stop else np.float32(0)
    w_far = far[0] if start <= i_far < stop else np.float32(0)
    if w_near == 0 and w_far == 0:
        return
    # A plane beyond the share, whose weight is zero, is replaced by the other one.
    i_near, i_far = i_near if w_near != 0 else i_far, i_far if w_far != 0 else i_near
    first, other = np.uint64((i_near + 1) * ms[0]), np.uint64((i_far + 1) * ms[0])
    length = np.uint64(n[2] + 4)
    for j in range(top, bottom):
        if s[1] > 0:
            p = np.uint64((2 * j + 1) * s[1])
            below, above, above2 = p - np.uint64(s[1]), p + np.uint64(s[1]), p + np.uint64(2 * s[1])
            near1, far1 = near[1], far[1]
            for k in range(length):
                row[k] = near1 * (fine[p + k] + fine[above + k]) + far1 * (fine[below + k] + fine[above2 + k])
        else:
            row[:length] = fine[:length]
        out = np.uint64((j + 1) * ms[1] + 1)
        for k in range(np.uint64(m[2])):
            at = ONE + TWO * k
            value = near2 * (row[at] + row[at + ONE]) + far2 * (row[at - ONE] + row[at + TWO])
            coarse[first + out + k] += w_near * value
            coarse[other + out + k] += w_far * value


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_plane(transfer, coarse, i, begin, end, row, along):
    """Interpolate a coarse vector to plane i along the first axis, then along the last one.

    `row` is scratch; row j + 1 of `along` becomes coarse row j, as long as a fine one. Only where the fine rows
    begin .. end - 1 need it. What is left is the middle axis: see `row_weights`.
    """
    m, ms, near, far = transfer
    near0, far0, near2, far2 = near[0], far[0], near[2], far[2]
    i_near, i_far = parents(i)
    own, other = coarse[(i_near + 1) * ms[0] :], coarse[(i_far + 1) * ms[0] :]
    for j in range(max(begin // 2 - 1, -1), min((end - 1) // 2 + 2, m[1] + 1)):
        p, out = np.uint64((j + 1) * ms[1]), along[j + 1]
        for k in range(np.uint64(m[2] + 2)):
            row[k] = near0 * own[p + k] + far0 * other[p + k]
        for k in range(np.uint64(m[2])):
            home, at = k + ONE, TWO * k + ONE
            out[at] = near2 * row[home] + far2 * row[home - ONE]
            out[at + ONE] = near2 * row[home] + far2 * row[home + ONE]


@njit(cache=True, nogil=True, inline="always")
def row_weights(transfer, j):
    """Return the two coarse rows, counted from the padding, that fine row j lies between, and their weights."""
    j_near, j_far = parents(j)
    return j_near + 1, j_far + 1, transfer.near[1], transfer.far[1]
