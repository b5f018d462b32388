"""Rows of scratch of the set-up, and what is added to rows of a box.

Each row is an array of its own: of parts of one array no compiler can tell that they do not overlap, and loops over
them are not turned into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST


@njit(cache=True, nogil=True)
def zeros(count):
    """Return a row of zeros."""
    return np.zeros(count, dtype=np.float32)


@njit(cache=True, nogil=True, fastmath=FAST)
def add(factor, v, at, out):
    """out[at ...] <- out + factor v."""
    at = np.uint64(at)
    for k in range(np.uint64(v.size)):
        out[at + k] += factor * v[k]
