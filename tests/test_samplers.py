"""Samplers behind one contract: where their points go, and that they go there again from a state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deepcd import pinn
from deepcd.solvers.pinn.samplers import SAMPLERS, VRBA, Inside, Sampler, sampler

BOUNDS = [(-1.0, 1.0), (0.0, 3.0)]
PEAK = torch.tensor([0.5, 2.0], dtype=torch.float64)
QUICK: dict[str, dict[str, Any]] = {name: {"steps": 30} for name in ("das", "das-g", "aas")}
FIXED = ("uniform", "sobol", "vrba")


def make(name: str, seed: int = 0, inside: Inside | None = None) -> Sampler:
    return sampler(name, BOUNDS, seed=seed, inside=inside, **QUICK.get(name, {}))


def residual(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(-10 * ((x - PEAK) ** 2).sum(1)) * torch.cos(7 * x[:, 0])  # of either sign


def near(x: torch.Tensor) -> float:
    return float((((x - PEAK) ** 2).sum(1) < 0.3).double().mean())


def adapt(one: Sampler, rounds: int, n: int = 800) -> list[dict[str, float]]:
    one.sample(n)
    said = []
    for _ in range(rounds):
        x, log_density = one.probe() if one.probes else one.sample(n)
        said.append(one.update(x, log_density, residual(x)))
        one.sample(n)
    return said


@pytest.mark.parametrize("name", SAMPLERS)
class TestEach:
    def test_points_lie_in_the_box_and_their_number_stays(self, name: str) -> None:
        one = make(name)
        for n in (1, 400, 400):
            x, log_density = one.sample(n)
            assert x.dtype == log_density.dtype == torch.float64
            assert x.shape == (n, 2)
            assert log_density.shape == (n,)
            low, high = torch.tensor(BOUNDS, dtype=torch.float64).T
            assert ((x >= low) & (x <= high)).all()
            adapt(one, 1, n)

    def test_points_go_to_the_residual(self, name: str) -> None:
        one = make(name)
        before = near(one.sample(800)[0])
        said = adapt(one, 6 if name in QUICK else 12)
        after = near(one.sample(800)[0])
        assert all(isinstance(value, float) for row in said for value in row.values())
        assert said[-1], "an update says what it did"
        assert (after < 1.5 * before) if name in FIXED else (after > 1.8 * before), (before, after)

    def test_seeds_decide_everything(self, name: str) -> None:
        points = []
        for seed in (3, 3, 4):
            one = make(name, seed)
            adapt(one, 2)
            points.append(one.sample(800)[0])
        assert torch.equal(points[0], points[1])
        assert not torch.equal(points[0], points[2])

    def test_goes_on_from_its_state(self, name: str) -> None:
        one = make(name)
        adapt(one, 2)
        other = make(name)
        adapt(other, 1)
        other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
        for a, b in zip(adapt(one, 2), adapt(other, 2), strict=True):
            assert a == b
        assert torch.equal(one.sample(500)[0], other.sample(500)[0])

    def test_refuses_what_is_no_residual(self, name: str) -> None:
        one = make(name)
        x, log_density = one.sample(10)
        bad = torch.ones(10, dtype=torch.float64)
        bad[3] = torch.nan
        with pytest.raises(ValueError, match=r"residual must be finite.*\["):
            one.update(x, log_density, bad)
        with pytest.raises(ValueError, match=r"x \(n, 2\)"):
            one.update(x[:, :1], log_density, torch.ones(10))
        with pytest.raises(ValueError, match="got shapes"):
            one.update(x, log_density, torch.ones(9))
        with pytest.raises(ValueError, match="at least one point"):
            one.update(x[:0], log_density[:0], torch.ones(0))

    def test_a_residual_of_zero_moves_nothing_anywhere(self, name: str) -> None:
        one = make(name)
        one.sample(800)
        x, log_density = one.probe() if one.probes else one.sample(800)
        one.update(x, log_density, torch.zeros(len(x)))
        assert near(one.sample(800)[0]) < 0.3
        assert one.weights(800).isfinite().all()


def l_shape(x: torch.Tensor) -> torch.Tensor:
    """The box without the quarter in which the first axis is high and the second is low."""
    return (x[:, 0] < 0) | (x[:, 1] > 1.5)


def confined(name: str, inside: Inside | None = l_shape) -> Sampler:
    """A sampler that learns little, and fast."""
    one = sampler(name, BOUNDS, inside=inside, **({"steps": 2, "batch": 200} if name in QUICK else {}))
    if name in QUICK:
        one.probes = 500
    return one


@pytest.mark.parametrize("name", SAMPLERS)
class TestEachInADomain:
    def test_points_and_probes_lie_inside_and_their_number_stays(self, name: str) -> None:
        one = confined(name)
        for n in (1, 400, 400):
            x, log_density = one.sample(n)
            assert x.shape == (n, 2)
            assert log_density.shape == (n,)
            assert l_shape(x).all()
            assert not one.probes or l_shape(one.probe()[0]).all()
            adapt(one, 1, n)

    def test_points_go_to_the_residual(self, name: str) -> None:
        one = make(name, inside=l_shape)
        before = near(one.sample(800)[0])
        adapt(one, 6 if name in QUICK else 12)
        after = near(one.sample(800)[0])
        assert (after < 1.5 * before) if name in FIXED else (after > 1.8 * before), (before, after)

    def test_a_domain_that_fills_the_box_changes_nothing(self, name: str) -> None:
        plain, filled = confined(name, None), confined(name, lambda x: x[:, 0] > -9)
        assert adapt(plain, 2) == adapt(filled, 2)
        for a, b in zip(plain.sample(500), filled.sample(500), strict=True):
            assert torch.equal(a, b)

    def test_another_domain_takes_no_points_of_the_last(self, name: str) -> None:
        one = confined(name)
        adapt(one, 2)
        one.confine(lambda x: ~l_shape(x))
        for _ in range(2):
            assert not l_shape(one.sample(800)[0]).any()
            adapt(one, 1)
        one.confine(None)
        assert 0.6 < l_shape(one.sample(800)[0]).double().mean() < 0.9

    def test_the_same_domain_again_leaves_all_as_it_is(self, name: str) -> None:
        one, twin = confined(name), confined(name)
        adapt(one, 2), adapt(twin, 2)
        one.confine(lambda x: ~((x[:, 0] >= 0) & (x[:, 1] <= 1.5)))
        assert adapt(one, 1) == adapt(twin, 1)
        assert torch.equal(one.sample(500)[0], twin.sample(500)[0])

    def test_goes_on_from_its_state(self, name: str) -> None:
        one, other = confined(name), confined(name)
        adapt(one, 2)
        other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
        assert adapt(one, 1) == adapt(other, 1)
        assert torch.equal(one.sample(500)[0], other.sample(500)[0])


class TestDomain:
    def test_the_density_of_uniform_points_is_one_over_the_volume(self) -> None:
        ball = sampler("sobol", [(-1, 1)] * 3, inside=lambda x: x.norm(dim=1) < 1)
        _, log_density = ball.sample(10)
        np.testing.assert_allclose(torch.exp(-log_density), 4 / 3 * np.pi, rtol=1e-3)
        _, log_density = make("uniform", inside=l_shape).sample(10)
        np.testing.assert_allclose(torch.exp(-log_density), 4.5, rtol=1e-12)

    def test_densities_are_those_of_the_points(self) -> None:
        """Averages with weights 1 / p are those over the domain, although the flow sends points out of it at first."""
        for name, steps in (("uniform", 1), ("sobol", 1), ("das", 0), ("das", 1), ("das", 4)):
            one = make(name, inside=l_shape)
            adapt(one, steps)
            x, log_density = one.sample(20_000)
            weights = torch.exp(-log_density)
            for values, exact in ((torch.ones(20_000), 4.5), ((x[:, 0] < 0).double(), 3.0)):
                terms = weights * values
                assert abs(float(terms.mean()) - exact) < 5 * float(terms.std()) / np.sqrt(20_000) + 0.02, (name, steps)

    @pytest.mark.parametrize("name", ["uniform", "sobol"])
    def test_a_domain_too_thin_to_draw_from_is_named_with_the_rate(self, name: str) -> None:
        one = make(name, inside=lambda x: x[:, 0] < -0.9999)
        rate = r"^\d+ of 1,000,000 points drawn from the box are inside the domain, an acceptance rate of \d\.?\d*e-05 "
        with pytest.raises(ValueError, match=rate):
            one.sample(1_000)

    def test_sobol_goes_on_with_its_sequence(self) -> None:
        one, plain = make("sobol", inside=l_shape), make("sobol")
        x = torch.cat([one.sample(n)[0] for n in (7, 90, 3)])
        among = plain.sample(200)[0]
        index = (x[:, None] == among[None]).all(2).double().argmax(1)
        assert torch.equal(among[index], x)
        assert (index.diff() > 0).all()

    def test_a_domain_without_volume_is_refused_and_changes_nothing(self) -> None:
        one, twin = make("r3", inside=l_shape), make("r3", inside=l_shape)
        one.sample(50), twin.sample(50)
        with pytest.raises(ValueError, match=r"none of 65,536 points of the box .* is inside the domain"):
            one.confine(lambda x: x[:, 0] == 0.123)
        assert one.inside is l_shape
        assert torch.equal(one.sample(80)[0], twin.sample(80)[0])
        with pytest.raises(ValueError, match="none of 65,536 points"):
            sampler("uniform", BOUNDS, inside=lambda x: x[:, 0] > 1)

    def test_what_is_no_membership_is_refused(self) -> None:
        with pytest.raises(TypeError, match="inside must be a function from points to bool, or None, got 'disk'"):
            sampler("rad", BOUNDS, inside="disk")  # type: ignore[arg-type]
        for wrong, got in (
            (lambda x: x[:, 0], "torch.float64, (10000,)"),
            (lambda x: x > 0, "torch.bool, (10000, 2)"),
            (lambda x: (x[:, 0] > 0).numpy(), "ndarray"),
        ):
            with pytest.raises(TypeError, match="inside must return a Tensor of bool") as caught:
                sampler("rad", BOUNDS, inside=wrong)
            assert str(caught.value).endswith(f"got {got}")

    def test_rad_is_not_asked_for_more_points_than_it_will_have(self) -> None:
        with pytest.raises(ValueError, match="n must not exceed the 100 candidates of an update, got 101"):
            sampler("rad", BOUNDS, pool=100).sample(101)


def test_densities_are_those_of_the_points() -> None:
    """Importance weights 1 / p make averages over the samples those over the box: here of |x - c|^2."""
    exact = 1 / 3 + 0.75
    for name in ("uniform", "sobol", "das", "aas"):
        one = make(name)
        adapt(one, 4)
        x, log_density = one.sample(20_000)
        weights = torch.exp(-log_density - np.log(6.0))
        mean = (weights * ((x - torch.tensor([0.0, 1.5])) ** 2).sum(1)).mean()
        spread = float((weights * ((x - torch.tensor([0.0, 1.5])) ** 2).sum(1)).std()) / np.sqrt(20_000)
        assert abs(float(mean) - exact) < 5 * spread, name


def test_rad_draws_by_its_formula() -> None:
    one = sampler("rad", BOUNDS, k=2.0, c=0.5, pool=4000)
    x, log_density = one.probe()
    r = residual(x).abs()
    one.update(x, log_density, r)
    chosen, density = one.sample(50)
    index = (x[None] == chosen[:, None]).all(2).double().argmax(1)
    weight = r**2 / (r**2).mean() + 0.5
    np.testing.assert_allclose(density.exp(), (weight / weight.mean() / 6)[index], rtol=1e-9)


def test_rar_g_adds_the_largest() -> None:
    one = sampler("rar-g", BOUNDS, pool=2000)
    before, _ = one.sample(100)
    x, log_density = one.probe()
    one.update(x, log_density, residual(x))
    after, _ = one.sample(100)
    added = after[~(after[:, None] == before[None]).all(2).any(1)]
    largest = residual(x).abs().topk(len(added)).values
    assert len(added) == 2
    assert set(residual(added).abs().tolist()) == set(largest.tolist())
    adapt(one, 40, 100)
    half, _ = one.sample(100)
    assert (half[:, None] == before[None]).all(2).any(1).sum() == 50, "half of the points stay uniform"


def test_r3_retains_what_is_above_average() -> None:
    one = sampler("r3", BOUNDS)
    before, _ = one.sample(300)
    x, log_density = one.probe()
    size = residual(x).abs()
    one.update(x, log_density, size)
    after, _ = one.sample(300)
    assert torch.equal((after == before).all(1), size > size.mean())


def test_vrba_weighs_by_an_average_of_the_residual() -> None:
    one = VRBA(BOUNDS, memory=0.5)
    x, log_density = one.sample(4)
    one.update(x, log_density, torch.tensor([0.0, 1.0, 2.0, 4.0]))
    np.testing.assert_allclose(one.weights(4).sqrt(), [0.5, 0.625, 0.75, 1.0])
    assert torch.equal(one.sample(4)[0], x)


class TestBadInput:
    def test_unknown_names_list_the_known(self) -> None:
        with pytest.raises(ValueError, match=r"'rda'; known: uniform, .*aas"):
            sampler("rda", BOUNDS)

    @pytest.mark.parametrize("bounds", [[(0, np.inf)], [(0, 1), (1, 1)], [0, 1], [(np.nan, 1)], []])
    def test_bounds(self, bounds: Any) -> None:
        with pytest.raises(ValueError, match="bounds must be"):
            pinn.sampler("uniform", bounds)

    def test_numbers(self) -> None:
        with pytest.raises(ValueError, match="floor must be in"):
            sampler("aas", BOUNDS, floor=0.0)
        with pytest.raises(ValueError, match="n must be at least 1"):
            sampler("uniform", BOUNDS).sample(0)
        with pytest.raises(ValueError, match="seed must be at least 0"):
            sampler("uniform", BOUNDS, seed=-1)
        one = sampler("rar-g", BOUNDS)
        with pytest.raises(ValueError, match="call sample first"):
            one.update(*one.probe(), residual(one.probe()[0])[: one.probes])
