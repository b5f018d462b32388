"""VTK files: what is written is read back by the rules of the format, byte by byte; a failure leaves the old file."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import meshio
import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.pde import icosphere, swirling_flow, vtk, write_pvd, write_vti, write_vtu
from deepcd.pde.grids import Grid

RNG = np.random.default_rng(0)
BALL = icosphere(1)


class Image(NamedTuple):
    """What a .vti file says."""

    extent: list[int]
    origin: list[float]
    spacing: list[float]
    arrays: dict[str, NDArray[Any]]  # (n2, n1, n0) or with components behind


def read(path: Path) -> Image:
    """Read image data as the format is described, header type and compression as declared."""
    content = path.read_bytes()
    start, _, rest = content.partition(b'<AppendedData encoding="raw">\n_')
    data, _, end = rest.rpartition(b"\n</AppendedData>")
    root = ET.fromstring(start + b"<AppendedData>" + b"</AppendedData>" + end)
    assert (root.tag, root.attrib["type"], root.attrib["version"]) == ("VTKFile", "ImageData", "1.0")
    assert (root.attrib["byte_order"], root.attrib["header_type"]) == ("LittleEndian", "UInt64")
    assert root.attrib.get("compressor") in (None, "vtkZLibDataCompressor")
    (image,) = root.iter("ImageData")
    (piece,) = image
    assert piece.attrib["Extent"] == image.attrib["WholeExtent"]
    extent = [int(x) for x in piece.attrib["Extent"].split()]
    shape = [high - low for low, high in zip(extent[::2], extent[1::2], strict=True)]
    arrays, used = {}, 0
    for tag in piece.iterfind("CellData/DataArray"):
        assert tag.attrib["format"] == "appended"
        at = int(tag.attrib["offset"])
        assert at == used
        if "compressor" in root.attrib:
            blocks, size, last = struct.unpack_from("<3Q", data, at)
            lengths = struct.unpack_from(f"<{blocks}Q", data, at + 24)
            used, raw = at + 24 + 8 * blocks, b""
            for i, length in enumerate(lengths):
                block = zlib.decompress(data[used : used + length])
                assert len(block) == (last if i == blocks - 1 and last else size)
                raw, used = raw + block, used + length
        else:
            (length,) = struct.unpack_from("<Q", data, at)
            raw, used = data[at + 8 : at + 8 + length], at + 8 + length
        dtype = {"Float32": "<f4", "Float64": "<f8", "UInt8": "u1"}[tag.attrib["type"]]
        components = int(tag.attrib["NumberOfComponents"])
        field = np.frombuffer(raw, dtype).reshape(*shape[::-1], components)
        arrays[tag.attrib["Name"]] = field[..., 0] if components == 1 else field
    assert used == len(data)
    origin, spacing = ([float(x) for x in image.attrib[name].split()] for name in ("Origin", "Spacing"))
    return Image(extent, origin, spacing, arrays)


@pytest.mark.parametrize("compress", [False, True])
class TestImages:
    def test_round_trip(self, tmp_path: Path, compress: bool) -> None:
        shape = (5, 4, 3)
        scalars = {
            "p": RNG.standard_normal(shape),
            "smoke density": RNG.standard_normal(shape).astype("f4"),
            'a<b & "c"': RNG.integers(0, 255, shape).astype("u1"),
            "solid": RNG.random(shape) < 0.5,
            "stored otherwise": np.asfortranarray(RNG.standard_normal(shape)).astype(">f4"),
            "∂u/∂t": RNG.standard_normal((3, 4, 5)).T[:, ::-1],
        }
        velocity = tuple(RNG.standard_normal(shape).astype("f4") for _ in range(3))
        path = tmp_path / "a.vti"
        write_vti(path, {**scalars, "u": velocity}, 0.1, origin=(1, -2.5, 1e-3), compress=compress)
        image = read(path)
        assert image[:3] == ([0, 5, 0, 4, 0, 3], [1, -2.5, 1e-3], [0.1] * 3)
        assert list(image.arrays) == [*scalars, "u"]
        for name, values in scalars.items():
            np.testing.assert_array_equal(image.arrays[name], values.T)
            assert image.arrays[name].dtype.itemsize == values.dtype.itemsize
        np.testing.assert_array_equal(image.arrays["u"], np.stack([u.T for u in velocity], axis=-1), strict=True)

    def test_two_dimensions_are_one_layer(self, tmp_path: Path, compress: bool) -> None:
        p, u = RNG.standard_normal((4, 3)), (RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)))
        write_vti(tmp_path / "a.vti", {"p": p, "u": u}, 0.5, origin=(1, 2), compress=compress)
        image = read(tmp_path / "a.vti")
        assert image[:3] == ([0, 4, 0, 3, 0, 1], [1, 2, 0], [0.5] * 3)
        np.testing.assert_array_equal(image.arrays["p"][0], p.T)
        np.testing.assert_array_equal(image.arrays["u"][0], np.stack([u[0].T, u[1].T, 0 * p.T], axis=-1))

    def test_a_flow(self, tmp_path: Path, compress: bool) -> None:
        """Face velocities, averaged to the centres; NaN and Inf are written as they are."""
        grid = Grid(np.zeros((6, 5, 4), dtype=np.uint8), spacing=0.25)
        faces = swirling_flow(grid)
        u = tuple((np.delete(f, -1, d) + np.delete(f, 0, d)) / 2 for d, f in enumerate(faces))
        u[0][0, 0, :2] = np.nan, np.inf
        write_vti(tmp_path / "a.vti", {"cells": grid.cells, "u": u}, grid.spacing, compress=compress)
        arrays = read(tmp_path / "a.vti").arrays
        np.testing.assert_array_equal(arrays["u"][1, 2, 3], [component[3, 2, 1] for component in u])
        np.testing.assert_array_equal(arrays["u"][:2, 0, 0, 0], [np.nan, np.inf])


def test_values_at_nodes_with_lengths_of_their_own(tmp_path: Path) -> None:
    u = RNG.standard_normal((4, 3))
    write_vti(tmp_path / "a.vti", {"u": u}, (0.5, 2), origin=(1, 2), nodes=True)
    content = (tmp_path / "a.vti").read_bytes()
    assert b'<ImageData WholeExtent="0 3 0 2 0 0" Origin="1.0 2.0 0.0" Spacing="0.5 2.0 2.0">' in content
    assert b"<PointData>" in content
    assert u.T.tobytes() in content


def test_the_layout_of_bytes(tmp_path: Path) -> None:
    """Spelled out as in the description of the format: first axis fastest, components next to each other."""
    mask, u = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8), np.arange(6, dtype=np.float32).reshape(2, 3)
    write_vti(tmp_path / "a.vti", {"mask": mask, "u": (u, u + 10)})
    content = (tmp_path / "a.vti").read_bytes()
    assert content.startswith(
        b'<?xml version="1.0"?>\n<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian"'
    )
    assert b'<ImageData WholeExtent="0 2 0 3 0 1" Origin="0.0 0.0 0.0" Spacing="1.0 1.0 1.0">' in content
    assert b'<DataArray type="UInt8" Name="mask" NumberOfComponents="1" format="appended" offset="0"/>' in content
    assert b'<DataArray type="Float32" Name="u" NumberOfComponents="3" format="appended" offset="14"/>' in content
    vectors = [(0, 10, 0), (3, 13, 0), (1, 11, 0), (4, 14, 0), (2, 12, 0), (5, 15, 0)]
    expected = struct.pack("<Q6B", 6, 1, 4, 2, 5, 3, 6) + struct.pack("<Q18f", 72, *sum(vectors, ()))
    assert content.endswith(b'<AppendedData encoding="raw">\n_' + expected + b"\n</AppendedData>\n</VTKFile>\n")


@pytest.mark.parametrize("cells", [1, 15, 16, 17, 32, 40])
def test_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """The size of the last one is that of a partial one, or zero."""
    monkeypatch.setattr(vtk, "BLOCK", 16)
    values = RNG.integers(0, 255, (cells, 1)).astype("u1")
    write_vti(tmp_path / "a.vti", {"a": values}, compress=True)
    np.testing.assert_array_equal(read(tmp_path / "a.vti").arrays["a"], values.T[None])
    header = (tmp_path / "a.vti").read_bytes().partition(b"\n_")[2]
    assert struct.unpack_from("<3Q", header) == (-(-cells // 16), 16, cells % 16)


class TestMalformedArguments:
    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({}, "one or more"),
            ({"a": np.zeros(3)}, r"'a': \[\(3,\)\]"),
            ({"a": np.zeros((2, 2, 2, 2))}, "in 2D or 3D"),
            ({"a": np.zeros((2, 0))}, "shape of a grid"),
            ({"a": np.zeros((2, 2)), "b": np.zeros((2, 3))}, r"\(2, 2\).*\(2, 3\)"),
            ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2, 1))}, r"\(2, 2, 1\)"),
            ({"u": (np.zeros((2, 2)), np.zeros((3, 2)))}, r"\(3, 2\)"),
            ({"u": (np.zeros((2, 2)),) * 3}, "a vector in 2D has 2 components, but u has 3"),
            ({"u": ()}, "one or more"),
            ({"a": np.zeros((2, 2), dtype=int)}, "float32, float64, uint8 or bool, but a is of int64"),
            ({"a": np.zeros((2, 2), dtype=complex)}, "complex128"),
            ({"a": np.array([["x"]])}, "<U1"),
            ({"": np.zeros((2, 2))}, "name of an array must be printable, got ''"),
            ({"a\0": np.zeros((2, 2))}, "printable"),
        ],
    )
    def test_arrays(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_vti(tmp_path / "a.vti", arrays)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"spacing": 0}, "spacing must be a positive finite length, or one per axis, got 0"),
            ({"spacing": (1.0, 1.0, 1.0)}, "one per axis, got"),
            ({"spacing": (1.0, -1.0)}, "one per axis, got"),
            ({"spacing": np.nan}, "spacing"),
            ({"origin": (0, 0, 0)}, r"origin must be 2 finite coordinates, got \(0, 0, 0\)"),
            ({"origin": (0, np.inf)}, "origin"),
        ],
    )
    def test_the_others(self, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_vti(tmp_path / "a.vti", {"a": np.zeros((2, 2))}, **arguments)

    def test_names_of_files(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must end with \.vti.* got .*a\.vtk"):
            write_vti(tmp_path / "a.vtk", {"a": np.zeros((2, 2))})
        with pytest.raises(ValueError, match=r"must end with \.vtu"):
            write_vtu(tmp_path / "a.vti", BALL)
        with pytest.raises(ValueError, match=r"must end with \.pvd"):
            write_pvd(tmp_path / "a", [])

    def test_values_on_surfaces(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"len\(points\) = 42.* = 80"):
            write_vtu(tmp_path / "a.vtu", BALL, point_data={"a": np.zeros(80)})
        with pytest.raises(ValueError, match=r"has length 80.*has length 42"):
            write_vtu(tmp_path / "a.vtu", BALL, cell_data={"a": np.zeros(42)})

    def test_times(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"times must be finite, got nan for b\.vti"):
            write_pvd(tmp_path / "a.pvd", [(0, "a.vti"), (np.nan, "b.vti")])


def test_surfaces(tmp_path: Path) -> None:
    data = {"height": BALL.vertices[:, 2], "normal": BALL.vertices.astype("f4")}
    write_vtu(tmp_path / "a.vtu", BALL, point_data=data, cell_data={"number": np.arange(80)})
    mesh = meshio.vtu.read(tmp_path / "a.vtu")
    np.testing.assert_array_equal(mesh.points, BALL.vertices)
    np.testing.assert_array_equal(mesh.cells_dict["triangle"], BALL.triangles)
    np.testing.assert_array_equal(mesh.cell_data["number"][0], np.arange(80))
    for name, values in data.items():
        np.testing.assert_array_equal(mesh.point_data[name], values, strict=True)


def test_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps").mkdir()
    steps: list[tuple[float, str | Path]] = [
        (0, tmp_path / "steps/a&1.vti"),
        (np.float64(0.1), tmp_path / "steps/a 2.vti"),
        (1e-7, str(tmp_path / "b.vti")),
    ]
    write_pvd(tmp_path / "run.pvd", steps)
    monkeypatch.chdir(tmp_path / "steps")
    write_pvd("../again.pvd", ((time, os.path.relpath(file)) for time, file in steps))
    assert (tmp_path / "again.pvd").read_bytes() == (tmp_path / "run.pvd").read_bytes()
    root = ET.parse(tmp_path / "run.pvd").getroot()
    assert (root.tag, root.attrib["type"]) == ("VTKFile", "Collection")
    found = [(float(tag.attrib["timestep"]), tag.attrib["file"]) for tag in root.iterfind("Collection/DataSet")]
    assert found == [(0, "steps/a&1.vti"), (0.1, "steps/a 2.vti"), (1e-7, "b.vti")]


WRITE: dict[str, Callable[[Path], None]] = {
    "a.vti": lambda path: write_vti(path, {"a": np.zeros((2, 2))}),
    "a.vtu": lambda path: write_vtu(path, BALL),
    "a.pvd": lambda path: write_pvd(path, []),
}


@pytest.mark.parametrize("name", WRITE)
class TestFailures:
    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_the_old_file_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: str) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        (tmp_path / name).write_bytes(b"old")
        with monkeypatch.context() as patched:
            patched.setattr(os, step, full)
            with pytest.raises(OSError, match="No space left on device") as caught:
                WRITE[name](tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
        WRITE[name](tmp_path / name)
        assert [path.read_bytes()[:5] for path in tmp_path.iterdir()] in ([b"<?xml"], [b"<VTKF"])

    def test_no_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            WRITE[name](tmp_path / "none" / name)
        assert caught.value.filename == str(tmp_path / "none" / name)
