"""The pair that a solve returns, and its statuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from deepcd.solvers.solution import Solution, Status


def make(status: Status = Status.CONVERGED, count: int = 3) -> Solution:
    return Solution(
        np.arange(4.0), status, residuals=[1.0] * (count + 1), preconditioner="learned-multigrid", work=8.0,
        setup_time=0.5, solve_time=0.25, detail="Row 3.",
    )  # fmt: skip


def test_is_a_pair() -> None:
    solution = make()
    x, info = solution
    assert isinstance(solution, tuple)
    assert len(solution) == 2
    assert x is solution.x is solution[0]
    assert info == solution.info == 0


def test_attributes() -> None:
    solution = make()
    assert (solution.iterations, solution.preconditioner, solution.work) == (3, "learned-multigrid", 8.0)
    assert (solution.setup_time, solution.solve_time) == (0.5, 0.25)
    assert solution.residuals.dtype == np.float64
    assert solution.message == f"{Status.CONVERGED.value} Row 3."


@pytest.mark.parametrize("status", list(Status))
def test_info_is_zero_for_convergence_alone(status: Status) -> None:
    assert (make(status).info == 0) == (status is Status.CONVERGED)
    assert (make(status, 0).info == 0) == (status is Status.CONVERGED)


def test_info_counts_iterations_or_is_negative() -> None:
    assert make(Status.MAXITER, 7).info == 7
    assert make(Status.TIMEOUT, 0).info == 1
    assert make(Status.INDEFINITE_MATRIX).info < 0
    assert make(Status.BREAKDOWN).info < 0


def test_statuses_are_distinct_sentences() -> None:
    sentences = [status.value for status in Status]
    assert len(set(sentences)) == len(Status) >= 12
    assert all(text[0].isupper() and text.endswith(".") for text in sentences)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_keep_everything(duplicate: Callable[[Solution], Solution]) -> None:
    twin = duplicate(make(Status.MAXITER))
    assert (twin.status, twin.info, twin.detail, twin.setup_time) == (Status.MAXITER, 3, "Row 3.", 0.5)
    assert twin.preconditioner == "learned-multigrid"
    np.testing.assert_array_equal(twin.x, np.arange(4.0))


def test_repr_is_one_short_line() -> None:
    text = repr(make())
    assert "CONVERGED" in text
    assert "3 iterations" in text
    assert len(text) < 200
    assert "\n" not in text
