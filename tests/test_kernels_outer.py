"""Compiled passes of the outer iteration against their definition, on boxes of every kind, whole, split, in columns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.kernels import outer, reference
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.multigrid import interleaved

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (1, 1, 1), (7, 6), (1, 5), (4, 1)]
Blocks = NDArray[np.float64]  # columns over the cells of a box, (cells, columns)


@dataclass
class Case:
    """A random box and what draws columns on it."""

    shape: tuple[int, ...]
    columns: int = 1

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.columns, *self.shape])
        self.box, strides = geometry(self.shape)
        self.planar = len(self.shape) == 2
        self.n, self.s = interleaved(self.box, strides, self.columns)
        dirichlet = self.rng.integers(1, 8, self.box) * (self.rng.random(self.box) < 0.3)
        self.stencil = reference.stencil_diagonal(self.rng.random(self.box) < 0.75, dirichlet)
        self.A = reference.stencil(self.stencil)
        self.diagonal = np.repeat(reference.pad(self.stencil, self.planar), self.columns)

    def block(self, dtype: Any = np.float64) -> Blocks:
        """Return random columns on the unknowns, of numbers that the type holds exactly."""
        values = self.rng.standard_normal((self.stencil.size, self.columns)).astype(dtype)
        return (values * (self.stencil.reshape(-1, 1) > 0)).astype(float)

    def flat(self, block: Blocks, dtype: Any = np.float64) -> NDArray[Any]:
        boxes = [reference.pad(v.reshape(self.box), self.planar) for v in block.T]
        return np.stack(boxes, axis=-1).ravel().astype(dtype)

    def split(self, parts: int) -> list[tuple[int, int]]:
        return list(itertools.pairwise([self.n[0] * t // parts for t in range(parts + 1)]))


@pytest.fixture(params=[(shape, columns) for shape in SHAPES for columns in (1, 3)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_residual(case: Case, parts: int, dtype: Any) -> None:
    b, x = case.block(), case.block()
    r, squares = case.flat(case.block(), dtype), np.ones((parts, case.columns))
    for own, part in zip(squares, case.split(parts), strict=True):
        outer.residual(case.n, case.s, case.diagonal, case.flat(b), case.flat(x), r, own, *part)
    expected = b - case.A @ x
    if dtype == np.float64:
        np.testing.assert_allclose(r, case.flat(expected), atol=1e-13)
    else:
        np.testing.assert_allclose(r, case.flat(expected), rtol=6e-8, atol=1e-13)  # rounded once, at the end
    np.testing.assert_allclose(squares.sum(axis=0), (expected**2).sum(axis=0))  # before rounding


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_image(case: Case, parts: int) -> None:
    p, q = case.block(np.float32), case.flat(case.block())
    for part in case.split(parts):
        outer.image(case.n, case.s, case.diagonal, case.flat(p, np.float32), q, *part)
    np.testing.assert_allclose(q, case.flat(case.A @ p), atol=1e-13)


@pytest.mark.parametrize("z_is_p", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_conjugate(case: Case, parts: int, z_is_p: bool) -> None:
    """Shares in any order, and the couplings where they meet; also in place, as a direction is made of itself."""
    beta, p_before = np.float32(0 if z_is_p else 0.375), case.block(np.float32)
    p = case.flat(p_before, np.float32)
    z = p if z_is_p else case.flat(case.block(np.float32), np.float32)
    expected = z + beta * p
    shares = [share for share in case.split(parts) if share[0] < share[1]]  # as a team has them
    product = sum(outer.conjugate(case.n, case.s, case.diagonal, z, beta, p, *part) for part in reversed(shares))
    product -= sum(outer.coupling(case.s, p, start) for start, stop in shares[1:])
    np.testing.assert_allclose(p, expected, rtol=2e-7, atol=2e-7)
    boxes = p.reshape(-1, case.columns).T
    inner = np.stack([reference.unpad(v, case.box, case.planar).ravel() for v in boxes], axis=-1).astype(float)
    image = case.A @ inner
    assert product == pytest.approx(np.sum(inner * image), rel=1e-6, abs=1e-7 * np.sum(np.abs(inner * image)))
    assert not p[case.diagonal == 0].any()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_step(case: Case, parts: int) -> None:
    """Both x and the residual are of the p that float32 holds: what is lost is the rounding of r, once."""
    p, r, x = case.block(np.float32), case.block(np.float32), case.block()
    y, s = case.flat(x), case.flat(r, np.float32)
    squares = np.ones((parts, case.columns))
    for own, part in zip(squares, case.split(parts), strict=True):
        outer.step(case.n, case.s, case.diagonal, 0.7, case.flat(p, np.float32), y, s, own, *part)
    expected = r - 0.7 * (case.A @ p)
    np.testing.assert_allclose(y, case.flat(x + 0.7 * p), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(s, case.flat(expected), rtol=6e-8, atol=1e-13)
    np.testing.assert_allclose(squares.sum(axis=0), (expected**2).sum(axis=0))
    for own, part in zip(squares, case.split(parts), strict=True):
        outer.sum_squares(case.s, s, own, *part)
    np.testing.assert_allclose(squares.sum(axis=0), (s.astype(float).reshape(-1, case.columns) ** 2).sum(axis=0))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_dot_sums_in_float64(case: Case, parts: int) -> None:
    u, v = case.flat(case.block()), case.flat(case.block(), np.float32)
    total = sum(outer.dot(case.s, u, v, *part) for part in case.split(parts))
    assert total == pytest.approx(u @ v.astype(np.float64), rel=1e-12, abs=1e-14)


def test_a_share_of_the_planes_leaves_the_others_alone() -> None:
    case = Case((6, 3, 4))
    b, x, p = case.flat(case.block()), case.flat(case.block()), case.flat(case.block(), np.float32)
    arguments, squares = (case.n, case.s, case.diagonal), np.zeros(1)
    for dtype, kernel in (
        (np.float64, lambda y: outer.residual(*arguments, b, x, y, squares, 2, 4)),
        (np.float32, lambda y: outer.residual(*arguments, b, x, y, squares, 2, 4)),
        (np.float64, lambda y: outer.image(*arguments, p, y, 2, 4)),
        (np.float32, lambda y: outer.conjugate(*arguments, p, np.float32(0.5), y, 2, 4)),
        (np.float32, lambda y: outer.step(*arguments, 0.5, p, x.copy(), y, squares, 2, 4)),
        (np.float64, lambda y: outer.step(*arguments, 0.5, p, y, p.copy(), squares, 2, 4)),
    ):
        y = np.where(case.diagonal > 0, 7.0, 0.0).astype(dtype)
        kernel(y)
        inside, before = reference.unpad(y, case.n), 7.0 * (case.stencil > 0)
        np.testing.assert_array_equal(inside[:2], before[:2])
        np.testing.assert_array_equal(inside[4:], before[4:])
        assert (inside[2:4] != 7).all()


@pytest.mark.parametrize(("n", "s"), [((4, 5, 6), (56, 8)), ((4, 1, 6), (8, 0)), ((4, 5, 12), (112, 16, 2))])
def test_rows_of_the_neighbours(n: tuple[int, int, int], s: tuple[int, ...]) -> None:
    start, low0, high0, low1, high1 = (int(p) for p in outer.rows(n, s, 1, 0))
    k = 1 if len(s) == 2 else s[2]
    assert start == 2 * s[0] + s[1] + k
    assert (low0, high0) == (start - s[0], start + s[0])
    assert (low1, high1) == ((start - s[1], start + s[1]) if s[1] else (1, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remove_mean_of_listed_cells(case: Case, dtype: Any) -> None:
    v = case.flat(case.rng.standard_normal((case.stencil.size, case.columns)) + 100, dtype)
    expected = v.reshape(-1, case.columns).copy()
    cells = np.flatnonzero(expected[:, 0])[::2]
    expected[cells] -= expected[cells].mean(axis=0, dtype=np.float64)
    outer.remove_mean(cells, case.columns, v)
    np.testing.assert_allclose(v, expected.ravel(), atol=2e-5 if dtype == np.float32 else 1e-12)


def test_embed_and_spread(case: Case) -> None:
    k = case.columns
    position = case.rng.permutation(np.flatnonzero(case.diagonal.reshape(-1, k)[:, 0]))
    v, scale = case.rng.standard_normal((position.size, k)), case.rng.uniform(0.5, 2, k)
    box = np.zeros(case.diagonal.size)
    outer.embed(position, k, v, scale, box)
    np.testing.assert_array_equal(box.reshape(-1, k)[position], v * scale)
    assert np.count_nonzero(box) == np.count_nonzero(v)
    w = np.ones((position.size, k))
    outer.spread(position, k, box, scale, w)
    np.testing.assert_allclose(w, 1 + v * scale**2, rtol=1e-14, atol=1e-15)
