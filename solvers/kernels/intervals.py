"""Compiled passes that bound the axis of every coupling in C order, for patterns too loose to be pieced together.

Between consecutive rows lies a gap. Its class is 2 if the next row lies in another plane (x differs), 1 if it lies in
another line of the same plane, 0 otherwise. A coupling of rows j < i spans the gaps j .. i - 1. Along z it is one gap
of class 0; along y one of its gaps is of class 1 and all others of class 0; along x one is of class 2 and the others
are lower. From this, from the order of neighbours in a row and from unit squares, in which opposite couplings lie
along one axis, the sets of possible axes shrink until nothing changes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.solvers.kernels.pieces import entry

ALONG_Z, ALONG_Y, ALONG_X = 1, 2, 4
# Largest number of rounds; for large patterns only as many as look at so many entries altogether, but at least three.
ROUNDS, ENTRIES = 50, 50_000_000


@njit(cache=True, nogil=True)
def possible_axes(indptr, indices, mask):
    """Find the axes along which each coupling may lie.

    Parameters
    ----------
    indptr, indices : ndarray
        Sorted symmetric pattern, m rows, diagonal included.
    mask : ndarray of uint8, shape of indices, out
        Bits 1 (z), 2 (y) and 4 (x) of the entries below the diagonal; 0 there is a contradiction. Others are not used.
    """
    n = indptr.size - 1
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            mask[k] = ALONG_Z | ALONG_Y | ALONG_X if indices[k] == i - 1 else ALONG_Y | ALONG_X
    top, bottom = np.full(n, 2, dtype=np.uint8), np.zeros(n, dtype=np.uint8)
    cover = np.empty((2, n + 1), dtype=np.int32)
    many = np.empty((2, n + 1), dtype=np.int32)  # number of gaps before r that may be of class >= 1, 2
    sure = np.empty((2, n + 1), dtype=np.int32)  # number of gaps before r that are of class >= 1, 2
    soon = np.empty((2, n + 1), dtype=np.int32)  # end of the first coupling from r on not along z, along x
    for _ in range(min(ROUNDS, max(3, ENTRIES // indices.size))):
        changed = _order(indptr, indices, mask) | _squares(indptr, indices, mask)
        # Classes of gaps from couplings.
        _count(top, bottom, many, sure)
        cover[:] = 0
        for i in range(n):
            for k in range(indptr[i], indptr[i + 1]):
                j, axes = indices[k], mask[k]
                if j >= i:
                    break
                if axes == ALONG_Z:
                    cover[0, j] += 1
                    cover[0, i] -= 1
                if axes & ALONG_X == 0:
                    cover[1, j] += 1
                    cover[1, i] -= 1
                if axes not in (ALONG_X, ALONG_Y):
                    continue
                level = 1 if axes == ALONG_X else 0
                gap = -1
                if sure[level, i] - sure[level, j] == 1:
                    gap = np.searchsorted(sure[level], sure[level, j] + 1) - 1
                elif many[level, i] - many[level, j] == 1:
                    gap = np.searchsorted(many[level], many[level, j] + 1) - 1
                    if bottom[gap] < level + 1:
                        bottom[gap] = level + 1
                        changed = True
                if gap >= 0:  # the others are lower
                    cover[level, j] += 1
                    cover[level, gap] -= 1
                    cover[level, gap + 1] += 1
                    cover[level, i] -= 1
        low = high = 0
        for r in range(n):
            low += cover[0, r]
            high += cover[1, r]
            bound = 0 if low > 0 else (1 if high > 0 else 2)
            if bound < top[r]:
                top[r] = bound
                changed = True
        # Couplings from classes of gaps and from what they span.
        _count(top, bottom, many, sure)
        soon[:] = n
        for i in range(n):
            for k in range(indptr[i], indptr[i + 1]):
                j, axes = indices[k], mask[k]
                if j >= i:
                    break
                if axes & ALONG_Z == 0:
                    soon[0, j] = min(soon[0, j], i)
                if axes == ALONG_X:
                    soon[1, j] = min(soon[1, j], i)
        for r in range(n - 1, -1, -1):
            soon[0, r] = min(soon[0, r], soon[0, r + 1])
            soon[1, r] = min(soon[1, r], soon[1, r + 1])
        for i in range(n):
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j >= i:
                    break
                axes = mask[k]
                if many[1, i] == many[1, j]:
                    axes &= ALONG_Z | ALONG_Y
                if many[0, i] == many[0, j]:
                    axes &= ALONG_Z
                if sure[0, i] > sure[0, j]:
                    axes &= ALONG_Y | ALONG_X
                if sure[0, i] > sure[0, j] + 1 or sure[1, i] > sure[1, j] or soon[1, j] <= i:
                    axes &= ALONG_X
                if soon[0, j] <= i and soon[0, soon[0, j]] <= i:  # two couplings one after the other, none along z
                    axes &= ALONG_X
                if axes != mask[k]:
                    mask[k] = axes
                    changed = True
        if not changed:
            break


@njit(cache=True, nogil=True)
def _count(top, bottom, many, sure):
    many[:, 0] = 0
    sure[:, 0] = 0
    for r in range(top.size):
        for level in range(2):
            many[level, r + 1] = many[level, r] + (1 if top[r] > level else 0)
            sure[level, r + 1] = sure[level, r] + (1 if bottom[r] > level else 0)


@njit(cache=True, nogil=True)
def _before(mask, slower, faster):
    """Let one coupling lie along a slower axis (of a higher bit) than another."""
    a, b = mask[slower], mask[faster]
    if a == 0 or b == 0:
        return False
    lowest = ALONG_Z if b & ALONG_Z else (ALONG_Y if b & ALONG_Y else ALONG_X)
    highest = ALONG_X if a & ALONG_X else (ALONG_Y if a & ALONG_Y else ALONG_Z)
    new_a, new_b = a & (7 - (2 * lowest - 1)), b & (highest - 1)
    mask[slower], mask[faster] = new_a, new_b
    return new_a != a or new_b != b


@njit(cache=True, nogil=True)
def _order(indptr, indices, mask):
    """Use that earlier neighbours come in the order x, y, z and later ones in the order z, y, x."""
    changed = False
    for i in range(indptr.size - 1):
        before = -1
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j == i:
                before = -1
                continue
            this = k if j < i else entry(indptr, indices, j, i)
            if before >= 0 and this >= 0:
                changed |= _before(mask, before, this) if j < i else _before(mask, this, before)
            before = this
    return changed


@njit(cache=True, nogil=True)
def _squares(indptr, indices, mask):
    """Use that opposite couplings of a unit square lie along one axis."""
    changed = False
    for i in range(indptr.size - 1):
        for k in range(indptr[i], indptr[i + 1]):
            if indices[k] >= i:
                break
            for other in range(k + 1, indptr[i + 1]):
                if indices[other] >= i:
                    break
                for below in range(indptr[indices[k]], indptr[indices[k] + 1]):
                    if indices[below] >= indices[k]:
                        break
                    opposite = entry(indptr, indices, indices[other], indices[below])
                    if opposite >= 0:
                        changed |= _equal(mask, k, opposite) | _equal(mask, other, below)
    return changed


@njit(cache=True, nogil=True)
def _equal(mask, a, b):
    both = mask[a] & mask[b]
    changed = both != mask[a] or both != mask[b]
    mask[a] = mask[b] = both
    return changed
