"""Training samples of multigrid on face weights: operators of random families, and right-hand sides on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scipy import ndimage
from torch import Tensor

from deepcd.data.random_coefficients import random_coefficients
from deepcd.pde import FaceWeights
from deepcd.solvers.kernels.faces import forming
from deepcd.solvers.kernels.faces.records import Faces, Grid
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel

SHARES = {  # relative frequency of each family of operators
    **{f"log-normal {variance}/{length}": 1.0 for variance in (2, 4) for length in (2, 8, 32)},
    "blocks 1e4": 1.5,
    "blocks 1e6": 1.5,
    "pores": 1.0,
    "two phases": 1.5,
    "cut cells": 1.5,
    "ghost fluid": 1.5,
    "stretched one axis": 1.0,
    "stretched all but one": 1.0,
    "towards walls one axis": 1.0,
    "towards walls all axes": 0.7,
    "screened": 1.7,
    "reservoir 1e-2": 0.8,
    "reservoir 1e-4": 0.8,
    "boxes": 2.0,
    "obstacles": 2.0,
    "sealed log-normal 2/8": 0.7,
    "sealed blocks 1e4": 0.7,
    "landscape": 1.0,
    "random walker": 0.5,
}


class Sample(NamedTuple):
    """An operator, normalised to the largest diagonal entry one, and a right-hand side that it has a solution for."""

    grid: Grid
    faces: Faces
    constants: Tensor  # (components without extra diagonal, padded box): normalised
    b: Tensor


def padded(weights: FaceWeights) -> tuple[Grid, Faces]:
    """Return an operator on the padded box, normalised; axes that repeat are not among those that this can do."""
    n, largest = weights.extra.shape, weights.diagonal().max()

    def field(values: Any) -> Any:
        return np.pad(values / largest, 1).astype(np.float32).ravel()

    along = [field(w) for w in weights.faces]
    closed = (False, False, False)
    if len(n) == 2:
        grid, along = Grid((n[0], 1, n[1]), (n[1] + 2, 0), closed), [along[0], along[0], along[1]]
    else:
        grid = Grid((n[0], n[1], n[2]), ((n[1] + 2) * (n[2] + 2), n[2] + 2), closed)
    faces = Faces(along[0], along[1], along[2], field(weights.extra), np.zeros_like(along[0]))
    forming.invert(FaceLevel.of(grid, faces).diagonal, faces.inverse)
    return grid, faces


def random_shape(ndim: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw a box: often a cube, sometimes a brick."""
    kind = rng.random()
    if ndim == 2:
        if kind < 0.6:
            return (64, 64) if kind < 0.4 else (128, 128)
        return tuple(int(n) for n in rng.integers(24, 140, 2))
    if kind < 0.6:
        return (32, 32, 32) if kind < 0.52 else (48, 48, 48)
    return tuple(int(n) for n in rng.integers(16, 44, 3))


def random_sample(ndim: int, rng: np.random.Generator) -> Sample:
    """Draw an operator, and white noise or noise that is smooth."""
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    weights = random_coefficients(str(rng.choice(names, p=shares / shares.sum())), random_shape(ndim, rng), rng)
    (grid, faces), shape = padded(weights), weights.extra.shape
    b = rng.standard_normal(shape)
    if rng.random() < 0.6:
        b = rng.uniform(0, 0.1) * b + 10 * _smooth(shape, rng)
    b = np.pad(b, 1).ravel() * (faces.inverse > 0)
    constants = _constants(grid, faces)
    b -= constants.T @ (constants @ b)
    return Sample(grid, faces, torch.from_numpy(constants.astype(np.float32)), torch.from_numpy(b.astype(np.float32)))


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return smooth noise of a random wavelength."""
    sigma = 2 ** rng.uniform(0, 4)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect", truncate=2)
    return noise / noise.std()


def _constants(grid: Grid, faces: Faces) -> Any:
    """Return the normalised constants on components without extra diagonal, (components, padded box)."""
    size, pairs = faces.extra.size, []
    for w, stride in zip((faces.w0, faces.w1, faces.w2), (*grid.s, 1), strict=True):
        if stride:
            here = np.flatnonzero(w)
            pairs.append(np.stack([here, here + stride]))
    i, j = np.concatenate(pairs, axis=1)
    graph = sp.coo_array((np.ones(i.size), (i, j)), shape=(size, size))
    component = sp.csgraph.connected_components(graph, directed=False)[1]
    unknown = faces.inverse > 0
    sealed = np.bincount(component, weights=faces.extra) == 0
    chosen = np.unique(component[unknown & sealed[component]])
    rows = [unknown & (component == c) for c in chosen]
    return np.array([row / np.sqrt(row.sum()) for row in rows]).reshape(len(rows), size)
