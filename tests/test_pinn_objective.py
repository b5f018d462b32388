"""The loss of a statement: its residuals, Jacobian and gradient agree, and unknowns come with their deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.pde.equations.conditions import WEIGHT, observe, on
from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import box, polygon
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import NOISY, NotFiniteError, Objective

TX, XY = box(t=(0, 1), x=(-1, 1)), box(x=(0, 1), y=(0, 1))
SEEN = [[0.2, 0.3], [0.7, 0.1], [0.5, 0.9]]


def flow(u: Any, v: Any, p: Any, k: Any) -> list[Any]:
    return [u * u.x + v * u.y + p.x - k * (u.xx + u.yy), u * v.x + v * v.y + p.y - k * (v.xx + v.yy), u.x + v.y]


def statements() -> dict[str, Problem]:
    triangle = polygon((0, 0), (1, 0), (0, 1))
    lid = on(XY["y+"], lambda x, u, v: [u - x * (1 - x), v])
    readings = observe(SEEN, u=[0.1, 0.2, 0.3], sigma=[0.1, 0.2, 0.4])
    return {
        "system with unknown": Problem(flow, XY, lid, readings, fields="uvp", unknowns={"k": 0.5}),
        "start": Problem(lambda u: u.t + u * u.x + 0.0025 * u.xxx, TX, start=lambda x: torch.cos(torch.pi * x)),
        "normals": Problem(
            lambda x, u: (torch.exp(x) * u.x).x + u.yy, triangle, on(triangle[0, 1], lambda u, x: u.n + x * u)
        ),
        "exact readings": Problem(
            lambda u, a, b: u.tt - a * u.xx + b, TX, observe(SEEN, u=[1.0, 2.0, 3.0]), unknowns={"a": 1.0, "b": -1.0}
        ),
        "ansatz": Problem(lambda u: u.xxxx + 2 * u.xxyy + u.yyyy - 1, XY, ansatz=lambda x, u: (x * (1 - x)) ** 2 * u),
    }


STATEMENTS = statements()


def objective(name: str, *, weighted: bool = True, dtype: torch.dtype = torch.float64) -> Objective:
    """The objective of a statement at random points of the domain and of the boundary."""
    problem = STATEMENTS[name]
    net = Network(problem.bounds, outputs=len(problem.fields), width=5, depth=2, seed=1, dtype=dtype)
    made = Objective(problem, net)
    generator = torch.Generator().manual_seed(0)
    x = problem.domain.points(12, generator)
    boundary = [term.part.points(6, generator) for term in problem.terms if term.part is not None]
    weights = torch.rand(12, generator=generator, dtype=torch.float64) if weighted else None
    made.place(x, weights, boundary)
    return made


@pytest.mark.parametrize("name", STATEMENTS)
class TestAgreement:
    def test_the_loss_is_the_sum_of_squares_of_the_residual(self, name: str) -> None:
        made = objective(name)
        r = made.residual(made.theta)
        assert float(made.loss().detach()) == pytest.approx(float(r @ r), rel=1e-12)
        assert made.mean_square() == pytest.approx(float(r @ r), rel=1e-12)

    def test_the_jacobian_is_that_of_central_differences(self, name: str) -> None:
        made = objective(name)
        theta, step = made.theta, 1e-5
        r, transposed = made.jacobian(theta)
        np.testing.assert_allclose(r, made.residual(theta), rtol=1e-12, atol=1e-14)
        for i in [0, 7, 20, *range(len(theta) - 2, len(theta))]:
            ahead, behind = theta.copy(), theta.copy()
            ahead[i] += step
            behind[i] -= step
            wanted = (made.residual(ahead) - made.residual(behind)) / (2 * step)
            np.testing.assert_allclose(transposed[i], wanted, rtol=1e-5, atol=1e-7 * (1 + np.abs(wanted).max()))

    def test_the_gradient_is_twice_the_jacobian_times_the_residual(self, name: str) -> None:
        made = objective(name)
        r, transposed = made.jacobian(made.theta)
        loss, gradient = made(made.theta)
        assert loss == pytest.approx(float(r @ r))
        np.testing.assert_allclose(gradient, 2 * transposed @ r, rtol=1e-9, atol=1e-10 * np.abs(gradient).max())

    def test_single_precision_stays_single(self, name: str) -> None:
        single, double = objective(name, dtype=torch.float32), objective(name)
        assert single.residual(single.theta).dtype == np.float32
        np.testing.assert_allclose(single.mean_square(), double.mean_square(), rtol=1e-3)


def test_the_loss_is_what_the_statement_says() -> None:
    made = objective("normals")
    problem, net = made.problem, made.network
    inside, side = made._placed
    n = problem.terms[1].part
    assert n is not None

    def u(x: Tensor) -> Tensor:
        h = (x - net.centre) * net.rate
        *hidden, last = zip(net.weights, net.biases, strict=True)
        for weight, bias in hidden:
            h = torch.tanh(h @ weight.T + bias)
        return (h @ last[0].T + last[1])[:, 0]

    def d(f: Tensor, x: Tensor) -> Tensor:
        return torch.autograd.grad(f.sum(), x, create_graph=True)[0]

    x = inside.x.clone().requires_grad_()
    slope = d(u(x), x)
    equation = d(torch.exp(x[:, 0]) * slope[:, 0], x)[:, 0] + d(slope[:, 1], x)[:, 1]
    generator = torch.Generator().manual_seed(0)
    problem.domain.points(12, generator)
    at, normal = n.points(6, generator)
    torch.testing.assert_close(at, side.x)
    at.requires_grad_()
    robin = (normal * d(u(at), at)).sum(1) + at[:, 0] * u(at)
    weights = torch.rand(12, generator=generator, dtype=torch.float64)
    wanted = (weights * equation**2).mean() + WEIGHT * (robin**2).mean()
    torch.testing.assert_close(made.loss(), wanted)


@pytest.mark.parametrize("term", ["equation", "condition"])
def test_a_residual_that_is_nan_is_named_with_its_term_and_point(term: str) -> None:
    def broken(s: Any, u: Any) -> Any:
        return torch.log(0.8 - s) * u

    line = box(s=(0, 1))
    problem = Problem(
        broken if term == "equation" else lambda u: u.s,
        line,
        on("s+", broken if term == "condition" else lambda u: u),
        name="mine",
    )
    made = Objective(problem, Network(problem.bounds, width=3, depth=1))
    x = torch.tensor([[0.5], [0.875]], dtype=torch.float64)
    made.place(x, boundary=[(x, torch.ones_like(x))])
    error = made.fault()
    assert isinstance(error, NotFiniteError)
    what = "equation" if term == "equation" else r"condition 1 on ('s+',)"
    assert str(error) == f"the residual of the {what} of 'mine' is not finite at s = 0.875"
    assert made(made.theta)[0] == np.inf
    if term == "equation":
        with pytest.raises(NotFiniteError, match=r"not finite at s = 0\.875"):
            made.residuals(x)
    made.place(x[:1], boundary=[(x[:1], torch.ones(1, 1, dtype=torch.float64))])
    assert made.fault() is None


class TestDeviation:
    """y = u(s) + a s^2 + b s with a field that is held at zero: ordinary least squares for a and b."""

    s = np.linspace(0.1, 0.9, 9)

    def objective(self, *sigma: Any) -> Objective:
        domain = box(s=(0, 1))
        parts = np.array_split(self.s, len(sigma))
        seen = [observe(part[:, None], u=part, sigma=one) for part, one in zip(parts, sigma, strict=True)]
        problem = Problem(lambda u, s, a, b: 10 * (u - a * s**2 - b * s), domain, *seen, unknowns={"a": 0.3, "b": 0.7})
        made = Objective(problem, Network(problem.bounds, width=15, depth=1, seed=2))
        made.place(torch.linspace(0, 1, 60, dtype=torch.float64)[:, None])
        return made

    def wanted(self, sigma: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        A = np.stack([self.s**2, self.s], axis=1) / np.broadcast_to(sigma, self.s.shape)[:, None]
        return np.sqrt(np.diag(np.linalg.inv(A.T @ A)))

    @pytest.mark.parametrize("sigma", [0.01, np.linspace(0.01, 0.05, 9)], ids=["one", "several"])
    def test_is_that_of_linear_least_squares(self, sigma: Any) -> None:
        found = self.objective(sigma).deviation()
        np.testing.assert_allclose([found["a"], found["b"]], self.wanted(sigma), rtol=1e-2)

    def test_of_several_observations_weighs_each_value_by_its_own_error(self) -> None:
        found = self.objective(0.01, 0.2, 0.03).deviation()
        sigma = np.repeat([0.01, 0.2, 0.03], 3)
        np.testing.assert_allclose([found["a"], found["b"]], self.wanted(sigma), rtol=1e-2)

    def test_exact_values_have_none(self) -> None:
        assert objective("exact readings").deviation() == {}
        assert objective("normals").deviation() == {}


def test_readings_weigh_less_than_the_equation_and_by_their_errors() -> None:
    made = objective("system with unknown")
    scale = made._placed[-1].scale
    sigma = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    torch.testing.assert_close(scale * sigma, (scale * sigma)[:1].expand(3))
    assert float((scale**2).sum()) == pytest.approx(NOISY * WEIGHT)
