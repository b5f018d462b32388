"""Families of variable coefficients: what they promise, and that they are operators."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.data.random_coefficients import FAMILIES, random_coefficients
from deepcd.pde import FaceWeights

SHAPES = [(9, 11), (6, 5, 7)]


def draw(family: str, shape: tuple[int, ...], seed: int = 0) -> FaceWeights:
    return random_coefficients(family, shape, np.random.default_rng(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_positive_semidefinite(family: str, shape: tuple[int, ...]) -> None:
    for seed in range(3):
        weights = draw(family, shape, seed)
        assert all((w >= 0).all() and np.isfinite(w).all() for w in (*weights.faces, weights.extra))
        assert len(weights.faces) == len(shape)
        A = weights.matrix().toarray()
        assert A.size
        np.testing.assert_array_equal(A, A.T)
        root = np.sqrt(np.diag(A))
        assert np.linalg.eigvalsh(A / root / root[:, None])[0] > -1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_depend_on_the_generator_alone(family: str) -> None:
    one, again, other = (draw(family, (16, 17), seed) for seed in (5, 5, 6))
    for a, b in zip((*one.faces, one.extra), (*again.faces, again.extra), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip((*one.faces, one.extra), (*other.faces, other.extra), strict=True))


def _range(weights: FaceWeights) -> float:
    """Return the ratio of the largest to the smallest face."""
    faces = np.concatenate([w[w > 0] for w in weights.faces])
    return float(faces.max() / faces.min())


def test_contrasts_are_as_promised() -> None:
    shape = (64, 64)
    assert 5e3 < max(_range(draw("blocks 1e4", shape, s)) for s in range(4)) <= 1e4 * 1.01
    assert 5e5 < max(_range(draw("blocks 1e6", shape, s)) for s in range(4)) <= 1e6 * 1.01
    assert _range(draw("two phases", shape)) == pytest.approx(1000)
    assert _range(draw("landscape", shape)) > 1e6
    assert _range(draw("stretched one axis", shape)) == pytest.approx(100)
    assert _range(draw("boxes", shape)) == 1


def test_log_normal_coefficients_have_their_variance() -> None:
    for variance, family in ((2, "log-normal 2/2"), (4, "log-normal 4/2")):
        inner = np.log(draw(family, (200, 200)).faces[0][:-1])
        assert 0.6 * variance < inner.var() < variance


@pytest.mark.parametrize("family", ["sealed log-normal", "sealed blocks", "periodic log-normal", "periodic two phases"])
def test_what_is_sealed_maps_constants_to_zero(family: str) -> None:
    weights = draw(family, (12, 13, 14))
    assert not weights.extra.any()
    A = weights.matrix()
    assert abs(A @ np.ones(A.shape[0])).max() <= 1e-12 * abs(A).max()


def test_periodic_boxes_have_links_across() -> None:
    for seed in range(4):
        weights = draw("periodic log-normal", (12, 13), seed)
        assert any(np.take(w, -1, axis).all() for axis, w in enumerate(weights.faces))


def test_screening_is_in_every_cell() -> None:
    for family, c in (("screened 1e-3", 1e-3), ("screened 0.1", 0.1), ("screened 10", 10.0)):
        assert draw(family, (9, 9, 9)).extra.min() == pytest.approx(c)


def test_a_surface_near_a_centre_is_clamped() -> None:
    extra = np.concatenate([draw("ghost fluid", (40, 40), seed).extra.ravel() for seed in range(5)])
    assert 1 < extra.max() <= 400


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match=r"family must be one of log-normal 2/2, .*; got .sand."):
        random_coefficients("sand", (4, 4), np.random.default_rng(0))
