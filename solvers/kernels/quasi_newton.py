"""A compiled pass over the inverse Hessian H of a quasi-Newton method: an update of rank two, then a product.

    H <- keep H + c0 u u' + c1 (u s' + s u') + c2 s s',   then H g

H is symmetric, and only its lower triangle is stored, row after row: entry (i, j) at i (i + 1) / 2 + j. A pass reads
and writes each entry once, so an update stays pending until a product is needed.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deepcd.pde.kernels.boxes import FAST

F64 = NDArray[np.float64]


@njit(cache=True, nogil=True, fastmath=FAST)
def update_and_multiply(triangle, factors, u, s, g, out, start, stop):
    """Update rows start .. stop - 1; out (n,) <- what their entries, and the same ones above the diagonal, add to H g.

    factors (4,) are keep, c0, c1, c2.
    """
    keep, c0, c1, c2 = factors[0], factors[1], factors[2], factors[3]
    out[:] = 0.0
    for i in range(start, stop):
        row = triangle[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
        along_u, along_s = c0 * u[i] + c1 * s[i], c1 * u[i] + c2 * s[i]
        gi, left = g[i], 0.0
        for j in range(np.uint64(i)):
            entry = keep * row[j] + along_u * u[j] + along_s * s[j]
            row[j] = entry
            left += entry * g[j]
            out[j] += entry * gi
        row[i] = keep * row[i] + along_u * u[i] + along_s * s[i]
        out[i] += left + row[i] * gi


def definition(H: F64, factors: F64, u: F64, s: F64, g: F64) -> tuple[F64, F64]:
    """Return the updated H, a full matrix (n, n), and H g: the same in plain NumPy."""
    keep, c0, c1, c2 = factors
    H = keep * H + c0 * np.outer(u, u) + c1 * (np.outer(u, s) + np.outer(s, u)) + c2 * np.outer(s, s)
    return H, H @ g
