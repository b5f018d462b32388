"""The learned cycle's two passes over the finest level against their definition: shares of planes and tiles of rows."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from deepcd.solvers.grids.embedding import Embedding, geometry
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import cycle, reference, team
from deepcd.solvers.kernels.layout import Memory
from deepcd.solvers.kernels.records import Box
from deepcd.solvers.preconditioners.multigrid import unit_finest
from deepcd.solvers.preconditioners.multigrid.coarse import LearnedCoarse
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.levels import Level
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest

from .cycles import Passes, close, learned, random_embedding, random_weights

# The hash of patterns multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]
LARGE = [(11, 9, 10), (6, 17, 7), (13, 12)]


@pytest.fixture(autouse=True)
def _as_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of threads."""
    monkeypatch.setattr(team, "SMALLEST", 1)


@functools.cache
def definition(
    shape: tuple[int, ...], fill: float
) -> tuple[tuple[Embedding, UnitStencil], list[reference.LevelMatrices]]:
    (embedding, stencil), planar = random_embedding(shape, fill), len(shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), geometry(shape)[0], planar)
    return (embedding, stencil), reference.learned_levels(diagonal, planar, random_weights(len(shape), 0.15), 1)


def finest(M: Cycle) -> UnitFinest:
    assert isinstance(M.finest, UnitFinest)
    return M.finest


def pair(M: Cycle) -> FusedPair:
    smoothing = finest(M).smoothing
    assert isinstance(smoothing, FusedPair)
    return smoothing


def passes(shape: tuple[int, ...], fill: float, threads: int) -> Passes:
    """Return a cycle of many levels, with no limit on smoothers."""
    grid, levels = definition(shape, fill)
    M = learned(*grid, random_weights(len(shape), 0.15), threads, coarsest=1, bound=np.inf)
    assert finest(M).team.threads == min(threads, M.finest.box.n[0])
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
    assert 0 < len(finest(own.M).scaling.cells) < own.M.finest.listed < own.M.finest.unknowns
    pair(own.M).tile = tile
    for _ in range(2):
        own.check_finest()


def test_large_planes_are_cut_into_tiles_that_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_finest, "CACHE", 1)
    own = passes((6, 17, 7), 0.98, 1)
    assert 2 * pair(own.M).tile < 17
    own.check_finest()


@pytest.mark.parametrize(("share", "tile"), [(0.0, 8), (0.5, 15), (0.91, 27), (1.0, 30), (100.0, 30)])
def test_as_many_rows_are_taken_at_once_as_the_cache_holds(
    share: float, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile counts coarse rows; few rows are not worth those around them."""
    box = Box(*geometry((4, 60, 30)))
    monkeypatch.setattr(unit_finest, "CACHE", int(share * 4 * 3 * unit_finest.RINGS * box.s[0]))
    assert unit_finest.tile_for(box) == tile


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
    smoothing = M.coarse
    assert isinstance(smoothing, LearnedCoarse)
    for depth in [*range(len(M.levels) - 1)] * 2:  # the second time in used scratch
        level, other = M.levels[depth], alone.levels[depth]
        assert level.team.threads == min(threads, level.box.n[0])
        b = own.vector(depth + 1)
        level.fields.r[:] = other.fields.r[:] = own.flat(depth + 1, b)
        smoothing.visit_shared(M.levels, M.memory_map, depth)
        cycle.visit(alone.memory_map, depth)
        close(level.fields.z, other.fields.z, 1e-6)
        np.testing.assert_array_equal(level.fields.r, other.fields.r)


def test_a_level_is_shared_where_it_has_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    M, shared = passes((11, 9, 10), 0.9, 2).M, []
    whole = LearnedCoarse.visit_shared

    def watched(self: LearnedCoarse, levels: list[Level], memory: Memory, depth: int) -> None:
        shared.append(depth)
        whole(self, levels, memory, depth)

    monkeypatch.setattr(LearnedCoarse, "visit_shared", watched)
    assert [level.team.threads for level in M.levels] == [2, 2, 2, 1]
    M.visit(0)
    assert shared == [0, 1, 2, 2, 1, 2, 2]
    M.twin(1).visit(0)
    assert len(shared) == 7
