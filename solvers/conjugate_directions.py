"""Conjugate directions: the one iteration that every linear method here runs.

A preconditioner proposes a direction z = M r; z is made A-orthogonal to the last ``keep`` directions, and an exact line
search follows. With M = I and one kept direction this is the conjugate gradient method of Hestenes and Stiefel (1952);
with a network as M and two kept directions, the deep conjugate direction method of Kaneda et al. (ICML 2023).

How this differs from the textbook's PCG:

1. Unless M is known to be linear and r is that of the recursion, beta = -(A p).z / p.A p (the flexible form), which
   needs no exactly symmetric and constant M.
2. The residual is recomputed from b and x before convergence is believed; if it is larger than the recursion says, the
   recursion goes on from the recomputed one (van der Vorst and Ye, SIAM J. Sci. Comput. 22, 2000), made orthogonal to
   the last direction.
3. The iterate of the smallest residual is returned when there is no convergence.
4. Where M r is of no use, r itself takes its place, conjugate to the directions before like any other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepcd.solvers.forecast import Steps, Watch, looks
from deepcd.solvers.solution import Status
from deepcd.solvers.space import Operator, Preconditioner, Vector

_EPS = float(np.finfo(np.float64).eps)
# A residual this many times the initial one is divergence: about the square root of the worst condition number.
_GROWTH = 1e8
# A step this many times the shortest one is too long to be taken back by arithmetic, which would lose as many digits.
_LONG = 1e4


@dataclass(frozen=True, eq=False)
class Record:
    """How an iteration went.

    Attributes
    ----------
    x : vector of float64
        The last iterate if the iteration converged, else the one of the smallest residual.
    status : Status
        Why the iteration stopped.
    residuals : list of float
        Norms of the residual, the initial one first; recomputed ones where they were recomputed.
    replaced : int
        Number of directions that broke down and were replaced by the residual.
    flipped : int
        Number of directions with r.z < 0: none if M is positive definite.
    """

    x: Vector
    status: Status
    residuals: list[float]
    replaced: int
    flipped: int


def spectral_norm(A: Operator, like: Vector) -> float:
    """Return the norm of A but for a factor of about one, by ten products with a vector like this one."""
    space = A.space
    v = space.random(like, seed=0)
    space.copy(A.image(v), out=v)  # which is zero where there is no unknown
    size = 0.0
    for _ in range(10):
        length = math.sqrt(A.dot(v, v))
        if not 0 < length < math.inf:
            break
        space.divide(v, length)
        image = A.image(v)
        size = math.sqrt(A.dot(image, image))
        space.copy(image, out=v)
    return size


class _Search:
    """The direction p that the iteration searches along, and what the next one is made orthogonal to.

    Attributes
    ----------
    rz, rp, pq, beta : float
        r.M r, r.p and p.A p of the present direction, and how much of the one before it holds.
    replaced, flipped : int
        See `Record`.
    """

    def __init__(self, A: Operator, M: Preconditioner, p: Vector, r: Vector, z: Vector, keep: int) -> None:
        self.A, self.M, self.p, self.r, self.z, self.keep = A, M, p, r, z, keep
        self._kept: list[tuple[Vector, Vector, float]] = []  # p, A p and p.A p of directions before
        self.rz, self.rp, self.pq, self.beta = 0.0, 0.0, 1.0, 0.0
        self._regular = self._finite = True  # the last direction was made of M r; none so far has overflowed
        self.replaced = self.flipped = 0

    def turn(self, aligned: bool) -> Status | None:
        """Turn p to the next direction; return None, or why there is none.

        Parameters
        ----------
        aligned : bool
            r is orthogonal to the kept directions, as the exact line search leaves it.
        """
        A, p, z, keep, before = self.A, self.p, self.z, self.keep, self.rz
        usable = self._propose()
        rz, beta = self.rz, 0.0
        if keep > 1:
            A.space.copy(z, out=p)
            for p_old, q_old, pq_old in self._kept:
                A.space.combine(-A.dot(q_old, p) / pq_old, p_old, 1.0, p, p)
            z = p
        elif before and keep:
            # The short form relies on all residuals before, and a recomputed one has forgotten them.
            short = aligned and usable and self._regular and self.M.linear
            beta = rz / before if short else -A.overlap(p, z) / self.pq
        pq, self.beta = A.conjugate(z, beta, p), beta
        self.pq = pq
        rp = self.rp = rz if aligned and keep <= 1 else A.dot(self.r, p)
        self._regular = usable
        if 0 < pq < math.inf and math.isfinite(rp):
            return None
        if self._is_negative():
            return Status.INDEFINITE_MATRIX
        self.replaced += usable
        return self._fall_back()

    def _propose(self) -> bool:
        """Set z to M r, or to r where that is of no use, and `rz` to r.z; return whether M r was of use."""
        A, M, r, z, rz = self.A, self.M, self.r, self.z, math.nan
        if self._finite:
            rz = M.apply(r, z)
            if A.project(z):  # which rounds z, and the product is that of the z that is used
                rz = A.dot(r, z)
        usable = math.isfinite(rz) and rz != 0
        if usable and not M.symmetric:  # a positive definite M needs no such check, and the pass is saved
            usable = abs(rz) > _EPS * math.sqrt(A.dot(r, r) * A.dot(z, z))
        if not usable:
            self.replaced += 1
            A.space.copy(r, out=z)
            rz = A.dot(r, z)
        if rz < 0:
            self.flipped += 1
        self.rz = rz
        return usable

    def _fall_back(self) -> Status | None:
        """Turn p to the residual; return None, or why that is no direction either."""
        A, p = self.A, self.p
        self._regular = False
        self._finite = self._finite and math.isfinite(self.pq) and math.isfinite(self.rp)
        A.space.copy(self.r, out=p)
        self.rp, self.pq = A.dot(self.r, self.r), A.conjugate(p, 0.0, p)
        if 0 < self.pq < math.inf:
            return None
        if not math.isfinite(self.pq):
            return Status.NOT_FINITE
        return Status.INDEFINITE_MATRIX if self._is_negative() else Status.BREAKDOWN

    def _is_negative(self) -> bool:
        """Return whether p.A p is negative beyond what rounding explains."""
        if not self.pq < 0:
            return False
        A, p = self.A, self.p
        square, q = A.dot(p, p), A.image(p)
        rounding = 10 * math.sqrt(p.size * square * A.dot(q, q)) + 100 * spectral_norm(A, p) * square
        return self.pq < -A.roundoff * rounding

    def retain(self) -> None:
        """Keep p, along which a step was made, for later directions to be orthogonal to."""
        first = len(self._kept) == self.keep
        self._kept = [*self._kept[first:], (self.A.space.copy(self.p), self.A.image(self.p), self.pq)]


class _Recursion:
    """How far the residual that the recursion carries along is believed.

    At first it is believed down to the unit roundoff; once rounding has been seen, for one decade at a time. In
    float32, where r is rounded relative to itself, that is for four and for a thousand roundoffs.

    Attributes
    ----------
    believed : float
        At this norm, or below it, the residual is computed anew.
    aligned : bool
        r is that of the recursion, and so orthogonal to the kept directions.
    """

    def __init__(self, A: Operator, norm: float, target: float) -> None:
        self._A, self._target, self.aligned = A, target, True
        self._anchor = norm  # of the last residual that was computed rather than recurred
        self.believed = max(target, (A.roundoff if A.roundoff == _EPS else 4 * A.roundoff) * norm)

    def recompute(self, b: Vector, x: Vector, r: Vector) -> tuple[float, Status]:
        """Set r to b - A x; return its norm, and a status: MAXITER to go on."""
        A, status = self._A, Status.MAXITER
        norm = math.sqrt(A.residual(b, x, r))
        A.project(r)
        if norm <= self._target:
            status = Status.CONVERGED
        elif norm > 0.5 * self._anchor:
            status = Status.ATTAINABLE_ACCURACY
        self._anchor, self.aligned = norm, False
        self.believed = max(self._target, (0.1 if A.roundoff == _EPS else 1e3 * A.roundoff) * norm)
        return norm, status


class _Watched:
    """The coefficients of all steps, which a watcher is told now and then."""

    def __init__(self, watch: Watch | None, target: float) -> None:
        self._watch, self._target, self._when = watch, target, looks()
        self._steps: list[tuple[float, float, float]] = []
        self._look = next(self._when)

    def ends(self, alpha: float, beta: float, norm: float) -> bool:
        """Take note of a step; return whether the watcher ends the iteration."""
        self._steps.append((alpha, beta, norm))
        if self._watch is None or len(self._steps) < self._look:
            return False
        self._look = next(self._when)
        alphas, betas, norms = np.array(self._steps).T.copy()
        return self._watch(Steps(alphas, betas, norms, self._target))


class _Best:
    """The iterate of the smallest residual: x as long as the residual falls, then a copy of the one before.

    Attributes
    ----------
    lowest : float
        The smallest residual so far.
    iterate : vector
        The iterate that it is of.
    shortest, long : float
        The length of the shortest step so far, and a length too large beside it for a step to be taken back.
    """

    def __init__(self, A: Operator, x: Vector, norm: float) -> None:
        self._A, self._x, self.iterate, self.lowest = A, x, x, norm
        self._spare: Vector = None
        self._saved = False
        self.shortest = self.long = math.inf

    def before(self, length: float) -> None:
        """Take note of a step that is shorter than all before; save x if it is too long to be taken back."""
        if length < self.shortest:
            self.shortest, self.long = length, _LONG * length
        elif length > self.long and self.iterate is self._x:
            self._A.space.copy(self._x, out=self._room())
            self._saved = True

    def after(self, norm: float, alpha: float, p: Vector) -> None:
        """Take note of the residual's norm after a step alpha p, which is taken back if the iterate before is best."""
        if norm <= self.lowest:
            self.lowest, self.iterate = norm, self._x
        elif self.iterate is self._x:
            self.iterate = self._room()
            if not self._saved:
                self._A.space.combine(1.0, self._x, -alpha, p, self.iterate)
        self._saved = False

    def _room(self) -> Vector:
        if self._spare is None:
            self._spare = self._A.zeros()
        return self._spare


