"""Compiled passes of the cycle over its coarse levels against their definition, on boxes of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, reference
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.multigrid import halved

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]


class Case:
    """A box with random positive face weights and what draws vectors on it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(shape)))
        self.planar = len(shape) == 2
        self.n, self.s = geometry(shape)
        self.m, self.ms, _ = halved(self.n, self.s)
        unknown = self.rng.random(self.n) < 0.8
        self.faces = reference.unit_faces(unknown) * self.rng.uniform(0.5, 2, (3, *self.n))
        dirichlet = (self.rng.random(self.n) < 0.3) * self.rng.uniform(0, 2, self.n) * unknown
        self.own, self.inverse = reference.form(self.faces, dirichlet, np.ones(3))
        self.w = [self.flat(w) for w in self.faces]
        self.A = reference.matrix(self.own, self.faces, -1.0)
        self.phi = self.rng.uniform(0.5, 2, self.n) * (self.own > 0)
        self.psi = self.rng.uniform(0.5, 2, self.m)
        self.near, self.far = (t.astype(np.float32) for t in reference.taps(0.2, self.n))
        self.P = reference.interpolation(self.n, self.near, self.far)
        self.row, self.buffer = (np.zeros(self.n[2] + 4, dtype=np.float32) for _ in range(2))

    def flat(self, x: NDArray[Any]) -> NDArray[np.float32]:
        return reference.pad(x, self.planar).astype(np.float32)

    def vector(self, on: NDArray[Any] | None = None) -> NDArray[np.float64]:
        where = self.own > 0 if on is None else on
        return self.rng.standard_normal(where.shape) * where


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize(("alpha", "sigma", "tau"), [(1, -1, 1), (0, 1, 1), (0.5, 2, -0.3)])
def test_sweep(case: Case, alpha: float, sigma: float, tau: float) -> None:
    base, x = case.vector(), case.vector()
    y = case.flat(base)
    coefficients = (np.float32(alpha), y, np.float32(sigma), case.flat(case.own), np.float32(tau))
    coarse.sweep(case.n, case.s, *coefficients, *case.w, case.flat(x), y)  # y is base: in place
    expected = reference.sweep(alpha, base, sigma, case.own, tau, case.faces, x)
    np.testing.assert_allclose(y, case.flat(expected), atol=2e-5)
    product = case.A @ x.ravel()
    np.testing.assert_allclose(reference.sweep(0, base, 1, case.own, -1, case.faces, x).ravel(), product, atol=1e-12)


def test_residual_restrict(case: Case) -> None:
    r, z, result = case.vector(), case.vector(), case.flat(case.vector(np.ones(case.m)))
    coarse.residual_restrict(
        case.n,
        case.s,
        case.flat(case.own),
        *case.w,
        case.flat(case.phi),
        case.flat(r),
        case.flat(z),
        case.m,
        case.ms,
        case.near,
        case.far,
        case.flat(case.psi),
        case.row,
        case.buffer,
        result,
    )
    residual = case.phi.ravel() * (r.ravel() - case.A @ z.ravel())
    np.testing.assert_allclose(result, case.flat(case.psi * (case.P.T @ residual).reshape(case.m)), atol=3e-5)


def test_prolong_add(case: Case) -> None:
    e, z = case.vector(np.ones(case.m)), case.vector()
    result = case.flat(z)
    transfer = (case.m, case.ms, case.near, case.far, case.flat(e))
    coarse.prolong_add(case.n, case.s, case.flat(case.phi), *transfer, case.row, case.buffer, result)
    np.testing.assert_allclose(result, case.flat(z + case.phi * (case.P @ e.ravel()).reshape(case.n)), atol=5e-6)


def test_restriction_stays_right_after_a_prolongation_in_the_same_scratch(case: Case) -> None:
    test_prolong_add(case)
    test_residual_restrict(case)


@pytest.mark.parametrize("colour", [0, 1])
def test_red_black(case: Case, colour: int) -> None:
    r, z = case.vector(), case.vector()
    result = case.flat(z)
    coarse.red_black(case.n, case.s, case.flat(case.inverse), *case.w, case.flat(r), result, colour, case.row)
    expected = reference.red_black(case.A, case.n, r.ravel(), z.ravel(), colour)
    np.testing.assert_allclose(result, case.flat(expected.reshape(case.n)), atol=5e-5)
