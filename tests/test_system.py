"""A prepared system: several right-hand sides, new values, copies, threads, and what it does when a solve fails."""

from __future__ import annotations

import copy
import math
import multiprocessing
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Solution, Status, System
from deepcd.data import random_grid
from deepcd.pde import domain
from deepcd.pde import poisson as assemble
from deepcd.solvers.columns import BYTES
from deepcd.solvers.strategies import PATIENCE

from .systems import SUITED, residuals, sealed, square, weighted

WAYS = {name: case.A for name, case in SUITED.items()}


@pytest.fixture(params=WAYS)
def system(request: pytest.FixtureRequest) -> System:
    return DeepCD(request.param).setup(WAYS[request.param])


def right_hand_sides(A: sp.csr_array, k: int) -> np.ndarray:
    return A @ np.random.default_rng(1).standard_normal((A.shape[0], k))


class TestColumns:
    def test_each_meets_its_own_tolerance(self, system: System) -> None:
        B = right_hand_sides(system.A, 5) * [1.0, 1e-6, 1e6, 1.0, 1.0]
        history: list[float] = []
        solution = system.solve(B, 1e-8, residuals=history)
        X, info = solution
        assert info == 0
        assert X.shape == B.shape
        assert (residuals(system.A, X, B) <= 1e-8).all()
        assert len(solution.columns) == 5
        assert solution.iterations == max(column.iterations for column in solution.columns)
        for column, x, b in zip(solution.columns, X.T, B.T, strict=True):
            np.testing.assert_array_equal(column.x, x)
            assert column.residuals[0] == pytest.approx(np.linalg.norm(b))
            rounding = 1e-14 * float(np.linalg.norm(b))
            assert column.residuals[-1] == pytest.approx(np.linalg.norm(b - system.A @ x), rel=1e-2, abs=rounding)
        assert history[0] == pytest.approx(np.linalg.norm(B))
        assert len(history) == solution.iterations + 1

    def test_takes_about_the_iterations_of_one(self, system: System) -> None:
        B = right_hand_sides(system.A, 4)
        together = system.solve(B, 1e-6).iterations
        alone = max(system.solve(b, 1e-6).iterations for b in B.T)
        assert together <= 1.3 * alone + 1

    def test_zero_columns_and_warm_starts(self, system: System) -> None:
        B = right_hand_sides(system.A, 3)
        B[:, 1] = 0
        X = system.solve(B, 1e-9).x
        assert not X[:, 1].any()
        start = X.copy()
        again = system.solve(B, 1e-8, x0=start)
        assert again.iterations == 0
        np.testing.assert_array_equal(start, X)
        np.testing.assert_array_equal(again.x, X)
        close = system.solve(B, 1e-9, x0=X * (1 + 1e-5))
        assert close.info == 0
        assert close.iterations < system.solve(B, 1e-9).iterations or system.preconditioner == "direct"

    def test_layouts_and_dtypes(self) -> None:
        A = WAYS["pyamg-sa"]
        B = right_hand_sides(A, 3)
        expected = DeepCD.solve(A, B, 1e-9).x
        for other in (np.asfortranarray(B), B[:, ::-1][:, ::-1], B.tolist()):
            np.testing.assert_array_equal(DeepCD.solve(A, other, 1e-9).x, expected)
        single = DeepCD.solve(A.astype(np.float32), B.astype(np.float32), 1e-4)
        assert single.x.dtype == np.float32
        assert single.info == 0

    @pytest.mark.parametrize("threads", [1, 2])
    def test_columns_have_the_dtype_of_the_answer(self, threads: int) -> None:
        A = WAYS["learned-multigrid"].astype(np.float32)
        B = right_hand_sides(WAYS["learned-multigrid"], 3).astype(np.float32)
        solution = DeepCD("learned-multigrid", threads=threads).solve(A, B, 1e-4)
        assert {column.x.dtype for column in solution.columns} == {np.dtype(np.float32)}
        for column, x in zip(solution.columns, solution.x.T, strict=True):
            np.testing.assert_array_equal(column.x, x)

    def test_one_column_is_a_vector(self) -> None:
        A = WAYS["direct"]
        solution = DeepCD.solve(A, np.ones((400, 1)))
        assert solution.x.shape == (400,)
        assert solution.columns == ()

    def test_a_failing_column_is_named_and_the_others_are_not_harmed(self) -> None:
        A = WAYS["pyamg-rs"]
        B = right_hand_sides(A, 4)
        B[:, 2] += 1
        solution = DeepCD("pyamg-rs").solve(A, B, 1e-8)
        assert solution.info != 0
        assert solution.status is Status.INCONSISTENT
        assert "1 of 4 columns failed, the first one is 2" in solution.message
        assert [column.status is Status.CONVERGED for column in solution.columns] == [True, True, False, True]
        assert (residuals(A, solution.x, B)[[0, 1, 3]] <= 1e-8).all()

    @pytest.mark.parametrize("k", [1, 3])
    def test_a_column_that_fails_tells_its_own_residual(self, k: int) -> None:
        A = sp.csr_array(sp.block_diag([square(6, 0.3), [[0.0]]]))
        b = np.random.default_rng(0).standard_normal((37, k))
        solution = DeepCD("pyamg-sa").solve(A, b, 1e-8)
        for column, right in zip(solution.columns or [solution], b.T, strict=True):
            assert column.status is Status.ZERO_DIAGONAL
            assert column.residuals[-1] == pytest.approx(np.linalg.norm(right - A @ column.x))

    def test_a_faulty_matrix(self) -> None:
        A = sp.csr_array([[1.0, 2.0], [2.0, 1.0]])
        solution = DeepCD.solve(A, np.eye(2))
        assert [column.status for column in solution.columns] == [Status.INDEFINITE_MATRIX] * 2

    def test_limits(self, system: System) -> None:
        if system.preconditioner == "direct":
            pytest.skip("one iteration is all it takes")
        B = right_hand_sides(system.A, 3)
        solution = system.solve(B, 1e-12, maxiter=2)
        assert solution.status is Status.MAXITER
        assert solution.iterations == 2
        assert system.solve(B, 1e-12, timeout=1e-9).status is Status.TIMEOUT

    def test_callback_sees_the_block_and_stops(self, system: System) -> None:
        B = right_hand_sides(system.A, 3)
        seen: list[np.ndarray] = []

        def callback(X: np.ndarray) -> bool:
            seen.append(X.copy())
            return len(seen) == 1

        solution = system.solve(B, 1e-13, callback=callback)
        assert seen[0].shape == B.shape
        left = residuals(system.A, seen[0], B)
        if system.embedding is None and system.preconditioner != "direct":
            assert (left < 1).all()
        else:  # one column after the other
            assert left[0] < 1
            assert left[1:] == pytest.approx([1, 1])
        assert solution.status in (Status.CALLBACK, Status.CONVERGED)
        assert len(seen) == 1 or system.preconditioner == "direct"

    def test_more_columns_than_fit_into_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        A = WAYS["pyamg-sa"]
        B = right_hand_sides(A, 7)
        monkeypatch.setattr("deepcd.solvers.columns.MEMORY", 3 * BYTES * A.shape[0])
        solution = DeepCD.solve(A, B, 1e-8)
        assert solution.info == 0
        assert (residuals(A, solution.x, B) <= 1e-8).all()


