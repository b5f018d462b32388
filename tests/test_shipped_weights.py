"""The weights that ship: positive definite on every kind of domain, and as quick as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd import DeepCD
from deepcd.data import HELD_OUT, TRAINING, random_grid, right_hand_side
from deepcd.data.weight_files import load
from deepcd.pde import Grid, PoissonSystem, poisson
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.kernels import reference
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

from .cycles import learned

SHAPES = [(7, 8, 6), (3, 9, 10), (11, 13)]


def cycle_matrix(grid: Grid) -> tuple[NDArray[np.float64], int]:
    """Return the cycle on vectors without null-space part as a dense matrix, and the dimension of the null space."""
    embedding, stencil = embed(grid)
    operator, M = UnitStencilOperator(embedding, stencil), learned(embedding, stencil)
    columns, z = [], M.zeros()
    for unit in np.eye(len(embedding.position)):
        r = operator.embed(unit)
        operator.project(r)
        M.apply(r.astype(np.float32), z)
        column = z.astype(float)
        operator.project(column)
        columns.append(operator.extract(column))
    return np.stack(columns, axis=1), int(stencil.sealed.sum())


@pytest.mark.compiled
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", [*TRAINING, *HELD_OUT])
def test_the_cycle_is_symmetric_and_positive_definite(family: str, shape: tuple[int, ...]) -> None:
    M, null = cycle_matrix(random_grid(family, shape, np.random.default_rng(3)))
    np.testing.assert_allclose(M, M.T, atol=1e-5 * np.abs(M).max())
    eigenvalues = np.linalg.eigvalsh((M + M.T) / 2)
    np.testing.assert_allclose(eigenvalues[:null], 0, atol=1e-5 * eigenvalues[-1])
    assert eigenvalues[null] > 0.03


@pytest.mark.compiled
@pytest.mark.parametrize("shape", [*SHAPES, (12, 11, 13)], ids=str)
@pytest.mark.parametrize("family", [*TRAINING, *HELD_OUT])
def test_smoothing_is_positive_definite(family: str, shape: tuple[int, ...]) -> None:
    """Both S, and what both make on the way down and up, G + G' - G' A G: by the weights alone, coarse levels limited.

    One S A may have eigenvalues above two, as long as the other step makes up for it.
    """
    embedding, stencil = embed(random_grid(family, shape, np.random.default_rng(4)))
    planar = len(embedding.shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), embedding.n, planar)
    weights = load(None, f"learned-multigrid-{len(embedding.shape)}d/2")[0]
    A, G, _, smoothers = reference.learned_levels(diagonal, planar, weights, 600)[0]
    cells = np.flatnonzero(A.diagonal())
    assert len(smoothers) == 2
    for operator, least in [(S, 0.05) for S in smoothers] + [(G + G.T - G.T @ (A @ G), 0.3)]:
        shift = least / A.diagonal().max() * np.eye(len(cells))
        np.linalg.cholesky(operator[cells][:, cells].toarray() - shift)  # raises if an eigenvalue is not above it


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["random", "smooth"])
@pytest.mark.parametrize("shape", [(24, 24, 24), (31, 17, 22), (64, 64)], ids=str)
@pytest.mark.parametrize("family", ["closed-cube", "open-top", "free-surface", "pure-neumann", "city", "nozzle"])
def test_few_iterations(family: str, shape: tuple[int, ...], kind: str) -> None:
    system: PoissonSystem = poisson(random_grid(family, shape, np.random.default_rng(5)))
    b = right_hand_side(system, kind, np.random.default_rng(6))  # type: ignore[arg-type]
    solution = DeepCD(threads=1).setup(system.A).solve(b, 1e-6)
    assert solution.info == 0
    assert solution.preconditioner == "learned-multigrid"
    assert np.linalg.norm(b - system.A @ solution.x) <= 1e-6 * np.linalg.norm(b)
    assert solution.iterations <= (7 if len(shape) == 3 else 8)


@pytest.mark.compiled
def test_ten_digits_on_a_sealed_box() -> None:
    system = poisson(random_grid("pure-neumann", (20, 24, 22), np.random.default_rng(7)))
    b = right_hand_side(system, "smooth", np.random.default_rng(8))
    solution = DeepCD(threads=1).setup(system.A).solve(b, 1e-10)
    assert np.linalg.norm(b - system.A @ solution.x) <= 1e-10 * np.linalg.norm(b)
    assert solution.iterations <= 12
    assert abs(solution.x.mean()) <= 1e-12 * np.abs(solution.x).max()
