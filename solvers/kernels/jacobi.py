"""Compiled passes of conjugate gradients with the inverse of the diagonal D of a matrix in CSR, on float64 vectors."""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels import csr


@njit(cache=True, nogil=True, fastmath=FAST)
def start(inverse, r, p):
    """p <- 0; returns r.D^-1 r."""
    total = 0.0
    for i in range(np.uint64(r.size)):
        total += r[i] * r[i] * inverse[i]
        p[i] = 0.0
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def direction(inverse, r, beta, p):
    """p <- D^-1 r + beta p."""
    for i in range(np.uint64(r.size)):
        p[i] = r[i] * inverse[i] + beta * p[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def update(alpha, inverse, p, q, x, r):
    """x <- x + alpha p, r <- r - alpha q; returns r.D^-1 r and r.r."""
    weighted, plain = 0.0, 0.0
    for i in range(np.uint64(r.size)):
        x[i] += alpha * p[i]
        value = r[i] - alpha * q[i]
        r[i] = value
        weighted += value * value * inverse[i]
        plain += value * value
    return weighted, plain


@njit(cache=True, nogil=True, fastmath=FAST)
def iterate(indptr, indices, data, inverse, vectors, square, alphas, betas, norms, best, first, last, target):
    """Take the steps first .. last - 1; see `ssor.iterate`, here with the vectors x, the best x, r, p, q, (5, n)."""
    x, saved, r, p, q = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    for k in range(first, last):
        direction(inverse, r, betas[k], p)
        curvature = csr.matvec(indptr, indices, data, p, q, 0, r.size)
        if not (curvature > 0.0 and square / curvature < np.inf):
            return k, square
        alphas[k] = square / curvature
        after, rr = update(alphas[k], inverse, p, q, x, r)
        norms[k] = np.sqrt(rr)
        csr.remember(norms[k], alphas[k], p, x, best, saved)
        if k + 1 < betas.size:
            betas[k + 1] = after / square
        square = after
        if not norms[k] > target:
            return k + 1, square
    return last, square
