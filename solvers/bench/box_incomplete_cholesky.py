"""Conjugate gradients with incomplete Cholesky, MIC(0) or IC(0), on the box, as fluid solvers have done for decades.

The factors are those of Bridson (Fluid Simulation for Computer Graphics, 2nd ed., section 5.2), with tau 0.97 and the
guard sigma 0.25. With M = (D - L) D^-1 (D - L') both sweeps need only one number per cell: w = 1 / D, which is zero
where there is no unknown. An iteration takes three passes, since the forward sweep also updates x and r. Each cell of a
sweep depends on the one before, which the processor has to wait for; therefore four rows are swept at the same time,
each of them one cell behind the row before it.

In float32, r, p and z are rounded, but x stays float64, and r is b - A x up to the rounding of its updates. When r
seems small enough it is recomputed in float64; if it is not small enough, the iteration goes on from there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.preconditioners.incomplete_cholesky import SIGMA, TAU

Array = NDArray[Any]
GROUP = 4  # rows that are swept at the same time
MARGIN = GROUP  # number of empty cells at both ends of a row, and of empty rows on both sides of a plane


@njit(cache=True, nogil=True)
def factor(n: Any, s: Any, d: Array, w: Array, tau: float) -> None:
    """Set w to the reciprocals of the factors' diagonal; d (uint8) is A's diagonal, zero where there is no unknown."""
    e = (s[0], s[1], 1)
    for i in range(n[0]):
        for j in range(n[1]):
            p = (i + 1) * s[0] + (j + MARGIN) * s[1] + MARGIN
            for h in range(p, p + n[2]):
                if d[h] == 0:
                    continue
                value = float(d[h])
                for axis in range(3):
                    k = h - e[axis]
                    if d[k] != 0:
                        others = -1.0
                        for other in range(3):
                            others += 1.0 if d[k + e[other]] != 0 else 0.0
                        value -= float(w[k]) * (1.0 + tau * others)
                w[h] = 1.0 / (value if value >= SIGMA * d[h] else float(d[h]))


@njit(cache=True, nogil=True, fastmath=FAST)
def direction(n: Any, s: Any, d: Array, z: Array, beta: Any, p: Array) -> float:
    """Set p to z + beta p and return p.A p, where each coupling is counted at the later one of its two cells."""
    s0, s1, one, total = np.uint64(s[0]), np.uint64(s[1]), np.uint64(1), 0.0
    for i in range(n[0]):
        base = np.uint64((i + 1) * s[0])
        before, here, own, ds = p[base - s0 : base], p[base : base + s0], z[base : base + s0], d[base : base + s0]
        for h in range(s0):
            here[h] = own[h] + beta * here[h]
        for h in range(np.uint64(MARGIN) * s1, s0 - np.uint64(MARGIN) * s1):
            around = before[h] + here[h - s1] + here[h - one]
            total += here[h] * (p.dtype.type(ds[h]) * here[h] - (around + around))
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def residual(n: Any, s: Any, d: Array, b: Array, x: Array, r: Array) -> float:
    """Set r to b - A x and return r.r."""
    s0, s1, one, total = np.uint64(s[0]), np.uint64(s[1]), np.uint64(1), 0.0
    for h in range(s0, np.uint64((n[0] + 1) * s[0])):
        around = (x[h - s0] + x[h + s0]) + (x[h - s1] + x[h + s1]) + (x[h - one] + x[h + one])
        value = b[h] - (d[h] * x[h] - around)
        value = value if d[h] != 0 else 0.0
        r[h] = value
        total += value * value
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def step(n: Any, s: Any, d: Array, w: Array, alpha: float, p: Array, x: Array, r: Array, y: Array) -> float:
    """Add alpha p to x, subtract alpha A p from r, set y to (D - L)^-1 r, and return r.r."""
    s0, s1, one, group = np.uint64(s[0]), np.uint64(s[1]), np.uint64(1), np.uint64(GROUP)
    total = 0.0
    for i in range(n[0]):
        for j in range(0, n[1], GROUP):
            first = np.uint64((i + 1) * s[0] + (j + MARGIN) * s[1])
            for h in range(first, first + group * s1):
                here = np.float64(p[h])
                around = (np.float64(p[h - s0]) + np.float64(p[h + s0])) + (
                    np.float64(p[h - s1]) + np.float64(p[h + s1])
                )
                around += np.float64(p[h - one]) + np.float64(p[h + one])
                value = np.float64(r[h]) - alpha * (d[h] * here - around)
                value = value if d[h] != 0 else 0.0
                x[h] += alpha * here
                r[h] = value
                total += value * value
                y[h] = w[h] * (r[h] + y[h - s0])
            a0, a1, a2, a3 = first, first + s1 - one, first + s1 + s1 - one - one, first + group * s1 - s1 - group + one
            y0 = y1 = y2 = y3 = y[0]  # a zero of the right type
            c0 = c1 = c2 = y0
            b0 = first - s1
            for k in range(np.uint64(MARGIN), s1):
                # Later rows come first: they need the values that the row before had in the previous step.
                y3 = (y[a3 + k] + w[a3 + k] * c2) + w[a3 + k] * y3
                y2 = (y[a2 + k] + w[a2 + k] * c1) + w[a2 + k] * y2
                y1 = (y[a1 + k] + w[a1 + k] * c0) + w[a1 + k] * y1
                y0 = (y[a0 + k] + w[a0 + k] * y[b0 + k]) + w[a0 + k] * y0
                y[a3 + k], y[a2 + k], y[a1 + k], y[a0 + k] = y3, y2, y1, y0
                c0, c1, c2 = y0, y1, y2
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(n: Any, s: Any, w: Array, r: Array, z: Array) -> float:
    """Set z to (I - D^-1 L')^-1 z in place and return r.z."""
    s0, s1, one, group = np.uint64(s[0]), np.uint64(s[1]), np.uint64(1), np.uint64(GROUP)
    total, groups = 0.0, (n[1] + GROUP - 1) // GROUP
    for back in range(n[0]):
        i = n[0] - 1 - back
        for g in range(groups):
            j = (groups - 1 - g) * GROUP
            first = np.uint64((i + 1) * s[0] + (j + MARGIN) * s[1])
            for h in range(first, first + group * s1):
                z[h] += w[h] * z[h + s0]
            a3 = first + group * s1 - s1
            a2, a1, a0 = a3 - s1 + one, a3 - s1 - s1 + one + one, first + group - one
            b3 = a3 + s1
            z0 = z1 = z2 = z3 = z[0]
            c1 = c2 = c3 = z0
            for step_back in range(np.uint64(MARGIN), s1):
                k = s1 - one - step_back
                z0 = (z[a0 + k] + w[a0 + k] * c1) + w[a0 + k] * z0
                z1 = (z[a1 + k] + w[a1 + k] * c2) + w[a1 + k] * z1
                z2 = (z[a2 + k] + w[a2 + k] * c3) + w[a2 + k] * z2
                z3 = (z[a3 + k] + w[a3 + k] * z[b3 + k]) + w[a3 + k] * z3
                z[a0 + k], z[a1 + k], z[a2 + k], z[a3 + k] = z0, z1, z2, z3
                c1, c2, c3 = z1, z2, z3
            for h in range(first, first + group * s1):
                total += np.float64(r[h]) * np.float64(z[h])
    return total


class BoxIncompleteCholesky:
    """MIC(0)-CG or IC(0)-CG for one box.

    Parameters
    ----------
    box : ndarray of uint8, two or three axes
        Diagonal of A, padded by one cell; zero where there is no unknown.
    dtype : {float64, float32}
        Type of r, p, z and w.
    tau : float, default 0.97
        Share of the fill that is moved to the diagonal; 0 makes it IC(0).

    Attributes
    ----------
    residuals : list of float
        Residual norms of the last solve relative to b, the initial one first.
    """

    def __init__(self, box: NDArray[np.uint8], dtype: Any = np.float64, tau: float = TAU) -> None:
        self._shape, self._inner = box.shape, tuple(slice(1, -1) for _ in box.shape)
        self.n = (1,) * (3 - box.ndim) + box[self._inner].shape
        rows = -(-self.n[1] // GROUP) * GROUP
        length = self.n[2] + 2 * MARGIN  # rows share no margin, so the cells behind the end of a row are zero
        full = (self.n[0] + 2, rows + 2 * MARGIN, length)
        self.s = (full[1] * full[2], full[2])
        self.inside = (
            slice(1, self.n[0] + 1),
            slice(MARGIN, MARGIN + self.n[1]),
            slice(MARGIN, MARGIN + self.n[2]),
        )
        self._full = full
        self.d = np.zeros(full[0] * full[1] * full[2], dtype=np.uint8)
        self.d.reshape(full)[self.inside] = box[self._inner].reshape(self.n)
        self.w, self.p, self.r, self.z = (np.zeros(self.d.size, dtype=dtype) for _ in range(4))
        self.b, self.x = np.zeros((2, self.d.size))
        self.residuals = [1.0]
        factor(self.n, self.s, self.d, self.w, tau)

    def solve(self, b: NDArray[np.float64], tol: float, maxiter: int = 5000) -> tuple[NDArray[np.float64], int]:
        """Return x on the padded box, and the number of iterations."""
        size = float(np.linalg.norm(b)) or 1.0
        self.b.reshape(self._full)[self.inside] = b[self._inner].reshape(self.n)
        self.b /= size
        n, s, d, w, p, x, r, z = self.n, self.s, self.d, self.w, self.p, self.x, self.r, self.z
        x[:], p[:] = 0, 0
        self.residuals = [1.0]
        r[:] = self.b
        number = r.dtype.type
        step(n, s, d, w, 0.0, p, x, r, z)
        rz, before, iterations = backward(n, s, w, r, z), 0.0, 0
        while iterations < maxiter:
            curvature = direction(n, s, d, z, number(rz / before if before else 0.0), p)
            if not curvature > 0:
                break
            norm = math.sqrt(step(n, s, d, w, rz / curvature, p, x, r, z))
            iterations += 1
            self.residuals.append(norm)
            before = rz
            if norm <= tol:
                true = self.residuals[-1] = math.sqrt(residual(n, s, d, self.b, x, r))
                if true <= tol:
                    break
                step(n, s, d, w, 0.0, p, x, r, z)  # the forward sweep, from the true residual
                if true > 2 * norm:  # r is no longer orthogonal to p, so the iteration starts anew
                    before = 0.0
            rz = backward(n, s, w, r, z)
        result = np.zeros(self._shape)
        inside = size * x.reshape(self._full)[self.inside]
        result[self._inner] = inside.reshape(result[self._inner].shape)
        return result, iterations
