"""Jets against nested automatic differentiation, which needs no rule for the Laplacian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepcd.pde.problems import Jet, coordinates
from deepcd.pde.problems.jets import Sums

SUMS: list[Sums] = [((0, 1, 2),), ((0,), (1, 2)), ((2, 0), (1,), (0, 1, 2)), ()]
FUNCTIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sum": lambda x, y, z: x + y + 3.0,
    "difference": lambda x, y, z: 1.0 - x * x - (y * z - 0.5),
    "negative": lambda x, y, z: -(x * y),
    "product": lambda x, y, z: 2 * x * y * z * y,
    "quotient": lambda x, y, z: x / (2 + y * z) / 3,
    "power": lambda x, y, z: x**1 * y**2 * z**5,
    "exp": lambda x, y, z: (x * y - z).exp(),
    "sin": lambda x, y, z: (3 * x * y + z).sin(),
    "cos": lambda x, y, z: (x * z * y).cos(),
    "tanh": lambda x, y, z: (x * x + 2 * y - z).tanh(),
    "composite": lambda x, y, z: ((x * y).sin() * (z**3 - x).exp() + (y - z).tanh()) / (1 + x * x + (y * z).cos() ** 2),
}


def points(n: int = 20, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.rand(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype) - 1


def nested(f: Callable[[Any, Any, Any], Any], x: Tensor, sums: Sums) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Value, gradient and sums of second derivatives by differentiating twice."""
    x = x.clone().requires_grad_()
    value = f(*x.T)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    zero = 0 * x.sum()  # keeps a constant derivative in the graph
    second = [torch.autograd.grad(gradient[:, a].sum() + zero, x, retain_graph=True)[0][:, a] for a in range(3)]
    return value, gradient, [torch.stack([second[a] for a in axes]).sum(0) for axes in sums]


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_jet_is_what_nested_differentiation_gives(name: str, sums: Sums) -> None:
    f, x = FUNCTIONS[name], points()
    jet = f(*coordinates(x, sums))
    value, gradient, second = nested(f, x, sums)
    torch.testing.assert_close(jet.value, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jet.gradient, gradient.detach().T, rtol=1e-12, atol=1e-12)
    assert jet.second.shape == (len(sums), len(x))
    for ours, theirs in zip(jet.second, second, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_one_backward_pass_differentiates_a_laplacian() -> None:
    x, y, z = coordinates(points(), SUMS[0])
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def laplacian(a: Tensor) -> Tensor:
        scaled = Jet(a * x.value, a * x.gradient, a * x.second, x.sums)
        return (scaled.sin() * (y * z).exp()).second.sum()

    (derivative,) = torch.autograd.grad(laplacian(a), a)
    step = 1e-5
    with torch.no_grad():
        quotient = (laplacian(a + step) - laplacian(a - step)) / (2 * step)
    torch.testing.assert_close(derivative, quotient, rtol=1e-8, atol=1e-8)


def test_the_dtype_is_that_of_the_points() -> None:
    jet = FUNCTIONS["composite"](*coordinates(points(dtype=torch.float32), SUMS[1]))
    assert {jet.value.dtype, jet.gradient.dtype, jet.second.dtype} == {torch.float32}


@pytest.mark.parametrize("exponent", [0, -1, 0.5])
def test_powers_are_positive_integers(exponent: Any) -> None:
    x, _, _ = coordinates(points(), ())
    with pytest.raises(ValueError, match="positive integer"):
        x**exponent
