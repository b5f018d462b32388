"""Why a solve fails: null vectors and asymmetry, found where they are and nowhere else."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

from deepcd.solvers.diagnosis import as_singular, is_asymmetric, is_beyond_reach, null_space
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.operators.linear_map import LinearMap
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.preconditioners.jacobi import Jacobi
from deepcd.solvers.space import Preconditioner

from .test_refinement import chain, parts_of

N = 40


def singular(null: np.ndarray, seed: int = 0) -> sp.csr_array:
    """Return a dense matrix whose null space is spanned by orthonormal columns, its other eigenvalues 1 to 2."""
    rng = np.random.default_rng(seed)
    rest = np.linalg.qr(np.c_[null, rng.standard_normal((N, N - null.shape[1]))])[0][:, null.shape[1] :]
    A = (rest * np.linspace(1, 2, rest.shape[1])) @ rest.T
    return sp.csr_array((A + A.T) / 2)


@pytest.fixture
def null() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((N, 2)))[0]


@pytest.fixture
def b() -> np.ndarray:
    return np.random.default_rng(2).standard_normal(N)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_asymmetry_is_told_from_rounding(scale: float) -> None:
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, N))
    A = rng.standard_normal((N, N)) * scale
    A += A.T
    assert not is_asymmetric(u, A @ u, v, A @ v)
    rounded = A / scale * (1 + 1e-7 * rng.uniform(-1, 1, A.shape))
    assert not is_asymmetric(u, rounded @ u, v, rounded @ v, eps=1.2e-7)
    A[3, 5] *= 2
    assert is_asymmetric(u, A @ u, v, A @ v)


@pytest.mark.parametrize("kind", ["csr", "map"])
def test_a_null_vector_is_found_and_made_known(null: np.ndarray, b: np.ndarray, kind: str) -> None:
    A = singular(null[:, :1])
    operator: Any = CSROperator(A) if kind == "csr" else LinearMap(aslinearoperator(A), np.dtype(float))
    parts = parts_of(A, operator)
    found = as_singular(parts, b, None, 1e-8, 10)
    assert found is not None
    assert found.singular
    v = null[:, 0].copy()
    assert found.operator.project(v)
    assert np.linalg.norm(v) < 1e-12
    assert not operator.project(null[:, 0].copy())  # the parts before are as they were
    assert not parts.singular


@pytest.mark.parametrize("name", ["none", "jacobi"])
def test_null_vectors_are_orthonormal_and_mapped_to_zero(null: np.ndarray, b: np.ndarray, name: str) -> None:
    A = CSROperator(singular(null))
    M: Preconditioner = Identity(N) if name == "none" else Jacobi(A.A.diagonal())
    basis = np.stack(null_space(A, b, M, 1e-8, 20), axis=1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    assert np.linalg.norm(A.A @ basis) < 1e-13
    before, after = (float(np.linalg.norm(null.T @ v)) for v in (b, b - basis @ (basis.T @ b)))
    assert after < (1e-8 if name == "none" else 0.2 * before)  # without M, one takes all that b has in the null space


def test_what_is_regular_or_consistent_has_none(null: np.ndarray, b: np.ndarray) -> None:
    assert as_singular(parts_of(chain(N)), b, None, 1e-8, 40) is None
    A = singular(null)
    assert as_singular(parts_of(A, CSROperator(A)), A @ b, None, 1e-8, 40) is None
    near = sp.csr_array(A + 1e-6 * null @ null.T)
    assert as_singular(parts_of(near, CSROperator(near)), b, None, 1e-8, 40) is None


def test_a_start_is_taken_off_b(null: np.ndarray, b: np.ndarray) -> None:
    A = singular(null[:, :1])
    parts, before = parts_of(A, CSROperator(A)), b.copy()
    assert as_singular(parts, b, np.linspace(0, 1, N), 1e-8, 10) is not None
    np.testing.assert_array_equal(b, before)
    assert as_singular(parts, A @ b, b, 1e-8, 10) is None  # nothing is left


def test_where_null_spaces_are_certain_none_is_looked_for(b: np.ndarray) -> None:
    assert UnitStencilOperator.certain_null_space
    assert not CSROperator.certain_null_space
    known = parts_of(chain(N, closed=True))
    assert known.singular
    assert as_singular(known, b, None, 1e-8, 40) is None


def test_no_search_begins_after_the_deadline(null: np.ndarray, b: np.ndarray) -> None:
    A = singular(null[:, :1])
    assert as_singular(parts_of(A, CSROperator(A)), b, None, 1e-8, 10, time.perf_counter() - 1) is None


@pytest.mark.parametrize(
    ("closed", "consistent", "found"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_without_a_search_the_constant_is_tried(b: np.ndarray, closed: bool, consistent: bool, found: bool) -> None:
    A = chain(N, closed=closed)
    parts = parts_of(A, CSROperator(A))
    right = A @ b if consistent else b
    assert (as_singular(parts, right, None, 1e-8, 3, search=False) is not None) == found


def test_another_null_vector_is_not_found_without_a_search(null: np.ndarray, b: np.ndarray) -> None:
    A = singular(null[:, :1])
    assert as_singular(parts_of(A, CSROperator(A)), b, None, 1e-8, 10, search=False) is None


def test_beyond_reach_is_what_no_representable_x_reaches() -> None:
    v = np.zeros(4)
    v[0] = 1.0

    def beyond(entry: float, part: float, target: float) -> bool:
        return is_beyond_reach(CSROperator(sp.csr_array(sp.diags_array([entry, 1.0, 1.0, 1.0]))), v, part, target)

    assert beyond(0.0, 1.0, 0.5)
    assert not beyond(0.0, 0.5, 0.5)
    assert beyond(1e-16, 1.0, 0.5)
    assert not beyond(1e-10, 1.0, 0.5)  # x = 1e10 e_0 reaches it
    assert not beyond(0.0, 0.0, 0.0)
    assert not math.isnan(float(beyond(1e-16, 1.0, 0.0)))


def test_a_matrix_of_zeros_keeps_everything_out_of_reach(b: np.ndarray) -> None:
    A = CSROperator(sp.csr_array((N, N)))
    (v,) = null_space(A, b, Identity(N), 1e-8, 10)
    np.testing.assert_allclose(v, b / np.linalg.norm(b))
