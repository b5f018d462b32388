"""Estimates of eigenvalues, and what keeps the cycle positive definite whatever a network says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from deepcd.solvers.kernels import coarse
from deepcd.solvers.kernels.records import F32
from deepcd.solvers.preconditioners.multigrid.levels import Level

ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
SMOOTHER_STEPS, CYCLE_STEPS = 10, 4  # Lanczos steps, after which the estimates are at most a tenth low
BOUND = 1.7  # upper bound for eigenvalue estimates of S A; below 2 the cycle is positive definite


def largest_eigenvalue(level: Level, apply: Callable[[F32, F32], object], steps: int) -> float:
    """Estimate the largest eigenvalue of B A on a coarse level, B positive definite; `apply(x, y)` sets y to B x.

    A few Lanczos steps on A B in the inner product of B (Golub and Van Loan, Matrix Computations, 4th ed., section
    10.1), from a fixed start. Not on B A in that of A: on sealed chambers a constant, invisible there, would grow
    from step to step until it drowns the rest.
    """
    own = level.fields
    v = np.random.default_rng(0).random(level.box.size, dtype=np.float32)
    v -= HALF
    v *= own.diagonal > 0
    image, w, before = (np.zeros_like(v) for _ in range(3))
    alphas: list[float] = []
    betas: list[float] = []
    while len(alphas) < steps:
        apply(v, image)
        norm = math.sqrt(max(float(np.dot(v, image)), 0.0))
        if norm <= 1e-4 * max(alphas, default=0.0):
            break
        betas.append(norm)
        coarse.sweep(level.box, ZERO, image, ONE, own.diagonal, -ONE, own.w, image, w)
        alphas.append(float(np.dot(w, image)) / norm**2)
        coarse.orthogonalise(np.float32(1 / norm), np.float32(alphas[-1]), np.float32(norm), v, before, w)
    off = betas[1 : len(alphas)]
    return float(np.linalg.eigvalsh(np.diag(alphas) + np.diag(off, 1) + np.diag(off, -1))[-1]) if alphas else 0.0


def limit_smoother(level: Level, bound: float = BOUND) -> float:
    """Scale S of a coarse level so that the largest eigenvalue of S A stays below two; return its estimate before."""
    own = level.fields

    def smooth(x: F32, y: F32) -> None:
        coarse.sweep(level.box, ZERO, x, ONE, own.a, ONE, own.c, x, y)

    largest = largest_eigenvalue(level, smooth, SMOOTHER_STEPS)
    if largest > bound:
        own.a[:] *= np.float32(bound / largest)
        own.c[:] *= np.float32(bound / largest)
    return largest


def second_visit(level: Level, cycle: Callable[[F32, F32], object], bound: float = BOUND) -> float:
    """Return as much weight for the second cycle M of a coarse level as positive definiteness allows.

    Both visits make (1 + w) M - w M A M, which is positive definite while w (t - 1) < 1 for the largest eigenvalue
    t of M A: up to two with the full weight one, and for every t with some weight. `cycle(r, z)` sets z to M r.
    """
    largest = largest_eigenvalue(level, cycle, CYCLE_STEPS)
    largest *= 2 / bound  # at least, since the estimate is low
    return 1 / (largest - 1) if largest > 2 else 1.0
