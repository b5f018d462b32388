"""Solutions that errors of networks are measured against, by linear finite elements and `DeepCD`."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.equations.elliptic import elliptic
from deepcd.pde.equations.statements import Problem

LOG = logging.getLogger("deepcd")
UNKNOWNS = 200_000  # of a reference, for a box; of a polygon up to twice as many

F64 = NDArray[np.float64]


class Reference(NamedTuple):
    """A solution at points.

    Attributes
    ----------
    values : ndarray of float64, shape (1, n)
    error : float
        Its difference, in the metric of the problem, from a solution on cells of twice the width: a bound of its own
        error if that goes down by a factor of two or more, as it does unless prescribed values jump, there is a slit,
        or conditions of two kinds meet at a re-entrant corner.
    """

    values: F64
    error: float


def reference(problem: Problem, points: F64) -> Reference:
    """Solve a problem by finite elements.

    Parameters
    ----------
    problem : Problem
    points : ndarray of float64, shape (n, d)
        Where the solution is asked for.

    Returns
    -------
    Reference

    Raises
    ------
    ValueError
        If there is no such system, or it has a solution for each constant.
    MissingExtraError
        If the extra "fem" is not installed.
    RuntimeError
        If the solver fails.
    """
    if not elliptic(problem).determined:
        raise ValueError("the solution is determined only up to a constant")
    domain = problem.domain
    edge = float(np.ptp(domain.bounds, axis=1).max())
    n = round(edge * (UNKNOWNS / domain.volume) ** (1 / problem.dimension))
    coarse, fine = (_solved(problem, points, cells) for cells in (max(n // 2, 2), max(n, 4)))
    return Reference(fine, problem.error(coarse, fine))


def advise(problem: Problem) -> None:
    """Log that a problem needs no network, if it is one that finite elements solve; nothing is assembled."""
    if not LOG.isEnabledFor(logging.INFO):
        return
    try:
        elliptic(problem)
    except ValueError:
        return
    LOG.info(
        "this equation is linear and elliptic: A, b, points = run.problem.system(n) is its sparse system of finite "
        "elements, and DeepCD.solve(A, b, points=points) solves it"
    )


def by_deepcd(A: Any, b: F64, points: F64 | None = None) -> F64:
    """Solve a system to full accuracy, or raise RuntimeError; points are those of the nodes of a mesh."""
    from deepcd.solvers.deepcd import DeepCD

    solution = DeepCD.solve(A, b, tol=1e-10, points=points)
    if solution.info:
        raise RuntimeError(f"the reference could not be computed. {solution.message}")
    return np.asarray(solution.x, dtype=np.float64)


def _solved(problem: Problem, points: F64, n: int) -> F64:
    start = time.perf_counter()
    system = problem.system(n)
    begun = time.perf_counter()
    u = by_deepcd(*system)
    LOG.info(
        "reference with %d unknowns: assembled in %.2f s, solved by DeepCD in %.2f s",
        *(len(u), begun - start, time.perf_counter() - begun),
    )
    return system.values(points, u)[None]
