"""What the methods of the benchmark are given: a linear system, and the box of cells that it may come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from deepcd.pde import FaceWeights, Grid
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

F64 = NDArray[np.float64]
ROUNDING = 8 * float(np.finfo(np.float64).eps)  # sums of rows below this share of their entries' sizes are zero


@dataclass(frozen=True, eq=False)
class Box:
    """A symmetric operator on a box of cells, each coupled with the cells beside it.

    Attributes
    ----------
    faces : tuple of ndarray of float64, each of the shape of the box
        Weights of the faces: entry i of the k-th array couples cell i with the next one along axis k. The last entry
        along the axis is zero.
    extra : ndarray of float64, shape of the box
        Diagonal entries minus the weights of a cell's faces: Dirichlet data and terms of order zero.
    rows : slice or ndarray of int64, default slice(None)
        Rows of the matrix that are cells of the box. The other rows have a diagonal entry only.

    Examples
    --------
    >>> import numpy as np
    >>> box = Box((np.array([1.0, 2.0, 0.0]),), np.array([0.0, 0.0, 1.0]))
    >>> box.matrix().toarray()
    array([[ 1., -1.,  0.],
           [-1.,  3., -2.],
           [ 0., -2.,  3.]])
    """

    faces: tuple[F64, ...]
    extra: F64
    rows: slice | NDArray[np.int64] = field(default_factory=lambda: slice(None))

    @cached_property
    def weights(self) -> FaceWeights:
        """The operator itself."""
        return FaceWeights(self.faces, self.extra)

    @cached_property
    def diagonal(self) -> F64:
        """Diagonal entries, shape of the box; zero where a cell is no unknown."""
        return self.weights.diagonal()

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """Flat indices (C order) of the unknowns."""
        return self.weights.cells()

    def matrix(self) -> sp.csr_array:
        """Return the matrix of the unknowns in C order."""
        return self.weights.matrix()

    def spread(self, b: F64) -> F64:
        """Return a vector of the matrix on the cells of the box, zero where a cell is no unknown."""
        values = np.zeros(self.extra.shape)
        values.ravel()[self.cells] = b[self.rows]
        return values

    def gather(self, values: F64, others: F64) -> F64:
        """Return the vector of the matrix with these values in the cells, and with those of `others` elsewhere."""
        vector = others.copy()
        vector[self.rows] = values.ravel()[self.cells]
        return vector


def _without(axis: int, end: int) -> tuple[slice, ...]:
    """Return the index of all cells but the first (0) or the last ones (-1) along an axis."""
    return (*(slice(None),) * axis, slice(1, None) if end == 0 else slice(None, -1))


def sealed_components(A: sp.csr_array) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the component of each row, and which components have rows that sum to zero, up to rounding.

    The constant on such a component is in the null space of A.
    """
    count, component = connected_components(A, directed=False)
    ones = np.ones(A.shape[0])
    sealed = np.ones(count, dtype=bool)
    sealed[component[np.abs(A @ ones) > ROUNDING * (abs(A) @ ones)]] = False
    return component, sealed


def constants(A: sp.csr_array, b: F64) -> F64:
    """Return the part of b that is constant on sealed components, and thus outside the range of A."""
    component, sealed = sealed_components(A)
    means = np.bincount(component, b, len(sealed)) / np.bincount(component, minlength=len(sealed))
    return np.where(sealed, means, 0.0)[component]


@dataclass
class LinearProblem:
    """A linear system A x = b, of which nothing else is known.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
        The matrix.
    b : ndarray of float64, shape (n,)
        The right-hand side.
    """

    A: sp.csr_array
    b: F64

    def box(self) -> Box | None:
        """Return the box of cells that A comes from, or None if none is known."""
        return None

    def pinned(self) -> sp.csr_matrix:
        """Return a regular matrix with the same solution: A with a diagonal entry of each sealed component doubled."""
        component, sealed = sealed_components(self.A)
        A = sp.csr_matrix(self.A, copy=True)
        diagonal = A.diagonal()
        diagonal[np.unique(component, return_index=True)[1][sealed]] *= 2
        A.setdiag(diagonal)
        return A

    def judge(self, x: NDArray[np.floating[Any]]) -> float:
        """Return the true relative residual, recomputed with SciPy in float64."""
        return float(np.linalg.norm(self.b - self.A @ x) / np.linalg.norm(self.b))


@dataclass
class MeshProblem(LinearProblem):
    """A linear system on a mesh.

    Attributes
    ----------
    points : ndarray of float64, shape (n, d)
        Coordinates of the node of each row.
    """

    points: F64


@dataclass
class BoxProblem(LinearProblem):
    """A linear system on a box of cells.

    Attributes
    ----------
    weights : Box
        The box that A is the matrix of.
    """

    weights: Box

    def box(self) -> Box:
        """Return the box of cells that A comes from."""
        return self.weights


@dataclass
class PressureProblem(LinearProblem):
    """A pressure system on the fluid cells of a grid, whose couplings are all the same.

    Attributes
    ----------
    grid : Grid
        The grid.
    """

    grid: Grid

    @cached_property
    def operator(self) -> UnitStencilOperator:
        """The operator A / scale on a padded box, on one thread."""
        return UnitStencilOperator(*embed(self.grid))

    @property
    def diagonal(self) -> NDArray[np.uint8]:
        """Diagonal entries of A / scale on the padded box; 0 where there is no unknown."""
        return self.operator.stencil.diagonal

    def box(self) -> Box:
        """Return the box of cells, without padding, with the entries of A."""
        inner = self.diagonal[(slice(1, -1),) * self.diagonal.ndim]
        scale, unknown = self.operator.stencil.scale, inner != 0
        faces = tuple(np.zeros(inner.shape) for _ in inner.shape)
        for axis, weights in enumerate(faces):
            before, after = _without(axis, -1), _without(axis, 0)
            weights[before] = unknown[before] & unknown[after]
        extra = inner - Box(faces, np.zeros(inner.shape)).diagonal
        return Box(tuple(scale * weights for weights in faces), scale * extra, self.operator.embedding.rows)

    def to_box(self, b: F64) -> F64:
        """Return b on the padded box."""
        return self.operator.embed(b[self.operator.embedding.rows]).reshape(self.diagonal.shape)

    def from_box(self, x: F64, b: F64) -> F64:
        """Return the solution whose part in the padded box is x; the other rows of A have only their diagonal entry."""
        result, operator = b / self.A.diagonal(), self.operator
        result[operator.embedding.rows] = operator.extract(x.ravel()) / operator.stencil.scale
        return result
