"""Surface meshes: what is no closed surface is named, what is turned is turned back, and placing and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import Cell, Mesh, MeshError, ball, box_mesh, domain, icosphere, torus
from deepcd.pde.kernels import winding

CUBE = box_mesh((0, 0, 0), (2, 2, 2))
CORNERS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
FACES = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]


def joined(*meshes: Mesh) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    triangles = [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.vstack([mesh.vertices for mesh in meshes]), np.vstack(triangles))


def turned(mesh: Mesh, which: Any) -> Mesh:
    """The mesh with some of its triangles turned."""
    triangles = mesh.triangles.copy()
    triangles[which] = triangles[which, ::-1]
    return Mesh(mesh.vertices, triangles)


def klein_bottle() -> Mesh:
    """A tube whose ends are joined the wrong way round."""
    i, j = np.indices((6, 5))
    number = i * 5 + j
    ahead = np.vstack([number[1:], number[:1, ::-1]])
    a, b, c, d = (v.ravel() for v in (number, ahead, np.roll(ahead, -1, axis=1), np.roll(number, -1, axis=1)))
    vertices = np.random.default_rng(0).standard_normal((30, 3))
    return Mesh(vertices, np.vstack([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]), "bottle")


def cells(mesh: Mesh, size: int = 12) -> NDArray[np.bool_]:
    return np.equal(domain((size,) * 3, solid=mesh.shape(), spacing=6 / size).cells, Cell.SOLID)


class TestFlaws:
    def test_none(self) -> None:
        assert (CUBE.flaw, CUBE.watertight) == ("", True)

    def test_open(self) -> None:
        lid = Mesh(CUBE.vertices, CUBE.triangles[1:], "lid")
        assert not lid.watertight
        assert "is open: 3 edges with one triangle only, such as that from (0, 0, 0) to (0, 0, 2)" in lid.flaw
        for use in (lid.shape, lid.oriented):
            with pytest.raises(MeshError, match=r"^lid: is open: 3 edges"):
                use()

    def test_more_than_two_triangles(self) -> None:
        fin = Mesh([*CORNERS, [0, -1, 0]], [*FACES, [0, 1, 4]], "fin")
        assert "open: 2 edges" in fin.flaw
        pair = Mesh([*CORNERS, [0, -1, 0], [0, 0, -1]], [*FACES, [0, 1, 4], [0, 5, 1], [1, 5, 4], [0, 4, 5]], "pair")
        says = "is not a surface: 1 edge with more than two triangles, such as that from (0, 0, 0) to (1, 0, 0); take"
        assert says in pair.flaw
        with pytest.raises(MeshError, match=r"^pair: is not a surface"):
            pair.oriented()

    def test_triangles_that_are_there_twice(self) -> None:
        doubled = Mesh(CUBE.vertices, np.concatenate([CUBE.triangles, CUBE.triangles[:3]]))
        assert doubled.flaw.endswith("remove the copies of triangles that it has more than once, 3 in all")

    def test_turned_inside_out(self) -> None:
        mesh = turned(CUBE, [4])
        assert "turns inside out: 3 edges that both triangles run along the same way" in mesh.flaw
        with pytest.raises(MeshError, match=r"use mesh.oriented\(\)"):
            mesh.shape()
        assert mesh.oriented().watertight

    def test_a_vertex_twice_is_left_out(self) -> None:
        mesh = Mesh(CORNERS, [*FACES, [0, 1, 1], [2, 2, 2]])
        assert len(mesh.triangles) == 4
        assert mesh.watertight


class TestOriented:
    @pytest.mark.parametrize("seed", range(3))
    def test_triangles_turned_at_random(self, seed: int) -> None:
        ring = torus(around=12, across=8)
        which = np.random.default_rng(seed).random(len(ring.triangles)) < 0.4
        mesh = turned(ring, which).oriented()
        np.testing.assert_array_equal(np.sort(mesh.triangles, axis=1), np.sort(ring.triangles, axis=1))
        assert mesh.watertight
        assert mesh.volume == pytest.approx(ring.volume)

    def test_inward(self) -> None:
        inward = turned(CUBE, slice(None))
        assert inward.volume == -8
        assert inward.oriented().volume == 8

    def test_what_is_right_stays(self) -> None:
        assert CUBE.oriented() is CUBE

    def test_cavities_stay(self) -> None:
        hollow = joined(CUBE, turned(CUBE.placed(scale=0.5, translation=(0.5, 0.5, 0.5)), slice(None)))
        mesh = turned(hollow, [0, 20, 21]).oriented()
        assert mesh.volume == 7
        np.testing.assert_array_equal(mesh.triangles[np.r_[1:20, 22:24]], hollow.triangles[np.r_[1:20, 22:24]])

    def test_half_of_a_part(self) -> None:
        """Neither side has fewer; both parts must come out consistent all the same."""
        mesh = turned(joined(CUBE, CUBE.placed(translation=(5, 0, 0))), np.r_[:6, 12:18]).oriented()
        assert mesh.watertight

    def test_one_side_only(self) -> None:
        bottle = klein_bottle()
        assert "turns inside out" in bottle.flaw
        with pytest.raises(MeshError, match=r"^bottle: has only one side, at \("):
            bottle.oriented()


class TestMeasures:
    @pytest.mark.parametrize("size", [1e-90, 1, 1e30])
    def test_volume_and_bounds(self, size: float) -> None:
        mesh = CUBE.placed(scale=size).placed(translation=(3 * size, 0, 0))
        assert mesh.volume == pytest.approx(8 * size**3, rel=1e-12)
        np.testing.assert_allclose(mesh.bounds, [[3 * size, 0, 0], [5 * size, 2 * size, 2 * size]])

    def test_bounds_are_those_of_triangles(self) -> None:
        np.testing.assert_array_equal(Mesh([*CORNERS, [9, 9, 9]], FACES).bounds, [[0, 0, 0], [1, 1, 1]])

    def test_what_is_given_is_neither_kept_nor_changed(self) -> None:
        vertices, triangles = np.array(CORNERS, dtype=float), np.array(FACES)
        mesh = Mesh(vertices, triangles)
        vertices[:] = triangles[:] = 0
        assert mesh.watertight
        with pytest.raises(ValueError, match="read-only"):
            mesh.vertices[0] = 1

    def test_repr(self) -> None:
        assert repr(CUBE) == "<Mesh box: 8 vertices, 12 triangles>"


class TestPlaced:
    @pytest.mark.parametrize(
        ("axis", "angle", "image"),
        [
            ((0, 0, 1), 90, [-2, 1, 3]),
            ((0, 0, 5), -270, [-2, 1, 3]),
            ((1, 0, 0), 180, [1, -2, -3]),
            ((0, -1, 0), 450, [-3, 2, 1]),
            ((0, 1, 0), 0, [1, 2, 3]),
        ],
    )
    def test_right_angles_are_exact(self, axis: Any, angle: float, image: list[float]) -> None:
        point = Mesh([[1, 2, 3], *CORNERS[1:]], FACES)
        assert point.placed(rotation=(axis, angle)).vertices[0].tolist() == image

    def test_rotation(self) -> None:
        vertices = CUBE.placed(rotation=((1, 1, 1), 120)).vertices
        np.testing.assert_allclose(vertices, np.roll(CUBE.vertices, 1, axis=1), atol=1e-15)
        c, s = np.cos(0.3), np.sin(0.3)
        matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        by_angle = CUBE.placed(rotation=((0, 0, 1), np.degrees(0.3))).vertices
        np.testing.assert_allclose(by_angle, CUBE.placed(rotation=matrix).vertices, atol=1e-15)
        np.testing.assert_allclose(by_angle, CUBE.vertices @ matrix.T, atol=1e-15)

    def test_order(self) -> None:
        mesh = CUBE.placed(scale=3, rotation=((0, 0, 1), 90), translation=(10, 0, 0))
        np.testing.assert_array_equal(mesh.bounds, [[4, 0, 0], [10, 6, 6]])
        assert mesh.volume == pytest.approx(27 * 8)

    def test_fit(self) -> None:
        brick = box_mesh((1, 1, 1), (2, 3, 5))
        mesh = brick.placed(fit=((0, 0, 0), (8, 4, 16)))
        np.testing.assert_allclose(mesh.bounds, [[3, 0, 4], [5, 4, 12]])
        mesh = brick.placed(fit=((0, 0, 0), (8, 4, 16)), translation=(1, 1, 1), within=((0, 0, 0), (9, 9, 9)))
        np.testing.assert_allclose(mesh.bounds, [[4, 1, 5], [6, 5, 13]])

    def test_fit_of_a_flat_one(self) -> None:
        sheet = Mesh(CORNERS, [[0, 1, 2], [0, 2, 1]])
        assert sheet.watertight
        np.testing.assert_allclose(sheet.placed(fit=((0, 0, 0), (4, 6, 8))).bounds, [[0, 1, 4], [4, 5, 4]])
        assert not cells(sheet).any()

    @pytest.mark.parametrize("offset", [(7, 0, 0), (0, -2, 0), (0, 0, 6), (99, 99, 99)])
    def test_outside_of_the_box(self, offset: tuple[float, ...]) -> None:
        says = (
            r"^box: lies entirely outside of the box: it spans \(.* to \(.*, the box \(0, 0, 0\) to \(6, 6, 6\); move"
        )
        with pytest.raises(MeshError, match=says):
            CUBE.placed(translation=offset, within=((0, 0, 0), (6, 6, 6)))
        inside = tuple(np.clip(offset, -1.9, 5.9))
        assert CUBE.placed(translation=inside, within=((0, 0, 0), (6, 6, 6))).volume == pytest.approx(8)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"scale": 0}, "scale must be positive and finite, got 0"),
            ({"scale": -1}, "scale"),
            ({"scale": np.inf}, "scale"),
            ({"scale": 1e200}, "coordinates must be finite and at most 1e\\+100, but vertex"),
            ({"scale": 2, "fit": ((0, 0, 0), (1, 1, 1))}, "not both"),
            ({"rotation": ((0, 0, 0), 30)}, r"rotation must be .* got \(\(0, 0, 0\), 30\)"),
            ({"rotation": ((0, 0, 1), np.nan)}, "rotation"),
            ({"rotation": ((0, 0, 1), np.inf)}, "rotation"),
            ({"rotation": ((0, 1), 30)}, "rotation"),
            ({"rotation": 30}, "rotation"),
            ({"rotation": "ab"}, "rotation"),
            ({"rotation": np.diag([1, 1, -1])}, "determinant 1"),
            ({"rotation": 2 * np.eye(3)}, "orthogonal"),
            ({"rotation": np.eye(4)}, "rotation"),
            ({"translation": (1, 2)}, r"translation .* got \(1, 2\)"),
            ({"translation": (1, 2, np.nan)}, "translation"),
            ({"fit": ((0, 0, 0), (1, 0, 1))}, "fit must be"),
            ({"fit": (0, 1)}, r"fit must be \(low, high\), three coordinates each, got \(0, 1\)"),
            ({"fit": ((0, 0, 0), (1, 1))}, "fit must be"),
            ({"within": ((0, 0, 0), (1, np.inf, 1))}, "within must be"),
        ],
    )
    def test_malformed_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(MeshError, match=f"^box: .*{message}"):
            CUBE.placed(**arguments)


class TestShape:
    def test_composes(self) -> None:
        mesh, disc = CUBE.placed(translation=(1, 1, 1)), ball((3, 3, 3), 1.2)
        found = domain((12,) * 3, solid=mesh.shape() - disc, spacing=0.5)
        expected = cells(mesh) & ~np.equal(domain((12,) * 3, solid=disc, spacing=0.5).cells, Cell.SOLID)
        np.testing.assert_array_equal(found.cells == Cell.SOLID, expected)
        assert 0 < expected.sum() < 64

    def test_parts_that_overlap_are_one_and_cavities_none(self) -> None:
        first, second = CUBE.placed(translation=(1, 1, 1)), CUBE.placed(translation=(2, 2, 2))
        np.testing.assert_array_equal(cells(joined(first, second)), cells(first) | cells(second))
        cavity = first.placed(scale=0.5, translation=(1, 1, 1))
        hollow = cells(joined(first, turned(cavity, slice(None))))
        np.testing.assert_array_equal(hollow, cells(first) & ~cells(cavity))
        assert hollow.any()

    def test_inward_is_the_same(self) -> None:
        mesh = icosphere(1).placed(scale=2, translation=(3, 3, 3))
        np.testing.assert_array_equal(cells(turned(mesh, slice(None))), cells(mesh))

    def test_lattices_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whole coordinate arrays, as those of `np.indices`, are a lattice too, and steps may differ."""
        monkeypatch.setattr(winding, "winding_number", lambda *_: pytest.fail("looked at every triangle"))
        shape = icosphere(1).placed(scale=2, translation=(3, 3, 3)).shape()
        line: NDArray[np.float64] = np.array([0.1, 2, 2, 3.3, 4, 7])
        few = [line.reshape(shape) for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1))]
        sparse = shape.contains(few)
        assert sparse.shape == (6, 6, 6)
        assert sparse.any()
        dense = shape.contains(list(np.broadcast_arrays(*few)))
        np.testing.assert_array_equal(dense, sparse)
        one = shape.contains([few[0], few[1], np.full((1, 1, 1), 3.3)])
        np.testing.assert_array_equal(one, sparse[:, :, 3:4])

    def test_other_points(self) -> None:
        mesh = torus(around=10, across=6).placed(scale=1.5, rotation=((1, 2, 3), 40), translation=(3, 3, 3))
        shape, lattice = mesh.shape(), np.asarray(np.indices((9, 8, 7)) * 0.71 + 0.123, dtype=np.float64)
        expected = shape.contains(list(lattice))
        assert 10 < expected.sum() < 400
        np.testing.assert_array_equal(shape.contains([x.ravel() for x in lattice]), expected.ravel())
        np.testing.assert_array_equal(shape.contains([x[::-1] for x in lattice]), expected[::-1])
        np.testing.assert_array_equal(shape.contains([np.swapaxes(x, 0, 1) for x in lattice]), expected.swapaxes(0, 1))
        sheared = [lattice[0], lattice[1], lattice[2] + 0 * lattice[0]]
        sheared[2][0, 0, 0] = np.nan
        assert not shape.contains(sheared)[0, 0, 0]
        assert shape.contains([np.empty((0, 1, 1)), lattice[1, :1], lattice[2, :1]]).shape == (0, 8, 7)
        assert shape.contains([np.array(9.0)] * 3).shape == ()

    def test_two_dimensions(self) -> None:
        with pytest.raises(ValueError, match="a mesh, box, in 3D was put on a grid in 2D"):
            domain((4, 4), solid=CUBE.shape())


