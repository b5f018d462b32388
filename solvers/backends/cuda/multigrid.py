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
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid

BLOCKS = 512  # that a pass is divided into, if it has as many tiles and planes
LEAST_PLANES = 16  # of a block: four more on either side are computed anew


class CudaMultigrid:
    """M of the learned cycle on the device.

    Parameters
    ----------
    M : LearnedMultigrid
        Set up on the processor, with the shipped or other weights.
    sums : Sums
        Shared with the operator.
    """

    symmetric = linear = True
    work = 4.0  # passes: down, up, and the outer two

    def __init__(self, M: LearnedMultigrid, sums: Sums) -> None:
        self.name, self._text = M.name, str(M)
        self._size, self._sums = M.diagonal.size, sums
        cells, delta = listed(M)
        mask, before = bits(cells, self._size)
        finest = cuda_finest.PLANE if M.s[1] == 0 else cuda_finest.BOX
        self._finest, self._coarse = finest, cuda_coarse.PLANE if M.s[1] == 0 else cuda_coarse.BOX
        constants = [tuple(np.float32(c) for c in S[0]) for S in (M.first, M.second)]
        tables = [cuda.to_device(v) for v in (M.diagonal, mask, before)]
        self._geometry = M.n, M.s, *tables, *constants, cuda.to_device(delta), np.float32(M.phi)
        self._taps = _taps(M.taps)
        self._smoothed = CudaVector.zeros(self._size, np.float32, sums).array
        self._down, self._down_share = division(M.n, finest.tile, 2 * M.levels[0].n[0])
        self._up, self._up_share = division(M.n, finest.tile, M.n[0])
        sums.reserve(math.prod(self._up))
        pool = cuda.to_device(M.pool)
        self._bottom = (
            *(cuda.to_device(v) for v in (M.table, M.numbers)), pool,
            *(cuda.to_device(v) for v in (M.exact_cells.astype(np.int64), M.exact)),
        )  # fmt: skip
        self._levels = [Level(level, row, pool) for level, row in zip(M.levels, M.table.tolist(), strict=True)]
        self._weights = [np.float32(w) for w in M.numbers[:, 6]]

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
        if level.size <= cuda_coarse.LARGEST or depth == len(self._levels) - 1:
            start(cuda_coarse.visit, 1, cuda_coarse.VISITORS, *self._bottom, depth)
            return
        lower, weight = self._levels[depth + 1], self._weights[depth]
        for again, right in ((True, level.r), (False, level.t)):
            self.descend_level(level, lower, right)
            self.visit(depth + 1)
            self.ascend_level(level, lower, right, level.e if again else level.z, weight, again=again)

    def descend_level(self, level: Level, lower: Level, r: Any) -> None:
        """Smooth from zero into y and restrict the residual, scaled, to r of the next level."""
        blocks, share = division(level.n, self._coarse.down, 2 * lower.n[0])
        start(
            self._coarse.descend, blocks, self._coarse.threads, *level.coefficients, r, level.y, lower.n, lower.s,
            *level.taps, lower.psi, lower.r, share,
        )  # fmt: skip

    def ascend_level(self, level: Level, lower: Level, r: Any, out: Any, weight: np.float32, *, again: bool) -> None:
        """Add the correction to y and smooth, into `out`; leave the residual in t if there is to be another visit."""
        blocks, share = division(level.n, self._coarse.up, level.n[0])
        start(
            self._coarse.ascend, blocks, self._coarse.threads, *level.coefficients, r, level.y, lower.s, *level.taps,
            lower.z, out, level.t, level.psi, weight, level.e, again, share,
        )  # fmt: skip


class Level:
    """Fields of a coarse level on the device, which are parts of one array."""

    def __init__(self, level: Any, row: list[int], pool: Any) -> None:
        self.n, self.s, self.size = level.n, level.s, level.size

        def part(k: int, axes: int = 1) -> Any:
            field = pool[row[k] : row[k] + axes * self.size]
            return field.reshape(axes, self.size) if axes > 1 else field

        diagonal, w, a, c, phi = part(6), part(7, 3), part(8), part(9, 3), part(10)
        self.coefficients = self.n, self.s, diagonal, w, a, c, phi
        self.psi, self.r, self.z, self.t, self.e, self.y = (part(k) for k in range(11, 17))
        self.taps = _taps(level.taps)


def _taps(taps: Any) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
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


def listed(M: LearnedMultigrid) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the cells of the finest level with coefficients of their own, and what these differ by.

    Returns
    -------
    cells : int64 (m,)
        Flat indices, ascending.
    delta : float32 (15, m), or (15, 1) if there are none
        Rows as in `kernels/finest.py`.
    """
    _, first, runs, ends, places = M.first
    row_of_run = np.repeat(np.arange(runs.size - 1), np.diff(runs))
    row = np.repeat(row_of_run, np.diff(ends))
    cells = (row // M.n[1] + 1) * M.s[0] + places
    delta = np.ones((15, max(cells.size, 1)), dtype=np.float32)
    delta[:7, : cells.size], delta[7:14, : cells.size] = first, M.second[1]
    scaled = np.repeat(np.arange(M.starts.size - 1), np.diff(M.starts)) // M.n[1] + 1
    delta[14, np.searchsorted(cells, scaled * M.s[0] + M.cells)] = M.ratio
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
