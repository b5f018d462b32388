"""From a matrix to its parts: which rows, in what units, with which null space, and why some matrices have none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.pde import domain
from deepcd.solvers.arguments import norm
from deepcd.solvers.parts import Parts, alone
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.preparation import prepare
from deepcd.solvers.prepared import Prepared, Solvable, Unsolvable
from deepcd.solvers.recipes import RECIPES, Part, Recipe
from deepcd.solvers.structure import analyse

from .systems import SYSTEMS, closed_line, dominant, line, square, weighted


class Recorder:
    """A builder that remembers what it was given."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def __call__(self, part: Part) -> Jacobi:
        self.parts.append(part)
        assert part.A is not None
        return Jacobi(part.A.diagonal())


def made_ready(
    A: Any,
    preconditioner: str | Recipe = "jacobi",
    *,
    keep: int | None = None,
    check: bool = True,
    previous: Prepared | None = None,
    **given: Any,
) -> Prepared:
    config = DeepCD(preconditioner, keep=keep, threads=1).config
    return prepare(analyse(A, config, **given), config, check=check, previous=previous)


def parts_of(A: Any, preconditioner: str | Recipe = "jacobi", **given: Any) -> Parts:
    prepared = made_ready(A, preconditioner, **given)
    assert isinstance(prepared, Solvable)
    return prepared.parts


def fault_of(A: Any, preconditioner: str = "jacobi", **given: Any) -> tuple[Status, str]:
    prepared = made_ready(A, preconditioner, **given)
    assert isinstance(prepared, Unsolvable)
    return prepared.status, prepared.detail


def beside(*blocks: Any) -> sp.csr_array:
    return sp.csr_array(sp.block_diag(blocks))


def entries(rows: dict[tuple[int, int], float], n: int) -> sp.csr_array:
    i, j = zip(*rows, strict=True)
    return sp.csr_array(sp.coo_array((list(rows.values()), (i, j)), shape=(n, n)))


class TestRows:
    def test_where_all_are_coupled_nothing_is_copied(self) -> None:
        A = line(9)
        parts = parts_of(A, copy=False)
        assert parts.rows == slice(None)
        assert parts.alone.size == parts.diagonal.size == 0
        assert parts.operator.A is A
        assert parts.scale == 1.0

    def test_those_on_their_own_are_taken_out(self) -> None:
        A = beside([[5.0]], line(3), [[0.0]], line(2), [[2.0]])
        parts = parts_of(A)
        np.testing.assert_array_equal(parts.rows, [1, 2, 3, 5, 6])
        np.testing.assert_array_equal(parts.alone, [0, 4, 7])
        np.testing.assert_array_equal(parts.diagonal, [5, 0, 2])
        np.testing.assert_array_equal(parts.operator.A.toarray(), beside(line(3), line(2)).toarray())

    def test_zeros_among_the_entries_couple_nothing(self) -> None:
        A = beside(np.diag([5.0, 3.0, 4.0]), line(4))
        A = sp.csr_array(A + entries({(0, 5): 1.0, (5, 0): 1.0}, 7))
        A.data[A.data == 1.0] = 0.0
        assert A.nnz == 15
        np.testing.assert_array_equal(parts_of(A).alone, [0, 1, 2])

    def test_a_diagonal_matrix_has_no_operator(self) -> None:
        parts = parts_of(SYSTEMS["diagonal"].A)
        assert parts.operator is None
        assert (parts.M.name, parts.scale, parts.exact, parts.singular) == ("none", 1.0, True, False)
        np.testing.assert_array_equal(parts.diagonal, np.arange(1, 9))

    @pytest.mark.parametrize("preconditioner", ["geometric-multigrid", "jacobi"])
    @pytest.mark.parametrize("name", ["grid, isolated rows", "grid, empty row"])
    def test_a_grid_has_the_same_ones(self, preconditioner: str, name: str) -> None:
        A = SYSTEMS[name].A
        parts = parts_of(A, preconditioner)
        np.testing.assert_array_equal(parts.alone, [0, 37])
        np.testing.assert_array_equal(parts.diagonal, A.diagonal()[[0, 37]])
        np.testing.assert_array_equal(np.sort(np.r_[np.arange(38)[parts.rows], parts.alone]), np.arange(38))

    def test_the_other_rows_of_any_matrix(self) -> None:
        A = sp.csr_array(sp.diags_array([4.0, 5.0, 6.0, 7.0]))
        rest, diagonal = alone(A, np.array([2, 0]))
        np.testing.assert_array_equal(rest, [1, 3])
        np.testing.assert_array_equal(diagonal, [5, 7])
        assert [found.size for found in alone(A, slice(None))] == [0, 0]


