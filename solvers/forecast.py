"""How many iterations are left? What the first steps of conjugate gradients tell of the spectrum, and of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]

_MORE = 5  # times the steps so far that are forecast at most
_TREND = 8  # steps after which their residuals show a trend


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


def left(steps: Steps) -> float:
    """Return about how many more iterations the target takes.

    The factor per iteration is the classical (sqrt(c) - 1) / (sqrt(c) + 1) for the condition number c of the Ritz
    values. As long as c is growing, the true one is not known, and the forecast is a lower bound, which grows with the
    steps. Towards the end the iteration is faster than that, as if the smallest eigenvalues were not
    there (van der Sluis and van der Vorst, Numerische Mathematik 48, 1986): the forecast does not exceed what the
    residuals of the second half of the steps let expect. Before that there are plateaus from which nothing follows: it
    does not exceed five times the steps so far either, so that no method is left before it has had a fair trial.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.solvers.forecast import Steps, left
    >>> round(left(Steps(np.array([0.5, 0.4]), np.array([0.0, 0.1]), np.array([0.9, 0.5]), target=1e-3)))
    3
    """
    if steps.norm <= steps.target:
        return 0.0
    c = condition(steps.alphas, steps.betas)
    factor = 1.0 if c == math.inf else (math.sqrt(c) - 1) / (math.sqrt(c) + 1)
    rate, half = -math.log(max(factor, 1e-9)), steps.count // 2
    if steps.count >= _TREND:
        rate = max(rate, math.log(steps.norms[half - 1] / steps.norm) / (steps.count - half))
    count = math.log(steps.norm / max(steps.target, 1e-300)) / rate if rate > 0 else math.inf
    return min(count, _MORE * steps.count)
