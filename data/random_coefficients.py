"""Random systems with variable coefficients: the families that solvers for them are trained and measured on.

A family draws the operator of a diffusion equation on a box, in 2D and 3D, of any shape: as :class:`FaceWeights`, which
know their matrix. `COEFFICIENTS` take any ends of the box: by name with random walls and Dirichlet data, after the word
"sealed" with walls all around (pure Neumann, so that the constant is in the null space where there is no reaction),
after the word "periodic" without ends. `OWN_ENDS` are families whose regions bring their ends with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from deepcd.data.random_domains import random_grid
from deepcd.data.random_fields import (
    blocks,
    drops,
    ranks,
    smooth_noise,
    tanh_widths,
    with_both_signs,
)
from deepcd.pde import Cell, FaceWeights, Grid, diffusion, fractions, free_surface, two_phase

Shape = tuple[int, ...]
Rng = np.random.Generator
Ends = str | Sequence[tuple[str, str]]  # the boundary of `diffusion`
Coefficients = Callable[[Shape, Rng, Ends], FaceWeights]

PERIODIC = "periodic"
LOW = 1e-4  # the coefficient of what hardly conducts, beside 1
IMAGE_FLOOR = 1e-10  # smallest weight of an image, as in scikit-image


def random_ends(shape: Shape, rng: Rng) -> list[tuple[str, str]]:
    """Draw walls ("neumann") and Dirichlet data for the ends of a box; in three of ten draws Dirichlet data only.

    Parameters
    ----------
    shape : tuple of int
        Number of cells per axis; axes of one cell have walls, unless all axes have one cell.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    list of (str, str)
        The low and the high end of each axis; at least one has Dirichlet data.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data.random_coefficients import random_ends
    >>> random_ends((8, 1), np.random.default_rng(0))[1]
    ('neumann', 'neumann')
    """
    real = [axis for axis, n in enumerate(shape) if n > 1] or list(range(len(shape)))
    sides = [(axis, end) for axis in real for end in (0, 1)]
    if rng.random() < 0.3:
        chosen = sides
    else:
        chosen = [side for side in sides if rng.random() < 0.4] or [sides[rng.integers(len(sides))]]
    kinds = [["neumann", "neumann"] for _ in shape]
    for axis, end in chosen:
        kinds[axis][end] = "dirichlet"
    return [(low, high) for low, high in kinds]


def log_normal(shape: Shape, rng: Rng, ends: Ends, *, variance: float, length: float) -> FaceWeights:
    """Return a log-normal coefficient of given variance and correlation length in cells."""
    noise = smooth_noise(shape, length, rng, periodic=ends == PERIODIC)
    return diffusion(shape, np.exp(np.sqrt(variance) * noise), boundary=ends).weights


def jumping_blocks(shape: Shape, rng: Rng, ends: Ends, *, contrast: float) -> FaceWeights:
    """Return blocks of 3 to 32 cells, of two coefficients or of any between them."""
    level = blocks(shape, rng)
    if rng.random() < 0.5:
        level = (level < rng.uniform(0.2, 0.8)).astype(float)
    return diffusion(shape, contrast ** (level - 0.5), boundary=ends).weights


def cell_by_cell(shape: Shape, rng: Rng, ends: Ends) -> FaceWeights:
    """Return a coefficient of 1 or 1e-4, drawn for each cell: percolation."""
    return diffusion(shape, np.where(rng.random(shape) < rng.uniform(0.3, 0.8), 1.0, LOW), boundary=ends).weights


def pores(shape: Shape, rng: Rng, ends: Ends) -> FaceWeights:
    """Return blobs of 2 to 6 cells in which the coefficient is 1e-4 instead of 1."""
    noise = smooth_noise(shape, rng.uniform(2, 6), rng, periodic=ends == PERIODIC)
    return diffusion(shape, np.where(noise < rng.uniform(-0.3, 0.8), 1.0, LOW), boundary=ends).weights


def two_phases(shape: Shape, rng: Rng, ends: Ends) -> FaceWeights:
    """Return the pressure system of two phases whose densities are 1000 : 1."""
    around = range(len(shape)) if ends == PERIODIC else ()
    phi = with_both_signs(drops(shape, rng))
    return diffusion(shape, two_phase(phi, 1.0, 1e-3, periodic=around), boundary=ends).weights


def cut_cells(shape: Shape, rng: Rng, ends: Ends) -> FaceWeights:
    """Return the box around smooth rocks whose surfaces cut through cells."""
    length = max(shape) * rng.uniform(0.06, 0.2)
    if ends == PERIODIC:
        noise = np.pad(smooth_noise(shape, length, rng, periodic=True), [(0, 1)] * len(shape), mode="wrap")
    else:
        noise = smooth_noise([n + 1 for n in shape], length, rng)
    return diffusion(shape, fractions(noise + rng.uniform(0, 1), shape).faces, boundary=ends).weights


def stretched(shape: Shape, rng: Rng, ends: Ends, *, long: int) -> FaceWeights:
    """Return cells that are ten times as long along `long` axes as along the others; along fewer, if all are."""
    real = [axis for axis, n in enumerate(shape) if n > 1]
    axes = rng.permutation(real)[: max(1, min(long, len(real) - 1))]
    return diffusion(
        shape, spacing=[10.0 if axis in axes else 1.0 for axis in range(len(shape))], boundary=ends
    ).weights


def towards_walls(shape: Shape, rng: Rng, ends: Ends, *, everywhere: bool) -> FaceWeights:
    """Return cells that become thin, as tanh, towards both ends of one axis or of all."""
    only = rng.integers(len(shape))
    widths = [tanh_widths(n, rng.uniform(2, 3)) if everywhere or a == only else 1.0 for a, n in enumerate(shape)]
    return diffusion(shape, spacing=widths, boundary=ends).weights


def screened(shape: Shape, rng: Rng, ends: Ends, *, reaction: float | None = None) -> FaceWeights:
    """Return a constant coefficient with a reaction c h^2, drawn from 1e-5 to 1e2 if None: a step of implicit heat."""
    c = 10 ** rng.uniform(-5, 2) if reaction is None else reaction
    return diffusion(shape, reaction=c, boundary=ends).weights


def reservoir(shape: Shape, rng: Rng, ends: Ends, *, ratio: float) -> FaceWeights:
    """Return layers of 1 to 5 cells with channels, over six decades, that conduct `ratio` times as well across."""
    real = [axis for axis, n in enumerate(shape) if n > 1] or [0]
    axis = real[rng.integers(len(real))]
    n = shape[axis]
    layers = np.repeat(1.5 * rng.standard_normal(n), rng.integers(1, 6, n))[:n]
    within = smooth_noise(shape, [2.0 if d == axis else 24.0 for d in range(len(shape))], rng)
    k = np.exp(layers.reshape([-1 if d == axis else 1 for d in range(len(shape))]) + within)
    k = np.where(within > 1.2, 1e3, 1.0) * k
    # What matters of an anisotropic coefficient are the ratios of weights, which wide cells have as well.
    spacing = [ratio**-0.5 if d == axis else 1.0 for d in range(len(shape))]
    return diffusion(shape, np.clip(k / k.max(), 1e-6, 1.0), spacing=spacing, boundary=ends).weights


def constant(shape: Shape, rng: Rng, ends: Ends) -> FaceWeights:
    """Return an empty box of constant coefficient."""
    return diffusion(shape, boundary=ends).weights


def ghost_fluid(shape: Shape, rng: Rng) -> FaceWeights:
    """Return liquid between walls, with a free surface that is resolved below the cell: drops, bubbles or waves."""
    phi = drops(shape, rng) if rng.random() < 0.5 else smooth_noise(shape, max(shape) * rng.uniform(0.05, 0.2), rng)
    phi = with_both_signs(phi)
    return diffusion(Grid(np.where(phi < 0, Cell.FLUID, Cell.AIR)), free_surface(phi)).weights


def obstacles(shape: Shape, rng: Rng) -> FaceWeights:
    """Return the pressure system of a domain from one of eight training families of :func:`random_grid`."""
    kinds = ("open-top", "free-surface", "mixed-walls", "porous", "ball-packing", "chambers", "caves", "terrain")
    return diffusion(random_grid(kinds[rng.integers(len(kinds))], shape, rng)).weights


def landscape(shape: Shape, rng: Rng) -> FaceWeights:
    """Return resistances from 1 to 1e8, in patches or cell by cell, with barriers, corridors and holes; singular.

    Two neighbouring cells are coupled by 1 / the mean of their resistances, as in Circuitscape (McRae et al., Ecology
    89, 2008).
    """
    patches = rng.random() < 0.5
    decade = np.floor(9 * ranks(smooth_noise(shape, rng.uniform(4, 16), rng))) if patches else 8 * rng.random(shape)
    for value in (8.0, 0.0) * int(rng.integers(1, 4)):
        axis = int(rng.integers(len(shape)))
        start = int(rng.integers(shape[axis]))
        np.moveaxis(decade, axis, 0)[start : start + int(rng.integers(1, 4))] = value
    holes = smooth_noise(shape, rng.uniform(2, 8), rng) > rng.uniform(0.8, 1.5)
    return diffusion(Grid(np.where(holes, Cell.SOLID, Cell.FLUID)), 10**-decade).weights


def random_walker(shape: Shape, rng: Rng) -> FaceWeights:
    """Return the system of the segmentation of an image by random walkers, with a few seeds as Dirichlet data.

    Pixels are coupled by exp(-beta d^2), where d is the difference of their values (Grady, IEEE Trans. Pattern Analysis
    and Machine Intelligence 28, 2006).
    """
    image = (
        blocks(shape, rng, 4, 48) + 0.5 * (drops(shape, rng) < 0) + rng.uniform(0.01, 0.1) * rng.standard_normal(shape)
    )
    beta = 10 ** rng.uniform(1.5, 2.5)
    faces = []
    for axis in range(len(shape)):
        beyond = [(int(d == axis),) * 2 for d in range(len(shape))]
        difference = np.diff(np.pad(image, beyond, mode="edge"), axis=axis)
        faces.append(np.exp(-beta * difference**2) + IMAGE_FLOOR)
    cells = np.full(shape, Cell.FLUID)
    centers = np.ogrid[tuple(map(slice, shape))]
    for _ in range(min(int(rng.integers(2, 7)), cells.size // 2)):
        place = [rng.integers(n) for n in shape]
        square = sum((x - p) ** 2 for x, p in zip(centers, place, strict=True))
        cells[square <= (0.02 * max(shape)) ** 2] = Cell.AIR
    return diffusion(Grid(cells), tuple(faces)).weights


COEFFICIENTS: dict[str, Coefficients] = {
    **{
        f"log-normal {variance}/{length}": partial(log_normal, variance=variance, length=length)
        for variance in (2, 4)
        for length in (2, 8, 32)
    },
    "blocks 1e4": partial(jumping_blocks, contrast=1e4),
    "blocks 1e6": partial(jumping_blocks, contrast=1e6),
    "cell by cell": cell_by_cell,
    "pores": pores,
    "two phases": two_phases,
    "cut cells": cut_cells,
    "stretched one axis": partial(stretched, long=1),
    "stretched all but one": partial(stretched, long=2),
    "towards walls one axis": partial(towards_walls, everywhere=False),
    "towards walls all axes": partial(towards_walls, everywhere=True),
    "screened": screened,
    "screened 1e-3": partial(screened, reaction=1e-3),
    "screened 0.1": partial(screened, reaction=0.1),
    "screened 10": partial(screened, reaction=10.0),
    "reservoir 1e-2": partial(reservoir, ratio=1e-2),
    "reservoir 1e-4": partial(reservoir, ratio=1e-4),
    "boxes": constant,
}
OWN_ENDS: dict[str, Callable[[Shape, Rng], FaceWeights]] = {
    "ghost fluid": ghost_fluid,
    "obstacles": obstacles,
    "landscape": landscape,
    "random walker": random_walker,
}


def random_coefficients(family: str, shape: Sequence[int], rng: np.random.Generator) -> FaceWeights:
    """Draw a system of a named family.

    Parameters
    ----------
    family : str
        A key of `COEFFICIENTS`, alone or after the word "sealed" or "periodic", or a key of `OWN_ENDS`.
    shape : sequence of int
        Cells per axis, two or three; at least three along each if periodic.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    FaceWeights
        The operator, with at least one unknown; its ``matrix()`` assembles the matrix.

    Raises
    ------
    ValueError
        If the family is not known, or no system of this shape has an unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data import random_coefficients
    >>> weights = random_coefficients("sealed blocks 1e6", (16, 16, 16), np.random.default_rng(0))
    >>> weights.matrix().shape, bool(weights.extra.any())
    ((4096, 4096), False)
    """
    box = tuple(int(n) for n in shape)
    word, _, rest = family.partition(" ")
    for _ in range(100):
        if family in OWN_ENDS:
            weights = OWN_ENDS[family](box, rng)
        elif family in COEFFICIENTS:
            weights = COEFFICIENTS[family](box, rng, random_ends(box, rng))
        elif word in ("sealed", PERIODIC) and rest in COEFFICIENTS:
            weights = COEFFICIENTS[rest](box, rng, "neumann" if word == "sealed" else PERIODIC)
        else:
            raise ValueError(
                f"family must be one of {', '.join(COEFFICIENTS)}, alone or after the word sealed or periodic, "
                f"or one of {', '.join(OWN_ENDS)}; got {family!r}"
            )
        if len(weights.cells()):
            return weights
    raise ValueError(f"no unknown in 100 systems of family {family!r} with shape {box}; use a larger shape")
