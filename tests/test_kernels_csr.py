"""Compiled passes over CSR matrices against dense NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.kernels import csr

N, M = 13, 5
TYPES = [(index, value) for index in (np.int32, np.int64) for value in (np.float32, np.float64)]


def matrix(shape: tuple[int, int], index: Any, value: Any) -> tuple[Any, np.ndarray]:
    """Return a random sparse matrix with an empty row, as a triple and dense."""
    A = sp.csr_array(sp.random_array(shape, density=0.4, rng=np.random.default_rng(1), format="csr"))
    A.data -= 0.4
    A.data[A.indptr[3] : A.indptr[4]] = 0
    A.eliminate_zeros()
    return (A.indptr.astype(index), A.indices.astype(index), A.data.astype(value)), A.toarray().astype(value)


def vectors(count: int, size: int = N) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, size))


@pytest.mark.parametrize(("index", "value"), TYPES)
def test_products_in_two_parts(index: Any, value: Any) -> None:
    A, dense = matrix((N, N), index, value)
    p, b = vectors(2)
    q, r = np.full((2, N), np.nan)
    assert sum(csr.matvec(*A, p, q, *part) for part in ((0, 7), (7, N))) == pytest.approx(p @ dense @ p)
    np.testing.assert_allclose(q, dense @ p, rtol=1e-12)
    squares = sum(csr.residual(*A, b, p, r, *part) for part in ((0, 7), (7, N)))
    np.testing.assert_allclose(r, b - dense @ p, rtol=1e-12)
    assert squares == pytest.approx(r @ r)


@pytest.mark.parametrize("narrow", [np.float32, np.float64])
def test_passes_over_vectors_keep_to_their_rows(narrow: Any) -> None:
    p, q, x, r = vectors(4)
    z = p.astype(narrow)
    d, x2, r2 = q.copy(), x.copy(), r.copy()
    csr.direction(z, 0.3, d, 2, 9)
    np.testing.assert_allclose(d[2:9], z[2:9] + 0.3 * q[2:9])
    total = csr.update(0.7, p, q, x2, r2, 2, 9)
    np.testing.assert_allclose(x2[2:9], (x + 0.7 * p)[2:9])
    np.testing.assert_allclose(r2[2:9], (r - 0.7 * q)[2:9])
    assert total == pytest.approx(np.sum(r2[2:9] ** 2))
    for changed, original in ((d, q), (x2, x), (r2, r)):
        np.testing.assert_array_equal(np.delete(changed, range(2, 9)), np.delete(original, range(2, 9)))
    assert csr.dot(z, q, 2, 9) == pytest.approx(float(np.sum(z[2:9] * q[2:9])), rel=1e-6)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_scaling_and_energies(index: Any) -> None:
    A, dense = matrix((N, N), index, np.float64)
    u, v = vectors(2)
    scaled = np.empty(A[2].size, dtype=np.float32)
    csr.scale(*A, u, v, scaled)
    np.testing.assert_allclose(sp.csr_array((scaled, *A[1::-1])).toarray(), dense * np.outer(u, v), rtol=1e-6)
    np.testing.assert_allclose(csr.energies(*A, v), [dense.sum(), v @ dense @ v, np.trace(dense)], rtol=1e-12)


def test_how_scattered_entries_are() -> None:
    n = 130
    line = sp.diags_array([1.0, 1.0, 1.0], offsets=[-n, 0, 1], shape=(n * n, n * n), format="csr")
    turns = np.concatenate([np.arange(k, n * n, 2) for k in range(2)])  # two kinds of nodes, one after the other
    order = np.random.default_rng(0).permutation(n * n)
    for rows, least, most in ((slice(None), 0, 0.05), (turns, 0, 0.05), (order, 0.5, 1)):
        A = sp.csr_array(line[rows][:, rows])
        A.sort_indices()
        assert least <= csr.scattered(A.indptr, A.indices) <= most
    last: dict[int, int] = {}
    count = 0
    for row, column in zip(*A.nonzero(), strict=True):
        count += row - last.get(column // 64, -17) > 16
        last[column // 64] = row
    assert csr.scattered(A.indptr, A.indices) == count / A.nnz


@pytest.fixture(params=TYPES, ids=str)
def level(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    """A symmetric matrix of unit diagonal, split; with its dense triangles and a transfer."""
    index, value = request.param
    A, dense = matrix((N, N), index, np.float64)
    dense = dense + dense.T + 5 * np.eye(N)
    A = sp.csr_array(dense + np.triu(np.full((N, N), 1e-9), 1))  # the upper triangle is not looked at
    scale = 1 / np.sqrt(np.diag(dense))
    lower, upper = np.empty((2, N + 1), dtype=index)
    indptr, indices = A.indptr.astype(index), A.indices.astype(index)
    csr.count_triangles(indptr, indices, lower, upper)
    triangles = [
        (pointers, np.empty(pointers[-1], dtype=index), np.empty(pointers[-1], dtype=value))
        for pointers in (lower, upper)
    ]
    csr.split_triangles(indptr, indices, A.data, scale, *triangles[0], *triangles[1])
    return (*triangles, dense * scale * scale[:, None], *matrix((N, M), index, value))


def test_split(level: tuple[Any, ...]) -> None:
    lower, upper, dense, _, _ = level
    L, U = (sp.csr_array((T[2], T[1], T[0]), shape=(N, N)).toarray() for T in (lower, upper))
    np.testing.assert_allclose(L, np.tril(dense, -1), rtol=1e-6)
    np.testing.assert_array_equal(U, L.T)  # to the last bit: the cycle's symmetry rests on it


def test_cycle_passes(level: tuple[Any, ...]) -> None:
    lower, upper, _, P, transfer = level
    L, U = (sp.csr_array((T[2], T[1], T[0]), shape=(N, N)).toarray().astype(np.float64) for T in (lower, upper))
    b, before = vectors(2)
    x = np.full(N, np.nan)
    csr.forward_from_zero(*lower, b, x)
    first = np.linalg.solve(np.eye(N) + L, b)
    np.testing.assert_allclose(x, first, rtol=1e-10)

    coarse = np.full(M, np.nan)
    csr.restrict_residual(*upper, *P, x, coarse)
    residual = b - (np.eye(N) + L + U) @ first
    np.testing.assert_allclose(coarse, transfer.T.astype(np.float64) @ residual, atol=1e-12)

    csr.prolong_add(*P, coarse, x)
    np.testing.assert_allclose(x, first + transfer.astype(np.float64) @ coarse, atol=1e-12)

    x = before.copy()
    csr.backward(*lower, *upper, b, x)
    np.testing.assert_allclose(x, np.linalg.solve(np.eye(N) + U, b - L @ before), rtol=1e-10, atol=1e-12)


def test_in_and_out_of_a_cycle() -> None:
    rng = np.random.default_rng(3)
    order, scale = rng.permutation(N).astype(np.int32), rng.uniform(1, 2, N)
    r, x = vectors(2)
    b, z = np.full((2, N), np.nan)
    csr.gather_scaled(order, scale, r, b)
    np.testing.assert_allclose(b, scale * r[order])
    rz = csr.scatter_scaled(order, scale, x, r, z)
    np.testing.assert_allclose(z[order], scale * x)
    np.testing.assert_allclose(rz, r @ z)
