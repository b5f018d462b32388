"""Compiled L D L' against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.kernels import ldl
from deepcd.solvers.kernels.rows import lanes

from .systems import dominant, line, square
from .test_ordering import counts

MATRICES = {"chain": line(12), "square": square(7, 0.3), "network": dominant(60), "one": line(1)}


class Factored:
    """What the kernels make of P (S A S + shift I) P', P and S random."""

    def __init__(self, A: sp.csr_array, shift: float = 0.0) -> None:
        n, rng = A.shape[0], np.random.default_rng(0)
        self.order, self.scaling = rng.permutation(n).astype(np.int32), rng.uniform(0.5, 2, n)
        self.pointers, self.columns = np.empty(n + 1, np.int32), np.empty(A.nnz, np.int32)
        self.values = np.empty(A.nnz)
        entries = self.pointers, self.columns, self.values
        ldl.permute(A.indptr, A.indices, A.data, self.scaling, shift, self.order, *entries)
        self.parent, self.starts = np.empty(n, np.int32), np.empty(n + 1, np.int64)
        count = ldl.analyse(self.pointers, self.columns, self.parent, self.starts)
        self.rows, self.L, self.D = np.empty(count, np.int32), np.empty(count), np.full(n, np.nan)
        self.least = ldl.factor(*entries, self.parent, self.starts, self.rows, self.L, self.D)

    @property
    def lower(self) -> np.ndarray:
        """The unit lower triangle."""
        n = len(self.D)
        return sp.csc_array((self.L, self.rows, self.starts), shape=(n, n)).toarray() + np.eye(n)


def dense(A: sp.csr_array, factors: Factored, shift: float = 0.0) -> np.ndarray:
    scaled = A.toarray() * np.outer(factors.scaling, factors.scaling) + shift * np.eye(A.shape[0])
    return scaled[np.ix_(factors.order, factors.order)]


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_product_of_the_factors(name: str, shift: float) -> None:
    A = MATRICES[name]
    factors = Factored(A, shift)
    np.testing.assert_allclose(
        factors.lower * factors.D @ factors.lower.T, dense(A, factors, shift), atol=1e-14 * abs(A).max()
    )
    assert factors.least == factors.D.min() > 0


@pytest.mark.parametrize("name", MATRICES)
def test_the_lower_triangle_is_permuted(name: str) -> None:
    A = MATRICES[name]
    factors = Factored(A)
    count = factors.pointers[-1]
    found = sp.csr_array((factors.values[:count], factors.columns[:count], factors.pointers), shape=A.shape).toarray()
    np.testing.assert_allclose(found, np.tril(dense(A, factors)), rtol=1e-15)


@pytest.mark.parametrize("name", MATRICES)
def test_columns_are_counted_and_have_the_parents_of_their_first_entries(name: str) -> None:
    A = MATRICES[name]
    factors = Factored(A)
    np.testing.assert_array_equal(np.diff(factors.starts) + 1, counts(A, factors.order))
    for k, parent in enumerate(factors.parent):
        below = factors.rows[factors.starts[k] : factors.starts[k + 1]]
        assert parent == (below.min() if below.size else -1)


@pytest.mark.parametrize("name", MATRICES)
def test_solutions_in_the_order_of_the_matrix(name: str) -> None:
    A = MATRICES[name]
    factors, n = Factored(A), A.shape[0]
    B = np.random.default_rng(1).standard_normal((n, 8))
    expected = np.linalg.solve(A.toarray() * np.outer(factors.scaling, factors.scaling), B)
    kept = factors.starts, factors.rows, factors.L, factors.D, factors.order
    found = ldl.solve_columns(lanes(8), *kept, B.reshape(-1)).reshape(n, 8)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ldl.solve(*kept, B[:, 1].copy()), expected[:, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("eigenvalue", [0.0, -1e-6])
def test_a_pivot_that_is_not_positive_ends_it(eigenvalue: float) -> None:
    A = sp.csr_array(np.diag([1.0, 2.0, eigenvalue, 3.0]))
    factors = Factored(A)
    assert factors.least == factors.D[list(factors.order).index(2)] <= 0
    assert np.isnan(factors.D[list(factors.order).index(2) + 1 :]).all()
