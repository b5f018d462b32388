"""Compiled passes over blocks of few columns, whose rows lie in registers (`rows.py`), and over sparse matrices in CSR.

Each entry of a matrix is read once for all columns. What belongs to a column, such as a step length or a sum of
squares, is an array of shape (k,). Indices are int32 or int64, values float32 or float64, every sum is float64. Row
pointers are unsigned inside the loops: signed ones cost a test for negative ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels.rows import choose, load, store, zero


@njit(cache=True, nogil=True, fastmath=FAST)
def matvec(indptr, indices, data, lanes, p, q, pq):
    """q <- A p, pq <- p.q."""
    total = zero(lanes)
    for i in range(indptr.size - 1):
        row = zero(lanes)
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            row += data[e] * load(p, indices[e], lanes)
        store(q, i, row)
        total += row * load(p, i, lanes)
    store(pq, 0, total)


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(indptr, indices, data, lanes, b, x, r, squares):
    """r <- b - A x, squares <- r.r."""
    total = zero(lanes)
    for i in range(indptr.size - 1):
        row = load(b, i, lanes)
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            row -= data[e] * load(x, indices[e], lanes)
        store(r, i, row)
        total += row * row
    store(squares, 0, total)


@njit(cache=True, nogil=True, fastmath=FAST)
def scale(lanes, factors, r, z, rz):
    """z <- diag(factors) r, rz <- r.z."""
    total = zero(lanes)
    for i in range(factors.size):
        before = load(r, i, lanes)
        row = factors[i] * before
        store(z, i, row)
        total += row * before
    store(rz, 0, total)


@njit(cache=True, nogil=True, fastmath=FAST)
def remove_means(component, weights, lanes, sums, v):
    """Subtract weights[c] times the sum of v over component c from v there; `sums` (components * k,) is scratch."""
    sums[:] = 0.0
    if weights.size == 1:  # a sum that every row adds to is kept in a register
        total = zero(lanes)
        for i in range(component.size):
            total += load(v, i, lanes)
        store(sums, 0, total)
    else:
        for i in range(component.size):
            store(sums, component[i], load(sums, component[i], lanes) + load(v, i, lanes))
    for i in range(component.size):
        store(v, i, load(v, i, lanes) - weights[component[i]] * load(sums, component[i], lanes))


# One iteration's passes over vectors alone, with what is decided about the columns in between. A block of 1, 2 or 4
# columns is worked on as one of 8 with fewer rows: its factors are repeated and its sums added up, so that there is
# always work for all of a register. `wide` (8,) is scratch.

LANES = 8
# What is known of each place in a block: the rows of `state`, shape (STATE, k). Flags are 0 or 1.
(
    LIVE,  # a column is there, and iterates
    ALIGNED,  # r is that of the recursion, and so orthogonal to p
    BEST,  # no iterate before had a smaller residual than x
    RZ,  # r.M r
    PQ,  # p.A p
    NORM,  # of the residual
    LOWEST,  # of these
    INITIAL,
    ANCHOR,  # norm of the last residual that was computed rather than recurred
    BELIEVED,  # at this norm, or below it, the residual is computed anew
    GOAL,  # norm that is to be reached
    STATE,
) = range(12)
# What `advance` has met, and the caller has to look at.
BROKEN, DOUBTFUL = 1, 2
GROWTH = 1e8  # a residual this many times the initial one is divergence, as in `conjugate_directions`


@njit(cache=True, nogil=True, fastmath=FAST)
def repeat(factors, wide):
    """Set `wide` to the factors of k columns, over and over."""
    for j in range(LANES):
        wide[j] = factors[j % factors.size]


@njit(cache=True, nogil=True, fastmath=FAST)
def add_up(wide, sums):
    """Set `sums` (k,) to what the lanes of each column have found."""
    sums[:] = 0.0
    for j in range(LANES):
        sums[j % sums.size] += wide[j]


@njit(cache=True, nogil=True, fastmath=FAST)
def dot(lanes, wide, u, v, uv):
    """uv <- u.v."""
    total = zero(lanes)
    for i in range(u.size // LANES):
        total += load(u, i, lanes) * load(v, i, lanes)
    store(wide, 0, total)
    add_up(wide, uv)


@njit(cache=True, nogil=True, fastmath=FAST)
def step(lanes, wide, alpha, p, q, x, r, squares):
    """x <- x + alpha p, r <- r - alpha q, squares <- r.r."""
    repeat(alpha, wide)
    total, factor = zero(lanes), load(wide, 0, lanes)
    for i in range(p.size // LANES):
        store(x, i, load(x, i, lanes) + factor * load(p, i, lanes))
        row = load(r, i, lanes) - factor * load(q, i, lanes)
        store(r, i, row)
        total += row * row
    store(wide, 0, total)
    add_up(wide, squares)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def turn(lanes, wide, state, rz, linear, first, q, z, p, beta):
    """p <- z + beta p, conjugate to the direction before, q = A p of which is given; `beta` (k,) is scratch."""
    flexible = False
    for j in range(beta.size):
        if state[LIVE, j] > 0 and not (linear and state[ALIGNED, j] > 0):
            flexible = True
    if flexible and not first:
        dot(lanes, wide, q, z, beta)
    for j in range(beta.size):
        if first or not state[LIVE, j] > 0:
            beta[j] = 0.0
        elif linear and state[ALIGNED, j] > 0:
            beta[j] = rz[j] / state[RZ, j]
        else:
            beta[j] = -beta[j] / state[PQ, j]
        state[RZ, j] = rz[j]
    repeat(beta, wide)
    factor = load(wide, 0, lanes)
    for i in range(p.size // LANES):
        store(p, i, load(z, i, lanes) + factor * load(p, i, lanes))


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def advance(lanes, wide, state, rp, pq, p, q, x, r, before, alpha):
    """Go along p, and look at the residuals; `alpha` (k,) is scratch. Returns what has to be looked at.

    Columns that break down are no longer live. Where the residual grows for the first time since the lowest one,
    `before` is set to the x of that.
    """
    met, k = 0, alpha.size
    for j in range(k):
        state[PQ, j], alpha[j] = pq[j], 0.0
        if state[LIVE, j] > 0:
            if state[RZ, j] > 0 and pq[j] > 0 and pq[j] < np.inf and state[RZ, j] < np.inf and np.abs(rp[j]) < np.inf:
                alpha[j] = rp[j] / pq[j]
            else:
                state[LIVE, j] = 0.0
                met |= BROKEN
    step(lanes, wide, alpha, p, q, x, r, state[NORM])
    rising = False
    for j in range(k):
        state[ALIGNED, j] = 1.0
        norm = state[NORM, j] = np.sqrt(state[NORM, j])
        wide[j] = 0.0
        if state[LIVE, j] > 0:
            if not norm <= GROWTH * state[INITIAL, j]:
                state[LIVE, j] = 0.0
                met |= BROKEN
            elif norm <= state[BELIEVED, j]:
                met |= DOUBTFUL
            elif norm <= state[LOWEST, j]:
                state[BEST, j], state[LOWEST, j] = 1.0, norm
            elif state[BEST, j] > 0:
                state[BEST, j] = 0.0
                wide[j], rising = 1.0, True
    if rising:
        for j in range(k, LANES):
            wide[j] = wide[j % k]
        chosen = load(wide, 0, lanes)
        repeat(alpha, wide)
        factor = load(wide, 0, lanes)
        for i in range(p.size // LANES):
            row = load(x, i, lanes) - factor * load(p, i, lanes)
            store(before, i, choose(chosen, row, load(before, i, lanes)))
    return met


# The cycle of algebraic multigrid; see `csr.py`.


@njit(cache=True, nogil=True, fastmath=FAST)
def gather_scaled(lanes, order, scale, r, b):
    """b <- diag(scale) r[order]."""
    for i in range(order.size):
        store(b, i, scale[i] * load(r, order[i], lanes))


@njit(cache=True, nogil=True, fastmath=FAST)
def forward_from_zero(indptr, indices, data, lanes, b, x):
    """(I + L) x = b: one forward Gauss-Seidel sweep from x = 0."""
    for i in range(indptr.size - 1):
        row = load(b, i, lanes)
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            row -= data[e] * load(x, indices[e], lanes)
        store(x, i, row)


@njit(cache=True, nogil=True, fastmath=FAST)
def restrict_residual(indptr, indices, data, p_indptr, p_indices, p_data, lanes, x, coarse):
    """coarse <- P' r with r = -U x, the residual that a forward sweep from zero leaves."""
    coarse[:] = 0.0
    for i in range(indptr.size - 1):
        row = zero(lanes)
        for e in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            row -= data[e] * load(x, indices[e], lanes)
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + 1])):
            store(coarse, p_indices[e], load(coarse, p_indices[e], lanes) + p_data[e] * row)


