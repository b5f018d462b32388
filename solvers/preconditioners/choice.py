"""Which of two strong preconditioners suits a matrix: a rule on what one look at its couplings tells.

Smoothed aggregation does best on large meshes and grids, whose couplings vary smoothly from row to row. Approximate
Cholesky factors do not mind weights over many decades nor rows of any length, and take less time to set up for small
matrices; they ask for negative couplings. The rule was made from the times of both, and of PyAMG's Ruge-Stueben
coarsening, which was best on one system of 92, for `benchmarks/choice.py`, whose table says how often it is wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import scipy.sparse as sp

CANDIDATES = AGGREGATION, CHOLESKY, CLASSICAL = "smoothed-aggregation", "approximate-cholesky", "pyamg-rs"

WEAK, ROUGH = 0.05, 0.2  # see `Couplings`
ROUNDED = 1e-12  # share of the others' sum by which a diagonal entry may be smaller and be rounded only
DOMINATED = 0.05  # share of rows without dominance up to which a matrix counts as diagonally dominant
IRREGULAR = 0.18  # share of rough couplings from which on weights differ in no order
LONG, LONGER, HUB = 1.6, 2.2, 20.0  # longest row over the mean: on meshes, on graphs, and of those that have hubs
SMALL, MIDDLE, LARGE = 12_000, 25_000, 40_000  # numbers of rows
SPARSE, SHORT, DENSE = 3.5, 8.0, 18.0  # entries per row: of trees and little more, of triangles, of tetrahedra
POSITIVE = 0.15  # share of positive couplings from which on there are slivers
OBTUSE = 0.02  # the same for obtuse angles: where none are positive, it is the scale of rows that takes their dominance


class Couplings(NamedTuple):
    """How the off-diagonal entries of a matrix differ.

    Attributes
    ----------
    rows : int
        Number of rows.
    entries : float
        Mean number of entries per row.
    longest : float
        Length of the longest row over the mean length.
    positive : float
        Share of positive entries in all magnitudes.
    weak : float
        Share of weak ones in their number: positive, or smaller than 0.05 times the strongest one of the row.
    rough : float
        Share of those between rows whose strongest ones differ by more than a factor of five.
    dominated : float
        Share of rows whose diagonal entry is smaller than the sum of the magnitudes of the others.
    """

    rows: int
    entries: float
    longest: float
    positive: float
    weak: float
    rough: float
    dominated: float


def look(A: sp.csr_array) -> Couplings:
    """Look at the couplings of a matrix.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric with a positive diagonal.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.choice import choose, look
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000), format="csr")
    >>> seen = look(A)
    >>> seen.positive, seen.weak, seen.dominated, choose(seen)
    (0.0, 0.0, 0.0, 'approximate-cholesky')
    """
    from deepcd.solvers.kernels.couplings import couplings  # which loads the compiler

    found = couplings(A.indptr, A.indices, A.data, WEAK, ROUGH, ROUNDED)
    return Couplings(A.shape[0], A.nnz / max(A.shape[0], 1), *found)


def choose(seen: Couplings) -> str:
    """Return the name of the preconditioner that suits a matrix of such couplings."""
    if seen.dominated > DOMINATED:
        uneven = LONG <= seen.longest <= HUB  # as unstructured meshes are; elastic bodies and grids have equal rows
        slivers = uneven and seen.positive >= POSITIVE and seen.entries <= DENSE and seen.rows <= LARGE
        obtuse = seen.positive >= OBTUSE and seen.entries <= SHORT and seen.rows <= MIDDLE
        return CHOLESKY if slivers or obtuse else AGGREGATION
    if seen.rough >= IRREGULAR:
        return CHOLESKY
    if seen.longest > HUB:
        return AGGREGATION
    graph = seen.longest >= LONGER or (seen.longest >= LONG and seen.rows <= LARGE) or seen.entries <= SPARSE
    return CHOLESKY if graph or (seen.rows <= SMALL and seen.entries <= SHORT) else AGGREGATION
