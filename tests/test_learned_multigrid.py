"""The compiled learned cycle against its definition and the torch module; definiteness, convergence, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import domain
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import reference, team
from deepcd.solvers.kernels.layout import WEIGHT
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid import evaluation
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.spectrum import BOUND
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest

from .cycles import dense, iterations, learned, random_embedding, random_weights
from .systems import GRIDS

# The hash of patterns multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
COARSEST = 8


def small(
    embedding: Embedding, stencil: UnitStencil, weights: dict[str, Any], threads: int = 1, **options: Any
) -> Cycle:
    """Return the cycle with more levels than such boxes usually get."""
    return learned(embedding, stencil, weights, threads, coarsest=COARSEST, **options)


def finest(M: Cycle) -> UnitFinest:
    assert isinstance(M.finest, UnitFinest)
    return M.finest


def smoothers(M: Cycle) -> FusedPair:
    smoothing = finest(M).smoothing
    assert isinstance(smoothing, FusedPair)
    return smoothing


def definition(
    embedding: Embedding, stencil: UnitStencil, weights: dict[str, Any]
) -> tuple[list[reference.LevelMatrices], NDArray[np.intp]]:
    """Return the levels of the definition and which cells of the box are unknowns."""
    planar = len(embedding.shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), embedding.n, planar)
    return reference.learned_levels(diagonal, planar, weights, COARSEST), np.flatnonzero(diagonal)


@pytest.mark.parametrize("name", GRIDS)
def test_cycle_is_the_one_defined_symmetric_and_positive_definite(name: str) -> None:
    embedding, stencil = embed(GRIDS[name])
    weights = random_weights(len(embedding.shape), 0.15)
    # The limits on coarse levels are no part of the definition.
    M = dense(small(embedding, stencil, weights, bound=np.inf), embedding, stencil)
    levels, cells = definition(embedding, stencil, weights)
    expected = reference.cycle(levels)[np.ix_(cells, cells)]
    size = np.abs(expected).max()
    np.testing.assert_allclose(M, expected, atol=1e-5 * size)
    np.testing.assert_allclose(M, M.T, atol=1e-5 * size)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0
    assert [len(level.S) for level in levels[:-1]] == [2] + [1] * (len(levels) - 2)
    for A, _, _, smoothers in levels:
        unknown = A.diagonal() > 0
        for S in smoothers:
            if unknown.any():
                assert np.linalg.eigvalsh(S.toarray()[np.ix_(unknown, unknown)])[0] > 0
                assert 0 < np.linalg.eigvals((S @ A).toarray()).real.max() < BOUND


@pytest.mark.parametrize("scale", [0.0, 0.15, 0.5])
@pytest.mark.parametrize(
    "name", ["mixed-walls (5, 4, 6)", "pure-neumann (4, 5, 3)", "chambers 3D", "chambers 2D", "free-surface (7, 9)"]
)
def test_cycle_is_the_one_that_is_trained(name: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with outputs so large that they are clipped; the limit on S A is no part of training."""
    import torch

    from deepcd.solvers.training import network, samples

    grid = GRIDS[name]
    (embedding, stencil), weights = embed(grid), random_weights(len(grid.shape), scale, seed=1)
    monkeypatch.setattr(network, "SOLVED_EXACTLY", COARSEST)
    module = network.CycleNetwork(len(grid.shape), hidden=6)
    module.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    operator, M = UnitStencilOperator(embedding, stencil), small(embedding, stencil, weights, bound=np.inf)
    r = operator.embed(np.random.default_rng(0).standard_normal(len(embedding.position))).astype(np.float32)
    z = M.zeros()
    M.apply(r, z)
    batch = samples.make_batch([grid.fluid], [samples.dirichlet_count(grid)])
    n, planar = embedding.n, len(embedding.shape) == 2
    with torch.no_grad():
        levels = module.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
        expected = module.cycle(levels, torch.from_numpy(reference.unpad(r, n, planar))[None])[0].numpy()
    assert len(levels) == len(M.levels) + 1
    computed = reference.unpad(z, n, planar)
    np.testing.assert_allclose(computed, expected * (computed != 0), atol=2e-5 * np.abs(computed).max())


