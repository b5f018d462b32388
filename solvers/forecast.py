"""What the first steps of conjugate gradients tell: how many are left, and how ill-conditioned the matrix is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]

# Steps that a plateau is taken to last, unless there were very many so far: at least the first number, and the second
# times the cube root of the number of unknowns; but no more than so many times the steps so far.
_PLATEAU, _GROWTH, _TIMES = 100, 6.6, 12


@dataclass(frozen=True)
class Steps:
    """The steps of conjugate gradients so far, k of them.

    Attributes
    ----------
    alphas : ndarray of float64, shape (k,)
        Lengths of the steps, positive.
    betas : ndarray of float64, shape (k,)
        What the direction before was multiplied with; the first is not read.
    norms : ndarray of float64, shape (k,)
        Norms of the residual after them.
    target : float
        The norm to be reached.
    """

    alphas: Vector
    betas: Vector
    norms: Vector
    target: float

    @property
    def norm(self) -> float:
        """Norm of the residual now."""
        return float(self.norms[-1])

    @property
    def count(self) -> int:
        """Number of steps."""
        return self.alphas.size


# Told of the steps now and then; returning True ends the iteration.
Watch = Callable[[Steps], bool]


def looks() -> Iterator[int]:
    """Yield the numbers of steps after which an iteration is looked at: 5, 8, 13, 21 and so on."""
    now, following = 5, 8
    while True:
        yield now
        now, following = following, now + following


def condition(alphas: Vector, betas: Vector) -> float:
    """Return the ratio of the largest to the smallest Ritz value of M A, after k steps of conjugate gradients.

    The Ritz values are the eigenvalues of the tridiagonal matrix of Lanczos, made of the steps' coefficients (Golub and
    Van Loan, Matrix Computations, 4th edition, section 11.3.8). They lie within the spectrum, and soon reach its ends.

    Parameters
    ----------
    alphas, betas : ndarray of float64, shape (k,)
        See `Steps`.
    """
    if alphas.size == 1:
        return 1.0
    from scipy.linalg.lapack import dsterf  # takes a tenth of a second to import

    main = 1 / alphas
    main[1:] += betas[1:] / alphas[:-1]
    beside = np.sqrt(betas[1:]) / alphas[:-1]
    if not math.isfinite(main.sum() + beside.sum()):
        return math.inf
    values, failed = dsterf(main, beside)
    return float(values[-1] / values[0]) if values[0] > 0 and not failed else math.inf


def left(steps: Steps, bound: float = 0.0, n: int = 0) -> float:
    """Return about how many more iterations the target takes, if they go on as the second half of those so far.

    The residual of conjugate gradients falls fast at first where b is smooth, and then more slowly. So where the
    condition number promises more, the geometric mean of both counts. Plateaus end, and nothing says when: twelve times
    the steps so far are the most, a number that grows slowly with the size, or what is promised, after a few steps, and
    as many as so far after very many. So a method that cannot succeed costs no more than what takes its place, and
    others get their chance. The forecasts are off by a factor of two in the root mean square. Those that the condition
    number of the Ritz values leads to are no better, and most of them too low, since small eigenvalues are found late.

    Parameters
    ----------
    steps : Steps
        The steps so far, at least two.
    bound : float, default 0
        What the condition number of M A is expected to be, 0 if nothing is known.
    n : int, default 0
        Number of unknowns, 0 if there are few.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.solvers.forecast import Steps, left
    >>> some = np.ones(4)
    >>> round(left(Steps(some, some, np.array([1e-1, 1e-2, 1e-3, 1e-4]), target=1e-6)))
    2
    """
    if steps.norm <= steps.target:
        return 0.0
    digits = math.log(steps.norm / max(steps.target, 1e-300))  # natural ones
    half = np.log(steps.norms[(steps.count - 1) // 2 :])
    place = np.arange(half.size) - 0.5 * (half.size - 1)
    rate = -float(place @ half) / float(place @ place)
    more = promised(bound, digits)
    most = min(_TIMES * steps.count, max(_PLATEAU, _GROWTH * n ** (1 / 3), more, steps.count))
    count = min(digits / rate if rate > 0 else math.inf, most)
    return count if more < count else math.sqrt(count * more)


def promised(condition: float, digits: float) -> float:
    """Return how many iterations a condition number lets expect for a reduction by exp(digits).

    Twice as many as the bound on the error in the norm of A has (Golub and Van Loan, equation 11.3.27): the condition
    numbers that are known before an iteration are estimates from below.
    """
    return math.sqrt(condition) * (digits + math.log(2))
