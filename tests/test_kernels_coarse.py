"""Compiled passes over coarse levels against their definition, on boxes of every kind, whole and split."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import coarse, reference
from deepcd.solvers.kernels.layout import SETS
from deepcd.solvers.kernels.records import Box, Coefficients, Transfer, scratch_for

from .cycles import close

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (9, 3, 4), (7, 6), (1, 5), (4, 1), (6, 3)]
F64 = NDArray[np.float64]


class Case:
    """A box with random positive face weights, a smoother of its own, a coarser box, and what draws vectors on both."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(shape)))
        self.planar = len(shape) == 2
        self.n, self.s = geometry(shape)
        self.m, self.ms = geometry(tuple((k + 1) // 2 for k in shape))
        unknown = self.rng.random(self.n) < 0.8
        pairs = reference.unit_faces(unknown)
        self.faces, self.c = (pairs * self.rng.uniform(0.5, 2, (3, *self.n)) for _ in range(2))
        dirichlet = (self.rng.random(self.n) < 0.3) * self.rng.uniform(0, 2, self.n) * unknown
        self.own, self.inverse = reference.form(self.faces, dirichlet, np.ones(3))
        self.a = self.rng.uniform(0.5, 2, self.n) * (self.own > 0)
        self.A, self.S = reference.matrix(self.own, self.faces, -1.0), reference.matrix(self.a, self.c, 1.0)
        self.phi = self.rng.uniform(0.5, 2, self.n) * (self.own > 0)
        self.psi = self.rng.uniform(0.5, 2, self.m) * (self.rng.random(self.m) < 0.9)
        self.near, self.far = (t.astype(np.float32) for t in reference.taps(0.2, self.n))
        P = reference.interpolation(self.n, self.near, self.far)
        self.T = self.phi.reshape(-1, 1) * P.toarray() * self.psi.ravel()
        self.box = Box(self.n, self.s)
        self.scratch = scratch_for(self.box, SETS)
        self.transfer = Transfer(self.m, self.ms, self.near, self.far)
        fields = (self.own, self.faces, self.a, self.c, self.phi)
        self.coefficients = Coefficients(*(self.pad(field) for field in fields))
        self.level = (self.box, self.coefficients)

    def pad(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return the padded box of a coefficient, or of one per axis."""
        fields = x if x.ndim == 4 else [x]
        boxes = np.stack([reference.pad(v, self.planar) for v in fields]).astype(np.float32)
        return boxes if x.ndim == 4 else boxes[0]

    def vector(self, on: NDArray[Any]) -> F64:
        """Return a random vector where `on` is not zero, of numbers that float32 holds exactly."""
        return (self.rng.standard_normal(on.size).astype(np.float32) * (on.ravel() != 0)).astype(float)

    def flat(self, v: F64, box: tuple[int, int, int] | None = None) -> NDArray[np.float32]:
        """Return a vector on its padded box, the finer one unless another is named."""
        return self.pad(v.reshape(box or self.n))

    def split(self, planes: int, parts: int) -> list[tuple[int, int]]:
        return list(itertools.pairwise([planes * t // parts for t in range(parts + 1)]))


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize(("alpha", "sigma", "tau"), [(1, -1, 1), (0, 1, 1), (0.5, 2, -0.3)])
def test_sweep(case: Case, alpha: float, sigma: float, tau: float) -> None:
    base, x = case.vector(case.own).reshape(case.n), case.vector(case.own).reshape(case.n)
    y = np.zeros_like(case.pad(x))
    coefficients = (np.float32(sigma), case.pad(case.own), np.float32(tau), case.pad(case.faces))
    coarse.sweep(case.box, np.float32(alpha), case.pad(base), *coefficients, case.pad(x), y)
    expected = reference.sweep(alpha, base, sigma, case.own, tau, case.faces, x)
    np.testing.assert_allclose(y, case.pad(expected), atol=2e-5)
    product = case.A @ x.ravel()
    np.testing.assert_allclose(reference.sweep(0, base, 1, case.own, -1, case.faces, x).ravel(), product, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_descend(case: Case, parts: int) -> None:
    for _ in range(2):  # the second time in used scratch
        r, z = case.vector(case.own), case.flat(case.vector(case.own))
        coarser = case.flat(np.ones(case.psi.size), case.m)
        vectors = (case.flat(r), z, case.transfer, case.pad(case.psi), coarser)
        for part in case.split(case.m[0], parts):
            coarse.descend(*case.level, *vectors, case.scratch, *part)
        down = case.S @ r
        close(z, case.flat(down))
        close(coarser, case.flat(case.T.T @ (r - case.A @ down), case.m))


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_ascend(case: Case, parts: int) -> None:
    for _ in range(2):
        r, z, e = case.vector(case.own), case.vector(case.own), case.vector(np.ones(case.m))
        out, coarser = case.flat(case.vector(case.own)), case.flat(case.psi.ravel() * e, case.m)
        vectors = (case.flat(r), case.flat(z), out, case.transfer, coarser)
        for part in case.split(case.n[0], parts):
            coarse.ascend(*case.level, *vectors, case.scratch, *part)
        y = z + case.T @ e
        close(out, case.flat(y + case.S @ (r - case.A @ y)))


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_turn(case: Case, parts: int) -> None:
    """One pass is the way up of one cycle, the residual that it leaves, and the way down of the next on that."""
    for _ in range(2):
        r, z, e = case.vector(case.own), case.vector(case.own), case.vector(np.ones(case.m))
        right, before = case.flat(r), case.flat(z)
        coarser, below = case.flat(case.psi.ravel() * e, case.m), case.flat(np.ones(case.psi.size), case.m)
        out, left, again = (case.flat(case.vector(case.own)) for _ in range(3))
        kept = [v.copy() for v in (right, before, coarser)]
        vectors = (right, before, out, left, again, case.transfer, coarser, case.pad(case.psi), below)
        for part in case.split(case.m[0], parts):
            coarse.turn(*case.level, *vectors, case.scratch, *part)
        y = z + case.T @ e
        up = y + case.S @ (r - case.A @ y)
        rest = r - case.A @ up
        down = case.S @ rest
        close(out, case.flat(up))
        close(left, case.flat(rest))
        close(again, case.flat(down))
        close(below, case.flat(case.T.T @ (rest - case.A @ down), case.m))
        for v, own in zip((right, before, coarser), kept, strict=True):
            np.testing.assert_array_equal(v, own)


@pytest.mark.parametrize("shape", [(9, 3, 4), (5, 4, 6), (7, 6)], ids=str)
def test_a_share_of_a_turn_leaves_the_other_planes_alone(shape: tuple[int, ...]) -> None:
    case = Case(shape)
    r, z, e = case.vector(case.own), case.vector(case.own), case.vector(np.ones(case.m))
    fine = [np.full(case.flat(r).size, 7, dtype=np.float32) for _ in range(3)]
    below = np.full(case.pad(case.psi).size, 7, dtype=np.float32)
    coarser = case.flat(case.psi.ravel() * e, case.m)
    vectors = (case.flat(r), case.flat(z), *fine, case.transfer, coarser, case.pad(case.psi), below)
    coarse.turn(*case.level, *vectors, case.scratch, 1, 2)
    for v, share in ((below, (2, 3)), *((v, (3, 5)) for v in fine)):  # of planes, padding counted
        planes = v.reshape(-1, case.ms[0] if v is below else case.s[0])
        assert (np.delete(planes, np.arange(*share), axis=0) == 7).all()
        assert (planes[slice(*share)] != 7).any(axis=1).all()


def test_prolong(case: Case) -> None:
    e, z = case.vector(np.ones(case.m)), case.vector(case.own)
    coarser = case.flat(case.psi.ravel() * e, case.m)
    for _ in range(2):  # the second time in used scratch
        computed = case.flat(z)
        coarse.prolong(case.box, case.pad(case.phi), case.transfer, coarser, case.scratch, computed)
        np.testing.assert_allclose(computed, case.flat(z + case.T @ e), atol=5e-6)


def test_scale(case: Case) -> None:
    v = case.vector(np.ones(case.n))
    computed = case.flat(v)
    coarse.scale(case.pad(case.phi), computed)
    np.testing.assert_allclose(computed, case.flat(case.phi.ravel() * v), rtol=1e-6)


@pytest.mark.parametrize("in_place", [False, True])
def test_combine(case: Case, in_place: bool) -> None:
    v, e = case.vector(np.ones(case.n)), case.vector(np.ones(case.n))
    second = case.flat(v)
    out = second if in_place else case.flat(case.vector(np.ones(case.n)))
    coarse.combine(np.float32(0.3), case.flat(e), case.pad(case.phi), second, out)
    np.testing.assert_allclose(out, case.flat(case.phi.ravel() * (0.3 * v + e)), atol=2e-6)
    if not in_place:
        np.testing.assert_array_equal(second, case.flat(v))


def test_orthogonalise(case: Case) -> None:
    v, before, w = (case.vector(np.ones(case.n)) for _ in range(3))
    own, last, image = case.flat(v), case.flat(before), case.flat(w)
    coarse.orthogonalise(np.float32(0.4), np.float32(1.7), np.float32(0.9), own, last, image)
    u = 0.4 * v
    np.testing.assert_allclose(last, case.flat(u), rtol=1e-6)
    np.testing.assert_allclose(own, case.flat(0.4 * w - 1.7 * u - 0.9 * before), atol=2e-6)
    np.testing.assert_array_equal(image, case.flat(w))
