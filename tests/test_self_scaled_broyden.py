"""The self-scaled quasi-Newton methods, and the pass over the inverse Hessian beneath them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from deepcd.solvers.kernels.quasi_newton import definition, update_and_multiply
from deepcd.solvers.optimizers.self_scaled_broyden import SelfScaledBroyden, Trial

VARIANTS = ("broyden", "bfgs")
Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


def rosenbrock(theta: np.ndarray) -> tuple[float, np.ndarray]:
    return float(rosen(theta)), rosen_der(theta)


def stiff_matrix(n: int, condition: float, seed: int = 0) -> np.ndarray:
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return (Q * np.geomspace(1, condition, n)) @ Q.T


def quadratic(A: np.ndarray) -> Function:
    return lambda theta: (float(theta @ A @ theta) / 2, A @ theta)


def quartic(A: np.ndarray) -> Function:
    return lambda theta: (float(theta @ A @ theta / 2 + 2.5 * np.sum(theta**4)), A @ theta + 10 * theta**3)


def full(triangle: np.ndarray) -> np.ndarray:
    n = math.isqrt(2 * triangle.size)
    L = np.zeros((n, n))
    L[np.tril_indices(n)] = triangle
    return L + np.tril(L, -1).T


def inverse_hessian(optimizer: SelfScaledBroyden) -> np.ndarray:
    """Return H as a matrix, its pending update carried out."""
    state = optimizer.state()
    return definition(full(state["triangle"]), state["factors"], state["u"], state["s"], state["s"])[0]


def run(fun: Function, theta: np.ndarray, target: float, **options: Any) -> SelfScaledBroyden:
    optimizer = SelfScaledBroyden(theta, **options)
    while not optimizer.value <= target and optimizer.evaluations < 10_000 and optimizer.step(fun):
        pass
    return optimizer


def published(
    H: np.ndarray, s: np.ndarray, y: np.ndarray, g: np.ndarray, alpha: float, *, first: bool
) -> tuple[np.ndarray, float]:
    """Return SSBroyden's next H and theta from full matrices, as equations 13-23 of Urban et al. have it."""
    rho, u = 1 / (y @ s), H @ y
    b, h = -alpha * rho * (s @ g), (y @ u) * rho
    a = h * b - 1
    c = np.sqrt(a / (a + 1))
    lower = min(1, h * (1 - c))
    theta = max((lower - 1) / a, min(1 / lower, (1 - b) / b))
    sigma = 1 + theta * a
    power = sigma ** (1 / (1 - len(s)))
    if first:
        tau = h / sigma
    elif theta <= 0:
        tau = min(min(1, 1 / b) * power, sigma)
    else:
        tau = min(1, 1 / b) * min(power, 1 / theta)
    v = np.sqrt(y @ u) * (s * rho - u / (y @ u))
    phi = (1 - theta) / sigma
    return (H - np.outer(u, u) / (y @ u) + phi * np.outer(v, v)) / tau + np.outer(s, s) * rho, theta


class ExactSearch(SelfScaledBroyden):
    """For a quadratic of matrix A."""

    A: np.ndarray

    def _search(self, fun: Any) -> Trial | None:
        p = -self._product
        return self._try(fun, -(self.gradient @ p) / (p @ self.A @ p))


