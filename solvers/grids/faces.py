"""Grid discovery for matrices whose couplings differ: the Cartesian grid behind them, and the weights of its faces.

Two numberings are known. In a *whole* box row i is cell i, so that couplings have few distances, and what they are
tells the box; cells may be rows without couplings, and axes may repeat. In *compact* numbering cells are left out; then
the pattern is followed from row to row, as for equal couplings (``places.py``). Every entry is compared with the place
and with the mirror image that it should have while weights are read (``kernels/face_values.py``,
``kernels/face_places.py``).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepcd.solvers.grids import places, values
from deepcd.solvers.grids.boxes import Box, boxes
from deepcd.solvers.grids.embedding import Embedding, NotAGrid, geometry, index_type, padded
from deepcd.solvers.grids.stencils import FaceStencil, sealed_components
from deepcd.solvers.kernels import face_places, face_values
from deepcd.solvers.kernels.faces.records import Faces

REFUSED = {
    face_values.POSITIVE: "A[{row}, {column}] is positive, which couplings of a grid are not",
    face_values.ASYMMETRIC: "A[{row}, {column}] and A[{column}, {row}] differ",
    face_values.APART: "row {row} couples to row {column}, which does not lie beside it",
    face_values.DIAGONAL: "A[{row}, {row}] is not positive, but row {row} has couplings",
    face_values.DOMINANCE: "A[{row}, {row}] is smaller than the sum of the couplings of row {row}",
    face_values.FINITE: "A[{row}, {column}] is not finite",
    face_values.SMALL: "A[{row}, {column}] is too small beside the largest entries for single precision",
    face_values.MANY: "row {row} couples to more than three earlier or three later rows: no 5- or 7-point operator",
}
NO_CROSSING = "the couplings of row {row} to row {column} and of rows before it cross: no grid in C order"
CHAINS = "no row of A couples to more than two others: chains are solved directly"
ROWS, BLOCKS, PER_ROW = 512, 64, 32  # rows that are looked at first, blocks that they lie in, couplings of each
LOOKUPS, PER_ENTRY = 5_000_000, 20  # positions of rows that may be looked up, as in ``places.py``
BEGINNING = 1000  # rows that are looked at before all are
BOXES = 12  # that are compared with a matrix, as long as one more explains its entries
NEAR = 64.0  # the scale is so near the largest diagonal entry, or nearer
FAR = 2.0**20  # by which what has been read in single precision may be multiplied


class _UnsortedError(Exception):
    """The matrix has to be sorted first."""


class Look(NamedTuple):
    """What some rows of a matrix say."""

    pairs: NDArray[np.int64]  # row and column of their couplings, (2, k)
    scale: float  # a power of two not above the largest diagonal entry, if any is positive


class _Read(NamedTuple):
    """What a pass has read off a matrix, or why it stopped."""

    reason: int
    row: int
    tally: NDArray[np.int64]
    faces: Faces
    scale: float
    row_bound: float

    @property
    def column(self) -> int:
        """Column of the entry with the reason."""
        return int(self.tally[face_values.COLUMN])

    def refusal(self) -> NotAGrid:
        """Return the reason in words."""
        return NotAGrid(REFUSED[self.reason].format(row=self.row, column=self.column))


def discover_faces(A: csr_array) -> tuple[Embedding, FaceStencil]:
    """Find the grid whose operator a matrix is, and the weights of its faces.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        Real; in single precision, single precision is what counts as equal. Rows without off-diagonal entries are left
        out. Explicit zeros are no couplings; indices need not be sorted.

    Returns
    -------
    Embedding, FaceStencil
        Verified against every entry of A. `position` ascends, but for several components in compact numbering.

    Raises
    ------
    NotAGrid
        If A is not such an operator, with the reason.

    Examples
    --------
    >>> from deepcd.pde import Grid, poisson
    >>> from deepcd.solvers.grids.faces import discover_faces
    >>> A = poisson(Grid([[0, 0, 0], [0, 0, 0]])).A
    >>> embedding, stencil = discover_faces(A * 5)
    >>> embedding.shape, stencil.scale, stencil.sealed
    ((2, 3), 8.0, array([ True]))
    >>> stencil.faces.w2.reshape(4, 5)[1:3] * stencil.scale
    array([[0., 5., 5., 0., 0.],
           [0., 5., 5., 0., 0.]], dtype=float32)
    """
    A, eps = values.real(A)
    try:
        return _discover(A, eps)
    except _UnsortedError:
        A = A.copy()
        A.has_sorted_indices = A.has_canonical_format = False
        A.sum_duplicates()
    try:
        return _discover(A, eps)
    except _UnsortedError:
        raise NotAGrid(f"A has column indices out of range (shape {A.shape})") from None


def _discover(A: csr_array, eps: float) -> tuple[Embedding, FaceStencil]:
    look = look_at(A)
    refusal = None
    pairs, tried = look.pairs, set[Box]()
    while len(tried) < BOXES:
        untried = [box for box in boxes(A.shape[0], pairs) if box not in tried]
        if not untried:
            break
        tried.add(untried[0])
        found = _read_whole(A, eps, untried[0], look.scale)
        if not isinstance(found, _Read):
            return found
        if found.reason != face_values.APART:
            raise found.refusal()
        refusal = refusal or found.refusal()
        pairs = np.column_stack((pairs, (found.row, found.column)))  # a distance that was not seen, perhaps
    try:
        return _read_compact(A, eps, look)
    except NotAGrid:
        if refusal is None:
            raise
    raise refusal


def look_at(A: csr_array) -> Look:
    """Look at some rows, at the ends of A and all over it."""
    n = A.shape[0]
    if n <= ROWS:
        rows = np.arange(n)
    else:
        block = ROWS // (BLOCKS + 16)
        starts = (np.arange(1, BLOCKS + 1) * 0.6180339887498949 % 1.0 * (n - block)).astype(np.int64)
        inner = (starts[:, None] + np.arange(block)).ravel()
        rows = np.unique(np.concatenate((np.arange(8 * block), inner, np.arange(n - 8 * block, n))))
    pairs = np.empty((2, PER_ROW * rows.size), dtype=np.int64)
    matrix = A.indptr, A.indices, A.data
    count, largest = face_values.look(*matrix, rows, pairs)
    if count == 0:
        rows = rows[: face_values.first_coupled(*matrix, rows)]
        if rows.size == 0:
            raise NotAGrid(f"A has no off-diagonal entry (shape {A.shape}): its unknowns can be solved one by one")
        count, largest = face_values.look(*matrix, rows, pairs)
    if count < 0:
        raise NotAGrid(f"rows of A have more than {PER_ROW} off-diagonal entries: no operator of a grid")
    return Look(pairs[:, :count], power_of_two(largest or 1.0))


def power_of_two(x: float) -> float:
    """Return the largest power of two not above x > 0, within what has an inverse."""
    return math.ldexp(1.0, min(max(math.frexp(x)[1] - 1, -1000), 1000))


def _read(shape: tuple[int, ...], scale: float, run: Callable[..., tuple[int, int, float]]) -> _Read:
    """Run a pass that fills faces; where these need another scale, change it, or run again if it is far from it."""
    cells = math.prod(padded(shape))
    while True:
        w0, w2, extra, inverse = (np.zeros(cells, dtype=np.float32) for _ in range(4))
        faces = Faces(w0, np.zeros(cells, dtype=np.float32) if len(shape) == 3 else w0, w2, extra, inverse)
        tally = np.zeros(4, dtype=np.int64)
        reason, row, largest = run(1.0 / scale, faces, tally)
        if reason == face_values.UNSORTED:
            raise _UnsortedError
        factor = 1.0
        if not (reason or 1.0 / NEAR <= largest / scale <= NEAR):
            factor, scale = scale / power_of_two(largest), power_of_two(largest)
        if not 1.0 / FAR <= factor <= FAR:
            continue
        if factor != 1.0:
            for field in (w0, faces.w1, w2, extra)[faces.w1 is w0 :]:  # a power of two, so no digit is lost
                field *= np.float32(factor)
            inverse /= np.float32(factor)
        return _Read(reason, row, tally, faces, scale, 2.0 * largest / scale * (1.0 + 1e-6))


def _read_whole(A: csr_array, eps: float, box: Box, scale: float) -> tuple[Embedding, FaceStencil] | _Read:
    """Read a matrix whose rows are the cells of a box; return why it is none, if so."""
    (n, s), cells = geometry(box.shape), math.prod(padded(box.shape))
    position = np.empty(A.shape[0], dtype=index_type(cells))

    def run(unit: float, faces: Faces, tally: NDArray[np.int64]) -> tuple[int, int, float]:
        return face_values.whole(A.indptr, A.indices, A.data, n, s, box.wrap, unit, eps, faces, position, tally)

    read = _read(box.shape, scale, run)
    if read.reason:
        return read
    faces, tally = read.faces, read.tally
    m = int(tally[face_values.COUNT])
    rows: slice | NDArray[np.int64] = slice(None)
    if m < A.shape[0]:
        position = position[:m].copy()
        inner = (slice(1, -1),) * len(box.shape)
        rows = np.flatnonzero(faces.inverse.reshape(padded(box.shape))[inner])
    component, count = np.broadcast_to(np.int32(0), m), 1  # takes no memory
    if m < A.shape[0] or tally[face_values.BROKEN]:
        starts, ends = face_places.runs(faces)
        label = np.empty(starts.size, dtype=np.int32)
        count = face_places.label_runs(starts, ends, faces, n, s, label)
        component = component if count == 1 else np.repeat(label, ends - starts)
    return _result(Embedding(box.shape, rows, position, component), count, read, box.wrap)


def _result(
    embedding: Embedding, count: int, read: _Read, wrap: tuple[bool, bool, bool]
) -> tuple[Embedding, FaceStencil]:
    if count == 1:
        sealed = np.array([read.tally[face_values.OPEN] == 0])
    else:
        sealed = sealed_components(embedding.component, count, read.faces.extra[embedding.position] > 0)
    return embedding, FaceStencil(read.faces, read.scale, sealed, read.row_bound, wrap)


def _read_compact(A: csr_array, eps: float, look: Look) -> tuple[Embedding, FaceStencil]:
    """Read a matrix whose rows are some cells of a box in C order."""
    _refuse_at_once(look.pairs)
    if A.shape[0] > 2 * BEGINNING:
        _refuse_beginning(A)
    degree, zeros, planar = _census(A)
    if degree.max() <= 2:
        raise NotAGrid(CHAINS)
    pattern, index = _pattern(A, degree, zeros)
    following = np.empty(A.shape[0], dtype=A.indptr.dtype)

    def read(embedding: Embedding) -> _Read:
        def run(unit: float, faces: Faces, tally: NDArray[np.int64]) -> tuple[int, int, float]:
            place = index, embedding.position, (*embedding.s, 1)
            return face_places.placed(A.indptr, A.indices, A.data, *place, unit, eps, faces, following, tally)

        found = _read(embedding.shape, look.scale, run)
        if found.reason not in (0, face_values.APART):
            raise found.refusal()
        return found

    mark = np.ones(pattern.m, dtype=np.uint8)
    walked = places.walk(pattern, places.runs(pattern), mark, induced=False)
    if walked is not None:
        found = read(walked[0])
        if not found.reason:
            return _result(walked[0], 1, found, (False,) * 3)
    refusal: NotAGrid | None = None
    for induced in (True, False):
        try:
            return _piece_together(places.Pieces(pattern, planar, induced, LOOKUPS + PER_ENTRY * A.nnz), mark, read)
        except NotAGrid as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _piece_together(
    pieces: places.Pieces, mark: NDArray[np.uint8], read: Callable[[Embedding], _Read]
) -> tuple[Embedding, FaceStencil]:
    """Arrange the components of a pattern until all couplings join cells side by side."""
    pattern, refusal = pieces.pattern, None
    while True:
        wrong = pieces.misplaced()
        if not wrong.any():
            arranged = pieces.arrange(mark, apart=True)
            if arranged is None:
                break
            embedding = arranged[0]
            found = read(embedding)
            if not found.reason:
                return _result(embedding, pieces.count, found, (False,) * 3)
            refusal = found.refusal()
            place = embedding.position, np.ascontiguousarray(embedding.component), (*embedding.s, 1)
            face_places.stray(pattern.indptr, pattern.indices, *place, wrong)
        if not pieces.search(wrong):
            break
    raise refusal or NotAGrid(
        f"no arrangement of the {pattern.m} coupled rows of A in a box of reasonable size agrees with all couplings "
        "(rows not in C order, a tree of narrow channels, or no grid)"
    )


def _pattern(A: csr_array, degree: NDArray[np.uint8], zeros: bool) -> tuple[places.Pattern, NDArray[np.int32]]:
    """Return the pattern of the coupled rows, and the number of each row among them, empty if all are coupled."""
    index, everywhere = np.empty(0, dtype=np.int32), bool(degree.all())
    if everywhere and not zeros:
        return places.Pattern(A.indptr, A.indices), index
    rows = slice(None) if everywhere else np.flatnonzero(degree)
    m = int(np.count_nonzero(degree))
    if not everywhere:
        index = np.full(A.shape[0], -1, dtype=np.int32)
        index[rows] = np.arange(m, dtype=np.int32)
    indptr = np.empty(m + 1, dtype=A.indptr.dtype)
    indices = np.empty(int(degree.sum(dtype=np.int64)) + m, dtype=A.indices.dtype)
    row, column = face_places.compress(A.indptr, A.indices, A.data, index, indptr, indices)
    if row >= 0:
        raise NotAGrid(REFUSED[face_values.ASYMMETRIC].format(row=row, column=column))
    return places.Pattern(indptr, indices, rows), index


def _census(A: csr_array) -> tuple[NDArray[np.uint8], bool, bool]:
    """Return the couplings per row, whether there are explicit zeros, and whether two axes may do."""
    degree, tally = np.empty(A.shape[0], dtype=np.uint8), np.zeros(4, dtype=np.int64)
    reason, row, zeros, planar = face_places.census(A.indptr, A.indices, A.data, degree, tally)
    if reason == face_values.UNSORTED:
        raise _UnsortedError
    if reason:
        raise NotAGrid(REFUSED[reason].format(row=row, column=tally[face_values.COLUMN]))
    return degree, zeros, planar


def _refuse_beginning(A: csr_array) -> None:
    """Raise NotAGrid if the first rows fit nowhere: some cells of a grid are the cells of a grid."""
    beginning = A[:BEGINNING, :BEGINNING]
    degree, zeros, planar = _census(beginning)
    if degree.max() > 2:
        pattern, _ = _pattern(beginning, degree, zeros)
        with contextlib.suppress(places.TooLoose):
            places.Pieces(pattern, planar, induced=False, lookups=PER_ENTRY * beginning.nnz)


def _refuse_at_once(pairs: NDArray[np.int64]) -> None:
    """Raise NotAGrid if some couplings say that a matrix is no grid in compact C order, which most graphs do."""
    rows, columns = pairs
    for side in (columns < rows, columns > rows):
        row, counts = np.unique(rows[side], return_counts=True)
        if counts.max(initial=0) > 3:
            many = row[np.argmax(counts > 3)]
            _refuse_unless_repeated(pairs[:, rows == many], REFUSED[face_values.MANY].format(row=many))
    order = np.flatnonzero(columns > rows)
    order = order[np.lexsort((-columns[order], rows[order]))]
    k = face_places.crossing(rows[order], columns[order])
    if k >= 0:
        _refuse_unless_repeated(pairs, NO_CROSSING.format(row=rows[order[k]], column=columns[order[k]]))


def _refuse_unless_repeated(pairs: NDArray[np.int64], refusal: str) -> NoReturn:
    """Raise NotAGrid, or ask for entries to be added up first if some couplings occur twice."""
    rows, columns = pairs
    if np.unique(rows << 32 ^ columns).size < rows.size:
        raise _UnsortedError
    raise NotAGrid(refusal)
