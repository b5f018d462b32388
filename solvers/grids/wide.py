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

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepcd.solvers.grids import values
from deepcd.solvers.grids.embedding import Embedding, NotAGrid, geometry, index_type, padded
from deepcd.solvers.grids.faces import REFUSED, look_at, power_of_two
from deepcd.solvers.grids.stencils import FaceStencil
from deepcd.solvers.kernels import face_places, face_values, wide_values
from deepcd.solvers.kernels.faces.records import Faces

NO_BOX = "no whole box in C order has the couplings of A, more than those of faces, between cells that touch"
NO_PATH = "rows {row} and {column} are coupled, but the cells between them are not"
APART = "the faces that stand for the couplings of A leave it in {count} parts"
DISTANCES = 26  # of the neighbours of a cell, to either side
FLOOR = 4.0  # relative to large diagonal entries, in rounding units: what counts as zero off the diagonal
SHARE = 0.9  # of the couplings that have to fit; where others are, the matrix is almost a grid


def discover_wide(A: csr_array) -> tuple[Embedding, FaceStencil]:
    """Find the whole box whose cells a matrix couples to those around them, and weights of faces in their place.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        Real; row i is cell i of the box in C order. Rows without off-diagonal entries are left out. Off-diagonal
        entries may be positive; rows may not have a negative sum.

    Returns
    -------
    Embedding, FaceStencil
        Every entry of A is between cells that touch, and equals its mirror image; one connected component. The
        stencil is not A, but close to it in the sense of energies. The eigenvalues of faces^-1 A, measured on boxes of
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
    >>> embedding.shape, np.round(stencil.faces.w2.reshape(7, 7)[3, 1:5] * stencil.scale, 6)
    ((5, 5), array([1., 1., 1., 1.], dtype=float32))
    """
    real, _ = values.real(A)
    look = look_at(real)
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
    row = wide_values.distribute(*matrix, n, floor, (*s, 1), inside, w, tally)
    if row >= 0:
        raise NotAGrid(NO_PATH.format(row=row, column=tally[face_values.COLUMN]))
    extra = np.pad(rest.reshape(shape), 1).ravel()
    faces, scale, row_bound = _faces(w, extra, inside, s)
    position: NDArray[np.int32 | np.int64] = np.flatnonzero(inside).astype(index_type(inside.size), copy=False)
    starts, ends = face_places.runs(faces)
    count = face_places.label_runs(starts, ends, faces, n, s, np.empty(starts.size, dtype=np.int32))
    if count > 1:
        raise NotAGrid(APART.format(count=count))
    m = position.size
    kept = slice(None) if m == rows else np.flatnonzero(coupled)
    embedding = Embedding(shape, kept, position, np.broadcast_to(np.int32(0), m))
    return embedding, FaceStencil(faces, scale, np.array([not rest.any()]), row_bound, compact=False)


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
        raise NotAGrid(NO_BOX)
    return shapes[-order]


def _share(shape: tuple[int, ...], pairs: NDArray[np.int64]) -> float:
    """Return the share of couplings that are between cells that touch."""
    touch, rest = np.ones(pairs.shape[1], dtype=bool), pairs
    for size in reversed(shape):
        at, rest = rest % size, rest // size
        touch &= np.abs(at[1] - at[0]) <= 1
    touch &= rest[0] == rest[1]
    return float(touch.mean())
