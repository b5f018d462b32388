"""The learned multigrid preconditioner, compiled: smoothers, coarse operators and transfers come from small networks.

The same cycle as `solvers/training/network.py`, which defines and trains it; here the networks are evaluated once, at
setup, on the distinct local patterns of the domain, and a cycle is a handful of passes with the coefficients they
gave.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import setup
from deepcd.solvers.kernels.patterns import cell_codes, neighbourhood
from deepcd.solvers.kernels.records import F32, Box, Scaling, Smoother, taps
from deepcd.solvers.learned.architecture import COARSE, DIRICHLET, FEATURES, FINE, HANDED, KINDS, SMOOTHER, Output
from deepcd.solvers.learned.architecture import architecture as name_of
from deepcd.solvers.preconditioners.multigrid.channels import channel_levels, is_channel
from deepcd.solvers.preconditioners.multigrid.coarse import LearnedCoarse
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.evaluation import Network, evaluate_features, network_of
from deepcd.solvers.preconditioners.multigrid.exact import solve_exactly
from deepcd.solvers.preconditioners.multigrid.levels import COARSEST, Above, Aggregated, Formed, Hierarchy
from deepcd.solvers.preconditioners.multigrid.lines import Lines
from deepcd.solvers.preconditioners.multigrid.spectrum import BOUND, limit_smoother
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest, UnitGrid, by_rows, scaling_of


def learned_cycle(
    shape: tuple[int, ...],
    diagonal: NDArray[np.uint8],
    weights: Mapping[str, Any] | None = None,
    threads: int = 1,
    *,
    coarsest: int = COARSEST,
    bound: float = BOUND,
    unweighed: int = 0,
) -> Cycle:
    """Return the learned cycle on a grid.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis.
    diagonal : uint8, padded box
        Diagonal of the operator, 0 where there is no unknown.
    weights : mapping of str to float32 ndarray, optional
        Parameters of the networks as they are stored; default: those that ship for the number of axes.
    threads : int, default 1
    coarsest : int, optional
        Largest number of cells of a box that is solved exactly.
    bound : float, optional
        Upper bound for eigenvalue estimates of S A and M A on coarse levels.
    unweighed : int, default 0
        See `Cycle`; by default second visits are weighed at once.

    Returns
    -------
    Cycle
    """
    parameters = shipped(len(shape)) if weights is None else weights
    grid = UnitGrid(Box(*geometry(shape)), diagonal.ravel())
    hierarchy = Hierarchy.below(grid.box, coarsest, threads)
    tap = np.asarray(parameters["tap"], dtype=np.float32)
    smoothing, scaling, answers = _finest_level(grid, network_of(parameters, "fine."))
    own, channel = taps(float(tap[0]), grid.box.n), is_channel(grid)
    if channel:
        last, scaling, own = channel_levels(grid, hierarchy, bound)
    else:
        networks = [network_of(parameters, f"coarse.{k}.") for k in range(KINDS - 1)]
        above: Above = grid
        for depth, level in enumerate(hierarchy.levels):
            kind = min(depth + 1, KINDS - 1)
            last, answers = _coarse_level(Aggregated.of(above, level, DIRICHLET), answers, networks[kind - 1], bound)
            level.set_taps(float(tap[kind]))
            above = last
    finest = UnitFinest(grid, smoothing, scaling, own, len(smoothing.first.cells), threads)
    exact, note = solve_exactly(last), f"; networks of {sum(np.size(v) for v in parameters.values())} numbers"
    rest = exact, note, not channel, unweighed
    cycle = Cycle("learned-multigrid", finest, hierarchy, LearnedCoarse(), *rest)
    if not unweighed:
        cycle.weigh_second_visits(bound)
    return cycle


@functools.cache
def shipped(ndim: int) -> Mapping[str, Any]:
    """Return the weights that ship for 2 or 3 axes; a process reads their file once."""
    from deepcd.data.weight_files import load

    tensors = load(None, name_of(ndim))[0]
    for array in tensors.values():
        array.setflags(write=False)
    return MappingProxyType(tensors)


class Answers(NamedTuple):
    """What a network answered about the cells of a level."""

    box: Box
    table: F32  # (patterns, outputs)
    numbers: NDArray[np.int32]  # (box,), or those of `cells`: row of the table
    cells: NDArray[np.int64] | None = None  # cells that were looked at; all other unknowns have row 0

    def usual(self, share: np.float32) -> F32:
        """Return a share of the last outputs of most cells, if these are known."""
        last = self.table[0, -HANDED:]
        return last * share if self.cells is not None else np.zeros_like(last)

    def hand_down(self, sums: Aggregated, share: np.float32, handed: F32) -> None:
        """Add a share of the last outputs to the cells of the level below, `usual` ones left out; (box, HANDED)."""
        (n, s), ms = self.box, sums.level.box.s
        first = self.table.shape[1] - HANDED
        if self.cells is None:
            setup.hand_down(n, s, self.numbers, self.table, first, ms, sums.step, share, handed)
        else:
            setup.hand_down_patterns(s, self.cells, self.numbers, self.table, first, ms, sums.step, share, handed)


def powers_and_scales(outputs: tuple[Output, ...]) -> tuple[F32, F32]:
    """Return powers and scales that make a factor per cell, scale exp(power o), of each output.

    What belongs to a face is the product of the factors of its two cells: hence half the power and the root of the
    scale.
    """
    powers = [0.5 if output.of_face else 1 for output in outputs]
    scales = [math.sqrt(output.scale) if output.of_face else output.scale for output in outputs]
    return np.array(powers, dtype=np.float32), np.array(scales, dtype=np.float32)


def _finest_level(grid: UnitGrid, network: Network) -> tuple[FusedPair, Scaling, Answers]:
    """Evaluate the finest network, and list the cells whose coefficients differ from the interior's."""
    box, diagonal = grid.box, grid.diagonal
    around = neighbourhood(box.strides)
    codes = np.zeros_like(diagonal)
    cell_codes(diagonal, box.strides, codes)
    lines = Lines.of(box, diagonal)
    table, patterns = lines.evaluate(codes, around, network)
    powers, scales = powers_and_scales(SMOOTHER)
    factors = np.exp(table[:, 1 : len(FINE)].reshape(-1, 2, len(SMOOTHER)) * powers)
    factors *= scales
    axes = [axis for axis, stride in enumerate(box.strides) if stride]
    d = np.float32(2 * len(axes))
    constants = factors[0] ** np.array([1, 2, 2, 2]) / np.array([d, d * d, d * d, d * d])
    constants[:, 0] += sum(2 * constants[:, 1 + axis] for axis in axes)
    constants = constants.astype(np.float32)
    listed, numbers, delta = lines.coefficients(diagonal, patterns, factors, constants)
    scalings = np.exp(table[:, 0])
    ratio = (scalings / scalings[0])[numbers]
    breaks = np.flatnonzero(np.diff(listed) != 1) + 1  # between rows there is padding
    ends = np.concatenate([[0], breaks, [len(listed)]])
    runs = by_rows(box, listed[ends[:-1]] if len(listed) else listed)
    places = (listed % box.s[0]).astype(np.int32)
    first, second = (Smoother(tuple(c), d, runs, ends, places) for c, d in zip(constants, delta, strict=True))
    scaling = scaling_of(box, scalings[0], listed[ratio != 1], ratio[ratio != 1])
    return FusedPair(first, second, box), scaling, Answers(box, table, numbers, listed)


