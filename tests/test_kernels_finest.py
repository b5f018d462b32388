"""Compiled passes over the finest level, plain and fused, against their definition, whole and split into planes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.kernels import finest, fused, reference
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.multigrid import halved

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]
A0, C0 = np.float32(0.31), tuple(np.array([0.07, 0.05, 0.03], dtype=np.float32))
PHI = np.float32(0.8)


@dataclass
class Case:
    """A random box with listed cells, its coarse box, and what draws vectors on both."""

    shape: tuple[int, ...]
    parts: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(self.shape)))
        self.n, self.s = geometry(self.shape)
        self.m, self.ms, _ = halved(self.n, self.s)
        self.planar = len(self.shape) == 2
        dirichlet = self.rng.integers(1, 8, self.n) * (self.rng.random(self.n) < 0.3)
        self.diagonal = reference.stencil_diagonal(self.rng.random(self.n) < 0.75, dirichlet)
        self.flat = self.pad(self.diagonal)
        unknown = np.flatnonzero(self.flat)
        self.cells = unknown[self.rng.random(len(unknown)) < 0.5]
        i, j = np.divmod(np.arange(self.n[0] * self.n[1] + 1), self.n[1])
        self.starts = np.searchsorted(self.cells, (i + 1) * self.s[0] + (j + 1) * self.s[1])
        self.delta = self.rng.standard_normal((len(self.cells), 7)).astype(np.float32)
        self.ratio = self.rng.uniform(0.5, 2, len(self.cells)).astype(np.float32)
        self.near, self.far = (t.astype(np.float32) for t in reference.taps(0.2, self.n))
        self.psi = self.pad(self.rng.uniform(0.5, 2, self.m)).astype(np.float32)

    def pad(self, x: NDArray[Any]) -> NDArray[Any]:
        return reference.pad(x, self.planar)

    def vector(self) -> NDArray[np.float32]:
        return self.pad(self.rng.standard_normal(self.n) * (self.diagonal > 0)).astype(np.float32)

    def inner(self, box: NDArray[Any]) -> NDArray[np.float64]:
        return reference.unpad(box, self.n, self.planar).ravel().astype(float)

    def coarse(self) -> NDArray[np.float32]:
        return self.pad(self.rng.standard_normal(self.m)).astype(np.float32)

    def scratch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.zeros(self.s[0] + 4, dtype=np.float32), np.zeros(self.n[2] + 4, dtype=np.float32)

    def split(self, planes: int) -> list[tuple[int, int]]:
        ends = [planes * t // self.parts for t in range(self.parts + 1)]
        return list(itertools.pairwise(ends))

    def smoother(self) -> Any:
        """S as a matrix over the cells of the box."""
        index = np.flatnonzero(self.pad(np.ones(self.n)))
        return reference.listed_smoother(self.diagonal, float(A0), C0, np.searchsorted(index, self.cells), self.delta)

    def scaling(self) -> NDArray[np.float64]:
        """The transfer scaling phi of every cell."""
        phi = np.full(self.flat.size, PHI, dtype=float)
        phi[self.cells] *= self.ratio
        return self.inner(phi * (self.flat > 0))


@pytest.fixture(params=[(shape, parts) for shape in SHAPES for parts in (1, 2, 5)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def test_cast(case: Case) -> None:
    r, r32 = case.pad(case.rng.standard_normal(case.n)), np.zeros(case.flat.size, dtype=np.float32)
    for part in case.split(case.n[0]):
        finest.cast(case.s, r, r32, *part)
    np.testing.assert_array_equal(r32, r.astype(np.float32))


def test_smooth_first_casts_and_smooths(case: Case) -> None:
    r = case.vector().astype(np.float64)
    z = case.vector()
    for part in reversed(case.split(case.n[0])):  # in any order: each share casts the planes that it needs
        r32 = np.full(case.flat.size, np.nan, dtype=np.float32)
        r32[case.flat == 0] = 0
        if part[1] > part[0]:
            finest.smooth_first(
                case.n, case.s, case.flat, A0, C0, case.starts, case.cells, case.delta, r, r32, z, *part
            )
            share = slice((part[0] + 1) * case.s[0], (part[1] + 1) * case.s[0])
            np.testing.assert_array_equal(r32[share], r[share].astype(np.float32))
    expected = case.smoother() @ case.inner(r)
    np.testing.assert_allclose(z, case.pad(expected.reshape(case.n)), atol=3e-6)


def rings(case: Case) -> NDArray[np.float32]:
    return np.zeros((2, 3, case.s[0] + 4), dtype=np.float32)


@pytest.mark.parametrize("last", [False, True])
def test_smooth_steps_and_returns_both_products_at_last(case: Case, last: bool) -> None:
    r, z, out = case.vector(), case.vector(), case.vector()
    b, q = case.vector().astype(float), case.vector().astype(float)
    y = case.inner(z)
    expected = y + case.smoother() @ (case.inner(r) - reference.stencil(case.diagonal) @ y)
    smoother = (case.n, case.s, case.flat, A0, C0, case.starts, case.cells, case.delta)
    products = [fused.smooth(*smoother, r, z, out, last, b, q, rings(case), *part) for part in case.split(case.n[0])]
    np.testing.assert_allclose(out, case.pad(expected.reshape(case.n)), atol=1e-5)
    wanted = [b @ out.astype(float), q @ out.astype(float)] if last else [0, 0]
    np.testing.assert_allclose(np.sum(products, axis=0), wanted, atol=1e-12)


@pytest.mark.parametrize("last", [False, True])
def test_correct_smooth_adds_the_correction_first(case: Case, last: bool) -> None:
    r, z, out, coarse = case.vector(), case.vector(), case.vector(), case.coarse()
    b, q = case.vector().astype(float), case.vector().astype(float)
    P = reference.interpolation(case.n, case.near, case.far)
    e = reference.unpad(coarse, case.m, case.planar).ravel().astype(float)
    y = case.inner(z) + case.scaling() * (P @ e)
    expected = y + case.smoother() @ (case.inner(r) - reference.stencil(case.diagonal) @ y)
    smoother = (case.n, case.s, case.flat, A0, C0, case.starts, case.cells, case.delta)
    transfer = (PHI, case.ratio, case.m, case.ms, case.near, case.far, coarse, case.scratch()[1])
    products = [
        fused.correct_smooth(*smoother, r, z, out, last, b, q, *transfer, rings(case), *part)
        for part in case.split(case.n[0])
        if part[1] > part[0]
    ]
    np.testing.assert_allclose(out, case.pad(expected.reshape(case.n)), atol=2e-5)
    wanted = [b @ out.astype(float), q @ out.astype(float)] if last else [0, 0]
    np.testing.assert_allclose(np.sum(products, axis=0), wanted, atol=1e-12)


def test_residual_restrict(case: Case) -> None:
    r, z, coarse = case.vector(), case.vector(), case.coarse()
    plane, buffer = case.scratch()
    for part in case.split(case.m[0]):
        finest.residual_restrict(
            case.n,
            case.s,
            case.flat,
            PHI,
            case.starts,
            case.cells,
            case.ratio,
            r,
            z,
            case.m,
            case.ms,
            case.near,
            case.far,
            case.psi,
            plane,
            buffer,
            coarse,
            *part,
        )
    P = reference.interpolation(case.n, case.near, case.far)
    residual = case.inner(r) - reference.stencil(case.diagonal) @ case.inner(z)
    expected = case.pad((P.T @ (case.scaling() * residual)).reshape(case.m)) * case.psi
    np.testing.assert_allclose(coarse, expected, atol=2e-5)


def test_prolong_add(case: Case) -> None:
    z, coarse = case.vector(), case.coarse()
    plane, buffer = case.scratch()
    P = reference.interpolation(case.n, case.near, case.far)
    e = reference.unpad(coarse, case.m, case.planar).ravel().astype(float)
    expected = case.inner(z) + case.scaling() * (P @ e)
    for part in case.split(case.n[0]):
        finest.prolong_add(
            case.n,
            case.s,
            case.flat,
            PHI,
            case.starts,
            case.cells,
            case.ratio,
            case.m,
            case.ms,
            case.near,
            case.far,
            coarse,
            plane,
            buffer,
            z,
            *part,
        )
    np.testing.assert_allclose(z, case.pad(expected.reshape(case.n)), atol=3e-6)


@pytest.mark.parametrize("colour", [0, 1])
def test_red_black(case: Case, colour: int) -> None:
    r, z = case.vector(), case.vector()
    expected = reference.red_black(reference.stencil(case.diagonal), case.n, case.inner(r), case.inner(z), colour)
    row = np.zeros(case.n[2] + 4, dtype=np.float32)
    for part in case.split(case.n[0]):
        finest.red_black(case.n, case.s, case.flat, r, z, colour, row, *part)
    np.testing.assert_allclose(z, case.pad(expected.reshape(case.n)), atol=3e-6)


def test_dots(case: Case) -> None:
    r, q, z = case.vector().astype(float), case.vector().astype(float), case.vector()
    products = [finest.dots(case.s, r, q, z, *part) for part in case.split(case.n[0])]
    np.testing.assert_allclose(np.sum(products, axis=0), [r @ z.astype(float), q @ z.astype(float)], atol=1e-12)


def test_interpolation_reproduces_constants_away_from_the_ends() -> None:
    P = reference.interpolation((6, 1, 5), *reference.taps(0.25, (6, 1, 5)))
    share = (P @ np.ones(P.shape[1])).reshape(6, 1, 5)
    np.testing.assert_allclose(share[1:-1, :, 1:-1], 1)
    assert share[0, 0, 0] == pytest.approx(0.75**2)
