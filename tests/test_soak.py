"""The soak: its systems are what they claim to be, its oracle catches liars, and the solvers pass a short one."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import pytest

from benchmarks import random_systems, soak, verification
from deepcd import Solution, Status


def failures(count: int, solver: soak.Solver) -> list[tuple[str, str]]:
    """Return the truth of each system that the solver fails on, and the name of the failure."""
    rows = soak.soak(0, count, {"liar": solver}, progress=io.StringIO())
    return [(row["truth"], row["failure"]) for row in rows if row["failure"]]


def least_squares(system: random_systems.RandomSystem) -> np.ndarray[Any, Any]:
    """Return the solution by a dense method, for systems without extreme scaling."""
    A = verification.plain(system.A).toarray()
    return np.linalg.lstsq(A, np.asarray(system.b, dtype=float), rcond=1e-13)[0]


@functools.cache
def plain_systems() -> list[random_systems.RandomSystem]:
    """Return a few solvable systems of moderate size, scaling and tolerance, to be solved without options."""
    drawn = (random_systems.draw(seed) for seed in range(60))
    gram = [s for s in drawn if s.family == "gram" and s.truth == "solvable" and not s.options]
    return [s for s in gram if np.ndim(s.b) == 1 and s.A.shape[0] <= 1000 and s.tol > 1e-11]


@pytest.mark.compiled
@pytest.mark.parametrize("name", list(soak.SOLVERS))
def test_thirty_systems(name: str) -> None:
    rows = soak.soak(1000, 30, {name: soak.SOLVERS[name]}, progress=io.StringIO())
    assert len(rows) >= 25
    assert [row for row in rows if row["failure"]] == []


@pytest.mark.compiled
@pytest.mark.parametrize("seed", [210, 531, 905, 1215, 1494, 1750, 1763])
def test_systems_that_were_answered_wrongly_once(seed: int) -> None:
    rows = soak.soak(seed, 1, soak.SOLVERS, progress=io.StringIO())
    assert [row for row in rows if row["failure"]] == []


def test_a_seed_is_a_system() -> None:
    first, second = random_systems.draw(5), random_systems.draw(5)
    assert str(first) == str(second)
    assert verification.fingerprint(first.A, first.b) == verification.fingerprint(second.A, second.b)
    assert str(first) != str(random_systems.draw(6))


def test_truths_are_true() -> None:
    """By eigenvalues of the small ones of a hundred systems."""
    seen = set()
    for seed in range(150):
        system = random_systems.draw(seed)
        if system.A.shape[0] > 200:
            continue
        seen.add(system.truth)
        A = verification.plain(system.A)
        A = A / np.abs(A.data).max(initial=0)
        dense = A.toarray()
        if system.truth == "nonsymmetric":
            assert np.abs(dense - dense.T).max() > 0
            continue
        np.testing.assert_allclose(dense, dense.T, atol=1e-6)
        values = np.linalg.eigvalsh(dense)
        if system.truth == "indefinite":
            assert values[0] < 0
        elif system.truth == "negative":
            assert values[-1] <= 1e-12
        else:
            assert values[0] >= -1e-6 * values[-1]
        assert (system.lost > 0) == (system.truth in ("inconsistent", "empty row"))
    assert len(seen) >= 5


class TestLiars:
    def test_success_without_an_answer(self) -> None:
        def liar(system: random_systems.RandomSystem) -> Solution:
            return Solution(np.zeros(np.shape(system.b)), Status.CONVERGED, [1.0, 0.0])

        found = failures(30, liar)
        assert len(found) >= 28  # zero is an answer where atol is large
        assert {failure for _, failure in found} == {"wrong success"}

    def test_a_success_that_misses_narrowly(self) -> None:
        def liar(system: random_systems.RandomSystem) -> Solution:
            x = least_squares(system)
            return Solution(x * (1 + 2 * system.tol), Status.CONVERGED, [1.0, 0.0])

        assert soak.judge(plain_systems()[0], "liar", liar)[0] == "wrong success"

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.CONVERGED])
    def test_an_untrue_status_for_what_can_be_solved(self, status: Status) -> None:
        def liar(system: random_systems.RandomSystem) -> Solution:
            x = 0.5 * least_squares(system)
            norms = [float(verification.norms(b)[0]) for b in (system.b, system.b - system.A @ x)]
            return Solution(x, status, norms)

        assert plain_systems()
        for system in plain_systems():
            assert soak.judge(system, "liar", liar)[0] == f"{status.name} is not true"

    def test_a_changed_input_and_a_returned_one(self) -> None:
        def thief(system: random_systems.RandomSystem) -> Solution:
            return Solution(system.b, Status.MAXITER, [1.0])

        def vandal(system: random_systems.RandomSystem) -> Solution:
            system.b[...] *= 2
            return Solution(np.zeros(system.b.shape), Status.MAXITER, [1.0])

        assert {failure for _, failure in failures(5, thief)} == {"input returned"}
        assert {failure for _, failure in failures(5, vandal)} == {"input changed"}

    def test_nan_an_exception_and_a_residual_of_something_else(self) -> None:
        def confused(system: random_systems.RandomSystem) -> Solution:
            return Solution(np.full(np.shape(system.b), np.nan), Status.CONVERGED, [1.0, 0.0])

        def crashing(system: random_systems.RandomSystem) -> Solution:
            raise ZeroDivisionError

        def boasting(system: random_systems.RandomSystem) -> Solution:
            return Solution(np.zeros(np.shape(system.b)), Status.MAXITER, [1e-300, 1e-300])

        assert {failure for _, failure in failures(5, confused)} == {"wrong success"}
        assert {failure for _, failure in failures(5, crashing)} == {"raised ZeroDivisionError"}
        assert "reports a residual that is not that of x" in {failure for _, failure in failures(5, boasting)}


def test_verification_in_extreme_ranges() -> None:
    A, x = np.diag([1e-200, 3e-200]), np.array([1e-110, 2e-110])
    assert verification.meets(A, A @ x, x, 1e-12)
    assert not verification.meets(A, A @ x, 1.001 * x, 1e-6)
    assert not verification.meets(A, A @ x, np.zeros(2), 0.5)
    assert verification.meets(np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1e-6)
    assert verification.meets(np.eye(2), np.array([[1.0, 1e-9], [0.0, 0.0]]), np.array([[1.0, 1e-9], [0.0, 0.0]]), 1e-6)
    assert not verification.meets(np.eye(2), np.array([[1.0, 1e-9], [0, 0]]), np.array([[1.0, 0.0], [0, 0]]), 1e-6)
