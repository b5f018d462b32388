"""How many iterations are left? What the first steps of conjugate gradients tell of the spectrum, and of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]

# Condition numbers that have grown by this factor over the last quarter of the steps will go on growing.
_GROWS = 1.25


@dataclass(frozen=True)
class Steps:
    """The steps of conjugate gradients so far, k of them.

    Attributes
    ----------
    alphas : ndarray of float64, shape (k,)
        Lengths of the steps, positive.
    betas : ndarray of float64, shape (k,)
        What the direction before was multiplied with; the first is not read.
    norm, target : float
        Norm of the residual now, and the one to be reached.
    """

    alphas: Vector
    betas: Vector
    norm: float
    target: float

    @property
    def count(self) -> int:
        """Number of steps."""
        return self.alphas.size


# Told of the steps now and then; returning True ends the iteration.
Watch = Callable[[Steps], bool]


def looks() -> Iterator[int]:
    """Yield the numbers of steps after which an iteration is looked at."""
    yield from (4, 6, 8)
    power = 8
    while True:
        yield power * 3 // 2
        yield power * 2
        power *= 2


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
    main = 1 / alphas
    main[1:] += betas[1:] / alphas[:-1]
    beside = np.sqrt(betas[1:]) / alphas[:-1]
    with np.errstate(all="ignore"):
        if not (np.isfinite(main).all() and np.isfinite(beside).all()):
            return math.inf
        from scipy.linalg import eigvalsh_tridiagonal  # takes a tenth of a second to import

        last = alphas.size - 1
        least, most = (float(eigvalsh_tridiagonal(main, beside, "i", (k, k))[0]) for k in (0, last))
    return most / least if least > 0 else math.inf


def left(steps: Steps) -> float:
    """Return about how many more iterations the target takes.

    The factor per iteration is the classical (sqrt(c) - 1) / (sqrt(c) + 1) for the condition number c of the Ritz
    values. As long as c is growing, the true one is not known, and the forecast is a lower bound; it is raised by what
    c has grown by lately.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.solvers.forecast import Steps, left
    >>> round(left(Steps(np.array([0.5, 0.4]), np.array([0.0, 0.1]), norm=1.0, target=1e-6)))
    12
    """
    if steps.norm <= steps.target:
        return 0.0
    c, quarter = condition(steps.alphas, steps.betas), max(3 * steps.count // 4, 1)
    before = condition(steps.alphas[:quarter], steps.betas[:quarter])
    if c > _GROWS * before:
        c *= c / before
    if c == math.inf:
        return math.inf
    factor = (math.sqrt(c) - 1) / (math.sqrt(c) + 1)
    return math.log(steps.norm / max(steps.target, 1e-300)) / -math.log(max(factor, 1e-9))
