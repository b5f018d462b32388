"""Extrapolation layer by layer: the compiled pass against its definition, what it leaves alone, faces of the fluid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deepcd.pde import Cell, Grid, ball, domain, extrapolate, extrapolate_velocity
from deepcd.pde.kernels import reference
from deepcd.pde.mac import face_shapes, sides


@pytest.mark.parametrize("layers", [0, 1, 2, 5])
@pytest.mark.parametrize("known", [0.02, 0.3, 0.9])
@pytest.mark.parametrize(
    "shape", [(7, 6, 8), (1, 5, 3), (4, 1, 6), (3, 4, 1), (12, 9), (1, 7), (6, 1), (1, 1)], ids=str
)
def test_definition(shape: tuple[int, ...], known: float, layers: int) -> None:
    rng = np.random.default_rng(0)
    field, there = rng.standard_normal(shape), rng.random(shape) < known
    before = field.copy(), there.copy()
    expected = reference.extrapolate(field, there, layers)
    np.testing.assert_allclose(extrapolate(field, there, layers), expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(field, before[0])
    np.testing.assert_array_equal(there, before[1])


def test_everything_is_reached_by_default() -> None:
    field = np.full((9, 8, 7), 5.0)
    known = np.zeros(field.shape, dtype=bool)
    field[0, 0, 0], known[0, 0, 0] = 2.0, True
    np.testing.assert_array_equal(extrapolate(field, known), 2.0)


def test_nothing_known() -> None:
    field = np.random.default_rng(0).random((4, 5))
    np.testing.assert_array_equal(extrapolate(field, np.zeros((4, 5), dtype=bool)), field)


def test_no_side_is_preferred() -> None:
    field = np.random.default_rng(0).random((8, 7, 6))
    field += field[::-1]
    known = np.zeros(field.shape, dtype=bool)
    known[[0, 7], 2:4] = True
    result = extrapolate(field, known, 4)
    np.testing.assert_allclose(result, result[::-1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(10, 9, 8), (12, 10)])
def test_velocities_are_known_on_the_faces_of_fluid(shape: tuple[int, ...]) -> None:
    middle = [n / 2 for n in shape]
    grid = domain(shape, solid=ball(middle, 2.6), air=~ball(middle, 3.7), walls="air")
    velocity = [np.full(face, np.nan) for face in face_shapes(grid)]
    for axis, component in enumerate(velocity):
        low, high = sides(grid, axis)
        component[(low == Cell.FLUID) | (high == Cell.FLUID)] = axis + 1.0
    for axis, component in enumerate(extrapolate_velocity(grid, velocity)):
        np.testing.assert_array_equal(component, axis + 1.0)
    for given, near in zip(velocity, extrapolate_velocity(grid, velocity, 1), strict=True):
        assert 0 < np.isnan(near).sum() < np.isnan(given).sum()


GRID = Grid(np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: extrapolate(np.zeros((3, 4)), np.zeros((4, 3))), r"shapes \(3, 4\), \(4, 3\)"),
        (lambda: extrapolate(np.zeros(3), np.zeros(3)), r"two or three axes, got shapes \(3,\)"),
        (lambda: extrapolate(np.zeros((3, 4)), np.zeros((3, 4)), -1), "layers .* got -1"),
        (lambda: extrapolate_velocity(GRID, [np.zeros((3, 4))]), "velocity must hold one array per axis"),
    ],
)
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
