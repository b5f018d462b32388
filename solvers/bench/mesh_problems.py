"""Meshes and graphs among the benchmark's problems: what has no grid behind it, or none that a matrix shows.

Meshes come with the points of their nodes, as a finite-element program knows them. Sizes are nodes per edge: n^2
unknowns of a flat mesh or a graph, and n^3 of a solid one, or about as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import ndimage

from deepcd.data.random_fields import smooth_noise
from deepcd.data.random_graphs import GRAPHS, laplacian, random_graph
from deepcd.data.random_meshes import SHAPES, Mesh, random_mesh
from deepcd.pde.extras import require
from deepcd.solvers.bench.linear_problem import LinearProblem, MeshProblem, constants

F64 = NDArray[np.float64]
Rng = np.random.Generator
Drawn = tuple[sp.csr_array, F64]  # the matrix and the points of its rows
Field = Callable[[F64], F64]  # coordinates of shape (d, ...) -> values of shape (...)

SEED = 777_000_001
HELD = 0.05  # share of the extent along the first axis, at its lower end, where the boundary is held
CONTRAST = 1000.0


def elements(mesh: Any, *, held: bool = True, order: int = 1, **terms: Any) -> Drawn:
    """Return finite elements on a mesh of scikit-fem, or on one of simplices, with their points.

    Parameters
    ----------
    mesh : skfem.Mesh or Mesh
    held : bool, default True
        Whether u is prescribed on the boundary where the first coordinate is least.
    order, terms
        See `deepcd.pde.fem`.
    """
    require("skfem", "meshio", extra="fem", by="deepcd bench on meshes")
    import skfem

    from deepcd.pde import fem

    if isinstance(mesh, Mesh):
        kind = skfem.MeshTri if mesh.points.shape[1] == 2 else skfem.MeshTet
        mesh = kind(np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.cells.T))
    if held:
        least, extent = mesh.p[0].min(), np.ptp(mesh.p[0])
        mesh = mesh.with_boundaries({"held": lambda x: x[0] < least + HELD * extent})
        terms["dirichlet"] = {"held": 0.0}
    system = fem(mesh, order=order, **terms)
    return system.A, system.points


def shape(n: int, rng: Rng, name: str, **terms: Any) -> Drawn:
    """Return linear elements on a mesh of a shape by name."""
    return elements(random_mesh(name, n ** len(SHAPES[name].low), rng), **terms)


def coefficient(n: int, rng: Rng, field: Callable[[Rng], Field], name: str = "square") -> Drawn:
    """Return linear elements with a coefficient."""
    return shape(n, rng, name, coefficient=field(rng))


def in_a_ball(rng: Rng) -> Field:
    """Return 1000 in a ball, and one elsewhere."""
    return lambda x: np.where(((x - 0.5) ** 2).sum(axis=0) < 0.09, CONTRAST, 1.0)


def in_blocks(rng: Rng) -> Field:
    """Return values over four decades in 8 x 8 blocks."""
    values = 10.0 ** rng.uniform(-2, 2, (8, 8))
    return lambda x: values[tuple(np.clip((8 * x).astype(int), 0, 7))]


def log_normal(rng: Rng) -> Field:
    """Return a coefficient whose logarithm is normal, of standard deviation 2 and correlated over a tenth."""
    noise = smooth_noise((100, 100), 10.0, rng)

    def values(x: F64) -> F64:
        between: F64 = ndimage.map_coordinates(noise, 99 * x, order=1, mode="nearest")
        return np.exp(2 * between)

    return values


def moved(n: int, rng: Rng, move: Callable[[F64], F64]) -> Drawn:
    """Return linear elements on a square whose nodes are moved afterwards."""
    points, cells = random_mesh("square", n * n, rng)
    return elements(Mesh(move(points), cells))


def graded(x: F64) -> F64:
    """Move points towards a corner, where cells become ten times as small."""
    return x * (0.1 + 0.9 * np.linalg.norm(x, axis=1, keepdims=True))


def layered(x: F64) -> F64:
    """Move points towards a wall, where cells become a hundred times as flat."""
    return np.stack([x[:, 0], (100 ** x[:, 1] - 1) / 99], axis=1)


def quadratic(n: int, rng: Rng, name: str) -> Drawn:
    """Return quadratic elements, of which a mesh of half as many nodes per edge has as many unknowns."""
    return shape(max(n // 2, 4), rng, name, order=2)


def multilinear(n: int, rng: Rng, d: int) -> Drawn:
    """Return multilinear elements on a box that is smoothly deformed."""
    import skfem

    x = np.linspace(0, 1, n)
    mesh = skfem.MeshQuad.init_tensor(x, x) if d == 2 else skfem.MeshHex.init_tensor(x, x, x)
    p = mesh.p + 0.05 * np.prod(np.sin(np.pi * mesh.p), axis=0) * np.sin(2 * np.pi * mesh.p)
    return elements(type(mesh)(p, mesh.t))


def sphere(n: int, rng: Rng) -> Drawn:
    """Return the graph of a triangulated sphere, of equal weights, held weakly everywhere."""
    from scipy.spatial import ConvexHull

    points = rng.standard_normal((n * n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cells = ConvexHull(points).simplices
    i, j = np.concatenate([cells[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]).T
    A = laplacian(i, j, np.full(i.size, 0.5), n * n)
    return sp.csr_array(A + 1e-4 * sp.eye_array(n * n)), points


MESHES: dict[str, Callable[[int, Rng], Drawn]] = {
    "triangles": partial(shape, name="square"),
    "tetrahedra": partial(shape, name="cube"),
    "l-shape": partial(shape, name="l-shape"),
    "disk-with-holes": partial(shape, name="disk with holes"),
    "airfoil": partial(shape, name="airfoil"),
    "bracket": partial(shape, name="bracket"),
    "thin-plate": partial(shape, name="thin plate"),
    "mesh-two-materials": partial(coefficient, field=in_a_ball),
    "mesh-blocks": partial(coefficient, field=in_blocks),
    "mesh-log-normal": partial(coefficient, field=log_normal),
    "mesh-graded": partial(moved, move=graded),
    "mesh-boundary-layer": partial(moved, move=layered),
    "p2-triangles": partial(quadratic, name="square"),
    "p2-tetrahedra": partial(quadratic, name="bracket"),
    "q1-quadrilaterals": partial(multilinear, d=2),
    "q1-hexahedra": partial(multilinear, d=3),
    "sphere-surface": sphere,
}


def mesh_problem(n: int, name: str) -> Iterator[LinearProblem]:
    """Yield a mesh with normal random numbers as b."""
    rng = np.random.default_rng((SEED, n))
    A, points = MESHES[name](n, rng)
    b = rng.standard_normal(A.shape[0])
    yield MeshProblem(A, b - constants(A, b), points)


def graph_problem(n: int, name: str) -> Iterator[LinearProblem]:
    """Yield a graph with normal random numbers as b."""
    rng = np.random.default_rng((SEED, n))
    A = random_graph(name, n * n, rng)
    b = rng.standard_normal(A.shape[0])
    yield LinearProblem(A, b - constants(A, b))


PROBLEMS: dict[str, Callable[[int], Iterator[LinearProblem]]] = {
    **{name: partial(mesh_problem, name=name) for name in MESHES},
    **{name: partial(graph_problem, name=name) for name in GRAPHS},
}