POWERS, SCALES = powers_and_scales(COARSE)
LOWEST, HIGHEST = (np.array(limits, dtype=np.float32) for limits in zip(*(o[1:3] for o in COARSE), strict=True))


def _coarse_level(sums: Aggregated, above: Answers, network: Network, bound: float) -> tuple[Formed, Answers]:
    """Evaluate a coarse network and form operator, smoother and transfer scalings of a level."""
    level, own, strides = sums.level, sums.level.fields, sums.level.box.strides
    features, share = np.empty((level.box.size, FEATURES), dtype=np.float32), np.float32(1 / math.prod(sums.step))
    capacity, nominal = np.float32(sums.capacity), np.array(sums.nominal, dtype=np.float32)
    usual = above.usual(share)
    setup.local_features(sums.volume, sums.dirichlet, sums.inside, own.w, capacity, nominal, usual, features)
    above.hand_down(sums, share, features[:, FEATURES - HANDED :])
    table, numbers = evaluate_features(features, neighbourhood(strides), network)
    factors = np.exp(np.clip(table[:, : len(COARSE)], LOWEST, HIGHEST) * POWERS)
    factors *= SCALES
    setup.scale_faces(strides, numbers, factors, own.w, sums.dirichlet)
    formed = sums.form()
    setup.smoother_coefficients(strides, numbers, factors, own.w, formed.inverse, own.a, own.c, own.phi, own.psi)
    limit_smoother(level, bound)
    return formed, Answers(level.box, table, numbers)
