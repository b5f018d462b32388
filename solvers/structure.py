"""What a matrix is: sign, precision, the grid behind it, its null space. Looking for it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from deepcd.pde import Grid, poisson
from deepcd.solvers.arguments import as_columns, as_csr, as_null_space
from deepcd.solvers.backends.arrays import is_tensor
from deepcd.solvers.options import Config
from deepcd.solvers.parts import alone
from deepcd.solvers.points import as_points, is_of_simplices
from deepcd.solvers.recipes import DIRECT, FEW, FEWEST, RELAXATION, SHORT, SMALL

if TYPE_CHECKING:
    from deepcd.solvers.grids.embedding import Embedding, NotAGrid
    from deepcd.solvers.grids.values import Scanned
    from deepcd.solvers.operators.face_stencil import FaceStencilOperator
    from deepcd.solvers.operators.grid_matrix import GridMatrix
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
    from deepcd.solvers.survey import Survey

    OnGrid = UnitStencilOperator | FaceStencilOperator


Pattern = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]  # indptr and indices


@dataclass(frozen=True, eq=False)
class Structure:
    """What is known of a symmetric (semi)definite matrix A before it is solved with.

    Attributes
    ----------
    matrix : csr_array of float64 or GridMatrix, shape (n, n)
        A, or -A if A is negative definite. A `GridMatrix` where the grid says all that there is to know.
    sign : int
        1, or -1 if `matrix` is -A.
    dtype : dtype
        float32 if that was the precision of A, else float64.
    on_grid : UnitStencilOperator or FaceStencilOperator or None
        The operator of the grid behind A on its coupled rows, if one was looked for and found.
    no_grid : str
        Why A was not taken for a grid; empty if it was, or if none was looked for.
    null : ndarray of float64, shape (n, m), or None
        The null space that the caller gave, compared with A.
    near_null : ndarray of float64, shape (n, l), or None
        The near null space that the caller gave.
    exact : bool
        Whether each entry of A was compared with the grid, so that they differ by rounding only.
    unsought : bool
        Whether a grid might be of use, but has not been looked for.
    seen : Survey or None
        What a look at the rows of `matrix` has told, where somebody has looked.
    pattern : tuple of ndarray, or None
        indptr and indices of `matrix` with the zeros that A had stored; None: they are as in A.
    points : ndarray of float64, shape (n, d), or None
        Where the nodes of the rows are, as far as the caller has said and as long as that is of use.
    unread : bool
        Whether `matrix` is as it was given, since the grid behind it has been found without `survey.read`.
    """

    matrix: sp.csr_array | GridMatrix
    sign: int
    dtype: np.dtype[Any]
    on_grid: OnGrid | None
    no_grid: str
    null: NDArray[np.float64] | None
    near_null: NDArray[np.float64] | None
    exact: bool = False
    unsought: bool = False
    seen: Survey | None = None
    pattern: Pattern | None = None
    unread: bool = False
    points: NDArray[np.float64] | None = None

    @property
    def embedding(self) -> Embedding | None:
        """Where the rows of A lie in the grid behind it."""
        return None if self.on_grid is None else self.on_grid.embedding

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return int(self.matrix.shape[0])

    @property
    def eps(self) -> float:
        """Unit roundoff that the entries of A carry."""
        return float(np.finfo(self.dtype).eps)

    def entries(self) -> sp.csr_array:
        """Return `matrix` with its entries; assembled anew where the grid behind it is all that was kept."""
        return self.matrix if isinstance(self.matrix, sp.csr_array) else self.matrix.tocsr()


def analyse(
    A: Any,
    config: Config,
    grid: Grid | None = None,
    *,
    nullspace: ArrayLike | Literal["constant"] | None = None,
    B: ArrayLike | None = None,
    points: ArrayLike | None = None,
    previous: Structure | None = None,
    copy: bool = True,
    hasty: bool = False,
) -> Structure:
    """Find out what a matrix is.

    Parameters
    ----------
    A : sparse array, sparse matrix, array_like or Grid, shape (n, n)
        Symmetric positive or negative (semi)definite; or a grid, whose Poisson system is meant. Not changed.
    config : Config
        Says whether a grid is looked for, and whether it has to be found.
    grid : Grid, optional
        The grid that A was assembled on.
    nullspace : array_like, shape (n, m), or "constant", optional
        The null space of A.
    B : array_like, shape (n, l), optional
        Near null space.
    points : array_like, shape (n, d), optional
        Where the nodes of the rows are.
    previous : Structure, optional
        What A takes the place of: a matrix with entries in the same places, and with null spaces that hold for A.
    copy : bool, default True
        Whether the result must not share memory with A.
    hasty : bool, default False
        Whether to leave the grid of a small matrix unsought: a solve may take less time than the search.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed, or if A is not `grid`'s, does not have that null space, has no grid though one is
        needed, or has another pattern than `previous`.
    """
    A = config.backend.matrix(A)
    if isinstance(A, Grid) and previous is None:
        if grid is not None:
            raise TypeError("A is a grid itself: give no other as grid")
        return _of_grid(A, config, nullspace, B)
    matrix, dtype = as_csr(A)
    n = matrix.shape[0]
    x = previous.points if previous is not None else None if points is None else as_points(points, n)
    short = matrix.nnz <= SHORT * n
    few = DIRECT in config.candidates and n <= (FEWEST if hasty and short else FEW) and grid is None
    unsought = (
        hasty and n <= SMALL and RELAXATION in config.candidates and config.seeks_grid and grid is None and not few
    )
    look = n > 0 and config.seeks_grid and not (few or unsought or (x is not None and is_of_simplices(matrix, x)))
    early = _first_look(matrix, dtype, config) if look and grid is None else _Early()
    eps, seen, pattern = float(np.finfo(dtype).eps), None, None
    if early.scanned is None and early.found is None and n:
        from deepcd.solvers.survey import read  # which loads the compiler

        matrix, seen, pattern = read(matrix, eps, keep_pattern=copy)
    if grid is not None:
        _match(matrix, grid)
    if previous is not None:
        _match_pattern(matrix, pattern, previous)
        nullspace, B = previous.null, previous.near_null
    null = None if nullspace is None else as_null_space(nullspace, matrix, eps)
    near_null = None if B is None else as_columns("B", B, n)

    sign = -1 if n and _is_negative(matrix, seen) else 1
    signed = matrix if sign > 0 else -matrix
    found, no_grid, exact = _find_grid(signed, dtype, config, grid, early) if look else (None, "", False)
    kept: sp.csr_array | GridMatrix = signed
    if found is not None and exact and found.stencil.exact and sign > 0:
        kept = _as_grid_matrix(found, signed)
    elif copy and _shared(signed, A):
        kept = signed.copy()
        found = found.on(kept) if found is not None and exact else found
    known, unread = seen if sign > 0 else None, early.found is not None
    return Structure(kept, sign, dtype, found, no_grid, null, near_null, exact, unsought, known, pattern, unread, x)


def _as_grid_matrix(found: OnGrid, signed: sp.csr_array) -> GridMatrix:
    """Return a matrix without its entries, which the grid says: the caller's is neither kept nor copied."""
    from deepcd.solvers.operators.grid_matrix import GridMatrix
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

    assert isinstance(found, UnitStencilOperator)
    return GridMatrix(found, signed.shape[0], *alone(signed, found.embedding.rows))


