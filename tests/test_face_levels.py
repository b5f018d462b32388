"""Coarser operators and transfers of grids with face weights, compared with their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.kernels.faces import forming, reference
from deepcd.solvers.kernels.faces.records import UNIT
from deepcd.solvers.kernels.faces.reference import Weights
from deepcd.solvers.preconditioners.multigrid import face_levels
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel, coarsen
from tests.faces import BOXES, Shape, Wrap, compiled, cropped, random_weights

IDS = ["x".join(map(str, n)) + "".join(" r"[w] for w in wrap).rstrip() for n, wrap in BOXES]


def level_of(op: Weights) -> FaceLevel:
    """Return a level for compiled passes."""
    return FaceLevel.of(*compiled(op))


def forced(monkeypatch: pytest.MonkeyPatch, halved: Wrap) -> None:
    """Halve these axes, whatever their coupling."""
    monkeypatch.setattr(FaceLevel, "strong_axes", lambda level: halved)


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
def test_diagonals_are_those_of_the_matrix(n: Shape, wrap: Wrap) -> None:
    op = random_weights(n, wrap, np.random.default_rng(1))
    level = level_of(op)
    expected = reference.matrix(op).diagonal().reshape(n)
    np.testing.assert_allclose(cropped(level.diagonal, n), expected, rtol=1e-6)
    np.testing.assert_allclose(cropped(level.faces.inverse, n)[expected > 0], 1 / expected[expected > 0], rtol=1e-6)
    assert not cropped(level.faces.inverse, n)[expected == 0].any()


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
@pytest.mark.parametrize("decades", [1.0, 5.0])
def test_one_axis_is_halved_as_defined(n: Shape, wrap: Wrap, decades: float, monkeypatch: pytest.MonkeyPatch) -> None:
    op = random_weights(n, wrap, np.random.default_rng(2), decades=decades)
    for axis in range(3):
        if n[axis] == 1:
            continue
        halved = axis == 0, axis == 1, axis == 2
        forced(monkeypatch, halved)
        found = coarsen(level_of(op))
        _, near, far = reference.halve(op, axis)
        np.testing.assert_array_equal(cropped(found.codes[2 * axis], n), near)
        np.testing.assert_array_equal(cropped(found.codes[2 * axis + 1], n), far)
        _compare(found.level, reference.coarsen(op, halved)[0])


def _compare(level: FaceLevel, expected: Weights) -> None:
    """Compare a compiled level with its definition; single precision rounds sums of weights of all sizes."""
    m = expected.extra.shape
    assert level.grid.n == m
    largest = max(float(w.max()) for w in (*expected.w, expected.extra))
    for axis, own in enumerate((level.faces.w0, level.faces.w1, level.faces.w2)):
        if m[axis] > 1:
            np.testing.assert_allclose(cropped(own, m), expected.w[axis], rtol=2e-5, atol=1e-9 * largest)
    np.testing.assert_allclose(cropped(level.faces.extra, m), expected.extra, rtol=2e-5, atol=2e-7 * largest)


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
def test_all_axes_are_halved_as_defined(n: Shape, wrap: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    op = random_weights(n, wrap, np.random.default_rng(3), decades=1.0)
    halved = n[0] > 1, n[1] > 1, n[2] > 1
    forced(monkeypatch, halved)
    expected, P = reference.coarsen(op, halved)
    found = coarsen(level_of(op))
    _compare(found.level, expected)
    assert P.shape == (op.extra.size, expected.extra.size)
    assert 0 <= found.failing <= 1


def test_the_axes_that_couple_strongly_are_halved() -> None:
    rng = np.random.default_rng(4)
    op = random_weights((8, 8, 8), (False,) * 3, rng, decades=0.5, holes=0)
    assert level_of(op).strong_axes() == (True, True, True)
    weak = op._replace(w=(op.w[0], 0.01 * op.w[1], op.w[2]))
    assert level_of(weak).strong_axes() == (True, False, True)
    alone = op._replace(w=(0 * op.w[0], 0 * op.w[1], 0 * op.w[2]), extra=op.extra + 1)
    assert level_of(alone).strong_axes() == (True, True, True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_no_coarse_energy_is_less_than_half_of_galerkins(axis: int) -> None:
    """Before tempering, each term is Jensen's bound with half of the diagonal couplings (see `distribution.py`)."""
    op = random_weights((6, 6, 6), (False,) * 3, np.random.default_rng(5), decades=3.0)
    coarse, near, far = reference.halve(op, axis)
    P = reference.interpolation(near, far, axis, False)
    galerkin, own = (P.T @ reference.matrix(op) @ P).toarray(), reference.matrix(coarse).toarray()
    assert np.linalg.eigvalsh(2 * own - galerkin).min() >= -1e-9 * own.max()


