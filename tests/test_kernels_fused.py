"""The learned cycle's two passes over the finest level against their definition: shares of planes and tiles of rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import cycle, reference, team
from deepcd.solvers.preconditioners import multigrid
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid

from .cycles import Passes, close, random_embedding, random_weights

# The hash of patterns multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]
LARGE = [(11, 9, 10), (6, 17, 7), (13, 12)]


@pytest.fixture(autouse=True)
def _as_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many levels, every number of threads, and no limit on smoothers."""
    monkeypatch.setattr(multigrid, "COARSEST", 1)
    monkeypatch.setattr(multigrid, "LARGEST", np.inf)
    monkeypatch.setattr(team, "SMALLEST", 1)


@functools.cache
def definition(shape: tuple[int, ...], fill: float) -> tuple[Any, list[reference.Level]]:
    _, stencil = random_embedding(shape, fill)
    planar = len(shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), geometry(shape)[0], planar)
    return stencil.diagonal, reference.learned_levels(diagonal, planar, random_weights(len(shape), 0.15), 1)


def passes(shape: tuple[int, ...], fill: float, threads: int) -> Passes:
    diagonal, levels = definition(shape, fill)
    M = LearnedMultigrid(shape, diagonal, random_weights(len(shape), 0.15), threads)
    assert M.team.threads == min(threads, M.n[0])
    return Passes(M, levels, len(shape) == 2)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_down_and_up(shape: tuple[int, ...], threads: int) -> None:
    own = passes(shape, 0.75, threads)
    for _ in range(2):  # the second time in used scratch
        own.check_finest()


@pytest.mark.compiled
@pytest.mark.parametrize("tile", [1, 2, 3, 100])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_tiles_with_an_interior(shape: tuple[int, ...], threads: int, tile: int) -> None:
    own = passes(shape, 0.98, threads)
    assert 0 < len(own.M.cells) < own.M.listed < np.count_nonzero(own.M.diagonal)
    own.M.tile = tile
    for _ in range(2):
        own.check_finest()


def test_large_planes_are_cut_into_tiles_that_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multigrid, "CACHE", 1)
    own = passes((6, 17, 7), 0.98, 1)
    assert 2 * own.M.tile < 17
    own.check_finest()


@pytest.mark.parametrize(("share", "tile"), [(0.0, 8), (0.5, 15), (0.91, 27), (1.0, 30), (100.0, 30)])
def test_as_many_rows_are_taken_at_once_as_the_cache_holds(
    share: float, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile counts coarse rows; few rows are not worth those around them."""
    n, s = geometry((4, 60, 30))
    monkeypatch.setattr(multigrid, "CACHE", int(share * 4 * 3 * multigrid.RINGS * s[0]))
    M = multigrid.Multigrid(n, s, np.zeros(6 * s[0], dtype=np.uint8), 1)
    assert M.tile == tile


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [*SHAPES, *LARGE], ids=str)
def test_coarse_levels(shape: tuple[int, ...], threads: int) -> None:
    """Those are `kernels/coarse.py` and, for one thread, `kernels/cycle.py`."""
    own = passes(shape, 0.9, threads)
    for _ in range(2):
        for depth in range(1, len(own.M.levels)):
            own.check_coarse(depth)
            own.check_cycle(depth)
        for depth in range(1, len(own.M.levels) + 1):
            own.check_visit(depth)


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("shape", [*SHAPES, *LARGE], ids=str)
def test_several_threads_visit_a_level_as_one_does(shape: tuple[int, ...], threads: int) -> None:
    own = passes(shape, 0.9, threads)
    M, alone = own.M, own.M.twin(1)
    for depth in [*range(len(M.levels) - 1)] * 2:  # the second time in used scratch
        level, other = M.levels[depth], alone.levels[depth]
        assert level.team.threads == min(threads, level.n[0])
        b = own.vector(depth + 1)
        level.r[:] = other.r[:] = own.flat(depth + 1, b)
        M.visit_shared(depth)
        cycle.visit(alone.table, alone.numbers, alone.pool, alone.exact_cells, alone.exact, 0, depth)
        close(level.z, other.z, 1e-6)
        np.testing.assert_array_equal(level.r, other.r)


def test_a_level_is_shared_where_it_has_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    M, shared = passes((11, 9, 10), 0.9, 2).M, []
    whole = LearnedMultigrid.visit_shared

    def watched(self: LearnedMultigrid, depth: int) -> None:
        shared.append(depth)
        whole(self, depth)

    monkeypatch.setattr(LearnedMultigrid, "visit_shared", watched)
    assert [level.team.threads for level in M.levels] == [2, 2, 2, 1]
    M.visit(0)
    assert shared == [0, 1, 2, 2, 1, 2, 2]
    M.twin(1).visit(0)
    assert len(shared) == 7
