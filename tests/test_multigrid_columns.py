"""Both multigrid cycles on several columns at once, copied and pickled, and without allocations."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from deepcd.pde import domain
from deepcd.solvers.grid_discovery import Embedding, embed
from deepcd.solvers.kernels import team
from deepcd.solvers.operators.stencil import StencilOperator
from deepcd.solvers.preconditioners import multigrid
from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid
from deepcd.solvers.preconditioners.multigrid import Multigrid

from .cycles import GRIDS, random_weights

# The hash of patterns multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")
Made = tuple[Multigrid, StencilOperator]


@pytest.fixture(autouse=True)
def _more_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multigrid, "COARSEST", 8)


def geometric(embedding: Embedding, threads: int) -> Multigrid:
    return GeometricMultigrid(embedding, threads=threads)


def learned(embedding: Embedding, threads: int) -> Multigrid:
    return LearnedMultigrid(embedding, random_weights(len(embedding.shape), 0.15), threads=threads)


@pytest.fixture(params=[geometric, learned], ids=["geometric", "learned"])
def made(request: pytest.FixtureRequest) -> Callable[..., Made]:
    def make(name: str, threads: int = 1) -> Made:
        embedding = embed(GRIDS[name])
        return request.param(embedding, threads), StencilOperator(embedding, threads)

    return make


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("k", "threads"), [(1, 1), (3, 1), pytest.param(16, 1, marks=pytest.mark.compiled), (3, 2)])
def test_columns_are_preconditioned_as_one_by_one(
    made: Callable[..., Made], name: str, k: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made(name, threads)
    together, columns = M.columns(k), operator.columns(k)
    m = len(operator.embedding.position)
    r = np.random.default_rng(0).standard_normal((m, k)).astype(np.float32)
    z, product = together.zeros(), 0.0
    for _ in range(2):  # the second time in used scratch
        computed = together.apply(columns.embed(r).astype(np.float32), z)
    assert not z[columns.diagonal == 0].any()
    for j in range(k):
        own = M.zeros()
        product += M.apply(operator.embed(r[:, j]).astype(np.float32), own)
        expected = operator.extract(own)
        error = columns.extract(z).reshape(m, k)[:, j] - expected
        assert np.abs(error).max() <= 1e-5 * np.abs(expected).max()
    assert computed == pytest.approx(product, rel=1e-5)


def test_the_preconditioner_of_columns_is_symmetric(made: Callable[..., Made]) -> None:
    M, operator = made("mixed-walls (5, 4, 6)")
    together, columns = M.columns(3), operator.columns(3)
    blocks = np.random.default_rng(0).standard_normal((2, len(operator.embedding.position), 3))
    u, v = (columns.embed(w).astype(np.float32) for w in blocks)
    z = together.zeros()
    uu, vu = together.apply(u, z), columns.dot(v, z)
    vv, uv = together.apply(v, z), columns.dot(u, z)
    assert uv == pytest.approx(vu, abs=1e-5 * (uu * vv) ** 0.5)


def test_columns_share_coefficients_and_own_their_work_vectors(made: Callable[..., Made]) -> None:
    M, _ = made("porous (3, 6, 5)")
    twin = M.columns(2)
    assert twin.levels[0].w is M.levels[0].w
    assert twin.exact is M.exact
    assert not np.shares_memory(twin.levels[0].z, M.levels[0].z)
    assert twin.zeros().size == 2 * M.zeros().size


@pytest.mark.parametrize("k", [1, 2])
def test_copies_and_pickles_compute_the_same(
    made: Callable[..., Made], k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "SMALLEST", 1)
    M, operator = made("mixed-walls (5, 4, 6)", threads=2)
    M, operator = M.columns(k), operator.columns(k)
    block = np.random.default_rng(0).standard_normal((len(operator.embedding.position), k))
    r = operator.embed(block).astype(np.float32)
    expected, z = M.zeros(), M.zeros()
    product = M.apply(r, expected)  # starts the threads
    for twin in (copy.deepcopy(M), pickle.loads(pickle.dumps(M))):
        assert twin.apply(r, z) == product
        np.testing.assert_array_equal(z, expected)
    assert M.apply(r, z) == product


@pytest.mark.compiled
@pytest.mark.parametrize("method", [GeometricMultigrid, LearnedMultigrid])
@pytest.mark.parametrize("k", [1, 4])
def test_an_application_allocates_no_vector(k: int, method: type[GeometricMultigrid | LearnedMultigrid]) -> None:
    embedding = embed(domain((24, 20, 22), walls="air"))
    M = method(embedding).columns(k)
    r, z = M.zeros(), M.zeros()
    M.apply(r, z)  # compiles
    tracemalloc.start()
    M.apply(r, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < z.nbytes / 10
