"""Winding numbers: the definition, and that the count along rays is the same, ties included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepcd.pde import Mesh, box_mesh, icosphere, torus
from deepcd.pde.kernels import winding
from deepcd.pde.kernels.winding import winding_number, winding_on_lattice

# Decides ties as the count along rays does, and is far larger than the rounding.
A_LITTLE_UP = np.array([1e-9, 1e-6, 1e-3])

Floats = NDArray[np.float64]


def joined(*meshes: Mesh) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    triangles = [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.vstack([mesh.vertices for mesh in meshes]), np.vstack(triangles))


def octahedron(centre: Sequence[float], radius: float) -> Mesh:
    """The points with |x| + |y| + |z| < radius."""
    vertices = np.array(centre) + radius * np.vstack([np.eye(3), -np.eye(3)])
    triangles = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    return Mesh(vertices, triangles)


def both(mesh: Mesh, lines: Sequence[Floats], shift: Floats | float = 0.0) -> tuple[NDArray[np.int16], Floats]:
    """The winding numbers around the points of a lattice, counted, and by definition after a shift."""
    x, y, z = lines
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1) + shift
    defined = winding_number(mesh.vertices, mesh.triangles, points)
    return winding_on_lattice(mesh.vertices, mesh.triangles, x, y, z), defined


class TestDefinition:
    def test_an_eighth_of_all_directions(self) -> None:
        corner = np.eye(3), np.array([[0, 1, 2]])
        assert winding_number(*corner, np.zeros(3)) == pytest.approx(1 / 8)
        assert winding_number(*corner, np.full(3, 1e9)) == pytest.approx(0)

    def test_inside_outside_turned_doubled_hollow(self) -> None:
        ball, points = icosphere(1), np.array([[0.1, 0.2, 0.3], [0.6, 0.1, 0.2], [3.0, 0.0, 0.0]])
        turned = Mesh(ball.vertices / 2, ball.triangles[:, ::-1])
        for mesh, expected in (
            (ball, [1, 1, 0]),
            (turned, [-1, 0, 0]),
            (joined(ball, ball), [2, 2, 0]),
            (joined(ball, turned), [0, 1, 0]),
        ):
            np.testing.assert_allclose(winding_number(mesh.vertices, mesh.triangles, points), expected, atol=1e-12)

    def test_half_on_an_edge_of_coplanar_triangles(self) -> None:
        cube = box_mesh((0, 0, 0), (1, 1, 1))
        np.testing.assert_allclose(winding_number(cube.vertices, cube.triangles, np.array([1, 0.5, 0.5])), 0.5)

    def test_points_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mesh, points = torus(around=8, across=5), np.random.default_rng(0).standard_normal((3, 5, 3))
        whole = winding_number(mesh.vertices, mesh.triangles, points)
        monkeypatch.setattr(winding, "PAIRS", 300)
        np.testing.assert_array_equal(winding_number(mesh.vertices, mesh.triangles, points), whole, strict=True)


class TestLattice:
    @pytest.mark.parametrize("seed", range(4))
    def test_rotated_meshes_at_random(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        mesh = joined(
            icosphere(1).placed(rotation=(rng.standard_normal(3), 360 * rng.random()), scale=0.7),
            torus(around=9, across=6).placed(rotation=(rng.standard_normal(3), 50), translation=rng.random(3)),
        )
        counted, defined = both(mesh, [np.sort(rng.uniform(-1, 2, n)) for n in (13, 12, 11)])
        assert {0, 1} <= set(counted.ravel().tolist())
        np.testing.assert_allclose(counted, defined, atol=1e-8)

    @given(st.lists(st.lists(st.integers(0, 6), min_size=12, max_size=12), min_size=1, max_size=3))
    def test_tetrahedra_on_the_points(self, numbers: list[list[int]]) -> None:
        """Vertices, edges and faces run through points; those off the surface are counted as they should be."""
        faces = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]
        points, total, clear = np.indices((7, 7, 7)), np.zeros((7, 7, 7)), np.ones((7, 7, 7), dtype=bool)
        pieces = []
        for corners in (np.reshape(several, (4, 3)).astype(float) for several in numbers):
            volume = np.linalg.det(corners[1:] - corners[0])
            if abs(volume) > 0.5:
                shares = np.tensordot(np.linalg.inv((corners[1:] - corners[0]).T), points.T - corners[0], (1, 3)).T
                least = np.minimum(shares.min(axis=-1), 1 - shares.sum(axis=-1))
                total += np.sign(volume) * (least > 0)
                clear &= np.abs(least) > 1e-9
                pieces.append(Mesh(corners, faces))
        if pieces:
            counted, _ = both(joined(*pieces), [np.arange(7.0)] * 3)
            np.testing.assert_array_equal(counted[clear], total[clear])

    @pytest.mark.parametrize("radius", [2, 3, 4])
    def test_ties_are_those_of_points_moved_up_a_little(self, radius: int) -> None:
        mesh = joined(octahedron((4, 4, 4), radius), octahedron((5, 3, 5), radius))
        counted, defined = both(mesh, [np.arange(10.0)] * 3, A_LITTLE_UP)
        np.testing.assert_allclose(counted, defined, atol=1e-5)
        _, undecided = both(mesh, [np.arange(10.0)] * 3)
        assert (np.abs(undecided - np.rint(undecided)) > 0.01).sum() > 30

    def test_ties_of_a_box(self) -> None:
        cube, line = box_mesh((1, 2, 0), (3, 4, 2)), np.arange(5.0)
        x, y, z = np.meshgrid(line, line, line, indexing="ij")
        inside = (x >= 1) & (x < 3) & (y >= 2) & (y < 4) & (z >= 0) & (z < 2)
        np.testing.assert_array_equal(winding_on_lattice(cube.vertices, cube.triangles, line, line, line), inside)

    @pytest.mark.parametrize("seed", [None, 0, 1, 2])
    def test_tetrahedra_that_fill_a_box_share_no_point(self, seed: int | None) -> None:
        """Kuhn's subdivision of cubes, as it is and sheared at random, whose every vertex is a point of the lattice."""
        rng = np.random.default_rng(seed)
        matrix = np.eye(3) if seed is None else np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
        lines = [np.unique(np.concatenate([side, rng.uniform(0, 3, 5)])) for side in matrix @ _grid(3)]
        faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        total, pieces = np.zeros([len(line) for line in lines], dtype=np.int16), []
        for corner in itertools.product(range(2), repeat=3):
            for order in itertools.permutations(range(3)):
                corners = np.array(corner) + np.vstack([np.zeros(3), np.cumsum(np.eye(3)[list(order)], axis=0)])
                pieces.append(Mesh(corners @ matrix.T, faces).oriented())
                one = winding_on_lattice(pieces[-1].vertices, pieces[-1].triangles, *lines)
                assert set(one.ravel().tolist()) <= {0, 1}
                total += one
        assert set(total.ravel().tolist()) == {0, 1}
        whole = joined(*pieces)
        np.testing.assert_array_equal(total, winding_on_lattice(whole.vertices, whole.triangles, *lines))
        np.testing.assert_allclose(whole.volume, 8 * np.linalg.det(matrix))
        if seed is None:
            x, y, z = np.meshgrid(*lines, indexing="ij")
            np.testing.assert_array_equal(total, (x < 2) & (y < 2) & (z < 2))

    def test_a_point_beside_the_mesh_or_none(self) -> None:
        cube, far = box_mesh((0, 0, 0), (1, 1, 1)), np.array([0.5])
        for lines in ((far + 9, far, far), (far, far - 9, far), (far, far, far + 9), (far, far, far - 9)):
            assert winding_on_lattice(cube.vertices, cube.triangles, *lines).tolist() == [[[0]]]
        assert winding_on_lattice(cube.vertices, cube.triangles, far, far, far).tolist() == [[[1]]]


def _grid(n: int) -> Floats:
    """Integer points, shape (3, n^3)."""
    return np.indices((n, n, n)).reshape(3, -1).astype(float)
