"""What the factors of a symmetric matrix cost, counted on its pattern before anything is factored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.survey import with_symmetric_pattern

Kind = Literal["tridiagonal", "banded", "sparse", "supernodal"]

WIDEST = 32  # half bandwidth up to which a band is factored as one: in less time than an ordering takes
DENSE = 64  # flops per entry from which columns are taken together
# Measured: per factorisation, unknown, entry and flop; per solve, unknown and entry. Bytes per unknown and entry.
_SET_UP = {
    "tridiagonal": (12e3, 17, 0, 0),
    "banded": (18e3, 68, 9, 0),
    "sparse": (12e3, 60, 20, 0.42),
    "supernodal": (30e3, 300, 35, 0.045),
}
_SOLVE = {"tridiagonal": (3e3, 15, 0), "banded": (4e3, 28, 1), "sparse": (3e3, 14, 1.4), "supernodal": (3e3, 65, 1)}
_MEMORY = {"tridiagonal": (64, 0), "banded": (64, 8), "sparse": (300, 12), "supernodal": (600, 11)}
_BALL = 8000  # unknowns of a part that is taken for the whole
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
        False if counting was given up at more entries than allowed, or was not begun because parts of a large matrix
        promise more: `entries` and `flops` are lower bounds, all but certain ones in the second case, without an order.
        They are infinite where A has more than some 1.5e9 entries, for which there are no factors.
    """

    kind: Kind
    n: int
    width: int
    order: NDArray[np.int32] | None
    entries: float
    flops: float
    complete: bool = True

    @property
    def work(self) -> float:
        """Time to factor with this plan, in entries of a CSR product whose matrix lies in a cache (0.7 to 1 ns each).

        From a half to twice what is measured, random access to much memory included.
        """
        constant, n, entries, flops = _SET_UP[self.kind]
        factors = constant + n * self.n + entries * self.entries + flops * self.flops
        return factors + 2 * self.work_per_solve  # by which small eigenvalues are looked for

    @property
    def work_per_solve(self) -> float:
        """Time to solve for a right-hand side with the factors, in the same unit."""
        constant, n, entries = _SOLVE[self.kind]
        return constant + n * self.n + entries * self.entries

    @property
    def bytes(self) -> float:
        """Memory that factoring takes, at its peak, without that of A."""
        row, entry = _MEMORY[self.kind]
        return row * self.n + entry * self.entries


def pattern(A: sp.csr_array) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return indptr and indices of a csr_array for compiled code: of one type, which may be written to."""
    return np.require(A.indptr, np.int32, ["C", "W"]), np.require(A.indices, np.int32, ["C", "W"])


def half_bandwidth(A: sp.csr_array) -> int:
    """Return the largest distance of an entry from the diagonal; A is sorted, with a full diagonal."""
    rows = np.arange(A.shape[0])
    below, above = rows - A.indices[A.indptr[:-1]], A.indices[A.indptr[1:] - 1] - rows
    return int(max(below.max(initial=0), above.max(initial=0)))


def share_of_branches(A: sp.csr_array) -> float:
    """Return the share of rows that lie on branches of the graph of A, or in trees: those are factored without fill."""
    from deepcd.solvers.kernels import subgraphs

    return subgraphs.peel(*pattern(A), np.empty(A.shape[0], np.int32))[0] / max(A.shape[0], 1)


def plan(A: sp.csr_array, most_entries: float | None = None) -> Plan:
    """Choose how to factor a matrix, and count what that costs.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric but for rounding, with a full diagonal, sorted and without duplicates. Its values are not read.
    most_entries : float, optional
        Number of entries of L beyond which the plan is given up; default: as many as it takes.

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
    if 1.25 * A.nnz + n > _LARGEST:  # compiled passes count entries in 32 bits
        return Plan("sparse", n, n, None, math.inf, math.inf, complete=False)
    width = half_bandwidth(A)
    if width <= WIDEST:
        entries = n * (width + 1.0)
        kind: Kind = "tridiagonal" if width == 1 else "banded"
        return Plan(kind, n, width, None, entries, entries * (width + 1), entries <= most)
    order, entries, flops, complete = _ordered(*pattern(with_symmetric_pattern(A)), most)
    kind = "supernodal" if flops > DENSE * entries else "sparse"
    return Plan(kind, n, width, order if complete else None, entries, flops, complete)


def _ordered(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], most: float
) -> tuple[NDArray[np.int32], float, float, bool]:
    """Return an order, and what it costs; first come the branches of trees, which need no minimum degree."""
    from deepcd.solvers.kernels import ordering, subgraphs

    order = np.empty(indptr.size - 1, np.int32)
    count, roots = subgraphs.peel(indptr, indices, order)
    entries, flops, complete = 2.0 * count - roots, 4.0 * count - 3 * roots, True
    if count < order.size:
        kept, rest = order[count:].copy(), np.empty(order.size - count, np.int32)
        if count:
            indptr, indices = subgraphs.restrict(indptr, indices, kept)
        likely = _likely(indptr, indices) if math.isfinite(most) else 0.0
        if likely > most:
            return order, likely, likely**2 / order.size, False
        more, work, complete = ordering.minimum_degree(indptr, indices, most - entries, rest)
        order[count:], entries, flops = kept[rest] if complete else 0, entries + more, flops + work
    return order, entries, flops, complete and entries <= most


def _likely(indptr: NDArray[np.int32], indices: NDArray[np.int32]) -> float:
    """Return what the factors of a large matrix have at least in all likelihood: entries that its parts let expect.

    Per unknown they grow like the logarithm of the size in two dimensions, and faster in more. So the growth from small
    balls to larger ones is continued like the logarithm. The balls that promise the fewest count, and half of what they
    promise: the factors of a long channel grow like those of a cube at first, but not on.
    """
    n = indptr.size - 1
    if n < 16 * _BALL:
        return 0.0
    promised = []
    for centre in (n // 5, n // 2, n - n // 5):
        small, large = (_per_unknown(indptr, indices, centre, size) for size in (_BALL // 8, _BALL))
        promised.append(large + max(large - small, 0.0) * math.log(n / _BALL, 8))
    return 0.5 * n * min(promised)


def _per_unknown(indptr: NDArray[np.int32], indices: NDArray[np.int32], centre: int, size: int) -> float:
    """Return the entries per unknown of the factors of the unknowns around one."""
    from deepcd.solvers.kernels import ordering, subgraphs

    kept = subgraphs.ball(indptr, indices, centre, size)
    part = subgraphs.restrict(indptr, indices, kept)
    return ordering.minimum_degree(*part, math.inf, np.empty(kept.size, np.int32))[0] / kept.size