def test_smoothers_of_coarse_levels_are_limited() -> None:
    embedding, stencil = embed(GRIDS["mixed-walls (5, 4, 6)"])
    weights = random_weights(3, 0.0)
    for k in range(2):
        weights[f"coarse.{k}.4.bias"][6:10] = 2.5
    M = small(embedding, stencil, weights)
    levels, _ = definition(embedding, stencil, weights)
    S, A = levels[1].G.toarray(), levels[1].A.toarray()
    before = np.linalg.eigvals(S @ A).real.max()
    assert before > 3
    after = reference.unpad(M.levels[0].fields.a, M.levels[0].box.n).ravel() / np.diag(S)
    np.testing.assert_allclose(after, after[0], rtol=1e-5)
    assert BOUND * (1 - 1e-4) <= after[0] * before < 2


def test_second_visits_are_weighted_so_that_the_cycle_stays_positive_definite() -> None:
    (embedding, stencil), weights = embed(domain((16, 18), walls=["solid", ("solid", "air")])), random_weights(2, 0.0)
    for k in range(2):
        weights[f"coarse.{k}.4.bias"][4] = 0.6  # psi: every correction is about three times too large
    weighted = small(embedding, stencil, weights)
    assert weighted.hierarchy.numbers[:, WEIGHT].min() < 0.9
    M = dense(weighted, embedding, stencil)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0
    M = dense(small(embedding, stencil, weights, bound=np.inf), embedding, stencil)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] < 0


@pytest.mark.parametrize("needed", [False, True])
def test_second_visits_may_be_weighed_later(needed: bool) -> None:
    """At the application that was said, or where r.z is negative; a twin counts for itself."""
    (embedding, stencil), weights = embed(domain((16, 18), walls=["solid", ("solid", "air")])), random_weights(2, 0.0)
    for k in range(2):
        weights[f"coarse.{k}.4.bias"][4] = 0.6 if needed else -0.3  # psi: corrections are too large, or too small
    once, later = small(embedding, stencil, weights), small(embedding, stencil, weights, unweighed=3)
    twin, z, expected = later.twin(1), once.zeros(), once.zeros()
    assert (later.hierarchy.numbers[:, WEIGHT] == 1).all()
    operator = UnitStencilOperator(embedding, stencil)
    values, vectors = np.linalg.eigh(dense(small(embedding, stencil, weights, bound=np.inf), embedding, stencil))
    assert (values[0] < 0) == needed
    r, bad = (operator.embed(vectors[:, k]).astype(np.float32) for k in (-1, 0))
    products = [later.apply(r, z) for _ in range(3)]
    assert products[0] == products[1]
    assert products[2] == once.apply(r, expected)
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(later.hierarchy.numbers, once.hierarchy.numbers)
    assert (products[1] != products[2]) == needed == (not later.linear)
    assert twin.unweighed == 3
    assert (twin.hierarchy.numbers[:, WEIGHT] == 1).all()
    assert twin.apply(bad, z) > 0
    assert twin.unweighed == (0 if needed else 2)


@pytest.mark.parametrize("family", ["open-top", "pure-neumann", "closed-cube"])
@pytest.mark.parametrize("shape", [(8, 7, 8), (13, 17)], ids=str)
def test_convergence(family: str, shape: tuple[int, ...]) -> None:
    """Untrained it is a plain damped cycle: within a dozen and a half iterations to six digits, whatever the domain."""
    embedding, stencil = embed(random_grid(family, shape, np.random.default_rng(0)))
    assert iterations(small(embedding, stencil, random_weights(len(shape), 0.02)), embedding, stencil) <= 18


def test_two_threads_agree_with_one_and_with_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    (embedding, stencil), weights = (
        embed(random_grid("mixed-walls", (7, 6, 8), np.random.default_rng(2))),
        random_weights(3, 0.1),
    )
    alone = small(embedding, stencil, weights)
    monkeypatch.setattr(team, "SMALLEST", 1)
    pair, again = (small(embedding, stencil, weights, threads=2) for _ in range(2))
    assert finest(pair).team.threads == 2
    rng = np.random.default_rng(0)
    r = UnitStencilOperator(embedding, stencil).embed(rng.standard_normal(len(embedding.position))).astype(np.float32)
    z = [M.zeros() for M in (alone, pair, again, pair)]
    products = [M.apply(r, v) for M, v in zip((alone, pair, again, pair), z, strict=True)]
    np.testing.assert_allclose(z[1], z[0], atol=1e-6)
    np.testing.assert_allclose(products[1], products[0], rtol=1e-5)
    for k in (2, 3):
        np.testing.assert_array_equal(z[k], z[1])
        assert products[k] == products[1]


