"""Gas in liquid: what stays at rest, what rises, the limits of equal and of very different densities, volumes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from deepcd.pde import BubbleStepper, Grid, LiquidState, LiquidStepper, ball, domain, liquid_volume

from .pressure import exact_pressure


def stepper(grid: Grid, **options: Any) -> BubbleStepper:
    return BubbleStepper(grid, exact_pressure, **{"gravity": 1.0, "dt": 0.3, **options})


def after(steps: int, tank: LiquidStepper, state: LiquidState) -> LiquidState:
    for new, _ in islice(tank.iterate(state), steps):
        state = new
    return state


def centres(grid: Grid) -> list[np.ndarray]:
    return [(i + 0.5) * grid.spacing for i in np.ogrid[tuple(map(slice, grid.shape))]]


def bubble(grid: Grid, middle: tuple[float, ...], radius: float) -> np.ndarray:
    return radius - np.sqrt(sum((a - m) ** 2 for a, m in zip(centres(grid), middle, strict=True)))


def speed(state: LiquidState) -> float:
    return max(float(np.abs(u).max()) for u in state.velocity)


@pytest.mark.parametrize("shape", [(6, 12), (6, 5, 12)])
@pytest.mark.parametrize("height", [5.0, 6.37])
def test_gas_above_liquid_stays_at_rest(shape: tuple[int, ...], height: float) -> None:
    """The pressure is linear in either phase, with slopes of 1000 to 1, beside a solid that cuts cells as well."""
    grid = Grid(np.zeros(shape))
    tank = stepper(grid, solid=ball([*(3.1, 2.2)[: len(shape) - 1], 4.2], 1.7))
    start = tank.start(np.broadcast_to(centres(grid)[-1] - height, shape))
    state = after(4, tank, start)
    assert speed(state) < 1e-9
    column = state.pressure[0, ..., :].reshape(-1, shape[-1])[0]
    np.testing.assert_allclose(np.diff(column)[:4], -0.3, rtol=1e-9)
    np.testing.assert_allclose(np.diff(column)[-4:], -0.3e-3, rtol=1e-5)


def test_a_bubble_without_gravity_stays_as_it_is() -> None:
    grid = Grid(np.zeros((12, 12)))
    tank = stepper(grid, gravity=0.0)
    assert speed(after(5, tank, tank.start(bubble(grid, (6.1, 5.8), 3.2)))) == 0.0


def test_equal_densities_do_nothing() -> None:
    """There is no weight below the surface: gravity is held by the pressure alone."""
    grid = Grid(np.zeros((12, 14)))
    tank = stepper(grid, ratio=1.0)
    assert speed(after(4, tank, tank.start(bubble(grid, (6.1, 5.8), 3.2)))) < 1e-12


@pytest.mark.compiled
@pytest.mark.parametrize("shape", [(24, 40), (14, 14, 20)])
def test_a_bubble_rises(shape: tuple[int, ...]) -> None:
    """It begins as a light cylinder or ball in an unbounded liquid would, and keeps its volume."""
    grid = Grid(np.zeros(shape), spacing=1 / shape[0])
    tank = stepper(grid, dt=0.02)
    middle, radius = [0.5] * (len(shape) - 1) + [0.45], 0.14 if len(shape) == 2 else 0.2
    start = tank.start(bubble(grid, tuple(middle), radius))

    def gas(s: Any) -> Any:
        return np.clip(0.5 + s.phi * shape[0], 0, 1)

    def height(s: Any) -> float:
        return float((gas(s) * centres(grid)[-1]).sum() / gas(s).sum())

    heights = [height(start)]
    for state, solved in islice(tank.iterate(start), 12):
        heights.append(height(state))
        assert solved.left < 1e-9
        assert liquid_volume(grid, state.phi) == pytest.approx(start.volume, rel=1e-10)
    assert (np.diff(heights[1:]) > 0).all()
    # The added mass of a cylinder is that of the liquid in its place, that of a ball half of it: g, and 2 g.
    time = state.time - 0.01  # positions follow velocities by a step
    expected = 0.5 * time**2 * (1.0 if len(shape) == 2 else 2.0)
    assert heights[-1] - heights[0] == pytest.approx(expected, rel=0.35)


@pytest.mark.compiled
def test_without_the_shift_the_volume_drifts_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the shift hides no large error: until the liquid has broken through, a few per cent of the gas."""
    monkeypatch.setattr("deepcd.pde.liquid.shift_to_volume", lambda grid, phi, *_: phi)
    grid = Grid(np.zeros((32, 48)), spacing=1 / 32)
    tank = stepper(grid, dt=0.02)
    start = tank.start(bubble(grid, (0.5, 0.5), 0.2))
    state = after(40, tank, start)
    whole = 48 / 32
    assert whole - liquid_volume(grid, state.phi) == pytest.approx(whole - start.volume, rel=0.05)


def test_a_symmetric_bubble_stays_symmetric() -> None:
    grid = domain((20, 24))
    tank = stepper(grid, dt=0.4)
    state = after(8, tank, tank.start(bubble(grid, (10.0, 8.0), 4.2)))
    assert speed(state) > 0.5
    np.testing.assert_allclose(state.phi, state.phi[::-1], rtol=0, atol=1e-7)


def test_without_a_density_there_is_no_gas() -> None:
    with pytest.raises(ValueError, match=r"ratio must be positive and finite, got 0\.0"):
        stepper(Grid(np.zeros((4, 4))), ratio=0.0)
