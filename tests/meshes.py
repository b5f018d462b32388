"""Small matrices of meshes with their points."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.auto_systems import simplex_elements

F64 = NDArray[np.float64]


def jittered(side: int, d: int = 2, seed: int = 0) -> F64:
    """Return the nodes of a unit box, moved a little from those of a grid."""
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    inner = np.abs(points - 0.5).max(axis=1) < 0.5 - 1e-9
    points[inner] += np.random.default_rng(seed).uniform(-0.25, 0.25, (inner.sum(), d)) / side
    return points


def held(A: sp.csr_array, points: F64, fixed: NDArray[np.bool_]) -> tuple[sp.csr_array, F64]:
    """Return a matrix and its points without the nodes that are fixed."""
    free = np.flatnonzero(~fixed & (A.diagonal() > 0))
    A = sp.csr_array(A[free][:, free])
    A.data[np.abs(A.data) < 1e-12 * np.abs(A.data).max()] = 0
    A.eliminate_zeros()
    A.sort_indices()
    return A, points[free]


def mesh(side: int, d: int = 2, moved: F64 | None = None) -> tuple[sp.csr_array, F64]:
    """Return linear elements on jittered nodes, held on one side; the nodes may go elsewhere once cells are made."""
    points = jittered(side, d)
    K, _ = simplex_elements(points, moved)
    return held(K, points if moved is None else moved, points[:, 0] == 0)


def free_mesh(side: int, d: int = 2) -> tuple[sp.csr_array, F64]:
    """Return linear elements that are held nowhere: a singular matrix."""
    points = jittered(side, d)
    return held(simplex_elements(points)[0], points, np.zeros(len(points), dtype=bool))


def slit(side: int) -> tuple[sp.csr_array, F64]:
    """Return a square that is cut in two from one side to its middle, with nodes on both sides of the cut."""
    points = jittered(side)
    lower, upper = points[points[:, 1] <= 0.5], points[points[:, 1] >= 0.5]
    lower[:, 1] *= 0.999  # so that the two parts have nodes of their own along the cut
    K = sp.block_diag([simplex_elements(part)[0] for part in (lower, upper)], format="csr")
    both = np.concatenate([lower, upper])
    bridge = sp.csr_array(K.shape)
    ends = [np.flatnonzero(np.abs(part[:, 1] - 0.5) < 0.01) for part in (lower, upper)]
    right = [end[part[end, 0] > 0.5] for end, part in zip(ends, (lower, upper), strict=True)]
    count = min(map(len, right))
    i, j = np.sort(right[0])[:count], len(lower) + np.sort(right[1])[:count]
    bridge = sp.csr_array((np.ones(count), (i, j)), shape=K.shape)
    bridge = sp.csr_array(bridge + bridge.T)
    A = sp.csr_array(K + sp.diags_array(bridge.sum(axis=1)) - bridge)
    return held(A, both, both[:, 0] == 1)
