"""The benchmark's problems by name: pressure systems of fluid simulation, and boxes of coefficients, cube by cube.

Their seeds are ones that no training uses. The families of `deepcd.data.random_coefficients` are problems under their
names with hyphens, such as "log-normal-4-2"; they run when they are asked for, and so do meshes and graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcd.data.random_coefficients import COEFFICIENTS as ANY_ENDS
from deepcd.data.random_coefficients import OWN_ENDS, random_coefficients
from deepcd.data.random_domains import random_grid
from deepcd.pde import Grid, ball, domain, no_penetration, poisson, pressure_rhs, swirling_flow
from deepcd.solvers.bench import mesh_problems
from deepcd.solvers.bench.linear_problem import Box, BoxProblem, LinearProblem, PressureProblem, constants

F64 = NDArray[np.float64]
Shape = tuple[int, ...]
Coefficients = Callable[[Shape, np.random.Generator], tuple[tuple[F64, ...], F64]]

SEED = 777_000_000  # seed of domains and velocities; trainings count theirs from zero
FRAMES = 4  # number of systems in the sequence with a moving obstacle
CONTRAST = 1000.0  # coefficient in the ball of the second phase


def _projected(grid: Grid, velocity: tuple[F64, ...]) -> PressureProblem:
    system = poisson(grid)
    return PressureProblem(system.A, pressure_rhs(system, velocity), grid)


def _plume(n: int, obstacle: bool) -> Iterator[PressureProblem]:
    """Yield warm smoke that begins to rise in a closed box, below a ball if there is to be an obstacle."""
    solid = ball((0.5, 0.5, 0.62), 0.15) if obstacle else None
    grid = domain((n, n, n), solid=solid, spacing=1 / n)
    velocity = [np.zeros([n + (d == axis) for d in range(3)]) for axis in range(3)]
    x, y, z = ((np.arange(n + (d == 2)) + 0.5 * (d < 2)) / n for d in range(3))
    warm = [np.exp(-0.5 * ((v - c) / 0.1) ** 2) for v, c in ((x, 0.5), (y, 0.45), (z, 0.25))]
    velocity[2] += np.einsum("i,j,k->ijk", *warm)
    yield _projected(grid, no_penetration(grid, velocity))


def _family(n: int, family: str) -> Iterator[PressureProblem]:
    """Yield a random domain with vortices in it."""
    grid = random_grid(family, (n, n, n), np.random.default_rng((SEED, n)))
    yield _projected(grid, swirling_flow(grid, seed=SEED + n))


def _moving(n: int) -> Iterator[PressureProblem]:
    """Yield frames of a ball that sweeps through a tunnel, each with a matrix of its own."""
    for frame in range(FRAMES):
        t = (frame + 0.5) / FRAMES
        center = (0.72 - 0.44 * t, 0.5, 0.5 - 0.25 * math.cos(math.pi * t))
        motion = (-0.44, 0.0, 0.25 * math.pi * math.sin(math.pi * t))
        grid = domain((n, n, n), solid=ball(center, 0.15), walls=["air", "solid", ("solid", "air")], spacing=1 / n)
        yield _projected(grid, swirling_flow(grid, seed=SEED, swirls=6, solid_velocity=motion))


def _diffusion(k: F64) -> tuple[F64, ...]:
    """Return weights of the faces between cells with the coefficients k: their harmonic means."""
    faces = tuple(np.zeros(k.shape) for _ in k.shape)
    for axis, weights in enumerate(faces):
        before, after = (np.moveaxis(k, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        np.moveaxis(weights, axis, 0)[:-1] = 2 * before * after / (before + after)
    return faces


def log_normal(n: Shape, rng: np.random.Generator) -> tuple[tuple[F64, ...], F64]:
    """Return a smooth coefficient whose logarithm is normal, with Dirichlet data at both ends of the first axis."""
    noise = ndimage.gaussian_filter(rng.standard_normal(n), [cells / 16 for cells in n])
    k = np.exp(2 * noise / noise.std())
    extra = np.zeros(n)
    extra[[0, -1]] = 2 * k[[0, -1]]  # the wall is half a cell away
    return _diffusion(k), extra


def ball_of_another_phase(n: Shape, rng: np.random.Generator) -> tuple[tuple[F64, ...], F64]:
    """Return the coefficient 1 outside a ball and `CONTRAST` inside; nothing flows through the walls."""
    center = 0.35 + 0.3 * rng.random(len(n))
    x = np.meshgrid(*((np.arange(cells) + 0.5) / cells for cells in n), indexing="ij", sparse=True)
    inside = sum((v - c) ** 2 for v, c in zip(x, center, strict=True)) < 0.25**2
    return _diffusion(np.where(inside, CONTRAST, 1.0)), np.zeros(n)


def _box(n: int, coefficients: Coefficients) -> Iterator[BoxProblem]:
    """Yield a box of coefficients with normal random numbers as b, as far as they are in the range of A."""
    rng = np.random.default_rng((SEED, n))
    box = Box(*coefficients((n, n, n), rng))
    A = box.matrix()
    b = rng.standard_normal(A.shape[0])
    yield BoxProblem(A, b - constants(A, b), box)


def of_family(n: Shape, rng: np.random.Generator, family: str) -> tuple[tuple[F64, ...], F64]:
    """Return a system of a family of coefficients."""
    weights = random_coefficients(family, n, rng)
    return weights.faces, weights.extra


# Functions from cells per axis and a random generator to the weights of the faces, an array per axis with zeros at its
# end, and to what is added to the diagonal; see `Box`. A cell whose entries are all zero is no unknown.
COEFFICIENTS: dict[str, Coefficients] = {
    "log-normal": log_normal,
    "two-phase-ball": ball_of_another_phase,
}

FAMILIES = {name.translate(str.maketrans(" /", "--")): name for name in (*ANY_ENDS, *OWN_ENDS)}

# Functions from the number of cells per edge to the systems that a method has to solve one after the other.
PROBLEMS: dict[str, Callable[[int], Iterator[LinearProblem]]] = {
    "plume": partial(_plume, obstacle=False),
    "plume-obstacle": partial(_plume, obstacle=True),
    "free-surface": partial(_family, family="free-surface"),
    "mixed-walls": partial(_family, family="mixed-walls"),
    "pure-neumann": partial(_family, family="pure-neumann"),
    "moving-obstacle": _moving,
    "porous": partial(_family, family="porous"),
    **{name: partial(_box, coefficients=coefficients) for name, coefficients in COEFFICIENTS.items()},
    **{name: partial(_box, coefficients=partial(of_family, family=family)) for name, family in FAMILIES.items()},
    **mesh_problems.PROBLEMS,
}
# What runs where nothing is named.
USUAL = [name for name in PROBLEMS if name not in FAMILIES and name not in mesh_problems.PROBLEMS]
