"""The front door."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg

import deepcd
from deepcd import DeepCD, Solution, Status
from deepcd.pde import ball, domain
from deepcd.pde import poisson as assemble

from .systems import GENERAL, path, relative, shuffled, square

A = square(24, 0.3)
N = A.shape[0]
b = np.random.default_rng(0).standard_normal(N)


class TestCalling:
    def test_on_the_class_and_on_an_instance(self) -> None:
        for solution in (DeepCD.solve(A, b, 1e-8), DeepCD(preconditioner="none").solve(A, b, tol=1e-8)):
            x, info = solution
            assert info == 0
            assert relative(A, x, b) <= 1e-8
        assert DeepCD.solve.__doc__ == DeepCD().solve.__doc__
        assert (DeepCD.solve.__doc__ or "").startswith("Solve A x = b")

    @pytest.mark.parametrize("preconditioner", GENERAL)
    def test_named_preconditioners(self, preconditioner: str) -> None:
        solution = DeepCD(preconditioner).solve(A, b, 1e-10)
        assert solution.preconditioner == preconditioner
        assert solution.status is Status.CONVERGED
        assert relative(A, solution.x, b) <= 1e-10

    def test_auto_says_why_there_is_no_grid(self) -> None:
        system = DeepCD().setup(shuffled(square(50, 0.3)))
        assert system.preconditioner in ("ssor", "direct")
        assert system.no_grid
        assert f"no grid: {system.no_grid}" in str(system)

    def test_setup_serves_many_right_hand_sides(self) -> None:
        system = DeepCD("pyamg-sa").setup(A)
        for seed in range(3):
            right = np.random.default_rng(seed).standard_normal(N)
            assert relative(A, system.solve(right, 1e-9).x, right) <= 1e-9
        assert system.shape == (N, N)

    def test_str_of_a_system(self) -> None:
        text = str(DeepCD("pyamg-sa").setup(A))
        assert "576 unknowns" in text
        assert "levels" in text
        assert "passes" in text

    def test_configuration_is_immutable_and_checked(self) -> None:
        solver = DeepCD("none")
        with pytest.raises(AttributeError):
            solver.keep = 3  # type: ignore[misc]
        with pytest.raises(ValueError, match=r"'learned-multigrid'.*'pyamg-sa'.*got 'ilu'"):
            DeepCD("ilu")
        with pytest.raises(ValueError, match="keep"):
            DeepCD(keep=-1)
        with pytest.raises(TypeError, match="threads"):
            DeepCD(threads=1.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="weights"):
            DeepCD("none", weights="w.safetensors")
        with pytest.raises(TypeError, match="weights"):
            DeepCD(weights=3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("keep", [1, 2, 4])
    def test_keep(self, keep: int) -> None:
        solution = DeepCD("none", keep=keep).solve(A, b, 1e-8)
        assert solution.info == 0
        assert f"kept: {keep}" in str(DeepCD("none", keep=keep).setup(A))


class TestSolution:
    def test_facts(self) -> None:
        history: list[float] = [-1.0]
        before = time.perf_counter()
        solution = DeepCD("pyamg-sa").solve(A, b, 1e-8, residuals=history)
        elapsed = time.perf_counter() - before
        assert isinstance(solution, Solution)
        assert solution.residuals.tolist() == history
        assert len(history) == solution.iterations + 1
        assert history[0] == pytest.approx(np.linalg.norm(b))
        assert history[-1] == pytest.approx(np.linalg.norm(b - A @ solution.x), rel=1e-6)
        assert 0 < solution.setup_time + solution.solve_time < elapsed
        assert solution.work > 2

    @pytest.mark.parametrize("scale", [1e-200, 1e-150, 1.0, 1e150, 1e200])
    @pytest.mark.parametrize("preconditioner", ["auto", "none"])
    def test_magnitudes_do_no_harm(self, scale: float, preconditioner: str) -> None:
        for matrix, right in ((A * scale, b), (A, b * scale), (A * scale, b * scale)):
            x, info = DeepCD(preconditioner).solve(matrix, right, 1e-8)
            assert info == 0
            factor, size = np.abs(right).max(), np.abs(matrix.data).max()
            assert relative(matrix / size, x / factor * size, right / factor) <= 1e-8

    def test_absolute_tolerance(self) -> None:
        solution = DeepCD("none").solve(A, b, 1e-12, atol=0.5)
        assert 1e-6 < solution.residuals[-1] <= 0.5
        assert DeepCD("none").solve(A, b, atol=1e9).iterations == 0

    def test_start(self) -> None:
        start = np.linalg.solve(A.toarray(), b)
        twin = start.copy()
        assert DeepCD("none").solve(A, b, x0=start).iterations == 0
        solution = DeepCD("none").solve(A, b, 1e-10, x0=start + 1e-4)
        np.testing.assert_array_equal(start, twin)
        assert solution.residuals[0] == pytest.approx(np.linalg.norm(A @ np.full(N, 1e-4)), rel=1e-6)
        assert relative(A, solution.x, b) <= 1e-10

    @pytest.mark.parametrize("size", [1e8, 1e100])
    def test_a_start_far_away(self, size: float) -> None:
        solution = DeepCD("pyamg-sa").solve(A, b, 1e-6, x0=np.full(N, size))
        true = np.linalg.norm(b - A @ solution.x)
        assert (solution.info == 0) == bool(true <= 1e-6 * np.linalg.norm(b))
        assert true < 1e-6 * size

    def test_zero_right_hand_side(self) -> None:
        zero = np.zeros(N)
        solution = DeepCD.solve(A, zero, x0=np.ones(N))
        assert solution.info == 0
        assert not solution.x.any()
        assert solution.x is not zero

    def test_callback_sees_every_iterate_and_can_stop(self) -> None:
        seen: list[np.ndarray] = []
        full = DeepCD("none").solve(A, b, callback=seen.append, x0=np.ones(N))
        assert len(seen) == full.iterations
        np.testing.assert_array_equal(seen[-1], full.x)
        np.testing.assert_allclose([np.linalg.norm(b - A @ x) for x in seen], full.residuals[1:], rtol=1e-6)
        stopped = DeepCD("none").solve(A, b, callback=lambda _: len(seen) > 0)
        assert (stopped.status, stopped.iterations, stopped.info) == (Status.CALLBACK, 1, 1)

    def test_maxiter_and_timeout_give_the_best_iterate(self) -> None:
        short = DeepCD("none").solve(A, b, maxiter=30)
        assert (short.status, short.info) == (Status.MAXITER, 30)
        assert np.linalg.norm(b - A @ short.x) == pytest.approx(short.residuals.min(), rel=1e-6)
        late = DeepCD("none").solve(A, b, timeout=1e-9)
        assert (late.status, late.iterations) == (Status.TIMEOUT, 1)

    def test_attainable_accuracy(self) -> None:
        solution = DeepCD("pyamg-sa").solve(A, b, 1e-17)
        assert solution.status is Status.ATTAINABLE_ACCURACY
        assert solution.info > 0
        assert relative(A, solution.x, b) < 1e-14


class TestInput:
    @pytest.mark.parametrize(
        "convert",
        [
            sp.csc_matrix,
            sp.coo_array,
            sp.dia_array,
            lambda a: a.toarray(),
            lambda a: sp.csr_array((a.data, a.indices.astype(np.int64), a.indptr.astype(np.int64)), shape=a.shape),
            lambda a: sp.coo_array((np.tile(a.data / 2, 2), np.tile(a.tocoo().coords, 2)), shape=a.shape),
        ],
        ids=["csc", "coo", "dia", "dense", "int64", "duplicates"],
    )
    def test_kinds_of_matrices(self, convert: Any) -> None:
        x, info = DeepCD.solve(convert(A), b, 1e-8)
        assert info == 0
        assert relative(A, x, b) <= 1e-8

    def test_unsorted_duplicates_are_left_as_they_are(self) -> None:
        data, indices, indptr = np.array([1.0, 4.0, 1.0, 3.0, 2.0]), np.array([1, 0, 1, 1, 0]), np.array([0, 3, 5])
        matrix = sp.csr_array((data.copy(), indices.copy(), indptr.copy()), shape=(2, 2))
        x, info = DeepCD.solve(matrix, [1.0, 2.0])
        np.testing.assert_allclose(matrix.toarray() @ x, [1, 2], rtol=1e-5)
        assert info == 0
        np.testing.assert_array_equal(matrix.data, data)
        np.testing.assert_array_equal(matrix.indices, indices)

    @pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32, np.float64, np.longdouble, bool])
    def test_kinds_of_right_hand_sides(self, dtype: type) -> None:
        right: np.ndarray = np.arange(N).astype(dtype)
        for shape in ((N,), (N, 1)):
            x, info = DeepCD("pyamg-sa").solve(A, right.reshape(shape))
            assert (info, x.shape, str(x.dtype)) == (0, (N,), "float64")

    def test_integers_lists_and_readonly(self) -> None:
        right = np.array([1, 2])
        right.flags.writeable = False
        for matrix in (np.array([[4, 1], [1, 3]]), sp.csr_array([[4, 1], [1, 3]])):
            np.testing.assert_allclose(DeepCD.solve(matrix, right).x, [1 / 11, 7 / 11], rtol=1e-5)

    def test_float32(self) -> None:
        single, b32 = A.astype(np.float32), b.astype(np.float32)
        solution = DeepCD("pyamg-sa").solve(single, b32, 1e-4)
        assert (solution.info, str(solution.x.dtype)) == (0, "float32")
        assert relative(single.astype(float), solution.x.astype(float), b32) <= 1e-4
        assert DeepCD("pyamg-sa").solve(single, b, 1e-10).x.dtype == np.float64
        limited = DeepCD("pyamg-sa").solve(single, b32, 1e-12)
        assert limited.status is Status.ATTAINABLE_ACCURACY

    @pytest.mark.parametrize("n", [0, 1])
    def test_tiny(self, n: int) -> None:
        x, info = DeepCD.solve(2 * np.eye(n), np.ones(n))
        assert info == 0
        np.testing.assert_array_equal(x, np.full(n, 0.5))

    @pytest.mark.parametrize(
        ("error", "match", "matrix", "right", "options"),
        [
            (ValueError, r"square matrix, got shape \(5, 576\)", A[:5], b, {}),
            (ValueError, r"shape \(576,\), \(576, 1\) or \(576, k\)", A, b[:5], {}),
            (ValueError, r"shape .* got \(576, 0\)", A, np.ones((N, 0)), {}),
            (ValueError, r"nan at b\[1, 0\]", np.eye(2), [[1.0, 1.0], [np.nan, 1.0]], {}),
            (ValueError, r"shape of b, \(2, 2\), got \(2,\)", np.eye(2), np.eye(2), {"x0": [1.0, 1.0]}),
            (ValueError, "one column", np.eye(2), [1.0, 1.0], {"x0": np.eye(2)}),
            (ValueError, r"finite, got nan at A\[2, 1\]", [[1, 0, 0], [0, 1, 0], [0, np.nan, 1]], np.ones(3), {}),
            (ValueError, "finite, got inf", np.full((1, 1), np.inf), [1.0], {}),
            (ValueError, r"b must be finite, got nan at b\[1\]", np.eye(2), [1.0, np.nan], {}),
            (ValueError, "x0 must be finite", np.eye(2), [1.0, 1.0], {"x0": [0.0, np.inf]}),
            (ValueError, "x0 must have shape", np.eye(2), [1.0, 1.0], {"x0": [0.0]}),
            (ValueError, "tol must be finite and positive", A, b, {"tol": 0.0}),
            (ValueError, "tol must be finite and positive", A, b, {"tol": -1.0}),
            (ValueError, "tol must be finite and positive", A, b, {"tol": np.nan}),
            (ValueError, "rtol must be finite and positive", A, b, {"rtol": np.inf}),
            (ValueError, "atol", A, b, {"atol": -1.0}),
            (TypeError, "tol must be a real number", A, b, {"tol": 1j}),
            (TypeError, "tol and rtol", A, b, {"tol": 1e-6, "rtol": 1e-6}),
            (ValueError, "maxiter must be at least 1", A, b, {"maxiter": 0}),
            (TypeError, "maxiter must be an integer", A, b, {"maxiter": 2.5}),
            (ValueError, "timeout", A, b, {"timeout": 0}),
            (TypeError, "callback", A, b, {"callback": 1}),
            (TypeError, "residuals", A, b, {"residuals": np.zeros(3)}),
            (TypeError, "A must be real", A * 1j, b, {}),
            (TypeError, "b must be real", A, b * 1j, {}),
            (TypeError, "real numbers", np.array([["a"]]), [1.0], {}),
            (TypeError, "deepcd.cg", LinearOperator((2, 2), matvec=lambda v: v), [1.0, 1.0], {}),
            (TypeError, "unexpected keyword", A, b, {"tolerance": 1}),
        ],
    )
    def test_bad_input(
        self, error: type[Exception], match: str, matrix: Any, right: Any, options: dict[str, Any]
    ) -> None:
        with pytest.raises(error, match=match):
            DeepCD("none").solve(matrix, right, **options)


class TestDiagnosis:
    def test_rows_without_couplings_are_solved_on_their_own(self) -> None:
        matrix = sp.csr_array(sp.block_diag([sp.eye_array(2) * 4.0, A, np.array([[0.0]])]))
        right = np.concatenate([[1.0, 2.0], b, [0.0]])
        system = DeepCD().setup(matrix)
        solution = system.solve(right, 1e-9)
        assert solution.info == 0
        assert solution.x[[0, 1, -1]].tolist() == [0.25, 0.5, 0.0]
        assert relative(matrix, solution.x, right) <= 1e-9
        assert "on their own: 3" in str(system)

    def test_identity_rows_may_keep_their_columns(self) -> None:
        """Dirichlet values imposed on rows only, as finite element codes do."""
        matrix = A.tolil()
        matrix[7, :] = 0
        matrix[7, 7] = 1
        matrix = sp.csr_array(matrix)
        solution = DeepCD().solve(matrix, b, 1e-10)
        assert solution.info == 0
        assert solution.x[7] == b[7]
        assert relative(matrix, solution.x, b) <= 1e-10

    def test_diagonal_matrix(self) -> None:
        solution = DeepCD.solve(sp.diags_array(np.arange(1.0, 5.0)), np.ones(4))
        np.testing.assert_allclose(solution.x, 1 / np.arange(1.0, 5.0))
        assert (solution.info, solution.preconditioner) == (0, "none")

    def test_empty_row_is_named(self) -> None:
        matrix = sp.csr_array(sp.block_diag([A, np.array([[0.0]])]))
        solution = DeepCD.solve(matrix, np.append(b, 3.0))
        assert solution.status is Status.ZERO_DIAGONAL
        assert solution.info != 0
        assert f"Row {N}" in solution.message
        assert solution.iterations == 0
        started = DeepCD.solve(matrix, np.append(b, 3.0), x0=np.ones(N + 1))
        assert started.status is Status.ZERO_DIAGONAL
        np.testing.assert_array_equal(started.x[:N], 1.0)

    def test_zero_diagonal_is_named(self) -> None:
        solution = DeepCD.solve(np.array([[2.0, 1.0], [1.0, 0.0]]), [1.0, 1.0])
        assert (solution.status, solution.iterations) == (Status.ZERO_DIAGONAL, 0)
        assert "A[1, 1]" in solution.message

    @pytest.mark.parametrize(
        "matrix", [sp.diags_array([1.0, -1.0]), np.array([[1.0, 2.0], [2.0, 1.0]]), -np.array([[1.0, 2.0], [2.0, 1.0]])]
    )
    def test_indefinite(self, matrix: Any) -> None:
        solution = DeepCD.solve(matrix, np.linspace(-1, 1, matrix.shape[0]))
        assert solution.status is Status.INDEFINITE_MATRIX
        assert solution.info < 0

    def test_shifted_indefinite(self) -> None:
        matrix = sp.csr_array(A - sp.eye_array(N))
        solution = DeepCD("none").solve(matrix, b)
        assert solution.status is Status.INDEFINITE_MATRIX
        assert relative(matrix, solution.x, b) <= 1

    @pytest.mark.parametrize("size", [1e-3, 1.0])
    def test_nonsymmetric(self, size: float) -> None:
        matrix = A.tolil()
        matrix[5, 6] += size
        matrix = sp.csr_array(matrix)
        system = DeepCD().setup(matrix)
        solution = system.solve(b)
        assert (solution.status, solution.info < 0) == (Status.NONSYMMETRIC, True)
        assert "not symmetric" in str(system)
        with pytest.raises(ValueError, match="not symmetric"):
            system.aspreconditioner()

    def test_nonsymmetric_is_iterated_on_request(self) -> None:
        matrix = A.tolil()
        matrix[5, 6] += 1e-3
        matrix = sp.csr_array(matrix)
        solution = DeepCD("pyamg-sa").solve(matrix, b, 1e-6, check=False)
        assert solution.status is not Status.NONSYMMETRIC
        assert (solution.info == 0) == bool(relative(matrix, solution.x, b) <= 1e-6)

    def test_roundings_are_no_asymmetry(self) -> None:
        noise = 1 + 1e-15 * np.random.default_rng(0).standard_normal(A.nnz)
        matrix = sp.csr_array((A.data * noise, A.indices, A.indptr), shape=A.shape)
        assert DeepCD.solve(matrix, b).info == 0

    def test_a_solution_beyond_float64(self) -> None:
        solution = DeepCD("none").solve(A * 1e-200, b * 1e200)
        assert solution.status is Status.NOT_FINITE
        assert np.isfinite(solution.x).all()

    def test_a_right_hand_side_beyond_float64(self) -> None:
        assert DeepCD("none").solve(A, np.full(N, 1.7e308)).status is Status.NOT_FINITE


class TestSingular:
    @pytest.mark.parametrize("preconditioner", ["auto", "none"])
    def test_chambers_and_an_open_part(self, preconditioner: str) -> None:
        matrix = sp.csr_array(sp.block_diag([path(30), A, path(40, 7.0)]))
        rng = np.random.default_rng(0)
        right = matrix @ rng.standard_normal(matrix.shape[0])
        system = DeepCD(preconditioner).setup(matrix)
        solution = system.solve(right, 1e-10)
        assert solution.info == 0
        assert relative(matrix, solution.x, right) <= 1e-10
        assert abs(solution.x[:30].mean()) < 1e-10
        assert abs(solution.x[30 + N :].mean()) < 1e-10
        assert "singular" in str(system)

    def test_the_mean_of_a_start_is_kept(self) -> None:
        matrix = path(30)
        start = np.full(30, 5.0)
        x, info = DeepCD("none").solve(matrix, matrix @ np.arange(30.0), x0=start)
        assert info == 0
        assert x.mean() == pytest.approx(5.0)

    @pytest.mark.parametrize("preconditioner", ["auto", "none"])
    def test_inconsistent_gives_least_squares(self, preconditioner: str) -> None:
        matrix = path(30)
        right = matrix @ np.arange(30.0) ** 2 + 0.1
        solution = DeepCD(preconditioner).solve(matrix, right, 1e-8)
        assert solution.status is Status.INCONSISTENT
        assert solution.info != 0
        np.testing.assert_allclose(right - matrix @ solution.x, 0.1, atol=1e-6)
        assert solution.residuals[-1] == pytest.approx(0.1 * np.sqrt(30), rel=1e-4)
        np.testing.assert_allclose(
            solution.x, np.linalg.lstsq(matrix.toarray(), right, rcond=None)[0], rtol=1e-4, atol=1e-4
        )

    def test_a_null_part_within_the_tolerance_is_consistent(self) -> None:
        matrix = path(30)
        right = matrix @ np.arange(30.0) ** 2
        right += 0.9e-6 * np.linalg.norm(right) / np.sqrt(30)
        x, info = DeepCD("none").solve(matrix, right, 1e-6)
        assert info == 0
        assert relative(matrix, x, right) <= 1e-6

    def test_a_shift_of_1e_12_is_not_singular(self) -> None:
        system = DeepCD("none").setup(sp.csr_array(path(30) + 1e-12 * sp.eye_array(30)))
        assert "singular" not in str(system)


class TestPreconditioner:
    @pytest.mark.parametrize("preconditioner", GENERAL)
    def test_linear_symmetric_positive(self, preconditioner: str) -> None:
        matrix = sp.csr_array(sp.block_diag([A, 3.0 * sp.eye_array(2), sp.csr_array((1, 1))]))
        M = DeepCD(preconditioner).setup(matrix * 1e-3).aspreconditioner()
        assert M.shape == matrix.shape
        rng = np.random.default_rng(0)
        u, v = rng.standard_normal((2, matrix.shape[0]))
        assert u @ M.matvec(v) == pytest.approx(v @ M.matvec(u), rel=1e-5)
        assert u @ M.matvec(u) > 0
        np.testing.assert_allclose(M.matvec(3e5 * u + v), 3e5 * M.matvec(u) + M.matvec(v), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(M.matvec(u)[N : N + 2], u[N : N + 2] / 3e-3)

    def test_speeds_up_scipy(self) -> None:
        count: list[int] = []
        M = DeepCD("pyamg-sa").setup(A).aspreconditioner()
        _, info = scipy_cg(A, b, rtol=1e-8, M=M, callback=lambda _: count.append(1))
        assert info == 0
        assert len(count) == pytest.approx(DeepCD("pyamg-sa").solve(A, b, 1e-8).iterations, abs=1)


class TestGrid:
    """With the classical preconditioner, which needs no trained weights."""

    grid = domain((13, 12, 14), solid=ball((6, 6, 7), 3), walls=["solid", "solid", ("solid", "air")])
    system = assemble(grid)
    solver = DeepCD("geometric-multigrid", threads=1)

    def right(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal(self.system.A.shape[0])

    @pytest.mark.parametrize("tol", [1e-6, 1e-12])
    def test_discovered(self, tol: float) -> None:
        system = self.solver.setup(self.system.A)
        assert system.embedding is not None
        assert "grid: 13 x 12 x 14 cells" in str(system)
        right = self.right()
        solution = system.solve(right, tol)
        assert (solution.info, solution.preconditioner) == (0, "geometric-multigrid")
        assert relative(self.system.A, solution.x, right) <= tol
        assert solution.iterations < 20

    def test_given(self) -> None:
        right = self.right()
        for arguments in ((self.grid, None), (self.system.A, self.grid)):
            x, info = self.solver.setup(*arguments).solve(right)
            assert info == 0
            assert relative(self.system.A, x, right) <= 1e-6

    def test_a_grid_that_is_not_as_given(self) -> None:
        with pytest.raises(ValueError, match="unknowns"):
            self.solver.setup(self.system.A, domain((4, 4, 4)))
        with pytest.raises(ValueError, match="coefficients"):
            self.solver.setup(self.system.A * 2, self.grid)
        mirrored = deepcd.pde.Grid(self.grid.cells[::-1], self.grid.walls)
        with pytest.raises(ValueError, match="couples"):
            self.solver.setup(self.system.A, mirrored)

    def test_what_is_no_grid_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match=r"no grid behind A: .* takes any A"):
            self.solver.setup(shuffled(A))

    @pytest.mark.parametrize("scale", [1e-200, 1 / 3, 1e200])
    def test_magnitudes(self, scale: float) -> None:
        right = self.right()
        small = self.system.A * scale
        for matrix, v in ((small, right), (small, right * scale), (self.system.A, right * scale)):
            solution = self.solver.solve(matrix, v, 1e-8)
            assert solution.info == 0
            assert solution.iterations < 15

    @pytest.mark.parametrize("shape", [(), (2,)])
    def test_a_solution_that_float64_does_not_hold(self, shape: tuple[int, ...]) -> None:
        right = np.broadcast_to(self.right().reshape(-1, *(1 for _ in shape)), (len(self.right()), *shape))
        beyond = self.solver.solve(self.system.A * 1e-200, right * 1e200, 1e-8)
        assert beyond.status is Status.NOT_FINITE
        assert np.isfinite(beyond.x).all()
        below = self.solver.solve(self.system.A * 1e200, right * 1e-120, 1e-8)  # of entries below 1e-308
        assert below.status is Status.ATTAINABLE_ACCURACY

    def test_isolated_rows_and_callback(self) -> None:
        matrix = sp.csr_array(sp.block_diag([np.array([[4.0]]), self.system.A, np.array([[0.0]])]))
        right = np.concatenate([[2.0], self.right(), [0.0]])
        seen: list[np.ndarray] = []
        solution = self.solver.solve(matrix, right, 1e-9, callback=seen.append)
        assert solution.info == 0
        assert (solution.x[0], solution.x[-1]) == (0.5, 0.0)
        assert relative(matrix, solution.x, right) <= 1e-9
        norms = [np.linalg.norm(right - matrix @ x) for x in seen]
        rounding = 1e-7 * solution.residuals[0]  # of a residual that is kept in float32
        np.testing.assert_allclose(norms, solution.residuals[1:], rtol=1e-5, atol=rounding)
        np.testing.assert_allclose(norms[-1], solution.residuals[-1], rtol=1e-5)  # the last one is recomputed

    def test_empty_row_is_named(self) -> None:
        matrix = sp.csr_array(sp.block_diag([self.system.A, np.array([[0.0]])]))
        solution = self.solver.solve(matrix, np.append(self.right(), 1.0))
        assert solution.status is Status.ZERO_DIAGONAL

    def test_float32(self) -> None:
        solution = self.solver.solve(self.system.A.astype(np.float32), self.right().astype(np.float32), 1e-4)
        assert (solution.info, str(solution.x.dtype)) == (0, "float32")

    def test_start(self) -> None:
        right = self.right()
        solution = self.solver.solve(self.system.A, right, 1e-9, x0=np.full(right.size, 1e3))
        assert solution.info == 0
        assert relative(self.system.A, solution.x, right) <= 1e-9

    def test_sealed_chambers(self) -> None:
        chambers = assemble(domain((12, 25, 10), solid=deepcd.pde.box((0, 12, 0), (12, 13, 10)), walls="solid"))
        count = chambers.A.shape[0]
        half = np.zeros((12, 25, 10), dtype=bool)
        half[:, :12] = True
        first = half.reshape(-1)[chambers.cells]
        right = chambers.A @ np.random.default_rng(0).standard_normal(count)
        solution = self.solver.solve(chambers.A, right, 1e-10)
        assert solution.info == 0
        assert relative(chambers.A, solution.x, right) <= 1e-10
        assert max(abs(solution.x[first].mean()), abs(solution.x[~first].mean())) < 1e-9
        bad = self.solver.solve(chambers.A, right + first)
        assert bad.status is Status.INCONSISTENT
        np.testing.assert_allclose((right + first - chambers.A @ bad.x)[first].mean(), 1, rtol=1e-6)

    def test_aspreconditioner(self) -> None:
        M = self.solver.setup(self.system.A / 3).aspreconditioner()
        rng = np.random.default_rng(0)
        u, v = rng.standard_normal((2, self.system.A.shape[0]))
        assert u @ M.matvec(v) == pytest.approx(v @ M.matvec(u), rel=1e-4)
        np.testing.assert_allclose(M.matvec(1e30 * u) / 1e30, M.matvec(u), rtol=1e-4, atol=1e-5)
        count: list[int] = []
        _, info = scipy_cg(self.system.A / 3, u, rtol=1e-6, M=M, callback=lambda _: count.append(1))
        assert info == 0
        assert len(count) < 12


@pytest.mark.compiled
def test_weights_of_ones_own(tmp_path: Path) -> None:
    """Untrained ones: the cycle is positive definite whatever the weights are."""
    import torch

    from deepcd.data.weight_files import save
    from deepcd.solvers.training.network import CycleNetwork

    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in CycleNetwork(2).state_dict().items()}
    file = tmp_path / "weights.safetensors"
    save(file, tensors, {"architecture": "learned-multigrid-2d/2"})
    system = DeepCD(weights=file).setup(domain((30, 25), solid=ball((12, 12), 4), walls=["solid", ("solid", "air")]))
    right = np.random.default_rng(0).standard_normal(system.shape[0])
    solution = system.solve(right, 1e-10)
    assert (solution.info, solution.preconditioner) == (0, "learned-multigrid")
    assert relative(system.A, solution.x, right) <= 1e-10
    with pytest.raises(ValueError, match="learned-multigrid-3d"):
        DeepCD(weights=file).setup(domain((4, 5, 6)))


def test_import_is_light_and_lazy() -> None:
    code = (
        "import sys, deepcd; assert not {'numba', 'torch', 'pyamg', 'numpy'} & set(sys.modules);"
        "assert 'DeepCD' in dir(deepcd);"
        "deepcd.DeepCD, deepcd.cg, deepcd.Solution, deepcd.Status, deepcd.System;"
        "deepcd.pde, deepcd.data, deepcd.solvers;"
        "assert not {'numba', 'torch', 'pyamg'} & set(sys.modules), 'names alone load no compiler'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deepcd.nothing
