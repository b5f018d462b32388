"""The pressure step through a solver that is handed in, and the time step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import cg

from deepcd.pde import PoissonSystem, ball, divergence, domain, poisson, pressure_step, swirling_flow
from deepcd.pde.mac import face_shapes
from deepcd.pde.projection import require_positive, time_step

from .pressure import exact_pressure

GRID = domain((10, 9, 8), solid=ball((5, 4, 4), 2), walls=["solid", "solid", ("solid", "air")], spacing=0.1)
SYSTEM = poisson(GRID)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
def test_the_residual_is_the_divergence_that_stays(tolerance: float) -> None:
    def solve(system: PoissonSystem, b: np.ndarray, x0: np.ndarray) -> Any:
        return cg(system.A, b, x0=x0, rtol=0.0, atol=tolerance)[0]

    velocity, pressure, solved = pressure_step(SYSTEM, swirling_flow(GRID), np.zeros(GRID.shape), solve)
    residual = solved.b - solved.system.A @ SYSTEM.from_field(pressure)
    np.testing.assert_allclose(SYSTEM.from_field(divergence(GRID, velocity)), -residual, rtol=0, atol=1e-11)
    assert 0 < np.abs(divergence(GRID, velocity)).max() < 10 * tolerance


def test_warm_start_and_record() -> None:
    """The solver gets the last pressure, may write into it, and what is recorded is what it was given."""
    guess = np.random.default_rng(0).standard_normal(GRID.shape)
    seen = []

    def solve(system: PoissonSystem, b: np.ndarray, x0: np.ndarray) -> np.ndarray:
        seen.append(x0.copy())
        x0[:] = exact_pressure(system, b)
        return x0

    _, pressure, solved = pressure_step(SYSTEM, swirling_flow(GRID), guess, solve)
    np.testing.assert_array_equal(seen[0], SYSTEM.from_field(guess))
    np.testing.assert_array_equal(solved.x0, SYSTEM.from_field(guess))
    assert solved.system is SYSTEM
    assert (pressure[~GRID.fluid] == 0).all()


def test_the_answer_comes_back_with_facts_of_its_own() -> None:
    class Answer:
        def __init__(self, x: np.ndarray) -> None:
            self.x, self.iterations = x, 7

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.asarray(self.x, dtype)

    velocity, pressure, solved = pressure_step(
        SYSTEM, swirling_flow(GRID), np.zeros(GRID.shape), lambda system, b, x0: Answer(exact_pressure(system, b))
    )
    assert isinstance(solved.answer, Answer)
    assert solved.answer.iterations == 7
    np.testing.assert_array_equal(SYSTEM.from_field(pressure), solved.answer.x)
    assert np.abs(divergence(GRID, velocity)).max() < 1e-11


def test_nothing_to_solve() -> None:
    full = domain((4, 3), solid=ball((2, 2), 9))
    rest = tuple(np.zeros(face) for face in face_shapes(full))

    def solve(*_: object) -> np.ndarray:
        raise AssertionError

    velocity, _, solved = pressure_step(poisson(full), rest, np.zeros((4, 3)), solve)
    assert solved.b.size == 0
    assert solved.answer is None
    assert all((u == 0).all() for u in velocity)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), r"solve must return one finite number per unknown, shape \(\d+,\); got shape \(3,\)"),
        (np.full(len(SYSTEM.cells), np.nan), "with NaN or infinite values"),
        (None, r"got shape \(\)"),
    ],
)
def test_solvers_that_fail(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pressure_step(SYSTEM, swirling_flow(GRID), np.zeros(GRID.shape), lambda *_: x)


def test_time_step() -> None:
    velocity = [np.array([[1.0, -4.0]]), np.array([[2.0], [0.0]])]
    assert time_step(velocity, 0.1, 2.0, 9.0) == pytest.approx(0.05)
    assert time_step(velocity, 0.1, 2.0, 0.01) == 0.01
    assert time_step([np.zeros((2, 2))], 0.1, 2.0, 9.0) == 9.0
    for bad in (np.nan, -np.inf):
        with pytest.raises(ValueError, match="velocity holds NaN or infinite"):
            time_step([np.array([0.0, bad])], 0.1, 2.0, 9.0)


def test_positive_numbers() -> None:
    require_positive(dt=0.1, cfl=3)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"cfl must be positive and finite, got {bad}"):
            require_positive(dt=0.1, cfl=bad)
