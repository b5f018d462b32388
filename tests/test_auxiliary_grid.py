"""Matrices of meshes led by a cycle on a lattice: the preconditioner, and what "auto" makes of points."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.auto_systems import linear_elements, simplex_elements
from deepcd import DeepCD
from deepcd.data.random_meshes import random_mesh
from deepcd.data.weight_files import load
from deepcd.solvers import costs
from deepcd.solvers.grids import lattice as lattices
from deepcd.solvers.learned import face_architecture
from deepcd.solvers.preconditioners.auxiliary_grid import AuxiliaryGrid
from deepcd.solvers.solution import Status

from .meshes import F64, free_mesh, held, jittered, mesh, slit

NETWORKS = {d: load(None, face_architecture.architecture(d))[0] for d in (2, 3)}


def auxiliary(A: sp.csr_array, points: F64) -> AuxiliaryGrid:
    lattice = lattices.lay(A, points)
    return AuxiliaryGrid(A, lattice, NETWORKS[len(lattice.shape)])


def dense(M: AuxiliaryGrid, n: int) -> F64:
    result = np.zeros((n, n))
    for j, unit in enumerate(np.eye(n)):
        z = M.zeros()
        assert M.apply(unit, z) == pytest.approx(float(unit @ z))
        result[:, j] = z
    return result


def check(M: F64) -> None:
    """Make sure that a matrix is symmetric and positive definite, up to rounding of the cycle."""
    scale = np.sqrt(np.outer(np.diag(M), np.diag(M)))
    assert (np.diag(M) > 0).all()
    assert np.abs((M - M.T) / scale).max() < 1e-4
    assert np.linalg.eigvalsh((M + M.T) / 2 / scale)[0] > 0


@pytest.mark.parametrize("d", [2, 3])
def test_m_is_symmetric_positive_definite_and_close_to_the_inverse(d: int) -> None:
    A, points = mesh(16 if d == 2 else 7, d)
    M = dense(auxiliary(A, points), len(points))
    check(M)
    root = np.linalg.cholesky((M + M.T) / 2)
    values = np.linalg.eigvalsh(root.T @ A.toarray() @ root)
    assert values[-1] / values[0] < (4 if d == 2 else 25)  # slivers lie among tetrahedra


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 3), st.sampled_from([0.0, 1.0, 3.0]), st.booleans())
def test_m_is_symmetric_positive_definite_for_any_points(seed: int, d: int, decades: float, floats: bool) -> None:
    """Also where all that a lattice would be refused for is the case: points have nothing to do with the matrix."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 90))
    ends = rng.integers(0, n, (2, 4 * n))
    W = sp.coo_array((10 ** rng.uniform(-decades, decades, 4 * n), ends), shape=(n, n)).tocsr()
    W.setdiag(0)
    W = sp.csr_array(W + W.T + sp.diags_array(np.ones(n - 1), offsets=1) + sp.diags_array(np.ones(n - 1), offsets=-1))
    W.eliminate_zeros()
    A = sp.csr_array(sp.diags_array(W.sum(axis=1) + (rng.random(n) if floats else 1e-2)) - W)
    A.sort_indices()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADED", "LONG", "FLAT", "TORN", "FEWEST"):
            patch.setattr(lattices, name, np.inf)
        check(dense(auxiliary(A, rng.random((n, d))), n))


def solve(A: sp.csr_array, points: F64, tol: float = 1e-6, **options: Any) -> Any:
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    solution = DeepCD(threads=1).solve(A, b, tol, points=points, **options)
    assert np.linalg.norm(b - A @ solution.x) <= 1.0001 * tol * np.linalg.norm(b)
    assert solution.info == 0
    return solution


FEW_ITERATIONS = {
    "square": 9, "l-shape": 9, "disk with holes": 9, "cube": 25, "bracket": 20, "airfoil": 10, "thin plate": 25,
}  # fmt: skip


@pytest.mark.parametrize("shape", FEW_ITERATIONS)
def test_few_iterations_on_meshes_of_many_shapes(shape: str) -> None:
    points, cells = random_mesh(shape, 4000, np.random.default_rng(1))
    A, x = held(linear_elements(points, cells)[0], points, points[:, 0] < points[:, 0].min() + 1e-6)
    solution = solve(A, x)
    assert solution.preconditioner == "auxiliary-grid"
    assert solution.iterations <= FEW_ITERATIONS[shape]


