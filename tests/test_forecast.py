"""How many iterations are left: forecasts from residuals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from deepcd.solvers.forecast import Steps, condition, left, looks, promised
from deepcd.solvers.preconditioners.jacobi import Jacobi

from .systems import line, square


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_forecasts_are_of_the_right_size(n: int, share: float) -> None:
    A, b = square(n), np.random.default_rng(0).standard_normal(n * n)
    M, target = Jacobi(A.diagonal(), A), 1e-6 * float(np.linalg.norm(b))
    vectors, (alphas, betas, norms) = np.zeros((M.vectors, n * n)), np.zeros((3, 999))
    vectors[2] = b
    total, _ = M.iterate(vectors, M.begin(vectors), alphas, betas, norms, np.array([np.inf, 1.0]), 0, 999, target)
    count = int(share * total)
    assert 0.4 <= left(Steps(alphas[:count], betas[:count], norms[:count], target)) / (total - count) <= 2.5


def test_what_goes_on_as_before_is_forecast_exactly() -> None:
    norms = 0.5 ** np.arange(1, 11)
    assert left(Steps(norms, norms, norms, norms[-1] / 2**7)) == pytest.approx(7)
    assert left(Steps(norms, norms, norms, norms[-1])) == 0.0


@pytest.mark.parametrize("last", [1.0, 2.0])
@pytest.mark.parametrize(("count", "most"), [(4, 48), (16, 100), (30, 100), (100, 100), (300, 300)])
def test_plateaus_end(last: float, count: int, most: int) -> None:
    norms = np.ones(count)
    norms[-1] = last
    assert left(Steps(norms, norms, norms, 1e-6)) == most


def test_plateaus_of_many_unknowns_are_longer() -> None:
    norms = np.ones(30)
    steps = Steps(norms, norms, norms, 1e-6)
    assert left(steps, n=10**4) == pytest.approx(6.6 * 10 ** (4 / 3))
    assert left(steps, n=10**6) == 360, "twelve times the steps so far"
    norms = np.ones(90)
    assert left(Steps(norms, norms, norms, 1e-6), n=10**6) == pytest.approx(660)


def test_a_condition_number_that_promises_more_is_heard_half() -> None:
    norms = 0.1 ** np.arange(1, 5)
    steps = Steps(norms, norms, norms, norms[-1] / 100)
    more = promised(400.0, math.log(100))
    assert more == pytest.approx(20 * math.log(200))
    assert left(steps, 400.0) == pytest.approx(math.sqrt(2 * more))
    assert left(steps, 0.01) == pytest.approx(2.0)


def test_looks_become_rare() -> None:
    assert list(itertools.islice(looks(), 10)) == [5, 8, 13, 21, 34, 55, 89, 144, 233, 377]


def test_after_n_steps_the_condition_number_is_that_of_the_scaled_matrix() -> None:
    A, b = line(9), np.random.default_rng(0).standard_normal(9)
    M = Jacobi(A.diagonal(), A)
    vectors, (alphas, betas, norms) = np.zeros((M.vectors, 9)), np.zeros((3, 16))
    vectors[2] = b
    done, _ = M.iterate(vectors, M.begin(vectors), alphas, betas, norms, np.array([np.inf, 1.0]), 0, 9, 0.0)
    assert condition(alphas[:done], betas[:done]) == pytest.approx(np.linalg.cond(A.toarray()), rel=1e-6)


def test_coefficients_that_are_not_finite_are_those_of_a_singular_matrix() -> None:
    assert condition(np.array([1.0, np.inf]), np.array([0.0, np.nan])) == np.inf
