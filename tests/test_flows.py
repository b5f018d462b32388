"""Flows on a box: densities that integrate to one, invertible maps, and fits of what the samplers will ask for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from deepcd.solvers.pinn.flows import BoxKRnet
from deepcd.solvers.pinn.flows.transforms import QuadraticCDF

BOUNDS = [(-1.0, 1.0), (2.0, 5.0), (0.0, 0.1), (-7.0, -3.0)] + 6 * [(-1.0, 1.0)]
FLOWS: list[Any] = [BoxKRnet]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(flow: BoxKRnet, n: int, seed: int = 0) -> Tensor:
    u = torch.rand(n, len(flow.low), generator=seeded(seed), dtype=flow.low.dtype)
    return flow.low + (flow.high - flow.low) * u


def disturbed(cls: Any, d: int, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Return a flow that is not at its start: all of its parameters are moved at random."""
    flow = cls(BOUNDS[:d], dtype=dtype, **options)
    generator = seeded(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=dtype), alpha=0.05)
    return flow


def midpoints(low: Tensor, high: Tensor, n: int) -> tuple[Tensor, float]:
    """Return the midpoints of n cells per axis, shape (n^d, d), and the volume of a cell."""
    axes = [a + (b - a) * (torch.arange(n, dtype=a.dtype) + 0.5) / n for a, b in zip(low, high, strict=True)]
    return torch.cartesian_prod(*axes).reshape(-1, len(low)), float(((high - low) / n).prod())


def fit(
    flow: BoxKRnet, density: Callable[[Tensor], Tensor], *, rounds: int, steps: int = 40, rate: float = 3e-3
) -> None:
    """Minimise the cross-entropy on pools of 2,000 points, half of them uniform and half from the flow so far."""
    generator, volume = seeded(2), float((flow.high - flow.low).prod())
    optimiser = torch.optim.Adam(flow.parameters(), lr=rate)
    for r in range(rounds):
        x = uniform(flow, 2000, seed=r)
        drawn_from = torch.full((2000,), 1 / volume)
        if r:
            x[1000:] = flow.sample(1000, generator)
            drawn_from = 0.5 / volume + 0.5 * flow.log_prob(x).exp().detach()
        weights = density(x) / drawn_from
        weights /= weights.mean()
        for _ in range(steps):
            batch = torch.randint(len(x), (1000,), generator=generator)
            optimiser.zero_grad()
            (-weights[batch] * flow.log_prob(x[batch])).mean().backward()
            optimiser.step()


def peaks(*centres: tuple[float, float]) -> Callable[[Tensor], Tensor]:
    """Return the mean of normal densities proportional to exp(-1000 r^2)."""

    def density(x: Tensor) -> Tensor:
        squares = ((x[:, None] - x.new_tensor(centres)) ** 2).sum(2)
        return 1000 / math.pi * torch.exp(-1000 * squares).mean(1)

    return density


def divergence(density: Callable[[Tensor], Tensor], flow: BoxKRnet) -> float:
    """Return KL(density | flow) by quadrature."""
    x, cell = midpoints(flow.low, flow.high, 400)
    p = density(x)
    support = p > 1e-12
    with torch.no_grad():
        return float((p[support] * (p[support].log() - flow.log_prob(x[support]))).sum()) * cell


def quadratic_mean_slope(flow: BoxKRnet, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flow.log_prob(x).exp().sum(), x, create_graph=True)
    return (slope**2).sum(1).mean()


