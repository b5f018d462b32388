"""Files for ParaView and other programs that read VTK's XML formats: fields on grids, surfaces, and series in time.

The layout is that of "XML File Formats" in the VTK documentation, version 1.0 with headers of 64 bits. Arrays are
appended raw and little-endian, with the first axis fastest. Each array follows a header: the number of its bytes or, if
it is compressed, the number of its blocks, their size, that of a last partial block, and the compressed sizes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.extras import require
from deepcd.pde.files import replacing
from deepcd.pde.meshes import Mesh

BLOCK = 1 << 22  # bytes per compressed block, as in VTK
TYPES = {"f4": "Float32", "f8": "Float64", "u1": "UInt8", "b1": "UInt8"}

FilePath = str | os.PathLike[str]


def write_vti(
    path: FilePath,
    arrays: Mapping[str, ArrayLike | tuple[ArrayLike, ...]],
    spacing: float | Sequence[float] = 1.0,
    *,
    origin: Sequence[float] | None = None,
    compress: bool = False,
    nodes: bool = False,
) -> None:
    """Write fields on the cells of a grid, or on its nodes, as image data.

    Parameters
    ----------
    path : path-like
        A .vti file in a folder that exists. A crash at any moment leaves the old file or the new one, each whole.
    arrays : mapping of str to array_like or tuple of array_like
        Values at the centres of cells, by name, of type float32, float64, uint8 or bool: an array of the shape of the
        grid, (n0, n1) or (n0, n1, n2), or, for a vector, a tuple of one such array per axis. A grid in 2D becomes one
        layer of cells, and its vectors get a third component of zero.
    spacing : float or sequence of float, default 1.0
        Edge length of a cell, in units of length; one for all axes, or one per axis.
    origin : sequence of float, optional
        The low corner of the first cell, one coordinate per axis, in units of length. Default: zero.
    compress : bool, default False
        Whether to compress by zlib, at about 50 MB per second.
    nodes : bool, default False
        Whether the values are those at the nodes of the grid, of which there is one more than cells along each axis.

    Raises
    ------
    ValueError
        If an argument is malformed.
    OSError
        If the file cannot be written; the old file stays.

    Examples
    --------
    >>> import tempfile
    >>> from deepcd.pde import ball, domain, write_vti
    >>> grid = domain((16, 16, 16), solid=ball((8, 8, 8), 4))
    >>> velocity = tuple(np.zeros(grid.shape, dtype=np.float32) for _ in range(3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flow.vti")
    ...     write_vti(path, {"cells": grid.cells, "velocity": velocity}, grid.spacing)
    ...     path.read_bytes().count(b"<DataArray")
    2
    """
    shape = _shape(arrays)
    steps = np.array(spacing, dtype=float)
    if steps.shape not in ((), (len(shape),)) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"spacing must be a positive finite length, or one per axis, got {spacing!r}")
    corner = np.zeros(len(shape)) if origin is None else np.asarray(origin, dtype=float)
    if corner.shape != (len(shape),) or not np.isfinite(corner).all():
        raise ValueError(f"origin must be {len(shape)} finite coordinates, got {origin!r}")

    tags, parts, offset = [], [], 0
    for name, value in arrays.items():
        field = _interleaved(name, value, len(shape))
        content = _compressed(field) if compress else [_header(field.nbytes), field.tobytes()]
        tags.append(
            f'<DataArray type="{TYPES[field.dtype.str[1:]]}" Name={quoteattr(name)} '
            f'NumberOfComponents="{field.shape[-1]}" format="appended" offset="{offset}"/>'
        )
        parts += content
        offset += sum(map(len, content))
    extent = " ".join(f"0 {n - nodes}" for n in (*shape, 1)[:3])
    low = " ".join(map(str, [*corner.tolist(), 0.0][:3]))
    edges = " ".join(map(str, [*np.broadcast_to(steps, len(shape)).tolist(), float(steps.max())][:3]))
    kind = "PointData" if nodes else "CellData"
    compressor = ' compressor="vtkZLibDataCompressor"' if compress else ""
    start = [
        '<?xml version="1.0"?>',
        f'<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64"{compressor}>',
        f'<ImageData WholeExtent="{extent}" Origin="{low}" Spacing="{edges}">',
        f'<Piece Extent="{extent}">',
        f"<{kind}>",
        *tags,
        f"</{kind}>",
        "</Piece>",
        "</ImageData>",
        '<AppendedData encoding="raw">',
        "_",
    ]
    with _replacing(path, ".vti") as temporary, temporary.open("xb") as stream:
        stream.write("\n".join(start).encode())
        stream.writelines(parts)
        stream.write(b"\n</AppendedData>\n</VTKFile>\n")


def write_vtu(
    path: FilePath,
    mesh: Mesh,
    *,
    point_data: Mapping[str, ArrayLike] | None = None,
    cell_data: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write a surface, such as an obstacle, with values on its vertices and triangles.

    Parameters
    ----------
    path : path-like
        A .vtu file in a folder that exists. A crash at any moment leaves the old file or the new one, each whole.
    mesh : Mesh
        The surface.
    point_data, cell_data : mapping of str to array_like, optional
        Values by name, one per vertex or triangle: shape (n,), or (n, 3) for vectors.

    Raises
    ------
    ValueError
        If an argument is malformed.
    OSError
        If the file cannot be written; the old file stays.

    Examples
    --------
    >>> import tempfile
    >>> import meshio
    >>> from deepcd.pde import icosphere, write_vtu
    >>> ball = icosphere(1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_vtu(f"{folder}/ball.vtu", ball, point_data={"height": ball.vertices[:, 2]})
    ...     meshio.vtu.read(f"{folder}/ball.vtu").point_data["height"].shape
    (42,)
    """
    require("meshio", extra="simulate", by="write_vtu")
    import meshio

    surface = meshio.Mesh(
        mesh.vertices,
        [("triangle", mesh.triangles)],
        point_data=dict(point_data or {}),
        cell_data={name: [values] for name, values in (cell_data or {}).items()},
    )
    with _replacing(path, ".vtu") as temporary:
        meshio.vtu.write(temporary, surface)


def write_cells(
    path: FilePath, points: NDArray[np.float64], kind: str, cells: NDArray[Any], point_data: Mapping[str, ArrayLike]
) -> None:
    """Write an unstructured mesh of cells of one type, with values on its nodes.

    Parameters
    ----------
    path : path-like
        A .vtu file in a folder that exists. A crash at any moment leaves the old file or the new one, each whole.
    points : ndarray of float64, shape (n, 3)
        Coordinates of the nodes.
    kind : str
        meshio's name of the type of cells, such as "tetra".
    cells : ndarray of int, shape (m, k)
        Nodes of each cell, in VTK's order.
    point_data : mapping of str to array_like, shape (n,)
        Values by name.

    Raises
    ------
    ValueError
        If the path ends otherwise.
    OSError
        If the file cannot be written; the old file stays.
    """
    require("meshio", extra="fem", by="write")
    import meshio

    mesh = meshio.Mesh(points, [(kind, cells)], point_data=dict(point_data))
    with _replacing(path, ".vtu") as temporary:
        meshio.vtu.write(temporary, mesh)


def write_pvd(path: FilePath, steps: Iterable[tuple[float, FilePath]]) -> None:
    """Write the list of the files of a time series, which ParaView opens as one data set.

    Parameters
    ----------
    path : path-like
        A .pvd file in a folder that exists. It may be written again after every step and is whole at any moment.
    steps : iterable of (float, path-like)
        Times and their files. The list has the files' paths relative to its own folder, so all can be moved together.

    Raises
    ------
    ValueError
        If an argument is malformed.
    OSError
        If the file cannot be written; the old file stays.

    Examples
    --------
    >>> import tempfile
    >>> from deepcd.pde import write_pvd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pvd(f"{folder}/run.pvd", [(0.1 * i, f"{folder}/flow_{i}.vti") for i in range(2)])
    ...     print(Path(folder, "run.pvd").read_text().splitlines()[3])
        <DataSet timestep="0.0" part="0" file="flow_0.vti" />
    """
    root = ET.Element("VTKFile", type="Collection", version="0.1", byte_order="LittleEndian")
    collection = ET.SubElement(root, "Collection")
    for time, file in steps:
        if not np.isfinite(time):
            raise ValueError(f"times must be finite, got {time!r} for {file}")
        name = Path(os.path.relpath(file, Path(path).parent)).as_posix()
        ET.SubElement(collection, "DataSet", timestep=str(float(time)), part="0", file=name)
    ET.indent(root)
    with _replacing(path, ".pvd") as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _shape(arrays: Mapping[str, ArrayLike | tuple[ArrayLike, ...]]) -> tuple[int, ...]:
    """Return the number of cells per axis of the grid that the fields lie on."""
    shapes = {}
    for name, value in arrays.items():
        if not name or not name.isprintable():
            raise ValueError(f"the name of an array must be printable, got {name!r}")
        shapes[name] = [np.shape(component) for component in (value if isinstance(value, tuple) else (value,))]
    distinct = {shape for several in shapes.values() for shape in several}
    if len(distinct) != 1 or len(min(distinct)) not in (2, 3) or 0 in min(distinct):
        raise ValueError(
            "arrays must be one or more, all of the shape of a grid in 2D or 3D, and a vector a tuple of as many such "
            f"arrays; got {shapes}"
        )
    return min(distinct)


def _interleaved(name: str, value: ArrayLike | tuple[ArrayLike, ...], ndim: int) -> NDArray[Any]:
    """Return the values in the order of the file: last axis, ..., first axis, component."""
    components = [np.asarray(component).T for component in (value if isinstance(value, tuple) else (value,))]
    if isinstance(value, tuple):
        if len(components) != ndim:
            raise ValueError(f"a vector in {ndim}D has {ndim} components, but {name} has {len(components)}")
        components += [np.zeros_like(components[0])] * (3 - ndim)
    field = np.stack(components, axis=-1)
    if field.dtype.str[1:] not in TYPES:
        raise ValueError(
            f"arrays must be of float32, float64, uint8 or bool, but {name} is of {field.dtype}; convert it"
        )
    return field.astype(field.dtype.newbyteorder("<"), copy=False)


def _compressed(field: NDArray[Any]) -> list[bytes]:
    """Return the header and the compressed blocks of a field."""
    content = field.tobytes()
    blocks = [zlib.compress(content[start : start + BLOCK]) for start in range(0, len(content), BLOCK)]
    return [_header(len(blocks), BLOCK, len(content) % BLOCK, *map(len, blocks)), *blocks]


def _header(*numbers: int) -> bytes:
    return np.array(numbers, dtype="<u8").tobytes()


def _replacing(path: FilePath, suffix: str) -> AbstractContextManager[Path]:
    """Check the suffix of a path and return `replacing` for it."""
    if Path(path).suffix != suffix:
        raise ValueError(f"path must end with {suffix}, by which programs know the format; got {path}")
    return replacing(path)
