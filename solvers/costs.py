"""What methods cost, in reads of an entry of a matrix: about a nanosecond each in a product with a matrix in a cache.

The decisions of "auto" are comparisons of such counts, so they are the same at every run. The constants were measured
on one thread, as the comments say; `benchmarks/auto.py` shows what the decisions come to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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


def multigrid_setup(size: Size, *, classical: bool) -> float:
    """Return the cost of PyAMG's set-up: classical (Ruge-Stueben) or by smoothed aggregation."""
    return 5e6 + size.scattered * (150 if classical else 110) * size.entries


def multigrid_cycle(size: Size) -> float:
    """Return the cost of an iteration with a cycle of algebraic multigrid."""
    return size.scattered * (6 * size.entries + 10 * size.n) + 5e4


def multigrid_iterations(digits: float) -> float:
    """Return how many iterations a cycle of algebraic multigrid takes where it does well."""
    return 2 + 2 * digits


def grid_setup(size: Size) -> float:
    """Return the cost of looking for a grid and setting up the learned cycle on it."""
    return 4e6 + 60 * size.entries


def grid_cycle(size: Size) -> float:
    """Return the cost of an iteration with the learned cycle."""
    return 2e5 + 8 * size.entries


def planning(size: Size) -> float:
    """Return the cost of planning factors of rows numbered by levels: a minimum degree ordering."""
    return size.scattered * 120 * size.entries


def likely_factors(size: Size, levels: int) -> float:
    """Return about what the flops of factors cost at least, for a graph of so many levels.

    A level separates the graph: the last of the fronts that nested dissection leaves is about as large.
    """
    return 0.3 * (size.n / max(levels, 1)) ** 3
