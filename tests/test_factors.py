"""Plans of sparse factors: what is chosen and counted; and the factors themselves, under one contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.preconditioners.direct import Direct, NotPositiveDefiniteError
from deepcd.solvers.preconditioners.factors import memory
from deepcd.solvers.preconditioners.factors import plan as plans
from deepcd.solvers.preconditioners.factors.factorisations import factorise
from deepcd.solvers.preconditioners.factors.plan import plan

from .systems import closed_line, line, path, sealed, shuffled, square
from .test_ordering import counts, cube, tree

KINDS = {
    "diagonal": (sp.csr_array(sp.diags_array([1.0, 2.0, 3.0])), "banded"),
    "tridiagonal": (line(30), "tridiagonal"),
    "banded": (square(9, 0.3), "banded"),
    "sparse": (shuffled(square(9, 0.3)), "sparse"),
    "a tree": (tree(200), "sparse"),
    "a tree with a square on it": (
        sp.csr_array(sp.block_array([[tree(90), sp.eye_array(90, 81)], [sp.eye_array(81, 90), 9 * square(9)]])),
        "sparse",
    ),
    "supernodal": (shuffled(cube(11)), "supernodal"),
}
compiled = pytest.mark.compiled


@pytest.mark.parametrize("name", KINDS)
def test_what_is_chosen_and_counted(name: str) -> None:
    A, kind = KINDS[name]
    found = plan(A)
    assert found.kind == kind
    assert found.complete
    assert found.n == A.shape[0]
    if found.order is None:
        assert found.entries >= counts(A, np.arange(found.n)).sum()
    elif found.n < 500:
        assert sorted(found.order) == list(range(found.n))
        expected = counts(A, found.order)
        assert expected.sum() <= found.entries <= 1.03 * expected.sum()
        assert (expected.astype(float) ** 2).sum() <= found.flops <= 1.06 * (expected.astype(float) ** 2).sum()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_factors_of_every_kind_keep_one_contract(name: str, shift: float) -> None:
    A, _ = KINDS[name]
    found, n = plan(A), A.shape[0]
    scaling, B = np.random.default_rng(0).uniform(0.5, 2, n), np.random.default_rng(1).standard_normal((n, 7))
    factors = factorise(found, A, scaling, shift)
    S = sp.diags_array(scaling)
    scaled = S @ A @ S + shift * sp.eye_array(n)
    np.testing.assert_allclose(scaled @ factors.solve(B), B, atol=1e-10)
    np.testing.assert_allclose(factors.solve(B[:, :1]), factors.solve(B)[:, :1], rtol=1e-9, atol=1e-12)
    assert factors.pivots is not None
    assert np.log(factors.pivots).sum() == pytest.approx(np.linalg.slogdet(scaled.toarray())[1])
    assert 0.97 * found.entries - n <= factors.nnz <= 2.5 * found.entries
    indefinite = A - 1.01 * A.max() * sp.eye_array(n)
    assert factorise(found, sp.csr_array(indefinite), scaling).pivots is None


@pytest.mark.parametrize("name", ["banded", "sparse", "a tree"])
def test_a_plan_is_given_up_at_too_many_entries(name: str) -> None:
    A, _ = KINDS[name]
    whole = plan(A)
    assert plan(A, whole.entries).complete
    part = plan(A, whole.entries - 1)
    assert not part.complete
    assert part.entries <= whole.entries
    assert part.flops <= whole.flops


@compiled
def test_large_parts_tell_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cube much less than of a square of as many unknowns, and never more than there is."""
    monkeypatch.setattr(plans, "_BALL", 500)
    for A in (square(110), cube(23), shuffled(square(110))):
        A.sort_indices()
        likely = plans._likely(*plans.pattern(A))
        assert 0.1 * plan(A).entries <= likely <= plan(A).entries
        given_up = plan(A, 0.9 * likely)
        assert not given_up.complete
        assert given_up.order is None
        assert given_up.entries == likely


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_indices_of_any_kind_and_memory_that_may_not_be_written_to(dtype: type) -> None:
    A, _ = KINDS["sparse"]
    parts = [A.data.copy(), A.indices.astype(dtype), A.indptr.astype(dtype)]
    for array in parts:
        array.flags.writeable = False
    B = sp.csr_array(tuple(parts), shape=A.shape)
    b, z = np.ones(81), np.empty(81)
    Direct(B).apply(b, z)
    np.testing.assert_allclose(A @ z, b, atol=1e-10)


