"""What takes over where a cycle on a grid disappoints, what is remembered of it, and how several columns end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.data import random_coefficients, random_grid
from deepcd.pde import Grid, domain, poisson
from deepcd.solvers import strategies
from deepcd.solvers.ladder import Ladder
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.preconditioners.choice import choose, look
from deepcd.solvers.prepared import Solvable, Unsolvable
from deepcd.solvers.strategies import Strategy, _left
from deepcd.solvers.structure import analyse

from .systems import SYSTEMS, residuals, square

MAZE = random_grid("maze", (34, 34), np.random.default_rng(5))
A = poisson(MAZE).A
N = A.shape[0]
B = A @ np.random.default_rng(0).standard_normal((N, 4))  # nothing around the maze is open: A is singular
TOL = 1e-9
STRONG = choose(look(A))  # what takes over from a cycle on the grid
PATIENCE = 2
ALWAYS, NEVER = -1.0, math.inf  # iterations that another set-up is worth


def strategy(matrix: Any = MAZE, preconditioner: str = "auto", threads: int = 1) -> Strategy:
    config = DeepCD(preconditioner, threads=threads).config
    return Strategy(analyse(matrix, config), config, check=True)


def limits(b: np.ndarray, maxiter: int = 500, tol: float = TOL, **given: Any) -> Limits:
    target = tol * float(np.linalg.norm(b)) if b.ndim == 1 else math.nan
    return replace(Limits(target, maxiter, math.inf, None), **given)


def solve_block(own: Strategy, columns: np.ndarray = B, start: Any = None, **given: Any) -> tuple[list[Outcome], Any]:
    targets = TOL * np.linalg.norm(columns, axis=0)
    return own.solve_block(columns, start, targets, limits(columns, **given), np.float64)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Look at the progress of a cycle after few iterations, and switch whatever it is."""
    monkeypatch.setattr(strategies, "PATIENCE", PATIENCE)
    monkeypatch.setattr(strategies, "WORTH", ALWAYS)
    monkeypatch.setattr(Ladder, "_better", lambda *given: None)  # what takes over is not left in turn
    return monkeypatch


