"""Incomplete Cholesky factors against what defines them: which entries of U'U are those of A, and which row sums."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.data.matrix_files import read_matrix
from deepcd.pde import ball, domain, poisson
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.kernels.incomplete_cholesky import factor, solve
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners.incomplete_cholesky import SIGMA, TAU, IncompleteCholesky
from deepcd.solvers.solution import Status

from . import systems
from .systems import line as chain

FOLDER = Path(__file__).parent / "matrices"


dominant = partial(systems.dominant, entries=5)


def kershaw() -> sp.csr_array:
    """Return the positive definite matrix of Kershaw (J. Comput. Phys. 26, 1978) whose last pivot is negative."""
    return sp.csr_array([[3.0, -2.0, 0.0, 2.0], [-2.0, 3.0, -2.0, 0.0], [0.0, -2.0, 3.0, -2.0], [2.0, 0.0, -2.0, 3.0]])


def indefinite(n: int, size: float, entries: int = 6) -> sp.csr_array:
    """Return a matrix with a positive diagonal and off-diagonal entries that are too large for a definite one."""
    rng = np.random.default_rng(4)
    off = sp.random_array((n, n), density=entries / n, rng=rng, data_sampler=rng.standard_normal)
    off = sp.csr_array(size * (off + off.T))
    A = sp.csr_array(off + sp.diags_array(1 - off.diagonal()))
    assert np.linalg.eigvalsh(A.toarray())[0] < 0
    return A


MATRICES: dict[str, Any] = {
    "open box": lambda: poisson(domain((5, 4, 3), walls="air")).A,
    "closed box": lambda: poisson(domain((9, 7), solid=ball((4, 3), 2))).A,
    "dominant": lambda: dominant(60),
    "Kershaw": kershaw,
    "bcsstk01": lambda: read_matrix(FOLDER / "bcsstk01.mtx.gz"),
    "mesh1e1": lambda: read_matrix(FOLDER / "mesh1e1.mtx.gz"),
    "494_bus": lambda: read_matrix(FOLDER / "494_bus.mtx.gz"),
    "indefinite": lambda: indefinite(30, 0.3),
    "far from definite": lambda: indefinite(60, 3.0),
}


def factors(A: sp.csr_array, modified: float, guard: float = 0.0) -> tuple[np.ndarray, int]:
    """Return U as a dense matrix, and how many pivots were replaced."""
    U = sp.csr_array(sp.triu(A, format="csr"))
    U.sort_indices()
    replaced = factor(U.indptr, U.indices, U.data, modified, guard, np.inf)
    return U.toarray(), int(replaced)


def dense(M: IncompleteCholesky, n: int) -> np.ndarray:
    columns = []
    for unit in np.eye(n):
        z = M.zeros()
        M.apply(unit, z)
        columns.append(z)
    return np.array(columns).T


class TestFactors:
    @pytest.mark.parametrize("name", ["open box", "dominant", "mesh1e1", "494_bus"])
    def test_without_fill_agree_with_the_matrix_on_its_pattern(self, name: str) -> None:
        A = MATRICES[name]()
        U, replaced = factors(A, 0.0)
        product, pattern = U.T @ U, A.toarray() != 0
        assert replaced == 0
        assert not U[~pattern].any()
        assert (np.diag(U) > 0).all()
        size = np.abs(A.data).max()
        np.testing.assert_allclose(product[pattern], A.toarray()[pattern], atol=1e-12 * size)
        assert np.abs(product[~pattern]).max() > 1e-3 * np.abs(A.diagonal()).min()  # the fill that was dropped

    @pytest.mark.parametrize("name", ["open box", "dominant"])
    def test_modified_ones_keep_row_sums(self, name: str) -> None:
        A = MATRICES[name]()
        U, replaced = factors(A, 1.0)
        product, entries = U.T @ U, A.toarray()
        assert replaced == 0
        np.testing.assert_allclose(product.sum(axis=1), entries.sum(axis=1), atol=1e-12)
        couplings = (entries != 0) & ~np.eye(len(entries), dtype=bool)
        np.testing.assert_allclose(product[couplings], entries[couplings], atol=1e-12)
        assert np.abs(np.diag(product) - np.diag(entries)).max() > 1e-2

    @pytest.mark.parametrize("share", [0.3, TAU])
    def test_a_share_of_the_fill_goes_to_the_diagonal(self, share: float) -> None:
        A = poisson(domain((6, 4, 5), walls="air")).A
        U, replaced = factors(A, share)
        product, entries = U.T @ U, A.toarray()
        fill = np.where(entries == 0, product, 0.0)
        assert replaced == 0
        np.testing.assert_allclose(product - fill + share * np.diag(fill.sum(axis=1)), entries, atol=1e-12)

    def test_a_pivot_that_is_too_small_is_replaced_by_the_entry_of_the_matrix(self) -> None:
        A = kershaw()
        plain, replaced = factors(A, 0.0)
        assert replaced == 1
        assert plain[3, 3] == pytest.approx(np.sqrt(3.0))
        pivots = np.diag(plain)[:3] ** 2
        np.testing.assert_allclose(pivots, [3, 3 - 4 / 3, 3 - 4 / (3 - 4 / 3)], rtol=1e-12)
        guarded, more = factors(A, 0.0, guard=0.25)
        assert more == 2  # the third, 0.6, is less than a quarter of three
        assert guarded[2, 2] == pytest.approx(np.sqrt(3.0))

    def test_of_a_chain_are_those_of_cholesky(self) -> None:
        A = chain(40)
        U, _ = factors(A, 0.0)
        np.testing.assert_allclose(U, np.linalg.cholesky(A.toarray()).T, atol=1e-14)

    def test_solving_is_two_triangular_solves(self) -> None:
        A = dominant(60)
        U = sp.csr_array(sp.triu(A, format="csr"))
        U.sort_indices()
        factor(U.indptr, U.indices, U.data, 0.0, 0.0, np.inf)
        full, r, z = U.toarray(), np.random.default_rng(0).standard_normal(60), np.full(60, np.nan)
        U.data[U.indptr[:-1]] = 1 / U.data[U.indptr[:-1]]
        product = solve(U.indptr, U.indices, U.data, r, z)
        np.testing.assert_allclose(z, np.linalg.solve(full.T @ full, r), rtol=1e-10)
        assert product == pytest.approx(r @ z, rel=1e-12)


class TestPreconditioner:
    @pytest.mark.parametrize("modified", [False, True])
    @pytest.mark.parametrize("name", MATRICES)
    def test_is_symmetric_positive_definite_whatever_the_matrix(self, name: str, modified: bool) -> None:
        A = MATRICES[name]()
        M = dense(IncompleteCholesky(A, modified), A.shape[0])
        assert np.isfinite(M).all()
        S = 1 / np.sqrt(np.diag(M))
        M = M * S * S[:, None]
        np.testing.assert_allclose(M, M.T, atol=1e-10)
        assert np.linalg.eigvalsh(M)[0] > 0

    @pytest.mark.parametrize("modified", [False, True])
    def test_is_the_inverse_of_the_product_of_the_factors(self, modified: bool) -> None:
        A = MATRICES["open box"]()
        own = IncompleteCholesky(A, modified)
        U, replaced = factors(A, TAU if modified else 0.0, SIGMA if modified else 1e-3)
        M = dense(own, A.shape[0])
        np.testing.assert_allclose(M @ (U.T @ U), np.eye(len(U)), atol=1e-5)
        assert own.replaced == replaced
        assert (own.name, own.symmetric, own.linear) == ("mic0" if modified else "ic0", True, True)
        assert own.work > 1

    @pytest.mark.parametrize("modified", [False, True])
    def test_is_the_inverse_of_a_chain(self, modified: bool) -> None:
        A = chain(50)
        np.testing.assert_allclose(dense(IncompleteCholesky(A, modified), 50) @ A.toarray(), np.eye(50), atol=1e-4)

    def test_replaced_pivots_are_counted(self) -> None:
        assert IncompleteCholesky(kershaw()).replaced == 1
        assert IncompleteCholesky(dominant(60)).replaced == 0
        assert 1 < IncompleteCholesky(indefinite(30, 0.3), modified=True).replaced < 30
        assert str(IncompleteCholesky(kershaw())) == "ic0: incomplete Cholesky factors without fill, 1 pivots replaced"

    @pytest.mark.parametrize("modified", [False, True])
    def test_the_diagonal_is_all_that_is_kept_where_factors_grow(self, modified: bool) -> None:
        A = sp.csr_array(4 * indefinite(100, 3.0, 20))
        with np.errstate(over="ignore", invalid="ignore"):
            U, replaced = factors(A, TAU if modified else 0.0, SIGMA if modified else 1e-3)
        assert replaced < 100
        assert not np.abs(U).max() < 1e100
        M = IncompleteCholesky(A, modified)
        r, z = np.random.default_rng(0).standard_normal(100), np.zeros(100)
        M.apply(r, z)
        np.testing.assert_allclose(z, r / 4, rtol=1e-6)
        assert M.replaced == 100

    @pytest.mark.parametrize("scale", [1.0, 1e-90, 1e90])
    def test_factors_beyond_single_precision_are_kept_in_double(self, scale: float) -> None:
        A = dominant(40)
        r, z, expected = np.random.default_rng(0).standard_normal(40), np.zeros(40), np.zeros(40)
        IncompleteCholesky(A).apply(r, expected)
        IncompleteCholesky(sp.csr_array(scale * A)).apply(r, z)
        np.testing.assert_allclose(scale * z, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("index", [np.int32, np.int64])
    def test_leaves_the_matrix_alone_whatever_its_order(self, index: type) -> None:
        A = dominant(50)
        reverse = np.concatenate(
            [np.arange(start, stop)[::-1] for start, stop in zip(A.indptr, A.indptr[1:], strict=False)]
        )
        shuffled = sp.csr_array(
            (A.data[reverse], A.indices[reverse].astype(index), A.indptr.astype(index)), shape=A.shape
        )
        before = shuffled.data.copy()
        r, z, expected = np.ones(50), np.zeros(50), np.zeros(50)
        IncompleteCholesky(A).apply(r, expected)
        IncompleteCholesky(shuffled).apply(r, z)
        np.testing.assert_array_equal(z, expected)
        np.testing.assert_array_equal(shuffled.data, before)
        assert shuffled.indices.dtype == index


@pytest.mark.compiled
def test_the_modified_form_needs_fewer_iterations_on_fine_grids() -> None:
    A = poisson(domain((60, 60), walls="air")).A
    b, counts = np.random.default_rng(0).standard_normal(3600), []
    for M in (IncompleteCholesky(A, modified=True), IncompleteCholesky(A)):
        record = conjugate_directions(CSROperator(A), b, M, 1e-6, maxiter=500)
        assert record.status is Status.CONVERGED
        assert record.flipped == record.replaced == 0
        counts.append(len(record.residuals) - 1)
    plain = conjugate_directions(
        CSROperator(A), b, IncompleteCholesky(sp.csr_array(sp.eye_array(3600))), 1e-6, maxiter=900
    )
    assert counts[0] < 0.7 * counts[1] < 0.4 * len(plain.residuals)
