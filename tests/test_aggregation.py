"""Smoothed aggregation: each compiled pass against its definition, the hierarchy, and the cycle on it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepcd import DeepCD, Status
from deepcd.solvers.kernels import aggregation as passes
from deepcd.solvers.preconditioners import aggregation, algebraic_multigrid
from deepcd.solvers.preconditioners.aggregation import coarsen, galerkin
from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid

from . import strategies as some
from .systems import crossed, line, relative, ring, sealed, shuffled, square
from .test_algebraic_multigrid import dense, iterations

F64 = NDArray[np.float64]
THETA, POSITIVE, MOST, OMEGA = 0.1, 3.0, 5.0, 1.4


def matrix(n: int, seed: int, density: float = 0.15) -> sp.csr_array:
    """A symmetric matrix with entries of both signs over three decades, and a positive diagonal."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1) * 10 ** rng.uniform(-3, 0, (n, n))
    off = upper * np.where(rng.random((n, n)) < 0.2, 1.0, -1.0)
    A = sp.csr_array(off + off.T + np.diag(np.abs(off + off.T).sum(axis=1) + 0.1))
    return sp.csr_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)


def reach_of(A: F64) -> F64:
    off = A - np.diag(np.diag(A))
    largest = np.maximum(-off, 0).max(axis=1)
    return np.minimum(largest + POSITIVE * np.maximum(off, 0).sum(axis=1), MOST * largest)


def strong_of(A: F64) -> NDArray[np.bool_]:
    """Where the strong couplings are."""
    off = A - np.diag(np.diag(A))
    return (off < 0) & (off**2 > THETA**2 * np.outer(*2 * [reach_of(A)]))


def aggregates_of(strong: NDArray[np.bool_]) -> list[int]:
    """The three passes, as they are described, on sets."""
    neighbours = [set(np.flatnonzero(row).tolist()) for row in strong]
    number: dict[int, int] = {}
    count = 0
    for i, beside in enumerate(neighbours):
        if beside and not ({i} | beside) & number.keys():
            number |= dict.fromkeys({i} | beside, count)
            count += 1
    first = dict(number)
    for i, beside in enumerate(neighbours):
        if i not in number and beside & first.keys():
            number[i] = first[min(beside & first.keys())]
    for i, beside in enumerate(neighbours):
        if beside and i not in number:
            number |= dict.fromkeys(({i} | beside) - number.keys(), count)
            count += 1
    return [number.get(i, -1) for i in range(len(strong))]


def prolongator_of(A: F64, aggregates: list[int]) -> F64:
    strong = strong_of(A)
    filtered = np.where(strong, A, 0) + np.diag(np.where(strong, 0, A).sum(axis=1))
    T = (np.array(aggregates)[:, None] == np.arange(max(aggregates) + 1)).astype(float)
    own, others = np.abs(np.diag(filtered)), np.abs(np.where(strong, A, 0)).sum(axis=1)
    P = T - OMEGA * (filtered @ T) / (own + np.maximum(own, others))[:, None]
    return np.where(T.any(axis=1)[:, None], P, 0)


@pytest.mark.parametrize("seed", range(8))
def test_a_level_is_what_its_definition_says(seed: int) -> None:
    A = matrix(40, seed)
    full = A.toarray()
    (starts, columns, values), kept = aggregation._strong(A)
    strong = strong_of(full)
    assert 0 < strong.sum() < A.nnz - 40  # there are weak ones as well
    found = sp.csr_array((values[: starts[-1]], columns[: starts[-1]], starts), shape=A.shape).toarray()
    np.testing.assert_array_equal(found, np.where(strong, full, 0))
    np.testing.assert_allclose(kept, np.where(strong, 0, full).sum(axis=1), rtol=1e-14)
    aggregates = np.empty(40, dtype=np.int32)
    count = passes.aggregate(starts, columns, aggregates)
    assert aggregates.tolist() == aggregates_of(strong)
    assert count == aggregates.max() + 1
    P = aggregation._smoothed((starts, columns, values), kept, aggregates, count)
    np.testing.assert_allclose(P.toarray(), prolongator_of(full, aggregates.tolist()), atol=1e-14)


