"""Inflows: what enters arrives, what cannot enter is refused, and volumes are kept account of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import lsmr, spsolve

from deepcd.pde import Cell, Grid, Inflow, LiquidStepper, Shape, SmokeStepper, box, divergence, domain
from deepcd.pde.inflow import Openings

OPEN = [("solid", "air"), "solid"]
EAST = Inflow(0, "low", (1.0, 0.0), density=2.0)


def exact(system: Any, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(spsolve(system.A, b))


def nearest(system: Any, b: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(lsmr(system.A, b, atol=1e-14, btol=1e-14)[0])


def blow(stepper: SmokeStepper, steps: int) -> Any:
    state = stepper.start()
    for _ in range(steps):
        state, solved = stepper.step(state)
        assert np.abs(divergence(solved.system.grid, state.velocity)).max() < 1e-9
    return state


def test_an_even_stream_goes_through_a_channel() -> None:
    state = blow(SmokeStepper(Grid(np.zeros((12, 4)), walls=OPEN), exact, dt=0.5, inflows=[EAST]), 8)
    np.testing.assert_allclose(state.velocity[0], 1.0, atol=1e-10)
    np.testing.assert_allclose(state.velocity[1], 0.0, atol=1e-10)
    assert (state.density[:2] == 2).all()
    assert (state.density[8:] < 0.01).all()
    assert 7 <= state.density[:, 0].sum() <= 9  # 3.5 cells have been crossed since the first was full


def test_a_part_of_a_wall_and_solids_in_front_of_it() -> None:
    grid = domain((8, 10), solid=box((0, 0), (2, 3)), walls=OPEN)
    openings = Openings(grid, [Inflow(0, "low", (3.0, 0.0), region=box((0, 0), (1, 6)))])
    assert np.argwhere(openings.cells[0]).tolist() == [[0, 3], [0, 4], [0, 5]]
    flow = np.zeros((9, 10)), np.zeros((8, 11))
    openings.prescribe(flow)
    assert flow[0][:, 4].tolist() == [3.0] + [0.0] * 8
    assert flow[0].sum() == 9.0
    assert not flow[1].any()
    assert openings.rate(np.ones((8, 10), dtype=bool)) == 9.0
    (layer,) = openings.layers(1.0, most=2.0)
    assert np.argwhere(layer)[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_of_two_inflows_at_the_same_place_the_later_counts() -> None:
    openings = Openings(
        Grid(np.zeros((4, 6)), walls=OPEN), [EAST, Inflow(0, "low", (5.0, 0.0), region=box((0, 2), (1, 4)))]
    )
    flow = np.zeros((5, 6)), np.zeros((4, 7))
    openings.prescribe(flow)
    assert flow[0][0].tolist() == [1, 1, 5, 5, 1, 1]
    assert openings.rate(np.ones((4, 6), dtype=bool)) == 14


def test_a_closed_box_needs_a_way_out() -> None:
    grid = Grid(np.zeros((6, 4)))
    with pytest.raises(ValueError, match="of an inflow 4 per unit of time enters, and nothing lets it out"):
        SmokeStepper(grid, nearest, dt=0.1, inflows=[EAST])
    with pytest.raises(ValueError, match="of an inflow 4 per unit of time leaves, and nothing lets any in"):
        SmokeStepper(grid, nearest, dt=0.1, inflows=[Inflow(0, "low", (-1.0, 0.0))])
    through = [EAST, Inflow(1, "high", (0.0, 4.0), region=box((5, 3), (6, 4)))]
    assert blow(SmokeStepper(grid, nearest, dt=0.1, inflows=through), 2).velocity[1][5, 4] == 4.0
    cells = np.zeros((6, 4))
    cells[3] = Cell.SOLID  # a chamber in front of the outlet
    with pytest.raises(ValueError, match="per unit of time enters"):
        SmokeStepper(Grid(cells, walls=OPEN), nearest, dt=0.1, inflows=[EAST])


@pytest.mark.parametrize(
    ("inflow", "says"),
    [
        (Inflow(2, "low", (1.0, 0.0)), "needs an axis from 0 to 1"),
        (Inflow(0, "left", (1.0, 0.0)), 'an end, "low" or "high", got 0 and \'left\''),  # type: ignore[arg-type]
        (Inflow(0, "low", (1.0,)), "one finite component per axis"),
        (Inflow(0, "low", (np.nan, 0.0)), "one finite component per axis"),
        (Inflow(0, "high", (1.0, 0.0)), 'that at the high end of axis 0 is "air"'),
        (Inflow(1, "high", (1.0, 0.0), region=box((0, 0), (6, 1))), "covers no open cell at the high end of axis 1"),
    ],
)
def test_what_is_malformed(inflow: Inflow, says: str) -> None:
    with pytest.raises(ValueError, match="inflow") as caught:
        Openings(Grid(np.zeros((6, 4)), walls=OPEN), [inflow])
    assert says in str(caught.value)


def pour(cells: np.ndarray, steps: int, *inflows: Inflow, level: float = -5.0) -> Any:
    tank = LiquidStepper(Grid(cells), exact, gravity=1.0, dt=0.25, inflows=inflows)
    height = np.broadcast_to(np.arange(cells.shape[1]) + 0.5 - level, cells.shape)
    state = tank.start(height)
    volumes, times = [state.volume], [0.0]
    for _ in range(steps):
        state = tank.step(state)[0]
        volumes.append(state.volume)
        times.append(state.time)
    return state, np.diff(volumes) / np.diff(times)


def test_a_tank_fills_by_what_enters_and_empties_by_what_leaves() -> None:
    jet = Inflow(0, "low", (2.0, 0.0), region=box((0, 6), (1, 8)))
    state, rates = pour(np.zeros((12, 10)), 20, jet)
    np.testing.assert_allclose(rates, 2 * 2, rtol=1e-12)
    found = float(np.clip(0.5 - state.phi, 0, 1).sum())
    assert found == pytest.approx(state.volume, rel=0.15)
    assert (state.phi[0, 6:8] < 0).all()
    assert (state.phi[2:, 0] < 0).any()  # it has arrived at the bottom
    drain = Inflow(1, "low", (0.0, -0.5), region=Shape(lambda x: (x[0] > 4) & (x[0] < 8) & (x[1] > -1)))
    state, rates = pour(np.zeros((12, 10)), 12, drain, level=6.0)
    np.testing.assert_allclose(rates, -4 * 0.5, rtol=1e-12)
    assert float(np.clip(0.5 - state.phi, 0, 1).sum()) == pytest.approx(state.volume, rel=0.02)


def test_a_nozzle_lets_fluid_out_on_one_side() -> None:
    tap = box((4, 5), (7, 8))
    grid = domain((10, 10), solid=tap, walls=["solid", ("air", "solid")])
    inflow = Inflow(1, "high", (0.0, -2.0), region=tap, nozzle=True, density=1.0)
    openings = Openings(grid, [inflow])
    assert np.argwhere(openings.cells[0]).tolist() == [[4, 4], [5, 4], [6, 4]]
    (layer,) = openings.layers(1.0, most=9.0)
    assert sorted({int(j) for _, j in np.argwhere(layer)}) == [3, 4]
    state = blow(SmokeStepper(grid, exact, dt=0.5, inflows=[inflow]), 20)
    assert state.velocity[1][4:7, 5].tolist() == [-2.0] * 3
    assert not state.velocity[1][4:7, 8].any()
    assert state.velocity[1][:, 0].sum() == pytest.approx(-6.0)  # it leaves through the open bottom
    assert state.density[5, 0] > 0.5
    cells = np.zeros((12, 10))
    cells[0:2, 6:8] = Cell.SOLID
    tap = box((0, 6), (2, 8))
    _, rates = pour(cells, 8, Inflow(0, "low", (1.5, 0.0), region=tap, nozzle=True))
    np.testing.assert_allclose(rates, 2 * 1.5, rtol=1e-12)
    with pytest.raises(ValueError, match="covers no open cell beside its nozzle"):
        Openings(Grid(np.zeros((6, 4))), [Inflow(0, "low", (1.0, 0.0), region=tap, nozzle=True)])


def test_a_full_tank_is_said_so() -> None:
    with pytest.raises(ValueError, match="since its chamber is full and closed"):
        pour(np.zeros((4, 4)), 1, Inflow(0, "low", (1.0, 0.0)), level=9.0)