class TestUnits:
    @pytest.mark.parametrize("size", [1e-300, 1e-101, 3e100, 1e300])
    def test_extreme_entries_are_scaled_by_a_power_of_two(self, size: float) -> None:
        A = dominant(40)
        A *= size / abs(A).max()
        parts = parts_of(beside([[2.0]], A))
        assert np.frexp(parts.scale)[0] == 0.5
        assert 0.5 <= abs(parts.operator.A).max() < 1
        np.testing.assert_array_equal((parts.operator.A * parts.scale).toarray(), A.toarray())
        assert parts.A.max() == max(2.0, A.max()), "the matrix itself stays as it is"

    @pytest.mark.parametrize("size", [1e-99, 1e99])
    def test_ordinary_ones_are_not(self, size: float) -> None:
        assert parts_of(size * line(5)).scale == 1.0

    @pytest.mark.parametrize("preconditioner", ["direct", "pyamg-sa", "jacobi", "ic0"])
    @pytest.mark.parametrize("size", [2.0**-664, 1.0, 2.0**664])
    def test_a_preconditioner_is_in_units_of_the_inverse(self, preconditioner: str, size: float) -> None:
        A = beside([[4.0]], line(12), [[0.0]])
        v = np.random.default_rng(0).standard_normal(14)
        expected = parts_of(A, preconditioner).precondition(v)
        found = parts_of(size * A, preconditioner).precondition(v)
        np.testing.assert_allclose(found[1:13] * size, expected[1:13], rtol=1e-12)
        assert found[0] * size == pytest.approx(v[0] / 4)
        assert found[13] == v[13], "an empty row is left as it is"

    def test_a_factorisation_gives_back_what_was_multiplied(self) -> None:
        A = beside([[4e150]], 1e150 * line(12))
        x = np.random.default_rng(1).standard_normal(13)
        for unit in (1e-140, 1.0, 1e140):
            np.testing.assert_allclose(parts_of(A, "direct").precondition(unit * (A @ x)), unit * x, rtol=1e-12)

    def test_zero_is_mapped_to_zero(self) -> None:
        np.testing.assert_array_equal(parts_of(line(5), "direct").precondition(np.zeros(5)), 0)
        lone = np.array([8.0, 0, 0, 0])
        np.testing.assert_array_equal(parts_of(beside([[4.0]], line(3))).precondition(lone), [2, 0, 0, 0])

    def test_the_null_space_is_left_out(self) -> None:
        parts = parts_of(closed_line(8))
        assert abs(parts.precondition(np.arange(8.0) ** 2).sum()) <= 1e-12
        np.testing.assert_allclose(parts.precondition(np.ones(8)), 0, atol=1e-15)

    @pytest.mark.parametrize("size", [1e-12, 1.0, 1e200])
    def test_a_grid_has_the_units_of_its_matrix(self, size: float) -> None:
        A = square(12)
        v = np.random.default_rng(0).standard_normal(144)
        expected = parts_of(A, "geometric-multigrid").precondition(v)
        found = parts_of(size * A, "geometric-multigrid").precondition(v)
        np.testing.assert_allclose(found * size, expected, rtol=1e-5)
        assert norm(v - A @ expected) < 0.5 * norm(v)


