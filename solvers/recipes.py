"""The preconditioners by name: the one list that `DeepCD`, its messages, the help texts and the tests read.

A recipe builds a preconditioner for the coupled part of a matrix. Users bring their own as a `Recipe`, or as a callable
that takes a csr_array and returns M, an approximate inverse that is symmetric positive definite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.pde.extras import require
from deepcd.solvers.space import Preconditioner

if TYPE_CHECKING:
    from deepcd.solvers.grids.embedding import Embedding
    from deepcd.solvers.grids.lattice import Lattice
    from deepcd.solvers.grids.stencils import AroundStencil, FaceStencil, UnitStencil
    from deepcd.solvers.preconditioners.choice import Couplings
    from deepcd.solvers.preconditioners.factors.plan import Plan
    from deepcd.solvers.survey import Survey

FEW, FEW_ENTRIES = 2000, 100_000  # unknowns and entries up to which "auto" factors a matrix before anything else,
FEWEST, SHORT = 500, 12  # and unknowns up to which it does so for a single solve if rows have no more entries
SMALL = 40_000  # unknowns up to which a single solve may take less time than to look for a grid
UNWEIGHED = 6  # application at which second visits of multigrid are weighed; most solves have ended by then
SHIPPED_DCDM = {2: "2d", 3: "64"}  # variant of the DCDM network that ships, by number of axes


@dataclass(frozen=True, eq=False)
class Part:
    """The coupled rows of a matrix, as the builder of a preconditioner sees them.

    Attributes
    ----------
    A : csr_array of float64, shape (m, m), or None
        The entries, scaled to ordinary magnitude; None on a grid, whose entries follow from the stencil.
    embedding : Embedding or None
        Where the rows lie in a grid, if the recipe needs one.
    stencil : UnitStencil, FaceStencil, AroundStencil or None
        What couples the cells of that grid.
    eps : float
        Unit roundoff that the entries of A carry.
    near_null : ndarray of float64, shape (m, l), or None
        Near null space that the caller gave.
    weights : path or None
        Weight file that the caller gave.
    threads : int
        Number of threads to compute with.
    plan : Plan or None
        How to factor A, where that has been planned.
    seen : Survey or None
        What a look at the entries of A has told, where somebody has looked.
    couplings : Couplings or None
        How the off-diagonal entries of A differ, where somebody has looked.
    lattice : Lattice or None
        A lattice over the nodes of the rows of A, where the caller knows their points.
    previous : Preconditioner or None
        That of a matrix with the same pattern and coupled rows, which may be brought up to date; it is not changed.
    """

    A: sp.csr_array | None = None
    embedding: Embedding | None = None
    stencil: UnitStencil | FaceStencil | AroundStencil | None = None
    eps: float = float(np.finfo(np.float64).eps)
    near_null: NDArray[np.float64] | None = None
    weights: str | Path | None = None
    threads: int = 1
    plan: Plan | None = None
    seen: Survey | None = None
    couplings: Couplings | None = None
    lattice: Lattice | None = None
    previous: Preconditioner | None = None


@dataclass(frozen=True)
class Recipe:
    """How a preconditioner is built.

    Parameters
    ----------
    name : str
        Name for `DeepCD(preconditioner=...)` and in solutions.
    build : callable
        ``build(part) -> Preconditioner``; see `Part`. It may raise `NotPositiveDefiniteError`.
    summary : str
        What it is, in a few words.
    needs_grid : bool, default False
        Whether it needs the embedding of a Cartesian grid; others need the entries of A.
    takes_weights : bool, default False
        Whether it reads a weight file.
    needs_points : bool, default False
        Whether it needs the points of the rows' nodes.
    takes_faces : bool, default False
        Whether the couplings of the grid may differ: faces with weights of their own, edges and corners as well.
    """

    name: str
    build: Callable[[Part], Preconditioner]
    summary: str
    needs_grid: bool = False
    takes_weights: bool = False
    takes_faces: bool = False
    needs_points: bool = False

    @property
    def takes_any(self) -> bool:
        """Whether the entries of a matrix are all that it needs."""
        return not (self.needs_grid or self.needs_points)


def _grid(part: Part) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
    """Return cells per axis, and the diagonal entries on the padded box."""
    from deepcd.solvers.grids.stencils import UnitStencil

    assert part.embedding is not None
    assert isinstance(part.stencil, UnitStencil)
    return part.embedding.shape, part.stencil.diagonal


def _has_faces(part: Part) -> bool:
    """Return whether couplings of the grid have values of their own."""
    from deepcd.solvers.grids.stencils import UnitStencil

    return not isinstance(part.stencil, UnitStencil)


def _on_faces(part: Part, parameters: dict[str, Any] | None) -> Preconditioner:
    """Return the cycle of a grid whose couplings differ, led by networks with these parameters."""
    from deepcd.solvers.grids.stencils import AroundStencil, FaceStencil
    from deepcd.solvers.kernels.faces.records import Grid
    from deepcd.solvers.preconditioners.multigrid.around_cycle import AroundCycle
    from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle

    assert part.embedding is not None
    assert isinstance(part.stencil, FaceStencil | AroundStencil)
    grid = Grid(part.embedding.n, part.embedding.s, part.stencil.wrap)
    sealed = None
    if part.stencil.sealed.size > 1 and part.stencil.sealed.any():
        sealed = np.full((grid.n[0] + 2) * grid.s[0], -1, dtype=np.int32)
        component = part.embedding.component
        sealed[part.embedding.position] = np.where(part.stencil.sealed[component], component, -1)
    if isinstance(part.stencil, AroundStencil):
        return AroundCycle(grid, part.stencil, part.threads, parameters=parameters, sealed=sealed)
    return FaceCycle(grid, part.stencil.faces, part.threads, parameters=parameters, sealed=sealed)


def _learned_multigrid(part: Part) -> Preconditioner:
    if _has_faces(part):
        from deepcd.data.weight_files import load
        from deepcd.solvers.learned import face_architecture

        assert part.embedding is not None
        return _on_faces(part, load(part.weights, face_architecture.architecture(len(part.embedding.shape)))[0])
    from deepcd.solvers.learned.architecture import architecture
    from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle

    (shape, diagonal), weights = _grid(part), None
    if part.weights is not None:
        from deepcd.data.weight_files import load

        weights = load(part.weights, architecture(len(shape)))[0]
    return learned_cycle(shape, diagonal, weights, part.threads, unweighed=UNWEIGHED)


def _auxiliary_grid(part: Part) -> Preconditioner:
    from deepcd.data.weight_files import load
    from deepcd.solvers.learned import face_architecture
    from deepcd.solvers.preconditioners.auxiliary_grid import AuxiliaryGrid

    assert part.A is not None
    assert part.lattice is not None
    parameters = load(part.weights, face_architecture.architecture(len(part.lattice.shape)))[0]
    return AuxiliaryGrid(part.A, part.lattice, parameters, part.threads)


def _geometric_multigrid(part: Part) -> Preconditioner:
    if _has_faces(part):
        return _on_faces(part, None)
    from deepcd.solvers.preconditioners.multigrid.classical import classical_cycle

    return classical_cycle(*_grid(part), part.threads, unweighed=UNWEIGHED)


def _dcdm(part: Part) -> Preconditioner:
    require("torch", extra="train", by='DeepCD(preconditioner="dcdm")')
    from deepcd.data.weight_files import load
    from deepcd.solvers.learned.dcdm_network import variant_of
    from deepcd.solvers.preconditioners.dcdm import DCDM

    shape, diagonal = _grid(part)
    wanted = f"dcdm-{SHIPPED_DCDM[len(shape)]}/1" if part.weights is None else None
    tensors, record = load(part.weights, wanted)
    return DCDM(shape, diagonal, tensors, variant_of(record["architecture"]), threads=part.threads)


def _direct(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.direct import Direct

    assert part.A is not None
    plan = part.plan
    if plan is None and isinstance(part.previous, Direct) and part.previous.fits(part.A):
        plan = part.previous.plan
    return Direct(part.A, part.eps, plan)


def _algebraic_multigrid(part: Part, method: Literal["aggregation", "sa", "rs"]) -> Preconditioner:
    from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid

    assert part.A is not None
    if isinstance(part.previous, AlgebraicMultigrid) and part.previous.fits(part.A):
        return part.previous.updated(part.A)
    return AlgebraicMultigrid(part.A, method, part.near_null)


def _multilevel(part: Part) -> Preconditioner:
    """Build what suits A, or what suited the matrix before it."""
    from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
    from deepcd.solvers.preconditioners.choice import choose, look

    assert part.A is not None
    if part.near_null is not None or (isinstance(part.previous, AlgebraicMultigrid) and part.previous.fits(part.A)):
        return _algebraic_multigrid(part, "aggregation")
    return RECIPES[choose(look(part.A) if part.couplings is None else part.couplings)].build(part)


def _ssor(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.ssor import SSOR
    from deepcd.solvers.survey import survey

    assert part.A is not None
    return SSOR(part.A, survey(part.A, part.eps) if part.seen is None else part.seen)


def _jacobi(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.jacobi import Jacobi

    assert part.A is not None
    return Jacobi(part.A.diagonal() if part.seen is None else part.seen.diagonal, part.A)


def _incomplete_cholesky(part: Part, modified: bool = False) -> Preconditioner:
    from deepcd.solvers.preconditioners.incomplete_cholesky import IncompleteCholesky

    assert part.A is not None
    return IncompleteCholesky(part.A, modified)


def _approximate_cholesky(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.approximate_cholesky import ApproximateCholesky

    assert part.A is not None
    return ApproximateCholesky(part.A, eps=part.eps)


def _deflation(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.deflation import Deflation

    assert part.A is not None
    return Deflation(part.A)


def _none(part: Part) -> Preconditioner:
    from deepcd.solvers.preconditioners.identity import Identity

    assert part.A is not None
    return Identity(part.A.shape[0])


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "learned-multigrid",
            _learned_multigrid,
            "multigrid led by a trained network",
            needs_grid=True,
            takes_weights=True,
            takes_faces=True,
        ),
        Recipe(
            "geometric-multigrid",
            _geometric_multigrid,
            "classical geometric multigrid",
            needs_grid=True,
            takes_faces=True,
        ),
        Recipe(
            "auxiliary-grid",
            _auxiliary_grid,
            "learned multigrid on a lattice over the points of a mesh",
            takes_weights=True,
            needs_points=True,
        ),
        Recipe("dcdm", _dcdm, "the network of Kaneda et al. (ICML 2023)", needs_grid=True, takes_weights=True),
        Recipe("direct", _direct, "sparse factors"),
        Recipe("smoothed-aggregation", partial(_algebraic_multigrid, method="aggregation"), "smoothed aggregation"),
        Recipe("pyamg-sa", partial(_algebraic_multigrid, method="sa"), "PyAMG's smoothed aggregation"),
        Recipe("pyamg-rs", partial(_algebraic_multigrid, method="rs"), "PyAMG's Ruge-Stueben coarsening"),
        Recipe("ssor", _ssor, "symmetric successive over-relaxation"),
        Recipe("none", _none, "plain conjugate gradients"),
        Recipe("jacobi", _jacobi, "the inverse of the diagonal"),
        Recipe("ic0", _incomplete_cholesky, "incomplete Cholesky factors"),
        Recipe("mic0", partial(_incomplete_cholesky, modified=True), "modified incomplete Cholesky factors"),
        Recipe("approximate-cholesky", _approximate_cholesky, "sampled Cholesky factors of a graph's Laplacian"),
        Recipe("deflation", _deflation, "deflation of 16 Ritz vectors"),
    )
}

# What "auto" chooses from; see `strategies.py`.
DIRECT, LEARNED, RELAXATION = RECIPES["direct"], RECIPES["learned-multigrid"], RECIPES["ssor"]
AUXILIARY = RECIPES["auxiliary-grid"]
ALGEBRAIC = Recipe("multilevel", _multilevel, "the multilevel method that suits A")
AUTOMATIC = (DIRECT, LEARNED, AUXILIARY, RELAXATION, ALGEBRAIC)


def recipe_of(preconditioner: Any) -> Recipe | None:
    """Return the recipe that a caller means; None for "auto".

    Parameters
    ----------
    preconditioner : str, Recipe or callable
        A callable takes a csr_array of shape (m, m), the coupled part of a matrix, and returns M: a sparse or dense
        matrix, a LinearOperator, or an object with the methods of `Preconditioner`.

    Raises
    ------
    ValueError
        If no preconditioner has that name.
    TypeError
        If it is of another type.
    """
    if isinstance(preconditioner, Recipe):
        return preconditioner
    if isinstance(preconditioner, str):
        if preconditioner == "auto":
            return None
        if preconditioner in RECIPES:
            return RECIPES[preconditioner]
        known = ", ".join(map(repr, ("auto", *RECIPES)))
        raise ValueError(f"preconditioner must be one of {known}, got {preconditioner!r}")
    if not callable(preconditioner):
        raise TypeError(
            "preconditioner must be a name, a Recipe, or a callable that takes a sparse matrix and returns an "
            f"approximate inverse, got {type(preconditioner).__name__}"
        )
    name = getattr(preconditioner, "__name__", "")
    name = name if name.isidentifier() else "given"  # a lambda is called "<lambda>"
    return Recipe(name, _Own(preconditioner, name), "brought by the caller")


@dataclass(frozen=True)
class _Own:
    """A builder of the caller's."""

    make: Callable[[sp.csr_array], Any]
    name: str

    def __call__(self, part: Part) -> Preconditioner:
        from deepcd.solvers.preconditioners.given import given

        assert part.A is not None
        return given(self.make(part.A), part.A.shape[0], self.name)
