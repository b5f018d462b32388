"""Approximate Cholesky factors of symmetric, diagonally dominant matrices: Laplacians of graphs, resistor networks.

Gao, Kyng and Spielman, "Robust and practical solution of Laplacian equations by approximate elimination" (2023). Where
an elimination would couple all neighbours of a vertex, a few of those couplings are drawn at random, so that factors
stay about as sparse as A, whatever the graph and the weights are; on trees and chains they are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import approximate_cholesky as passes
from deepcd.solvers.kernels import approximate_factors
from deepcd.solvers.preconditioners.columnwise import PassOverColumns

Vector = NDArray[np.floating[Any]]
# order, starts, rows, values, heavy, heaviest, inverses; see `kernels.approximate_cholesky.eliminate`
Factors = tuple[NDArray[Any], ...]

_EPS = float(np.finfo(np.float64).eps)
_MOST = 2**31 - 1  # what an int32 counts to
_ROOM = 8  # edges in memory over entries of A: three are enough on meshes, seven on graphs with hubs
_SPARE = 1000  # entries that a larger array has beyond twice as many


class ApproximateCholesky:
    """M = (L D L')^-1 with L of -A's signs and a positive D, on float64 vectors: positive definite for any A.

    A is taken for the Laplacian of a graph with a ground, to which the row sums lead. Where it is not, M is that of the
    nearest matrix that is: positive off-diagonal entries are moved to the diagonal, both of theirs, so that row sums
    stay and what is factored is at least A; negative row sums beyond rounding are taken to be zero. Elimination counts
    in float64, and keeps the digits of entries over twelve decades; the factors are kept in float32, but for the
    pivots and the heaviest entry of each column, which carries what the others are rounded by. On a component without a
    ground the last pivot, zero, is replaced by the diagonal entry: M is regular, and the constant is left to the
    operator to project out.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric with a positive diagonal, without duplicates. Not copied, not changed.
    seed : int, default 0
        From which the couplings are drawn: the same one gives the same factors.
    copies : {1, 2}, default 1
        Number of samples that a coupling of A stands for (AC and AC-s2m2 of the paper). Two take half to three quarters
        of the iterations, and up to twice the set-up: they pay where many right-hand sides follow.
    eps : float, default 2.2e-16
        Unit roundoff that the entries of A carry.

    Attributes
    ----------
    lumped, clipped : int
        Number of positive off-diagonal entries, and of negative row sums.

    Raises
    ------
    ValueError
        If A is not square, copies is not 1 or 2, a diagonal entry is not positive, or there are too many entries.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.approximate_cholesky import ApproximateCholesky
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9), format="csr")
    >>> M = ApproximateCholesky(A)  # there is nothing to draw in a chain
    >>> z = M.zeros()
    >>> rz = M.apply(np.ones(9), z)
    >>> bool(np.allclose(A @ z, 1))
    True
    """

    name = "approximate-cholesky"
    symmetric = linear = True

    def __init__(self, A: sp.csr_array, seed: int = 0, copies: int = 1, eps: float = _EPS) -> None:
        _check(A, copies)
        self._factors, state = _eliminated(A, seed, copies, eps)
        self.lumped, self.clipped = int(state[passes.LUMPED]), int(state[passes.CLIPPED])
        self._y = np.empty(A.shape[0])
        self._read = 2 * (self._factors[2].size + A.shape[0]) / max(A.nnz, 1)

    @property
    def work(self) -> float:
        """Passes over the entries of A per iteration: that of A, and two over the factors."""
        return 1 + self._read

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._y.size)

    def columns(self, k: int) -> PassOverColumns:
        """Return the same M on k right-hand sides."""
        return PassOverColumns(approximate_factors.apply_columns, (*self._factors, np.empty(k * self._y.size)), k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""
        return float(approximate_factors.apply(*self._factors, self._y, r, z))

    def __str__(self) -> str:
        """Return what it is, the entries of the factor, and what of A it has left out."""
        text = f"approximate-cholesky: sampled factors, {self._factors[2].size + 2 * self._y.size:,} entries"
        if self.lumped:
            text += f", without {self.lumped:,} positive couplings"
        return text + (f", {self.clipped:,} rows without dominance" if self.clipped else "")


def _check(A: sp.csr_array, copies: int) -> None:
    """Refuse what cannot be factored."""
    if copies not in (1, 2):
        raise ValueError(f"copies must be 1 or 2, got {copies!r}")
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square, got shape {A.shape}")
    if A.nnz + passes.SLACK * A.shape[0] > _MOST:
        raise ValueError(
            f"A must have fewer entries for approximate-cholesky, which counts in 32 bits, got {A.nnz:,}: "
            "take another preconditioner"
        )
    diagonal = A.diagonal()
    if not (diagonal > 0).all():
        row = int(np.argmin(diagonal > 0))
        raise ValueError(f"A must have a positive diagonal, got A[{row}, {row}] = {diagonal[row]}")


def _eliminated(A: sp.csr_array, seed: int, copies: int, eps: float) -> tuple[Factors, NDArray[np.int64]]:
    """Return the factors of A, and the state of the elimination at its end."""
    n, nnz = A.shape[0], A.nnz
    state = np.zeros(passes.STATES, dtype=np.int64)
    # Memory that is not written to costs nothing, and to copy what is in it costs up to a third of the elimination: so
    # arrays are as large as has been enough, and grow where it is not.
    records, diagonal = np.empty(8 * n, dtype=np.int32), np.empty(n)
    arena = np.empty(4 * min(_ROOM * nnz + passes.SLACK * n, _MOST), dtype=np.int32)
    queue, cells = np.empty(passes.BUCKETS, dtype=np.int32), np.empty(4 * n, dtype=np.int32)
    graph = records, records.view(np.float64), arena, arena.view(np.float64)
    passes.read(A.indptr, A.indices, A.data, eps, copies, *graph, diagonal, state)
    passes.begin(records, queue, cells, state)
    neighbours = np.empty(n + 1, dtype=np.int64), np.empty(n + 1), np.empty(n + 1), np.empty(n + 1, dtype=np.int32)
    work = *neighbours, np.empty((2, 2 * n + 8), dtype=np.int64), np.empty(2 * n + 8)
    (order, heavy), (heaviest, inverses) = np.empty((2, n), dtype=np.int32), np.empty((2, n))
    starts = np.zeros(n + 1, dtype=np.int64)
    rows, values = np.empty(_ROOM * nnz // 4, dtype=np.int32), np.empty(_ROOM * nnz // 4, dtype=np.float32)
    short = passes.ARENA_FULL
    while short != passes.FINISHED:
        short = passes.eliminate(
            np.uint64(seed), copies, graph, diagonal, queue, cells, state, work,
            order, starts, rows, values, heavy, heaviest, inverses,
        )  # fmt: skip
        if short == passes.ARENA_FULL:
            arena = _larger(arena, 4 * _MOST)
            graph = records, records.view(np.float64), arena, arena.view(np.float64)
        elif short == passes.COLUMNS_FULL:
            rows, values = _larger(rows), _larger(values)
        elif short == passes.CELLS_FULL:
            cells = _larger(cells, 2 * _MOST)
    rows, values = rows[: starts[n]], values[: starts[n]]
    approximate_factors.renumber(order, np.empty(n, dtype=np.int32), heavy, rows)
    return (order, starts, rows, values, heavy, heaviest, inverses), state


def _larger(array: NDArray[Any], most: int | None = None) -> NDArray[Any]:
    """Return an array of twice the size, and of at most `most` numbers, that begins like this one."""
    size = 2 * array.size + 4 * _SPARE
    if most is not None and size > most:
        size = most // 4 * 4
        if size <= array.size:
            raise ValueError("approximate-cholesky counts in 32 bits, and A has too many: take another preconditioner")
    larger = np.empty(size, dtype=array.dtype)
    larger[: array.size] = array
    return larger
