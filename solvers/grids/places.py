"""From the pattern of a matrix to places in a padded box.

The rows of a pressure Poisson matrix on a box cut by obstacles and free surfaces are its fluid cells in C order. Which
rows are coupled tells which cells touch, and from this the cells are put back into a box. No coefficient is looked at.
The passes over the pattern are in ``kernels/discovery.py`` (positions), ``kernels/intervals.py`` (bounds, if positions
failed) and ``kernels/placement.py``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepcd.solvers.grids.embedding import Embedding, NotAGrid, Rows, index_type, padded
from deepcd.solvers.kernels import discovery, intervals, pieces, placement, repeats

# Number of positions of rows that may be looked up, and how many more per entry of the matrix: more than random walls
# of any density have taken. Without a limit, a matrix that is not a grid would keep the search running forever.
LOOKUPS, PER_ENTRY = 50_000_000, 500
ROOM = 5  # halvings over which components stay apart where that is asked for
GUESSES = 4096  # number of guesses per component that the search can take back
SEARCHES = 2  # for one matrix: after one for the order of rows there may be one for cells that touch
SPARSE = 64  # largest number of cells of the box per unknown; a larger box is no use

TOO_LOOSE = (
    "the pattern leaves so much open that the search for positions was given up "
    "(long narrow channels, other order, or no grid); pass grid= if there is one"
)
NOT_CLOSED = (
    "couplings do not close on a Cartesian grid in C order ({}other order, periodic links, or no grid): "
    "row {} of A fits nowhere beside the earlier rows that it couples to"
)


class TooLoose(NotAGrid):
    """The search for positions was given up."""


class Pattern(NamedTuple):
    """The pattern of the m coupled rows of a matrix and of the same columns: sorted, diagonal included."""

    indptr: NDArray[np.int32 | np.int64]  # as in CSR
    indices: NDArray[np.int32 | np.int64]  # as in CSR; at most three on either side of the diagonal
    rows: Rows = slice(None)  # the coupled rows in the matrix

    @property
    def m(self) -> int:
        """Number of coupled rows."""
        return self.indptr.size - 1


def runs(pattern: Pattern) -> NDArray[np.int64]:
    """Return the first rows of the runs of a pattern (see `kernels/repeats.py`), and the number of rows."""
    starts = np.empty(pattern.indptr.size, dtype=np.int64)  # memory is taken only where it is written
    return starts[: repeats.runs(pattern.indptr, pattern.indices, starts) + 1]


def runs_among(rows: Rows, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first rows of the runs of the coupled rows of a matrix, given those of all of its runs."""
    if isinstance(rows, slice):
        return starts
    # Rows without couplings are runs of one row each, and none of them is among the neighbours that a run has in line.
    return np.unique(np.searchsorted(rows, starts))


def coupled(A: csr_array, degree: NDArray[np.uint8]) -> Pattern:
    """Return the pattern of the rows that have off-diagonal entries; `degree`, shape (n,), says how many.

    A is sorted, without explicit zeros. Raises NotAGrid if there are no such rows, or one of them couples to another.
    """
    if degree.all():
        return Pattern(A.indptr, A.indices)
    rows = np.flatnonzero(degree)
    if rows.size == 0:
        raise NotAGrid(f"A has no off-diagonal entry (shape {A.shape}): its unknowns can be solved one by one")
    index = np.full(A.shape[0], -1, dtype=np.int32)
    index[rows] = np.arange(rows.size, dtype=np.int32)
    indptr = np.empty(rows.size + 1, dtype=A.indptr.dtype)
    indices = np.empty(int((degree.astype(np.int64) + 1).sum()), dtype=A.indices.dtype)
    row = placement.compress(A.indptr, A.indices, rows, index, indptr, indices)
    if row >= 0:
        raise NotAGrid(f"row {row} of A couples to a row that has no off-diagonal entry: A is not symmetric")
    return Pattern(indptr, indices, rows)


def walk(
    pattern: Pattern, starts: NDArray[np.int64], mark: NDArray[np.uint8], induced: bool = True
) -> tuple[Embedding, NDArray[np.uint8]] | None:
    """Try the quick way for one component with three axes.

    Parameters
    ----------
    pattern : Pattern
    starts : ndarray of int64, shape (runs + 1,)
        See `runs`.
    mark : ndarray of uint8, shape (m,)
        What is written into the cell of each row, not zero: its diagonal entry, for example.
    induced : bool, default True
        Compare places with couplings: cells that touch are coupled, all of them. If not, that is left to the caller,
        and two axes are taken as well.

    Returns
    -------
    embedding, box, or None
        The box, uint8, holds the marks, and zeros where there is no unknown. None if it does not agree with all
        couplings.
    """
    packed = np.empty(pattern.m, dtype=np.int64)
    low, high = np.empty((1, 3), dtype=np.int64), np.empty((1, 3), dtype=np.int64)
    if not placement.walk(pattern.indptr, pattern.indices, starts, packed, low[0], high[0]):
        return None
    sizes = (high - low + 1)[0]
    axes = (0, 1, 2) if induced else tuple(int(axis) for axis in np.flatnonzero(sizes > 1))
    shape = tuple(int(sizes[axis]) for axis in axes)
    if len(shape) < 2 or min(shape) < 2 or math.prod(shape) > _most_cells(pattern.m):
        return None
    component = np.broadcast_to(np.int32(0), pattern.m)  # takes no memory
    found, box = _placed(pattern, component, packed, shape, axes, 1 - low, mark)
    return (found, box) if not induced or fits(pattern, starts, found, box) else None


