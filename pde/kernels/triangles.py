"""Distances from surfaces of triangles: of single points, and of the points of a lattice that are near the surface.

The nearest point of a triangle is found by the regions of its plane that belong to its vertices, edges and inside
(Ericson, Real-Time Collision Detection, 2005, section 5.1.5).
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _square(p, a, b, c):
    """Return the squared distance of the point p from the triangle a, b, c, all of them tuples."""
    ab, ac, ap = _minus(b, a), _minus(c, a), _minus(p, a)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    if d1 <= 0 and d2 <= 0:
        return _dot(ap, ap)
    bp = _minus(p, b)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    if d3 >= 0 and d4 <= d3:
        return _dot(bp, bp)
    cp = _minus(p, c)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    if d6 >= 0 and d5 <= d6:
        return _dot(cp, cp)
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        v, w = (d1 / (d1 - d3) if d1 > d3 else 0.0), 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        v, w = 0.0, (d2 / (d2 - d6) if d2 > d6 else 0.0)
    elif va <= 0 and d4 >= d3 and d5 >= d6:
        w = (d4 - d3) / (d4 - d3 + d5 - d6) if d4 - d3 + d5 - d6 > 0 else 0.0
        v = 1.0 - w
    else:
        v, w = vb / (va + vb + vc), vc / (va + vb + vc)
    rest = (ap[0] - v * ab[0] - w * ac[0], ap[1] - v * ab[1] - w * ac[1], ap[2] - v * ab[2] - w * ac[2])
    return _dot(rest, rest)


@njit(cache=True, nogil=True, inline="always")
def _minus(a, b):
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@njit(cache=True, nogil=True, inline="always")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, nogil=True, inline="always")
def _vertex(vertices, i):
    return (vertices[i, 0], vertices[i, 1], vertices[i, 2])


@njit(cache=True, nogil=True)
def distance(vertices, triangles, points, out):
    """Set out to the distances of points of shape (n, 3) from the surface."""
    for i in range(len(points)):
        nearest = np.inf
        for t in triangles:
            square = _square(
                _vertex(points, i), _vertex(vertices, t[0]), _vertex(vertices, t[1]), _vertex(vertices, t[2])
            )
            nearest = min(nearest, square)
        out[i] = np.sqrt(nearest)


@njit(cache=True, nogil=True)
def distance_on_lattice(vertices, triangles, x, y, z, reach, out):
    """Set out, of shape (x, y, z), to the distances of the points of a lattice from the surface, at most `reach`."""
    out[:] = reach**2
    for t in triangles:
        a, b, c = _vertex(vertices, t[0]), _vertex(vertices, t[1]), _vertex(vertices, t[2])
        i0, i1 = _near(x, min(a[0], b[0], c[0]) - reach, max(a[0], b[0], c[0]) + reach)
        j0, j1 = _near(y, min(a[1], b[1], c[1]) - reach, max(a[1], b[1], c[1]) + reach)
        k0, k1 = _near(z, min(a[2], b[2], c[2]) - reach, max(a[2], b[2], c[2]) + reach)
        for i in range(i0, i1):
            for j in range(j0, j1):
                for k in range(k0, k1):
                    out[i, j, k] = min(out[i, j, k], _square((x[i], y[j], z[k]), a, b, c))
    for e in range(out.size):
        out.flat[e] = np.sqrt(out.flat[e])


@njit(cache=True, nogil=True)
def _near(line, low, high):
    """Return the range of an ascending line that lies from low to high."""
    return np.searchsorted(line, low), np.searchsorted(line, high, side="right")
