"""The classical cycle's passes against half-sweeps of the definition: colours, shares of planes, sweeps."""

from __future__ import annotations

import functools

import pytest

from deepcd.solvers.grids.embedding import Embedding, geometry
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import reference, team
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitFinest

from .cycles import Passes, classical, random_embedding

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]
LARGE = [(13, 5, 6), (6, 7, 7), (17, 6)]


@pytest.fixture(autouse=True)
def _as_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of threads."""
    monkeypatch.setattr(team, "SMALLEST", 1)


@functools.cache
def definition(
    shape: tuple[int, ...], fill: float, sweeps: int
) -> tuple[tuple[Embedding, UnitStencil], list[reference.LevelMatrices]]:
    embedding, stencil = random_embedding(shape, fill)
    diagonal = reference.unpad(stencil.diagonal.ravel(), geometry(shape)[0], len(shape) == 2)
    return (embedding, stencil), reference.geometric_levels(diagonal, sweeps, 1)


def passes(shape: tuple[int, ...], fill: float, sweeps: int, threads: int) -> Passes:
    grid, levels = definition(shape, fill, sweeps)
    M = classical(*grid, sweeps, threads, coarsest=1)
    assert isinstance(M.finest, UnitFinest)
    assert M.finest.team.threads == min(threads, M.finest.box.n[0])
    return Passes(M, levels, len(shape) == 2)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("sweeps", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_down_and_up(shape: tuple[int, ...], sweeps: int, threads: int) -> None:
    own = passes(shape, 0.75, sweeps, threads)
    for _ in range(2):  # the second time in used scratch
        own.check_finest()


@pytest.mark.compiled
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sweeps", [1, 2, 4, 5])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_more_planes_than_are_kept(shape: tuple[int, ...], sweeps: int, threads: int) -> None:
    own = passes(shape, 0.95, sweeps, threads)
    for _ in range(2):
        own.check_finest()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sweeps", [1, 2])
@pytest.mark.parametrize("shape", [*SHAPES, *LARGE], ids=str)
def test_coarse_levels(shape: tuple[int, ...], sweeps: int, threads: int) -> None:
    """One thread visits them in one call, `kernels/cycle.py`."""
    own = passes(shape, 0.9, sweeps, threads)
    for _ in range(2):
        for depth in range(1, len(own.M.levels)):
            own.check_coarse(depth)
            own.check_cycle(depth)
        for depth in range(1, len(own.M.levels) + 1):
            own.check_visit(depth)