class TestSwitch:
    def test_after_as_many_iterations_another_preconditioner_takes_over(self, impatient: pytest.MonkeyPatch) -> None:
        own = strategy()
        outcome = own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        assert outcome.status is Status.CONVERGED
        assert residuals(A, outcome.x, B[:, 0]) <= TOL
        assert own.prepared.preconditioner == STRONG
        # The history goes on where the first cycle left it.
        impatient.setattr(strategies, "WORTH", NEVER)
        before = strategy().prepared.solve(B[:, 0], None, limits(B[:, 0], PATIENCE), np.float64)
        assert outcome.residuals[: PATIENCE + 1] == pytest.approx(before.residuals, rel=1e-6)
        # One iteration may increase the residual, but does not take it back to the beginning.
        assert outcome.residuals[PATIENCE + 1] < 2 * outcome.residuals[PATIENCE] < 0.5 * outcome.residuals[0]

    def test_it_is_remembered(self, impatient: pytest.MonkeyPatch) -> None:
        own = strategy()
        own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        switched = own.prepared
        outcome = own.solve(B[:, 1], None, limits(B[:, 1]), np.float64)
        assert own.prepared is switched
        alone = strategy(A, STRONG).solve(B[:, 1], None, limits(B[:, 1]), np.float64)
        assert len(outcome.residuals) == len(alone.residuals) > PATIENCE + 1, "without another look at its progress"

    def test_where_little_is_left_the_cycle_goes_on(self, impatient: pytest.MonkeyPatch) -> None:
        impatient.setattr(strategies, "WORTH", NEVER)
        own = strategy()
        outcome = own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        assert outcome.status is Status.CONVERGED
        assert residuals(A, outcome.x, B[:, 0]) <= TOL
        assert len(outcome.residuals) > PATIENCE + 1
        assert own.prepared.preconditioner == "learned-multigrid"

    @pytest.mark.parametrize(("maxiter", "expected"), [(PATIENCE, "learned-multigrid"), (PATIENCE + 1, STRONG)])
    def test_no_more_iterations_than_allowed(self, impatient: pytest.MonkeyPatch, maxiter: int, expected: str) -> None:
        own = strategy()
        outcome = own.solve(B[:, 0], None, limits(B[:, 0], maxiter), np.float64)
        assert outcome.status is Status.MAXITER
        assert len(outcome.residuals) == maxiter + 1
        assert own.prepared.preconditioner == expected

    def test_a_cycle_that_is_not_definite_is_replaced_whatever_is_left(self, impatient: pytest.MonkeyPatch) -> None:
        impatient.setattr(strategies, "WORTH", NEVER)
        own = strategy()
        assert isinstance(own.prepared, Solvable)
        solve = type(own.prepared).solve

        def indefinite(self: Solvable, *given: Any) -> Outcome:
            outcome = solve(self, *given)
            return replace(outcome, status=Status.INDEFINITE_PRECONDITIONER) if self.on_grid else outcome

        impatient.setattr(Solvable, "solve", indefinite)
        outcome = own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        assert (outcome.status, own.prepared.preconditioner) == (Status.CONVERGED, STRONG)

    @pytest.mark.parametrize("preconditioner", ["learned-multigrid", "geometric-multigrid"])
    def test_none_where_a_preconditioner_was_named(self, impatient: pytest.MonkeyPatch, preconditioner: str) -> None:
        own = strategy(preconditioner=preconditioner)
        outcome = own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        assert len(outcome.residuals) > PATIENCE + 1
        assert outcome.status is Status.CONVERGED
        assert own.prepared.preconditioner == preconditioner
        solve_block(own)
        assert own.prepared.preconditioner == preconditioner

    def test_new_values_are_taken_to_the_grid_again(self, impatient: pytest.MonkeyPatch) -> None:
        own = strategy()
        own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        config = DeepCD(threads=1).config
        again = Strategy(analyse(MAZE, config), config, check=True, previous=own)
        assert again.prepared.preconditioner == "learned-multigrid"
        assert own.prepared.preconditioner == STRONG


