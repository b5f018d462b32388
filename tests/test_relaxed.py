"""Compiled conjugate gradients on the parts of a matrix: where they start, where they stop, and what they answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.solvers.forecast import Steps, looks
from deepcd.solvers.options import Config
from deepcd.solvers.outcome import Limits
from deepcd.solvers.parts import Parts
from deepcd.solvers.preparation import prepare
from deepcd.solvers.prepared import Solvable
from deepcd.solvers.recipes import RECIPES, RELAXATION
from deepcd.solvers.relaxed import Relaxed, relax
from deepcd.solvers.structure import analyse

from .systems import dominant, line, sealed, square

TOL = 1e-8
KINDS = ("jacobi", "ssor", "levels")
every_kind = pytest.mark.parametrize("kind", KINDS)

A = square(14, 0.3)
N = A.shape[0]
b = np.random.default_rng(1).standard_normal(N)


def solvable(matrix: Any, kind: str) -> Solvable:
    config: Config = DeepCD("pyamg-sa", threads=1).config  # which looks for no grid
    recipe = RECIPES["jacobi"] if kind == "jacobi" else RELAXATION
    prepared = prepare(analyse(matrix, config), config, recipe=recipe, check=False, by_levels=kind == "levels")
    assert isinstance(prepared, Solvable)
    assert prepared.is_simple
    return prepared


def parts_of(matrix: Any, kind: str) -> Parts:
    return solvable(matrix, kind).parts


def limits(right: np.ndarray, tol: float = TOL, **given: Any) -> Limits:
    size = float(np.linalg.norm(right / abs(right).max())) * float(abs(right).max())
    return replace(Limits(tol * size, 500, math.inf, None), **given)


def relaxed(matrix: Any, right: np.ndarray, kind: str, x0: np.ndarray | None = None, **given: Any) -> Relaxed:
    found = relax(parts_of(matrix, kind), right, x0, limits(right, **given))
    assert found is not None
    return found


def residual(matrix: Any, x: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(right - matrix @ x))


@every_kind
class TestAnswers:
    def test_the_residual_is_that_of_the_answer(self, kind: str) -> None:
        found = relaxed(A, b, kind)
        assert (found.status, found.left) == (Status.CONVERGED, False)
        assert residual(A, found.x, b) <= 1.0001 * TOL * np.linalg.norm(b)
        assert found.residuals[0] == pytest.approx(np.linalg.norm(b))
        assert found.residuals[-1] == pytest.approx(residual(A, found.x, b), rel=1e-4)

    @pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
    def test_from_a_start_that_is_left_alone(self, kind: str, size: float) -> None:
        start = size * np.random.default_rng(2).standard_normal(N)
        kept = start.copy()
        found = relaxed(A, b, kind, start)
        np.testing.assert_array_equal(start, kept)
        assert found.residuals[0] == pytest.approx(residual(A, start, b))
        assert residual(A, found.x, b) <= 1.01 * TOL * np.linalg.norm(b)

    def test_nothing_is_done_at_the_target(self, kind: str) -> None:
        parts = parts_of(A, kind)
        assert relax(parts, b, np.linalg.solve(A.toarray(), b), limits(b)) is None
        assert relax(parts, b, None, limits(b, tol=1.0)) is None
        assert relax(parts, np.zeros(N), None, Limits(0.0, 10, math.inf, None)) is None

    def test_rows_of_their_own(self, kind: str) -> None:
        matrix = sp.csr_array(sp.block_diag([[[4.0]], A, [[1e-3]], sp.csr_array((1, 1))]))
        right = np.r_[2.0, b, 5.0, 0.0]
        for start in (None, np.ones(right.size)):
            found = relaxed(matrix, right, kind, start)
            assert found.status is Status.CONVERGED
            assert found.x[[0, -2, -1]].tolist() == [0.5, 5e3, 0.0 if start is None else 1.0]
            assert residual(matrix, found.x, right) <= 1.01 * TOL * np.linalg.norm(right)

    def test_what_rows_of_their_own_leave_in_their_columns(self, kind: str) -> None:
        coupled = sp.lil_array(sp.block_diag([[[2.0]], A]))
        coupled[5, 0] = -3.0
        matrix = sp.csr_array(coupled)
        right = np.r_[1e3, b]
        found = relaxed(matrix, right, kind)
        assert residual(matrix, found.x, right) <= 1.01 * TOL * np.linalg.norm(right)

    def test_where_no_x_meets_the_target(self, kind: str) -> None:
        empty = sp.csr_array(sp.block_diag([A, sp.csr_array((1, 1))]))
        assert relax(parts_of(empty, kind), np.r_[b, 1.0], None, limits(b)) is None
        closed = sealed(A)
        assert relax(parts_of(closed, kind), b + 1.0, None, limits(b)) is None

    def test_singular_by_constants(self, kind: str) -> None:
        closed = sp.csr_array(sp.block_diag([sealed(A), sealed(square(5, 0.3)), line(4)]))
        right = closed @ np.random.default_rng(0).standard_normal(closed.shape[0])
        found = relaxed(closed, right, kind)
        assert residual(closed, found.x, right) <= 1.01 * TOL * np.linalg.norm(right)
        assert [found.x[:N].mean(), found.x[N : N + 25].mean()] == pytest.approx([0, 0], abs=1e-10)
        start = np.r_[np.full(N, 7.0), np.full(25, -3.0), np.zeros(4)]
        found = relaxed(closed, right, kind, start)
        assert [found.x[:N].mean(), found.x[N : N + 25].mean()] == pytest.approx([7, -3])

    @pytest.mark.parametrize("of_right", [1e-250, 1e-200, 1.0, 1e200, 1e250])
    @pytest.mark.parametrize("of_matrix", [1e-200, 1.0, 1e200])
    def test_magnitudes(self, kind: str, of_matrix: float, of_right: float) -> None:
        usual = relaxed(A, b, kind)
        found = relax(parts_of(A * of_matrix, kind), b * of_right, None, limits(b * of_right))
        if math.log10(of_right) - math.log10(of_matrix) > 308:  # x is beyond float64
            assert found is None
            return
        assert found is not None
        assert found.status is Status.CONVERGED
        if math.log10(of_right) - math.log10(of_matrix) > -290:
            np.testing.assert_allclose(found.x / (of_right / of_matrix), usual.x, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(np.array(found.residuals) / of_right, usual.residuals, rtol=1e-5)

    def test_rows_of_their_own_that_are_larger_by_many_orders(self, kind: str) -> None:
        matrix = sp.csr_array(sp.block_diag([A, [[1.0]]]))
        for small, large in ((1e-200, 1.0), (1e-250, 1e250), (1.0, 1e-200), (1.0, 1e250)):
            right = np.r_[b * small, large]
            solution = DeepCD("pyamg-sa").solve(matrix, right, TOL)
            outcome = solvable(matrix, kind).solve(right, None, limits(right), np.float64)
            assert outcome.status is solution.status is Status.CONVERGED


@every_kind
class TestEnds:
    @pytest.mark.parametrize("maxiter", [1, 2, 5, 17])
    def test_as_many_iterations_as_allowed(self, kind: str, maxiter: int) -> None:
        found = relaxed(A, b, kind, maxiter=maxiter, tol=1e-14)
        assert (found.status, found.left) == (Status.MAXITER, False)
        assert len(found.residuals) == maxiter + 1

    def test_without_convergence_the_best_iterate(self, kind: str) -> None:
        matrix = dominant(150, decades=4, entries=9)
        right = np.random.default_rng(0).standard_normal(150)
        for maxiter in range(1, 12):
            found = relaxed(matrix, right, kind, maxiter=maxiter, tol=1e-14)
            if len(found.residuals) == maxiter + 1:
                assert residual(matrix, found.x, right) == pytest.approx(min(found.residuals), rel=1e-4)

    @pytest.mark.parametrize("last", [1, 2, 7])
    def test_a_callback_sees_and_stops(self, kind: str, last: int) -> None:
        seen: list[np.ndarray] = []

        def stop(x: np.ndarray) -> bool:
            seen.append(x)
            return len(seen) == last

        found = relaxed(A, b, kind, callback=stop)
        assert (found.status, found.left, len(seen)) == (Status.CALLBACK, False, last)
        np.testing.assert_array_equal(found.x, seen[-1])
        np.testing.assert_allclose([residual(A, x, b) for x in seen], found.residuals[1:], rtol=1e-6)

    def test_whatever_else_it_returns_does_not(self, kind: str) -> None:
        seen: list[Any] = []
        found = relaxed(A, b, kind, callback=seen.append)
        assert found.status is Status.CONVERGED
        assert len(seen) == len(found.residuals) - 1
        np.testing.assert_allclose(found.residuals, relaxed(A, b, kind).residuals, rtol=1e-6)

    def test_a_deadline(self, kind: str) -> None:
        found = relaxed(A, b, kind, deadline=0.0, tol=1e-14)
        assert (found.status, found.left) == (Status.TIMEOUT, False)
        assert len(found.residuals) >= 2, "at least one is done"

    @pytest.mark.parametrize("look", [0, 1, 3])
    def test_a_watcher_ends_it_where_it_stands(self, kind: str, look: int) -> None:
        seen: list[Steps] = []

        def watch(steps: Steps) -> bool:
            seen.append(steps)
            return len(seen) == look + 1

        found = relaxed(A, b, kind, watch=watch, tol=1e-13)
        when = looks()
        expected = [next(when) for _ in range(look + 1)]
        assert (found.status, found.left) == (Status.MAXITER, True)
        assert [steps.count for steps in seen] == expected
        assert len(found.residuals) == expected[-1] + 1
        assert found.residuals[-1] == pytest.approx(residual(A, found.x, b), rel=1e-6)

    def test_a_watcher_is_not_asked_where_nothing_may_follow(self, kind: str) -> None:
        first = next(looks())
        found = relaxed(A, b, kind, watch=lambda steps: True, maxiter=first, tol=1e-13)
        assert (found.left, len(found.residuals)) == (False, first + 1)

    def test_an_indefinite_matrix(self, kind: str) -> None:
        found = relaxed(sp.csr_array(A - 0.3 * sp.eye_array(N)), b, kind)
        assert (found.status, found.left) == (Status.MAXITER, False)


@every_kind
class TestSolvable:
    def test_a_target_of_zero_takes_what_can_be_had(self, kind: str) -> None:
        for matrix in (A, sealed(A)):
            right = matrix @ np.random.default_rng(0).standard_normal(N)
            outcome = solvable(matrix, kind).solve(right, None, Limits(0.0, 1000, math.inf, None), np.float64)
            assert outcome.status is Status.ATTAINABLE_ACCURACY
            assert residual(matrix, outcome.x, right) <= 1e-12 * np.linalg.norm(right)
            assert outcome.residuals[-1] == pytest.approx(residual(matrix, outcome.x, right), rel=1e-6)

    def test_single_precision(self, kind: str) -> None:
        for tol, status in ((1e-4, Status.CONVERGED), (1e-10, Status.ATTAINABLE_ACCURACY)):
            outcome = solvable(A, kind).solve(b, None, limits(b, tol=tol), np.float32)
            assert (outcome.x.dtype, outcome.status) == (np.float32, status)
            true = residual(A, outcome.x.astype(np.float64), b)
            assert outcome.residuals[-1] == pytest.approx(true, rel=1e-6)
            assert (true <= tol * np.linalg.norm(b)) == (status is Status.CONVERGED)

    @pytest.mark.parametrize("given", [{"maxiter": 7}, {"deadline": 0.0}, {"callback": lambda x: True}])
    def test_why_it_stopped_is_not_forgotten(self, kind: str, given: dict[str, Any]) -> None:
        expected = {"maxiter": Status.MAXITER, "deadline": Status.TIMEOUT, "callback": Status.CALLBACK}
        outcome = solvable(A, kind).solve(b, None, limits(b, tol=1e-13, **given), np.float64)
        assert outcome.status is expected[next(iter(given))]
        assert outcome.residuals[-1] == pytest.approx(residual(A, outcome.x, b))
        assert len(outcome.residuals) <= 65

    def test_the_last_residual_is_recomputed(self, kind: str) -> None:
        start = 1e6 * np.random.default_rng(2).standard_normal(N)
        outcome = solvable(A, kind).solve(b, start, limits(b), np.float64)
        assert outcome.status is Status.CONVERGED
        assert outcome.residuals[-1] == pytest.approx(residual(A, outcome.x, b), rel=1e-6)

    def test_indefinite_is_named(self, kind: str) -> None:
        outcome = solvable(sp.csr_array(A - 0.3 * sp.eye_array(N)), kind).solve(b, None, limits(b), np.float64)
        assert outcome.status is Status.INDEFINITE_MATRIX
