"""Bodies that closed surfaces of triangles enclose."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.domains import Distance
from deepcd.pde.mesh_files import read_mesh
from deepcd.pde.meshes import Mesh, MeshError
from deepcd.pde.regions.binding import axis_names
from deepcd.pde.regions.contract import Domain
from deepcd.pde.regions.pieces import Piece

CELLS = 64  # along the longest edge of the bounds
HALF_DIAGONAL = 0.87  # of a cubic cell, in edges


def body(mesh: Mesh | str | os.PathLike[str], axes: str | Sequence[str] = "xyz") -> Domain:
    """Return the body that a mesh encloses.

    Parameters
    ----------
    mesh : Mesh or path-like
        A watertight mesh, or a file that :func:`deepcd.pde.read_mesh` reads. Triangles that lie inside other parts of
        the mesh are part of the boundary all the same.
    axes : str or sequence of str
        The names of the three coordinates.

    Returns
    -------
    Domain
        Its boundary is one piece, "surface", with the normals of the triangles.

    Raises
    ------
    MeshError
        If the mesh has flaws, or the file cannot be read.
    TypeError
        If `mesh` is neither.
    ValueError
        If `axes` is malformed.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde import box_mesh
    >>> from deepcd.pde.regions import body
    >>> brick = body(box_mesh((0, 0, 0), (1, 2, 3)))
    >>> brick, brick.volume, brick["surface"].names
    (<Domain x from 0 to 1, y from 0 to 2, z from 0 to 3; boundary surface>, 6.0, ('surface',))
    >>> brick.inside(torch.tensor([[0.5, 1.9, 0.1], [0.5, 2.1, 0.1]], dtype=torch.float64)).tolist()
    [True, False]
    """
    names = axis_names(axes, 3)
    if isinstance(mesh, str | os.PathLike):
        mesh = read_mesh(mesh)
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a Mesh or the path of a file, got {mesh!r:.80}")
    if mesh.flaw:
        raise MeshError(f"{mesh.name}: {mesh.flaw}")
    outward = mesh if mesh.volume > 0 else mesh.oriented()
    bounds = np.stack(mesh.bounds, axis=1)
    return Domain(names, bounds, [_surface(outward)], contains=_membership(mesh), volume=outward.volume)


def _membership(mesh: Mesh) -> Callable[[Tensor], Tensor]:
    """Return the test of the mesh, which asks all triangles only about points in cells near the surface.

    A cell whose centre is farther from the surface than its corners is on one side of it.
    """
    shape = mesh.shape()
    low, high = mesh.bounds
    h = float((high - low).max()) / CELLS
    count = np.maximum(np.ceil((high - low) / h), 1).astype(np.int64)
    centres = np.ix_(*(a + h * (np.arange(m) + 0.5) for a, m in zip(low, count, strict=True)))
    distance = cast(Distance, shape.distance)(centres)  # a mesh always knows its distance

    def contains(x: Tensor) -> Tensor:
        points = x.numpy()
        cells = np.clip(((points - low) / h).astype(np.int64), 0, count - 1)
        from_centre = distance[tuple(cells.T)]
        inside, near = from_centre < 0, np.abs(from_centre) <= HALF_DIAGONAL * h
        # The shape answers for a lattice of one point much faster than for one of many scattered points.
        inside[near] = [bool(shape.contains(point.reshape(3, 1, 1, 1))) for point in points[near]]
        return torch.from_numpy(inside)

    return contains


def _surface(mesh: Mesh) -> Piece:
    """Return the surface of a mesh, of which each triangle is drawn with a probability proportional to its area."""
    a, b, c = torch.from_numpy(np.moveaxis(mesh.vertices[mesh.triangles], 1, 0).copy())
    ab, ac = b - a, c - a
    normals = torch.linalg.cross(ab, ac)
    ends = (normals.norm(dim=1) / 2).cumsum(0)
    area = float(ends[-1])
    normals = torch.nn.functional.normalize(normals, eps=0.0)

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        u, v, w = torch.rand(3, n, dtype=torch.float64, generator=generator)
        t = torch.searchsorted(ends, area * u, right=True)  # triangles without an area are never drawn
        root = v.sqrt()[:, None]
        return a[t] + root * ((1 - w[:, None]) * ab[t] + w[:, None] * ac[t]), normals[t]

    return Piece("surface", area, sample)
