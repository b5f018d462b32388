"""Compiled passes of the cycle over its coarse levels against their definition, on boxes of every kind and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, reference
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid
from deepcd.solvers.preconditioners.multigrid import NOWHERE, CoarseLevel, Taps, halved, interleaved

from .cycles import close

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (9, 3, 4), (7, 6), (1, 5), (4, 1), (6, 3)]
Blocks = NDArray[np.float64]  # columns over the cells of a box, (cells, columns)


class Case:
    """A box with random positive face weights, a smoother of its own, a coarser box, and what draws columns on both."""

    def __init__(self, shape: tuple[int, ...], columns: int) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(shape)))
        self.planar, self.columns = len(shape) == 2, columns
        self.box, strides = geometry(shape)
        self.coarse_box, coarse_strides, _ = halved(self.box, strides)
        self.n, self.s = interleaved(self.box, strides, columns)
        self.m, self.ms = interleaved(self.coarse_box, coarse_strides, columns)
        unknown = self.rng.random(self.box) < 0.8
        pairs = reference.unit_faces(unknown)
        self.faces, self.c = (pairs * self.rng.uniform(0.5, 2, (3, *self.box)) for _ in range(2))
        dirichlet = (self.rng.random(self.box) < 0.3) * self.rng.uniform(0, 2, self.box) * unknown
        self.own, self.inverse = reference.form(self.faces, dirichlet, np.ones(3))
        self.a = self.rng.uniform(0.5, 2, self.box) * (self.own > 0)
        self.A, self.S = reference.matrix(self.own, self.faces, -1.0), reference.matrix(self.a, self.c, 1.0)
        self.phi = self.rng.uniform(0.5, 2, self.box) * (self.own > 0)
        self.psi = self.rng.uniform(0.5, 2, self.coarse_box) * (self.rng.random(self.coarse_box) < 0.9)
        self.near, self.far = (t.astype(np.float32) for t in reference.taps(0.2, self.box))
        P = reference.interpolation(self.box, self.near, self.far)
        self.T = self.phi.reshape(-1, 1) * P.toarray() * self.psi.ravel()
        row = self.n[2] + 4 * columns
        self.row = np.zeros(row, dtype=np.float32)
        self.along = np.zeros(((self.box[1] + 1) // 2 + 2, row), dtype=np.float32)

    def pad(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return the padded box of a coefficient, or of one per axis."""
        fields = x if x.ndim == 4 else [x]
        boxes = np.stack([reference.pad(v, self.planar) for v in fields]).astype(np.float32)
        return boxes if x.ndim == 4 else boxes[0]

    def block(self, on: NDArray[Any]) -> Blocks:
        """Return random columns where `on` is not zero, of numbers that float32 holds exactly."""
        values = self.rng.standard_normal((on.size, self.columns)).astype(np.float32)
        return (values * (on.reshape(-1, 1) != 0)).astype(float)

    def flat(self, block: Blocks, box: tuple[int, int, int] | None = None) -> NDArray[np.float32]:
        """Return the padded box of columns, which interleave; of the finer box unless another one is named."""
        boxes = [reference.pad(v.reshape(box or self.box), self.planar) for v in block.T]
        return np.stack(boxes, axis=-1).ravel().astype(np.float32)

    def levels(self) -> tuple[CoarseLevel, CoarseLevel]:
        """Return the box as a level of a cycle, and the coarser one."""
        size = self.pad(self.own).size
        zeros, wide = np.zeros(size, dtype=np.float32), np.zeros((3, size), dtype=np.float32)
        ones, strides = (1.0, 1.0, 1.0), geometry(self.box if not self.planar else (self.box[0], self.box[2]))[1]
        level = CoarseLevel(self.box, strides, ones, 1.0, zeros, zeros, wide, self.pad(self.faces))
        level.diagonal, level.inverse, level.a = self.pad(self.own), self.pad(self.inverse), self.pad(self.a)
        level.c, level.phi, level.taps = self.pad(self.c), self.pad(self.phi), Taps(self.near, self.far)
        psi, strides = self.pad(self.psi), halved(self.box, strides)[1]
        wide = np.zeros((3, psi.size), dtype=np.float32)
        lower = CoarseLevel(self.coarse_box, strides, ones, 1.0, np.zeros_like(psi), np.zeros_like(psi), wide, wide)
        lower.psi = psi
        for own in (level, lower):
            own.allocate(self.columns)
        return level, lower


