"""Meshes of triangles, quadrilaterals, tetrahedra or hexahedra whose cells and facets are known to be sound.

Nodes that belong to no cell are left out, cells that are given twice are kept once (gmsh's format 2.2 writes a cell for
each group that it belongs to), and a plane mesh in space loses the axis along which it is constant. Clockwise and
mirrored cells do no harm, since integrals take the magnitude of the Jacobian; written files have all cells positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.meshes import MeshError
from deepcd.pde.volume_files import AXES, FACETS, Content, Indices, content_of

WHOLE = "boundary"  # the tag that every mesh has: all facets that belong to one cell only
FLAT = 1e-10  # extent along an axis, relative to the largest, below which the mesh is constant along it
BLOCK = 100_000  # cells whose Jacobians are in memory at a time
BASE = {"triangle": (1, 2), "quad": (1, 3), "tetra": (1, 2, 3), "hexahedron": (1, 3, 4)}  # VTK's neighbours of corner 0
MIRROR = {  # how nodes of a cell are ordered the other way round, in VTK's order, by the type and number of nodes
    ("triangle", 3): (0, 2, 1),
    ("triangle", 6): (0, 2, 1, 5, 4, 3),
    ("quad", 4): (0, 3, 2, 1),
    ("tetra", 4): (0, 2, 1, 3),
    ("tetra", 10): (0, 2, 1, 3, 6, 5, 4, 7, 9, 8),
    ("hexahedron", 8): (4, 5, 6, 7, 0, 1, 2, 3),
}
ROUNDING = 16 * np.finfo(np.float64).eps  # of an edge or a coordinate, which makes up the height of a degenerate cell


@dataclass(frozen=True, eq=False, repr=False)
class VolumeMesh:
    """A mesh that elements can be put on.

    Attributes
    ----------
    name : str
        What messages call it.
    kind : str
        "triangle", "quad", "tetra" or "hexahedron".
    mesh : skfem.Mesh
        Its cells, facets and nodes, without tags.
    cell_tags, facet_tags : dict of str to ndarray of int64
        Numbers of the cells and of the facets of each tagged part, ascending.
    other_tags : dict of str to str
        Why other tags are of no use, by their names.
    axes : tuple of int
        Which axes of space the coordinates belong to.
    origin : ndarray of float64, shape (3,)
        Coordinates along the axes that were left out; zero along the others.
    """

    name: str
    kind: str
    mesh: Any
    cell_tags: dict[str, Indices]
    facet_tags: dict[str, Indices]
    other_tags: dict[str, str]
    axes: tuple[int, ...]
    origin: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"VolumeMesh({self.name!r}, {self.mesh.nelements} cells of type {self.kind}; {self.tags})"

    @property
    def tags(self) -> str:
        """The tags that there are, in words."""
        facets, cells = (", ".join(map(repr, _names(tags))) or "none" for tags in (self.facet_tags, self.cell_tags))
        return f"tags of boundary parts: {facets}; of cells: {cells}; {WHOLE!r} is the whole boundary"

    def facets_of(self, tag: str, role: str) -> Indices:
        """Return the numbers of the facets with a tag, which is named for a role such as "dirichlet"."""
        if tag in self.facet_tags:
            return self.facet_tags[tag]
        if tag == WHOLE:
            return np.asarray(self.mesh.boundary_facets(), dtype=np.int64)
        where = "is a tag of cells, not of parts of the boundary" if tag in self.cell_tags else None
        raise self._missing(tag, role, where)

    def cells_of(self, tag: str, role: str) -> Indices:
        """Return the numbers of the cells with a tag, which is named for a role such as "coefficient"."""
        if tag in self.cell_tags:
            return self.cell_tags[tag]
        where = "is a tag of a part of the boundary, not of cells" if tag in self.facet_tags else None
        raise self._missing(tag, role, where)

    def _missing(self, tag: object, role: str, where: str | None) -> MeshError:
        """Return the error that a tag cannot be used."""
        reason = where or self.other_tags.get(str(tag)) or "is unknown"
        return MeshError(f"{self.name}: the tag {tag!r} of {role} {reason}; {self.tags}")

    def in_space(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points of the mesh, shape (n, d), with three coordinates each, those of the file."""
        placed = np.tile(self.origin, (len(points), 1))
        placed[:, self.axes] = points
        return placed

    def vtk_cells(self, cells: Indices) -> tuple[str, Indices]:
        """Return meshio's type and the nodes of cells, in VTK's order and positively oriented.

        Parameters
        ----------
        cells : ndarray of int, shape (m, k)
            The nodes of each cell in the order of scikit-fem: its corners, or these and the midpoints of its edges.
        """
        from skfem.io.meshio import HEX_MAPPING

        if self.kind == "hexahedron":
            cells = cells[:, HEX_MAPPING[:8]]
        corners = self.mesh.p[:, self.mesh.t] if self.kind != "hexahedron" else self.mesh.p[:, cells.T]
        edges = corners[:, [*BASE[self.kind]]] - corners[:, :1]  # (d, d, m): a column per edge from the first corner
        mirrored = np.linalg.det(edges.transpose(2, 0, 1)) < 0
        cells = cells.copy()
        turn = MIRROR[self.kind, cells.shape[1]]
        cells[mirrored] = cells[mirrored][:, turn]
        return self.kind + {("triangle", 6): "6", ("tetra", 10): "10"}.get((self.kind, cells.shape[1]), ""), cells


