"""Deflation against its definition, and what it is for: a few eigenvalues that are far below the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.data import right_hand_side
from deepcd.data.matrix_files import read_matrix
from deepcd.data.ritz_vectors import Ritz, ritz_pairs
from deepcd.pde import domain, poisson
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners import deflation
from deepcd.solvers.preconditioners.deflation import VECTORS, Deflation
from deepcd.solvers.preconditioners.jacobi import Jacobi


def with_tiny_eigenvalues(n: int, tiny: int) -> tuple[sp.csr_array, np.ndarray]:
    """Return a matrix with eigenvalues of 1 to 2 and a few around 1e-4, and the eigenvectors of the latter, as rows."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = Q * np.concatenate([np.geomspace(3e-5, 3e-4, tiny), np.linspace(1, 2, n - tiny)]) @ Q.T
    return sp.csr_array((A + A.T) / 2), Q[:, :tiny].T


def dense(M: Deflation, n: int) -> np.ndarray:
    columns = []
    for unit in np.eye(n):
        z = M.zeros()
        assert M.apply(unit, z) == pytest.approx(unit @ z)
        columns.append(z)
    return np.array(columns).T


def definition(A: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return (I - Q A) D^-1 + Q with Q = W (W'A W)^-1 W'."""
    Q = W.T @ np.linalg.inv(W @ A @ W.T) @ W
    return (np.eye(len(A)) - Q @ A) / np.diag(A) + Q


@pytest.mark.parametrize("vectors", [1, 5])
def test_is_the_one_defined(vectors: int) -> None:
    A = read_matrix(Path(__file__).parent / "matrices" / "mesh1e1.mtx.gz")
    M = Deflation(A, vectors)
    assert M.ritz.vectors.shape == (vectors, 48)
    expected = definition(A.toarray(), M.ritz.vectors)
    np.testing.assert_allclose(dense(M, 48), expected, atol=1e-5 * np.abs(expected).max())


def test_its_vectors_are_those_of_the_lowest_eigenvalues() -> None:
    A, W = with_tiny_eigenvalues(120, 6)
    M = Deflation(A, 6)
    np.testing.assert_allclose(M.ritz.values, np.linalg.eigvalsh(A.toarray())[:6], rtol=1e-8)
    np.testing.assert_allclose(np.abs(M.ritz.vectors @ W.T), np.eye(6), atol=1e-6)


def test_leaves_nothing_of_a_residual_in_the_coarse_space() -> None:
    A, W = with_tiny_eigenvalues(120, 6)
    M = Deflation(A, 6)
    r, z = np.random.default_rng(1).standard_normal(120), M.zeros()
    M.apply(r, z)
    assert np.abs(W @ r).max() > 0.1
    assert np.abs(W @ (r - A @ z)).max() < 1e-5


@pytest.mark.compiled
def test_exact_eigenvectors_take_their_eigenvalues_out() -> None:
    A, _ = with_tiny_eigenvalues(200, 8)
    b, counts = np.random.default_rng(2).standard_normal(200), {}
    for M, keep in ((Jacobi(A.diagonal()), 1), (Deflation(A, 8), 2), (Deflation(A, 4), 2)):
        record = conjugate_directions(CSROperator(A), b, M, 1e-8, maxiter=400, keep=keep)
        assert record.status is Status.CONVERGED
        counts[str(M)] = len(record.residuals) - 1
    jacobi, eight, four = counts.values()
    assert eight < four < jacobi
    assert eight < jacobi / 2
    spectrum = np.linalg.eigvals(definition(A.toarray(), Deflation(A, 8).ritz.vectors) @ A.toarray()).real
    assert spectrum.min() > 0.4


@pytest.mark.compiled
def test_through_the_front_door_it_needs_fewer_iterations_than_jacobi() -> None:
    A, _ = with_tiny_eigenvalues(200, 12)
    b = np.random.default_rng(3).standard_normal(200)
    few, many = (DeepCD(name).solve(A, b, 1e-8) for name in ("deflation", "jacobi"))
    assert few.status is many.status is Status.CONVERGED
    assert few.iterations < many.iterations / 2
    assert np.linalg.norm(b - A @ few.x) <= 1e-8 * np.linalg.norm(b)


def test_the_null_space_is_none_of_its_vectors() -> None:
    system = poisson(domain((9, 8)))
    M = Deflation(system.A)
    assert np.abs(M.ritz.vectors.sum(axis=1)).max() < 1e-6
    assert M.ritz.values[0] > 1e-3
    b = right_hand_side(system, "smooth", np.random.default_rng(0))
    few, many = (DeepCD(name).solve(system.A, b, 1e-8) for name in ("deflation", "jacobi"))
    assert few.status is Status.CONVERGED
    assert few.iterations < many.iterations


def test_a_small_matrix_has_fewer_vectors() -> None:
    A = sp.csr_array([[4.0, -1.0, 0.0], [-1.0, 3.0, -1.0], [0.0, -1.0, 2.0]])
    M = Deflation(A)
    assert len(M.ritz.values) == 3
    np.testing.assert_allclose(dense(M, 3) @ A.toarray(), np.eye(3), atol=1e-5)


def test_says_what_it_is() -> None:
    M = Deflation(poisson(domain((7, 6), walls="air")).A)
    assert (M.name, M.symmetric, M.linear) == ("deflation", False, False)
    assert str(M) == f"deflation: Jacobi and {VECTORS} Ritz vectors"
    assert M.work == 2 + 2 * VECTORS


def test_little_memory_is_taken_by_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    A = poisson(domain((12, 11), walls="air")).A
    taken: list[int] = []

    def counting(A: sp.csr_array, count: int, rng: np.random.Generator, lowest: int) -> Ritz:
        taken.append(count)
        return ritz_pairs(A, count, rng, lowest)

    monkeypatch.setattr(deflation, "ritz_pairs", counting)
    Deflation(A, 4)
    monkeypatch.setattr(deflation, "MEMORY", 8 * 132 * 20)
    Deflation(A, 4)
    Deflation(A, 16)
    assert taken == [deflation.STEPS, 20, 32]
