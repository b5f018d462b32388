"""Small meshes with tagged parts, as scikit-fem makes them, and as files of several formats that hold the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import meshio
import numpy as np
import skfem
from skfem.io.meshio import HEX_MAPPING

KINDS = {"triangle": skfem.MeshTri, "quad": skfem.MeshQuad, "tetra": skfem.MeshTet, "hexahedron": skfem.MeshHex}
SIDES = {"left": (0, 0.0), "right": (0, 1.0), "bottom": (1, 0.0), "top": (1, 1.0), "front": (2, 0.0), "back": (2, 1.0)}
FACET = {"triangle": "line", "quad": "line", "tetra": "triangle", "hexahedron": "quad"}


def cube(kind: str, cells: int, *, distorted: bool = False) -> Any:
    """Return the unit square or cube, its sides tagged, with tags "west" and "east" of cells; nodes inside may move."""
    d = 2 if kind in ("triangle", "quad") else 3
    mesh = KINDS[kind].init_tensor(*[np.linspace(0, 1, cells + 1)] * d)
    if distorted:
        p = mesh.p.copy()
        inside = ((p > 1e-9) & (p < 1 - 1e-9)).all(axis=0)
        p[:, inside] += np.random.default_rng(0).uniform(-0.2, 0.2, (d, int(inside.sum()))) / cells
        mesh = type(mesh)(p, mesh.t)
    # scikit-fem numbers the facets of distorted meshes by nodes, too, so that tags are set at the end.
    sides = {name: (axis, at) for name, (axis, at) in SIDES.items() if axis < d}
    centre = mesh.p[:, mesh.t].mean(axis=1)
    return mesh.with_boundaries({
        name: (lambda x, axis=axis, at=at: np.abs(x[axis] - at) < 1e-9) for name, (axis, at) in sides.items()
    }).with_subdomains({"west": np.flatnonzero(centre[0] < 0.5), "east": np.flatnonzero(centre[0] >= 0.5)})  # fmt: skip


def kind_of(mesh: Any) -> str:
    return next(kind for kind, made in KINDS.items() if isinstance(mesh, made))


def grouped(mesh: Any) -> meshio.Mesh:
    """Return what gmsh would write: a block for each physical group, numbered from 1 in each dimension."""
    kind = kind_of(mesh)
    d = mesh.dim()
    names = {**mesh.boundaries, **mesh.subdomains}
    cells = mesh.t.T[:, HEX_MAPPING[:8]] if kind == "hexahedron" else mesh.t.T
    blocks, numbers, dims, fields = [], [], np.full((mesh.p.shape[1], 2), (d, 1)), {}
    for number, (name, members) in enumerate(mesh.boundaries.items(), 1):
        blocks.append((FACET[kind], mesh.facets[:, np.asarray(members)].T))
        numbers.append(np.full(len(members), number))
        fields[name] = np.array([number, d - 1])
    for number, (name, members) in enumerate(mesh.subdomains.items(), 1):
        blocks.append((kind, cells[members]))
        numbers.append(np.full(len(members), number))
        fields[name] = np.array([number, d])
    for (_, nodes), number in reversed(list(zip(blocks, numbers, strict=True))):
        dims[nodes.ravel()] = (d if nodes.shape[1] == cells.shape[1] else d - 1, number[0])
    assert len(names) == len(fields)
    points = np.zeros((mesh.p.shape[1], 3))
    points[:, :d] = mesh.p.T
    return meshio.Mesh(
        points,
        blocks,
        point_data={"gmsh:dim_tags": dims},
        cell_data={"gmsh:physical": numbers, "gmsh:geometrical": [part.copy() for part in numbers]},
        field_data=fields,
        cell_sets={"gmsh:bounding_entities": [np.array([], dtype=int)] * len(blocks)},
    )


def written(mesh: meshio.Mesh, path: Path, version: str = "2.2", *, binary: bool = False) -> Path:
    """Write a file by the format that its name says."""
    if path.suffix == ".msh":
        meshio.gmsh.write(path, mesh, fmt_version=version, binary=binary)
    else:
        meshio.vtu.write(path, meshio.Mesh(mesh.points, mesh.cells, cell_data=mesh.cell_data))
    return path
