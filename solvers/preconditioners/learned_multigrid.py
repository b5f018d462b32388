"""The learned multigrid preconditioner, compiled: smoothers, coarse operators and transfers come from small networks.

The same cycle as `solvers/training/network.py`, which defines and trains it; here the networks are evaluated once, at
setup, on the distinct local patterns of the domain, and a cycle is a handful of passes with the coefficients they
gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, fused, setup
from deepcd.solvers.kernels.patterns import cell_codes, neighbourhood, number_patterns
from deepcd.solvers.operators.stencil import geometry
from deepcd.solvers.preconditioners.multigrid import (
    F32,
    CoarseLevel,
    Multigrid,
    Taps,
    limit_smoother,
)

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

C0, A0, DIRICHLET = np.float32(0.4), np.float32(0.4), 0.4
# Outputs of the finest network: phi, a, c0, c1, c2 of the first smoother and of the second, then the features handed
# down to the next level. Those of the coarse networks: factors on faces 0, 1, 2 and on Dirichlet weights, psi, phi, a,
# c0, c1, c2 of one smoother, then the features.
OUTPUTS, COARSE_OUTPUTS = 9, 10
LOWEST = np.array([-3, -3, -4, -4, -4, -3, -4, -4, -4], dtype=np.float32)
TABLE = 1 << 14  # patterns that are told apart before the table starts anew
Network = tuple[F32, F32, F32, F32, F32, F32]  # weights and biases of three layers, inputs first


class LearnedMultigrid(Multigrid):
    """M of the learned cycle on the box of an embedding.

    Parameters
    ----------
    embedding : Embedding
    weights : dict of str to float32 ndarray, optional
        Parameters of the networks as they are stored; default: those that ship for the number of axes.
    threads : int, default 1
    """

    name = "learned-multigrid"
    work = 4.0  # passes: down, up, and the outer two

    def __init__(self, embedding: Embedding, weights: dict[str, Any] | None = None, threads: int = 1) -> None:
        n, s = geometry(embedding.shape)
        super().__init__(n, s, embedding.diagonal.ravel(), threads)
        parameters = shipped(len(embedding.shape)) if weights is None else weights
        self.parameters = sum(np.size(v) for v in parameters.values())
        self.tap = np.asarray(parameters["tap"], dtype=np.float32)
        deepest = len(self.tap) - 1
        networks = [_network(parameters, f"coarse.{k}.") for k in range(deepest)]
        self.around = neighbourhood((s[0], s[1], 1))
        table, ids = self._finest_level(_network(parameters, "fine."))
        self.taps = Taps.of(float(self.tap[0]), n)
        outputs: F32 | None = None
        for level, step in self.coarsen(DIRICHLET):
            handed = np.zeros((level.volume.size, table.shape[1] - OUTPUTS), dtype=np.float32)
            down = (level.n, level.s, step, np.float32(1 / np.prod(step)), handed)
            if outputs is None:
                setup.hand_down_patterns(n, s, self.diagonal, ids, table, OUTPUTS, *down)
            else:
                setup.hand_down(self.levels[-1].n, self.levels[-1].s, outputs, COARSE_OUTPUTS, *down)
            kind = min(len(self.levels) + 1, deepest)
            outputs = self._coarse_level(level, handed, networks[kind - 1])
            level.taps = Taps.of(float(self.tap[kind]), level.n)
        self.solve_exactly()

    def __str__(self) -> str:
        return f"{super().__str__()}; networks of {self.parameters} numbers"

    def _finest_level(self, network: Network) -> tuple[F32, NDArray[np.int32]]:
        """Evaluate the finest network, list the cells not interior; return the table and the pattern per cell."""
        s0, s1 = self.s
        neighbours = np.array([-s0, s0, -s1, s1, -1, 1])
        axes = np.array([0, 0, 1, 1, 2, 2])
        adjacent = neighbours[neighbours != 0]
        codes = np.zeros_like(self.diagonal)
        cell_codes(self.diagonal, adjacent, codes)
        cells = np.flatnonzero(setup.boundary_cells(codes, self.around))
        table, numbers = evaluate(codes, cells, self.around, network)
        ids = np.zeros(codes.size, dtype=np.int32)
        ids[cells] = numbers
        d, phi = np.float32(len(adjacent)), np.exp(table[0, 0])
        listed = np.flatnonzero(setup.listed_cells(codes, ids, adjacent))
        ratio = np.zeros(len(listed), dtype=np.float32)
        smoothers = []
        for first in (1, 5):
            o = table[0, first : first + 4]
            each = C0 * np.exp(o[1:]) / (d * d)
            total = sum(2 * each[a] for a in set(axes[neighbours != 0]))
            constants = (A0 * np.exp(o[0]) / d + total, *each)
            delta = np.zeros((len(listed), 7), dtype=np.float32)
            setup.listed_coefficients(
                listed, codes, self.diagonal, ids, table, first, axes, neighbours, C0, A0, constants, delta
            )
            smoothers.append((constants, delta))
        setup.listed_ratios(listed, ids, table, phi, ratio)
        self.list_cells(listed, ratio)
        self.first, self.second = smoothers
        self.phi = phi
        return table, ids

    def _coarse_level(self, level: CoarseLevel, handed: F32, network: Network) -> F32:
        """Evaluate a coarse network and form operator, smoother and transfer scalings; return its outputs."""
        size = level.volume.size
        features = np.empty((size, 8 + handed.shape[1]), dtype=np.float32)
        features[:, 8:] = handed
        features[:, 0] = level.volume / np.float32(level.capacity)
        features[:, 1] = level.dirichlet / np.float32(max(level.nominal))
        for axis in range(3):
            features[:, 2 + axis] = level.inside[axis] / np.float32(2 * level.nominal[axis])
            features[:, 5 + axis] = level.w[axis] / np.float32(level.nominal[axis])
        outputs = np.zeros((size, len(network[5])), dtype=np.float32)
        offsets = neighbourhood(level.strides)
        setup.evaluate_features(level.n, level.s, offsets, features, *network, outputs)
        setup.scale_faces(level.strides, outputs, level.w, level.dirichlet)
        level.finish()
        level.a, level.phi = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
        level.c = np.zeros_like(level.w)
        setup.smoother_coefficients(
            level.strides, outputs, 5, level.w, level.inverse, C0, A0, level.a, level.c, level.phi
        )
        level.psi = np.where(level.inverse > 0, np.exp(np.clip(outputs[:, 4], -2, 2)), np.float32(0))
        limit_smoother(level)
        return outputs

    def descend(self, r: F32) -> None:
        """Smooth with S1 and S2 from zero into `smoothed` and restrict the residual."""
        top = self.levels[0]
        self.team.run(
            fused.descend, self.n, self.s, self.diagonal, self.first, self.second, self.starts, self.cells, self.phi,
            self.ratio, r, self.smoothed, top.n, top.s, self.taps.near, self.taps.far, top.r, self.tile,
            scratch=[(rings, row) for rings, row, _ in self.scratch], bounds=self.coarse_bounds,
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

    def descend_level(self, level: CoarseLevel, lower: CoarseLevel) -> None:
        """Set z to S r and restrict the residual."""
        coarse.descend(
            level.n, level.s, level.diagonal, level.w, level.a, level.c, level.phi, level.r, level.z,
            lower.n, lower.s, level.taps.near, level.taps.far, lower.psi, level.rings, level.row, lower.r,
        )  # fmt: skip

    def ascend_level(self, level: CoarseLevel, lower: CoarseLevel, left: F32) -> None:
        """Add the correction, then S (r - A z)."""
        coarse.ascend(
            level.n, level.s, level.diagonal, level.w, level.a, level.c, level.phi, level.r, level.z, level.y,
            lower.n, lower.s, level.taps.near, level.taps.far, lower.z, level.rings, level.row, level.along, left,
        )  # fmt: skip
        level.z, level.y = level.y, level.z


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
    out = np.zeros((len(patterns), len(network[5])), dtype=np.float32)
    setup.evaluate_patterns(patterns, *network, out)
    out[:, :OUTPUTS] = np.clip(out[:, :OUTPUTS], LOWEST, np.float32(3))
    return out
