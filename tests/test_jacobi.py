"""Jacobi against its definition, and what it shares with the other preconditioners of any matrix."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import cg as scipy_cg

from deepcd import DeepCD, Status
from deepcd.data import right_hand_side
from deepcd.pde import ball, domain, poisson
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.recipes import RECIPES, Part

from . import systems
from .systems import dominant, relative, square

NAMES = ("jacobi", "ic0", "mic0", "deflation")


anisotropic = partial(square, epsilon=0.05)


def singular() -> tuple[sp.csr_array, np.ndarray]:
    """Return a matrix of pure Neumann conditions, and three right-hand sides in its range."""
    system = poisson(domain((11, 9), solid=ball((5, 4), 2)))
    assert system.sealed.all()
    rng = np.random.default_rng(1)
    return system.A, np.stack([right_hand_side(system, "random", rng) for _ in range(3)], axis=1)


def definite(make: Any) -> tuple[sp.csr_array, np.ndarray]:
    A = make()
    return A, np.random.default_rng(2).standard_normal((A.shape[0], 3))


SYSTEMS = {
    name: partial(definite, lambda name=name: systems.SYSTEMS[name].A)
    for name in ("dominant", "badly scaled", "anisotropic")
} | {"pure Neumann": singular}


def preconditioner(name: str, A: sp.csr_array) -> Any:
    M = RECIPES[name].build(Part(A))
    assert M.name == name
    return M


class TestJacobi:
    def test_is_the_inverse_of_the_diagonal(self) -> None:
        A = dominant(80, decades=4)
        M, rng = Jacobi(A.diagonal()), np.random.default_rng(0)
        r, z = rng.standard_normal(80), M.zeros()
        product = M.apply(r, z)
        np.testing.assert_allclose(z, np.linalg.solve(np.diag(A.diagonal()), r), rtol=1e-12)
        assert product == pytest.approx(r @ z, rel=1e-12)
        assert (M.symmetric, M.linear, M.work) == (True, True, 1.0)

    def test_iterates_are_those_of_preconditioned_conjugate_gradients(self) -> None:
        A = dominant(80, decades=2)
        b = np.random.default_rng(1).standard_normal(80)
        ours: list[np.ndarray] = []
        theirs: list[np.ndarray] = []
        DeepCD("jacobi").solve(A, b, 1e-12, maxiter=10, callback=lambda x: ours.append(x.copy()))
        M = sp.diags_array(1 / A.diagonal())
        scipy_cg(A, b, rtol=1e-30, maxiter=10, M=M, callback=lambda x: theirs.append(x.copy()))
        assert len(ours) == len(theirs) == 10
        for mine, other in zip(ours, theirs, strict=True):
            assert np.abs(mine - other).max() <= 1e-10 * np.abs(other).max()

    @pytest.mark.compiled
    def test_pays_where_the_diagonal_varies(self) -> None:
        A, B = definite(lambda: dominant(150, decades=4))
        counts = [DeepCD(name).solve(A, B[:, 0], 1e-8).iterations for name in ("jacobi", "none")]
        assert counts[0] < counts[1] / 3

    def test_says_what_it_is(self) -> None:
        assert "preconditioner: jacobi: the inverse of the diagonal" in str(DeepCD("jacobi").setup(dominant(20)))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
class TestThroughTheFrontDoor:
    def test_solves_for_one_right_hand_side(self, name: str, system: str) -> None:
        A, B = SYSTEMS[system]()
        solution = DeepCD(preconditioner=name).solve(A, B[:, 0], 1e-9)
        assert (solution.status, solution.preconditioner) == (Status.CONVERGED, name)
        assert relative(A, solution.x, B[:, 0]) <= 1e-9
        assert "replaced" not in solution.detail

    def test_solves_for_a_block(self, name: str, system: str) -> None:
        A, B = SYSTEMS[system]()
        solution = DeepCD(preconditioner=name).solve(A, B, 1e-9)
        assert (solution.status, solution.x.shape) == (Status.CONVERGED, B.shape)
        assert relative(A, solution.x, B) <= 1e-9


@pytest.mark.parametrize("name", NAMES)
class TestAnyOfThem:
    @pytest.mark.parametrize("factor", [1e-90, 1e-50, 1e50, 1e90])
    def test_the_size_of_the_matrix_does_not_matter(self, name: str, factor: float) -> None:
        A, B = definite(lambda: anisotropic(12))
        plain = DeepCD(name).solve(A, B[:, 0], 1e-8)
        scaled = DeepCD(name).solve(factor * A, B[:, 0], 1e-8)
        assert scaled.status is Status.CONVERGED
        assert "replaced" not in scaled.detail
        assert abs(scaled.iterations - plain.iterations) <= 1
        np.testing.assert_allclose(factor * scaled.x, plain.x, atol=1e-6 * np.abs(plain.x).max())

    def test_rows_without_couplings_are_solved_on_their_own(self, name: str) -> None:
        A = sp.block_diag([sp.csr_array([[5.0]]), dominant(40), sp.csr_array((1, 1))], format="csr")
        b = np.append(np.random.default_rng(0).standard_normal(41), 0.0)
        solution = DeepCD(name).solve(A, b, 1e-9)
        assert solution.status is Status.CONVERGED
        assert relative(A, solution.x, b) <= 1e-9
        assert solution.x[0] == b[0] / 5

    def test_a_negative_definite_matrix_is_solved_with_the_other_sign(self, name: str) -> None:
        A, B = definite(lambda: dominant(60))
        solution = DeepCD(name).solve(-A, B[:, 0], 1e-9)
        assert solution.status is Status.CONVERGED
        assert relative(-A, solution.x, B[:, 0]) <= 1e-9

    def test_new_values_are_taken(self, name: str) -> None:
        old = dominant(150)
        S = sp.diags_array(10 ** np.random.default_rng(7).uniform(-2, 2, 150))
        new, b = sp.csr_array(S @ old @ S), np.random.default_rng(0).standard_normal(150)
        system = DeepCD(name).setup(old)
        system.update(new)
        fresh = DeepCD(name).solve(new, b, 1e-8)
        updated = system.solve(b, 1e-8)
        assert updated.iterations == fresh.iterations
        np.testing.assert_array_equal(updated.x, fresh.x)

    def test_can_be_pickled_and_copied(self, name: str) -> None:
        A, B = definite(lambda: dominant(50))
        system = DeepCD(name).setup(A)
        x = system.solve(B[:, 0], 1e-8).x
        for twin in (pickle.loads(pickle.dumps(system)), copy.deepcopy(system)):
            np.testing.assert_array_equal(twin.solve(B[:, 0], 1e-8).x, x)

    def test_an_indefinite_matrix_is_no_success(self, name: str) -> None:
        A = dominant(60, seed=3)
        A = sp.csr_array(A - 0.9 * sp.diags_array(A.diagonal() * (np.arange(60) % 2)))
        assert np.linalg.eigvalsh(A.toarray())[0] < 0 < A.diagonal().min()
        b = np.random.default_rng(0).standard_normal(60)
        solution = DeepCD(name).solve(A, b, 1e-8, maxiter=40)
        assert np.isfinite(solution.x).all()
        assert solution.info != 0 or relative(A, solution.x, b) <= 1e-8


def test_only_symmetric_ones_are_handed_to_others() -> None:
    A, B = definite(lambda: dominant(60, decades=3))
    for name in ("jacobi", "ic0", "mic0"):
        M = DeepCD(name).setup(A).aspreconditioner()
        z = preconditioner(name, A).zeros()
        preconditioner(name, A).apply(B[:, 0].copy(), z)
        np.testing.assert_allclose(M @ B[:, 0], z, rtol=1e-12)
    with pytest.raises(ValueError, match="deflation is not symmetric"):
        DeepCD("deflation").setup(A).aspreconditioner()


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["jacobi", "none", "ic0", "mic0", "ssor"])
def test_columns_are_answered_like_single_ones(name: str, k: int) -> None:
    A = dominant(70)
    M: Any = RECIPES[name].build(Part(A))
    R, Z = np.random.default_rng(0).standard_normal((70, k)), np.empty((70, k))
    products = M.columns(k).apply(R.ravel(), Z.ravel())
    for j in range(k):
        z = M.zeros()
        assert products[j] == pytest.approx(M.apply(R[:, j].copy(), z), rel=1e-12)
        np.testing.assert_allclose(Z[:, j], z, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_is_left_alone(name: str) -> None:
    M = preconditioner(name, dominant(30))
    r = np.random.default_rng(0).standard_normal(30)
    before = r.copy()
    M.apply(r, M.zeros())
    np.testing.assert_array_equal(r, before)
