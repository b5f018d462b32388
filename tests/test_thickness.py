"""Thickness of bodies: walls are as thick as they were made, round bodies as their diameter."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.pde import Mesh, box_mesh, icosphere, torus
from deepcd.pde.thickness import wall_thickness


def test_a_plate_is_thin_but_for_its_rim() -> None:
    found = wall_thickness(box_mesh((0, 0, 0), (1, 1, 0.02)))
    assert np.isclose(found, 0.02).mean() > 0.9
    assert np.isclose(found, 0.02).sum() + np.isclose(found, 1).sum() == len(found)


def test_a_ball_is_as_thick_as_its_diameter_and_a_ring_as_its_tube() -> None:
    assert wall_thickness(icosphere(3)) == pytest.approx(2, rel=0.02)
    mesh = torus(around=40, across=20)
    low, high = mesh.bounds
    np.testing.assert_allclose(wall_thickness(mesh), (high - low).min(), rtol=0.1)


def test_a_shell_is_as_thick_as_its_wall() -> None:
    outer = icosphere(3)
    vertices = np.concatenate([outer.vertices, 0.9 * outer.vertices])
    inner = outer.triangles[:, ::-1] + len(outer.vertices)
    found = wall_thickness(Mesh(vertices, np.concatenate([outer.triangles, inner])))
    np.testing.assert_allclose(found, 0.1, rtol=0.1)


def test_the_same_places_every_time() -> None:
    np.testing.assert_array_equal(wall_thickness(icosphere(1)), wall_thickness(icosphere(1)))
