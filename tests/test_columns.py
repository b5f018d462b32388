"""Several right-hand sides as one system."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deepcd.solvers import columns as module
from deepcd.solvers.columns import iterate_together
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.columnwise import Columnwise, columns
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.solution import Status

from .test_refinement import chain, parts_of, with_lone_rows

N, K = 50, 5
LIMITS = Limits(math.nan, 1000, math.inf, None)


@pytest.fixture
def B() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, K)) * 10.0 ** np.arange(-2, K - 2)


def together(parts: Parts, B: np.ndarray, X: np.ndarray, tol: Any = 1e-8, **limits: Any) -> list[Outcome]:
    targets = tol * np.linalg.norm(B, axis=0)
    return iterate_together(parts, B, X, targets, replace(LIMITS, **limits))


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("group", [1, 2, K])
def test_every_column_meets_its_own_target(
    B: np.ndarray, group: int, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY", group * module.BYTES * N)
    A, tol = chain(N), np.array([1e-4, 1e-8, 1e-6, 1e-10, 1e-5])
    X = np.random.default_rng(1).standard_normal((N, K)) if started else np.zeros((N, K))
    before = B - A @ X
    outcomes = together(parts_of(A), B, X, tol)
    assert (np.linalg.norm(B - A @ X, axis=0) <= 1.01 * tol * np.linalg.norm(B, axis=0)).all()
    for j, outcome in enumerate(outcomes):
        assert outcome.status is Status.MAXITER  # that it has converged is for others to say
        assert np.shares_memory(outcome.x, X)
        np.testing.assert_array_equal(outcome.x, X[:, j])
        assert outcome.residuals[0] == pytest.approx(np.linalg.norm(before[:, j]))
        assert outcome.residuals[-1] == pytest.approx(np.linalg.norm(B[:, j] - A @ X[:, j]), rel=1e-2)
    assert len({len(outcome.residuals) for outcome in outcomes}) <= -(-K // group)


def test_one_column_iterates_as_a_vector_does(B: np.ndarray) -> None:
    """The arithmetic is that of the loop on one vector, so the number of iterations is the same."""
    from deepcd.solvers.refinement import refine

    b = np.ascontiguousarray(B[:, 3])
    X = np.zeros((N, 1))
    (outcome,) = together(parts_of(chain(N)), b[:, None], X)
    alone = refine(parts_of(chain(N)), b, None, replace(LIMITS, target=1e-8 * float(np.linalg.norm(b))), 1, np.float64)
    assert len(outcome.residuals) == len(alone.residuals)
    np.testing.assert_allclose(X[:, 0], alone.x, rtol=1e-9)


def test_rows_on_their_own_are_solved_for_all_columns() -> None:
    A, right = chain(8), np.random.default_rng(0).standard_normal((11, 3))
    X = np.zeros((11, 3))
    together(with_lone_rows(A, [2.0, 4.0, 0.0]), right, X)
    np.testing.assert_allclose(X[:2], right[:2] / [[2.0], [4.0]])
    np.testing.assert_array_equal(X[2], 0)  # the row is empty
    np.testing.assert_allclose(A @ X[3:], right[3:], atol=1e-6)


def test_constants_are_kept_out_of_a_singular_system(B: np.ndarray) -> None:
    A, X = chain(N, closed=True), np.zeros((N, K))
    right = B - B.mean(axis=0) * (np.arange(K) % 2)  # every other column has a solution
    together(parts_of(A), right, X)
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-6 * np.abs(X).max())
    rest = right - right.mean(axis=0) - A @ X
    assert (np.linalg.norm(rest, axis=0) <= 1e-6 * np.linalg.norm(right, axis=0)).all()


def test_a_column_of_zeros_stays_zero(B: np.ndarray) -> None:
    B[:, 2] = 0
    X = np.zeros((N, K))
    outcomes = together(parts_of(chain(N)), B, X)
    assert not X[:, 2].any()
    assert outcomes[2].residuals[-1] == 0


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


def test_a_deadline_that_has_passed_leaves_one_iteration(B: np.ndarray) -> None:
    outcomes = together(parts_of(chain(N)), B, np.zeros((N, K)), deadline=time.perf_counter() - 1)
    assert [(outcome.status, len(outcome.residuals)) for outcome in outcomes] == [(Status.TIMEOUT, 2)] * K


def test_preconditioners_have_columns_of_their_own_or_are_taken_one_by_one(B: np.ndarray) -> None:
    assert not isinstance(columns(Identity(N), K), Columnwise)
    M = columns(Jacobi(chain(N).diagonal()), K)
    assert isinstance(M, Columnwise)
    z = M.zeros()
    assert M.apply(B.ravel(), z) == pytest.approx(float(np.sum(B * B / 2)))
    np.testing.assert_array_equal(z.reshape(N, K), B / 2)
    X = np.zeros((N, K))
    together(replace(parts_of(chain(N)), M=Jacobi(chain(N).diagonal())), B, X)
    np.testing.assert_allclose(chain(N) @ X, B, atol=1e-6 * np.abs(B).max())
