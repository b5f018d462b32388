"""Training samples: batches of random domains as tensors, and right-hand sides on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from deepcd.data import random_grid
from deepcd.pde import Grid
from deepcd.solvers.kernels.patterns import LARGEST_CODE, neighbourhood, number_patterns

SHARES = {  # relative frequency of each family of domains
    "closed-cube": 2.0,
    "open-top": 4.0,
    "free-surface": 3.0,
    "mixed-walls": 3.0,
    "pure-neumann": 2.0,
    "porous": 4.0,
    "ball-packing": 3.0,
    "baffles": 2.0,
    "chambers": 1.5,
    "terrain": 1.0,
    "splashes": 1.0,
    "caves": 2.0,
    "sheets": 2.0,
}


@dataclass(frozen=True)
class Batch:
    """Domains of one shape, as tensors (batch, n0, n1, n2) with n1 = 1 in 2D; see `CycleNetwork.setup`."""

    fluid: Tensor
    dirichlet: Tensor
    ids: Tensor
    patterns: Tensor
    sealed: Tensor  # int64: number of the sealed chamber that a cell belongs to, or 0


def dirichlet_count(grid: Grid) -> NDArray[np.uint8]:
    """Return the number of air neighbours of each fluid cell, with those that have p = 0 on the face counted twice."""
    return grid.couplings()[1] * grid.fluid


def make_batch(grids: Sequence[NDArray[np.bool_]], counts: Sequence[NDArray[np.uint8]]) -> Batch:
    """Stack domains of one shape, and number their patterns and sealed chambers.

    Parameters
    ----------
    grids : sequence of bool arrays
        For each domain, whether a cell is an unknown.
    counts : sequence of uint8 arrays
        For each domain, the Dirichlet count of the cells.

    Returns
    -------
    Batch
    """
    shape = grids[0].shape
    ndim = len(shape)
    most = sum(int(g.sum()) for g in grids)
    capacity = 1 << max(4, (2 * most).bit_length())
    keys, slots = np.zeros((capacity, 2), dtype=np.uint64), np.full(capacity, -1, dtype=np.int32)
    padded_shape = tuple(n + 2 for n in shape)
    strides = (padded_shape[1], 0, 1) if ndim == 2 else (padded_shape[1] * padded_shape[2], padded_shape[2], 1)
    around = neighbourhood(strides)
    patterns, taken = np.zeros((most + 1, len(around)), dtype=np.uint8), 1
    all_ids, all_sealed, chambers = [], [], 0
    for fluid, count in zip(grids, counts, strict=True):
        codes = np.pad(np.where(fluid, np.minimum(1 + count, LARGEST_CODE), 0).astype(np.uint8), 1).ravel()
        positions = np.flatnonzero(codes)
        numbers = np.zeros(len(positions), dtype=np.int32)
        _, taken = number_patterns(codes, positions, 0, around, keys, slots, patterns, taken, 0, numbers)
        ids = np.zeros(shape, dtype=np.int64)
        ids[fluid] = numbers
        label, regions = ndimage.label(fluid)
        anchored = np.zeros(regions + 1, dtype=bool)
        anchored[np.unique(label[count > 0])] = True
        anchored[0] = True
        name = np.zeros(regions + 1, dtype=np.int64)
        name[~anchored] = chambers + 1 + np.arange((~anchored).sum())
        chambers += int((~anchored).sum())
        all_ids.append(ids)
        all_sealed.append(name[label])
    flat = list(shape) if ndim == 3 else [shape[0], 1, shape[1]]

    def stack(arrays: Sequence[NDArray[np.generic]], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(dtype).reshape(-1, *flat)

    return Batch(
        stack(list(grids), torch.float32),
        stack(list(counts), torch.float32),
        stack(all_ids, torch.int64),
        torch.from_numpy(patterns[:taken]),
        stack(all_sealed, torch.int64),
    )


def random_shape(ndim: int, rng: np.random.Generator) -> tuple[tuple[int, ...], int]:
    """Draw a box (a cube, a brick, or a slab two or more cells thin, sometimes a larger one) and a batch size."""
    kind = rng.random()
    if ndim == 2:
        if kind < 0.35:
            return (64, 64), 6
        if kind < 0.55:
            return (128, 128), 2
        if kind < 0.65:
            return (256, 256), 1
        shape = tuple(int(2 ** rng.uniform(1.5, 7.5)) for _ in range(2))
        return shape, max(1, min(6, 24000 // math.prod(shape)))
    if kind < 0.4:
        return (32, 32, 32), 3
    if kind < 0.5:
        return (64, 64, 64), 1
    if kind < 0.6:
        return tuple(int(n) for n in rng.permutation([int(rng.integers(2, 6)), *rng.integers(24, 72, 2)])), 4
    shape = tuple(int(n) for n in 2 ** rng.uniform(3, 5.8, 3))
    return shape, max(1, min(6, 100_000 // math.prod(shape)))


def random_batch(ndim: int, rng: np.random.Generator) -> Batch:
    """Draw domains of one shape, rotated together and each mirrored at random."""
    shape, size = random_shape(ndim, rng)
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    turn = rng.permutation(ndim)
    upright = tuple(shape[int(np.flatnonzero(turn == d)[0])] for d in range(ndim))
    grids: list[NDArray[np.bool_]] = []
    counts: list[NDArray[np.uint8]] = []
    while len(grids) < size:
        grid = random_grid(str(rng.choice(names, p=shares / shares.sum())), upright, rng)
        flips = tuple(d for d in range(ndim) if rng.random() < 0.5)
        fluid = np.flip(grid.fluid, flips).transpose(turn)
        count = np.flip(dirichlet_count(grid), flips).transpose(turn)
        grids.append(np.ascontiguousarray(fluid))
        counts.append(np.ascontiguousarray(count))
    return make_batch(grids, counts)


def remove_constants(v: Tensor, sealed: Tensor) -> Tensor:
    """Project the constants on sealed chambers out of v (batch, n0, n1, n2)."""
    chambers = int(sealed.max())
    if not chambers:
        return v
    flat, where = v.flatten(), sealed.flatten()
    count = torch.zeros(chambers + 1).index_add(0, where, torch.ones_like(flat)).clamp_min(1)
    mean = torch.zeros(chambers + 1).index_add(0, where, flat) / count
    mean = torch.cat([torch.zeros(1), mean[1:]])
    return (flat - mean[where]).reshape(v.shape)


def random_rhs(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Draw right-hand sides, compatible on sealed chambers: white noise, smooth noise of random wavelength, or both."""
    shape = tuple(batch.fluid.shape)
    total = 1e-3 * torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    for n in range(shape[0]):
        if rng.random() < 0.5:
            total[n] += torch.from_numpy(rng.standard_normal(shape[1:], dtype=np.float32))
        if rng.random() < 0.8:
            pitch = int(2 ** rng.uniform(1, 5))
            lattice = rng.standard_normal([1, 1, *(max(1, -(-k // pitch)) for k in shape[1:])]).astype(np.float32)
            total[n] += torch.nn.functional.interpolate(torch.from_numpy(lattice), size=shape[1:], mode="trilinear")[
                0, 0
            ]
    return remove_constants(total * batch.fluid, batch.sealed) * batch.fluid
