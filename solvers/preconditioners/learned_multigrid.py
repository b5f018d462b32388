"""The learned multigrid preconditioner, compiled: smoothers, coarse operators and transfers come from small networks.

The same cycle as `solvers/training/network.py`, which defines and trains it; here the networks are evaluated once, at
setup, on the distinct local patterns of the domain, and a cycle is a handful of passes with the coefficients they
gave.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import coarse, fused, setup
from deepcd.solvers.kernels.patterns import (
    cell_codes,
    distinct_windows,
    like_the_one_before,
    neighbourhood,
    number_patterns,
    repeated_windows,
)
from deepcd.solvers.preconditioners.multigrid import (
    F32,
    CoarseLevel,
    Multigrid,
    Taps,
    limit_smoother,
)

C0, A0, DIRICHLET = np.float32(0.4), np.float32(0.4), 0.4
# Outputs of the finest network: phi, a, c0, c1, c2 of the first smoother and of the second, then the features handed
# down to the next level. Those of the coarse networks: factors on faces 0, 1, 2 and on Dirichlet weights, psi, phi, a,
# c0, c1, c2 of one smoother, then the features.
OUTPUTS, COARSE_OUTPUTS = 9, 10
LOWEST = np.array([-3, -3, -4, -4, -4, -3, -4, -4, -4], dtype=np.float32)
COARSE_LOWEST = np.array([-2] * 5 + [-3, -3, -4, -4, -4], dtype=np.float32)
COARSE_HIGHEST = np.array([2] * 5 + [3] * 5, dtype=np.float32)
COARSE_POWERS = np.array([0.5, 0.5, 0.5, 1, 1, 1, 1, 0.5, 0.5, 0.5], dtype=np.float32)
COARSE_FACTORS = np.array([1] * 6 + [A0] + [math.sqrt(C0)] * 3, dtype=np.float32)
# What the finest network sees of a cell of each code: whether it is an unknown, and half the number of Dirichlet faces.
OCCUPIED = (np.arange(256) > 0).astype(np.float32)
HALF_DIRICHLET = np.maximum(np.arange(256, dtype=np.float32) - 1, 0) / np.float32(2)
BLOCK = 2048  # cells whose neighbourhoods are gathered at once
TABLE = 1 << 14  # patterns that are told apart before the table starts anew
Network = tuple[F32, F32, F32, F32, F32, F32]  # weights and biases of three layers, inputs first


class LearnedMultigrid(Multigrid):
    """M of the learned cycle on the padded box of a unit stencil.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis without padding.
    diagonal : ndarray of uint8, shape of the padded box
        Diagonal entries of A / scale; 0 where there is no unknown.
    weights : dict of str to float32 ndarray, optional
        Parameters of the networks as they are stored; default: those that ship for the number of axes.
    threads : int, default 1
    """

    name = "learned-multigrid"

    def __init__(
        self,
        shape: tuple[int, ...],
        diagonal: NDArray[np.uint8],
        weights: dict[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        n, s = geometry(shape)
        super().__init__(n, s, diagonal.ravel(), threads)
        parameters = shipped(len(shape)) if weights is None else weights
        self.parameters = sum(np.size(v) for v in parameters.values())
        self.tap = np.asarray(parameters["tap"], dtype=np.float32)
        deepest = len(self.tap) - 1
        networks = [_network(parameters, f"coarse.{k}.") for k in range(deepest)]
        table, cells, numbers = self._finest_level(_network(parameters, "fine."))
        first = OUTPUTS
        self.taps = Taps.of(float(self.tap[0]), n)
        for depth, level, step in self.coarsen(DIRICHLET):
            features = np.zeros((level.volume.size, 8 + table.shape[1] - first), dtype=np.float32)
            down = (level.n, level.s, step, np.float32(1 / np.prod(step)))
            if depth == 0:
                setup.hand_down_patterns(n, s, cells, numbers, table, first, *down, level.volume, features[:, 8:])
            else:
                above = self.levels[depth - 1]
                setup.hand_down(above.n, above.s, numbers, table, first, *down, features[:, 8:])
            kind = min(depth + 1, deepest)
            table, numbers = self._coarse_level(level, features, networks[kind - 1])
            first = COARSE_OUTPUTS
            level.taps = Taps.of(float(self.tap[kind]), level.n)
        self.finish()

    def __str__(self) -> str:
        return f"{super().__str__()}; networks of {self.parameters} numbers"

    def _finest_level(self, network: Network) -> tuple[F32, NDArray[np.int64], NDArray[np.int32]]:
        """Evaluate the finest network and list the cells not interior.

        Returns
        -------
        table : float32 (patterns, outputs)
        cells : int64 (m,)
            Those of which patterns were looked at; all others have pattern 0.
        numbers : int32 (m,)
            Their patterns.
        """
        s0, s1 = self.s
        strides = (s0, s1, 1)
        around = neighbourhood(strides)
        neighbours, axes = np.array([-s0, s0, -s1, s1, -1, 1]), np.array([0, 0, 1, 1, 2, 2])
        codes, marked = np.zeros_like(self.diagonal), np.zeros(self.diagonal.size, dtype=np.bool_)
        cell_codes(self.diagonal, strides, codes)
        setup.boundary_cells(codes, around, marked)
        cells = np.flatnonzero(marked)
        table, numbers = evaluate(codes, cells, around, network)
        ids, different = np.zeros(codes.size, dtype=np.int32), np.zeros(codes.size, dtype=np.uint8)
        ids[cells] = numbers
        different[cells] = numbers != 0
        setup.listed_cells(codes, strides, different, marked)
        listed = np.flatnonzero(marked)
        d = np.float32(np.count_nonzero(neighbours))
        factors = np.exp(table[:, 1:OUTPUTS].reshape(-1, 2, 4) * np.array([1, 0.5, 0.5, 0.5], dtype=np.float32))
        factors *= np.array([A0, *[math.sqrt(C0)] * 3], dtype=np.float32)
        constants = factors[0] ** np.array([1, 2, 2, 2]) / np.array([d, d * d, d * d, d * d])
        constants[:, 0] += sum(2 * constants[:, 1 + axis] for axis in set(axes[neighbours != 0]))
        constants = constants.astype(np.float32)
        delta = np.empty((2, 7, len(listed)), dtype=np.float32)
        setup.listed_coefficients(listed, self.diagonal, ids, factors, axes, neighbours, constants, delta)
        scalings = np.exp(table[:, 0])
        ratio = (scalings / scalings[0])[ids[listed]]
        self.list_cells(listed[ratio != 1], ratio[ratio != 1])
        breaks = np.flatnonzero(np.diff(listed) != 1) + 1  # between rows there is padding
        ends = np.concatenate([[0], breaks, [len(listed)]])
        runs = self.by_rows(listed[ends[:-1]] if len(listed) else listed)
        places = (listed % s0).astype(np.int32)
        self.first, self.second = ((tuple(c), d, runs, ends, places) for c, d in zip(constants, delta, strict=True))
        self.listed, self.phi = len(listed), scalings[0]
        return table, cells, numbers

    def _coarse_level(self, level: CoarseLevel, features: F32, network: Network) -> tuple[F32, NDArray[np.int32]]:
        """Evaluate a coarse network and form operator, smoother and transfer scalings.

        Parameters
        ----------
        level : CoarseLevel
        features : float32 (box, 8 or more)
            Those from the eighth on have been handed down; the others are set here.
        network : Network

        Returns
        -------
        table : float32 (patterns, outputs)
        numbers : int32 (box,)
            The row of each cell.
        """
        capacity, nominal = np.float32(level.capacity), np.array(level.nominal, dtype=np.float32)
        setup.local_features(level.volume, level.dirichlet, level.inside, level.w, capacity, nominal, features)
        table, numbers = evaluate_features(features, neighbourhood(level.strides), network)
        # Of the mean of two cells' outputs the exponential is the product of two square roots.
        factors = np.exp(np.clip(table[:, :COARSE_OUTPUTS], COARSE_LOWEST, COARSE_HIGHEST) * COARSE_POWERS)
        factors *= COARSE_FACTORS
        setup.scale_faces(level.strides, numbers, factors, level.w, level.dirichlet)
        level.finish()
        setup.smoother_coefficients(
            level.strides, numbers, factors, level.w, level.inverse, level.a, level.c, level.phi, level.psi
        )
        limit_smoother(level)
        return table, numbers

    def descend(self, r: F32) -> None:
        """Smooth with S1 and S2 from zero into `smoothed` and restrict the residual."""
        top = self.levels[0]
        self.team.run(
            fused.descend, self.n, self.s, self.diagonal, self.first, self.second, self.starts, self.cells, self.phi,
            self.ratio, r, self.smoothed, top.n, top.s, self.taps.near, self.taps.far, top.r, self.tile,
            scratch=[own[:2] for own in self.scratch], bounds=self.team.halved,
        )  # fmt: skip

    def ascend(self, r: F32, z: F32) -> float:
        """Add the correction and smooth with S2 and S1."""
        top = self.levels[0]
        parts = self.team.run(
            fused.ascend, self.n, self.s, self.diagonal, self.first, self.second, self.starts, self.cells, self.phi,
            self.ratio, r, self.smoothed, z, top.n, top.s, self.taps.near, self.taps.far, top.z, 2 * self.tile,
            scratch=self.scratch,
        )  # fmt: skip
        return float(sum(parts))

    def descend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Set `out` to S r and restrict the residual."""
        level.team.run(
            coarse.descend, *self._level(level), r, out, *self._transfer(level, lower), lower.psi, lower.r,
            scratch=[own[:2] for own in level.scratch], bounds=level.team.halved,
        )  # fmt: skip

    def ascend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Add the correction to `out`, then S (r - A out)."""
        level.y[:] = out
        level.team.run(
            coarse.ascend, *self._level(level), r, level.y, out, *self._transfer(level, lower), lower.z,
            scratch=level.scratch,
        )  # fmt: skip

    def visit_shared(self, depth: int) -> None:
        """Do by several threads what `kernels.cycle.visit` does."""
        level, lower = self.levels[depth], self.levels[depth + 1]
        args, transfer = self._level(level), self._transfer(level, lower)
        self.descend_level(level, lower, level.r, level.y)
        self.visit(depth + 1)
        level.team.run(
            coarse.turn, *args, level.r, level.y, level.e, level.t, level.z, *transfer, lower.z, lower.psi, lower.r,
            scratch=level.scratch, bounds=level.team.halved,
        )  # fmt: skip
        self.visit(depth + 1)
        level.team.run(coarse.ascend, *args, level.t, level.z, level.y, *transfer, lower.z, scratch=level.scratch)
        coarse.combine(self.numbers[depth, 6], level.e, level.psi, level.y, level.z)

    @staticmethod
    def _level(level: CoarseLevel) -> tuple[Any, ...]:
        return level.n, level.s, level.diagonal, level.w, level.a, level.c, level.phi

    @staticmethod
    def _transfer(level: CoarseLevel, lower: CoarseLevel) -> tuple[Any, ...]:
        return lower.n, lower.s, level.taps.near, level.taps.far


def shipped(ndim: int) -> dict[str, Any]:
    """Return the weights that ship for 2 or 3 axes."""
    from deepcd.data.weight_files import load

    return dict(load(None, f"learned-multigrid-{ndim}d/2")[0])


def _network(parameters: dict[str, Any], prefix: str) -> Network:
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
    out[:, :OUTPUTS] = np.clip(out[:, :OUTPUTS], LOWEST, np.float32(3))
    return out


def _outputs(inputs: F32, network: Network) -> F32:
    """Return what a network of three layers makes of inputs, (count, inputs)."""
    w1, b1, w2, b2, w3, b3 = network
    hidden = np.maximum(inputs @ w1 + b1, 0)
    return np.maximum(hidden @ w2 + b2, 0) @ w3 + b3
