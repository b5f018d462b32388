"""Finite elements on meshes: orders of accuracy by manufactured solutions, patch tests, and what users get wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import scipy.sparse.linalg
import skfem

from deepcd.pde import FemSystem, fem
from deepcd.pde.fem_values import on_cells, sampled
from deepcd.pde.meshes import MeshError
from deepcd.pde.volume_meshes import volume_mesh

from .tagged_meshes import SIDES, cube, grouped, written

ELEMENTS = [("triangle", 1), ("triangle", 2), ("quad", 1), ("tetra", 1), ("tetra", 2), ("hexahedron", 1)]
elements = pytest.mark.parametrize(("kind", "order"), ELEMENTS)


def solved(system: FemSystem) -> Any:
    """Return u at all nodes, by sparse factors."""
    A, b, points = system
    assert A.shape == (len(b), len(b))
    assert points.shape == (len(b), system.nodes.shape[1])
    return system.values(scipy.sparse.linalg.spsolve(A.tocsc(), b))


def l2_error(system: FemSystem, u: Any, exact: Any) -> float:
    basis = skfem.CellBasis(system.basis.mesh, system.basis.elem, intorder=6)
    difference = np.asarray(basis.interpolate(u)) - exact(np.asarray(basis.global_coordinates()))
    return float(np.sqrt((difference**2 * basis.dx).sum()))


class Manufactured:
    """A smooth u in two or three dimensions, and the data of -div(k grad u) + c u = f that it solves."""

    def u(self, x: Any) -> Any:
        return np.sin(2 * x[0]) * np.exp(x[1]) + (x[2] ** 3 if len(x) == 3 else 0)

    def k(self, x: Any) -> Any:
        return 1 + x[0] * x[1] / 2 + x[0] ** 2

    def c(self, x: Any) -> Any:
        return 1 + x[1]

    def gradient(self, x: Any) -> list[Any]:
        parts = [2 * np.cos(2 * x[0]) * np.exp(x[1]), np.sin(2 * x[0]) * np.exp(x[1])]
        return parts + ([3 * x[2] ** 2] if len(x) == 3 else [])

    def f(self, x: Any) -> Any:
        laplacian = -3 * np.sin(2 * x[0]) * np.exp(x[1]) + (6 * x[2] if len(x) == 3 else 0)
        gradient = self.gradient(x)
        slope = (x[1] / 2 + 2 * x[0]) * gradient[0] + x[0] / 2 * gradient[1]
        return -slope - self.k(x) * laplacian + self.c(x) * self.u(x)

    def flux(self, side: str) -> Any:
        """Return k du/dn on a side."""
        axis, at = SIDES[side]
        return lambda x: (1 if at else -1) * self.k(x) * self.gradient(x)[axis]

    def data(self, d: int) -> dict[str, Any]:
        """Return the equation with prescribed values on one side, a flux on the next, and transfer on the others."""

        def h(x: Any) -> Any:
            return 2 + x[1]

        def outside(side: str) -> Any:
            flux = self.flux(side)
            return lambda x: self.u(x) + flux(x) / h(x)

        others = [side for side, (axis, _) in SIDES.items() if 0 < axis < d]
        return {
            "coefficient": self.k,
            "reaction": self.c,
            "source": self.f,
            "dirichlet": {"left": self.u},
            "neumann": {"right": self.flux("right")},
            "robin": {side: (h, outside(side)) for side in others},
        }


@elements
def test_errors_shrink_with_the_order_of_the_elements(kind: str, order: int) -> None:
    """Of order one the error in L2 shrinks with the square of the cells' size, of order two with its cube."""
    problem = Manufactured()
    cells = {("tetra", 1): (6, 12), ("tetra", 2): (3, 6), ("hexahedron", 1): (4, 8)}.get((kind, order), (8, 16))
    errors = []
    for n in cells:
        mesh = cube(kind, n)
        system = fem(mesh, order=order, **problem.data(mesh.dim()))
        errors.append(l2_error(system, solved(system), problem.u))
    rate = np.log2(errors[0] / errors[1])
    assert order + 0.85 < rate < order + 1.35, errors


