"""Surface meshes from files that anybody may have written: STL, PLY and Wavefront OBJ.

meshio reads them, by its reader of the file's format: its general reader prints errors and ends the process.
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

POLYGONS = ("triangle", "quad", "polygon")


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
    require("meshio", extra="simulate", by="read_mesh")
    expected = f"a surface mesh in the {path.suffix[1:].upper()} format"
    try:
        if not path.exists():
            raise _UnusableError("no such file")
        if not path.is_file():  # reading a pipe may wait for ever, and a device may have no end
            raise _UnusableError("is not a regular file")
        with np.errstate(over="ignore"):  # damaged headers claim any size
            content = reader(path)
        polygons = [np.asarray(block.data, dtype=np.int64) for block in content.cells if block.type in POLYGONS]
        if not polygons:
            raise _UnusableError("has no triangles")
        points = np.asarray(content.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] < 3:
            raise _UnusableError("has vertices without three coordinates")
        # Some programs write colours after the coordinates.
        points, triangles = _merged(points[:, :3], np.vstack([_fans(block) for block in polygons]))
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror}); give {expected}") from error
    except _UnusableError as error:
        raise MeshError(f"{path}: {error}; give {expected}") from error
    except MemoryError as error:
        raise MeshError(f"{path}: does not fit into memory; give a coarser mesh") from error
    except Exception as error:  # meshio documents no list of what it raises on malformed content
        raise MeshError(f"{path}: is not {expected} ({str(error)[:200] or type(error).__name__})") from error
    return Mesh(points, triangles, str(path)).oriented()


def _read_stl(path: Path) -> Any:
    import meshio

    return meshio.stl.read(path)


def _read_ply(path: Path) -> Any:
    import meshio

    content = path.read_bytes()
    end = re.search(rb"^[ \t]*end_header[ \t\r]*\n", content, re.MULTILINE)
    if end is None:  # meshio would never stop looking for it
        raise _UnusableError("is no PLY file, or cut off in its header: it has no line end_header")
    header, rest = content[: end.start()], content[end.start() :]
    for count in re.findall(rb"element \w+ +(\d+)", header):
        if int(count[:20]) > len(rest):  # meshio allocates memory for them
            raise _UnusableError(f"claims {int(count[:20])} elements, but holds {len(rest)} bytes")
    # The format's first description says vertex_index, but meshio knows only the other name in use.
    return meshio.ply.read(io.BytesIO(re.sub(rb"\bvertex_index\b", b"vertex_indices", header) + rest))


def _read_obj(path: Path) -> Any:
    import meshio

    # Only comments and names may be in another encoding.
    with path.open(encoding="utf-8", errors="replace") as stream:
        # Normals and textures are left out: they are numbered separately, but meshio wants one of each per vertex.
        lines = [line for line in stream if line.split(maxsplit=1)[:1] in (["v"], ["f"])]
    return meshio.obj.read(io.StringIO("".join(lines)))


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
