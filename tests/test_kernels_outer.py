"""Compiled passes of the outer iteration against their definition, on boxes of every kind, whole and split."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.kernels import outer, reference
from deepcd.solvers.operators.stencil import geometry

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (1, 1, 1), (7, 6), (1, 5), (4, 1)]
Box = tuple[tuple[int, int, int], tuple[int, ...], bool, NDArray[np.uint8]]


def random_box(shape: tuple[int, ...], rng: np.random.Generator) -> Box:
    n, s = geometry(shape)
    dirichlet = rng.integers(1, 8, n) * (rng.random(n) < 0.3)
    return n, s, len(shape) == 2, reference.stencil_diagonal(rng.random(n) < 0.75, dirichlet)


def random_vectors(count: int, box: Box, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [reference.pad(rng.standard_normal(box[0]) * (box[3] > 0), box[2]) for _ in range(count)]


def split(planes: int, parts: int) -> list[tuple[int, int]]:
    ends = [planes * t // parts for t in range(parts + 1)]
    return list(itertools.pairwise(ends))


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Box, np.random.Generator]:
    rng = np.random.default_rng(abs(hash(request.param)) % 1000)
    return random_box(request.param, rng), rng


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_residual(case: tuple[Box, np.random.Generator], parts: int) -> None:
    box, rng = case
    n, s, planar, diagonal = box
    b, x, r = random_vectors(3, box, rng)
    squares = np.zeros((parts, n[2]))
    for own, part in zip(squares, split(n[0], parts), strict=True):
        outer.residual(n, s, reference.pad(diagonal, planar), b, x, r, own, *part)
    A = reference.stencil(diagonal)
    expected = reference.unpad(b, n, planar).ravel() - A @ reference.unpad(x, n, planar).ravel()
    np.testing.assert_allclose(r, reference.pad(expected.reshape(n), planar), atol=1e-13)
    np.testing.assert_allclose(squares.sum(axis=0), (expected.reshape(n) ** 2).sum(axis=(0, 1)))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_matvec(case: tuple[Box, np.random.Generator], parts: int) -> None:
    box, rng = case
    n, s, planar, diagonal = box
    p, q = random_vectors(2, box, rng)
    product = sum(outer.matvec(n, s, reference.pad(diagonal, planar), p, q, *part) for part in split(n[0], parts))
    inner = reference.unpad(p, n, planar).ravel()
    expected = reference.stencil(diagonal) @ inner
    np.testing.assert_allclose(q, reference.pad(expected.reshape(n), planar), atol=1e-13)
    assert product == pytest.approx(inner @ expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_direction(case: tuple[Box, np.random.Generator], parts: int, dtype: Any) -> None:
    box, rng = case
    n, s = box[:2]
    z, p = random_vectors(2, box, rng)
    z = z.astype(dtype)
    expected = z + 0.3 * p
    for part in split(n[0], parts):
        outer.direction(s, z, 0.3, p, *part)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p, expected, atol=1e-15)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_update(case: tuple[Box, np.random.Generator], parts: int) -> None:
    box, rng = case
    n, s = box[:2]
    p, q, x, r = random_vectors(4, box, rng)
    x_expected, r_expected = x + 0.7 * p, r - 0.7 * q
    squares = np.zeros((parts, n[2]))
    for own, part in zip(squares, split(n[0], parts), strict=True):
        outer.update(n, s, 0.7, p, q, x, r, own, *part)
    np.testing.assert_allclose(x, x_expected, atol=1e-15)
    np.testing.assert_allclose(r, r_expected, atol=1e-15)
    expected = (reference.unpad(r_expected, n, box[2]) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(squares.sum(axis=0), expected)
    outer.sum_squares(n, s, r, squares[0], 0, n[0])
    np.testing.assert_allclose(squares[0], expected)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_dot_sums_in_float64(case: tuple[Box, np.random.Generator], parts: int) -> None:
    box, rng = case
    u, v = random_vectors(2, box, rng)
    v = v.astype(np.float32)
    total = sum(outer.dot(box[1], u, v, *part) for part in split(box[0][0], parts))
    assert total == pytest.approx(u @ v.astype(np.float64), rel=1e-12, abs=1e-14)


def test_a_share_of_the_planes_leaves_the_others_alone() -> None:
    rng = np.random.default_rng(0)
    box = random_box((6, 3, 4), rng)
    n, s, planar, diagonal = box
    flat = reference.pad(diagonal, planar)
    b, x = random_vectors(2, box, rng)
    for kernel in (
        lambda y: outer.residual(n, s, flat, b, x, y, np.zeros(n[2]), 2, 4),
        lambda y: outer.matvec(n, s, flat, x, y, 2, 4),
    ):
        y = np.full(flat.size, 7.0)
        kernel(y)
        inside = reference.unpad(y, n, planar)
        assert (inside[:2] == 7).all()
        assert (inside[4:] == 7).all()
        assert (inside[2:4] != 7).all()


@pytest.mark.parametrize(("n", "s"), [((4, 5, 6), (56, 8)), ((4, 1, 6), (8, 0))])
def test_rows_of_the_neighbours(n: tuple[int, int, int], s: tuple[int, int]) -> None:
    start, low0, high0, low1, high1 = (int(p) for p in outer.rows(n, s, 1, 0))
    assert start == 2 * s[0] + s[1] + 1
    assert (low0, high0) == (start - s[0], start + s[0])
    assert (low1, high1) == ((start - s[1], start + s[1]) if s[1] else (1, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remove_mean_of_listed_cells(case: tuple[Box, np.random.Generator], dtype: Any) -> None:
    box, rng = case
    v = reference.pad(rng.standard_normal(box[0]) + 100, box[2]).astype(dtype)
    cells = np.flatnonzero(v)[::2]
    expected = v.copy()
    expected[cells] -= v[cells].mean(dtype=np.float64)
    outer.remove_mean(cells, 1, v)
    np.testing.assert_allclose(v, expected, atol=2e-5 if dtype == np.float32 else 1e-12)
