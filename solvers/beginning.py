"""What a matrix without a grid is begun with, before anything has been tried."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers import costs
from deepcd.solvers.forecast import promised
from deepcd.solvers.options import Config
from deepcd.solvers.recipes import ALGEBRAIC, AUXILIARY, DIRECT, FEW, FEW_ENTRIES, RECIPES, RELAXATION, Recipe
from deepcd.solvers.structure import Structure

if TYPE_CHECKING:
    from deepcd.solvers.grids.lattice import Lattice
    from deepcd.solvers.preconditioners.factors.plan import Plan
    from deepcd.solvers.survey import Survey

# Share of the diagonal that off-diagonal entries leave, from which on the diagonal alone takes few iterations.
DOMINANT = 0.3


# Entries per row of a network, and share of its rows on branches from which on factors have little fill.
_BRANCHED, _BRANCHES = 3.7, 0.25

# Rows in good order and in none, and entries per row, for which a numbering by levels is sure to be worth its time; and
# the bound on a condition number from which over-relaxation takes more than some fifteen iterations.
_FEWEST, _LARGE, _SHORT, MANY, _ILL = 2000, 5000, 5.5, 10.0, 5.0


_CYCLES = 8  # iterations on a lattice for six digits
_DOUBT = 1.6  # times as many simple iterations as a bound promises may be needed


class Beginning(NamedTuple):
    """What is begun with, and what has been found out for it.

    Attributes
    ----------
    recipe : Recipe
        What to build.
    plan : Plan or None
        How to factor the matrix.
    lattice : Lattice or None
        A lattice over the points of its rows.
    refusal : str
        Why points are of no use.
    """

    recipe: Recipe
    plan: Plan | None = None
    lattice: Lattice | None = None
    refusal: str = ""


def begin(
    structure: Structure, config: Config, points: NDArray[np.float64] | None, part: sp.csr_array, seen: Survey
) -> Beginning:
    """Return what a matrix without a grid is begun with: a method that was named, or what "auto" says.

    Parameters
    ----------
    structure : Structure
        The matrix and what is known of it.
    config : Config
        How to prepare it.
    points : ndarray of float64, shape (m, d), or None
        Where the nodes of its coupled rows are, if the caller has said.
    part : csr_array of float64, shape (m, m)
        Its coupled rows.
    seen : Survey
        What a look at them has told.

    Raises
    ------
    ValueError
        If a method was named that needs points, and there are none, or none of use.
    """
    if config.recipe is AUXILIARY:
        return _on_mesh(part, points, needed=True)
    others = [recipe for recipe in config.candidates if recipe.takes_any]
    if config.recipe is not None or len(others) == 1:
        return Beginning(others[0])
    n, entries = part.shape[0], part.nnz
    if n <= FEW and entries <= FEW_ENTRIES and not structure.unsought:
        return Beginning(DIRECT)
    if structure.near_null is not None:  # whoever gives one has decided for algebraic multigrid
        return Beginning(ALGEBRAIC)
    if seen.dominance > DOMINANT and entries <= MANY * n:  # with long rows, a sweep costs little more than a product
        return Beginning(RECIPES["jacobi"])
    begun = _on_mesh(part, points) if points is not None and _lattice_pays(part, seen) else Beginning(RELAXATION)
    if begun.lattice is not None:
        return begun
    plan = _obvious(part, seen)
    return begun if plan is None else begun._replace(recipe=DIRECT, plan=plan)


def _lattice_pays(part: sp.csr_array, seen: Survey) -> bool:
    """Return whether simple iterations may be many, or take longer than to lay a lattice and to iterate on it.

    A bound tells how many there will be where each row has a share in what bounds eigenvalues from below: a reaction.
    """
    if not seen.is_open.all():
        return True
    from deepcd.solvers.preconditioners.ssor import relaxation_parameter  # which loads the compiler

    size = costs.Size(part.shape[0], part.nnz, seen.disorder > costs.DISORDER)
    iterations = promised(relaxation_parameter(seen.dominance, seen.disorder, size.n)[1], math.log(1e6))
    there = costs.lattice_setup(size) + _CYCLES * costs.lattice_cycle(size)
    return _DOUBT * iterations * costs.relaxation(size, waits=False) > there


def _on_mesh(part: sp.csr_array, points: NDArray[np.float64] | None, *, needed: bool = False) -> Beginning:
    """Lay a lattice over the nodes of a mesh; over-relaxation is begun with where it would not serve."""
    from deepcd.solvers.grids.lattice import NoLattice, lay

    if points is None:
        raise ValueError(f'preconditioner="{AUXILIARY.name}" needs the points of the rows of A: give points=')
    try:
        lattice = lay(part, points)
    except NoLattice as error:
        if needed:
            raise ValueError(f'the points are of no use: {error}; preconditioner="auto" takes any A') from error
        return Beginning(RELAXATION, refusal=str(error))
    return Beginning(AUXILIARY, lattice=lattice)


def _obvious(part: sp.csr_array, seen: Survey) -> Plan | None:
    """Return a plan to factor a matrix without any trial: a narrow band, a tree, a network of many branches."""
    from deepcd.solvers.preconditioners.factors import plan as planning

    n, entries = part.shape[0], part.nnz
    if planning.half_bandwidth(part) <= planning.WIDEST:
        from deepcd.solvers.preconditioners.ssor import relaxation_parameter  # which loads the compiler

        plan = planning.plan(part)
        iterations = promised(relaxation_parameter(seen.dominance, seen.disorder, n)[1], math.log(1e6))
        there = iterations * costs.relaxation(costs.Size(n, entries), waits=False)
        return plan if plan.work + plan.work_per_solve < there else None
    if entries <= _BRANCHED * n and planning.share_of_branches(part) > _BRANCHES:
        plan = planning.plan(part, 2.0 * entries)
        return plan if plan.complete else None
    return None


def waits(part: sp.csr_array, seen: Survey) -> bool:
    """Return whether over-relaxation is sure to be quicker by levels.

    In an order like that of a grid, line by line, rows of few entries wait for the row before; in none, large matrices
    wait for memory, and those without triangles in their graph take more iterations.
    """
    n, disordered = part.shape[0], seen.disorder > costs.DISORDER
    if n < _FEWEST or part.nnz > (MANY if disordered else _SHORT) * n:
        return False
    from deepcd.solvers import survey
    from deepcd.solvers.preconditioners.ssor import relaxation_parameter  # which loads the compiler

    if relaxation_parameter(seen.dominance, seen.disorder, n)[1] < _ILL:
        return False
    return not disordered or ((n > _LARGE or not survey.has_triangles(part)) and not survey.is_expander(part))
