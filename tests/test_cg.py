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

from .systems import square as poisson

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
        (TypeError, (A, b, b * 1j), {}),
        (TypeError, (A, b), {"M": JACOBI * (1 + 0j)}),
        (TypeError, (A, b.astype(object)), {}),
        (TypeError, (A.toarray().astype(object), b), {}),
        (TypeError, (A, b, None, 1e-5), {}),
        (ValueError, (A * np.nan, b), {}),
        (ValueError, (np.full(A.shape, np.inf), b), {}),
        (ValueError, (A, np.full(400, complex(1, np.inf))), {}),
        (ValueError, (A, b), {"M": np.full(A.shape, np.nan)}),
        (ValueError, (np.ones(400), b), {}),
        (ValueError, (A, np.stack([b, b], axis=1)), {}),
    ],
)
def test_bad_input(error: type[Exception], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(error):
        deepcd.cg(*arguments, **options)


# Complex Hermitian systems


def hermitian(n: int, seed: int = 3) -> np.ndarray:
    """A random positive definite matrix with eigenvalues 1 .. 40."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))[0]
    H = (Q * np.linspace(1, 40, n)) @ Q.conj().T
    return (H + H.conj().T) / 2


H = hermitian(60)
c = np.random.default_rng(4).standard_normal((60, 2)) @ np.array([1, 1j])
H_JACOBI = np.diag(1 / H.diagonal().real)
COMPLEX_M = hermitian(60, 5)


@pytest.mark.parametrize("convert", [np.array, sp.csr_array, sp.coo_matrix, aslinearoperator, np.asfortranarray])
@pytest.mark.parametrize("M", [None, H_JACOBI, sp.csr_array(H_JACOBI), aslinearoperator(H_JACOBI), COMPLEX_M])
def test_hermitian_iterates_are_scipys(convert: Any, M: Any) -> None:
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    start = np.roll(c, 1)
    deepcd.cg(convert(H), c, start, rtol=1e-30, maxiter=15, M=M, callback=lambda x: ours.append(x.copy()))
    scipy_cg(H, c, start, rtol=1e-30, maxiter=15, M=M, callback=lambda x: theirs.append(x.copy()))
    assert len(ours) == len(theirs) == 15
    np.testing.assert_allclose(ours, theirs, atol=1e-11 * np.abs(theirs).max())
    x, info = deepcd.cg(convert(H), c, rtol=1e-10, M=M)
    assert info == 0
    assert np.linalg.norm(c - H @ x) <= 1e-10 * np.linalg.norm(c)


@pytest.mark.parametrize("A_type", "fdFD")
@pytest.mark.parametrize("b_type", "fdFD")
@pytest.mark.parametrize("operator", [False, True])
def test_dtype_of_x_is_scipys(A_type: str, b_type: str, operator: bool) -> None:
    matrix = (H if A_type in "FD" else H.real + 40 * np.eye(60)).astype(A_type)
    right = (c if b_type in "FD" else c.real).astype(b_type)
    A_, start = (aslinearoperator(matrix) if operator else matrix), np.ones(60)
    theirs, _ = scipy_cg(A_, right, rtol=1e-4)
    for solution in (deepcd.cg(A_, right, start, rtol=1e-4), deepcd.cg(A_, 0 * right, start)):
        assert solution.info == 0
        assert solution.x.dtype == theirs.dtype
    x = deepcd.cg(A_, right, start, rtol=1e-4).x
    assert np.linalg.norm(right - matrix @ x.astype("D")) <= 1e-4 * np.linalg.norm(right)


def test_real_matrix_and_complex_right_side() -> None:
    right = b + 1j * b[::-1]
    for matrix in (A, A.toarray(), aslinearoperator(A)):
        x, info = deepcd.cg(matrix, right, rtol=1e-9, M=JACOBI)
        assert info == 0
        assert np.linalg.norm(right - A @ x) <= 1e-9 * np.linalg.norm(right)


@pytest.mark.parametrize(
    "spoilt",
    [
        H + 1j * np.eye(60),  # an imaginary diagonal
        H + 20j * np.diag(np.arange(60) % 2),
        np.tril(H),
        H.T * 1j,
        H - 20 * np.eye(60),
        np.triu(H, 1) * 30 + H,
    ],
)
@pytest.mark.parametrize("M", [None, H_JACOBI])
def test_what_is_not_hermitian_positive_definite_is_never_wrongly_converged(spoilt: Any, M: Any) -> None:
    solution = deepcd.cg(spoilt, c, rtol=1e-8, M=M)
    true = np.linalg.norm(c - spoilt @ solution.x)
    assert (solution.info == 0) == (true <= 1e-8 * np.linalg.norm(c))
    assert np.isfinite(solution.x).all()


def test_indefinite_hermitian_is_named() -> None:
    assert deepcd.cg(H - 20 * np.eye(60), c).status is Status.INDEFINITE_MATRIX


def test_complex_callback_and_start() -> None:
    seen: list[np.ndarray] = []
    x = deepcd.cg(H.astype("F"), c.astype("F"), c, rtol=1e-3, callback=seen.append).x
    assert {v.dtype.char for v in seen} == {"F"}
    np.testing.assert_array_equal(seen[-1], x)
    inverse = np.linalg.inv(H)
    assert deepcd.cg(H, c, "Mb", M=inverse).iterations == 0


def test_an_operator_that_hides_that_it_is_complex() -> None:
    A_ = LinearOperator(H.shape, matvec=lambda v: H @ v, dtype=np.float64)
    with pytest.raises(TypeError, match="declare it complex"):
        deepcd.cg(A_, c.real)


# Magnitudes

SCALES = [1e-200, 1e-170, 1e-30, 1e30, 1e150, 1e200]


def scaled(matrix: Any, factor: float, kind: str) -> Any:
    if kind == "sparse":
        return sp.csr_array(matrix) * factor
    dense = (matrix.toarray() if sp.issparse(matrix) else matrix) * factor
    return dense if kind == "dense" else LinearOperator(dense.shape, matvec=lambda v: dense @ v, dtype=dense.dtype)


@pytest.mark.parametrize("kind", ["sparse", "dense", "operator"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("of", ["A", "A and b", "M", "A and M"])
@pytest.mark.parametrize("field", ["real", "complex"])
def test_magnitudes_do_no_harm(kind: str, scale: float, of: str, field: str) -> None:
    matrix, right = (poisson(8), b[:64]) if field == "real" else (H, c)
    inverse = 1 / (1 + np.arange(right.size) % 3.0)
    A_ = scaled(matrix, scale if "A" in of else 1.0, kind)
    right = right * (scale if "b" in of else 1.0)
    M = scaled(np.diag(inverse), scale, kind) if "M" in of else None
    plain = deepcd.cg(
        matrix, right / (scale if "b" in of else 1.0), rtol=1e-9, M=None if M is None else np.diag(inverse)
    )
    seen: list[np.ndarray] = []
    with np.errstate(all="raise", under="ignore"):
        x, info = solution = deepcd.cg(A_, right, rtol=1e-9, M=M, callback=seen.append)
    unit = 1.0 if "b" in of or "A" not in of else scale
    assert info == 0
    assert solution.iterations == plain.iterations
    np.testing.assert_allclose(x * unit, plain.x, rtol=1e-6, atol=1e-9 * abs(plain.x).max())
    np.testing.assert_array_equal(seen[-1], x)


def test_an_answer_outside_float64_is_not_called_converged() -> None:
    assert deepcd.cg(A * 1e200, b * 1e-200).status is Status.ATTAINABLE_ACCURACY  # x underflows to zero
    assert deepcd.cg(A * 1e-200, b * 1e200).status is Status.NOT_FINITE
    assert deepcd.cg(A.astype("f"), np.float32(1e38) * np.ones(400, "f")).status is Status.NOT_FINITE


@pytest.mark.parametrize("size", [1e6, 1e10, 1e14])
def test_a_start_far_off_is_refined(size: float) -> None:
    x, info = deepcd.cg(A, b, size * np.ones(400), rtol=1e-10)
    assert info == 0
    assert relative(x) <= 1e-10


def test_rounds_share_the_iterations() -> None:
    solution = deepcd.cg(A, b, 1e14 * np.ones(400), rtol=1e-10)
    short = deepcd.cg(A, b, 1e14 * np.ones(400), rtol=1e-10, maxiter=solution.iterations - 1)
    assert (short.status, short.iterations) == (Status.MAXITER, solution.iterations - 1)


@pytest.mark.parametrize(("rtol", "atol"), [(np.inf, 0.0), (0.0, np.inf), (1e9, 0.0)])
def test_tolerances_that_any_x_meets(rtol: float, atol: float) -> None:
    solution = deepcd.cg(A, b, rtol=rtol, atol=atol)
    assert (solution.info, solution.iterations) == (0, 0)


# What may be passed

SMALL = np.array([[4, 1, 0], [1, 3, 1], [0, 1, 5]])
SMALL_B = np.array([1, 2, 3])


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.setflags(write=False)
    return a


class Labelled:
    """As a pandas Series: no ndarray, but convertible to one."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype=dtype)


@pytest.mark.parametrize(
    "matrix",
    [
        np.matrix(SMALL),
        SMALL.tolist(),
        SMALL.astype(np.int8),
        SMALL.astype(np.uint16),
        SMALL.astype(np.float16),
        SMALL.astype(np.longdouble),
        SMALL.astype(np.clongdouble),
        read_only(SMALL.astype(float)),
        np.asfortranarray(SMALL, dtype=float),
        np.kron(SMALL.astype(float), np.ones((2, 2)))[::2, ::2],
        sp.csr_array(SMALL),
        sp.csr_matrix(SMALL.astype(np.float32)),
        sp.csc_array(SMALL.astype(np.longdouble)),
        sp.coo_array(([2, 2, 1, 1, 3, 1, 1, 5.0], ([0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 1, 0, 1, 2, 1, 2]))),
        sp.dia_array(SMALL.astype(float)),
        Labelled(SMALL),
    ],
    ids=lambda a: f"{type(a).__name__}-{getattr(a, 'dtype', '')}",
)
def test_every_form_of_a_matrix(matrix: Any) -> None:
    before = np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix).copy()
    x, info = deepcd.cg(matrix, SMALL_B, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(SMALL, SMALL_B), rtol=1e-10)
    np.testing.assert_array_equal(np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix), before)
    x, info = deepcd.cg(SMALL, SMALL_B + 0j, rtol=1e-12, M=matrix)  # A is no inverse of A, but positive definite
    assert info == 0


