"""Supernodes and compiled Cholesky factors by dense blocks, against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.kernels import cholesky, ldl, supernodes
from deepcd.solvers.kernels.ordering import minimum_degree
from deepcd.solvers.kernels.rows import lanes

from .systems import dominant, line, shuffled, square
from .test_ordering import counts, cube

MATRICES = {
    "one": line(1),
    "chain": line(20),
    "square": square(12, 0.3),
    "cube": shuffled(cube(5)),
    "network": dominant(80),
    "dense": sp.csr_array(np.eye(30) * 40 - 1.0),
    "parts": sp.csr_array(sp.block_diag([square(5), line(4), cube(3)])),
}


def lower(A: sp.csr_array, order: np.ndarray) -> tuple[np.ndarray, ...]:
    rows = np.empty(len(order) + 1, np.int32), np.empty(A.nnz, np.int32), np.empty(A.nnz)
    ldl.permute(A.indptr, A.indices, A.data, np.ones(len(order)), 0.0, order, *rows)
    return rows


class Factored:
    """What the kernels make of P A P'."""

    def __init__(self, A: sp.csr_array, widest: int = 48) -> None:
        n = A.shape[0]
        first = np.empty(n, np.int32)
        minimum_degree(A.indptr, A.indices, np.inf, first)
        self.order = supernodes.postorder(*lower(A, first)[:2], first)
        entries = lower(A, self.order)
        self.parent, heights = np.empty(n, np.int32), np.empty(n + 1, np.int64)
        ldl.analyse(*entries[:2], self.parent, heights)
        self.heights = np.diff(heights)
        self.begins = supernodes.supernodes(self.parent, self.heights, widest)
        self.owner, self.starts, self.rows = supernodes.structure(*entries[:2], self.begins, self.parent)
        self.places = cholesky.blocks(self.begins, self.starts)
        self.L, self.pivots = np.full(self.places[-1], np.nan), np.full(n, np.nan)
        self.least = cholesky.factor(
            *entries, self.begins, self.owner, self.starts, self.rows, self.places, self.L
        )  # fmt: skip
        cholesky.pivots(self.begins, self.starts, self.places, self.L, self.pivots)

    def block(self, s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the columns of a supernode, its rows, and its entries."""
        columns = np.arange(self.begins[s], self.begins[s + 1])
        rows = self.rows[self.starts[s] : self.starts[s + 1]]
        return columns, rows, self.L[self.places[s] : self.places[s + 1]].reshape(rows.size, columns.size)

    @property
    def triangle(self) -> np.ndarray:
        """L as a dense matrix."""
        dense = np.zeros((len(self.order),) * 2)
        for s in range(len(self.begins) - 1):
            columns, rows, entries = self.block(s)
            dense[np.ix_(rows, columns)] = entries
        return np.tril(dense)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("widest", [3, 48])
def test_the_product_of_the_factors(name: str, widest: int) -> None:
    A = MATRICES[name]
    factors = Factored(A, widest)
    L = factors.triangle
    permuted = A.toarray()[np.ix_(factors.order, factors.order)]
    np.testing.assert_allclose(L @ L.T, permuted, atol=1e-14 * abs(A).max())
    np.testing.assert_allclose(factors.pivots, L.diagonal() ** 2)
    assert factors.least == pytest.approx(factors.pivots.min(), rel=1e-14)
    assert factors.least > 0


@pytest.mark.parametrize("name", MATRICES)
def test_subtrees_are_contiguous_and_the_fill_stays(name: str) -> None:
    A = MATRICES[name]
    first = np.empty(A.shape[0], np.int32)
    entries = minimum_degree(A.indptr, A.indices, np.inf, first)[0]
    factors = Factored(A)
    assert sorted(factors.order) == list(range(A.shape[0]))
    np.testing.assert_array_equal(factors.heights + 1, counts(A, factors.order))
    assert factors.heights.sum() + A.shape[0] == counts(A, first).sum() <= entries
    smallest = np.arange(A.shape[0])  # of a subtree
    size = np.ones(A.shape[0], int)
    for k, parent in enumerate(factors.parent):
        assert smallest[k] == k + 1 - size[k]
        if parent >= 0:
            assert parent > k
            smallest[parent] = min(smallest[parent], smallest[k])
            size[parent] += size[k]


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("widest", [3, 48])
def test_supernodes_cover_the_factor_with_few_zeros(name: str, widest: int) -> None:
    A = MATRICES[name]
    factors = Factored(A, widest)
    assert factors.begins[0] == 0
    assert factors.begins[-1] == A.shape[0]
    assert 1 <= np.diff(factors.begins).min() <= np.diff(factors.begins).max() <= widest
    np.testing.assert_array_equal(factors.owner, np.repeat(range(factors.begins.size - 1), np.diff(factors.begins)))
    for s in range(len(factors.begins) - 1):
        columns, rows, _ = factors.block(s)
        np.testing.assert_array_equal(rows[: columns.size], columns)
        assert (np.diff(rows) > 0).all()
    assert factors.places[-1] <= 2.5 * (factors.heights.sum() + A.shape[0])  # 1.1 to 1.3 in large matrices


def test_a_dense_matrix_is_one_supernode_cut_evenly() -> None:
    np.testing.assert_array_equal(Factored(MATRICES["dense"]).begins, [0, 30])
    np.testing.assert_array_equal(Factored(MATRICES["dense"], 20).begins, [0, 15, 30])


@pytest.mark.parametrize("name", MATRICES)
def test_solutions_in_the_order_of_the_matrix(name: str) -> None:
    A = MATRICES[name]
    factors, n = Factored(A), A.shape[0]
    B = np.random.default_rng(1).standard_normal((n, 8))
    expected = np.linalg.solve(A.toarray(), B)
    kept = factors.begins, factors.starts, factors.rows, factors.places, factors.L, factors.order
    found = cholesky.solve_columns(lanes(8), *kept, B.reshape(-1)).reshape(n, 8)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cholesky.solve(*kept, B[:, 1].copy()), expected[:, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lowest", [0.0, -1e-6])
def test_a_pivot_that_is_not_positive_ends_it(lowest: float) -> None:
    diagonal = sp.csr_array(([1.0, 2.0, lowest, 3.0], range(4), range(5)), shape=(4, 4))
    assert Factored(diagonal).least == lowest
    A = square(12)
    assert Factored(sp.csr_array(A - (0.001 + np.linalg.eigvalsh(A.toarray())[0]) * sp.eye_array(144))).least < 0
