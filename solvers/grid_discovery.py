"""Grid discovery: the Cartesian grid behind a bare sparse matrix.

The rows of a pressure Poisson matrix on a box cut by obstacles and free surfaces are its fluid cells in C order. The
matrix shows which cells touch and how many Dirichlet faces each has; from this the cells are put back into a box, and
every entry of the matrix is compared with the operator of the box before it is believed. The passes over the matrix
are in ``kernels/discovery.py`` (positions), ``kernels/intervals.py`` (bounds, if positions failed) and
``kernels/placement.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from deepcd.pde import Grid
from deepcd.solvers.kernels import discovery, intervals, placement
from deepcd.solvers.kernels.components import find_runs, label_runs

# Positions of rows that may be looked up, and so many more per entry of the matrix: more than random walls of any
# density have taken. What is no grid keeps a search busy for as long as one lets it.
LOOKUPS, PER_ENTRY = 50_000_000, 500
GUESSES = 4096  # guesses per component that it can take back
SPARSE = 64  # cells of the box per unknown above which a box is no use

TOO_LOOSE = (
    "the pattern leaves so much open that the search for positions was given up "
    "(long narrow channels, other order, or no grid); pass grid= if there is one"
)
VALUES = {
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


class NotAGrid(ValueError):
    """The matrix is not the operator of a Cartesian grid in C order; the message says where and why."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """How the rows of a matrix lie in a padded box.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis without padding. Axes of one cell are dropped; a chain is (1, M).
    rows : ndarray of int64, shape (m,), or None
        The matrix rows that are cells of the box; None: all of them, in order.
    position : ndarray of int32, or int64 for boxes beyond its range, shape (m,)
        Flat index in the padded box of each of them.
    diagonal : ndarray of uint8, shape of the padded box
        The operator: diagonal / scale; 0 where there is no unknown.
    scale : float
        A = scale (diag(diagonal) - adjacency), in the units of A.
    component : ndarray of int32, shape (m,)
        Connected component, 0, 1, ... in the order of their first rows.
    sealed : ndarray of bool, shape (components,)
        The component has no Dirichlet data: the constant on it is in the null space.
    exact : bool
        The coupled rows of A are those of the operator to the last bit, not only up to rounding.
    """

    shape: tuple[int, ...]
    rows: NDArray[np.int64] | None
    position: NDArray[np.int32 | np.int64]
    diagonal: NDArray[np.uint8]
    scale: float
    component: NDArray[np.int32]
    sealed: NDArray[np.bool_]
    exact: bool = False


Scanned = tuple[float, bool, NDArray[np.uint8], NDArray[np.uint8]]


def scan(A: csr_array) -> Scanned | None:
    """Look at every entry once, in the hope that it is sorted, finite, and an exact multiple of one coupling.

    Parameters
    ----------
    A : csr_array, shape (n, n)

    Returns
    -------
    scale, planar, degree, count
        See :func:`deepcd.solvers.kernels.placement.scan`; None if A is not of that kind, or may not be.
    """
    if not isinstance(A, csr_array) or A.dtype not in (np.float32, np.float64) or A.shape[0] < 2:
        return None
    degree, count = np.empty(A.shape[0], dtype=np.uint8), np.empty(A.shape[0], dtype=np.uint8)
    scale, planar = placement.scan(A.indptr, A.indices, A.data, degree, count)
    return (scale, planar, degree, count) if scale > 0 else None


def discover(A: csr_array, scanned: Scanned | None = None) -> Embedding:
    """Find the grid whose operator a matrix is.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        Real; rows without off-diagonal entries are left out of the box. Explicit zeros and unsorted indices are fine.
    scanned : tuple, optional
        What :func:`scan` said of it.

    Returns
    -------
    Embedding
        Verified against every entry of A. With one connected component `position` ascends.

    Raises
    ------
    NotAGrid
        If A is not such an operator, with the reason.

    Examples
    --------
    >>> from deepcd.pde import ball, domain, poisson
    >>> from deepcd.solvers.grid_discovery import discover
    >>> found = discover(poisson(domain((9, 8, 7), solid=ball((4, 4, 4), 2.5))).A)
    >>> found.shape, found.scale, found.sealed
    ((9, 8, 7), 1.0, array([ True]))
    """
    found = scan(A) if scanned is None else scanned
    if found is None:
        A, eps = _canonical(A)
        degree, count = np.empty(A.shape[0], dtype=np.uint8), np.empty(A.shape[0], dtype=np.uint8)
        reason, row, scale, planar = placement.values(A.indptr, A.indices, A.data, eps, degree, count)
    else:
        reason, row, eps = 0, 0, float(np.finfo(A.dtype).eps)
        scale, planar, degree, count = found
    n, exact = A.shape[0], found is not None
    if reason == placement.EXPLICIT_ZERO:
        A = A.copy()
        A.eliminate_zeros()
        reason, row, scale, planar = placement.values(A.indptr, A.indices, A.data, eps, degree, count)
    if reason:
        raise NotAGrid(f"row {row} of A {VALUES[reason]}")
    indptr, indices, rows, index = A.indptr, A.indices, None, np.empty(0, dtype=np.int32)
    if not degree.all():
        rows = np.flatnonzero(degree)
        if rows.size == 0:
            raise NotAGrid(f"A has no off-diagonal entry (shape {A.shape}): its unknowns can be solved one by one")
        index = np.full(n, -1, dtype=np.int32)
        index[rows] = np.arange(rows.size, dtype=np.int32)
        indptr = np.empty(rows.size + 1, dtype=A.indptr.dtype)
        indices = np.empty(int((degree.astype(np.int64) + 1).sum()), dtype=A.indices.dtype)
        row = placement.compress(A.indptr, A.indices, rows, index, indptr, indices)
        if row >= 0:
            raise NotAGrid(f"row {row} of A couples to a row that has no off-diagonal entry: A is not symmetric")
        degree, count = degree[rows], count[rows]

    m = indptr.size - 1
    if exact and not planar and (usual := _walk(indptr, indices, count)) is not None:
        shape, position, box = usual
        sealed = np.array([not (count > degree).any()])
        return Embedding(shape, rows, position, box, float(scale), np.broadcast_to(np.int32(0), m), sealed, exact)
    parent, packed = np.empty(m, dtype=np.int32), np.empty(m, dtype=np.int64)
    none = np.empty(0, dtype=np.uint8)
    budget = np.array([LOOKUPS + PER_ENTRY * indices.size])
    for two_axes in (True, False) if planar else (False,):
        planar = two_axes
        guesses, contradictions = discovery.link(
            indptr, indices, none, planar, False, 0, none, none, parent, packed, budget
        )
        if contradictions >= 0 or budget[0] < 0:
            break
    if contradictions < 0:
        if budget[0] < 0:
            raise NotAGrid(TOO_LOOSE)
        raise NotAGrid(
            "couplings do not close on a Cartesian grid in C order "
            "(other order, periodic links, a wall without thickness, or no grid)"
        )
    component = np.empty(m, dtype=np.int32)
    components = int(np.count_nonzero(parent < 0))
    low, high = np.empty((components, 3), dtype=np.int64), np.empty((components, 3), dtype=np.int64)
    unordered = np.zeros(components, dtype=bool)
    placement.measure(parent, packed, component, low, high, unordered)
    del parent
    sealed = np.ones(components, dtype=bool)
    sealed[component[count > degree]] = False

    reason = row = column = 0
    for searches in range(3):  # after one for the order there may be one for cells that touch
        sizes = high - low + 1
        wrong = unordered | (sizes.prod(axis=1, dtype=float) > max(1e6, SPARSE * m))
        if not wrong.any():
            axes, origin, shape = _pack(sizes)
            if np.prod(shape, dtype=float) > max(1e6, SPARSE * m):
                break
            box = np.zeros([size + 2 for size in shape], dtype=np.uint8)
            stride = _strides(box.shape, axes)
            position = np.empty(m, dtype=_integer(box.size))
            placement.place(component, packed, origin - low + 1, stride, count, position, box.reshape(-1))
            if exact and components == 1 and placement.fits(indptr, indices, position, box.reshape(-1), stride):
                component = np.broadcast_to(np.int32(0), m)  # takes no memory
                return Embedding(shape, rows, position, box, float(scale), component, sealed, exact)
            reason, row, column = placement.verify(
                A.indptr, A.indices, A.data, index, position, box.reshape(-1), stride, scale, eps, component, wrong
            )
            if np.count_nonzero(box) < m:  # cells that share a position
                order = np.argsort(position, kind="stable")
                wrong[component[order[1:][np.diff(position[order]) == 0]]] = True
            if not wrong.any():
                return Embedding(shape, rows, position, box, float(scale), component, sealed, exact)
        if searches == 2 or (guesses == 0 and not planar):
            break
        if not _search(indptr, indices, component, packed, np.flatnonzero(wrong), low, high, budget):
            break
        unordered[:] = False
    if reason == 0:
        raise NotAGrid(
            f"no arrangement of the {m} coupled rows of A in a box of reasonable size agrees with all couplings "
            "(rows not in C order, a tree of narrow channels, or no grid); pass grid= if there is one"
        )
    raise NotAGrid(MISMATCH[reason].format(row=row, column=column))


def _walk(
    indptr: NDArray[np.int32], indices: NDArray[np.int32], count: NDArray[np.uint8]
) -> tuple[tuple[int, ...], NDArray[np.int32 | np.int64], NDArray[np.uint8]] | None:
    """Try the quick way for one component with three axes; return shape, positions and box if all couplings agree."""
    m = count.size
    packed = np.empty(m, dtype=np.int64)
    low, high = np.empty((1, 3), dtype=np.int64), np.empty((1, 3), dtype=np.int64)
    if not placement.walk(indptr, indices, packed, low[0], high[0]):
        return None
    shape = tuple(int(size) for size in (high - low + 1)[0])
    if min(shape) < 2 or math.prod(shape) > max(1e6, SPARSE * m):
        return None
    box = np.zeros([size + 2 for size in shape], dtype=np.uint8)
    stride, position = _strides(box.shape, (0, 1, 2)), np.empty(m, dtype=_integer(box.size))
    placement.place(np.broadcast_to(np.int32(0), m), packed, 1 - low, stride, count, position, box.reshape(-1))
    return (shape, position, box) if placement.fits(indptr, indices, position, box.reshape(-1), stride) else None


def embed(grid: Grid) -> Embedding:
    """Return the embedding of the Poisson matrix of a known grid.

    Parameters
    ----------
    grid : Grid
        The rows are its fluid cells in C order but for the isolated ones, as in :func:`deepcd.pde.poisson`.

    Returns
    -------
    Embedding
        The box is the grid itself, without axes of one cell.

    Raises
    ------
    NotAGrid
        If no two fluid cells touch.

    Examples
    --------
    >>> from deepcd.pde import Grid
    >>> from deepcd.solvers.grid_discovery import embed
    >>> embed(Grid([[0, 0, 2], [0, 1, 0]])).diagonal[1:-1, 1:-1]
    array([[2, 2, 0],
           [1, 0, 0]], dtype=uint8)
    """
    kept = [axis for axis, size in enumerate(grid.shape) if size > 1]
    shape = (1,) * (2 - len(kept)) + tuple(grid.shape[axis] for axis in kept)
    neighbours, dirichlet = grid.couplings()
    touching = grid.fluid & (neighbours > 0)
    lonely = grid.fluid & (neighbours == 0) & (dirichlet > 0)  # unknowns outside the box
    if not touching.any():
        raise NotAGrid(f"no two fluid cells of the grid of shape {grid.shape} touch: solve the unknowns one by one")
    m = int(np.count_nonzero(touching))
    neighbours += dirichlet
    neighbours *= touching
    box = np.pad(neighbours.reshape(shape), 1)
    position = np.empty(m, dtype=_integer(box.size))
    placement.number_cells(box.reshape(-1), position)
    starts, ends = find_runs(box.reshape(-1))
    label, open_cells = np.empty(starts.size, dtype=np.int32), touching & (dirichlet > 0)
    count = label_runs(starts, ends, _strides(box.shape, tuple(range(3 - box.ndim, 3)))[:-1], label)
    if count == 1:
        component, sealed = np.broadcast_to(np.int32(0), m), np.array([not open_cells.any()])
    else:
        component, sealed = np.repeat(label, ends - starts), np.ones(count, dtype=bool)
        sealed[component[open_cells[touching]]] = False
    return Embedding(
        shape=shape,
        rows=np.flatnonzero(touching[touching | lonely]) if lonely.any() else None,
        position=position,
        diagonal=box,
        scale=grid.spacing**-2,
        component=component,
        sealed=sealed,
        exact=True,
    )


def verify(A: csr_array, embedding: Embedding) -> None:
    """Compare every entry of a matrix with the operator of an embedding.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        The matrix.
    embedding : Embedding
        What it should be: touching cells are coupled by -scale and no others are, diagonals are scale times those of
        the box, up to rounding; rows that are not in the box have no off-diagonal entries.

    Raises
    ------
    NotAGrid
        If an entry differs, with its place.
    """
    A, eps = _canonical(A)
    n, m = A.shape[0], embedding.position.size
    box = embedding.diagonal.reshape(-1)
    index = np.empty(0, dtype=np.int32)
    if embedding.rows is not None:
        if embedding.rows[-1] >= n:
            raise NotAGrid(f"the grid belongs to a matrix of at least {embedding.rows[-1] + 1} rows, A has {n}")
        index = np.full(n, -1, dtype=np.int32)
        index[embedding.rows] = np.arange(m, dtype=np.int32)
    elif n != m:
        raise NotAGrid(f"the grid has {m} unknowns, A has {n} rows")
    stride = _strides(embedding.diagonal.shape, tuple(range(3 - embedding.diagonal.ndim, 3)))
    wrong = np.zeros(embedding.sealed.size, dtype=bool)
    position, component, scale = embedding.position, np.ascontiguousarray(embedding.component), embedding.scale
    reason, row, column = placement.verify(
        A.indptr, A.indices, A.data, index, position, box, stride, scale, eps, component, wrong
    )
    if reason:
        raise NotAGrid(MISMATCH[reason].format(row=row, column=column))


def _canonical(A: csr_array) -> tuple[csr_array, float]:
    """Return A as sorted CSR of float32 or float64, copied only if need be, and the rounding unit of its values."""
    if not issparse(A) or A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise NotAGrid(f"A must be a square sparse array, got {type(A).__name__} of shape {np.shape(A)}")
    if A.dtype.kind not in "fiub":
        raise NotAGrid(f"A has entries of type {A.dtype}; the operator of a grid is real")
    eps = float(np.finfo(A.dtype).eps) if A.dtype.kind == "f" else 0.0
    converted = csr_array(A, dtype=A.dtype if A.dtype in (np.float32, np.float64) else np.float64)
    if not converted.has_canonical_format:
        converted = converted.copy()
        converted.sum_duplicates()
    return converted, max(eps, float(np.finfo(np.float64).eps))


def _integer(size: int) -> type[np.int32 | np.int64]:
    """Return the integers that can number the cells of a box."""
    return np.int32 if size <= np.iinfo(np.int32).max else np.int64


def _strides(padded: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the strides of a padded box along x, y, z, given which of these its axes are; 0 for the others."""
    stride, step = [0, 0, 0], 1
    for axis, size in zip(reversed(axes), reversed(padded), strict=True):
        stride[axis] = step
        step *= size
    return stride[0], stride[1], stride[2]


