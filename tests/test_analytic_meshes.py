"""Meshes of formulas: closed, of the right volume, and as shapes the same cells as the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from deepcd.pde import Mesh, MeshError, Shape, box, box_mesh, icosphere, knot, torus
from deepcd.pde.kernels.winding import winding_on_lattice

Floats = NDArray[np.float64]

ROTATION: Any = ((1, 2, 3), 40)
CENTRE = (5.1, 4.9, 5.05)


def lattice(n: int, size: float = 10.0) -> list[Floats]:
    """Centres of the cells of a cube, one broadcastable array per axis."""
    return [(i + 0.5) * (size / n) for i in np.ogrid[:n, :n, :n]]


def inside(shape: Shape, n: int) -> NDArray[np.bool_]:
    return np.asarray(shape.contains(lattice(n)))


def local(n: int, scale: float) -> Floats:
    """Centres of cells as they were before a mesh was scaled, rotated and moved to CENTRE."""
    points = np.stack(np.broadcast_arrays(*lattice(n)), axis=-1) - np.array(CENTRE)
    axis, angle = ROTATION
    matrix = Rotation.from_rotvec(np.radians(angle) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    return points @ matrix / scale


def chord_error(mesh: Mesh) -> float:
    """How far the planes of triangles are from a sphere that their vertices lie on."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.triangles], 1, 0)
    normal = np.cross(b - a, c - a)
    return float(1 - ((a * normal).sum(-1) / np.linalg.norm(normal, axis=-1)).min())


@pytest.mark.parametrize(("subdivisions", "most"), [(1, 0.03), (3, 0.003)])
def test_sphere(subdivisions: int, most: float) -> None:
    ball, scale = icosphere(subdivisions), 3.7
    found = inside(ball.placed(scale=scale, rotation=ROTATION, translation=CENTRE).shape(), 40)
    radius = np.linalg.norm(local(40, scale), axis=-1)
    wrong = found != (radius < 1)
    assert not found[radius >= 1].any()
    assert (1 - radius[wrong] <= chord_error(ball) + 1e-12).all()
    assert 0 < wrong.mean() < most


@pytest.mark.parametrize(("around", "across", "most"), [(12, 8, 0.02), (96, 48, 0.001)])
def test_torus(around: int, across: int, most: float) -> None:
    scale, (major, minor) = 2.6, (1.2, 0.45)
    ring = torus(major, minor, around, across).placed(scale=scale, rotation=ROTATION, translation=CENTRE)
    x, y, z = np.moveaxis(local(40, scale), -1, 0)
    distance = np.hypot(np.hypot(x, y) - major, z) - minor
    wrong = inside(ring.shape(), 40) != (distance < 0)
    error = (major + minor) * (1 - np.cos(np.pi / around)) + minor * (1 - np.cos(np.pi / across))
    assert (np.abs(distance[wrong]) <= error).all()
    assert 0 < wrong.mean() < most


def test_box_as_it_is() -> None:
    """Its faces run through centres, where it must hold what the shape of the same name does."""
    low, high = (1.125, 2.0, 3.625), (8.125, 6.0, 7.125)
    found = inside(box_mesh(low, high).shape(), 40)
    np.testing.assert_array_equal(found, np.broadcast_to(box(low, high).contains(lattice(40)), found.shape))


def test_box_rotated() -> None:
    brick = box_mesh((-1, -2, -3), (1, 2, 3)).placed(scale=1.1, rotation=ROTATION, translation=CENTRE)
    depth = (np.array([1, 2, 3]) - np.abs(local(40, 1.1))).min(axis=-1)
    clear = np.abs(depth) > 1e-12
    np.testing.assert_array_equal(inside(brick.shape(), 40)[clear], depth[clear] > 0)


@pytest.mark.parametrize("axis", range(3))
def test_boxes_that_share_a_face_share_no_cell(axis: int) -> None:
    low, high = np.full(3, 1.0), np.full(3, 9.0)
    end, start = high.copy(), low.copy()
    end[axis] = start[axis] = 4.125  # a centre
    left, right = (inside(box_mesh(*ends).shape(), 40) for ends in ((low, end), (start, high)))
    assert not (left & right).any()
    np.testing.assert_array_equal(left | right, inside(box_mesh(low, high).shape(), 40))


@pytest.mark.parametrize("make", [lambda: icosphere(4), torus, knot], ids=["sphere", "torus", "knot"])
def test_volume_of_cells_converges(make: Callable[[], Mesh]) -> None:
    mesh = make().placed(rotation=ROTATION, fit=((0.5, 0.5, 0.5), (9.5, 9.5, 9.5)))
    errors = [abs(inside(mesh.shape(), n).sum() * (10 / n) ** 3 / mesh.volume - 1) for n in (12, 48)]
    assert errors[1] < 3e-3
    assert errors[1] < errors[0]


def test_volumes_of_formulas() -> None:
    """Off by the square of the edges of triangles."""
    assert icosphere(4).volume == pytest.approx(4 / 3 * np.pi, rel=3e-3)
    assert torus(2, 0.5).volume == pytest.approx(2 * np.pi**2 * 2 * 0.25, rel=5e-3)
    assert box_mesh((1, 2, 3), (2, 4, 6)).volume == pytest.approx(6)
    # Pappus: section times length, and the knot is 30.79 long.
    t = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    curve = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], axis=1)
    length = np.linalg.norm(np.roll(curve, -1, axis=0) - curve, axis=1).sum()
    assert knot(0.3).volume == pytest.approx(np.pi * 0.09 * length, rel=1e-2)


@pytest.mark.parametrize(
    "mesh", [icosphere(0), icosphere(2), torus(around=3, across=3), knot(), box_mesh((0,) * 3, (1,) * 3)]
)
def test_closed_and_turned_outward(mesh: Mesh) -> None:
    assert mesh.watertight
    assert mesh.volume > 0
    assert len(mesh.vertices) == len(np.unique(mesh.triangles))


def test_the_knot_does_not_touch_itself() -> None:
    """Winding numbers of overlapping parts would be 2, and the tube at its limit is almost there."""
    for radius in (0.4, 0.6):
        tube = knot(radius)
        lines = [np.linspace(low, high, 90) for low, high in np.transpose(tube.bounds)]
        winding = winding_on_lattice(tube.vertices, tube.triangles, *lines)
        assert set(winding.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: icosphere(-1), "subdivisions must be an integer from 0 to 9, got -1"),
        (lambda: icosphere(1.5), "got 1.5"),  # type: ignore[arg-type]
        (lambda: torus(1, 1), "0 < minor < major, got major 1 and minor 1"),
        (lambda: torus(np.inf, 1), "major inf"),
        (lambda: torus(np.nan, 1), "major nan"),
        (lambda: torus(2, 0), "minor 0"),
        (lambda: torus(around=2), "around must be an integer from 3 up, got 2"),
        (lambda: torus(across=3.5), "across .* got 3.5"),  # type: ignore[arg-type]
        (lambda: knot(0.7), "radius must be positive and at most 0.6, got 0.7"),
        (lambda: knot(np.nan), "radius"),
        (lambda: box_mesh((0, 0), (1, 1)), r"low and high .* got \(0, 0\) and \(1, 1\)"),
        (lambda: box_mesh((0, 0, 0), (1, 1)), "low and high"),
        (lambda: box_mesh((0, 0, 0), (1, 0, 1)), "low < high"),
        (lambda: box_mesh((0, 0, 0), (1, np.inf, 1)), "finite"),
    ],
)
def test_malformed_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(MeshError, match=message):
        make()
