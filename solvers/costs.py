"""What methods cost, in reads of an entry of a matrix: about a nanosecond each in a product with a matrix in a cache.

The decisions of "auto" are comparisons of such counts, so they are the same at every run. The constants were fitted to
times of one thread; `benchmarks/auto.py` shows what the decisions come to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WEAK = 0.05  # how much smaller than the strongest one of its row a coupling is called weak
EXCHANGE = 2.5e6  # cost of another preconditioner beside what it is made of: a probe of the matrix, Python
_SPARSE = 4.3  # entries per row up to which a graph may be a tree with few more edges
_HUB = 20  # times the mean length of a row that a long one has


@dataclass(frozen=True)
class Couplings:
    """How off-diagonal entries differ.

    Attributes
    ----------
    longest : float
        Length of the longest row over the mean length.
    positive, weak : float
        Share of positive entries in all magnitudes, and that of weak ones in their number.
    """

    longest: float
    positive: float
    weak: float


@dataclass(frozen=True)
class Size:
    """Size of a matrix.

    Attributes
    ----------
    n, entries : int
        Numbers of rows and of stored entries.
    """

    n: int
    entries: int

    @property
    def scattered(self) -> float:
        """What a read costs where vectors do not stay in a cache near the core: 1 for few rows, up to 2 for many."""
        return min(max(1 + 0.35 * math.log10(max(self.n, 1) / 30_000), 1.0), 2.0)


def diagonal(size: Size) -> float:
    """Return the cost of an iteration with the diagonal alone."""
    return size.scattered * (0.8 * size.entries + 4 * size.n)


# A backward and a forward substitution with three vectors. Rows in an order in which each is coupled to the one before
# wait for it; by levels they do not.
def relaxation(size: Size, *, by_levels: bool) -> float:
    """Return the cost of an iteration with over-relaxation."""
    return size.scattered * ((1.1 if by_levels else 2.0) * size.entries + 6 * size.n)


def numbering(size: Size, *, ordered: bool) -> float:
    """Return the cost of a numbering by levels: less where the rows are in good order, and their memory is read so."""
    return size.scattered * (20 if ordered else 35) * size.entries


def multigrid_setup(size: Size) -> float:
    """Return the cost of PyAMG's set-up."""
    return 5e6 + size.scattered * 120 * size.entries


def multigrid_cycle(size: Size) -> float:
    """Return the cost of an iteration with a cycle of algebraic multigrid."""
    return size.scattered * (6 * size.entries + 10 * size.n) + 5e4


def multigrid_iterations(digits: float, couplings: Couplings) -> float:
    """Return how many iterations a cycle of algebraic multigrid takes.

    About a dozen for six digits where couplings are negative and alike, twice as many where many are weak, and four
    times where some are positive, as of obtuse elements and of elasticity, or few rows are coupled to very many.
    """
    irregular = couplings.positive > 0.02 or couplings.longest > _HUB
    return (2 + 2 * digits) * (4 if irregular else 2 if couplings.weak > 0.25 else 1)


def grid_setup(size: Size) -> float:
    """Return the cost of looking for a grid and setting up the learned cycle on it."""
    return 4e6 + 60 * size.entries


def grid_cycle(size: Size) -> float:
    """Return the cost of an iteration with the learned cycle."""
    return 2e5 + 8 * size.entries


def least_factors(size: Size, levels: int) -> float:
    """Return about the least cost of planning and making factors, for rows on so many levels.

    Planning is a minimum degree ordering. A level separates the graph, and the last front of nested dissection is about
    as large; only where there are few couplings, as in trees and networks, is it far smaller.
    """
    front = 0.0 if size.entries <= _SPARSE * size.n else size.n / max(levels, 1)
    return EXCHANGE + size.scattered * 120 * size.entries + 60 * (size.n + size.entries) + 0.3 * front**3
