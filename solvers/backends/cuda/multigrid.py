"""The learned multigrid cycle on a CUDA device, with the tables that its set-up on the processor made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse
from deepcd.solvers.backends.cuda.kernels import finest as cuda_finest
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, start
from deepcd.solvers.kernels import layout
from deepcd.solvers.kernels.records import Taps
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest

BLOCKS = 512  # largest number of blocks that share a pass, if it has as many tiles and planes
LEAST_PLANES = 16  # smallest share of planes of a block: four more on either side are computed anew


class CudaMultigrid:
    """M of the learned cycle on the device.

    Parameters
    ----------
    M : Cycle
        The learned cycle, set up on the processor, with the shipped or other weights.
    sums : Sums
        Shared with the operator.
    """

    symmetric = True
    work = Cycle.work

    def __init__(self, M: Cycle, sums: Sums) -> None:
        own = M.finest
        assert isinstance(own, UnitFinest)
        assert isinstance(own.smoothing, FusedPair)
        self.name, self._text, self.linear = M.name, str(M), M.linear
        self._size, self._sums = own.diagonal.size, sums
        cells, delta = listed(own, own.smoothing)
        mask, before = bits(cells, self._size)
        (n, s), top = own.box, M.levels[0].box
        finest = cuda_finest.PLANE if s[1] == 0 else cuda_finest.BOX
        self._finest, self._coarse = finest, cuda_coarse.PLANE if s[1] == 0 else cuda_coarse.BOX
        constants = [tuple(map(np.float32, S.constants)) for S in (own.smoothing.first, own.smoothing.second)]
        tables = [cuda.to_device(v) for v in (own.diagonal, mask, before)]
        self._geometry = n, s, *tables, *constants, cuda.to_device(delta), np.float32(own.scaling.phi)
        self._taps = _taps(own.taps)
        self._smoothed = CudaVector.zeros(self._size, np.float32, sums).array
        self._down, self._down_share = division(n, finest.tile, 2 * top.n[0])
        self._up, self._up_share = division(n, finest.tile, n[0])
        sums.reserve(math.prod(self._up))
        if M.unweighed:
            M.weigh_second_visits()
        table, numbers, pool, *exact = M.memory_map
        self._bottom = layout.Memory(*map(cuda.to_device, (table, numbers, pool, *exact)))
        rows = table.tolist()
        self._levels = [
            DeviceLevel(row, level.taps, self._bottom.pool) for level, row in zip(M.levels, rows, strict=True)
        ]
        self._weights = [np.float32(w) for w in numbers[:, layout.WEIGHT]]

    def __str__(self) -> str:
        return f"{self._text}; on a CUDA device"

    def zeros(self) -> Any:
        """Return a zero vector of the kind that `apply` writes: float32 on the padded box."""
        return CudaVector.zeros(self._size, np.float32, self._sums)

    def apply(self, r: CudaVector, z: CudaVector) -> float:
        """Set z to M r and return r.z."""
        self.descend(r)
        self.visit(0)
        return self.ascend(r, z)

    def descend(self, r: CudaVector) -> None:
        """Smooth with S1 and S2 from zero and restrict the residual, scaled, to r of the second level."""
        top = self._levels[0]
        start(
            self._finest.descend, self._down, self._finest.threads, *self._geometry, r.array, self._smoothed,
            top.n, top.s, *self._taps, top.psi, top.r, self._down_share,
        )  # fmt: skip

    def ascend(self, r: CudaVector, z: CudaVector) -> float:
        """Add the correction that waits in the second level, smooth with S2 and S1 into z, and return r.z."""
        top = self._levels[0]
        start(
            self._finest.ascend, self._up, self._finest.threads, *self._geometry, r.array, self._smoothed, z.array,
            top.s, *self._taps, top.z, self._up_share, self._sums.partials,
        )  # fmt: skip
        return self._sums.total(math.prod(self._up))

    def visit(self, depth: int) -> None:
        """Set z of a level to psi times what two cycles, or the exact solution on the last one, make of its r."""
        level = self._levels[depth]
        if level.size <= cuda_coarse.ONE_BLOCK or depth == len(self._levels) - 1:
            start(cuda_coarse.visit, 1, cuda_coarse.VISITORS, *self._bottom, depth)
            return
        lower, weight = self._levels[depth + 1], self._weights[depth]
        for again, right in ((True, level.r), (False, level.t)):
            self.descend_level(level, lower, right)
            self.visit(depth + 1)
            self.ascend_level(level, lower, right, level.e if again else level.z, weight, again=again)

    def descend_level(self, level: DeviceLevel, lower: DeviceLevel, r: Any) -> None:
        """Smooth from zero into y and restrict the residual, scaled, to r of the next level."""
        blocks, share = division(level.n, self._coarse.down, 2 * lower.n[0])
        start(
            self._coarse.descend, blocks, self._coarse.threads, *level.coefficients, r, level.y, lower.n, lower.s,
            *level.taps, lower.psi, lower.r, share,
        )  # fmt: skip

    def ascend_level(
        self, level: DeviceLevel, lower: DeviceLevel, r: Any, out: Any, weight: np.float32, *, again: bool
    ) -> None:
        """Add the correction to y and smooth, into `out`; leave the residual in t if there is to be another visit."""
        blocks, share = division(level.n, self._coarse.up, level.n[0])
        start(
            self._coarse.ascend, blocks, self._coarse.threads, *level.coefficients, r, level.y, lower.s, *level.taps,
            lower.z, out, level.t, level.psi, weight, level.e, again, share,
        )  # fmt: skip


class DeviceLevel:
    """Fields of a coarse level on the device, which are parts of one array."""

    def __init__(self, row: list[int], taps: Taps, pool: Any) -> None:
        self.n, self.s = layout.box_of(row)
        self.size, fields = row[layout.SIZE], layout.fields_of(row, pool)
        own = layout.coefficients_of(fields)
        self.coefficients = self.n, self.s, *own
        self.psi, self.r, self.z, self.t, self.e, self.y = fields[len(own) :]
        self.taps = _taps(taps)


def _taps(taps: Taps) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Return near and far weights as kernels take them."""
    return tuple(np.float32(t) for t in taps.near), tuple(np.float32(t) for t in taps.far)


