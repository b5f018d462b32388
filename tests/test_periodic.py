"""Boxes that repeat: the same flow from any place that is called the first cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from deepcd.pde import (
    Cell,
    Grid,
    LiquidStepper,
    PoissonSystem,
    SmokeStepper,
    Source,
    advect_scalars,
    advect_velocity,
    buoyancy,
    divergence,
    extrapolate,
    extrapolate_velocity,
    no_penetration,
    poisson,
    pressure_rhs,
    project,
    redistance,
    swirling_flow,
    vorticity_confinement,
)
from deepcd.pde.periodic import joined, narrowed, widened, widened_grid
from deepcd.solvers.deepcd import DeepCD

WALLS = ["periodic", "solid", "periodic"]
SHAPE = (7, 5, 6)
SHIFT = {0: 3, 2: -2}  # cells along each of the repeating axes


def ring(n: int) -> sp.csr_array:
    """The negative Laplacian of n cells in a ring."""
    return sp.csr_array(2 * sp.eye_array(n) - sp.eye_array(n, k=1) - sp.eye_array(n, k=-1)
                        - sp.eye_array(n, k=n - 1) - sp.eye_array(n, k=1 - n))  # fmt: skip


def chain(n: int) -> sp.csr_array:
    L = sp.csr_array(2 * sp.eye_array(n) - sp.eye_array(n, k=1) - sp.eye_array(n, k=-1)).tolil()
    L[0, 0] = L[n - 1, n - 1] = 1
    return sp.csr_array(L)


def grid(solid: bool = True, walls: Any = WALLS) -> Grid:
    cells = np.zeros(SHAPE, dtype=np.uint8)
    if solid:
        cells[5:7, 1:3, 0:2] = cells[0, 1, 0] = Cell.SOLID
    return Grid(cells, walls=walls, spacing=0.5)


def moved(field: np.ndarray) -> np.ndarray:
    return np.roll(field, tuple(SHIFT.values()), tuple(SHIFT))


def moved_flow(velocity: Any) -> tuple[np.ndarray, ...]:
    result = []
    for axis, component in enumerate(velocity):
        once = component[tuple(slice(0, n) for n in SHAPE)] if axis in SHIFT else component
        shifted = moved(once)
        if axis in SHIFT:
            shifted = np.concatenate([shifted, np.take(shifted, [0], axis)], axis)
        result.append(shifted)
    return tuple(result)


def moved_grid(before: Grid) -> Grid:
    return Grid(moved(before.cells), walls=before.walls, spacing=before.spacing)


def flow_on(g: Grid) -> tuple[np.ndarray, ...]:
    return no_penetration(g, [np.random.default_rng(3).standard_normal(c.shape) for c in swirling_flow(g)])


def same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def exact(system: PoissonSystem, b: np.ndarray, x0: np.ndarray) -> np.ndarray:
    """Solve a system whose null space is the constants."""
    n = len(b)
    bordered = sp.bmat([[system.A, np.ones((n, 1))], [np.ones((1, n)), None]], format="csc")
    return np.asarray(spsolve(bordered, np.append(b, 0.0))[:n])


def test_the_matrix_is_that_of_rings() -> None:
    I = [sp.eye_array(n) for n in SHAPE]  # noqa: E741
    expected = (
        sp.kron(sp.kron(ring(7), I[1]), I[2])
        + sp.kron(sp.kron(I[0], chain(5)), I[2])
        + sp.kron(sp.kron(I[0], I[1]), ring(6))
    )
    system = poisson(grid(solid=False))
    np.testing.assert_allclose(system.A.toarray(), 4 * expected.toarray())
    assert (np.diff(system.A.indices)[np.diff(np.repeat(np.arange(210), np.diff(system.A.indptr))) == 0] > 0).all()
    assert (system.component.max(), system.sealed.tolist()) == (0, [True])
    with_solid = poisson(grid())
    rows = with_solid.cells
    off = with_solid.A - sp.diags_array(with_solid.A.diagonal())
    np.testing.assert_allclose(off.toarray(), (system.A - sp.diags_array(system.A.diagonal())).toarray()[rows][:, rows])
    np.testing.assert_allclose(with_solid.A.sum(axis=1), 0, atol=1e-12)


def test_regions_go_on_at_the_other_end() -> None:
    cells = np.zeros((6, 4), dtype=np.uint8)
    cells[[1, 4]] = Cell.SOLID
    system = poisson(Grid(cells, walls=["periodic", "solid"]))
    assert system.component.reshape(4, 4)[:, 0].tolist() == [0, 1, 1, 0]
    assert "2 sealed chambers" in system.describe()


def test_walls_that_cannot_be() -> None:
    for walls in (["solid", ("periodic", "solid")], ["solid", ("periodic", "glass")]):
        with pytest.raises(ValueError, match="each wall is"):
            Grid(np.zeros((4, 4)), walls=walls)
    with pytest.raises(ValueError, match="at least three cells"):
        Grid(np.zeros((4, 2)), walls=["solid", "periodic"])


@pytest.mark.parametrize("along", [None, 0, 1])
def test_arrays_are_continued_and_cut_back(along: int | None) -> None:
    array = np.random.default_rng(0).standard_normal([n + (d == along) for d, n in enumerate((5, 3))])
    if along is not None:
        joined(array, along)
    wide = widened(array, [0, 1], 8, along)
    assert wide.shape == tuple(n + 16 for n in array.shape)
    np.testing.assert_array_equal(narrowed(wide, [0, 1], 8, along), array)
    np.testing.assert_array_equal(wide[:-5], wide[5:])
    assert widened_grid(grid(), 2).shape == (11, 5, 10)


G, THERE = grid(), moved_grid(grid())
FLOW = flow_on(G)
SCALARS = [np.random.default_rng(1).standard_normal(SHAPE) for _ in range(2)]
PASSES: dict[str, Callable[[Grid, Any, list[np.ndarray]], Any]] = {
    "scalars": lambda g, u, s: advect_scalars(s, u, 1.3, 0.5, inside=g.fluid, periodic=g.periodic),
    "extrapolate": lambda g, u, s: [extrapolate(s[0], g.fluid, 2, g.periodic)],
    "extrapolate all": lambda g, u, s: [extrapolate(s[0], g.fluid, None, g.periodic)],
    "redistance": lambda g, u, s: [redistance(s[0], 0.5, inside=g.fluid, reach=1.5, periodic=g.periodic)],
    "redistance all": lambda g, u, s: [redistance(s[0] - 1.5, 0.5, periodic=g.periodic)],
    "divergence": lambda g, u, s: [divergence(g, u)],
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_over_cells_know_no_first_cell(name: str) -> None:
    found = PASSES[name](THERE, moved_flow(FLOW), [moved(s) for s in SCALARS])
    same(found, [moved(field) for field in PASSES[name](G, FLOW, SCALARS)])


FLOWS: dict[str, Callable[[Grid, Any], Any]] = {
    "velocity": lambda g, u: advect_velocity(u, 1.3, 0.5, inside=g.fluid, periodic=g.periodic),
    "extrapolate": lambda g, u: extrapolate_velocity(g, u, 2),
    "extrapolate all": extrapolate_velocity,
    "confinement": lambda g, u: vorticity_confinement(g, u, 0.7),
    "no penetration": no_penetration,
}


@pytest.mark.parametrize("name", FLOWS)
def test_passes_over_faces_know_no_first_cell(name: str) -> None:
    found = FLOWS[name](THERE, moved_flow(FLOW))
    same(found, moved_flow(FLOWS[name](G, FLOW)))
    for axis in G.periodic:
        np.testing.assert_array_equal(np.take(found[axis], 0, axis), np.take(found[axis], -1, axis))


def test_a_scalar_goes_round() -> None:
    flow = [np.full((8, 5, 6), 4.5), np.zeros((7, 6, 6)), np.zeros((7, 5, 7))]
    (found,) = advect_scalars([SCALARS[0]], flow, 1.0, 0.5, periodic=(0, 2))
    np.testing.assert_allclose(found, np.roll(SCALARS[0], 9, 0), atol=1e-12)


def test_warm_cells_at_the_ends_of_a_repeating_height() -> None:
    heat = np.array([[1.0, 0.0, 3.0]])
    assert buoyancy(0 * heat, heat, 0.0, 2.0, periodic=True).tolist() == [[4.0, 1.0, 3.0, 4.0]]


def test_the_projection_leaves_no_divergence() -> None:
    system = poisson(G)
    b = pressure_rhs(system, FLOW)
    assert abs(b.sum()) < 1e-10
    free = project(system, FLOW, exact(system, b, b))
    assert np.abs(divergence(G, free)).max() < 1e-11
    for axis in G.periodic:
        np.testing.assert_array_equal(np.take(free[axis], 0, axis), np.take(free[axis], -1, axis))


def test_smoke_knows_no_first_cell() -> None:
    source = np.zeros(SHAPE, dtype=bool)
    source[0:2, 3, 5] = True
    states = []
    for g, region in ((G, source), (THERE, moved(source))):
        stepper = SmokeStepper(g, exact, dt=0.3, beta=3.0, epsilon=0.5, sources=[Source(region, 1.0, 1.0, (1, 0, 2))])
        state = stepper.start()
        for _ in range(4):
            state = stepper.step(state)[0]
        states.append(state)
    one, other = states
    same([other.density, other.temperature], [moved(one.density), moved(one.temperature)])
    same(other.velocity, moved_flow(one.velocity))
    assert one.density[G.fluid].max() > 0.5


def test_liquid_knows_no_first_cell() -> None:
    i, j = np.ogrid[:12, :8]
    walls = ["periodic", "solid"]
    cells = np.zeros((12, 8), dtype=np.uint8)
    cells[0:2, 0:3] = Cell.SOLID
    level = np.where(cells == Cell.SOLID, 5.0, np.maximum(np.abs(i - 1.0) - 3.3, 0 * j + j - 5.0))
    tanks = []
    for shift in (0, 5):
        g = Grid(np.roll(cells, shift, 0), walls=walls)
        tank = LiquidStepper(g, lambda system, b, x0: spsolve(system.A, b), gravity=1.0, dt=0.5)
        state = tank.start(np.roll(level, shift, 0))
        for _ in range(6):
            state = tank.step(state)[0]
        tanks.append(state)
    np.testing.assert_allclose(tanks[1].phi, np.roll(tanks[0].phi, 5, 0), atol=1e-10)
    assert tanks[0].volume == pytest.approx(tanks[1].volume)


@pytest.mark.compiled
def test_deepcd_takes_the_matrix_as_any_other() -> None:
    g = Grid(np.zeros((16, 16, 16)), walls=["periodic", "periodic", ("solid", "air")])
    system = poisson(g)
    b = np.random.default_rng(0).standard_normal(4096)
    for solution in (DeepCD().setup(g).solve(b, 1e-8), DeepCD().setup(system.A).solve(b, 1e-8)):
        assert solution.info == 0
        assert np.linalg.norm(b - system.A @ solution.x) <= 1e-8 * np.linalg.norm(b)
