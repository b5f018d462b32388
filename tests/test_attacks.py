"""Attacks on the solvers: what must hold of every answer, for matrices, right-hand sides and options of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deepcd
from benchmarks.verification import norms, residual_norms
from benchmarks.verification import rounding_level as rounding
from deepcd import DeepCD, Solution, Status

from . import strategies as some
from . import systems

GENERAL = ("auto", *systems.GENERAL)

few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
more = settings(few, max_examples=100)


def front_door(preconditioner: str) -> Callable[..., Solution]:
    return DeepCD(preconditioner, threads=1).solve


def plain_cg(A: Any, b: Any, tol: float, **options: Any) -> Solution:
    return deepcd.cg(A, b, rtol=tol, **options)


every_solver = pytest.mark.parametrize(
    "solve",
    [*(pytest.param(front_door(name), id=name) for name in GENERAL), pytest.param(plain_cg, id="cg")],
)


def true_residual(A: Any, b: Any, x: Any) -> tuple[np.longdouble, np.longdouble]:
    """Return norms of b - A x and of b, in extended precision, of any magnitude."""
    return residual_norms(A, b, x)[0], norms(b)[0]


def same(A: Any, x: Any, y: Any, b: Any, tol: float) -> bool:
    """Whether two answers differ by no more than the tolerance of both allows: by the residuals, not by x."""
    return bool(np.linalg.norm(A @ (x - y)) <= 2 * tol * np.linalg.norm(b) + 2 * rounding(A, b, x))


class TestSuccess:
    @every_solver
    @few
    @given(st.data(), some.semidefinite(), some.tolerances)
    def test_success_means_that_the_true_residual_meets_the_tolerance(
        self, solve: Any, data: Any, A: sp.csr_array, tol: float
    ) -> None:
        b = data.draw(some.right_hand_sides(A))
        options = data.draw(some.options(A.shape[0]))
        solution = solve(A, b, tol, **options)
        residual, size = true_residual(A, b, solution.x)
        target = max(tol * size, options.get("atol", 0.0))
        assert np.isfinite(solution.x).all()
        assert (solution.info == 0) == (solution.status is Status.CONVERGED)
        if solution.info == 0:
            assert residual <= target + rounding(A, b, solution.x)

    @more
    @given(st.data(), some.definite(), st.sampled_from(["auto", "pyamg-sa", "none"]))
    def test_what_is_definite_is_solved(self, data: Any, A: sp.csr_array, preconditioner: str) -> None:
        b = data.draw(some.right_hand_sides(A))
        solution = DeepCD(preconditioner, threads=1).solve(A, b, 1e-8)
        limited = 1e-8 * np.linalg.norm(b) < 100 * rounding(A, b, solution.x)
        true = {Status.CONVERGED, *([Status.ATTAINABLE_ACCURACY] if limited else [])}
        assert solution.status in true, solution.message

    @more
    @given(st.data(), st.one_of(some.grids(), some.permuted(some.grids())), some.tolerances)
    def test_what_has_a_solution_is_solved_though_singular(self, data: Any, A: sp.csr_array, tol: float) -> None:
        b = data.draw(some.right_hand_sides(A, consistent=True))
        solution = DeepCD.solve(A, b, tol)
        residual, size = true_residual(A, b, solution.x)
        level: Any = 100 * rounding(A, b, solution.x)
        if tol * size > level:
            assert solution.status is Status.CONVERGED, solution.message
        else:
            assert solution.status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY), solution.message
            assert residual <= max(tol * size, level)

    @more
    @given(some.grids(open_top=False), some.seeds, st.integers(0, 4))
    def test_what_has_none_is_called_inconsistent(self, A: sp.csr_array, seed: int, digits: int) -> None:
        b = A @ np.random.default_rng(seed).standard_normal(A.shape[0])
        b += 10.0**-digits * max(float(np.linalg.norm(b)), 1.0)
        solution = DeepCD.solve(A, b, 1e-8)
        empty = bool((A.diagonal() == 0).any())
        assert solution.status is Status.INCONSISTENT or (empty and solution.status is Status.ZERO_DIAGONAL)
        assert solution.info > 0 or empty

    @every_solver
    @few
    @given(st.data(), some.definite(), st.floats(0.01, 0.99))
    def test_an_indefinite_matrix_is_named_or_solved(
        self, solve: Any, data: Any, A: sp.csr_array, where: float
    ) -> None:
        values = np.linalg.eigvalsh(A.toarray())
        shift = values[0] + where * (values[-1] - values[0])
        if np.abs(values - shift).min() < 1e-4 * values[-1]:
            return
        B = sp.csr_array(A - shift * sp.eye_array(A.shape[0]))
        b = data.draw(some.right_hand_sides(B))
        solution = solve(B, b, 1e-8)
        assert solution.status in (Status.INDEFINITE_MATRIX, Status.ZERO_DIAGONAL, Status.CONVERGED), solution.message
        residual, size = true_residual(B, b, solution.x)
        assert residual <= (1e-8 if solution.info == 0 else 1 + 1e-9) * size + rounding(B, b, solution.x)


class TestInput:
    @every_solver
    @few
    @given(st.data(), some.semidefinite())
    def test_is_never_changed(self, solve: Any, data: Any, A: sp.csr_array) -> None:
        b = data.draw(some.right_hand_sides(A))
        options = data.draw(some.options(A.shape[0]))
        arrays = [A.data, A.indices, A.indptr, b, *(value for value in options.values() if np.ndim(value))]
        before = [array.tobytes() for array in arrays]
        solution = solve(A, b, 1e-6, **options)
        assert [array.tobytes() for array in arrays] == before
        assert not any(np.shares_memory(solution.x, array) for array in arrays)

    @every_solver
    @few
    @given(st.data(), some.definite(), st.sampled_from(["csc", "coo", "dia", "dense", "F", "int64", "matrix"]))
    def test_every_layout_gives_the_same_answer(self, solve: Any, data: Any, A: sp.csr_array, layout: str) -> None:
        b = data.draw(some.right_hand_sides(A))
        other = {
            "csc": A.tocsc,
            "coo": A.tocoo,
            "dia": A.todia,
            "dense": A.toarray,
            "F": lambda: np.asfortranarray(A.toarray()),
            "int64": lambda: sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), A.shape),
            "matrix": lambda: sp.csr_matrix(A),
        }[layout]()
        first, second = solve(A, b, 1e-9), solve(other, b, 1e-9)
        assert first.status is second.status
        np.testing.assert_allclose(second.x, first.x, rtol=1e-5, atol=1e-7 * np.abs(first.x).max(initial=0))

    @every_solver
    @few
    @given(some.definite(), some.seeds, st.sampled_from(["i8", "f2", "f4", "f8", ">f8", "g", "?", "list"]))
    def test_every_dtype_gives_the_same_answer(self, solve: Any, A: sp.csr_array, seed: int, dtype: str) -> None:
        whole = np.random.default_rng(seed).integers(0, 2, A.shape[0])
        first = solve(A, whole.astype(float), 1e-9)
        second = solve(A, whole.tolist() if dtype == "list" else whole.astype(dtype), 1e-9)
        np.testing.assert_array_equal(second.x, first.x)

    @every_solver
    @few
    @given(some.definite(), some.seeds)
    def test_strided_reversed_and_read_only_vectors(self, solve: Any, A: sp.csr_array, seed: int) -> None:
        b = np.random.default_rng(seed).standard_normal(A.shape[0])
        first = solve(A, b, 1e-9)
        backwards = b[::-1].copy()[::-1]
        strided = np.repeat(b, 3)[::3]
        strided.flags.writeable = False
        for vector in (backwards, strided, b[:, None], np.asfortranarray(b[:, None])):
            np.testing.assert_array_equal(solve(A, vector, 1e-9).x.ravel(), first.x)


class TestInvariance:
    @every_solver
    @few
    @given(st.data(), some.semidefinite(), some.exponents, some.exponents)
    def test_powers_of_two_leave_the_bits_alone(
        self, solve: Any, data: Any, A: sp.csr_array, left: int, right: int
    ) -> None:
        b = data.draw(some.right_hand_sides(A, consistent=True))
        first = solve(A, b, 1e-8)
        second = solve(sp.csr_array(A * 4.0 ** (left // 2)), b * 2.0**right, 1e-8)  # of 4, whose square roots are exact
        assert second.status is first.status
        np.testing.assert_array_equal(second.x, np.ldexp(first.x, right - 2 * (left // 2)))

    @every_solver
    @few
    @given(st.data(), some.definite(), st.floats(-150, 150), st.floats(-150, 150))
    def test_other_factors_leave_the_status_alone(
        self, solve: Any, data: Any, A: sp.csr_array, left: float, right: float
    ) -> None:
        b = data.draw(some.right_hand_sides(A))
        first, second = solve(A, b, 1e-8), solve(sp.csr_array(A * 10**left), b * 10**right, 1e-8)
        assert second.status is first.status
        assert same(A, second.x / 10 ** (right - left), first.x, b, 1e-8)

    @every_solver
    @few
    @given(st.data(), some.definite(), some.seeds)
    def test_permuted_unknowns_give_the_permuted_solution(
        self, solve: Any, data: Any, A: sp.csr_array, seed: int
    ) -> None:
        b = data.draw(some.right_hand_sides(A))
        order = np.random.default_rng(seed).permutation(A.shape[0])
        first, second = solve(A, b, 1e-8), solve(sp.csr_array(A[order][:, order]), b[order], 1e-8)
        assert second.status is first.status
        assert same(A[order][:, order], second.x, first.x[order], b, 1e-8)

    @every_solver
    @few
    @given(st.data(), some.semidefinite())
    def test_twice_the_same_gives_the_same_bits(self, solve: Any, data: Any, A: sp.csr_array) -> None:
        b = data.draw(some.right_hand_sides(A))
        options = data.draw(some.options(A.shape[0]))
        first, second = solve(A, b, 1e-8, **options), solve(A, b, 1e-8, **options)
        np.testing.assert_array_equal(second.x, first.x)
        np.testing.assert_array_equal(second.residuals, first.residuals)
        assert second.status is first.status


class TestColumns:
    @few
    @given(
        st.one_of(some.graphs(), some.grams()), some.seeds, st.integers(2, 5), st.sampled_from(GENERAL), st.booleans()
    )
    def test_columns_equal_one_by_one(self, A: sp.csr_array, seed: int, k: int, name: str, uneven: bool) -> None:
        rng = np.random.default_rng(seed)
        B = rng.standard_normal((A.shape[0], k))
        if uneven:
            B *= 10.0 ** rng.integers(-40, 40, k)
            B[:, rng.integers(k)] = 0.0
        system = DeepCD(name, threads=1).setup(A)
        together = system.solve(B, 1e-7)
        assert together.x.shape == B.shape
        assert together.info == 0
        for j in range(k):
            residual, size = true_residual(A, B[:, j], together.x[:, j])
            assert residual <= 1e-7 * size + rounding(A, B[:, j], together.x[:, j])
            assert same(A, system.solve(B[:, j], 1e-7).x, together.x[:, j], B[:, j], 1e-7)

    @few
    @given(some.grids(open_top=False), some.seeds, st.sampled_from(GENERAL))
    def test_one_inconsistent_column_does_not_spoil_the_others(self, A: sp.csr_array, seed: int, name: str) -> None:
        B = A @ np.random.default_rng(seed).standard_normal((A.shape[0], 3))
        B[:, 1] += max(1.0, float(np.abs(B).max()))
        solution = DeepCD(name, threads=1).solve(A, B, 1e-8)
        assert solution.info != 0
        for j in (0, 2):
            residual, size = true_residual(A, B[:, j], solution.x[:, j])
            assert residual <= 1e-8 * size + rounding(A, B[:, j], solution.x[:, j])


class TestPreconditioner:
    @staticmethod
    def check(M: Any, seed: int, null: bool) -> None:
        rng = np.random.default_rng(seed)
        u, v = rng.standard_normal((2, M.shape[0]))
        image_u, image_v = M.matvec(u), M.matvec(v)
        size = np.linalg.norm(u) * np.linalg.norm(image_v) + np.linalg.norm(v) * np.linalg.norm(image_u)
        assert abs(u @ image_v - v @ image_u) <= 1e-5 * size
        assert u @ image_u > 0 or null
        np.testing.assert_allclose(
            M.matvec(3 * u - v), 3 * image_u - image_v, rtol=1e-3, atol=1e-4 * np.abs(3 * image_u - image_v).max()
        )

    @more
    @given(some.definite(), some.seeds, st.sampled_from(GENERAL))
    def test_symmetric_positive_and_linear(self, A: sp.csr_array, seed: int, name: str) -> None:
        self.check(DeepCD(name, threads=1).setup(A).aspreconditioner(), seed, null=False)

    @pytest.mark.compiled
    @few
    @given(
        some.grids(most=9).filter(some.has_couplings),
        some.seeds,
        st.sampled_from(["geometric-multigrid", "learned-multigrid"]),
    )
    def test_multigrid_on_grids_with_obstacles(self, A: sp.csr_array, seed: int, name: str) -> None:
        system = DeepCD(name, threads=1).setup(A)
        self.check(system.aspreconditioner(), seed, null=True)
        b = A @ np.random.default_rng(seed).standard_normal(A.shape[0])
        solution = system.solve(b, 1e-8)
        assert solution.status is Status.CONVERGED, solution.message
        residual, size = true_residual(A, b, solution.x)
        assert residual <= 1e-8 * size + rounding(A, b, solution.x)


class TestFound:
    """What these attacks, and the soak, found once."""

    @pytest.mark.parametrize("name", GENERAL)
    def test_indefinite_with_a_positive_diagonal(self, name: str) -> None:
        A = np.array([[4.0, -5.0], [-5.0, 4.0]])
        for b in ([7.3, -7.6], [1.0, 8.0]):
            assert DeepCD(name).solve(A, b, 1e-8).status in (Status.INDEFINITE_MATRIX, Status.CONVERGED)

    @pytest.mark.parametrize("name", ["geometric-multigrid", "learned-multigrid"])
    @pytest.mark.parametrize("extra", [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], ids=["sealed", "one open", "open"])
    def test_cells_without_couplings_are_no_grid(self, name: str, extra: list[float]) -> None:
        """Two fluid cells of a 2 x 2 box that touch at a corner only."""
        A = sp.csr_array(sp.diags_array(extra))
        with pytest.raises(ValueError, match=r'no off-diagonal entry.*preconditioner="auto" takes any A'):
            DeepCD(name, threads=1).setup(A)
        b = np.array(extra)
        solution = DeepCD(threads=1).solve(A, b, 1e-8)
        assert solution.status is Status.CONVERGED
        np.testing.assert_array_equal(solution.x, b)

    @pytest.mark.compiled
    @pytest.mark.parametrize("name", ["geometric-multigrid", "learned-multigrid"])
    def test_a_nearly_exact_preconditioner_does_no_harm(self, name: str) -> None:
        """One step reduces the residual by eight digits, and leaves it anything but orthogonal to that step."""
        A = sp.csr_array([[2.0, -1, -1, 0], [-1, 2, 0, -1], [-1, 0, 2, -1], [0, -1, -1, 2]])
        for seed in range(8):
            b = A @ np.random.default_rng(seed).standard_normal(4)
            solution = DeepCD(name, threads=1).solve(A, b, 1e-10)
            assert solution.status is Status.CONVERGED, solution.message
            assert solution.iterations < 8

    @pytest.mark.parametrize("size", [1e4, 1e8, 1e100])
    @pytest.mark.parametrize("name", GENERAL)
    def test_a_start_far_away_is_no_obstacle(self, name: str, size: float) -> None:
        A = sp.csr_array(sp.diags_array([-1.0, 3.0, -1.0], offsets=[-1, 0, 1], shape=(40, 40)))
        b = np.sin(np.arange(40.0))
        solution = DeepCD(name).solve(A, b, 1e-13, x0=size * np.cos(np.arange(40.0)))
        assert solution.status is Status.CONVERGED, solution.message

    @every_solver
    def test_the_best_iterate_is_the_best(self, solve: Any) -> None:
        """An empty row lets the line search step to 1e16; going back from there loses all digits."""
        A = sp.csr_array(np.diag([0.7, 1.9, 1.3, 0.0]))
        b = np.array([1.0, -0.8, 0.9, 0.19])
        solution = solve(A, b, 1e-5)
        assert solution.info != 0
        assert true_residual(A, b, solution.x)[0] <= min(solution.residuals) * (1 + 1e-6)

    def test_a_huge_right_hand_side_of_several_columns(self) -> None:
        A = systems.line(30)
        solution = DeepCD.solve(A, np.full((30, 2), 1e200), 1e-8)
        assert solution.info == 0
        assert np.isfinite(solution.residuals).all()

    def test_what_is_nearly_singular_is_not_called_inconsistent(self) -> None:
        for n in (10, 12, 14):  # Hilbert's matrix, of condition 1.6e13 and more: an x of 1e7 does what is asked for
            k = np.arange(n)
            solution = DeepCD.solve(1 / (k[:, None] + k + 1), np.ones(n), 1e-8)
            assert solution.status in (Status.CONVERGED, Status.ATTAINABLE_ACCURACY)

    @pytest.mark.parametrize("name", ["pyamg-sa", "pyamg-rs", "none", "cg"])
    @pytest.mark.parametrize("share", [1.0, 1e-4])
    def test_what_is_scaled_and_singular_is_called_inconsistent(self, name: str, share: float) -> None:
        """The null vector is not the constant, and plain conjugate gradients meet rounding before anything else."""
        n, rng = 50, np.random.default_rng(3)
        D = sp.diags_array(rng.uniform(0.5, 2.0, n * n))
        A = sp.csr_array(D @ systems.crossed(systems.closed_line(n)) @ D)
        null = 1 / D.diagonal()
        b = A @ rng.standard_normal(n * n)
        b += share * np.linalg.norm(b) * null / np.linalg.norm(null)
        solution = (plain_cg if name == "cg" else front_door(name))(A, b, 1e-8)
        assert solution.status is Status.INCONSISTENT, solution.message
        assert true_residual(A, b, solution.x)[0] <= 1.001 * abs(null @ b) / np.linalg.norm(null)

    @pytest.mark.parametrize("name", GENERAL)
    def test_a_start_far_away_does_not_make_a_singular_system_inconsistent(self, name: str) -> None:
        """What rounding leaves of b - A x0 in the null space is nothing that b has there."""
        ring = systems.ring(50).toarray()
        rng = np.random.default_rng(0)
        x0, b = 1e6 * rng.standard_normal(50), ring @ rng.standard_normal(50)
        x0 -= x0.mean()
        solution = DeepCD(name).solve(sp.csr_array(ring), b, 1e-12, x0=x0)
        assert solution.status is Status.CONVERGED, solution.message

    def test_a_preconditioner_that_overflows_does_not_hide_an_indefinite_matrix(self) -> None:
        A = sp.csr_array(np.diag(np.r_[np.linspace(1.0, 2.0, 30), -np.linspace(1e-3, 2e-3, 30)]))
        b = np.r_[np.ones(30), np.full(30, 1e-2)]
        solution = deepcd.cg(A, b, M=1e200 * sp.eye_array(60), rtol=1e-10)
        assert solution.status is Status.INDEFINITE_MATRIX, solution.message

    @every_solver
    def test_an_answer_beyond_float64_is_not_returned(self, solve: Any) -> None:
        A = sp.csr_array(sp.diags_array([-1.0, 3.0, -1.0], offsets=[-1, 0, 1], shape=(40, 40)))
        solution = solve(A * 1e-200, np.full(40, 1e200), 1e-8)
        assert solution.status is Status.NOT_FINITE
        assert np.isfinite(solution.x).all()
        assert solution.residuals[-1] == pytest.approx(1e200 * np.sqrt(40))

    def test_float16_is_promoted(self) -> None:
        assert DeepCD.solve(np.array([[4, 1], [1, 3]], dtype=np.float16), [1.0, 2.0]).info == 0