class TestFaults:
    @pytest.mark.parametrize("check", [True, False])
    def test_diagonal_entries_are_named_by_their_row_in_the_whole(self, check: bool) -> None:
        negative = beside([[3.0]], line(3), [[2.0]], [[-1.0, 0.1], [0.1, 5.0]])
        assert fault_of(negative, check=check) == (Status.INDEFINITE_MATRIX, "A[5, 5] is negative.")
        zero = beside([[3.0]], line(3), [[5.0, 0.1], [0.1, 0.0]])
        assert fault_of(zero, check=check) == (Status.ZERO_DIAGONAL, "A[5, 5] is zero.")
        zero = beside(line(3), [[5.0, 0.1], [0.1, 0.0]]) + entries({(0, 4): 0.01, (4, 0): 0.01}, 5)
        assert fault_of(zero, check=check) == (Status.ZERO_DIAGONAL, "A[4, 4] is zero.")

    @pytest.mark.parametrize("preconditioner", ["geometric-multigrid", "jacobi"])
    def test_rows_on_their_own_are_named(self, preconditioner: str) -> None:
        A = beside([[4.0]], square(6), [[-2.0]], [[-3.0]], [[0.0]])
        status, detail = fault_of(A, preconditioner)
        assert status is Status.INDEFINITE_MATRIX
        assert detail == "A[38, 38] is negative, and other diagonal entries are not."

    def test_two_products_tell_what_is_not_symmetric_or_not_definite(self) -> None:
        skew = line(30) + entries({(3, 20): 0.01}, 30)
        assert fault_of(skew) == (Status.NONSYMMETRIC, "")
        coupling = np.random.default_rng(8).standard_normal((60, 60))
        indefinite = sp.csr_array(np.eye(60) + np.triu(coupling, 1) + np.triu(coupling, 1).T)
        assert fault_of(indefinite) == (Status.INDEFINITE_MATRIX, "")

    def test_small_coefficients_are_looked_at_as_closely_as_large_ones(self) -> None:
        skew = 1e-8 * (line(30) + entries({(3, 20): 0.01}, 30))
        assert fault_of(beside(1e8 * line(30), skew)) == (Status.NONSYMMETRIC, "")

    def test_without_the_products_they_are_taken(self) -> None:
        skew = line(30) + entries({(3, 20): 0.01}, 30)
        assert parts_of(skew, check=False).operator.A.nnz == skew.nnz

    def test_rounding_is_judged_by_the_precision_of_the_entries(self) -> None:
        A = line(30) + entries({(3, 4): 1e-6}, 30)
        assert fault_of(A) == (Status.NONSYMMETRIC, "")
        assert parts_of(A.astype(np.float32)).scale == 1.0

    def test_what_a_factorisation_meets_is_told(self) -> None:
        status, detail = fault_of(SYSTEMS["shifted"].A, "direct")
        assert status is Status.INDEFINITE_MATRIX
        assert "negative pivot" in detail

    def test_the_matrix_is_at_hand_all_the_same(self) -> None:
        A = SYSTEMS["shifted"].A
        prepared = made_ready(A, "direct")
        assert isinstance(prepared, Unsolvable)
        np.testing.assert_array_equal(prepared.A.toarray(), A.toarray())


