"""Over-relaxation: M is what its definition says, and the compiled iteration is conjugate gradients with it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.preconditioners.ssor import SSOR, relaxation_parameter
from deepcd.solvers.survey import survey

from .systems import SYSTEMS, square, weighted

EPS = float(np.finfo(np.float64).eps)
NAMES = [name for name, case in SYSTEMS.items() if case.sign and (case.A.diagonal() > 0).all() and case.A.shape[0] > 1]


def sorted_csr(A: sp.csr_array) -> sp.csr_array:
    A = sp.csr_array(A.astype(np.float64))
    A.sum_duplicates()
    A.eliminate_zeros()
    return A


def dense(M: SSOR, A: sp.csr_array) -> np.ndarray:
    """Return M as its definition says."""
    full = A.toarray()
    d = np.diag(full)
    W = np.diag(d / M.omega) + np.tril(full, -1)
    return np.linalg.inv(W @ np.diag(1 / d) @ W.T)


@pytest.mark.parametrize("name", NAMES)
def test_is_what_its_definition_says(name: str) -> None:
    A = sorted_csr(SYSTEMS[name].A)
    M, r = SSOR(A, survey(A, EPS)), np.random.default_rng(0).standard_normal(A.shape[0])
    z = M.zeros()
    rz = M.apply(r, z)
    expected = dense(M, A) @ r
    np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-12 * abs(expected).max())
    assert rz == pytest.approx(r @ z, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_packed_triangles_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    A = sorted_csr(SYSTEMS[name].A)
    r, k = np.random.default_rng(0).standard_normal((A.shape[0], 4)), 4
    plain = SSOR(A, survey(A, EPS))
    monkeypatch.setattr("deepcd.solvers.preconditioners.ssor._LARGE", 0)
    packed = SSOR(A, survey(A, EPS))
    found = []
    for M in (plain, packed):
        z, block = M.zeros(), np.empty(r.size)
        found.append((M.apply(r[:, 0].copy(), z), z, M.columns(k).apply(r.ravel(), block).copy(), block))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    entries = sum(M.size for M in packed._matrix[0][3:] + packed._matrix[1][3:])
    assert entries == A.nnz - A.shape[0]


@pytest.mark.parametrize("kind", ["ssor", "jacobi"])
@pytest.mark.parametrize("matrix", [square(12), sp.csr_array(weighted(9)[0] + 0.1 * sp.eye_array(81)), square(9, 0.4)])
def test_compiled_iterations_are_those_of_the_loop(kind: str, matrix: sp.csr_array) -> None:
    A = sorted_csr(matrix)
    n, count = A.shape[0], 9
    M = SSOR(A, survey(A, EPS)) if kind == "ssor" else Jacobi(A.diagonal(), A)
    b = np.random.default_rng(1).standard_normal(n)
    record = conjugate_directions(CSROperator(A), b, M, 0.0, maxiter=count)
    vectors = np.zeros((M.vectors, n))
    vectors[2] = b
    alphas, betas, norms = np.zeros((3, 16))
    best = np.array([np.linalg.norm(b), 1.0])
    square_ = M.begin(vectors)
    done, square_ = M.iterate(vectors, square_, alphas, betas, norms, best, 0, 5, 0.0)
    done, square_ = M.iterate(vectors, square_, alphas, betas, norms, best, done, count, 0.0)
    assert done == count
    np.testing.assert_allclose(norms[:count], record.residuals[1:], rtol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(b - A @ vectors[0]), norms[count - 1], rtol=1e-7)
    least = vectors[0] if best[1] else vectors[1]
    np.testing.assert_allclose(np.linalg.norm(b - A @ least), min(np.linalg.norm(b), *norms[:count]), rtol=1e-7)


def test_negative_curvature_ends_the_iteration_before_the_step() -> None:
    A = sorted_csr(sp.csr_array([[1.0, 2.0], [2.0, 1.0]]))
    M = Jacobi(A.diagonal(), A)
    vectors = np.zeros((M.vectors, 2))
    vectors[2] = [1.0, -1.0]
    alphas, betas, norms = np.zeros((3, 4))
    done, _ = M.iterate(vectors, M.begin(vectors), alphas, betas, norms, np.array([1.5, 1.0]), 0, 4, 0.0)
    assert done == 0
    assert not vectors[0].any()


class TestParameter:
    def test_one_where_the_diagonal_dominates(self) -> None:
        assert relaxation_parameter(0.95, -0.2, 1000)[0] == 1.0

    def test_larger_for_smoother_errors_and_smaller_for_bad_order(self) -> None:
        natural = [relaxation_parameter(share, 0.0, 10**6)[0] for share in (0.3, 0.03, 0.003)]
        assert natural == sorted(natural)
        assert natural[-1] > 1.8
        assert relaxation_parameter(0.003, 0.12, 10**6)[0] < 1.3

    @pytest.mark.parametrize("dominance", [0.5, 0.02, 1e-4, 0.0])
    @pytest.mark.parametrize("disorder", [-0.2, 0.0, 0.15])
    def test_is_where_the_bound_is_smallest(self, dominance: float, disorder: float) -> None:
        n = 10_000
        chosen, bound = relaxation_parameter(dominance, disorder, n)
        mu, delta, w = min(1 / max(dominance, 1e-9), n**0.5), max(disorder, 0.0), np.linspace(1, 1.95, 9501)
        bounds = (1 + (2 - w) ** 2 / (4 * w) * mu + w * delta * mu) / (2 - w)
        assert bound == pytest.approx(bounds.min(), rel=1e-6)
        assert chosen == pytest.approx(w[bounds.argmin()], abs=1e-3)

    @pytest.mark.parametrize("shuffled", [False, True])
    def test_is_near_the_best_on_a_square(self, shuffled: bool) -> None:
        A = square(24)
        if shuffled:
            order = np.random.default_rng(0).permutation(576)
            A = sorted_csr(A[order][:, order])
        M = SSOR(A, survey(A, EPS))

        def iterations(omega: float) -> int:
            M.omega = omega
            inverse = dense(M, A)
            values = np.linalg.eigvals(inverse @ A.toarray()).real
            return int(np.sqrt(values.max() / values.min()))

        chosen = iterations(M.omega)
        assert chosen <= 1.6 * min(iterations(omega) for omega in np.linspace(1.0, 1.9, 10))


def test_several_columns_are_answered_like_one() -> None:
    A = sorted_csr(square(11, 0.3))
    M = SSOR(A, survey(A, EPS))
    operator = CSROperator(A).columns(4)
    B = np.random.default_rng(0).standard_normal((121, 4))
    r, z = operator.embed(B), operator.zeros()
    rz = M.columns(4).apply(r, z)
    for j in range(4):
        own = M.zeros()
        expected = M.apply(np.ascontiguousarray(B[:, j]), own)
        np.testing.assert_allclose(operator.block(z)[:, j], own, rtol=1e-10, atol=1e-12)
        assert rz[j] == pytest.approx(expected, rel=1e-10)
