"""What one look at couplings tells, and which of two strong preconditioners it leads to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp

from deepcd.data.random_graphs import random_graph
from deepcd.solvers.kernels import couplings as passes
from deepcd.solvers.preconditioners import choice
from deepcd.solvers.preconditioners.choice import AGGREGATION, CHOLESKY, Couplings, choose, look
from deepcd.solvers.recipes import ALGEBRAIC, RECIPES, Part

from .systems import closed_line, crossed, dominant, line, path, sealed, shuffled, square
from .test_algebraic_multigrid import iterations


def couplings(A: sp.csr_array, weak: float, rough: float, rounded: float) -> tuple[float, ...]:
    """What `kernels.couplings` returns, by its definition."""
    dense = A.toarray()
    off = dense - np.diag(np.diag(dense))
    strongest = np.maximum(-off, 0).max(axis=1, initial=0.0)
    i, j = (end[np.not_equal(*sp.coo_array(A).coords)] for end in sp.coo_array(A).coords)
    lengths, others = np.diff(A.indptr), np.abs(off).sum(axis=1)
    less, more = np.minimum(strongest[i], strongest[j]), np.maximum(strongest[i], strongest[j])
    return (
        lengths.max() / max(lengths.mean(), 1.0),
        np.maximum(off, 0).sum() / max(others.sum(), 1e-300),
        float((-off[i, j] < weak * strongest[i]).sum()) / max(i.size, 1),
        float((less < rough * more).sum()) / max(i.size, 1),
        float((np.diag(dense) < (1 - rounded) * others).mean()),
    )


MATRICES = {
    "by hand": sp.csr_array([[4.0, -2.0, -0.01], [-2.0, 4.0, 0.5], [-0.01, 0.5, 4.0]]),
    "one row": sp.csr_array([[2.0]]),
    "no couplings": sp.csr_array(sp.diags_array(np.arange(1.0, 9.0))),
    "square": square(9),
    "anisotropic": square(9, 0.01),
    "singular": sealed(square(9, 0.3)),
    "weighted path": path(40),
    "hub": sp.csr_array(sp.block_array([[sp.eye_array(30) * 2, -np.ones((30, 1))], [-np.ones((1, 30)), [[31.0]]]])),
    "both signs": dominant(60),
    "badly scaled": dominant(60, decades=8),
    "not dominant": sp.csr_array(dominant(60, entries=8) - 0.5 * sp.eye_array(60)),
    "only positive": sp.csr_array(abs(square(6))),
}


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("name", MATRICES)
def test_couplings_by_their_definition(name: str, index: Any) -> None:
    A = MATRICES[name]
    found = passes.couplings(A.indptr.astype(index), A.indices.astype(index), A.data, 0.05, 0.2, 1e-12)
    assert found == pytest.approx(couplings(A, 0.05, 0.2, 1e-12), rel=1e-13)
    seen = look(A)
    assert seen == pytest.approx((A.shape[0], A.nnz / A.shape[0], *found), rel=1e-13)


def test_couplings_by_hand() -> None:
    seen = look(MATRICES["by hand"])
    assert (seen.rows, seen.entries, seen.longest) == (3, 3.0, 1.0)
    assert seen.positive == pytest.approx(1.0 / 5.02)
    assert seen.weak == pytest.approx(3 / 6)  # two that are positive, and one of the two small ones
    assert seen.rough == pytest.approx(4 / 6)  # the strongest ones are 2, 2 and 0.01
    assert seen.dominated == 0.0
    assert look(sp.csr_array(MATRICES["by hand"] - 1.9 * sp.eye_array(3))).dominated == pytest.approx(1 / 3)


def test_a_look_depends_on_neither_numbering_nor_units() -> None:
    for A in (square(12, 0.01), MATRICES["both signs"], MATRICES["hub"]):
        assert look(shuffled(A)) == pytest.approx(look(A), rel=1e-12)
        assert look(sp.csr_array(A * 1e-150)) == pytest.approx(look(A), rel=1e-12)


def test_rows_that_sum_to_zero_but_for_rounding_are_dominant() -> None:
    A = sealed(square(30, 0.3) * (1 / 3))
    assert look(A).dominated == 0.0
    assert look(sp.csr_array(A - 1e-6 * sp.eye_array(900))).dominated == 1.0


MESH = Couplings(rows=50_000, entries=7.0, longest=1.2, positive=0.0, weak=0.0, rough=0.0, dominated=0.0)
OBTUSE = {"rows": 25_000, "positive": 0.05}
TETRAHEDRA = {"rows": 30_000, "entries": 15.0, "longest": 1.7, "positive": 0.2}


class TestRule:
    """Each branch of the rule, from both sides."""

    @pytest.mark.parametrize(
        ("what", "aggregation", "cholesky"),
        [
            pytest.param({}, {"rough": 0.17}, {"rough": 0.18}, id="irregular weights"),
            pytest.param({}, {"longest": 2.19}, {"longest": 2.2}, id="a graph"),
            pytest.param({"longest": 1.7}, {"rows": 40_001}, {"rows": 40_000}, id="a small graph"),
            pytest.param({"rows": 40_000}, {"longest": 1.59}, {"longest": 1.6}, id="a small mesh or a graph"),
            pytest.param({}, {"longest": 20.1}, {"longest": 20.0}, id="hubs"),
            pytest.param({"longest": 30.0}, {"rough": 0.17}, {"rough": 0.18}, id="hubs with irregular weights"),
            pytest.param({}, {"entries": 3.6}, {"entries": 3.5}, id="little more than a tree"),
            pytest.param({}, {"rows": 12_001}, {"rows": 12_000}, id="few rows"),
            pytest.param({"rows": 12_000}, {"entries": 8.1}, {"entries": 8.0}, id="few short rows"),
        ],
    )
    def test_dominant_matrices(self, what: Any, aggregation: Any, cholesky: Any) -> None:
        for dominated in (0.0, 0.05):
            seen = MESH._replace(**what, dominated=dominated)
            assert choose(seen._replace(**aggregation)) == AGGREGATION
            assert choose(seen._replace(**cholesky)) == CHOLESKY

    @pytest.mark.parametrize(
        ("what", "aggregation", "cholesky"),
        [
            pytest.param(TETRAHEDRA, {"positive": 0.14}, {"positive": 0.15}, id="slivers"),
            pytest.param(TETRAHEDRA, {"entries": 18.1}, {"entries": 18.0}, id="tetrahedra"),
            pytest.param(TETRAHEDRA, {"rows": 40_001}, {"rows": 40_000}, id="few slivers"),
            pytest.param(TETRAHEDRA, {"longest": 1.59}, {"longest": 1.6}, id="rows of several lengths"),
            pytest.param(TETRAHEDRA, {"longest": 20.1}, {"longest": 20.0}, id="no hubs"),
            pytest.param(OBTUSE, {"rows": 25_001}, {"rows": 25_000}, id="few obtuse triangles"),
            pytest.param(OBTUSE, {"entries": 8.1}, {"entries": 8.0}, id="obtuse triangles"),
            pytest.param(OBTUSE, {"positive": 0.01}, {"positive": 0.02}, id="obtuse angles"),
        ],
    )
    def test_others(self, what: Any, aggregation: Any, cholesky: Any) -> None:
        seen = MESH._replace(dominated=0.06)._replace(**what)
        assert choose(seen._replace(**aggregation)) == AGGREGATION
        assert choose(seen._replace(**cholesky)) == CHOLESKY

    @pytest.mark.parametrize("what", [{"rough": 0.5}, {"longest": 5.0}, {"entries": 3.0}])
    def test_what_tells_of_a_graph_does_not_count_without_dominance(self, what: dict[str, Any]) -> None:
        seen = MESH._replace(**what)
        assert choose(seen) == CHOLESKY
        assert choose(seen._replace(dominated=0.06)) == AGGREGATION

    def test_there_is_a_recipe_for_whatever_is_chosen(self) -> None:
        assert set(choice.CANDIDATES) <= set(RECIPES)


def elasticity(n: int) -> sp.csr_array:
    return sp.csr_array(pyamg.gallery.linear_elasticity((n, n))[0])


def scaled(A: sp.csr_array, decades: float) -> sp.csr_array:
    S = sp.diags_array(10 ** np.random.default_rng(0).uniform(-decades / 2, decades / 2, A.shape[0]))
    return sp.csr_array(S @ A @ S)


def graph(name: str, n: int) -> sp.csr_array:
    return random_graph(name, n, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("A", "expected"),
    [
        pytest.param(square(112), AGGREGATION, id="large grid"),
        pytest.param(shuffled(square(112)), AGGREGATION, id="large grid in another order"),
        pytest.param(square(112, 0.001), AGGREGATION, id="large anisotropic grid"),
        pytest.param(square(30), CHOLESKY, id="small grid"),
        pytest.param(crossed(closed_line(30), 0.3), CHOLESKY, id="small closed grid"),
        pytest.param(line(30_000), CHOLESKY, id="chain"),
        pytest.param(elasticity(40), AGGREGATION, id="elastic body"),
        pytest.param(scaled(square(100), 0.5), AGGREGATION, id="badly scaled grid"),
        pytest.param(scaled(square(100), 4), AGGREGATION, id="grid scaled worse"),
        pytest.param(graph("planar-graph", 14_000), CHOLESKY, id="planar graph, weights over six decades"),
        pytest.param(graph("landscape-uniform", 14_400), CHOLESKY, id="landscape"),
        pytest.param(graph("geometric-graph", 14_000), CHOLESKY, id="geometric graph"),
        pytest.param(graph("attachment-graph", 14_000), AGGREGATION, id="graph with hubs"),
    ],
)
def test_matrices(A: sp.csr_array, expected: str) -> None:
    assert choose(look(A)) == expected
    assert ALGEBRAIC.build(Part(A)).name == expected


@pytest.mark.compiled
@pytest.mark.parametrize("A", [square(112), scaled(square(100), 2), elasticity(40), graph("planar-graph", 14_000)])
def test_it_is_the_better_one(A: sp.csr_array) -> None:
    """Iterations times what each reads, of the two."""
    built = {name: RECIPES[name].build(Part(A)) for name in (AGGREGATION, CHOLESKY)}
    reads = {name: iterations(A, M, maxiter=2000) * M.work for name, M in built.items()}
    assert reads[choose(look(A))] == min(reads.values())


class TestRecipe:
    """What "auto" builds where it leaves simple iterations."""

    def test_a_near_null_space_is_for_smoothed_aggregation(self) -> None:
        A = square(20)
        assert choose(look(A)) == CHOLESKY
        assert ALGEBRAIC.build(Part(A, near_null=np.ones((400, 1)))).name == "pyamg-sa"

    def test_what_suited_the_matrix_before_is_brought_up_to_date(self) -> None:
        A = square(20)
        before = RECIPES[AGGREGATION].build(Part(A))
        after = ALGEBRAIC.build(Part(A * 2, previous=before))
        assert after.name == AGGREGATION
        z = after.zeros(), before.zeros()
        assert after.apply(np.ones(400), z[0]) == pytest.approx(before.apply(np.ones(400), z[1]) / 2)
        assert ALGEBRAIC.build(Part(square(21), previous=before)).name == CHOLESKY, "of another pattern"
        after = ALGEBRAIC.build(Part(A * 2, previous=RECIPES[CHOLESKY].build(Part(A))))
        assert after.apply(np.ones(400), z[0]) == pytest.approx(
            RECIPES[CHOLESKY].build(Part(A)).apply(np.ones(400), z[1]) / 2
        )
