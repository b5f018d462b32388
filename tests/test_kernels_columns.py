"""Compiled passes over blocks of columns against dense NumPy, and rows against arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numba import njit

from deepcd.solvers.kernels import columns as passes
from deepcd.solvers.kernels.rows import choose, lanes, load, store, zero

from .test_kernels_csr import TYPES, M, N, level, matrix, vectors

__all__ = ["level"]  # the fixture
WIDTHS = (1, 2, 4, 8)
ALL = lanes(passes.LANES)


def arithmetic(lanes: Any, u: Any, v: Any, out: Any) -> None:
    total = zero(lanes)
    for i in range(u.size // len(lanes)):
        row = load(u, i, lanes)
        total += v[0] * row
        total -= row * load(v, i, lanes)
        store(out, i, choose(load(v, i, lanes), row + load(v, i, lanes), row - load(u, 0, lanes)))
    store(out, u.size // len(lanes), total)


@pytest.mark.parametrize("value", [np.float32, np.float64])
@pytest.mark.parametrize("k", WIDTHS)
def test_rows_are_small_arrays(k: int, value: Any) -> None:
    """The same lines in plain Python and compiled, and what they mean."""
    U, V = vectors(2, 5 * k).reshape(2, 5, k)
    U, V = U.astype(value), V.astype(value)
    u, v = U.astype(float), V.astype(float)
    expected = np.vstack([np.where(v > 0, u + v, u - u[0]), np.sum(v[0, 0] * u - u * v, axis=0)])
    for function in (arithmetic, njit(arithmetic)):
        out = np.full((6, k), np.nan)
        function(lanes(k), U.ravel(), V.ravel(), out.reshape(-1))
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("index", "value"), TYPES)
@pytest.mark.parametrize("k", [1, 4])
def test_products(k: int, index: Any, value: Any) -> None:
    A, dense = matrix((N, N), index, value)
    P, B = vectors(2, N * k).reshape(2, N, k)
    Q, R, pq, squares = np.full((N, k), np.nan), np.full((N, k), np.nan), np.empty(k), np.empty(k)
    passes.matvec(*A, lanes(k), P.ravel(), Q.reshape(-1), pq)
    np.testing.assert_allclose(Q, dense @ P, rtol=1e-12)
    np.testing.assert_allclose(pq, np.sum(P * (dense @ P), axis=0))
    passes.residual(*A, lanes(k), B.ravel(), P.ravel(), R.reshape(-1), squares)
    np.testing.assert_allclose(R, B - dense @ P, rtol=1e-12)
    np.testing.assert_allclose(squares, np.sum((B - dense @ P) ** 2, axis=0))


@pytest.mark.parametrize("k", WIDTHS)
def test_passes_over_vectors(k: int) -> None:
    U, V = vectors(2, 16 * k).reshape(2, 16, k)
    wide, sums = np.empty(8), np.empty(k)
    passes.dot(ALL, wide, U.ravel(), V.ravel(), sums)
    np.testing.assert_allclose(sums, np.sum(U * V, axis=0), atol=1e-14)
    factors, Z = np.linspace(1, 2, 16), np.empty((16, k))
    passes.scale(lanes(k), factors, U.ravel(), Z.reshape(-1), sums)
    np.testing.assert_allclose(Z, factors[:, None] * U)
    np.testing.assert_allclose(sums, np.sum(Z * U, axis=0))
    X, R, alpha = U.copy(), V.copy(), np.linspace(-1, 1, k)
    passes.step(ALL, wide, alpha, Z.ravel(), U.ravel(), X.reshape(-1), R.reshape(-1), sums)
    np.testing.assert_allclose(X, U + alpha * Z, atol=1e-15)
    np.testing.assert_allclose(R, V - alpha * U, atol=1e-15)
    np.testing.assert_allclose(sums, np.sum(R**2, axis=0))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("k", WIDTHS)
def test_turn(k: int, linear: bool) -> None:
    P, Q, Z = vectors(3, 16 * k).reshape(3, 16, k)
    wide, beta, rz = np.empty(8), np.empty(k), np.linspace(1, 3, k)
    state = np.ones((passes.STATE, k))
    state[passes.RZ], state[passes.PQ] = np.linspace(2, 1, k), np.linspace(4, 5, k)
    for first in (True, False):
        p, now = P.copy(), state.copy()
        passes.turn(ALL, wide, now, rz, linear, first, Q.ravel(), Z.ravel(), p.reshape(-1), beta)
        flexible = -np.sum(Q * Z, axis=0) / state[passes.PQ]
        expected = 0 if first else rz / state[passes.RZ] if linear else flexible
        np.testing.assert_allclose(p, Z + expected * P, atol=1e-14)
        np.testing.assert_array_equal(now[passes.RZ], rz)
    # A column whose residual was recomputed, and one that has left.
    state[passes.ALIGNED, 0] = state[passes.LIVE, -1] = 0
    p = P.copy()
    passes.turn(ALL, wide, state.copy(), rz, True, False, Q.ravel(), Z.ravel(), p.reshape(-1), beta)
    expected = rz / state[passes.RZ]
    expected[0], expected[-1] = flexible[0], 0
    np.testing.assert_allclose(p, Z + expected * P, atol=1e-14)


@pytest.mark.parametrize("k", WIDTHS)
class TestAdvance:
    def advance(self, k: int, **rows: Any) -> tuple[int, np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
        """Return what was met, the state, and vectors p, q, x, r and before as they are and were."""
        blocks = vectors(5, 16 * k).reshape(5, 16, k)
        state = np.ones((passes.STATE, k))
        state[[passes.INITIAL, passes.LOWEST]], state[passes.BELIEVED] = 1e3, 0
        pq = rows.pop("pq", np.linspace(1, 2, k))
        for name, row in rows.items():
            state[getattr(passes, name)] = row
        after = blocks.copy()
        rp = state[passes.RZ].copy()
        met = passes.advance(ALL, np.empty(8), state, rp, pq, *(v.reshape(-1) for v in after), np.empty(k))
        return met, state, tuple(after), blocks

    def test_an_ordinary_step(self, k: int) -> None:
        met, state, (_, _, x, r, before), (p, q, X, R, B) = self.advance(k, RZ=np.linspace(3, 4, k))
        alpha = np.linspace(3, 4, k) / np.linspace(1, 2, k)
        assert met == 0
        np.testing.assert_allclose(x, X + alpha * p)
        np.testing.assert_allclose(r, R - alpha * q)
        np.testing.assert_array_equal(before, B)
        np.testing.assert_allclose(state[passes.NORM], np.linalg.norm(r, axis=0))
        np.testing.assert_array_equal(state[passes.LOWEST], state[passes.NORM])

    @pytest.mark.parametrize("broken", [0.0, -1.0, np.inf, np.nan])
    def test_a_column_that_breaks_down_stays_where_it_is(self, k: int, broken: float) -> None:
        pq = np.linspace(1, 2, k)
        pq[-1] = broken
        met, state, (_, _, x, _, _), (p, _, X, _, _) = self.advance(k, pq=pq)
        assert met == passes.BROKEN
        np.testing.assert_array_equal(state[passes.LIVE], [1] * (k - 1) + [0])
        np.testing.assert_array_equal(x[:, -1], X[:, -1])
        np.testing.assert_allclose(x[:, :-1], (X + p / np.linspace(1, 2, k))[:, :-1])

    def test_a_column_that_diverges_is_no_longer_live(self, k: int) -> None:
        met, state, *_ = self.advance(k, INITIAL=[1e3] * (k - 1) + [1e-12])
        assert met == passes.BROKEN
        np.testing.assert_array_equal(state[passes.LIVE], [1] * (k - 1) + [0])

    def test_a_small_residual_is_doubted(self, k: int) -> None:
        met, *_ = self.advance(k, BELIEVED=[0.0] * (k - 1) + [1e3])
        assert met == passes.DOUBTFUL

    def test_the_best_iterate_is_kept(self, k: int) -> None:
        met, state, (*_, before), (_, _, X, _, B) = self.advance(k, LOWEST=[1e3] * (k - 1) + [1e-3])
        assert met == 0
        np.testing.assert_array_equal(state[passes.BEST], [1] * (k - 1) + [0])
        np.testing.assert_array_equal(before[:, :-1], B[:, :-1])
        np.testing.assert_allclose(before[:, -1], X[:, -1], atol=1e-14)
        assert state[passes.LOWEST, -1] == 1e-3


@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("component", [[0, 1, 0, 2, 2, 0], [0] * 6])
def test_means_are_removed_component_by_component(k: int, component: list[int]) -> None:
    label = np.array(component, dtype=np.int32)
    weights = np.array([1 / 3, 0.0, 1 / 2]) if label.any() else np.array([1 / 6])
    V = vectors(1, 6 * k).reshape(6, k)
    after = V.copy()
    passes.remove_means(label, weights, lanes(k), np.empty(weights.size * k), after.reshape(-1))
    for c, weight in enumerate(weights):
        rows = label == c
        np.testing.assert_allclose(after[rows], V[rows] - weight * V[rows].sum(axis=0), atol=1e-15)


@pytest.mark.parametrize("k", [1, 4])
def test_cycle_passes(level: tuple[Any, ...], k: int) -> None:
    lower, upper, _, P, transfer = level
    L, U = (sp.csr_array((T[2], T[1], T[0]), shape=(N, N)).toarray().astype(np.float64) for T in (lower, upper))
    B, X = vectors(2, N * k).reshape(2, N, k)
    x, width = np.full((N, k), np.nan), lanes(k)
    passes.forward_from_zero(*lower, width, B.ravel(), x.reshape(-1))
    first = np.linalg.solve(np.eye(N) + L, B)
    np.testing.assert_allclose(x, first, rtol=1e-10)

    coarse = np.full((M, k), np.nan)
    passes.restrict_residual(*upper, *P, width, x.reshape(-1), coarse.reshape(-1))
    residual = B - (np.eye(N) + L + U) @ first
    np.testing.assert_allclose(coarse, transfer.T.astype(np.float64) @ residual, atol=1e-12)

    passes.prolong_add(*P, width, coarse.reshape(-1), x.reshape(-1))
    np.testing.assert_allclose(x, first + transfer.astype(np.float64) @ coarse, atol=1e-12)

    x = X.copy()
    passes.backward(*lower, *upper, width, B.ravel(), x.reshape(-1))
    np.testing.assert_allclose(x, np.linalg.solve(np.eye(N) + U, B - L @ X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", WIDTHS)
def test_in_and_out_of_a_cycle(k: int) -> None:
    rng = np.random.default_rng(3)
    order, scale = rng.permutation(N).astype(np.int32), rng.uniform(1, 2, N)
    R, X = vectors(2, N * k).reshape(2, N, k)
    b, z, rz = np.full((N, k), np.nan), np.full((N, k), np.nan), np.empty(k)
    passes.gather_scaled(lanes(k), order, scale, R.ravel(), b.reshape(-1))
    np.testing.assert_allclose(b, scale[:, None] * R[order])
    passes.scatter_scaled(lanes(k), order, scale, X.ravel(), R.ravel(), z.reshape(-1), rz)
    np.testing.assert_allclose(z[order], scale[:, None] * X)
    np.testing.assert_allclose(rz, np.sum(R * z, axis=0))