@pytest.mark.parametrize("d", [1, 2, 4, 10])
def test_the_bounded_flow_starts_exactly_uniform(d: int) -> None:
    flow = BoxKRnet(BOUNDS[:d])
    x = torch.cat([uniform(flow, 100), flow.low[None], flow.high[None]])
    expected = -sum(math.log(high - low) for low, high in BOUNDS[:d])
    assert (flow.log_prob(x) - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("cls", FLOWS)
@pytest.mark.parametrize("d", [1, 2])
def test_the_density_integrates_to_one(cls: Any, d: int) -> None:
    flow = disturbed(cls, d)
    x, cell = midpoints(flow.low, flow.high, 400)
    p = flow.log_prob(x).exp().detach()
    assert float(p.sum()) * cell == pytest.approx(1, abs=1e-3)
    assert p.max() > 1.5 * p.mean()  # it is not the uniform one


@pytest.mark.parametrize("cls", FLOWS)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_inverse(cls: Any, d: int) -> None:
    flow = disturbed(cls, d)
    x = uniform(flow, 1000)
    back, _ = flow.inverse(flow(x)[0])
    assert ((back - x) / (flow.high - flow.low)).abs().max() <= 1e-5


@pytest.mark.parametrize(("cls", "options"), [(BoxKRnet, {}), (BoxKRnet, {"bins": 5})])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_log_determinant_is_that_of_the_jacobian(cls: Any, options: dict[str, Any], d: int) -> None:
    flow = disturbed(cls, d, dtype=torch.float64, **options)
    x = uniform(flow, 20)
    z, log_det = flow(x)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: flow.transform()(point[None])[0]))(x)
    assert torch.allclose(log_det, torch.linalg.slogdet(jacobian).logabsdet, atol=1e-10)
    back, negative = flow.inverse(z)
    assert ((back - x) / (flow.high - flow.low)).abs().max() <= 1e-12
    assert torch.allclose(negative, -log_det, atol=1e-10)


@pytest.mark.parametrize("d", [2, 3, 5, 10])
def test_all_coordinates_meet(d: int) -> None:
    flow = disturbed(BoxKRnet, d, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda point: flow.transform()(point[None])[0])(uniform(flow, 1)[0])
    assert (jacobian != 0).all()


def test_the_density_is_continuous() -> None:
    flow = disturbed(BoxKRnet, 2, dtype=torch.float64)

    def largest_jump(n: int) -> float:
        t = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
        return float(flow.log_prob(flow.low + t * (flow.high - flow.low)).exp().detach().diff().abs().max())

    assert largest_jump(200_001) < 0.12 * largest_jump(20_001)


@pytest.mark.parametrize("cls", FLOWS)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_penalty_on_the_slope_is_differentiated(cls: Any, d: int) -> None:
    flow = disturbed(cls, d, dtype=torch.float64)
    x = uniform(flow, 50)
    parameters = [p for p in flow.parameters() if p.numel() > 1]
    derivatives = torch.autograd.grad(quadratic_mean_slope(flow, x), parameters)
    direction = [torch.randn(p.shape, generator=seeded(3), dtype=p.dtype) for p in parameters]
    expected = sum(float((g * v).sum()) for g, v in zip(derivatives, direction, strict=True))
    values = []
    for step in (1e-7, -1e-7):
        moved = copy.deepcopy(flow)
        with torch.no_grad():
            for p, v in zip((p for p in moved.parameters() if p.numel() > 1), direction, strict=True):
                p.add_(v, alpha=step)
        values.append(float(quadratic_mean_slope(moved, x).detach()))
    assert (values[0] - values[1]) / 2e-7 == pytest.approx(expected, rel=1e-5)


def test_the_bounded_flow_rises_on_a_face() -> None:
    flow = BoxKRnet([(0, 2), (-1, 1)])
    fit(flow, lambda x: torch.exp(5 * (x[:, 0] - 2)), rounds=5)
    face = torch.stack([torch.full((50,), 2.0), torch.linspace(-0.9, 0.9, 50)], 1)
    p = flow.log_prob(face).exp().detach()
    assert p.min() > 3 * 0.25
    assert float(p.mean()) == pytest.approx(5 / (1 - math.exp(-10)) / 2, rel=0.2)


@pytest.mark.parametrize(
    ("cls", "centres", "rounds", "rate", "bound"),
    [
        (BoxKRnet, [(0.5, 0.5)], 5, 3e-3, 0.1),
        (BoxKRnet, [(0.5, 0.5), (-0.5, -0.5)], 6, 3e-3, 0.2),
    ],
)
def test_narrow_peaks_are_fitted(
    cls: Any, centres: list[tuple[float, float]], rounds: int, rate: float, bound: float
) -> None:
    flow = cls([(-1, 1), (-1, 1)])
    density = peaks(*centres)
    before = divergence(density, flow)
    fit(flow, density, rounds=rounds, rate=rate)
    assert before > 3  # of the uniform density: log(1000 / pi * 4) - 1 with one peak
    assert -0.01 < divergence(density, flow) < bound


