"""Certified answers: rounds around an iteration, on parts that are made by hand."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, cg
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.refinement import is_certain, refine
from deepcd.solvers.solution import Status
from deepcd.solvers.survey import constant_null_space

N = 60


def chain(n: int = N, *, closed: bool = False) -> sp.csr_array:
    diagonal = np.full(n, 2.0)
    if closed:
        diagonal[[0, -1]] = 1.0
    return sp.csr_array(sp.diags_array([-np.ones(n - 1), diagonal, -np.ones(n - 1)], offsets=[-1, 0, 1]))


def parts_of(A: sp.csr_array, operator: Any = None, scale: float = 1.0, *, exact: bool = False) -> Parts:
    """Return parts without rows on their own; `operator` stands for A / scale."""
    if operator is None:
        operator = CSROperator(A * (1 / scale), *constant_null_space(A, 2.2e-16))
    singular = operator.project(operator.zeros())
    nothing = np.empty(0)
    M = Identity(A.shape[0])
    return Parts(A, slice(None), nothing.astype(int), nothing, operator, scale, M, singular=singular, exact=exact)


def with_lone_rows(A: sp.csr_array, diagonal: list[float]) -> Parts:
    """Return parts of A beside rows of their own, ahead of those of A."""
    n, m = len(diagonal), A.shape[0]
    whole = sp.csr_array(sp.block_diag([sp.diags_array(diagonal), A], format="csr"))
    inner = parts_of(A)
    return replace(inner, A=whole, rows=np.arange(n, n + m), alone=np.arange(n), diagonal=np.array(diagonal))


def solve(parts: Parts, b: np.ndarray, tol: float = 1e-8, x0: Any = None, **options: Any) -> Outcome:
    limits = Limits(tol * float(np.linalg.norm(b)), options.get("maxiter", 1000), math.inf, options.get("callback"))
    return refine(parts, b, x0, replace(limits, **options), 1, np.float64)


def left(A: Any, outcome: Outcome, b: np.ndarray) -> float:
    return float(np.linalg.norm(b - A @ outcome.x.astype(float)))


@pytest.fixture
def b() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(N)


@pytest.mark.parametrize("scale", [1.0, 2.0**-300, 2.0**300])
def test_the_last_residual_is_that_of_the_answer(b: np.ndarray, scale: float) -> None:
    A = chain() * scale
    outcome = solve(parts_of(A, scale=scale), b)
    assert outcome.status is Status.CONVERGED
    assert outcome.residuals[0] == pytest.approx(np.linalg.norm(b))
    assert outcome.residuals[-1] == pytest.approx(left(A, outcome, b), rel=1e-6)
    assert outcome.residuals[-1] <= 1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("error", [1e-4, 1e-3])
def test_rounds_make_up_for_an_operator_that_is_not_quite_a(b: np.ndarray, error: float) -> None:
    A = chain()
    crude = CSROperator(sp.csr_array(A + error * sp.diags_array(np.linspace(0, 1, N))))
    outcome = solve(parts_of(A, crude), b)
    assert outcome.status is Status.CONVERGED
    assert left(A, outcome, b) <= 1e-8 * np.linalg.norm(b)
    assert len(outcome.residuals) > len(solve(parts_of(A), b).residuals)


def test_an_operator_that_has_nothing_to_do_with_a_is_not_believed(b: np.ndarray) -> None:
    A = chain()
    outcome = solve(parts_of(A, CSROperator(sp.csr_array(sp.eye_array(N)))), b)
    assert outcome.status is Status.ATTAINABLE_ACCURACY
    assert outcome.rounded
    assert outcome.residuals[-1] == pytest.approx(left(A, outcome, b))


def test_an_answer_in_float32_has_to_meet_the_target_itself(b: np.ndarray) -> None:
    A = chain()
    parts, size = parts_of(A), float(np.linalg.norm(b))
    fine = refine(parts, b, None, Limits(1e-4 * size, 1000, math.inf, None), 1, np.float32)
    assert (fine.status, fine.x.dtype) == (Status.CONVERGED, np.dtype(np.float32))
    assert left(A, fine, b) <= 1e-4 * size
    coarse = refine(parts, b, None, Limits(1e-12 * size, 1000, math.inf, None), 1, np.float32)
    assert (coarse.status, coarse.rounded, coarse.is_puzzling) == (Status.ATTAINABLE_ACCURACY, True, False)
    assert 1e-12 * size < left(A, coarse, b) == pytest.approx(coarse.residuals[-1])


def test_a_target_of_zero_takes_one_round(b: np.ndarray) -> None:
    plain, zero = solve(parts_of(chain()), b, 1e-12), solve(parts_of(chain()), b, 0.0)
    assert zero.status is Status.ATTAINABLE_ACCURACY
    assert left(chain(), zero, b) < 1e-13 * np.linalg.norm(b)
    assert len(zero.residuals) < 2 * len(plain.residuals)


class Counted:
    """A that counts its products."""

    def __init__(self, A: sp.csr_array) -> None:
        self.A, self.shape, self.products = A, A.shape, 0

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        self.products += 1
        return np.asarray(self.A @ x)


class Bounded(CSROperator):
    """An operator whose entries are known to differ from those of A by rounding at most."""

    row_bound = 4.0


@pytest.mark.parametrize(("exact", "products"), [(True, 0), (False, 1)])
def test_where_the_operator_is_exact_no_product_with_a_is_needed(b: np.ndarray, exact: bool, products: int) -> None:
    A = Counted(chain())
    outcome = solve(replace(parts_of(chain(), Bounded(chain())), A=A, exact=exact), b)
    assert (outcome.status, A.products) == (Status.CONVERGED, products)
    assert left(A.A, outcome, b) <= 1e-8 * np.linalg.norm(b)


def test_certainty_takes_rounding_into_account() -> None:
    eps = 2.0**-52
    margin = 64 * eps * (1.0 + 18 * 10.0)
    assert is_certain(0.5, 1.0, 10.0, 0.5 + margin, 1.0, 18.0)
    assert not is_certain(0.5, 1.0, 10.0, 0.5 + 0.99 * margin, 1.0, 18.0)
    assert not is_certain(0.0, 1.0, 10.0, 1.0, 1.0, math.inf)
    assert not is_certain(0.0, 1.0, 1e301, math.inf, 1.0, 18.0)
    assert not is_certain(0.0, 1.0, 10.0, 1.0, 1e290, 18.0)


# Starts


def test_a_start_that_meets_the_target_is_returned_as_a_copy(b: np.ndarray) -> None:
    exact = np.linalg.solve(chain().toarray(), b)
    outcome = solve(parts_of(chain()), b, x0=exact)
    assert (outcome.status, len(outcome.residuals)) == (Status.CONVERGED, 1)
    np.testing.assert_array_equal(outcome.x, exact)
    assert not np.shares_memory(outcome.x, exact)


@pytest.mark.parametrize("size", [1.0, 1e8, 1e14])
def test_a_start_far_off_takes_rounds_and_is_not_changed(b: np.ndarray, size: float) -> None:
    start = np.full(N, size)
    outcome = solve(parts_of(chain()), b, 1e-10, x0=start)
    assert outcome.status is Status.CONVERGED
    assert left(chain(), outcome, b) <= 1e-10 * np.linalg.norm(b)
    np.testing.assert_array_equal(start, np.full(N, size))


def test_a_start_out_of_range_is_named(b: np.ndarray) -> None:
    outcome = solve(parts_of(chain() * 1e10), b, x0=np.where(np.arange(N) % 2, 1e308, -1e308) * 0.5)
    assert outcome.status is Status.NOT_FINITE
    assert "beyond the range of float64" in outcome.detail


# Rows on their own, and null spaces


def test_rows_on_their_own() -> None:
    A, right = chain(8), np.arange(1.0, 12.0)
    outcome = solve(with_lone_rows(A, [2.0, 4.0, 5.0]), right)
    assert outcome.status is Status.CONVERGED
    np.testing.assert_allclose(outcome.x[:3], right[:3] / [2, 4, 5])
    np.testing.assert_allclose(A @ outcome.x[3:], right[3:], atol=1e-6)


def test_an_empty_row_is_named_by_its_number() -> None:
    outcome = solve(with_lone_rows(chain(8), [2.0, 0.0]), np.ones(10))
    assert outcome.status is Status.ZERO_DIAGONAL
    assert outcome.detail.startswith("Row 1 of A is empty, but b[1] = 1. ")
    np.testing.assert_array_equal(outcome.x, np.r_[0.5, np.zeros(9)])
    assert outcome.residuals == [pytest.approx(3.0)]  # before any iteration
    assert solve(with_lone_rows(chain(8), [2.0, 0.0]), np.r_[1.0, 0.0, np.ones(8)]).status is Status.CONVERGED


def test_b_of_single_precision_is_rounded_and_not_inconsistent(b: np.ndarray) -> None:
    A, eps = chain(closed=True), float(np.finfo(np.float32).eps)
    consistent = (b - b.mean()).astype(np.float32).astype(float)
    assert abs(consistent.sum()) > 1e-9 * np.linalg.norm(b), "rounding has brought it out of the range"
    assert solve(parts_of(A), consistent, 1e-12, eps=eps).status is Status.ATTAINABLE_ACCURACY
    assert solve(parts_of(A), consistent, 1e-12).status is Status.INCONSISTENT
    assert solve(parts_of(A), consistent + 1e-3, 1e-12, eps=eps).status is Status.INCONSISTENT
    for first in (DeepCD("jacobi", threads=1).solve, cg):
        for dtype in (np.float32, np.float64):
            solution = first(A.astype(dtype), consistent.astype(np.float32), rtol=1e-12)
            assert solution.status is Status.ATTAINABLE_ACCURACY
        assert first(A, consistent, rtol=1e-12).status is Status.INCONSISTENT


@pytest.mark.parametrize("started", [False, True])
def test_what_no_x_reaches_is_named_and_the_rest_is_solved(b: np.ndarray, started: bool) -> None:
    A = chain(closed=True)
    start = np.linspace(0, 1, N) if started else None
    outcome = solve(parts_of(A), b, x0=start)
    assert (outcome.status, outcome.is_puzzling) == (Status.INCONSISTENT, False)
    assert left(A, outcome, b) == pytest.approx(abs(b.mean()) * math.sqrt(N), rel=1e-6)
    consistent = solve(parts_of(A), b - b.mean(), x0=start)
    assert consistent.status is Status.CONVERGED
    assert left(A, consistent, b - b.mean()) <= 1e-8 * np.linalg.norm(b - b.mean())


def test_what_no_x_reaches_uses_up_its_share_of_the_tolerance(b: np.ndarray) -> None:
    A = chain(closed=True)
    right = b - b.mean() + 0.9e-4 * np.linalg.norm(b) / math.sqrt(N)
    outcome = solve(parts_of(A), right, 1e-4)
    assert outcome.status is Status.CONVERGED
    assert 0.85e-4 * np.linalg.norm(b) < left(A, outcome, right) <= 1e-4 * np.linalg.norm(right)


# Ends


def test_limits_hold_over_all_rounds(b: np.ndarray) -> None:
    A = chain()
    crude = CSROperator(sp.csr_array(A + 0.1 * sp.eye_array(N)))
    whole = len(solve(parts_of(A, crude), b).residuals) - 1
    for maxiter in (3, whole - 1):
        outcome = solve(parts_of(A, crude), b, maxiter=maxiter)
        assert (outcome.status, len(outcome.residuals) - 1) == (Status.MAXITER, maxiter)
    late = solve(parts_of(A, crude), b, deadline=time.perf_counter() - 1)
    assert (late.status, len(late.residuals) - 1) == (Status.TIMEOUT, 1)


def test_the_callback_is_told_of_x_and_stops(b: np.ndarray) -> None:
    told: list[np.ndarray] = []

    def callback(x: np.ndarray) -> bool:
        told.append(x)
        return len(told) == 4

    start = np.linspace(0, 1, N)
    outcome = solve(parts_of(chain() * 8, scale=8.0), b, x0=start, callback=callback)
    assert (outcome.status, len(outcome.residuals)) == (Status.CALLBACK, 5)
    np.testing.assert_array_equal(told[-1], outcome.x)
    assert outcome.residuals[-1] == pytest.approx(left(chain() * 8, outcome, b))


def test_outcomes_follow_one_another() -> None:
    first = Outcome(np.zeros(2), Status.MAXITER, [3.0, 2.0], "One.")
    both = first.then(Outcome(np.ones(2), Status.ATTAINABLE_ACCURACY, [2.0, 1.0], "Two.", rounded=True))
    assert (both.residuals, both.detail, both.status) == ([3.0, 2.0, 1.0], "One. Two.", Status.ATTAINABLE_ACCURACY)
    np.testing.assert_array_equal(both.x, np.ones(2))
    assert first.is_puzzling
    assert not both.is_puzzling