COEFFICIENTS: dict[str, tuple[Any, int]] = {
    "two materials": (lambda c: np.where(((c - 0.5) ** 2).sum(axis=1) < 0.09, 1000.0, 1.0), 17),
    "blocks": (lambda c: 10 ** np.random.default_rng(3).uniform(-2, 2, (4, 4))[tuple((c * 4).astype(int).T)], 20),
    "waves": (lambda c: np.exp(2 * np.sin(9 * c[:, 0]) * np.cos(7 * c[:, 1])), 10),
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_few_iterations_with_coefficients(name: str) -> None:
    coefficient, most = COEFFICIENTS[name]
    points, cells = random_mesh("square", 5000, np.random.default_rng(1))
    K, _ = linear_elements(points, cells, coefficient(points[cells].mean(axis=1)))
    solution = solve(*held(K, points, points[:, 0] < 1e-6))
    assert (solution.preconditioner, solution.iterations <= most) == ("auxiliary-grid", True)


@pytest.mark.parametrize("number", [1e-5, 0.05, 0.1])
def test_few_iterations_for_a_heat_step_and_robin_data(number: float) -> None:
    points, cells = random_mesh("square", 5000, np.random.default_rng(1))
    K, M = linear_elements(points, cells)
    everywhere = np.zeros(len(points), dtype=bool)
    lumped = sp.diags_array(M.sum(axis=1) * number * len(points))
    A, x = held(sp.csr_array(K + lumped), points, everywhere)
    assert DeepCD("auxiliary-grid").solve(A, np.ones(len(x)), points=x).iterations <= 10
    if number >= 0.05:  # "auto" expects few simple iterations
        assert solve(A, x).preconditioner == "ssor"
    rim = sp.diags_array(np.where(np.abs(points - 0.5).max(axis=1) > 0.5 - 1e-6, number, 0.0))
    assert solve(*held(sp.csr_array(K + rim), points, everywhere)).iterations <= 10


def test_a_mesh_that_is_held_nowhere() -> None:
    A, points = free_mesh(60)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    solution = DeepCD.solve(A, b - b.mean(), points=points)
    assert (solution.info, solution.preconditioner, solution.iterations <= 9) == (0, "auxiliary-grid", True)
    assert abs(solution.x.mean()) < 1e-9 * abs(solution.x).max()
    assert DeepCD.solve(A, b, points=points).status is Status.INCONSISTENT


def test_bodies_close_to_each_other_do_not_hinder_each_other() -> None:
    A, points = free_mesh(30)
    one, inside = held(A, points, np.arange(len(points)) == 0)
    A = sp.csr_array(sp.block_diag([one] * 6))
    where = [inside + np.array([1.01 * (k % 3), 1.01 * (k // 3)]) for k in range(6)]
    assert solve(A, np.concatenate(where)).iterations <= 12


def test_rows_on_their_own_scaling_and_sign() -> None:
    """Dirichlet rows that were kept as rows of the identity, whose points are anywhere; A of any unit, or negative."""
    A, points = mesh(50)
    n = len(points)
    plain = solve(A, points)
    kept = sp.csr_array(sp.block_diag([A, sp.eye_array(5)]))
    assert solve(kept, np.concatenate([points, np.full((5, 2), 1e9)])).iterations == plain.iterations
    b = np.random.default_rng(0).standard_normal(n)
    for factor in (-1.0, 1e-150, 1e150):
        solution = DeepCD(threads=1).solve(factor * A, b, points=points)
        assert (solution.info, solution.preconditioner) == (0, "auxiliary-grid")
        assert abs(solution.iterations - plain.iterations) <= 1
        np.testing.assert_allclose(factor * solution.x, plain.x, rtol=1e-3, atol=1e-5 * abs(plain.x).max())


def test_all_digits_and_single_precision() -> None:
    A, points = mesh(50)
    assert solve(A, points, 1e-12).iterations <= 20
    b = np.ones(A.shape[0], dtype=np.float32)
    solution = DeepCD.solve(A.astype(np.float32), b, 1e-3, points=points)
    assert (solution.info, solution.preconditioner) == (0, "auxiliary-grid")
    assert solution.x.dtype == np.float32


def test_a_system_is_solved_updated_copied_pickled_and_lent() -> None:
    A, points = mesh(50)
    b = np.random.default_rng(0).standard_normal((A.shape[0], 3))
    system = DeepCD(threads=2).setup(A, points=points)
    assert "lattice of" in str(system)
    assert system.preconditioner == "auxiliary-grid"
    first = system.solve(b)
    assert first.info == 0
    for twin in (copy.copy(system), pickle.loads(pickle.dumps(system))):
        np.testing.assert_array_equal(twin.solve(b).x, first.x)
    system.update(sp.csr_array(2 * A))
    assert system.preconditioner == "auxiliary-grid"
    np.testing.assert_allclose(2 * system.solve(b).x, first.x, rtol=1e-3, atol=1e-6 * abs(first.x).max())
    M = system.aspreconditioner()
    assert sp.linalg.cg(2 * A, b[:, 0], M=M, maxiter=20)[1] == 0


def test_a_named_method_says_what_it_lacks() -> None:
    A, points = mesh(50)
    solver = DeepCD("auxiliary-grid")
    assert solver.solve(A, np.ones(A.shape[0]), points=points).info == 0
    with pytest.raises(ValueError, match="needs the points"):
        solver.setup(A)
    with pytest.raises(ValueError, match=r'of no use: .*preconditioner="auto" takes any A'):
        solver.setup(A, points=points * [0, 1])


def test_refused_points_are_left_aside_and_named() -> None:
    A, points = slit(70)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    system = DeepCD(threads=1).setup(A, points=points)
    assert "the points are of no use: a wall without thickness" in system.no_grid
    assert system.no_grid in str(system)
    given, bare = system.solve(b, 1e-8), DeepCD(threads=1).setup(A).solve(b, 1e-8)
    assert given.preconditioner == bare.preconditioner != "auxiliary-grid"
    np.testing.assert_array_equal(given.x, bare.x)
    system.update(sp.csr_array(3 * A))  # which does not lay a lattice once more
    assert system.solve(b).info == 0


def test_a_lattice_that_does_not_serve_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lattices, "TORN", np.inf)
    monkeypatch.setattr(costs, "lattice_cycle", lambda size: 1e8)  # as if it were large
    A, points = slit(90)
    first, second = solve(A, points, 1e-10).attempts[:2]
    assert (first.method, first.iterations) == ("auxiliary-grid", 21)
    assert "stronger preconditioner" in first.reason
    assert second.method != "auxiliary-grid"


def test_points_of_other_nodes_never_make_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    A, points = mesh(60)
    wrong = points[np.random.default_rng(0).permutation(len(points))]
    assert solve(A, wrong).preconditioner != "auxiliary-grid"
    for name in ("GRADED", "LONG", "TORN", "FEWEST"):
        monkeypatch.setattr(lattices, name, np.inf)
    assert solve(A, wrong).info == 0
    assert solve(A, np.random.default_rng(0).random(points.shape)).info == 0
    assert solve(A, points + np.random.default_rng(0).normal(0, 0.3 / 60, points.shape)).iterations <= 15


def test_nonsymmetric_and_indefinite_matrices_are_named() -> None:
    A, points = mesh(60)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    skew = sp.csr_array(A + sp.triu(A, 1) * 0.5)
    assert DeepCD.solve(skew, b, points=points).status is Status.NONSYMMETRIC
    lower = sp.csr_array(A - 0.05 * A.diagonal().mean() * sp.eye_array(A.shape[0]))
    assert DeepCD.solve(lower, b, points=points).info != 0


def test_small_and_dominant_matrices_need_no_lattice() -> None:
    A, points = mesh(15)
    assert solve(A, points).preconditioner == "direct"
    A, points = mesh(60)
    assert solve(sp.csr_array(A + 100 * sp.eye_array(A.shape[0])), points).preconditioner == "jacobi"


def test_a_grid_that_is_found_needs_no_lattice() -> None:
    from deepcd.pde import domain, poisson

    A = poisson(domain((220, 200), walls="air")).A
    points = np.argwhere(np.ones((220, 200))).astype(float)
    assert solve(A, points).preconditioner == "learned-multigrid"


def test_several_unknowns_at_a_point_are_refused_with_advice() -> None:
    K, _ = simplex_elements(jittered(40))
    A, points = held(K, jittered(40), jittered(40)[:, 0] == 0)
    pair = sp.csr_array(sp.kron(A, np.array([[2.0, 0.5], [0.5, 2.0]])))
    system = DeepCD.setup(DeepCD(), pair, points=np.repeat(points, 2, axis=0))
    assert "rigid_body_modes" in system.no_grid
    with pytest.raises(ValueError, match="rigid_body_modes"):
        DeepCD().setup(pair, points=points)
