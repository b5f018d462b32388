"""How a prepared matrix is solved with: what is tried, for how long, and what takes over if it disappoints.

On a grid: a cycle; after some iterations its progress is looked at, and a strong preconditioner that needs no grid
takes over where more of them are left than its set-up is worth, and at once where faces vary so that no coarse grid can
follow. Nor is a grid used for a single solve that takes a handful of simple iterations.

Without a grid: over-relaxation, which costs nothing to set up, is watched, and left for what promises to be cheaper in
all (`ladder.py`). A solve that fails all the same is examined for a null vector. Several right-hand sides: together or
side by side, then one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import norms
from deepcd.solvers.beginning import DOMINANT
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.ladder import Ladder
from deepcd.solvers.options import Config
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.preparation import prepare
from deepcd.solvers.prepared import F64, DType, Prepared, Solvable
from deepcd.solvers.recipes import ALGEBRAIC, RELAXATION
from deepcd.solvers.solution import Status
from deepcd.solvers.space import space_of
from deepcd.solvers.structure import Structure, without_grid

# Iterations of a cycle on a grid after which its progress is looked at, and iterations of it that take as long as the
# set-up of another strong preconditioner; and the same where faces have weights of their own.
PATIENCE, WORTH = 30, 150
ON_FACES = 20, 60
# Share of coarse faces, in two and in three dimensions, from which on they do not follow what varies in fine ones.
FAILING = {2: 0.05, 3: 0.3}

_AGAIN = 2  # times as many iterations as a cycle has done before it is looked at again

_FAILURES = Status.MAXITER, Status.INDEFINITE_PRECONDITIONER
_STOPPED = (Status.CALLBACK, Status.TIMEOUT)


class Strategy:
    """The preparation that is in use for a matrix, and the decisions about it.

    Parameters
    ----------
    structure : Structure
        The matrix and what is known of it.
    config : Config
        How to prepare it.
    check : bool
        Whether to probe a matrix without a grid for symmetry and definiteness.
    previous : Strategy, optional
        That of a matrix with the same pattern, whose preparation may be reused; it is not changed.
    once : bool, default False
        Whether there will be one solve only, so that its set-up must not cost more than that solve gains.

    Attributes
    ----------
    structure : Structure
        The matrix and what is made use of.
    """

    _ladder: Ladder

    def __init__(
        self, structure: Structure, config: Config, check: bool, previous: Strategy | None = None, *, once: bool = False
    ) -> None:
        self.structure, self._config = structure, config
        before = None if previous is None else previous._ladder
        if once and self._is_dominant:
            self.structure = without_grid(structure, "the diagonal dominates: simple iterations cost less than a cycle")
        self._ladder = Ladder(self.structure, config, check, before, once=once)
        self.structure = self._ladder.structure
        if self._fails:
            reason = "the weights of neighbouring faces vary so much that coarse grids cannot follow"
            self.structure = without_grid(structure, reason)
            strong = replace(config, recipe=ALGEBRAIC)  # simple iterations would be many there
            self._ladder = Ladder(self.structure, strong, check, None, once=once)
        self._twins: list[Prepared] = []

    @property
    def _is_dominant(self) -> bool:
        """Whether a grid with face weights has been found on which few simple iterations are to be expected."""
        grid = self.structure.on_grid
        return RELAXATION in self._config.candidates and grid is not None and grid.dominance > DOMINANT

    @property
    def _fails(self) -> bool:
        """Whether the cycle on a grid with face weights promises nothing."""
        failing = getattr(self.prepared.parts.M, "failing", 0.0) if isinstance(self.prepared, Solvable) else 0.0
        grid = self.structure.on_grid
        return (
            grid is not None and ALGEBRAIC in self._config.candidates and failing > FAILING[len(grid.embedding.shape)]
        )

    @property
    def prepared(self) -> Prepared:
        """What is in use."""
        return self._ladder.prepared

    def strengthen(self) -> None:
        """Use the strongest preconditioner, for those who apply it themselves."""
        self._ladder.strengthen()

    def _use(self, prepared: Prepared) -> None:
        self._ladder.prepared = prepared
        self._twins = []

    @property
    def _may_switch(self) -> bool:
        """Whether another preconditioner may take the place of a cycle on a grid."""
        return self.prepared.on_grid and ALGEBRAIC in self._config.candidates

    @property
    def _patience(self) -> tuple[int, int]:
        """Iterations of the cycle after which to look, and how many may be left then."""
        return ON_FACES if self._has_faces else (PATIENCE, WORTH)

    @property
    def _has_faces(self) -> bool:
        """Whether there is a grid whose couplings differ."""
        operator = self.prepared.parts.operator if isinstance(self.prepared, Solvable) else None
        return not isinstance(getattr(operator, "stencil", None), UnitStencil | None)

    @property
    def _failures(self) -> tuple[Status, ...]:
        """How a cycle on a grid ends that another preconditioner may do better than.

        Directions in single precision do not always reach what double precision attains where faces have contrasts.
        """
        return (*_FAILURES, Status.ATTAINABLE_ACCURACY) if self._has_faces else _FAILURES

    def _patient(self, limits: Limits) -> Limits:
        """Return the limits, with no more iterations than it takes to see whether to switch."""
        return replace(limits, maxiter=min(limits.maxiter, self._patience[0])) if self._may_switch else limits

    def _switch(self) -> None:
        """Replace a cycle that does badly on this grid, as it does where walls are thinner than coarse cells."""
        self._use(prepare(self.structure, self._config, recipe=ALGEBRAIC, check=False))

    def solve(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType) -> Outcome:
        """Solve for one right-hand side; if that fails, find out whether another way leads further.

        Parameters
        ----------
        b : ndarray of float64, shape (n,)
            Right-hand side of A, finite.
        x0 : ndarray of float64, shape (n,), or None
            Where to start; None: zero. Not changed.
        limits : Limits
            When to stop.
        dtype : float32 or float64
            Precision of the answer.
        """
        space, sign = space_of(b), self.structure.sign
        if not b.any():
            return Outcome(space.cast(space.zeros(b), dtype), Status.CONVERGED, [0.0])
        outcome = self._solve(b if sign > 0 else space.scale(-1.0, b), x0, limits, dtype)
        if sign < 0 and self.prepared.solvable:
            detail = f"{outcome.detail} The diagonal of A is negative: -A x = -b was solved."
            outcome = replace(outcome, detail=detail.lstrip())
        return outcome

    def _solve(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType) -> Outcome:
        outcome = self._ladder.solve(b, x0, self._patient(limits), dtype, lambda: self._patience[0])
        spent = len(outcome.residuals) - 1
        if outcome.status in self._failures and self._may_switch:
            while spent < limits.maxiter and outcome.status in self._failures and self._may_switch:
                left = _left(outcome.residuals, limits.target)
                if outcome.status is not Status.MAXITER or left > self._patience[1]:
                    self._switch()
                # Residuals may stall later on: as long as it is the cycle that goes on, it is looked at again.
                most = _AGAIN * spent if self._may_switch else limits.maxiter
                rest = replace(limits, maxiter=min(limits.maxiter - spent, most))
                outcome = outcome.then(self.prepared.solve(b, outcome.x.astype(float), rest, dtype))
                spent = len(outcome.residuals) - 1
        elif outcome.is_puzzling and spent:
            singular = self.prepared.singular(b, x0, limits, spent)
            if singular is not None:
                outcome = singular.solve(b, x0, limits, dtype)
        return outcome

    def solve_block(
        self, B: F64, start: F64 | None, targets: F64, limits: Limits, dtype: DType
    ) -> tuple[list[Outcome], F64]:
        """Solve for several right-hand sides: together, then each that has not converged on its own.

        Parameters
        ----------
        B : ndarray of float64, shape (n, k)
            Right-hand sides of A, finite.
        start : ndarray of float64, shape (n, k), or None
            Where to start; None: zero. Not changed.
        targets : ndarray of float64, shape (k,)
            For the norms of the columns of B - A X.
        limits : Limits
            When to stop; its callback is given the block X, and its target is not read.
        dtype : float32 or float64
            Precision of the answers.

        Returns
        -------
        list of k Outcomes, and X in float64, shape (n, k)
        """
        if self.prepared.on_grid:  # column by column: they had better lie one after the other
            B = _by_columns(B)
            start = None if start is None else _by_columns(start)
        X = np.zeros_like(B) if start is None else np.where(B.any(axis=0), start, 0.0)
        block = _Columns(B, X, start is not None, targets, limits, dtype)
        pilot = int(np.argmax(norms(B) > 0)) if self._ladder.is_undecided else None
        first = None
        if pilot is not None:  # which method suits the matrix is found out with one column
            first = block.solve(pilot, _not_begun(X[:, pilot]), self.solve)
        outcomes = self._at_once(block, pilot)
        for j, before in enumerate(outcomes):
            if j == pilot and first is not None:
                outcomes[j] = first
            elif before.status is not Status.CONVERGED:
                outcomes[j] = block.solve(j, before, self.solve)
        return outcomes, X

    def _at_once(self, block: _Columns, done: int | None) -> list[Outcome]:
        """Do for all columns together what can be done so, but for one that is done; X has the answers afterwards."""
        B, X, limits, dtype = block.B, block.X, block.limits, block.dtype
        signed, tell = B if self.structure.sign > 0 else -B, limits.callback
        if block.halted is not None:
            return [_not_begun(x) for x in X.T]
        if self.prepared.on_grid and tell is None and self._config.threads > 1:
            return self._side_by_side(signed, block)
        told = limits if tell is None else replace(limits, callback=lambda iterate: tell(iterate.astype(dtype)))
        targets = block.targets.copy()
        if done is not None:
            targets[done] = math.inf
        together = self.prepared.together(signed, X, targets, self._patient(told))
        return [_not_begun(x) for x in X.T] if together is None else together

    def _side_by_side(self, B: F64, block: _Columns) -> list[Outcome]:
        """Solve for the columns on a grid, each by one thread alone: no thread waits for another at every pass.

        Several columns in one pass, interleaved, are slower than one after the other: what bounds a pass is memory, and
        the vectors of one column are more likely to stay in a cache.
        """
        X, limits, dtype = block.X, block.limits, block.dtype
        count = min(self._config.threads, B.shape[1])
        while len(self._twins) < count:
            self._twins.append(self.prepared.twin())
        outcomes = [_not_begun(x) for x in B.T]

        def work(first: int) -> None:
            for j in range(first, B.shape[1], count):
                own = self._patient(replace(limits, target=float(block.targets[j]), callback=None))
                outcome = self._twins[first].solve(B[:, j], X[:, j].copy() if block.started else None, own, dtype)
                outcomes[j] = _placed(outcome, X[:, j], dtype)

        with ThreadPoolExecutor(count, "deepcd") as pool:
            list(pool.map(work, range(count)))
        return outcomes


class _Columns:
    """Several right-hand sides, and what has become of them.

    Attributes
    ----------
    halted : Status or None
        Why no further iteration starts, if that is so.
    """

    def __init__(self, B: F64, X: F64, started: bool, targets: F64, limits: Limits, dtype: DType) -> None:
        self.B, self.X, self.started, self.targets = B, X, started, targets
        self.limits, self.dtype = limits, dtype
        self.halted: Status | None = None

    def solve(self, j: int, before: Outcome, solve: Callable[[F64, F64 | None, Limits, DType], Outcome]) -> Outcome:
        """Solve for column j alone, from where it is; return its whole outcome."""
        X, limits, dtype, tell = self.X, self.limits, self.dtype, self.limits.callback
        stopped = self.halted if self.halted is not None else before.status
        rest = 0 if stopped in _STOPPED else max(limits.maxiter - max(len(before.residuals) - 1, 0), 0)
        told = None if tell is None else _tell_all(tell, X, j, dtype)
        x0 = None if not before.residuals and not self.started else X[:, j].copy()
        own = replace(limits, target=float(self.targets[j]), maxiter=rest, callback=told)
        after = solve(np.ascontiguousarray(self.B[:, j]), x0, own, dtype)
        if rest == 0 and after.status is Status.MAXITER:
            after = replace(after, status=stopped)
        if after.status in _STOPPED:
            self.halted = after.status  # of the others, no iteration starts
        after = _placed(after, X[:, j], dtype)
        return before.then(after) if before.residuals else after


def _not_begun(x: F64) -> Outcome:
    """Return the outcome of a column for which nothing has been done."""
    return Outcome(x, Status.MAXITER, [])


def _tell_all(
    tell: Callable[[NDArray[np.floating[Any]]], object], X: F64, j: int, dtype: DType
) -> Callable[[NDArray[np.floating[Any]]], object]:
    """Return a callback for column j that is told of the whole block."""

    def told(x: NDArray[np.floating[Any]]) -> object:
        X[:, j] = x
        return tell(X.astype(dtype))

    return told


def _by_columns(B: F64) -> F64:
    """Return B in Fortran order."""
    if B.flags.f_contiguous:
        return B
    from deepcd.solvers.kernels import csr

    rows = np.empty(B.shape[::-1])
    csr.transpose(B, rows)
    return rows.T


def _placed(outcome: Outcome, column: F64, dtype: DType) -> Outcome:
    """Write the answer to its column, and return the outcome without another copy: its memory serves the next one."""
    column[:] = outcome.x
    return replace(outcome, x=column.astype(dtype, copy=False))


def _left(residuals: list[float], target: float) -> float:
    """Return how many iterations are left at the rate of the second half of those done."""
    if residuals[-1] == 0:
        return 0.0
    half = len(residuals) // 2
    rate = math.log(residuals[half] / residuals[-1]) / (len(residuals) - 1 - half)
    return math.log(residuals[-1] / max(target, 1e-300)) / rate if rate > 0 else math.inf
