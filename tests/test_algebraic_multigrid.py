"""Hierarchies of this library and of PyAMG with a compiled cycle as symmetric preconditioners."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp

from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners import algebraic_multigrid
from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.solution import Status
from deepcd.solvers.survey import constant_null_space

from . import systems
from .systems import shuffled

Method = Literal["aggregation", "sa", "rs"]
METHODS: tuple[Method, ...] = ("aggregation", "sa", "rs")


def poisson(n: int, dimension: int = 2) -> sp.csr_array:
    return sp.csr_array(pyamg.gallery.poisson((n,) * dimension, format="csr"))


def ring(n: int) -> sp.csr_array:
    """A five-point operator on a torus: singular."""
    return systems.crossed(systems.ring(n))


def dense(M: Any, n: int) -> np.ndarray:
    columns = []
    for unit in np.eye(n):
        z = M.zeros()
        M.apply(unit, z)
        columns.append(z)
    return np.array(columns).T


def iterations(A: sp.csr_array, M: Any, tol: float = 1e-8, maxiter: int = 300) -> int:
    """Solve with a random right-hand side in the range of A; return the iterations of a solve that converged."""
    operator = CSROperator(A, *constant_null_space(A, 2e-16))
    b = np.random.default_rng(3).standard_normal(A.shape[0])
    operator.project(b)
    record = conjugate_directions(operator, b, M, tol * float(np.linalg.norm(b)), maxiter=maxiter)
    assert record.status is Status.CONVERGED
    assert record.flipped == record.replaced == 0
    return len(record.residuals) - 1


MATRICES: dict[str, Callable[[], sp.csr_array]] = {
    "poisson": lambda: poisson(16),
    "ring": lambda: ring(16),
    "elasticity": lambda: sp.csr_array(pyamg.gallery.linear_elasticity((12, 12))[0]),
    "jumps": lambda: scaled(poisson(16), 8, seed=1),
    "not quite symmetric": lambda: poisson(16) + 1e-9 * sp.csr_array(sp.triu(poisson(16))),
}


def scaled(A: sp.csr_array, decades: float, seed: int = 0) -> sp.csr_array:
    half = decades / 2
    S = sp.diags_array(10 ** np.random.default_rng(seed).uniform(-half, half, A.shape[0]))
    return sp.csr_array(S @ A @ S)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MATRICES)
def test_cycle_is_symmetric_positive_definite(name: str, method: Method) -> None:
    A = MATRICES[name]()
    M = dense(AlgebraicMultigrid(A, method), A.shape[0])
    S = 1 / np.sqrt(np.diag(M))  # as the scale of A varies, so does that of M
    M = M * S * S[:, None]
    np.testing.assert_allclose(M, M.T, atol=1e-13)
    assert np.linalg.eigvalsh(M)[0] > 1e-6


@pytest.mark.compiled
@pytest.mark.parametrize("method", METHODS)
def test_cycle_is_close_to_the_inverse(method: Method) -> None:
    A = poisson(20)
    ritz = np.linalg.eigvals(dense(AlgebraicMultigrid(A, method), 400) @ A.toarray()).real
    assert ritz.min() > 0.25
    assert ritz.max() < 1 + 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_returns_the_product(method: Method) -> None:
    M = AlgebraicMultigrid(poisson(40), method)
    r, z = np.random.default_rng(0).standard_normal(1600), M.zeros()
    np.testing.assert_allclose(M.apply(r, z), r @ z, rtol=1e-12)
    assert M.name == {"aggregation": "smoothed-aggregation", "sa": "pyamg-sa", "rs": "pyamg-rs"}[method]
    assert M.symmetric
    assert 3 < M.work < 10


@pytest.mark.parametrize("method", METHODS)
def test_iterations_do_not_grow_with_the_size(method: Method) -> None:
    assert iterations(poisson(80), AlgebraicMultigrid(poisson(80), method)) < 18


@pytest.mark.compiled
@pytest.mark.parametrize("method", METHODS)
def test_bad_scaling_costs_nothing(method: Method) -> None:
    A = poisson(30)
    plain = iterations(A, AlgebraicMultigrid(A, method))
    for decades in (6, 60):
        bad = scaled(A, decades)
        M = AlgebraicMultigrid(bad, method)
        # In the norm of the equilibrated system: the residual of the bad one lives on a few rows.
        good = sp.csr_array(bad * np.outer(*2 * [1 / np.sqrt(bad.diagonal())]))
        assert iterations(good, AlgebraicMultigrid(good, method)) <= plain + 2
        S = np.sqrt(bad.diagonal())
        np.testing.assert_allclose(
            dense(M, 900) * S * S[:, None], dense(AlgebraicMultigrid(good, method), 900), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("method", METHODS)
def test_natural_jumps_are_left_as_they_are(method: Method) -> None:
    weights = np.repeat([1.0, 1e4, 10.0], 300)
    off = sp.diags_array([-weights, -weights], offsets=[-1, 1], shape=(901, 901))
    A = sp.csr_array(off - sp.diags_array(off.sum(axis=1) - np.eye(901)[0]))
    assert iterations(A, AlgebraicMultigrid(A, method), 1e-6) < 25


@pytest.mark.parametrize("method", METHODS)
def test_a_singular_matrix(method: Method) -> None:
    A = ring(40)
    assert iterations(A, AlgebraicMultigrid(A, method), 1e-10) < 25


@pytest.mark.parametrize("method", ["aggregation", "sa"])
def test_a_near_null_space_is_for_smoothed_aggregation_of_pyamg(method: Method) -> None:
    assert AlgebraicMultigrid(poisson(20), method, B=np.ones((400, 1))).name == "pyamg-sa"


@pytest.mark.compiled
def test_rigid_body_modes_help() -> None:
    A, B = pyamg.gallery.linear_elasticity((40, 40))
    A = sp.csr_array(A)
    assert iterations(A, AlgebraicMultigrid(A, B=B)) < 15
    assert iterations(A, AlgebraicMultigrid(A, "sa")) > 40
    S = 10 ** np.random.default_rng(0).uniform(-3, 3, A.shape[0])
    bad = sp.csr_array(sp.diags_array(S) @ A @ sp.diags_array(S))
    assert iterations(bad, AlgebraicMultigrid(bad, B=B / S[:, None]), 1e-6) < 25


class TestUpdate:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("make", [poisson, ring])
    def test_the_same_values_give_the_same_cycle(self, method: Method, make: Callable[[int], sp.csr_array]) -> None:
        A = make(20)
        M, r = AlgebraicMultigrid(A, method), np.random.default_rng(0).standard_normal(400)
        before, after = np.zeros((2, 400))
        r -= r.mean()
        M.apply(r, before)
        M = M.updated(A)
        M.apply(r, after)
        np.testing.assert_allclose(after - after.mean(), before - before.mean(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("method", METHODS)
    def test_new_values(self, method: Method) -> None:
        A = poisson(40)
        new = sp.csr_array(A + sp.diags_array(np.linspace(0, 3, 1600)))
        new = sp.csr_array(100 * new)
        stale, fresh = AlgebraicMultigrid(A, method), AlgebraicMultigrid(new, method)
        stale = stale.updated(new)
        columns = stale.columns(2)
        assert iterations(new, stale) <= iterations(new, fresh) + 3
        r = np.random.default_rng(0).standard_normal((1600, 2))
        z, one = np.empty(3200), stale.zeros()
        columns.apply(r.ravel(), z)
        stale.apply(r[:, 1].copy(), one)
        np.testing.assert_allclose(z.reshape(-1, 2)[:, 1], one, rtol=1e-12)

    def test_another_pattern_is_refused(self) -> None:
        M = AlgebraicMultigrid(poisson(20))
        with pytest.raises(ValueError, match="other places"):
            M.updated(ring(20))
        with pytest.raises(ValueError, match="other places"):
            M.updated(poisson(21))


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("method", METHODS)
def test_columns_against_one_by_one(method: Method, k: int) -> None:
    A = shuffled(poisson(30))
    M = AlgebraicMultigrid(A, method)
    R, Z = np.random.default_rng(0).standard_normal((900, k)), np.empty((900, k))
    products = M.columns(k).apply(R.ravel(), Z.ravel())
    for j in range(k):
        one = M.zeros()
        assert products[j] == pytest.approx(M.apply(R[:, j].copy(), one), rel=1e-10)
        np.testing.assert_allclose(Z[:, j], one, rtol=1e-10, atol=1e-13)


@pytest.mark.compiled
def test_a_large_matrix_is_renumbered(monkeypatch: pytest.MonkeyPatch) -> None:
    A = shuffled(poisson(30))
    r = np.random.default_rng(0).standard_normal(900)
    exact = np.linalg.solve(A.toarray(), r)
    plain = AlgebraicMultigrid(A, "rs")
    monkeypatch.setattr(algebraic_multigrid, "_MANY", 100)
    monkeypatch.setattr(algebraic_multigrid, "_SCATTERED", 0.008)  # a small one is read from near by in any order
    reordered = AlgebraicMultigrid(A, "rs")
    assert plain._order is None
    assert reordered._order is not None
    assert AlgebraicMultigrid(poisson(30), "rs")._order is None
    for M in (plain, reordered):
        z = M.zeros()
        M.apply(r, z)
        assert np.linalg.norm(z - exact) < 0.3 * np.linalg.norm(exact)
    before = dense(reordered, 900)
    np.testing.assert_allclose(before, before.T, atol=1e-13)
    reordered = reordered.updated(A)
    np.testing.assert_allclose(dense(reordered, 900), before, rtol=1e-4, atol=1e-6)
    B = np.ones((900, 1))
    assert (
        abs(iterations(A, AlgebraicMultigrid(A, B=B)) - iterations(poisson(30), AlgebraicMultigrid(poisson(30), "sa")))
        < 4
    )


def test_setup_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    A, r = poisson(20), np.ones(400)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    z1, z2 = np.zeros(400), np.zeros(400)
    AlgebraicMultigrid(A, "sa").apply(r, z1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index] # noqa: NPY002
    np.random.seed(6)  # noqa: NPY002
    AlgebraicMultigrid(A, "sa").apply(r, z2)
    np.testing.assert_array_equal(z1, z2)


@pytest.mark.parametrize("method", METHODS)
def test_leaves_the_matrix_alone_whatever_its_indices(method: Method) -> None:
    A = poisson(20)
    reverse = np.concatenate(
        [np.arange(start, stop)[::-1] for start, stop in zip(A.indptr, A.indptr[1:], strict=False)]
    )
    results = []
    for order, index in ((slice(None), np.int32), (slice(None), np.int64), (reverse, np.int32)):
        mine = sp.csr_array((A.data[order], A.indices[order].astype(index), A.indptr.astype(index)), shape=A.shape)
        twin = copy.deepcopy(mine)
        z = np.zeros(400)
        M = AlgebraicMultigrid(mine, method)
        M.apply(np.ones(400), z)
        M = M.updated(mine)
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(twin, name))
        assert mine.indices.dtype == index
        results.append(z)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_matrix_too_small_to_coarsen_is_solved_exactly() -> None:
    A = sp.csr_array([[4.0, -1.0], [-1.0, 3.0]])
    z = np.zeros(2)
    AlgebraicMultigrid(A).apply(np.array([1.0, 2.0]), z)
    np.testing.assert_allclose(A @ z, [1, 2])


class TestStalls:
    """PyAMG may fail, and coarsening may stop early: no dense inverse of a large level is ever made."""

    @pytest.mark.compiled
    def test_a_failure_leaves_gauss_seidel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise ValueError("array must not contain infs or NaNs")

        monkeypatch.setattr(pyamg, "ruge_stuben_solver", fail)
        A = poisson(30)
        M = AlgebraicMultigrid(A, "rs")
        assert M.name == "gauss-seidel"
        D, L = np.diag(A.diagonal()), np.tril(A.toarray(), -1)
        expected = np.linalg.inv(D + L).T @ D @ np.linalg.inv(D + L)
        np.testing.assert_allclose(dense(M, 900), expected, atol=1e-6)

    @pytest.mark.parametrize("spoil", ["entries", "empty"])
    def test_levels_are_kept_up_to_the_first_bad_one(self, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
        original = pyamg.ruge_stuben_solver

        def spoiled(*args: Any, **kwargs: Any) -> Any:
            hierarchy = original(*args, **kwargs)
            bad = hierarchy.levels[2]
            if spoil == "entries":
                bad.A.data[0] = np.nan
            else:
                bad.A, hierarchy.levels[1].P = sp.csr_array((0, 0)), hierarchy.levels[1].P[:, :0]
            return hierarchy

        monkeypatch.setattr(pyamg, "ruge_stuben_solver", spoiled)
        A = poisson(40)
        M = AlgebraicMultigrid(A, "rs")
        assert str(M).endswith("levels 1600 > 800")  # 800 is too many for a dense inverse
        assert iterations(A, M) < 60

    def test_a_diagonal_matrix(self) -> None:
        M = AlgebraicMultigrid(sp.csr_array(2 * sp.eye_array(1000)), "sa")
        r, z = np.arange(1000.0), np.zeros(1000)
        M.apply(r, z)
        np.testing.assert_allclose(z, r / 2)


def test_can_be_pickled_and_copied() -> None:
    M, r = AlgebraicMultigrid(poisson(30)), np.random.default_rng(0).standard_normal(900)
    z = M.zeros()
    M.apply(r, z)
    for twin in (pickle.loads(pickle.dumps(M)), copy.deepcopy(M)):
        again = twin.zeros()
        twin.apply(r, again)
        np.testing.assert_array_equal(again, z)
        twin = twin.updated(3 * poisson(30))
        twin.apply(r, again)
        np.testing.assert_allclose(again, z / 3, rtol=1e-3, atol=1e-6)


@pytest.mark.compiled
def test_a_cycle_allocates_no_vector() -> None:
    A = poisson(100)
    M = AlgebraicMultigrid(A)
    for kind, n in ((M, 10_000), (M.columns(2), 20_000)):
        r, z = np.ones(n), np.empty(n)
        kind.apply(r, z)
        tracemalloc.start()
        kind.apply(r, z)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < n  # bytes; a vector has 8 n


def test_str_lists_the_levels() -> None:
    assert "levels 400 > " in str(AlgebraicMultigrid(poisson(20)))


def test_identity() -> None:
    M = Identity(3)
    r, z = np.array([1.0, 2.0, 3.0]), np.empty(3)
    assert M.apply(r, z) == 14.0
    np.testing.assert_array_equal(z, r)
    assert (M.name, M.symmetric, M.zeros().tolist()) == ("none", True, [0.0] * 3)
