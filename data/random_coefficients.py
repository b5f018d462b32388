"""Random diffusion operators with variable coefficients, as users of fluid, porous-media and image codes have them.

A family is a function (shape, rng) -> FaceWeights for boxes with two or three axes. Lengths are in cells where a
family says so, and scale with the box otherwise. Boundaries are drawn, too: each wall holds Dirichlet data with
probability 0.4, at least one does, and three times in ten all do; sealed families have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcd.data.random_domains import TRAINING, random_grid
from deepcd.pde import FaceWeights, diffusion

F64 = NDArray[np.float64]
Shape = tuple[int, ...]
CoefficientFamily = Callable[[Shape, np.random.Generator], FaceWeights]

LEAST_FRACTION = 0.01  # open fractions of faces and distances to a surface, in cells, below which there are none


def smooth_noise(shape: Shape, length: float, rng: np.random.Generator) -> F64:
    """Return a window of a Gaussian field of unit variance whose correlations reach about so many cells."""
    sigma, beyond = length / 2, int(1.5 * length) + 1
    white = rng.standard_normal([n + 2 * beyond for n in shape])
    noise = ndimage.gaussian_filter(white, sigma, truncate=3)[(slice(beyond, -beyond),) * len(shape)]
    impulse = ndimage.gaussian_filter1d(np.eye(1, 2 * beyond + 1, beyond)[0], sigma, truncate=3)
    return np.asarray(noise / np.linalg.norm(impulse) ** len(shape))


def walls(shape: Shape, rng: np.random.Generator) -> list[Any]:
    """Return random boundary conditions, of which one is Dirichlet's at least."""
    everywhere = rng.random() < 0.3
    ends = [["dirichlet" if everywhere or rng.random() < 0.4 else "neumann" for _ in range(2)] for _ in shape]
    if not any("dirichlet" in pair for pair in ends):
        ends[int(rng.integers(len(shape)))][int(rng.integers(2))] = "dirichlet"
    return [tuple(pair) for pair in ends]


def log_normal(shape: Shape, rng: np.random.Generator, variance: float, length: float) -> FaceWeights:
    """Return a coefficient whose logarithm is a Gaussian field."""
    k = np.exp(np.sqrt(variance) * smooth_noise(shape, length, rng))
    return diffusion(shape, k, boundary=walls(shape, rng)).weights


def _blocks(shape: Shape, rng: np.random.Generator) -> F64:
    """Return random numbers below one on blocks of 3 to 32 cells that are aligned with nothing."""
    labels = []
    for n in shape:
        ends = np.cumsum(rng.integers(3, 33, n)) - rng.integers(0, 32)
        labels.append(np.searchsorted(ends, np.arange(n), side="right"))
    values: F64 = rng.random([int(label.max()) + 1 for label in labels])
    return values[np.ix_(*labels)]


def blocks(shape: Shape, rng: np.random.Generator, contrast: float) -> FaceWeights:
    """Return a coefficient that jumps between blocks: two values in half of the cases, many in the others."""
    values = _blocks(shape, rng)
    if rng.random() < 0.5:
        values = (values < rng.uniform(0.2, 0.8)).astype(np.float64)
    return diffusion(shape, contrast ** (values - 0.5), boundary=walls(shape, rng)).weights