@elements
def test_the_matrix_is_symmetric_to_the_bit_and_positive_definite(kind: str, order: int) -> None:
    mesh = cube(kind, 3, distorted=True)
    A = fem(mesh, order=order, **Manufactured().data(mesh.dim())).A
    assert A.dtype == np.float64
    assert A.format == "csr"
    assert A.has_canonical_format
    assert abs(A - A.T).max() == 0
    assert np.linalg.eigvalsh(A.toarray()).min() > 0


@elements
def test_linear_solutions_are_exact_on_distorted_meshes(kind: str, order: int) -> None:
    """The patch test, with every kind of boundary data."""
    mesh = cube(kind, 3, distorted=True)
    slope = np.array([1.5, -2.0, 0.7])[: mesh.dim()]

    def u(x: Any) -> Any:
        return 3 + np.tensordot(slope, x, axes=1)

    system = fem(
        mesh,
        order=order,
        coefficient=4.0,
        dirichlet={"left": u},
        neumann={"right": 4 * slope[0], **({"back": 4 * slope[2], "front": -4 * slope[2]} if mesh.dim() == 3 else {})},
        robin={"bottom": (2.0, lambda x: u(x) - 4 * slope[1] / 2), "top": (5.0, lambda x: u(x) + 4 * slope[1] / 5)},
    )
    np.testing.assert_allclose(solved(system), u(system.nodes.T), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["triangle", "tetra"])
def test_quadratic_solutions_are_exact_of_order_two(kind: str) -> None:
    mesh = cube(kind, 2, distorted=True)

    def u(x: Any) -> Any:
        return x[0] ** 2 - 3 * x[0] * x[1] + x[-1]

    system = fem(mesh, order=2, coefficient=2.0, source=-4.0, dirichlet={"boundary": u})
    np.testing.assert_allclose(solved(system), u(system.nodes.T), rtol=0, atol=1e-12)


@elements
def test_two_materials_in_series(kind: str, order: int) -> None:
    """The flux is the same in both, so that u has a kink where they meet; parts are told by their tags."""
    mesh = cube(kind, 4)
    system = fem(
        mesh, order=order, coefficient={"west": 50.0, "east": 0.5}, dirichlet={"left": 0.0, "right": 1.0}
    )  # fmt: skip
    flux = 1 / (0.5 / 50 + 0.5 / 0.5)
    x = system.nodes[:, 0]
    expected = np.where(x < 0.5, flux * x / 50, 1 - flux * (1 - x) / 0.5)
    np.testing.assert_allclose(solved(system), expected, atol=1e-12)


@elements
def test_constants_are_the_null_space_where_nothing_holds_u(kind: str, order: int) -> None:
    system = fem(cube(kind, 2), order=order, coefficient=3.0, source=1.0, neumann={"left": -1.0})
    assert system.free.size == len(system.nodes)
    assert abs(system.A @ np.ones(len(system.b))).max() < 1e-13
    assert system.b.sum() == pytest.approx(0, abs=1e-13)  # what comes from the source leaves on the left


def test_sources_reactions_and_fluxes_integrate_to_what_they_are() -> None:
    mesh = cube("triangle", 3)
    system = fem(mesh, source={"west": 4.0}, reaction={"east": 3.0}, neumann={"left": 2.0, "boundary": 1.0})
    parts = volume_mesh(mesh)
    areas = {tag: fem(mesh, source={tag: 1.0}).b.sum() for tag in parts.cell_tags}
    assert system.b.sum() == pytest.approx(4 * areas["west"] + 2 + 4)  # fluxes of parts that overlap add up
    assert system.A.sum() == pytest.approx(3 * areas["east"])


def wired() -> Any:
    """Return a square whose facets in the middle are tagged "wire"."""
    mesh = cube("quad", 4)
    middle = np.flatnonzero(np.abs(mesh.p[0, mesh.facets] - 0.5).max(axis=0) < 1e-9)
    return mesh.with_boundaries({"wire": middle})


def test_a_flux_between_cells_is_a_source_there() -> None:
    system = fem(wired(), dirichlet={"left": 0.0, "right": 0.0}, neumann={"wire": 1.0})
    np.testing.assert_allclose(solved(system), 0.5 * (0.5 - abs(system.nodes[:, 0] - 0.5)), atol=1e-13)


