"""Surface meshes from files that anybody may have written: STL, PLY and Wavefront OBJ.

`deepcd.pde.stl` reads STL. meshio reads the others, by its reader of the file's format, since its general reader
prints errors and ends the process; before that, their text is brought into the one form that it takes.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.extras import require
from deepcd.pde.meshes import Mesh, MeshError
from deepcd.pde.stl import StlError, triangles_of_stl

POLYGONS = ("triangle", "quad", "polygon")
# The format's first description says vertex_index, but meshio knows only the other name in use.
PLY_WORDS = {"vertex_index": "vertex_indices", "char": "int8", "ushort": "uint16", "int16": "short"}
PLY_FACES = re.compile(rb"(element face \d+\nproperty list \w+ \w+ vertex_indices\n)((?:property .*\n)*)")
Surface = tuple[NDArray[np.float64], NDArray[np.int64]]  # vertices, shape (n, 3), and triangles, shape (m, 3)


class _UnusableError(Exception):
    """The content of a file cannot be used; `read_mesh` adds the name of the file to the message."""


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a closed surface mesh, or refuse it.

    Parameters
    ----------
    path : path-like
        A .stl file (text or binary), a .ply file (likewise) or an .obj file. Faces of more than three vertices are
        split into triangles that share their first vertex. Vertices with the same coordinates become one, since STL
        repeats them for every triangle.

    Returns
    -------
    Mesh
        A watertight mesh whose triangles are counterclockwise seen from outside; those that were not have been turned.
        Its name is the path.

    Raises
    ------
    MeshError
        If the file is missing, damaged, not a regular file or not a mesh, or if the mesh has no triangles or only
        degenerate ones, has coordinates that are not finite, or is not a closed surface with an inside.

    Examples
    --------
    >>> import tempfile
    >>> import meshio
    >>> from deepcd.pde import box_mesh, read_mesh
    >>> brick = box_mesh((0, 0, 0), (2, 3, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/brick.stl"
    ...     meshio.stl.write(path, meshio.Mesh(brick.vertices, {"triangle": brick.triangles}), binary=True)
    ...     mesh = read_mesh(path)
    >>> len(mesh.vertices), mesh.volume
    (8, 24.0)
    """
    path = Path(path)
    reader = {".stl": _read_stl, ".ply": _read_ply, ".obj": _read_obj}.get(path.suffix.lower())
    if reader is None:
        raise MeshError(f"{path}: a mesh must be a .stl, .ply or .obj file")
    if reader is not _read_stl:
        require("meshio", extra="simulate", by="read_mesh")
    expected = f"a surface mesh in the {path.suffix[1:].upper()} format"
    try:
        if not path.exists():
            raise _UnusableError("no such file")
        if not path.is_file():  # reading a pipe may wait for ever, and a device may have no end
            raise _UnusableError("is not a regular file")
        with np.errstate(over="ignore"):  # damaged headers claim any size
            points, triangles = _merged(*reader(path))
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror}); give {expected}") from error
    except (_UnusableError, StlError) as error:
        raise MeshError(f"{path}: {error}; give {expected}") from error
    except MemoryError as error:
        raise MeshError(f"{path}: does not fit into memory; give a coarser mesh") from error
    except Exception as error:  # meshio documents no list of what it raises on malformed content
        raise MeshError(f"{path}: is not {expected} ({str(error)[:200] or type(error).__name__})") from error
    return Mesh(points, triangles, str(path)).oriented()


def _read_stl(path: Path) -> Surface:
    corners = triangles_of_stl(path.read_bytes(), str(path))
    if not len(corners):
        raise _UnusableError("has no triangles")
    return corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)


