"""Finite elements for -div(k grad u) + c u = f on unstructured meshes: scikit-fem assembles, meshio reads and writes.

Prescribed values are eliminated, so that the matrix has a row for each free degree of freedom and is definite.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from deepcd.pde.extras import require
from deepcd.pde.fem_values import Field, Matrix, Value, matrices, on_cells, sampled
from deepcd.pde.volume_meshes import VolumeMesh, volume_mesh

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class FemSystem:
    """A system of finite elements; unpack it as ``A, b, points``. :func:`fem` makes one.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
        The matrix over the free degrees of freedom: symmetric positive definite, or semidefinite where nothing holds u.
    b : ndarray of float64, shape (n,)
        The right-hand side, prescribed values included.
    points : ndarray of float64, shape (n, d)
        Where each row's degree of freedom lies, d = 2 or 3.
    nodes : ndarray of float64, shape (N, d)
        Where all degrees of freedom lie, prescribed ones included: the nodes of the mesh that belong to cells, in their
        order, and then, for order 2, the midpoints of edges.
    free : ndarray of int64, shape (n,)
        Which of them are rows, ascending.
    prescribed : ndarray of float64, shape (N,)
        The prescribed values, and zero where there is none.
    mesh : VolumeMesh
        The mesh and its tags.
    basis : skfem.CellBasis
        The elements, for whatever else is to be computed from `values`.
    """

    A: csr_array
    b: F64
    points: F64
    nodes: F64
    free: NDArray[np.int64]
    prescribed: F64
    mesh: VolumeMesh
    basis: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.A, self.b, self.points))

    def __repr__(self) -> str:
        return f"FemSystem({len(self.b)} unknowns of {len(self.nodes)}, {self.mesh!r})"

    def values(self, x: ArrayLike) -> F64:
        """Put prescribed values back.

        Parameters
        ----------
        x : array_like, shape (n,)
            A solution of A x = b.

        Returns
        -------
        ndarray of float64, shape (N,)
            u at `nodes`.

        Raises
        ------
        ValueError
            If x is of another length.
        """
        vector = np.asarray(x, dtype=np.float64)
        if vector.shape != self.free.shape:
            raise ValueError(f"x must hold one number per unknown, shape {self.free.shape}, got {vector.shape}")
        u = self.prescribed.copy()
        u[self.free] = vector
        return u

    def write(self, x: ArrayLike, path: str | os.PathLike[str]) -> None:
        """Write u on all nodes, for ParaView and other programs; of order 2 as quadratic cells.

        Parameters
        ----------
        x : array_like, shape (n,)
            A solution of A x = b.
        path : path-like
            A .vtu file in a folder that exists. A crash at any moment leaves the old file or the new one, each whole.
            Its points have three coordinates, as those of the mesh; all cells have a positive volume.

        Raises
        ------
        ValueError
            If x is of another length, or the path ends otherwise.
        OSError
            If the file cannot be written; the old file stays.
        """
        from deepcd.pde.vtk import write_cells

        kind, cells = self.mesh.vtk_cells(np.asarray(self.basis.element_dofs.T))
        write_cells(path, self.mesh.in_space(self.nodes), kind, cells, {"u": self.values(x)})


def fem(
    mesh: Any,
    *,
    order: int = 1,
    coefficient: Field | Matrix = 1.0,
    reaction: Field = 0.0,
    source: Field = 0.0,
    dirichlet: Mapping[str, Value] | None = None,
    neumann: Mapping[str, Value] | None = None,
    robin: Mapping[str, tuple[Value, Value]] | None = None,
) -> FemSystem:
    """Assemble -div(k grad u) + c u = f on a mesh of triangles, quadrilaterals, tetrahedra or hexahedra.

    Values are numbers, or functions of the coordinates x, shape (d, ...), that answer in the shape of x[0]. Tags name
    parts of the mesh: gmsh's physical groups by name, or by number as a string, meshio's sets of cells, scikit-fem's
    boundaries and subdomains. "boundary" is the whole boundary of any mesh. Where nothing is said of the boundary, no
    flux passes through it.

    Parameters
    ----------
    mesh : path-like, meshio.Mesh, skfem.Mesh or VolumeMesh
        A .msh file of gmsh, a .vtu or an .xdmf file, or an object; a VolumeMesh is taken as it is. A plane mesh in
        space loses the coordinate that is constant; nodes that belong to no cell are left out. Cells may be clockwise
        or mirrored.
    order : {1, 2}, default 1
        Degree of the polynomials; 2 for triangles and tetrahedra only, which stay straight.
    coefficient : float, callable, mapping, or d rows of d float or callable, default 1.0
        k, positive; a mapping has a value for each tag of cells and leaves no cell out. Rows are those of a symmetric
        positive definite matrix, the flux then being that of k grad u.
    reaction, source : float, callable or mapping, default 0.0
        c, not negative, and f; zero in cells that a mapping leaves out.
    dirichlet : mapping of str to float or callable, optional
        Prescribed values of u by tags of facets. Where parts meet or overlap, the later one holds.
    neumann : mapping of str to float or callable, optional
        Flux k du/dn into the domain per area. On facets between cells it is a source there.
    robin : mapping of str to pair of float or callable, optional
        Coefficient of transfer h, not negative, and value u_outside: k du/dn = h (u_outside - u). Where parts of
        `neumann` and `robin` overlap, their fluxes add up.

    Returns
    -------
    FemSystem
        ``A, b, points = fem(...)`` has the free degrees of freedom only. If neither `dirichlet`, `robin` nor `reaction`
        holds u, A is singular with the constant as its null space.

    Raises
    ------
    MeshError
        If the mesh cannot be used, or has no such tag; the message lists the tags that there are.
    TypeError, ValueError
        If a value is malformed, not finite, or of the wrong sign; if values are given twice, left out, or given for
        parts with prescribed u as well as with a flux; or if no degree of freedom is left.

    Notes
    -----
    Integrals are those of scikit-fem (Gustafsson and McBain, JOSS 2020), exact for polynomials of twice the degree of
    the element.

    Examples
    --------
    >>> import skfem
    >>> from deepcd.pde import fem
    >>> mesh = skfem.MeshTri().refined(3).with_defaults()  # the unit square, whose sides are tagged
    >>> system = fem(mesh, dirichlet={"left": 0.0, "right": 1.0})
    >>> A, b, points = system
    >>> A.shape, points.shape
    ((63, 63), (63, 2))
    >>> import scipy.sparse.linalg
    >>> u = system.values(scipy.sparse.linalg.spsolve(A.tocsc(), b))
    >>> bool(abs(u - system.nodes[:, 0]).max() < 1e-12)
    True
    """
    require("skfem", "meshio", extra="fem", by="fem")
    import skfem

    for name, given in (("dirichlet", dirichlet), ("neumann", neumann), ("robin", robin)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(
                f"{name} must be a mapping by tags, such as {{'boundary': ...}}, got {type(given).__name__}"
            )
    volume = mesh if isinstance(mesh, VolumeMesh) else volume_mesh(mesh)
    basis = skfem.CellBasis(volume.mesh, _element(volume, order))
    fixed = _fixed(volume, dirichlet, neumann, robin)
    K, f = _integrals(volume, basis, coefficient, reaction, source)
    for tag, value in (neumann or {}).items():
        f = f + _exchange(volume, basis, tag, "neumann", None, value)[1]
    for tag, pair in (robin or {}).items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"robin of {tag!r} must be a pair, the coefficient and the value outside, got {pair!r}")
        transfer, flux = _exchange(volume, basis, tag, "robin", *pair)
        K, f = K + transfer, f + flux
    nodes = np.ascontiguousarray(basis.doflocs.T)
    prescribed, held = np.zeros(len(nodes)), np.zeros(len(nodes), dtype=bool)
    for tag, value in (dirichlet or {}).items():
        dofs = basis.get_dofs(facets=fixed[tag]).flatten()
        prescribed[dofs] = sampled(value, np.ascontiguousarray(nodes[dofs].T), f"dirichlet of {tag!r}")
        held[dofs] = True
    free = np.flatnonzero(~held)
    if not free.size:
        raise ValueError(f"{volume.name}: u is prescribed at all {len(nodes)} nodes, which leaves nothing to solve")
    rows = csr_array(K)[free]
    A = rows[:, free]
    b = f[free] - rows @ prescribed
    A = csr_array(A + A.T) * 0.5  # rounding of sums depends on the order of cells, which differs for (i, j) and (j, i)
    A.sort_indices()
    return FemSystem(A, b, nodes[free], nodes, free, prescribed, volume, basis)


def _element(mesh: VolumeMesh, order: int) -> Any:
    """Return the element of scikit-fem."""
    import skfem

    elements = {
        ("triangle", 1): skfem.ElementTriP1,
        ("triangle", 2): skfem.ElementTriP2,
        ("tetra", 1): skfem.ElementTetP1,
        ("tetra", 2): skfem.ElementTetP2,
        ("quad", 1): skfem.ElementQuad1,
        ("hexahedron", 1): skfem.ElementHex1,
    }
    if (mesh.kind, order) not in elements:
        known = " or ".join(str(known) for kind, known in elements if kind == mesh.kind)
        raise ValueError(f"order must be {known} on cells of type {mesh.kind}, got {order!r}")
    return elements[mesh.kind, order]()


def _fixed(
    mesh: VolumeMesh,
    dirichlet: Mapping[str, Value] | None,
    neumann: Mapping[str, Value] | None,
    robin: Mapping[str, tuple[Value, Value]] | None,
) -> dict[str, NDArray[np.int64]]:
    """Return the facets with prescribed values by tag, and refuse fluxes through them."""
    fixed = {tag: mesh.facets_of(tag, "dirichlet") for tag in dirichlet or {}}
    held = np.zeros(mesh.mesh.nfacets, dtype=bool)
    for role, fluxes in (("neumann", neumann), ("robin", robin)):
        for tag in fluxes or {}:
            facets = mesh.facets_of(tag, role)
            for other, own in fixed.items():
                held[own] = True
                common = np.count_nonzero(held[facets])
                held[own] = False
                if common:
                    raise ValueError(
                        f"{mesh.name}: dirichlet of {other!r} and {role} of {tag!r} have {common} facets in common; "
                        "give a facet either a value or a flux"
                    )
    return fixed


def _integrals(
    mesh: VolumeMesh, basis: Any, coefficient: Field | Matrix, reaction: Field, source: Field
) -> tuple[Any, F64]:
    """Return the matrix and the right-hand side of the cells."""
    import skfem
    from skfem.helpers import dot, mul

    x = np.asarray(basis.global_coordinates())
    if isinstance(coefficient, list | tuple):
        k = matrices(coefficient, x, "coefficient")
        diffusion = skfem.BilinearForm(lambda u, v, w: dot(mul(w.k, u.grad), v.grad))
    else:
        k = on_cells(coefficient, mesh, x, "coefficient", fill=None, least=0.0, open_=True)
        diffusion = skfem.BilinearForm(lambda u, v, w: w.k * dot(u.grad, v.grad))
    c = on_cells(reaction, mesh, x, "reaction", fill=0.0, least=0.0)
    f = on_cells(source, mesh, x, "source", fill=0.0)
    K = diffusion.assemble(basis, k=k)
    if c.any():
        K = K + skfem.BilinearForm(lambda u, v, w: w.c * u * v).assemble(basis, c=c)
    return K, skfem.LinearForm(lambda v, w: w.f * v).assemble(basis, f=f)


def _exchange(mesh: VolumeMesh, basis: Any, tag: str, role: str, h: Value | None, flux: Value) -> tuple[Any, F64]:
    """Return the matrix and the right-hand side of a part of the boundary; None for no matrix where h is None."""
    import skfem

    facets = skfem.FacetBasis(mesh.mesh, basis.elem, facets=mesh.facets_of(tag, role))
    x = np.asarray(facets.global_coordinates())
    g, K = sampled(flux, x, f"{role} of {tag!r}"), None
    if h is not None:
        transfer = sampled(h, x, f"the coefficient of {role} of {tag!r}", 0.0)
        K = skfem.BilinearForm(lambda u, v, w: w.h * u * v).assemble(facets, h=transfer)
        g = transfer * g
    return K, skfem.LinearForm(lambda v, w: w.g * v).assemble(facets, g=g)
