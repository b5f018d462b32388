"""What couples the cells of a padded box: the coefficients of an operator whose place an `Embedding` says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.kernels.faces.records import Faces

POISSON_BOUND = (
    18.0  # of a row of A / scale: a diagonal entry of twelve, with Dirichlet faces all around, and six couplings
)


class Stencil(Protocol):
    """The coefficients of an operator on the cells of a padded box."""

    @property
    def scale(self) -> float:
        """Unit of the coefficients: the operator stands for A / scale."""

    @property
    def sealed(self) -> NDArray[np.bool_]:
        """Whether each component has no Dirichlet data, so that the constant on it is in the null space."""

    @property
    def exact(self) -> bool:
        """Whether the coupled rows of A are those of the operator to the last bit, not only up to rounding."""

    @property
    def row_bound(self) -> float:
        """Upper bound for the sum of absolute values in a row of A / scale."""

    def entries(self, embedding: Embedding) -> csr_array:
        """Return the coupled rows and columns of A, shape (m, m), with sorted indices."""


@dataclass(frozen=True, eq=False)
class UnitStencil:
    """A = scale (diag(diagonal) - adjacency): all couplings are equal.

    Parameters
    ----------
    diagonal : ndarray of uint8, shape of the padded box
        Diagonal entries of A / scale; 0 where there is no unknown. Adjacent unknowns are coupled.
    scale : float
        Negative of the off-diagonal entries, in the units of A.
    sealed : ndarray of bool, shape (components,)
        Whether each component has no Dirichlet data, so that the constant on it is in the null space.
    exact : bool, default False
        Whether the coupled rows of A are those of the operator to the last bit, not only up to rounding.
    """

    diagonal: NDArray[np.uint8]
    scale: float
    sealed: NDArray[np.bool_]
    exact: bool = False

    @cached_property
    def row_bound(self) -> float:
        """Upper bound for the sum of absolute values in a row of A / scale."""
        return max(POISSON_BOUND, float(self.diagonal.max(initial=0)) + 6)

    def is_poisson(self, embedding: Embedding) -> bool:
        """Return whether no cell has more Dirichlet data than one or two for each of its sides without a neighbour."""
        box = (self.diagonal > 0).view(np.uint8)
        most = 2 * sum(size > 1 for size in embedding.n)
        inner = (slice(1, -1),) * box.ndim
        sides = np.zeros_like(box[inner])
        for axis in range(box.ndim):
            for shift in (slice(None, -2), slice(2, None)):
                sides += box[(*inner[:axis], shift, *inner[axis + 1 :])]
        return bool((self.diagonal[inner] <= 2 * most - sides).all())

    def entries(self, embedding: Embedding) -> csr_array:
        """Return the coupled rows and columns of A, shape (m, m), with sorted indices."""
        box, position = self.diagonal.ravel(), embedding.position
        m = position.size
        number = np.zeros(box.size, dtype=np.int32)
        number[position] = np.arange(m)
        strides = [stride for stride in (*embedding.s, 1) if stride]
        offsets = [*(-stride for stride in strides), 0, *reversed(strides)]
        present = np.stack([box[position + offset] != 0 for offset in offsets], axis=1)
        columns = np.stack([number[position + offset] for offset in offsets], axis=1)
        values = np.full(present.shape, -self.scale)
        values[:, len(strides)] = box[position] * self.scale
        indptr = np.concatenate(([0], np.cumsum(present.sum(axis=1))))
        A = csr_array((values[present], columns[present], indptr), shape=(m, m))
        A.sort_indices()
        return A


@dataclass(frozen=True, eq=False)
class FaceStencil:
    """Every face between two cells has a weight of its own: A x = scale (extra x + sum of w (x_i - x_j)).

    Parameters
    ----------
    faces : Faces
        A / scale in float32, and its inverse diagonal, on the flat padded box; zeros where there is no unknown. In 2D
        `w1` is `w0`.
    scale : float
        Power of two near the largest diagonal entry of A: that of A / scale lies between 1 / 64 and 64.
    sealed : ndarray of bool, shape (components,)
        Whether the rows of each component sum to zero, so that the constant on it is in the null space.
    row_bound : float
        Upper bound for the sum of absolute values in a row of A / scale.
    wrap : tuple of 3 bools
        Which axes, as in `Embedding.n`, repeat: their last cells are coupled to their first ones.
    compact : bool, default True
        Whether cells are coupled across faces only. If not, A couples cells across edges and corners as well, the
        weights of faces stand for all couplings, and the operator is close to A, but not A.
    """

    faces: Faces
    scale: float
    sealed: NDArray[np.bool_]
    row_bound: float
    wrap: tuple[bool, bool, bool] = (False, False, False)
    compact: bool = True

    def is_uniform(self, embedding: Embedding) -> bool:
        """Return whether all couplings may be equal, judging by those of some cells all over the box."""
        cells = embedding.position[:: max(1, embedding.position.size // 5000)]
        w = np.concatenate([own[cells] for own, size in zip(self.faces[:3], embedding.n, strict=True) if size > 1])
        w = w[w > 0]
        return not w.size or bool(np.ptp(w) <= 1e-6 * w[0])

    @property
    def exact(self) -> bool:
        """Whether the rows are those of A to the last bit: no, they are rounded to single precision."""
        return False

    def entries(self, embedding: Embedding) -> csr_array:
        """Return the coupled rows and columns of A, shape (m, m), as rounded, with sorted indices."""
        faces, position, m = self.faces, embedding.position, embedding.position.size
        number = np.full(faces.inverse.size, -1, dtype=np.intp)
        number[position] = np.arange(m)
        rows: list[NDArray[np.intp]] = []
        columns: list[NDArray[np.intp]] = []
        values: list[NDArray[np.float64]] = []
        for w, size, stride in zip(faces[:3], embedding.n, (*embedding.s, 1), strict=True):
            row = np.flatnonzero(w[position]) if stride else np.empty(0, dtype=np.intp)
            here = position[row]
            column = number[here + stride]
            column = np.where(column >= 0, column, number[here - (size - 1) * stride])  # a link across the box
            weight = w[here].astype(np.float64)
            rows += [row, column]
            columns += [column, row]
            values += [weight, weight]
        i, j, weights = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
        diagonal = faces.extra[position] + np.bincount(i, weights, m)
        diagonal_at = np.arange(m)
        i, j = np.concatenate((i, diagonal_at)), np.concatenate((j, diagonal_at))
        A = csr_array(coo_array((self.scale * np.concatenate((-weights, diagonal)), (i, j)), shape=(m, m)))
        A.sort_indices()
        return A


def sealed_components(component: NDArray[np.int32], components: int, is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which components have no row with Dirichlet data; `component` and `is_open` have an entry for each row."""
    if components == 1:
        return np.array([not is_open.any()])
    sealed = np.ones(components, dtype=bool)
    sealed[component[is_open]] = False
    return sealed
