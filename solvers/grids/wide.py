"""Grid discovery for matrices that couple each cell to all eight or 26 around it, and faces in place of the couplings.

Bilinear and trilinear elements, compact schemes and images give such matrices. A 5- or 7-point operator is made of one:
the weight of each coupling goes to the faces on the shortest paths between its cells, the same part to every path. This
operator is not A, but spectrally close to it, which is what a preconditioner needs.

A coupling w (x_i - x_j)^2 along m axes has m! paths of m faces, and gives w / m! to each face of each path. Functions
that vary along one axis only have the same energy then, in the matrix as in the faces: so what an axis weighs is kept
however much the axes differ, and row sums stay beside it unscaled. The inequality of Cauchy and Schwarz suggests
m w / m! instead, with which faces never have less energy than couplings; but then bilinear elements that are stretched
by a hundred, in a closed box of 9 x 12 cells, have a condition of 2,500 in place of three.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.solvers.grids import values
from deepcd.solvers.grids.embedding import Box, Embedding, NotAGrid, Rows, geometry, index_type, padded
from deepcd.solvers.grids.faces import REFUSED, look_at, power_of_two
from deepcd.solvers.grids.stencils import AroundStencil, FaceStencil, sealed_components
from deepcd.solvers.kernels import face_places, face_values, wide_fields, wide_values
from deepcd.solvers.kernels.faces.records import Around, Faces

NO_BOX = "no whole box in C order has the couplings of A, more than those of faces, between cells that touch"
NO_PATH = "rows {row} and {column} are coupled, but the cells between them are not"
NEGATIVE = "the face that stands for the couplings of A between rows {row} and {column} would be negative"
BRIDGED = "cells that touch at a corner only are all that connects parts of A that have no Dirichlet data"
ROUNDED = 16.0  # relative to what counts as zero, sums that do, too
DISTANCES = 26  # of the neighbours of a cell, to either side
FLOOR = 4.0  # relative to large diagonal entries, in rounding units: what counts as zero off the diagonal
# Of the entries, couplings that lead along no path, since cells touch at a corner only: so many that they do no harm.
LOST = {2: 0.005, 3: 0.05}
SHARE = 0.9  # of the couplings that have to fit; where others are, the matrix is almost a grid


class NoWideBox(NotAGrid):
    """No box whose cells are coupled to all around them has the couplings of the matrix."""


def discover_wide(A: csr_array) -> tuple[Embedding, AroundStencil]:
    """Find the whole box whose cells a matrix couples to those around them, and weights of faces in their place.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        Real; row i is cell i of the box in C order. Rows without off-diagonal entries are left out. Off-diagonal
        entries may be positive; rows may not have a negative sum.

    Returns
    -------
    Embedding, AroundStencil
        Every entry of A is between cells that touch, and equals its mirror image; one connected component. Faces are
        not A, but close to it in the sense of energies. The eigenvalues of faces^-1 A, measured on boxes of
        up to 7^3 cells and outside the null space, lie between 1/3 and 1 for bilinear elements, between 1/9 and 1 for
        trilinear ones, both stretched by up to 100 along any axis; between 1/3 and 1 for equal couplings to all eight
        cells around, between 1/4 and 1 to all 26; and between 1/5 and 1.3 for random ones, each the sum of two uniform
        numbers, with corners or without.

    Raises
    ------
    NotAGrid
        If A is not such a matrix, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array, diags_array, kron
    >>> from deepcd.solvers.grids.wide import discover_wide
    >>> K = diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(5, 5))
    >>> M = diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(5, 5)) / 6
    >>> embedding, stencil = discover_wide(csr_array(kron(K, M) + kron(M, K)))
    >>> embedding.shape, np.round(stencil.near.faces.w2.reshape(7, 7)[3, 1:5] * stencil.scale, 6)
    ((5, 5), array([1., 1., 1., 1.], dtype=float32))
    """
    real, _ = values.real(A)
    try:
        look = look_at(real)
    except NotAGrid as error:
        raise NoWideBox(str(error)) from None
    shape = _shape(A.shape[0], look.pairs)
    A, eps = values.canonical(real)
    floor = FLOOR * eps * look.scale
    (n, s), cells, rows = geometry(shape), padded(shape), A.shape[0]
    coupled, rest = np.empty(rows, dtype=np.uint8), np.empty(rows)
    tally = np.zeros(4, dtype=np.int64)
    matrix, following = (A.indptr, A.indices, A.data), np.empty(rows, dtype=np.int64)
    reason, row = wide_values.inspect(*matrix, n, eps, floor, coupled, rest, following, tally)
    if reason == face_values.UNSORTED:
        raise NotAGrid(f"A has column indices out of range (shape {A.shape})")
    if reason:
        raise NotAGrid(REFUSED[reason].format(row=row, column=tally[face_values.COLUMN]))
    inside = np.pad(coupled.reshape(shape), 1).ravel()
    w = np.zeros((3, math.prod(cells)))
    row, lost = wide_values.distribute(*matrix, n, floor, (*s, 1), inside, w, tally)
    if lost > LOST[len(shape)] * A.nnz:
        raise NotAGrid(NO_PATH.format(row=row, column=tally[face_values.COLUMN]))
    extra = np.pad(rest.reshape(shape), 1).ravel()
    _refuse_negative(w, extra, (*s, 1), floor, shape)
    faces, scale, row_bound = _faces(w, extra, inside, s)
    position: NDArray[np.int32 | np.int64] = np.flatnonzero(inside).astype(index_type(inside.size), copy=False)
    m = position.size
    kept = slice(None) if m == rows else np.flatnonzero(coupled)
    component, count = np.broadcast_to(np.int32(0), m), 1  # takes no memory
    parts = _parts(faces, position, n, s)
    if parts.any():
        component, count = _components(A, floor, kept)
    sealed = sealed_components(component, count, rest[kept] > 0.0)
    if parts.any():
        _refuse_bridges(parts, component, sealed)
    around = _around(matrix, n, floor, rest, FaceStencil(faces, scale, sealed, row_bound))
    return Embedding(shape, kept, position, component), around


def _refuse_negative(
    w: NDArray[np.float64], extra: NDArray[np.float64], strides: Box, floor: float, shape: tuple[int, ...]
) -> None:
    """Raise NotAGrid if a face would be more negative than what the rows of its cells have besides couplings.

    Stretched elements have such faces beside walls, where a coupling is missing on one side; to leave them out changes
    no energy by more than a factor. Anywhere else the matrix is not definite, or close to that.
    """
    for own, stride in zip(w, strides, strict=True):
        if not stride or own.min() >= 0.0:
            continue
        worst = np.flatnonzero(-own[:-stride] > np.minimum(extra[:-stride], extra[stride:]) + ROUNDED * floor)
        if worst.size:
            cells = np.array(np.unravel_index([worst[0], worst[0] + stride], padded(shape))) - 1
            row, column = np.ravel_multi_index(tuple(cells), shape)
            raise NotAGrid(NEGATIVE.format(row=row, column=column))


def _parts(faces: Faces, position: NDArray[Any], n: Box, s: tuple[int, int]) -> NDArray[np.int64]:
    """Return the connected part of each cell, by faces; cells without faces are parts of their own."""
    starts, ends = face_places.runs(faces)
    label = np.empty(starts.size, dtype=np.int32)
    count = face_places.label_runs(starts, ends, faces, n, s, label)
    joined = faces.inverse[position] > 0.0
    if count == 1 and joined.all():
        return np.broadcast_to(np.int64(0), position.size)  # takes no memory
    parts = count + np.arange(position.size)
    parts[joined] = np.repeat(label, ends - starts)
    return parts


def _refuse_bridges(parts: NDArray[np.int64], component: NDArray[np.int32], sealed: NDArray[np.bool_]) -> None:
    """Raise NotAGrid if a component without Dirichlet data hangs together by corners only.

    Coarse grids have the constants on its parts in their null spaces, and A has not.
    """
    within = sealed[component]
    pairs = np.unique(np.stack((component[within], parts[within])), axis=1)
    if pairs.shape[1] > np.count_nonzero(sealed):
        raise NotAGrid(BRIDGED)


def _components(A: csr_array, floor: float, kept: Rows) -> tuple[NDArray[np.int32], int]:
    """Return the connected component of each row of A that is kept, and their number."""
    graph = csr_array((np.abs(A.data) > floor, A.indices, A.indptr), shape=A.shape, copy=True)
    graph.eliminate_zeros()
    _, component = connected_components(graph, directed=False)
    labels, own = np.unique(component[kept], return_inverse=True)
    return own.astype(np.int32), labels.size


def _around(
    matrix: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    n: Box,
    floor: float,
    rest: NDArray[np.float64],
    near: FaceStencil,
) -> AroundStencil:
    """Return the couplings of A themselves, as fields, beside faces that are close to them."""
    s = geometry(n if n[1] > 1 else (n[0], n[2]))[1]
    w = np.zeros((n[0] + 2, 13 if s[1] else 4, s[0]), dtype=np.float32)
    extra, inverse = np.zeros_like(near.faces.extra), np.zeros_like(near.faces.extra)
    bound = wide_fields.fill(*matrix, n, floor, near.scale, s, rest, w, extra, inverse)
    largest = bound / float(inverse[inverse > 0].min())
    return AroundStencil(Around(w, extra, inverse), near, max(2.0, bound) * (1 + 1e-6), largest * (1 + 1e-6))


def _faces(
    w: NDArray[np.float64], extra: NDArray[np.float64], inside: NDArray[np.uint8], s: tuple[int, int]
) -> tuple[Faces, float, float]:
    """Return the operator of weights of faces, those below zero taken for zero, its scale, and a bound of its rows."""
    np.maximum(w, 0.0, out=w)
    diagonal = extra + w.sum(axis=0)
    for own, stride in zip(w, (*s, 1), strict=True):
        if stride:
            diagonal[stride:] += own[:-stride]
    largest = float(diagonal.max())
    scale = power_of_two(largest)
    inverse = np.divide(scale, diagonal, out=np.zeros_like(diagonal), where=(inside > 0) & (diagonal > 0))
    w0, w1, w2 = (w / scale).astype(np.float32)
    faces = Faces(w0, w1 if s[1] else w0, w2, (extra / scale).astype(np.float32), inverse.astype(np.float32))
    return faces, scale, 2.0 * largest / scale * (1.0 + 1e-6)


def _shape(n: int, pairs: NDArray[np.int64]) -> tuple[int, ...]:
    """Return the box of n cells in which most of some couplings are between neighbours, a flat one if there is one."""
    distances, counts = np.unique(np.abs(pairs[1] - pairs[0]), return_counts=True)
    usual = distances[np.argsort(-counts, kind="stable")[:DISTANCES]].tolist()
    lines = sorted({d + k for d in usual for k in (-1, 0, 1)})
    lines = [line for line in lines if 1 < line < n and n % line == 0]
    shapes: list[tuple[int, ...]] = [(n // line, line) for line in lines]
    for line in lines:
        planes = {d + k * line + k2 for d in usual for k in (-1, 0, 1) for k2 in (-1, 0, 1)}
        shapes += [
            (n // plane, plane // line, line)
            for plane in sorted(planes)
            if line < plane < n and plane % line == 0 and n % plane == 0
        ]
    _, couplings = np.unique(pairs[0], return_counts=True)
    shapes = [shape for shape in shapes if couplings.max() > 2 * len(shape)]
    share, order = max(((_share(shape, pairs), -k) for k, shape in enumerate(shapes)), default=(0.0, 0))
    if share < SHARE:
        raise NoWideBox(NO_BOX)
    return shapes[-order]


def _share(shape: tuple[int, ...], pairs: NDArray[np.int64]) -> float:
    """Return the share of couplings that are between cells that touch."""
    touch, rest = np.ones(pairs.shape[1], dtype=bool), pairs
    for size in reversed(shape):
        at, rest = rest % size, rest // size
        touch &= np.abs(at[1] - at[0]) <= 1
    touch &= rest[0] == rest[1]
    return float(touch.mean())
