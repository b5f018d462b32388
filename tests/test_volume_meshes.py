"""Meshes of cells: every form of tags leads to the same parts, and what elements cannot be put on is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import skfem

from deepcd.pde.meshes import MeshError
from deepcd.pde.volume_meshes import VolumeMesh, volume_mesh

from .tagged_meshes import KINDS, cube, grouped, written


def parts(mesh: VolumeMesh) -> dict[str, set[tuple[float, ...]]]:
    """Return the centres of the facets and cells of each tag that is a name."""
    m = mesh.mesh
    facets, cells = m.p[:, m.facets].mean(axis=1).T.round(9), m.p[:, m.t].mean(axis=1).T.round(9)
    found: dict[str, set[tuple[float, ...]]] = {}
    for tags, centres in ((mesh.facet_tags, facets), (mesh.cell_tags, cells)):
        found |= {tag: set(map(tuple, centres[members].tolist())) for tag, members in tags.items() if not tag.isdigit()}
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestTags:
    @pytest.mark.parametrize("form", ["2.2", "2.2 binary", "4.1", "4.1 binary", "meshio", "sets", "scikit-fem's vtu"])
    def test_parts_are_the_same_from_every_source(self, kind: str, form: str, tmp_path: Path) -> None:
        mesh = cube(kind, 4)
        source: Any
        if form == "scikit-fem's vtu":
            source = tmp_path / "a.vtu"
            flat = mesh.p if len(mesh.p) == 3 else np.vstack([mesh.p, np.zeros(mesh.p.shape[1])])
            content = skfem.io.meshio.to_meshio(mesh)
            content.points = flat.T
            content.write(source)
        elif form == "meshio":
            source = grouped(mesh)
        elif form == "sets":
            source = grouped(mesh)
            names = list(source.field_data)
            source.cell_data, source.field_data = {}, {}
            source.cell_sets = {
                name: [np.arange(len(b.data)) if i == j else [] for j, b in enumerate(source.cells)]
                for i, name in enumerate(names)
            }
        else:
            source = written(grouped(mesh), tmp_path / "a.msh", form[:3], binary="binary" in form)
        found, expected = volume_mesh(source), volume_mesh(mesh)
        assert parts(found) == parts(expected)
        assert len(parts(found)) == 2 * mesh.dim() + 2
        assert (found.kind, found.mesh.nelements) == (kind, mesh.nelements)

    def test_numbers_are_tags_where_there_are_no_names(self, kind: str, tmp_path: Path) -> None:
        mesh = cube(kind, 2)
        found = volume_mesh(written(grouped(mesh), tmp_path / "a.vtu"))  # VTU keeps the numbers alone
        assert set(found.cell_tags) == {"1", "2"}
        assert set(found.facet_tags) == {str(i + 1) for i in range(2 * mesh.dim())}
        # Lines and surfaces of one number are different parts.
        west = found.mesh.p[0, found.mesh.t[:, found.cell_tags["1"]]]
        assert west.max() == 0.5
        assert np.abs(found.mesh.p[0, found.mesh.facets[:, found.facet_tags["1"]]]).max() == 0

    def test_the_whole_boundary_needs_no_tag(self, kind: str) -> None:
        found = volume_mesh(cube(kind, 2))
        whole = set(found.facets_of("boundary", "dirichlet").tolist())
        assert whole == {int(facet) for tag in found.facet_tags.values() for facet in tag}

    def test_mirrored_cells_do_no_harm_and_are_written_positive(self, kind: str) -> None:
        mesh = cube(kind, 2)
        content = grouped(mesh)
        order = {
            "triangle": [0, 2, 1],
            "quad": [0, 3, 2, 1],
            "tetra": [0, 2, 1, 3],
            "hexahedron": [4, 5, 6, 7, 0, 1, 2, 3],
        }
        for block in content.cells:
            if block.type == kind:
                block.data[::2] = block.data[::2][:, order[kind]]
        found = volume_mesh(content)
        assert parts(found) == parts(volume_mesh(mesh))
        name, cells = found.vtk_cells(found.mesh.t.T)
        base = {"triangle": [1, 2], "quad": [1, 3], "tetra": [1, 2, 3], "hexahedron": [1, 3, 4]}[kind]
        edges = found.mesh.p.T[cells[:, base]] - found.mesh.p.T[cells[:, :1]]
        assert name == kind
        assert (np.linalg.det(edges) > 0).all()

    def test_cells_given_twice_count_once(self, kind: str) -> None:
        content = grouped(cube(kind, 2))
        block = next(b for b in content.cells if b.type == kind)
        again = meshio.Mesh(
            content.points,
            [*content.cells, meshio._mesh.CellBlock(kind, block.data[::-1])],
            cell_data={"gmsh:physical": [*content.cell_data["gmsh:physical"], np.full(len(block.data), 9)]},
            field_data={**content.field_data, "also": np.array([9, volume_mesh(content).mesh.dim()])},
        )
        found = volume_mesh(again)
        assert found.mesh.nelements == volume_mesh(content).mesh.nelements
        assert parts(found)["also"] == parts(found)["west"]

    def test_nodes_without_cells_are_left_out(self, kind: str) -> None:
        content = grouped(cube(kind, 2))
        stray = np.vstack([[[np.nan] * 3], content.points, [[7.0, 7.0, 7.0]]])
        blocks = [(block.type, block.data + 1) for block in content.cells]
        moved = meshio.Mesh(stray, blocks, cell_data=content.cell_data, field_data=content.field_data)
        found = volume_mesh(moved)
        assert found.mesh.p.shape[1] == len(content.points)
        assert parts(found) == parts(volume_mesh(content))


def test_stray_nodes_of_scikit_fem_are_left_out_too() -> None:
    mesh = cube("triangle", 2)
    stray = skfem.MeshTri(np.hstack([[[5.0], [5.0]], mesh.p]), mesh.t + 1)
    found = volume_mesh(stray.with_boundaries({"left": lambda x: x[0] < 1e-9}))
    assert found.mesh.p.shape[1] == mesh.p.shape[1]
    assert parts(found)["left"] == parts(volume_mesh(mesh))["left"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_mesh_in_space_loses_the_constant_axis(axis: int) -> None:
    mesh = cube("triangle", 2)
    points = np.insert(mesh.p.T, axis, 3.5, axis=1)
    found = volume_mesh(meshio.Mesh(points, [("triangle", mesh.t.T)]))
    assert found.axes == tuple(a for a in range(3) if a != axis)
    np.testing.assert_array_equal(found.in_space(found.mesh.p.T), points)


TRIANGLES = [[0, 1, 2], [1, 3, 2]]
SQUARE = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
SPACE = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1.0]]
LINE = [[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]


@pytest.mark.parametrize(
    ("points", "cells", "says"),
    [
        (SQUARE, {"triangle": TRIANGLES, "quad": [[0, 1, 3, 2]]}, "mixes cells, 2 of type triangle and 1 of type quad"),
        (SPACE, {"tetra": [[0, 1, 2, 3]], "wedge": [[0, 1, 2, 3, 3, 3]]}, "has cells of type wedge; triangles"),
        (SQUARE, {"triangle6": [[0, 1, 2, 3, 3, 3]]}, "of type triangle6; .*cells of first order, and give order=2"),
        (SQUARE, {}, "no cells in two or three dimensions .found: none"),
        (SQUARE, {"triangle": np.empty((0, 3), dtype=int)}, "found: none"),
        (SQUARE, {"line": [[0, 1]]}, "no cells in two or three dimensions .found: 1 of type line"),
        (SQUARE, {"triangle": [[0, 1, 2], [0, 1, 4]]}, "cell 1 has a node that is not one of the 4"),
        (SQUARE, {"triangle": [[0, 1, 2], [0, 1, -1]]}, "cell 1 has a node that is not one of the 4"),
        (SQUARE, {"triangle": [[0, 1, 2], [1, 1, 3]]}, "cell 1, counted from 0 .* has no area; its nodes are at"),
        ([*SQUARE, [2.0, 0.0]], {"triangle": [*TRIANGLES, [0, 1, 4]]}, "cell 2, counted from 0 .* has no area"),
        ([[0.0, 0], [1, 0], [0, 1e-17]], {"triangle": [[0, 1, 2]]}, "has no area"),
        (SQUARE, {"quad": [[0, 1, 2, 3]]}, "has no area"),  # its halves cancel
        ([[0.0, 0], [4, 0], [1, 1], [0, 4]], {"quad": [[0, 1, 2, 3]]}, "cell 0, counted .* is folded"),
        ([*SPACE[:3], [1.0, 1, 0]], {"tetra": [[0, 1, 2, 3]]}, "has no volume"),
        (SPACE, {"triangle": TRIANGLES}, "is a surface in space"),
        (LINE, {"triangle": [[0, 1, 2]]}, "has no area"),
        (SQUARE, {"tetra": [[0, 1, 2, 3]]}, "need nodes with three coordinates, got two"),
        ([[0.0], [1.0], [2.0]], {"triangle": [[0, 1, 2]]}, "two or three real coordinates, got shape .3, 1."),
        ([[0.0, 0], [np.nan, 0], [0, 1]], {"triangle": [[0, 1, 2]]}, "node 1 has coordinates that are not finite"),
        ([[0.0, 0], [np.inf, 0], [0, 1]], {"triangle": [[0, 1, 2]]}, "node 1 has coordinates that are not finite"),
    ],
)  # fmt: skip
def test_what_elements_cannot_be_put_on(points: Any, cells: Any, says: str) -> None:
    with pytest.raises(MeshError, match=says):
        volume_mesh(meshio.Mesh(np.array(points), [(kind, np.array(rows)) for kind, rows in cells.items()]))


def test_cells_of_any_size_and_shape_are_sound() -> None:
    square = np.array(SQUARE)
    for points in (1e-150 * square, 1e100 * square, square * [1.0, 1e-9], square + 1e6):
        assert volume_mesh(meshio.Mesh(points, [("triangle", np.array(TRIANGLES))])).mesh.nelements == 2
    folded = meshio.Mesh(1e-12 * square + 1e6, [("triangle", np.array(TRIANGLES))])  # rounding has eaten the cells
    with pytest.raises(MeshError, match=r"has no area"):
        volume_mesh(folded)


class TestUnusableTags:
    def test_unknown_ones_lead_to_a_list(self) -> None:
        mesh = volume_mesh(cube("triangle", 2))
        with pytest.raises(MeshError, match=r"'wall' of dirichlet is unknown; tags of boundary parts: 'left', 'right'"):
            mesh.facets_of("wall", "dirichlet")
        with pytest.raises(
            MeshError, match=r"'iron' of coefficient is unknown; .* of cells: 'west', 'east'; 'boundary'"
        ):
            mesh.cells_of("iron", "coefficient")

    def test_parts_of_another_dimension_say_so(self) -> None:
        mesh = volume_mesh(cube("triangle", 2))
        with pytest.raises(MeshError, match=r"'west' of neumann is a tag of cells, not of parts of the boundary"):
            mesh.facets_of("west", "neumann")
        with pytest.raises(MeshError, match=r"'left' of source is a tag of a part of the boundary, not of cells"):
            mesh.cells_of("left", "source")

    def test_empty_ones_and_those_on_points_or_edges(self) -> None:
        content = grouped(cube("tetra", 1))
        blocks = [*content.cells, meshio._mesh.CellBlock("line", np.array([[0, 1]]))]
        found = volume_mesh(
            meshio.Mesh(
                content.points,
                blocks,
                cell_data={"gmsh:physical": [*content.cell_data["gmsh:physical"], np.array([1])]},
                field_data={**content.field_data, "edge": np.array([1, 1]), "nothing": np.array([8, 2])},
            )
        )
        with pytest.raises(MeshError, match=r"'edge' of dirichlet lies on cells of type line"):
            found.facets_of("edge", "dirichlet")
        with pytest.raises(MeshError, match=r"'nothing' of dirichlet has nothing that lies on it"):
            found.facets_of("nothing", "dirichlet")
        assert len(found.facet_tags["left"]) == 2  # the number 1 of lines is not that of triangles

    def test_facets_of_no_cell(self) -> None:
        lines = np.array([[0, 1], [0, 3]])  # an edge and a diagonal that is none
        mesh = meshio.Mesh(
            np.array(SQUARE),
            [("line", lines), ("triangle", np.array(TRIANGLES))],
            cell_data={"gmsh:physical": [np.array([5, 5]), np.array([1, 1])]},
        )
        with pytest.raises(MeshError, match=r"'5' of dirichlet has 1 of 2 lines that are facets of no cell"):
            volume_mesh(mesh).facets_of("5", "dirichlet")

    def test_a_tag_of_scikit_fem_on_nothing(self) -> None:
        mesh = cube("triangle", 1).with_boundaries({"far": lambda x: x[0] > 9})
        with pytest.raises(MeshError, match=r"'far' of robin has nothing that lies on it"):
            volume_mesh(mesh).facets_of("far", "robin")


class TestFiles:
    @pytest.mark.parametrize("name", ["a.msh", "a.vtu", "a.xdmf"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello", b"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n9", b"<VTKFile/>"]
    )
    def test_damaged_ones_are_named(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MeshError, match=f"{name}: (is damaged, or no mesh|meshio needs h5py|has no cells)"):
            volume_mesh(tmp_path / name)

    def test_cut_off_ones_are_named(self, tmp_path: Path) -> None:
        path = written(grouped(cube("triangle", 2)), tmp_path / "a.msh")
        whole = path.read_bytes()
        for share in (0.3, 0.6, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(MeshError, match=r"a.msh: "):
                volume_mesh(path)

    def test_others(self, tmp_path: Path) -> None:
        with pytest.raises(MeshError, match=r"a.stl: a mesh of cells must be a .msh, .vtu, .xdmf file"):
            volume_mesh(tmp_path / "a.stl")
        with pytest.raises(MeshError, match=r"a.msh: no such file"):
            volume_mesh(tmp_path / "a.msh")
        os.mkfifo(tmp_path / "b.msh")
        with pytest.raises(MeshError, match=r"b.msh: is not a regular file"):
            volume_mesh(tmp_path / "b.msh")
        with pytest.raises(TypeError, match=r"a path, a meshio.Mesh or a mesh of scikit-fem, got int"):
            volume_mesh(3)
        with pytest.raises(MeshError, match=r"is a MeshTri2; known are MeshTri1"):
            volume_mesh(skfem.MeshTri2())

    def test_xdmf(self, tmp_path: Path) -> None:
        pytest.importorskip("h5py")  # without which meshio reads no XDMF
        content = grouped(cube("triangle", 2))
        meshio.xdmf.write(tmp_path / "a.xdmf", content)
        assert set(volume_mesh(tmp_path / "a.xdmf").cell_tags) == {"1", "2"}

    def test_xdmf_without_h5py_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "h5py", None)
        (tmp_path / "a.xdmf").write_text(
            '<Xdmf Version="3.0"><Domain><Grid Name="Grid"><Geometry GeometryType="XY"><DataItem DataType="Float" '
            'Dimensions="1 2" Format="XML" Precision="8">0 0</DataItem></Geometry></Grid></Domain></Xdmf>'
        )
        with pytest.raises(MeshError, match=r"a.xdmf: meshio needs h5py for xdmf: pip install h5py"):
            volume_mesh(tmp_path / "a.xdmf")
