"""Buoyancy and vorticity confinement: definition, direction, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from deepcd.pde import Cell, Grid, buoyancy, domain, swirling_flow, vorticity_confinement
from deepcd.pde.kernels import reference
from deepcd.pde.mac import face_shapes, sides

SHAPES = [(7, 5, 6), (1, 4, 3), (5, 1, 2), (4, 3, 1), (2, 2, 2), (9, 8), (1, 6), (6, 1), (1, 1)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_definition(shape: tuple[int, ...], threads: int) -> None:
    rng = np.random.default_rng(0)
    grid = Grid(rng.choice(3, size=shape, p=[0.7, 0.2, 0.1]), walls="air", spacing=0.3)
    velocity = [rng.standard_normal(face) for face in face_shapes(grid)]
    push = vorticity_confinement(grid, velocity, 0.7, threads)
    for result, expected in zip(push, reference.confinement(velocity, grid.fluid), strict=True):
        np.testing.assert_allclose(result, 0.7 * expected, rtol=0, atol=1e-14)


def test_two_axes_are_three_with_one_cell() -> None:
    flat, thick = domain((9, 8), walls="air"), domain((9, 1, 8), walls="air")
    u, w = swirling_flow(flat, 3)
    push = vorticity_confinement(flat, (u, w), 1.0)
    first, middle, last = vorticity_confinement(thick, (u[:, None], np.zeros((9, 2, 8)), w[:, None]), 1.0)
    np.testing.assert_array_equal(push[0], first[:, 0])
    np.testing.assert_array_equal(push[1], last[:, 0])
    assert (middle == 0).all()


@pytest.mark.parametrize("shape", [(8, 7, 6), (9, 10)])
def test_uniform_and_rigid_flows_are_left_alone(shape: tuple[int, ...]) -> None:
    """Without vorticity, or with the same everywhere, there is nowhere to point to."""
    grid = domain(shape, walls="air")
    uniform = [np.full(face, 0.1 * (axis + 1)) for axis, face in enumerate(face_shapes(grid))]
    for push in vorticity_confinement(grid, uniform, 5.0):
        np.testing.assert_array_equal(push, 0.0)
    turning = [face.copy() for face in uniform]
    turning[0] += np.arange(shape[-1])
    for push in vorticity_confinement(grid, turning, 5.0):
        np.testing.assert_allclose(push[(slice(2, -2),) * len(shape)], 0.0, rtol=0, atol=1e-8)


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_vortex_is_spun_up(axes: tuple[int, int], sign: int) -> None:
    """The force has the direction of the velocity in a single vortex, whichever way and in whichever plane it turns."""
    n, h = 20, 0.1
    a, b = axes
    grid = domain([4 if d not in axes else n for d in range(3)], walls="air", spacing=h)

    def arm(face: tuple[int, ...], axis: int, along: int) -> np.ndarray:
        x = (np.arange(face[along]) + (0.0 if along == axis else 0.5)) * h - 1
        return x.reshape([-1 if d == along else 1 for d in range(3)])

    velocity = []
    for axis, face in enumerate(face_shapes(grid)):
        bell = np.exp(-(arm(face, axis, a) ** 2 + arm(face, axis, b) ** 2) / 0.18)
        speed = {a: -sign * arm(face, axis, b), b: sign * arm(face, axis, a)}.get(axis, np.zeros(()))
        velocity.append(np.broadcast_to(speed * bell, face))
    push = vorticity_confinement(grid, velocity, 1.0)
    power = sum(float(np.vdot(force, flow)) for force, flow in zip(push, velocity, strict=True))
    size = np.sqrt(sum(float((f**2).sum()) for f in push) * sum(float((u**2).sum()) for u in velocity))
    assert power > 0.5 * size > 0


def test_only_faces_between_fluid_cells_are_pushed() -> None:
    rng = np.random.default_rng(0)
    grid = Grid(rng.choice(3, size=(8, 7, 9), p=[0.7, 0.2, 0.1]), walls="air")
    push = vorticity_confinement(grid, [rng.standard_normal(face) for face in face_shapes(grid)], 1.0)
    for axis, force in enumerate(push):
        low, high = sides(grid, axis)
        np.testing.assert_array_equal(force == 0, (low != Cell.FLUID) | (high != Cell.FLUID))


def test_the_force_does_not_depend_on_the_unit_of_length() -> None:
    """Epsilon h N x curl: halving h doubles the curl of the same numbers."""
    coarse, fine = domain((8, 9), walls="air"), domain((8, 9), walls="air", spacing=0.5)
    velocity = [np.random.default_rng(0).standard_normal(face) for face in face_shapes(coarse)]
    for a, b in zip(
        vorticity_confinement(coarse, velocity, 1.0), vorticity_confinement(fine, velocity, 1.0), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 4), (2, 1)])
def test_buoyancy(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    smoke, heat = rng.random(shape), rng.random(shape)
    force = buoyancy(smoke, heat, alpha=0.3, beta=2.0)
    expected = np.pad(2.0 * heat - 0.3 * smoke, [(0, 0)] * (len(shape) - 1) + [(1, 1)], mode="edge")
    np.testing.assert_allclose(force, 0.5 * (expected[..., 1:] + expected[..., :-1]), rtol=1e-15)


GRID = domain((3, 4))
REST = [np.zeros(face) for face in face_shapes(GRID)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vorticity_confinement(GRID, REST[:1], 1.0), "velocity must hold one array per axis"),
        (lambda: vorticity_confinement(GRID, REST, -1.0), "epsilon must be .* got -1.0"),
        (lambda: vorticity_confinement(GRID, REST, np.nan), "epsilon must be .* got nan"),
        (lambda: vorticity_confinement(GRID, REST, 1.0, threads=0), "threads must be .* got 0"),
        (lambda: buoyancy(np.zeros((3, 4)), np.zeros((4, 3)), 1.0, 1.0), r"same shape, got \(3, 4\) and \(4, 3\)"),
    ],
)
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
