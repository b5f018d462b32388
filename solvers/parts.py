"""The parts of a system: rows solved on their own, and the coupled rest with its operator and preconditioner."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.arguments import magnitude, norm, power_of_two
from deepcd.solvers.preconditioners.direct import LARGEST, Direct, NotPositiveDefiniteError
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.solution import Status
from deepcd.solvers.space import Preconditioner
from deepcd.solvers.symmetry import is_asymmetric

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding
    from deepcd.solvers.operators.grid_matrix import GridMatrix

Fault = tuple[Status, str]
SHIPPED_DCDM = {2: "2d", 3: "64"}  # variant by number of axes


@dataclass(frozen=True, eq=False)
class Parts:
    """What a matrix A consists of.

    Attributes
    ----------
    A : csr_array of float64, or GridMatrix, shape (n, n)
    rows : slice or ndarray of int64, shape (m,)
        The rows with off-diagonal entries.
    alone : ndarray of int64, shape (n - m,)
        The other rows: x_i = b_i / a_ii.
    diagonal : ndarray of float64, shape (n - m,)
        Their a_ii; 0 for empty rows.
    operator : MatrixOperator or GridOperator or None
        A[rows, rows] / scale; None if there are no such rows.
    scale : float
    M : Preconditioner
        An approximate inverse of the operator.
    singular : bool
        Constants on some components are in the null space of the operator.
    exact : bool
        Each entry of A has been compared with the operator: they differ by rounding only.
    """

    A: sp.csr_array | GridMatrix
    rows: slice | NDArray[np.int64]
    alone: NDArray[np.int64]
    diagonal: NDArray[np.float64]
    operator: Any
    scale: float
    M: Preconditioner
    singular: bool
    exact: bool

    def twin(self) -> Parts:
        """Return the same parts of a grid with work vectors of their own, for one thread."""
        M: Any = self.M
        return replace(self, operator=self.operator and self.operator.twin(1), M=M.twin(1))

    def solve_alone(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> None:
        """Set x, shape (n,) or (n, k), on the rows without off-diagonal entries, unless they are empty."""
        diagonal = self.diagonal if b.ndim == 1 else self.diagonal[:, None]
        empty = diagonal == 0
        with np.errstate(over="ignore"):
            x[self.alone] = np.where(empty, x[self.alone], b[self.alone] / np.where(empty, 1.0, diagonal))

    def spread(self, v: NDArray[np.floating[Any]], factor: Any, x: NDArray[np.float64], operator: Any = None) -> None:
        """Add factor * v, a vector of the operator, to the rows of x, shape (n,), in place.

        For k columns: a vector of `operator`, its ``columns(k)``, factors (k,) and x (n, k).
        """
        operator = operator or self.operator
        assert operator is not None
        if isinstance(self.rows, slice) and x.flags.c_contiguous:
            operator.spread(v, factor, x)
        else:
            part = np.ascontiguousarray(x[self.rows])
            operator.spread(v, factor, part)
            x[self.rows] = part

    def precondition(self, v: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return M v on vectors of A's rows, shape (n,), in units of A's inverse."""
        result = np.zeros(self.A.shape[0])
        result[self.alone] = v[self.alone] / np.where(self.diagonal == 0, 1.0, self.diagonal)
        largest = magnitude(v[self.rows])
        if self.operator is not None and largest > 0:
            unit = power_of_two(largest)
            b, _, _, r, z = self.operator.workspace(self.M)
            self.operator.embed(v[self.rows], 1 / unit, out=b)
            self.operator.project(b)
            r[...] = b
            self.M.apply(r, z)
            self.operator.project(z)
            self.spread(z, unit / self.scale, result)
        return result