class TestNullSpaces:
    def test_constants_on_components_are_known_to_everything(self) -> None:
        for preconditioner in ("jacobi", "direct"):
            parts = parts_of(beside([[1.0]], closed_line(6), line(4), closed_line(3)), preconditioner)
            v = np.arange(13.0)
            assert parts.operator.project(v)
            assert (parts.singular, parts.exact) == (True, False)
            np.testing.assert_allclose([v[:6].sum(), v[10:].sum()], 0, atol=1e-13)
            np.testing.assert_array_equal(v[6:10], [6, 7, 8, 9])

    def test_others_are_found_by_factors(self) -> None:
        A, null = weighted(8)
        A = beside([[3.0]], A)
        assert not parts_of(A, "jacobi").singular
        parts = parts_of(A, "direct")
        v = null.copy()
        assert parts.singular
        assert parts.operator.project(v)
        assert norm(v) <= 1e-10 * norm(null)

    def test_factors_know_of_those_beside_the_constants(self) -> None:
        A, null = weighted(6)
        parts = parts_of(beside(closed_line(5), A), "direct")
        v = np.r_[np.ones(5), null]
        parts.operator.project(v)
        assert norm(v) <= 1e-10 * norm(null)

    def test_one_that_is_given_takes_the_place_of_what_would_be_found(self) -> None:
        A, null = weighted(8)
        whole = beside([[3.0]], closed_line(4), A)
        given = np.zeros((whole.shape[0], 3))
        given[1:5, 0], given[5:, 1], given[5:, 2] = 7.0, null, -2 * null  # one of them twice
        for preconditioner in ("jacobi", "direct"):
            parts = parts_of(whole, preconditioner, nullspace=given)
            v = np.r_[np.ones(4), null]
            assert parts.singular
            parts.operator.project(v)
            assert norm(v) <= 1e-10 * norm(null)
            w = np.random.default_rng(0).standard_normal(v.size)
            removed = w.copy()
            parts.operator.project(w)
            removed -= w
            span = given[1:]
            np.testing.assert_allclose(span @ np.linalg.lstsq(span, removed)[0], removed, atol=1e-10)

    def test_no_more_is_left_out_than_was_given(self) -> None:
        A = beside(closed_line(4), closed_line(3))
        parts = parts_of(A, "direct", nullspace=[1, 1, 1, 1, 0, 0, 0])
        v = np.ones(7)
        parts.operator.project(v)
        np.testing.assert_allclose(v, [0, 0, 0, 0, 1, 1, 1], atol=1e-15)

    def test_a_sealed_grid(self) -> None:
        parts = parts_of(SYSTEMS["half open"].A, "geometric-multigrid")
        assert (parts.singular, parts.exact) == (True, True)
        assert not parts_of(square(6), "geometric-multigrid").singular
        assert not parts_of(square(6).astype(np.float32), "geometric-multigrid").exact


class TestBuilding:
    def test_the_builder_is_given_the_coupled_rows(self) -> None:
        recorder = Recorder()
        B = np.arange(1.0, 21.0).reshape(10, 2)
        A = beside([[1.0]], line(4), [[1.0]], line(4)).astype(np.float32)
        parts = parts_of(A, Recipe("own", recorder, "the diagonal"), B=B)
        (part,) = recorder.parts
        assert part.near_null is not None
        np.testing.assert_array_equal(part.near_null, B[[1, 2, 3, 4, 6, 7, 8, 9]])
        assert part.A is parts.operator.A
        assert (part.eps, part.threads) == (float(np.finfo(np.float32).eps), 1)
        assert (part.previous, part.weights, part.embedding) == (None, None, None)

    def test_an_earlier_one_is_offered_where_the_rows_are_the_same(self) -> None:
        recorder = Recorder()
        own = Recipe("own", recorder, "the diagonal")
        A = beside([[1.0]], line(4))
        first = made_ready(A, own)
        assert isinstance(first, Solvable)
        made_ready(2 * A, own, previous=first)
        made_ready(beside(line(4), [[1.0]]), own, previous=first)
        made_ready(line(4), own, previous=first)
        made_ready(A, own, previous=made_ready(beside([[1.0]], -line(4), [[1.0]]), own))
        assert [part.previous for part in recorder.parts] == [None, first.parts.M, None, None, None]
        whole = made_ready(line(4), own)
        assert isinstance(whole, Solvable)
        made_ready(line(4), own, previous=whole)
        assert recorder.parts[-1].previous is whole.parts.M

    def test_factors_are_for_few_coupled_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deepcd.solvers.beginning.FEW", 10)
        assert parts_of(beside(line(10), np.eye(5)), "auto").M.name == "direct"
        assert parts_of(square(4, 0.3), "auto").M.name in ("jacobi", "ssor")

    def test_a_recipe_may_be_named_for_one_time(self) -> None:
        config = DeepCD("none").config
        prepared = prepare(analyse(line(6), config), config, recipe=RECIPES["jacobi"])
        assert prepared.preconditioner == "jacobi"

    def test_a_grid_gets_the_candidate_that_needs_one(self) -> None:
        grid = domain((20, 18), walls="air")
        prepared = made_ready(grid, "auto")
        assert (prepared.preconditioner, prepared.on_grid) == ("learned-multigrid", True)
        assert not made_ready(grid, "jacobi").on_grid

    def test_directions_that_are_kept(self) -> None:
        def keep(symmetric: bool, keep: int | None) -> int:
            class Own(Jacobi):
                pass

            Own.symmetric = symmetric

            def build(part: Part) -> Own:
                assert part.A is not None
                return Own(part.A.diagonal())

            prepared = made_ready(line(5), Recipe("own", build, "the diagonal"), keep=keep)
            assert isinstance(prepared, Solvable)
            return prepared.keep

        assert [keep(True, None), keep(False, None), keep(True, 0), keep(False, 5)] == [1, 2, 0, 5]


