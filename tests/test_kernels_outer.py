"""Compiled passes of the outer iteration against their definition, on boxes of every kind, whole and split."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import outer, reference

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (1, 1, 1), (7, 6), (1, 5), (4, 1)]
F64 = NDArray[np.float64]


@dataclass
class Case:
    """A random box and what draws vectors on it."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.shape)
        self.n, self.s = geometry(self.shape)
        self.planar = len(self.shape) == 2
        dirichlet = self.rng.integers(1, 8, self.n) * (self.rng.random(self.n) < 0.3)
        self.stencil = reference.stencil_diagonal(self.rng.random(self.n) < 0.75, dirichlet)
        self.A = reference.stencil(self.stencil)
        self.diagonal = reference.pad(self.stencil, self.planar)

    def vector(self, dtype: Any = np.float64) -> F64:
        """Return a random vector on the unknowns, of numbers that the type holds exactly."""
        return (self.rng.standard_normal(self.stencil.size).astype(dtype) * (self.stencil.ravel() > 0)).astype(float)

    def flat(self, v: F64, dtype: Any = np.float64) -> NDArray[Any]:
        return reference.pad(v.reshape(self.n), self.planar).astype(dtype)

    def spoilt(self, dtype: Any = np.float64) -> NDArray[Any]:
        """Return a vector that must not be read, except in the planes around the box, which nothing writes."""
        box = np.zeros(self.diagonal.size, dtype=dtype)
        box[self.s[0] : -self.s[0]] = np.nan
        return box

    def split(self, parts: int) -> list[tuple[int, int]]:
        return list(itertools.pairwise([self.n[0] * t // parts for t in range(parts + 1)]))


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_residual(case: Case, parts: int, dtype: Any) -> None:
    b, x = case.vector(), case.vector()
    r, right, start = case.flat(case.vector(), dtype), case.flat(b), case.flat(x)
    square = sum(outer.residual(case.n, case.s, case.diagonal, right, start, r, *part) for part in case.split(parts))
    expected = b - case.A @ x
    if dtype == np.float64:
        np.testing.assert_allclose(r, case.flat(expected), atol=1e-13)
    else:
        np.testing.assert_allclose(r, case.flat(expected), rtol=6e-8, atol=1e-13)  # rounded once, at the end
    assert square == pytest.approx(expected @ expected, rel=1e-12)  # before rounding


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_image(case: Case, parts: int) -> None:
    p, q = case.vector(np.float32), case.flat(case.vector())
    for part in case.split(parts):
        outer.image(case.n, case.s, case.diagonal, case.flat(p, np.float32), q, *part)
    np.testing.assert_allclose(q, case.flat(case.A @ p), atol=1e-13)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_energy_keeps_what_cancellation_leaves(case: Case, parts: int) -> None:
    p = case.vector(np.float32) + np.where(case.vector(np.float32) == 0, np.float32(0), np.float32(1000))
    flat = case.flat(p, np.float32)
    product = sum(outer.energy(case.n, case.s, case.diagonal, flat, *part) for part in case.split(parts))
    inner = reference.unpad(flat, case.n, case.planar).ravel().astype(float)
    assert product == pytest.approx(np.sum(inner * (case.A @ inner)), rel=1e-9)


@pytest.mark.parametrize("z_is_p", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_conjugate(case: Case, parts: int, z_is_p: bool) -> None:
    """Shares in any order, and the couplings where they meet; also in place, as a direction is made of itself."""
    beta, p_before = np.float32(0 if z_is_p else 0.375), case.vector(np.float32)
    p = case.flat(p_before, np.float32)
    z = p if z_is_p else case.flat(case.vector(np.float32), np.float32)
    expected = z + beta * p
    shares = [share for share in case.split(parts) if share[0] < share[1]]  # as a team has them
    product = sum(outer.conjugate(case.n, case.s, case.diagonal, z, beta, p, *part) for part in reversed(shares))
    product -= sum(outer.coupling(case.s, p, start) for start, stop in shares[1:])
    np.testing.assert_allclose(p, expected, rtol=2e-7, atol=2e-7)
    inner = reference.unpad(p, case.n, case.planar).ravel().astype(float)
    image = case.A @ inner
    assert product == pytest.approx(np.sum(inner * image), rel=1e-6, abs=1e-7 * np.sum(np.abs(inner * image)))
    assert not p[case.diagonal == 0].any()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_conjugate_with_nothing_of_the_direction_before_does_not_read_it(case: Case, parts: int) -> None:
    z, p = case.flat(case.vector(np.float32), np.float32), case.spoilt(np.float32)
    shares = [share for share in case.split(parts) if share[0] < share[1]]
    zero = np.float32(0)
    product = sum(outer.conjugate(case.n, case.s, case.diagonal, z, zero, p, *part) for part in reversed(shares))
    product -= sum(outer.coupling(case.s, p, start) for start, _ in shares[1:])
    np.testing.assert_array_equal(p, z)
    inner = reference.unpad(z, case.n, case.planar).ravel().astype(float)
    terms = inner * (case.A @ inner)
    assert product == pytest.approx(np.sum(terms), rel=1e-6, abs=1e-7 * np.sum(np.abs(terms)))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_step(case: Case, parts: int, first: bool) -> None:
    """Both x and the residual are of the p that float32 holds: what is lost is the rounding of r, once.

    The first step does not read x.
    """
    p, r, x = case.vector(np.float32), case.vector(np.float32), np.zeros(case.stencil.size) if first else case.vector()
    y, s = case.spoilt() if first else case.flat(x), case.flat(r, np.float32)
    arguments = (case.n, case.s, case.diagonal, 0.7, case.flat(p, np.float32), y, s, first)
    square = sum(outer.step(*arguments, *part) for part in case.split(parts))
    expected = r - 0.7 * (case.A @ p)
    np.testing.assert_allclose(y, case.flat(x + 0.7 * p), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(s, case.flat(expected), rtol=6e-8, atol=1e-13)
    assert square == pytest.approx(expected @ expected, rel=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_dot_sums_in_float64(case: Case, parts: int) -> None:
    u, v = case.flat(case.vector()), case.flat(case.vector(), np.float32)
    total = sum(outer.dot(case.s, u, v, *part) for part in case.split(parts))
    assert total == pytest.approx(u @ v.astype(np.float64), rel=1e-12, abs=1e-14)


def test_a_share_of_the_planes_leaves_the_others_alone() -> None:
    case = Case((6, 3, 4))
    b, x, p = case.flat(case.vector()), case.flat(case.vector()), case.flat(case.vector(), np.float32)
    arguments = (case.n, case.s, case.diagonal)
    for dtype, kernel in (
        (np.float64, lambda y: outer.residual(*arguments, b, x, y, 2, 4)),
        (np.float32, lambda y: outer.residual(*arguments, b, x, y, 2, 4)),
        (np.float64, lambda y: outer.image(*arguments, p, y, 2, 4)),
        (np.float32, lambda y: outer.conjugate(*arguments, p, np.float32(0.5), y, 2, 4)),
        (np.float32, lambda y: outer.conjugate(*arguments, p, np.float32(0), y, 2, 4)),
        (np.float32, lambda y: outer.step(*arguments, 0.5, p, x.copy(), y, False, 2, 4)),
        (np.float64, lambda y: outer.step(*arguments, 0.5, p, y, p.copy(), False, 2, 4)),
        (np.float64, lambda y: outer.step(*arguments, 0.5, p, y, p.copy(), True, 2, 4)),
    ):
        y = np.where(case.diagonal > 0, 7.0, 0.0).astype(dtype)
        kernel(y)
        inside, before = reference.unpad(y, case.n), 7.0 * (case.stencil > 0)
        np.testing.assert_array_equal(inside[:2], before[:2])
        np.testing.assert_array_equal(inside[4:], before[4:])
        assert (inside[2:4] != 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remove_mean_of_listed_cells(case: Case, dtype: Any) -> None:
    v = case.flat(case.rng.standard_normal(case.stencil.size) + 100, dtype)
    cells, expected = np.flatnonzero(v)[::2], v.copy()
    expected[cells] -= v[cells].mean(dtype=np.float64)
    outer.remove_mean(cells, v)
    np.testing.assert_allclose(v, expected, atol=2e-5 if dtype == np.float32 else 1e-12)


def test_embed_and_spread(case: Case) -> None:
    position = case.rng.permutation(np.flatnonzero(case.diagonal))
    v, box = case.rng.standard_normal(position.size), np.zeros(case.diagonal.size)
    outer.embed(position, v, 0.75, box)
    np.testing.assert_array_equal(box[position], 0.75 * v)
    assert np.count_nonzero(box) == np.count_nonzero(v)
    w = np.ones(position.size)
    outer.spread(position, box, -2.0, w)
    np.testing.assert_allclose(w, 1 - 1.5 * v, rtol=1e-14, atol=1e-15)
