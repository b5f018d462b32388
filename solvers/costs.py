"""What methods cost, in reads of an entry of a matrix: each 0.7 nanoseconds or so in a product of a cached matrix.

The decisions of "auto" are comparisons of such counts, so they are the same at every run. The constants were fitted to
times of one thread; `benchmarks/auto.py` shows what the decisions come to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepcd.solvers.preconditioners.choice import CHOLESKY, HUB, LONGER, POSITIVE, Couplings, choose

EXCHANGE = 5e5  # cost of another preconditioner beside what it is made of: Python, and the interpreter's caches
DISORDER = 0.05  # of a matrix whose rows are in no order; see `Survey`
_EVEN = 1.5  # longest row over the mean below which couplings are positive for another reason than slivers
_SPARSE = 3.7  # entries per row up to which a graph may be a tree with few more edges


@dataclass(frozen=True)
class Size:
    """Size of a matrix, and in which order its rows are.

    Attributes
    ----------
    n, entries : int
        Numbers of rows and of stored entries.
    disordered : bool
        Whether neighbours lie anywhere in memory, so that reads wait for it where there are many.
    """

    n: int
    entries: int
    disordered: bool = False

    @property
    def scattered(self) -> float:
        """What a read costs where vectors do not stay in a cache near the core: 1 for few rows, more for many."""
        if self.disordered:
            return min(max(1 + 1.9 * math.log10(max(self.n, 1) / 4_000), 1.0), 5.0)
        return min(max(1 + 0.35 * math.log10(max(self.n, 1) / 8_000), 1.0), 2.0)

    @property
    def far(self) -> float:
        """The same for what does most of its work on copies and in caches, whatever the order."""
        return math.sqrt(self.scattered) if self.disordered else self.scattered


def diagonal(size: Size) -> float:
    """Return the cost of an iteration with the diagonal alone."""
    return size.scattered * (0.8 * size.entries + 4 * size.n)


def relaxation(size: Size, *, waits: bool) -> float:
    """Return the cost of an iteration with over-relaxation.

    A backward and a forward substitution with three vectors. Where each row is coupled to the one before, as in a grid
    that is numbered line by line, it waits for it.
    """
    long = 0.0 if waits or size.disordered else max(size.entries - 8.0 * size.n, 0.0)  # whose neighbours lie far apart
    return size.scattered * (0.9 * size.entries + long + (10 if waits else 4) * size.n)


def packing(size: Size) -> float:
    """Return the cost of what over-relaxation begins with: places of diagonal entries, and packed triangles."""
    return size.far * 4 * size.entries


def numbering(size: Size) -> float:
    """Return the cost of a numbering by levels."""
    return size.far * (28 if size.disordered else 24) * size.entries


def multigrid_setup(size: Size, couplings: Couplings | None = None) -> float:
    """Return the cost of setting up the stronger preconditioner that suits a matrix; without a look, about the least.

    Sampled factors grow out of caches; products of matrices take long where few rows are coupled to very many.
    """
    if couplings is not None and choose(couplings) == CHOLESKY:
        return 1e6 + size.far**2 * (60 * size.entries + 400 * size.n)
    hubs = 1 if couplings is None or couplings.longest <= HUB else 3
    return 1e6 + size.far * hubs * (45 * size.entries + 130 * size.n)


def multigrid_cycle(size: Size, couplings: Couplings | None = None) -> float:
    """Return the cost of an iteration with that preconditioner."""
    if couplings is not None and choose(couplings) == CHOLESKY:
        return size.far * (2.7 * size.entries + 19 * size.n) + 5e4
    return size.far * (7 * size.entries + 10 * size.n) + 1e5


def multigrid_iterations(digits: float, couplings: Couplings) -> float:
    """Return how many iterations it takes.

    About 13 for eight digits with smoothed aggregation and 30 with sampled factors, more where couplings are positive,
    as of slivers, and many more where cells are so irregular that no rows are alike, or where all rows are: elastic
    bodies, whose rotations it does not know of.
    """
    sampled = choose(couplings) == CHOLESKY
    share = 1.7 if sampled else 0.8
    if couplings.positive >= POSITIVE:
        share *= 2 if _EVEN <= couplings.longest < LONGER else 5
    return (2 + 2 * digits) * share


def lattice_setup(size: Size) -> float:
    """Return the cost of laying a lattice over a mesh, and of the learned cycle on it."""
    return 4e6 + size.far * 45 * size.entries


def lattice_cycle(size: Size) -> float:
    """Return the cost of an iteration with sweeps over a mesh and the learned cycle on a lattice over it."""
    return size.far * (6 * size.entries + 30 * size.n)


def grid_setup(size: Size) -> float:
    """Return the cost of looking for a grid and setting up the learned cycle on it."""
    return 4e6 + 60 * size.entries


def grid_cycle(size: Size) -> float:
    """Return the cost of an iteration with the learned cycle."""
    return 2e5 + 8 * size.entries


def least_factors(size: Size, levels: int) -> float:
    """Return about the least cost of planning and making factors, for rows on so many levels.

    Planning is a minimum degree ordering. In two dimensions the entries of a row grow like the logarithm of the size,
    and in three like a power of it: a level separates the graph, and the last front of nested dissection is about as
    large. Only where there are few couplings, as in trees and networks, are both far smaller.
    """
    planning = EXCHANGE + size.far * (72 * size.entries + 400 * size.n)
    if size.entries <= _SPARSE * size.n:
        return planning
    growth = max(math.log10(max(size.n, 1)) - 2.8, 0.0)
    return planning + 45 * growth * size.entries + 0.1 * (size.n / max(levels, 1)) ** 3
