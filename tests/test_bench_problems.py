"""What the benchmark solves: boxes and their matrices, problems by name, and matrices from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.bench import hypre, mesh_problems, problems
from deepcd.solvers.bench.cases import from_files, named
from deepcd.solvers.bench.linear_problem import Box, BoxProblem, LinearProblem, PressureProblem
from deepcd.solvers.bench.problems import COEFFICIENTS, PROBLEMS

F64 = NDArray[np.float64]
TOL = 1e-6
BOXES = [name for name in PROBLEMS if name not in mesh_problems.PROBLEMS]


def random_box(shape: tuple[int, ...], seed: int = 0) -> Box:
    """Random weights, with a wall of missing faces and a cell that is no unknown."""
    rng = np.random.default_rng(seed)
    faces = tuple(rng.random(shape) * (rng.random(shape) > 0.2) for _ in shape)
    hole = tuple(n // 2 for n in shape)
    for axis, weights in enumerate(faces):
        np.moveaxis(weights, axis, 0)[-1] = 0
        weights[hole] = weights[(*hole[:axis], hole[axis] - 1, *hole[axis + 1 :])] = 0
    extra = rng.random(shape) * (rng.random(shape) > 0.7)
    extra[hole] = 0
    return Box(faces, extra)


def dense(box: Box) -> F64:
    """The operator of a box by its definition, cells without an unknown included."""
    A = np.diag(box.extra.ravel())
    number = np.arange(box.extra.size).reshape(box.extra.shape)
    for cell in np.ndindex(box.extra.shape):
        for axis, weights in enumerate(box.faces):
            if weights[cell]:
                i, j = number[cell], number[(*cell[:axis], cell[axis] + 1, *cell[axis + 1 :])]
                A[[i, j], [i, j]] += weights[cell]
                A[[i, j], [j, i]] -= weights[cell]
    return A


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 3)])
def test_the_matrix_of_a_box_is_the_one_of_its_definition(shape: tuple[int, ...]) -> None:
    box = random_box(shape)
    assert len(box.cells) == np.prod(shape) - 1
    np.testing.assert_allclose(box.matrix().toarray(), dense(box)[np.ix_(box.cells, box.cells)], atol=1e-15)
    v = np.arange(1.0, 1 + len(box.cells))
    assert box.spread(v).ravel()[np.prod(shape) // 2 if len(shape) == 2 else 0] == (0 if len(shape) == 2 else 1)
    np.testing.assert_array_equal(box.gather(box.spread(v), np.zeros_like(v)), v)


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 3)])
def test_the_entries_for_hypre_are_those_of_the_matrix(shape: tuple[int, ...]) -> None:
    box = random_box(shape)
    values = hypre.entries(box.faces, box.extra).reshape(-1, 1 + len(shape))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    A = np.diag(values[:, 0])
    for k, stride in enumerate(reversed(strides)):
        for cell in np.flatnonzero(values[:, 1 + k]):
            A[cell, cell - stride] = A[cell - stride, cell] = values[cell, 1 + k]
    expected = dense(box)
    empty = np.flatnonzero(~expected.any(axis=1))
    assert len(empty) == 1
    expected[empty, empty] = 1
    np.testing.assert_allclose(A, expected, atol=1e-15)


def test_the_residuals_that_hypre_prints_are_those_of_its_last_solve() -> None:
    head = "Iters       ||r||_2     conv.rate  ||r||_2/||b||_2\n-----    ------------    ---------  ------------\n"
    first, *last = (
        "    1    9.0e+00    0.9    9.0e-01\n",
        "    1    5.0e+00    0.5    5.0e-01\n",
        "    2 2e0 0.4 2e-1\n",
    )
    text = "\n\n".join([head + first, head + "".join(last), ""])
    assert hypre._printed(text) == [1, 0.5, 0.2]


@pytest.mark.skipif(bool(hypre.missing()), reason=hypre.missing() or "hypre is here")
@pytest.mark.parametrize("settings", [hypre.PFMGSettings(), hypre.PFMGSettings(sweeps=2)])
@pytest.mark.parametrize("shape", [(9, 12, 10), (21, 14)])
def test_pfmg_solves_with_coefficients_on_boxes_of_any_shape(
    shape: tuple[int, ...], settings: hypre.PFMGSettings
) -> None:
    box = Box(*problems.log_normal(shape, np.random.default_rng(1)))
    A, b = box.matrix(), np.random.default_rng(0).standard_normal(np.prod(shape))
    found = hypre.solve(box.faces, box.extra, box.spread(b), TOL, settings)
    assert np.linalg.norm(b - A @ found["x"].ravel()) <= 1.01 * TOL * np.linalg.norm(b)
    assert 3 <= found["iterations"] == len(found["residuals"]) - 1 < 40
    assert found["residuals"][-1] <= TOL


@pytest.mark.parametrize("name", BOXES)
def test_a_problem_is_a_compatible_system_that_is_the_same_each_time(name: str) -> None:
    for system, again in zip(PROBLEMS[name](12), PROBLEMS[name](12), strict=True):
        assert system.b.any()
        np.testing.assert_array_equal(system.b, again.b)
        assert (abs(system.A - system.A.T)).max() == 0
        least_squares = np.linalg.lstsq(system.A.toarray(), system.b, rcond=1e-13)[0]
        # What is incompatible leaves a residual near one; contrasts leave their own.
        assert system.judge(least_squares) <= (1e-6 if name in problems.FAMILIES else 1e-10)


@pytest.mark.parametrize("name", BOXES)
def test_the_box_of_a_problem_is_the_one_of_its_matrix(name: str) -> None:
    problem = next(PROBLEMS[name](11))
    box = problem.box()
    assert box is not None
    alone = problem.A.shape[0] - len(box.cells)
    assert alone == 0 or name == "porous"
    np.testing.assert_allclose(
        box.matrix().toarray(),
        problem.A[box.rows][:, box.rows].toarray(),
        rtol=1e-14,
        atol=1e-12 * abs(problem.A).max(),
    )


def test_the_moving_obstacle_is_a_sequence_of_different_matrices() -> None:
    frames = list(PROBLEMS["moving-obstacle"](16))
    assert len(frames) == problems.FRAMES
    assert len({frame.A.shape for frame in frames} | {frame.A.nnz for frame in frames}) > 1


@pytest.mark.parametrize("name", ["pure-neumann", "porous", "mixed-walls", *COEFFICIENTS])
def test_the_regular_matrix_has_a_solution_of_the_singular_system(name: str) -> None:
    problem = next(PROBLEMS[name](10))
    regular = problem.pinned().toarray()
    assert np.linalg.matrix_rank(regular) == len(problem.b)
    assert problem.judge(np.linalg.solve(regular, problem.b)) <= 1e-10
    if name in ("mixed-walls", "log-normal"):
        np.testing.assert_array_equal(regular, problem.A.toarray(), "a regular matrix stays as it is")


def test_coefficients_have_the_contrast_that_they_say() -> None:
    rng = np.random.default_rng(0)
    (x, _, _), extra = problems.ball_of_another_phase((16, 12, 10), rng)
    assert set(np.unique(x)) == {0, 1, 2 * 1000 / 1001, 1000}
    assert not extra.any()
    (x, _, _), extra = problems.log_normal((24, 20, 22), rng)
    inner = x[:-1]
    assert 1e2 < inner.max() / inner.min() < 1e7
    assert (extra[[0, -1]] > 0).all()
    assert not extra[1:-1].any()


def test_pressure_systems_are_warmed_up_by_a_small_one_and_others_by_themselves() -> None:
    plume, ball = named(["plume", "two-phase-ball"], [36])
    small = plume.warm_up()
    assert isinstance(small, PressureProblem)
    assert len(small.b) < len(next(plume.systems()).b)
    own = ball.warm_up()
    assert isinstance(own, BoxProblem)
    np.testing.assert_array_equal(own.b, next(ball.systems()).b)


def graph(seed: int) -> sp.csr_array:
    """The Laplacian of a connected graph."""
    rng = np.random.default_rng(seed)
    i, j = np.arange(40), (np.arange(40) + rng.integers(1, 40, 40)) % 40
    i, j = np.r_[i, np.arange(39)], np.r_[j, np.arange(1, 40)]
    W = sp.coo_array((rng.random(len(i)), (i, j)), shape=(40, 40))
    W = W + W.T
    return sp.csr_array(sp.diags_array(W @ np.ones(40)) - W)


def brought(A: sp.csr_array, folder: Path, b: F64 | None = None) -> LinearProblem:
    """What the benchmark makes of a matrix in a file."""
    sp.save_npz(folder / "A.npz", A)
    if b is not None:
        np.save(folder / "b.npy", b)
    case = from_files(folder / "A.npz", None if b is None else folder / "b.npy", TOL)
    assert case.problem == "A.npz" + "+b.npy" * (b is not None)
    (problem,) = case.systems()
    assert case.size == len(problem.b)
    assert problem.box() is None
    return problem


def test_without_a_right_hand_side_there_is_one_in_the_range_of_the_matrix(tmp_path: Path) -> None:
    A = sp.csr_array(sp.block_diag([graph(0), graph(1) + sp.eye_array(40), graph(2)]))
    order = np.random.default_rng(0).permutation(120)
    problem = brought(A[order][:, order], tmp_path)
    unordered = np.empty(120)
    unordered[order] = problem.b
    np.testing.assert_allclose([unordered[:40].sum(), unordered[80:].sum()], 0, atol=1e-12)
    assert abs(unordered[40:80].sum()) > 0.1
    np.testing.assert_array_equal(problem.b, brought(A[order][:, order], tmp_path).b)
    assert problem.judge(np.linalg.solve(problem.pinned().toarray(), problem.b)) <= 1e-10


def test_a_right_hand_side_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    A = graph(0)
    b = np.arange(40, dtype=np.float64) - 19.5
    np.testing.assert_array_equal(brought(A, tmp_path, b).b, b)
    with pytest.raises(ValueError, match=r"singular, and no x brings the residual below 8\.6e-02 of b"):
        brought(A, tmp_path, b + 1)
    brought(A + sp.eye_array(40), tmp_path, b + 1)
    with pytest.raises(ValueError, match="b is zero"):
        brought(A, tmp_path, 0 * b)
    with pytest.raises(ValueError, match=r"b\.npy: holds NaN"):
        brought(A, tmp_path, b / b[0] * np.nan)


def test_rows_without_entries_are_left_out(tmp_path: Path) -> None:
    A = sp.csr_array(sp.block_diag([graph(0), sp.csr_array((2, 2))]))
    b = np.r_[np.arange(40) - 19.5, 0, 0]
    problem = brought(A, tmp_path, b)
    assert problem.A.shape == (40, 40)
    np.testing.assert_array_equal(problem.b, b[:40])
    with pytest.raises(ValueError, match="row 41 of A has no entries"):
        brought(A, tmp_path, np.r_[b[:41], 1.0])
    with pytest.raises(ValueError, match="no entries other than zero"):
        brought(sp.csr_array((2, 2)), tmp_path)


def test_every_format_of_a_matrix_is_read(tmp_path: Path) -> None:
    A = graph(0)
    scipy.io.mmwrite(tmp_path / "A.mtx", A, precision=17)
    scipy.io.mmwrite(tmp_path / "b.mtx", (np.arange(40) - 19.5)[:, None])
    case = from_files(tmp_path / "A.mtx", tmp_path / "b.mtx", TOL)
    assert (case.problem, case.size) == ("A.mtx+b.mtx", 40)
    np.testing.assert_array_equal(next(case.systems()).A.toarray(), A.toarray())
