"""Files of meshes: what programs write is read to the same closed surface; everything else is refused by name."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcd.pde import Mesh, MeshError, box_mesh, icosphere, read_mesh, torus

RING = torus(around=10, across=6).placed(rotation=((1, 2, 3), 40), translation=(5, -3, 1))
CUBE = box_mesh((-1, -1, -1), (1, 1, 1))
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def surface(mesh: Mesh, dtype: str = "f8") -> meshio.Mesh:
    return meshio.Mesh(mesh.vertices.astype(dtype), [("triangle", mesh.triangles.astype(np.int32))])


WRITERS: dict[str, Callable[[Path, meshio.Mesh], None]] = {
    "text.stl": lambda path, mesh: meshio.stl.write(path, mesh, binary=False),
    "binary.stl": lambda path, mesh: meshio.stl.write(path, mesh, binary=True),
    "text.ply": lambda path, mesh: meshio.ply.write(path, mesh, binary=False),
    "binary.ply": lambda path, mesh: meshio.ply.write(path, mesh, binary=True),
    "surface.obj": meshio.obj.write,
}


def content(name: str, mesh: Mesh, folder: Path) -> bytes:
    WRITERS[name](folder / name, surface(mesh))
    return (folder / name).read_bytes()


def obj(vertices: Any, faces: Any) -> bytes:
    lines = [f"v {' '.join(map(str, v))}" for v in vertices] + [f"f {' '.join(map(str, f))}" for f in faces]
    return "\n".join(lines).encode()


def corners(mesh: Mesh) -> np.ndarray:
    """The triangles by the coordinates of their vertices, each from its lowest one, sorted."""
    each = mesh.vertices[mesh.triangles].round(5) + 0.0
    return np.array(sorted(min(np.roll(t, k, axis=0).tolist() for k in range(3)) for t in each))


def refused(path: Path, bytes_of_it: bytes | None, *says: str) -> None:
    """A file is refused with its name and the reason."""
    if bytes_of_it is not None:
        path.write_bytes(bytes_of_it)
    with pytest.raises(MeshError) as caught:
        read_mesh(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 600
    for reason in says:
        assert reason in message


class TestWhatIsRead:
    @pytest.mark.parametrize("name", WRITERS)
    @pytest.mark.parametrize("mesh", [CUBE, RING], ids=["cube", "ring"])
    def test_round_trip(self, tmp_path: Path, name: str, mesh: Mesh) -> None:
        WRITERS[name](tmp_path / name, surface(mesh))
        found = read_mesh(tmp_path / name)
        assert found.watertight
        assert found.name == str(tmp_path / name)
        assert len(found.vertices) == len(mesh.vertices)
        np.testing.assert_allclose(corners(found), corners(mesh), atol=2e-5)
        assert found.volume == pytest.approx(mesh.volume, rel=1e-6)

    def test_numbers_of_a_file_are_kept(self, tmp_path: Path) -> None:
        for name in ("text.ply", "binary.ply", "surface.obj"):
            WRITERS[name](tmp_path / name, surface(RING))
            assert set(map(tuple, read_mesh(tmp_path / name).vertices)) == set(map(tuple, RING.vertices))

    def test_a_name_in_capitals_and_as_text(self, tmp_path: Path) -> None:
        path = tmp_path / "CUBE.STL"
        path.write_bytes(content("binary.stl", CUBE, tmp_path))
        assert read_mesh(str(path)).volume == 8

    @pytest.mark.parametrize("binary", [False, True])
    def test_quads_and_polygons(self, tmp_path: Path, binary: bool) -> None:
        cube = meshio.Mesh(CUBE.vertices, [("quad", np.array(QUADS, dtype=np.int32))])
        meshio.ply.write(tmp_path / "cube.ply", cube, binary=binary)
        assert read_mesh(tmp_path / "cube.ply").volume == pytest.approx(8)
        angle = np.arange(5) * 2 * np.pi / 5
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        prism = np.vstack([np.c_[ring, np.zeros(5)], np.c_[ring, np.ones(5)]])
        sides = [[i, (i + 1) % 5, (i + 1) % 5 + 5, i + 5] for i in range(5)]
        faces = [[5, 4, 3, 2, 1], [6, 7, 8, 9, 10], *(np.array(sides) + 1).tolist()]
        (tmp_path / "prism.obj").write_bytes(obj(prism, faces))
        assert read_mesh(tmp_path / "prism.obj").volume == pytest.approx(2.5 * np.sin(2 * np.pi / 5))

    def test_what_other_programs_write(self, tmp_path: Path) -> None:
        text = content("text.ply", CUBE, tmp_path)
        path = tmp_path / "a.ply"
        path.write_bytes(text.replace(b"vertex_indices", b"vertex_index"))
        assert read_mesh(path).volume == 8
        path = tmp_path / "a.obj"
        coloured = obj(np.c_[CUBE.vertices, np.ones((8, 3))], CUBE.triangles + 1)
        path.write_bytes(b"# caf\xe9\nmtllib a.mtl\no cube\nvn 0 0 1\n" + coloured.replace(b" 1\nf", b" 1//1\nf"))
        assert read_mesh(path).volume == 8
        path.write_bytes(coloured.replace(b"\n", b"\r\n") + b"\ng other\n")
        assert read_mesh(path).volume == 8

    def test_liberties_in_ply(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ply"
        lines = content("text.ply", CUBE, tmp_path).split(b"\n")
        body = lines.index(b"end_header")
        header = [line.replace(b" ", b" \t ") for line in lines[:body]]
        header.insert(2, b"comment caf\xe9\nobj_info x")
        edges = [b"element edge 1", b"property int vertex1", b"property int vertex2"]
        path.write_bytes(
            b"\r\n".join([*header, *edges, lines[body], b"\n".join(lines[body + 1 :]).replace(b"\n", b"\n\n"), b"0 1"])
        )
        assert read_mesh(path).volume == 8
        textured = [*lines[:body], b"property list uchar float texcoord", lines[body]]
        textured += lines[body + 1 : body + 9] + [line + b" 2 0.5 0.5" for line in lines[body + 9 :] if line]
        path.write_bytes(b"\n".join(textured))
        assert read_mesh(path).volume == 8
        refused(path, b"\n".join([lines[0], lines[1], *edges[:2], *lines[2:]]), "holds elements called 'edge'")

    def test_liberties_in_obj(self, tmp_path: Path) -> None:
        """Faces may follow the vertices that they count from, blank lines, comments and quads among them."""
        path = tmp_path / "a.obj"
        parts = []
        for shift in (0, 5):
            parts += [f"v {x + shift} {y} \\\n {z} 0.5\n\n" for x, y, z in CUBE.vertices]
            parts += [f"f {' '.join(f'{i - 8}//{i - 8}' for i in quad)} # quad\r\n" for quad in QUADS]
        path.write_text("\ufeff# two cubes\n" + "".join(parts).replace(" # quad", ""), encoding="utf-8")
        assert read_mesh(path).volume == 16
        refused(path, b"v 0 0 0\n\nv 0 1,5 0\n", "is damaged in line 3, 'v 0 1,5 0': expected three coordinates")
        refused(path, b"v 0 0 0\nf 1 x 2\n", "is damaged in line 2, 'f 1 x 2': expected numbers of vertices")

    def test_vertices_become_one(self, tmp_path: Path) -> None:
        """Zeros of either sign too, and those of no triangle are left out."""
        soup, path = CUBE.vertices[CUBE.triangles].reshape(-1, 3) + 1, tmp_path / "a.obj"
        soup[soup == 0] *= np.random.default_rng(0).choice([-1, 1], (soup == 0).sum())
        assert np.signbit(soup).any()
        path.write_bytes(obj([*soup, (9, 9, 9)], np.arange(36).reshape(-1, 3) + 1))
        mesh = read_mesh(path)
        assert (len(mesh.vertices), mesh.volume) == (8, 8)

    def test_turned_triangles_are_turned_back(self, tmp_path: Path) -> None:
        triangles, path = CUBE.triangles.copy(), tmp_path / "a.stl"
        triangles[[2, 5, 6]] = triangles[[2, 5, 6], ::-1]
        meshio.stl.write(path, meshio.Mesh(CUBE.vertices, [("triangle", triangles)]), binary=True)
        assert read_mesh(path).volume == 8
        meshio.stl.write(path, meshio.Mesh(CUBE.vertices, [("triangle", CUBE.triangles[:, ::-1])]), binary=True)
        assert read_mesh(path).volume == 8


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", WRITERS)
    def test_open_surfaces(self, tmp_path: Path, name: str) -> None:
        lid = Mesh(CUBE.vertices, np.delete(CUBE.triangles, [0, 6], axis=0))
        refused(tmp_path / name, content(name, lid, tmp_path), "is open: 4 edges with one triangle only", "fill its")

    def test_edges_of_many_triangles(self, tmp_path: Path) -> None:
        fins = [*(CUBE.triangles + 1), *([1, 2, 9], [1, 9, 10], [2, 10, 9], [1, 10, 2])]
        vertices = [*CUBE.vertices, (-3, -3, -3), (-3, -2, -3)]
        refused(tmp_path / "a.obj", obj(vertices, fins), "is not a surface: 1 edge with more than two triangles")

    def test_one_side_only(self, tmp_path: Path) -> None:
        """The projective plane: of an icosahedron, opposite vertices are one."""
        opposite = icosphere(0).vertices @ icosphere(0).vertices.T < -0.99
        one = np.minimum(np.arange(12), np.argmax(opposite, axis=1))
        faces = np.unique(np.sort(one[icosphere(0).triangles], axis=1), axis=0)
        assert len(faces) == 10
        vertices = np.random.default_rng(0).standard_normal((12, 3))
        refused(tmp_path / "a.obj", obj(vertices, faces + 1), "has only one side, at (")

    @pytest.mark.parametrize("name", ["a.stl", "a.ply", "a.obj"])
    @pytest.mark.parametrize(
        "wrong",
        [b"", b"hello", b"hello\n" * 100, bytes(range(256)) * 9, b"solid a\nendsolid a\n", b"ply\n", b"\0" * 84],
    )
    def test_other_files(self, tmp_path: Path, name: str, wrong: bytes) -> None:
        refused(tmp_path / name, wrong)

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        empty = b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\n"
        refused(tmp_path / "a.stl", b"solid a\nendsolid a\n", "has no triangles; give a surface mesh in the STL format")
        refused(tmp_path / "b.stl", bytes(84), "has no triangles")
        refused(tmp_path / "a.obj", b"v 0 0 0\nv 1 0 0\nl 1 2\n", "has no triangles")
        refused(tmp_path / "a.ply", empty + b"element face 0\nproperty list uchar int vertex_indices\nend_header\n")

    def test_degenerate_triangles_only(self, tmp_path: Path) -> None:
        line = obj([(0, 0, 0), (1, 1, 1), (3, 3, 3)], [(1, 2, 3), (3, 2, 1), (1, 1, 2)])
        refused(tmp_path / "a.obj", line, "all of its 3 triangles are degenerate")
        refused(tmp_path / "a.obj", obj([(1, 2, 3)] * 3, [(1, 2, 3)]), "all of its 1 triangles are degenerate")

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "1e999"])
    def test_coordinates(self, tmp_path: Path, value: str) -> None:
        vertices = CUBE.vertices.astype(object)
        vertices[3, 1] = value
        refused(tmp_path / "a.obj", obj(vertices, CUBE.triangles + 1), "coordinates must be finite and at most 1e+100")

    def test_vertices_that_are_not_there(self, tmp_path: Path) -> None:
        faces = CUBE.triangles + 1
        refused(tmp_path / "a.obj", obj(CUBE.vertices, np.where(faces == 8, 9, faces)), "a face has vertex 9 of 8")
        refused(tmp_path / "a.obj", obj(CUBE.vertices, np.where(faces == 8, 0, faces)), "a face has vertex 0 of 8")
        refused(tmp_path / "a.obj", obj(CUBE.vertices, np.where(faces == 8, -9, faces)), "a face has vertex 0 of 8")
        refused(tmp_path / "a.obj", obj(CUBE.vertices[:, :2], faces), "has vertices without three coordinates")
        refused(tmp_path / "a.obj", obj(CUBE.vertices, [(1, 2)]), "has faces of shape (2,)")

    def test_claims(self, tmp_path: Path) -> None:
        for name in ("text.ply", "binary.ply"):
            good = content(name, CUBE, tmp_path)
            for element in (b"vertex 8", b"face 12"):
                wrong = good.replace(element, element.split()[0] + b" 99999999999999")
                refused(tmp_path / name, wrong, "claims 99999999999999 elements, but holds")
        binary = bytearray(content("binary.stl", CUBE, tmp_path))
        binary[80:84] = b"\xff" * 4
        refused(tmp_path / "binary.stl", bytes(binary[:-1]), "claims 4294967295 triangles", "has 683 bytes")

    @pytest.mark.parametrize("name", WRITERS)
    def test_truncations(self, tmp_path: Path, name: str) -> None:
        whole = content(name, CUBE, tmp_path)
        for kept in range(0, len(whole) - 60, 1 + len(whole) // 40):
            refused(tmp_path / name, whole[:kept])

    @pytest.mark.parametrize("name", ["a.vtk", "a", "stl", "a.stl.gz"])
    def test_names(self, tmp_path: Path, name: str) -> None:
        refused(tmp_path / name, b"", "a mesh must be a .stl, .ply or .obj file")

    @pytest.mark.parametrize("name", ["a.stl", "a.ply", "a.obj"])
    def test_nothing_folders_pipes_devices(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        refused(path, None, "no such file; give a surface mesh in the")
        path.mkdir()
        refused(path, None, "is not a regular file")
        path.rmdir()
        os.mkfifo(path)  # a reader that waited for a writer would hang here
        refused(path, None, "is not a regular file")
        path.unlink()
        path.symlink_to("/dev/zero")
        refused(path, None, "is not a regular file")
        path.unlink()
        path.symlink_to(path)
        refused(path, None, "no such file")

    def test_permission_denied_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "a.ply").write_bytes(b"")
        monkeypatch.setattr(io, "open", forbidden)
        refused(tmp_path / "a.ply", None, "cannot be read (Permission denied)")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    return {name: content(name, CUBE, folder) for name in WRITERS}


@pytest.mark.filterwarnings("error")
@settings(max_examples=150)
@given(data=st.data())
def test_mutations_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, originals: dict[str, bytes], data: st.DataObject
) -> None:
    """With bytes changed, removed, repeated or inserted, a file is a closed surface or refused by the one error."""
    name = data.draw(st.sampled_from(sorted(originals)))
    mutated = bytearray(originals[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        until = at + data.draw(st.sampled_from([0, 1, 2, 4, 8, 50]))
        tokens = [
            b"",
            b"-",
            b"9" * 18,
            b"1e500",
            b"\n",
            b" ",
            b"\0",
            b"\xff" * 4,
            b"nan",
            b"/",
            bytes(mutated[at:until]) * 2,
        ]
        mutated[at:until] = data.draw(st.sampled_from(tokens) | st.binary(max_size=6))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(bytes(mutated))
    try:
        mesh = read_mesh(path)
    except MeshError:
        return
    assert mesh.watertight
    assert mesh.volume >= 0