class TestUpdate:
    def test_new_values(self, system: System) -> None:
        A = system.A * 3.0
        b = right_hand_sides(A, 1)[:, 0]
        system.update(A)
        solution = system.solve(b, 1e-9)
        assert solution.info == 0
        assert residuals(A, solution.x, b) <= 1e-9

    def test_a_copy_is_kept(self, system: System) -> None:
        A = system.A.copy()
        b = right_hand_sides(A, 1)[:, 0]
        system.update(A)
        fresh = DeepCD(system.preconditioner).setup(A)
        A.setdiag(A.diagonal() + 1)
        for one in (system, fresh):
            solution = one.solve(b, 1e-8)
            assert solution.info == 0, solution.message
            assert residuals(one.A, solution.x, b) <= 1e-8
            assert residuals(A, solution.x, b) > 0.05

    def test_other_patterns_are_refused(self) -> None:
        system = DeepCD().setup(square(12))
        with pytest.raises(ValueError, match="pattern differs"):
            system.update(square(12) + sp.eye_array(144, k=5))
        with pytest.raises(ValueError, match=r"\(144, 144\), got \(9, 9\)"):
            system.update(square(3))
        assert system.solve(np.ones(144)).info == 0

    def test_algebraic_multigrid_keeps_its_transfers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pyamg

        A = square(60, 0.3)
        system = DeepCD("pyamg-sa").setup(A)
        monkeypatch.setattr(pyamg, "smoothed_aggregation_solver", None)
        monkeypatch.setattr(pyamg, "ruge_stuben_solver", None)
        values = square(60, 0.4)
        system.update(values)
        b = np.ones(3600)
        solution = system.solve(b, 1e-9)
        assert residuals(values, solution.x, b) <= 1e-9