def division(n: tuple[int, ...], tile: tuple[int, int], planes: int) -> tuple[tuple[int, int, int], int]:
    """Return the blocks, over columns, rows and planes, that share a pass, and the planes of each, an even number.

    It depends on the box only, so that sums are the same on every device.
    """
    columns, rows = -(-n[2] // tile[1]), -(-n[1] // tile[0])
    parts = max(1, min(BLOCKS // (columns * rows), planes // LEAST_PLANES))
    share = -(-planes // parts) + 1 & ~1
    return (columns, rows, -(-planes // share)), share


def listed(finest: UnitFinest, pair: FusedPair) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the cells of the finest level with coefficients of their own, and what these differ by.

    Returns
    -------
    cells : int64 (m,)
        Flat indices, ascending.
    delta : float32 (15, m), or (15, 1) if there are none
        Rows as in `kernels/finest.py`.
    """
    (n, s), scaling = finest.box, finest.scaling
    _, first, runs, ends, places = pair.first
    row_of_run = np.repeat(np.arange(runs.size - 1), np.diff(runs))
    row = np.repeat(row_of_run, np.diff(ends))
    cells = (row // n[1] + 1) * s[0] + places
    delta = np.ones((15, max(cells.size, 1)), dtype=np.float32)
    delta[:7, : cells.size], delta[7:14, : cells.size] = first, pair.second.delta
    scaled = np.repeat(np.arange(scaling.starts.size - 1), np.diff(scaling.starts)) // n[1] + 1
    delta[14, np.searchsorted(cells, scaled * s[0] + scaling.cells)] = scaling.ratio
    return cells, delta


def bits(cells: NDArray[np.int64], size: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return a bit per entry of a box, set for some cells, and how many are set ahead of every 32nd entry.

    Examples
    --------
    >>> from deepcd.solvers.backends.cuda.multigrid import bits
    >>> [v.tolist() for v in bits(np.array([0, 3, 33]), 40)]
    [[9, 2], [0, 2]]
    """
    flags = np.zeros(-(-size // 32) * 32, dtype=np.bool_)
    flags[cells] = True
    mask = np.packbits(flags, bitorder="little").view("<u4").astype(np.uint32)
    counts = flags.reshape(-1, 32).sum(axis=1)
    return mask, (np.cumsum(counts) - counts).astype(np.uint32)
