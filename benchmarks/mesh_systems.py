"""Meshes at the sizes that people solve, gmsh's among them, and some that an auxiliary grid is refused for.

gmsh makes the meshes of solids with curved walls and those that are graded (`pip install gmsh`); others need nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from deepcd.data.random_meshes import Mesh
from deepcd.solvers.bench.mesh_problems import elements, in_a_ball, in_blocks, layered, log_normal, multilinear, sphere

F64 = NDArray[np.float64]
Drawn = tuple[sp.csr_array, F64]
Rng = np.random.Generator


def jittered(n: int, d: int, rng: Rng, move: Callable[[F64], F64] | None = None) -> Mesh:
    """Return Delaunay cells of nodes moved from a grid by up to 0.3 cells: in 3D, slivers are among them."""
    side = round(n ** (1 / d))
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    inner = np.abs(points - 0.5).max(axis=1) < 0.5 - 1e-9
    points[inner] += rng.uniform(-0.3, 0.3, (int(inner.sum()), d)) / side
    cells = Delaunay(points).simplices
    volume = np.abs(np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]))
    cells = cells[volume > 1e-6 * np.median(volume)].astype(np.int32)
    return Mesh(points if move is None else move(points), cells)


def plain(n: int, rng: Rng, d: int, **terms: Any) -> Drawn:
    """Return linear elements on jittered nodes."""
    return elements(jittered(n, d, rng), **terms)


def with_coefficient(n: int, rng: Rng, d: int, field: Callable[[Rng], Callable[[F64], F64]]) -> Drawn:
    """Return linear elements with a coefficient on jittered nodes."""
    return plain(n, rng, d, coefficient=field(rng))


def heat(n: int, rng: Rng) -> Drawn:
    """Return a step of the heat equation, with reaction times squared mesh width 0.1, held nowhere."""
    return plain(n, rng, 2, reaction=0.1 * n, held=False)


def robin(n: int, rng: Rng) -> Drawn:
    """Return a square that exchanges heat with its surroundings."""
    return plain(n, rng, 2, robin={"boundary": (1.0, 0.0)}, held=False)


def shuffled(n: int, rng: Rng) -> Drawn:
    """Return a mesh with its points in another order than its rows."""
    A, points = plain(n, rng, 2)
    return A, points[rng.permutation(len(points))]


def cut(n: int, rng: Rng) -> Drawn:
    """Return a square with a slit from one side to its middle: cells across it belong to its lower side alone."""
    points, cells = jittered(n, 2, rng)
    centres = points[cells].mean(axis=1)
    left = points[cells][..., 0].max(axis=1) < 0.5
    above = centres[:, 1] > 0.5
    shared = np.intersect1d(cells[left & above], cells[left & ~above])
    shared = shared[points[shared, 0] < 0.5 - 2 / n**0.5]  # the tip of the slit stays one node
    twin = np.arange(len(points))
    twin[shared] = len(points) + np.arange(len(shared))
    cells = np.where(above[:, None], twin[cells], cells).astype(np.int32)
    return elements(Mesh(np.concatenate([points, points[shared]]), cells))


def elasticity(n: int, rng: Rng) -> Drawn:
    """Return linear elasticity of a jittered cube, with the point of each of its unknowns."""
    import skfem
    from skfem.models.elasticity import lame_parameters, linear_elasticity

    points, cells = jittered(n // 3, 3, rng)
    mesh = skfem.MeshTet(np.ascontiguousarray(points.T), np.ascontiguousarray(cells.T))
    basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementTetP1()))
    K = sp.csr_array(linear_elasticity(*lame_parameters(1.0, 0.3)).assemble(basis))
    free = np.setdiff1d(np.arange(basis.N), basis.get_dofs(lambda x: x[0] < 1e-9).all())
    return sp.csr_array(K[free][:, free]), np.ascontiguousarray(basis.doflocs.T[free])


def by_gmsh(n: int, rng: Rng, build: Callable[[Any], None], d: int, size: str, order: int = 1) -> Drawn:
    """Return elements on a mesh of gmsh; `size` is the mesh width as a function of x, y and z."""
    import gmsh

    gmsh.initialize(interruptible=False)
    gmsh.option.setNumber("General.Terminal", 0)
    for name in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
        gmsh.option.setNumber(f"Mesh.{name}", 0)
    build(gmsh.model.occ)
    gmsh.model.occ.synchronize()
    field = gmsh.model.mesh.field.add("MathEval")
    gmsh.model.mesh.field.setString(field, "F", size)
    gmsh.model.mesh.field.setAsBackgroundMesh(field)
    gmsh.model.mesh.generate(d)
    tags, xyz, _ = gmsh.model.mesh.getNodes()
    kinds, _, nodes = gmsh.model.mesh.getElements(d)
    gmsh.finalize()
    number = np.zeros(int(tags.max()) + 1, dtype=np.int64)
    number[tags.astype(int)] = np.arange(len(tags))
    simplices = [own for kind, own in zip(kinds, nodes, strict=True) if kind in (2, 4)]
    cells = number[np.concatenate(simplices).reshape(-1, d + 1).astype(int)]
    used, back = np.unique(cells, return_inverse=True)
    points = np.ascontiguousarray(xyz.reshape(-1, 3)[used][:, :d])
    return elements(Mesh(points, back.reshape(cells.shape).astype(np.int32)), order=order)


def _l_shape(occ: Any) -> None:
    occ.cut([(2, occ.addRectangle(-1, -1, 0, 2, 2))], [(2, occ.addRectangle(0, 0, 0, 1, 1))])


def _holes(occ: Any) -> None:
    whole, rng = occ.addDisk(0, 0, 0, 1, 1), np.random.default_rng(1)
    places = [(-0.64 + 0.32 * k, -0.64 + 0.32 * j) for k in range(5) for j in range(5)]
    radii = rng.uniform(0.03, 0.11, len(places))
    occ.cut(
        [(2, whole)],
        [(2, occ.addDisk(x, y, 0, r, r)) for (x, y), r in zip(places, radii, strict=True) if x * x + y * y < 0.7],
    )


def _bracket(occ: Any) -> None:
    both, _ = occ.fuse([(3, occ.addBox(0, 0, 0, 2, 1, 0.25))], [(3, occ.addBox(0, 0, 0, 0.25, 1, 1.5))])
    holes = [(3, occ.addCylinder(x, y, -0.1, 0, 0, 0.5, 0.12)) for x in (0.7, 1.2, 1.7) for y in (0.25, 0.75)]
    occ.cut(both, [*holes, (3, occ.addCylinder(-0.1, 0.5, 1, 0.5, 0, 0, 0.25))])


def _pipe(occ: Any) -> None:
    ring, _ = occ.cut([(2, occ.addDisk(1, 0, 0, 0.3, 0.3))], [(2, occ.addDisk(1, 0, 0, 0.2, 0.2))])
    occ.revolve(ring, 0, 0, 0, 0, 1, 0, np.pi / 2)
    occ.remove(ring)


def _plate(occ: Any) -> None:
    occ.addBox(0, 0, 0, 2, 2, 0.06)


def _square(occ: Any) -> None:
    occ.addRectangle(0, 0, 0, 1, 1)


def _graded(ratio: float, h: float) -> str:
    return f"{h}*({1 / ratio}+{1 - 1 / ratio}*Sqrt(x*x+y*y))"


Family = Callable[[int, Rng], Drawn]

# Sizes are those of the meshes that the figures of an auxiliary grid are asked for.
SERVED: dict[str, tuple[Family, int]] = {
    "triangles": (partial(plain, d=2), 100_000),
    "triangles, 500k": (partial(plain, d=2), 500_000),
    "tetrahedra": (partial(plain, d=3), 100_000),
    "l-shape": (partial(by_gmsh, build=_l_shape, d=2, size="0.0058"), 100_000),
    "disk with holes": (partial(by_gmsh, build=_holes, d=2, size="0.0052"), 120_000),
    "bracket": (partial(by_gmsh, build=_bracket, d=3, size="0.0235"), 46_000),
    "pipe bend": (partial(by_gmsh, build=_pipe, d=3, size="0.0145"), 68_000),
    "thin plate": (partial(by_gmsh, build=_plate, d=3, size="0.02"), 34_000),
    "Q1 2D": (partial(multilinear, d=2), 316),
    "Q1 3D": (partial(multilinear, d=3), 46),
    "P2 2D": (partial(plain, d=2, order=2), 25_000),
    "P2 3D": (partial(by_gmsh, build=_bracket, d=3, size="0.035", order=2), 112_000),
    "log-normal": (partial(with_coefficient, d=2, field=log_normal), 100_000),
    "two materials": (partial(with_coefficient, d=2, field=in_a_ball), 100_000),
    "blocks": (partial(with_coefficient, d=2, field=in_blocks), 100_000),
    "tetrahedra, two materials": (partial(with_coefficient, d=3, field=in_a_ball), 100_000),
    "heat": (heat, 100_000),
    "Robin": (robin, 100_000),
}
REFUSED: dict[str, tuple[Family, int]] = {
    "graded 10": (partial(by_gmsh, build=_square, d=2, size=_graded(10, 0.0068)), 75_000),
    "graded 100": (partial(by_gmsh, build=_square, d=2, size=_graded(100, 0.0094)), 75_000),
    "graded 1000": (partial(by_gmsh, build=_square, d=2, size=_graded(1000, 0.0115)), 75_000),
    "aspect 100": (lambda n, rng: elements(jittered(n, 2, rng, layered)), 100_000),
    "slit": (cut, 100_000),
    "sphere": (sphere, 316),
    "elasticity": (elasticity, 60_000),
    "wrong order": (shuffled, 100_000),
}
FAMILIES = {**SERVED, **REFUSED}


def missing(name: str) -> str:
    """Return why a family cannot be made here, or an empty string."""
    needs = getattr(FAMILIES[name][0], "func", None) is by_gmsh
    return "no gmsh (pip install gmsh)" if needs and not find_spec("gmsh") else ""


def draw(name: str, seed: int, scale: float = 1.0) -> Drawn:
    """Return a matrix and its points; `scale` shrinks all that is not made by gmsh."""
    family, size = FAMILIES[name]
    return family(max(int(size * scale), 10), np.random.default_rng((31_337, seed)))