def _read_ply(path: Path) -> Surface:
    import meshio

    content = path.read_bytes()
    end = re.search(rb"^[ \t]*end_header[ \t\r]*\n", content, re.MULTILINE)
    if end is None:  # meshio would never stop looking for it
        raise _UnusableError("is no PLY file, or cut off in its header: it has no line end_header")
    header, body = _plain_header(content[: end.start()]), content[end.end() :]
    for count in re.findall(rb"element \w+ (\d+)", header):
        if int(count[:20]) > len(body):  # meshio allocates memory for them
            raise _UnusableError(f"claims {int(count[:20])} elements, but holds {len(body)} bytes")
    if b"\nformat ascii" in header:
        lines = [line for line in body.splitlines() if line.strip()]
        if PLY_FACES.search(header):  # whatever follows the vertices of a face, such as textures, is left out
            header, first = PLY_FACES.sub(rb"\1", header), int(re.findall(rb"element vertex (\d+)", header)[0])
            lines[first:] = [b" ".join((words := line.split())[: int(words[0]) + 1]) for line in lines[first:]]
        body = b"\n".join(lines)
    return _surface(meshio.ply.read(io.BytesIO(header + b"end_header\n" + body)))


def _plain_header(header: bytes) -> bytes:
    """Write the header of a PLY file as meshio takes it; elements after the faces, such as edges, are left out."""
    lines: list[str] = []
    elements: list[str] = []
    for line in header.decode("latin-1").splitlines():
        words = [PLY_WORDS.get(word, word) for word in line.split()]
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "element":
            elements += words[1:2]
            if elements != ["vertex", "face"][: len(elements)] and elements[:2] != ["vertex", "face"]:
                raise _UnusableError(f"holds elements called {' and '.join(elements)!r}, not vertex and then face")
        if len(elements) <= 2:
            lines.append(" ".join(words) + "\n")
    return "".join(lines).encode("latin-1")


def _read_obj(path: Path) -> Surface:
    import meshio

    # Only comments and names may be in another encoding.
    text = path.read_text(encoding="utf-8-sig", errors="replace").replace("\\\n", " ")
    # Normals and textures are left out: they are numbered separately, but meshio wants one of each per vertex.
    lines, count = [], 0
    for number, line in enumerate(text.split("\n"), 1):
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                lines.append(f"v {' '.join(str(float(word)) for word in words[:3])}\n")
                count += 1
            elif kind == "f":
                corners = [int(word.split("/")[0]) for word in words]
                # Negative numbers count from the last vertex before the face.
                lines.append(f"f {' '.join(str(i if i >= 0 else count + 1 + i) for i in corners)}\n")
        except ValueError:
            wanted = "three coordinates" if kind == "v" else "numbers of vertices"
            raise _UnusableError(f"is damaged in line {number}, {line.strip()[:60]!r}: expected {wanted}") from None
    return _surface(meshio.obj.read(io.StringIO("".join(lines))))


def _surface(content: Any) -> Surface:
    """Return what meshio read."""
    polygons = [np.asarray(block.data, dtype=np.int64) for block in content.cells if block.type in POLYGONS]
    if not polygons:
        raise _UnusableError("has no triangles")
    points = np.asarray(content.points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < 3:
        raise _UnusableError("has vertices without three coordinates")
    # Some programs write colours after the coordinates.
    return points[:, :3], np.vstack([_fans(block) for block in polygons])


def _fans(polygons: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split polygons, shape (m, k), into triangles, shape (m (k - 2), 3)."""
    if polygons.ndim != 2 or polygons.shape[1] < 3:
        raise _UnusableError(f"has faces of shape {polygons.shape[1:]}")
    fans = [polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)]
    return np.stack(fans, axis=1).reshape(-1, 3)


def _merged(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge vertices that have the same coordinates, and leave out those that belong to no triangle."""
    wrong = triangles[(triangles < 0) | (triangles >= len(points))]
    if wrong.size:
        raise _UnusableError(f"a face has vertex {wrong[0] + 1} of {len(points)}; relative numbers are not supported")
    used, number = np.unique(triangles, return_inverse=True)
    points = points[used] + 0.0  # so that -0 and 0 are the same bits
    order = np.lexsort(points.T)
    first = np.ones(len(order), dtype=bool)
    first[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    merged = np.empty(len(order), dtype=np.int64)
    merged[order] = np.cumsum(first) - 1
    return points[order[first]], merged[number].reshape(-1, 3)
