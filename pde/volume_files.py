"""Meshes of cells with tagged parts, from files of gmsh, VTU and XDMF, from meshio's objects and scikit-fem's.

meshio reads the files, by its reader of the file's format, since its general reader prints errors and ends the process.
What comes out of here is as it stands in the file: `deepcd.pde.volume_meshes` checks it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.extras import require
from deepcd.pde.meshes import MeshError

Indices = NDArray[np.int64]

FACETS = {"triangle": "line", "quad": "line", "tetra": "triangle", "hexahedron": "quad"}  # of each type of cell
AXES = {"vertex": 0, "line": 1, "triangle": 2, "quad": 2, "tetra": 3, "hexahedron": 3}
READERS = {".msh": "gmsh", ".vtu": "vtu", ".xdmf": "xdmf"}


@dataclass(frozen=True, eq=False)
class Content:
    """What a mesh consists of, before anything has been checked but the types of its cells.

    Attributes
    ----------
    name : str
        What messages call the mesh: its path, if it has one.
    points : ndarray of float64, shape (n, 2) or (n, 3)
        Coordinates of its nodes.
    kind : str
        Type of its cells, a key of `FACETS`.
    cells : ndarray of int64, shape (m, k)
        Nodes of each cell, in the order of scikit-fem.
    cell_tags : dict of str to ndarray of int64
        Cells of each tagged part.
    facet_tags : dict of str to ndarray of int64, shape (f, j)
        Nodes of each facet of each tagged part.
    other_tags : dict of str to str
        What else tags lie on, by their names.
    """

    name: str
    points: NDArray[np.float64]
    kind: str
    cells: Indices
    cell_tags: dict[str, Indices] = field(default_factory=dict)
    facet_tags: dict[str, Indices] = field(default_factory=dict)
    other_tags: dict[str, str] = field(default_factory=dict)


def content_of(mesh: Any) -> Content:
    """Return the content of a file or an object.

    Parameters
    ----------
    mesh : path-like, meshio.Mesh or skfem.Mesh

    Returns
    -------
    Content

    Raises
    ------
    MeshError
        If the file cannot be read, or if the cells are not of one type that is known.
    TypeError
        If it is none of these.
    """
    require("skfem", "meshio", extra="fem", by="fem")
    import meshio
    import skfem

    if isinstance(mesh, str | os.PathLike):
        return _of_meshio(_read(Path(mesh)), str(mesh))
    if isinstance(mesh, meshio.Mesh):
        return _of_meshio(mesh, "the mesh")
    if isinstance(mesh, skfem.Mesh):
        return _of_skfem(mesh, "the mesh")
    raise TypeError(f"mesh must be a path, a meshio.Mesh or a mesh of scikit-fem, got {type(mesh).__name__}")


def _read(path: Path) -> Any:
    """Return what meshio reads from a file."""
    import meshio

    form = READERS.get(path.suffix.lower())
    if form is None:
        raise MeshError(f"{path}: a mesh of cells must be a {', '.join(READERS)} file")
    try:
        if not path.exists():
            raise MeshError(f"{path}: no such file; give a mesh that {form} describes")
        if not path.is_file():  # reading a pipe may wait for ever, and a device may have no end
            raise MeshError(f"{path}: is not a regular file; give a mesh that {form} describes")
        return getattr(meshio, form).read(path)
    except MeshError:
        raise
    except ModuleNotFoundError as error:
        raise MeshError(f"{path}: meshio needs {error.name} for {form}: pip install {error.name}") from error
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise MeshError(f"{path}: does not fit into memory; give a coarser mesh") from error
    except (Exception, SystemExit) as error:  # meshio documents no list of what it raises on malformed content
        reason = str(error)[:200] or type(error).__name__
        raise MeshError(f"{path}: is damaged, or no mesh in the {form} format ({reason})") from error


def _of_meshio(mesh: Any, name: str) -> Content:
    """Return the content of a meshio.Mesh."""
    kind = _kind(mesh, name)
    columns = {"triangle": 3, "quad": 4, "tetra": 4, "hexahedron": 8}[kind]
    cells = _rows(mesh, kind, columns)
    cell_tags: dict[str, Indices] = {}
    facet_tags: dict[str, Indices] = {}
    other_tags: dict[str, str] = {}
    facets = _rows(mesh, FACETS[kind], {"line": 2, "triangle": 3, "quad": 4}[FACETS[kind]])
    for tag, parts in _tags(mesh):
        numbers: dict[str, Indices] = {}
        starts: Counter[str] = Counter()
        for block, part in zip(mesh.cells, parts, strict=True):
            members = np.asarray(part, dtype=np.int64).ravel() + starts[block.type]
            starts[block.type] += len(block.data)
            if members.size:
                numbers[block.type] = np.concatenate([numbers.get(block.type, members[:0]), members])
        for where, members in numbers.items():
            if where == kind:
                cell_tags[tag] = members
            elif where == FACETS[kind]:
                facet_tags[tag] = facets[members]
        if not numbers.keys() & {kind, FACETS[kind]}:
            other_tags[tag] = (
                "lies on cells of type " + ", ".join(numbers) if numbers else "has nothing that lies on it"
            )
    content = Content(name, np.asarray(mesh.points), kind, cells, cell_tags, facet_tags, other_tags)
    return _with_tags_of_skfem(mesh, content)


def _kind(mesh: Any, name: str) -> str:
    """Return the type of the cells of a meshio.Mesh."""
    counts: Counter[str] = Counter()
    for block in mesh.cells:
        counts[block.type] += len(block.data)
    counts = +counts  # without empty blocks
    unknown = [kind for kind in counts if kind not in AXES]
    if unknown:
        advice = "triangles, quadrilaterals, tetrahedra and hexahedra of straight edges are known"
        if any(kind[-1].isdigit() for kind in unknown):
            advice += "; save the mesh with cells of first order, and give order=2 for quadratic functions on them"
        raise MeshError(f"{name}: has cells of type {', '.join(sorted(unknown))}; {advice}")
    axes = max((AXES[kind] for kind in counts), default=0)
    kinds = [kind for kind in counts if AXES[kind] == axes]
    if axes < 2:
        found = ", ".join(f"{count} of type {kind}" for kind, count in counts.items()) or "none"
        raise MeshError(f"{name}: has no cells in two or three dimensions (found: {found})")
    if len(kinds) > 1:
        mixed = " and ".join(f"{counts[kind]} of type {kind}" for kind in kinds)
        raise MeshError(
            f"{name}: mixes cells, {mixed}; give a mesh of one type of cell, such as triangles or tetrahedra"
        )
    return kinds[0]


def _rows(mesh: Any, kind: str, columns: int) -> Indices:
    """Return the nodes of all cells of one type, in the order of scikit-fem."""
    blocks = [np.asarray(block.data) for block in mesh.cells if block.type == kind]
    rows = np.concatenate([np.empty((0, columns), dtype=np.int64), *blocks]).astype(np.int64, copy=False)
    if kind == "hexahedron":
        from skfem.io.meshio import INV_HEX_MAPPING

        rows = rows[:, INV_HEX_MAPPING[:8]]
    return rows


def _tags(mesh: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield the names of tagged parts, and the members of each block of cells; numbers come before names."""
    physical = mesh.cell_data.get("gmsh:physical")
    names = {name: np.asarray(value).ravel() for name, value in (mesh.field_data or {}).items()}
    names = {name: value for name, value in names.items() if value.size == 2 and np.issubdtype(value.dtype, np.integer)}
    if physical is not None:
        axes = [AXES[block.type] for block in mesh.cells]
        physical = [np.ravel(part).astype(np.int64) for part in physical]  # some formats keep floats
        for number in np.unique(np.concatenate(physical)):
            if number != 0:  # zero says that a cell belongs to no group
                yield str(number), [np.flatnonzero(part == number) for part in physical]
        for name, (number, axis) in names.items():
            yield (
                name,
                [np.flatnonzero((part == number) & (axis == own)) for part, own in zip(physical, axes, strict=True)],
            )
    for name, parts in mesh.cell_sets.items():
        if name.startswith("gmsh:"):  # meshio keeps the entities of gmsh's geometry there
            continue
        filled = [[] if part is None else part for part in parts]
        if any(len(part) for part in filled) or name not in names:  # they hold every group of a cell, cell_data one
            yield name, filled


