"""Shapes and their boolean algebra, sampled on grids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deepcd.pde import Cell, Shape, ball, box, cylinder, domain, half_space, height_field


def sample(shape: Shape, size: tuple[int, ...] = (8, 6, 5), spacing: float = 1.0) -> np.ndarray:
    """Mark the cells whose centres are in a shape."""
    return domain(size, solid=shape, spacing=spacing).cells == Cell.SOLID


def centres(size: tuple[int, ...] = (8, 6, 5)) -> np.ndarray:
    """Return the coordinates of all cell centres for unit spacing, one array per axis."""
    return np.indices(size) + 0.5


SHAPES: dict[str, tuple[Shape, Callable[..., np.ndarray]]] = {
    "box": (
        box((1, 2, 0), (4, 6, 3)),
        lambda x, y, z: (x > 1) & (x < 4) & (y > 2) & (y < 6) & (z < 3),
    ),
    "ball": (ball((4, 3, 2), 2.1), lambda x, y, z: (x - 4) ** 2 + (y - 3) ** 2 + (z - 2) ** 2 < 2.1**2),
    "cylinder": (cylinder((4, 3, 99), 2.1), lambda x, y, z: (x - 4) ** 2 + (y - 3) ** 2 + 0 * z < 2.1**2),
    "cylinder along x": (cylinder((99, 3, 2), 1.7, axis=0), lambda x, y, z: (y - 3) ** 2 + (z - 2) ** 2 < 1.7**2),
    "half-space": (half_space((4, 3, 2), (2, -1, 0.5)), lambda x, y, z: 2 * (x - 4) - (y - 3) + 0.5 * (z - 2) < 0),
    "height function": (height_field(lambda x, y: 1 + x / 4 + y / 6), lambda x, y, z: z < 1 + x / 4 + y / 6),
    "constant height": (height_field(2.2), lambda x, y, z: z < 2.2),
    "constant height function": (height_field(lambda x, y: 2.2), lambda x, y, z: z < 2.2),
    "height along y": (height_field(lambda x, z: x - z / 2, axis=1), lambda x, y, z: y < x - z / 2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_holds_the_centres_it_should(name: str) -> None:
    shape, expected = SHAPES[name]
    truth = expected(*centres())
    assert 0 < truth.sum() < truth.size
    np.testing.assert_array_equal(sample(shape), truth)


def test_boolean_algebra() -> None:
    a, b = ball((4, 3, 2), 2.5), box((3, 0, 0), (8, 3, 5))
    in_a, in_b = sample(a), sample(b)
    np.testing.assert_array_equal(sample(a | b), in_a | in_b)
    np.testing.assert_array_equal(sample(a & b), in_a & in_b)
    np.testing.assert_array_equal(sample(a - b), in_a & ~in_b)
    np.testing.assert_array_equal(sample(~a), ~in_a)
    np.testing.assert_array_equal(sample(~(a | b)), sample(~a & ~b))


def test_boxes_tile() -> None:
    """A box is half open, so that two that share a face share no cell even where it runs through centres."""
    left, right = box((0, 0), (2.5, 4)), box((2.5, 0), (5, 4))
    assert not (sample(left, (5, 4)) & sample(right, (5, 4))).any()
    assert (sample(left | right, (5, 4))).all()


def test_heights_per_column() -> None:
    heights = np.arange(48.0).reshape(8, 6) / 10
    np.testing.assert_array_equal(sample(height_field(heights)), centres()[2] < heights[..., None])
    heights = np.arange(40.0).reshape(8, 5) / 8
    np.testing.assert_array_equal(sample(height_field(heights, axis=1)), centres()[1] < heights[:, None])


def test_two_dimensions() -> None:
    disc = sample(ball((4, 3), 2), (8, 6))
    assert disc.sum() == 12
    np.testing.assert_array_equal(sample(cylinder((4, 3), 2, axis=0), (8, 6)), np.abs(centres((8, 6))[1] - 3) < 2)
    np.testing.assert_array_equal(sample(height_field(lambda x: x), (8, 6)), np.tri(8, 6, -1, dtype=bool))


def test_lengths_scale_with_the_spacing() -> None:
    coarse = sample(ball((4, 3, 2), 2.1) - box((0, 0, 0), (4, 3, 5)))
    fine = sample(ball((2, 1.5, 1), 1.05) - box((0, 0, 0), (2, 1.5, 2.5)), spacing=0.5)
    np.testing.assert_array_equal(coarse, fine)


def test_solid_wins_over_air() -> None:
    grid = domain((4, 4), solid=box((0, 0), (3, 4)), air=box((2, 0), (4, 4)), walls="air", air_at="face")
    np.testing.assert_array_equal(grid.cells[:, 0], [Cell.SOLID, Cell.SOLID, Cell.SOLID, Cell.AIR])
    assert (grid.walls, grid.air_at) == ((("air", "air"),) * 2, "face")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ball((1, 2, 3), 0), "radius .* got 0"),
        (lambda: ball((1, 2, 3), np.nan), "radius"),
        (lambda: ball((1,), 1), r"center .* got \(1,\)"),
        (lambda: ball((1, np.nan), 1), "center"),
        (lambda: box((0, 0), (1, 1, 1)), "low and high"),
        (lambda: cylinder((1, 1, 1), 1, axis=3), "axis must be from -3 to 2 in 3D, got 3"),
        (lambda: cylinder((1, 1, 1), -1), "radius"),
        (lambda: half_space((1, 1), (0, 0)), "normal"),
        (lambda: half_space((1, 1), (0, 0, 1)), "normal"),
        (lambda: domain((4, 4), solid=ball((1, 2, 3), 1)), "3D, at .* grid in 2D"),
        (lambda: domain((4, 4, 4), solid=box((1, 2), (3, 3))), "2D, at .* grid in 3D"),
        (lambda: domain((4, 4, 4), solid=height_field(np.zeros((4, 3)))), r"\(4, 4\).*\(4, 3\)"),
        (lambda: domain((4, 4), solid=height_field(1.0, axis=2)), "axis"),
        (lambda: domain((4,)), "shape .* got"),
        (lambda: domain((4, 0)), "shape"),
        (lambda: domain((4, 2.5)), "shape"),  # type: ignore[arg-type]
        (lambda: domain((4, 4), walls="water"), "water"),
    ],
)
def test_malformed_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
