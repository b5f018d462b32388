"""One look at a matrix: the form it is brought into, its rows, its components, numberings by levels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial import Delaunay

from deepcd.solvers.kernels import survey as passes
from deepcd.solvers.survey import by_levels, constant_null_space, read, renumbered, submatrix, survey

from .systems import SYSTEMS, closed_line, line, square

EPS = float(np.finfo(np.float64).eps)


def random_symmetric(n: int, seed: int, density: float = 0.1) -> sp.csr_array:
    A = sp.random_array((n, n), density=density, rng=np.random.default_rng(seed), format="csr")
    return sp.csr_array(A + A.T + sp.diags_array(np.linspace(1, 2, n)))


class TestForm:
    def test_stored_zeros_are_dropped_and_the_pattern_kept_in_mind(self) -> None:
        A = line(6)
        A.data[1] = 0.0
        before = A.data.copy(), A.indices.copy()
        matrix = read(A, EPS, keep_pattern=True)
        assert matrix.A.nnz == A.nnz - 1
        assert read(A, EPS).pattern is None
        assert matrix.pattern is not None
        np.testing.assert_array_equal(matrix.pattern[1], A.indices)
        np.testing.assert_array_equal(matrix.A.toarray(), A.toarray())
        for array, old in zip((A.data, A.indices), before, strict=True):
            np.testing.assert_array_equal(array, old)

    def test_duplicates_that_cancel_leave_nothing(self) -> None:
        A = sp.csr_array((np.array([2.0, 1.0, -1.0, 3.0]), np.array([0, 1, 1, 1]), np.array([0, 3, 4])), shape=(2, 2))
        assert read(A, EPS).A.nnz == 2
        assert A.nnz == 4

    @pytest.mark.parametrize("indptr", [np.int32, np.int64])
    @pytest.mark.parametrize("indices", [np.int32, np.int64])
    def test_any_mixture_of_index_types_becomes_the_narrow_one(self, indptr: type, indices: type) -> None:
        A = line(9)
        A.indptr, A.indices = A.indptr.astype(indptr), A.indices.astype(indices)
        matrix = read(A, EPS).A
        assert {matrix.indptr.dtype, matrix.indices.dtype} == {np.dtype(np.int32)}
        np.testing.assert_array_equal(matrix.toarray(), line(9).toarray())

    @pytest.mark.parametrize("column", [-1, 5])
    def test_a_column_out_of_range_is_named(self, column: int) -> None:
        A = line(5)
        A.indices[4] = column
        with pytest.raises(ValueError, match=f"A has 5 columns, but entry 4 of A.indices is {column}"):
            read(A, EPS)

    def test_entries_that_sum_to_more_than_float64_holds_are_finite(self) -> None:
        A = sp.csr_array(1e308 * np.eye(9))
        assert read(A, EPS).A is A


class TestRows:
    @pytest.mark.parametrize("name", [name for name, case in SYSTEMS.items() if case.A.shape[0] > 1])
    def test_facts_are_those_of_dense_arithmetic(self, name: str) -> None:
        A, seen, _ = read(sp.csr_array(SYSTEMS[name].A.astype(np.float64)), EPS)
        dense = A.toarray()
        d = np.diag(dense)
        off = dense - np.diag(d)
        np.testing.assert_array_equal(seen.diagonal, d)
        assert seen.lone == np.count_nonzero(~off.any(axis=1))
        assert seen.largest == abs(dense).max(initial=0)
        if (d > 0).all():
            assert seen.dominance == pytest.approx(dense.sum() / d.sum(), abs=1e-13)
            right = np.triu(dense, 1).sum(axis=1)
            assert seen.disorder == pytest.approx((right**2 / d).sum() / d.sum() - 0.25, abs=1e-13)

    def test_natural_order_has_no_disorder_and_a_random_one_has(self) -> None:
        A = square(30)
        order = np.random.default_rng(0).permutation(900)
        assert survey(A, EPS).disorder < 0.01
        assert survey(sp.csr_array(A[order][:, order]), EPS).disorder > 0.08


class TestComponents:
    @pytest.mark.parametrize("seed", range(4))
    def test_components_are_those_of_scipy(self, seed: int) -> None:
        A = sp.csr_array(
            sp.block_diag([closed_line(5), random_symmetric(20, seed, 0.05), closed_line(3)], format="csr")
        )
        order = np.random.default_rng(seed).permutation(28)
        A = sp.csr_array(A[order][:, order])
        A.sort_indices()
        component, sealed = constant_null_space(A, EPS)
        count, expected = sp.csgraph.connected_components(A, directed=False)
        pairs = set(zip(component.tolist(), expected.tolist(), strict=True))
        assert len(pairs) == count == sealed.size
        assert np.count_nonzero(sealed) == 2

    def test_a_matrix_whose_rows_are_open_somewhere_has_no_component_to_be_told_apart(self) -> None:
        component, sealed = constant_null_space(line(50), EPS)
        assert sealed.tolist() == [False]
        assert not component.any()


class TestNumbering:
    @pytest.mark.parametrize("seed", range(3))
    def test_levels_are_distances(self, seed: int) -> None:
        A = random_symmetric(40, seed, 0.04)
        order = by_levels(A)
        assert sorted(order.tolist()) == list(range(40))
        B = submatrix(A, order)
        np.testing.assert_array_equal(B.toarray(), A[order][:, order].toarray())
        assert B.has_sorted_indices
        _, component = sp.csgraph.connected_components(B, directed=False)
        roots = [int(np.flatnonzero(component == c)[0]) for c in dict.fromkeys(component.tolist())]
        distance = sp.csgraph.shortest_path(B, unweighted=True, indices=roots).min(axis=0)
        for c in set(component.tolist()):
            assert (np.diff(distance[component == c]) >= 0).all()
        expected = sum(int(distance[component == c].max()) + 1 for c in set(component.tolist()))
        assert passes.count_levels(B.indptr, B.indices, 40) == expected

    def test_levels_do_not_pass_through_long_rows(self) -> None:
        A = line(50).tolil()
        A[25, :] = A[:, 25] = 1.0
        A = sp.csr_array(A)
        assert passes.count_levels(A.indptr, A.indices, 50) == 3
        assert passes.count_levels(A.indptr, A.indices, 10) == 25 + 24

    def test_loops_over_the_couplings_to_one_side_are_as_long_as_the_ones_before(self) -> None:
        points = np.random.default_rng(0).random((4000, 2))
        corners = Delaunay(points).simplices
        edges = np.concatenate([corners[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
        W = sp.coo_array((np.ones(len(edges)), edges.T), shape=(4000, 4000)).tocsr()
        A = sp.csr_array(W + W.T + sp.eye_array(4000))
        distance = sp.csgraph.shortest_path(A, unweighted=True, indices=0)

        def changes(order: np.ndarray) -> float:
            """Return the share of rows whose number of couplings to rows before is not that of the row before."""
            counts = np.diff(sp.tril(submatrix(A, order), -1, format="csr").indptr)
            return float(np.mean(np.diff(counts) != 0))

        assert changes(by_levels(A)) < 0.3
        assert changes(np.argsort(distance, kind="stable")) > 0.7

    def test_few_rows_of_one_colour_are_coupled(self) -> None:
        """Most couplings within a level lead to another colour, so that few rows wait for the row before."""
        A = random_symmetric(400, 5, 0.01)
        B = submatrix(A, by_levels(A)).tocoo()
        assert np.mean(abs(B.row - B.col) == 1) < 0.02

    def test_balls_grow_fast_where_there_is_no_geometry(self) -> None:
        def levels(A: sp.csr_array, size: int) -> int:
            return int(passes.levels_of_ball(A.indptr, A.indices, 0, size))

        assert [levels(line(50), size) for size in (1, 2, 50, 51)] == [1, 2, 50, 50]
        assert levels(square(40), 100) == 14  # a triangle at a corner
        assert levels(random_symmetric(2000, 0, 0.005), 1000) <= 4

    def test_triangles_are_seen(self) -> None:
        def seen(A: sp.csr_array, samples: int = 99) -> bool:
            return bool(passes.has_triangles(A.indptr, A.indices, samples))

        assert not seen(line(20))
        assert not seen(square(9))
        assert not seen(sp.csr_array((0, 0)))
        A = square(9).tolil()
        A[40, 50] = A[50, 40] = -1.0  # a diagonal of a cell
        A = sp.csr_array(A)
        A.sort_indices()
        assert seen(A)
        assert not seen(A, 1), "which looks at row 0"

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_renumbering_is_a_submatrix_of_all_rows(self, symmetric: bool) -> None:
        A = random_symmetric(60, 2)
        if not symmetric:
            dense = A.toarray()
            dense[3, 50], dense[50, 3] = 1.0, 0.0
            A = sp.csr_array(dense)
        order = np.random.default_rng(0).permutation(60)
        B = renumbered(A, order)
        np.testing.assert_array_equal(B.toarray(), A.toarray()[order][:, order])
        assert B.has_sorted_indices

    def test_rows_may_be_left_out(self) -> None:
        A = random_symmetric(30, 0)
        rows = np.array([7, 3, 20, 11])
        np.testing.assert_array_equal(submatrix(A, rows).toarray(), A[rows][:, rows].toarray())
