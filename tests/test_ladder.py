"""From rung to rung: what follows when, what is kept on the way, and that every rung is a system like any other."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Solution, Status
from deepcd.solvers import beginning, costs, ladder, structure
from deepcd.solvers.ladder import Ladder
from deepcd.solvers.outcome import Limits
from deepcd.solvers.preconditioners import choice

from .systems import dominant, sealed, shuffled, square, weighted

RUNGS = ("ssor", "levels", "multigrid", "cholesky", "factors")
TOL = 1e-10
FACTORS, OBVIOUS = Ladder._factors, beginning._obvious


A = shuffled(square(24, 0.3))
N = A.shape[0]
B = np.random.default_rng(1).standard_normal((N, 4))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let small matrices begin as large ones do, and stay where they are."""
    for module, name in ((beginning, "FEW"), (structure, "FEW"), (structure, "FEWEST"), (ladder, "_SMALL")):
        monkeypatch.setattr(module, name, 0)
    monkeypatch.setattr(beginning, "_ILL", math.inf)  # rows are left in place at first
    monkeypatch.setattr(beginning, "_obvious", lambda *given: None)
    monkeypatch.setattr(costs, "EXCHANGE", 0.0)
    monkeypatch.setattr(ladder, "_FAIR", 0)
    price(monkeypatch, numbering=math.inf, grid_setup=math.inf, multigrid_setup=math.inf)
    factors(monkeypatch, math.inf)
    return monkeypatch


def price(patch: pytest.MonkeyPatch, **what: float) -> None:
    """Let methods cost what a test wants."""
    for name, cost in what.items():
        patch.setattr(costs, name, lambda *given, cost=cost, **named: cost)


def factors(patch: pytest.MonkeyPatch, cost: float) -> None:
    patch.setattr(Ladder, "_factors", lambda *given: cost)


def up_to(patch: pytest.MonkeyPatch, rung: str) -> None:
    """Let the strategy climb to a rung."""
    if rung != "ssor":
        patch.setattr(costs, "relaxation", lambda size, waits: (1e9 if waits or size.disordered else 1e8) * size.n)
        price(patch, numbering=0.0)
    if rung in ("multigrid", "cholesky", "factors"):  # cheap once rows are numbered by levels: else those are left out
        patch.setattr(costs, "multigrid_setup", lambda size, *given: math.inf if size.disordered else 1.0)
        price(patch, multigrid_cycle=0.0)
    if rung == "multigrid":
        patch.setattr(choice, "choose", lambda *given: choice.AGGREGATION)
    if rung == "factors":
        patch.setattr(Ladder, "_factors", lambda self, *given: math.inf if self._size.disordered else 0.0)


def names(solution: Solution) -> list[str]:
    return [attempt.method for attempt in solution.attempts]


def check(solution: Solution, matrix: sp.csr_array, b: np.ndarray, tol: float = TOL) -> None:
    """What must hold of every solution that converged."""
    left = float(np.linalg.norm(b - matrix @ solution.x))
    assert solution.status is Status.CONVERGED
    assert left <= tol * np.linalg.norm(b)
    assert solution.residuals[-1] == pytest.approx(left, rel=1e-6, abs=1e-13 * float(np.linalg.norm(b)))
    assert sum(attempt.iterations for attempt in solution.attempts) == solution.iterations
    assert all(attempt.reason.endswith(".") for attempt in solution.attempts[:-1])
    assert not solution.attempts[-1].reason
    assert solution.attempts[-1].method == solution.preconditioner
    assert str(solution).splitlines()[2:] == [str(attempt) for attempt in solution.attempts]


EXPECTED = {
    "ssor": ["ssor"],
    "levels": ["ssor", "ssor"],
    "multigrid": ["ssor", "ssor", "smoothed-aggregation"],
    "cholesky": ["ssor", "ssor", "approximate-cholesky"],
    "factors": ["ssor", "ssor", "direct"],
}