def _with_tags_of_skfem(mesh: Any, content: Content) -> Content:
    """Return the content with the tags that scikit-fem writes into files, as bits in data of cells."""
    own: Mapping[str, Any] = {name: parts for name, parts in mesh.cell_data.items() if name.startswith("skfem:")}
    blocks = [block for block in mesh.cells if block.type == content.kind]
    if not own or len(blocks) != 1:
        return content
    import meshio
    from skfem.io.meshio import from_meshio

    at = next(i for i, block in enumerate(mesh.cells) if block.type == content.kind)
    alone = meshio.Mesh(
        content.points, [(content.kind, blocks[0].data)], cell_data={name: [parts[at]] for name, parts in own.items()}
    )
    found = _of_skfem(from_meshio(alone), content.name)
    content.cell_tags.update(found.cell_tags)
    content.facet_tags.update(found.facet_tags)
    return content


def _of_skfem(mesh: Any, name: str) -> Content:
    """Return the content of a mesh of scikit-fem."""
    import skfem

    kinds = {
        skfem.MeshTri1: "triangle", skfem.MeshQuad1: "quad", skfem.MeshTet1: "tetra", skfem.MeshHex1: "hexahedron"
    }  # fmt: skip
    if type(mesh) not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise MeshError(f"{name}: is a {type(mesh).__name__}; known are {known}")
    cell_tags = {tag: np.asarray(cells, dtype=np.int64) for tag, cells in (mesh.subdomains or {}).items()}
    facet_tags = {
        tag: np.asarray(mesh.facets[:, np.asarray(facets)].T, dtype=np.int64)
        for tag, facets in (mesh.boundaries or {}).items()
    }
    other_tags = {
        tag: "has nothing that lies on it" for tags in (cell_tags, facet_tags) for tag in tags if not len(tags[tag])
    }
    return Content(
        name,
        mesh.p.T,
        kinds[type(mesh)],
        np.asarray(mesh.t.T, dtype=np.int64),
        {tag: cells for tag, cells in cell_tags.items() if cells.size},
        {tag: facets for tag, facets in facet_tags.items() if facets.size},
        other_tags,
    )