def fits(pattern: Pattern, starts: NDArray[np.int64], embedding: Embedding, box: NDArray[np.uint8]) -> bool:
    """Return whether every row is coupled to the cells beside its own and to no others; positions have to ascend."""
    strides = (*embedding.s, 1)
    flat, indptr, indices, _ = box.reshape(-1), *pattern
    agrees: bool = placement.fits(indptr, indices, starts, embedding.position, flat, strides)
    return agrees


class Pieces:
    """The connected components of a pattern, each with the positions of its rows relative to each other.

    Parameters
    ----------
    pattern : Pattern
    planar : bool
        Try two axes first, since no row has three earlier or three later neighbours.
    induced : bool, default True
        Whether cells that touch are coupled, all of them.
    lookups : int, optional
        Number of positions that may be looked up; if not given, as many as random walls may need.

    Raises
    ------
    NotAGrid
        If no positions agree with the couplings, or the search for them was given up.
    """

    def __init__(self, pattern: Pattern, planar: bool, induced: bool = True, lookups: int | None = None) -> None:
        self.pattern, self._induced = pattern, induced
        # Lookups that are left.
        self._lookups = LOOKUPS + PER_ENTRY * pattern.indices.size if lookups is None else lookups
        m, none = pattern.m, np.empty(0, dtype=np.uint8)
        parent, self._packed = np.empty(m, dtype=np.int32), np.empty(m, dtype=np.int64)
        for two_axes in (True, False) if planar else (False,):
            guesses, contradictions, self._lookups = discovery.link(
                *pattern[:2], none, two_axes, induced, False, 0, none, none, parent, self._packed, self._lookups
            )
            if contradictions >= 0 or self._lookups < 0:
                break
        if contradictions < 0:
            row = -1 - contradictions
            row = row if isinstance(pattern.rows, slice) else int(pattern.rows[row])
            wall = "a wall without thickness, " if induced else ""
            if self._lookups < 0:
                raise TooLoose(TOO_LOOSE)
            raise NotAGrid(NOT_CLOSED.format(wall, row))
        self._searches = SEARCHES if guesses or two_axes else 0  # that may still be made
        self.component = np.empty(m, dtype=np.int32)
        self.count = int(np.count_nonzero(parent < 0))
        self._low, self._high = np.empty((2, self.count, 3), dtype=np.int64)
        self._unordered = np.zeros(self.count, dtype=bool)
        placement.measure(parent, self._packed, self.component, self._low, self._high, self._unordered)

    def misplaced(self) -> NDArray[np.bool_]:
        """Return which components have positions that do not ascend or are too far apart, shape (count,)."""
        sizes = self._high - self._low + 1
        misplaced: NDArray[np.bool_] = self._unordered | (sizes.prod(axis=1, dtype=float) > _most_cells(self.pattern.m))
        return misplaced

    def arrange(self, mark: NDArray[np.uint8], *, apart: bool = False) -> tuple[Embedding, NDArray[np.uint8]] | None:
        """Put all components into one box, not compared with the couplings yet; None if it would be too large.

        Argument and results are those of `walk`; `apart` asks for components that stay apart on coarser grids, too.
        """
        sizes = self._high - self._low + 1
        axes, origin, shape = _pack(sizes, _grains(sizes) if apart and self.count > 1 else np.ones_like(sizes))
        if np.prod(shape, dtype=float) > _most_cells(self.pattern.m):
            return self.arrange(mark) if apart else None
        return _placed(self.pattern, self.component, self._packed, shape, axes, origin - self._low + 1, mark)

    def search(self, wrong: NDArray[np.bool_]) -> bool:
        """Take back guesses in the wrong components, the last one first, until each fits; return whether all do."""
        if not self._searches:
            return False
        self._searches -= 1
        mask = np.empty(self.pattern.indices.size, dtype=np.uint8)
        intervals.possible_axes(*self.pattern[:2], mask)
        order = np.argsort(self.component, kind="stable")
        number = np.empty(self.component.size, dtype=np.int32)
        for c in np.flatnonzero(wrong).tolist():
            members = order[slice(*np.searchsorted(self.component, [c, c + 1], sorter=order))]
            at = self._place_again(members, number, mask)
            if at is None:
                return False
            self._packed[members] = at
            x, y, z = pieces.unpack(at)
            self._low[c] = x.min(), y.min(), z.min()
            self._high[c] = x.max(), y.max(), z.max()
        self._unordered[:] = False
        return True

    def _place_again(
        self, members: NDArray[np.int64], number: NDArray[np.int32], mask: NDArray[np.uint8]
    ) -> NDArray[np.int64] | None:
        """Return packed positions of the rows of a component that agree with its couplings, or None.

        `number`, shape (m,), is written to; `mask` has the axes along which each coupling may lie.
        """
        indptr, indices, _ = self.pattern
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
            guesses, contradictions, self._lookups = discovery.link(
                *(own_indptr, own_indices, own_mask, False, self._induced, True, forced),
                *(rank, possible, parent, offset, self._lookups),
            )
            if contradictions == 0:
                placement.flatten(parent, offset)
                at = offset[rows]
                self._lookups -= 6 * rows.size * int(rows.size).bit_length()  # six neighbours of each are searched for
                if self._induced:
                    good = placement.induced(own_indptr, own_indices, rows, at)
                else:  # all couplings agree, and what remains is the order
                    good = bool((np.diff(at) > 0).all())
                if good:
                    return at
            forced = min(guesses, GUESSES)
            while forced and rank[forced - 1] + 1 >= possible[forced - 1]:
                forced -= 1
            if forced == 0 or self._lookups < 0:
                return None
            rank[forced - 1] += 1


