"""From the entries of a matrix to the coefficients of a stencil, and the comparison of both, entry by entry.

The passes over the matrix are in ``kernels/unit_values.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from deepcd.solvers.grids.embedding import Embedding, NotAGrid
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import unit_values

REFUSED = {
    2: "has a positive off-diagonal entry; if A is negative definite, solve -A x = -b",
    3: "has an off-diagonal entry that differs from the others: all must be equal",
    4: "couples to more than three earlier or later rows: no 5- or 7-point operator in C order (periodic links?)",
    5: "has off-diagonal entries but no diagonal entry",
    6: "has a diagonal entry that is not a multiple of the coupling",
    7: "has a diagonal entry smaller than the number of its couplings",
    8: "has a diagonal entry of more than 255 couplings",
    9: "has an entry that is not finite",
}
MISMATCH = {
    1: "row {row} of A lies beside a cell that it is not coupled to (a wall without thickness, or no grid)",
    2: "rows {row} and {column} of A are coupled but would not lie side by side (periodic links, or no grid)",
    3: "the entry of A at row {row}, column {column} is not minus the common coupling",
    4: "the diagonal entry of row {row} of A is not that of the grid",
    5: "row {row} of A couples to row {column} outside the grid, or lies outside and couples",
}


class Scanned(NamedTuple):
    """What the entries of a matrix of n rows say by themselves; uint8 arrays have the shape (n,)."""

    scale: float  # negative of the off-diagonal entries
    planar: bool  # whether no row has three earlier or three later neighbours
    degree: NDArray[np.uint8]  # number of off-diagonal entries of each row
    diagonal: NDArray[np.uint8]  # diagonal entry divided by the scale; 0 for rows without off-diagonal entries
    starts: NDArray[np.int64] | None  # first rows of the runs (see `kernels/repeats.py`), and n; None if not exact
    eps: float  # rounding unit of the entries
    exact: bool  # whether all entries are exact multiples of the scale


def scan(A: csr_array) -> Scanned | None:
    """Look at every entry once, in the hope that A is sorted and that all are exact multiples of one coupling.

    Parameters
    ----------
    A : csr_array, shape (n, n)

    Returns
    -------
    Scanned or None
        None if A is not of that kind, or may not be.
    """
    if not isinstance(A, csr_array) or A.dtype not in (np.float32, np.float64) or A.shape[0] < 2:
        return None
    degree, count = np.empty(A.shape[0], dtype=np.uint8), np.empty(A.shape[0], dtype=np.uint8)
    starts = np.empty(A.shape[0] + 1, dtype=np.int64)  # memory is taken only where it is written
    bits = A.data.view(np.int64 if A.dtype == np.float64 else np.int32)
    scale, planar, runs = unit_values.scan(A.indptr, A.indices, A.data, bits, degree, count, starts)
    if not scale > 0:
        return None
    return Scanned(scale, planar, degree, count, starts[: runs + 1], float(np.finfo(A.dtype).eps), exact=True)


def scan_closely(A: csr_array) -> tuple[csr_array, Scanned]:
    """Do the same up to rounding; return A, sorted and without explicit zeros, and what was found.

    Raises NotAGrid, with the row and the reason, if the entries are not multiples of one coupling.
    """
    A, eps = canonical(A)
    degree, count = np.empty(A.shape[0], dtype=np.uint8), np.empty(A.shape[0], dtype=np.uint8)
    reason, row, scale, planar = unit_values.values(A.indptr, A.indices, A.data, eps, degree, count)
    if reason == unit_values.EXPLICIT_ZERO:
        A = A.copy()
        A.eliminate_zeros()
        reason, row, scale, planar = unit_values.values(A.indptr, A.indices, A.data, eps, degree, count)
    if reason:
        raise NotAGrid(f"row {row} of A {REFUSED[reason]}")
    return A, Scanned(float(scale), planar, degree, count, None, eps, exact=False)


def compare(
    A: csr_array, eps: float, embedding: Embedding, stencil: UnitStencil, wrong: NDArray[np.bool_]
) -> str | None:
    """Compare every entry of a sorted matrix, whose rounding unit is eps, with a stencil; return the first mismatch.

    `wrong`, shape (components,), False on entry, is set to True where a component has a mismatch.
    """
    index = np.empty(0, dtype=np.int32)
    if not isinstance(embedding.rows, slice):
        index = np.full(A.shape[0], -1, dtype=np.int32)
        index[embedding.rows] = np.arange(embedding.position.size, dtype=np.int32)
    place = embedding.position, stencil.diagonal.reshape(-1), (*embedding.s, 1)
    component = np.ascontiguousarray(embedding.component)
    reason, row, column = unit_values.verify(
        A.indptr, A.indices, A.data, index, *place, stencil.scale, eps, component, wrong
    )
    return MISMATCH[reason].format(row=row, column=column) if reason else None


def verify(A: csr_array, embedding: Embedding, stencil: UnitStencil) -> None:
    """Make sure that every entry of a matrix is that of a stencil: adjacent cells are coupled by -scale and no others.

    Parameters
    ----------
    A : csr_array, shape (n, n)
    embedding : Embedding
        Where the rows of A should lie; the other rows of A must have no off-diagonal entries.
    stencil : UnitStencil
        The coefficients that A should have, up to rounding.

    Raises
    ------
    NotAGrid
        If an entry differs, with its place.
    """
    A, eps = canonical(A)
    n, m, rows = A.shape[0], embedding.position.size, embedding.rows
    if isinstance(rows, slice):
        if n != m:
            raise NotAGrid(f"the grid has {m} unknowns, A has {n} rows")
    elif rows[-1] >= n:
        raise NotAGrid(f"the grid belongs to a matrix of at least {rows[-1] + 1} rows, A has {n}")
    mismatch = compare(A, eps, embedding, stencil, np.zeros(stencil.sealed.size, dtype=bool))
    if mismatch is not None:
        raise NotAGrid(mismatch)


def canonical(A: csr_array) -> tuple[csr_array, float]:
    """Return A as sorted CSR of float32 or float64, copied only if need be, and the rounding unit of its values."""
    converted, eps = real(A)
    if not converted.has_canonical_format:
        converted = converted.copy()
        converted.sum_duplicates()
    return converted, eps


def real(A: csr_array) -> tuple[csr_array, float]:
    """Return A as CSR of float32 or float64, copied only if need be, and the rounding unit of its values.

    Raises NotAGrid if A is not a square sparse array of real numbers.
    """
    if not issparse(A) or A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise NotAGrid(f"A must be a square sparse array, got {type(A).__name__} of shape {np.shape(A)}")
    if A.dtype.kind not in "fiub":
        raise NotAGrid(f"A has entries of type {A.dtype}; the operator of a grid is real")
    eps = float(np.finfo(A.dtype).eps) if A.dtype.kind == "f" else 0.0
    converted = csr_array(A, dtype=A.dtype if A.dtype in (np.float32, np.float64) else np.float64)
    return converted, max(eps, float(np.finfo(np.float64).eps))