def test_boolean_matrix() -> None:
    for matrix in (np.eye(3, dtype=bool), sp.eye_array(3, dtype=bool, format="csr")):
        np.testing.assert_array_equal(deepcd.cg(matrix, SMALL_B).x, SMALL_B)


@pytest.mark.parametrize(
    "right",
    [
        SMALL_B.tolist(),
        tuple(SMALL_B),
        SMALL_B[:, None],
        np.asmatrix(SMALL_B).T,
        SMALL_B.astype(np.int8),
        SMALL_B.astype(np.float16),
        SMALL_B.astype(np.longdouble),
        read_only(SMALL_B.astype(float)),
        np.repeat(SMALL_B, 2).astype(float)[::2],
        np.asfortranarray(np.stack([SMALL_B, 2 * SMALL_B], axis=1), dtype=float)[:, :1],
        SMALL_B.astype(float)[::-1][::-1],
        Labelled(SMALL_B),
    ],
)
def test_every_form_of_a_right_side(right: Any) -> None:
    before = np.array(right)
    x, info = deepcd.cg(SMALL, right, rtol=1e-12)
    assert (info, x.shape) == (0, (3,))
    assert x.dtype == np.float64
    np.testing.assert_allclose(x, np.linalg.solve(SMALL, SMALL_B), rtol=1e-10)
    np.testing.assert_array_equal(np.array(right), before)
    assert deepcd.cg(SMALL, SMALL_B, right).info == 0  # as a start


