"""From the cheapest method to the strongest: what a matrix without a grid is solved with, and when that changes.

Over-relaxation is begun with, since it needs no set-up: in place, then on rows that are numbered by levels. Its first
steps tell how many more there will be (`forecast.py`), and counts tell what those cost (`costs.py`). It is left where
something else promises to be cheaper with all its set-up; what takes over is left in turn where it stagnates. The
iterate so far is where the next method starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from deepcd.solvers import costs
from deepcd.solvers.arguments import norm
from deepcd.solvers.forecast import Steps, condition, left
from deepcd.solvers.options import Config
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import Parts
from deepcd.solvers.preconditioners.choice import CHOLESKY, HUB, IRREGULAR, OBTUSE, Couplings, choose, look
from deepcd.solvers.preparation import exchange, prepare, renumbered
from deepcd.solvers.prepared import F64, DType, Prepared, Solvable
from deepcd.solvers.recipes import ALGEBRAIC, AUXILIARY, DIRECT, RELAXATION, Recipe
from deepcd.solvers.solution import Attempt
from deepcd.solvers.structure import Structure, with_grid

if TYPE_CHECKING:
    from deepcd.solvers.preconditioners.factors.plan import Plan

Rung = Literal["relaxation", "levels", "grid", "multigrid", "factors"]

_REASONS: dict[Rung, str] = {
    "relaxation": "with over-relaxation they are fewer",
    "levels": "on rows numbered by levels they cost less",
    "grid": "there is a grid behind the matrix",
    "multigrid": "with a stronger preconditioner a solve costs less in all",
    "factors": "factors cost less",
}

SOLVES = 4  # solves that the set-up of a system which is kept is shared by
_SHORTEST, _SHORT = 8.0, 20.0  # entries per row for which a numbering pays: in good order, and in none
_SMALL = 2_000  # unknowns below which nothing waits for memory, and all of this takes less time than a thought
_TRIAL = 32  # largest number of steps of the trial at set-up
_WOVEN = 0.6  # share of the iterations that a numbering by levels leaves where no rows of a level are coupled
_RESTART = 3.0  # times that a numbering must pay where rows are in good order: who begins anew loses steps
_RELAXED = 2.2  # how many times fewer iterations over-relaxation takes than the diagonal alone
_EXACT = 1e-12  # relative tolerance below which all digits are asked for, of small components, too
_EXACTLY = 30  # how many times more factors may cost then
_AGAIN = 4  # times more that factors must be worth for a plan that was given up to be made once more
_LEAST = 20  # least cost of an entry of factors
_SINGULAR = 1e14  # condition number from which steps may only have made x large, along null vectors: it is not kept
_SURELY = 1.25  # times cheaper that factors must promise to be than simple iterations, whose forecasts are rough
_CLEARLY = 1.5  # times cheaper that factors must promise to be than another strong preconditioner
_AT_WORK = 3.0  # times cheaper that factors must promise to be than cycles, which go on better than they begin
_LONGER, _WEAK = 2.0, 0.3  # times as many simple iterations as are to be expected where so many couplings are weak
_FAIR = 13  # steps before which forecasts are too rough for a decision that takes as long as many steps
_PATIENT = 15  # steps before which a lattice over a mesh is not left
_FEWER = 1.4  # times cheaper that relaxation must promise to be than the diagonal, whose gain is rough


class Ladder:
    """The preparation of a matrix that is in use.

    Parameters
    ----------
    structure : Structure
        The matrix and what is known of it.
    config : Config
        How to prepare it; for "auto" without a grid the preparation may change.
    check : bool
        Whether to probe a matrix without a grid for symmetry and definiteness; over-relaxation is begun without.
    previous : Ladder, optional
        That of a matrix with the same pattern, whose preparation may be reused; it is not changed.
    once : bool
        Whether there will be one solve only.

    Attributes
    ----------
    prepared : Solvable or Unsolvable
        The preparation.
    structure : Structure
        The matrix and what is made use of.
    """

    prepared: Prepared

    def __init__(
        self, structure: Structure, config: Config, check: bool, previous: Ladder | None, *, once: bool
    ) -> None:
        self.structure, self._config, self._check, self._once = structure, config, check, once
        self._recipe, self._extra = config.recipe, 0.0
        self._next: tuple[Rung, str] | None = None
        self._plan: Plan | None = None  # of factors, which was given up if it was not worth so much
        self._worth = 0.0
        self._exacting = self._futile = False
        self._differ: Couplings | None = None
        self._narrow: bool | None = None
        self._depth: int | None = None  # number of levels of rows
        by_levels = None
        if previous is not None and previous.climbs and structure.embedding is None:
            by_levels, self._recipe = previous.prepared.by_levels, previous._recipe
        before = None if previous is None else previous.prepared
        self.prepared = prepare(
            structure, config, recipe=self._recipe, check=check, previous=before, by_levels=by_levels
        )
        if self.prepared.refusal:
            reasons = filter(None, (structure.no_grid, f"the points are of no use: {self.prepared.refusal}"))
            self.structure = replace(structure, points=None, no_grid="; ".join(reasons))
        if previous is None and not once and self.climbs and self.prepared.is_simple:
            self._probe()
            if self.prepared.solvable and self.prepared.preconditioner != "jacobi":
                self._try()

    @property
    def climbs(self) -> bool:
        """Whether the preparation may change."""
        automatic = self._config.recipe is None and ALGEBRAIC in self._config.candidates
        return automatic and self.prepared.solvable and not self.prepared.on_grid

    @property
    def is_undecided(self) -> bool:
        """Whether the next right-hand side decides what the matrix is solved with."""
        return self._once and self.climbs and self.prepared.is_simple

    def _try(self) -> None:
        """Climb as far as a right-hand side of random numbers leads."""
        parts = self._parts
        b = np.zeros(self.structure.n)
        part = np.random.default_rng(0).standard_normal(b[parts.rows].size)
        parts.operator.project(part)
        b[parts.rows] = part
        target = 1e-6 * norm(b)
        self._run(b, None, Limits(target, _TRIAL, math.inf, None), np.float64, lambda: _TRIAL)

    def _probe(self) -> None:
        """Probe the matrix, if that is still to be done."""
        if self._check and isinstance(self.prepared, Solvable):
            self.prepared = exchange(self.prepared, self.structure, self._config, None, check=True)
        self._check = False

    def solve(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType, patience: Callable[[], int]) -> Outcome:
        """Solve A x = b, on this rung or on higher ones; see `Solvable.solve`.

        On a grid that is found on the way, there are only so many iterations as `patience` says then.
        """
        if not self.climbs:
            return self.prepared.solve(b, x0, limits, dtype)
        self._exacting = limits.target < _EXACT * norm(b)
        outcome = self._run(b, x0, limits, dtype, patience)
        done = len(outcome.residuals) - 1
        if outcome.is_puzzling and self._check:
            self._probe()
            if not self.prepared.solvable:
                return outcome.then(self.prepared.solve(b, outcome.x.astype(np.float64), limits, dtype))
        if self.prepared.is_simple and not self._once and done:
            self._weigh(done, limits.target / outcome.residuals[0])
        return outcome

    def _run(self, b: F64, x0: F64 | None, limits: Limits, dtype: DType, patience: Callable[[], int]) -> Outcome:
        """Solve, and climb when `_look` says so."""
        attempts: list[Attempt] = []
        outcome: Outcome | None = None
        while True:
            if self._next is not None:
                done = 0 if outcome is None else len(outcome.residuals) - 1 - sum(a.iterations for a in attempts)
                attempts.append(Attempt(self.prepared.preconditioner, done, self._next[1]))
                self._climb()
                if self.prepared.on_grid:
                    limits = replace(limits, maxiter=min(limits.maxiter, patience()))
            higher = self.climbs and self.prepared.preconditioner != "direct"  # nothing is above factors
            now = self.prepared.solve(b, x0, replace(limits, watch=self._look if higher else None), dtype)
            outcome = now if outcome is None else outcome.then(now)
            if self._next is None:
                return replace(outcome, attempts=tuple(attempts))
            rest = limits.maxiter - len(now.residuals) + 1
            if not (self._futile or self._next[0] == "factors"):  # these need no start, and it may hold null vectors
                x0 = now.x.astype(np.float64, copy=False)
            limits = replace(limits, maxiter=rest)

    def _weigh(self, iterations: int, reduction: float) -> None:
        """Take note of what a solve cost beyond one with a stronger preconditioner; many of them pay for its set-up."""
        size, seen, digits = self._size, self._couplings, max(-math.log10(max(reduction, 1e-16)), 0.0)
        cycles = costs.multigrid_iterations(digits, seen) * costs.multigrid_cycle(size, seen)
        self._extra += max(iterations * self._step - cycles, 0.0)
        if self._extra > costs.multigrid_setup(size, seen):
            self._next = "multigrid", "There were so many solves that the set-up of a stronger preconditioner pays."

    @property
    def _parts(self) -> Parts:
        assert isinstance(self.prepared, Solvable)
        return self.prepared.parts

    @property
    def _size(self) -> costs.Size:
        A = self._parts.operator.A
        disordered = not self.prepared.by_levels and getattr(self._parts.M, "disorder", 0.0) > costs.DISORDER
        return costs.Size(A.shape[0], A.nnz, disordered)

    @property
    def _step(self) -> float:
        """The cost of a simple iteration."""
        if self.prepared.preconditioner == "jacobi":
            return costs.diagonal(self._size)
        return costs.relaxation(self._size, waits=not (self.prepared.by_levels or self._size.disordered))

    def _look(self, steps: Steps) -> bool:
        """Return whether to climb, and keep in mind where to and why."""
        remaining = left(steps, getattr(self._parts.M, "bound", 0.0), self._size.n)
        better = self._better_than_relaxation if self.prepared.is_simple else self._better
        rung = better(steps, remaining)
        if rung is not None:
            self._futile = condition(steps.alphas, steps.betas) > _SINGULAR
            self._next = rung, f"About {remaining:.0f} more iterations were to be expected, and {_REASONS[rung]}."
        return rung is not None

    def _better_than_relaxation(self, steps: Steps, remaining: float) -> Rung | None:
        """Return what promises to be cheaper than `remaining` simple iterations."""
        size, step, share = self._size, self._step, 1 if self._once else SOLVES
        here = remaining * step
        if self._exacting and self._factors(_EXACTLY * (remaining + steps.count) * step, share) < math.inf:
            return "factors"
        if here < costs.EXCHANGE / share:
            return None
        digits = math.log10(steps.norm / max(steps.target, 1e-16 * steps.norm))
        levels = self._cost_by_levels(remaining, here, share)
        if self.structure.unsought and min(here, levels) > costs.grid_setup(size) + digits * costs.grid_cycle(size):
            self.structure = with_grid(self.structure, self._config)
            if self.structure.on_grid is not None:
                return "grid"
        if self.prepared.preconditioner == "jacobi":
            there = remaining / _RELAXED * costs.relaxation(size, waits=True)
            return "relaxation" if here > _FEWER * there + costs.packing(size) + costs.EXCHANGE else None
        if self._is_narrow and self._factors(here, share) < here:
            return "factors"
        least = min(costs.least_factors(size, size.n), costs.multigrid_setup(size)) / share
        if steps.count < _FAIR or here < _SURELY * least:
            return "levels" if here > levels else None
        multigrid = self._multigrid(digits, share)
        seen = self._couplings
        if seen.positive < OBTUSE and (seen.rough >= IRREGULAR or seen.weak >= _WEAK):
            here, levels = _LONGER * here, _LONGER * levels
        if _SURELY * multigrid > levels and here > levels:
            return "levels"
        # Sampled factors are what exact ones would be on anything like a tree, and cost less to plan.
        margin = _AT_WORK if choose(seen) == CHOLESKY else _CLEARLY
        worth = min(here / _SURELY, multigrid / margin)
        if self._factors(worth, share) < worth:
            return "factors"
        return "multigrid" if here > _SURELY * multigrid else None

    def _cost_by_levels(self, remaining: float, here: float, share: float) -> float:
        """Return what so many iterations cost on rows numbered by levels, infinity where that is not worth a thought.

        Where no rows of a level are coupled, this saves iterations. Where all rows are near each other in the graph, no
        numbering brings neighbours together.
        """
        from deepcd.solvers.survey import has_triangles, is_expander

        size, A = self._size, self._parts.operator.A
        short = size.entries <= (_SHORT if size.disordered else _SHORTEST) * size.n
        if self.prepared.by_levels or self.prepared.preconditioner != "ssor" or size.n <= _SMALL or not short:
            return math.inf
        set_up = costs.EXCHANGE + costs.numbering(size) / share
        there = remaining * costs.relaxation(costs.Size(size.n, size.entries), waits=False)
        if here < set_up + _WOVEN * there:
            return math.inf
        if is_expander(A):
            return math.inf
        if not size.disordered:
            return _RESTART * set_up + there
        return set_up + (1.0 if has_triangles(A) else _WOVEN) * there

    @property
    def _is_narrow(self) -> bool:
        """Whether the entries lie within a band that is factored as one, without an ordering."""
        from deepcd.solvers.preconditioners.factors.plan import WIDEST, half_bandwidth

        if self._narrow is None:
            self._narrow = half_bandwidth(self._parts.operator.A) <= WIDEST
        return self._narrow

    @property
    def _couplings(self) -> Couplings:
        """How the off-diagonal entries differ; looked at once."""
        if self._differ is None:
            self._differ = look(self._parts.operator.A)
        return self._differ

    def _better(self, steps: Steps, remaining: float) -> Rung | None:
        """Return what promises to be clearly cheaper than so many iterations with a strong preconditioner."""
        size = self._size
        if self.prepared.preconditioner == AUXILIARY.name:
            return self._better_than_lattice(steps, remaining)
        if steps.count < _FAIR:
            return None
        here = remaining * costs.multigrid_cycle(size, self._couplings) / _AT_WORK
        return "factors" if self._factors(here, 1 if self._once else SOLVES) < here else None

    def _better_than_lattice(self, steps: Steps, remaining: float) -> Rung | None:
        """Return the rung of strong preconditioners where the lattice over a mesh turns out not to serve it."""
        if steps.count < _PATIENT:
            return None
        size, share = self._size, 1 if self._once else SOLVES
        digits = math.log10(steps.norm / max(steps.target, 1e-16 * steps.norm))
        here = remaining * costs.lattice_cycle(size)
        return "multigrid" if here > _CLEARLY * self._multigrid(digits, share) else None

    def _multigrid(self, digits: float, share: int) -> float:
        """Return what a stronger preconditioner costs, with its iterations and its share of the set-up."""
        size, seen = self._size, self._couplings
        cycles = costs.multigrid_iterations(digits, seen) * costs.multigrid_cycle(size, seen)
        return costs.multigrid_setup(size, seen) / share + cycles

    def _factors(self, worth: float, share: int) -> float:
        """Return what factors cost, infinity where planning them does not promise to be worth so much."""
        from deepcd.solvers.kernels.survey import count_levels
        from deepcd.solvers.preconditioners.factors.memory import available
        from deepcd.solvers.preconditioners.factors.plan import plan

        size, A = self._size, self._parts.operator.A
        if self._plan is None or (not self._plan.complete and worth > _AGAIN * self._worth):
            if not self._is_narrow and _SURELY * costs.least_factors(size, size.n) > share * worth:
                return math.inf
            if self._depth is None:
                self._depth = count_levels(A.indptr, A.indices, int(HUB * size.entries / size.n))
            if not self._is_narrow and _SURELY * costs.least_factors(size, self._depth) > share * worth:
                return math.inf
            self._plan, self._worth = plan(A, share * worth / _LEAST), worth
        if not self._plan.complete or 2 * self._plan.bytes > available():
            return math.inf
        return (self._plan.work + costs.EXCHANGE) / share + self._plan.work_per_solve

    def strengthen(self) -> None:
        """Leave a preconditioner that is begun with for one that does more in one application."""
        if self.climbs and self.prepared.is_simple:
            self._exchange(ALGEBRAIC)

    def _climb(self) -> None:
        """Replace the preparation by what `_look` found to be better."""
        assert self._next is not None
        rung, self._next = self._next[0], None
        if rung == "grid":
            self.prepared = prepare(self.structure, self._config)
            self._check = False  # a matrix with a grid behind it is symmetric, and has cells without an equation
            return
        if rung == "levels":
            assert isinstance(self.prepared, Solvable)
            self._recipe = RELAXATION
            self._plan, self._worth, self._narrow = None, 0.0, None  # which were those of another numbering
            self.prepared = renumbered(self.prepared, self.structure, self._config)
            return
        self._exchange({"relaxation": RELAXATION, "factors": DIRECT, "multigrid": ALGEBRAIC}[rung])

    def _exchange(self, recipe: Recipe) -> None:
        assert isinstance(self.prepared, Solvable)
        self._recipe = recipe
        self.prepared = exchange(
            self.prepared,
            self.structure,
            self._config,
            recipe,
            check=self._check,
            plan=self._plan,
            couplings=self._differ,
        )
        self._check = False
