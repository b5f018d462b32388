"""Meshes and graphs by name: what `deepcd bench` draws of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from deepcd import DeepCD
from deepcd.data.random_graphs import GRAPHS, random_graph
from deepcd.data.random_meshes import SHAPES, Shape, random_mesh
from deepcd.solvers.bench.linear_problem import MeshProblem
from deepcd.solvers.bench.mesh_problems import MESHES, PROBLEMS
from deepcd.solvers.bench.methods import METHODS, Unsuited

AREAS = {
    "square": 1.0, "l-shape": 3.0, "airfoil": 5.918, "cube": 1.0, "thin plate": 0.24,
}  # fmt: skip


def small(name: str) -> int:
    """Return nodes per edge of a small problem."""
    return 8 if name in ("tetrahedra", "bracket", "thin-plate", "p2-tetrahedra", "q1-hexahedra") else 20


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_can_be_solved_and_is_the_same_each_time(name: str) -> None:
    problem, again = next(PROBLEMS[name](small(name))), next(PROBLEMS[name](small(name)))
    A = problem.A
    np.testing.assert_array_equal(problem.b, again.b)
    np.testing.assert_array_equal(A.data, again.A.data)
    assert abs(A - A.T).max() == 0
    assert (A.diagonal() > 0).all()
    if name in MESHES:
        assert isinstance(problem, MeshProblem)
        assert problem.points.shape == (A.shape[0], problem.points.shape[1])
        assert np.isfinite(problem.points).all()
    solution = DeepCD.solve(A, problem.b, 1e-8)
    assert solution.info == 0, solution.message
    assert problem.judge(solution.x) <= 1.001e-8


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_graphs_are_connected_and_diagonally_dominant(name: str, seed: int) -> None:
    A = random_graph(name, 600, np.random.default_rng(seed))
    assert 150 < A.shape[0] <= 1000
    assert connected_components(A, directed=False)[0] == 1
    off = A.copy()
    off.setdiag(0)
    assert off.data.max() <= 0
    sums = A.sum(axis=1)
    assert (sums >= -1e-9 * A.diagonal()).all()
    singular = (sums <= 1e-9 * A.diagonal()).all()
    assert singular or name != "landscape-log-normal"


@pytest.mark.parametrize("name", SHAPES)
def test_cells_fill_their_shape(name: str) -> None:
    points, cells = random_mesh(name, 3000, np.random.default_rng(0))
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volumes = np.abs(np.linalg.det(edges)) / (2 if points.shape[1] == 2 else 6)
    probes = np.array(SHAPES[name].low) + np.random.default_rng(1).random((100_000, points.shape[1])) * (
        np.array(SHAPES[name].high) - SHAPES[name].low
    )
    sides = float(np.prod(np.array(SHAPES[name].high) - SHAPES[name].low))
    expected = AREAS.get(name, float(np.mean(SHAPES[name].distance(probes) < 0)) * sides)
    assert volumes.sum() == pytest.approx(expected, rel=0.03)
    assert volumes.min() > 0
    np.testing.assert_array_equal(np.unique(cells), np.arange(len(points)))
    assert (SHAPES[name].distance(points) < 1e-2).all()


def test_a_shape_of_ones_own() -> None:
    circle = Shape(lambda x: np.hypot(x[:, 0], x[:, 1]) - 2, (-2, -2), (2, 2))
    points, cells = random_mesh(circle, 500, np.random.default_rng(0))
    assert 350 < len(points) < 700
    assert np.hypot(*points.T).max() == pytest.approx(2, abs=1e-3)
    assert cells.dtype == np.int32


def test_auto_makes_use_of_points_and_others_do_not() -> None:
    problem = next(PROBLEMS["l-shape"](60))
    few, many = (METHODS[name](problem, 1e-6, 1) for name in ("auto", "auto-no-points"))
    assert few.iterations < 10 < many.iterations
    assert max(problem.judge(few.x), problem.judge(many.x)) <= 1.001e-6
    with pytest.raises(Unsuited, match="box of cells"):
        METHODS["pfmg"](problem, 1e-6, 1)
