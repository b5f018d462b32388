"""Approximate Cholesky factors against a plain elimination, against their mean, and where nothing is drawn."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.graphs import system
from deepcd import DeepCD
from deepcd.data.random_graphs import laplacian
from deepcd.solvers.kernels import approximate_cholesky as passes
from deepcd.solvers.preconditioners import approximate_cholesky as module
from deepcd.solvers.preconditioners.approximate_cholesky import ApproximateCholesky

Array = NDArray[Any]
GOLDEN, WORD = 0x9E3779B97F4A7C15, 2**64


def network(n: int, edges: int, seed: int = 0, decades: float = 4.0, grounds: int = 1) -> sp.csr_array:
    """Return a random connected graph, vertex 0 a hub, weights over some decades, and so many vertices grounded."""
    rng = np.random.default_rng(seed)
    i = np.r_[np.zeros(n // 2, dtype=int), np.arange(1, n), rng.integers(0, n, edges)]
    j = np.r_[rng.integers(1, n, n // 2), (rng.random(n - 1) * np.arange(1, n)).astype(int), rng.integers(0, n, edges)]
    L = laplacian(i, j, 10 ** rng.uniform(-decades / 2, decades / 2, i.size), n)
    ground = np.zeros(n)
    ground[rng.permutation(n)[:grounds]] = rng.uniform(0.1, 1, grounds)
    A = sp.csr_array(L + sp.diags_array(ground))
    A.sort_indices()
    return A


def dense(M: ApproximateCholesky) -> Array:
    """Return M as a dense matrix."""
    n = M.zeros().size
    columns = np.empty((n, n))
    for k in range(n):
        z = M.zeros()
        M.apply(np.eye(n)[k], z)
        columns[:, k] = z
    return columns


def uniform(seed: int, number: int) -> float:
    """Return a number of SplitMix64's sequence, in Python's integers."""
    z = (seed + number * GOLDEN) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return ((z ^ (z >> 31)) >> 11) / 2**53


class Plain:
    """The graph of a matrix in dictionaries, and the elimination of its vertices one by one."""

    def __init__(self, A: sp.csr_array, seed: int, copies: int) -> None:
        self.seed, self.copies, self.drawn = seed, copies, 0
        self.edges: list[list[tuple[int, float, int]]] = [[] for _ in range(A.shape[0])]  # neighbour, weight, samples
        for i, j, value in zip(*A.tocoo().coords, A.tocoo().data, strict=True):
            if i != j:
                self.edges[i].append((int(j), -value, copies))
        self.ground = np.asarray(A.sum(axis=1)).ravel()
        self.ground[abs(self.ground) < 1e-12 * A.diagonal()] = 0.0

    def eliminate(self, i: int) -> tuple[dict[int, float], float]:
        """Remove vertex i; return its weights over their sum, by neighbour, and the sum."""
        weights: dict[int, float] = {}
        samples = Counter[int]()
        for j, weight, count in self.edges[i]:
            weights[j] = weights.get(j, 0.0) + weight
            samples[j] = min(samples[j] + count, self.copies)
            self.edges[j] = [edge for edge in self.edges[j] if edge[0] != i]
        self.edges[i] = []
        tags = np.fromiter(weights, dtype=np.int64)
        passes.sort(np.fromiter(weights.values(), dtype=np.float64), tags, np.uint64(tags.size))  # which orders equals
        near = tags.tolist()
        s = sum(weights.values()) + self.ground[i]
        for j in near:
            self.ground[j] += weights[j] * self.ground[i] / s
        for p, j in enumerate(near):
            behind = near[p + 1 :]
            if len(near) <= passes.EXACT or len(behind) <= samples[j]:
                for k in behind:
                    self._join(j, k, weights[j] * weights[k] / s, self.copies)
                continue
            total = sum(weights[k] for k in behind)
            for _ in range(samples[j]):
                self.drawn += 1
                share, passed = uniform(self.seed, self.drawn) * total, 0.0
                for k in reversed(behind):
                    passed += weights[k]
                    if passed > share:
                        break
                self._join(j, k, weights[j] * total / s / samples[j], 1)
        return {j: weights[j] / s for j in near}, s

    def _join(self, j: int, k: int, weight: float, samples: int) -> None:
        self.edges[j].append((k, weight, samples))
        self.edges[k].append((j, weight, samples))


class TestElimination:
    @pytest.mark.parametrize("copies", [1, 2])
    @pytest.mark.parametrize(("n", "edges", "grounds"), [(40, 60, 3), (90, 900, 1), (300, 100, 40), (60, 1500, 0)])
    def test_is_the_plain_one(self, n: int, edges: int, grounds: int, copies: int) -> None:
        A = network(n, edges, seed=n, grounds=grounds)
        order, starts, rows, values, heavy, heaviest, inverses = ApproximateCholesky(A, 7, copies)._factors
        plain, left = Plain(A, 7, copies), set(range(n))
        for k, i in enumerate(order.tolist()):
            degrees = {j: len(plain.edges[j]) for j in left}
            assert passes.bucket(degrees[i]) == passes.bucket(min(degrees.values())), "not of the least degree"
            left.remove(i)
            wanted, s = plain.eliminate(i)
            found = dict(zip(order[rows[starts[k] : starts[k + 1]]], values[starts[k] : starts[k + 1]], strict=True))
            if wanted:
                found[order[heavy[k]]] = heaviest[k]
                assert 1 / inverses[k] == pytest.approx(s, rel=1e-10)
            assert found == pytest.approx(wanted, rel=2e-7)
        assert sorted(order) == list(range(n))
        assert plain.drawn > 10, "nothing was drawn"

    @pytest.mark.parametrize("copies", [1, 2])
    def test_means_the_matrix(self, copies: int) -> None:
        A, count = network(12, 60, decades=2.0, grounds=2), 3000
        found = np.stack([np.linalg.inv(dense(ApproximateCholesky(A, seed, copies))) for seed in range(count)])
        error = found.std(axis=0) / count**0.5
        assert error.max() > 0, "nothing was drawn"
        assert (abs(found.mean(axis=0) - A.toarray()) <= 5 * error + 1e-6 * abs(A).max()).all()

    def test_goes_on_with_larger_arrays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        A, seen, larger = network(400, 1500, decades=6.0), Counter[Any](), module._larger

        def counted(array: Array, most: int | None = None) -> Array:
            seen[array.dtype, array.size] += 1
            return larger(array, most)

        wanted = ApproximateCholesky(A, 3, 2)._factors
        monkeypatch.setattr(module, "_larger", counted)
        monkeypatch.setattr(module, "_ROOM", 1)
        monkeypatch.setattr(module, "_SPARE", 1)
        found = ApproximateCholesky(A, 3, 2)._factors
        assert {dtype for dtype, _ in seen} == {np.dtype(np.int32), np.dtype(np.float32)}
        assert len(seen) >= 3
        assert all(map(np.array_equal, wanted, found))

    def test_follows_from_the_seed(self) -> None:
        A = network(200, 600)
        one, same, other = (ApproximateCholesky(A, seed)._factors for seed in (1, 1, 2))
        assert all(map(np.array_equal, one, same))
        assert not np.array_equal(one[3], other[3])
        assert int(passes.uniform(np.uint64(0), 1) * 2**53) == 0xE220A8397B1DCDAF >> 11, "not SplitMix64"

    @pytest.mark.parametrize("exponent", [-200, 200])
    def test_scales_with_the_matrix(self, exponent: int) -> None:
        A = network(100, 300)
        found, wanted = ApproximateCholesky(A * 2.0**exponent)._factors, ApproximateCholesky(A)._factors
        assert all(map(np.array_equal, found[:6], wanted[:6]))
        assert np.array_equal(found[6] * 2.0**exponent, wanted[6])


class TestPasses:
    def test_buckets_ascend(self) -> None:
        places = [passes.bucket(degree) for degree in [*range(3000), *(2**k for k in range(12, 31))]]
        assert places[:64] == list(range(64))
        assert set(np.diff(places[:3000])) == {0, 1}
        assert (np.diff(places) >= 0).all()
        assert places[-1] < passes.BUCKETS

    @pytest.mark.parametrize("d", [1, 2, 24, 25, 26, 500])
    def test_sort(self, d: int) -> None:
        w = np.random.default_rng(d).permutation(np.arange(d, dtype=np.float64))
        found, tags = w.copy(), np.arange(d)
        passes.sort(found, tags, np.uint64(d))
        assert np.array_equal(found, np.sort(w))
        assert np.array_equal(w[tags], found)

    @pytest.mark.parametrize("d", [2, 17, 18, 400])
    def test_draw(self, d: int) -> None:
        rng = np.random.default_rng(d)
        behind = np.r_[np.cumsum(rng.random(d))[::-1], 0.0]
        for share in behind[1] * rng.random(200):
            k = passes.draw(behind, np.uint64(1), np.uint64(d - 1), share)
            assert behind[k] > share >= behind[k + 1]


class TestMatrices:
    @pytest.mark.parametrize("decades", [0.0, 12.0])
    @pytest.mark.parametrize("chain", [True, False])
    def test_trees_are_factored_exactly(self, chain: bool, decades: float) -> None:
        """The inverse is known: from vertex 0, the only grounded one, the resistance of the way that two share."""
        rng, n = np.random.default_rng(1), 60
        child = np.arange(1, n)
        parent = child - 1 if chain else (rng.random(n - 1) * child).astype(int)
        weights, R = 10 ** rng.uniform(-decades / 2, decades / 2, n - 1), np.ones((n, n))
        for i, j, w in zip(child, parent, weights, strict=True):
            R[i, :i] = R[:i, i] = R[j, :i]
            R[i, i] = R[j, j] + 1 / w
        A, order = laplacian(child, parent, weights, n) + sp.diags_array(np.eye(1, n)[0]), rng.permutation(n)
        found = dense(ApproximateCholesky(sp.csr_array(sp.csr_array(A)[order][:, order])))
        assert np.allclose(found, R[np.ix_(order, order)], rtol=1e-6)

    def test_four_neighbours_are_eliminated_exactly(self) -> None:
        i, j = np.triu_indices(5, 1)
        L = laplacian(i, j, 10 ** np.random.default_rng(1).uniform(-2, 2, i.size), 5)
        A = sp.csr_array(L + sp.diags_array(np.eye(1, 5)[0]))
        assert np.allclose(dense(ApproximateCholesky(A)), np.linalg.inv(A.toarray()), rtol=1e-6)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(2, 30), st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 12), st.sampled_from([1, 2]))
    def test_is_symmetric_positive_definite(
        self, n: int, seed: int, density: float, decades: float, copies: int
    ) -> None:
        rng = np.random.default_rng(seed)
        W = np.triu(10 ** rng.uniform(-decades / 2, decades / 2, (n, n)) * (rng.random((n, n)) < density), 1)
        W = (W + W.T) * np.where(rng.random((n, n)) < 0.1, -1, 1)
        W = np.triu(W, 1) + np.triu(W, 1).T
        A = np.diag(abs(W).sum(axis=1) + rng.random(n) * (rng.random(n) < 0.3)) - W
        rows = np.flatnonzero(A.diagonal() > 0)
        if not rows.size:
            return
        M = dense(ApproximateCholesky(sp.csr_array(A[rows][:, rows]), seed, copies))
        scale = 1 / np.sqrt(M.diagonal())
        M *= scale * scale[:, None]
        assert np.abs(M - M.T).max() < 1e-12
        # Computed one by one, x'M x of float64 is positive but for the rounding of its largest eigenvalue.
        assert np.linalg.eigvalsh(M)[0] > -1e-14 * n

    def test_positive_entries_go_to_the_diagonal(self) -> None:
        A = network(30, 60).tolil()
        plain = A.copy()
        for i, j, value in ((0, 3, 2.5), (7, 11, 0.125)):
            A[i, j] = A[j, i] = value
            plain[i, j] = plain[j, i] = 0.0
            plain[i, i] += value
            plain[j, j] += value
        M = ApproximateCholesky(sp.csr_array(A))
        wanted = sp.csr_array(plain)
        wanted.eliminate_zeros()
        assert M.lumped == 4
        assert "4 positive couplings" in str(M)
        assert np.allclose(dense(M), dense(ApproximateCholesky(wanted)), rtol=1e-6)

    def test_rows_without_dominance_are_clipped(self) -> None:
        A = network(30, 60, grounds=4).tolil()
        A[5, 5] *= 0.5
        M = ApproximateCholesky(sp.csr_array(A))
        assert M.clipped == 1
        assert "1 rows without dominance" in str(M)
        assert np.linalg.eigvalsh(dense(M))[0] > 0

    @pytest.mark.parametrize("copies", [1, 2])
    def test_components_without_a_ground(self, copies: int) -> None:
        parts = [network(n, 20, seed=n, grounds=grounds) for n, grounds in ((20, 0), (15, 2), (1, 1), (25, 0))]
        A = sp.csr_array(sp.block_diag(parts))
        M = ApproximateCholesky(A, copies=copies)
        rng, z = np.random.default_rng(0), M.zeros()
        assert M.apply(rng.standard_normal(61), z) > 0
        assert np.isfinite(z).all()
        b = A @ rng.standard_normal(61)
        solution = DeepCD("approximate-cholesky").solve(A, b, 1e-10)
        assert solution.info == 0
        assert np.linalg.norm(b - A @ solution.x) <= 1e-10 * np.linalg.norm(b)

    def test_vertices_without_neighbours(self) -> None:
        A = sp.csr_array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 4.0]])
        assert np.allclose(dense(ApproximateCholesky(A)), np.diag([1 / 3, 1 / 4, 1 / 4]))

    def test_weak_links_between_strong_clusters(self) -> None:
        """What moves clusters against each other has the energy of the links, whatever the others are rounded by."""
        clusters, size, weak = 12, 40, 1e-15
        inner = [network(size, 200, seed=k, decades=0.0, grounds=0) for k in range(clusters)]
        first = np.arange(clusters) * size
        links = laplacian(first, np.roll(first, 1) + 3, np.full(clusters, weak), clusters * size)
        A = sp.csr_array(sp.csr_array(sp.block_diag(inner)) + links)
        order, starts, rows, values, heavy, heaviest, inverses = ApproximateCholesky(A)._factors
        for cluster in range(clusters):
            v = (order // size == cluster).astype(np.float64)  # in the order of elimination
            w = (
                v
                - heaviest * v[heavy]
                - np.bincount(np.repeat(np.arange(v.size), np.diff(starts)), values * v[rows], v.size)
            )
            w[heavy == np.arange(v.size)] = 0.0  # the last pivot is no part of A
            assert 0.5 * weak < w @ (w / inverses) < 8 * weak

    @pytest.mark.parametrize(
        ("family", "most"), [("planar", 45), ("attachment", 25), ("geometric 3D", 30), ("landscape uniform", 60)]
    )
    def test_takes_few_iterations(self, family: str, most: int) -> None:
        problem = system(family, 4000, 1)
        solution = DeepCD("approximate-cholesky", threads=1).solve(problem.A, problem.b, 1e-8)
        assert solution.info == 0
        assert solution.preconditioner == "approximate-cholesky"
        assert problem.judge(solution.x) <= 1e-8
        assert solution.iterations <= most

    @pytest.mark.parametrize("seed", range(12))
    def test_solves_chimeras(self, seed: int) -> None:
        problem = system("chimera", 1500, seed)
        solution = DeepCD("approximate-cholesky", threads=1).solve(problem.A, problem.b, 1e-8)
        assert solution.info == 0
        assert problem.judge(solution.x) <= 1e-8
        assert solution.iterations <= 60

    def test_columns_are_solved_as_alone(self) -> None:
        A, rng = network(150, 500), np.random.default_rng(0)
        M, Z, B = ApproximateCholesky(A), np.zeros(150 * 4), rng.standard_normal((150, 4))
        rz = M.columns(4).apply(B.ravel(), Z)
        for k in range(4):
            z = M.zeros()
            assert rz[k] == pytest.approx(M.apply(B[:, k].copy(), z), rel=1e-12)
            assert np.allclose(Z.reshape(-1, 4)[:, k], z, rtol=1e-12)
        X = DeepCD("approximate-cholesky").solve(A, A @ B, 1e-9).x
        assert np.linalg.norm(A @ (X - B)) <= 1e-8 * np.linalg.norm(A @ B)

    def test_can_be_pickled(self) -> None:
        M = ApproximateCholesky(network(50, 100))
        assert np.array_equal(dense(pickle.loads(pickle.dumps(M))), dense(M))


@pytest.mark.parametrize(
    ("A", "options", "words"),
    [
        (sp.csr_array((3, 4)), {}, "square"),
        (sp.csr_array([[1.0, -1.0], [-1.0, 0.0]]), {}, "positive diagonal, got A.1, 1. = 0"),
        (sp.csr_array([[1.0, 0.0], [0.0, np.nan]]), {}, "positive diagonal, got A.1, 1. = nan"),
        (sp.eye_array(3, format="csr"), {"copies": 3}, "copies must be 1 or 2, got 3"),
    ],
)
def test_what_is_refused(A: sp.csr_array, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ApproximateCholesky(A, **options)


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 1000)
    with pytest.raises(ValueError, match="must have fewer entries"):
        ApproximateCholesky(network(100, 300))
    monkeypatch.setattr(module, "_MOST", 10_000)
    with pytest.raises(ValueError, match="in 32 bits"):
        module._larger(np.empty(10_000, dtype=np.int32), 10_000)