def on_grid(
    A: sp.csr_array | GridMatrix, embedding: Embedding, preconditioner: str, weights: Any, threads: int, *, exact: bool
) -> Parts:
    """Take A apart along the embedding of its rows in a grid.

    Parameters
    ----------
    A : csr_array of float64, or GridMatrix, shape (n, n)
    embedding : Embedding
    preconditioner : {"auto", "learned-multigrid", "geometric-multigrid", "dcdm"}
    weights : path or None
        Of the network; None: those that ship.
    threads : int
    exact : bool
        See `Parts`.

    Returns
    -------
    Parts
    """
    rows = slice(None) if embedding.rows is None else embedding.rows
    if not embedding.position.size:
        return Parts(A, rows, *alone(A, rows), None, 1.0, Identity(0), singular=False, exact=exact)
    from deepcd.solvers.operators.stencil import StencilOperator

    M: Preconditioner
    if preconditioner == "geometric-multigrid":
        from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid

        M = GeometricMultigrid(embedding, threads=threads)
    elif preconditioner == "dcdm":
        from deepcd.data.weight_files import load
        from deepcd.solvers.preconditioners.dcdm import DCDM, variant_of

        tensors, record = load(weights, f"dcdm-{SHIPPED_DCDM[len(embedding.shape)]}/1" if weights is None else None)
        M = DCDM(embedding, tensors, variant_of(record["architecture"]), threads=threads)
    else:
        from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid

        if weights is not None:
            from deepcd.data.weight_files import load

            weights = load(weights, f"learned-multigrid-{len(embedding.shape)}d/2")[0]
        M = LearnedMultigrid(embedding, weights=weights, threads=threads)
    operator = StencilOperator(embedding, threads=threads)
    singular = bool(embedding.sealed.any())
    return Parts(A, rows, *alone(A, rows), operator, embedding.scale, M, singular=singular, exact=exact)


def on_matrix(
    A: sp.csr_array,
    preconditioner: str,
    eps: float,
    *,
    check: bool,
    B: NDArray[np.float64] | None = None,
    null: NDArray[np.float64] | None = None,
    previous: Parts | None = None,
) -> Parts | Fault:
    """Take a general matrix apart.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
    preconditioner : str
        "auto", or one of those that take any matrix.
    eps : float
        Unit roundoff that the entries of A carry.
    check : bool
        Probe the coupled part for symmetry and definiteness.
    B : ndarray of float64, shape (n, l), optional
        Near null space, for algebraic multigrid.
    null : ndarray of float64, shape (n, m), optional
        Basis of the null space; default: constants on the components whose rows sum to zero.
    previous : Parts, optional
        Of a matrix with the same pattern: its algebraic multigrid is brought up to date instead of built anew.

    Returns
    -------
    Parts, or a status and a detail if the matrix cannot be positive semidefinite.
    """
    n = A.shape[0]
    row = np.repeat(np.arange(n, dtype=A.indices.dtype), np.diff(A.indptr))
    coupled = np.bincount(row[(A.indices != row) & (A.data != 0)], minlength=n) > 0
    rows = slice(None) if coupled.all() else np.flatnonzero(coupled)
    part = A if isinstance(rows, slice) else sp.csr_array(A[rows][:, rows])
    if not part.shape[0]:
        return Parts(A, rows, *alone(A, rows), None, 1.0, Identity(0), singular=False, exact=True)
    largest, scale = magnitude(part.data), 1.0
    if not 1e-100 < largest < 1e100:
        scale = power_of_two(largest)
        part = part * (1 / scale)
    if (fault := _fault(part, rows, eps, probe=check)) is not None:
        return fault
    from deepcd.solvers.operators.csr import CSROperator, constant_null_space
    from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid

    component, sealed = constant_null_space(part, eps)
    if null is not None:
        null = _orthonormal(null[rows])
        sealed = np.zeros_like(sealed)
    M: Preconditioner
    try:
        if preconditioner in CLASSICAL:
            M = CLASSICAL[preconditioner](part)
        elif preconditioner == "direct" or (preconditioner == "auto" and part.shape[0] <= LARGEST):
            M = Direct(part, eps)
            if null is None and M.null.shape[1] > np.count_nonzero(sealed):
                null, sealed = M.null, np.zeros_like(sealed)
        elif previous is not None and _same_rows(previous.rows, rows) and isinstance(previous.M, AlgebraicMultigrid):
            M = previous.M
            M.update(part)
        else:
            B = None if B is None else B[rows]
            M = AlgebraicMultigrid(part, "auto" if preconditioner == "auto" else preconditioner[-2:], B)  # type: ignore[arg-type]
    except NotPositiveDefiniteError as error:
        return Status.INDEFINITE_MATRIX, str(error)
    operator = CSROperator(part, component, sealed, null)
    singular = null is not None or bool(sealed.any())
    return Parts(A, rows, *alone(A, rows), operator, scale, M, singular=singular, exact=False)


