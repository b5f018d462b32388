"""Random domains: every family gives valid grids of every shape, what its name says, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.data import HELD_OUT, TRAINING, random_grid
from deepcd.pde import Cell, Grid, poisson
from deepcd.solvers.grids.discovery import embed

ALL = sorted(TRAINING | HELD_OUT)
SHAPES = [(12, 11, 10), (5, 16, 9), (24, 17), (8, 30)]


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_grids_have_fluid_and_repeat_with_the_seed(family: str, shape: tuple[int, ...]) -> None:
    grids = [random_grid(family, shape, np.random.default_rng(seed)) for seed in (3, 3, 4, 5)]
    for grid in grids:
        assert grid.shape == shape
        assert grid.unknowns > 0
    np.testing.assert_array_equal(grids[0].cells, grids[1].cells)
    assert (grids[0].walls, grids[0].air_at) == (grids[1].walls, grids[1].air_at)


@pytest.mark.parametrize("family", sorted(set(ALL) - {"closed-cube"}))
def test_seeds_differ(family: str) -> None:
    grids = [random_grid(family, (20, 18, 22), np.random.default_rng(seed)) for seed in range(6)]
    assert len({(g.cells.tobytes(), g.walls) for g in grids}) >= 4


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("shape", [(2, 3, 2), (3, 8, 4), (2, 2), (4, 3)], ids=str)
def test_slabs_and_tiny_boxes(family: str, shape: tuple[int, ...]) -> None:
    assert random_grid(family, shape, np.random.default_rng(0)).unknowns > 0


def test_sealed_and_open_families() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert poisson(random_grid("pure-neumann", (10, 9, 8), rng)).sealed.all()
        assert not poisson(random_grid("closed-cube", (6, 5, 4), rng)).sealed.any()
        assert not (random_grid("open-top", (10, 9, 8), rng).cells == Cell.AIR).any()
        assert (random_grid("free-surface", (10, 9, 12), rng).cells[..., -1] != Cell.FLUID).all()


def test_some_domains_mix_sealed_chambers_with_open_regions() -> None:
    mixed = 0
    for seed in range(20):
        system = poisson(random_grid("chambers", (16, 16, 16), np.random.default_rng(seed)))
        mixed += bool(system.sealed.any() and not system.sealed.all())
    assert mixed > 0


def test_both_kinds_of_air_are_drawn() -> None:
    kinds = {random_grid("mixed-walls", (8, 8), np.random.default_rng(seed)).air_at for seed in range(40)}
    assert kinds == {"center", "face"}


@pytest.mark.parametrize("family", ALL)
def test_grids_can_be_embedded(family: str) -> None:
    grid = random_grid(family, (12, 12, 12), np.random.default_rng(1))
    embedding, stencil = embed(grid)
    assert np.count_nonzero(stencil.diagonal) == len(embedding.position) <= grid.unknowns
    assert stencil.diagonal.max() <= 12


def test_held_out_families_are_not_trained_on() -> None:
    assert not TRAINING.keys() & HELD_OUT.keys()


def test_unknown_family_and_hopeless_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"family must be one of .*porous.*got 'pourous'"):
        random_grid("pourous", (8, 8, 8), np.random.default_rng(0))
    monkeypatch.setitem(TRAINING, "solid", lambda shape, rng: Grid(np.full(shape, Cell.SOLID)))
    with pytest.raises(ValueError, match="no fluid cell in 100 domains of family 'solid'"):
        random_grid("solid", (4, 4), np.random.default_rng(0))
