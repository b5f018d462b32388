"""What the first steps of conjugate gradients tell: Ritz values are eigenvalues, forecasts are of the right size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.forecast import Steps, condition, left, looks

from .systems import line, square


def steps_of(A: sp.csr_array, b: np.ndarray, count: int, target: float) -> tuple[Steps, int]:
    """Return the first steps of plain conjugate gradients, and how many there are to the target."""
    r, p = b.copy(), b.copy()
    alphas, betas, norms = [], [0.0], [float(np.linalg.norm(b))]
    while norms[-1] > target:
        q = A @ p
        rr = r @ r
        alphas.append(rr / (p @ q))
        r = r - alphas[-1] * q
        betas.append((r @ r) / rr)
        p = r + betas[-1] * p
        norms.append(float(np.linalg.norm(r)))
    first = (np.array(values) for values in (alphas[:count], betas[:count], norms[1 : count + 1]))
    return Steps(next(first), next(first), next(first), target), len(alphas)


def test_after_n_steps_the_condition_number_is_that_of_the_matrix() -> None:
    A, b = line(9), np.random.default_rng(0).standard_normal(9)
    steps, _ = steps_of(A, b, 9, 1e-13)
    assert condition(steps.alphas, steps.betas) == pytest.approx(np.linalg.cond(A.toarray()), rel=1e-6)


@pytest.mark.parametrize("n", [20, 40])
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_later_forecasts_are_of_the_right_size(n: int, share: float) -> None:
    A, b = square(n), np.random.default_rng(0).standard_normal(n * n)
    _, total = steps_of(A, b, 1, 1e-6 * float(np.linalg.norm(b)))
    count = int(share * total)
    steps, _ = steps_of(A, b, count, 1e-6 * float(np.linalg.norm(b)))
    assert 0.7 <= left(steps) / (total - count) <= 2.8  # towards the end, convergence is faster than the bound


def test_early_forecasts_do_not_promise_too_much() -> None:
    A, b = square(60), np.random.default_rng(0).standard_normal(3600)
    target = 1e-6 * float(np.linalg.norm(b))
    _, total = steps_of(A, b, 1, target)
    early = [left(steps_of(A, b, count, target)[0]) for count in (4, 8, 16)]
    assert early == sorted(early), "the condition number is seen to grow"
    assert 0.1 * total < early[0] < total


def test_nothing_is_left_at_the_target_and_five_times_the_steps_where_no_end_is_in_sight() -> None:
    some = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    assert left(Steps(*some, np.array([1.0, 1e-7]), target=1e-6)) == 0.0
    assert left(Steps(np.array([1.0, np.inf]), np.array([0.0, np.nan]), np.ones(2), target=1e-6)) == 10.0


def test_looks_become_rare() -> None:
    assert list(itertools.islice(looks(), 10)) == [5, 8, 13, 21, 34, 55, 89, 144, 233, 377]
