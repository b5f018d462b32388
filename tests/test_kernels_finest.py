"""Parts of the passes over planes against their definition: listed cells, restriction and prolongation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import finest, reference
from deepcd.solvers.kernels.records import Box, Scaling, Smoother, Transfer

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (6, 2, 3), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]
F64 = NDArray[np.float64]


@dataclass
class Case:
    """A random box with listed cells, its coarse box, and what draws vectors on both."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(self.shape)))
        self.n, self.s = geometry(self.shape)
        self.m, self.ms = geometry(tuple((k + 1) // 2 for k in self.shape))
        self.planar = len(self.shape) == 2
        dirichlet = self.rng.integers(1, 8, self.n) * (self.rng.random(self.n) < 0.3)
        self.diagonal = reference.stencil_diagonal(self.rng.random(self.n) < 0.75, dirichlet)
        unknown = np.flatnonzero(reference.pad(self.diagonal, self.planar))
        listed = unknown[self.rng.random(len(unknown)) < 0.5]
        i, j = np.divmod(np.arange(self.n[0] * self.n[1] + 1), self.n[1])
        self.starts = np.searchsorted(listed, (i + 1) * self.s[0] + (j + 1) * self.s[1])
        self.listed, self.cells = listed, (listed % self.s[0]).astype(np.int32)
        first = [e for e, p in enumerate(listed) if e == 0 or listed[e - 1] != p - 1]  # padding ends a row
        self.runs = np.array([sum(e < start for e in first) for start in self.starts])
        self.ends = np.array([*first, len(listed)])
        self.near, self.far = (t.astype(np.float32) for t in reference.taps(0.2, self.n))
        self.box, self.transfer = Box(self.n, self.s), Transfer(self.m, self.ms, self.near, self.far)
        self.P = reference.interpolation(self.n, self.near, self.far)
        row = self.n[2] + 4
        self.row, self.behind = np.zeros(row, dtype=np.float32), np.zeros(self.s[1] + 4, dtype=np.float32)
        self.along = np.zeros(((self.n[1] + 1) // 2 + 2, row), dtype=np.float32)

    def vector(self, on: NDArray[Any]) -> F64:
        """Return a random vector where `on` is not zero, of numbers that float32 holds exactly."""
        return (self.rng.standard_normal(on.size).astype(np.float32) * (on.ravel() != 0)).astype(float)

    def flat(self, v: F64, box: tuple[int, int, int]) -> NDArray[np.float32]:
        return reference.pad(v.reshape(box), self.planar).astype(np.float32)

    def plane(self, v: NDArray[np.float32], i: int) -> NDArray[np.float32]:
        """Return plane i of a box and as much behind its end as a pass may read."""
        return np.concatenate([v[(i + 1) * self.s[0] : (i + 2) * self.s[0]], self.behind])

    def tiles(self, rows: int) -> list[tuple[int, int]]:
        return list(itertools.pairwise([*range(0, rows, 2), rows]))


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_listed_cells_add_what_they_differ_by(case: Case) -> None:
    delta = case.rng.standard_normal((7, len(case.cells))).astype(np.float32)
    delta[3:5] *= 1 - case.planar  # no such axis
    smoother = Smoother((np.float32(0),) * 4, delta, case.runs, case.ends, case.cells)
    t, out = case.vector(case.diagonal), case.vector(case.diagonal)
    index = np.flatnonzero(reference.pad(np.ones(case.n), case.planar))
    S = reference.listed_smoother(case.diagonal, 0.0, np.zeros(3), np.searchsorted(index, case.listed), delta.T)
    before, computed = case.flat(t, case.n), case.flat(out, case.n)
    for i in range(case.n[0]):
        planes = [before[k * case.s[0] : (k + 1) * case.s[0]] for k in (i, i + 1, i + 2)]
        own = computed[(i + 1) * case.s[0] : (i + 2) * case.s[0]]
        for begin, end in case.tiles(case.n[1]):
            finest.add_listed(case.box, smoother, tuple(planes), i, begin, end, own)
    np.testing.assert_allclose(computed, case.flat(out + S @ t, case.n), atol=3e-6)


def test_listed_cells_are_scaled(case: Case) -> None:
    ratio = case.rng.uniform(0.5, 2, len(case.cells)).astype(np.float32)
    scaling = Scaling(np.float32(1), case.starts, case.cells, ratio)
    v = case.vector(case.diagonal)
    computed, factor = case.flat(v, case.n), np.ones(reference.pad(case.diagonal, case.planar).size)
    factor[case.listed] = ratio
    for i in range(case.n[0]):
        own = computed[(i + 1) * case.s[0] : (i + 2) * case.s[0]]
        for begin, end in case.tiles(case.n[1]):
            finest.scale_listed(case.n, scaling, i, begin, end, own)
    expected = v * reference.unpad(factor, case.n, case.planar).ravel()
    np.testing.assert_allclose(computed, case.flat(expected, case.n), rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_restriction_plane_by_plane(case: Case, parts: int) -> None:
    v, before = case.vector(np.ones(case.n)), case.vector(np.ones(case.m))
    fine, coarse = case.flat(v, case.n), case.flat(before, case.m)
    for start, stop in itertools.pairwise([case.m[0] * t // parts for t in range(parts + 1)]):
        kept = coarse.copy()
        for i, (top, bottom) in itertools.product(range(case.n[0]), case.tiles(case.m[1])):
            plane = case.plane(fine, i)
            finest.restrict_plane(case.box, case.transfer, plane, case.row, coarse, i, start, stop, top, bottom)
        others = np.ones(case.m[0] + 2, dtype=bool)
        others[start + 1 : stop + 1] = False
        np.testing.assert_array_equal(coarse.reshape(len(others), -1)[others], kept.reshape(len(others), -1)[others])
    np.testing.assert_allclose(coarse, case.flat(before + case.P.T @ v, case.m), atol=5e-6)


def test_prolongation_plane_by_plane(case: Case) -> None:
    e = case.vector(np.ones(case.m))
    coarse = case.flat(e, case.m)
    expected = (case.P @ e).reshape(case.n)
    for i, (begin, end) in itertools.product(range(case.n[0]), case.tiles(case.n[1])):
        finest.prolong_plane(case.transfer, coarse, i, begin, end, case.row, case.along)
        for j in range(begin, end):
            a, b, w_a, w_b = finest.row_weights(case.transfer, j)
            own = w_a * case.along[a] + w_b * case.along[b]
            np.testing.assert_allclose(own[1 : 1 + case.n[2]], expected[i, j], atol=3e-6)


def test_restriction_stays_right_after_a_prolongation_in_the_same_scratch(case: Case) -> None:
    test_prolongation_plane_by_plane(case)
    test_restriction_plane_by_plane(case, 1)


def test_interpolation_reproduces_constants_away_from_the_ends() -> None:
    P = reference.interpolation((6, 1, 5), *reference.taps(0.25, (6, 1, 5)))
    share = (P @ np.ones(P.shape[1])).reshape(6, 1, 5)
    np.testing.assert_allclose(share[1:-1, :, 1:-1], 1)
    assert share[0, 0, 0] == pytest.approx(0.75**2)