class TestCopies:
    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda system: pickle.loads(pickle.dumps(system))])
    def test_solve_alike_and_apart(self, system: System, duplicate: Any) -> None:
        b = right_hand_sides(system.A, 1)[:, 0]
        expected = system.solve(b, 1e-9)
        twin = duplicate(system)
        solution = twin.solve(b, 1e-9)
        np.testing.assert_array_equal(solution.x, expected.x)
        assert str(twin) == str(system)
        twin.update(2 * system.A)
        np.testing.assert_array_equal(system.solve(b, 1e-9).x, expected.x)

    def test_solutions_too(self) -> None:
        solution = DeepCD.solve(square(5), np.eye(25)[:, :3])
        twin: Solution = pickle.loads(pickle.dumps(solution))
        assert twin.status is solution.status
        assert len(twin.columns) == 3
        np.testing.assert_array_equal(twin.x, solution.x)


class TestThreads:
    def test_one_system_from_several_threads(self, system: System) -> None:
        B = right_hand_sides(system.A, 4)
        expected = [system.solve(b, 1e-9).x for b in B.T]
        found: dict[int, np.ndarray] = {}

        def work(j: int) -> None:
            for _ in range(3):
                found[j] = system.solve(B[:, j], 1e-9).x

        threads = [threading.Thread(target=work, args=(j,)) for j in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for j, x in enumerate(expected):
            np.testing.assert_array_equal(found[j], x)

    def test_the_same_bits_for_the_same_number_of_threads(self) -> None:
        A = assemble(random_grid("open-top", (40, 40, 40), np.random.default_rng(3))).A
        b = np.random.default_rng(4).standard_normal(A.shape[0])
        for threads in (1, 2):
            first, second = (DeepCD(threads=threads).solve(A, b, 1e-8) for _ in range(2))
            np.testing.assert_array_equal(first.x, second.x)

    def test_a_callback_must_not_call_its_own_system(self) -> None:
        A = square(12)
        system = DeepCD().setup(A)
        with pytest.raises(RuntimeError, match="callback called the system"):
            system.solve(np.ones(144), callback=system.solve)
        assert system.solve(np.ones(144)).info == 0, "the system is free again"

    def test_a_callback_that_raises_leaves_the_system_usable(self, system: System) -> None:
        b = right_hand_sides(system.A, 1)[:, 0]

        def fail(x: np.ndarray) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            system.solve(b, 1e-9, callback=fail)
        assert system.solve(b, 1e-9).info == 0

    def test_a_forked_process(self) -> None:
        A = assemble(random_grid("open-top", (48, 48, 48), np.random.default_rng(3))).A
        b = np.random.default_rng(4).standard_normal(A.shape[0])
        system = DeepCD(threads=2).setup(A)
        expected = system.solve(b).x
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=lambda: sender.send(system.solve(b).x))
        child.start()
        assert receiver.poll(60), "the child hangs"
        np.testing.assert_array_equal(receiver.recv(), expected)
        child.join(10)
        assert child.exitcode == 0


class TestSigns:
    @pytest.mark.parametrize("way", WAYS)
    def test_negative_definite(self, way: str) -> None:
        A = -WAYS[way]
        b = right_hand_sides(A, 1)[:, 0]
        solution = DeepCD(way).solve(A, b, 1e-9)
        assert solution.info == 0
        assert residuals(A, solution.x, b) <= 1e-9
        assert "The diagonal of A is negative: -A x = -b was solved." in solution.message
        assert solution.preconditioner == way

    def test_a_grid_is_found_behind_either_sign(self) -> None:
        A = assemble(random_grid("open-top", (16, 16, 16), np.random.default_rng(3))).A
        system = DeepCD().setup(-A)
        assert system.preconditioner == "learned-multigrid"
        assert "negative definite" in str(system)
        B = np.random.default_rng(4).standard_normal((A.shape[0], 3))
        assert (residuals(-A, system.solve(B, 1e-8).x, B) <= 1e-8).all()
        with pytest.raises(ValueError, match="set up -A"):
            system.aspreconditioner()

    def test_both_signs_on_the_diagonal(self) -> None:
        A = sp.diags_array([-1.0, 2.0, 3.0])
        solution = DeepCD.solve(A, np.ones(3))
        assert solution.status is Status.INDEFINITE_MATRIX
        assert "A[0, 0] is negative" in solution.message


