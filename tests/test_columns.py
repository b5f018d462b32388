"""Several right-hand sides at once, against the same ones one by one."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.solvers import columns as module
from deepcd.solvers.columns import WIDTHS, iterate_together
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.refinement import refine

from .test_refinement import chain, parts_of, with_lone_rows

N, K = 50, 5
LIMITS = Limits(math.nan, 1000, math.inf, None)


@pytest.fixture
def B() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, K)) * 10.0 ** np.arange(-2, K - 2)


def together(parts: Parts, B: np.ndarray, X: np.ndarray, tol: Any = 1e-8, **limits: Any) -> list[Outcome]:
    targets = tol * np.linalg.norm(B, axis=0)
    return iterate_together(parts, B, X, targets, replace(LIMITS, **limits))


def alone(parts: Parts, b: np.ndarray, tol: float = 1e-8, x0: Any = None, **limits: Any) -> Outcome:
    limits["target"] = tol * float(np.linalg.norm(b))
    return refine(parts, np.ascontiguousarray(b), x0, replace(LIMITS, **limits), 1, np.float64)


def jacobi(A: sp.csr_array) -> Parts:
    return replace(parts_of(A), M=Jacobi(A.diagonal()))


def uneven(n: int = 40) -> sp.csr_array:
    """Return a matrix of two parts: right-hand sides that are zero on the second one take a few iterations."""
    return sp.csr_array(sp.block_diag([chain(n) + 8 * sp.eye_array(n), chain(n)], format="csr"))


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("fitting", WIDTHS)
def test_every_column_meets_its_own_target(
    B: np.ndarray, fitting: int, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY", fitting * module.BYTES * N)
    A, tol = chain(N), np.array([1e-4, 1e-8, 1e-6, 1e-10, 1e-5])
    X = np.random.default_rng(1).standard_normal((N, K)) if started else np.zeros((N, K))
    start = X.copy()
    outcomes = together(parts_of(A), B, X, tol)
    solved = {1: 0, 2: 4, 4: 4, 8: K}[fitting]
    for j, outcome in enumerate(outcomes):
        assert outcome.status is Status.MAXITER  # that it has converged is for others to say
        assert np.shares_memory(outcome.x, X)
        if j >= solved:  # a column that is left over is better solved alone
            assert outcome.residuals == []
            np.testing.assert_array_equal(X[:, j], start[:, j])
            continue
        assert np.linalg.norm(B[:, j] - A @ X[:, j]) <= 1.0001 * tol[j] * np.linalg.norm(B[:, j])
        assert outcome.residuals[0] == pytest.approx(np.linalg.norm(B[:, j] - A @ start[:, j]))
        assert outcome.residuals[-1] == pytest.approx(np.linalg.norm(B[:, j] - A @ X[:, j]), rel=0.2)


@pytest.mark.parametrize("make", [parts_of, jacobi])
@pytest.mark.parametrize("k", [2, 3, 4, 7, 8, 9, 16, 17])
def test_columns_iterate_as_they_do_alone(k: int, make: Any) -> None:
    rng = np.random.default_rng(k)
    A = uneven()
    B = rng.standard_normal((A.shape[0], k)) * 10.0 ** rng.integers(-3, 3, k)
    B[40:, ::3] = 0  # these take fewer iterations
    X = np.zeros_like(B)
    outcomes, single = together(make(A), B, X), [alone(make(A), b) for b in B.T]
    begun = [j for j, outcome in enumerate(outcomes) if outcome.residuals]
    assert len(begun) == k - (k in (9, 17))
    for j in begun:
        assert abs(len(outcomes[j].residuals) - len(single[j].residuals)) <= 1
        np.testing.assert_allclose(outcomes[j].residuals[:5], single[j].residuals[:5], rtol=1e-6)
        np.testing.assert_allclose(X[:, j], single[j].x, atol=1e-6 * np.abs(single[j].x).max())
    assert len({len(outcome.residuals) for outcome in single}) > 1


def test_a_hard_column_goes_on_in_a_narrow_block(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    take = module._Block._take

    def noted(self: Any, width: int) -> None:
        widths.append(width)
        take(self, width)

    monkeypatch.setattr(module._Block, "_take", noted)
    A = uneven()
    B = np.zeros((80, 8))
    B[np.arange(7) * 5, np.arange(7)] = 1
    B[:, 7] = np.random.default_rng(0).standard_normal(80)
    outcomes = together(parts_of(A), B, np.zeros_like(B))
    assert widths[0] == 8
    assert widths[-1] == 1
    assert abs(len(outcomes[7].residuals) - len(alone(parts_of(A), B[:, 7]).residuals)) <= 1


@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray, lambda v: np.repeat(v, 2, axis=1)[:, ::2]])
def test_the_layout_does_not_matter(B: np.ndarray, order: Any) -> None:
    X, plain = order(np.zeros((N, K))), np.zeros((N, K))
    together(jacobi(chain(N)), order(B), X)
    together(jacobi(chain(N)), B, plain)
    np.testing.assert_array_equal(X, plain)


def test_rows_may_be_in_another_order(B: np.ndarray) -> None:
    A, order = chain(N), np.random.default_rng(0).permutation(N)
    parts = replace(parts_of(A), rows=order, operator=CSROperator(sp.csr_array(A[order][:, order])))
    for left_out in (0, 2):
        for start in (np.zeros((N, K)), np.ones((N, K))):
            X, right = start.copy(), B.copy()
            right[:, left_out], X[:, left_out] = 0, 0
            together(parts, right, X)
            np.testing.assert_allclose(A @ X, right, atol=1e-6 * np.abs(B).max())


def test_a_block_is_as_wide_as_its_preconditioner_asks_for(B: np.ndarray) -> None:
    class Choosy(Jacobi):
        fewest_columns = 3

    for k, begun in ((2, 0), (3, 3), (5, 5), (10, 8)):
        right = np.tile(B, 2)[:, :k]
        parts = replace(parts_of(chain(N)), M=Choosy(chain(N).diagonal()))
        outcomes = together(parts, right, np.zeros_like(right))
        assert sum(len(outcome.residuals) > 0 for outcome in outcomes) == begun


def test_rows_on_their_own_are_solved_for_all_columns() -> None:
    A, right = chain(8), np.random.default_rng(0).standard_normal((11, 3))
    X = np.zeros((11, 3))
    right[2] = 0  # the row is empty
    together(with_lone_rows(A, [2.0, 4.0, 0.0]), right, X)
    np.testing.assert_allclose(X[:2], right[:2] / [[2.0], [4.0]])
    np.testing.assert_array_equal(X[2], 0)
    np.testing.assert_allclose(A @ X[3:], right[3:], atol=1e-6)


def test_a_column_that_is_not_zero_on_an_empty_row_is_left_alone() -> None:
    right, X = np.ones((11, 3)), np.zeros((11, 3))
    right[2, :2] = 0
    outcomes = together(with_lone_rows(chain(8), [2.0, 4.0, 0.0]), right, X)
    assert [len(outcome.residuals) > 0 for outcome in outcomes] == [True, True, False]
    assert not X[:, 2].any()


def test_constants_are_kept_out_of_a_singular_system(B: np.ndarray) -> None:
    A, X = chain(N, closed=True), np.zeros((N, K))
    right = B - B.mean(axis=0) * (np.arange(K) != 3)  # all columns but one have a solution
    outcomes = together(parts_of(A), right, X)
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-6 * np.abs(X).max())
    for j, outcome in enumerate(outcomes):
        if j == 3:  # why it has none is for others to say
            assert outcome.residuals == []
            assert not X[:, j].any()
        else:
            single = alone(parts_of(A), right[:, j])
            assert abs(len(outcome.residuals) - len(single.residuals)) <= 1
            assert np.linalg.norm(right[:, j] - A @ X[:, j]) <= 1.0001e-8 * np.linalg.norm(right[:, j])


@pytest.mark.parametrize("left_out", ["zero", "as accurately as can be", "done"])
def test_columns_that_are_left_out(B: np.ndarray, left_out: str) -> None:
    tol = np.full(K, 1e-8)
    if left_out == "zero":
        B[:, 2] = 0
    else:
        tol[2] = np.inf if left_out == "done" else 0
    X = np.zeros((N, K))
    outcomes = together(parts_of(chain(N)), B, X, tol)
    assert [len(outcome.residuals) > 1 for outcome in outcomes] == [True, True, False, True, True]
    assert not X[:, 2].any()


def test_a_column_that_meets_its_target_at_the_start_is_not_moved(B: np.ndarray) -> None:
    A = chain(N)
    X = np.zeros((N, K))
    X[:, 1] = np.linalg.solve(A.toarray(), B[:, 1])
    before = X.copy()
    outcomes = together(parts_of(A), B, X)
    assert outcomes[1].residuals == []
    np.testing.assert_array_equal(X[:, 1], before[:, 1])


def test_a_column_that_breaks_down_is_left_as_it_was(B: np.ndarray) -> None:
    """An eigenvalue is negative, and one column alone has a part there."""
    A = sp.csr_array(sp.block_diag([chain(N - 1), sp.csr_array([[-1.0]])], format="csr"))
    parts = parts_of(A, CSROperator(A))
    B[-1] = 0
    B[-1, 2] = 100
    X = np.zeros((N, K))
    outcomes = together(parts, B, X)
    assert outcomes[2].residuals == []
    assert not X[:, 2].any()
    assert all(len(outcomes[j].residuals) > 1 for j in (0, 1, 3, 4))


def test_a_preconditioner_that_has_no_columns_or_is_not_symmetric_is_left_to_single_ones(B: np.ndarray) -> None:
    class Bare:
        name, symmetric, linear, work = "bare", True, True, 1.0

    class Skew(Jacobi):
        symmetric = False

    M: Any
    for M in (Bare(), Skew(chain(N).diagonal())):
        X: np.ndarray = np.zeros((N, K))
        outcomes = together(replace(parts_of(chain(N)), M=M), B, X)
        assert all(outcome.residuals == [] for outcome in outcomes)
        assert not X.any()


def test_residuals_are_recomputed_where_rounding_got_in_the_way() -> None:
    """With a tolerance close to what float64 attains, the recursion alone would leave far too early."""
    n = 400
    A = sp.csr_array(chain(n) * 10.0 ** np.linspace(0, 5, n)[:, None] * 10.0 ** np.linspace(0, 5, n))
    B = A @ np.random.default_rng(0).standard_normal((n, 4))
    X = np.zeros_like(B)
    outcomes = together(jacobi(A), B, X, 1e-14, maxiter=20_000)
    for j, outcome in enumerate(outcomes):
        left = np.linalg.norm(B[:, j] - A @ X[:, j])
        assert outcome.residuals[-1] == pytest.approx(left, rel=0.5)
        assert left <= 1e-12 * np.linalg.norm(B[:, j])


def test_the_best_iterate_is_returned_where_iterations_run_out() -> None:
    A = uneven()
    B = np.random.default_rng(3).standard_normal((80, 4))
    for maxiter in range(1, 12):
        X = np.zeros_like(B)
        outcomes = together(parts_of(A), B, X, maxiter=maxiter)
        for j, outcome in enumerate(outcomes):
            assert len(outcome.residuals) == maxiter + 1
            left = np.linalg.norm(B[:, j] - A @ X[:, j])
            assert left == pytest.approx(min(outcome.residuals), rel=1e-6)


def test_the_callback_is_given_the_block_and_stops_it(B: np.ndarray) -> None:
    told: list[np.ndarray] = []

    def callback(block: np.ndarray) -> bool:
        told.append(block.copy())
        return len(told) == 3

    X = np.zeros((N, K))
    outcomes = together(parts_of(chain(N)), B, X, callback=callback)
    assert [(outcome.status, len(outcome.residuals)) for outcome in outcomes] == [(Status.CALLBACK, 4)] * K
    np.testing.assert_array_equal(told[-1], X)
    assert not np.array_equal(told[0], told[1])


def test_the_callback_is_told_of_columns_that_have_left() -> None:
    A = uneven()
    B = np.random.default_rng(3).standard_normal((80, 4))
    B[40:, :2] = 0
    told: list[np.ndarray] = []
    X = np.zeros_like(B)
    outcomes = together(parts_of(A), B, X, callback=lambda block: told.append(block.copy()))
    counts = [len(outcome.residuals) - 1 for outcome in outcomes]
    assert len(told) == max(counts) > min(counts)
    for j, count in enumerate(counts):
        for block in told[count - 1 :]:
            np.testing.assert_array_equal(block[:, j], X[:, j])


def test_no_other_block_begins_once_it_was_stopped() -> None:
    B, X = np.random.default_rng(0).standard_normal((N, 12)), np.zeros((N, 12))
    outcomes = together(parts_of(chain(N)), B, X, callback=lambda block: True)
    assert [(o.status, len(o.residuals)) for o in outcomes] == [(Status.CALLBACK, 2)] * 8 + [(Status.CALLBACK, 0)] * 4
    assert not X[:, 8:].any()


def test_a_deadline_that_has_passed_leaves_one_iteration(B: np.ndarray) -> None:
    outcomes = together(parts_of(chain(N)), B, np.zeros((N, K)), deadline=time.perf_counter() - 1)
    assert [(outcome.status, len(outcome.residuals)) for outcome in outcomes] == [(Status.TIMEOUT, 2)] * K


def test_without_iterations_nothing_is_done(B: np.ndarray) -> None:
    X = np.ones((N, K))
    outcomes = together(parts_of(chain(N)), B, X, maxiter=0)
    assert all(outcome.residuals == [] for outcome in outcomes)
    np.testing.assert_array_equal(X, 1)


class TestThroughTheFrontDoor:
    @pytest.mark.parametrize("name", ["none", "jacobi", "direct", "pyamg-sa", "pyamg-rs", "ic0"])
    def test_columns_of_any_magnitude(self, name: str) -> None:
        A = uneven()
        B = np.random.default_rng(0).standard_normal((80, 6)) * [1e-200, 1, 1e200, 0, 1e-6, 1e6]
        system = DeepCD(name, threads=1).setup(A)
        solution = system.solve(B, 1e-8)
        assert solution.info == 0
        most = 0
        for j, b in enumerate(B.T):
            single = system.solve(b, 1e-8)
            most = max(most, single.iterations)
            np.testing.assert_allclose(solution.x[:, j], single.x, rtol=1e-4, atol=1e-6 * np.abs(single.x).max())
        assert abs(solution.iterations - most) <= 1

    @pytest.mark.compiled
    def test_one_inconsistent_column(self) -> None:
        A = chain(3000, closed=True)
        B = np.random.default_rng(0).standard_normal((3000, 3))
        B -= B.mean(axis=0)
        B[:, 1] += 1
        solution = DeepCD("jacobi", threads=1).solve(A, B, 1e-6, maxiter=10_000)
        assert solution.status is Status.INCONSISTENT
        left = np.linalg.norm(B - A @ solution.x, axis=0) / np.linalg.norm(B, axis=0)
        assert left[0] <= 1e-6
        assert left[2] <= 1e-6
        np.testing.assert_allclose(left[1] * np.linalg.norm(B[:, 1]), np.sqrt(3000), rtol=1e-3)

    def test_statuses_are_those_of_single_columns(self) -> None:
        A = uneven()
        right = np.random.default_rng(0).standard_normal((80, 4))
        options: dict[str, Any]
        for options in ({"maxiter": 3}, {"timeout": 1e-9}, {"callback": lambda x: True}):
            system = DeepCD("none", threads=1).setup(A)
            block, single = system.solve(right, 1e-8, **options), system.solve(right[:, 0], 1e-8, **options)
            assert block.status is single.status
            assert block.iterations == single.iterations