def test_aggregates_are_disjoint_and_leave_out_rows_without_strong_couplings_only() -> None:
    A = sp.csr_array(sp.block_diag([square(20), 3 * sp.eye_array(5), line(7)]))
    (starts, columns, _), _ = aggregation._strong(A)
    aggregates = np.empty(A.shape[0], dtype=np.int32)
    count = passes.aggregate(starts, columns, aggregates)
    alone = np.flatnonzero(aggregates < 0)
    np.testing.assert_array_equal(alone, np.arange(400, 405))
    assert set(aggregates.tolist()) == {-1, *range(count)}
    assert np.bincount(aggregates[aggregates >= 0]).min() > 1


class TestProlongator:
    def test_rows_that_sum_to_zero_in_a_give_rows_that_sum_to_one(self) -> None:
        A = square(20, 0.3)
        P = coarsen(A, 50)[1][0]
        inner = np.abs(A.sum(axis=1)) < 1e-12
        assert inner.sum() == 18 * 18
        np.testing.assert_allclose(P.sum(axis=1)[inner], 1, rtol=1e-14)
        assert P.sum(axis=1)[~inner].max() < 0.95

    @pytest.mark.parametrize("epsilon", [1.0, 0.001])
    def test_the_constant_is_kept_down_to_the_coarsest_level(self, epsilon: float) -> None:
        operators, transfers = coarsen(sealed(square(30, epsilon)), 20)
        assert len(transfers) > 1
        for A, P in zip(operators[1:], transfers, strict=True):
            np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
            np.testing.assert_allclose(A.sum(axis=1), 0, atol=1e-12 * A.diagonal().max())

    def test_aggregates_follow_strong_couplings(self) -> None:
        P = coarsen(square(30, 0.001), 100)[1][0]
        assert P.shape[1] == 300  # three in a row
        assert np.diff(P.indptr).max() <= 2

    def test_a_dominant_diagonal_is_damped(self) -> None:
        A = sp.csr_array(square(20) + 1000 * sp.eye_array(400))
        P = coarsen(A, 50)[1][0]
        assert 0.28 < P.max() < 0.31
        assert np.abs(P.data).max() == P.max()

    def test_a_coupling_that_is_strong_in_one_row_only(self) -> None:
        A = matrix(30, 3).toarray()
        A[4, :4] = A[4, 5:] = A[:, 4][:4] = 0  # nothing is strong in row 4, and row 9 is coupled to it
        A[4, 9] = A[5:, 4] = 0
        A[9, 4] = -1
        P = coarsen(sp.csr_array(A), 5)[1][0]
        assert np.isfinite(P.data).all()


@pytest.mark.parametrize("seed", range(4))
def test_products_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = matrix(60, seed)
    P = sp.random_array((60, 17), density=0.1, format="csr", rng=rng)
    P = sp.csr_array((P.data, P.indices.astype(np.int32), P.indptr.astype(np.int32)), shape=P.shape)
    expected = (P.T @ A @ P).toarray()
    np.testing.assert_allclose(galerkin(A, P).toarray(), expected, atol=1e-14)
    starts, columns, values = np.empty(18, np.int32), np.empty(P.nnz, np.int32), np.empty(P.nnz)
    passes.transpose(P.indptr, P.indices, P.data, starts, columns, values)
    np.testing.assert_array_equal(sp.csr_array((values, columns, starts), shape=(17, 60)).toarray(), P.T.toarray())
    image = aggregation._product(A, P, None)
    assert image is not None
    np.testing.assert_allclose(image.toarray(), (A @ P).toarray(), atol=1e-14)
    assert aggregation._product(A, P, image.nnz) is not None
    assert aggregation._product(A, P, image.nnz - 1) is None


def test_a_product_finds_room_for_many_entries() -> None:
    column = sp.csr_array(np.ones((300, 1)))
    outer = aggregation._product(column, sp.csr_array(column.T), None)
    assert outer is not None
    assert outer.nnz == 300 * 300 > 2 * 300 + 1000


def test_all_operators_are_products_of_the_one_before() -> None:
    operators, transfers = coarsen(square(40), 20)
    assert [A.shape[0] for A in operators] == [1600, 280, 35, 7]
    for A, P, below in zip(operators, transfers, operators[1:], strict=False):
        np.testing.assert_allclose(below.toarray(), (P.T @ A @ P).toarray(), atol=1e-14)
    assert sum(A.nnz for A in operators) < 1.5 * operators[0].nnz


