"""Matrices of grids with face weights: their operator, and whole solves with them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.solvers.grids.faces import discover_faces
from deepcd.solvers.operators.face_stencil import FaceStencilOperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle

from .systems import relative, square

Shape = tuple[int, ...]


def matrix(
    shape: Shape, seed: int = 0, *, decades: float = 1.0, periodic: Shape = (), walls: float = 0.05, holes: float = 0.0
) -> sp.csr_array:
    """Return the matrix of a box of cells in C order with random face weights; holes are rows of the identity."""
    rng, n = np.random.default_rng(seed), int(np.prod(shape))
    number, solid = np.arange(n).reshape(shape), rng.random(shape) < holes
    i, j, values = [], [], []
    for axis in range(len(shape)):
        other = np.roll(number, -1, axis)
        inside = np.ones(shape, dtype=bool)
        if axis not in periodic:
            inside[(slice(None),) * axis + (-1,)] = False
        inside &= ~(solid | np.roll(solid, -1, axis))
        i.append(number[inside])
        j.append(other[inside])
        values.append(10 ** rng.uniform(-decades, 0, i[-1].size))
    p, q, w = (np.concatenate(v) for v in (i, j, values))
    off = sp.coo_array((-w, (p, q)), shape=(n, n))
    extra = np.where(rng.random(n) < walls, 1.0, 0.0)
    A = sp.csr_array(off + off.T)
    diagonal = extra - np.asarray(A.sum(axis=1)).ravel()
    diagonal[solid.ravel()] = 1.0
    return sp.csr_array(A + sp.diags_array(diagonal))


KINDS = {
    "3D": matrix((9, 10, 11)),
    "2D": matrix((20, 33)),
    "periodic 3D": matrix((8, 7, 9), periodic=(0, 2)),
    "periodic 2D": matrix((16, 21), periodic=(0, 1)),
    "holes": matrix((10, 11, 12), holes=0.2, walls=0.1),
    "six decades": matrix((12, 9, 8), decades=6.0),
    "no wall": matrix((9, 9, 9), walls=0.0),
}


def operator(A: sp.csr_array, threads: int = 1) -> FaceStencilOperator:
    embedding, stencil = discover_faces(A)
    return FaceStencilOperator(embedding, stencil, A, threads)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_steps_and_residuals_are_those_of_the_matrix(kind: str) -> None:
    A = KINDS[kind]
    op, rng = operator(A), np.random.default_rng(1)
    rows, scale = op.embedding.rows, op.stencil.scale
    part = A[rows][:, rows] / scale
    m = part.shape[0]
    x, b, z, before = rng.standard_normal((4, m))
    r = op.zeros()
    square_norm = op.residual(op.embed(b), op.embed(x), r)
    np.testing.assert_allclose(op.extract(r), b - part @ x, atol=1e-13 * abs(part).max() * 10)
    assert square_norm == pytest.approx(np.linalg.norm(b - part @ x) ** 2)
    workspace = op.workspace(Identity(op.size))
    p, short = workspace.p, op.embed(z).astype(np.float32)
    p[:] = op.embed(before)
    energy = op.conjugate(short, 0.25, p)
    direction = op.extract(p).astype(float)
    np.testing.assert_allclose(direction, z + 0.25 * before, atol=1e-6)
    assert energy == pytest.approx(direction @ (part @ direction), rel=1e-5)
    assert op.overlap(p, op.embed(x)) == pytest.approx(x @ (part @ direction), rel=1e-4, abs=1e-4)
    y, left = op.embed(x), op.embed(b).astype(np.float32)
    rr = op.step(0.5, p, y, left)
    np.testing.assert_allclose(op.extract(y), x + 0.5 * direction, atol=1e-12)
    np.testing.assert_allclose(op.extract(left), b - 0.5 * (part @ direction), atol=3e-6)
    assert rr == pytest.approx(np.linalg.norm(op.extract(left).astype(float)) ** 2, rel=1e-5)
    outside = np.ones(op.size, dtype=bool)
    outside[op.embedding.position] = False
    assert not left[outside].any(), "a residual outside the unknowns would count"
    op.step(2.0, p, y, left, first=True)
    np.testing.assert_allclose(op.extract(y), 2.0 * direction)
    np.testing.assert_allclose(op.extract(op.image(op.embed(x))), part @ x, atol=1e-12)
    assert op.row_bound >= abs(part).sum(axis=1).max()


@pytest.mark.parametrize("periodic", [(), (0,), (0, 1, 2)])
def test_threads_share_a_direction(periodic: Shape) -> None:
    A = matrix((50, 47, 44), periodic=periodic)
    z, before = np.random.default_rng(2).standard_normal((2, A.shape[0]))
    found = []
    for threads in (1, 3):
        op = operator(A, threads)
        assert op.team.threads == threads
        p, r = op.embed(before).astype(np.float32), op.embed(z).astype(np.float32)
        energy = op.conjugate(op.embed(z).astype(np.float32), 0.5, p)
        rr = op.step(0.3, p, op.zeros(), r)
        found.append((energy, rr, op.extract(p), op.extract(r), op.residual(op.embed(z), op.embed(before), op.zeros())))
    for one, three in zip(*found, strict=True):
        np.testing.assert_allclose(three, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tol", [1e-4, 1e-12])
def test_solves_to_the_true_residual(kind: str, tol: float) -> None:
    A = KINDS[kind]
    b = A @ np.random.default_rng(3).standard_normal(A.shape[0])
    solution = DeepCD("geometric-multigrid").solve(A, b, tol)
    assert solution.status is Status.CONVERGED
    assert solution.preconditioner == "geometric-multigrid"
    assert relative(A, solution.x, b) <= tol


def test_auto_takes_it() -> None:
    A = matrix((14, 15, 16))
    b = np.random.default_rng(4).standard_normal((A.shape[0], 3))
    system = DeepCD().setup(A)
    assert system.preconditioner == "learned-multigrid"
    assert "14 x 15 x 16" in str(system)
    solution = system.solve(b, 1e-9)
    assert solution.info == 0
    assert relative(A, solution.x, b) <= 1e-9
    for other in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        np.testing.assert_array_equal(other.solve(b[:, 0]).x, system.solve(b[:, 0]).x)


def test_the_matrix_may_be_negative_single_or_changed_afterwards() -> None:
    A = matrix((12, 13, 14))
    b = np.random.default_rng(5).standard_normal(A.shape[0])
    solver = DeepCD("geometric-multigrid")
    assert relative(-A, solver.solve(-A, b, 1e-9).x, b) <= 1e-9
    single = A.astype(np.float32)
    solution = solver.solve(single, b.astype(np.float32), 1e-4)
    assert solution.info == 0
    assert solution.x.dtype == np.float32
    own = A.copy()
    system = solver.setup(own)
    own.data[:] = np.nan
    assert relative(A, system.solve(b, 1e-9).x, b) <= 1e-9
    system.update(3 * A)
    assert relative(3 * A, system.solve(b, 1e-9).x, b) <= 1e-9


def test_what_has_no_solution_is_named() -> None:
    A = KINDS["no wall"]
    b = np.random.default_rng(6).standard_normal(A.shape[0])
    solution = DeepCD("geometric-multigrid").solve(A, b, 1e-8)
    assert solution.status is Status.INCONSISTENT
    left = np.linalg.norm(b - A @ solution.x)
    assert left <= (1 + 1e-6) * abs(b.sum()) / np.sqrt(b.size)


def test_percolating_media_are_left_to_other_methods() -> None:
    rng = np.random.default_rng(7)
    k = np.where(rng.random((60, 61)) < 0.5, 1e-4, 1.0)
    across, along = 2 / (1 / k[1:] + 1 / k[:-1]), 2 / (1 / k[:, 1:] + 1 / k[:, :-1])
    number = np.arange(k.size).reshape(k.shape)
    p = np.concatenate((number[1:].ravel(), number[:, 1:].ravel()))
    q = np.concatenate((number[:-1].ravel(), number[:, :-1].ravel()))
    off = sp.coo_array((-np.concatenate((across.ravel(), along.ravel())), (p, q)), shape=(k.size,) * 2)
    off = sp.csr_array(off + off.T)
    A = sp.csr_array(
        off - sp.diags_array(np.asarray(off.sum(axis=1)).ravel()) + sp.diags_array(0.1 * (number < 61).ravel())
    )
    system = DeepCD().setup(A)
    assert "coarse grids cannot follow" in system.no_grid
    assert system.preconditioner == "approximate-cholesky"  # weights over four decades differ in no order
    b = rng.standard_normal(A.shape[0])
    assert relative(A, system.solve(b, 1e-8).x, b) <= 1e-8
    assert DeepCD("geometric-multigrid").setup(A).preconditioner == "geometric-multigrid"


def test_a_single_solve_with_a_dominant_diagonal_is_not_worth_a_cycle() -> None:
    n = 48
    A = sp.csr_array(matrix((n, n, 20)) + 5 * sp.eye_array(n * n * 20))
    b = np.random.default_rng(8).standard_normal(A.shape[0])
    solution = DeepCD.solve(A, b)
    assert solution.info == 0
    assert solution.preconditioner in ("jacobi", "ssor")
    assert DeepCD().setup(A).preconditioner in ("learned-multigrid", "geometric-multigrid")


def test_equal_couplings_with_a_reaction_are_faces() -> None:
    A = sp.csr_array(square(50) + 3 * sp.eye_array(2500))
    system = DeepCD().setup(A)
    assert isinstance(system._strategy.prepared.parts.M, FaceCycle)  # type: ignore[union-attr]
    assert DeepCD().setup(square(50)).preconditioner == "learned-multigrid"


def test_stored_zeros_and_any_order_do_no_harm() -> None:
    A = matrix((13, 14, 15))
    rows, columns = np.array([0, 5]), np.array([200, 7])
    entries = A.tocoo()
    data = np.concatenate((entries.data, np.zeros(4)))
    i = np.concatenate((entries.row, rows, columns))
    j = np.concatenate((entries.col, columns, rows))
    order = np.lexsort((-j, i))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(i, minlength=A.shape[0]))))
    messy = sp.csr_array((data[order], j[order], indptr), shape=A.shape)
    b = np.random.default_rng(9).standard_normal(A.shape[0])
    for solver in (DeepCD(), DeepCD("pyamg-rs")):
        solution = solver.solve(messy, b, 1e-9)
        assert solution.info == 0
        assert relative(A, solution.x, b) <= 1e-9


def test_a_null_space_that_only_a_failing_solve_shows() -> None:
    """A diagonal that is rounding's alone seals nothing until an inconsistent right-hand side meets it."""
    A = matrix((14, 14, 14), walls=0, decades=2)
    A = sp.csr_array(A + 1e-15 * A.diagonal().max() * sp.eye_array(A.shape[0]))
    b = np.random.default_rng(3).standard_normal(A.shape[0]) + 1
    solution = DeepCD(preconditioner="geometric-multigrid").solve(A, b, 1e-6)
    assert solution.status is Status.INCONSISTENT
    assert DeepCD(preconditioner="geometric-multigrid").solve(A, b - b.mean(), 1e-6).info == 0


