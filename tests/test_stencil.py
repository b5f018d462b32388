"""The matrix-free operator against the assembled matrix."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, diags_array

from deepcd import DeepCD
from deepcd.pde import Grid, box, domain, poisson
from deepcd.solvers.grids.discovery import discover, embed
from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import team
from deepcd.solvers.operators.grid_matrix import GridMatrix
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.preparation import prepare
from deepcd.solvers.prepared import Solvable
from deepcd.solvers.structure import analyse

SHAPES = [(6, 5, 7), (1, 8, 5), (6, 1, 4), (9, 7), (1, 12)]


def random_grid(shape: tuple[int, ...], air_at: str = "center") -> Grid:
    rng = np.random.default_rng(len(shape) * sum(shape))
    cells = rng.choice([0, 1, 2], size=shape, p=[0.8, 0.1, 0.1])
    return Grid(
        cells, walls=[("solid", "air")] * len(shape), spacing=0.5, air_at="face" if air_at == "face" else "center"
    )


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(team, "SMALLEST", 1)
    return int(request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("air_at", ["center", "face"])
def test_the_operator_is_the_matrix(shape: tuple[int, ...], air_at: str, threads: int) -> None:
    grid = random_grid(shape, air_at)
    A, (embedding, stencil) = poisson(grid).A, embed(grid)
    A = A.toarray()[embedding.rows][:, embedding.rows] / stencil.scale
    operator = UnitStencilOperator(embedding, stencil, threads)
    assert operator.team.threads == min(threads, operator.n[0])
    b, x, p, z = np.random.default_rng(0).standard_normal((4, len(A)))
    p, z = (v.astype(np.float32) for v in (p, z))
    b_, x_, p_, z_ = operator.embed(b), operator.embed(x), *(operator.embed(v).astype(np.float32) for v in (p, z))
    r_ = np.zeros_like(p_)

    square = operator.residual(b_, x_, r_)
    r = b - A @ x
    np.testing.assert_allclose(operator.extract(r_), r, rtol=6e-8, atol=1e-12)
    assert square == pytest.approx(r @ r)
    assert operator.norm(r_) ** 2 == pytest.approx(operator.dot(r_, r_), rel=1e-12)
    assert operator.dot(r_, r_) == pytest.approx(r @ r)

    product = operator.conjugate(z_, -0.5, p_)
    np.testing.assert_allclose(operator.extract(p_), z - 0.5 * p, atol=3e-7)
    p = operator.extract(p_).astype(float)  # what follows is of the direction as it is rounded
    assert product == pytest.approx(p @ A @ p)
    np.testing.assert_allclose(operator.extract(operator.image(p_)), A @ p, atol=1e-12)
    assert operator.overlap(p_, z_) == pytest.approx(p @ A @ z)

    r = operator.extract(r_).astype(float)
    square = operator.step(0.3, p_, x_, r_)
    np.testing.assert_allclose(operator.extract(x_), x + 0.3 * p, rtol=1e-14, atol=1e-15)
    r -= 0.3 * (A @ p)
    np.testing.assert_allclose(operator.extract(r_), r, rtol=6e-8, atol=1e-12)
    assert square == pytest.approx(r @ r)
    for v in (b_, x_, p_, r_):
        assert not v[operator.diagonal == 0].any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_first_step_reads_neither_direction_nor_iterate_before(shape: tuple[int, ...], threads: int) -> None:
    operator = UnitStencilOperator(*embed(random_grid(shape)), threads)
    drawn = np.random.default_rng(0).standard_normal((2, len(operator.embedding.position)))
    z_, r_ = (operator.embed(v) for v in drawn)
    z, r = z_.astype(np.float32), r_.astype(np.float32)
    rest = r.copy()
    b, x, p, *_ = operator.workspace(Identity(z.size))
    for v in (x, p):
        v[operator.s[0] : -operator.s[0]] = np.nan  # nothing writes the planes around the box
    assert operator.conjugate(z, 0.0, p) == pytest.approx(float(z_ @ operator.image(z)), rel=1e-6)
    np.testing.assert_array_equal(p, z)
    again = b
    square = operator.step(0.3, z, again, rest.copy())
    assert operator.step(0.3, p, x, r, first=True) == square
    np.testing.assert_array_equal(x, again)
    operator.step(0.3, p, x, r)  # the next one goes on from there
    np.testing.assert_allclose(x, 0.6 * p.astype(float), rtol=1e-14)


def test_the_product_of_the_last_direction_is_exact_enough_for_a_line_search(threads: int) -> None:
    """p.A p is summed of differences in float32: also of smooth directions, where they nearly cancel."""
    operator = UnitStencilOperator(*embed(domain((30, 20, 25), walls=[("solid", "air"), "solid", "solid"])), threads)
    i, j, k = np.indices((30, 20, 25))
    smooth = np.cos(np.pi * (i + 0.5) / 60) * np.cos(np.pi * (j + 0.5) / 20) * np.cos(np.pi * (k + 0.5) / 25)
    p = operator.embed(smooth.ravel()).astype(np.float32)
    image = operator.image(p)
    assert operator.conjugate(p.copy(), 0.0, p) == pytest.approx(float(p @ image), rel=1e-5)


def test_the_workspace_is_kept_for_one_preconditioner_and_left_out_of_copies() -> None:
    operator, M = UnitStencilOperator(*embed(random_grid((4, 5)))), Identity(42)
    space = operator.workspace(M)
    assert operator.workspace(M) is space
    assert operator.workspace(Identity(42)) is not space
    assert [v.dtype for v in space] == [np.float64, np.float64, np.float32, np.float32, np.float64]
    assert all(v.size == 42 and not v.any() for v in space)
    space = operator.workspace(M)
    twin = copy.deepcopy(operator)
    assert not np.shares_memory(twin.workspace(M).r, space.r)
    assert operator.workspace(M) is space


def test_embed_scales_and_leaves_its_argument_alone() -> None:
    operator = UnitStencilOperator(*embed(random_grid((4, 5))))
    v = np.arange(len(operator.embedding.position), dtype=np.float32)
    kept = v.copy()
    boxed = operator.embed(v, 0.25)
    assert boxed.dtype == np.float64
    np.testing.assert_array_equal(operator.extract(boxed), v / 4)
    assert np.count_nonzero(boxed) == np.count_nonzero(v)
    np.testing.assert_array_equal(v, kept)


def test_project_removes_the_constant_of_each_sealed_chamber_and_no_other() -> None:
    wall = box((3, 0, 0), (4, 4, 4)) | box((6, 0, 0), (7, 4, 4))
    grid = domain((9, 4, 4), solid=wall, walls=[("solid", "air"), "solid", "solid"])
    embedding, stencil = embed(grid)
    operator = UnitStencilOperator(embedding, stencil)
    assert stencil.sealed.tolist() == [True, True, False]
    v = operator.embed(np.random.default_rng(0).standard_normal(len(embedding.position)) + 3)
    before = operator.extract(v)
    operator.project(v)
    after = operator.extract(v)
    for c in range(3):
        change = (before - after)[embedding.component == c]
        np.testing.assert_allclose(change, before[embedding.component == c].mean() * stencil.sealed[c], atol=1e-14)


def test_project_in_float32_and_on_a_single_chamber() -> None:
    embedding, stencil = embed(domain((5, 4)))
    operator = UnitStencilOperator(embedding, stencil)
    z = operator.embed(np.random.default_rng(0).random(20)).astype(np.float32)
    operator.project(z)
    assert z.dtype == np.float32
    assert abs(operator.extract(z).sum()) < 1e-5
    assert np.count_nonzero(z) == 20


def test_geometry() -> None:
    assert geometry((4, 1, 6)) == ((4, 1, 6), (24, 8))
    assert geometry((1, 6)) == ((1, 1, 6), (8, 0))


def test_spread_adds_to_rows(threads: int) -> None:
    operator = UnitStencilOperator(*embed(random_grid((9, 7))), threads)
    v, w = np.random.default_rng(0).standard_normal((2, len(operator.embedding.position)))
    expected = w - 0.3 * v
    operator.spread(operator.embed(v), -0.3, w)
    np.testing.assert_allclose(w, expected, atol=1e-15)


def test_a_twin_computes_the_same_in_vectors_of_its_own(threads: int) -> None:
    operator, M = UnitStencilOperator(*embed(random_grid((9, 7))), threads), Identity(99)
    twin = operator.twin(3 - threads)
    assert (operator.team.threads, twin.team.threads) == (threads, 3 - threads)
    assert not any(np.shares_memory(u, v) for u in operator.workspace(M) for v in twin.workspace(M))
    p = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position))).astype(np.float32)
    np.testing.assert_array_equal(twin.image(p), operator.image(p))


def test_copies_and_pickles_compute_the_same(threads: int) -> None:
    operator = UnitStencilOperator(*embed(random_grid((9, 7))), threads)
    p = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position))).astype(np.float32)
    product, expected = operator.conjugate(p.copy(), 0.0, p), operator.image(p)  # starts the threads
    for twin in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert twin.conjugate(p.copy(), 0.0, p) == product
        np.testing.assert_array_equal(twin.image(p), expected)


@pytest.mark.compiled
def test_an_iteration_allocates_no_vector() -> None:
    operator = UnitStencilOperator(*embed(domain((24, 20, 22), walls="air")))
    M = Identity(operator.diagonal.size)
    b, x, p, r, z = operator.workspace(M)
    z = z.astype(np.float32)

    def iteration() -> None:
        operator.workspace(M)
        operator.residual(b, x, r)
        operator.conjugate(z, 0.5, p)
        operator.step(0.1, p, x, r)
        operator.norm(r)
        operator.dot(p, z)

    iteration()  # compiles
    tracemalloc.start()
    iteration()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < b.nbytes / 10


@pytest.mark.parametrize("shape", [*SHAPES, "with a lone cell"], ids=str)
def test_the_matrix_of_a_grid_has_the_entries_and_products_of_the_assembled_one(shape: Any) -> None:
    grid = Grid([[0, 0, 1, 0, 2, 1, 1, 0, 1, 0, 0]], spacing=0.3) if isinstance(shape, str) else random_grid(shape)
    A, (embedding, stencil) = poisson(grid).A, embed(grid)
    n = A.shape[0]
    alone = np.setdiff1d(np.arange(n), np.arange(n)[embedding.rows])
    assert alone.size == isinstance(shape, str)
    matrix = GridMatrix(UnitStencilOperator(embedding, stencil), n, alone, A.diagonal()[alone])
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(matrix.tocsr(), name), getattr(A, name))
    x = np.random.default_rng(0).standard_normal((n, 2))
    np.testing.assert_allclose(matrix @ x, A @ x, rtol=1e-13, atol=1e-12)
    np.testing.assert_array_equal(matrix @ x[:, 1], (matrix @ x)[:, 1])


@pytest.mark.parametrize("most", [2.0, 12.0, 100.0, 255.0])
def test_no_row_exceeds_its_bound(most: float) -> None:
    diagonal = np.full(50, 2.0)
    diagonal[20] = most
    A = csr_array(diags_array([-1.0, diagonal, -1.0], offsets=[-1, 0, 1], shape=(50, 50)))
    assert abs(A).sum(axis=1).max() <= UnitStencilOperator(*discover(A)).row_bound <= max(18, most + 6)


def test_a_matrix_known_by_its_grid_and_its_solver_share_one_operator() -> None:
    config = DeepCD("geometric-multigrid").config
    for A in (domain((7, 6, 5), walls="air"), poisson(domain((7, 6, 5), walls="air")).A):
        structure = analyse(A, config)
        assert isinstance(structure.matrix, GridMatrix)
        prepared = prepare(structure, config)
        assert isinstance(prepared, Solvable)
        assert prepared.parts.operator is structure.matrix.operator is structure.on_grid