def _jacobi(A: sp.csr_array) -> Preconditioner:
    from deepcd.solvers.preconditioners.jacobi import Jacobi

    return Jacobi(A.diagonal())


def _incomplete_cholesky(A: sp.csr_array, modified: bool = False) -> Preconditioner:
    from deepcd.solvers.preconditioners.incomplete_cholesky import IncompleteCholesky

    return IncompleteCholesky(A, modified)


def _deflation(A: sp.csr_array) -> Preconditioner:
    from deepcd.solvers.preconditioners.deflation import Deflation

    return Deflation(A)


# What is made of the coupled part of any matrix, by name; each is imported when it is asked for.
CLASSICAL: dict[str, Callable[[sp.csr_array], Preconditioner]] = {
    "none": lambda A: Identity(A.shape[0]),
    "jacobi": _jacobi,
    "ic0": _incomplete_cholesky,
    "mic0": partial(_incomplete_cholesky, modified=True),
    "deflation": _deflation,
}


def _orthonormal(null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the columns' span."""
    basis, values, _ = np.linalg.svd(null, full_matrices=False)
    return np.ascontiguousarray(basis[:, values > values[0] * 1e-10])


def _same_rows(a: slice | NDArray[np.int64], b: slice | NDArray[np.int64]) -> bool:
    if isinstance(a, slice) or isinstance(b, slice):
        return isinstance(a, slice) and isinstance(b, slice)
    return np.array_equal(a, b)


def alone(
    A: sp.csr_array | GridMatrix, rows: slice | NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows that are not among `rows`, and their diagonal entries."""
    if not isinstance(A, sp.csr_array):
        return A.alone, A.diagonal
    if isinstance(rows, slice):
        return np.empty(0, dtype=np.int64), np.empty(0)
    rest = np.ones(A.shape[0], dtype=np.bool_)
    rest[rows] = False
    alone = np.flatnonzero(rest)
    return alone, A.diagonal()[alone]


def _fault(A: sp.csr_array, rows: slice | NDArray[np.int64], eps: float, *, probe: bool) -> Fault | None:
    """Look for diagonal entries that are not positive; probe for symmetry and definiteness by two products.

    u.A v = v.A u for Gaussian u and v, scaled by the diagonal so that no part of A hides behind larger coefficients.
    """
    diagonal = A.diagonal()
    if (diagonal <= 0).any():
        least = int(np.argmin(diagonal))
        row = least if isinstance(rows, slice) else int(rows[least])
        if diagonal[least] == 0:
            return Status.ZERO_DIAGONAL, f"A[{row}, {row}] is zero."
        return Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative."
    if not probe:
        return None
    scaling = 1 / np.sqrt(diagonal)
    u, v = np.random.default_rng(0).standard_normal((2, A.shape[0]))
    Au, Av = (scaling * (A @ (scaling * w)) for w in (u, v))
    if is_asymmetric(u, Au, v, Av, eps):
        return Status.NONSYMMETRIC, ""
    if min(float(u @ Au), float(v @ Av)) < -math.sqrt(eps) * max(norm(Au), norm(Av)):
        return Status.INDEFINITE_MATRIX, ""
    return None