class TestDirichlet:
    def test_rows_are_the_free_nodes(self) -> None:
        system = fem(cube("triangle", 4), order=2, dirichlet={"left": 2.0})
        assert (system.points[:, 0] > 0).all()
        np.testing.assert_array_equal(system.nodes[system.free], system.points)
        held = np.setdiff1d(np.arange(len(system.nodes)), system.free)
        assert (system.nodes[held, 0] == 0).all()
        u = system.values(np.arange(len(system.b)))
        assert (u[held] == 2).all()
        np.testing.assert_array_equal(u[system.free], np.arange(len(system.b)))

    def test_the_later_part_holds_where_they_meet(self) -> None:
        corner = [0.0, 0.0]
        for first, second, expected in (("left", "bottom", 2.0), ("bottom", "left", 1.0), ("left", "boundary", 5.0)):
            values = {"left": 1.0, "bottom": 2.0, "boundary": 5.0}
            system = fem(cube("triangle", 2), dirichlet={first: values[first], second: values[second]})
            (at,) = np.flatnonzero((system.nodes == corner).all(axis=1))
            assert system.prescribed[at] == expected

    def test_values_inside_the_domain(self) -> None:
        system = fem(wired(), dirichlet={"wire": 1.0, "left": 0.0})
        np.testing.assert_allclose(solved(system), np.minimum(2 * system.nodes[:, 0], 1), atol=1e-13)


@pytest.mark.parametrize("kind", ["triangle", "quad", "tetra", "hexahedron"])
def test_files_and_objects_lead_to_the_same_system(kind: str, tmp_path: Path) -> None:
    mesh = cube(kind, 2)
    data: dict[str, Any] = {
        "coefficient": {"west": 2.0, "east": 3.0}, "dirichlet": {"left": 1.0}, "robin": {"right": (2.0, 3.0)}
    }  # fmt: skip
    expected = fem(mesh, **data)
    u = dict(zip(map(tuple, expected.nodes.round(9).tolist()), solved(expected), strict=True))
    for source in (grouped(mesh), written(grouped(mesh), tmp_path / "a.msh"), str(tmp_path / "a.msh")):
        system = fem(source, **data)
        found = solved(system)
        np.testing.assert_allclose(found, [u[tuple(node)] for node in system.nodes.round(9).tolist()], atol=1e-12)