@pytest.mark.parametrize("rung", RUNGS)
class TestRungs:
    def test_a_single_solve_climbs_as_far_as_it_pays(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        solution = DeepCD.solve(A, B[:, 0], TOL)
        assert names(solution) == EXPECTED[rung]
        check(solution, A, B[:, 0])
        again = DeepCD.solve(A, B[:, 0], TOL)
        assert again.attempts == solution.attempts, "decisions do not depend on the clock"
        np.testing.assert_array_equal(again.x, solution.x)

    def test_set_up_tries_once_and_stays(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        system = DeepCD().setup(A)
        for b in B.T:
            solution = system.solve(b, TOL)
            assert names(solution) == EXPECTED[rung][-1:]
            check(solution, A, b)

    def test_new_values_stay_on_the_rung(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        system = DeepCD().setup(A)
        before = system._strategy._ladder
        system.update(A * 2)
        after = system._strategy._ladder
        assert after is not before
        assert after.prepared.by_levels == before.prepared.by_levels
        assert after._recipe is before._recipe
        solution = system.solve(B[:, 0], TOL)
        assert names(solution) == EXPECTED[rung][-1:]
        check(solution, sp.csr_array(A * 2), B[:, 0])

    def test_new_values_on_a_grid_are_taken_to_it(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        positive = square(24).copy()  # on the pattern of a grid
        positive[0, 1] = positive[1, 0] = 0.5
        system = DeepCD().setup(positive)
        assert system.preconditioner == EXPECTED[rung][-1]
        for grid, cycle in ((square(24), "learned-multigrid"), (square(24, 0.3), "geometric-multigrid")):
            system.update(grid)
            assert names(system.solve(B[:, 0], TOL)) == [cycle]
            system.update(positive)
            check(system.solve(B[:, 0], TOL), positive, B[:, 0])

    @pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda system: pickle.loads(pickle.dumps(system))])
    def test_copies_answer_alike(self, small: pytest.MonkeyPatch, rung: str, twin: Callable[[Any], Any]) -> None:
        up_to(small, rung)
        system = DeepCD().setup(A)
        other = twin(system)
        np.testing.assert_array_equal(other.solve(B[:, 0], TOL).x, system.solve(B[:, 0], TOL).x)
        assert names(other.solve(B[:, 0], TOL)) == EXPECTED[rung][-1:]

    def test_what_preconditions_is_symmetric_and_positive(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        M = DeepCD().setup(shuffled(square(12, 0.3))).aspreconditioner()
        dense = np.stack([M @ unit for unit in np.eye(144)], axis=1)
        np.testing.assert_allclose(dense, dense.T, atol=1e-12 * abs(dense).max())
        assert np.linalg.eigvalsh(dense + dense.T)[0] > 0

    def test_columns(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        columns = np.c_[B, np.zeros(N)]
        solution = DeepCD.solve(A, columns, TOL)
        for column, b in zip(solution.columns, columns.T, strict=True):
            assert column.status is Status.CONVERGED
            assert np.linalg.norm(b - A @ column.x) <= TOL * np.linalg.norm(b)
            assert sum(attempt.iterations for attempt in column.attempts) == column.iterations
        assert not solution.x[:, -1].any()

    def test_rows_without_couplings_and_constants(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        closed = sealed(square(12, 0.3))
        matrix = shuffled(sp.csr_array(sp.block_diag([closed, closed * 1e-3, np.diag([3.0, 0.0, 1e-3])])), 3)
        b = matrix @ np.random.default_rng(0).standard_normal(matrix.shape[0])
        solution = DeepCD.solve(matrix, b, TOL)
        check(solution, matrix, b)
        _, component = sp.csgraph.connected_components(matrix)
        sizes = np.bincount(component)
        means = (np.bincount(component, solution.x) / sizes)[sizes > 9]
        assert means == pytest.approx(np.zeros(2), abs=1e-8)
        start = 5 * np.random.default_rng(1).standard_normal(b.size)
        check(DeepCD.solve(matrix, b, TOL, x0=start), matrix, b)

    def test_constants_without_other_rows(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        matrix = shuffled(sealed(square(12, 0.3)))
        b = matrix @ np.random.default_rng(0).standard_normal(144)
        for start in (None, np.random.default_rng(1).standard_normal(144)):
            solution = DeepCD.solve(matrix, b, TOL, x0=start)
            check(solution, matrix, b)
            assert solution.x.mean() == pytest.approx(0.0 if start is None else start.mean(), abs=1e-9)
            solution = DeepCD.solve(matrix, b + 1.0, TOL, x0=start)
            assert solution.status is Status.INCONSISTENT
            assert solution.residuals[-1] == pytest.approx(12.0)

    @pytest.mark.parametrize("magnitude", [1e-200, 1e-100, 1e100, 1e200])
    def test_magnitudes(self, small: pytest.MonkeyPatch, rung: str, magnitude: float) -> None:
        up_to(small, rung)
        unit = DeepCD.solve(A, B[:, 0], TOL)
        for matrix, b, of_x in ((A, B[:, 0] * magnitude, magnitude), (A * magnitude, B[:, 0], 1 / magnitude)):
            solution = DeepCD.solve(matrix, b, TOL)
            assert (solution.status, names(solution)) == (Status.CONVERGED, names(unit))
            np.testing.assert_allclose(solution.x / of_x, unit.x, rtol=1e-6, atol=1e-8 * abs(unit.x).max())

    @pytest.mark.parametrize("maxiter", [1, 3, 8, 9])
    def test_no_more_iterations_than_allowed(self, small: pytest.MonkeyPatch, rung: str, maxiter: int) -> None:
        up_to(small, rung)
        solution = DeepCD.solve(A, B[:, 0], 1e-14, maxiter=maxiter)
        assert solution.iterations <= maxiter
        assert solution.attempts[-1].iterations > 0, "nothing is set up for no iteration"
        assert solution.residuals[-1] == pytest.approx(np.linalg.norm(B[:, 0] - A @ solution.x))

    def test_a_callback_sees_every_iteration_and_stops(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        seen: list[np.ndarray] = []
        solution = DeepCD.solve(A, B[:, 0], TOL, callback=lambda x: seen.append(x.copy()))
        assert len(seen) == solution.iterations
        for last in range(1, len(seen)):
            told: list[np.ndarray] = []

            def stop(x: np.ndarray, told: list[np.ndarray] = told, last: int = last) -> bool:
                told.append(x.copy())
                return len(told) == last

            stopped = DeepCD.solve(A, B[:, 0], TOL, callback=stop)
            assert (stopped.status, stopped.iterations) == (Status.CALLBACK, last)
            np.testing.assert_allclose(stopped.x, seen[last - 1], rtol=1e-12)

    def test_an_indefinite_matrix_is_named(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        solution = DeepCD.solve(sp.csr_array(A - 0.2 * sp.eye_array(N)), B[:, 0], TOL)
        assert solution.status is Status.INDEFINITE_MATRIX
        assert solution.info < 0

    def test_a_matrix_that_is_not_symmetric_is_named(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        convection = sp.triu(A, k=1) * 0.8
        solution = DeepCD.solve(sp.csr_array(A + convection), B[:, 0], TOL)
        assert solution.status is Status.NONSYMMETRIC

    def test_a_null_vector_that_nobody_knows(self, small: pytest.MonkeyPatch, rung: str) -> None:
        up_to(small, rung)
        matrix, null = weighted(12)
        b = matrix @ np.random.default_rng(0).standard_normal(144)
        check(DeepCD.solve(matrix, b, 1e-8), matrix, b, 1e-8)
        null /= np.linalg.norm(null)
        solution = DeepCD.solve(matrix, b + null, 1e-8)
        assert solution.status is Status.INCONSISTENT
        assert solution.residuals[-1] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("expected", ["approximate-cholesky", "direct"])
def test_rows_are_not_numbered_where_something_stronger_is_cheaper(small: pytest.MonkeyPatch, expected: str) -> None:
    up_to(small, "levels")
    price(small, multigrid_setup=1.0, multigrid_cycle=0.0)
    factors(small, 0.0 if expected == "direct" else math.inf)
    solution = DeepCD.solve(A, B[:, 0], TOL)
    assert names(solution) == ["ssor", expected]
    check(solution, A, B[:, 0])


def test_a_plan_that_was_given_up_is_made_again_for_more(small: pytest.MonkeyPatch) -> None:
    small.setattr(Ladder, "_look", lambda *given: False)
    small.setattr(Ladder, "_factors", FACTORS)
    price(small, least_factors=0.0)
    system = DeepCD().setup(shuffled(square(40, 0.3)))
    rungs = system._strategy._ladder
    assert rungs._factors(1e3, 1) == math.inf
    given_up = rungs._plan
    assert given_up is not None
    assert not given_up.complete
    assert rungs._factors(2e3, 1) == math.inf
    assert rungs._plan is given_up
    assert rungs._factors(1e9, 1) < 1e9
    assert rungs._plan.complete


def test_many_solves_pay_for_multigrid(small: pytest.MonkeyPatch) -> None:
    system = DeepCD().setup(A)
    assert names(system.solve(B[:, 0], TOL)) == ["ssor"]
    price(small, multigrid_setup=10.0 * A.nnz, multigrid_cycle=0.0)
    small.setattr(Ladder, "_look", lambda *given: False)
    solutions = [system.solve(B[:, 0], TOL) for _ in range(5)]
    climbed = next(k for k, solution in enumerate(solutions) if names(solution) != ["ssor"])
    assert names(solutions[climbed]) == ["ssor", "approximate-cholesky"]
    assert solutions[climbed].attempts[0].iterations == 0
    assert "so many solves" in solutions[climbed].attempts[0].reason
    assert all(names(solution) == ["approximate-cholesky"] for solution in solutions[climbed + 1 :])
    check(solutions[climbed], A, B[:, 0])


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("preconditioner", ["jacobi", "none", "pyamg-sa", "smoothed-aggregation", "direct"])
def test_what_was_named_is_not_left(small: pytest.MonkeyPatch, rung: str, preconditioner: str) -> None:
    up_to(small, rung)
    assert names(DeepCD(preconditioner).solve(A, B[:, 0], TOL)) == [preconditioner]
    assert names(DeepCD(preconditioner).setup(A).solve(B[:, 0], TOL)) == [preconditioner]


@pytest.mark.parametrize("start", [None, np.ones(N)])
def test_a_grid_is_found_late(small: pytest.MonkeyPatch, start: np.ndarray | None) -> None:
    price(small, grid_setup=0.0, grid_cycle=0.0)
    grid = square(24)
    solution = DeepCD.solve(grid, B[:, 0], TOL, x0=start)
    assert names(solution) == ["ssor", "learned-multigrid"]
    check(solution, grid, B[:, 0])
    no_grid = DeepCD.solve(A, B[:, 0], TOL, x0=start)
    assert names(no_grid) == ["ssor"]
    check(no_grid, A, B[:, 0])


def test_the_diagonal_is_enough_where_it_dominates(small: pytest.MonkeyPatch) -> None:
    matrix = sp.csr_array(A + 10 * sp.eye_array(N))
    small.setattr(costs, "EXCHANGE", math.inf)
    solution = DeepCD.solve(matrix, B[:, 0], TOL)
    assert names(solution) == ["jacobi"]
    check(solution, matrix, B[:, 0])


def test_where_it_only_seems_to_dominate_relaxation_follows(small: pytest.MonkeyPatch) -> None:
    price(small, relaxation=0.0)
    small.setattr(beginning, "DOMINANT", 0.0)
    solution = DeepCD.solve(A, B[:, 0], TOL)
    assert names(solution) == ["jacobi", "ssor"]
    assert "over-relaxation" in solution.attempts[0].reason
    check(solution, A, B[:, 0])


def test_single_precision(small: pytest.MonkeyPatch) -> None:
    for rung in RUNGS:
        up_to(small, rung)
        solution = DeepCD.solve(A.astype(np.float32), B[:, 0].astype(np.float32), 1e-5)
        assert solution.x.dtype == np.float32
        assert solution.status is Status.CONVERGED
        x = solution.x.astype(np.float64)
        left = float(np.linalg.norm(B[:, 0].astype(np.float32) - A.astype(np.float32).astype(np.float64) @ x))
        assert solution.residuals[-1] == pytest.approx(left, rel=1e-6)


def test_scales_over_many_decades(small: pytest.MonkeyPatch) -> None:
    matrix = dominant(200, decades=12)
    b = matrix @ np.random.default_rng(0).standard_normal(200)
    for rung in RUNGS:
        up_to(small, rung)
        check(DeepCD.solve(matrix, b, 1e-8), matrix, b, 1e-8)


def test_a_plan_is_not_taken_over_to_another_numbering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A band that is planned in place is none once the rows are numbered anew."""
    monkeypatch.undo()  # factors are planned here
    n = 4000
    A = sp.csr_array(sp.diags_array([-1.0, -1e-2, 2.1, -1e-2, -1.0], offsets=[-20, -1, 0, 1, 20], shape=(n, n)))
    config = DeepCD(threads=1).config
    monkeypatch.setattr(beginning, "_obvious", lambda *given: None)
    rungs = Ladder(structure.analyse(A, config, hasty=True), config, True, None, once=True)
    assert rungs.prepared.is_simple
    assert rungs._factors(1e12, 1) < math.inf
    assert rungs._plan is not None
    rungs._next = "levels", "Because."
    rungs._climb()
    assert rungs._plan is None
    assert rungs._factors(1e12, 1) < math.inf
    rungs._next = "factors", "Because."
    rungs._climb()
    b = np.random.default_rng(0).standard_normal(n)
    x = rungs.solve(b, None, Limits(1e-9, 9, math.inf, None), np.float64, lambda: 9).x
    assert np.linalg.norm(b - A @ x) <= 1e-9


@pytest.mark.parametrize(("epsilon", "levels"), [(0.01, True), (1000.0, False)])
def test_where_many_iterations_are_expected_rows_are_numbered_at_once(
    monkeypatch: pytest.MonkeyPatch, epsilon: float, levels: bool
) -> None:
    """A diagonal that dominates promises few."""
    monkeypatch.setattr(beginning, "_ILL", 4.0)
    monkeypatch.setattr(beginning, "DOMINANT", 2.0)
    monkeypatch.setattr(beginning, "_FEWEST", 0)
    A = sp.csr_array(square(40, 0.3) + epsilon * sp.eye_array(1600))
    config = DeepCD(threads=1).config
    ladder = Ladder(structure.analyse(A, config, hasty=True), config, True, None, once=True)
    assert ladder.prepared.preconditioner == "ssor"
    assert isinstance(ladder._parts.rows, np.ndarray) is levels


def forest(n: int, rng: np.random.Generator) -> sp.csr_array:
    """A random tree with weights, grounded."""
    parent = (rng.random(n - 1) * np.arange(1, n)).astype(int)
    weight = 10 ** rng.uniform(-3, 3, n - 1)
    W = sp.coo_array((weight, (np.arange(1, n), parent)), shape=(n, n)).tocsr()
    W = W + W.T
    return sp.csr_array(sp.diags_array(W.sum(axis=1) + 1e-3) - W)


def test_trees_are_factored_at_once_and_what_only_has_few_couplings_is_not(small: pytest.MonkeyPatch) -> None:
    small.setattr(beginning, "_obvious", OBVIOUS)
    rng = np.random.default_rng(0)
    tree = forest(3000, rng)
    solution = DeepCD.solve(tree, rng.standard_normal(3000))
    assert [attempt.method for attempt in solution.attempts] == ["direct"]
    pairs = sp.kron(sp.eye_array(3000), sp.csr_array([[1.0, -0.999], [-0.999, 1.0]]))
    ends = rng.permutation(np.repeat(np.arange(1000), 6))
    W = sp.coo_array((np.ones(3000), (ends[::2], ends[1::2])), shape=(1000, 1000)).tocsr()
    W = W + W.T
    web = sp.diags_array(W.sum(axis=1) + 1e-3) - W  # a random graph, whose factors are nearly full
    mixed = sp.csr_array(sp.block_diag([pairs, web], format="csr"))
    assert mixed.nnz <= 3 * mixed.shape[0]
    solution = DeepCD.solve(mixed, rng.standard_normal(7000))
    assert solution.info == 0
    assert solution.attempts[0].method != "direct"
