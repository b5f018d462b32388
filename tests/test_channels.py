"""The learned cycle in channels: against its definition, and iterations that do not grow with the length."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD
from deepcd.pde import domain, poisson
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import reference
from deepcd.solvers.kernels.records import Box
from deepcd.solvers.learned.architecture import A0, C0
from deepcd.solvers.preconditioners.multigrid.channels import is_channel
from deepcd.solvers.preconditioners.multigrid.learned import shipped
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitGrid

from .cycles import dense, learned, random_embedding

SHAPES = [(70, 4), (3, 52), (52, 3, 3), (2, 3, 54)]


def channel(shape: tuple[int, ...], *ends: str) -> Any:
    """Return a straight channel with solid walls but at its ends: one of the two kinds, or both."""
    long = int(np.argmax(shape))
    return domain(shape, walls=[ends if axis == long else "solid" for axis in range(len(shape))])


def unknown_to_its_networks(A: sp.csr_array) -> sp.csr_array:
    """Return the smoother of a coarse level, from the entries of its operator."""
    d = A.diagonal()
    inverse = sp.diags_array(np.divide(1, d, out=np.zeros_like(d), where=d > 0))
    c = C0 * inverse @ (sp.diags_array(d) - A) @ inverse
    return sp.csr_array(c + sp.diags_array(c.sum(axis=1)) + A0 * inverse)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("holes", [False, True])
def test_cycle_is_the_one_defined_symmetric_and_positive_definite(shape: tuple[int, ...], holes: bool) -> None:
    embedding, stencil = random_embedding(shape, 0.9, seed=3) if holes else embed(channel(shape, "solid", "air"))
    if holes:  # without Dirichlet data, but for those of one cell
        box = stencil.diagonal
        neighbours = np.array(sum(np.roll(box > 0, o, a).astype(int) for a in range(box.ndim) for o in (1, -1)))
        box[:] = np.where(box > 0, np.maximum(neighbours, 1), 0)
        box.ravel()[embedding.position[0]] += 1
    planar = len(shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), embedding.n, planar)
    cells = np.flatnonzero(diagonal)
    M = dense(learned(embedding, stencil, coarsest=8, bound=1.9), embedding, stencil)  # second visits count in full
    finest = reference.learned_levels(diagonal, planar, shipped(len(shape)), 8)[0]
    levels = reference.geometric_levels(diagonal, 1, 8)
    levels = [
        levels[0]._replace(G=finest.G),
        *(level._replace(G=unknown_to_its_networks(level.A)) for level in levels[1:-1]),
        levels[-1],
    ]
    expected = reference.cycle(levels)[np.ix_(cells, cells)]
    size = np.abs(expected).max()
    np.testing.assert_allclose(M, expected, atol=2e-4 * size)
    np.testing.assert_allclose(M, M.T, atol=2e-4 * size)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > -1e-4 * size


def seen(shape: tuple[int, ...], *ends: str, side: str = "solid") -> bool:
    """Return whether the walls of a box make it a channel."""
    long = int(np.argmax(shape))
    walls = [ends if axis == long else ("solid", side) for axis in range(len(shape))]
    embedding, stencil = embed(domain(shape, walls=walls))
    return is_channel(UnitGrid(Box(*geometry(embedding.shape)), stencil.diagonal.ravel()))


def test_channels_are_long_and_have_no_dirichlet_data_on_a_long_stretch() -> None:
    assert seen((70, 4), "solid", "air")
    assert seen((4, 70), "air", "air")
    assert seen((3, 2, 60), "solid", "solid")
    assert not seen((64, 4), "solid", "air")
    assert not seen((70, 4), "solid", "air", side="air")  # a long tank that is open above
    assert not seen((60, 60, 3), "solid", "air")


@pytest.mark.parametrize("ends", [("solid", "air"), ("air", "air"), ("solid", "solid")], ids="-".join)
@pytest.mark.parametrize("shape", [(400, 4), (3200, 4), (4, 4000), (2400, 3, 3), (600, 8, 8)], ids=str)
def test_iterations_do_not_grow_with_the_length(shape: tuple[int, ...], ends: tuple[str, str]) -> None:
    A = poisson(channel(shape, *ends)).A
    n = A.shape[0]
    for b in (np.random.default_rng(0).standard_normal(n), np.cos(3 * np.arange(n) / n)):
        b = b - b.mean() if ends == ("solid", "solid") else b
        solution = DeepCD("learned-multigrid", threads=1).solve(A, b, 1e-6)
        assert solution.info == 0
        assert solution.iterations <= 8
        assert np.linalg.norm(b - A @ solution.x) <= 1e-6 * np.linalg.norm(b)


def test_twins_and_copies_search_alike() -> None:
    embedding, stencil = embed(channel((70, 4), "solid", "air"))
    M = learned(embedding, stencil)
    assert not M.linear
    assert not M.twin(2).linear
    assert not copy.deepcopy(M).linear
    assert learned(*embed(domain((12, 12)))).linear
