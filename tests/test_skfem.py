"""The solver for scikit-fem: it solves what scikit-fem hands over, and tells deepcd where the unknowns lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import skfem
from skfem.models.elasticity import lame_parameters, linear_elasticity
from skfem.models.poisson import laplace, mass, unit_load

import deepcd.skfem
from deepcd import DeepCD, Status
from deepcd.pde import rigid_body_modes
from deepcd.solvers.fem import scikit_fem
from deepcd.solvers.fem.solving import solve_at

from .tagged_meshes import cube

ELEMENTS = {
    "triangles": (skfem.MeshTri, 4, skfem.ElementTriP1()),
    "quadratic triangles": (skfem.MeshTri, 3, skfem.ElementTriP2()),
    "cubic triangles": (skfem.MeshTri, 2, skfem.ElementTriP3()),
    "quadrilaterals": (skfem.MeshQuad, 4, skfem.ElementQuad1()),
    "tetrahedra": (skfem.MeshTet, 2, skfem.ElementTetP1()),
    "quadratic hexahedra": (skfem.MeshHex, 1, skfem.ElementHex2()),
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What reaches deepcd: the points, and the options. The systems are solved without the points."""
    calls: list[dict[str, Any]] = []

    def solve(points: Any, method: DeepCD, A: Any, b: Any, **options: Any) -> Any:
        calls.append({"points": points, "method": method, **options})
        return method.solve(A, b, **options)

    monkeypatch.setattr(scikit_fem, "solve_at", solve)
    return calls


def poisson(name: str) -> tuple[Any, Any, Any]:
    made, levels, element = ELEMENTS[name]
    basis = skfem.Basis(made().refined(levels), element)
    return basis, laplace.assemble(basis), unit_load.assemble(basis)


@pytest.mark.parametrize("name", ELEMENTS)
class TestScalars:
    def test_condensed(self, name: str, seen: list[dict[str, Any]]) -> None:
        basis, K, f = poisson(name)
        D = basis.get_dofs()
        system = skfem.condense(K, f, D=D)
        expected = skfem.solve(*system)
        x = skfem.solve(*system, solver=deepcd.skfem.solver(basis, D=D, tol=1e-10))
        np.testing.assert_allclose(x, expected, atol=1e-9 * abs(expected).max())
        np.testing.assert_array_equal(seen[0]["points"], basis.doflocs[:, system[3]].T)
        assert seen[0]["points"].flags.c_contiguous
        assert seen[0]["tol"] == 1e-10
        assert "B" not in seen[0]

    def test_rows_may_be_in_any_order(self, name: str, seen: list[dict[str, Any]]) -> None:
        basis, K, f = poisson(name)
        kept = np.random.default_rng(0).permutation(basis.complement_dofs(basis.get_dofs()))
        system = skfem.condense(K, f, I=kept)
        x = skfem.solve(*system, solver=deepcd.skfem.solver(basis, I=kept, tol=1e-10))
        np.testing.assert_allclose(x, skfem.solve(*system), atol=1e-9 * abs(x).max())
        np.testing.assert_array_equal(seen[0]["points"], basis.doflocs[:, kept].T)

    def test_all_degrees_of_freedom(self, name: str, seen: list[dict[str, Any]]) -> None:
        basis, K, f = poisson(name)
        K = K + mass.assemble(basis)
        x = skfem.solve(K, f, solver=deepcd.skfem.solver(basis, tol=1e-10))
        np.testing.assert_allclose(x, skfem.solve(K, f), atol=1e-8)
        np.testing.assert_array_equal(seen[0]["points"], basis.doflocs.T)

    def test_enforced(self, name: str, seen: list[dict[str, Any]]) -> None:
        basis, K, f = poisson(name)
        D = basis.get_dofs()
        system = skfem.enforce(K, f, D=D)
        x = skfem.solve(*system, solver=deepcd.skfem.solver(basis, D=D, tol=1e-10))
        np.testing.assert_allclose(x, skfem.solve(*system), atol=1e-9 * abs(x).max())
        assert len(seen[0]["points"]) == basis.N


@pytest.mark.parametrize(
    ("mesh", "element"),
    [
        (skfem.MeshTri().refined(3), skfem.ElementTriP1()),
        (skfem.MeshTri().refined(2), skfem.ElementTriP2()),
        (skfem.MeshTet().refined(1), skfem.ElementTetP2()),
        (skfem.MeshHex().refined(1), skfem.ElementHex1()),
    ],
)
def test_elasticity_with_rollers(mesh: Any, element: Any, seen: list[dict[str, Any]]) -> None:
    """One component is held on one side and all are on another, so that rows are no whole nodes."""
    basis = skfem.Basis(mesh, skfem.ElementVector(element))
    K = linear_elasticity(*lame_parameters(1e3, 0.3)).assemble(basis)
    held = {
        "all": basis.get_dofs(lambda x: x[0] < 1e-9),
        "sliding": basis.get_dofs(lambda x: x[1] < 1e-9).keep("u^2"),
    }
    system = skfem.condense(K, np.ones(basis.N), D=held)
    x = skfem.solve(*system, solver=deepcd.skfem.solver(basis, D=held, tol=1e-10))
    expected = skfem.solve(*system)
    np.testing.assert_allclose(x, expected, atol=1e-7 * abs(expected).max())
    assert seen[0]["points"] is None
    d = mesh.dim()
    modes = rigid_body_modes(basis.doflocs[:, ::d].T)
    assert abs(K @ modes).max() < 1e-11 * abs(K).max()  # they are numbered as the basis is
    np.testing.assert_array_equal(seen[0]["B"], modes[system[3]])


