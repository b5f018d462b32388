"""With the real libraries: SciPy's and PyAMG's methods with our preconditioner, our cg in PyAMG and scikit-fem."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla

import deepcd
from deepcd import DeepCD, Status

A = sp.csr_array(pyamg.gallery.poisson((40, 40), format="csr"))
b = np.random.default_rng(1).standard_normal(A.shape[0])


def relative(x: np.ndarray, matrix: Any = A, right: np.ndarray = b) -> float:
    return float(np.linalg.norm(right - matrix @ x.astype(float)) / np.linalg.norm(right))


class Counter:
    """A callback that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: Any) -> None:
        self.calls += 1


class TestPreconditionerInSciPy:
    @pytest.mark.parametrize("method", [sla.cg, sla.minres])
    @pytest.mark.parametrize("preconditioner", ["learned-multigrid", "geometric-multigrid", "pyamg-sa"])
    def test_far_fewer_iterations(self, method: Callable[..., Any], preconditioner: str) -> None:
        M = DeepCD(preconditioner).setup(A).aspreconditioner()
        plain, preconditioned = Counter(), Counter()
        assert method(A, b, rtol=1e-9, callback=plain)[1] == 0
        x, info = method(A, b, rtol=1e-9, M=M, callback=preconditioned)
        assert info == 0
        assert relative(x) <= 1e-6  # minres measures in the norm of M, and relative to that of A too
        assert preconditioned.calls < plain.calls / 4

    def test_complex_systems_by_parts(self) -> None:
        M = DeepCD().setup(A).aspreconditioner()
        right = b + 1j * b[::-1]
        solution = deepcd.cg(A, right, rtol=1e-8, M=M)
        assert solution.info == 0
        assert np.linalg.norm(right - A @ solution.x) <= 1e-8 * np.linalg.norm(right)
        assert solution.iterations <= deepcd.cg(A, b, rtol=1e-8, M=M).iterations + 2


HIERARCHIES = {
    "sa": lambda matrix: pyamg.smoothed_aggregation_solver(matrix, max_coarse=20),
    "rs": lambda matrix: pyamg.ruge_stuben_solver(matrix, max_coarse=20),
}


@pytest.mark.parametrize("setup", HIERARCHIES.values(), ids=HIERARCHIES)
class TestInPyAMG:
    def test_its_hierarchy_preconditions_our_cg(self, setup: Callable[[Any], Any]) -> None:
        M = setup(A).aspreconditioner(cycle="V")
        solution = deepcd.cg(A, b, rtol=1e-8, M=M)
        assert solution.info == 0
        assert relative(solution.x) <= 1e-8
        theirs = Counter()
        sla.cg(A, b, rtol=1e-8, M=M, callback=theirs)
        assert solution.iterations == pytest.approx(theirs.calls, abs=1)

    def test_accelerates_its_cycle(self, setup: Callable[[Any], Any]) -> None:
        residuals: list[float] = []
        ml, seen = setup(A), Counter()
        x, info = ml.solve(b, tol=1e-8, accel=deepcd.cg, residuals=residuals, callback=seen, return_info=True)
        assert info == 0
        assert relative(x) <= 1e-8
        assert residuals[0] == pytest.approx(np.linalg.norm(b))
        assert residuals[-1] == pytest.approx(np.linalg.norm(b - A @ x))
        assert seen.calls == len(residuals) - 1
        assert 0 < seen.calls < 20
        assert relative(ml.solve(b, x0=b, tol=1e-8, accel=deepcd.cg)) <= 1e-8

    def test_says_when_it_did_not_converge(self, setup: Callable[[Any], Any]) -> None:
        assert setup(A).solve(b, tol=1e-12, maxiter=2, accel=deepcd.cg, return_info=True)[1] == 2

    @pytest.mark.parametrize("cycle", ["V", "W", "F"])
    def test_float32_hierarchy_with_float64_right_side(self, setup: Callable[[Any], Any], cycle: str) -> None:
        single = A.astype(np.float32)
        ml = setup(single)
        with pytest.raises(TypeError):  # so PyAMG's own cg: it retries with SciPy's signature, which it has not
            ml.solve(b, tol=1e-8, accel="cg")
        residuals: list[float] = []
        x, info = ml.solve(b, tol=1e-8, accel=deepcd.cg, cycle=cycle, residuals=residuals, return_info=True)
        assert (info, x.dtype) == (0, np.float64)
        assert relative(x) <= 1e-8
        assert len(residuals) < 20
        x, info = ml.solve(b.astype(np.float32), tol=1e-4, accel=deepcd.cg, cycle=cycle, return_info=True)
        assert (info, x.dtype) == (0, np.float32)
        assert relative(x, single, b.astype(np.float32)) <= 1e-4

    def test_complex_right_side(self, setup: Callable[[Any], Any]) -> None:
        right = b + 1j * b[::-1]
        for matrix in (A, A.astype(np.float32)):
            x, info = setup(matrix).solve(right, tol=1e-8, accel=deepcd.cg, return_info=True)
            assert info == 0
            assert np.linalg.norm(right - A @ x) <= 1e-8 * np.linalg.norm(right)


