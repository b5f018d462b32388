"""Sparse systems of statements: the equation that a network is trained on, by linear finite elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from deepcd.pde.equations.elliptic import Condition, Stated, elliptic, evaluated, held_at, nonzero
from deepcd.pde.equations.expressions import Expression, add, mul
from deepcd.pde.fem import FemSystem, fem
from deepcd.pde.regions import Domain
from deepcd.pde.regions.meshing import Cells, meshed
from deepcd.pde.volume_meshes import VolumeMesh

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class EllipticSystem:
    """The system of a problem; unpack it as ``A, b, points``. `Problem.system` makes one.

    Attributes
    ----------
    elements : FemSystem
        The system with all that it was made from; for example, it writes files for ParaView.
    cells : Cells
        The mesh, and which facet is on which piece of the boundary.
    """

    elements: FemSystem
    cells: Cells

    @property
    def A(self) -> csr_array:
        """The matrix, shape (n, n): symmetric positive definite, or semidefinite where nothing holds u."""
        return self.elements.A

    @property
    def b(self) -> F64:
        """The right-hand side, shape (n,), prescribed values included."""
        return self.elements.b

    @property
    def points(self) -> F64:
        """The nodes where u is unknown, one per row, shape (n, d)."""
        return self.elements.points

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __repr__(self) -> str:
        return f"EllipticSystem({len(self.b)} unknowns of {len(self.elements.nodes)})"

    def values(self, x: ArrayLike, u: ArrayLike) -> F64:
        """Interpolate a solution, linearly in each cell.

        Parameters
        ----------
        x : array_like of float, shape (m, d)
            Points of the domain.
        u : array_like of float, shape (n,)
            A solution of A u = b.

        Returns
        -------
        ndarray of float64, shape (m,)

        Raises
        ------
        ValueError
            If an array has another shape, or a point is outside.
        """
        points = np.asarray(x, dtype=np.float64)
        d = self.points.shape[1]
        if points.ndim != 2 or points.shape[1] != d or not np.isfinite(points).all():
            raise ValueError(f"x must be finite, of shape (m, {d}), got shape {points.shape}")
        return self.cells.interpolated(points, self.elements.values(u))


def system(problem: Stated, n: int) -> EllipticSystem:
    """Return the system of a problem by linear finite elements; see `Problem.system`.

    Parameters
    ----------
    problem : Problem
        A linear elliptic equation of second order for one field, with a condition everywhere on the boundary.
    n : int
        Number of cells along the longest edge of the domain's bounds, at least two.

    Returns
    -------
    EllipticSystem

    Raises
    ------
    ValueError
        If the problem is something else, or n too small.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"n must be an integer from 2 up, got {n!r}")
    read = elliptic(problem)
    cells = meshed(problem.domain, int(n))
    owner = _owners(problem.domain, read.conditions, cells)
    parts = {f"condition {k}": np.flatnonzero(owner == k) for k in range(len(read.conditions))}
    tags = {tag: cells.facets[own] for tag, own in parts.items()}
    kind = "triangle" if len(problem.axes) == 2 else "tetra"
    mesh = VolumeMesh(
        "the mesh of the domain", kind, cells.mesh, {}, tags, {}, (0, 1, 2)[: len(problem.axes)], np.zeros(3)
    )
    dirichlet, neumann, robin = {}, {}, {}
    for (tag, own), one in zip(parts.items(), read.conditions, strict=True):
        if not own.size:  # its points lie between those of the mesh
            continue
        if one.value is not None:
            dirichlet[tag] = _function(one.value)
            continue
        neumann[tag] = _function(one.flux, cells.normals[own])
        if nonzero(one.transfer):
            robin[tag] = (_function(one.transfer, cells.normals[own]), 0.0)
    elements = fem(
        mesh,
        coefficient=_coefficient(read.K),
        reaction=_function(read.reaction),
        source=_function(read.source),
        dirichlet=dirichlet,
        neumann=neumann,
        robin=robin,
    )
    return EllipticSystem(elements, cells)


def _coefficient(K: tuple[tuple[Any, ...], ...]) -> Any:
    """Return the coefficient as finite elements take it: a single function, if it is the same in all directions."""
    d, first = len(K), K[0][0]
    aside = any(nonzero(K[i][j]) for i in range(d) for j in range(d) if i != j)
    isotropic = not aside and not any(nonzero(add(K[i][i], mul(-1, first))) for i in range(d))
    return _function(K[0][0]) if isotropic else [[_function(entry) for entry in row] for row in K]


def _function(expression: Any, normals: F64 | None = None) -> float | Callable[[F64], F64]:
    """Return an expression as finite elements take it.

    Parameters
    ----------
    expression : Expression or float
    normals : ndarray of float64, shape (m, d), optional
        The normals of the m facets at which it will be asked for.
    """
    if not isinstance(expression, Expression):
        return float(expression)

    def function(x: F64) -> F64:  # (d, ...), or (d, m, q) on facets
        points = torch.from_numpy(np.ascontiguousarray(x.reshape(len(x), -1).T))
        across = None
        if normals is not None:
            across = torch.from_numpy(np.repeat(normals, points.shape[0] // len(normals), axis=0))
        return evaluated(expression, points, across).reshape(x.shape[1:])

    return function


def _owners(domain: Domain, conditions: tuple[Condition, ...], cells: Cells) -> NDArray[np.int64]:
    """Return the condition of each facet by number.

    It is the first one that holds at its centre, or else at all its nodes, or else on the nearest facet: tests may
    leave out points that are beside a curved boundary.
    """
    nodes = cells.mesh.p[:, cells.mesh.facets[:, cells.facets]]
    looked = [cells.middles, *nodes.transpose(1, 2, 0)]
    owner = np.full(len(cells.facets), -1)
    for number, piece in enumerate(domain.pieces):
        own = np.flatnonzero(cells.pieces == number)
        found = [[held_at(one.part, piece, torch.from_numpy(x[own].copy())) for x in looked] for one in conditions]
        for at in (slice(0, 1), slice(1, None)):
            for k, held in enumerate(found):
                owner[own[(owner[own] < 0) & np.all(held[at], axis=0)]] = k
    lost = owner < 0
    if lost.all():
        raise ValueError(f"no condition holds on any of the {len(owner)} facets of the mesh, nor at their nodes")
    owner[lost] = owner[~lost][cKDTree(cells.middles[~lost]).query(cells.middles[lost])[1]]
    return owner
