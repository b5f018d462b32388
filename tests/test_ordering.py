"""The fill-reducing ordering: a permutation, the entries that it counts, and how few they are beside SuperLU's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from deepcd.solvers.kernels import ordering
from deepcd.solvers.kernels.ordering import minimum_degree

from .systems import dominant, line, ring, shuffled, square


def counts(A: sp.csr_array, order: np.ndarray) -> np.ndarray:
    """Return the numbers of entries in the columns of L, by eliminating the pattern of P A P' as a dense one."""
    filled = A.toarray()[np.ix_(order, order)] != 0
    for k in range(len(order)):
        below = k + 1 + np.flatnonzero(filled[k + 1 :, k])
        filled[np.ix_(below, below)] = True
    return np.tril(filled).sum(axis=0)


def ordered(A: sp.csr_array, most: float = math.inf) -> tuple[np.ndarray, float, float, bool]:
    order = np.full(A.shape[0], -1, np.int32)
    return order, *minimum_degree(A.indptr, A.indices, most, order)


def tree(n: int) -> sp.csr_array:
    rng, child = np.random.default_rng(1), np.arange(1, n)
    edges = sp.coo_array((-np.ones(n - 1), ((child * rng.random(n - 1)).astype(np.int32), child)), shape=(n, n))
    return sp.csr_array(edges + edges.T + n * sp.eye_array(n))


def arrow(n: int, heads: int) -> sp.csr_array:
    """A chain with rows that are dense, first."""
    A = line(n).tolil()
    A[:heads, :] = A[:, :heads] = -1.0
    A[range(n), range(n)] = float(n)
    return sp.csr_array(A)


def cube(n: int) -> sp.csr_array:
    return sp.csr_array(sp.kron(square(n), sp.eye_array(n)) + sp.kron(sp.eye_array(n * n), line(n)))


GRAPHS = {
    "one": line(1),
    "no couplings": sp.csr_array(sp.eye_array(5)),
    "chain": line(50),
    "ring": shuffled(ring(60)),
    "tree": tree(300),
    "square": square(17),
    "square, shuffled": shuffled(square(25)),
    "cube": cube(8),
    "cube, shuffled": shuffled(cube(7)),
    "three unknowns per node": sp.csr_array(sp.kron(square(9), np.ones((3, 3)))),
    "dense": sp.csr_array(np.ones((30, 30))),
    "arrow": arrow(400, 3),
    "network": dominant(400, entries=3),
    "parts": sp.csr_array(sp.block_diag([square(6), line(9), sp.eye_array(4), shuffled(square(8))])),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_an_order_is_a_permutation_and_its_entries_are_counted(name: str) -> None:
    A = GRAPHS[name]
    order, entries, flops, complete = ordered(A)
    assert complete
    assert sorted(order) == list(range(A.shape[0]))
    expected = counts(A, order)
    # Degrees are bounds, so what is counted may be a little more than what there is.
    assert expected.sum() <= entries <= 1.03 * expected.sum()
    assert (expected.astype(float) ** 2).sum() <= flops <= 1.06 * (expected.astype(float) ** 2).sum()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_fill_is_that_of_minimum_degree(name: str) -> None:
    A = GRAPHS[name]
    order, *_ = ordered(A)
    definite = sp.csc_array((np.where(A.indices == A.tocoo().row, 1e3, -1.0), A.indices, A.indptr), shape=A.shape)
    options = {"SymmetricMode": True}
    theirs = splu(definite, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).L.nnz
    assert counts(A, order).sum() <= 1.3 * theirs


def test_trees_have_no_fill() -> None:
    assert ordered(tree(300))[1] == 599


def test_rows_that_are_dense_come_last() -> None:
    order, *_ = ordered(arrow(400, 3))
    assert sorted(order[-3:]) == [0, 1, 2]


def test_more_entries_than_allowed_are_not_looked_for() -> None:
    _, entries, flops, complete = ordered(cube(8))
    assert complete
    order, some, work, finished = ordered(cube(8), entries / 2)
    assert not finished
    assert entries / 2 < some < entries
    assert work < flops
    assert (order == -1).all()
    assert ordered(cube(8), entries)[3]


def test_marks_are_renewed_before_they_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    A, order = cube(4), np.empty(64, np.int32)
    monkeypatch.setattr(ordering, "_LARGEST", 20)
    getattr(minimum_degree, "py_func", minimum_degree)(A.indptr, A.indices, math.inf, order)
    np.testing.assert_array_equal(order, ordered(A)[0])


@pytest.mark.compiled
def test_lists_are_moved_together_where_memory_is_used_up() -> None:
    """Larger graphs run out of free space many times."""
    A = shuffled(cube(14))
    order, entries, _, complete = ordered(A)
    assert complete
    assert sorted(order) == list(range(A.shape[0]))
    theirs = splu(sp.csc_array(A), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    assert entries <= 1.3 * theirs.L.nnz