class TestCycle:
    @given(st.one_of(some.definite(), some.permuted(some.graphs())))
    def test_is_symmetric_positive_definite(self, A: sp.csr_array) -> None:
        with mock.patch.object(algebraic_multigrid, "_FEW", 4):
            M = dense(AlgebraicMultigrid(A, "aggregation"), A.shape[0])
        S = 1 / np.sqrt(np.diag(M))
        M = M * S * S[:, None]
        np.testing.assert_allclose(M, M.T, atol=1e-12)
        assert np.linalg.eigvalsh(M)[0] > 0

    @pytest.mark.compiled
    @pytest.mark.parametrize("name", ["5 points", "7 points", "shuffled", "anisotropic", "bilinear", "elastic"])
    def test_takes_no_more_iterations_than_on_the_hierarchy_of_pyamg(self, name: str) -> None:
        A = {
            "5 points": lambda: square(60),
            "7 points": lambda: sp.csr_array(pyamg.gallery.poisson((16, 16, 16), format="csr")),
            "shuffled": lambda: shuffled(square(60)),
            "anisotropic": lambda: square(60, 0.01),
            "bilinear": lambda: sp.csr_array(
                pyamg.gallery.stencil_grid(pyamg.gallery.diffusion_stencil_2d(0.001), (60, 60), format="csr")
            ),
            "elastic": lambda: sp.csr_array(pyamg.gallery.linear_elasticity((30, 30))[0]),
        }[name]()
        ours, theirs = (iterations(A, AlgebraicMultigrid(A, method)) for method in ("aggregation", "sa"))
        assert ours <= 1.2 * theirs
        if name in ("anisotropic", "bilinear", "elastic"):  # where strong couplings are all that matters
            assert ours < 0.6 * theirs

    def test_is_the_same_at_every_run(self) -> None:
        A, r = shuffled(square(30, 0.3)), np.random.default_rng(0).standard_normal(900)
        z = np.empty((2, 900))
        for k in range(2):
            AlgebraicMultigrid(A, "aggregation").apply(r, z[k])
        np.testing.assert_array_equal(z[0], z[1])

    def test_given_a_near_null_space_the_hierarchy_is_that_of_pyamg(self) -> None:
        A, B = pyamg.gallery.linear_elasticity((20, 20))
        solution = DeepCD("smoothed-aggregation", threads=1).solve(A, np.ones(A.shape[0]), B=B)
        assert solution.preconditioner == "pyamg-sa"
        assert DeepCD("smoothed-aggregation", threads=1).solve(A, np.ones(800)).preconditioner == "smoothed-aggregation"


