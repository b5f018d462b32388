"""Rigid-body modes: elasticity gives them no energy, and smoothed aggregation takes fewer iterations with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skfem
from skfem.models.elasticity import lame_parameters, linear_elasticity

from deepcd import DeepCD
from deepcd.pde import rigid_body_modes

BODIES = {
    "triangles": lambda: (skfem.MeshTri().refined(4), skfem.ElementTriP1()),
    "quadratic triangles": lambda: (skfem.MeshTri().refined(3), skfem.ElementTriP2()),
    "quadrilaterals": lambda: (skfem.MeshQuad().refined(4), skfem.ElementQuad1()),
    "tetrahedra": lambda: (skfem.MeshTet().refined(2), skfem.ElementTetP1()),
    "hexahedra": lambda: (skfem.MeshHex().refined(2), skfem.ElementHex1()),
}


def elasticity(body: str) -> tuple[Any, Any, Any]:
    """Return a basis, the matrix of a body that nothing holds, and its rigid-body modes."""
    mesh, element = BODIES[body]()
    basis = skfem.Basis(mesh, skfem.ElementVector(element))
    K = linear_elasticity(*lame_parameters(1e3, 0.3)).assemble(basis)
    return basis, K, rigid_body_modes(basis.doflocs[:, :: mesh.dim()].T)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_nothing_holds_moves_without_energy(body: str) -> None:
    basis, K, modes = elasticity(body)
    d = basis.mesh.dim()
    assert modes.shape == (basis.N, {2: 3, 3: 6}[d])
    assert abs(K @ modes).max() < 1e-12 * abs(K).max()
    assert np.linalg.matrix_rank(modes) == modes.shape[1]
    np.testing.assert_allclose(np.linalg.norm(modes, axis=0), np.sqrt(basis.N / d))
    np.testing.assert_allclose(modes[:, :d].T @ modes[:, d:], 0, atol=1e-9)  # rotations are around the centre


@pytest.mark.compiled
@pytest.mark.parametrize("body", ["triangles", "tetrahedra"])
def test_smoothed_aggregation_takes_fewer_iterations_with_them(body: str) -> None:
    basis, K, modes = elasticity(body)
    D = basis.get_dofs(lambda x: x[0] < 1e-9).flatten()
    A, b, _, free = skfem.condense(K, np.ones(basis.N), D=D)
    solver = DeepCD("pyamg-sa")
    plain, informed = (solver.setup(A, B=B).solve(b, tol=1e-8) for B in (None, modes[free]))
    assert (plain.info, informed.info) == (0, 0)
    assert 2 * informed.iterations < plain.iterations


def test_a_square_by_hand() -> None:
    corners = np.array([[9, 9], [11, 9], [11, 11], [9, 11]])
    turned = np.sqrt(0.5) * np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])
    modes = rigid_body_modes(corners).reshape(4, 2, 3)
    np.testing.assert_array_equal(modes[..., :2], np.tile(np.eye(2), (4, 1, 1)))
    np.testing.assert_allclose(modes[..., 2], turned)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_size_and_place_do_not_matter(scale: float) -> None:
    points = np.random.default_rng(0).random((20, 3))
    np.testing.assert_allclose(rigid_body_modes(scale * (points + 5)), rigid_body_modes(points), atol=1e-6)


@pytest.mark.parametrize(
    ("points", "error", "says"),
    [
        ([1.0, 2.0], ValueError, r"shape \(n, d\), got shape \(2,\)"),
        (np.zeros((3, 1)), ValueError, r"shape \(n, d\), got shape \(3, 1\)"),
        (np.zeros((3, 4)), ValueError, r"shape \(n, d\), got shape \(3, 4\)"),
        (np.zeros((0, 2)), ValueError, r"shape \(n, d\), got shape \(0, 2\)"),
        (np.zeros((3, 2)), ValueError, "all 3 coincide"),
        ([[1.0, 2.0, 3.0]], ValueError, "all 1 lie on one line"),
        ([[0, 0, 0], [1, 2, 3], [2, 4, 6]], ValueError, "all 3 lie on one line"),
        ([[0.0, 0.0], [1.0, np.nan]], ValueError, r"must be finite, got \[1.0, nan\] for node 1"),
        ([[0j, 1], [1, 2]], TypeError, "must be real numbers, got an array of type complex128"),
        ([["a", "b"]], TypeError, "must be real numbers"),
    ],
)
def test_what_is_no_body(points: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        rigid_body_modes(points)
