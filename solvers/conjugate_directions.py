"""Conjugate directions: the one iteration that every linear method here runs.

A preconditioner proposes a direction z = M r; z is made A-orthogonal to the last ``keep`` directions, and an exact line
search follows. With M = I and one kept direction this is the conjugate gradient method of Hestenes and Stiefel (1952);
with a network as M and two kept directions, the deep conjugate direction method of Kaneda et al. (ICLR 2023).

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
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.solution import Status

Vector = NDArray[Any]  # float64, or float32 where that is said

_EPS = float(np.finfo(np.float64).eps)
_GROWTH = 1e8  # of the residual over the initial one: about the square root of the worst condition number
_LONG = 1e4  # times the shortest step: as many digits are lost by stepping back from there


class Workspace(NamedTuple):
    """Vectors that an iteration works on; those of an operator are the same ones at every call."""

    b: Vector  # for the caller's right-hand side; not used by the iteration
    x: Vector
    p: Vector
    r: Vector
    z: Vector  # of the preconditioner's kind


class Operator(Protocol):
    """A symmetric positive (semi)definite A on its own kinds of vector: x and b in float64, r and p as it likes."""

    @property
    def roundoff(self) -> float:
        """Unit roundoff of r."""

    def zeros(self) -> Vector:
        """Return a new zero vector of the kind of x."""

    def workspace(self, M: Preconditioner) -> Workspace:
        """Return vectors to iterate on, until the next call."""

    def norm(self, r: Vector) -> float:
        """Return the norm that convergence is judged by: the Euclidean one, of many columns the largest."""

    def residual(self, b: Vector, x: Vector, r: Vector) -> float:
        """Set r <- b - A x and return the square of its norm, before r is rounded."""

    def conjugate(self, z: Vector, beta: float, p: Vector) -> float:
        """Set p <- z + beta p and return p.A p; with beta = 0 whatever p was."""

    def step(self, alpha: float, p: Vector, x: Vector, r: Vector, *, first: bool = False) -> float:
        """Set x <- x + alpha p and r <- r - alpha A p, p that of the last `conjugate`; return the square of |r|.

        The `first` step is from x = 0, whatever the vector holds.
        """

    def overlap(self, p: Vector, z: Vector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""

    def image(self, p: Vector) -> Vector:
        """Return A p, a new vector."""

    def dot(self, u: Vector, v: Vector) -> float:
        """Return u.v."""

    def project(self, v: Vector) -> bool:
        """Remove the null space of A from v in place; return whether A has one."""


class Preconditioner(Protocol):
    """An approximate inverse M of A; symmetric positive definite unless `symmetric` is False."""

    @property
    def name(self) -> str:
        """What `Solution.preconditioner` says."""

    @property
    def symmetric(self) -> bool:
        """Whether M is symmetric positive definite."""

    @property
    def linear(self) -> bool:
        """Whether M is one linear map, symmetric up to rounding, of this library's making."""

    @property
    def work(self) -> float:
        """Passes over the finest grid per iteration, outer loop included."""

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""

    def zeros(self) -> Vector:
        """Return a z of the kind that `apply` writes."""


@dataclass(frozen=True, eq=False)
class Record:
    """How an iteration went.

    Attributes
    ----------
    x : ndarray of float64
        The last iterate if converged, else the one of the smallest residual.
    status : Status
        Why it stopped.
    residuals : list of float
        Norms of the residual, the initial one first; recomputed ones where they were recomputed.
    replaced : int
        Directions that broke down and were replaced by the residual.
    flipped : int
        Directions with r.z < 0: none if M is positive definite.
    """

    x: Vector
    status: Status
    residuals: list[float]
    replaced: int
    flipped: int


