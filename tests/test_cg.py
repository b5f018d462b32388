"""SciPy's cg, by the loop of this project."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from scipy.sparse.linalg import cg as scipy_cg

import deepcd
from deepcd import Status


def poisson(n: int) -> sp.csr_array:
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = sp.eye_array(n)
    return sp.csr_array(sp.kron(T, eye) + sp.kron(eye, T))


A = poisson(20)
b = np.random.default_rng(0).standard_normal(400)
JACOBI = sp.diags_array(1 / A.diagonal())


def relative(x: np.ndarray, right: np.ndarray = b) -> float:
    return float(np.linalg.norm(right - A @ x) / np.linalg.norm(right))


def test_signature_is_scipys() -> None:
    ours, theirs = (inspect.signature(f).parameters.values() for f in (deepcd.cg, scipy_cg))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("convert", [sp.csr_array, sp.coo_matrix, lambda a: a.toarray(), aslinearoperator])
@pytest.mark.parametrize("M", [None, JACOBI, JACOBI.toarray(), aslinearoperator(JACOBI)])
def test_agrees_with_scipy(convert: Any, M: Any) -> None:
    x, info = deepcd.cg(convert(A), b, rtol=1e-9, M=M)
    y, _ = scipy_cg(A, b, rtol=1e-12, M=M)
    assert info == 0
    assert relative(x) <= 1e-9
    np.testing.assert_allclose(x, y, atol=1e-6)


def test_iterates_are_scipys() -> None:
    M = LinearOperator(A.shape, matvec=lambda r: r / (1 + np.arange(400) % 3))
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    start = np.random.default_rng(1).standard_normal(400)
    deepcd.cg(A, b, start, rtol=1e-30, maxiter=20, M=M, callback=lambda x: ours.append(x.copy()))
    scipy_cg(A, b, start, rtol=1e-30, maxiter=20, M=M, callback=lambda x: theirs.append(x.copy()))
    assert len(ours) == len(theirs) == 20
    np.testing.assert_allclose(ours, theirs, atol=1e-12 * np.abs(theirs).max())


def test_start_is_used_and_not_changed() -> None:
    exact = np.linalg.solve(A.toarray(), b)
    start = exact.copy()
    assert deepcd.cg(A, b, start).iterations == 0
    np.testing.assert_array_equal(start, exact)
    assert deepcd.cg(A, b, exact + 1e-3, rtol=1e-8).iterations < deepcd.cg(A, b, rtol=1e-8).iterations


def test_start_from_mb() -> None:
    inverse = np.linalg.inv(A.toarray())
    assert deepcd.cg(A, b, "Mb", M=inverse).iterations == 0
    assert deepcd.cg(A, b, "Mb").residuals[0] == pytest.approx(np.linalg.norm(b - A @ b))


@pytest.mark.parametrize("scale", [1e-250, 1e-170, 1.0, 1e170, 1e250])
def test_magnitude_of_b_does_no_harm(scale: float) -> None:
    x, info = deepcd.cg(A, b * scale, rtol=1e-8)
    assert info == 0
    assert relative(x / scale) <= 1e-8


def test_zero_b_gives_a_fresh_zero() -> None:
    zero = np.zeros(400)
    x, info = deepcd.cg(A, zero)
    assert info == 0
    assert x is not zero
    assert not x.any()


def test_float32_is_not_called_converged_when_it_is_not() -> None:
    single, b32 = poisson(60).astype(np.float32), np.ones(3600, dtype=np.float32)
    solution = deepcd.cg(single, b32, rtol=1e-9)
    assert solution.x.dtype == np.float32
    true = np.linalg.norm(b32 - single.astype(float) @ solution.x.astype(float))
    assert true > 1e-9 * np.linalg.norm(b32)
    assert (solution.status, solution.info > 0) == (Status.ATTAINABLE_ACCURACY, True)
    assert deepcd.cg(single, b32, rtol=1e-3).info == 0


def test_zero_tolerances_end_at_the_attainable_accuracy() -> None:
    solution = deepcd.cg(A, b, rtol=0.0)
    assert solution.status is Status.ATTAINABLE_ACCURACY
    assert relative(solution.x) < 1e-13


def test_failures_are_named() -> None:
    assert deepcd.cg(A, b, maxiter=3).info == 3
    assert deepcd.cg(A - 2 * sp.eye_array(400), b).status is Status.INDEFINITE_MATRIX
    assert deepcd.cg(A, b, callback=lambda _: True).status is Status.CALLBACK


@pytest.mark.parametrize(
    ("error", "arguments", "options"),
    [
        (ValueError, (A[:5], b), {}),
        (ValueError, (A, b[:5]), {}),
        (ValueError, (A, b * np.nan), {}),
        (ValueError, (A, b), {"atol": None}),
        (ValueError, (A, b), {"atol": "legacy"}),
        (ValueError, (A, b), {"atol": -1.0}),
        (ValueError, (A, b), {"rtol": np.nan}),
        (ValueError, (A, b), {"maxiter": 0}),
        (ValueError, (A, b, "bM"), {}),
        (ValueError, (A, b), {"M": np.eye(3)}),
        (TypeError, (A, b), {"callback": 3}),
        (TypeError, (A, b * 1j), {}),
        (TypeError, (A * 1j, b), {}),
        (TypeError, (A, b, None, 1e-5), {}),
    ],
)
def test_bad_input(error: type[Exception], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(error):
        deepcd.cg(*arguments, **options)
