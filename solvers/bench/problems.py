"""The benchmark's problems: pressure systems of fluid simulation, cube by cube, from seeds that no training uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.data.random_domains import random_grid
from deepcd.pde import Grid, ball, domain, no_penetration, poisson, pressure_rhs, swirling_flow
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

F64 = NDArray[np.float64]

SEED = 777_000_000  # seed of domains and velocities; trainings count theirs from zero
FRAMES = 4  # number of systems in the sequence with a moving obstacle


@dataclass
class LinearProblem:
    """A linear system A x = b, and the grid that A comes from.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
        The matrix.
    b : ndarray of float64, shape (n,)
        The right-hand side.
    grid : Grid
        The grid.
    """

    A: sp.csr_array
    b: F64
    grid: Grid

    @cached_property
    def operator(self) -> UnitStencilOperator:
        """The operator A / scale on a padded box, on one thread."""
        return UnitStencilOperator(*embed(self.grid))

    @property
    def diagonal(self) -> NDArray[np.uint8]:
        """Diagonal entries of A / scale on the padded box; 0 where there is no unknown."""
        return self.operator.stencil.diagonal

    def to_box(self, b: F64) -> F64:
        """Return b on the padded box."""
        return self.operator.embed(b[self.operator.embedding.rows]).reshape(self.diagonal.shape)

    def from_box(self, x: F64, b: F64) -> F64:
        """Return the solution whose part in the box is x; the other rows of A have only their diagonal entry."""
        result, operator = b / self.A.diagonal(), self.operator
        result[operator.embedding.rows] = operator.extract(x.ravel()) / operator.stencil.scale
        return result

    def pinned(self) -> sp.csr_matrix:
        """Return a regular matrix with the same solution: A with a diagonal entry of each sealed component doubled."""
        embedding, sealed = self.operator.embedding, self.operator.stencil.sealed
        first = np.unique(embedding.component, return_index=True)[1][sealed]
        A = sp.csr_matrix(self.A, copy=True)
        diagonal = A.diagonal()
        diagonal[first if isinstance(embedding.rows, slice) else embedding.rows[first]] *= 2
        A.setdiag(diagonal)
        return A

    def judge(self, x: NDArray[np.floating[Any]]) -> float:
        """Return the true relative residual, recomputed with SciPy in float64."""
        return float(np.linalg.norm(self.b - self.A @ x) / np.linalg.norm(self.b))


def _projected(grid: Grid, velocity: tuple[F64, ...]) -> LinearProblem:
    system = poisson(grid)
    return LinearProblem(system.A, pressure_rhs(system, velocity), grid)


def _plume(n: int, obstacle: bool) -> Iterator[LinearProblem]:
    """Yield warm smoke that begins to rise in a closed box, below a ball if there is to be an obstacle."""
    solid = ball((0.5, 0.5, 0.62), 0.15) if obstacle else None
    grid = domain((n, n, n), solid=solid, spacing=1 / n)
    velocity = [np.zeros([n + (d == axis) for d in range(3)]) for axis in range(3)]
    x, y, z = ((np.arange(n + (d == 2)) + 0.5 * (d < 2)) / n for d in range(3))
    warm = [np.exp(-0.5 * ((v - c) / 0.1) ** 2) for v, c in ((x, 0.5), (y, 0.45), (z, 0.25))]
    velocity[2] += np.einsum("i,j,k->ijk", *warm)
    yield _projected(grid, no_penetration(grid, velocity))


def _family(n: int, family: str) -> Iterator[LinearProblem]:
    """Yield a random domain with vortices in it."""
    grid = random_grid(family, (n, n, n), np.random.default_rng((SEED, n)))
    yield _projected(grid, swirling_flow(grid, seed=SEED + n))


def _moving(n: int) -> Iterator[LinearProblem]:
    """Yield frames of a ball that sweeps through a tunnel, each with a matrix of its own."""
    for frame in range(FRAMES):
        t = (frame + 0.5) / FRAMES
        center = (0.72 - 0.44 * t, 0.5, 0.5 - 0.25 * math.cos(math.pi * t))
        motion = (-0.44, 0.0, 0.25 * math.pi * math.sin(math.pi * t))
        grid = domain((n, n, n), solid=ball(center, 0.15), walls=["air", "solid", ("solid", "air")], spacing=1 / n)
        yield _projected(grid, swirling_flow(grid, seed=SEED, swirls=6, solid_velocity=motion))


# Functions from the number of cells per edge to the systems that a method has to solve one after the other.
PROBLEMS: dict[str, Callable[[int], Iterator[LinearProblem]]] = {
    "plume": partial(_plume, obstacle=False),
    "plume-obstacle": partial(_plume, obstacle=True),
    "free-surface": partial(_family, family="free-surface"),
    "mixed-walls": partial(_family, family="mixed-walls"),
    "pure-neumann": partial(_family, family="pure-neumann"),
    "moving-obstacle": _moving,
    "porous": partial(_family, family="porous"),
}
