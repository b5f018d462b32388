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

_LARGEST = 1.95  # largest relaxation parameter that is chosen


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
        middle = np.empty(n, dtype=A.indptr.dtype)
        ssor.locate_diagonal(A.indptr, A.indices, middle)
        self._matrix = (A.indptr, A.indices, A.data, middle, seen.diagonal, self.omega)
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
        Number of unknowns: a singular A is taken for one with mu = n.
    """
    mu = 1 / max(dominance, 1 / n)
    w = np.linspace(1.0, _LARGEST, 96)
    bound = (1 + (2 - w) ** 2 / (4 * w) * mu + w * max(disorder, 0.0) * mu) / (2 - w)
    best = int(np.argmin(bound))
    return float(w[best]), float(bound[best])


def gain(dominance: float, disorder: float, n: int) -> float:
    """Return about how many times fewer iterations over-relaxation takes than the diagonal alone.

    By the square roots of the bounds on their condition numbers, that of the diagonal being 2 mu.

    Parameters
    ----------
    dominance, disorder, n
        See `relaxation_parameter`.
    """
    bound = relaxation_parameter(dominance, disorder, n)[1]
    return math.sqrt(2 / max(dominance, 1 / n) / bound)