class TestNullSpaces:
    @pytest.mark.parametrize("n", [20, 60])
    @pytest.mark.parametrize("preconditioner", ["auto", "pyamg-sa", "none"])
    def test_inconsistent_systems_are_named_without_help(self, n: int, preconditioner: str) -> None:
        A, null = weighted(n)
        null /= np.linalg.norm(null)
        b = A @ np.random.default_rng(3).standard_normal(n * n)
        assert DeepCD(preconditioner).solve(A, b, 1e-8).info == 0
        solution = DeepCD(preconditioner).solve(A, b + null * np.linalg.norm(b), 1e-8)
        assert solution.status is Status.INCONSISTENT
        assert solution.residuals[-1] == pytest.approx(np.linalg.norm(b), rel=1e-6), "a least-squares solution"
        assert np.linalg.norm(b - A @ solution.x) <= 1e-6 * np.linalg.norm(b)

    def test_given(self) -> None:
        A, null = weighted(60)
        solver = DeepCD("pyamg-sa")
        b = A @ np.ones(3600)
        solution = solver.solve(A, b, 1e-10, nullspace=null)
        assert solution.info == 0
        assert abs(null @ solution.x) <= 1e-6 * np.linalg.norm(null) * np.linalg.norm(solution.x)
        assert solver.solve(A, b + null, 1e-10, nullspace=null[:, None]).status is Status.INCONSISTENT
        singular = sealed(square(60, 0.3))
        right = np.ones(3600)
        assert DeepCD.solve(singular, right, nullspace="constant").status is Status.INCONSISTENT

    def test_given_wrongly(self) -> None:
        A, null = weighted(20)
        with pytest.raises(ValueError, match="mapped to zero by A"):
            DeepCD().setup(A, nullspace="constant")
        with pytest.raises(ValueError, match=r'or "constant", got \'ones\''):
            DeepCD().setup(A, nullspace="ones")
        with pytest.raises(ValueError, match="zero vectors"):
            DeepCD().setup(A, nullspace=np.zeros(400))
        with pytest.raises(ValueError, match="shape"):
            DeepCD().setup(A, nullspace=null[:-1])


class TestChoice:
    @pytest.mark.parametrize("matrix", [square(22), sp.csr_array(sp.kron(square(15), np.ones((3, 3)) + np.eye(3)))])
    def test_small_systems_are_solved_directly(self, matrix: sp.csr_array) -> None:
        solution = DeepCD.solve(matrix, np.ones(matrix.shape[0]), 1e-12)
        assert solution.preconditioner == "direct"
        assert DeepCD().setup(square(40)).preconditioner == "direct"
        assert solution.iterations <= 2
        assert DeepCD().setup(square(50)).preconditioner == "learned-multigrid"

    def test_unless_a_grid_is_named(self) -> None:
        grid = domain((10, 10, 10), walls="air")
        assert DeepCD().setup(grid).preconditioner == "learned-multigrid"

    @pytest.mark.compiled
    def test_another_preconditioner_takes_over_where_walls_are_thin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        A = assemble(random_grid("maze", (130, 130), np.random.default_rng(5))).A
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        with monkeypatch.context() as patch:
            patch.setattr("deepcd.solvers.strategies.WORTH", math.inf)
            slow = DeepCD().setup(A).solve(b, 1e-8)
        assert slow.iterations > 100
        assert slow.preconditioner == "learned-multigrid", "what is left is worth less than another set-up"
        system = DeepCD().setup(A)
        solution = system.solve(b, 1e-8)
        assert solution.info == 0
        assert residuals(A, solution.x, b) <= 1e-8
        assert solution.preconditioner == system.preconditioner == "smoothed-aggregation"
        assert PATIENCE < solution.iterations < slow.iterations / 2
        assert system.solve(b, 1e-8).iterations < PATIENCE, "it is remembered"
