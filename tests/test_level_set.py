"""Level sets: redistancing against the equation it solves, volumes, and the shift that restores them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from deepcd.pde import Cell, Grid, domain, liquid_volume, redistance, shift_to_volume
from deepcd.pde.kernels import reference


def centres(shape: tuple[int, ...], h: float = 1.0) -> list[np.ndarray]:
    return [(i + 0.5) * h for i in np.ogrid[tuple(map(slice, shape))]]


def sphere(shape: tuple[int, ...], middle: float, radius: float, h: float = 1.0) -> np.ndarray:
    return np.sqrt(sum((x - middle) ** 2 for x in centres(shape, h))) - radius


@pytest.mark.parametrize("size", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(
    "shape", [(14, 12, 13), (1, 12, 11), (9, 1, 12), (12, 9, 1), (22, 19), (1, 9), (9, 1)], ids=str
)
def test_definition(shape: tuple[int, ...], size: float) -> None:
    """Whatever the order in which cells are visited."""
    rng = np.random.default_rng(1)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), size)
    result = redistance(noise, 0.5)
    everywhere = np.ones(shape, dtype=bool)
    np.testing.assert_allclose(result, 0.5 * reference.distance(noise / 0.5, everywhere), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(result < 0, noise < 0)
    inside = rng.random(shape) < 0.9
    around = redistance(noise, inside=inside)
    np.testing.assert_array_equal(around[~inside], noise[~inside])
    np.testing.assert_allclose(around, reference.distance(noise, inside), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(64, 64), (40, 40, 40)])
def test_the_gradient_of_a_sphere_has_length_one(shape: tuple[int, ...]) -> None:
    """From a function of the same zero that is no distance at all."""
    n = shape[0]
    exact = sphere(shape, 0.5, 0.27, 1 / n)
    phi = redistance(exact * (1 + 3 * exact) + exact**3, 1 / n)
    slope = np.sqrt(sum(g**2 for g in np.gradient(phi, 1 / n)))
    near = np.abs(exact) < 3 / n
    assert np.abs(slope[near] - 1).max() < 0.1
    assert np.abs(slope[near] - 1).mean() < 0.03
    np.testing.assert_allclose(phi[near], exact[near], rtol=0, atol=0.16 / n)
    assert np.abs(phi - exact).max() < 1.5 / n


def test_redistancing_converges() -> None:
    def error(n: int) -> float:
        exact = sphere((n, n), 0.5, 0.27, 1 / n)
        return float(np.abs(redistance(exact * (2 + exact), 1 / n) - exact)[exact > -0.2].mean())

    assert error(32) / error(128) > 3.0


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, -1, 0), (1, 2, -1)])
def test_a_plane_beside_the_surface_is_exact(normal: tuple[int, ...]) -> None:
    direction = np.array(normal) / np.linalg.norm(normal)
    exact = sum(d * (x - 5.2) for d, x in zip(direction, centres((12, 11, 10)), strict=True))
    result = redistance(3 * exact)
    near = (np.abs(exact) < 0.4)[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(result[1:-1, 1:-1, 1:-1][near], exact[1:-1, 1:-1, 1:-1][near], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(24, 24), (14, 14, 14)])
def test_a_surface_stays_where_it_is(shape: tuple[int, ...]) -> None:
    """However often distances are computed, that of a ball is hardly moved after the first time."""
    h = 1 / shape[0]
    first = redistance(sphere(shape, 0.51, 0.31, h), h)
    phi = first
    for _ in range(20):
        phi = redistance(phi, h)
    near = np.abs(first) < 0.5 * h
    np.testing.assert_allclose(phi[near], first[near], rtol=0, atol=0.08 * h)
    exact = sphere(shape, 0.51, 0.31, h)
    np.testing.assert_allclose(phi[near], exact[near], rtol=0, atol=0.08 * h)


def test_solids_are_walls() -> None:
    """A surface that ends at a solid is a plane beside it, and the way around a solid is longer than through it."""
    exact = np.arange(12.0) - 6.3 + np.zeros((10, 1))
    inside = np.ones(exact.shape, dtype=bool)
    inside[3:6, 4:9] = False
    inside[8, 2:] = False
    bent = np.where(inside, exact, -exact + 2.0)
    result = redistance(2 * bent, inside=inside)
    np.testing.assert_array_equal(result[~inside], 2 * bent[~inside])
    np.testing.assert_allclose(result[[0, 1, 2, 6, 7, 9]], exact[[0, 1, 2, 6, 7, 9]], rtol=0, atol=1e-12)
    assert (np.abs(result[4, [2, 11]]) > np.abs(exact[4, [2, 11]]) + 0.1).all()


def test_no_surface() -> None:
    np.testing.assert_array_equal(redistance(np.full((4, 5), 0.1), 2.0), 18.0)
    np.testing.assert_array_equal(redistance(np.full((4, 5, 3), -7.0)), -12.0)


def test_reach() -> None:
    phi = sphere((30, 28), 14.0, 8.0)
    everywhere, near = redistance(phi, 0.5), redistance(phi, 0.5, reach=1.75)
    np.testing.assert_allclose(near, np.clip(everywhere, -1.75, 1.75), rtol=0, atol=1e-9)


def test_zero_on_a_cell() -> None:
    np.testing.assert_allclose(redistance([[-2.0, 0.0, 2.0, 5.0]]), [[-1, 0, 1, 2]], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "exact"), [((60, 60), np.pi * 20**2), ((60, 60, 60), 4 / 3 * np.pi * 20**3)])
def test_volume_of_a_sphere(shape: tuple[int, ...], exact: float) -> None:
    h = 0.1
    measured = liquid_volume(domain(shape, spacing=h), sphere(shape, 3.0, 2.0, h))
    assert measured == pytest.approx(exact * h ** len(shape), rel=1e-3)


def test_solids_hold_no_liquid() -> None:
    cells = np.zeros((6, 4), dtype=np.uint8)
    cells[:2], cells[2] = Cell.SOLID, Cell.AIR
    assert liquid_volume(Grid(cells, spacing=0.5), np.full((6, 4), -9.0)) == 4.0


@pytest.mark.parametrize("change", [-0.05, -0.002, 0.0, 1e-9, 0.03])
def test_shift(change: float) -> None:
    shape, h = (20, 18, 22), 0.25
    cells = np.zeros(shape, dtype=np.uint8)
    cells[:, :6] = Cell.SOLID
    grid, phi = Grid(cells, spacing=h), redistance(sphere(shape, 2.4, 1.5, h), h)
    wanted = (1 + change) * liquid_volume(grid, phi)
    moved = shift_to_volume(grid, phi, wanted)
    assert liquid_volume(grid, moved) == pytest.approx(wanted, rel=1e-11)
    assert np.ptp(moved - phi) < 1e-12


def test_a_shift_is_at_most_half_a_cell() -> None:
    grid, phi = domain((10, 10), spacing=0.1), sphere((10, 10), 0.5, 0.3, 0.1)
    for wanted, shift in ((0.0, 0.05), (1.0, -0.05)):
        np.testing.assert_allclose(shift_to_volume(grid, phi, wanted) - phi, shift, rtol=1e-6)


GRID = domain((3, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: redistance(np.zeros(3)), r"two or three axes, got shape \(3,\)"),
        (lambda: redistance(np.zeros((0, 3))), "non-empty"),
        (lambda: redistance([[1.0, np.nan]]), "phi holds NaN"),
        (lambda: redistance([[1.0, 2.0]], inside=[[True], [True]]), r"inside .* \(1, 2\), got \(2, 1\)"),
        (lambda: redistance([[1.0, -1.0]], reach=0.0), "reach must be positive, got 0.0"),
        (lambda: redistance([[1.0, -1.0]], 0.0), "spacing must be positive and finite, got 0.0"),
        (lambda: liquid_volume(GRID, np.zeros((4, 3))), r"phi must have the shape of the grid, \(3, 4\), got \(4, 3\)"),
        (lambda: shift_to_volume(GRID, np.zeros((4, 3)), 1.0), r"phi must have the shape of the grid"),
    ],
)
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
