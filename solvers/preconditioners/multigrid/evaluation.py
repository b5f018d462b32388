"""The networks of the learned cycle, evaluated once per distinct neighbourhood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels.patterns import (
    distinct_windows,
    like_the_one_before,
    number_patterns,
    repeated_windows,
)
from deepcd.solvers.kernels.records import F32
from deepcd.solvers.learned.architecture import FINE, HALF_DIRICHLET, OCCUPIED

BLOCK = 2048  # number of cells whose neighbourhoods are gathered at once
TABLE = 1 << 14  # number of patterns that are told apart before the table starts anew
LOWEST, HIGHEST = (np.array(limits, dtype=np.float32) for limits in zip(*(o[1:3] for o in FINE), strict=True))
Network = tuple[F32, F32, F32, F32, F32, F32]  # weights and biases of three layers, inputs first


def network_of(parameters: Mapping[str, Any], prefix: str) -> Network:
    """Return a network's three layers with inputs first; convolutions become (neighbours x channels, outputs)."""
    layers = []
    for layer in (0, 2, 4):
        weight = np.asarray(parameters[f"{prefix}{layer}.weight"], dtype=np.float32)
        if weight.ndim == 5:
            weight = weight.transpose(0, 2, 3, 4, 1).reshape(len(weight), -1)
        layers += [np.ascontiguousarray(weight.T), np.asarray(parameters[f"{prefix}{layer}.bias"], dtype=np.float32)]
    return tuple(layers)  # type: ignore[return-value]


def evaluate_features(features: F32, around: NDArray[np.int64], network: Network) -> tuple[F32, NDArray[np.int32]]:
    """Evaluate a coarse network in every cell with volume, but once for each distinct neighbourhood.

    Cells that are alike get one number, and neighbourhoods are told apart by the numbers in them. Where more than half
    of them differ, as in porous media, the network is evaluated in every cell.

    Parameters
    ----------
    features : float32 (box, channels)
        The first is the volume.
    around : int64 (neighbours,)
        Flat offsets of the neighbourhood.
    network : Network

    Returns
    -------
    table : float32 (patterns, outputs)
        Row 0 is zero, for cells without volume.
    rows : int32 (box,)
        The row of each cell.
    """
    size, channels = features.shape
    cells, numbers = np.flatnonzero(features[:, 0]), None
    chosen = cells
    same, repeated = np.empty(size, dtype=np.bool_), np.empty(cells.size, dtype=np.bool_)
    like_the_one_before(features.view(np.uint32), same)
    words, origins = features.view(np.uint32).reshape(-1), np.arange(0, features.size, channels)
    alike = distinct_windows(words, origins, np.arange(channels), same)
    if alike is not None and cells.size:
        repeated_windows(same, cells, around, repeated)
        windows = distinct_windows(alike[1].view(np.uint32), cells, around, repeated)
        if windows is not None:
            chosen, numbers = windows
    table = np.zeros((1 + chosen.size, network[-1].size), dtype=np.float32)
    for start in range(0, chosen.size, BLOCK):
        inputs = features[chosen[start : start + BLOCK, None] + around].reshape(-1, around.size * channels)
        table[1 + start : 1 + start + BLOCK] = _outputs(inputs, network)
    rows = np.zeros(size, dtype=np.int32)
    rows[cells] = np.arange(1, cells.size + 1) if numbers is None else numbers + 1
    return table, rows


def evaluate(
    codes: NDArray[np.uint8], cells: NDArray[np.int64], around: NDArray[np.int64], network: Network
) -> tuple[F32, NDArray[np.int32]]:
    """Evaluate the finest network on the neighbourhoods of cells.

    Returns
    -------
    table : float32 (patterns, outputs)
        Clipped outputs; row 0 is the undisturbed interior.
    numbers : int32 (cells,)
        The row of each cell.
    """
    slots, keys = np.full(4 * TABLE, -1, dtype=np.int32), np.zeros((4 * TABLE, 2), dtype=np.uint64)
    patterns, numbers = np.zeros((TABLE, len(around)), dtype=np.uint8), np.zeros(len(cells), dtype=np.int32)
    tables = [_clipped(np.ones((1, len(around)), dtype=np.uint8), network)]
    start, base = 0, 1
    while start < len(cells):
        start, count = number_patterns(codes, cells, start, around, keys, slots, patterns, 0, base, numbers)
        tables.append(_clipped(patterns[:count], network))
        base += count
        slots[:] = -1
    return np.concatenate(tables), numbers


def _clipped(patterns: NDArray[np.uint8], network: Network) -> F32:
    """Return the finest network's outputs for patterns of codes, (count, cells)."""
    out = np.empty((len(patterns), network[-1].size), dtype=np.float32)
    for start in range(0, len(patterns), BLOCK):
        codes = patterns[start : start + BLOCK]
        out[start : start + BLOCK] = _outputs(np.concatenate([OCCUPIED[codes], HALF_DIRICHLET[codes]], axis=1), network)
    out[:, : len(FINE)] = np.clip(out[:, : len(FINE)], LOWEST, HIGHEST)
    return out


def _outputs(inputs: F32, network: Network) -> F32:
    """Return what a network of three layers makes of inputs, (count, inputs)."""
    w1, b1, w2, b2, w3, b3 = network
    hidden = np.maximum(inputs @ w1 + b1, 0)
    return np.maximum(hidden @ w2 + b2, 0) @ w3 + b3