def largest_eigenvalue(A: Operator, like: Vector) -> float:
    """Return the largest eigenvalue of A but for a factor of about one, by ten products with a vector like this one."""
    v = np.empty_like(like)
    v[...] = np.random.default_rng(0).standard_normal(v.size)
    v[...] = A.image(v)  # which is zero where there is no unknown
    size = 0.0
    for _ in range(10):
        length = math.sqrt(A.dot(v, v))
        if not 0 < length < math.inf:
            break
        image = A.image(v / length)
        size = math.sqrt(A.dot(image, image))
        v[...] = image
    return size


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
) -> Record:
    """Solve A x = b from x = 0. For another start, solve for the correction.

    Parameters
    ----------
    A : Operator
    b : ndarray of float64
        A vector of A's kind, without a null-space part, of magnitude about one; not changed.
    M : Preconditioner
    target : float
        It converges when the recomputed norm of b - A x is not larger. Zero asks for the attainable accuracy.
    maxiter : int
        At most this many iterations.
    keep : int, default 1
        Directions that a new one is made A-orthogonal to; 0 is steepest descent, preconditioned.
    callback : callable, optional
        Called with x after each iteration; returning True stops.
    deadline : float, default inf
        Value of `time.perf_counter` after which no further iteration starts.

    Returns
    -------
    Record
    """
    _, x, p, r, z = A.workspace(M)
    r[...] = b  # which may round b
    best = np.empty(0)
    kept: list[tuple[Vector, Vector, float]] = []
    norm = A.norm(r)
    residuals = [norm]
    # The last residual that was computed rather than recurred, and how far below it the recursion is believed: at first
    # down to the unit roundoff; once rounding has been seen, for one decade at a time.
    anchor, trust = norm, A.roundoff if A.roundoff == _EPS else 4 * A.roundoff
    lowest, lowest_is_x = norm, True  # the smallest residual so far is that of x, or of `best`
    replaced = flipped = 0
    aligned = True  # r is orthogonal to the kept directions, as the exact line search leaves it
    rz_before, pq = 0.0, 1.0
    regular = finite = True  # the last direction was made of M r; no direction so far overflowed
    status = Status.CONVERGED if norm <= target else Status.MAXITER
    shortest = math.inf

    def is_negative(product: float) -> bool:
        if not product < 0:
            return False
        square, q = A.dot(p, p), A.image(p)
        rounding = 10 * math.sqrt(p.size * square * A.dot(q, q)) + 100 * largest_eigenvalue(A, p) * square
        return product < -A.roundoff * rounding

    while status is not Status.CONVERGED and len(residuals) <= maxiter:
        if not aligned and keep == 1:  # as of the recursion: what p can do is done before the next direction leaves it
            A.step(A.dot(r, p) / pq, p, x, r)
        rz = M.apply(r, z) if finite else math.nan
        if finite and A.project(z):  # which rounds z, and the product is that of the z that is used
            rz = A.dot(r, z)
        usable = math.isfinite(rz) and rz != 0
        if usable and not M.symmetric:  # a positive definite M needs no such check, and the pass is saved
            usable = abs(rz) > _EPS * math.sqrt(A.dot(r, r) * A.dot(z, z))
        if not usable:
            replaced += 1
            np.copyto(z, r, casting="same_kind")
            rz = A.dot(r, z)
        flipped += rz < 0
        if keep > 1:
            np.copyto(p, z)
            for p_old, q_old, pq_old in kept:
                p -= A.dot(q_old, p) / pq_old * p_old
        beta = 0.0
        if rz_before and keep == 1:
            # The short form relies on all residuals before, and a recomputed one has forgotten them.
            short = M.linear and aligned and usable and regular
            beta = rz / rz_before if short else -A.overlap(p, z) / pq
        pq = A.conjugate(p if keep > 1 else z, beta, p)
        regular = usable
        rp = rz if aligned and keep <= 1 else A.dot(r, p)
        if not (0 < pq < math.inf and math.isfinite(rp)):
            if is_negative(pq):
                status = Status.INDEFINITE_MATRIX
                break
            replaced += usable
            regular, finite = False, finite and math.isfinite(pq) and math.isfinite(rp)
            np.copyto(p, r)
            rp, pq = A.dot(r, r), A.conjugate(p, 0.0, p)
            if not 0 < pq < math.inf:
                if math.isfinite(pq):
                    status = Status.INDEFINITE_MATRIX if is_negative(pq) else Status.BREAKDOWN
                else:
                    status = Status.NOT_FINITE
                break
        rz_before = rz
        alpha = rp / pq
        shortest = min(shortest, abs(alpha))
        saved = lowest_is_x and abs(alpha) > _LONG * shortest
        if saved:
            best = best if best.size else A.zeros()
            np.copyto(best, x)
        rr = A.step(alpha, p, x, r, first=len(residuals) == 1)
        aligned = True
        if keep > 1:
            kept = [*kept[len(kept) == keep :], (p.copy(), A.image(p), pq)]

        norm = math.sqrt(rr) if math.isfinite(rr) else math.inf
        residuals.append(norm)
        if norm <= max(target, trust * anchor):
            norm = math.sqrt(A.residual(b, x, r))
            A.project(r)
            residuals[-1] = norm
            aligned = False
            if norm <= target:
                status = Status.CONVERGED
            elif norm > 0.5 * anchor:
                status = Status.ATTAINABLE_ACCURACY
            anchor, trust = norm, 0.1 if A.roundoff == _EPS else 1e3 * A.roundoff
            lowest = norm  # what the recursion said before is void
        if norm <= lowest:
            lowest, lowest_is_x = norm, True
        elif lowest_is_x:  # the iterate before this one was the best: step back into the spare vector
            if not saved:
                best = best if best.size else A.zeros()
                np.multiply(p, -alpha, out=best)
                best += x
            lowest_is_x = False
        stop = callback is not None and callback(x) is True
        if status is not Status.MAXITER:
            break
        if norm > _GROWTH * residuals[0]:
            status = Status.BREAKDOWN if math.isfinite(norm) else Status.NOT_FINITE
            break
        if stop:
            status = Status.CALLBACK
            lowest_is_x = True
            break
        if time.perf_counter() > deadline:
            status = Status.TIMEOUT
            break

    if len(residuals) == 1:
        x[...] = 0
    if flipped and M.symmetric and status in (Status.MAXITER, Status.BREAKDOWN):
        status = Status.INDEFINITE_PRECONDITIONER
    return Record(x if lowest_is_x else best, status, residuals, replaced, flipped)