def shared(embedding: Embedding, box: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return rows of the embedding that lie in the cell of another one; `box` is not zero in all cells with a row."""
    position = embedding.position
    if np.count_nonzero(box) == position.size:
        return np.empty(0, dtype=np.intp)
    order = np.argsort(position, kind="stable")
    return order[1:][np.diff(position[order]) == 0]


def _most_cells(m: int) -> float:
    """Return the number of cells above which a box for m rows is too large."""
    return max(1e6, SPARSE * m)


def _placed(
    pattern: Pattern,
    component: NDArray[np.int32],
    packed: NDArray[np.int64],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    shift: NDArray[np.int64],
    mark: NDArray[np.uint8],
) -> tuple[Embedding, NDArray[np.uint8]]:
    """Return the embedding of packed positions, and the box with the marks.

    `axes` says which of x, y and z the axes of the box are, `shift`, shape (components, 3), what has to be added to the
    coordinates of each component.
    """
    box = np.zeros(padded(shape), dtype=np.uint8)
    stride, step = [0, 0, 0], 1
    for axis, size in zip(reversed(axes), reversed(box.shape), strict=True):
        stride[axis] = step
        step *= size
    position = np.empty(pattern.m, dtype=index_type(box.size))
    placement.place(component, packed, shift, tuple(stride), mark, position, box.reshape(-1))
    return Embedding(shape, pattern.rows, position, component), box


def _grains(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return powers of two at which components begin, so that each is one cell before it shares one with another."""
    longest = sizes.max(axis=1, keepdims=True)
    grain = 2 ** np.minimum(np.ceil(np.log2(longest + 1)), ROOM).astype(np.int64)
    return np.where(sizes.max(axis=0) > 1, grain, 1)


def _rounded_up(x: Any, grain: Any) -> Any:
    """Return the least multiple of a grain that is not below x."""
    return -(-x // grain) * grain


def _pack(
    sizes: NDArray[np.int64], grains: NDArray[np.int64]
) -> tuple[tuple[int, ...], NDArray[np.int64], tuple[int, ...]]:
    """Place the components' bounding boxes, (components, 3), in one box, at multiples of `grains`, one cell apart.

    Returns the axes that are kept (two at least), the low corner of each component and the shape along the kept axes.
    Boxes stand in rows within layers, the thickest first; layers are stacked along the axis that makes the whole
    smallest.
    """
    kept = tuple(int(axis) for axis in np.flatnonzero(sizes.max(axis=0) > 1))
    axes = kept if len(kept) > 1 else ((0 if kept[0] else 1), kept[0])
    best: tuple[float, NDArray[np.int64], NDArray[np.int64]] | None = None
    for first in axes:
        second, third = (axis for axis in range(3) if axis != first)
        full = _rounded_up(sizes + 1, grains)  # with what has to stay free behind each
        width, depth = int(full[:, second].max()), int(full[:, third].max())
        origin = np.zeros_like(sizes)
        layer = row = column = thickness = height = 0
        for c in np.lexsort((-sizes[:, third], -sizes[:, second], -sizes[:, first])).tolist():
            a, b, d = (int(full[c, axis]) for axis in (first, second, third))
            column = _rounded_up(column, int(grains[c, third]))
            if column + d > depth:
                row, column, height = row + height, 0, 0
            row = _rounded_up(row, int(grains[c, second]))
            if row + b > width:
                layer, row, column, height, thickness = layer + thickness, 0, 0, 0, 0
            layer = _rounded_up(layer, int(grains[c, first]))
            origin[c, first], origin[c, second], origin[c, third] = layer, row, column
            column, height, thickness = column + d, max(height, b), max(thickness, a)
        extent = (origin + sizes).max(axis=0)
        volume = float(np.prod(extent, dtype=float))
        if best is None or volume < best[0]:
            best = volume, origin, extent
    assert best is not None
    return axes, best[1], tuple(int(best[2][axis]) for axis in axes)