class TestColumns:
    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_block_switches_once_and_is_solved(self, impatient: pytest.MonkeyPatch, threads: int) -> None:
        own, switches = strategy(threads=threads), []
        switch = Strategy._switch

        def counted(self: Strategy) -> None:
            switches.append(self)
            switch(self)

        impatient.setattr(Strategy, "_switch", counted)
        outcomes, X = solve_block(own)
        assert [outcome.status for outcome in outcomes] == [Status.CONVERGED] * 4
        assert (residuals(A, X, B) <= TOL).all()
        assert switches == [own]
        assert own.prepared.preconditioner == STRONG

    @pytest.mark.parametrize("threads", [1, 2])
    def test_blocks_after_a_switch(self, impatient: pytest.MonkeyPatch, threads: int) -> None:
        """What the threads of the cycle worked on is not taken for what they would work on now."""
        own = strategy(threads=threads)
        solve_block(own, maxiter=PATIENCE)
        own.solve(B[:, 0], None, limits(B[:, 0]), np.float64)
        assert own.prepared.preconditioner == STRONG
        assert own._twins == []
        for k in (2, 4):
            outcomes, X = solve_block(own, B[:, :k])
            assert [outcome.status for outcome in outcomes] == [Status.CONVERGED] * k
            assert (residuals(A, X, B[:, :k]) <= TOL).all()

    @pytest.mark.parametrize("threads", [1, 2, 7])
    def test_side_by_side_is_as_one_by_one(self, threads: int) -> None:
        own = strategy(preconditioner="geometric-multigrid", threads=threads)
        start = np.random.default_rng(3).standard_normal(B.shape)
        outcomes, X = solve_block(own, start=start)
        for j, outcome in enumerate(outcomes):
            alone = strategy(preconditioner="geometric-multigrid").solve(
                B[:, j].copy(), start[:, j].copy(), limits(B[:, j]), np.float64
            )
            np.testing.assert_array_equal(outcome.x, alone.x)
            np.testing.assert_array_equal(X[:, j], alone.x)
            assert outcome.residuals == alone.residuals
        assert len(own._twins) == (0 if threads == 1 else min(threads, 4))

    @pytest.mark.parametrize("preconditioner", ["learned-multigrid", "jacobi"])
    def test_a_callback_that_stops_stops_all(self, preconditioner: str) -> None:
        seen: list[np.ndarray] = []

        def stop(X: np.ndarray) -> bool:
            seen.append(X)
            return len(seen) == 3

        start = np.random.default_rng(3).standard_normal(B.shape)
        outcomes, X = solve_block(strategy(preconditioner=preconditioner), start=start, callback=stop)
        assert len(seen) == 3
        assert [outcome.status for outcome in outcomes] == [Status.CALLBACK] * 4
        if preconditioner == "jacobi":  # together
            assert [len(outcome.residuals) - 1 for outcome in outcomes] == [3] * 4
        else:  # one after the other
            assert [len(outcome.residuals) - 1 for outcome in outcomes] == [3, 0, 0, 0]
            np.testing.assert_array_equal(X[:, 1:], start[:, 1:])
        for j, outcome in enumerate(outcomes):
            assert outcome.residuals[-1] == pytest.approx(np.linalg.norm(B[:, j] - A @ X[:, j]), rel=1e-6)

    @pytest.mark.parametrize(("preconditioner", "done"), [("learned-multigrid", [1, 0, 0, 0]), ("jacobi", [1] * 4)])
    def test_a_deadline_that_has_passed_ends_all(self, preconditioner: str, done: list[int]) -> None:
        outcomes, X = solve_block(strategy(preconditioner=preconditioner), deadline=0.0)
        assert [outcome.status for outcome in outcomes] == [Status.TIMEOUT] * 4
        assert [len(outcome.residuals) - 1 for outcome in outcomes] == done
        np.testing.assert_array_equal(X.any(axis=0), np.array(done) > 0)

    def test_a_column_that_has_converged_stays_so(self) -> None:
        own = strategy(preconditioner="jacobi")
        columns = np.c_[B[:, 0], np.zeros(N), B[:, 1]]
        outcomes, X = solve_block(own, columns, maxiter=3)
        assert [outcome.status.name for outcome in outcomes] == ["MAXITER", "CONVERGED", "MAXITER"]
        assert not X[:, 1].any()

    def test_the_answers_have_the_precision_that_is_asked_for(self) -> None:
        seen: list[Any] = []
        for threads in (1, 2):
            own = strategy(preconditioner="geometric-multigrid", threads=threads)
            targets = 1e-4 * np.linalg.norm(B, axis=0)
            outcomes, X = own.solve_block(B, None, targets, limits(B), np.float32)
            assert {outcome.x.dtype for outcome in outcomes} == {np.dtype(np.float32)}
            assert X.dtype == np.float64
        own.solve_block(B, None, targets, limits(B, callback=lambda X: seen.append(X.dtype)), np.float32)
        assert set(seen) == {np.dtype(np.float32)}