@pytest.mark.parametrize("kind", ["tridiagonal", "banded", "sparse", "supernodal"])
def test_work_grows_with_all_that_is_counted(kind: plans.Kind) -> None:
    small = plans.Plan(kind, 1000, 1, None, 1e4, 1e5)
    for change in ({"n": 2000}, {"entries": 2e4}, {"n": 2000, "flops": 2e6, "entries": 2e4}):
        large = dataclasses.replace(small, **change)
        assert large.work >= small.work > 1000
        assert large.work_per_solve >= small.work_per_solve > 1000
    assert small.bytes > 1e4


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.available() > 2**26
    monkeypatch.setattr(memory, "available", lambda: 2.0**31)
    large = plans.Plan("supernodal", 10**6, 10**4, np.zeros(1, np.int32), 1e9, 1e13)
    with pytest.raises(
        MemoryError, match=r"1,000,000 unknowns have 1,000,000,000 .* 10\.\d GiB .* 2\.0 GiB .* another"
    ):
        Direct(line(5), plan=large)
    with pytest.raises(memory.FactorsTooLargeError, match="have at least 1,000,000,000 entries"):
        memory.refuse_what_does_not_fit(dataclasses.replace(large, complete=False))
    memory.refuse_what_does_not_fit(dataclasses.replace(large, entries=1e7))


def test_more_entries_than_are_counted_have_no_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_LARGEST", 100)
    assert plan(line(20)).complete
    found = plan(line(40))
    assert not found.complete
    assert found.work == np.inf
    with pytest.raises(memory.FactorsTooLargeError, match="too many entries"):
        Direct(line(40))


def graded(n: int, decades: float) -> sp.csr_array:
    """A chain of random coefficients with Dirichlet data at one end, next to singular."""
    off = sp.diags_array(
        -(10 ** np.random.default_rng(0).uniform(-decades / 2, decades / 2, n - 1)), offsets=1, shape=(n, n)
    )
    A = sealed(sp.csr_array(off + off.T + sp.eye_array(n)))
    A[0, 0] += -off.diagonal(1)[0]
    return A


@pytest.mark.parametrize("make", [graded, lambda n, decades: shuffled(graded(n, decades))])
def test_a_small_eigenvalue_is_no_null_vector(make: object) -> None:
    assert callable(make)
    A = make(30_000, 6.0)
    M = Direct(A)
    assert M.null.shape == (30_000, 0)
    b, z = A @ np.random.default_rng(1).standard_normal(30_000), np.empty(30_000)
    M.apply(b, z)
    assert np.linalg.norm(A @ z - b) <= 1e-10 * np.linalg.norm(b)


def test_long_closed_chains_are_singular_and_a_little_less_is_indefinite() -> None:
    n = 20_000
    M = Direct(closed_line(n))
    assert M.null.shape == (n, 1)
    np.testing.assert_allclose(abs(M.null), n**-0.5, rtol=1e-6)
    with pytest.raises(NotPositiveDefiniteError):
        Direct(sp.csr_array(closed_line(n) - 1e-11 * sp.eye_array(n)))


def test_very_many_null_vectors_are_left_to_the_caller() -> None:
    """Nothing of size n times their number is made."""
    A = sp.csr_array(sp.block_diag([path(10)] * 2000))
    M = Direct(A)
    assert M.null.shape == (20_000, 0)
    b, z = A @ np.random.default_rng(0).standard_normal(20_000), np.empty(20_000)
    M.apply(b, z)
    assert np.linalg.norm(A @ z - b) <= 1e-10 * np.linalg.norm(b)
    with pytest.raises(NotPositiveDefiniteError):
        Direct(sp.csr_array(A - 1e-3 * sp.eye_array(20_000)))


def test_a_block_among_many_is_found_to_be_singular() -> None:
    blocks = [path(10) + sp.eye_array(10)] * 500
    blocks[77] = path(10)
    M = Direct(sp.csr_array(sp.block_diag(blocks)))
    assert M.null.shape == (5000, 1)
    assert np.flatnonzero(abs(M.null[:, 0]) > 1e-8).tolist() == list(range(770, 780))
