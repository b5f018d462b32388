"""Obstacles from closed surfaces of triangles: their checks, their placement, and the shape that they enclose.

A surface encloses a volume when each of its edges belongs to two triangles that run along it in opposite directions.
Winding numbers define that volume, see `deepcd.pde.kernels.winding`: overlapping parts form their union, and a part
whose triangles face inward, inside another part, is a cavity.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.domains import Shape
from deepcd.pde.mesh_shapes import enclosed_shape

LARGEST_COORDINATE = 1e100  # in units of length; products of three coordinates have to be finite
NO_AREA = 1e-14  # a triangle of a smaller area, relative to the square of the longest edge of the bounds, is degenerate

Floats = NDArray[np.float64]
Box = tuple[ArrayLike, ArrayLike]


class MeshError(ValueError):
    """A mesh cannot be used; the message names the mesh or its file, and the reason."""


@dataclass(frozen=True, eq=False, repr=False)
class Mesh:
    """A surface of triangles.

    Parameters
    ----------
    vertices : array_like of float, shape (n, 3)
        Coordinates in units of length.
    triangles : array_like of int, shape (m, 3)
        Rows of `vertices`, counterclockwise seen from outside. Triangles that have a vertex twice are left out, since
        they have no area and their edges cancel.
    name : str, default "mesh"
        Name of the mesh in messages.

    Raises
    ------
    MeshError
        If an argument is malformed, or no triangle has an area.

    Examples
    --------
    >>> from deepcd.pde import Mesh, domain
    >>> corners = [[1, 1, 1], [7, 1, 1], [1, 7, 1], [1, 1, 7]]
    >>> tetrahedron = Mesh(corners, [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    >>> tetrahedron.watertight, tetrahedron.volume
    (True, 36.0)
    >>> domain((8, 8, 8), solid=tetrahedron.shape()).unknowns
    477
    >>> Mesh(corners, [[0, 2, 1], [0, 1, 3], [1, 2, 3]]).flaw
    'is open: 3 edges with one triangle only, such as that from (1, 1, 1) to (1, 7, 1); fill its holes'
    """

    vertices: Floats
    triangles: NDArray[np.int64]
    name: str = "mesh"

    def __init__(self, vertices: ArrayLike, triangles: ArrayLike, name: str = "mesh") -> None:
        points, faces = np.array(vertices), np.array(triangles)
        if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iuf":
            raise MeshError(f"{name}: vertices must be real, of shape (n, 3), got {points.dtype} of {points.shape}")
        if faces.size == 0:
            raise MeshError(f"{name}: has no triangles; give a surface of at least four")
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise MeshError(f"{name}: triangles must be integers of shape (m, 3), got {faces.dtype} of {faces.shape}")
        bad = np.flatnonzero(~(np.abs(points) <= LARGEST_COORDINATE).all(axis=1))
        if bad.size:
            where = f"vertex {bad[0]} is {_text(points[bad[0]])}"
            raise MeshError(f"{name}: coordinates must be finite and at most {LARGEST_COORDINATE:g}, but {where}")
        wrong = faces[(faces < 0) | (faces >= len(points))]
        if wrong.size:
            raise MeshError(f"{name}: a triangle has vertex {wrong[0]}, but they are 0 to {len(points) - 1}")
        twice = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
        points, proper = points.astype(np.float64), faces[~twice].astype(np.int64)
        for array in (points, proper):
            array.setflags(write=False)
        object.__setattr__(self, "vertices", points)
        object.__setattr__(self, "triangles", proper)
        object.__setattr__(self, "name", name)
        if twice.all() or np.abs(np.cross(*self._sides()[:2])).max() <= NO_AREA:
            raise MeshError(f"{name}: all of its {len(faces)} triangles are degenerate: their vertices lie on a line")

    def __repr__(self) -> str:
        return f"<Mesh {self.name}: {len(self.vertices)} vertices, {len(self.triangles)} triangles>"

    @functools.cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        """The lowest and the highest coordinates of the triangles, shape (3,) each."""
        used = self.vertices[self.triangles.ravel()]
        return used.min(axis=0), used.max(axis=0)

    @property
    def volume(self) -> float:
        """Signed volume of a closed surface, in units of length^3; negative if its triangles face inward."""
        a, b, origin = self._sides()
        scale = float(np.ptp(self.bounds, axis=0).max())
        return float((origin * np.cross(a, b)).sum() / 6) * scale**3

    @property
    def watertight(self) -> bool:
        """Whether every edge belongs to two triangles that run along it in opposite directions."""
        return not self.flaw

    @functools.cached_property
    def flaw(self) -> str:
        """The reason why the surface is not watertight, with a place, or an empty string if it is."""
        edges = self._edges
        for wrong, what, like, remedy in (
            (edges.degree == 1, "is open", "with one triangle only", "fill its holes"),
            (
                edges.degree > 2,
                "is not a surface",
                "with more than two triangles",
                self._copies or "take its parts apart",
            ),
            (
                edges.balance != 0,
                "turns inside out",
                "that both triangles run along the same way",
                "use mesh.oriented()",
            ),
        ):
            if wrong.any():
                number, (a, b) = np.count_nonzero(wrong), self.vertices[edges.ends[np.argmax(wrong)]]
                count = f"{number} edge{'s' if number > 1 else ''}"
                return f"{what}: {count} {like}, such as that from {_text(a)} to {_text(b)}; {remedy}"
        return ""

    @property
    def _copies(self) -> str:
        """Say what to do about triangles that are there more than once, or return an empty string."""
        more = len(self.triangles) - len(np.unique(np.sort(self.triangles, axis=1), axis=0))
        return f"remove the copies of triangles that it has more than once, {more} in all" if more else ""

    def oriented(self) -> Mesh:
        """Return the surface with all triangles turned counterclockwise seen from outside.

        Each connected part is made consistent by turning the smaller number of triangles, so that cavities stay. If the
        volume is negative then, all triangles are turned.

        Returns
        -------
        Mesh
            The oriented surface.

        Raises
        ------
        MeshError
            If the surface is open, has edges with more than two triangles, or has only one side, as Klein's bottle.

        Examples
        --------
        >>> from deepcd.pde import Mesh, box_mesh
        >>> brick = box_mesh((0, 0, 0), (2, 3, 4))
        >>> triangles = brick.triangles.copy()
        >>> triangles[3] = triangles[3, ::-1]
        >>> Mesh(brick.vertices, triangles).watertight, Mesh(brick.vertices, triangles).oriented().volume
        (False, 24.0)
        """
        edges = self._edges
        if (edges.degree != 2).any():
            raise MeshError(f"{self.name}: {self.flaw}")
        mesh = self
        if self.flaw:
            triangles, turned = self.triangles.copy(), self._turned()
            triangles[turned] = triangles[turned, ::-1]
            mesh = Mesh(self.vertices, triangles, self.name)
        return mesh if mesh.volume >= 0 else Mesh(self.vertices, mesh.triangles[:, ::-1], self.name)

    def placed(
        self,
        *,
        scale: float | None = None,
        rotation: tuple[ArrayLike, float] | ArrayLike | None = None,
        fit: Box | None = None,
        translation: ArrayLike | None = None,
        within: Box | None = None,
    ) -> Mesh:
        """Return the mesh scaled and rotated around the origin, then fitted or moved.

        Parameters
        ----------
        scale : float, optional
            Positive factor for all lengths. It excludes `fit`, which chooses the scale.
        rotation : (axis, angle) or array_like of shape (3, 3), optional
            A vector and an angle in degrees, counterclockwise around it, or an orthogonal matrix of determinant 1.
        fit : (low, high), optional
            Opposite corners of a box. The rotated mesh is centred in it and scaled to the largest size that fits.
        translation : array_like of shape (3,), optional
            Vector in units of length by which the mesh is moved at the end.
        within : (low, high), optional
            Opposite corners of a box that a part of the mesh must lie in; for a grid, (0, 0, 0) and its shape times its
            spacing.

        Returns
        -------
        Mesh
            The mesh in its new place.

        Raises
        ------
        MeshError
            If an argument is malformed, or if the mesh lies entirely outside of `within`.

        Examples
        --------
        >>> from deepcd.pde import box_mesh
        >>> brick = box_mesh((0, 0, 0), (2, 3, 4)).placed(rotation=((0, 0, 1), 90), fit=((0, 0, 0), (12, 12, 12)))
        >>> [bound.tolist() for bound in brick.bounds]
        [[1.5, 3.0, 0.0], [10.5, 9.0, 12.0]]
        """
        vertices = self.vertices
        if scale is not None:
            if not 0 < scale < np.inf:
                raise MeshError(f"{self.name}: scale must be positive and finite, got {scale!r}")
            if fit is not None:
                raise MeshError(f"{self.name}: give scale or fit, not both: fit chooses the scale")
            vertices = vertices * scale
        if rotation is not None:
            vertices = vertices @ self._rotation(rotation).T
        if fit is not None:
            low, high = self._box(fit, "fit")
            start, end = Mesh(vertices, self.triangles, self.name).bounds
            used = end > start
            factor = ((high - low)[used] / (end - start)[used]).min()
            vertices = (vertices - (start + end) / 2) * factor + (low + high) / 2
        if translation is not None:
            offset = np.asarray(translation, dtype=float)
            if offset.shape != (3,) or not np.isfinite(offset).all():
                raise MeshError(f"{self.name}: translation must be three finite coordinates, got {translation!r}")
            vertices = vertices + offset
        mesh = Mesh(vertices, self.triangles, self.name)
        if within is not None:
            (low, high), (start, end) = self._box(within, "within"), mesh.bounds
            if (end <= low).any() or (start >= high).any():
                raise MeshError(
                    f"{self.name}: lies entirely outside of the box: it spans {_text(start)} to {_text(end)}, the box "
                    f"{_text(low)} to {_text(high)}; move it by translation, or give the box as fit"
                )
        return mesh

    def shape(self) -> Shape:
        """Return the set of points that the surface encloses.

        Where the coordinates of the points are one ascending sequence per axis, as the cells of a grid, the test takes
        about as long as making the grid. For other points it looks at every triangle for every point.

        Returns
        -------
        Shape
            A set of points in three dimensions; where a face of a box runs through centres, low <= x < high. Its
            distance is cut off, on grids, at twice the widest gap between neighbouring points.

        Raises
        ------
        MeshError
            If the mesh is not watertight.

        Examples
        --------
        >>> from deepcd.pde import domain, icosphere
        >>> ball = icosphere().placed(scale=10, translation=(16, 16, 16))
        >>> domain((32, 32, 32), solid=ball.shape()).unknowns
        28544
        """
        if not self.watertight:
            raise MeshError(f"{self.name}: {self.flaw}")

        return enclosed_shape(self.vertices, self.triangles, self.name)

    def _sides(self) -> tuple[Floats, Floats, Floats]:
        """Return two sides and the first corner of each triangle, in units of the longest edge of the bounds."""
        low, high = self.bounds
        size = float((high - low).max())
        a, b, c = np.moveaxis(self.vertices[self.triangles], 1, 0)
        unit = size if size > 0 else 1.0
        return (b - a) / unit, (c - a) / unit, (a - (low + high) / 2) / unit

    @functools.cached_property
    def _edges(self) -> _Edges:
        directed = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        ends = np.sort(directed, axis=1)
        number = ends[:, 0] * len(self.vertices) + ends[:, 1]
        order = np.argsort(number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        along = np.where(directed[:, 0] < directed[:, 1], 1, -1)[order]
        degree = np.diff(starts, append=len(order))
        return _Edges(ends[order[starts]], degree, np.add.reduceat(along, starts), order // 3)

    def _turned(self) -> NDArray[np.bool_]:
        """Return the mask of the triangles to turn: in every connected part, the smaller number of them."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        # The graph has every triangle twice, as it is and turned; triangles that agree along an edge are connected.
        m, same = len(self.triangles), self._edges.balance != 0
        left, right = self._edges.triangles.reshape(-1, 2).T
        ends = np.concatenate([left, left + m]), np.concatenate([right + same * m, right + ~same * m])
        graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(2 * m, 2 * m))
        _, part = connected_components(graph, directed=False)
        kept, turned = part[:m], part[m:]
        if (kept == turned).any():
            where = _text(self.vertices[self.triangles[np.argmax(kept == turned), 0]])
            raise MeshError(f"{self.name}: has only one side, at {where}; give a surface with an inside")
        number = np.bincount(kept, minlength=2 * m)
        more, equal = number[turned] > number[kept], number[turned] == number[kept]
        return more | (equal & (turned < kept))

    def _rotation(self, rotation: Any) -> Floats:
        """Return the matrix of a rotation, which is given as an axis and an angle or as a matrix."""
        asked = f"{self.name}: rotation must be (axis, degrees) or an orthogonal 3 x 3 matrix of determinant 1"
        try:
            if len(rotation) == 2:
                axis, degrees = rotation
                with np.errstate(invalid="ignore"):  # an axis without a length is refused below
                    unit = np.reshape(axis, 3) / np.linalg.norm(axis)
                # Right angles are exact to the last bit, so that faces stay parallel to the axes.
                quarters, rest = divmod(float(degrees), 90)
                part = np.exp(1j * np.radians(rest)) * 1j ** (int(quarters) % 4)
                K = np.cross(np.eye(3), unit)
                matrix = part.real * np.eye(3) + part.imag * K + (1 - part.real) * np.outer(unit, unit)
            else:
                matrix = np.array(rotation, dtype=float)
            right = matrix.shape == (3, 3) and np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) > 0
        except (TypeError, ValueError, OverflowError) as error:
            raise MeshError(f"{asked}, got {rotation!r}") from error
        if not right:
            raise MeshError(f"{asked}, got {rotation!r}")
        return matrix

    def _box(self, corners: Box, name: str) -> tuple[Floats, Floats]:
        try:
            box = np.array(corners, dtype=float)
        except (TypeError, ValueError):
            box = np.empty(0)
        if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
            raise MeshError(f"{self.name}: {name} must be (low, high), three coordinates each, got {corners!r}")
        return box[0], box[1]


class _Edges(NamedTuple):
    """The edges of a mesh."""

    ends: NDArray[np.int64]  # (e, 2), the two vertices, the lower number first
    degree: NDArray[np.int64]  # (e,), number of triangles that have the edge
    balance: NDArray[np.int64]  # (e,), number of triangles that run along the edge minus those that run against it
    triangles: NDArray[np.int64]  # (3 m,), the triangles of the first edge, then those of the second, and so on


def _text(point: NDArray[np.generic]) -> str:
    return f"({', '.join(f'{x:.6g}' for x in point.tolist())})"
