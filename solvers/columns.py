"""Several right-hand sides at once: preconditioned conjugate gradients whose columns share every pass over A and M.

Each column has step lengths of its own (vectors alpha and beta), so its iterates are those that it would have alone. A
column that has met its target leaves, and the block becomes narrower when half of its columns have left: one hard
column costs no more than alone. A column whose iteration breaks down is left as it was, to be solved on its own.

This is an accelerator only: each column is certified, or goes on alone from where it is, by `refinement.refine`, which
recomputes its true residual first. Residuals that the recursion carries along are believed as far as there, see
`conjugate_directions`.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import norms, power_of_two
from deepcd.solvers.kernels import columns as passes
from deepcd.solvers.kernels.rows import lanes
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.solution import Status
from deepcd.solvers.space import BlockOperator, BlockPreconditioner

Block = NDArray[np.float64]

_ALL = lanes(passes.LANES)
WIDTHS = (1, 2, 4, 8)  # columns that passes are compiled for
MEMORY = 1 << 31  # bytes that the vectors of a block may take
BYTES = 96  # of vectors per unknown and column: b, x, r, p, q, z, the best x, and what the preconditioner needs
_EPS = float(np.finfo(np.float64).eps)
_ROUND = 1e-13  # no iteration asks for a smaller relative residual, as in `refinement`


def iterate_together(parts: Parts, B: Block, X: Block, targets: NDArray[np.float64], limits: Limits) -> list[Outcome]:
    """Iterate on blocks of at most eight columns, each column until it should meet its target.

    Parameters
    ----------
    parts : Parts
        The parts of A, with a `MatrixOperator`: not on a grid.
    B : ndarray of float64, shape (n, k)
        Right-hand sides, finite.
    X : ndarray of float64, shape (n, k)
        Where to start, zero where a column of B is; overwritten by the answer in the columns that were iterated on.
    targets : ndarray of float64, shape (k,)
        Norms of the columns of B - A X that are to be reached; infinite where there is nothing to be done.
    limits : Limits
        `maxiter`, `deadline` and `callback`, which is given the block X; `target` is not read.

    Returns
    -------
    list of k Outcomes
        x is a column of X. CALLBACK or TIMEOUT if the iteration was stopped, else MAXITER: the true residual has to be
        looked at. A column that is better solved alone has no residuals: nothing has been done for it. These are all
        columns where M is not symmetric or has no ``columns``, those that are left over when there are too few for a
        block to pay, and those of zeros, that ask for the attainable accuracy, that no x reaches, or that broke down.
    """
    histories: list[list[float]] = [[] for _ in targets]
    status = Status.MAXITER
    M: Any = parts.M
    fewest = max(getattr(M, "fewest_columns", 2), 2)
    if M.symmetric and hasattr(M, "columns") and targets.size >= fewest:
        lost = B[parts.alone[parts.diagonal == 0]].any(axis=0)
        # B.any(axis=0) would take as long as an iteration.
        waiting = np.flatnonzero((norms(B) > 0) & (targets > 0) & (targets < np.inf) & ~lost)
        while waiting.size >= fewest and status is Status.MAXITER:
            width = _width(waiting.size, len(B))
            if width < fewest:
                break
            block = _Block(parts, B, X, waiting[:width], targets, width)
            status = block.iterate(limits)
            for column, history in zip(block.columns, block.histories(), strict=True):
                histories[column] = history
            waiting = waiting[width:]
    return [Outcome(x, status, history) for x, history in zip(X.T, histories, strict=True)]


def _width(count: int, n: int) -> int:
    """Return the width of a block for up to so many columns of n entries."""
    fitting = max(width for width in WIDTHS if width == 1 or width * n * BYTES <= MEMORY)
    return min(width for width in WIDTHS if width >= min(count, fitting))


class _Block:
    """Columns of X that iterate together.

    Parameters
    ----------
    parts, B, X, targets
        See `iterate_together`.
    columns : ndarray of int, shape (m,)
        Which columns.
    width : int
        One of `WIDTHS`, at least m. Where it is larger, there are places without a column, whose vectors are zero.
    """

    def __init__(
        self, parts: Parts, B: Block, X: Block, columns: NDArray[np.int64], targets: NDArray[np.float64], width: int
    ) -> None:
        self.parts, self.X, self.columns, m = parts, X, columns, columns.size
        first, last = int(columns[0]), int(columns[-1])
        # Neighbours are worked on where they are, others are copied.
        self.chosen: Any = slice(first, last + 1) if last - first == m - 1 else columns
        right = B[:, self.chosen]
        started = bool(X[:, self.chosen].any())
        self.start = X[:, self.chosen].copy() if started or parts.alone.size else None
        initial = norms(right - parts.A @ self.start if started else right)
        if self.start is not None:
            parts.solve_alone(right, self.start)
            right = right - parts.A @ self.start
        if not isinstance(parts.rows, slice):
            right = right.take(parts.rows, axis=0)
        sizes = initial if self.start is None else norms(right)
        units = np.array([power_of_two(size) if size > 0 else 1.0 for size in sizes])
        self._take(width)
        A = self.A
        self.b, self.x, self.r, self.p, self.q, self.z, self.best = A.workspace(7)
        A.embed(right, 1 / units, self.b)
        goals, beyond, norm = targets[columns] / units, np.zeros(m), sizes / units
        if parts.singular:
            self.r[:] = self.b
            A.project(self.b)
            self.r -= self.b
            beyond, norm = (np.sqrt(A.dot(v, v)[:m]) for v in (self.r, self.b))
        reached = np.sqrt(np.maximum(goals - beyond, 0)) * np.sqrt(goals + beyond)
        self.r[:], self.x[:], self.p[:] = self.b, 0, 0
        # What is known of each place: see `passes`. Norms there are in units, one for each column.
        self.column = np.minimum(np.arange(width), m)  # which of the columns is at a place; m: none
        self.units, self.beyond, self.wide = units, beyond * units, np.empty(passes.LANES)
        self.state = np.zeros((passes.STATE, width))
        state = self.state[:, :m]
        state[[passes.INITIAL, passes.ANCHOR, passes.LOWEST]] = norm
        state[passes.GOAL] = np.maximum(reached, _ROUND * sizes / units)
        state[passes.BELIEVED] = np.maximum(state[passes.GOAL], _EPS * norm)
        state[passes.LIVE] = live = (norm > state[passes.GOAL]) & (beyond <= goals) & np.isfinite(initial)
        self.state[[passes.ALIGNED, passes.BEST]] = 1
        self.norms: list[NDArray[np.float64]] = []  # of each iteration, in the order of the columns
        self.lengths = np.where(live, -1, 0)  # iterations that a column was there for; none counts if it is dropped
        self.initial = initial
        self.recomputed = False  # the residual of a column is not that of the recursion

    def _take(self, width: int) -> None:
        """Take passes for so many columns."""
        M: Any = self.parts.M
        self.A: BlockOperator = self.parts.operator.columns(width)
        self.M: BlockPreconditioner = M.columns(width)
        self.sums = np.empty(width)

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which places have a column that iterates."""
        return self.state[passes.LIVE] > 0

    def histories(self) -> list[list[float]]:
        """Return the norms of the residuals of each column; none where nothing has been done."""
        if not self.norms:
            return [[] for _ in self.columns]
        norms = np.hypot(np.array(self.norms)[:, : self.columns.size] * self.units, self.beyond)
        rows = np.vstack([self.initial, norms]).T
        return [row[: length + 1].tolist() if length else [] for row, length in zip(rows, self.lengths, strict=True)]

    @np.errstate(all="ignore")  # of columns that are not live, nothing is used
    def iterate(self, limits: Limits) -> Status:
        """Iterate until no column is left, and write the answers to X; return why it ended, MAXITER if it converged."""
        status = Status.MAXITER
        while status is Status.MAXITER and len(self.norms) < limits.maxiter and self.state[passes.LIVE].any():
            met = self._advance()
            if met:
                self._settle(met)
            if limits.callback is not None:
                told = self.X.copy()
                self._write(told, self.live, self.x)
                status = Status.CALLBACK if limits.callback(told) is True else status
            if status is Status.MAXITER and limits.deadline < math.inf and time.perf_counter() > limits.deadline:
                status = Status.TIMEOUT
        if self.norms:
            self._leave(self.live, best=status is not Status.CALLBACK)
        return status

    def _advance(self) -> int:
        """Do one iteration; return what there is to be looked at, see `passes`."""
        A, state, x, r, p, q, z = self.A, self.state, self.x, self.r, self.p, self.q, self.z
        recomputed, self.recomputed = self.recomputed, False
        if recomputed:  # what p can do is done before the next direction leaves it
            alpha = np.where(state[passes.ALIGNED] > 0, 0.0, A.dot(r, p) / state[passes.PQ])
            passes.step(_ALL, self.wide, alpha, p, q, x, r, self.sums)
        rz = self.M.apply(r, z)
        if A.project(z):  # which rounds z, and the product is that of the z that is used
            rz = A.dot(r, z)
        passes.turn(_ALL, self.wide, state, rz, self.parts.M.linear, not self.norms, q, z, p, self.sums)
        pq = A.product(p, q)
        rp = A.dot(r, p) if recomputed else rz
        met = passes.advance(_ALL, self.wide, state, rp, pq, p, q, x, r, self.best, self.sums)
        norms = np.zeros(self.columns.size + 1)
        norms[self.column] = state[passes.NORM]
        self.norms.append(norms)
        return int(met)

    def _settle(self, met: int) -> None:
        """Let columns that broke down leave, and those at their end, which the true residuals tell."""
        if met & passes.BROKEN:
            self._gone(~self.live & (self.column < self.columns.size), 0)
        if met & passes.DOUBTFUL:
            self._recompute()
        if self.live.any():
            self._narrow()

    def _recompute(self) -> None:
        """Compute the residuals of columns that may have converged anew; let those at their end leave."""
        state, norm = self.state, self.state[passes.NORM]
        doubtful = self.live & (norm <= state[passes.BELIEVED])
        np.sqrt(self.A.residual(self.b, self.x, self.z), out=norm, where=doubtful)
        self.norms[-1][self.column] = norm
        # What the recursion said before is void.
        state[passes.LOWEST, doubtful], state[passes.BEST, doubtful] = norm[doubtful], 1
        ended = doubtful & ((norm <= state[passes.GOAL]) | (norm > 0.5 * state[passes.ANCHOR]))
        again = doubtful & ~ended
        if again.any():
            self.recomputed = True
            self.A.project(self.z)
            self.A.block(self.r)[:, again] = self.A.block(self.z)[:, again]
            state[passes.ALIGNED, again], state[passes.ANCHOR, again] = 0, norm[again]
            state[passes.BELIEVED, again] = np.maximum(state[passes.GOAL], 0.1 * norm)[again]
        self._leave(ended)

    def _gone(self, places: NDArray[np.bool_], length: int) -> None:
        """Take note that the columns at these places have left after so many iterations, 0 to do them again."""
        self.lengths[self.column[places]] = length
        self.column[places], self.state[passes.LIVE, places] = self.columns.size, 0

    def _leave(self, ended: NDArray[np.bool_], *, best: bool = True) -> None:
        """Write columns that are at their end to X."""
        at_best = (self.state[passes.BEST] > 0) | (not best)
        for v, places in ((self.x, ended & at_best), (self.best, ended & ~at_best)):
            if places.any():
                if self.parts.singular:
                    self.A.project(v)
                self._write(self.X, places, v)
        self._gone(ended, len(self.norms))

    def _write(self, X: Block, places: NDArray[np.bool_], v: Block) -> None:
        """Set columns of X to what a vector with the corrections makes of the start."""
        column = self.column[places]
        factors = self.units[column] / self.parts.scale
        rows = self.parts.rows
        whole = column.size == places.size == self.columns.size and isinstance(self.chosen, slice)
        if self.start is None and whole:
            X[rows, self.chosen] = np.multiply(self.A.block(v), factors, out=self.A.block(self.z))
            return
        answer = np.zeros((len(X), column.size)) if self.start is None else self.start[:, column]
        answer[rows] += self.A.block(v)[:, places] * factors
        X[:, self.columns[column]] = answer

    def _narrow(self) -> None:
        """Keep the columns that are left in a block that is as narrow as can be."""
        live, before = self.live, self.A
        width = min(width for width in WIDTHS if width >= live.sum())
        if width < live.size:
            kept = np.sort(np.argsort(~live, kind="stable")[:width])
            self._take(width)
            self.state, self.column = np.ascontiguousarray(self.state[:, kept]), self.column[kept]
            self.b, self.x, self.r, self.p, self.q, self.best = (
                self.A.embed(before.block(v)[:, kept]) for v in (self.b, self.x, self.r, self.p, self.q, self.best)
            )
            self.z = self.A.zeros()