def test_pandas_series() -> None:
    pandas = pytest.importorskip("pandas")
    x, info = deepcd.cg(A, pandas.Series(b, index=[f"cell {i}" for i in range(400)]), rtol=1e-9)
    assert (info, type(x)) == (0, np.ndarray)
    assert relative(x) <= 1e-9


def test_empty_and_one_by_one() -> None:
    assert deepcd.cg(np.zeros((0, 0)), []).x.shape == (0,)
    assert deepcd.cg([[4.0]], [2.0]).x.tolist() == [0.5]
    assert deepcd.cg([[4.0]], [2.0j]).x.tolist() == [0.5j]


class Duck:
    """What SciPy calls an operator: shape and matvec."""

    shape = A.shape

    @staticmethod
    def matvec(v: np.ndarray) -> np.ndarray:
        return A @ v


def test_anything_with_shape_and_matvec() -> None:
    x, info = deepcd.cg(Duck(), b, rtol=1e-9)
    assert info == 0
    assert relative(x) <= 1e-9


def test_an_operator_that_returns_one_buffer_again_and_again() -> None:
    buffer = np.empty(400)

    def matvec(v: np.ndarray) -> np.ndarray:
        buffer[:] = A @ v.ravel()
        return buffer

    x, info = deepcd.cg(LinearOperator(A.shape, matvec=matvec, dtype=float), b, rtol=1e-9)
    assert info == 0
    assert relative(x) <= 1e-9
    x, info = deepcd.cg(
        A, b + 1j * b[::-1], M=LinearOperator(A.shape, matvec=matvec, dtype=float), rtol=1e-30, maxiter=2
    )
    assert np.isfinite(x).all()