def cell_by_cell(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return a coefficient that is 1 or 1e-4 in each cell on its own, near percolation or beyond."""
    k = np.where(rng.random(shape) < rng.uniform(0.3, 0.8), 1.0, 1e-4)
    return diffusion(shape, k, boundary=walls(shape, rng)).weights


def pores(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return a coefficient that is 1 in winding pores of some cells, and 1e-4 outside."""
    noise = smooth_noise(shape, rng.uniform(2, 6), rng)
    return diffusion(shape, np.where(noise < rng.uniform(-0.3, 0.8), 1.0, 1e-4), boundary=walls(shape, rng)).weights


def drops(shape: Shape, rng: np.random.Generator) -> F64:
    """Return the signed distance in cells to a union of 2 to 13 balls, negative inside, or of what is around them."""
    centers = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij", sparse=True)
    distance = np.full(shape, np.inf)
    for _ in range(int(rng.integers(2, 14))):
        center, radius = rng.random(len(shape)) * shape, max(shape) * rng.uniform(0.03, 0.25)
        square = sum((x - c) ** 2 for x, c in zip(centers, center, strict=True))
        distance = np.minimum(distance, np.sqrt(square) - radius)
    return -distance if rng.random() < 0.5 else distance


def two_phases(shape: Shape, rng: np.random.Generator, *, periodic: bool = False) -> FaceWeights:
    """Return 1 / density of a liquid and of a gas a thousand times lighter, with the mean density on faces."""
    density = np.where(drops(shape, rng) < 0, 1.0, 1e-3)
    on_faces = []
    for axis in range(len(shape)):
        following = np.concatenate([density, np.take(density, [0 if periodic else -1], axis)], axis)
        before = np.concatenate([np.take(density, [-1 if periodic else 0], axis), density], axis)
        on_faces.append(2 / (following + before))
    boundary = "periodic" if periodic else "neumann" if rng.random() < 0.5 else walls(shape, rng)
    return diffusion(shape, tuple(on_faces), boundary=boundary).weights


def cut_cells(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return unit weights times the open fractions of faces that a smooth solid cuts."""
    distance = smooth_noise(shape, max(shape) * rng.uniform(0.06, 0.2), rng) + rng.uniform(0, 1)
    slope = np.sqrt(sum(np.gradient(distance, axis=axis) ** 2 for axis in range(len(shape)))).mean() + 1e-9
    weights = diffusion(shape, boundary=walls(shape, rng)).weights
    faces = []
    for axis, weight in enumerate(weights.faces):
        fraction = np.clip(0.5 + (distance + np.roll(distance, -1, axis)) / (2.4 * slope), 0, 1)
        faces.append(weight * np.where(fraction < LEAST_FRACTION * rng.random(shape), 0, fraction))
    is_open = sum(weight + np.roll(weight, 1, axis) for axis, weight in enumerate(faces)) > 0
    return FaceWeights(tuple(faces), weights.extra * is_open)


def ghost_fluid(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return a liquid in closed walls whose surface holds Dirichlet data at its true distance from cell centres."""
    distance = (
        drops(shape, rng) if rng.random() < 0.5 else smooth_noise(shape, max(shape) * rng.uniform(0.05, 0.2), rng)
    )
    if np.count_nonzero(distance < 0) < distance.size // 50:
        distance = -distance
    liquid = distance < 0
    extra, faces = np.zeros(shape), []
    for axis in range(len(shape)):
        inner, beyond = np.moveaxis(liquid, axis, 0), np.moveaxis(distance, axis, 0)
        weight = np.zeros(shape)
        np.moveaxis(weight, axis, 0)[:-1] = inner[:-1] & inner[1:]
        faces.append(weight)
        tied = np.moveaxis(extra, axis, 0)
        for own, other in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            surface = inner[own] & ~inner[other]
            share = np.clip(beyond[own] / (beyond[own] - beyond[other] - 1e-30), LEAST_FRACTION, 1)
            tied[own] += np.where(surface, 1 / share, 0)
    return FaceWeights(tuple(faces), extra)


def stretched(shape: Shape, rng: np.random.Generator, axes: str) -> FaceWeights:
    """Return unit coefficients on cells ten times as long along "one" axis, or along "most": all but one."""
    order = rng.permutation(len(shape))
    long = order[:1] if axes == "one" else order[1:]
    spacing = [10.0 if axis in long else 1.0 for axis in range(len(shape))]
    return diffusion(shape, spacing=spacing, boundary=walls(shape, rng)).weights


def towards_walls(shape: Shape, rng: np.random.Generator, everywhere: bool) -> FaceWeights:
    """Return unit coefficients on cells that are thin near walls, by a hyperbolic tangent, in one axis or in all."""
    one = int(rng.integers(len(shape)))
    spacing: list[Any] = []
    for axis, n in enumerate(shape):
        width = np.diff(np.tanh(rng.uniform(2.0, 3.0) * np.linspace(-1, 1, n + 1)))
        spacing.append(width / width.max() if everywhere or axis == one else 1.0)
    return diffusion(shape, spacing=spacing, boundary=walls(shape, rng)).weights


def screened(shape: Shape, rng: np.random.Generator, reaction: float) -> FaceWeights:
    """Return the unit coefficient with a reaction c h^2: implicit heat, and screened Poisson equations."""
    return diffusion(shape, reaction=reaction, boundary=walls(shape, rng)).weights


def reservoir(shape: Shape, rng: np.random.Generator, ratio: float) -> FaceWeights:
    """Return layers of six decades with channels, which conduct so much worse across them."""
    axis = int(rng.integers(len(shape)))
    n = shape[axis]
    layers = np.repeat(1.5 * rng.standard_normal(n), rng.integers(1, 6, n))[:n]
    lengths = [1.0 if a == axis else 12.0 for a in range(len(shape))]
    channels = ndimage.gaussian_filter(rng.standard_normal(shape), lengths, mode="reflect")
    channels /= channels.std()
    k = np.exp(layers.reshape([-1 if a == axis else 1 for a in range(len(shape))]) + channels)
    k *= np.where(channels > 1.2, 1e3, 1.0)
    weights = diffusion(shape, np.clip(k / k.max(), 1e-6, 1), boundary=walls(shape, rng)).weights
    faces = tuple(w * ratio if a == axis else w for a, w in enumerate(weights.faces))
    return FaceWeights(faces, weights.extra)


def boxes(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return the unit coefficient in an empty box."""
    return diffusion(shape, boundary=walls(shape, rng)).weights


def obstacles(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return the unit coefficient around obstacles, in domains that networks of unit couplings are trained on."""
    return diffusion(random_grid(str(rng.choice(list(TRAINING))), shape, rng)).weights


def sealed(shape: Shape, rng: np.random.Generator, family: CoefficientFamily) -> FaceWeights:
    """Return an operator of another family without Dirichlet data."""
    weights = family(shape, rng)
    return FaceWeights(weights.faces, np.zeros(shape))


def periodic_log_normal(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return a log-normal coefficient in a box that repeats along some axes; the others have closed walls."""
    repeats = rng.random(len(shape)) < 0.6
    repeats[int(rng.integers(len(shape)))] = True
    boundary = ["periodic" if own else "neumann" for own in repeats]
    return diffusion(shape, np.exp(np.sqrt(2) * smooth_noise(shape, 4.0, rng)), boundary=boundary).weights


def landscape(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return conductances over eight decades with holes, between two regions that hold Dirichlet data."""
    k = 10.0 ** np.clip(2.0 * smooth_noise(shape, rng.uniform(3, 12), rng), -4, 4)
    k[smooth_noise(shape, 6.0, rng) > 1.3] = 0
    weights = diffusion(shape, k).weights
    extra = np.zeros(shape)
    for end in (0, -1):
        extra[end] = k[end]
    return FaceWeights(weights.faces, extra)


def random_walker(shape: Shape, rng: np.random.Generator) -> FaceWeights:
    """Return the weights of Grady's random walker on a noisy image of drops, with one cell in two thousand labelled."""
    image = np.where(drops(shape, rng) < 0, 1.0, 0.0) + 0.3 * rng.standard_normal(shape)
    image = ndimage.gaussian_filter(image, 0.5)
    image /= image.std()
    faces = []
    for axis in range(len(shape)):
        weight = np.exp(-13.0 * np.diff(image, axis=axis) ** 2) + 1e-6
        faces.append(np.pad(weight, [(0, int(a == axis)) for a in range(len(shape))]))
    labelled = rng.random(shape) < 5e-4
    labelled[(0,) * len(shape)] = True
    return FaceWeights(tuple(faces), np.where(labelled, 1e3, 0.0))


FAMILIES: dict[str, CoefficientFamily] = {
    **{
        f"log-normal {variance}/{length}": partial(log_normal, variance=variance, length=length)
        for variance in (2, 4)
        for length in (2, 8, 32)
    },
    "blocks 1e4": partial(blocks, contrast=1e4),
    "blocks 1e6": partial(blocks, contrast=1e6),
    "cell by cell": cell_by_cell,
    "pores": pores,
    "two phases": two_phases,
    "cut cells": cut_cells,
    "ghost fluid": ghost_fluid,
    "stretched one axis": partial(stretched, axes="one"),
    "stretched all but one": partial(stretched, axes="most"),
    "towards walls one axis": partial(towards_walls, everywhere=False),
    "towards walls all axes": partial(towards_walls, everywhere=True),
    "screened 1e-3": partial(screened, reaction=1e-3),
    "screened 0.1": partial(screened, reaction=0.1),
    "screened 10": partial(screened, reaction=10.0),
    "reservoir 1e-2": partial(reservoir, ratio=1e-2),
    "reservoir 1e-4": partial(reservoir, ratio=1e-4),
    "boxes": boxes,
    "obstacles": obstacles,
    "sealed log-normal": partial(sealed, family=partial(log_normal, variance=2, length=8)),
    "sealed blocks": partial(sealed, family=partial(blocks, contrast=1e4)),
    "periodic log-normal": periodic_log_normal,
    "periodic two phases": partial(two_phases, periodic=True),
    "landscape": landscape,
    "random walker": random_walker,
}


def random_coefficients(family: str, shape: Sequence[int], rng: np.random.Generator) -> FaceWeights:
    """Return a random operator of a family.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    shape : sequence of 2 or 3 ints
        Cells per axis, four at least.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    FaceWeights
        Positive semidefinite; `FaceWeights.matrix` is its matrix on the cells that are coupled to anything.

    Raises
    ------
    ValueError
        If there is no such family.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_coefficients import random_coefficients
    >>> weights = random_coefficients("two phases", (8, 9), np.random.default_rng(0))
    >>> weights.matrix().shape
    (72, 72)
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
    return FAMILIES[family](tuple(shape), rng)
