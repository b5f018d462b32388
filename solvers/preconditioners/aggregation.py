"""Smoothed aggregation of a scalar matrix without a grid: coarse operators and the transfers between them.

After Vanek, Mandel and Brezina (Computing 56, 1996): greedy aggregates of strongly coupled rows, the piecewise constant
on them smoothed by a step of Jacobi's method on the strong couplings, and Galerkin products, all in compiled passes. A
coupling is strong if it is negative and not much smaller than the largest negative ones of both its rows. Positive
couplings cancel negative ones, as across the weak direction of stretched elements and between the components of an
elastic body, so the more of them a row has, the stronger must be what counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import aggregation as passes

# Measured on meshes in 2D and 3D, linear, quadratic and stretched, graphs, jumps and elasticity.
_THETA = 0.1  # magnitude from which a coupling is strong, in relation to the largest
_POSITIVE, _MOST = 3.0, 5.0  # how much positive couplings raise that, and at most how many times
# Of Jacobi's method, each row divided by the sum of its magnitudes: 2 / 3 of the diagonal's inverse would be 4 / 3.
_OMEGA = 1.4
_STALL = 0.9  # share of the rows that must not be left on the next level
_DENSER = 3  # times as many entries as A has that A P may have; P is not smoothed otherwise, nor where P'A P has more
_MOST_ENTRIES = np.iinfo(np.int32).max


def coarsen(A: sp.csr_array, few: int) -> tuple[list[sp.csr_array], list[sp.csr_array]]:
    """Return the operators of all levels, A among them, and the transfers between them.

    The constant is what smooth error looks like. Rows without strong couplings stay alone: their rows of P are empty.
    Coarsening ends where it stalls, and where what it gives is not finite.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric, with 32-bit indices and without duplicates, positive (semi)definite with a positive diagonal.
    few : int
        Number of rows down to which to coarsen.

    Returns
    -------
    operators : list of csr_array of float64
        Each of them P'A P of the one before; rows of the coarse ones are not sorted.
    transfers : list of csr_array of float64
        The prolongators P, from each level to the one before, one fewer.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.aggregation import coarsen
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(900, 900), format="csr")
    >>> [operator.shape[0] for operator in coarsen(A, few=50)[0]]
    [900, 300, 100, 34]
    """
    operators, transfers = [A], []
    while operators[-1].shape[0] > few:
        A = operators[-1]
        strong, kept = _strong(A)
        aggregates = np.empty(A.shape[0], dtype=np.int32)
        count = passes.aggregate(*strong[:2], aggregates)
        if not 0 < count <= _STALL * A.shape[0]:
            break
        room = min(_DENSER * A.nnz, _MOST_ENTRIES), A.nnz
        P = _smoothed(strong, kept, aggregates, count)
        coarse = _galerkin(A, P, room)
        if coarse is None:  # as among rows that are all near each other
            P = _piecewise(aggregates, count)
            coarse = _galerkin(A, P, room)
        if coarse is None or not (np.isfinite(coarse.data).all() and np.isfinite(P.data).all()):
            break
        operators.append(coarse)
        transfers.append(P)
    return operators, transfers


def galerkin(A: sp.csr_array, P: sp.csr_array) -> sp.csr_array:
    """Return P'A P, its rows not sorted.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
    P : csr_array of float64, shape (n, m)
        Both with 32-bit indices.

    Raises
    ------
    ValueError
        If a product has more entries than 32-bit indices can count.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.aggregation import galerkin
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(4, 4), format="csr")
    >>> P = sp.csr_array(np.repeat(np.eye(2), 2, axis=0))
    >>> galerkin(A, P).toarray()
    array([[ 2., -1.],
           [-1.,  2.]])
    """
    coarse = _galerkin(A, P, None)
    if coarse is None:
        raise ValueError(f"P'A P takes at most 2^31 - 1 entries, and A has {A.nnz}: use preconditioner='none'")
    return coarse


def _galerkin(A: sp.csr_array, P: sp.csr_array, room: tuple[int, int] | None) -> sp.csr_array | None:
    """Return P'A P; None if there is no room for the entries of A P or of P'A P."""
    m = P.shape[1]
    image = _product(A, P, room and room[0])
    if image is None:
        return None
    starts, columns, values = np.empty(m + 1, dtype=np.int32), np.empty(P.nnz, dtype=np.int32), np.empty(P.nnz)
    passes.transpose(P.indptr, P.indices, P.data, starts, columns, values)
    return _product(sp.csr_array((values, columns, starts), shape=P.shape[::-1]), image, room and room[1])


def _strong(A: sp.csr_array) -> tuple[tuple[NDArray[Any], ...], NDArray[np.float64]]:
    """Return the strong couplings of A in CSR, and its diagonal with the weak ones added."""
    n = A.shape[0]
    reach, kept = np.empty((2, n))
    passes.measure(A.indptr, A.indices, A.data, _POSITIVE, _MOST, reach)
    starts, columns, values = np.empty(n + 1, dtype=np.int32), np.empty(A.nnz + 1, dtype=np.int32), np.empty(A.nnz + 1)
    passes.strong_couplings(A.indptr, A.indices, A.data, reach, _THETA, starts, columns, values, kept)
    return (starts, columns, values), kept


def _smoothed(
    strong: tuple[NDArray[Any], ...], kept: NDArray[np.float64], aggregates: NDArray[np.int32], count: int
) -> sp.csr_array:
    """Return the piecewise constant on aggregates after a step of Jacobi's method."""
    n, entries = kept.size, int(strong[0][-1]) + kept.size
    starts, columns, values = np.empty(n + 1, dtype=np.int32), np.empty(entries, dtype=np.int32), np.empty(entries)
    marker = np.full(count, -1, dtype=np.int32)
    entries = passes.smooth(*strong, kept, aggregates, _OMEGA, marker, starts, columns, values)
    return sp.csr_array((values[:entries], columns[:entries], starts), shape=(n, count))


def _piecewise(aggregates: NDArray[np.int32], count: int) -> sp.csr_array:
    """Return the piecewise constant on aggregates."""
    inside = aggregates >= 0
    starts = np.concatenate([[0], np.cumsum(inside)]).astype(np.int32)
    return sp.csr_array((np.ones(starts[-1]), aggregates[inside], starts), shape=(aggregates.size, count))


def _product(A: sp.csr_array, B: sp.csr_array, room: int | None) -> sp.csr_array | None:
    """Return A B, its rows not sorted; None if it has more entries than there is room for."""
    n, m = A.shape[0], B.shape[1]
    size = min(2 * A.nnz + 1000, _MOST_ENTRIES) if room is None else room
    starts = np.empty(n + 1, dtype=np.int32)
    while True:
        marker, columns, values = np.full(m, -1, dtype=np.int32), np.empty(size, dtype=np.int32), np.empty(size)
        if passes.multiply(A.indptr, A.indices, A.data, B.indptr, B.indices, B.data, marker, starts, columns, values):
            entries = int(starts[-1])
            return sp.csr_array((values[:entries], columns[:entries], starts), shape=(n, m))
        if room is not None or size == _MOST_ENTRIES:
            return None
        size = min(2 * size, _MOST_ENTRIES)