@np.errstate(over="ignore", invalid="ignore")  # the status says it
def conjugate_directions(
    A: Operator,
    b: Vector,
    M: Preconditioner,
    target: float,
    *,
    maxiter: int,
    keep: int = 1,
    callback: Callable[[Vector], object] | None = None,
    deadline: float = math.inf,
    watch: Watch | None = None,
) -> Record:
    """Solve A x = b from x = 0. For another start, solve for the correction.

    Parameters
    ----------
    A : Operator
    b : vector of float64
        Right-hand side of A's kind, without a null-space part, of magnitude about one; not changed.
    M : Preconditioner
    target : float
        It converges when the recomputed norm of b - A x is not larger. Zero asks for the attainable accuracy.
    maxiter : int
        At most this many iterations.
    keep : int, default 1
        Number of directions that a new one is made A-orthogonal to; 0 is steepest descent, preconditioned.
    callback : callable, optional
        Called with x after each iteration; returning True stops.
    deadline : float, default inf
        Value of `time.perf_counter` after which no further iteration starts.
    watch : callable, optional
        Told of the steps now and then, see `forecast`; returning True stops with the status MAXITER.

    Returns
    -------
    Record
    """
    _, x, p, r, z = A.workspace(M)
    A.space.copy(b, out=r)  # which may round b
    norm = A.norm(r)
    residuals, limit = [norm], _GROWTH * norm
    search, recursion, best = _Search(A, M, p, r, z, keep), _Recursion(A, norm, target), _Best(A, x, norm)
    status, watched = Status.CONVERGED if norm <= target else Status.MAXITER, _Watched(watch, target)
    while status is Status.MAXITER and len(residuals) <= maxiter:
        if keep == 1 and not recursion.aligned:  # what p can do is done before the next direction leaves it
            A.step(A.dot(r, p) / search.pq, p, x, r)
        failure = search.turn(recursion.aligned)
        if failure is not None:
            status = failure
            break
        alpha = search.rp / search.pq
        if not best.shortest <= abs(alpha) <= best.long:
            best.before(abs(alpha))
        rr = A.step(alpha, p, x, r, first=len(residuals) == 1)
        if keep > 1:
            search.retain()
        norm, recursion.aligned = math.sqrt(rr) if math.isfinite(rr) else math.inf, True
        if norm <= recursion.believed:
            norm, status = recursion.recompute(b, x, r)
            best.lowest = norm  # what the recursion said before is void
        residuals.append(norm)
        best.after(norm, alpha, p)
        stopped = callback is not None and A.space.agree(callback(x) is True)
        if status is Status.MAXITER and (stopped or norm > limit or deadline < math.inf):
            status = _ended(A, norm > limit, norm, stopped, deadline)
        if watch and status is Status.MAXITER and len(residuals) <= maxiter and watched.ends(alpha, search.beta, norm):
            break
    if len(residuals) == 1:
        A.space.clear(x)
    if search.flipped and M.symmetric and status in (Status.MAXITER, Status.BREAKDOWN):
        status = Status.INDEFINITE_PRECONDITIONER
    return Record(x if status is Status.CALLBACK else best.iterate, status, residuals, search.replaced, search.flipped)


def _ended(A: Operator, grown: bool, norm: float, stopped: bool, deadline: float) -> Status:
    """Return why the iteration ends here; MAXITER if it goes on."""
    if grown:
        return Status.BREAKDOWN if math.isfinite(norm) else Status.NOT_FINITE
    if stopped:
        return Status.CALLBACK
    if deadline < math.inf and A.space.agree(time.perf_counter() > deadline):
        return Status.TIMEOUT
    return Status.MAXITER