class TestOddMatrices:
    @pytest.mark.parametrize(
        "A",
        [
            pytest.param(crossed(ring(30)), id="singular"),
            pytest.param(sp.csr_array(sp.block_diag([sealed(square(20)), sealed(square(8)), line(40)])), id="parts"),
            pytest.param(
                sp.csr_array(sp.block_diag([sealed(square(20, e)) for e in (1, 1e-12, 1e-6)] + [sealed(line(3))] * 40)),
                id="many singular parts",
            ),
        ],
    )
    def test_null_spaces(self, A: sp.csr_array) -> None:
        b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
        with mock.patch.object(algebraic_multigrid, "_FEW", 30):
            solution = DeepCD("smoothed-aggregation", threads=1).solve(A, b, 1e-10)
        assert solution.status is Status.CONVERGED
        assert relative(A, solution.x, b) <= 1e-10
        assert solution.iterations < 25

    def test_what_is_left_of_a_singular_part_is_left_out(self) -> None:
        A = sp.csr_array(sp.block_diag([sealed(line(3)), square(20)]))
        M = AlgebraicMultigrid(A, "aggregation")
        P = M._levels[0].P
        assert P is not None
        assert M._bottom is not None
        assert not np.any(P[2][:3])  # the first row of the coarse operator is rounding
        assert np.all(P[2][3:])
        assert np.abs(M._bottom).max() < 100

    @pytest.mark.parametrize("epsilon", [1e-6, 1e-9, 1e-12])
    @pytest.mark.parametrize("name", ["smoothed-aggregation", "pyamg-rs"])
    def test_rounding_of_strong_couplings_is_not_taken_for_weak_ones(self, name: str, epsilon: float) -> None:
        A = sealed(square(20, epsilon))
        b = A @ np.random.default_rng(0).standard_normal(400)
        solution = DeepCD(name, threads=1).solve(A, b, 1e-10)
        assert solution.status is Status.CONVERGED
        assert solution.iterations < 20

    @pytest.mark.parametrize("contrast", [1e6, 1e12])
    def test_huge_contrasts(self, contrast: float) -> None:
        rng = np.random.default_rng(1)
        k = np.where(np.kron(rng.random((6, 6)) < 0.5, np.ones((6, 6))), contrast, 1.0)
        number = np.arange(36 * 36).reshape(36, 36)
        pairs = np.concatenate(
            [
                np.stack([number[1:], number[:-1]], -1).reshape(-1, 2),
                np.stack([number[:, 1:], number[:, :-1]], -1).reshape(-1, 2),
            ]
        )
        w = 2 / (1 / k.ravel()[pairs[:, 0]] + 1 / k.ravel()[pairs[:, 1]])
        W = sp.csr_array(sp.coo_array((w, tuple(pairs.T)), shape=2 * (36 * 36,)))
        W = sp.csr_array(W + W.T)
        A = sp.csr_array(sp.diags_array(W.sum(axis=1) + 4 * k.ravel() * (number.ravel() < 36)) - W)
        for matrix in (A, shuffled(A)):
            x = np.random.default_rng(0).standard_normal(A.shape[0])
            solution = DeepCD("smoothed-aggregation", threads=1).solve(matrix, matrix @ x, 1e-8)
            assert solution.status is Status.CONVERGED
            assert solution.iterations < 40

    def test_rows_that_are_all_near_each_other_get_a_prolongator_that_is_not_smoothed(self) -> None:
        rng = np.random.default_rng(6)
        W = sp.csr_array(
            sp.coo_array((rng.uniform(0.1, 1, 6000), tuple(rng.integers(0, 1200, (2, 6000)))), shape=2 * (1200,))
        )
        W = sp.csr_array(W + W.T)
        W.setdiag(0)
        A = sp.csr_array(sp.diags_array(W.sum(axis=1) + 1e-3) - W)
        A.eliminate_zeros()
        operators, transfers = coarsen(A, 150)
        assert len(operators) > 1
        assert set(transfers[0].data.tolist()) == {1.0}
        assert all(coarse.nnz <= A.nnz for coarse in operators)
        assert iterations(A, AlgebraicMultigrid(A, "aggregation")) < 20

    @pytest.mark.parametrize("sign", [0, 1])
    def test_without_negative_couplings_there_is_no_second_level(self, sign: int) -> None:
        A = sp.csr_array(abs(square(30)) if sign else 2 * sp.eye_array(900))
        M = AlgebraicMultigrid(sp.csr_array(A + 0.1 * sp.eye_array(900)), "aggregation")
        assert M.name == "gauss-seidel"
        assert M.sizes == [900]

    def test_a_stall_ends_coarsening(self) -> None:
        with mock.patch.object(aggregation, "_STALL", 0.1):  # three rows in one are too few
            assert len(coarsen(line(900), 50)[0]) == 1
            assert AlgebraicMultigrid(line(900), "aggregation").name == "gauss-seidel"

    def test_what_is_not_finite_ends_coarsening(self) -> None:
        A = 1e-300 * square(30)
        A.data[A.data < 0] = -1e-310  # squares are zero, so nothing is strong
        assert len(coarsen(A, 50)[0]) == 1
        spoiled = sp.csr_array(np.full((900, 1), np.nan))
        with mock.patch.object(aggregation, "_smoothed", return_value=spoiled):
            assert len(coarsen(square(30), 50)[0]) == 1

    def test_one_row_is_left(self) -> None:
        with mock.patch.object(algebraic_multigrid, "_FEW", 1):
            M = AlgebraicMultigrid(line(81), "aggregation")
        assert M.sizes == [81, 27, 9, 3, 1]
        assert iterations(line(81), M) < 18

    def test_new_values_of_a_matrix_that_becomes_singular(self) -> None:
        A = square(20)
        M = AlgebraicMultigrid(A, "aggregation").updated(sealed(A))
        assert iterations(sealed(A), M) < 20
