"""What the factors of a symmetric matrix cost, counted on its pattern before anything is factored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Kind = Literal["tridiagonal", "banded", "sparse", "supernodal"]

WIDEST = 32  # half bandwidth up to which a band is factored as one: in less time than an ordering takes
DENSE = 40  # flops per entry from which columns are taken together
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Plan:
    """How a matrix will be factored, and what that costs.

    Attributes
    ----------
    kind : str
        "tridiagonal" or "banded", by LAPACK; "sparse", column by column; "supernodal", many columns at a time.
    n : int
        Number of unknowns.
    width : int
        Half bandwidth of A.
    order : ndarray of int32, shape (n,), or None
        Rows in the order of their elimination; None: as they are.
    entries : float
        Number of entries of L, the diagonal included, of a band all those within it.
    flops : float
        Sum of the squares of their numbers per column.
    complete : bool
        False if counting was given up at more entries than allowed: `entries` and `flops` are lower bounds, and there
        is no order.
    """

    kind: Kind
    n: int
    width: int
    order: NDArray[np.int32] | None
    entries: float
    flops: float
    complete: bool = True


def pattern(A: sp.csr_array) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return indptr and indices of a csr_array for compiled code: of one type, which may be written to."""
    return np.require(A.indptr, np.int32, "CW"), np.require(A.indices, np.int32, "CW")


def plan(A: sp.csr_array, most_entries: float | None = None) -> Plan:
    """Choose how to factor a matrix, and count what that costs.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric, with a full diagonal, sorted and without duplicates. Its values are not read.
    most_entries : float, optional
        Number of entries of L beyond which the plan is given up; default: as many as it takes.

    Raises
    ------
    OverflowError
        If A has more than 2^31 - 1 entries.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.factors.plan import plan
    >>> chain = sp.csr_array([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
    >>> found = plan(chain)
    >>> found.kind, found.entries
    ('tridiagonal', 6.0)
    """
    n, most = A.shape[0], math.inf if most_entries is None else float(most_entries)
    if max(n, A.nnz) > _LARGEST:
        raise OverflowError(f"A has {A.nnz} entries; its factors are for at most {_LARGEST} of them.")
    width = int((np.arange(n) - A.indices[A.indptr[:-1]]).max(initial=0))
    if width <= WIDEST:
        entries = n * (width + 1.0)
        kind: Kind = "tridiagonal" if width == 1 else "banded"
        return Plan(kind, n, width, None, entries, entries * (width + 1), entries <= most)
    from deepcd.solvers.kernels.ordering import minimum_degree

    order = np.empty(n, np.int32)
    entries, flops, complete = minimum_degree(*pattern(A), most, order)
    kind = "supernodal" if flops > DENSE * entries else "sparse"
    return Plan(kind, n, width, order if complete else None, entries, flops, complete)