@pytest.mark.parametrize("shares", [(0, 37), (0, 11, 12, 37)])
def test_the_pass_is_its_definition(shares: tuple[int, ...]) -> None:
    n, rng = 37, np.random.default_rng(1)
    H = rng.standard_normal((n, n))
    H += H.T
    u, s, g = rng.standard_normal((3, n))
    factors = np.array([1.3, -0.2, 0.7, 0.4])
    triangle, out = H[np.tril_indices(n)], np.full((len(shares) - 1, n), np.nan)
    for t, part in enumerate(out):
        update_and_multiply(triangle, factors, u, s, g, part, shares[t], shares[t + 1])
    expected, product = definition(H, factors, u, s, g)
    np.testing.assert_allclose(full(triangle), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(out.sum(axis=0), product, rtol=1e-12, atol=1e-12)


def test_each_update_is_the_published_one() -> None:
    optimizer, thetas = SelfScaledBroyden(np.full(6, -0.5)), []
    for k in range(40):
        before, g = optimizer.theta, rosenbrock(optimizer.theta)[1]
        H = inverse_hessian(optimizer) if k else np.eye(6) / np.linalg.norm(g)
        assert optimizer.step(rosenbrock)
        s = optimizer.theta - before
        alpha = float(np.linalg.norm(s) / np.linalg.norm(H @ g))
        expected, theta = published(H, s, optimizer.gradient - g, g, alpha, first=k == 0)
        np.testing.assert_allclose(inverse_hessian(optimizer), expected, rtol=1e-6, atol=1e-8 * abs(expected).max())
        thetas.append(theta)
    assert min(thetas) < 0 < max(thetas)


def test_bfgs_without_scaling_is_the_textbook_one() -> None:
    """Where the last step found no less curvature than H says, tau = 1."""
    optimizer, plain = SelfScaledBroyden(np.full(6, -0.5), variant="bfgs"), 0
    optimizer.step(rosenbrock)
    for _ in range(40):
        H, g, before = inverse_hessian(optimizer), optimizer.gradient, optimizer.theta
        optimizer.step(rosenbrock)
        s, y = optimizer.theta - before, optimizer.gradient - g
        if s @ np.linalg.solve(H, s) <= y @ s:
            plain += 1
            P = np.eye(6) - np.outer(s, y) / (y @ s)
            expected = P @ H @ P.T + np.outer(s, s) / (y @ s)
            np.testing.assert_allclose(inverse_hessian(optimizer), expected, rtol=1e-7, atol=1e-9 * H.max())
    assert plain > 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_secant_equation_and_positive_definiteness(variant: str) -> None:
    optimizer = SelfScaledBroyden(np.random.default_rng(3).uniform(-1, 1, 30), variant=variant)
    optimizer.step(rosenbrock)
    for _ in range(100):
        before, g = optimizer.theta, optimizer.gradient
        assert optimizer.step(rosenbrock)
        H, s = inverse_hessian(optimizer), optimizer.theta - before
        np.testing.assert_allclose(H @ (optimizer.gradient - g), s, atol=1e-8 * float(np.linalg.norm(s)))
        np.testing.assert_allclose(optimizer.state()["product"], H @ optimizer.gradient, rtol=1e-6, atol=1e-9)
        assert np.linalg.eigvalsh(H)[0] > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_searches_end_on_a_quadratic_after_n_steps(variant: str) -> None:
    n = 8
    A = stiff_matrix(n, 10.0)
    optimizer = ExactSearch(np.random.default_rng(4).standard_normal(n), variant=variant)
    optimizer.A, values = A, []
    for _ in range(n):
        assert optimizer.step(quadratic(A))
        values.append(optimizer.value)
    assert values[-1] < 1e-25
    assert values[-2] > 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_multiple_of_the_function_has_the_same_iterates(variant: str) -> None:
    theta = np.linspace(-1, 1, 20)
    one, other = (SelfScaledBroyden(theta, variant=variant) for _ in range(2))
    for _ in range(60):
        assert one.step(rosenbrock)
        assert other.step(lambda x: (2.0**-40 * rosenbrock(x)[0], 2.0**-40 * rosenbrock(x)[1]))
        np.testing.assert_array_equal(one.theta, other.theta)


@pytest.mark.compiled
def test_takes_fewer_evaluations_than_lbfgs_where_it_is_stiff() -> None:
    fun, start, target = quartic(stiff_matrix(60, 1e5)), np.random.default_rng(5).standard_normal(60), 1e-12

    def stop(intermediate_result: Any) -> None:
        if intermediate_result.fun <= target:
            raise StopIteration

    limits = {"maxcor": 100, "maxiter": 5000, "maxfun": 5000, "ftol": 0, "gtol": 0}
    theirs = minimize(fun, start, jac=True, method="L-BFGS-B", callback=stop, options=limits)
    assert theirs.fun <= target
    for variant in VARIANTS:
        ours = run(fun, start, target, variant=variant)
        assert ours.value <= target
        assert 1.5 * ours.evaluations < theirs.nfev


@pytest.mark.parametrize("variant", VARIANTS)
def test_descends_monotonically_to_the_minimum_of_rosenbrock(variant: str) -> None:
    optimizer, values = SelfScaledBroyden(np.linspace(-1, 1, 50), variant=variant), [math.inf]
    while values[-1] > 1e-20:
        assert optimizer.step(rosenbrock)
        assert optimizer.value <= values[-1]
        values.append(optimizer.value)
        assert len(values) < 1000
    np.testing.assert_allclose(optimizer.theta, 1, atol=1e-9)
    assert optimizer.evaluations < 1.5 * len(values)


def test_wolfe_conditions_hold_after_every_step() -> None:
    optimizer = SelfScaledBroyden(np.linspace(-1, 1, 20))
    for _ in range(80):
        value, slope, before = rosenbrock(optimizer.theta)[0], rosenbrock(optimizer.theta)[1], optimizer.theta
        optimizer.step(rosenbrock)
        s = optimizer.theta - before
        assert slope @ s < 0
        assert optimizer.value <= value + 1e-4 * (slope @ s)
        assert abs(optimizer.gradient @ s) <= 0.9 * abs(slope @ s) * (1 + 1e-9)


@pytest.mark.parametrize("start", [0.0, 1e3])
def test_one_parameter(start: float) -> None:
    optimizer = run(lambda x: (float(np.sum((x - 3) ** 4)), 4 * (x - 3) ** 3), np.array([start]), 1e-20)
    assert optimizer.theta == pytest.approx(3, abs=1e-4)


def test_a_function_that_changes_gives_no_pair_across_the_change() -> None:
    A, B = stiff_matrix(10, 50.0), stiff_matrix(10, 50.0, seed=1)
    optimizer = SelfScaledBroyden(np.ones(10))
    for _ in range(5):
        optimizer.step(quadratic(A))
    kept, at, calls = inverse_hessian(optimizer), optimizer.theta, []
    optimizer.moved()
    assert math.isnan(optimizer.value)
    assert np.isnan(optimizer.gradient).all()
    np.testing.assert_array_equal(inverse_hessian(optimizer), kept)

    def recorded(theta: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(theta.copy())
        return quadratic(B)(theta)

    assert optimizer.step(recorded)
    np.testing.assert_array_equal(calls[0], at)
    direction = -kept @ (B @ at)
    s = optimizer.theta - at
    np.testing.assert_allclose(s, direction * (s @ direction) / (direction @ direction), rtol=1e-9)
    np.testing.assert_allclose(inverse_hessian(optimizer) @ (B @ s), s, rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_a_state_continues_bit_for_bit(steps: int) -> None:
    one, other = SelfScaledBroyden(np.linspace(-1, 1, 20)), SelfScaledBroyden(np.zeros(20))
    for _ in range(steps):
        one.step(rosenbrock)
    other.load({name: value.copy() for name, value in one.state().items()})
    for k in range(20):
        if k == 10:
            one.moved()
            other.moved()
        assert one.step(rosenbrock)
        assert other.step(rosenbrock)
        np.testing.assert_array_equal(one.theta, other.theta)
        assert (one.value, one.evaluations) == (other.value, other.evaluations)


def test_a_state_is_a_copy() -> None:
    optimizer = SelfScaledBroyden(np.linspace(-1, 1, 20))
    optimizer.step(rosenbrock)
    state = optimizer.state()
    kept = {name: value.copy() for name, value in state.items()}
    optimizer.step(rosenbrock)
    for name, value in kept.items():
        np.testing.assert_array_equal(state[name], value)


def test_states_that_do_not_fit_are_refused() -> None:
    optimizer = SelfScaledBroyden(np.zeros(3))
    with pytest.raises(ValueError, match=r"state\['theta'\] is of shape \(4,\), expected \(3,\).*3 parameters"):
        optimizer.load(SelfScaledBroyden(np.zeros(4)).state())
    state = optimizer.state()
    del state["triangle"]
    with pytest.raises(ValueError, match="state has no 'triangle'"):
        optimizer.load(state)


@pytest.mark.compiled
def test_threads_agree() -> None:
    A = stiff_matrix(400, 1e4)
    one, two = (SelfScaledBroyden(np.ones(400), threads=threads) for threads in (1, 2))
    for _ in range(15):
        one.step(quadratic(A))
        two.step(quadratic(A))
    assert one.value < 0.1 * quadratic(A)(np.ones(400))[0]
    np.testing.assert_allclose(two.theta, one.theta, rtol=1e-8)
    np.testing.assert_allclose(inverse_hessian(two), inverse_hessian(one), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["value", "gradient"])
def test_not_finite_is_too_far(bad: float, where: str) -> None:
    """The log barrier of x < 1 with what lies beyond made worse than it is."""

    def barrier(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x.max() >= 1:
            return (bad, x) if where == "value" else (0.0, np.array([0.5, bad]))
        return float(np.sum(-np.log(1 - x) - 50 * x)), 1 / (1 - x) - 50

    optimizer = run(barrier, np.array([-3.0, 0.5]), -math.inf)
    np.testing.assert_allclose(optimizer.theta, 0.98, rtol=1e-6)


def test_not_finite_at_the_current_point_is_an_error() -> None:
    optimizer = SelfScaledBroyden(np.zeros(3))
    with pytest.raises(FloatingPointError, match="value at the current point is nan"):
        optimizer.step(lambda x: (math.nan, x))
    with pytest.raises(FloatingPointError, match="entry 1 of the gradient at the current point is inf"):
        optimizer.step(lambda x: (0.0, np.array([1.0, math.inf, 2.0])))
    assert optimizer.step(lambda x: (float(x.sum() ** 2 + x[0]), 2 * x.sum() + np.array([1.0, 0, 0])))
    optimizer.moved()
    with pytest.raises(FloatingPointError, match="value at the current point is inf"):
        optimizer.step(lambda x: (math.inf, x))


def test_says_why_it_stops() -> None:
    optimizer = SelfScaledBroyden(np.zeros(3))
    assert not optimizer.step(lambda x: (1.0, 0 * x))
    assert optimizer.message == "the gradient is zero"
    optimizer = SelfScaledBroyden(np.ones(3))
    before = optimizer.theta
    assert not optimizer.step(lambda x: (float(x @ x), -2 * x))  # a gradient of the wrong sign
    assert "no step along the negative gradient" in optimizer.message
    np.testing.assert_array_equal(optimizer.theta, before)


def test_an_inverse_hessian_that_fails_is_given_up_once() -> None:
    optimizer = SelfScaledBroyden(np.linspace(-1, 1, 20))
    for _ in range(10):
        optimizer.step(rosenbrock)
    state = optimizer.state()
    optimizer.load({**state, "product": -state["product"], "triangle": -state["triangle"]})
    value, g = optimizer.value, optimizer.gradient
    before = optimizer.theta
    assert optimizer.step(rosenbrock)
    assert optimizer.value < value
    s = optimizer.theta - before
    assert s @ g == pytest.approx(-np.linalg.norm(s) * np.linalg.norm(g))
    assert np.linalg.eigvalsh(inverse_hessian(optimizer))[0] > 0


def test_a_step_that_finds_no_curvature_still_descends() -> None:
    """A linear function has no minimum, and no pair that could be learned from."""
    optimizer = SelfScaledBroyden(np.zeros(4))
    for _ in range(3):
        value = optimizer.value
        assert optimizer.step(lambda x: (float(x.sum()), np.ones(4)))
        assert not optimizer.value >= value
    assert np.isfinite(inverse_hessian(optimizer)).all()


def test_gradient_arrays_may_be_used_again() -> None:
    buffer = np.empty(20)

    def reusing(theta: np.ndarray) -> tuple[float, np.ndarray]:
        buffer[:] = rosen_der(theta)
        return float(rosen(theta)), buffer

    start = np.linspace(-1, 1, 20)
    assert run(reusing, start, 1e-10).evaluations == run(rosenbrock, start, 1e-10).evaluations


@pytest.mark.parametrize(
    ("theta", "options", "message"),
    [
        (np.zeros((2, 2)), {}, "theta is of shape (2, 2)"),
        ([], {}, "theta is of shape (0,)"),
        ([0.0, math.nan], {}, "finite"),
        ([0.0], {"variant": "dfp"}, "variant='dfp': choose 'broyden' or 'bfgs'"),
        ([0.0], {"threads": 0}, "threads=0"),
    ],
)
def test_bad_arguments(theta: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SelfScaledBroyden(theta, **options)


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient is of shape \(2,\), expected that of theta, \(3,\)"):
        SelfScaledBroyden(np.zeros(3)).step(lambda x: (0.0, x[:2]))
