"""Velocities on the marker-and-cell grid: what the cut leaves, what the pressure removes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deepcd.pde import (
    Cell,
    Grid,
    ball,
    box,
    divergence,
    domain,
    no_penetration,
    poisson,
    pressure_rhs,
    project,
    swirling_flow,
)

from .pressure import exact_pressure

Velocity = tuple[np.ndarray, ...]

GRIDS = {
    "smoke": domain((12, 9, 10), solid=ball((0.5, 0.4, 0.5), 0.25), spacing=0.1),
    "open tank": domain((9, 10, 8), solid=box((2, 2, 0), (5, 4, 5)), walls=["solid", "solid", ("solid", "air")]),
    "air at the face": domain((10, 8, 7), air=ball((5, 4, 3), 2), walls=["air", "solid", "solid"], air_at="face"),
    "air all around": domain((7, 5, 3), walls="air", spacing=3.0),
    "slab": domain((9, 1, 4), walls=[("air", "solid"), "solid", "solid"]),
    "plane": domain((17, 11), solid=ball((3, 2.5), 1.1), walls=["air", "solid"], spacing=0.5),
    "closed plane": domain((13, 12), solid=ball((6, 5), 2.2)),
    "two chambers": domain((12, 6, 6), solid=box((5, 0, 0), (7, 6, 6))),
    "column": domain((1, 9), walls=["solid", ("solid", "air")]),
}


def random_cells(shape: tuple[int, ...], seed: int, air_at: Any) -> Grid:
    rng = np.random.default_rng(seed)
    cells = rng.choice([Cell.FLUID, Cell.SOLID, Cell.AIR], size=shape, p=[0.65, 0.3, 0.05])
    return Grid(cells, walls=[("solid", "air")] + ["solid"] * (len(shape) - 1), spacing=0.25, air_at=air_at)


def random_velocity(grid: Grid, seed: int = 0) -> Velocity:
    """Draw every face independently, those of solids included."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.standard_normal([n + (d == axis) for d, n in enumerate(grid.shape)]) for axis in range(len(grid.shape))
    )


def solid_faces(grid: Grid, axis: int) -> np.ndarray:
    """Mark the faces of one axis with a solid cell on either side."""
    kinds = np.moveaxis(grid.padded(), axis, 0)[(slice(None), *[slice(1, -1)] * (len(grid.shape) - 1))]
    return np.moveaxis((kinds[1:] == Cell.SOLID) | (kinds[:-1] == Cell.SOLID), 0, axis)


@pytest.mark.parametrize("name", GRIDS)
def test_projection_leaves_no_divergence(name: str) -> None:
    grid = GRIDS[name]
    system = poisson(grid)
    for velocity in (swirling_flow(grid, 3), no_penetration(grid, random_velocity(grid))):
        assert np.abs(divergence(grid, velocity)).max() > 0.01
        p = exact_pressure(system, pressure_rhs(system, velocity))
        projected = project(system, velocity, p)
        assert np.abs(divergence(grid, projected)).max() < 1e-10
        for axis, component in enumerate(projected):
            np.testing.assert_array_equal(component[solid_faces(grid, axis)], 0.0)


@pytest.mark.parametrize("shape", [(7, 5, 3), (9, 1, 4), (11, 8)])
@pytest.mark.parametrize("air_at", ["center", "face"])
@pytest.mark.parametrize("seed", range(3))
def test_projection_on_random_cells(shape: tuple[int, ...], air_at: str, seed: int) -> None:
    """Isolated cells and pockets of every size; solids at rest, so that every chamber keeps its volume."""
    grid = random_cells(shape, seed, air_at)
    system = poisson(grid)
    velocity = no_penetration(grid, random_velocity(grid, seed))
    p = exact_pressure(system, pressure_rhs(system, velocity))
    assert np.abs(divergence(grid, project(system, velocity, p))).max() < 1e-10


@pytest.mark.parametrize("air_at", ["center", "face"])
def test_the_matrix_is_minus_the_divergence_of_the_gradient(air_at: Any) -> None:
    """So that b, A and the projection cannot disagree in sign or scale: div(0 - grad p) = A p."""
    grid = random_cells((6, 7, 5), 1, air_at)
    system = poisson(grid)
    p = np.random.default_rng(1).standard_normal(len(system.cells))
    rest = tuple(np.zeros_like(component) for component in random_velocity(grid))
    flow = divergence(grid, project(system, rest, p))
    np.testing.assert_allclose(system.from_field(flow), system.A @ p, rtol=0, atol=1e-12)


