"""Pressure systems of cut cells: the same matrix as of whole cells and of diffusion, orders, what is sealed, disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepcd import DeepCD
from deepcd.pde import (
    Cell,
    CutSystem,
    Grid,
    PoissonSystem,
    PressureSolve,
    ball,
    diffusion,
    divergence,
    domain,
    fractions,
    free_surface,
    half_space,
    load_solves,
    poisson,
    pressure_rhs,
    pressure_step,
    project,
    redistance,
    save_solves,
    swirling_flow,
)
from deepcd.pde.mac import faces_of
from deepcd.pde.solids import Solids, corner_distance

from .pressure import exact_pressure

WALLS = [["solid", "solid", ("solid", "air")], ["periodic", ("air", "solid"), "solid"], "solid"]


@pytest.mark.parametrize("walls", WALLS, ids=str)
@pytest.mark.parametrize("air_at", ["center", "face"])
def test_whole_cells_have_the_matrix_of_poisson(walls: Any, air_at: Any) -> None:
    """To the last bit, with the same right-hand side and projection, so that its grid is found as before."""
    grid = domain((7, 6, 5), solid=ball((3, 3, 2), 1.9), walls=walls, spacing=0.3, air_at=air_at)
    cut, whole = Solids(grid).system(), poisson(grid)
    assert (cut.A != whole.A).nnz == 0
    np.testing.assert_array_equal(cut.cells, whole.cells)
    np.testing.assert_array_equal(cut.isolated, whole.isolated)
    np.testing.assert_array_equal(cut.sealed, whole.sealed)
    flow = swirling_flow(grid, 1)
    np.testing.assert_array_equal(cut.divergence(flow), divergence(grid, flow))
    p = exact_pressure(whole, pressure_rhs(whole, flow))
    for one, other in zip(cut.project(flow, p), project(whole, flow, p), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    assert DeepCD().setup(cut.A).preconditioner == DeepCD().setup(whole.A).preconditioner


def test_cut_cells_have_the_matrix_of_diffusion() -> None:
    phi = np.broadcast_to(np.arange(8) - 4.7, (6, 8))
    cells = np.where(phi < 0, Cell.FLUID, Cell.AIR)
    opened = fractions(half_space((0.0, 1.7), (0.2, 1.0)), (6, 8)).faces
    system = CutSystem(Grid(cells), opened, free_surface(phi, [np.ones(part.shape) for part in opened]))
    expected = diffusion(Grid(cells), free_surface(phi, opened))
    inner = expected.A  # whose walls are closed as well
    system = CutSystem(system.grid, opened, tuple(_closed(s, axis) for axis, s in enumerate(system.slopes)))
    np.testing.assert_allclose(system.A.toarray(), inner.toarray(), rtol=1e-13)


def _closed(slope: np.ndarray, axis: int) -> np.ndarray:
    result = slope.copy()
    np.moveaxis(result, axis, 0)[[0, -1]] = 0.0
    return result


@pytest.mark.parametrize("walls", WALLS, ids=str)
def test_what_is_projected_is_free_of_divergence(walls: Any) -> None:
    """In cells that a ball cuts which moves, in a closed box as well."""
    grid = Grid(np.zeros((9, 8, 7)), walls=walls, spacing=0.5)
    motion = tuple(
        np.full(face.shape, speed) for face, speed in zip(swirling_flow(grid), (0.3, -0.2, 0.1), strict=True)
    )
    solids = Solids(grid, corner_distance(ball((2.2, 1.9, 1.7), 1.1), grid), motion)
    system = solids.system()
    flow, _, solved = pressure_step(system, swirling_flow(grid, 3), np.zeros(grid.shape), exact_pressure, motion)
    assert solved.left < 1e-11
    assert solved.left == np.abs(system.divergence(flow, motion)).max()
    assert np.abs(system.divergence(flow)).max() > 0.1
    assert system.sealed.tolist() == [walls == "solid"]


def turning(n: int) -> float:
    """Return the largest error of the pressure of a liquid that turns, and is at rest in its own frame."""
    solids = Solids(Grid(np.zeros((n, n)), spacing=1 / n))
    x, z = np.meshgrid(*[(np.arange(n) + 0.5) / n] * 2, indexing="ij")
    exact = 0.37 + 0.8 * (x - 0.5) ** 2 - z
    phi = redistance(-exact, 1 / n)
    grid = Grid(np.where(phi < 0, Cell.FLUID, Cell.AIR), spacing=1 / n)
    system = CutSystem(grid, solids.opened, free_surface(phi, solids.slopes()))
    pull = 1.6 * (np.arange(n + 1) / n - 0.5)[:, None] + np.zeros((1, n)), np.full((n, n + 1), -1.0)
    flow, pressure, _ = pressure_step(system, solids.held(pull), np.zeros((n, n)), exact_pressure)
    assert max(np.abs(u[faces_of(phi < 0, grid, axis)]).max() for axis, u in enumerate(flow)) < 0.5 / n
    return float(np.abs(pressure - exact)[phi < 0].max())


def test_the_pressure_under_a_curved_surface_is_of_order_two() -> None:
    assert np.log2(turning(16) / turning(128)) / 3 > 1.7  # errors are uneven from one grid to the next


@pytest.mark.parametrize("ndim", [2, 3])
def test_deepcd_solves_them_as_bare_matrices(ndim: int) -> None:
    grid = Grid(np.zeros((24,) * ndim), walls=[*["solid"] * (ndim - 1), ("solid", "air")])
    system = Solids(grid, corner_distance(ball([12.3] * ndim, 5.7), grid)).system()
    b = -system.from_field(system.divergence(swirling_flow(grid)))
    solution = DeepCD(preconditioner="geometric-multigrid").solve(system.A, b, tol=1e-8)
    assert solution.info == 0
    assert solution.iterations <= 9


def test_systems_come_back_from_disk(tmp_path: Path) -> None:
    grid = Grid(np.zeros((6, 5)), walls=["air", "solid"], spacing=0.5)
    cut, whole = Solids(grid, corner_distance(ball((1.4, 1.2), 0.7), grid)).system(), poisson(grid)
    systems: list[CutSystem | PoissonSystem] = [cut, cut, whole]
    vectors = [np.arange(float(len(system.cells))) for system in systems]
    solves = [PressureSolve(system, b, b) for system, b in zip(systems, vectors, strict=True)]
    assert save_solves(tmp_path / "run", solves) == 3
    one, two, three = load_solves(tmp_path / "run")
    assert one.system is two.system
    assert (one.system.A != cut.A).nnz == 0
    assert (three.system.A != whole.A).nnz == 0
    assert not isinstance(three.system, CutSystem)
    np.testing.assert_array_equal(two.b, vectors[1])