def volume_mesh(source: Any) -> VolumeMesh:
    """Read a mesh, and refuse one on which elements would mean nothing.

    Parameters
    ----------
    source : path-like, meshio.Mesh or skfem.Mesh
        See `deepcd.pde.fem`.

    Returns
    -------
    VolumeMesh

    Raises
    ------
    MeshError
        If the file cannot be read, cells are of several types or of none that is known, a mesh of triangles or
        quadrilaterals is a curved surface in space, coordinates are not finite, or a cell has no volume or is folded.
    """
    import skfem

    content = content_of(source)
    points, cells = np.asarray(content.points), content.cells
    if points.ndim != 2 or points.shape[1] not in (2, 3) or np.iscomplexobj(points):
        raise MeshError(f"{content.name}: nodes must have two or three real coordinates, got shape {points.shape}")
    points = points.astype(np.float64)
    first, cells, cell_tags = _distinct(content)
    outside = np.argwhere((cells < 0) | (cells >= len(points)))
    if len(outside):
        raise MeshError(f"{content.name}: cell {first[outside[0, 0]]} has a node that is not one of the {len(points)}")
    used, inverse = np.unique(cells, return_inverse=True)
    wrong = used[~np.isfinite(points[used]).all(axis=1)]
    if wrong.size:
        raise MeshError(f"{content.name}: node {wrong[0]} has coordinates that are not finite, {points[wrong[0]]}")
    axes, origin = _axes(content, points[used])
    kinds = {
        "triangle": skfem.MeshTri1, "quad": skfem.MeshQuad1, "tetra": skfem.MeshTet1, "hexahedron": skfem.MeshHex1
    }  # fmt: skip
    # Copies in C order, which scikit-fem would make with a warning.
    p, t = (np.ascontiguousarray(rows.T) for rows in (points[used][:, axes], inverse.reshape(cells.shape)))
    mesh = kinds[content.kind](p, t)
    _check_cells(content.name, mesh, first)
    number = np.full(len(points), -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    facet_tags, other_tags = _facets(content, mesh, number)
    return VolumeMesh(content.name, content.kind, mesh, cell_tags, facet_tags, other_tags, axes, origin)


def _names(tags: dict[str, Indices]) -> list[str]:
    """Return the tags without those numbers of groups that have names."""
    named = [tag for tag in tags if not tag.isdigit()]
    return named + [
        tag for tag in tags if tag.isdigit() and not any(np.array_equal(tags[tag], tags[other]) for other in named)
    ]


def _distinct(content: Content) -> tuple[Indices, Indices, dict[str, Indices]]:
    """Return the numbers of the cells without repetitions, these cells, and which of them have the tags."""
    group = _groups(np.sort(content.cells, axis=1))
    first = np.full(int(group.max()) + 1, len(group), dtype=np.int64)
    np.minimum.at(first, group, np.arange(len(group)))
    kept = np.sort(first)
    place = np.searchsorted(kept, first[group])
    return kept, content.cells[kept], {tag: np.unique(place[cells]) for tag, cells in content.cell_tags.items()}


def _groups(rows: Indices) -> Indices:
    """Return a number for each row that only equal rows share: 0, 1, ... in lexicographic order."""
    order = np.lexsort(rows.T[::-1])
    differs = np.zeros(len(rows), dtype=np.int64)
    differs[1:] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    group = np.empty(len(rows), dtype=np.int64)
    group[order] = np.cumsum(differs)
    return group


def _axes(content: Content, points: NDArray[np.float64]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return which axes the cells extend along, and where they lie on the other one."""
    extents = np.ptp(points, axis=0)
    origin = np.zeros(3)
    if AXES[content.kind] == points.shape[1]:
        return tuple(range(points.shape[1])), origin
    if points.shape[1] == 2:
        raise MeshError(f"{content.name}: cells of type {content.kind} need nodes with three coordinates, got two")
    flat = np.flatnonzero(extents <= FLAT * extents.max())
    if flat.size == 0:
        raise MeshError(
            f"{content.name}: is a surface in space, whose cells of type {content.kind} extend by {extents} along x, y "
            "and z; give a mesh of a solid, or a plane mesh with one constant coordinate"
        )
    axis = int(flat[0])  # where two are flat, all cells are degenerate, and said to be
    origin[axis] = points[0, axis]
    return tuple(other for other in range(3) if other != axis), origin


def _check_cells(name: str, mesh: Any, first: Indices) -> None:
    """Raise an error that names the first cell that is folded or has no area or volume."""
    reference = np.asarray(mesh.refdom.p, dtype=np.float64)
    reference = np.hstack([reference.mean(axis=1, keepdims=True), reference])
    element, what = mesh.elem(), "has no area" if mesh.dim() == 2 else "has no volume"
    slopes = np.array(
        [
            np.broadcast_to(np.asarray(element.lbasis(reference, i)[1], dtype=np.float64), reference.shape)
            for i in range(len(mesh.t))
        ]
    )  # (k, d, 1 + k)
    for start in range(0, mesh.nelements, BLOCK):
        cells = np.arange(start, min(start + BLOCK, mesh.nelements))
        nodes = mesh.t[:, cells]
        corners = mesh.p[:, nodes]  # (d, k, m)
        longest = np.ptp(corners, axis=1).max(axis=0)
        # Coordinates are rounded: a height below that is none.
        least = ROUNDING * np.maximum(longest, np.abs(corners).max(axis=(0, 1))) * longest ** (mesh.dim() - 1)
        twice = (np.diff(np.sort(nodes, axis=0), axis=0) == 0).any(axis=0)
        # At the centre and in the corners, (m, 1 + k). scikit-fem divides by it, or raises an unnamed error.
        jacobian = np.linalg.det(np.einsum("akm,kbq->mqab", corners, slopes))
        degenerate = twice | (np.abs(jacobian[:, 0]) <= least)
        folded = (np.sign(jacobian[:, :1]) * jacobian < -least[:, None]).any(axis=1)
        bad = np.flatnonzero(degenerate | folded)
        if bad.size:
            one = bad[0]
            raise MeshError(
                f"{name}: cell {first[start + one]}, counted from 0 among the cells of its type, "
                f"{what if degenerate[one] else 'is folded'}; its nodes are at {corners[:, :, one].T.tolist()}. "
                "Mend the mesh, or leave the cell out"
            )


def _facets(content: Content, mesh: Any, number: Indices) -> tuple[dict[str, Indices], dict[str, str]]:
    """Return the numbers of tagged facets, and what is wrong with other tags."""
    tagged, wrong = {}, dict(content.other_tags)
    own = np.sort(np.asarray(mesh.facets, dtype=np.int64).T, axis=1)
    rows = [np.sort(np.where(part < len(number), number[np.clip(part, 0, len(number) - 1)], -1), axis=1)
            for part in content.facet_tags.values()]  # fmt: skip
    group = _groups(np.concatenate([own, *rows]))
    facet = np.full(int(group.max()) + 1, -1, dtype=np.int64)
    facet[group[: len(own)]] = np.arange(len(own))
    start = len(own)
    for tag, part in content.facet_tags.items():
        found = facet[group[start : start + len(part)]]
        start += len(part)
        if (found < 0).any():
            lost = np.count_nonzero(found < 0)
            wrong[tag] = f"has {lost} of {len(found)} {FACETS[content.kind]}s that are facets of no cell"
        else:
            tagged[tag] = np.unique(found)
    return tagged, wrong