@njit(cache=True, nogil=True, fastmath=FAST)
def prolong_add(p_indptr, p_indices, p_data, lanes, coarse, x):
    """x <- x + P e."""
    for i in range(p_indptr.size - 1):
        row = load(x, i, lanes)
        for e in range(np.uint64(p_indptr[i]), np.uint64(p_indptr[i + 1])):
            row += p_data[e] * load(coarse, p_indices[e], lanes)
        store(x, i, row)


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(l_indptr, l_indices, l_data, u_indptr, u_indices, u_data, lanes, b, x):
    """One backward Gauss-Seidel sweep: (I + U) x <- b - L x."""
    for i in range(l_indptr.size - 2, -1, -1):
        row = load(b, i, lanes)
        for e in range(np.uint64(l_indptr[i]), np.uint64(l_indptr[i + 1])):
            row -= l_data[e] * load(x, l_indices[e], lanes)
        for e in range(np.uint64(u_indptr[i]), np.uint64(u_indptr[i + 1])):
            row -= u_data[e] * load(x, u_indices[e], lanes)
        store(x, i, row)


@njit(cache=True, nogil=True, fastmath=FAST)
def scatter_scaled(lanes, order, scale, x, r, z, rz):
    """z[order] <- diag(scale) x, rz <- r.z."""
    total = zero(lanes)
    for i in range(order.size):
        row = scale[i] * load(x, i, lanes)
        store(z, order[i], row)
        total += row * load(r, order[i], lanes)
    store(rz, 0, total)
