"""The one iteration, on plain vectors."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import cg as scipy_cg

from deepcd.solvers.conjugate_directions import Record, conjugate_directions
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.solution import Status
from deepcd.solvers.space import Workspace
from deepcd.solvers.survey import constant_null_space

from .systems import closed_line
from .systems import square as poisson


class Map:
    """A preconditioner from a function."""

    work = 2.0
    name = "test"

    def __init__(self, function: Any, n: int, *, symmetric: bool = True, linear: bool = False) -> None:
        self.function, self.n, self.symmetric, self.linear = function, n, symmetric, linear

    def zeros(self) -> np.ndarray:
        return np.zeros(self.n)

    def apply(self, r: np.ndarray, z: np.ndarray) -> float:
        z[...] = self.function(r)
        return float(r @ z)


def run(A: sp.csr_array, b: np.ndarray, M: Any = None, target: float = 1e-8, **options: Any) -> Record:
    M = Identity(len(b)) if M is None else M
    options.setdefault("maxiter", 10 * len(b))
    return conjugate_directions(CSROperator(A), b, M, target, **options)


@pytest.fixture
def b() -> np.ndarray:
    return np.random.default_rng(3).standard_normal(144)


def test_identity_with_one_kept_direction_is_cg(b: np.ndarray) -> None:
    A = poisson(12)
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    run(A, b, maxiter=25, target=0.0, callback=lambda x: ours.append(x.copy()))
    scipy_cg(A, b, rtol=1e-30, maxiter=25, callback=lambda x: theirs.append(x.copy()))
    assert len(ours) == len(theirs) == 25
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - other).max() <= 1e-12 * np.abs(other).max()


def test_converges_and_says_so(b: np.ndarray) -> None:
    A = poisson(12)
    record = run(A, b)
    assert record.status is Status.CONVERGED
    assert np.linalg.norm(b - A @ record.x) <= 1e-8
    assert record.residuals[0] == pytest.approx(np.linalg.norm(b))
    assert record.residuals[-1] == pytest.approx(np.linalg.norm(b - A @ record.x), rel=1e-6)
    assert (record.replaced, record.flipped) == (0, 0)


def test_right_hand_side_is_not_changed(b: np.ndarray) -> None:
    before = b.copy()
    run(poisson(12), b)
    np.testing.assert_array_equal(b, before)


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_an_exact_inverse_needs_one_iteration(b: np.ndarray, keep: int) -> None:
    A = poisson(12)
    inverse = np.linalg.inv(A.toarray())
    record = run(A, b, Map(lambda r: inverse @ r, 144), keep=keep)
    assert (record.status, len(record.residuals)) == (Status.CONVERGED, 2)


def test_a_linear_preconditioner_saves_the_product_with_the_last_direction(b: np.ndarray) -> None:
    """Fletcher-Reeves and the flexible form are one for a linear M; only the latter asks for (A p).z."""
    A, asked = poisson(12), []

    class Counting(CSROperator):
        def overlap(self, p: np.ndarray, z: np.ndarray) -> float:
            asked.append(1)
            return super().overlap(p, z)

    M = np.diag(np.random.default_rng(0).uniform(0.5, 2, 144))
    records = []
    for linear in (False, True):
        own = Map(lambda r: M @ r, 144, linear=linear)
        records.append(conjugate_directions(Counting(A), b, own, 1e-8, maxiter=200))
        assert len(asked) == len(records[0].residuals) - 2
    flexible, short = records
    assert flexible.status is short.status is Status.CONVERGED
    assert abs(len(flexible.residuals) - len(short.residuals)) <= 1
    np.testing.assert_allclose(flexible.residuals[:20], short.residuals[:20], rtol=1e-8)


def test_the_flexible_form_bears_a_preconditioner_that_changes(b: np.ndarray) -> None:
    A = poisson(12)
    counts = []
    for linear in (False, True):
        rng = np.random.default_rng(0)
        changing = Map(lambda r, rng=rng: r * rng.uniform(0.25, 4, 144), 144, linear=linear)
        counts.append(len(run(A, b, changing, maxiter=1000).residuals))
    assert counts[0] < counts[1]


@pytest.mark.parametrize("keep", [2, 3])
def test_more_kept_directions_change_nothing_for_a_symmetric_m(b: np.ndarray, keep: int) -> None:
    A = poisson(12)
    one, more = run(A, b), run(A, b, keep=keep)
    assert abs(len(one.residuals) - len(more.residuals)) <= 1
    np.testing.assert_allclose(one.residuals[:20], more.residuals[:20], rtol=1e-8)


def test_kept_directions_are_conjugate(b: np.ndarray) -> None:
    A = poisson(12)
    rng = np.random.default_rng(0)
    iterates = [np.zeros(144)]
    M = Map(lambda r: r + 0.5 * rng.standard_normal(144) * np.linalg.norm(r) / 12, 144, symmetric=False)
    run(A, b, M, keep=3, maxiter=12, target=0.0, callback=lambda x: iterates.append(x.copy()))
    steps = np.diff(iterates, axis=0)
    gram = steps @ A.toarray() @ steps.T
    gram /= np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    for lag in (1, 2, 3):
        assert np.abs(np.diag(gram, lag)).max() < 1e-10
    assert np.abs(np.diag(gram, 4)).max() > 1e-6  # not kept any more


def test_a_negative_product_flips_the_step_only(b: np.ndarray) -> None:
    A = poisson(12)
    plain, flipped = run(A, b), run(A, b, Map(np.negative, 144))
    assert flipped.status is Status.CONVERGED
    assert flipped.flipped == len(flipped.residuals) - 1 == len(plain.residuals) - 1
    np.testing.assert_allclose(flipped.x, plain.x)


def test_indefinite_preconditioner_is_named_when_it_fails(b: np.ndarray) -> None:
    signs = np.where(np.arange(144) % 2, 1.0, -1.0)
    record = run(poisson(12), b, Map(lambda r: signs * r, 144), maxiter=20)
    assert record.status is Status.INDEFINITE_PRECONDITIONER
    assert record.flipped


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("keep", [1, 2])
def test_useless_directions_are_replaced_by_the_residual(b: np.ndarray, bad: float, keep: int) -> None:
    A = poisson(12)
    calls: list[int] = []

    def sometimes(r: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.full_like(r, bad) if len(calls) % 7 == 3 else r

    record = run(A, b, Map(sometimes, 144), keep=keep)
    assert record.status is Status.CONVERGED
    assert record.replaced == sum(k % 7 == 3 for k in range(1, len(calls) + 1))
    assert np.linalg.norm(b - A @ record.x) <= 1e-8


def test_direction_orthogonal_to_the_residual_is_replaced(b: np.ndarray) -> None:
    def orthogonal(r: np.ndarray) -> np.ndarray:
        z = np.roll(r, 1)
        return z - (z @ r) / (r @ r) * r

    record = run(poisson(12), b, Map(orthogonal, 144, symmetric=False), keep=2, target=1e-3, maxiter=3000)
    assert record.status is Status.CONVERGED
    assert record.replaced


def test_indefinite_matrix_is_named_and_the_best_iterate_returned(b: np.ndarray) -> None:
    A = sp.csr_array(poisson(12) - 2.0 * sp.eye_array(144))
    iterates: list[np.ndarray] = [np.zeros(144)]
    record = run(A, b, callback=lambda x: iterates.append(x.copy()))
    assert record.status is Status.INDEFINITE_MATRIX
    assert np.linalg.norm(b - A @ record.x) == pytest.approx(min(np.linalg.norm(b - A @ x) for x in iterates))


def test_the_best_iterate_is_returned_when_the_residual_rises() -> None:
    rng = np.random.default_rng(1)
    spread = np.logspace(0, 7, 60)
    Q = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    A = sp.csr_array(Q * spread @ Q.T)
    A = sp.csr_array((A + A.T) / 2)
    b = rng.standard_normal(60)
    iterates = [np.zeros(60)]
    record = run(A, b, maxiter=11, callback=lambda x: iterates.append(x.copy()))
    norms = [np.linalg.norm(b - A @ x) for x in iterates]
    assert record.status is Status.MAXITER
    assert norms[-1] > 1.01 * min(norms)
    assert np.linalg.norm(b - A @ record.x) == pytest.approx(min(norms), rel=1e-6)


def test_convergence_is_not_believed_before_the_residual_is_recomputed() -> None:
    rng = np.random.default_rng(0)
    spread = np.logspace(0, 6, 80)
    Q = np.linalg.qr(rng.standard_normal((80, 80)))[0]
    A = sp.csr_array(Q * spread @ Q.T)
    A = sp.csr_array((A + A.T) / 2)
    b = rng.standard_normal(80)
    record = run(A, b, target=1e-14, maxiter=20_000)
    true = np.linalg.norm(b - A @ record.x)
    assert record.status is Status.ATTAINABLE_ACCURACY
    assert min(record.residuals) < 1e-13 < true  # the recursion alone would have claimed success
    assert true < 1e-8


def test_a_target_of_zero_ends_at_the_attainable_accuracy(b: np.ndarray) -> None:
    A = poisson(12)
    record = run(A, b, target=0.0)
    assert record.status is Status.ATTAINABLE_ACCURACY
    assert np.linalg.norm(b - A @ record.x) < 1e-14 * 144
    assert len(record.residuals) < 200


def test_recomputed_residuals_carry_the_iteration_further() -> None:
    """float32 products limit the recursion; the recomputed residual here comes from the same operator in float64."""

    class Sloppy(CSROperator):
        def apply(self, p: np.ndarray, q: np.ndarray) -> float:  # what `conjugate` and `step` work with
            q[...] = (self.A @ p).astype(np.float32)
            return float(p @ q)

    A, b = poisson(20), np.random.default_rng(0).standard_normal(400)
    record = conjugate_directions(Sloppy(A), b, Identity(400), 1e-10, maxiter=2000)
    assert record.status is Status.CONVERGED
    assert np.linalg.norm(b - A @ record.x) <= 1e-10


def test_maxiter(b: np.ndarray) -> None:
    record = run(poisson(12), b, maxiter=4)
    assert (record.status, len(record.residuals)) == (Status.MAXITER, 5)


def test_deadline(b: np.ndarray) -> None:
    record = run(poisson(12), b, deadline=time.perf_counter() - 1)
    assert (record.status, len(record.residuals)) == (Status.TIMEOUT, 2)


def test_callback_stops_at_its_iterate(b: np.ndarray) -> None:
    seen: list[np.ndarray] = []

    def callback(x: np.ndarray) -> bool:
        seen.append(x.copy())
        return len(seen) == 6

    record = run(poisson(12), b, callback=callback)
    assert (record.status, len(record.residuals)) == (Status.CALLBACK, 7)
    np.testing.assert_array_equal(record.x, seen[-1])


def test_not_finite_operator() -> None:
    A = sp.csr_array(np.diag([1.0, np.nan, 2.0]))
    assert run(A, np.ones(3)).status is Status.NOT_FINITE


def test_zero_operator_breaks_down() -> None:
    assert run(sp.csr_array((3, 3)), np.ones(3)).status is Status.BREAKDOWN


def test_singular_inconsistent_system_stops_and_returns_the_best(b: np.ndarray) -> None:
    A = poisson(12).tolil()
    A[5, :] = 0
    A[:, 5] = 0
    A = sp.csr_array(A)
    record = run(A, b, maxiter=100_000)
    assert record.status in (Status.BREAKDOWN, Status.INDEFINITE_MATRIX)
    assert np.linalg.norm(b - A @ record.x) <= np.linalg.norm(b)


def test_null_space_is_kept_out() -> None:
    n = 50
    A = closed_line(n)
    operator = CSROperator(A, *constant_null_space(A, 2.2e-16))
    b = np.random.default_rng(0).standard_normal(n)
    operator.project(b)
    record = conjugate_directions(operator, b, Map(lambda r: r + 3.0, n), 1e-10, maxiter=500)
    assert record.status is Status.CONVERGED
    assert np.linalg.norm(b - A @ record.x) <= 1e-10


def test_nothing_to_do() -> None:
    record = run(poisson(4), np.zeros(16))
    assert (record.status, record.residuals) == (Status.CONVERGED, [0.0])
    assert math.isclose(float(np.abs(record.x).sum()), 0.0)


class Used(CSROperator):
    """A whose vectors hold what no iteration may read, as those of a solve before may that overflowed."""

    def workspace(self, M: Any) -> Workspace:
        space = super().workspace(M)
        for v in space:
            v[...] = np.nan
        return space


@pytest.mark.parametrize("keep", [1, 3])
def test_what_the_workspace_holds_does_no_harm(b: np.ndarray, keep: int) -> None:
    A = poisson(12)
    first: list[np.ndarray] = []
    fresh = run(A, b, keep=keep)
    record = conjugate_directions(
        Used(A), b, Identity(144), 1e-8, maxiter=1440, keep=keep, callback=lambda x: first.append(x.copy())
    )
    assert record.status is Status.CONVERGED
    assert record.residuals == fresh.residuals
    np.testing.assert_array_equal(record.x, fresh.x)
    assert np.isfinite(first).all()


@pytest.mark.parametrize(
    ("A", "scale", "options", "status"),
    [
        (poisson(12), 1e-30, {}, Status.CONVERGED),
        (poisson(12), 0.0, {}, Status.CONVERGED),
        (poisson(12), 1.0, {"maxiter": 0}, Status.MAXITER),
        (sp.csr_array((144, 144)), 1.0, {}, Status.BREAKDOWN),
        (sp.csr_array(-poisson(12)), 1.0, {}, Status.INDEFINITE_MATRIX),
        (sp.csr_array(sp.diags_array(np.full(144, np.nan))), 1.0, {}, Status.NOT_FINITE),
    ],
    ids=["small", "zero", "no iteration", "no matrix", "negative", "not finite"],
)
@pytest.mark.parametrize("keep", [1, 2])
def test_without_a_step_the_answer_is_zero(
    b: np.ndarray, A: sp.csr_array, scale: float, options: dict[str, Any], status: Status, keep: int
) -> None:
    options = {"maxiter": 100} | options
    record = conjugate_directions(Used(A), scale * b, Identity(144), 1e-8, keep=keep, **options)
    assert (record.status, len(record.residuals)) == (status, 1)
    np.testing.assert_array_equal(record.x, np.zeros(144))


def test_iterations_allocate_nothing() -> None:
    """The peak of memory does not depend on the number of iterations."""
    n = 50_000
    operator = CSROperator(sp.csr_array(sp.diags_array(np.linspace(1, 100, n))))

    def peak(iterations: int) -> int:
        b, M = np.ones(n), Identity(n)
        tracemalloc.start()
        conjugate_directions(operator, b, M, 0.0, maxiter=iterations)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(20) - peak(2) < n  # bytes: an eighth of a vector
    assert peak(2) < 6.5 * 8 * n


class Rounded(CSROperator):
    """A whose r and p are float32, as those of grids are."""

    roundoff = float(np.finfo(np.float32).eps)

    def workspace(self, M: Any) -> Workspace:
        space = super().workspace(M)
        return space._replace(p=space.p.astype(np.float32), r=space.r.astype(np.float32))

    def residual(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> float:
        exact = b - self.A @ x
        r[...] = exact
        return float(exact @ exact)

    def conjugate(self, z: np.ndarray, beta: float, p: np.ndarray) -> float:
        p[...] = z + np.float32(beta) * p if beta else z
        self._q[...] = self.A @ p.astype(float)
        return float(p.astype(float) @ self._q)

    def step(self, alpha: float, p: np.ndarray, x: np.ndarray, r: np.ndarray, *, first: bool = False) -> float:
        if first:
            x[...] = 0
        x += alpha * p.astype(float)
        r[...] = r - alpha * self._q
        return float(r.astype(float) @ r.astype(float))

    def image(self, p: np.ndarray) -> np.ndarray:
        return np.asarray(self.A @ p.astype(float))


class TestFloat32:
    """Residual and direction in float32 cost no digit of the answer: it is corrected against recomputed residuals."""

    @pytest.mark.parametrize("linear", [False, True])
    @pytest.mark.parametrize("target", [1e-4, 1e-8, 1e-12])
    def test_every_target_that_float64_reaches(self, b: np.ndarray, target: float, linear: bool) -> None:
        A = poisson(12)
        plain = run(A, b, target=target)
        record = conjugate_directions(Rounded(A), b, Map(lambda r: r, 144, linear=linear), target, maxiter=1000)
        assert record.status is Status.CONVERGED
        assert np.linalg.norm(b - A @ record.x) <= target
        assert record.residuals[-1] == pytest.approx(np.linalg.norm(b - A @ record.x), rel=1e-3)
        # Search directions are no longer conjugate to those before a correction, so there are more of them.
        assert len(record.residuals) <= 2 * len(plain.residuals)

    def test_the_attainable_accuracy_is_that_of_float64(self, b: np.ndarray) -> None:
        A = poisson(12)
        record = conjugate_directions(Rounded(A), b, Identity(144), 0.0, maxiter=2000)
        assert record.status is Status.ATTAINABLE_ACCURACY
        assert np.linalg.norm(b - A @ record.x) < 1e-14 * 144

    def test_convergence_is_not_believed_below_rounding(self, b: np.ndarray) -> None:
        """Each 32 roundoffs below the last recomputed residual it is recomputed again."""
        A, recomputed = poisson(12), []

        class Watched(Rounded):
            def residual(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> float:
                recomputed.append(1)
                return super().residual(b, x, r)

        record = conjugate_directions(Watched(A), b, Identity(144), 1e-11, maxiter=1000)
        assert record.status is Status.CONVERGED
        assert 2 <= len(recomputed) <= 6

    @pytest.mark.parametrize("linear", [False, True])
    def test_a_nearly_exact_preconditioner_gives_seven_digits_a_step(self, b: np.ndarray, linear: bool) -> None:
        """The recomputed residual is anything but orthogonal to the step before, and is made so."""
        A = poisson(12)
        inverse = np.linalg.inv(A.toarray())
        M = Map(lambda r: (inverse @ r).astype(np.float32), 144, linear=linear)
        record = conjugate_directions(Rounded(A), b, M, 1e-11, maxiter=20)
        assert record.status is Status.CONVERGED
        assert len(record.residuals) <= 4

    def test_indefinite_matrices_are_named(self, b: np.ndarray) -> None:
        A = sp.csr_array(poisson(12) - 2.0 * sp.eye_array(144))
        record = conjugate_directions(Rounded(A), b, Identity(144), 1e-8, maxiter=1000)
        assert record.status is Status.INDEFINITE_MATRIX

    def test_a_singular_matrix_is_not_called_indefinite(self) -> None:
        A = poisson(12).tolil()
        A.setdiag(0)
        A = sp.csr_array(A)
        A = sp.csr_array(A - sp.diags_array(A.sum(axis=1)))
        operator = Rounded(A, *constant_null_space(A, 2.2e-16))
        b = np.random.default_rng(0).standard_normal(144)
        operator.project(b)
        record = conjugate_directions(operator, b, Identity(144), 1e-10, maxiter=1000)
        assert record.status is Status.CONVERGED
        assert np.linalg.norm(b - A @ record.x) <= 1e-10