def _pack(sizes: NDArray[np.int64]) -> tuple[tuple[int, ...], NDArray[np.int64], tuple[int, ...]]:
    """Place the components' bounding boxes, (components, 3), in one box with gaps of one cell.

    Returns the axes that are kept (two at least), the low corner of each component and the shape along the kept axes.
    Boxes stand in rows within layers, the thickest first; layers are stacked along the axis that makes the whole
    smallest.
    """
    kept = tuple(int(axis) for axis in np.flatnonzero(sizes.max(axis=0) > 1))
    axes = kept if len(kept) > 1 else ((0 if kept[0] else 1), kept[0])
    best: tuple[float, NDArray[np.int64], NDArray[np.int64]] | None = None
    for first in axes:
        second, third = (axis for axis in range(3) if axis != first)
        width, depth = int(sizes[:, second].max()), int(sizes[:, third].max())
        origin = np.zeros_like(sizes)
        layer = row = column = thickness = height = 0
        for c in np.lexsort((-sizes[:, third], -sizes[:, second], -sizes[:, first])).tolist():
            a, b, d = (int(sizes[c, axis]) for axis in (first, second, third))
            if column + d > depth:
                row, column, height = row + height + 1, 0, 0
            if row + b > width:
                layer, row, column, height, thickness = layer + thickness + 1, 0, 0, 0, 0
            origin[c, first], origin[c, second], origin[c, third] = layer, row, column
            column, height, thickness = column + d + 1, max(height, b), max(thickness, a)
        extent = (origin + sizes).max(axis=0)
        volume = float(np.prod(extent, dtype=float))
        if best is None or volume < best[0]:
            best = volume, origin, extent
    assert best is not None
    return axes, best[1], tuple(int(best[2][axis]) for axis in axes)


