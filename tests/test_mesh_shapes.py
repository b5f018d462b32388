"""Distances from closed surfaces: the compiled passes against their definition, signs, and the cut on lattices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import Mesh, ball, box, box_mesh, icosphere, knot, torus
from deepcd.pde.kernels import reference
from deepcd.pde.kernels import triangles as kernels

MESHES = [icosphere(1), torus(1.0, 0.4, 9, 5), box_mesh((-0.7, -0.5, -0.9), (0.3, 0.8, 0.6))]


@pytest.mark.parametrize("mesh", MESHES, ids=["ball", "torus", "box"])
def test_definition(mesh: Mesh) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (200, 3))
    expected = reference.distance_from_triangles(points, mesh.vertices, mesh.triangles)
    found = np.empty(len(points))
    kernels.distance(mesh.vertices, mesh.triangles, points, found)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    lines = [np.sort(rng.uniform(-1.5, 1.5, n)) for n in (7, 9, 8)]
    lattice = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    expected = reference.distance_from_triangles(lattice.reshape(-1, 3), mesh.vertices, mesh.triangles)
    cut = np.empty(lattice.shape[:3])
    kernels.distance_on_lattice(mesh.vertices, mesh.triangles, *lines, 0.4, cut)
    np.testing.assert_allclose(cut.ravel(), np.minimum(expected, 0.4), rtol=1e-12)


def test_slivers_and_points_on_the_surface() -> None:
    """Triangles without an area count as the segments that they are."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1e-9, 0]], dtype=float)
    points = np.array([[0.5, 0, 0], [1.5, 2, 0], [3, 0, 0], [-1, 0, 0], [0.5, 0, 3]], dtype=float)
    for triangle in ([0, 1, 2], [2, 0, 1], [0, 2, 3]):
        found = np.empty(len(points))
        kernels.distance(vertices, np.array([triangle]), points, found)
        np.testing.assert_allclose(found, [0, 2, 1, 1, 3], atol=1e-8)


def lattice(n: int, h: float) -> list[NDArray[np.float64]]:
    return [i * h for i in np.ogrid[0:n, 0:n, 0:n]]


def test_a_box_of_triangles_is_a_box() -> None:
    x = lattice(13, 0.5)
    found, plain = box_mesh((1.2, 1.4, 1.6), (4.3, 4.4, 4.7)).shape(), box((1.2, 1.4, 1.6), (4.3, 4.4, 4.7))
    assert found.distance is not None
    assert plain.distance is not None
    inside = plain.contains(x)
    np.testing.assert_allclose(found.distance(x)[inside], np.maximum(plain.distance(x), -1.0)[inside], atol=1e-14)
    np.testing.assert_array_equal(found.distance(x) < 0, inside)


def test_distances_are_signed_and_cut_off_at_two_gaps() -> None:
    sphere = icosphere(4).placed(scale=3, translation=(4, 4, 4)).shape()
    exact = ball((4, 4, 4), 3.0)
    assert sphere.distance is not None
    assert exact.distance is not None
    x = lattice(17, 0.5)
    np.testing.assert_allclose(sphere.distance(x), np.clip(exact.distance(x), -1, 1), atol=0.02)
    scattered = list(np.random.default_rng(1).uniform(0, 8, (3, 40)))
    np.testing.assert_allclose(sphere.distance(scattered), exact.distance(scattered), atol=0.02)
    alone = [np.full((1, 1, 1), 4.0)] * 3
    np.testing.assert_allclose(sphere.distance(alone), -3.0, atol=0.02)


def test_combinations_with_a_mesh_know_their_distance() -> None:
    both = knot().shape() & ~ball((0, 0, 0), 1.0)
    assert both.distance is not None
    assert both.distance(lattice(3, 1.0)).shape == (3, 3, 3)
