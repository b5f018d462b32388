"""General sparse matrices as operators, and the constants in their null spaces."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.operators.csr import CSRColumns, CSROperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.survey import constant_null_space

from .systems import closed_line as neumann

EPS = float(np.finfo(np.float64).eps)


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
    operator.workspace(Identity(12))
    expected = b + 0.7 * p
    assert operator.conjugate(b, 0.7, p) == pytest.approx(expected @ dense @ expected)
    np.testing.assert_allclose(p, expected)
    np.testing.assert_allclose(operator.image(p), dense @ p)
    assert operator.overlap(p, b) == pytest.approx(b @ dense @ p)
    x2, r2 = x + 0.3 * p, r - 0.3 * dense @ p
    assert operator.step(0.3, p, x, r) == pytest.approx(r2 @ r2)
    np.testing.assert_allclose(x, x2)
    np.testing.assert_allclose(r, r2)
    assert operator.dot(b, p) == pytest.approx(float(np.sum(b * p)))


def test_a_first_step_reads_neither_direction_nor_iterate_before(rng: np.random.Generator) -> None:
    operator = CSROperator(neumann(12))
    z, r, p, x = (operator.zeros() for _ in range(4))
    z[:], r[:] = rng.standard_normal((2, z.size))
    operator.workspace(Identity(z.size))
    p[:] = x[:] = np.nan
    assert operator.conjugate(z, 0.0, p) == pytest.approx(z @ operator.image(z))
    np.testing.assert_array_equal(p, z)
    again, rest = operator.zeros(), r.copy()
    square = operator.step(0.3, p, again, rest)
    assert operator.step(0.3, p, x, r, first=True) == square
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(x, 0.3 * z)
    np.testing.assert_array_equal(r, rest)


def test_the_workspace_is_kept_for_one_preconditioner_and_left_out_of_copies() -> None:
    operator, M = CSROperator(neumann(5)), Identity(5)
    space = operator.workspace(M)
    assert operator.workspace(M) is space
    assert operator.workspace(Identity(5)) is not space
    assert not np.shares_memory(pickle.loads(pickle.dumps(operator)).workspace(M).r, operator.workspace(M).r)


def test_embed_copies() -> None:
    operator, v = CSROperator(neumann(5)), np.arange(5.0)
    box = operator.embed(v, 2.0)
    np.testing.assert_array_equal(box, 2 * v)
    assert not np.shares_memory(box, v)
    assert operator.embed(v, 3.0, out=box) is box
    np.testing.assert_array_equal(box, 3 * v)
    operator.spread(v, -2.0, box)
    np.testing.assert_array_equal(box, v)


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


def test_project_removes_any_null_space(rng: np.random.Generator) -> None:
    null = np.linalg.qr(rng.standard_normal((9, 2)))[0]
    v = rng.standard_normal(9)
    w = v.copy()
    CSROperator(neumann(9), null=null).project(w)
    np.testing.assert_allclose(w, v - null @ (null.T @ v), atol=1e-15)
    again = w.copy()
    CSROperator(neumann(9), null=null).project(again)
    np.testing.assert_allclose(again, w, atol=1e-15)


def test_contradicting_null_spaces_are_refused() -> None:
    component, sealed = constant_null_space(neumann(5), EPS)
    with pytest.raises(ValueError, match="not both"):
        CSROperator(neumann(5), component, sealed, np.ones((5, 1)) / np.sqrt(5))
    with pytest.raises(ValueError, match="component"):
        CSROperator(neumann(5), None, sealed)


def test_norm(rng: np.random.Generator) -> None:
    r = rng.standard_normal(8)
    assert CSROperator(neumann(8)).norm(r) == pytest.approx(np.linalg.norm(r))


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["none", "constants", "any"])
def test_columns_against_one_by_one(rng: np.random.Generator, kind: str, k: int) -> None:
    A = blocks(neumann(7), neumann(6))
    operator = CSROperator(A)
    if kind == "constants":
        operator = CSROperator(A, *constant_null_space(A, EPS))
    elif kind == "any":
        operator = CSROperator(A, null=np.linalg.qr(rng.standard_normal((13, 2)))[0])
    columns = operator.columns(k)
    B, X, P = rng.standard_normal((3, 13, k))
    scale = rng.standard_normal(k)
    b, x, p = columns.embed(B, scale), columns.embed(X), columns.embed(P, 2.0)
    np.testing.assert_array_equal(columns.block(b), scale * B)
    np.testing.assert_array_equal(columns.block(p), 2 * P)
    assert np.shares_memory(columns.block(p), p)
    few = columns.block(columns.embed(B[:, :1], scale[:1]))
    np.testing.assert_array_equal(few, np.pad(scale[:1] * B[:, :1], ((0, 0), (0, k - 1))))
    assert columns.zeros().size % 8 == 0
    r, q = columns.zeros(), columns.zeros()

    expected = scale * B - A @ X
    np.testing.assert_allclose(columns.residual(b, x, r), np.sum(expected**2, axis=0))
    np.testing.assert_allclose(columns.block(r), expected, atol=1e-14)
    np.testing.assert_allclose(columns.product(p, q), np.sum(4 * P * (A @ P), axis=0))
    np.testing.assert_allclose(columns.block(q), 2 * (A @ P), atol=1e-14)
    np.testing.assert_allclose(columns.dot(r, q), np.sum(columns.block(r) * columns.block(q), axis=0), atol=1e-13)

    V = rng.standard_normal((13, k))
    v = columns.embed(V)
    assert columns.project(v) == (kind != "none")
    for j in range(k):
        one = V[:, j].copy()
        operator.project(one)
        np.testing.assert_allclose(columns.block(v)[:, j], one, atol=1e-14)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("value", [np.float32, np.float64])
def test_every_type_of_index_and_value(index: type, value: type) -> None:
    A = neumann(6)
    typed = sp.csr_array((A.data.astype(value), A.indices.astype(index), A.indptr.astype(index)), shape=A.shape)
    p = np.arange(6.0) ** 2
    q = np.empty(6)
    assert CSROperator(typed).apply(p, q) == p @ (A @ p)
    np.testing.assert_array_equal(q, A @ p)


def test_can_be_pickled(rng: np.random.Generator) -> None:
    A = neumann(9)
    operator = CSROperator(A, *constant_null_space(A, EPS))
    twin, v = pickle.loads(pickle.dumps(operator)), rng.standard_normal(9)
    w = v.copy()
    operator.project(v)
    twin.project(w)
    np.testing.assert_array_equal(v, w)
    ones, q = twin.columns(2).embed(np.ones((9, 2))), twin.columns(2).zeros()
    np.testing.assert_array_equal(twin.columns(2).product(ones, q), 0)


@pytest.mark.compiled
def test_an_iteration_allocates_no_vector() -> None:
    n = 20_000
    A = neumann(4)
    A = blocks(*[A] * (n // 4))
    null = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 2)))[0]
    for operator in (CSROperator(A, *constant_null_space(A, EPS)), CSROperator(A, null=null)):
        columns, M = operator.columns(2), Identity(n)
        v, w = ([kind.zeros() + i for i in range(4)] for kind in (operator, columns))

        def iterate(operator: CSROperator = operator, v: list[np.ndarray] = v, M: Identity = M) -> None:
            operator.workspace(M)
            operator.conjugate(v[0], 0.5, v[1])
            operator.step(0.1, v[1], v[3], v[0])
            operator.overlap(v[1], v[0])
            operator.residual(v[0], v[1], v[2])
            operator.norm(v[2])
            operator.project(v[2])

        def iterate_on_columns(columns: CSRColumns = columns, w: list[np.ndarray] = w) -> None:
            columns.product(w[0], w[1])
            columns.dot(w[0], w[1])
            columns.residual(w[0], w[1], w[2])
            columns.project(w[2])

        for passes in (iterate, iterate_on_columns):
            passes()
            tracemalloc.start()
            passes()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < n  # bytes; a vector has 8 n