def _search(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    component: NDArray[np.int32],
    packed: NDArray[np.int64],
    wrong: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    budget: NDArray[np.int64],
) -> bool:
    """Take back guesses in the wrong components, the last one first, until each fits; False if one does not."""
    mask = np.empty(indices.size, dtype=np.uint8)
    intervals.possible_axes(indptr, indices, mask)
    order = np.argsort(component, kind="stable")
    number = np.empty(component.size, dtype=np.int32)
    for c in wrong.tolist():
        members = order[slice(*np.searchsorted(component, [c, c + 1], sorter=order))]
        # The component alone. Where other rows were in between, one empty row is left: a +z neighbour is the next row.
        number[members] = np.arange(members.size) + np.concatenate(([0], np.cumsum(np.diff(members) > 1)))
        rows = number[members]
        size = int(rows[-1]) + 1
        own_indptr = np.empty(size + 1, dtype=indptr.dtype)
        entries = int((indptr[members + 1] - indptr[members]).sum()) + size - rows.size
        own_indices = np.empty(entries, dtype=indices.dtype)
        own_mask = np.zeros(entries, dtype=np.uint8)
        placement.extract(indptr, indices, mask, members, number, own_indptr, own_indices, own_mask)
        parent, offset = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
        rank, possible = np.zeros(GUESSES, dtype=np.uint8), np.zeros(GUESSES, dtype=np.uint8)
        forced = 0
        while True:
            guesses, contradictions = discovery.link(
                own_indptr, own_indices, own_mask, False, True, forced, rank, possible, parent, offset, budget
            )
            if contradictions == 0:
                placement.flatten(parent, offset)
                at = offset[rows]
                budget[0] -= 6 * rows.size * int(rows.size).bit_length()  # six neighbours of each are searched for
                if placement.induced(own_indptr, own_indices, rows, at):
                    break
            forced = min(guesses, GUESSES)
            while forced and rank[forced - 1] + 1 >= possible[forced - 1]:
                forced -= 1
            if forced == 0 or budget[0] < 0:
                return False
            rank[forced - 1] += 1
        packed[members] = at
        x, y, z = discovery.unpack(at)
        low[c] = x.min(), y.min(), z.min()
        high[c] = x.max(), y.max(), z.max()
    return True
