"""The matrix-free operator against the assembled matrix."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

from deepcd.pde import Grid, box, domain, poisson
from deepcd.solvers.grid_discovery import embed
from deepcd.solvers.kernels import team
from deepcd.solvers.operators.stencil import StencilOperator, geometry

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
    A, embedding = poisson(grid).A, embed(grid)
    rows = slice(None) if embedding.rows is None else embedding.rows
    A = A.toarray()[rows][:, rows] / embedding.scale
    operator = StencilOperator(embedding, threads)
    assert operator.team.threads == min(threads, operator.n[0])
    rng = np.random.default_rng(0)
    b, x, p, z = rng.standard_normal((4, len(A)))
    boxes = [operator.embed(v) for v in (b, x, p, z)]
    r, q = operator.zeros(), operator.zeros()

    square = operator.residual(boxes[0], boxes[1], r)
    np.testing.assert_allclose(operator.extract(r), b - A @ x, atol=1e-12)
    assert square == pytest.approx(operator.dot(r, r)) == pytest.approx((b - A @ x) @ (b - A @ x))
    operator.direction(boxes[3], -0.5, boxes[2])
    p = z - 0.5 * p
    product = operator.apply(boxes[2], q)
    np.testing.assert_allclose(operator.extract(q), A @ p, atol=1e-12)
    assert product == pytest.approx(p @ A @ p)
    square = operator.update(0.3, boxes[2], q, boxes[1], r)
    np.testing.assert_allclose(operator.extract(boxes[1]), x + 0.3 * p)
    np.testing.assert_allclose(operator.extract(r), b - A @ (x + 0.3 * p), atol=1e-12)
    assert square == pytest.approx(operator.dot(r, r))


def test_embed_scales_and_leaves_its_argument_alone() -> None:
    operator = StencilOperator(embed(random_grid((4, 5))))
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
    embedding = embed(grid)
    operator = StencilOperator(embedding)
    assert embedding.sealed.tolist() == [True, True, False]
    v = operator.embed(np.random.default_rng(0).standard_normal(len(embedding.position)) + 3)
    before = operator.extract(v)
    operator.project(v)
    after = operator.extract(v)
    for c in range(3):
        change = (before - after)[embedding.component == c]
        np.testing.assert_allclose(change, before[embedding.component == c].mean() * embedding.sealed[c], atol=1e-14)


def test_project_in_float32_and_on_a_single_chamber() -> None:
    embedding = embed(domain((5, 4)))
    operator = StencilOperator(embedding)
    z = operator.embed(np.random.default_rng(0).random(20)).astype(np.float32)
    operator.project(z)
    assert z.dtype == np.float32
    assert abs(operator.extract(z).sum()) < 1e-5
    assert np.count_nonzero(z) == 20


def test_geometry() -> None:
    assert geometry((4, 1, 6)) == ((4, 1, 6), (24, 8))
    assert geometry((1, 6)) == ((1, 1, 6), (8, 0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_columns_are_worked_on_as_one_by_one(shape: tuple[int, ...], k: int, threads: int) -> None:
    operator = StencilOperator(embed(random_grid(shape)), threads)
    together = operator.columns(k)
    m = len(operator.embedding.position)
    rng = np.random.default_rng(0)
    b, x, p, z = rng.standard_normal((4, m, k))
    scale = rng.uniform(0.5, 2, k)
    blocks = [together.embed(v if k > 1 else v[:, 0], scale) for v in (b, x, p, z)]
    r, q = together.zeros(), together.zeros()
    first = together.residual(blocks[0], blocks[1], r)
    after_residual = together.squares.copy(), together.extract(r).reshape(m, k)
    together.direction(blocks[3].astype(np.float32), -0.5, blocks[2])
    pq = together.apply(blocks[2], q)
    last = together.update(0.3, blocks[2], q, blocks[1], r)
    total = 0.0
    for j in range(k):
        own = [operator.embed(v[:, j], scale[j]) for v in (b, x, p, z)]
        s, t = operator.zeros(), operator.zeros()
        assert operator.residual(own[0], own[1], s) == pytest.approx(after_residual[0][j])
        np.testing.assert_allclose(after_residual[1][:, j], operator.extract(s), atol=1e-13)
        operator.direction(own[3].astype(np.float32), -0.5, own[2])
        total += operator.apply(own[2], t)
        assert operator.update(0.3, own[2], t, own[1], s) == pytest.approx(together.squares[j])
        for block, vector in ((r, s), (q, t), (blocks[1], own[1])):
            np.testing.assert_allclose(
                together.extract(block).reshape(m, k)[:, j], operator.extract(vector), atol=1e-13
            )
    assert pq == pytest.approx(total)
    assert first == pytest.approx(after_residual[0].max())
    assert last == pytest.approx(together.squares.max()) == pytest.approx(together.norm(r) ** 2)
    assert together.dot(r, q) == pytest.approx(np.sum(together.extract(r) * together.extract(q)))
    assert not r[together.diagonal == 0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_project_removes_constants_from_each_column(dtype: Any) -> None:
    wall = box((3, 0, 0), (4, 4, 4)) | box((6, 0, 0), (7, 4, 4))
    embedding = embed(domain((9, 4, 4), solid=wall, walls=[("solid", "air"), "solid", "solid"]))
    operator = StencilOperator(embedding).columns(3)
    block = np.random.default_rng(0).standard_normal((len(embedding.position), 3)) + np.array([1, -4, 9])
    v = operator.embed(block).astype(dtype)
    operator.project(v)
    for c, sealed in enumerate(embedding.sealed):
        own = block[embedding.component == c]
        expected = own - own.mean(axis=0) * sealed
        np.testing.assert_allclose(operator.extract(v)[embedding.component == c], expected, atol=2e-6)


def test_copies_and_pickles_compute_the_same(threads: int) -> None:
    operator = StencilOperator(embed(random_grid((9, 7))), threads)
    p = operator.embed(np.random.default_rng(0).standard_normal(len(operator.embedding.position)))
    q, expected = operator.zeros(), operator.zeros()
    product = operator.apply(p, expected)  # starts the threads
    for twin in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert twin.apply(p, q) == product
        np.testing.assert_array_equal(q, expected)


@pytest.mark.compiled
@pytest.mark.parametrize("k", [1, 4])
def test_an_iteration_allocates_no_vector(k: int) -> None:
    operator = StencilOperator(embed(domain((24, 20, 22), walls="air"))).columns(k)
    b, x, r, p, q = (operator.zeros() for _ in range(5))

    def iteration() -> None:
        operator.residual(b, x, r)
        operator.direction(b, 0.5, p)
        operator.apply(p, q)
        operator.update(0.1, p, q, x, r)
        operator.norm(r)
        operator.dot(p, q)

    iteration()  # compiles
    tracemalloc.start()
    iteration()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < b.nbytes / 10
