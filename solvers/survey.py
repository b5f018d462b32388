"""What one look at the entries of a matrix tells: rows on their own, row sums, how its numbering suits relaxation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import survey as passes

_SAMPLES = 64  # rows that are looked at for triangles
_BALL, _NEAR = 1000, 5  # rows that are reached in so few levels from one of them where a graph has no geometry


@dataclass(frozen=True, eq=False)
class Survey:
    """Facts about a sorted matrix A without stored zeros, L, D and U being its parts.

    Attributes
    ----------
    diagonal : ndarray of float64, shape (n,)
        Diagonal entries of A.
    is_open : ndarray of bool, shape (n,)
        Whether the entries of a row sum to more than rounding explains.
    lone : int
        Number of rows without off-diagonal entries.
    largest : float
        Largest magnitude of an entry.
    dominance : float
        1'A 1 / 1'D 1: how much of the diagonal the off-diagonal entries leave of the constant.
    disorder : float
        1'U'D^-1 U 1 / 1'D 1 - 1/4: not positive where each row has half its couplings to earlier rows, as in natural
        orderings, and about 1/8 for a grid in random order.
    """

    diagonal: NDArray[np.float64]
    is_open: NDArray[np.bool_]
    lone: int
    largest: float
    dominance: float
    disorder: float


class Matrix(NamedTuple):
    """A matrix that was brought into form by `read`.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
        Indices ascend in each row, without duplicates; row pointers and indices are of one type, of 32 bits where that
        is enough; no zeros are stored, which would be taken for couplings.
    seen : Survey
        What a look at A has told.
    pattern : tuple of ndarray, or None
        indptr and indices of A with the zeros that were stored; None: there were none, or nobody asked.
    """

    A: sp.csr_array
    seen: Survey
    pattern: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]] | None


def read(A: sp.csr_array, eps: float, *, keep_pattern: bool = False) -> Matrix:
    """Bring a matrix into the form that all further work relies on, and look at its rows.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Not changed.
    eps : float
        Unit roundoff that the entries carry.
    keep_pattern : bool, default False
        Whether to keep the places of zeros in mind.

    Returns
    -------
    Matrix
        Its A is the one given, or a copy.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite, or a column index out of range.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from deepcd.solvers.survey import read
    >>> seen = read(sp.csr_array([[2.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), 2.2e-16).seen
    >>> seen.lone, seen.is_open.tolist()
    (1, [True, False, True])
    """
    few = max(A.nnz, A.shape[0]) <= np.iinfo(np.int32).max
    index = np.dtype(np.int32 if few else np.int64)
    if not A.indptr.dtype == A.indices.dtype == index:
        indices, indptr = (array.astype(index, copy=False) for array in (A.indices, A.indptr))
        A = sp.csr_array((A.data, indices, indptr), shape=A.shape)
    found, seen = _look(A, eps)
    pattern = None
    if found == passes.OUT_OF_RANGE:
        n = A.shape[1]
        entry = int(np.flatnonzero((A.indices < 0) | (A.indices >= n))[0])
        raise ValueError(f"A has {n} columns, but entry {entry} of A.indices is {A.indices[entry]}")
    if keep_pattern and found & passes.ZERO:
        full = _sorted(A) if found & passes.UNSORTED else A
        pattern = full.indptr.copy(), full.indices.copy()
    while found & (passes.ZERO | passes.UNSORTED):  # duplicates may sum to zero
        A = without_zeros(A) if found & passes.ZERO else _sorted(A)
        found, seen = _look(A, eps)
    if found & passes.DIRTY:
        entry = int(np.flatnonzero(~np.isfinite(A.data))[0])
        row = int(np.searchsorted(A.indptr, entry, side="right")) - 1
        raise ValueError(f"A must be finite, got {A.data[entry]} at A[{row}, {A.indices[entry]}]")
    return Matrix(A, seen, pattern)


def survey(A: sp.csr_array, eps: float) -> Survey:
    """Look at a matrix that `read` has brought into form."""
    return _look(A, eps)[1]


def _look(A: sp.csr_array, eps: float) -> tuple[int, Survey]:
    n = A.shape[0]
    diagonal, is_open, sums = np.empty(n), np.empty(n, dtype=np.bool_), np.empty(5)
    found: int = passes.rows(A.indptr, A.indices, A.data, eps, diagonal, is_open, sums)
    lone, largest, total, trace, squares = sums.tolist()
    with np.errstate(all="ignore"):
        dominance, disorder = (total / trace, squares / trace - 0.25) if trace > 0 else (math.nan, math.nan)
    return found, Survey(diagonal, is_open, int(lone) if not found else 0, largest, dominance, disorder)


def constant_null_space(
    A: sp.csr_array, eps: float, seen: Survey | None = None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find the connected components of A on which the constant is in its null space.

    Row sums count as zero up to the rounding of the entries: A + 1e-12 I, with entries of about one, is not singular.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric in structure, as `read` leaves it.
    eps : float
        Unit roundoff that the entries of A carry.
    seen : Survey, optional
        What a look at A has told.

    Returns
    -------
    component : ndarray of int32, shape (n,)
        Connected component of each row, 0 .. count - 1; a single one if none is sealed.
    sealed : ndarray of bool, shape (count,)
        Whether all row sums of the component are zero.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from deepcd.solvers.survey import constant_null_space
    >>> chain = sp.csr_array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    >>> component, sealed = constant_null_space(chain, 2.2e-16)
    >>> sealed.tolist()
    [True, False]
    """
    n, is_open = A.shape[0], (survey(A, eps) if seen is None else seen).is_open
    if is_open.any() and (is_open.all() or passes.reaches_all(A.indptr, A.indices, is_open.copy())):
        return np.broadcast_to(np.int32(0), n), np.zeros(1, dtype=np.bool_)
    component, order = np.empty(n, dtype=np.int32), np.empty(n, dtype=A.indices.dtype)
    count = passes.number_by_levels(A.indptr, A.indices, order, component)
    return component, np.bincount(component[is_open], minlength=count) == 0


def _sorted(A: sp.csr_array) -> sp.csr_array:
    """Return a copy of A with sorted indices and without duplicates."""
    A = sp.csr_array((A.data.copy(), A.indices.copy(), A.indptr.copy()), shape=A.shape)
    A.sum_duplicates()
    return A


def without_zeros(A: sp.csr_array) -> sp.csr_array:
    """Return a copy of A without the zeros that it has stored."""
    row_starts, columns, values = (np.empty_like(array) for array in (A.indptr, A.indices, A.data))
    kept = passes.without_zeros(A.indptr, A.indices, A.data, row_starts, columns, values)
    return sp.csr_array((values[:kept].copy(), columns[:kept].copy(), row_starts), shape=A.shape)


def with_symmetric_pattern(A: sp.csr_array) -> sp.csr_array:
    """Return a sorted A whose pattern is symmetric, or (A + A') / 2, which differs by rounding where A is symmetric.

    An entry may be rounded to zero, and dropped, where its mirror image is not.
    """
    if passes.is_symmetric(A.indptr, A.indices):
        return A
    mean = sp.csr_array((A + A.T) * 0.5)
    mean.sum_duplicates()
    return mean


def without_lone_columns(A: sp.csr_array) -> sp.csr_array | None:
    """Return a sorted A without the couplings of its rows to rows that couple to none; None if there are no such ones.

    Dirichlet rows that were eliminated without their columns leave them. What they do to a solution is known once those
    rows have been solved.
    """
    counts = np.diff(A.indptr)
    if counts.min(initial=2) > 1:
        return None
    lone = (counts == 0) | ((counts == 1) & (A.diagonal() != 0))
    if not lone.any():
        return None
    row = np.repeat(np.arange(A.shape[0], dtype=A.indices.dtype), counts)
    dropped = lone[A.indices] & (row != A.indices)
    if not dropped.any():
        return None
    return without_zeros(sp.csr_array((np.where(dropped, 0.0, A.data), A.indices, A.indptr), shape=A.shape))


def is_expander(A: sp.csr_array) -> bool:
    """Return whether rows are near each other in the graph of A, so that no numbering brings neighbours together."""
    return bool(passes.levels_of_ball(A.indptr, A.indices, A.shape[0] // 2, _BALL) <= _NEAR)


def has_triangles(A: sp.csr_array) -> bool:
    """Return whether neighbours of a row are coupled, for some rows; if not, as in a grid, rows of a level are not."""
    return bool(passes.has_triangles(A.indptr, A.indices, _SAMPLES))


def by_levels(A: sp.csr_array) -> NDArray[np.int64]:
    """Return the rows of A by their distance from the first of their component, as Cuthill and McKee order them.

    Neighbours are near each other then, half of them before and half of them behind, and rows next to each other are
    seldom coupled: a sweep of relaxation waits neither for memory nor for the row before. Within a level, rows with
    equally many couplings lie together.
    """
    order = np.empty(A.shape[0], dtype=np.int64)
    passes.arrange_by_levels(A.indptr, A.indices, order)
    return order


def submatrix(A: sp.csr_array, rows: NDArray[np.signedinteger[Any]]) -> sp.csr_array:
    """Return A[rows][:, rows] with sorted indices, without duplicates among the rows; quicker than by indexing."""
    n, m = A.shape[0], rows.size
    place = np.full(n, -1, dtype=A.indices.dtype)
    place[rows] = np.arange(m, dtype=A.indices.dtype)
    row_starts = np.empty(m + 1, dtype=A.indptr.dtype)
    columns, values = np.empty_like(A.indices), np.empty_like(A.data)
    passes.permute(A.indptr, A.indices, A.data, rows, place, row_starts, columns, values)
    entries = int(row_starts[-1])
    if entries < columns.size:
        columns, values = columns[:entries].copy(), values[:entries].copy()
    return sp.csr_array((values, columns, row_starts), shape=(m, m))


def renumbered(A: sp.csr_array, order: NDArray[np.signedinteger[Any]]) -> sp.csr_array:
    """Return a symmetric A with its rows and columns in another order, of all of them; quicker than `submatrix`.

    An A that is not symmetric in its values becomes its transpose.
    """
    n = A.shape[0]
    place = np.empty(n, dtype=A.indices.dtype)
    place[order] = np.arange(n, dtype=A.indices.dtype)
    row_starts, columns, values = np.empty_like(A.indptr), np.empty_like(A.indices), np.empty_like(A.data)
    if not passes.renumber(A.indptr, A.indices, A.data, order, place, row_starts, columns, values):
        return submatrix(A, order)
    return sp.csr_array((values, columns, row_starts), shape=A.shape)