def test_the_projection_is_nearest() -> None:
    """It changes the velocity by a gradient, orthogonal to every flow free of divergence (air at the centre)."""
    grid = GRIDS["open tank"]
    system = poisson(grid)

    def projected(velocity: Velocity) -> Velocity:
        return project(system, velocity, exact_pressure(system, pressure_rhs(system, velocity)))

    u, v = (no_penetration(grid, random_velocity(grid, seed)) for seed in (0, 1))
    taken = [a - b for a, b in zip(u, projected(u), strict=True)]
    assert sum(np.vdot(t, w) for t, w in zip(taken, projected(v), strict=True)) == pytest.approx(0.0, abs=1e-10)
    assert sum(np.vdot(t, t) for t in taken) > 1.0


@pytest.mark.parametrize("name", ["smoke", "closed plane", "two chambers"])
@pytest.mark.parametrize("size", [1.0, 1e8])
def test_sealed_chambers_get_compatible_sums(name: str, size: float) -> None:
    """Even where the faces of solids move as they like."""
    system = poisson(GRIDS[name])
    assert system.sealed.all()
    b = pressure_rhs(system, tuple(size * component for component in random_velocity(system.grid)))
    sums = np.bincount(system.component, weights=b)
    assert np.abs(sums).max() < 1e-13 * np.abs(b).sum()


def test_open_regions_keep_their_sums() -> None:
    system = poisson(GRIDS["open tank"])
    velocity = random_velocity(system.grid)
    expected = -system.from_field(divergence(system.grid, velocity))
    np.testing.assert_array_equal(pressure_rhs(system, velocity), expected)
    assert abs(expected.sum()) > 1.0


def test_piston_leaves_the_mean_rate() -> None:
    """A wall that moves into a closed chamber: no flow is free of divergence, so the rate is spread evenly."""
    grid = domain((12, 4), solid=box((0, 0), (4, 4)))
    system = poisson(grid)
    velocity = no_penetration(grid, [np.zeros((13, 4)), np.zeros((12, 5))], solid_velocity=(1.0, 0.0))
    left = divergence(grid, project(system, velocity, exact_pressure(system, pressure_rhs(system, velocity))))
    np.testing.assert_allclose(left[grid.fluid], -1 / 8, rtol=1e-12)


def test_divergence_of_a_linear_flow() -> None:
    """div (2x, -3y, 5z) = 4, whatever the spacing; zero outside the fluid."""
    grid = domain((5, 4, 3), solid=box((0.5, 0, 0), (1.0, 2, 2)), air=box((2, 0, 0), (3, 3, 3)), spacing=0.5)
    x, y, z = (np.arange(n + 1) * 0.5 for n in grid.shape)
    velocity = (
        np.broadcast_to(2 * x[:, None, None], (6, 4, 3)),
        np.broadcast_to(-3 * y[:, None], (5, 5, 3)),
        np.broadcast_to(5 * z, (5, 4, 4)),
    )
    np.testing.assert_allclose(divergence(grid, velocity), np.where(grid.fluid, 4.0, 0.0), rtol=1e-12)


def test_no_penetration_touches_the_faces_of_solids_only() -> None:
    grid = domain((8, 7, 6), solid=ball((4, 3, 3), 2), walls=["air", "solid", ("solid", "air")])
    velocity = random_velocity(grid)
    before = [component.copy() for component in velocity]
    motion = (0.25, -0.5, np.full((8, 7, 7), 2.0))
    inside = (slice(1, -1), slice(1, -1), slice(1, -1))
    for axis, (cut, moving, raw) in enumerate(
        zip(no_penetration(grid, velocity), no_penetration(grid, velocity, motion), velocity, strict=True)
    ):
        solid = solid_faces(grid, axis)
        np.testing.assert_array_equal(cut, np.where(solid, 0.0, raw))
        np.testing.assert_array_equal(moving[~solid], raw[~solid])
        assert (moving[inside][solid[inside]] == np.max(motion[axis])).all()
        np.testing.assert_array_equal(raw, before[axis])
    moved = no_penetration(grid, velocity, motion)
    assert (moved[1][:, [0, -1]] == 0).all()  # the walls are at rest
    assert (moved[2][..., 0] == 0).all()
    np.testing.assert_array_equal(moved[2][..., -1], velocity[2][..., -1])  # an open end is no wall