@pytest.mark.parametrize("cls", FLOWS)
def test_samples_follow_the_density(cls: Any) -> None:
    flow = disturbed(cls, 2)
    x = flow.sample(20_000, seeded(4))
    assert (x >= flow.low).all()
    assert (x <= flow.high).all()
    nodes, cell = midpoints(flow.low, flow.high, 400)
    p = flow.log_prob(nodes).exp().detach().double() * cell
    expected = 20_000 * p.view(8, 50, 8, 50).sum((1, 3)).numpy()
    edges = [np.linspace(low, high, 9) for low, high in BOUNDS[:2]]
    found, _ = np.histogramdd(x.double().numpy(), edges)
    assert ((found - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.999, 63)


@pytest.mark.parametrize("cls", FLOWS)
def test_seeds_decide_everything(cls: Any) -> None:
    state = torch.random.get_rng_state()
    flows = [disturbed(cls, 2, seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, other = (flow.sample(100, seeded(7)) for flow in flows)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first, flows[0].sample(100, seeded(8)))


@pytest.mark.parametrize("cls", FLOWS)
def test_a_box_needs_bounds(cls: Any) -> None:
    for shapeless in ([0, 1], [(0, 1, 2)], np.empty((0, 2))):
        with pytest.raises(ValueError, match="pair per axis"):
            cls(shapeless)
    for empty in ([(0, 0)], [(1, 0)], [(0, math.inf)], [(math.nan, 1)], [(1e8, 1e8 + 1)]):
        with pytest.raises(ValueError, match="finite with low < high"):
            cls(empty)
    assert cls([(1e8, 1e8 + 1)], dtype=torch.float64).high == 1e8 + 1


@pytest.mark.parametrize("cls", FLOWS)
def test_points_must_lie_in_the_box(cls: Any) -> None:
    flow = cls([(0, 1), (0, 1)])
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        flow.log_prob(torch.zeros(3, 1))
    for bad in (1.1, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"must lie in the box, got .* at x\[1, 0\]"):
            flow.log_prob(torch.tensor([[0.5, 0.5], [bad, 0.5]]))
    corners = torch.tensor([[0.0, 0.0], [1 + 1e-7, 1 + 1e-7]], dtype=torch.float64)
    assert torch.isfinite(flow.log_prob(corners)).all()


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (BoxKRnet, {"layers": -1}),
        (BoxKRnet, {"bins": 0}),
        (BoxKRnet, {"width": 0}),
        (BoxKRnet, {"seed": -1}),
    ],
)
def test_sizes_are_checked(cls: Any, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        cls([(0, 1), (0, 1)], **options)


def test_the_quadratic_cdf_integrates_a_piecewise_linear_density() -> None:
    widths, heights = torch.tensor([1.0, 3.0, 0.5]).double(), torch.tensor([0.2, 4.0, 1.0, 0.0]).double()
    ends = np.concatenate([[0], np.cumsum(widths.numpy())]) / 4.5 * 2 - 1
    fine = np.linspace(-1, 1, 200_001)
    density = np.interp(fine, ends, heights.numpy())
    integral = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * 1e-5)])
    y, log_slope = QuadraticCDF(widths, heights).call_and_ladj(torch.from_numpy(fine))
    assert np.allclose(y.numpy(), 2 * integral / integral[-1] - 1, atol=1e-9)
    assert np.allclose(log_slope.exp().numpy(), 2 * density / integral[-1], atol=1e-8)


def test_the_quadratic_cdf_is_a_shift_outside() -> None:
    cdf = QuadraticCDF(torch.ones(2).double(), torch.tensor([0.5, 2.0, 0.5]).double())
    x = torch.tensor([-1.5, -1.0, 1.0, 3.0], dtype=torch.float64)
    assert torch.allclose(cdf(x), x, atol=1e-12)
    assert torch.allclose(cdf.inv(x), x, atol=1e-12)