def test_patterns_beyond_one_table_are_all_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    (embedding, stencil), weights = embed(GRIDS["porous (3, 6, 5)"]), random_weights(3, 0.3)
    whole = small(embedding, stencil, weights)
    monkeypatch.setattr(evaluation, "TABLE", 8)
    pieces = small(embedding, stencil, weights)
    np.testing.assert_array_equal(finest(pieces).scaling.cells, finest(whole).scaling.cells)
    mine, others = smoothers(pieces), smoothers(whole)
    for own, other in ((mine.first, others.first), (mine.second, others.second)):
        np.testing.assert_allclose(own.delta, other.delta, atol=1e-7)
    np.testing.assert_allclose(pieces.levels[0].fields.a, whole.levels[0].fields.a, atol=1e-6)


def test_an_undisturbed_interior_is_not_listed() -> None:
    embedding, stencil = embed(domain((8, 8, 8), walls="air"))
    M = small(embedding, stencil, random_weights(3, 0.1))
    own, scaling, listed = smoothers(M), finest(M).scaling, M.finest.listed
    assert listed == 8**3 - 2**3  # cells whose neighbours all see nothing but interior are not
    assert own.first.delta.shape == own.second.delta.shape == (7, listed)
    assert len(own.first.cells) == len(own.second.cells) == listed
    assert len(scaling.ratio) == len(scaling.cells) == 8**3 - 4**3  # transfers know their own cell only
    assert (scaling.ratio != 1).all()


@pytest.mark.parametrize("name", GRIDS)
def test_listed_cells_lie_in_runs_of_adjacent_ones(name: str) -> None:
    embedding, stencil = embed(GRIDS[name])
    M = small(embedding, stencil, random_weights(len(embedding.shape), 0.1))
    (n, s), listed = M.finest.box, M.finest.listed
    for _, delta, runs, ends, cells in (smoothers(M).first, smoothers(M).second):
        assert delta.shape == (7, listed) == (7, len(cells))
        assert (len(runs), runs[-1], ends[0], ends[-1]) == (n[0] * n[1] + 1, len(ends) - 1, 0, listed)
        for row in range(len(runs) - 1):
            last = None
            for q in range(runs[row], runs[row + 1]):
                own = cells[ends[q] : ends[q + 1]]
                assert len(own)
                np.testing.assert_array_equal(np.diff(own), 1)
                assert last is None or own[0] > last + 1, "two runs that are one"
                last = own[-1]
            numbers = cells[ends[runs[row]] : ends[runs[row + 1]]]
            begin = (row % n[1] + 1) * s[1] + 1
            assert ((numbers >= begin) & (numbers < begin + n[2])).all()


def test_without_listed_cells_there_are_no_runs() -> None:
    """A box of one cell that nothing holds has no coupling either."""
    embedding, stencil = random_embedding((3, 4), fill=-1.0)
    M = small(embedding, stencil, random_weights(2, 0.1))
    for _, delta, runs, _, cells in (smoothers(M).first, smoothers(M).second):
        assert delta.shape == (7, 0)
        assert M.finest.listed == 0
        assert len(cells) == 0
        assert not runs.any()
    z = M.zeros()
    assert M.apply(M.zeros(), z) == 0
    assert not z.any()


def test_neither_right_hand_side_nor_operator_is_written() -> None:
    embedding, stencil = embed(GRIDS["free-surface (7, 9)"])
    M, operator = small(embedding, stencil, random_weights(2, 0.1)), UnitStencilOperator(embedding, stencil)
    r = operator.embed(np.random.default_rng(0).standard_normal(len(embedding.position))).astype(np.float32)
    kept, diagonal = r.copy(), stencil.diagonal.copy()
    z = np.full(r.size, 7, dtype=np.float32) * (stencil.diagonal.ravel() > 0)
    M.apply(r, z)
    again = M.zeros()
    M.apply(r, again)
    np.testing.assert_array_equal(z, again)  # whatever z held before, and the last call
    np.testing.assert_array_equal(r, kept)
    np.testing.assert_array_equal(stencil.diagonal, diagonal)


def test_printed_it_tells_levels_cost_and_size_of_the_networks() -> None:
    weights = random_weights(3, 0.1)
    text = str(small(*embed(domain((8, 8, 8), walls="air")), weights))
    assert "8x8x8, 4x4x4, 2x2x2; the last solved exactly (8 unknowns)" in text
    assert "4 passes over the finest grid" in text
    assert f"networks of {sum(v.size for v in weights.values())} numbers" in text
