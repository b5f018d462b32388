"""The network, its derivatives and its loss, against nested automatic differentiation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from deepcd.pde.problems import Condition, Problem, coordinates, problem
from deepcd.pde.problems.jets import Jet
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import NotFiniteError, Objective
from deepcd.solvers.pinn.tanh_jets import tanh_jets

SUMS = {1: ((0,),), 2: ((0, 1),), 3: ((0,), (1, 2)), 4: ()}


def derivatives(u: torch.nn.Module, x: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient and sum of second derivatives by nested backward passes."""
    (gradient,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    parts = [torch.autograd.grad(gradient[:, a].sum(), x, create_graph=True)[0][:, a] for a in axes]
    return gradient, torch.stack(parts).sum(0)


@pytest.mark.parametrize("features", [0, 5])
@pytest.mark.parametrize("d", SUMS)
def test_derivatives_are_those_of_nested_differentiation(d: int, features: int) -> None:
    net = Network([(-2, 1)] * d, width=7, depth=2, features=features, frequency=2.0, seed=d)
    for bias in net.biases:
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    x = torch.rand(11, d, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    jet = net.jet(x.detach(), SUMS[d])
    assert jet.second.shape == (len(SUMS[d]), 11)
    torch.testing.assert_close(jet.value, net(x))
    torch.testing.assert_close(jet.gradient.T, derivatives(net, x, (0,))[0])
    for k, axes in enumerate(SUMS[d]):
        torch.testing.assert_close(jet.second[k], derivatives(net, x, axes)[1])


def test_gradients_of_second_derivatives_too() -> None:
    net = Network([(-1, 1), (0, 2)], width=6, depth=3, seed=3)
    x = torch.rand(9, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    gradient, laplacian = derivatives(net, x, (0, 1))
    wanted = torch.autograd.grad((laplacian**2 + gradient[:, 0] ** 3 + net(x)).mean(), list(net.parameters()))
    jet = net.jet(x.detach(), ((0, 1),))
    got = torch.autograd.grad((jet.second[0] ** 2 + jet.gradient[0] ** 3 + jet.value).mean(), list(net.parameters()))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 255, 700])  # a block of the kernel has 256
def test_compiled_tanh_is_that_of_jets(n: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(n)
    sums = ((0, 2), (1,))
    fields = torch.randn(4, 6, n, generator=generator, dtype=dtype, requires_grad=True)
    bias = torch.randn(4, generator=generator, dtype=dtype, requires_grad=True)
    weights = torch.randn(4, 6, n, generator=generator, dtype=dtype)
    units = [Jet(z[0] + b, z[1:4], z[4:], sums).tanh() for z, b in zip(fields, bias, strict=True)]
    wanted = torch.stack([torch.cat([u.value[None], u.gradient, u.second]) for u in units])
    got = tanh_jets(fields, bias, sums)
    torch.testing.assert_close(got, wanted)
    gradients = [torch.autograd.grad((weights * out).sum(), (fields, bias)) for out in (got, wanted)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 1e-10)


def test_seeds_decide_the_weights() -> None:
    a, b, c = (torch.cat([p.ravel() for p in Network([(0, 1)], seed=s).parameters()]) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


class TestObjective:
    def test_loss_and_gradient(self) -> None:
        equation = problem("gaussian_2d")
        net = Network(equation.bounds, width=6, depth=2, seed=1)
        objective = Objective(equation, net)
        generator = torch.Generator().manual_seed(0)
        x = 2 * torch.rand(20, 2, generator=generator, dtype=torch.float64) - 1
        on = equation.conditions[0].points(8, generator)
        weights = torch.rand(20, generator=generator, dtype=torch.float64)
        objective.place(x, weights, [on])
        at = x.clone().requires_grad_()
        _, laplacian = derivatives(net, at, (0, 1))
        source = (40 - 400 * (x**2).sum(1)) * torch.exp(-10 * (x**2).sum(1))
        boundary = net(on) - torch.exp(-10 * (on**2).sum(1))
        wanted = (weights * (laplacian + source) ** 2).mean()
        wanted = wanted + equation.conditions[0].weight * (boundary**2).mean()
        torch.testing.assert_close(objective.loss(), wanted)
        value, gradient = objective(objective.parameters)
        assert value == pytest.approx(wanted.item())
        step, theta = 1e-6, objective.parameters
        for i in (0, 17, 50):
            ahead, behind = theta.copy(), theta.copy()
            ahead[i] += step
            behind[i] -= step
            assert gradient[i] == pytest.approx((objective(ahead)[0] - objective(behind)[0]) / (2 * step), rel=1e-4)

    def test_values_meet_the_data_of_an_ansatz(self) -> None:
        equation = problem("burgers")
        objective = Objective(equation, Network(equation.bounds, width=6, depth=2, seed=1))
        x = torch.linspace(-1, 1, 9, dtype=torch.float64)
        start = torch.stack([torch.zeros(9, dtype=torch.float64), x], 1)
        torch.testing.assert_close(objective.values(start), -torch.sin(torch.pi * x))

    @pytest.mark.parametrize("term", ["PDE", "initial condition"])
    def test_a_residual_that_is_nan_is_named_with_its_point(self, term: str) -> None:
        def residual(x: Sequence[Jet], u: Jet) -> torch.Tensor:
            return torch.where(x[0].value > 0.75, torch.nan, u.value)

        def sound(x: Sequence[Jet], u: Jet) -> torch.Tensor:
            return u.value

        points = torch.tensor([[0.5], [0.875]], dtype=torch.float64)
        start = Condition("initial", lambda n, g: points, sound if term == "PDE" else residual)
        equation = Problem(
            name="mine",
            title="u = 0",
            axes=("s",),
            bounds=np.array([[0.0, 1.0]]),
            sums=(),
            residual=residual if term == "PDE" else sound,
            conditions=(start,),
            ansatz=None,
            solution=lambda x: np.zeros(len(x)),
            grid=lambda: np.zeros((3, 1)),
            metric="mse",
            reference="none",
        )
        objective = Objective(equation, Network(equation.bounds, width=3, depth=1))
        objective.place(points, on=[points])
        error = objective.fault()
        assert isinstance(error, NotFiniteError)
        assert str(error) == f"the residual of the {term} of mine is not finite at {{'s': 0.875}}"


def test_coordinates_match_points() -> None:
    x = torch.rand(5, 3, dtype=torch.float64)
    assert torch.equal(torch.stack([c.value for c in coordinates(x, ())], 1), x)