@pytest.fixture(params=[(shape, columns) for shape in SHAPES for columns in (1, 3)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


@pytest.mark.parametrize(("alpha", "sigma", "tau"), [(1, -1, 1), (0, 1, 1), (0.5, 2, -0.3)])
def test_sweep(case: Case, alpha: float, sigma: float, tau: float) -> None:
    base, x = case.block(case.own), case.block(case.own)
    y = np.zeros_like(case.flat(x))
    coefficients = (np.float32(sigma), case.pad(case.own), np.float32(tau), case.pad(case.faces))
    coarse.sweep(case.n, case.s, np.float32(alpha), case.flat(base), *coefficients, case.flat(x), y)
    for v, own, column in zip(x.T, base.T, y.reshape(-1, case.columns).T, strict=True):
        product = reference.sweep(alpha, own.reshape(case.box), sigma, case.own, tau, case.faces, v.reshape(case.box))
        np.testing.assert_allclose(column, case.pad(product), atol=2e-5)
        applied = reference.sweep(0, own.reshape(case.box), 1, case.own, -1, case.faces, v.reshape(case.box))
        np.testing.assert_allclose(applied.ravel(), case.A @ v, atol=1e-12)


def test_down(case: Case) -> None:
    level, lower = case.levels()
    for _ in range(2):  # the second time in used scratch
        r = case.block(case.own)
        level.r[:] = case.flat(r)
        LearnedMultigrid.descend_level(None, level, lower)  # type: ignore[arg-type]
        z = case.S @ r
        close(level.z, case.flat(z))
        close(lower.r, case.flat(case.T.T @ (r - case.A @ z), case.coarse_box))


@pytest.mark.parametrize("residual_wanted", [True, False])
def test_up(case: Case, residual_wanted: bool) -> None:
    level, lower = case.levels()
    for _ in range(2):
        r, z, e = case.block(case.own), case.block(case.own), case.block(np.ones(case.coarse_box))
        level.r[:], level.z[:] = case.flat(r), case.flat(z)
        lower.z[:] = case.flat(case.psi.reshape(-1, 1) * e, case.coarse_box)
        level.t[:] = 0
        LearnedMultigrid.ascend_level(None, level, lower, level.t if residual_wanted else NOWHERE)  # type: ignore[arg-type]
        y = z + case.T @ e
        out = y + case.S @ (r - case.A @ y)
        close(level.z, case.flat(out))
        close(level.t, case.flat(r - case.A @ out) if residual_wanted else np.zeros_like(level.t))


def test_prolong(case: Case) -> None:
    e, z = case.block(np.ones(case.coarse_box)), case.block(case.own)
    computed = case.flat(z)
    transfer = (case.m, case.ms, case.near, case.far, case.flat(case.psi.reshape(-1, 1) * e, case.coarse_box))
    for _ in range(2):  # the second time in used scratch
        computed[:] = case.flat(z)
        coarse.prolong(case.n, case.s, case.pad(case.phi), *transfer, case.row, case.along, computed)
        np.testing.assert_allclose(computed, case.flat(z + case.T @ e), atol=5e-6)


def test_scale(case: Case) -> None:
    v = case.block(np.ones(case.box))
    computed = case.flat(v)
    coarse.scale(case.s, case.pad(case.phi), computed)
    np.testing.assert_allclose(computed, case.flat(case.phi.reshape(-1, 1) * v), rtol=1e-6)


def test_combine(case: Case) -> None:
    v, e = case.block(np.ones(case.box)), case.block(np.ones(case.box))
    computed = case.flat(v)
    coarse.combine(case.s, np.float32(0.3), case.flat(e), case.pad(case.phi), computed)
    np.testing.assert_allclose(computed, case.flat(case.phi.reshape(-1, 1) * (0.3 * v + e)), atol=2e-6)
