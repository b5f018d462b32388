"""The peers of the benchmarks solve what they are given: a baseline that is broken would flatter us."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import hypre_settings
from benchmarks.peers import METHODS, PFMG, absent
from benchmarks.problems import TEST_SEED, SeededProblem
from benchmarks.problems import test_grid as random_grid
from benchmarks.problems import test_rhs as right_hand_side
from benchmarks.scaling import residual as residual_on_grid
from benchmarks.scaling import smooth, unknowns
from deepcd.pde import poisson
from deepcd.solvers.bench import hypre
from deepcd.solvers.bench.box_incomplete_cholesky import (
    BoxIncompleteCholesky,
    backward,
    direction,
    residual,
    step,
)
from deepcd.solvers.bench.methods import pfmg
from deepcd.solvers.preconditioners.incomplete_cholesky import SIGMA, TAU

TOL = 1e-6
FAMILIES = ("open-top", "porous-15", "pure-neumann")
pytestmark = pytest.mark.compiled


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_a_peer_meets_its_tolerance(name: str, family: str) -> None:
    if absent(name):
        pytest.skip(absent(name))
    problem = SeededProblem.of(family, (14, 14, 14), 3)  # smaller ones DeepCD factorises
    answer = METHODS[name](problem, TOL)
    assert problem.judge(answer.x) <= TOL
    assert 0 < answer.iterations < 200
    assert answer.solve > 0 <= answer.setup


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(9, 7, 6), (5, 8, 11), (20, 13)])
def test_incomplete_cholesky_on_boxes_of_any_shape(shape: tuple[int, ...], dtype: type) -> None:
    problem = SeededProblem.of("mixed-walls", shape, 4)
    x, _ = BoxIncompleteCholesky(problem.diagonal, dtype).solve(problem.to_box(problem.b), 1e-10)
    assert problem.judge(problem.from_box(x, problem.b)) <= 1e-10


def test_incomplete_cholesky_is_that_of_the_book() -> None:
    problem = SeededProblem.of("open-top", (6, 7, 5), 5)
    A = poisson(problem.grid).A.toarray()
    w = np.zeros(len(A))
    for i in range(len(A)):
        before = [j for j in range(i) if A[i, j]]
        fill = sum(w[j] * sum(A[j, k] for k in range(j + 1, len(A)) if k != i) * A[i, j] for j in before)
        value = A[i, i] - sum(w[j] * A[i, j] ** 2 for j in before) - TAU * fill
        w[i] = 1 / (value if value >= SIGMA * A[i, i] else A[i, i])
    method = BoxIncompleteCholesky(problem.diagonal)
    box = method.d != 0
    np.testing.assert_allclose(method.w[box], w, rtol=1e-12)

    rng = np.random.default_rng(0)
    n, s = method.n, method.s
    x, p, r = (np.zeros(method.d.size) for _ in range(3))
    x[box], p[box], r[box] = rng.standard_normal((3, len(A)))
    x0, p0, r0 = x[box], p[box], r[box]
    lower = np.diag(1 / w) + np.tril(A, -1)
    rr = step(n, s, method.d, method.w, 0.3, p, x, r, method.z)
    np.testing.assert_allclose(x[box], x0 + 0.3 * p0)
    np.testing.assert_allclose(r[box], r0 - 0.3 * A @ p0)
    np.testing.assert_allclose(rr, r[box] @ r[box])
    np.testing.assert_allclose(method.z[box], np.linalg.solve(lower, r[box]))
    rz = backward(n, s, method.w, r, method.z)
    z = np.linalg.solve(lower @ np.diag(w) @ lower.T, r[box])
    np.testing.assert_allclose(method.z[box], z)
    np.testing.assert_allclose(rz, r[box] @ z)
    curvature = direction(n, s, method.d, method.z, 0.2, p)
    np.testing.assert_allclose(p[box], z + 0.2 * p0)
    np.testing.assert_allclose(curvature, p[box] @ A @ p[box])
    square = residual(n, s, method.d, x, p, r)
    np.testing.assert_allclose(r[box], x[box] - A @ p[box])
    np.testing.assert_allclose(square, r[box] @ r[box])
    assert not any(v[~box].any() for v in (x, p, r, method.z))


@pytest.mark.skipif(bool(hypre.missing()), reason=hypre.missing() or "hypre is here")
@pytest.mark.parametrize("shape", [(9, 12, 10), (21, 14)])
def test_every_setting_of_hypre_solves_in_an_easy_domain(shape: tuple[int, ...]) -> None:
    problem = SeededProblem.of("closed-cube", shape, 3)
    for settings in hypre.SHORTLIST:
        assert problem.judge(pfmg(problem, TOL, 1, [settings]).x) <= TOL


@pytest.mark.skipif(bool(hypre.missing()), reason=hypre.missing() or "hypre is here")
def test_settings_that_fail_make_room_for_safe_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = SeededProblem.of("porous-15", (12, 12, 12), 3)
    risky = hypre.PFMGSettings(relax=1, rap=1, sweeps=1, skip=1, weight=0.9)
    assert not problem.judge(pfmg(problem, TOL, 1, [risky]).x) <= TOL
    monkeypatch.setitem(PFMG, "total", risky)
    assert problem.judge(METHODS["hypre PFMG-PCG"](problem, TOL).x) <= TOL
    safe = hypre.SHORTLIST[0]
    assert [settings for _, settings in hypre_settings.tune("porous-15", 16, 1, TOL, [risky, safe])] == [safe]


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_needs_no_matrix(family: str) -> None:
    grid = random_grid(family, (13, 11, 12), 3)
    member, system = unknowns(grid), poisson(grid)
    b = smooth(grid, member, np.random.default_rng((TEST_SEED, 3, 1)))
    np.testing.assert_allclose(b, right_hand_side(system, "smooth", 3), atol=1e-14)
    x = np.random.default_rng(0).standard_normal(len(b))
    exact = np.linalg.norm(b - system.A @ x) / np.linalg.norm(b)
    assert residual_on_grid(grid, member, b, x) == pytest.approx(exact)


def test_an_absent_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    assert "apt-get install libhypre-dev" in absent("hypre PFMG-PCG")
    assert not absent("pyamg SA")
