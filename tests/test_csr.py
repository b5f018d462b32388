"""General sparse matrices as operators, and the constants in their null spaces."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.operators.csr import CSROperator, constant_null_space

EPS = float(np.finfo(np.float64).eps)


def neumann(n: int) -> sp.csr_array:
    A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    A[0, 0] = A[n - 1, n - 1] = 1.0
    return sp.csr_array(A)


def blocks(*parts: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(sp.block_diag(parts, format="csr"))


@pytest.fixture
def vectors(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(rng.standard_normal((4, 12)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_every_operation_against_its_definition(vectors: tuple[np.ndarray, ...]) -> None:
    A = neumann(12)
    operator, dense = CSROperator(A), A.toarray()
    b, x, p, r = (v.copy() for v in vectors)
    assert operator.residual(b, x, r) == pytest.approx(np.sum((b - dense @ x) ** 2))
    np.testing.assert_allclose(r, b - dense @ x)
    q = operator.zeros()
    assert operator.apply(p, q) == pytest.approx(p @ dense @ p)
    np.testing.assert_allclose(q, dense @ p)
    x2, r2 = x + 0.3 * p, r - 0.3 * q
    assert operator.update(0.3, p, q, x, r) == pytest.approx(r2 @ r2)
    np.testing.assert_allclose(x, x2)
    np.testing.assert_allclose(r, r2)
    expected = b + 0.7 * p
    operator.direction(b, 0.7, p)
    np.testing.assert_allclose(p, expected)
    assert operator.dot(b, p) == pytest.approx(float(np.sum(b * p)))


def test_embed_and_extract_copy() -> None:
    operator, v = CSROperator(neumann(5)), np.arange(5.0)
    box = operator.embed(v, 2.0)
    np.testing.assert_array_equal(box, 2 * v)
    assert not np.shares_memory(box, v)
    assert not np.shares_memory(operator.extract(box), box)


def test_project_subtracts_the_mean_on_sealed_components_only(rng: np.random.Generator) -> None:
    A = blocks(neumann(4), neumann(6) + sp.eye_array(6), neumann(5))
    component, sealed = constant_null_space(A, EPS)
    assert sealed.tolist() == [True, False, True]
    v = rng.standard_normal(15)
    w = v.copy()
    CSROperator(A, component, sealed).project(w)
    np.testing.assert_allclose([w[:4].mean(), w[10:].mean()], 0, atol=1e-15)
    np.testing.assert_array_equal(w[4:10], v[4:10])
    np.testing.assert_allclose(w[:4], v[:4] - v[:4].mean())


def test_project_does_nothing_without_a_null_space(rng: np.random.Generator) -> None:
    v = rng.standard_normal(6)
    w = v.copy()
    CSROperator(neumann(6)).project(w)
    np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("scale", [1.0, 1e-80, 1e80, 1 / 3])
def test_null_space_does_not_depend_on_the_scale(scale: float) -> None:
    assert constant_null_space(neumann(9) * scale, EPS)[1].tolist() == [True]


@pytest.mark.parametrize("shift", [1e-12, 1e-6, -1e-12])
def test_a_small_shift_is_no_null_space(shift: float) -> None:
    A = sp.csr_array(neumann(9) + shift * sp.eye_array(9))
    assert not constant_null_space(A, EPS)[1].any()


def test_rounded_row_sums_count_as_zero(rng: np.random.Generator) -> None:
    weights = rng.uniform(0.1, 10, size=30)
    off = sp.diags_array([-weights, -weights], offsets=[-1, 1], shape=(31, 31))
    A = sp.csr_array(off - sp.diags_array(np.asarray(off.sum(axis=1)).ravel()))
    assert constant_null_space(A, EPS)[1].tolist() == [True]