class TestSigns:
    SENTENCE = "The diagonal of A is negative: -A x = -b was solved."

    @pytest.mark.parametrize("preconditioner", ["geometric-multigrid", "jacobi", "direct"])
    def test_a_negative_matrix_is_solved_and_told(self, preconditioner: str) -> None:
        matrix = -square(8)
        own, b = strategy(matrix, preconditioner), B[:64, 0]
        start = np.ones(64)
        outcome = own.solve(b, start, limits(b), np.float64)
        assert (outcome.status, outcome.detail) == (Status.CONVERGED, self.SENTENCE)
        assert residuals(matrix, outcome.x, b) <= TOL
        assert outcome.residuals[0] == pytest.approx(np.linalg.norm(b - matrix @ start))
        outcomes, X = solve_block(own, B[:64])
        assert (residuals(matrix, X, B[:64]) <= TOL).all()
        positive, _ = solve_block(strategy(-matrix, preconditioner), -B[:64])
        assert [outcome.residuals for outcome in outcomes] == [outcome.residuals for outcome in positive]
        assert all(self.SENTENCE in outcome.detail or outcome.status is Status.CONVERGED for outcome in outcomes)

    def test_a_sentence_that_is_there_already_comes_first(self) -> None:
        matrix = -sp.csr_array(sp.block_diag([square(4), [[0.0]]]))
        outcome = strategy(matrix, "jacobi").solve(np.ones(17), None, limits(np.ones(17)), np.float64)
        assert outcome.detail.endswith(f" {self.SENTENCE}")
        assert "16" in outcome.detail.removesuffix(self.SENTENCE), "the row without equation"

    def test_an_empty_row_hides_no_sign(self) -> None:
        for blocks in ([[[0.0]], square(4)], [square(4), [[0.0]]]):
            matrix = -sp.csr_array(sp.block_diag(blocks))
            outcome = strategy(matrix, "jacobi").solve(matrix @ np.ones(17), None, limits(np.ones(17)), np.float64)
            assert (outcome.status, outcome.detail) == (Status.CONVERGED, self.SENTENCE)

    @pytest.mark.parametrize("matrix", [square(8), -SYSTEMS["saddle"].A])
    def test_nothing_is_told_of_others(self, matrix: sp.csr_array) -> None:
        own = strategy(matrix, "direct")
        b = np.ones(matrix.shape[0])
        assert self.SENTENCE not in own.solve(b, None, limits(b), np.float64).detail
        assert isinstance(own.prepared, Unsolvable) == (matrix.shape[0] == 2)

    def test_zero_is_solved_for_by_zero(self) -> None:
        outcome = strategy(-square(8)).solve(np.zeros(64), np.ones(64), limits(np.zeros(64)), np.float32)
        assert (outcome.status, outcome.residuals, outcome.detail) == (Status.CONVERGED, [0.0], "")
        assert outcome.x.dtype == np.float32
        assert not outcome.x.any()


class TestLeft:
    """How many iterations are left at the rate of the second half."""

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
    def test_at_a_steady_rate(self, rate: float) -> None:
        history = [rate**i for i in range(11)]
        assert _left(history, rate**30) == pytest.approx(20)

    def test_only_the_second_half_counts(self) -> None:
        assert _left([1.0, 1e-6, 1e-6, 1e-7, 1e-8], 1e-10) == pytest.approx(2)
        assert _left([1.0, 0.9, 0.8, 1e-1, 1e-2, 1e-3, 1e-4], 1e-6) == pytest.approx(2)

    def test_without_progress_there_is_no_end(self) -> None:
        assert _left([1.0, 0.5, 0.5, 0.5], 1e-3) == math.inf
        assert _left([1.0, 0.5, 0.6, 0.7], 1e-3) == math.inf

    def test_a_target_of_zero_takes_long_but_not_for_ever(self) -> None:
        assert _left([10.0**-i for i in range(5)], 0.0) == pytest.approx(296)

    def test_a_residual_of_zero_leaves_nothing(self) -> None:
        assert _left([1.0, 0.1, 0.0], 0.0) <= 0
        assert _left([1.0, 0.1, 0.0], 1e-3) <= 0


def test_a_grid_without_progress_to_look_at() -> None:
    grid: Grid = domain((20, 18), walls="air")
    b = np.ones(360)
    own = strategy(grid)
    assert own.solve(b, None, limits(b), np.float64).status is Status.CONVERGED
    assert own.prepared.preconditioner == "learned-multigrid"


@pytest.mark.compiled
def test_a_grid_that_is_found_on_the_way_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    A = random_coefficients("cut cells", (250, 250), np.random.default_rng((31_337, 2))).matrix()
    b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
    found = DeepCD(threads=1).solve(A, b, 1e-6)
    assert [attempt.method for attempt in found.attempts] == ["ssor", "learned-multigrid"]
    monkeypatch.setattr(strategies, "ON_FACES", (1, 0))
    left = DeepCD(threads=1).solve(A, b, 1e-6)
    assert left.status is Status.CONVERGED
    assert [attempt.method for attempt in left.attempts] == ["ssor", choose(look(A))]
