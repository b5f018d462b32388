"""A caller's own preconditioner: a callable that takes the matrix, or a recipe."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, spilu

from deepcd import DeepCD, Status
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.recipes import RECIPES, Part, Recipe

A = sp.csr_array(sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(300, 300)))
A += sp.diags_array(np.geomspace(1, 1e4, 300))
B = np.random.default_rng(0).standard_normal((300, 3))


def diagonal(matrix: sp.csr_array) -> sp.dia_array:
    return sp.diags_array(1 / matrix.diagonal())


def incomplete(matrix: sp.csr_array) -> LinearOperator:
    return LinearOperator(matrix.shape, spilu(sp.csc_array(matrix), drop_tol=0.0).solve, dtype=float)


def jacobi(matrix: sp.csr_array) -> Jacobi:
    return Jacobi(matrix.diagonal())


RECIPE = Recipe("mine", lambda part: Jacobi(part.A.diagonal()), "the diagonal")  # type: ignore[union-attr]


@pytest.mark.parametrize("own", [diagonal, incomplete, jacobi, lambda m: diagonal(m).toarray(), RECIPE])
def test_leads_one_and_several_right_hand_sides(own: Any) -> None:
    system = DeepCD(own).setup(A)
    plain = DeepCD("none").solve(A, B[:, 0], 1e-10).iterations
    solution = system.solve(B[:, 0], 1e-10)
    assert solution.info == 0
    assert np.linalg.norm(B[:, 0] - A @ solution.x) <= 1e-10 * np.linalg.norm(B[:, 0])
    assert solution.iterations < 0.5 * plain
    X, info = system.solve(B, 1e-10)
    assert info == 0
    assert (np.linalg.norm(B - A @ X, axis=0) <= 1e-10 * np.linalg.norm(B, axis=0)).all()


def test_takes_the_iterations_of_the_one_that_ships() -> None:
    shipped = DeepCD("jacobi").solve(A, B[:, 0], 1e-10)
    own = DeepCD(diagonal).solve(A, B[:, 0], 1e-10)
    assert own.iterations == pytest.approx(shipped.iterations, abs=2)
    # The one that ships is compiled together with the iteration, and rounds otherwise.
    np.testing.assert_allclose(DeepCD(RECIPE).solve(A, B[:, 0], 1e-10).x, shipped.x, rtol=1e-8, atol=1e-10)


def test_is_named_in_solutions_and_systems() -> None:
    assert DeepCD.solve.__doc__
    assert DeepCD(diagonal).solve(A, B[:, 0]).preconditioner == "diagonal"
    assert DeepCD(RECIPE).solve(A, B[:, 0]).preconditioner == "jacobi"
    assert "brought by the caller" in str(DeepCD(diagonal).setup(A))


def test_sees_the_coupled_rows_alone() -> None:
    seen: list[sp.csr_array] = []

    def own(matrix: sp.csr_array) -> sp.dia_array:
        seen.append(matrix)
        return diagonal(matrix)

    whole = sp.csr_array(sp.block_diag([A, 3.0 * sp.eye_array(5)]))
    b = np.ones(305)
    x, info = DeepCD(own).solve(whole, b, 1e-10)
    assert info == 0
    assert [matrix.shape for matrix in seen] == [(300, 300)]
    np.testing.assert_allclose(x[300:], 1 / 3)


def test_systems_with_one_can_be_copied_pickled_and_updated() -> None:
    system = DeepCD(diagonal).setup(A)
    x = system.solve(B[:, 0], 1e-10).x
    for twin in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        np.testing.assert_array_equal(twin.solve(B[:, 0], 1e-10).x, x)
        twin.update(2 * A)
        np.testing.assert_allclose(twin.solve(B[:, 0], 1e-10).x, x / 2, rtol=1e-6)


def test_one_that_is_not_definite_is_named() -> None:
    solution = DeepCD(lambda matrix: -diagonal(matrix)).solve(A, B[:, 0], 1e-10, maxiter=3)
    assert solution.status is Status.INDEFINITE_PRECONDITIONER


@pytest.mark.parametrize(
    ("own", "error", "match"),
    [
        ("multigrid", ValueError, "preconditioner must be one of 'auto', 'learned-multigrid'"),
        (3, TypeError, "a name, a Recipe, or a callable"),
        (lambda _: "no matrix", TypeError, "must return a matrix, a LinearOperator or a Preconditioner, got str"),
        (lambda _: np.eye(2), ValueError, r"an M of shape \(300, 300\), got \(2, 2\)"),
    ],
)
def test_what_is_none_is_refused(own: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        DeepCD(own).setup(A)


def test_weights_are_for_those_that_take_them() -> None:
    with pytest.raises(
        ValueError, match="weights are of use to learned-multigrid and auxiliary-grid and dcdm, not to 'diagonal'"
    ):
        DeepCD(diagonal, weights="weights.safetensors")


def test_every_recipe_builds_for_a_part_it_is_made_for() -> None:
    for recipe in RECIPES.values():
        if not (recipe.needs_grid or recipe.needs_points):
            M = recipe.build(Part(A))
            z = M.zeros()
            assert M.apply(B[:, 0].copy(), z) > 0, recipe.name