def with_grid(structure: Structure, config: Config) -> Structure:
    """Return the structure of a matrix after a search for the grid that was left unsought."""
    found, no_grid, exact = _find_grid(structure.entries(), structure.dtype, config, None, _Early())
    return replace(structure, on_grid=found, no_grid=no_grid, exact=exact, unsought=False)


def without_grid(structure: Structure, reason: str) -> Structure:
    """Return the structure of a matrix whose grid is of no use, and why."""
    return replace(structure, on_grid=None, no_grid=reason, exact=False)


def _of_grid(grid: Grid, config: Config, nullspace: Any, B: Any) -> Structure:
    """Return the structure of a grid's Poisson matrix, which is not assembled unless something asks for its entries."""
    from deepcd.solvers.grids.discovery import embed
    from deepcd.solvers.grids.embedding import NotAGrid
    from deepcd.solvers.operators.grid_matrix import GridMatrix
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

    dtype = np.dtype(np.float64)
    try:
        embedding, stencil = embed(grid)
    except NotAGrid as error:
        matrix: sp.csr_array | GridMatrix = poisson(grid).A
        found, no_grid = None, str(error)
    else:
        lonely, diagonal, n = np.empty(0, dtype=np.int64), np.empty(0), embedding.position.size
        if not isinstance(embedding.rows, slice):
            neighbours, dirichlet = grid.couplings()
            unknown = grid.fluid & (neighbours + dirichlet > 0)
            lonely, n = np.flatnonzero(neighbours[unknown] == 0), int(np.count_nonzero(unknown))
            diagonal = dirichlet[unknown][lonely].astype(np.float64) * stencil.scale
        operator = UnitStencilOperator(embedding, stencil, config.threads)
        matrix, no_grid = GridMatrix(operator, n, lonely, diagonal), ""
        found = operator if config.seeks_grid else None
        if found is not None:
            _announce()
    entries = None if nullspace is None else matrix if isinstance(matrix, sp.csr_array) else matrix.tocsr()
    null = None if entries is None else as_null_space(nullspace, entries, float(np.finfo(dtype).eps))
    near_null = None if B is None else as_columns("B", B, matrix.shape[0])
    return Structure(matrix, 1, dtype, found, no_grid, null, near_null, exact=True)