def test_an_exact_preconditioner_costs_three_products() -> None:
    inverse, calls = np.linalg.inv(A.toarray()), 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return A @ v

    assert deepcd.cg(LinearOperator(A.shape, matvec=matvec, dtype=float), b, np.zeros(400), M=inverse).info == 0
    assert calls <= 3


def test_single_precision_preconditioner_is_handed_single_precision() -> None:
    handed: set[str] = set()

    def matvec(v: np.ndarray) -> np.ndarray:
        handed.add(v.dtype.char)
        return v / np.float32(4)

    for char in "fF":
        M = LinearOperator(A.shape, matvec=matvec, dtype=char)
        assert deepcd.cg(A, b + 0j, M=M, rtol=1e-11).info == 0
    assert handed == {"f", "F"}


def test_nan_from_an_operator() -> None:
    broken = LinearOperator(A.shape, matvec=lambda v: v * np.nan, dtype=float)
    assert deepcd.cg(broken, b).status is Status.NOT_FINITE
    solution = deepcd.cg(A, b, M=broken, rtol=1e-8, maxiter=50)  # every direction is replaced by the residual
    assert (solution.info == 0) == (relative(solution.x) <= 1e-8)


def test_exceptions_of_the_caller_propagate() -> None:
    def fail(_: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deepcd.cg(A, b, callback=fail)


def test_singular_and_inconsistent_by_little_is_named() -> None:
    """The residual neither grows nor stagnates for certain: all 10 n iterations are done before anything is noticed."""
    line = np.diag(np.r_[1.0, np.full(18, 2.0), 1.0]) - np.eye(20, k=1) - np.eye(20, k=-1)
    A = sp.csr_array(sp.kron(line, sp.eye_array(20)) + sp.kron(sp.eye_array(20), line))
    b = A @ np.random.default_rng(2).standard_normal(400)
    b += 1e-5 * np.linalg.norm(b) / 20
    solution = deepcd.cg(A, b, rtol=1e-8)
    assert solution.status is Status.INCONSISTENT, solution.message
    assert np.linalg.norm(b - A @ solution.x) == pytest.approx(1e-5 * np.linalg.norm(b), rel=1e-3)


@pytest.mark.parametrize("convert", [sp.csr_array, aslinearoperator])
def test_a_nonsymmetric_matrix_is_named_where_it_fails(convert: Any) -> None:
    upper = sp.triu(A, format="csr")
    solution = deepcd.cg(convert(upper), b, rtol=1e-8, maxiter=1000)
    assert solution.status is Status.NONSYMMETRIC, solution.message


@pytest.mark.parametrize("phase", [1, 1j])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_hermitian_matrix_is_not_called_nonsymmetric(phase: complex, dtype: type) -> None:
    hermitian = (A + sp.diags_array([1.0 * phase, np.conj(phase)], offsets=[20, -20], shape=A.shape)).astype(dtype)
    solution = deepcd.cg(sp.csr_array(hermitian), b.astype(dtype), rtol=1e-8, maxiter=3)
    assert solution.status is Status.MAXITER, solution.message


def test_a_closed_box_is_named_after_few_iterations() -> None:
    line = np.diag(np.r_[1.0, np.full(38, 2.0), 1.0]) - np.eye(40, k=1) - np.eye(40, k=-1)
    A = sp.csr_array(sp.kron(line, sp.eye_array(40)) + sp.kron(sp.eye_array(40), line))
    b = A @ np.random.default_rng(2).standard_normal(1600)
    b += 1e-5 * np.linalg.norm(b) / 40
    solution = deepcd.cg(A, b, rtol=1e-8, maxiter=300)
    assert solution.status is Status.INCONSISTENT, solution.message


@pytest.mark.parametrize("stored", [False, True])
def test_an_empty_row_is_named_before_any_iteration(stored: bool) -> None:
    corner = sp.coo_array((np.zeros(int(stored)), ([0] * stored, [0] * stored)), shape=(1, 1))
    matrix = sp.csr_array(sp.block_diag([poisson(7), corner]))
    right = np.random.default_rng(0).standard_normal(50)
    solution = deepcd.cg(matrix, right)
    assert (solution.status, solution.iterations) == (Status.ZERO_DIAGONAL, 0)
    assert "Row 49 of A is empty" in solution.message
    right[-1] = 0
    assert deepcd.cg(matrix, right).info == 0
