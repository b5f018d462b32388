"""Grids whose cells are coupled to all around them: passes against the matrix, the cycle, and whole solves."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd import DeepCD, Status
from deepcd.solvers.grids.stencils import AroundStencil
from deepcd.solvers.grids.wide import discover_wide
from deepcd.solvers.kernels.faces import waves
from deepcd.solvers.kernels.faces.records import Grid
from deepcd.solvers.operators.face_stencil import FaceStencilOperator
from deepcd.solvers.preconditioners.multigrid.around_cycle import AroundCycle
from tests.test_wide_discovery import elements, neighbours

MATRICES = {
    "elements 9x12": lambda: elements((9, 12), (1.0, 1.0), closed=False),
    "stretched 12x9": lambda: elements((12, 9), (1.0, 10.0), closed=True),
    "graph 10x8": lambda: neighbours((10, 8), seed=1) + sp.csr_array(np.eye(80)) * 0.1,
    "elements 5x6x7": lambda: elements((5, 6, 7), (1.0, 1.0, 1.0), closed=False),
    "stretched 6x5x4": lambda: elements((6, 5, 4), (1.0, 10.0, 100.0), closed=True),
    "graph 4x5x6": lambda: neighbours((4, 5, 6), seed=2),
}


def sparse_elements(shape: tuple[int, ...], closed: bool) -> sp.csr_array:
    """Return what `elements` returns, for larger boxes."""
    stiffness, mass = [], []
    for size in shape:
        ends = np.zeros(size)
        ends[[0, -1]] = closed
        beside = sp.diags_array([np.ones(size - 1)] * 2, offsets=[-1, 1])
        stiffness.append(sp.diags_array(2.0 - ends) - beside)
        mass.append((sp.diags_array(4.0 - 2.0 * ends) + beside) / 6)
    total = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis in range(len(shape)):
        product = sp.csr_array(np.ones((1, 1)))
        for other in range(len(shape)):
            product = sp.csr_array(sp.kron(product, stiffness[other] if other == axis else mass[other]))
        total = sp.csr_array(total + product)
    return total


def cycle_of(A: sp.csr_array, coarsest: int = 10) -> tuple[AroundCycle, FaceStencilOperator]:
    embedding, stencil = discover_wide(A)
    grid = Grid(embedding.n, embedding.s, stencil.wrap)
    return AroundCycle(grid, stencil, coarsest=coarsest), FaceStencilOperator(embedding, stencil, A)


@pytest.mark.parametrize("name", MATRICES)
def test_passes_are_those_of_the_matrix(name: str) -> None:
    A = sp.csr_array(MATRICES[name]())
    _, operator = cycle_of(A)
    stencil, embedding, rng = operator.stencil, operator.embedding, np.random.default_rng(0)
    assert isinstance(stencil, AroundStencil)
    dense = A.toarray() / stencil.scale
    z, before, r = (rng.standard_normal(A.shape[0]) for _ in range(3))

    def box(v: NDArray[np.float64]) -> NDArray[np.float32]:
        return operator.embed(v).astype(np.float32)

    p = box(before)
    energy = operator.conjugate(box(z), 0.5, p)
    expected = z + 0.5 * before
    np.testing.assert_allclose(p[embedding.position], expected, atol=1e-6)
    assert energy == pytest.approx(expected @ dense @ expected, rel=1e-5)
    np.testing.assert_allclose(operator._q[embedding.position], dense @ expected, atol=1e-5)
    out = np.zeros_like(p)
    waves.residual(operator.grid, stencil.fields, box(r), p, out)
    np.testing.assert_allclose(out[embedding.position], r - dense @ expected, atol=1e-5)


@pytest.mark.parametrize("name", MATRICES)
def test_the_cycle_is_symmetric_and_positive_definite(name: str) -> None:
    A = sp.csr_array(MATRICES[name]())
    cycle, operator = cycle_of(A)
    columns = []
    for unit in np.eye(A.shape[0]):
        z = cycle.zeros()
        rz = cycle.apply(operator.embed(unit).astype(np.float32), z)
        columns.append(z[operator.embedding.position].astype(float))
        assert rz == pytest.approx(unit @ columns[-1], rel=1e-5)
    M = np.stack(columns, axis=1)
    assert abs(M - M.T).max() <= 1e-5 * abs(M).max()
    values, vectors = np.linalg.eigh(A.toarray() / operator.stencil.scale)
    root = vectors[:, values > 1e-9 * values[-1]] * np.sqrt(values[values > 1e-9 * values[-1]])
    preconditioned = np.linalg.eigvalsh(root.T @ ((M + M.T) / 2) @ root)
    assert preconditioned.min() > 0.1
    assert preconditioned.max() < 1.5


def test_copies_and_twins_are_the_same() -> None:
    cycle, operator = cycle_of(elements((9, 12), (1.0, 1.0), closed=False))
    r = operator.embed(np.random.default_rng(1).standard_normal(108)).astype(np.float32)
    z = cycle.zeros()
    cycle.apply(r, z)
    for other in (cycle.twin(1), copy.deepcopy(cycle), pickle.loads(pickle.dumps(cycle))):
        own = other.zeros()
        other.apply(r, own)
        np.testing.assert_array_equal(own, z)
        assert str(other) == str(cycle)


@pytest.mark.parametrize("shape", [(150, 170), (30, 31, 29)])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("preconditioner", "cycle"), [("auto", "learned-multigrid"), ("geometric-multigrid", "geometric-multigrid")]
)
def test_elements_take_few_iterations_from_the_bare_matrix(
    shape: tuple[int, ...], closed: bool, preconditioner: str, cycle: str
) -> None:
    A = sparse_elements(shape, closed)
    b = A @ np.random.default_rng(3).standard_normal(A.shape[0])
    for sign in (1.0, -1.0):
        system = DeepCD(preconditioner).setup(sign * A)
        solution = system.solve(sign * b, 1e-8)
        assert (solution.info, solution.preconditioner) == (0, cycle)
        assert solution.iterations <= 8
        assert np.linalg.norm(b - A @ solution.x) <= 1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing_but_rounding(threads: int) -> None:
    A = sparse_elements((50, 40, 40), False)
    b = np.random.default_rng(4).standard_normal(A.shape[0])
    one, more = (DeepCD("geometric-multigrid", threads=k).setup(A).solve(b, 1e-9) for k in (1, threads))
    assert one.iterations == more.iterations
    np.testing.assert_allclose(more.x, one.x, atol=1e-7 * abs(one.x).max())


def test_what_is_indefinite_is_named() -> None:
    """Faces are positive, but what changes its sign from cell to cell has a negative energy."""
    shape, one = (48, 48), np.eye(48)
    K = 2.0 * one - np.eye(48, k=1) - np.eye(48, k=-1)
    K[[0, -1], [0, -1]] = 1.0
    faces = np.kron(K, one) + np.kron(one, K)
    A = sp.csr_array(sparse_elements(shape, True) - 0.6 * faces + 0.2 * neighbours(shape).toarray())
    board = (-1.0) ** np.indices(shape).sum(axis=0).ravel()
    assert board @ A @ board < -0.1 * 48**2
    b = A @ np.random.default_rng(5).standard_normal(48**2)
    for name, cycle in (("auto", "learned-multigrid"), ("geometric-multigrid", "geometric-multigrid")):
        solution = DeepCD(name).setup(A).solve(b, 1e-8)
        assert (solution.status, solution.preconditioner) == (Status.INDEFINITE_MATRIX, cycle)


def test_new_values_on_the_old_pattern() -> None:
    A = sparse_elements((60, 70), False)
    b = np.random.default_rng(6).standard_normal(A.shape[0])
    system = DeepCD("geometric-multigrid").setup(A)
    system.update(sp.csr_array(3.0 * A + 0.1 * sp.diags_array(A.diagonal())))
    solution = system.solve(b, 1e-8)
    assert solution.info == 0
    assert np.linalg.norm(b - 3.0 * (A @ solution.x) - 0.1 * A.diagonal() * solution.x) <= 1e-8 * np.linalg.norm(b)


def test_parts_that_are_sealed_and_single_precision() -> None:
    A = sp.csr_array(sp.block_diag([neighbours((20, 50), seed=3), np.eye(50), neighbours((29, 50), seed=4)]))
    b = A @ np.random.default_rng(7).standard_normal(2500)
    for precision, tol in ((np.float64, 1e-9), (np.float32, 1e-4)):
        solution = DeepCD().setup(A.astype(precision)).solve(b.astype(precision), tol)
        assert (solution.info, solution.preconditioner[-10:]) == (0, "-multigrid")
        assert np.linalg.norm(b - A @ solution.x.astype(float)) <= 2 * tol * np.linalg.norm(b)
