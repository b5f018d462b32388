"""Self-scaled quasi-Newton methods with a dense inverse Hessian: SSBroyden and SSBFGS.

They train physics-informed networks of some thousand parameters to losses that first-order methods do not reach: Urbán,
Stefanou and Pons, "Unveiling the optimization process of physics informed neural networks: how accurate and competitive
can PINNs be?", J. Comput. Phys. 523, 113656 (2025). With the step s, the change y of the gradient and the inverse
Hessian H,

    H <- [H - H y (H y)' / y'Hy + phi v v'] / tau + s s' / y's,    v = sqrt(y'Hy) (s / y's - H y / y'Hy),

which is BFGS for phi = tau = 1. tau and phi are equations 13-23 of Urbán et al. (11 for SSBFGS, where phi = 1), as
their published code numbers them; they go back to Al-Baali and Khalfan, "Wide interval for efficient self-scaling
quasi-Newton algorithms", Optim. Methods Softw. 20, 679-691 (2005).

An iteration passes over H once: while it carries out the previous update, it multiplies H by the new gradient. H y is
the difference between this product and the previous one, and the new update changes the product by two vectors, which
take two inner products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.solvers.kernels.quasi_newton import update_and_multiply
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.optimizers.states import restore, state_of

F64 = NDArray[np.float64]
Function = Callable[[F64], tuple[float, ArrayLike]]  # theta -> value, gradient

_DECREASE, _CURVATURE = 1e-4, 0.9  # strong Wolfe conditions, Nocedal and Wright, "Numerical Optimization", eq. 3.7
_TRIALS = 20  # largest number of trial points in a line search
_SHORTEST = 0.1  # least share of the interval, or of the full step, that a trial takes
_EXPANSION = 4.0  # factor by which a step grows if the function still falls at its end
_ABSURD = 1e100  # bound on ratios of curvatures; larger ones come from rounding
_EPS, _TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)
_UNCHANGED = np.array([1.0, 0.0, 0.0, 0.0])  # factors of an update that does not change H
_STATE = (  # attributes that the next step depends on
    *("theta", "value", "gradient", "evaluations"),
    *("_triangle", "_factors", "_u", "_s", "_product", "_decrease", "_fresh"),
)


class Trial(NamedTuple):
    """A point on the line theta + alpha p. Its value is inf if the function or its gradient is not finite there."""

    alpha: float
    value: float
    slope: float  # d value / d alpha
    theta: F64
    gradient: F64


class SelfScaledBroyden:
    """A minimiser of a smooth function of n float64 parameters, for n up to about 5,000.

    Parameters
    ----------
    theta : array_like of float64, shape (n,)
        Starting point, which is copied.
    variant : {"broyden", "bfgs"}
        SSBroyden, or SSBFGS (phi = 1).
    threads : int
        Number of threads that share the pass over the inverse Hessian, which has 4 n^2 bytes. Rounding differs between
        numbers of threads.

    Attributes
    ----------
    theta : ndarray of float64, shape (n,)
        Current point.
    value : float
        Value of the function at the current point; NaN before the first step and after `moved`.
    gradient : ndarray of float64, shape (n,)
        Gradient at the current point; NaN when `value` is.
    evaluations : int
        Number of calls of the function so far.
    message : str
        The reason why the last step found no descent; empty if it did.

    Raises
    ------
    ValueError
        If `theta` is not a vector of finite numbers, the variant is unknown or `threads` is less than 1.

    Notes
    -----
    The value never increases. Steps satisfy the strong Wolfe conditions; if no such step is found, H is reset to a
    multiple of the identity. The search from there begins at unit length, as the first one does, so that a function and
    any positive multiple of it have the same iterates. The equations are at the head of the file.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import rosen, rosen_der
    >>> from deepcd.solvers.optimizers.self_scaled_broyden import SelfScaledBroyden
    >>> optimizer = SelfScaledBroyden(np.zeros(5))
    >>> while optimizer.value != 0 and optimizer.step(lambda theta: (rosen(theta), rosen_der(theta))):
    ...     pass
    >>> bool(np.allclose(optimizer.theta, 1))
    True
    """

    def __init__(self, theta: ArrayLike, *, variant: str = "broyden", threads: int = 1) -> None:
        self.theta: F64 = np.array(theta, dtype=np.float64)
        if self.theta.ndim != 1 or self.theta.size == 0 or not np.isfinite(self.theta).all():
            raise ValueError(f"theta is of shape {self.theta.shape}: pass a vector of finite parameters, at least one")
        if variant not in ("broyden", "bfgs"):
            raise ValueError(f"variant={variant!r}: choose 'broyden' or 'bfgs'")
        if threads < 1:
            raise ValueError(f"threads={threads}: pass 1 or more")
        n = self.theta.size
        self.variant = variant
        self.value = math.nan
        self.gradient: F64 = np.full(n, np.nan)
        self.evaluations = 0
        self.message = ""
        self._triangle: F64 = np.zeros(n * (n + 1) // 2)  # that of H before the pending update
        self._factors, self._u, self._s = _UNCHANGED, np.zeros(n), np.zeros(n)  # the pending update
        self._product: F64 = np.zeros(n)  # H times the gradient
        self._decrease = math.inf  # decrease of the value in the last step
        self._fresh = True  # whether H is a multiple of the identity
        self._team = Team(threads, n, self._triangle.size)
        self._sums = [(np.zeros(n),) for _ in range(self._team.threads)]
        # Row i has i + 1 entries, so equal shares of the triangle end at the square roots.
        self._bounds = [round(n * math.sqrt(t / self._team.threads)) for t in range(self._team.threads + 1)]

    def step(self, fun: Function) -> bool:
        """Do one iteration.

        Parameters
        ----------
        fun : callable
            fun(theta) -> value, gradient of shape (n,), both float64. Where one of them is not finite, the step is
            shortened.

        Returns
        -------
        bool
            False if no further descent is possible; `message` then gives the reason.

        Raises
        ------
        ValueError
            If the gradient has another shape.
        FloatingPointError
            If the value or the gradient is not finite at the current point.
        """
        self.message = ""
        if math.isnan(self.value):
            self._begin(fun)
        if not self.gradient @ self.gradient > 0:
            self.message = "the gradient is zero"
            return False
        trial = self._search(fun)
        if trial is None and not self._fresh:
            self._forget_curvature()
            trial = self._search(fun)
        if trial is None:
            self.message = "no step along the negative gradient decreases the function by more than rounding"
            return False
        self._move(trial)
        return True

    def moved(self) -> None:
        """Declare that the function has changed. The next step first evaluates it at theta; H is kept."""
        self.value = math.nan
        self.gradient = np.full(self.theta.size, np.nan)
        self._decrease = math.inf

    def state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of everything that the next step depends on.

        Returns
        -------
        dict of str to ndarray
            Numeric arrays; the largest is the triangle of H, 4 n^2 bytes.
        """
        return state_of(self, _STATE)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue, bit for bit, from the state of an optimiser of the same size, variant and number of threads.

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
        self.message = ""

    def _evaluate(self, fun: Function, theta: F64) -> tuple[float, F64]:
        value, gradient = fun(theta)
        gradient = np.array(gradient, dtype=np.float64)  # a copy: the function may fill the same array again
        self.evaluations += 1
        if gradient.shape != theta.shape:
            raise ValueError(f"the gradient is of shape {gradient.shape}, expected that of theta, {theta.shape}")
        return float(value), gradient

    def _begin(self, fun: Function) -> None:
        """Evaluate a new function at the current point."""
        value, gradient = self._evaluate(fun, self.theta)
        finite = np.isfinite(gradient)
        if not math.isfinite(value):
            raise FloatingPointError(f"the value at the current point is {value}: start where the function is finite")
        if not finite.all():
            i = int(finite.argmin())
            raise FloatingPointError(f"entry {i} of the gradient at the current point is {gradient[i]}")
        self.value, self.gradient = value, gradient
        if self._fresh:
            self._forget_curvature()
        else:
            self._product = self._multiply(gradient)

    def _forget_curvature(self) -> None:
        """Set H to the multiple of the identity whose step has unit length."""
        scale = 1 / max(math.sqrt(self.gradient @ self.gradient), _TINY)
        self._triangle[:] = 0
        self._triangle[np.cumsum(np.arange(1, self.theta.size + 1)) - 1] = scale
        self._factors, self._decrease, self._fresh = _UNCHANGED, math.inf, True
        self._product = scale * self.gradient

    def _multiply(self, g: F64) -> F64:
        """Apply the pending update to H and return H g."""
        factors, self._factors = self._factors, _UNCHANGED
        self._team.run(
            update_and_multiply,
            *(self._triangle, factors, self._u, self._s, g),
            scratch=self._sums,
            bounds=self._bounds,
        )
        return np.sum(self._sums, axis=(0, 1))

    def _move(self, trial: Trial) -> None:
        """Move to the trial point, and update H by the step and the change of the gradient."""
        slope, before, after = -float(self.gradient @ self._product), self._product, self._multiply(trial.gradient)
        s, y, u = -trial.alpha * before, trial.gradient - self.gradient, after - before  # u = H y
        self._decrease = self.value - trial.value
        self.theta, self.value, self.gradient = trial.theta, trial.value, trial.gradient
        ys, yu, sbs = float(y @ s), float(y @ u), -(trial.alpha**2) * slope  # B s = H^-1 s = -alpha g
        sound = ys / _ABSURD < min(yu, sbs) and max(yu, sbs) < _ABSURD * ys
        if not sound or trial.slope < _CURVATURE * slope:
            self._forget_curvature()
            return
        tau, phi = self._scaling(sbs / ys, yu / ys)
        c0, c1, c2 = (phi - 1) / (tau * yu), -phi / (tau * ys), (phi * yu / (tau * ys) + 1) / ys
        self._factors, self._u, self._s, self._fresh = np.array([1 / tau, c0, c1, c2]), u, s, False
        along_u, along_s = float(u @ trial.gradient), float(s @ trial.gradient)
        self._product = after / tau + (c0 * along_u + c1 * along_s) * u + (c1 * along_u + c2 * along_s) * s

    def _scaling(self, b: float, h: float) -> tuple[float, float]:
        """Return tau and phi from b = s'Bs / y's and h = y'Hy / y's, B = H^-1.

        theta is the parameter of Broyden's class in terms of B, 0 for BFGS and 1 for DFP. By Cauchy-Schwarz a >= 0; it
        is 0 if H y is a multiple of s. rho = h (1 - c) is written without its cancellation.
        """
        a = max(h * b - 1, _EPS)
        c = math.sqrt(a / (1 + a))
        rho = min(1, 1 / (b * (1 + c)))
        theta = max((rho - 1) / a, min(1 / rho, 1 / b - 1)) if self.variant == "broyden" else 0.0
        sigma = max(1 + a * theta, rho)
        phi = (1 - theta) / sigma
        if self._fresh:
            return h / sigma, phi
        tau, spread = min(1, 1 / b), sigma ** (-1 / max(self.theta.size - 1, 1))
        return (tau * min(spread, 1 / theta) if theta > 0 else min(tau * spread, sigma)), phi

    def _try(self, fun: Function, alpha: float) -> Trial:
        theta = self.theta - alpha * self._product
        value, gradient = self._evaluate(fun, theta)
        slope = -float(gradient @ self._product)  # not finite if an entry is not
        if not (math.isfinite(value) and math.isfinite(slope)):
            value = math.inf
        return Trial(alpha, value, slope, theta, gradient)

    def _search(self, fun: Function) -> Trial | None:
        """Return a point that satisfies the strong Wolfe conditions, else the lowest point seen, else None.

        These are algorithms 3.5 and 3.6 of Nocedal and Wright in one loop. `low` is the best point so far and satisfies
        the first condition. Once there is a `high`, a point that satisfies both lies between the two.
        """
        slope = -float(self.gradient @ self._product)
        if not slope < 0:
            return None
        low, high = Trial(0.0, self.value, slope, self.theta, self.gradient), None
        # Nocedal and Wright, eq. 3.60: the first trial expects as much decrease as the previous step had.
        alpha = min(1.0, max(_SHORTEST, -2.02 * self._decrease / slope))
        for _ in range(_TRIALS):
            trial = self._try(fun, alpha)
            if trial.value > self.value + _DECREASE * alpha * slope or (low.alpha > 0 and trial.value >= low.value):
                high = trial
            elif abs(trial.slope) <= -_CURVATURE * slope:
                return trial
            else:
                if trial.slope * (1 if high is None else high.alpha - low.alpha) >= 0:
                    high = low
                low = trial
            alpha = _EXPANSION * alpha if high is None else _between(low, high)
        return low if low.value < self.value else None


def _between(low: Trial, high: Trial) -> float:
    """Return alpha at the minimum of the cubic through both values and slopes, a tenth or more away from both ends."""
    width = high.alpha - low.alpha
    if high.value == math.inf:
        return low.alpha + _SHORTEST * width
    first, last = low.slope * width, high.slope * width
    middle = first + last - 3 * (high.value - low.value)
    square = middle * middle - first * last
    root = math.sqrt(max(square, 0))
    bottom = last - first + 2 * root
    share = 1 - (last + root - middle) / bottom if square >= 0 and bottom > 0 else 0.5
    return low.alpha + max(_SHORTEST, min(share, 1 - _SHORTEST)) * width  # in this order, NaN gives a short step