@pytest.mark.parametrize(
    ("vertices", "triangles", "message"),
    [
        (CORNERS, np.empty((0, 3), dtype=int), "has no triangles"),
        ([], [], "vertices must be real"),
        (np.zeros((4, 2)), FACES, r"vertices must be real, of shape \(n, 3\), got float64 of \(4, 2\)"),
        (np.zeros((4, 3), dtype=complex), FACES, "complex128"),
        (CORNERS, np.array(FACES, dtype=float), r"integers of shape \(m, 3\), got float64"),
        (CORNERS, [[0, 1, 2, 3]], r"got int64 of \(1, 4\)"),
        (CORNERS, [[0, 1, 4]], "has vertex 4, but they are 0 to 3"),
        (CORNERS, [[0, 1, -1]], "has vertex -1"),
        ([*CORNERS[:3], [0, 0, np.nan]], FACES, r"but vertex 3 is \(0, 0, nan\)"),
        ([*CORNERS[:3], [0, np.inf, 0]], FACES, r"but vertex 3 is \(0, inf, 0\)"),
        ([*CORNERS[:3], [0, 1e101, 0]], FACES, "at most 1e"),
        (CORNERS, [[0, 0, 1], [2, 3, 2]], "all of its 2 triangles are degenerate"),
        ([[0, 0, 0], [1, 2, 3], [2, 4, 6], [3, 6, 9]], FACES, "all of its 4 triangles are degenerate"),
        (np.ones((4, 3)), FACES, "all of its 4 triangles are degenerate"),
    ],
)
def test_malformed_meshes(vertices: Any, triangles: Any, message: str) -> None:
    with pytest.raises(MeshError, match=f"^thing: .*{message}"):
        Mesh(vertices, triangles, "thing")
