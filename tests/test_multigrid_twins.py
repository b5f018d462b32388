"""Both multigrid cycles as twins that work at the same time, copied and pickled, and without allocations."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import domain
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import team
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitFinest

from .cycles import classical, learned, random_weights
from .systems import GRIDS

# The hash of patterns multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
Made = tuple[Cycle, UnitStencilOperator]


def small_classical(embedding: Embedding, stencil: UnitStencil, threads: int) -> Cycle:
    return classical(embedding, stencil, threads=threads, coarsest=8)


def small_learned(embedding: Embedding, stencil: UnitStencil, threads: int) -> Cycle:
    return learned(embedding, stencil, random_weights(len(embedding.shape), 0.15), threads, coarsest=8)


def finest(M: Cycle) -> UnitFinest:
    assert isinstance(M.finest, UnitFinest)
    return M.finest


@pytest.fixture(params=[small_classical, small_learned], ids=["geometric", "learned"])
def made(request: pytest.FixtureRequest) -> Callable[..., Made]:
    def make(name: str, threads: int = 1) -> Made:
        embedding, stencil = embed(GRIDS[name])
        return request.param(embedding, stencil, threads), UnitStencilOperator(embedding, stencil, threads)

    return make


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("threads", "others"), [(1, 2), (2, 1), (5, 2)])
def test_a_twin_computes_the_same(
    made: Callable[..., Made], name: str, threads: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their threads; those of coarse levels visit them one pass after the other, one alone in one call."""
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made(name, threads)
    twin = M.twin(others)
    assert finest(twin).team.threads == min(others, M.finest.box.n[0])
    r = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position))).astype(np.float32)
    z, own = M.zeros(), twin.zeros()
    for _ in range(2):  # the second time in used scratch
        product, computed = M.apply(r, z), twin.apply(r, own)
        assert computed == pytest.approx(product, rel=1e-5)
        assert np.abs(own - z).max() <= 1e-5 * np.abs(z).max()


def test_twins_share_coefficients_and_own_their_work_vectors(made: Callable[..., Made]) -> None:
    M, _ = made("porous (3, 6, 5)")
    twin = M.twin(1)
    assert twin.exact is M.exact
    assert finest(twin).scaling.cells is finest(M).scaling.cells
    assert not np.shares_memory(twin.hierarchy.pool, M.hierarchy.pool)
    assert not np.shares_memory(finest(twin).smoothed, finest(M).smoothed)
    for own, other in zip(twin.levels, M.levels, strict=True):
        assert np.shares_memory(own.fields.z, twin.hierarchy.pool)
        assert np.shares_memory(other.fields.z, M.hierarchy.pool)
        np.testing.assert_array_equal(own.fields.w, other.fields.w)


@pytest.mark.compiled
def test_twins_work_at_the_same_time(made: Callable[..., Made]) -> None:
    M, operator = made("mixed-walls (5, 4, 6)")
    blocks = np.random.default_rng(0).standard_normal((4, len(operator.embedding.position)))
    right = [operator.embed(v).astype(np.float32) for v in blocks]
    twins, expected = [M.twin(1) for _ in right], [M.zeros() for _ in right]
    for r, z in zip(right, expected, strict=True):
        M.apply(r, z)

    def repeat(twin: Cycle, r: NDArray[np.float32], z: NDArray[np.float32]) -> None:
        own = twin.zeros()
        for _ in range(200):
            twin.apply(r, own)
            np.testing.assert_array_equal(own, z)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(repeat, *own) for own in zip(twins, right, expected, strict=True)]:
            future.result()


def test_copies_and_pickles_compute_the_same(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made("mixed-walls (5, 4, 6)", threads=2)
    r = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position))).astype(np.float32)
    expected, z = M.zeros(), M.zeros()
    product = M.apply(r, expected)  # starts the threads
    for twin in (copy.deepcopy(M), pickle.loads(pickle.dumps(M))):
        assert np.shares_memory(twin.levels[0].fields.z, twin.hierarchy.pool)
        assert not np.shares_memory(twin.hierarchy.pool, M.hierarchy.pool)
        assert twin.apply(r, z) == product
        np.testing.assert_array_equal(z, expected)
    assert M.apply(r, z) == product


@pytest.mark.compiled
@pytest.mark.parametrize("method", [classical, learned], ids=["GeometricMultigrid", "LearnedMultigrid"])
def test_an_application_allocates_no_vector(method: Callable[[Embedding, UnitStencil], Cycle]) -> None:
    M = method(*embed(domain((24, 20, 22), walls="air")))
    r, z = M.zeros(), M.zeros()
    M.apply(r, z)  # compiles
    tracemalloc.start()
    M.apply(r, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < z.nbytes / 10
