"""The Gauss-Newton method with damping and geodesic acceleration, for sums of squares of some thousand parameters.

A step d solves (J'J + mu I) d = -J'r (Levenberg 1944, Marquardt 1963). Half of the geodesic acceleration
a = -(J'J + mu I)^-1 J'r'' is added, where r'' is the second derivative of the residuals along d, from one difference
(Transtrum and Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization",
arXiv 1201.5885).

A sum of squares of a network has long curved valleys. A method that has to go down at each step follows their floor in
small steps, with large mu. Here a step may go up: it is compared with a slow average of the values so far (Zhang and
Hager, "A nonmonotone line search technique and its application to unconstrained optimization", SIAM J. Optim. 14,
2004), and mu falls as long as steps do well by that measure. But a trial whose acceleration is longer than itself is
refused whatever its value is, as Transtrum and Sethna do: it leaves the range in which the residuals are nearly linear,
and may end where the equation holds point by point, with a solution of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from deepcd.solvers.optimizers.states import restore, state_of

F64 = NDArray[np.float64]
Residual = Callable[[F64], F64]
Jacobian = Callable[[F64], tuple[F64, F64]]

_STEP = 0.1  # h of the difference that approximates the second derivative of the residuals along a step
_BEND = 1.0  # largest ratio of half the acceleration to the step; above, a trial leaves the range of its own model
_RAISE, _LOWER = 4.0, 3.0  # factors of the damping after a refused and after an accepted step
_OTHER = 10.0  # the function is another one where its value at the current point has become so many times higher
_SHARE = 0.1  # least decrease below the average of earlier values, in units of the decrease that the model predicts
_MEMORY = 0.8  # weight of the average of earlier values at each step; 0 would be the last value alone
_FLOOR = 1e-17  # least damping in units of the norm of J'J; below, rounding errors of J'J are larger
_TRIALS = 30  # most trials of a step, each with a larger damping
_STATE = ("theta", "value", "damping", "_excess", "_weight")


class GaussNewton:
    """Minimise the sum of squares of residuals, one step at a time.

    A step costs a Jacobian, the product J'J, and for each trial a Cholesky factorisation and two or three evaluations
    of the residuals.

    Parameters
    ----------
    theta : array_like of float64, shape (p,)
        Where to start; copied.
    damping : float, default 1e-3
        mu of the first trial.

    Attributes
    ----------
    theta : ndarray of float64, shape (p,)
        The current point. It may be set between steps.
    value : float
        The sum of squares there, after a step; NaN before the first.
    damping : float
        mu of the next trial.
    trials : int
        Number of trials that the last step took.

    Raises
    ------
    ValueError
        If theta is not a vector of finite numbers, or the damping is not positive.

    Examples
    --------
    The function of Rosenbrock, whose valley is curved:

    >>> import numpy as np
    >>> from deepcd.solvers.optimizers.gauss_newton import GaussNewton
    >>> def residual(x):
    ...     return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> def jacobian(x):
    ...     return residual(x), np.array([[-20 * x[0], -1.0], [10.0, 0.0]])
    >>> method = GaussNewton([-1.2, 1.0])
    >>> steps = 0
    >>> while method.step(residual, jacobian) and method.value > 1e-20:
    ...     steps += 1
    >>> steps < 25, method.theta.round(6).tolist()
    (True, [1.0, 1.0])
    """

    def __init__(self, theta: ArrayLike, *, damping: float = 1e-3) -> None:
        self.theta: F64 = np.array(theta, dtype=np.float64)
        if self.theta.ndim != 1 or not np.isfinite(self.theta).all():
            raise ValueError(f"theta must be a vector of finite numbers, got shape {self.theta.shape}")
        if not (damping > 0 and math.isfinite(damping)):
            raise ValueError(f"damping must be a positive number, got {damping}")
        self.value, self.damping, self.trials = math.nan, float(damping), 0
        # The average of earlier values in units of the last one, so that it makes sense when the function changes.
        self._excess, self._weight = 1.0, 1.0

    def step(self, residual: Residual, jacobian: Jacobian) -> bool:
        """Do one step.

        Parameters
        ----------
        residual : callable
            ``residual(theta) -> r``, float64 of shape (n,). Where an entry is not finite, the trial is refused.
        jacobian : callable
            ``jacobian(theta) -> r, J'``: the residuals, and the transposed Jacobian, shape (p, n).

        Returns
        -------
        bool
            False if no trial was accepted; theta stays then.

        Raises
        ------
        ValueError
            If a shape is wrong.
        FloatingPointError
            If the residuals or their derivatives at theta are not finite.
        """
        r, transposed = jacobian(self.theta)
        if transposed.shape != (self.theta.size, r.size):
            raise ValueError(
                f"the transposed Jacobian must have the shape {(self.theta.size, r.size)}, got {transposed.shape}"
            )
        before, gradient, H = float(r @ r), transposed @ r, transposed @ transposed.T
        size = float(np.linalg.norm(H))
        if not (math.isfinite(before) and math.isfinite(size)):
            raise FloatingPointError("the residuals, or their derivatives, are not finite at the current point")
        if before > _OTHER * self.value:  # what was allowed by values of another function may lead anywhere
            self._excess = self._weight = 1.0
        self.value = before
        floor = _FLOOR * size
        mu = max(self.damping, floor)
        for trial in range(1, _TRIALS + 1):
            self.trials = trial
            found = _trial(residual, self.theta, r, transposed, gradient, H, mu)
            # At the floor, an increase would be one that rounding errors decide.
            excess = self._excess if mu > _RAISE * floor else 1.0
            if found is not None and found[1] <= excess * before - _SHARE * found[2]:
                self.theta = self.theta + found[0]
                self._note(excess * before, found[1])
                self.value = found[1]
                self.damping = mu / _LOWER if trial == 1 else mu
                return True
            mu *= _RAISE
        self.damping = max(self.damping, floor)
        return False

    def state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of everything that the next step depends on, as numeric arrays."""
        return state_of(self, _STATE)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue, bit for bit, from the state of an optimiser of the same size.

        Parameters
        ----------
        state : mapping of str to ndarray
            The return value of `state`.

        Raises
        ------
        ValueError
            If an array is missing or of another shape.
        """
        restore(self, _STATE, state)

    def _note(self, average: float, after: float) -> None:
        """Take a new value into the average of Zhang and Hager, and divide it by the value."""
        weight = _MEMORY * self._weight
        average = (weight * average + after) / (weight + 1)
        self._weight = weight + 1
        self._excess = max(average / after, 1.0) if after > 0 else 1.0


def _trial(
    residual: Residual, theta: F64, r: F64, transposed: F64, gradient: F64, H: F64, mu: float
) -> tuple[F64, float, float] | None:
    """Return the step for a damping, the value after it, and the decrease that the linear model predicts; or None."""
    A = H.copy()
    A.flat[:: len(A) + 1] += mu
    factor, failed = lapack.dpotrf(A.T, lower=0, overwrite_a=1)
    if failed:
        return None
    d, _ = lapack.dpotrs(factor, -gradient)
    if not np.isfinite(d).all():
        return None
    along = d @ transposed
    predicted = -float(along @ (2 * r + along))
    bend = 2 / _STEP * ((residual(theta + _STEP * d) - r) / _STEP - along)
    half, _ = lapack.dpotrs(factor, -0.5 * (transposed @ bend))
    if math.sqrt(half @ half) > _BEND * math.sqrt(d @ d):
        return None
    d = d + half
    after = residual(theta + d)
    value = float(after @ after)
    return (d, value, predicted) if math.isfinite(value) else None
