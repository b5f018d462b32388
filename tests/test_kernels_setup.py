"""Compiled passes of the multigrid setup against their definition: aggregation, features, networks, coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import reference, setup
from deepcd.solvers.kernels.patterns import cell_codes, neighbourhood
from deepcd.solvers.kernels.records import Box
from deepcd.solvers.learned.architecture import COARSE, FINE
from deepcd.solvers.preconditioners.multigrid import evaluation
from deepcd.solvers.preconditioners.multigrid.levels import halved

SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (5, 5, 5), (1, 1, 1), (7, 6), (1, 5), (4, 1), (6, 3)]


class Case:
    """A box with mostly fluid cells and what goes between arrays (n0, n1, n2) and flat padded boxes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(shape)))
        self.planar = len(shape) == 2
        self.n, self.s = geometry(shape)
        self.step = tuple(min(k, 2) for k in self.n)
        self.m, self.ms = halved(Box(self.n, self.s))
        dirichlet = self.rng.integers(1, 4, self.n) * (self.rng.random(self.n) < 0.2)
        self.diagonal = reference.stencil_diagonal(self.rng.random(self.n) < 0.85, dirichlet)
        self.unknown = self.diagonal > 0
        self.flat = self.pad(self.diagonal)
        self.codes = reference.cell_codes(self.diagonal)
        self.strides = (*self.s, 1)
        self.around = neighbourhood(self.strides)
        self.coarse_size = (self.m[0] + 2) * self.ms[0]

    def pad(self, x: NDArray[Any]) -> NDArray[Any]:
        return reference.pad(x, self.planar)

    def pad32(self, x: NDArray[Any]) -> NDArray[np.float32]:
        return self.pad(x).astype(np.float32)

    def unpad(self, box: NDArray[Any]) -> NDArray[Any]:
        return reference.unpad(box, self.n, self.planar)

    def coarse(self, box: NDArray[Any]) -> NDArray[Any]:
        return reference.unpad(box, self.m, self.planar)

    def fields(self, count: int) -> NDArray[np.float64]:
        """Random outputs of a network, (n0, n1, n2, count), wide enough to be clipped here and there."""
        return self.rng.uniform(-5, 5, (*self.n, count)) * self.unknown[..., None]

    def pad_last(self, x: NDArray[Any]) -> NDArray[np.float32]:
        return np.stack([self.pad32(x[..., f]) for f in range(x.shape[-1])], axis=1)

    def weighted_faces(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        faces = reference.unit_faces(self.unknown) * self.rng.uniform(0.5, 2, (3, *self.n))
        return faces, np.stack([self.pad32(w) for w in faces])

    def layers(self, inputs: int, outputs: int) -> list[NDArray[np.float32]]:
        sizes = [(inputs, 7), (7,), (7, 7), (7,), (7, outputs), (outputs,)]
        return [self.rng.standard_normal(size).astype(np.float32) * np.float32(0.5) for size in sizes]


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_aggregate_stencil(case: Case) -> None:
    volume, dirichlet = (np.zeros(case.coarse_size, dtype=np.float32) for _ in range(2))
    inside, crossing = (np.zeros((3, case.coarse_size), dtype=np.float32) for _ in range(2))
    setup.aggregate_stencil(case.n, case.s, case.flat, case.m, case.ms, case.step, volume, dirichlet, inside, crossing)
    faces = reference.unit_faces(case.unknown)
    np.testing.assert_array_equal(case.coarse(volume), reference.aggregate(case.unknown.astype(float)))
    count = np.where(case.unknown, case.diagonal - reference.row_sums(faces), 0)
    np.testing.assert_array_equal(case.coarse(dirichlet), reference.aggregate(count))
    for computed, expected in zip((inside, crossing), reference.aggregate_faces(faces), strict=True):
        np.testing.assert_array_equal(np.stack([case.coarse(w) for w in computed]), expected)
        assert computed.sum() == expected.sum()


def test_aggregate_faces(case: Case) -> None:
    faces, w = case.weighted_faces()
    fine_volume, fine_dirichlet = (case.rng.random(case.n) for _ in range(2))
    volume, dirichlet = (np.zeros(case.coarse_size, dtype=np.float32) for _ in range(2))
    inside, crossing = (np.zeros((3, case.coarse_size), dtype=np.float32) for _ in range(2))
    setup.aggregate_faces(
        case.n,
        case.s,
        w,
        case.pad32(fine_volume),
        case.pad32(fine_dirichlet),
        case.m,
        case.ms,
        case.step,
        volume,
        dirichlet,
        inside,
        crossing,
    )
    np.testing.assert_allclose(case.coarse(volume), reference.aggregate(fine_volume), rtol=1e-6)
    np.testing.assert_allclose(case.coarse(dirichlet), reference.aggregate(fine_dirichlet), rtol=1e-6)
    for computed, expected in zip((inside, crossing), reference.aggregate_faces(faces), strict=True):
        np.testing.assert_allclose(np.stack([case.coarse(v) for v in computed]), expected, rtol=1e-6)


def test_hand_down_patterns(case: Case) -> None:
    table, ids = case.rng.standard_normal((5, 7)).astype(np.float32), case.rng.integers(0, 5, case.n)
    cells = np.flatnonzero(case.pad(case.unknown & ((ids != 0) | (case.rng.random(case.n) < 0.3))))
    numbers = case.pad(ids)[cells].astype(np.int32)
    volume = reference.pad(reference.aggregate(case.unknown.astype(float)), case.planar).astype(np.float32)
    handed = volume.ravel()[:, None] * np.float32(0.25) * table[0, 4:]  # as if all were of pattern 0
    setup.hand_down_patterns(case.s, cells, numbers, table, 4, case.ms, case.step, np.float32(0.25), handed)
    for f in range(3):
        expected = reference.aggregate(0.25 * table[ids, 4 + f] * case.unknown)
        np.testing.assert_allclose(case.coarse(handed[:, f]), expected, atol=1e-6)


def test_hand_down(case: Case) -> None:
    table, numbers = case.rng.standard_normal((6, 7)).astype(np.float32), case.rng.integers(0, 6, case.n)
    table[0], numbers[~case.unknown] = 0, 0
    handed = np.zeros((case.coarse_size, 3), dtype=np.float32)
    flat_numbers = case.pad(numbers).astype(np.int32)
    setup.hand_down(case.n, case.s, flat_numbers, table, 4, case.ms, case.step, np.float32(0.5), handed)
    for f in range(3):
        expected = reference.aggregate(0.5 * table[numbers, 4 + f].astype(float))
        np.testing.assert_allclose(case.coarse(handed[:, f]), expected, atol=1e-5)


def test_the_finest_network_on_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BLOCK", 7)
    case = Case((4, 4, 4))
    patterns = case.rng.integers(0, 9, (20, 27)).astype(np.uint8)
    layers: Any = tuple(case.layers(54, 11))
    expected = reference.network(reference.pattern_inputs(patterns), layers)
    expected[:, :9] = np.clip(expected[:, :9], evaluation.LOWEST, 3)
    np.testing.assert_allclose(evaluation._clipped(patterns, layers), expected, atol=2e-4)


@pytest.mark.parametrize("alike", [True, False])
def test_evaluate_features(case: Case, alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BLOCK", 7)
    features = np.tile(case.rng.random(4), (*case.n, 1)) if alike else case.rng.random((*case.n, 4))
    features[tuple(k // 3 for k in case.n)] = [0.5, 0, 2, 0]
    features[-1, -1, -1] = 0
    features[-1, -1, -1, 1] = 0.7  # no volume: nothing is evaluated there, but its neighbours see it
    layers: Any = tuple(case.layers(4 * len(case.around), 5))
    table, rows = evaluation.evaluate_features(case.pad_last(features), case.around, layers)
    outputs = table[rows]
    assert outputs.shape == (case.flat.size, 5)
    around = np.stack([reference.neighbourhoods(features[..., f], case.planar) for f in range(4)], axis=-1)
    expected = reference.network(around.reshape(*case.n, -1), layers) * (features[..., :1] != 0)
    for f in range(5):
        np.testing.assert_allclose(case.unpad(outputs[:, f]), expected[..., f], atol=2e-4)


def test_kernels_count_factors_as_the_architecture_does() -> None:
    smoother = ["a", "c0", "c1", "c2"]
    assert [output.name for output in COARSE] == ["w0", "w1", "w2", "dirichlet", "psi", "phi", *smoother]
    assert [output.name for output in FINE] == ["phi", *smoother, *smoother]


def test_scale_faces(case: Case) -> None:
    faces, w = case.weighted_faces()
    outputs, numbers = case.rng.uniform(-2, 2, (7, 4)), case.rng.integers(0, 7, case.n)
    dirichlet = case.rng.random(case.n) * case.unknown
    scaled = case.pad32(dirichlet)
    factors = np.exp(outputs * [0.5, 0.5, 0.5, 1]).astype(np.float32)
    setup.scale_faces(case.strides, case.pad(numbers).astype(np.int32), factors, w, scaled)
    expected_faces, expected_dirichlet = reference.scale_faces(faces, dirichlet, outputs[numbers])
    np.testing.assert_allclose(np.stack([case.unpad(v) for v in w]), expected_faces, rtol=1e-5)
    np.testing.assert_allclose(case.unpad(scaled), expected_dirichlet, rtol=1e-5)


def test_form_diagonal_drops_cells_with_next_to_no_weight(case: Case) -> None:
    faces, w = case.weighted_faces()
    dirichlet = np.where(case.rng.random(case.n) < 0.5, 1e-7, 0.3) * case.unknown
    diagonal, inverse = (np.zeros(case.flat.size, dtype=np.float32) for _ in range(2))
    setup.form_diagonal(case.strides, w, case.pad32(dirichlet), np.float32(1e-6), diagonal, inverse)
    own, expected = reference.form(faces, dirichlet, np.ones(3))
    np.testing.assert_allclose(case.unpad(inverse), expected, rtol=1e-5)
    np.testing.assert_allclose(case.unpad(diagonal), own, rtol=1e-5, atol=1e-6)


def test_smoother_coefficients(case: Case) -> None:
    faces, w = case.weighted_faces()
    _, inverse = reference.form(faces, 0.3 * case.unknown, np.ones(3))
    outputs, numbers = case.rng.uniform(-3, 3, (7, 10)), case.rng.integers(0, 7, case.n)
    a, phi, psi = (np.zeros(case.flat.size, dtype=np.float32) for _ in range(3))
    c = np.zeros_like(w)
    powers, weights = [1] * 7 + [0.5] * 3, [1] * 6 + [0.5] + [0.3**0.5] * 3
    factors = (np.exp(outputs * powers) * weights).astype(np.float32)
    flat_numbers = case.pad(numbers).astype(np.int32)
    setup.smoother_coefficients(case.strides, flat_numbers, factors, w, case.pad32(inverse), a, c, phi, psi)
    o = outputs[numbers]
    own, between = reference.smoother(faces, inverse, o[..., 6:], 0.3, 0.5)
    expected = (own, *between, reference.transfer_scaling(o[..., 5], inverse), np.exp(o[..., 4]) * (inverse > 0))
    for computed, value in zip((a, *c, phi, psi), expected, strict=True):
        np.testing.assert_allclose(case.unpad(computed), value, rtol=2e-5, atol=1e-6)


def test_codes_of_the_definition_and_of_the_kernel_agree(case: Case) -> None:
    codes = np.zeros_like(case.flat)
    cell_codes(case.flat, case.strides, codes)
    np.testing.assert_array_equal(case.unpad(codes), case.codes)