def _announce() -> None:
    """Say that kernels are compiled, if that is going to take a while."""
    from deepcd.solvers.kernels import compilation, fused

    compilation.announce(fused.ascend)


def _find_grid(
    A: sp.csr_array,
    dtype: np.dtype[Any],
    config: Config,
    grid: Grid | None,
    early: _Early,
) -> tuple[OnGrid | None, str, bool]:
    """Return the operator of the grid behind a matrix or None, why there is none, and if each entry is the grid's."""
    if early.found is not None:
        return early.found.on(A), "", dtype == np.float64
    from deepcd.solvers.grids.discovery import embed
    from deepcd.solvers.grids.embedding import NotAGrid
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

    _announce()
    try:
        if grid is not None:
            return UnitStencilOperator(*embed(grid), config.threads), "", dtype == np.float64
        try:
            return _discovered(A, dtype, config, early.scanned, early.refusal), "", dtype == np.float64
        except NotAGrid:
            from deepcd.solvers.survey import without_lone_columns

            rest = without_lone_columns(A)
            if rest is None:
                raise
            return _discovered(rest, dtype, config, None, None), "", False
    except NotAGrid as error:
        if not config.takes_any_matrix:
            raise ValueError(
                f'there is no grid behind A: {error}; preconditioner="{config.any_matrix}" takes any A'
            ) from error
        return None, str(error), False


class _Early(NamedTuple):
    """What a look at a matrix as it was given has shown, before anything else is done with it."""

    scanned: Scanned | None = None  # what the entries say if all couplings are equal
    found: FaceStencilOperator | None = None  # the operator of a grid with face weights that differ
    refusal: NotAGrid | None = None  # why there is none


def _takes_faces(config: Config) -> bool:
    """Return whether one of the candidates takes grids with face weights."""
    return any(recipe.takes_faces for recipe in config.candidates)


