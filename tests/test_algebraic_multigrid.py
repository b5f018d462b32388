"""PyAMG's hierarchies as symmetric preconditioners."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
from deepcd.solvers.preconditioners.identity import Identity

Method = Literal["sa", "rs"]
METHODS: tuple[Method, ...] = ("sa", "rs")


def poisson(n: int) -> sp.csr_array:
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = sp.eye_array(n)
    return sp.csr_array(sp.kron(T, eye) + sp.kron(eye, T))


def dense(M: AlgebraicMultigrid, n: int) -> np.ndarray:
    columns = []
    for unit in np.eye(n):
        z = M.zeros()
        M.apply(unit, unit, z)
        columns.append(z)
    return np.array(columns).T


@pytest.mark.parametrize("method", METHODS)
def test_cycle_is_symmetric_positive_definite_and_close_to_the_inverse(method: Method) -> None:
    A = poisson(12)
    M = dense(AlgebraicMultigrid(A, method), 144)
    np.testing.assert_allclose(M, M.T, atol=1e-12)
    ritz = np.linalg.eigvals(M @ A.toarray()).real
    assert ritz.min() > 0.2
    assert ritz.max() < 1 + 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_returns_both_products(method: Method) -> None:
    rng = np.random.default_rng(0)
    M = AlgebraicMultigrid(poisson(10), method)
    r, q = rng.standard_normal((2, 100))
    z = M.zeros()
    rz, qz = M.apply(r, q, z)
    np.testing.assert_allclose([rz, qz], [r @ z, q @ z], rtol=1e-12)
    assert M.name == f"pyamg-{method}"
    assert M.symmetric
    assert 4 < M.work < 20


def test_setup_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    A, r = poisson(20), np.ones(400)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    z1, z2 = np.zeros(400), np.zeros(400)
    AlgebraicMultigrid(A).apply(r, r, z1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index] # noqa: NPY002
    np.random.seed(6)  # noqa: NPY002
    AlgebraicMultigrid(A).apply(r, r, z2)
    np.testing.assert_array_equal(z1, z2)


def test_takes_64_bit_indices_and_leaves_the_matrix_alone() -> None:
    A = poisson(10)
    wide = sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape)
    twin = A.copy()
    z = np.zeros(100)
    AlgebraicMultigrid(wide).apply(np.ones(100), np.ones(100), z)
    assert z.min() > 0
    assert (twin != A).nnz == 0
    assert wide.indices.dtype == np.int64


def test_a_matrix_too_small_to_coarsen_is_solved_exactly() -> None:
    A = sp.csr_array([[4.0, -1.0], [-1.0, 3.0]])
    z = np.zeros(2)
    AlgebraicMultigrid(A).apply(np.array([1.0, 2.0]), np.zeros(2), z)
    np.testing.assert_allclose(A @ z, [1, 2])


def test_str_lists_the_levels() -> None:
    assert "levels 400 > " in str(AlgebraicMultigrid(poisson(20)))


def test_identity() -> None:
    M = Identity(3)
    r, q, z = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, -1.0]), np.empty(3)
    assert M.apply(r, q, z) == (14.0, -1.0)
    np.testing.assert_array_equal(z, r)
    assert (M.name, M.symmetric, M.zeros().tolist()) == ("none", True, [0.0] * 3)