class TestWrite:
    @elements
    def test_every_node_and_cell_is_in_the_file(self, kind: str, order: int, tmp_path: Path) -> None:
        mesh = cube(kind, 2)
        system = fem(mesh, order=order, dirichlet={"left": 7.0})
        x = system.points[:, 0] ** 2
        system.write(x, tmp_path / "u.vtu")
        read = meshio.vtu.read(tmp_path / "u.vtu")
        (block,) = read.cells
        assert block.type == kind + {("triangle", 2): "6", ("tetra", 2): "10"}.get((kind, order), "")
        assert len(block.data) == mesh.nelements
        np.testing.assert_array_equal(read.points[:, : mesh.dim()], system.nodes)
        np.testing.assert_array_equal(read.point_data["u"], system.values(x))

    @pytest.mark.parametrize("kind", ["triangle", "tetra"])
    def test_midpoints_stand_in_the_order_of_vtk(self, kind: str, tmp_path: Path) -> None:
        content = grouped(cube(kind, 2, distorted=True))
        for block in content.cells:
            if block.type == kind:
                block.data[::3] = np.roll(block.data[::3], 1, axis=1)  # some become mirrored
        system = fem(content, order=2, dirichlet={"left": 0.0})
        system.write(np.zeros(len(system.b)), tmp_path / "u.vtu")
        read = meshio.vtu.read(tmp_path / "u.vtu")
        nodes = read.points[read.cells[0].data]
        edges = [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)][: 3 if kind == "triangle" else 6]
        corners = 3 if kind == "triangle" else 4
        for at, (i, j) in enumerate(edges, corners):
            np.testing.assert_allclose(nodes[:, at], (nodes[:, i] + nodes[:, j]) / 2, atol=1e-14)

    def test_points_are_those_of_the_file(self, tmp_path: Path) -> None:
        mesh = cube("triangle", 2)
        points = np.insert(mesh.p.T, 1, 3.5, axis=1)
        system = fem(meshio.Mesh(points, [("triangle", mesh.t.T)]), dirichlet={"boundary": 1.0})
        system.write(np.zeros(len(system.b)), tmp_path / "u.vtu")
        np.testing.assert_array_equal(meshio.vtu.read(tmp_path / "u.vtu").points, points)

    def test_what_is_refused(self, tmp_path: Path) -> None:
        system = fem(cube("triangle", 2), dirichlet={"left": 0.0})
        with pytest.raises(ValueError, match=r"path must end with .vtu"):
            system.write(np.zeros(len(system.b)), tmp_path / "u.vtk")
        with pytest.raises(ValueError, match=re.escape("one number per unknown, shape (6,), got (9,)")):
            system.write(np.zeros(9), tmp_path / "u.vtu")
        with pytest.raises(OSError, match="No such file"):
            system.write(np.zeros(len(system.b)), tmp_path / "nowhere" / "u.vtu")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("equation", "error", "says"),
    [
        ({"order": 3}, ValueError, "order must be 1 or 2 on cells of type triangle, got 3"),
        ({"coefficient": -1.0}, ValueError, "coefficient must be finite and above 0, got -1.0 at"),
        ({"coefficient": 0.0}, ValueError, "coefficient must be finite and above 0, got 0.0 at"),
        ({"coefficient": {"west": 1.0, "east": -2.0}}, ValueError, "coefficient of 'east' must be finite and above 0"),
        ({"coefficient": {"west": 1.0}}, ValueError, "coefficient is not given in 4 of 8 cells; tags of"),
        ({"coefficient": {"iron": 1.0}}, MeshError, "'iron' of coefficient is unknown; .* of cells: 'west', 'east'"),
        ({"coefficient": lambda x: x[0] - 0.5}, ValueError, "coefficient must be finite and above 0, got -0"),
        ({"coefficient": lambda x: x[:, :3]}, ValueError, r"in shape \(8, 3\), got \(2, 3, 3\)"),
        ({"coefficient": lambda x: 1j * x[0]}, TypeError, "coefficient must be real, got values of type complex128"),
        ({"coefficient": "steel"}, TypeError, "a number or a function of the coordinates, got str"),
        ({"coefficient": np.ones(8)}, TypeError, "a number or a function of the coordinates, got ndarray"),
        ({"reaction": -1e-9}, ValueError, "reaction must be finite and at least 0, got -1e-09"),
        ({"reaction": {"west": 1.0, "all": 2.0}}, ValueError, "parts 'west' and 'all' have 4 cells in common"),
        ({"source": np.nan}, ValueError, "source must be finite, got nan at"),
        ({"source": lambda x: 1 / (x[0] - x[0])}, ValueError, "source must be finite, got inf at"),
        ({"dirichlet": {"left": np.inf}}, ValueError, r"dirichlet of 'left' must be finite, got inf at \[0.0, "),
        ({"dirichlet": {"west": 1.0}}, MeshError, "'west' of dirichlet is a tag of cells"),
        ({"dirichlet": {"left": 1.0}, "neumann": {"left": 1.0}}, ValueError, "'left' and neumann of 'left' have 2"),
        ({"dirichlet": {"left": 1.0}, "robin": {"boundary": (1.0, 1.0)}}, ValueError, "and robin of 'boundary' have 2"),
        ({"dirichlet": 0.0}, TypeError, "dirichlet must be a mapping by tags, such as .*, got float"),
        ({"robin": (1.0, 2.0)}, TypeError, "robin must be a mapping by tags, such as .*, got tuple"),
        ({"neumann": {"wall": 1.0}}, MeshError, "'wall' of neumann is unknown"),
        ({"neumann": {"left": None}}, TypeError, "neumann of 'left' must be a number or a function"),
        ({"robin": {"left": 1.0}}, TypeError, "robin of 'left' must be a pair, the coefficient and the .*, got 1.0"),
        ({"robin": {"left": (-1.0, 0.0)}}, ValueError, "coefficient of robin of 'left' must be finite and at least 0"),
        ({"dirichlet": {"boundary": 1.0}, "cells": 1}, ValueError, "prescribed at all 4 nodes, which leaves nothing"),
    ],
)  # fmt: skip
def test_what_an_equation_cannot_be(equation: dict[str, Any], error: type[Exception], says: str) -> None:
    equation = dict(equation)
    mesh = cube("triangle", equation.pop("cells", 2)).with_subdomains({"all": np.arange(2)})
    if mesh.nelements == 8:
        mesh = mesh.with_subdomains({"all": np.arange(8)})
    with pytest.raises(error, match=says), np.errstate(divide="ignore"):
        fem(mesh, **equation)


