"""Parts of graphs against SciPy's slices and its searches."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse import csgraph

from deepcd.solvers.kernels.subgraphs import ball, peel, restrict

from .systems import line, ring, shuffled, square
from .test_ordering import tree


def hung(A: sp.csr_array, B: sp.csr_array) -> sp.csr_array:
    """Two graphs, with an edge from the first vertex of the one to the last of the other; then shuffled."""
    bridge = sp.coo_array(([1.0], ([0], [B.shape[0] - 1])), shape=(A.shape[0], B.shape[0]))
    return shuffled(sp.csr_array(sp.block_array([[A, bridge], [bridge.T, B]])))


@pytest.mark.parametrize(
    ("A", "count", "roots"),
    [
        (line(1), 1, 1),
        (line(20), 20, 1),
        (tree(100), 100, 1),
        (sp.csr_array(sp.block_diag([tree(9), line(4), sp.eye_array(2)])), 15, 4),
        (ring(10), 0, 0),
        (hung(ring(7), tree(12)), 12, 0),
        (hung(square(5), square(4)), 0, 0),
    ],
)
def test_branches_are_peeled_from_their_ends(A: sp.csr_array, count: int, roots: int) -> None:
    order = np.full(A.shape[0], -1, np.int32)
    assert peel(A.indptr, A.indices, order) == (count, roots)
    assert sorted(order) == list(range(A.shape[0]))
    assert (np.diff(order[count:]) > 0).all()
    coupled = (A.toarray() != 0) & ~np.eye(A.shape[0], dtype=bool)
    later = [int(np.count_nonzero(coupled[order[k], order[k + 1 :]])) for k in range(A.shape[0])]
    assert max(later[:count], default=0) <= 1
    assert later[:count].count(0) == roots
    assert all(coupled[np.ix_(order[count:], order[count:])].sum(axis=0) >= 2)


def test_a_ball_holds_the_nearest() -> None:
    A = shuffled(square(9))
    distance = csgraph.shortest_path(abs(A), unweighted=True, indices=7)
    found = ball(A.indptr, A.indices, 7, 30)
    assert len(set(found)) == 30
    assert (np.diff(distance[found]) >= 0).all()
    assert distance[found].max() <= np.sort(distance)[30]
    parts = sp.csr_array(sp.block_diag([line(3), line(4)]))
    assert sorted(ball(parts.indptr, parts.indices, 5, 7)) == [3, 4, 5, 6]


def test_a_pattern_is_restricted_like_a_slice() -> None:
    A = shuffled(square(6))
    kept = np.random.default_rng(3).permutation(36)[:20].astype(np.int32)
    indptr, indices = restrict(A.indptr, A.indices, kept)
    found = sp.csr_array((np.ones(indices.size), indices, indptr), shape=(20, 20)).toarray()
    np.testing.assert_array_equal(found, A[kept][:, kept].toarray() != 0)