class TestParts:
    @pytest.fixture
    def parts(self) -> Parts:
        return parts_of(beside([[4.0]], line(3), [[0.0]], [[-0.0]], [[0.5]]))

    def test_rows_on_their_own_are_divided(self, parts: Parts) -> None:
        x = np.full(7, 9.0)
        parts.solve_alone(np.arange(1.0, 8.0), x)
        np.testing.assert_array_equal(x, [0.25, 9, 9, 9, 9, 9, 14])
        X = np.full((7, 2), 9.0)
        parts.solve_alone(np.c_[np.arange(1.0, 8.0), np.arange(8.0, 1.0, -1)], X)
        np.testing.assert_array_equal(X[:, 0], x)
        np.testing.assert_array_equal(X[:, 1], [2, 9, 9, 9, 9, 9, 4])

    def test_a_quotient_out_of_range_is_no_warning(self) -> None:
        parts = parts_of(sp.csr_array(sp.diags_array([1e-200, 1.0])))
        x = np.zeros(2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parts.solve_alone(np.array([1e200, 1.0]), x)
        np.testing.assert_array_equal(x, [np.inf, 1])

    @pytest.mark.parametrize("lone", [0, 2])
    def test_vectors_are_added_to_their_rows(self, lone: int) -> None:
        parts = parts_of(beside(*[[[1.0]]] * lone, line(4)) if lone else line(4))
        assert isinstance(parts.rows, slice) == (lone == 0)
        x = np.ones(lone + 4)
        parts.spread(np.arange(4.0), -2.0, x)
        np.testing.assert_array_equal(x, [*[1.0] * lone, 1, -1, -3, -5])

    def test_a_twin_of_a_grid_has_work_vectors_of_its_own(self) -> None:
        parts = parts_of(square(6), "geometric-multigrid")
        twin = parts.twin()
        assert twin.A is parts.A
        assert twin.M is not parts.M
        assert twin.operator is not parts.operator
        for own, other in zip(parts.operator.workspace(parts.M), twin.operator.workspace(twin.M), strict=True):
            assert not np.may_share_memory(own, other)
        v = np.random.default_rng(0).standard_normal(36)
        np.testing.assert_array_equal(twin.precondition(v), parts.precondition(v))
        diagonal = parts_of(beside([[1.0]], square(6)), "geometric-multigrid")
        assert replace(diagonal, operator=None).twin().operator is None

    def test_are_described(self, parts: Parts) -> None:
        rows = "rows without off-diagonal entries, solved on their own: 4"
        assert parts.describe() == [rows, f"preconditioner: {parts.M}"]
        sealed = parts_of(closed_line(5)).describe()
        assert sealed[0].startswith("singular: solved up to a vector of the null space")
        assert len(sealed) == 2
