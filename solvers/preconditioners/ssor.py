"""Symmetric successive over-relaxation: a forward and a backward sweep of Gauss-Seidel, with no set-up to speak of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import ssor
from deepcd.solvers.preconditioners.columnwise import PassOverColumns
from deepcd.solvers.survey import Survey

Vector = NDArray[np.floating[Any]]
Index = NDArray[np.integer[Any]]
_Triangle = tuple[Index, Index, Index, Vector]  # where rows start and stop, column indices, values

_LARGEST = 1.95  # largest relaxation parameter that is chosen
_LARGE = 300_000  # entries of a matrix that no cache near a core holds; packing it pays in two or three iterations


class SSOR:
    """M^-1 = (D / omega + L) D^-1 (D / omega + U) for A = L + D + U, on float64 vectors.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric with a positive diagonal, its indices sorted. Not copied, not changed.
    seen : Survey
        What `survey` tells of A; the relaxation parameter follows from it.

    Attributes
    ----------
    omega : float
        The relaxation parameter.
    bound : float
        What the condition number of M A is expected to be at most, the constant being the smoothest vector.
    disorder : float
        See `Survey`.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.ssor import SSOR
    >>> from deepcd.solvers.survey import survey
    >>> A = sp.csr_array([[2.0, -1.0], [-1.0, 2.0]])
    >>> M = SSOR(A, survey(A, 2.2e-16))
    >>> z = M.zeros()
    >>> rz = M.apply(np.array([1.0, 0.0]), z)
    >>> bool(rz > 0), 1.0 <= M.omega < 2.0
    (True, True)
    """

    name = "ssor"
    symmetric = linear = True
    work = 2.0
    fewest_columns = 4  # for which a block pays, whose iterations pass over the matrix twice as often
    vectors = 8  # that `begin` and `iterate` work on: x, the best x, r and others

    def __init__(self, A: sp.csr_array, seen: Survey) -> None:
        n = A.shape[0]
        self.omega, self.bound = relaxation_parameter(seen.dominance, seen.disorder, n)
        self.disorder = seen.disorder
        middle = np.empty(n, dtype=A.indptr.dtype)
        ssor.locate_diagonal(A.indptr, A.indices, middle)
        lower: _Triangle = A.indptr[:-1], middle, A.indices, A.data
        upper: _Triangle = middle + 1, A.indptr[1:], A.indices, A.data
        if A.nnz > _LARGE:
            lower, upper = _packed(*lower), _packed(*upper)
        self._matrix = (lower, upper, seen.diagonal, self.omega)
        self._vectors = np.zeros((2, n))

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._vectors.shape[1])

    def columns(self, k: int) -> PassOverColumns:
        """Return the same M on k right-hand sides."""
        return PassOverColumns(ssor.apply_columns, self._matrix, k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""
        s, p = self._vectors
        square: float = ssor.start(*self._matrix, r, s, p)
        ssor.backward(*self._matrix, s, 0.0, p, z)
        return square

    def begin(self, vectors: Vector) -> float:
        """Prepare vectors (8, n), the third of which is r, for `iterate`; return r.M r."""
        square: float = ssor.start(*self._matrix, vectors[2], vectors[3], vectors[4])
        return square

    def iterate(self, vectors: Vector, square: float, *given: Any) -> tuple[int, float]:
        """Take some steps of conjugate gradients; see `kernels.ssor.iterate`."""
        done, square = ssor.iterate(*self._matrix, vectors, square, *given)
        return done, square

    def __str__(self) -> str:
        """Return what it is."""
        return f"ssor: symmetric successive over-relaxation with parameter {self.omega:.2f}"


def _packed(starts: Index, stops: Index, indices: Index, data: Vector) -> _Triangle:
    """Return a triangle of a matrix without gaps."""
    entries = int((stops - starts).sum())
    row_starts = np.empty(starts.size + 1, dtype=starts.dtype)
    columns, values = np.empty(entries, dtype=indices.dtype), np.empty(entries)
    ssor.pack(starts, stops, indices, data, row_starts, columns, values)
    return row_starts[:-1], row_starts[1:], columns, values


def relaxation_parameter(dominance: float, disorder: float, n: int) -> tuple[float, float]:
    """Return the parameter that makes the bound on the condition number of M A smallest, and that bound.

    The bound is (1 + (2 - w)^2 mu / (4 w) + w delta) / (2 - w) with mu = max x'D x / x'A x and
    delta = max x'(L D^-1 U - D / 4) x / x'A x (Axelsson and Barker, Finite Element Solution of Boundary Value Problems,
    1984, section 1.4). The constant stands for the x of both maxima.

    Parameters
    ----------
    dominance, disorder : float
        1'A 1 / 1'D 1 and 1'(L D^-1 U - D / 4) 1 / 1'D 1; see `Survey`.
    n : int
        Number of unknowns: of a singular A, mu is taken to be their square root, near that of a Laplacian in three
        dimensions.
    """
    mu, delta = 1 / max(dominance, n**-0.5), max(disorder, 0.0)
    root = math.sqrt(mu / (2 + 4 * delta * mu))  # w / (2 - w), where the derivative of the bound is zero
    w = min(max(2 * root / (1 + root), 1.0), _LARGEST)
    return w, (1 + (2 - w) ** 2 / (4 * w) * mu + w * delta * mu) / (2 - w)