@pytest.mark.parametrize(
    ("mesh", "element"),
    [
        (skfem.MeshTri().refined(2), skfem.ElementTriP1B()),  # a bubble's coefficient is no value
        (skfem.MeshTri().refined(2), skfem.ElementVector(skfem.ElementTriP1B())),
        (skfem.MeshTri().refined(2), skfem.ElementTriMorley()),
        (skfem.MeshTri().refined(2), skfem.ElementTriRT0()),
        (skfem.MeshTri().refined(2), skfem.ElementVector(skfem.ElementTriP1(), 3)),
        (skfem.MeshTri().refined(2), skfem.ElementTriP1() * skfem.ElementTriP1()),
        (skfem.MeshLine().refined(4), skfem.ElementLineP1()),
    ],
)
def test_of_other_bases_nothing_is_said(mesh: Any, element: Any, seen: list[dict[str, Any]]) -> None:
    basis = skfem.Basis(mesh, element)
    A = sp.diags_array(np.arange(1.0, basis.N + 1)).tocsr()
    x = skfem.solve(A, np.ones(basis.N), solver=deepcd.skfem.solver(basis))
    np.testing.assert_allclose(x, 1 / np.arange(1.0, basis.N + 1))
    assert seen[0]["points"] is None
    assert "B" not in seen[0]


def test_options_come_from_the_solver_and_from_the_call(seen: list[dict[str, Any]]) -> None:
    basis, K, f = poisson("triangles")
    D = basis.get_dofs()
    system = skfem.condense(K, f, D=D)
    method = DeepCD("jacobi")
    solve = deepcd.skfem.solver(basis, D=D, method=method, maxiter=500)
    skfem.solve(*system, solver=solve, tol=1e-3)
    skfem.solve(*system, solver=solve)
    assert [(call["tol"], call["maxiter"], call["method"]) for call in seen] == [
        (1e-3, 500, method),
        (1e-8, 500, method),
    ]


def test_a_system_that_is_not_solved_stops_the_program(seen: list[dict[str, Any]]) -> None:
    basis, K, f = poisson("triangles")
    D = basis.get_dofs()
    solve = deepcd.skfem.solver(basis, D=D, method=DeepCD("none"), maxiter=2)
    with pytest.raises(deepcd.skfem.NotSolvedError, match=r"not solved .* \(MAXITER, 2 iterations of none\)") as caught:
        skfem.solve(*skfem.condense(K, f, D=D), solver=solve)
    assert caught.value.solution.status is Status.MAXITER
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(deepcd.skfem.NotSolvedError, match="INDEFINITE"):
        skfem.solve(K - 99 * mass.assemble(basis), f, solver=deepcd.skfem.solver(basis))


class TestRefusals:
    def test_rows_that_nobody_knows(self) -> None:
        basis, K, f = poisson("triangles")
        system = skfem.condense(K, f, D=basis.get_dofs())
        with pytest.raises(
            ValueError, match=r"A has 225 rows, but the basis has 289 .* deepcd.skfem.solver\(basis, D="
        ):
            skfem.solve(*system, solver=deepcd.skfem.solver(basis))
        with pytest.raises(ValueError, match="A has 225 rows, but I or D leave 288 of the 289"):
            skfem.solve(*system, solver=deepcd.skfem.solver(basis, D=np.array([0])))

    @pytest.mark.parametrize(
        ("given", "error", "says"),
        [
            ({"I": np.array([1]), "D": np.array([2])}, ValueError, "either I or D"),
            ({"D": np.array([289])}, ValueError, "D must be numbers from 0 to 288, got 289 to 289"),
            ({"I": np.array([-1, 3])}, ValueError, "I must be numbers from 0 to 288, got -1 to 3"),
            ({"D": np.array([True, False])}, TypeError, "D must be numbers of degrees of freedom, got an array"),
        ],
    )  # fmt: skip
    def test_degrees_of_freedom(self, given: dict[str, Any], error: type[Exception], says: str) -> None:
        with pytest.raises(error, match=says):
            deepcd.skfem.solver(poisson("triangles")[0], **given)

    def test_eigenvalue_problems(self) -> None:
        basis, K, _ = poisson("triangles")
        with pytest.raises(TypeError, match="for eigenvalue problems"):
            skfem.solve(K, mass.assemble(basis), solver=deepcd.skfem.solver(basis))


def test_points_are_handed_to_deepcd() -> None:
    class Method:
        def solve(self, *arguments: Any, **options: Any) -> Any:
            return arguments, options

    points = np.zeros((3, 2))
    assert solve_at(points, Method(), "A", "b", tol=1) == (("A", "b"), {"points": points, "tol": 1})  # type: ignore[arg-type, comparison-overlap]


def test_deepcd_solves_with_the_points() -> None:
    mesh = cube("triangle", 12)
    basis = skfem.Basis(mesh, skfem.ElementTriP1())
    D = basis.get_dofs()
    system = skfem.condense(laplace.assemble(basis), unit_load.assemble(basis), D=D)
    x = skfem.solve(*system, solver=deepcd.skfem.solver(basis, D=D, tol=1e-10))
    np.testing.assert_allclose(x, skfem.solve(*system), atol=1e-9)
