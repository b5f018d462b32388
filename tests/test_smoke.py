"""Smoke: what a step keeps, what rises, what obstacles do, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from deepcd.pde import (
    Cell,
    CutSystem,
    Grid,
    Inflow,
    Shape,
    SmokeState,
    SmokeStepper,
    Source,
    ball,
    box,
    divergence,
    domain,
    fractions,
    half_space,
    swirling_flow,
    together,
    turning,
)
from deepcd.pde.mac import sides

from .pressure import Direct


def stepper(grid: Grid, **options: Any) -> SmokeStepper:
    return SmokeStepper(grid, Direct(), **{"dt": 0.5, **options})


def after(steps: int, smoke: SmokeStepper, state: SmokeState | None = None) -> SmokeState:
    for new, _ in islice(smoke.iterate(state), steps):
        state = new
    assert state is not None
    return state


def blob(grid: Grid, middle: tuple[float, ...], radius: float) -> np.ndarray:
    """Smooth, 1 in the middle."""
    x = [(i + 0.5) * grid.spacing for i in np.ogrid[tuple(map(slice, grid.shape))]]
    bell: np.ndarray = np.exp(-sum((a - m) ** 2 for a, m in zip(x, middle, strict=True)) / (2 * radius**2))
    return bell


BOXES = {
    "closed": domain((10, 9, 12), solid=ball((5, 4, 6), 2)),
    "open": domain((10, 9, 12), solid=ball((5, 4, 6), 2), walls=["solid", "air", ("solid", "air")], spacing=0.2),
    "plane": domain((16, 20), solid=ball((8, 10), 2.5), walls=["solid", ("solid", "air")]),
}


@pytest.mark.parametrize("name", BOXES)
def test_every_step_is_free_of_divergence(name: str) -> None:
    grid = BOXES[name]
    h, middle = grid.spacing, [n / 2 * grid.spacing for n in grid.shape]
    middle[-1] = 2.5 * h
    source = Source(ball(middle, 2 * h), 1.0, 2.0, [0.0] * (len(grid.shape) - 1) + [0.3])
    smoke = stepper(grid, sources=[source], alpha=0.1, epsilon=0.3, dt=0.3)
    systems = []
    for state, solved in islice(smoke.iterate(), 8):
        assert np.abs(divergence(grid, state.velocity)).max() < 1e-12
        for axis, component in enumerate(state.velocity):
            low, high = sides(grid, axis)
            assert (component[(low == Cell.SOLID) | (high == Cell.SOLID)] == 0).all()
        assert (state.density[~grid.fluid] == 0).all()
        assert state.density.min() >= 0
        assert state.density.max() <= 1
        systems.append(solved.system)
    assert state.frame == 8
    assert max(np.abs(u).max() for u in state.velocity) > 0.1
    assert all(system is systems[0] for system in systems)  # prepared once


@pytest.mark.compiled
@pytest.mark.parametrize(("shape", "bound"), [((64, 64), 0.01), ((20, 20, 20), 0.03)])
def test_smoke_in_a_closed_box_is_kept(shape: tuple[int, ...], bound: float) -> None:
    """Not by construction: the limiter fills undershoots. The finer the grid for the eddies, the less."""
    grid = domain(shape, spacing=1 / shape[0])
    smoke = stepper(grid, dt=0.5 / shape[0], beta=0.0)
    stirred = swirling_flow(grid, 1, stream=[0.0] * len(shape), swirls=3)
    start = replace(smoke.start(), velocity=stirred, density=blob(grid, (0.45,) * len(shape), 0.12))
    state = after(shape[0], smoke, start)
    assert state.density.sum() == pytest.approx(start.density.sum(), rel=bound)
    assert np.abs(state.density - start.density).max() > 0.2


@pytest.mark.compiled
@pytest.mark.parametrize("sign", [1, -1])
def test_hot_smoke_rises_and_heavy_smoke_falls(sign: int) -> None:
    grid = domain((12, 12, 24))
    shape = blob(grid, (6, 6, 12), 2.0)
    options: dict[str, float] = {"beta": 0.5} if sign > 0 else {"alpha": 0.5, "beta": 0.0}
    smoke = stepper(grid, **options)
    state = after(16, smoke, replace(smoke.start(), density=shape, temperature=shape))
    height = np.arange(24) + 0.5
    before, now = (float((field.sum(axis=(0, 1)) * height).sum() / field.sum()) for field in (shape, state.density))
    assert sign * (now - before) > 1.0


def test_the_first_push_of_buoyancy() -> None:
    """A layer that fills the box rises freely only if it can: here it is held by the lid, and nothing moves."""
    grid = domain((6, 6, 8))
    smoke = stepper(grid)
    layer = np.zeros(grid.shape)
    layer[..., 3:5] = 1.0
    state = after(3, smoke, replace(smoke.start(), temperature=layer))
    assert max(np.abs(u).max() for u in state.velocity) < 1e-14
    np.testing.assert_allclose(state.temperature, layer, rtol=0, atol=1e-13)


def test_a_uniform_flow_goes_on() -> None:
    grid = domain((9, 8, 7), walls="air")
    smoke = stepper(grid, epsilon=5.0)
    stream = (0.3, -0.2, 0.1)
    uniform = tuple(np.full_like(u, s) for u, s in zip(smoke.start().velocity, stream, strict=True))
    state = after(3, smoke, replace(smoke.start(), velocity=uniform))
    for component, speed in zip(state.velocity, stream, strict=True):
        np.testing.assert_allclose(component, speed, rtol=0, atol=1e-14)


@pytest.mark.compiled
@pytest.mark.parametrize("shape", [(16, 12, 20), (15, 24)])
def test_a_symmetric_plume_stays_symmetric(shape: tuple[int, ...]) -> None:
    middle = [n / 2 for n in shape]
    low, high = [*middle[:-1], 3.0], [*middle[:-1], shape[-1] * 0.7]
    grid = domain(shape, solid=ball(high, 2.2), walls=[*["solid"] * (len(shape) - 1), ("solid", "air")])
    state = after(12, stepper(grid, sources=[Source(ball(low, 2.1), 1.0, 1.0)], beta=0.3, epsilon=0.2))
    assert state.velocity[-1].max() > 0.5
    for field in (*state.velocity[1:], state.density, state.temperature):
        np.testing.assert_allclose(field, field[::-1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(state.velocity[0], -state.velocity[0][::-1], rtol=0, atol=1e-10)


def test_threads_change_nothing() -> None:
    grid = BOXES["closed"]
    source = Source(ball((5, 4, 2), 2), 1.0, 1.0)
    one, two = (after(4, stepper(grid, sources=[source], epsilon=0.2, threads=threads)) for threads in (1, 2))
    for a, b in zip((*one.velocity, one.density), (*two.velocity, two.density), strict=True):
        np.testing.assert_array_equal(a, b)


def test_time_steps_follow_the_speed() -> None:
    grid = domain((8, 8), walls="air", spacing=0.5)
    smoke = stepper(grid, dt=10.0, cfl=1.5)
    fast = tuple(np.full_like(u, 3.0) for u in smoke.start().velocity)
    assert after(1, smoke, replace(smoke.start(), velocity=fast)).time == pytest.approx(1.5 * 0.5 / 3.0)
    assert after(1, smoke).time == 10.0


def test_sources_set_what_they_say() -> None:
    grid = domain((10, 10), solid=box((0, 0), (3, 10)), walls=["solid", "air"])
    region = np.zeros((10, 10), dtype=bool)
    region[2:5, 4:6] = True
    state = after(
        1, stepper(grid, beta=0.0, sources=[Source(region, density=0.7), Source(box((6, 6), (8, 8)), None, 2.0)])
    )
    np.testing.assert_array_equal(state.density, np.where(region & grid.fluid, 0.7, 0.0))
    assert (state.temperature > 0).sum() == 4
    assert all((u == 0).all() for u in state.velocity)
    jet = after(1, stepper(grid, sources=[Source(region, velocity=(0.0, 1.0))]))
    assert jet.velocity[1][4, 5] > 0.2
    assert (jet.density == 0).all()


def paddle(time: float) -> tuple[Shape, tuple[float, float, float]]:
    """Move a plate along the first axis."""
    return box((3 + time, 2, 2), (5 + time, 7, 8)), (1.0, 0.0, 0.0)


def test_a_moving_obstacle_pushes() -> None:
    """In a closed box with a solid of its own; b has to be compatible with the sealed chamber."""
    grid = domain((14, 9, 10), solid=box((12, 0, 0), (14, 3, 3)))
    smoke = stepper(grid, obstacle=paddle, dt=0.4)
    state, systems = smoke.start(), []
    for state, solved in islice(smoke.iterate(), 8):
        opened = fractions(paddle(state.time)[0], grid.shape)
        now = solved.system.grid
        solid = (opened.volume == 0) | (grid.cells == Cell.SOLID)
        np.testing.assert_array_equal(now.cells == Cell.SOLID, solid)
        assert abs(solved.b.sum()) < 1e-13 * np.abs(solved.b).sum()
        assert solved.left < 1e-12
        low, high = sides(grid, 0)
        fixed = (low == Cell.SOLID) | (high == Cell.SOLID)
        assert (state.velocity[0][fixed] == 0).all()
        i = int(state.time) + 4  # faces that the plate covers in part: what it sweeps flows back beside it
        assert np.sum(opened.faces[0][i] * state.velocity[0][i]) == pytest.approx(-30.0, rel=1e-9)
        systems.append(solved.system)
    assert len({id(system) for system in systems}) == 8  # its front cuts cells at other places each time
    assert np.abs(state.velocity[1]).max() > 0.1


def test_cells_move_with_a_solid_that_is_no_shape() -> None:
    """Whole cells take the velocity of the obstacle, and the system is new only when the cells are."""
    grid = domain((14, 9, 10))

    def plate(time: float) -> tuple[Any, tuple[float, float, float]]:
        return Shape(paddle(time)[0].contains), (1.0, 0.0, 0.0)

    systems = []
    for state, solved in islice(stepper(grid, obstacle=plate, dt=0.4).iterate(), 8):
        cells = domain(grid.shape, solid=paddle(state.time)[0])
        low, high = sides(cells, 0)
        beside = (low == Cell.SOLID) | (high == Cell.SOLID)
        beside[[0, -1]] = False
        assert (state.velocity[0][beside] == 1.0).all()
        assert np.abs(divergence(solved.system.grid, state.velocity)).max() < 1e-12
        systems.append(solved.system)
    assert len({id(system) for system in systems}) == 4  # the plate is in new cells in every other step or so


def test_two_solids_turn_side_by_side() -> None:
    """Both cut cells, in a closed box, and each face moves with the nearer one."""
    grid = domain((14, 10, 6))
    plates = [turning(box((3 + 6 * k, 3.3, 1), (4.4 + 6 * k, 6.7, 5)), grid, (3.7 + 6 * k, 5), 8.0 - 16 * k)
              for k in (0, 1)]  # fmt: skip
    smoke = stepper(grid, obstacle=together(plates, grid), dt=0.4)
    steps = list(islice(smoke.iterate(), 4))
    assert max(step.solved.left for step in steps) < 1e-12
    state = steps[-1].state
    first, last = (plate(state.time) for plate in plates)
    region, motion = together(plates, grid)(state.time)
    assert isinstance(region, Shape)
    assert region.distance is not None
    for part, (_, own) in ((slice(7), first), (slice(8, None), last)):
        np.testing.assert_array_equal(np.asarray(motion[0])[part], np.asarray(own[0])[part])
    assert max(np.abs(u).max() for u in state.velocity) > 0.5


def test_an_obstacle_that_lies_still_may_have_a_velocity() -> None:
    """A conveyor drags along nothing, a vent blows: the faces have the velocity, and the grid stays the same object."""
    grid = domain((8, 8), walls=["solid", "air"])
    cells = np.zeros((8, 8), dtype=bool)
    cells[3:5, 2] = True
    blowing = np.zeros((8, 9))
    blowing[3:5, 3] = 1.0
    smoke = stepper(grid, obstacle=lambda _: (cells, (0.0, blowing)))
    systems = [solved.system for _, solved in islice(smoke.iterate(), 4)]
    state = after(3, smoke)
    assert all(system is systems[0] for system in systems)
    assert (state.velocity[1][3:5, 3] == 1.0).all()
    assert (state.velocity[1][3:5, 2] == 0.0).all()
    assert state.velocity[1][3:5, 4].min() > 0.1


def test_a_step_is_a_pair_with_its_time() -> None:
    smoke = stepper(domain((6, 8)))
    step = smoke.step(smoke.start())
    state, solved = step
    assert (step.state, step.solved) == (state, solved)
    assert step.advection_seconds > 0
    assert next(smoke.iterate(state)).state.frame == 2


def test_a_run_goes_on_from_any_state() -> None:
    """Also with another stepper, and from a time that is not the last one."""
    grid = domain((14, 9, 10))
    states = [state for state, _ in islice(stepper(grid, obstacle=paddle, dt=0.4).iterate(), 6)]
    smoke = stepper(grid, obstacle=paddle, dt=0.4)
    for _ in range(2):
        again = after(3, smoke, states[2])
        assert again.time == states[5].time
        for a, b in zip(again.velocity, states[5].velocity, strict=True):
            np.testing.assert_array_equal(a, b)


def test_slow_flow_along_a_wall_is_not_held_back() -> None:
    """Walls and solids do not rub: a stream along a flat plate keeps its speed up to the plate."""
    grid = domain((12, 8), solid=box((0, 0), (12, 3)), walls=["air", "solid"])
    smoke = stepper(grid)
    u = np.where(np.arange(8) < 3, 0.0, 0.5) * np.ones((13, 1))
    state = after(5, smoke, replace(smoke.start(), velocity=(u, np.zeros((12, 9)))))
    np.testing.assert_allclose(state.velocity[0][:, 3:], 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normal", [(0.0, 1.0), (0.3, 1.0), (-1.0, 1.0), (2.0, -1.0)])
def test_a_tilted_wall_does_not_rub_either(normal: tuple[float, float]) -> None:
    """A stream along a plane that cuts cells stays as it is."""
    wall = half_space((6.2, 5.1), normal)
    smoke = SmokeStepper(domain((12, 10), walls="air"), Direct(), dt=0.5, solid=wall)
    start = smoke.start()
    stream = [np.full_like(u, speed) for u, speed in zip(start.velocity, (normal[1], -normal[0]), strict=True)]
    state = after(5, smoke, replace(start, velocity=tuple(stream)))
    for component, speed, opened in zip(state.velocity, (normal[1], -normal[0]), smoke.solids.opened, strict=True):
        np.testing.assert_allclose(component[opened > 0], speed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_ball_that_moves_with_the_flow_does_not_disturb_it(ndim: int) -> None:
    """All flux through the cut faces is that of the motion."""
    stream = (0.4, -0.3, 0.2)[:ndim]

    def ball_at(time: float) -> tuple[Shape, tuple[float, ...]]:
        return ball([4.0 + time * speed for speed in stream], 2.3), stream

    grid = domain((10, 9, 8)[:ndim], walls="air")
    smoke = SmokeStepper(grid, Direct(), dt=0.5, obstacle=ball_at)
    start = smoke.start()
    uniform = tuple(np.full_like(u, speed) for u, speed in zip(start.velocity, stream, strict=True))
    state = after(4, smoke, replace(start, velocity=uniform))
    for axis, (component, speed) in enumerate(zip(state.velocity, stream, strict=True)):
        opened = fractions(ball_at(state.time)[0], grid.shape).faces[axis] > 0.01
        np.testing.assert_allclose(component[opened], speed, rtol=0, atol=1e-12)


def test_what_flows_around_a_ball_keeps_its_volume_and_stays_outside() -> None:
    """Cells of which nothing is open hold no smoke, and the divergence of the open parts is that of the solve."""
    grid = domain((14, 12), walls=[("solid", "air"), "solid"])
    jet = Inflow(0, "low", (1.0, 0.0), density=1.0)
    smoke = SmokeStepper(grid, Direct(), dt=0.5, solid=ball((6.3, 5.9), 2.4), inflows=[jet])
    for state, solved in islice(smoke.iterate(), 10):
        assert solved.left < 1e-12
        for i in range(15):
            assert np.sum(smoke.solids.opened[0][i] * state.velocity[0][i]) == pytest.approx(12.0, rel=1e-12)
    assert (state.density[smoke.solids.volume == 0] == 0).all()
    assert state.density[1:3].min() > 0.9
    assert all(system is smoke.step(state).solved.system for system in [solved.system])


SQUARE = domain((4, 3))


def wrong_state(**changes: Any) -> Callable[[], object]:
    smoke = stepper(SQUARE)
    return lambda: smoke.step(replace(smoke.start(), **changes))


def with_obstacle(region: Any, velocity: Any) -> Callable[[], object]:
    return lambda: stepper(SQUARE, obstacle=lambda _: (region, velocity))


def no_solve(system: CutSystem, b: np.ndarray, x0: np.ndarray) -> np.ndarray:
    return b[:1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stepper(SQUARE, dt=0.0), "dt must be positive and finite, got 0.0"),
        (lambda: stepper(SQUARE, cfl=-1.0), "cfl must be positive and finite, got -1.0"),
        (lambda: stepper(SQUARE, threads=0), "threads must be positive"),
        (lambda: stepper(SQUARE, alpha=np.nan), "alpha must be finite, got nan"),
        (lambda: stepper(SQUARE, epsilon=-0.1), "epsilon must be .* got -0.1"),
        (lambda: stepper(Grid([[0, 2]])), "cells of air"),
        (lambda: stepper(SQUARE, sources=[Source(np.zeros((3, 4)))]), r"source must be a Shape or .* shape \(4, 3\)"),
        (lambda: stepper(SQUARE, sources=[Source(SQUARE.fluid, np.inf)]), "density of a source must be finite"),
        (
            lambda: stepper(SQUARE, sources=[Source(SQUARE.fluid, velocity=(1.0,))]),
            r"one finite component per axis \(2\)",
        ),
        (
            with_obstacle(np.zeros((3, 4)), (0.0, 0.0)),
            r"the obstacle must be a Shape or a bool array of shape \(4, 3\)",
        ),
        (with_obstacle(SQUARE.fluid, (0.0,)), r"one velocity per axis \(2\), got 1"),
        (with_obstacle(SQUARE.fluid, (0.0, np.zeros((4, 3)))), r"along axis 1 must be .* shape \(4, 4\)"),
        (with_obstacle(SQUARE.fluid, (np.nan, 0.0)), "along axis 0 must be a finite float"),
        (wrong_state(density=np.zeros((3, 4))), r"density must be finite and of shape \(4, 3\), got shape \(3, 4\)"),
        (wrong_state(temperature=np.full((4, 3), np.nan)), "temperature must be finite"),
        (wrong_state(pressure=np.full((4, 3), np.inf)), "pressure must be finite"),
        (wrong_state(velocity=(np.full((5, 3), np.nan), np.zeros((4, 4)))), "velocity holds NaN"),
        (wrong_state(velocity=(np.zeros((5, 3)),)), "velocity must hold one array per axis"),
        (lambda: after(1, SmokeStepper(SQUARE, no_solve, dt=1.0)), "solve must return"),
    ],
)
def test_malformed_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