@pytest.mark.filterwarnings("error")
def test_what_directions_in_single_precision_do_not_reach_is_left_to_another_method() -> None:
    """A network of pores, as small as in metres and pascals, whose pressures are given by rows but not by columns."""
    n, rng = 18**3, np.random.default_rng(1)
    shape = (18, 18, 18)
    faces = []
    for axis in range(3):
        w = np.where(rng.random(shape) < 0.55, 1e-14 * 10 ** rng.normal(0, 1, shape), 0.0)
        w[(slice(None),) * axis + (-1,)] = 0
        faces.append(w)
    number = np.arange(n).reshape(shape)
    i = np.concatenate([number[w > 0] for w in faces])
    j = np.concatenate([np.roll(number, -1, axis)[w > 0] for axis, w in enumerate(faces)])
    off = sp.coo_array((np.concatenate([w[w > 0] for w in faces]), (i, j)), shape=(n, n))
    off = sp.csr_array(off + off.T)
    L = sp.diags_array(off.sum(axis=1)) - off
    given = np.concatenate([number[0].ravel(), number[-1].ravel()])
    free = np.ones(n)
    free[given] = 0
    mean = L.diagonal().mean()
    A = sp.csr_array(sp.diags_array(free) @ L + sp.diags_array((1 - free) * mean))
    b = np.zeros(n)
    b[given] = mean * np.repeat([2e5, 1e5], 18**2)
    solution = DeepCD(threads=1).solve(A, b, 1e-10)
    assert solution.info == 0
    assert relative(A, solution.x, b) <= 1e-10