@pytest.mark.parametrize("shape", [(40, 32), (24, 20, 22)])
def test_swirls_are_smooth_and_nearly_free_of_divergence(shape: tuple[int, ...]) -> None:
    """Where nothing cuts it, the flow is free of divergence but for the sampling, and that is of second order."""

    def worst(refine: int) -> float:
        grid = domain([refine * n for n in shape], walls="air", spacing=1 / (refine * max(shape)))
        return float(np.abs(divergence(grid, swirling_flow(grid, 5))).max())

    assert np.log2(worst(1) / worst(2)) == pytest.approx(2.0, abs=0.2)


def test_swirling_flow_parts() -> None:
    grid = domain((12, 10, 8), walls="air", spacing=0.5)
    for component, mean in zip(swirling_flow(grid, stream=(1, -2, 3), swirls=0), (1, -2, 3), strict=True):
        np.testing.assert_array_equal(component, mean)
    for component, mean in zip(swirling_flow(grid, swirls=0), (1, 0, 0), strict=True):
        np.testing.assert_array_equal(component, mean)
    speed = max(np.abs(component).max() for component in swirling_flow(grid, 0, stream=(0, 0, 0), swirls=1))
    assert 0.3 < speed <= 1.0


def test_a_single_plane_vortex_turns_about_its_centre() -> None:
    grid = domain((80, 80), walls="air", spacing=1 / 80)
    u, v = swirling_flow(grid, 7, stream=(0, 0), swirls=1)
    vorticity = np.diff(v[:, 1:-1], axis=0) - np.diff(u[1:-1], axis=1)  # at the inner corners of cells
    i, j = np.unravel_index(np.argmax(np.abs(vorticity)), vorticity.shape)
    speed = np.hypot(0.5 * (u[1:] + u[:-1]), 0.5 * (v[:, 1:] + v[:, :-1]))
    assert speed[i : i + 2, j : j + 2].max() < 0.2
    assert 0.95 < speed.max() <= 1.0


def test_seeds() -> None:
    grid = GRIDS["smoke"]
    a, b, c = swirling_flow(grid, 1), swirling_flow(grid, np.random.default_rng(1)), swirling_flow(grid, 2)
    for first, second, third in zip(a, b, c, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, third)


def test_swirling_flow_around_a_moving_obstacle() -> None:
    grid = GRIDS["smoke"]
    flow = swirling_flow(grid, 0, solid_velocity=(0.0, 0.5, 0.0))
    expected = no_penetration(grid, swirling_flow(grid, 0), (0.0, 0.5, 0.0))
    for component, other in zip(flow, expected, strict=True):
        np.testing.assert_array_equal(component, other)
    assert (flow[1] == 0.5).any()


SQUARE = domain((4, 3))
FACES = (np.zeros((5, 3)), np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: divergence(SQUARE, FACES[:1]), r"\[\(5, 3\), \(4, 4\)\].*got \[\(5, 3\)\]"),
        (lambda: divergence(SQUARE, (FACES[1], FACES[0])), r"got \[\(4, 4\), \(5, 3\)\]"),
        (lambda: pressure_rhs(poisson(SQUARE), FACES[::-1]), "velocity must hold one array per axis"),
        (lambda: project(poisson(SQUARE), FACES[::-1], np.zeros(12)), "velocity must hold one array per axis"),
        (lambda: project(poisson(SQUARE), FACES, np.zeros(11)), r"shape \(12,\), got \(11,\)"),
        (lambda: no_penetration(SQUARE, FACES, (1.0,)), r"one entry per axis \(2\), got 1"),
        (lambda: no_penetration(SQUARE, FACES, (1.0, FACES[0])), r"axis 1 .* \(4, 4\), got \(5, 3\)"),
        (lambda: swirling_flow(SQUARE, stream=(1, 0, 0)), r"per axis \(2\)"),
        (lambda: swirling_flow(SQUARE, stream=(1, np.nan)), "finite"),
        (lambda: swirling_flow(SQUARE, swirls=-1), "swirls .* got -1"),
    ],
)
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
