"""The torch module that is trained: symmetry of its cycle, definiteness, gradients, batches, degenerate boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.data import random_grid
from deepcd.pde import Grid, box, domain
from deepcd.solvers.training import network
from deepcd.solvers.training.network import CycleNetwork, apply, between, children, pseudo_inverse, shifted, smooth
from deepcd.solvers.training.samples import Batch, dirichlet_count, make_batch

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")


def batch_of(*grids: Grid) -> Batch:
    return make_batch([g.fluid for g in grids], [dirichlet_count(g) for g in grids])


def setup(net: CycleNetwork, batch: Batch) -> list[network.LevelBatch]:
    return net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)


def random_network(ndim: int, scale: float = 0.15) -> CycleNetwork:
    torch.manual_seed(0)
    net = CycleNetwork(ndim, hidden=6)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.add_(scale * torch.randn(p.shape) * (0.1 if name == "tap" else 1))
    return net


@pytest.fixture(autouse=True)
def _more_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SOLVED_EXACTLY", 8)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("mixed-walls", (5, 4, 6)),
        ("pure-neumann", (3, 6, 5)),
        ("free-surface", (7, 9)),
        ("chambers", (9, 8)),
        ("porous", (1, 9)),
    ],
    ids=str,
)
def test_cycle_is_symmetric_and_positive_definite(family: str, shape: tuple[int, ...]) -> None:
    batch = batch_of(random_grid(family, shape, np.random.default_rng(1)))
    net = random_network(len(shape))
    with torch.no_grad():
        levels = setup(net, batch)
        cells = torch.nonzero(batch.fluid.flatten() * levels[0].mask.flatten()).flatten()
        unit = torch.zeros(batch.fluid.shape)
        columns = []
        for p in cells:
            unit.zero_().view(-1)[p] = 1
            columns.append((net.cycle(levels, unit) * levels[0].mask).flatten()[cells].double())
    M = torch.stack(columns, 1).numpy()
    assert len(levels) > 1
    np.testing.assert_allclose(M, M.T, atol=1e-5 * np.abs(M).max())
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0


def test_domains_of_a_batch_do_not_mix() -> None:
    grids = [random_grid("mixed-walls", (5, 4, 6), np.random.default_rng(seed)) for seed in range(3)]
    net = random_network(3)
    r = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        batch = batch_of(*grids)
        together = net.cycle(setup(net, batch), r * batch.fluid)
        for n, grid in enumerate(grids):
            alone = batch_of(grid)
            z = net.cycle(setup(net, alone), r[n : n + 1] * alone.fluid)
            torch.testing.assert_close(z[0], together[n], atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient_that_finite_differences_confirm() -> None:
    batch = batch_of(random_grid("mixed-walls", (9, 8, 7), np.random.default_rng(0)))
    net = random_network(3)
    r, v = torch.randn(2, 1, 9, 8, 7, generator=torch.Generator().manual_seed(1)) * batch.fluid

    def value() -> Tensor:
        return (net.cycle(setup(net, batch), r).double() * v).sum()

    value().backward()
    generator = torch.Generator().manual_seed(2)
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert bool(p.grad.abs().max() > 0), name
    for p in map(net.get_parameter, ("tap", "fine.4.bias", "coarse.0.4.bias", "coarse.1.4.bias")):
        direction = torch.randn(p.shape, generator=generator)
        values = []
        with torch.no_grad():
            for step in (4e-3, -8e-3):
                p.add_(step * direction)
                values.append(float(value()))
            p.add_(4e-3 * direction)
        assert p.grad is not None
        slope = float((p.grad * direction).sum())
        assert (values[0] - values[1]) / 8e-3 == pytest.approx(slope, rel=2e-2, abs=2e-2)


def test_the_finest_level_is_smoothed_by_the_first_and_the_second_and_back() -> None:
    """What is left of an error that no coarse level sees is that of S1, S2, S2, S1."""
    batch, net = batch_of(random_grid("mixed-walls", (5, 4, 6), np.random.default_rng(2))), random_network(3)
    with torch.no_grad():
        levels = setup(net, batch)
        levels[0].phi = torch.zeros_like(levels[0].phi)
        x = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(0)) * levels[0].mask
        error = x - net.cycle(levels, apply(levels[0], x))
        first, second = levels[0].smoothers
        for S in (first, second, second, first):
            x = x - smooth(S, apply(levels[0], x))
    assert not torch.allclose(first.a, second.a, atol=1e-3)
    torch.testing.assert_close(error, x, atol=1e-5, rtol=1e-4)


def test_untrained_outputs_are_zero_whatever_the_domain() -> None:
    """Untrained, the cycle is the plain one: every learned factor is one."""
    batch = batch_of(random_grid("open-top", (6, 6, 6), np.random.default_rng(0)))
    levels = setup(CycleNetwork(3), batch)
    for level in levels:
        assert torch.equal(level.phi, level.mask)
        assert not level.handed.any()
    assert torch.equal(levels[1].psi, levels[1].mask)
    assert [len(level.smoothers) for level in levels] == [2] + [1] * (len(levels) - 1)
    for S in levels[0].smoothers:
        assert bool((S.a[batch.fluid > 0] > 0).all())


def test_the_finest_operator_is_the_laplacian() -> None:
    grid = domain((4, 3), walls=["solid", ("solid", "air")])
    from deepcd.pde import poisson

    system, batch = poisson(grid), batch_of(grid)
    level = setup(CycleNetwork(2), batch)[0]
    x = np.random.default_rng(0).standard_normal(12)
    computed = apply(level, torch.from_numpy(system.to_field(x)).float().reshape(1, 4, 1, 3))
    np.testing.assert_allclose(computed.numpy().ravel(), system.A @ x, atol=1e-5)


def test_pseudo_inverse_per_component() -> None:
    wall = box((2, 0), (3, 4))
    grid = domain((5, 3), solid=wall, walls=[("solid", "air"), "solid"])  # a sealed chamber and one under air
    batch = batch_of(grid)
    faces = setup(CycleNetwork(2), batch)[0].faces
    level = network.LevelBatch((5, 1, 3), (1.0, 1.0, 1.0), 1.0, batch.fluid, faces, batch.dirichlet)
    level.finish()
    with torch.no_grad():
        computed = pseudo_inverse(level)[0].numpy()
        unit = torch.eye(15).reshape(15, 5, 1, 3)
        A = torch.stack([apply(level, u[None])[0].flatten() for u in unit], 1).double().numpy()
    mask = level.mask.flatten().numpy()
    np.testing.assert_allclose(computed, np.linalg.pinv(A * mask[:, None] * mask, rcond=1e-6), atol=1e-5)


def test_small_boxes_still_get_a_coarse_level() -> None:
    levels = setup(CycleNetwork(3), batch_of(domain((2, 2, 2), walls="air")))
    assert [level.shape for level in levels] == [(2, 2, 2), (1, 1, 1)]


def test_helpers() -> None:
    w = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    assert shifted(w, 3).flatten().tolist() == [0, 1, 2]
    assert between(w, 3).flatten().tolist() == [1.5, 2.5, 3]
    assert children(w).shape == (1, 1, 1, 1, 1, 2, 2)
    assert children(w).flatten().tolist() == [1, 2, 3, 0]
