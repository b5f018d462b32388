"""Meshes of domains: triangles in the plane, tetrahedra of boxes; and which piece each facet of the boundary is on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepcd.pde.extras import require
from deepcd.pde.regions.contract import Domain
from deepcd.pde.regions.polygons import Polygon
from deepcd.pde.regions.stuffing import stuffed
from deepcd.pde.regions.triangles import bisected, ears

SAMPLES = 8_192  # random points of each piece, among which the nearest one tells the piece of a facet
MOST = 8  # triangles of a polygon per square of the width of a cell, of which a lattice has two
HALVINGS = 4  # how often all edges of a polygon's triangles are halved at last, which is faster than one by one
FEW, MANY = 8, 256  # cells with the nearest centres, among which that of a point is looked for, first and at last
BEYOND = 1.0  # how far outside of a cell it still gives values, as a barycentric coordinate

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """A mesh of a domain.

    Attributes
    ----------
    mesh : skfem.Mesh
        Triangles or tetrahedra; every node belongs to one.
    facets : ndarray of int64, shape (m,)
        The numbers of the facets of the boundary, ascending.
    normals : ndarray of float64, shape (m, d)
        Their outward unit normals.
    pieces : ndarray of int64, shape (m,)
        For each of them, the number of the piece of the domain's boundary that it is on.
    """

    mesh: Any
    facets: Indices
    normals: Floats
    pieces: Indices

    @cached_property
    def _centres(self) -> cKDTree:
        return cKDTree(self.mesh.p[:, self.mesh.t].mean(axis=1).T)

    @property
    def middles(self) -> Floats:
        """The centres of the facets, shape (m, d)."""
        return np.asarray(self.mesh.p[:, self.mesh.facets[:, self.facets]].mean(axis=1).T)

    def interpolated(self, x: Floats, u: Floats) -> Floats:
        """Return values at points, shape (n, d), from those at nodes, shape (N,), linear in each cell.

        Points outside of the mesh, such as those between a curved boundary and the mesh, get the values of the nearest
        cell, continued.

        Raises
        ------
        ValueError
            If a point is farther outside than a cell is wide.
        """
        cells, shares = self._located(x, FEW)
        lost = np.flatnonzero(shares.min(axis=1) < 0)
        if lost.size:
            cells[lost], shares[lost] = self._located(x[lost], MANY)
        outside = shares.min(axis=1) < -BEYOND
        if outside.any():
            raise ValueError(f"values are known in the domain only, but {x[outside][0].tolist()} is outside")
        return np.asarray((shares * u[self.mesh.t[:, cells]].T).sum(axis=1))

    def _located(self, x: Floats, count: int) -> tuple[Indices, Floats]:
        """Return the cells that hold points best, shape (n,), and the barycentric coordinates, shape (n, d + 1)."""
        count = min(count, self.mesh.t.shape[1])
        near = np.asarray(self._centres.query(x, k=np.arange(1, count + 1))[1])  # (n, count)
        corners = self.mesh.p[:, self.mesh.t[:, near]].transpose(2, 3, 0, 1)  # (n, count, d, d + 1)
        edges = corners[..., 1:] - corners[..., :1]
        rest = np.linalg.solve(edges, (x[:, None] - corners[..., 0])[..., None])[..., 0]
        shares = np.concatenate([1 - rest.sum(axis=-1, keepdims=True), rest], axis=-1)
        rows, best = np.arange(len(x)), shares.min(axis=2).argmax(axis=1)
        return near[rows, best], shares[rows, best]


def refuse_unmeshable(domain: Domain) -> None:
    """Refuse a domain that `meshed` cannot fill.

    Parameters
    ----------
    domain : Domain

    Raises
    ------
    ValueError
        If it has an axis that is periodic, a number of axes other than two and three, or three without being a box.
    """
    d = len(domain.axes)
    if domain.periodic:
        raise ValueError(f"a domain that is periodic along {', '.join(domain.periodic)} cannot be meshed")
    if d not in (2, 3):
        raise ValueError(f"only domains with two or three axes can be meshed, got {d}: {', '.join(domain.axes)}")
    if d == 3 and not domain.is_box:
        raise ValueError("with three axes only a box can be meshed")


def meshed(domain: Domain, n: int) -> Cells:
    """Fill a domain with cells.

    Parameters
    ----------
    domain : Domain
        One that `refuse_unmeshable` takes. Corners are cut off by less than a cell, but for a box and for a polygon
        whose sides are not many and short.
    n : int
        Number of cells along the longest edge of the bounds; that edge over n is the width of a cell, and no edge is
        longer than its diagonal.

    Returns
    -------
    Cells

    Raises
    ------
    ValueError
        If the domain cannot be meshed, or no cell fits in.

    Examples
    --------
    >>> from deepcd.pde.regions import polygon
    >>> from deepcd.pde.regions.meshing import meshed
    >>> cells = meshed(polygon((0, 0), (2, 0), (0, 1)), 4)
    >>> [int((cells.pieces == k).sum()) for k in range(3)], round(float(cells.mesh.p.max()), 1)
    ([4, 4, 2], 2.0)
    """
    require("skfem", extra="fem", by="a mesh of a domain")
    import skfem

    refuse_unmeshable(domain)
    lengths = domain.bounds[:, 1] - domain.bounds[:, 0]
    width = float(lengths.max()) / n
    counts = np.maximum(np.round(lengths / width).astype(int), 1)
    ends = zip(domain.bounds, counts, strict=True)

    def inside(x: Floats) -> NDArray[np.bool_]:
        return np.asarray(domain.inside(torch.from_numpy(x)).numpy())

    lattice = [np.linspace(low, high, count + 1) for (low, high), count in ends]
    if domain.is_box:
        return _of_box(domain, (skfem.MeshTri if len(counts) == 2 else skfem.MeshTet).init_tensor(*lattice))
    if isinstance(domain, Polygon) and (found := _exactly(domain.corners, domain.volume, width)):
        mesh, facets, normals = found
    else:
        whole = skfem.MeshTri.init_tensor(*lattice)
        mesh, facets, normals = _bounded(*stuffed(whole.p.T, whole.t.T.astype(np.int64), domain.bounds, inside))
    middles = mesh.p[:, mesh.facets[:, facets]].mean(axis=1).T
    if isinstance(domain, Polygon):
        return Cells(mesh, facets, normals, _sides(domain.corners, middles))
    return Cells(mesh, facets, normals, _nearest(domain, middles, normals, width))


def _exactly(corners: Floats, area: float, width: float) -> tuple[Any, Indices, Floats] | None:
    """Return triangles between the sides of a polygon, with the boundary; None if slivers would make them too many."""
    along = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
    halvings = int(np.clip(np.log2(along.min() / width), 0, HALVINGS))  # small cells at short sides stay as they are
    points, triangles = bisected(corners, ears(corners), np.sqrt(2) * width * 2**halvings)
    if len(triangles) * 4**halvings > MOST * (area / width**2 + along.sum() / width):
        return None
    return _bounded(points, triangles, halvings)


def _of_box(domain: Domain, mesh: Any) -> Cells:
    """Return the cells of a box, whose pieces are the low and the high face of each axis in turn."""
    facets, normals = _outward(mesh)
    axis = np.abs(normals).argmax(axis=1)
    high = np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0
    return Cells(mesh, facets, normals, 2 * axis + high)


def _bounded(points: Floats, triangles: Indices, halvings: int = 0) -> tuple[Any, Indices, Floats]:
    """Return triangles as a mesh, all of whose edges are then halved some times, with its boundary."""
    import skfem

    mesh = skfem.MeshTri(np.ascontiguousarray(points.T), np.ascontiguousarray(triangles.T)).refined(halvings)
    return mesh, *_outward(mesh)


def _outward(mesh: Any) -> tuple[Indices, Floats]:
    """Return the facets of the boundary, ascending, and their outward unit normals."""
    facets = np.sort(np.asarray(mesh.boundary_facets(), dtype=np.int64))
    corners = mesh.p[:, mesh.facets[:, facets]]  # (d, d, m)
    edges = (corners[:, 1:] - corners[:, :1]).transpose(2, 1, 0)
    if mesh.dim() == 2:
        normals = np.stack([edges[:, 0, 1], -edges[:, 0, 0]], axis=1)
    else:
        normals = np.cross(edges[:, 0], edges[:, 1])
    centres = mesh.p[:, mesh.t[:, mesh.f2t[0, facets]]].mean(axis=1)
    away = ((corners.mean(axis=1) - centres).T * normals).sum(axis=1)
    return facets, np.sign(away)[:, None] * normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _sides(corners: Floats, x: Floats) -> Indices:
    """Return the side of a polygon that each point is nearest to."""
    along = np.roll(corners, -1, axis=0) - corners
    offset = x[:, None] - corners
    place = np.clip((offset * along).sum(axis=2) / (along**2).sum(axis=1), 0, 1)
    return np.asarray(((offset - place[..., None] * along) ** 2).sum(axis=2).argmin(axis=1))


def _nearest(domain: Domain, x: Floats, normals: Floats, width: float) -> Indices:
    """Return the piece that has the nearest random point with a like normal."""
    generator = torch.Generator().manual_seed(0)
    drawn = [piece.sample(SAMPLES, generator) for piece in domain.pieces]
    # Where pieces meet at an angle, a normal that differs counts as much as the width of a cell.
    known = np.vstack([np.hstack([points.numpy(), width * normal.numpy()]) for points, normal in drawn])
    return np.asarray(cKDTree(known).query(np.hstack([x, width * normals]))[1] // SAMPLES)