def test_order_two_is_for_simplices() -> None:
    for kind in ("quad", "hexahedron"):
        with pytest.raises(ValueError, match=f"order must be 1 on cells of type {kind}, got 2"):
            fem(cube(kind, 1), order=2)


class TestValues:
    X = np.arange(12.0).reshape(2, 3, 2)

    def test_numbers_of_any_kind_and_functions(self) -> None:
        values: list[Any] = [2, 2.0, np.float32(2), np.array(2.0), True + 1, lambda x: 2, lambda x: np.full((3, 1), 2)]
        for value in values:
            np.testing.assert_array_equal(sampled(value, self.X, "k"), np.full((3, 2), 2.0))

    def test_functions_cannot_change_the_coordinates(self) -> None:
        def careless(x: Any) -> Any:
            x *= 2
            return x[0]

        before = self.X.copy()
        sampled(careless, self.X, "k")
        np.testing.assert_array_equal(self.X, before)

    def test_parts_get_the_coordinates_of_their_cells(self) -> None:
        mesh = volume_mesh(cube("triangle", 2))
        x = np.random.default_rng(0).random((2, 8, 3))
        found = on_cells({"west": lambda x: x[1], "east": 5}, mesh, x, "k", fill=None)
        west = np.zeros(8, dtype=bool)
        west[mesh.cell_tags["west"]] = True
        np.testing.assert_array_equal(found, np.where(west[:, None], x[1], 5.0))


class TestMatricesAsCoefficients:
    def test_a_multiple_of_the_identity_is_that_number(self) -> None:
        mesh = skfem.MeshTri().refined(2).with_defaults()
        plain = fem(mesh, coefficient=lambda x: 1 + x[0], dirichlet={"left": 1.0}, source=2.0)
        full = fem(
            mesh,
            coefficient=[[lambda x: 1 + x[0], 0.0], [0.0, lambda x: 1 + x[0]]],
            dirichlet={"left": 1.0},
            source=2.0,
        )
        np.testing.assert_allclose(full.A.toarray(), plain.A.toarray(), atol=1e-14)
        np.testing.assert_allclose(full.b, plain.b)

    def test_the_flux_of_a_linear_function_is_that_of_the_matrix(self) -> None:
        mesh = skfem.MeshTri().refined(2).with_defaults()
        flux = {"left": -2.5, "right": 2.5, "bottom": -1.5, "top": 1.5}  # n . K (1, 1)
        system = fem(mesh, coefficient=[[2.0, 0.5], [0.5, 1.0]], neumann=flux)
        assert abs(system.A @ system.points.sum(axis=1) - system.b).max() < 1e-12

    @pytest.mark.parametrize(
        ("K", "match"),
        [
            ([[1.0, 0.5], [0.0, 1.0]], "symmetric"),
            ([[1.0, 2.0], [2.0, 1.0]], "positive definite"),
            ([[lambda x: x[0] - 0.5, 0.0], [0.0, 1.0]], "positive definite"),
            ([[1.0, 0.0]], "2 rows of 2 entries"),
            ([[1.0, 0.0], 1.0], "2 rows of 2 entries"),
            ([[1.0, "a"], [0.0, 1.0]], r"coefficient\[0\]\[1\] must be a number"),
        ],
    )
    def test_what_is_no_such_matrix(self, K: Any, match: str) -> None:
        with pytest.raises((TypeError, ValueError), match=match):
            fem(skfem.MeshTri().with_defaults(), coefficient=K)
