"""Connected components of the cells of a padded box: union-find over runs along the last axis, not over cells."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def find_runs(box):
    """Return the flat indices at which runs of nonzero cells begin, and those at which they end, ascending."""
    count = 0
    for p in range(1, box.size):
        count += (box[p] != 0) & (box[p - 1] == 0)
    starts, ends = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    begun = ended = 0
    for p in range(1, box.size):
        if (box[p] != 0) != (box[p - 1] != 0):
            if box[p] != 0:
                starts[begun] = p
                begun += 1
            else:
                ends[ended] = p
                ended += 1
    return starts, ends


@njit(cache=True, nogil=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def unite(parent, i, j):
    """Make one component of those of i and j; the root of a component is its first member."""
    a, b = _root(parent, i), _root(parent, j)
    parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def number(parent, label):
    """Set the number of each one's component, in the order of their first members; return how many there are."""
    count = 0
    for i in range(parent.size):
        if parent[i] == i:
            label[i] = count
            count += 1
        else:
            label[i] = label[parent[i]]
    return count


@njit(cache=True, nogil=True)
def label_runs(starts, ends, strides, label):
    """Assign numbers to the components that runs form, in the order of their first cells.

    Parameters
    ----------
    starts, ends : ndarray of int64, shape (runs,)
        What `find_runs` returns. The box has a ring of zeros, so a run and its neighbours stay in their rows.
    strides : tuple of int
        Flat distances of neighbours across runs.
    label : ndarray of int32, shape (runs,), out
        Number of the component of each run.

    Returns
    -------
    int
        Number of components.
    """
    parent = np.arange(starts.size)
    for s in strides:
        first = 0
        for run in range(starts.size if s else 0):
            # Runs ascend, and so do the first ones below them.
            while ends[first] + s <= starts[run]:
                first += 1
            other = first
            while starts[other] + s < ends[run]:
                unite(parent, other, run)
                other += 1
    return number(parent, label)
