"""From what a matrix is to what it is solved with: its parts, with the preconditioner that a recipe builds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.arguments import magnitude, norm, power_of_two
from deepcd.solvers.diagnosis import is_asymmetric
from deepcd.solvers.options import Config
from deepcd.solvers.parts import Parts, alone
from deepcd.solvers.preconditioners.direct import NotPositiveDefiniteError
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.prepared import Prepared, Solvable, Unsolvable
from deepcd.solvers.recipes import DIRECT, FEW, Part, Recipe
from deepcd.solvers.solution import Status
from deepcd.solvers.structure import Structure


class _Fault(Exception):
    """The matrix cannot be positive semidefinite: a status, and a sentence about this very matrix."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def prepare(
    structure: Structure,
    config: Config,
    *,
    recipe: Recipe | None = None,
    check: bool = True,
    previous: Prepared | None = None,
) -> Prepared:
    """Build the parts of a matrix, which no other system shares.

    Parameters
    ----------
    structure : Structure
        The matrix and what is known of it.
    config : Config
        How to prepare it.
    recipe : Recipe, optional
        What to build; default: the first candidate of `config` that suits the matrix.
    check : bool, default True
        Whether to probe a matrix without a grid for symmetry and definiteness, at the price of two products.
    previous : Prepared, optional
        What a matrix with the same pattern was solved with. A copy of its algebraic multigrid is brought up to date.

    Returns
    -------
    Solvable or Unsolvable
    """
    recipe = _on_grids(config) if recipe is None and structure.embedding is not None else recipe
    try:
        if recipe is not None and recipe.needs_grid:
            parts = _grid_parts(structure, config, recipe)
        else:
            parts = _matrix_parts(structure, config, recipe, check, previous)
        if (parts.diagonal < 0).any():
            row = int(parts.alone[int(np.argmin(parts.diagonal))])
            raise _Fault(Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative, and other diagonal entries are not.")
    except _Fault as fault:
        return Unsolvable(config.backend.place_matrix(structure.matrix), fault.status, fault.detail)
    keep = config.keep if config.keep is not None else 1 if parts.M.symmetric else 2
    return Solvable(config.backend.place(parts), keep, on_grid=recipe is not None and recipe.needs_grid)


def _on_grids(config: Config) -> Recipe:
    """Return the candidate for a matrix with a grid behind it."""
    return next(recipe for recipe in config.candidates if recipe.needs_grid)


def _grid_parts(structure: Structure, config: Config, recipe: Recipe) -> Parts:
    """Take a matrix apart along the embedding of its rows in a grid."""
    A, operator = structure.matrix, structure.on_grid
    assert operator is not None
    embedding, stencil = operator.embedding, operator.stencil
    M = recipe.build(Part(embedding=embedding, stencil=stencil, weights=config.weights, threads=config.threads))
    lone, exact, singular = alone(A, embedding.rows), structure.dtype == np.float64, bool(stencil.sealed.any())
    return Parts(A, embedding.rows, *lone, operator, stencil.scale, M, singular=singular, exact=exact)


def _matrix_parts(
    structure: Structure, config: Config, recipe: Recipe | None, check: bool, previous: Prepared | None
) -> Parts:
    """Take a general matrix apart into rows without off-diagonal entries and the others, scaled to ordinary size."""
    A, eps = structure.entries(), structure.eps
    row = np.repeat(np.arange(structure.n, dtype=A.indices.dtype), np.diff(A.indptr))
    coupled = np.bincount(row[(A.indices != row) & (A.data != 0)], minlength=structure.n) > 0
    rows = slice(None) if coupled.all() else np.flatnonzero(coupled)
    part = A if isinstance(rows, slice) else sp.csr_array(A[rows][:, rows])
    if not part.shape[0]:
        return Parts(A, rows, *alone(A, rows), None, 1.0, Identity(0), singular=False, exact=True)
    largest, scale = magnitude(part.data), 1.0
    if not 1e-100 < largest < 1e100:
        scale = power_of_two(largest)
        part = part * (1 / scale)
    _refuse(part, rows, eps, probe=check)
    from deepcd.solvers.operators.csr import CSROperator, constant_null_space

    component, sealed = constant_null_space(part, eps)
    null = None
    if structure.null is not None:
        null, sealed = _orthonormal(structure.null[rows]), np.zeros_like(sealed)
    if recipe is None:
        others = [candidate for candidate in config.candidates if not candidate.needs_grid]
        recipe = next(candidate for candidate in others if candidate is not DIRECT or part.shape[0] <= FEW)
    near_null = None if structure.near_null is None else structure.near_null[rows]
    before = previous.parts if isinstance(previous, Solvable) and _same_rows(previous.parts.rows, rows) else None
    earlier = None if before is None else before.M
    M: Any
    try:
        M = recipe.build(Part(part, None, None, eps, near_null, config.weights, config.threads, earlier))
    except NotPositiveDefiniteError as error:
        raise _Fault(Status.INDEFINITE_MATRIX, str(error)) from error
    found = getattr(M, "null", None)  # of a factorisation, which sees all of it
    if null is None and found is not None and found.shape[1] > np.count_nonzero(sealed):
        null, sealed = found, np.zeros_like(sealed)
    operator = CSROperator(part, component, sealed, null)
    singular = null is not None or bool(sealed.any())
    return Parts(A, rows, *alone(A, rows), operator, scale, M, singular=singular, exact=False)


def _refuse(A: sp.csr_array, rows: slice | NDArray[np.int64], eps: float, *, probe: bool) -> None:
    """Look for diagonal entries that are not positive; probe for symmetry and definiteness by two products.

    u.A v = v.A u for Gaussian u and v, scaled by the diagonal so that no part of A hides behind larger coefficients.
    """
    diagonal = A.diagonal()
    if (diagonal <= 0).any():
        least = int(np.argmin(diagonal))
        row = least if isinstance(rows, slice) else int(rows[least])
        if diagonal[least] == 0:
            raise _Fault(Status.ZERO_DIAGONAL, f"A[{row}, {row}] is zero.")
        raise _Fault(Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative.")
    if not probe:
        return
    scaling = 1 / np.sqrt(diagonal)
    u, v = np.random.default_rng(0).standard_normal((2, A.shape[0]))
    Au, Av = (scaling * (A @ (scaling * w)) for w in (u, v))
    if is_asymmetric(u, Au, v, Av, eps):
        raise _Fault(Status.NONSYMMETRIC)
    if min(float(u @ Au), float(v @ Av)) < -math.sqrt(eps) * max(norm(Au), norm(Av)):
        raise _Fault(Status.INDEFINITE_MATRIX)


def _orthonormal(null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the columns' span."""
    basis, values, _ = np.linalg.svd(null, full_matrices=False)
    return np.ascontiguousarray(basis[:, values > values[0] * 1e-10])


def _same_rows(a: slice | NDArray[np.int64], b: slice | NDArray[np.int64]) -> bool:
    if isinstance(a, slice) or isinstance(b, slice):
        return isinstance(a, slice) and isinstance(b, slice)
    return np.array_equal(a, b)