def test_our_preconditioner_in_pyamgs_cg() -> None:
    M = DeepCD().setup(A).aspreconditioner()
    residuals: list[float] = []
    x, info = pyamg.krylov.cg(A, b, tol=1e-8, M=M, residuals=residuals)
    assert info == 0
    assert relative(x) <= 1e-8
    assert len(residuals) < 25


def test_complex_hermitian_hierarchy() -> None:
    # A gauge field on the links: Hermitian, positive definite, and no real matrix in disguise.
    field = np.exp(0.02j * np.arange(A.shape[0]))
    matrix = sp.csr_array(sp.diags_array(field) @ A @ sp.diags_array(field.conj()))
    right = b + 1j * b[::-1]
    ml = pyamg.smoothed_aggregation_solver(matrix, B=field[:, None], max_coarse=20)
    residuals: list[float] = []
    x, info = ml.solve(right, tol=1e-8, accel=deepcd.cg, residuals=residuals, return_info=True)
    assert info == 0
    assert np.linalg.norm(right - matrix @ x) <= 1e-8 * np.linalg.norm(right)
    assert len(residuals) < 20


class NotConverged(RuntimeError):
    """What a user of scikit-fem may raise: `solve` returns x alone."""


def by_deepcd(K: Any, f: np.ndarray, solver: DeepCD | None = None, maxiter: int | None = None) -> np.ndarray:
    """Solve for scikit-fem, whose solvers return x alone, and stop if that failed."""
    solution = (solver or DeepCD()).solve(K, f, tol=1e-10, maxiter=maxiter)
    if solution.info != 0:
        raise NotConverged(solution.message)
    return solution.x


class TestScikitFem:
    @pytest.fixture(params=["triangles", "tetrahedra", "quadratic triangles"])
    def poisson(self, request: pytest.FixtureRequest) -> tuple[Any, ...]:
        skfem = pytest.importorskip("skfem")
        from skfem.models.poisson import laplace, unit_load

        mesh, element = {
            "triangles": lambda: (skfem.MeshTri().refined(6), skfem.ElementTriP1()),
            "tetrahedra": lambda: (skfem.MeshTet().refined(4), skfem.ElementTetP1()),
            "quadratic triangles": lambda: (skfem.MeshTri().refined(5), skfem.ElementTriP2()),
        }[request.param]()
        basis = skfem.Basis(mesh, element)
        K, f = laplace.assemble(basis), unit_load.assemble(basis)
        system = skfem.condense(K, f, D=basis.get_dofs())
        assert system[0].shape[0] > 2000  # fewer are solved directly
        return skfem, system, skfem.solve(*system)

    def test_deepcd(self, poisson: tuple[Any, ...]) -> None:
        skfem, system, expected = poisson
        np.testing.assert_allclose(skfem.solve(*system, solver=by_deepcd), expected, atol=1e-8 * abs(expected).max())

    def test_other_boundary_data(self, poisson: tuple[Any, ...]) -> None:
        skfem, (K, f, x, interior), _ = poisson
        lifted = x.copy()
        boundary = np.setdiff1d(np.arange(x.size), interior)
        lifted[boundary] = np.sin(boundary)
        expected = skfem.solve(K, f, lifted, interior)
        np.testing.assert_allclose(skfem.solve(K, f, lifted, interior, solver=by_deepcd), expected, atol=1e-8)

    @pytest.mark.parametrize("with_m", [False, True])
    def test_cg_through_its_krylov_solver(self, poisson: tuple[Any, ...], with_m: bool) -> None:
        skfem, system, expected = poisson
        M = {"M": DeepCD().setup(system[0]).aspreconditioner()} if with_m else {}  # its own is the diagonal
        solver = skfem.solver_iter_krylov(krylov=deepcd.cg, rtol=1e-10, **M)
        np.testing.assert_allclose(skfem.solve(*system, solver=solver), expected, atol=1e-8 * abs(expected).max())

    def test_failure_stops_the_program(self, poisson: tuple[Any, ...]) -> None:
        skfem, (K, f, *rest), _ = poisson
        with pytest.raises(NotConverged, match="limit of iterations"):
            skfem.solve(K, f, *rest, solver=lambda A, b: by_deepcd(A, b, DeepCD("none"), maxiter=1))

    def test_failure_is_logged_by_its_krylov_solver(
        self, poisson: tuple[Any, ...], caplog: pytest.LogCaptureFixture
    ) -> None:
        skfem, system, _ = poisson
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            skfem.solve(*system, solver=skfem.solver_iter_krylov(krylov=deepcd.cg, maxiter=1))
        assert "did not converge" in caplog.text


def test_status_is_named_where_scipys_cg_says_nothing() -> None:
    assert deepcd.cg(A - 2 * sp.eye_array(A.shape[0]), b).status is Status.INDEFINITE_MATRIX