def _first_look(matrix: sp.csr_array, dtype: np.dtype[Any], config: Config) -> _Early:
    """Look whether all couplings are equal, and if not, for a grid with face weights."""
    from deepcd.solvers.grids.embedding import NotAGrid
    from deepcd.solvers.grids.stencils import FaceStencil
    from deepcd.solvers.grids.values import scan
    from deepcd.solvers.operators.finding import find_faces

    scanned = scan(matrix) if dtype == np.float64 else None
    if scanned is not None or not _takes_faces(config):
        return _Early(scanned)
    _announce()
    own = matrix if dtype == np.float64 else matrix.astype(dtype)  # what counts as equal depends on A's own precision
    try:
        entries = -own if _is_negative(matrix, None) else own
        found = find_faces(entries, matrix, config.threads, config.backend.is_host)
    except NotAGrid as error:
        return _Early(refusal=error)
    if isinstance(found.stencil, FaceStencil) and found.stencil.is_uniform(found.embedding):
        return _Early()
    return _Early(found=found)


def _discovered(
    A: sp.csr_array, dtype: np.dtype[Any], config: Config, scanned: Scanned | None, refusal: NotAGrid | None
) -> OnGrid:
    """Return the operator of the grid behind a matrix: of equal couplings, or of face weights unless refused before."""
    from deepcd.solvers.grids.discovery import discover
    from deepcd.solvers.grids.embedding import NotAGrid
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator

    own = A if dtype == np.float64 else A.astype(dtype)  # what counts as equal depends on A's own precision
    faces = _takes_faces(config)
    unit: UnitStencilOperator | None = None
    try:
        unit = UnitStencilOperator(*discover(own, scanned), config.threads)
    except NotAGrid:
        if not faces:
            raise
    if unit is not None and (not faces or unit.stencil.is_poisson(unit.embedding)):
        return unit
    if refusal is None:
        from deepcd.solvers.operators.finding import find_faces

        try:
            return find_faces(own, A, config.threads, config.backend.is_host)
        except NotAGrid as error:
            refusal = error
    if unit is None:
        raise refusal
    return unit


def _is_negative(A: sp.csr_array, seen: Survey | None) -> bool:
    """Return whether the diagonal says that -A is meant: the Laplacian has two signs in use."""
    if seen is not None:
        diagonal = seen.diagonal
    else:  # of what may be a grid; a look at one row tells whether a look at all of them is worth it
        diagonal = A[:1].diagonal()
        if diagonal[0] <= 0:
            diagonal = A.diagonal()
    return bool(diagonal.max(initial=-1.0) <= 0 and diagonal.min(initial=1.0) < 0)


def _shared(matrix: sp.csr_array, A: Any) -> bool:
    """Return whether the matrix that A was converted to may share memory with it."""
    return is_tensor(A) or (
        sp.issparse(A) and (matrix is A or np.may_share_memory(matrix.data, getattr(A, "data", None)))
    )


def _match_pattern(A: sp.csr_array, pattern: Pattern | None, previous: Structure) -> None:
    """Raise a ValueError unless A had entries, zeros included, in the same places as the matrix before."""
    if A.shape[0] != previous.n:
        old = previous.n, previous.n
        raise ValueError(f"update takes a matrix of the shape of the old one, {old}, got {A.shape}")
    before = previous.pattern
    if before is None:
        entries = previous.entries()
        before = entries.indptr, entries.indices
    if not all(map(np.array_equal, (A.indptr, A.indices) if pattern is None else pattern, before)):
        raise ValueError("update takes new values on the old pattern, but the pattern differs: set up a new system")


def _same_pattern(A: sp.csr_array, B: sp.csr_array) -> bool:
    return np.array_equal(A.indptr, B.indptr) and np.array_equal(A.indices, B.indices)


def _match(A: sp.csr_array, grid: Grid) -> None:
    """Raise a ValueError unless A is the matrix of the grid, entry by entry."""
    expected = poisson(grid).A
    if A.shape != expected.shape:
        raise ValueError(f"grid has {expected.shape[0]} unknowns, but A has {A.shape[0]} rows; describe A's own grid")
    if not _same_pattern(A, expected):
        raise ValueError("grid couples other cells than A does; describe A's own grid, numbered in C order")
    if not np.allclose(A.data, expected.data, rtol=8 * float(np.finfo(np.float64).eps), atol=0.0):
        raise ValueError("grid has other coefficients than A: check its spacing, walls and air_at")
