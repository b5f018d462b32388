"""Gauss-Newton steps: where they lead, when they are refused, and how they go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.optimizers.gauss_newton import GaussNewton

F64 = NDArray[np.float64]


class Fit:
    """Fit a exp(-b t) + c to values: three parameters, a curved valley."""

    t = np.linspace(0, 2, 12)

    def __init__(self, noise: float = 0.0) -> None:
        self.seen = 2 * np.exp(-3 * self.t) + 0.5 + noise * np.random.default_rng(0).standard_normal(12)
        self.calls = 0

    def residual(self, theta: F64) -> F64:
        self.calls += 1
        a, b, c = theta
        return np.asarray(a * np.exp(-b * self.t) + c - self.seen)

    def jacobian(self, theta: F64) -> tuple[F64, F64]:
        a, b, _ = theta
        e = np.exp(-b * self.t)
        return self.residual(theta), np.stack([e, -a * self.t * e, np.ones_like(e)])


def minimised(fit: Any, start: Any, steps: int = 60, **options: Any) -> GaussNewton:
    method = GaussNewton(start, **options)
    for _ in range(steps):
        if not method.step(fit.residual, fit.jacobian):
            break
    return method


@pytest.mark.parametrize("damping", [1e-12, 1e-3, 1e6])
def test_finds_the_minimum_whatever_the_first_damping_is(damping: float) -> None:
    method = minimised(Fit(), [1.0, 1.0, 0.0], damping=damping)
    np.testing.assert_allclose(method.theta, [2, 3, 0.5], rtol=1e-8)


def test_noise_is_fitted_as_least_squares_do() -> None:
    from scipy.optimize import least_squares

    fit = Fit(noise=0.1)
    wanted = least_squares(fit.residual, [1.0, 1.0, 0.0], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    method = minimised(fit, [1.0, 1.0, 0.0])
    np.testing.assert_allclose(method.theta, wanted.x, rtol=1e-5)
    assert method.value == pytest.approx(2 * wanted.cost, rel=1e-9)


def test_a_linear_problem_is_solved_by_a_few_steps() -> None:
    A = np.random.default_rng(1).standard_normal((9, 4))
    b = A @ [1.0, -2.0, 3.0, 0.0]
    method = GaussNewton(np.zeros(4), damping=1e-10)
    for _ in range(3):
        method.step(lambda x: A @ x - b, lambda x: (A @ x - b, A.T))
    np.testing.assert_allclose(method.theta, [1, -2, 3, 0], atol=1e-9)


def test_the_acceleration_follows_curved_valleys() -> None:
    """Along a parabola the second derivative of the residuals is all that a step of the linear model misses."""

    def residual(x: F64) -> F64:
        return np.array([1e3 * (x[1] - x[0] ** 2), 1 - x[0]])

    def jacobian(x: F64) -> tuple[F64, F64]:
        return residual(x), np.array([[-2e3 * x[0], -1.0], [1e3, 0.0]])

    method, steps = GaussNewton([-1.2, 1.44]), 0
    while method.step(residual, jacobian) and method.value > 1e-18:
        steps += 1
    assert steps < 40


def test_the_value_may_rise_within_the_average_of_earlier_ones() -> None:
    """A monotone method would have to go down at each step; this one goes up on the way, and gets there."""

    def residual(x: F64) -> F64:
        return np.array([1e3 * (x[1] - x[0] ** 3), 1 - x[0], 0.1 * np.sin(10 * x[0])])

    def jacobian(x: F64) -> tuple[F64, F64]:
        rows = [[-3e3 * x[0] ** 2, -1.0, np.cos(10 * x[0])], [1e3, 0.0, 0.0]]
        return residual(x), np.array(rows)

    method, values = GaussNewton([-1.2, 1.44]), []
    for _ in range(60):
        method.step(residual, jacobian)
        values.append(method.value)
    ratios = np.array(values[1:]) / values[:-1]
    assert 1.0 < ratios.max() < 100.0
    assert values[-1] == pytest.approx(min(values))


def test_a_trial_that_leaves_the_range_of_its_model_is_refused_although_its_value_is_lower() -> None:
    """Where the derivative is small, the linear model leads over many waves, to lower values than the first one."""

    def residual(x: F64) -> F64:
        return np.cos(x) + 0.5

    def jacobian(x: F64) -> tuple[F64, F64]:
        return residual(x), -np.diag(np.sin(x))

    method = GaussNewton([0.1])
    bold = 0.1 + 1.495 / np.sin(0.1)
    assert (np.cos(bold) + 0.5) ** 2 < 0.1 * (np.cos(0.1) + 0.5) ** 2
    for _ in range(30):
        method.step(residual, jacobian)
    assert method.theta[0] == pytest.approx(2 * np.pi / 3, abs=1e-8)


def test_a_function_that_becomes_much_larger_is_another_one() -> None:
    """After a steep fall the average of earlier values is high; it must not allow rises of what came instead."""
    method = GaussNewton([8.0])
    for _ in range(2):
        method.step(lambda x: x.copy(), lambda x: (x.copy(), np.eye(1)))
    steep = method.value
    assert steep < 1e-3

    def residual(x: F64) -> F64:
        return np.array([3.0, 10.0 * np.sin(x[0])])

    before = float(residual(method.theta) @ residual(method.theta))
    for _ in range(5):
        method.step(residual, lambda x: (residual(x), np.array([[0.0, -10.0 * np.cos(x[0])]])))
        assert method.value <= before


def test_refuses_a_step_where_none_is_better_and_stays() -> None:
    method = GaussNewton([1.0])
    wrong = np.array([[0.0, -1.0]])  # the sign of the derivative is not that of the function

    def residual(x: F64) -> F64:
        return np.array([1.0, x[0]])

    assert not method.step(residual, lambda x: (residual(x), wrong))
    np.testing.assert_array_equal(method.theta, [1.0])
    assert method.value == 2.0
    assert method.trials > 10


def test_leaves_where_residuals_are_not_finite() -> None:
    """The logarithm is not there below zero, where a bold step would lead."""

    def residual(x: F64) -> F64:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(x)

    method = GaussNewton([20.0], damping=1e-9)
    for _ in range(30):
        method.step(residual, lambda x: (residual(x), np.diag(1 / x)))
    assert method.theta[0] == pytest.approx(1.0, abs=1e-7)


def test_goes_on_bit_for_bit() -> None:
    fit = Fit(noise=0.1)
    whole, first = GaussNewton([1.0, 1.0, 0.0]), GaussNewton([1.0, 1.0, 0.0])
    for _ in range(6):
        whole.step(fit.residual, fit.jacobian)
    for _ in range(3):
        first.step(fit.residual, fit.jacobian)
    rest = GaussNewton(np.zeros(3))
    rest.load(first.state())
    for _ in range(3):
        rest.step(fit.residual, fit.jacobian)
    np.testing.assert_array_equal(rest.theta, whole.theta)
    assert {k: v.tolist() for k, v in rest.state().items()} == {k: v.tolist() for k, v in whole.state().items()}


class TestBadInput:
    @pytest.mark.parametrize("theta", [[[1.0]], [np.nan], 1.0])
    def test_theta_is_a_finite_vector(self, theta: Any) -> None:
        with pytest.raises(ValueError, match="theta must be a vector of finite numbers"):
            GaussNewton(theta)

    @pytest.mark.parametrize("damping", [0.0, -1.0, np.inf, np.nan])
    def test_damping_is_positive(self, damping: float) -> None:
        with pytest.raises(ValueError, match="damping must be a positive number"):
            GaussNewton([1.0], damping=damping)

    def test_the_jacobian_is_transposed(self) -> None:
        fit = Fit()
        method = GaussNewton([1.0, 1.0, 0.0])
        with pytest.raises(ValueError, match=r"must have the shape \(3, 12\), got \(12, 3\)"):
            method.step(fit.residual, lambda x: (fit.residual(x), fit.jacobian(x)[1].T))

    def test_residuals_are_finite_at_theta(self) -> None:
        method = GaussNewton([1.0])
        with pytest.raises(FloatingPointError, match="not finite at the current point"):
            method.step(lambda x: x, lambda x: (np.array([np.nan]), np.ones((1, 1))))
        assert method.theta.tolist() == [1.0]

    @pytest.mark.parametrize("name", ["theta", "damping", "value"])
    def test_states_are_whole(self, name: str) -> None:
        method = GaussNewton([1.0, 2.0])
        state = method.state()
        del state[name]
        with pytest.raises(ValueError, match=f"state has no '{name}'"):
            method.load(state)
        with pytest.raises(ValueError, match="expected"):
            method.load(GaussNewton([1.0]).state())
        assert method.theta.tolist() == [1.0, 2.0]
