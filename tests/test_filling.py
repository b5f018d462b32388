"""What is full at the start: the zero of the function lies on the surface of the shapes."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.pde import (
    Grid,
    Shape,
    ball,
    box,
    cylinder,
    domain,
    filling,
    half_space,
    height_field,
    icosphere,
    liquid_volume,
    redistance,
)

GRID = domain((20, 20, 20), spacing=0.05)
BALL = ball((0.5, 0.5, 0.5), 0.3)


def volume(*shapes: Shape) -> float:
    return liquid_volume(GRID, redistance(filling(shapes, GRID), GRID.spacing))


def test_distances_of_shapes() -> None:
    x = [np.array([0.0, 3.0, 5.0]), np.array([4.0, 0.0, 0.0])]
    for shape, expected in (
        (ball((0, 0), 2.0), [2, 1, 3]),
        (box((-1, -2), (4, 9)), [-1, -1, 1]),
        (cylinder((0, 7), 1.0, axis=1), [-1, 2, 4]),
        (half_space((0, 4), (0, 0.5)), [0, -4, -4]),
        (ball((0, 0), 2.0) | ball((6, 0), 2.0), [2, 1, -1]),
        (ball((0, 0), 4.0) & ~ball((4, 0), 2.0), [0, 1, 1]),
        (box((-9, -9), (9, 9)) - ball((5, 0), 1.0), [-5, -1, 1]),
    ):
        assert shape.distance is not None
        assert shape.distance(x).tolist() == expected
        np.testing.assert_array_equal(shape.distance(x) < 0, shape.contains(x))
    unknown = height_field(3.0)
    for combined in (ball((0, 0), 2.0) | unknown, unknown & ball((0, 0), 2.0), ball((0, 0), 2.0) - unknown, ~unknown):
        assert combined.distance is None


def test_volumes_of_shapes() -> None:
    sphere = 4 / 3 * np.pi * 0.3**3
    assert volume(BALL) == pytest.approx(sphere, rel=0.02)
    assert volume(Shape(BALL.contains)) == pytest.approx(sphere, rel=0.05)  # sampled
    assert volume(icosphere(4).placed(scale=0.3, translation=(0.5, 0.5, 0.5)).shape()) == pytest.approx(
        sphere, rel=0.05
    )
    assert volume(cylinder((0.5, 0.5, 0), 0.3)) == pytest.approx(np.pi * 0.09, rel=0.02)


def test_shapes_are_united() -> None:
    two = box((0, 0, 0), (0.25, 1, 1)), box((0, 0, 0), (1, 0.25, 1))
    assert volume(*two) == pytest.approx(0.25 + 0.25 - 0.0625, rel=0.02)
    assert np.isposinf(filling([], Grid(np.zeros((3, 3))))).all()
