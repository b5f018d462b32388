"""Many right-hand sides at once: one system I (x) A of k n unknowns, whose vectors interleave the columns.

One alpha and one beta serve all columns, so the iteration is the one of a single right-hand side; the spectrum, and
with it the bound on the iterations, is that of A. It is an accelerator only: each column then goes on alone
from where it is (`refinement.refine`), which recomputes its true residual first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import norm
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.columnwise import columns
from deepcd.solvers.solution import Status
from deepcd.solvers.space import BlockOperator

MEMORY = 1 << 30  # bytes that the vectors of a group of columns may take
# Bytes of vectors per unknown and column: x, r, p, q and the best x in float64, and what the preconditioner needs.
BYTES = 64


def iterate_together(
    parts: Parts, B: NDArray[np.float64], X: NDArray[np.float64], targets: NDArray[np.float64], limits: Limits
) -> list[Outcome]:
    """Iterate on groups of columns, each until all columns of the group should meet their targets.

    Parameters
    ----------
    parts : Parts
        The parts of A, with a `MatrixOperator`: not on a grid.
    B : ndarray of float64, shape (n, k)
        Right-hand sides, finite.
    X : ndarray of float64, shape (n, k)
        Where to start, zero where a column of B is; overwritten by the answer.
    targets : ndarray of float64, shape (k,)
        Norms of the columns of B - A X that are to be reached.
    limits : Limits
        `maxiter`, `deadline` and `callback`, which is given the block X; `target` is not read.

    Returns
    -------
    list of k Outcomes
        x is a column of X. CALLBACK or TIMEOUT if the iteration was stopped, else MAXITER: the true residual has to be
        looked at.
    """
    n, k = B.shape
    group = max(1, min(k, MEMORY // (BYTES * n)))
    outcomes: list[Outcome] = []
    while len(outcomes) < k:
        chosen = slice(len(outcomes), min(len(outcomes) + group, k))
        outcomes += _iterate_group(parts, B[:, chosen], X, chosen, targets[chosen], limits)
    return outcomes


def _iterate_group(
    parts: Parts,
    B: NDArray[np.float64],
    X: NDArray[np.float64],
    chosen: slice,
    targets: NDArray[np.float64],
    limits: Limits,
) -> list[Outcome]:
    """Iterate on the columns `chosen` of X, for the right-hand sides B."""
    k = B.shape[1]
    own = X[:, chosen]
    from_zero = not own.any()
    start = B if from_zero else B - parts.A @ own
    initial = np.array([norm(column) for column in start.T])
    parts.solve_alone(B, own)
    R = start if from_zero and not parts.alone.size else B - parts.A @ own
    part = R[parts.rows]
    largest = np.abs(part).max(axis=0)
    # In units that are as far above each column's target, no column is iterated longer for the sake of its size.
    moving = largest > 0
    goal = float((targets[moving] / largest[moving]).min(initial=1.0))
    units = np.where(moving, targets / goal, 1.0)
    operator: BlockOperator = parts.operator.columns(k)
    M = columns(parts.M, k)
    right = operator.embed(part, 1 / units)
    reach = goal
    if parts.singular:
        null = right.copy()
        operator.project(right)
        null -= right
        beyond = np.linalg.norm(null.reshape(-1, k), axis=0)
        reach = float(np.sqrt(goal**2 - (beyond[beyond < goal] ** 2).max(initial=0.0)))

    histories = [initial]

    def after_iteration(correction: NDArray[np.float64]) -> bool:
        histories.append(np.sqrt(operator.squares) * units)
        if limits.callback is None:
            return False
        block = X.copy()
        parts.spread(correction, units / parts.scale, block[:, chosen], operator)
        return limits.callback(block) is True

    record = conjugate_directions(
        operator, right, M, reach, maxiter=limits.maxiter, callback=after_iteration, deadline=limits.deadline
    )
    if parts.singular:
        operator.project(record.x)
    parts.spread(record.x, units / parts.scale, own, operator)
    stopped = record.status if record.status in (Status.CALLBACK, Status.TIMEOUT) else Status.MAXITER
    return [Outcome(own[:, j], stopped, history) for j, history in enumerate(np.array(histories).T.tolist())]
