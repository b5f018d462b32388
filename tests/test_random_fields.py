"""Random functions on boxes: their variance, length and range, on boxes of any shape."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.data.random_fields import blocks, drops, ranks, smooth_noise, tanh_widths, with_both_signs

SHAPES = [(20, 17), (1, 12), (9, 1, 8), (1, 1), (6, 5, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [2.0, 32.0])
def test_noise_has_unit_variance(shape: tuple[int, ...], length: float) -> None:
    noise = smooth_noise(shape, length, np.random.default_rng(0))
    assert noise.shape == shape
    assert abs(noise.mean()) < 1e-9
    assert noise.std() == pytest.approx(min(np.prod(shape) - 1, 1), abs=1e-6)


def test_noise_is_correlated_over_its_length() -> None:
    """A filter of deviation s leaves the correlation exp(-x^2 / (4 s^2)), so exp(-1) at x = 2 s, the length."""
    noise = smooth_noise((256, 256), 8.0, np.random.default_rng(1), periodic=True)
    for x in (4, 8, 12):
        expected = np.exp(-((x / 8) ** 2))
        assert (noise * np.roll(noise, x, 0)).mean() == pytest.approx(expected, abs=0.05)
    jump = np.abs(noise[0] - noise[-1]).max()
    assert jump <= np.abs(np.diff(noise, axis=0)).max()
    assert np.abs(np.diff(smooth_noise((90, 90), [30.0, 2.0], np.random.default_rng(2)), axis=0)).max() < 0.5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_have_edges_of_the_given_range(shape: tuple[int, ...]) -> None:
    for seed in range(20):
        value = blocks(shape, np.random.default_rng(seed), 3, 5)
        assert value.shape == shape
        for axis in range(len(shape)):
            others = tuple(d for d in range(len(shape)) if d != axis)
            edges = np.diff(np.flatnonzero(np.any(np.diff(value, axis=axis) != 0, axis=others)))
            assert np.isin(edges, [3, 4, 5]).all()
    assert 0 <= value.min() <= value.max() <= 1


def test_drops_are_distances_from_balls_or_bubbles() -> None:
    signs = set()
    for seed in range(10):
        phi = drops((40, 30), np.random.default_rng(seed))
        slope = np.sqrt(sum(g**2 for g in np.gradient(phi)))
        assert np.median(slope) == pytest.approx(1, abs=0.02)
        signs.add(bool(phi[phi < 0].min() < -12))  # deeper than the largest ball: outside of it
    assert signs == {False, True}


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_both_signs(shift: float) -> None:
    phi = smooth_noise((20, 20), 3.0, np.random.default_rng(3)) + shift
    moved = with_both_signs(phi)
    assert 0.09 < (moved < 0).mean() < 0.91
    assert np.ptp(moved - phi) < 1e-12
    if shift == 0:
        np.testing.assert_array_equal(moved, phi)


def test_ranks() -> None:
    assert ranks(np.array([[3.0, -1.0], [8.0, 5.0]])).tolist() == [[0.375, 0.125], [0.875, 0.625]]


def test_tanh_widths_are_thin_at_both_ends() -> None:
    width = tanh_widths(64, 2.5)
    np.testing.assert_allclose(width, width[::-1])
    assert 25 < 1 / width[0] < 40
    assert width.max() == 1
    assert tanh_widths(1, 2.5).tolist() == [1.0]
