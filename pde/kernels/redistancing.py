"""Compiled redistancing by fast sweeping: Gauss-Seidel in alternating orders on |grad d| = 1.

Arrays have three axes (`boxes.py`); phi and distances are in units of cells, and distances positive. `inside` marks the
cells that count; the others are treated as if they lay beyond the ends of the axes. `fixed` marks the cells that keep
their values.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit

KEPT, MENDED = 0.05, 0.2  # slopes that differ from 1 by less are taken for 1, by more for what they are
CONVERGED = 1e-10  # change in cells at which the sweeps end; most rounds after the first change nothing


@njit(cache=True, nogil=True, inline="always")
def _steepness(own, low, high, has_low, has_high):
    """Return the squares of the steepest slope to a value of the other sign, 0 without one, and of the mean slope."""
    low, high = low if has_low else own, high if has_high else own
    across = 0.0
    for other in (low, high):
        if (own < 0.0) != (other < 0.0):
            across = max(across, (own - other) * (own - other))
    mean = (high - low) * (0.5 if has_low and has_high else 1.0)
    return across, mean * mean


@njit(cache=True, nogil=True)
def start(phi, inside, d, fixed, far):
    """Set d to the distance to the surface in cells that have a neighbour on its other side, and to far elsewhere.

    The distance is |phi| over the steeper of two slopes: the slope towards the zeros between neighbours is right where
    the surface has an edge, that of the central differences where it is smooth and passes a neighbour closely. What is
    nearly a distance already is kept, so that a surface at rest stays where it is however often this is done; in
    between, slopes change smoothly, or neighbours that are mended differently would move the surface.
    """
    n0, n1, n2 = phi.shape
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                d[i, j, k], fixed[i, j, k] = far, not inside[i, j, k]
                if not inside[i, j, k]:
                    continue
                own = phi[i, j, k]
                a, b = max(i - 1, 0), min(i + 1, n0 - 1)
                x = _steepness(own, phi[a, j, k], phi[b, j, k], a < i and inside[a, j, k], b > i and inside[b, j, k])
                a, b = max(j - 1, 0), min(j + 1, n1 - 1)
                y = _steepness(own, phi[i, a, k], phi[i, b, k], a < j and inside[i, a, k], b > j and inside[i, b, k])
                a, b = max(k - 1, 0), min(k + 1, n2 - 1)
                z = _steepness(own, phi[i, j, a], phi[i, j, b], a < k and inside[i, j, a], b > k and inside[i, j, b])
                across = x[0] + y[0] + z[0]
                if across > 0.0:
                    slope = np.sqrt(max(across, x[1] + y[1] + z[1]))
                    part = min(max((abs(slope - 1.0) - KEPT) / (MENDED - KEPT), 0.0), 1.0)
                    d[i, j, k] = abs(own) / (1.0 + part * (slope - 1.0))
                    fixed[i, j, k] = True


@njit(cache=True, nogil=True, inline="always")
def _solved(a, b, c):
    """Return the largest x with the sum of max(x - a, 0)^2 and the same of b and c equal to 1."""
    a, b = min(a, b), max(a, b)
    b, c = min(b, c), max(b, c)
    a, b = min(a, b), max(a, b)
    x = a + 1.0
    if x > b:
        x = 0.5 * (a + b + np.sqrt(2.0 - (a - b) * (a - b)))
        if x > c:
            s = a + b + c
            x = (s + np.sqrt(s * s - 3.0 * (a * a + b * b + c * c - 1.0))) / 3.0
    return x


@njit(cache=True, nogil=True)
def sweep(d, fixed, far, up0, up1, up2):
    """Lower d once to the value that its neighbours allow, with ascending or descending indices along each axis.

    Return the largest change.
    """
    n0, n1, n2 = d.shape
    change = 0.0
    for p in range(n0):
        i = p if up0 else n0 - 1 - p
        for q in range(n1):
            j = q if up1 else n1 - 1 - q
            for r in range(n2):
                k = r if up2 else n2 - 1 - r
                if fixed[i, j, k]:
                    continue
                a = min(d[i - 1, j, k] if i > 0 else far, d[i + 1, j, k] if i < n0 - 1 else far)
                b = min(d[i, j - 1, k] if j > 0 else far, d[i, j + 1, k] if j < n1 - 1 else far)
                c = min(d[i, j, k - 1] if k > 0 else far, d[i, j, k + 1] if k < n2 - 1 else far)
                before = d[i, j, k]
                if min(a, b, c) < before:
                    d[i, j, k] = min(before, _solved(a, b, c))
                    change = max(change, before - d[i, j, k])
    return change


@njit(cache=True, nogil=True)
def distance(phi, inside, d, fixed, far):
    """Set d to the distance to the surface phi = 0, at most far, by rounds of sweeps in all octants of directions."""
    n0, n1, n2 = phi.shape
    start(phi, inside, d, fixed, far)
    change = far
    while change > CONVERGED:
        change = 0.0
        for order in range(8):
            up0, up1, up2 = (order & 1) == 0, (order & 2) == 0, (order & 4) == 0
            if (up0 or n0 > 1) and (up1 or n1 > 1) and (up2 or n2 > 1):
                change = max(change, sweep(d, fixed, far, up0, up1, up2))
