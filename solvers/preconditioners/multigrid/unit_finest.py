"""The finest level of a grid whose couplings are all one: a byte per cell is the operator."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, fused, gauss_seidel, setup
from deepcd.solvers.kernels.records import F32, Box, Scaling, Smoother, Taps, Transfer, scratch_for
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.preconditioners.multigrid.levels import Aggregated, Level, bytes_of

RINGS = 4  # rings of three planes that a fused pass keeps
CACHE = 7 << 19  # bytes of rings that a thread's share of the processor's cache holds; larger planes are cut into tiles


class Smoothing(Protocol):
    """How the finest level is smoothed, from zero and after the correction."""

    @property
    def sets(self) -> int:
        """Sets of three planes that a thread keeps in a pass."""

    def descend(self, finest: UnitFinest, r: F32, top: Level) -> None:
        """Smooth from zero into `finest.smoothed`; leave P' phi (r - A z) in r of the level below."""

    def ascend(self, finest: UnitFinest, r: F32, z: F32, top: Level) -> float:
        """Correct what was smoothed, smooth into z with the transpose, and return r.z."""


class FusedPair:
    """S1 and S2 one after the other, and back after the correction, each way in one pass over memory.

    Parameters
    ----------
    first, second : Smoother
    box : Box
    """

    sets = RINGS

    def __init__(self, first: Smoother, second: Smoother, box: Box) -> None:
        self.first, self.second, self.tile = first, second, tile_for(box)

    def descend(self, finest: UnitFinest, r: F32, top: Level) -> None:
        """Smooth with S1 and S2 from zero and restrict the residual."""
        finest.team.run(
            fused.descend, finest.box, finest.diagonal, (self.first, self.second), finest.scaling, r, finest.smoothed,
            finest.transfer(top), top.fields.r, self.tile, scratch=finest.scratch, bounds=finest.team.halved,
        )  # fmt: skip

    def ascend(self, finest: UnitFinest, r: F32, z: F32, top: Level) -> float:
        """Add the correction and smooth with S2 and S1."""
        parts = finest.team.run(
            fused.ascend, finest.box, finest.diagonal, (self.first, self.second), finest.scaling, r, finest.smoothed, z,
            finest.transfer(top), top.fields.z, 2 * self.tile, scratch=finest.scratch,
        )  # fmt: skip
        return float(sum(parts))


def tile_for(box: Box) -> int:
    """Return how many coarse rows of a box to take at once: few rows are not worth those around them."""
    plane = 4 * 3 * RINGS * box.s[0]
    return max(8, min(box.n[1], CACHE * box.n[1] // plane) // 2)


class RedBlackSweeps:
    """Gauss-Seidel sweeps, red cells first on the way down and black cells first on the way up."""

    def __init__(self, sweeps: int) -> None:
        self.sweeps = sweeps
        self.sets = -(-(2 * sweeps + 3) // 3)

    def descend(self, finest: UnitFinest, r: F32, top: Level) -> None:
        """Smooth from zero and restrict the residual."""
        finest.team.run(
            gauss_seidel.descend, finest.box, finest.diagonal, self.sweeps, finest.scaling, r, finest.smoothed,
            finest.transfer(top), top.fields.r, scratch=finest.scratch, bounds=finest.team.halved,
        )  # fmt: skip

    def ascend(self, finest: UnitFinest, r: F32, z: F32, top: Level) -> float:
        """Add the correction and smooth."""
        parts = finest.team.run(
            gauss_seidel.ascend, finest.box, finest.diagonal, self.sweeps, finest.scaling, r, finest.smoothed, z,
            finest.transfer(top), top.fields.z, scratch=finest.scratch,
        )  # fmt: skip
        return float(sum(parts))


@dataclass(frozen=True)
class UnitGrid:
    """The operator of the finest level."""

    box: Box
    diagonal: NDArray[np.uint8]  # flat padded box; 0 where there is no unknown

    nominal = (1.0, 1.0, 1.0)
    capacity = 1.0

    def aggregate(self, sums: Aggregated) -> None:
        """Add up unknowns, Dirichlet counts and faces over coarse cells."""
        setup.aggregate_stencil(self.box.n, self.box.s, self.diagonal, *sums.sums)


class UnitFinest:
    """The finest level.

    Parameters
    ----------
    grid : UnitGrid
    smoothing : Smoothing
    scaling : Scaling
        Scaling of the transfer to the level below.
    taps : Taps
        Interpolation from the level below.
    listed : int
        Number of cells with coefficients of their own.
    threads : int
    """

    def __init__(
        self, grid: UnitGrid, smoothing: Smoothing, scaling: Scaling, taps: Taps, listed: int, threads: int
    ) -> None:
        self.box, self.diagonal = grid.box, grid.diagonal
        self.smoothing, self.scaling, self.taps, self.listed = smoothing, scaling, taps, listed
        self._allocate(threads)

    def _allocate(self, threads: int) -> None:
        """Make work vectors and threads."""
        self.team = Team(threads, self.box.n[0], self.box.size)
        self.scratch = [(scratch_for(self.box, self.smoothing.sets),) for _ in range(self.team.threads)]
        self.smoothed = self.zeros()

    @property
    def unknowns(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.diagonal))

    def zeros(self) -> F32:
        """Return a zero vector: float32 on the padded box."""
        return np.zeros(self.diagonal.size, dtype=np.float32)

    def transfer(self, top: Level) -> Transfer:
        """Return how this level is connected with the one below."""
        return Transfer(*top.box, *self.taps)

    def descend(self, r: F32, top: Level) -> None:
        """Smooth from zero into `smoothed` and restrict the residual."""
        self.smoothing.descend(self, r, top)
        coarse.scale(top.fields.psi, top.fields.r)

    def ascend(self, r: F32, z: F32, top: Level) -> float:
        """Correct `smoothed`, smooth into z and return r.z."""
        return self.smoothing.ascend(self, r, z, top)

    def twin(self, threads: int) -> Self:
        """Return the same level with work vectors and threads of its own."""
        twin = copy.copy(self)
        twin._allocate(threads)
        return twin

    def memory(self) -> int:
        """Return the bytes of all arrays, each counted once."""
        arrays = {id(a): a.nbytes for a in _arrays((self.diagonal, self.smoothed, self.scaling, vars(self.smoothing)))}
        return sum(arrays.values()) + bytes_of(self.scratch)


def _arrays(held: Any) -> Iterator[NDArray[Any]]:
    """Yield the arrays in nested tuples and dictionaries."""
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, tuple | dict):
        for own in held.values() if isinstance(held, dict) else held:
            yield from _arrays(own)


def by_rows(box: Box, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the cells of each row of a box begin among some that ascend, and where the last row's end."""
    i, j = np.divmod(np.arange(box.n[0] * box.n[1] + 1), box.n[1])
    return np.searchsorted(cells, (i + 1) * box.s[0] + (j + 1) * box.s[1])


def scaling_of(box: Box, phi: np.float32, cells: NDArray[np.int64], ratio: F32) -> Scaling:
    """Return a transfer scaling that is phi but for some cells, ascending, where it is `ratio` times that."""
    return Scaling(phi, by_rows(box, cells), (cells % box.s[0]).astype(np.int32), ratio)
