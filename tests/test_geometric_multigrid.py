"""The classical cycle against its definition; symmetry, definiteness, convergence, threads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import domain
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import reference, team
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitFinest

from .cycles import classical, dense, iterations
from .systems import GRIDS


def definition(embedding: Embedding, stencil: UnitStencil) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return the operator over the cells of the box and which of them are unknowns."""
    diagonal = reference.unpad(stencil.diagonal.ravel(), embedding.n, len(embedding.shape) == 2)
    return diagonal, np.flatnonzero(diagonal)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("sweeps", [1, 2])
def test_cycle_is_the_one_defined_symmetric_and_positive_definite(name: str, sweeps: int) -> None:
    embedding, stencil = embed(GRIDS[name])
    M = dense(classical(embedding, stencil, sweeps, coarsest=8), embedding, stencil)
    diagonal, cells = definition(embedding, stencil)
    expected = reference.cycle(reference.geometric_levels(diagonal, sweeps, 8))[np.ix_(cells, cells)]
    size = np.abs(expected).max()
    np.testing.assert_allclose(M, expected, atol=1e-5 * size)
    np.testing.assert_allclose(M, M.T, atol=1e-5 * size)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0


@pytest.mark.parametrize(("sweeps", "most"), [(1, 11), (2, 9)])
@pytest.mark.parametrize("family", ["open-top", "pure-neumann", "closed-cube"])
@pytest.mark.parametrize("shape", [(9, 8, 8), (13, 17)], ids=str)
def test_convergence(family: str, shape: tuple[int, ...], sweeps: int, most: int) -> None:
    embedding, stencil = embed(random_grid(family, shape, np.random.default_rng(0)))
    assert iterations(classical(embedding, stencil, sweeps, coarsest=30), embedding, stencil) <= most


def test_two_threads_agree_with_one_and_with_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, stencil = embed(random_grid("mixed-walls", (7, 6, 8), np.random.default_rng(2)))
    alone = classical(embedding, stencil)
    monkeypatch.setattr(team, "SMALLEST", 1)
    pair, again = classical(embedding, stencil, threads=2), classical(embedding, stencil, threads=2)
    assert isinstance(pair.finest, UnitFinest)
    assert pair.finest.team.threads == 2
    rng = np.random.default_rng(0)
    r = UnitStencilOperator(embedding, stencil).embed(rng.standard_normal(len(embedding.position))).astype(np.float32)
    z = [M.zeros() for M in (alone, pair, again, pair)]
    products = [M.apply(r, v) for M, v in zip((alone, pair, again, pair), z, strict=True)]
    np.testing.assert_allclose(z[1], z[0], atol=1e-6)
    np.testing.assert_allclose(products[1], products[0], rtol=1e-5)
    for k in (2, 3):
        np.testing.assert_array_equal(z[k], z[1])
        assert products[k] == products[1]


@pytest.mark.parametrize("sweeps", [-1, 0, 6])
def test_more_sweeps_than_planes_are_kept_for_are_refused(sweeps: int) -> None:
    with pytest.raises(ValueError, match=f"sweeps must be from 1 to 5, got {sweeps}"):
        classical(*embed(domain((4, 4))), sweeps)


def test_work_counts_the_passes_over_the_finest_grid() -> None:
    embedding, stencil = embed(domain((4, 4)))
    assert [classical(embedding, stencil, sweeps).work for sweeps in (1, 2)] == [4, 4]
    assert classical(embedding, stencil).name == "geometric-multigrid"
    assert classical(embedding, stencil).symmetric
