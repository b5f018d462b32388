"""From what a matrix is to what it is solved with: its parts, with the preconditioner that a recipe builds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.arguments import power_of_two
from deepcd.solvers.beginning import MANY, Beginning, begin, waits
from deepcd.solvers.options import Config
from deepcd.solvers.parts import Parts, alone
from deepcd.solvers.preconditioners.identity import Identity
from deepcd.solvers.prepared import Prepared, Solvable, Unsolvable
from deepcd.solvers.recipes import ALGEBRAIC, AUXILIARY, DIRECT, RELAXATION, Part, Recipe
from deepcd.solvers.solution import Status
from deepcd.solvers.structure import Structure

if TYPE_CHECKING:
    from deepcd.solvers.grids.lattice import Lattice
    from deepcd.solvers.preconditioners.choice import Couplings
    from deepcd.solvers.preconditioners.factors.plan import Plan
    from deepcd.solvers.survey import Survey


# Cells of the cross-section of a grid up to which factors take less time than to set up a cycle.
_NARROW = 16


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
    by_levels: bool | None = None,
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
        Whether to probe a matrix without a grid for symmetry and definiteness, at the price of two products. With
        over-relaxation "auto" only begins, and leaves that for `exchange`.
    previous : Prepared, optional
        What a matrix with the same pattern was solved with. A copy of its algebraic multigrid is brought up to date.
    by_levels : bool, optional
        Whether to number the rows of a matrix without a grid anew, level by level; default: for over-relaxation where
        the rows are short, if "auto" begins with it where that is sure to pay for one solve.

    Returns
    -------
    Solvable or Unsolvable
    """
    if recipe is None and structure.embedding is not None:
        recipe = _on_grids(config, structure)
    try:
        if recipe is not None and recipe.needs_grid:
            parts, by_levels, refusal = _grid_parts(structure, config, recipe), False, ""
        else:
            parts, by_levels, refusal = _matrix_parts(structure, config, recipe, check, previous, by_levels)
        if (parts.diagonal < 0).any():
            row = int(parts.alone[int(np.argmin(parts.diagonal))])
            raise _Fault(Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative, and other diagonal entries are not.")
    except _Fault as fault:
        return _unsolvable(structure, config, fault)
    on_grid = recipe is not None and recipe.needs_grid
    return _solvable(parts, config, on_grid=on_grid, by_levels=by_levels, refusal=refusal)


def exchange(
    prepared: Solvable,
    structure: Structure,
    config: Config,
    recipe: Recipe | None,
    *,
    check: bool,
    plan: Plan | None = None,
    couplings: Couplings | None = None,
) -> Prepared:
    """Build another preconditioner for the parts of a matrix without a grid; `prepared` is not changed.

    Parameters
    ----------
    prepared : Solvable
        The matrix with the preconditioner that it has.
    structure, config, check
        See `prepare`.
    recipe : Recipe or None
        What to build; None: the preconditioner stays.
    plan : Plan, optional
        How to factor the matrix.
    couplings : Couplings, optional
        How its off-diagonal entries differ.

    Returns
    -------
    Solvable or Unsolvable
    """
    parts = prepared.parts
    try:
        if check:
            _probe(parts.operator.A, parts.operator.A.diagonal(), structure.eps)
        if recipe is None:
            return prepared
        equipped = _equipped(parts, structure, config, recipe, plan=plan, couplings=couplings)
        return _solvable(equipped, config, on_grid=False, by_levels=prepared.by_levels)
    except _Fault as fault:
        return _unsolvable(structure, config, fault)


def renumbered(prepared: Solvable, structure: Structure, config: Config) -> Solvable:
    """Return a matrix without a grid with its coupled rows numbered by levels, and relaxation on them."""
    from deepcd.solvers import survey

    parts = prepared.parts
    order, rows, A = _numbered_by_levels(parts.rows, parts.operator.A)
    parts = replace(parts, rows=rows, operator=parts.operator.renumbered(A, order))
    equipped = _equipped(parts, structure, config, RELAXATION, survey.survey(A, structure.eps))
    return _solvable(equipped, config, on_grid=False, by_levels=True)


def _numbered_by_levels(rows: Any, A: sp.csr_array) -> tuple[NDArray[np.int64], Any, sp.csr_array]:
    """Return the order of a numbering by levels, and the coupled rows and their matrix in that order."""
    from deepcd.solvers import survey

    order = survey.by_levels(A)
    return order, order if isinstance(rows, slice) else rows[order], survey.renumbered(A, order)


def _solvable(parts: Parts, config: Config, *, on_grid: bool, by_levels: bool, refusal: str = "") -> Solvable:
    keep = config.keep if config.keep is not None else 1 if parts.M.symmetric else 2
    return Solvable(config.backend.place(parts), keep, on_grid, by_levels, refusal)


def _unsolvable(structure: Structure, config: Config, fault: _Fault) -> Unsolvable:
    return Unsolvable(config.backend.place_matrix(structure.matrix), fault.status, fault.detail)


def _on_grids(config: Config, structure: Structure) -> Recipe:
    """Return the candidate for a matrix with a grid behind it; chains and narrow channels are factored at once."""
    from deepcd.solvers.grids.stencils import UnitStencil

    assert structure.on_grid is not None
    shape, faces = structure.on_grid.embedding.shape, not isinstance(structure.on_grid.stencil, UnitStencil)
    if DIRECT in config.candidates and math.prod(shape) <= _NARROW * max(shape):
        return DIRECT
    return next(recipe for recipe in config.candidates if recipe.needs_grid and (recipe.takes_faces or not faces))


def _grid_parts(structure: Structure, config: Config, recipe: Recipe) -> Parts:
    """Take a matrix apart along the embedding of its rows in a grid."""
    A, operator = structure.matrix, structure.on_grid
    assert operator is not None
    embedding, stencil = operator.embedding, operator.stencil
    M = recipe.build(Part(embedding=embedding, stencil=stencil, weights=config.weights, threads=config.threads))
    lone, singular = alone(A, embedding.rows), bool(stencil.sealed.any())
    return Parts(A, embedding.rows, *lone, operator, stencil.scale, M, singular=singular, exact=structure.exact)


def _matrix_parts(
    structure: Structure,
    config: Config,
    recipe: Recipe | None,
    check: bool,
    previous: Prepared | None,
    by_levels: bool | None,
) -> tuple[Parts, bool, str]:
    """Take a general matrix apart into rows without off-diagonal entries and the others, scaled to ordinary size.

    The second result is whether their rows are numbered by levels, the third why points are of no use.
    """
    from deepcd.solvers import survey

    A, eps, known = structure.entries(), structure.eps, structure.seen
    if structure.unread:
        A, known, _ = survey.read(A, eps)
    rows, part, scale, seen = _coupled(A, eps, known)
    if not part.shape[0]:
        return Parts(A, rows, *alone(A, rows), None, 1.0, Identity(0), singular=False, exact=True), False, ""
    _refuse(seen.diagonal, rows)
    begins, points = recipe is None, None if structure.points is None else structure.points[rows]
    begun = begin(structure, config, points, part, seen) if recipe in (None, AUXILIARY) else Beginning(recipe)
    recipe = begun.recipe
    if by_levels is None:
        by_levels = recipe is RELAXATION and (waits(part, seen) if begins else part.nnz <= MANY * part.shape[0])
    if by_levels:
        _, rows, part = _numbered_by_levels(rows, part)
        seen = survey.survey(part, eps)
    lone = alone(A, rows)
    if check and not (begins and config.recipe is None and recipe not in (DIRECT, ALGEBRAIC)):
        _probe(part, seen.diagonal, eps)
    from deepcd.solvers.operators.csr import CSROperator

    component, sealed = survey.constant_null_space(part, eps, seen)
    null = None
    if structure.null is not None:
        null, sealed = _orthonormal(structure.null[rows]), np.zeros_like(sealed)
    operator = CSROperator(part, component, sealed, null)
    singular = null is not None or bool(sealed.any())
    before = previous.parts if isinstance(previous, Solvable) and _same_rows(previous.parts.rows, rows) else None
    parts = Parts(A, rows, *lone, operator, scale, Identity(0), singular=singular, exact=False)
    M = None if before is None else before.M
    equipped = _equipped(parts, structure, config, recipe, seen, M, begun.plan, begun.lattice)
    return equipped, by_levels, begun.refusal


def _coupled(A: sp.csr_array, eps: float, seen: Survey | None) -> tuple[Any, sp.csr_array, float, Survey]:
    """Return the rows of A with off-diagonal entries, A there divided by a scale, the scale, and a look at the rows."""
    from deepcd.solvers import survey

    rows: Any = slice(None)
    part, scale = A, 1.0
    seen = survey.survey(A, eps) if seen is None else seen
    if seen.lone:
        rows = np.flatnonzero(np.diff(A.indptr) - (seen.diagonal != 0) > 0)
        part = survey.submatrix(A, rows)
        seen = survey.survey(part, eps)
    if part.nnz and not 1e-100 < seen.largest < 1e100:
        scale = power_of_two(seen.largest)
        part = part * (1 / scale)
        seen = survey.survey(part, eps)
    return rows, part, scale, seen


def _equipped(
    parts: Parts,
    structure: Structure,
    config: Config,
    recipe: Recipe,
    seen: Survey | None = None,
    previous: Any = None,
    plan: Plan | None = None,
    lattice: Lattice | None = None,
    couplings: Couplings | None = None,
) -> Parts:
    """Return the parts of a matrix with what a recipe builds as M, and the null space that M may have found."""
    A, operator = parts.operator.A, parts.operator
    near_null = None if structure.near_null is None else structure.near_null[parts.rows]
    part = Part(
        A,
        None,
        None,
        structure.eps,
        near_null,
        config.weights,
        config.threads,
        plan,
        seen,
        couplings,
        lattice,
        previous,
    )
    from deepcd.solvers.preconditioners.direct import NotPositiveDefiniteError  # which loads the compiler

    M: Any
    try:
        M = recipe.build(part)
    except NotPositiveDefiniteError as error:
        raise _Fault(Status.INDEFINITE_MATRIX, str(error)) from error
    found, singular = getattr(M, "null", None), parts.singular  # of a factorisation, which sees all of it
    if structure.null is None and found is not None and found.shape[1] > operator.nullity:
        from deepcd.solvers.operators.csr import CSROperator

        operator, singular = CSROperator(A, null=found), True
    return replace(parts, operator=operator, M=M, singular=singular)


def _refuse(diagonal: NDArray[np.float64], rows: slice | NDArray[np.int64]) -> None:
    """Look for diagonal entries that are not positive."""
    least = int(np.argmin(diagonal))
    if diagonal[least] > 0:
        return
    row = least if isinstance(rows, slice) else int(rows[least])
    if diagonal[least] == 0:
        raise _Fault(Status.ZERO_DIAGONAL, f"A[{row}, {row}] is zero.")
    raise _Fault(Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative.")


def _probe(A: sp.csr_array, diagonal: NDArray[np.float64], eps: float) -> None:
    """Probe for symmetry and definiteness by two products.

    u.A v = v.A u for random u and v, scaled by the diagonal so that no part of A hides behind larger coefficients: the
    two differ by the Frobenius norm of the scaled A - A', but for a factor of about one.
    """
    from deepcd.solvers.kernels import survey

    u, v = np.sqrt(12) * (np.random.default_rng(0).random((2, A.shape[0])) - 0.5)  # of variance one
    sums = np.empty(6)
    survey.probe(A.indptr, A.indices, A.data, 1 / np.sqrt(diagonal), u, v, sums)
    uv, vu, uu, vv, *squares = sums.tolist()
    rounding = math.sqrt(eps * max(squares))
    if abs(uv - vu) > rounding:
        raise _Fault(Status.NONSYMMETRIC)
    if min(uu, vv) < -rounding:
        raise _Fault(Status.INDEFINITE_MATRIX)


def _orthonormal(null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of the columns' span."""
    basis, values, _ = np.linalg.svd(null, full_matrices=False)
    return np.ascontiguousarray(basis[:, values > values[0] * 1e-10])


def _same_rows(a: slice | NDArray[np.int64], b: slice | NDArray[np.int64]) -> bool:
    if isinstance(a, slice) or isinstance(b, slice):
        return isinstance(a, slice) and isinstance(b, slice)
    return np.array_equal(a, b)
