"""Training samples: Dirichlet counts, numbered patterns, sealed chambers, shapes and right-hand sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.data import TRAINING
from deepcd.pde import Grid, box, domain, poisson
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.kernels import reference
from deepcd.solvers.training import samples
from deepcd.solvers.training.samples import (
    SHARES,
    Batch,
    dirichlet_count,
    make_batch,
    random_batch,
    random_rhs,
    random_shape,
    remove_constants,
)

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")


def random_grid(shape: tuple[int, ...], seed: int, air_at: str = "center") -> Grid:
    rng = np.random.default_rng(seed)
    cells = rng.choice([0, 1, 2], size=shape, p=[0.75, 0.15, 0.1])
    return Grid(cells, walls=[("solid", "air")] * len(shape), air_at="face" if air_at == "face" else "center")


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 5), (1, 6), (3, 1, 4)], ids=str)
@pytest.mark.parametrize("air_at", ["center", "face"])
def test_dirichlet_count_is_what_the_diagonal_has_beyond_neighbours(shape: tuple[int, ...], air_at: str) -> None:
    grid = random_grid(shape, 0, air_at)
    system = poisson(grid)
    count = dirichlet_count(grid)
    expected = system.A.diagonal() + system.A.sum(axis=1) - system.A.diagonal()
    np.testing.assert_allclose(count.ravel()[system.cells], expected)
    assert not count[~grid.fluid].any()


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 5), (1, 6)], ids=str)
def test_batch_numbers_patterns_across_its_domains(shape: tuple[int, ...]) -> None:
    grids = [random_grid(shape, seed) for seed in range(3)]
    batch = make_batch([g.fluid for g in grids], [dirichlet_count(g) for g in grids])
    boxed = shape if len(shape) == 3 else (shape[0], 1, shape[1])
    for t in (batch.fluid, batch.dirichlet, batch.ids, batch.sealed):
        assert tuple(t.shape) == (3, *boxed)
    patterns = batch.patterns.numpy()
    assert not patterns[0].any()
    assert len(np.unique(patterns, axis=0)) == len(patterns)
    for n, grid in enumerate(grids):
        count = dirichlet_count(grid).reshape(boxed)
        fluid = grid.fluid.reshape(boxed)
        codes = np.where(fluid, np.minimum(1 + count, 15), 0)
        around = reference.neighbourhoods(codes, len(shape) == 2)
        np.testing.assert_array_equal(patterns[batch.ids[n].numpy()], around * fluid[..., None])


def test_sealed_chambers_are_those_of_the_embedding() -> None:
    wall = box((3, 0, 0), (4, 9, 9)) | box((6, 0, 0), (7, 9, 9))
    grid = domain((9, 4, 4), solid=wall, walls=[("solid", "air"), "solid", "solid"])
    batch = make_batch([grid.fluid] * 2, [dirichlet_count(grid)] * 2)
    sealed = batch.sealed.numpy()
    assert sorted(np.unique(sealed)) == [0, 1, 2, 3, 4]  # two each; those of one domain are not those of the other
    embedding, stencil = embed(grid)
    names = sealed[0][grid.fluid]
    np.testing.assert_array_equal(names > 0, stencil.sealed[embedding.component])
    assert len({(c, n) for c, n in zip(embedding.component.tolist(), names.tolist(), strict=True)}) == 3


def test_remove_constants() -> None:
    sealed = torch.tensor([0, 0, 1, 1, 2, 2, 2]).reshape(1, 1, 1, 7)
    v = torch.tensor([5.0, 6.0, 1.0, 3.0, 1.0, 2.0, 6.0]).reshape(1, 1, 1, 7)
    assert remove_constants(v, sealed).flatten().tolist() == [5, 6, -1, 1, -2, -1, 3]
    assert remove_constants(v, torch.zeros_like(sealed)) is v


def test_right_hand_sides_are_compatible_and_live_on_the_fluid() -> None:
    wall = box((3, 0, 0), (4, 9, 9))
    grid = domain((9, 4, 4), solid=wall, walls=[("solid", "air"), "solid", "solid"])
    batch = make_batch([grid.fluid] * 2, [dirichlet_count(grid)] * 2)
    for seed in range(6):
        rhs = random_rhs(batch, np.random.default_rng(seed))
        assert rhs.dtype == torch.float32
        assert not rhs[batch.fluid == 0].any()
        assert torch.equal(rhs, random_rhs(batch, np.random.default_rng(seed)))
        for chamber in (1, 2):
            values = rhs[batch.sealed == chamber]
            assert values.abs().max() > 0
            assert abs(float(values.sum())) < 1e-4 * float(values.abs().sum())


@pytest.mark.parametrize("ndim", [2, 3])
def test_random_shapes_cover_cubes_slabs_and_bricks(ndim: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [random_shape(ndim, rng) for _ in range(300)]
    assert all(len(shape) == ndim and min(shape) >= 2 and size >= 1 for shape, size in drawn)
    assert all(np.prod(shape) * size <= 300_000 for shape, size in drawn)
    assert min(min(shape) for shape, _ in drawn) <= 3
    assert len({shape for shape, _ in drawn}) > 50


@pytest.mark.parametrize("ndim", [2, 3])
def test_random_batches_are_reproducible_and_of_the_shape_drawn(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (6, 5, 7)[:ndim]
    monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: (shape, 3))
    first, second = (random_batch(ndim, np.random.default_rng(4)) for _ in range(2))
    assert tuple(first.fluid.shape) == (3, *(shape if ndim == 3 else (6, 1, 5)))
    for name in Batch.__dataclass_fields__:
        one: Tensor = getattr(first, name)
        assert torch.equal(one, getattr(second, name)), name
    assert (first.fluid.flatten(1).sum(1) > 0).all()
    assert not (first.dirichlet * (1 - first.fluid)).any()


def test_every_training_family_has_a_share_and_no_other() -> None:
    assert SHARES.keys() == TRAINING.keys()
