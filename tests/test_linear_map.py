"""Linear operators, real and complex, on float64 vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from deepcd.solvers.operators.linear_map import LinearMap, scaling_exponent
from deepcd.solvers.preconditioners.identity import Identity

N = 7
DTYPES = {"real": np.dtype(np.float64), "complex": np.dtype(np.complex128)}


def hermitian(rng: np.random.Generator, dtype: np.dtype[Any]) -> np.ndarray:
    G = numbers(rng, dtype, N, N)
    return G @ G.conj().T


def numbers(rng: np.random.Generator, dtype: np.dtype[Any], *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape)
    return values + 1j * rng.standard_normal(shape) if dtype.kind == "c" else values


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def inner(u: np.ndarray, v: np.ndarray) -> float:
    return float(np.vdot(u, v).real)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("scale", [1.0, 2.0**-600, 2.0**600, 2.0**-40])
def test_every_operation_against_its_definition(rng: np.random.Generator, dtype: np.dtype[Any], scale: float) -> None:
    A = hermitian(rng, dtype)
    operator = LinearMap(aslinearoperator(A * scale), dtype)
    b, x, p, r = numbers(rng, dtype, 4, N)
    b_, x_, p_, r_ = (operator.embed(v.view(float)) for v in (b, x, p, r))
    assert operator.zeros().shape == p_.shape == (N * dtype.itemsize // 8,)
    q_ = operator.zeros()
    pq = operator.apply(p_, q_)
    factor = scale / 2.0**operator.exponent
    assert 2.0**-65 < factor < 2.0**65
    assert (operator.exponent == 0) == (scale in (1.0, 2.0**-40))
    q = factor * (A @ p)
    np.testing.assert_allclose(q_.view(dtype), q, rtol=1e-12)
    assert pq == pytest.approx(inner(p, q))
    residual = b - factor * (A @ x)
    assert operator.residual(b_, x_, r_) == pytest.approx(inner(residual, residual))
    np.testing.assert_allclose(r_.view(dtype), residual, rtol=1e-10)
    operator.workspace(Identity(p_.size))
    p = b + 0.7 * p
    q = factor * (A @ p)
    assert operator.conjugate(b_, 0.7, p_) == pytest.approx(inner(p, q))
    np.testing.assert_allclose(p_.view(dtype), p, rtol=1e-12)
    np.testing.assert_allclose(operator.image(p_).view(dtype), q, rtol=1e-12)
    assert operator.overlap(p_, b_) == pytest.approx(inner(q, b))
    assert operator.step(0.3, p_, x_, r_) == pytest.approx(inner(residual - 0.3 * q, residual - 0.3 * q))
    np.testing.assert_allclose(x_.view(dtype), x + 0.3 * p, rtol=1e-12)
    np.testing.assert_allclose(r_.view(dtype), residual - 0.3 * q, rtol=1e-10)
    assert operator.dot(b_, x_) == pytest.approx(inner(b, x + 0.3 * p))
    assert operator.norm(b_) == pytest.approx(np.linalg.norm(b))
    before = b_.copy()
    operator.project(b_)
    np.testing.assert_array_equal(b_, before)
    np.testing.assert_allclose(operator.product(x), scale * (A @ x), rtol=1e-10)  # never scaled


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_first_step_reads_neither_direction_nor_iterate_before(
    rng: np.random.Generator, dtype: np.dtype[Any]
) -> None:
    A = hermitian(rng, dtype)
    operator = LinearMap(aslinearoperator(A), dtype)
    z, r = numbers(rng, dtype, 2, N)
    z_, r_ = operator.embed(z.view(float)), operator.embed(r.view(float))
    x, p = (np.full_like(z_, np.nan) for _ in range(2))
    operator.workspace(Identity(z_.size))
    assert operator.conjugate(z_, 0.0, p) == pytest.approx(inner(z, A @ z))
    np.testing.assert_array_equal(p, z_)
    rest = r - 0.3 * (A @ z)
    assert operator.step(0.3, p, x, r_, first=True) == pytest.approx(inner(rest, rest))
    np.testing.assert_array_equal(x.view(dtype), 0.3 * z)
    np.testing.assert_allclose(r_.view(dtype), rest, rtol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_embed_copies(rng: np.random.Generator, dtype: np.dtype[Any]) -> None:
    operator, v = LinearMap(aslinearoperator(np.eye(N)), dtype), numbers(rng, dtype, N)
    box = operator.embed(v.view(float), 2.0)
    np.testing.assert_array_equal(box.view(dtype), 2 * v)
    assert not np.shares_memory(operator.embed(v.view(float)), v)


def test_a_real_operator_sees_real_vectors_only(rng: np.random.Generator) -> None:
    A, seen = hermitian(rng, DTYPES["real"]), []

    def matvec(v: np.ndarray) -> np.ndarray:
        seen.append((v.dtype.char, v.flags.c_contiguous))
        return A @ v

    operator = LinearMap(LinearOperator(A.shape, matvec=matvec, dtype=float), DTYPES["complex"])
    v = numbers(rng, DTYPES["complex"], N)
    np.testing.assert_allclose(operator.product(v), A @ v)
    assert seen == [("d", True)] * 2


@pytest.mark.parametrize(
    ("own", "dtype", "handed"), [("f", "d", "f"), ("d", "d", "d"), ("f", "D", "f"), ("F", "D", "F")]
)
def test_narrow(rng: np.random.Generator, own: str, dtype: str, handed: str) -> None:
    seen: set[str] = set()

    def matvec(v: np.ndarray) -> np.ndarray:
        seen.add(v.dtype.char)
        return 2 * v

    operator = LinearMap(LinearOperator((N, N), matvec=matvec, dtype=own), np.dtype(dtype), narrow=True)
    v = numbers(rng, np.dtype(dtype), N)
    np.testing.assert_allclose(operator.product(v), 2 * v, rtol=1e-6)
    assert seen == {handed}


def test_a_zero_product_says_nothing_of_the_magnitude() -> None:
    operator = LinearMap(aslinearoperator(np.diag([1e200, 0.0])), DTYPES["real"])
    q = operator.zeros()
    assert operator.apply(np.array([0.0, 1.0]), q) == 0
    assert operator.exponent == 0
    assert 0.1 < operator.apply(np.array([1.0, 0.0]), q) < 10
    exponent = operator.exponent
    operator.apply(np.array([1e-100, 0.0]), q)
    assert operator.exponent == exponent  # once chosen it stays: the iteration relies on one A


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_complex_results_of_a_real_operator_are_refused(dtype: np.dtype[Any]) -> None:
    operator = LinearMap(LinearOperator((N, N), matvec=lambda v: 1j * v, dtype=float), dtype)
    with pytest.raises(TypeError, match="declare it complex"):
        operator.product(np.ones(N, dtype))


def test_scaling_exponent() -> None:
    assert [scaling_exponent(size) for size in (0.0, 1.0, 1e-19, 1e19)] == [0, 0, 0, 0]
    assert (scaling_exponent(2.0**199), scaling_exponent(2.0**299, 2.0**100)) == (199, 199)
    assert scaling_exponent(5e-324) == -1074