def test_sealed_regions_stay_sealed_to_the_last_bit() -> None:
    rng = np.random.default_rng(6)
    op = random_weights((20, 21, 22), (False,) * 3, rng, decades=6.0, walls=0.0, holes=0.3)
    level = level_of(op)
    for _ in range(3):
        coarser = coarsen(level)
        assert not coarser.level.faces.extra.any()
        for near, far in zip(coarser.codes[::2], coarser.codes[1::2], strict=True):
            assert set(np.unique(near.astype(int) + far)) <= {0, UNIT}
        level = coarser.level


def test_strongly_coupled_cells_hang_on_the_same_centres() -> None:
    """However strong a face is between two coarse cells, it costs the interpolant no energy."""
    op = random_weights((1 + 7, 1, 8), (False,) * 3, np.random.default_rng(7), decades=0.5, walls=0, holes=0)
    w2 = op.w[2].copy()
    w2[:, :, 1::2] *= 1e7
    w2[:, :, -1] = 0
    _, near, far = reference.halve(op._replace(w=(op.w[0], op.w[1], w2)), 2)
    assert (near[:, 0, 1:-1:2] == far[:, 0, 2::2][:, : near[:, 0, 1:-1:2].shape[1]]).all()


def test_cells_of_rounding_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    forced(monkeypatch, (True, False, True))
    op = random_weights((8, 1, 8), (False,) * 3, np.random.default_rng(8), decades=1.0, holes=0, walls=0)
    tiny = [w.copy() for w in op.w]
    tiny[0][3] = 0
    for w in tiny:
        w[4:] *= 1e-16
    found = coarsen(level_of(op._replace(w=(tiny[0], tiny[1], tiny[2])))).level
    diagonal, inverse = (cropped(v, found.grid.n) for v in (found.diagonal, found.faces.inverse))
    assert (diagonal[:2] > 0).all()
    assert not diagonal[2:].any()
    assert not inverse[2:].any()


def test_coupling_is_the_mean_over_cells() -> None:
    op = random_weights((5, 6, 7), (False,) * 3, np.random.default_rng(9))
    (n, s, _), f = compiled(op)
    d = reference.matrix(op).diagonal().reshape(n)
    expected = np.zeros(3)
    for axis in range(3):
        terms = [w / np.sqrt(d[p] * d[q]) for p, q, w in reference.faces(op, axis)]
        expected[axis] = np.sum(terms) / np.count_nonzero(d) * n[axis] / (n[axis] - 1)
    np.testing.assert_allclose(forming.couplings(n, s, f.w0, f.w1, f.w2, f.inverse), expected, rtol=1e-5)


def test_percolating_media_are_told_from_smooth_ones() -> None:
    rng = np.random.default_rng(10)
    smooth = random_weights((32, 1, 32), (False,) * 3, rng, decades=0.3, holes=0)
    media = random_weights((32, 1, 32), (False,) * 3, rng, decades=0.0, holes=0)
    blocked = [np.where(rng.random(w.shape) < 0.5, 1e-4, 1.0) * w for w in media.w]
    assert coarsen(level_of(smooth)).failing < 0.01
    assert coarsen(level_of(media._replace(w=(blocked[0], blocked[1], blocked[2])))).failing > 0.05


def test_interpolation_is_what_the_codes_say() -> None:
    near, far = np.array([[[252, 189, 63, 252]]]), np.array([[[0, 63, 189, 0]]])
    P = reference.interpolation(near, far, 2, False)
    assert sp.issparse(P)
    expected = np.array([[1, 0], [0.75, 0.25], [0.75, 0.25], [0, 1]])
    assert abs(P - expected).max() < 1e-12
    assert face_levels.NONE.size == 0
