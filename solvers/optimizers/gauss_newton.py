"""The Gauss-Newton method with damping and geodesic acceleration, for sums of squares of a few thousand parameters.

A step d solves (J'J + mu I) d = -J'r (Levenberg 1944, Marquardt 1963). Half of the geodesic acceleration
a = -(J'J + mu I)^-1 J' r'' is added, where r'' is the second derivative of the residuals along d, by one difference
(Transtrum and Sethna, "Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization",
arXiv 1201.5885).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

F64 = NDArray[np.float64]
STEP = 0.1  # h of the difference that approximates the second derivative of the residuals along a step
BEND = 1.5  # largest ratio of the acceleration to the step
FACTOR = 4.0
SHARE = 0.1
FLOOR = 1e-17  # least damping, in units of the norm of J'J: below, Cholesky's rounding errors are larger


class Trial(NamedTuple):
    value: float
    damping: float
    step: F64
    predicted: float


class GaussNewton:
    def __init__(self, theta: F64, damping: float = 1e-3, mode: str = "flaw", probes: int = 6) -> None:
        self.theta = np.array(theta, dtype=np.float64)
        self.damping, self.mode, self.probes = damping, mode, probes
        self.value = math.nan
        self.slack = 1.0
        self.q = 1.0
        self.steps = 0
        self.tried = 0
        self.recent: list[float] = []

    def state(self):
        return {}

    def load(self, state):
        pass

    def step(self, residual: Callable[[F64], F64], jacobian: Callable[[F64], tuple[F64, F64]]) -> bool:
        r, transposed = jacobian(self.theta)
        before = float(r @ r)
        g, H = transposed @ r, transposed @ transposed.T
        floor = FLOOR * float(np.linalg.norm(H))

        def trial(mu: float) -> Trial | None:
            A = H.copy()
            A.flat[:: len(A) + 1] += mu
            factor, info = lapack.dpotrf(A.T, lower=0, overwrite_a=1)
            if info:
                return None
            d = lapack.dpotrs(factor, -g, lower=0)[0]
            if not np.isfinite(d).all():
                return None
            along = d @ transposed
            near = residual(self.theta + d)
            best = Trial(float(near @ near), mu, d, before - float((r + along) @ (r + along)))
            bend = 2 / STEP * ((residual(self.theta + STEP * d) - r) / STEP - along)
            a = lapack.dpotrs(factor, -(transposed @ bend), lower=0)[0]
            if np.linalg.norm(a) < BEND * np.linalg.norm(d):
                curved = residual(self.theta + d + a / 2)
                value = float(curved @ curved)
                if value < best.value:
                    predicted = best.predicted
                    if self.mode == "flaw":
                        lin = r + along + (a / 2) @ transposed
                        predicted = before - float(lin @ lin)
                    best = Trial(value, mu, d + a / 2, predicted)
            return best if math.isfinite(best.value) else None

        def good(one: Trial | None) -> bool:
            if one is None:
                return False
            if self.mode == "flaw":
                return before - one.value >= SHARE * one.predicted
            if self.mode == "mono":
                return before - one.value >= SHARE * one.predicted
            # Zhang-Hager / Grippo: reference value
            return before * self.slack - one.value >= SHARE * one.predicted

        mu = max(self.damping, floor)
        best, n = trial(mu), 1
        if good(best):
            while n < self.probes and mu / FACTOR >= floor:
                c = trial(mu / FACTOR)
                n += 1
                if not good(c):
                    break
                best, mu = c, mu / FACTOR
        else:
            while n < 40:
                mu *= FACTOR
                best = trial(mu)
                n += 1
                if good(best):
                    break
            else:
                best = None
        self.tried = n
        self.steps += 1
        if best is None:
            self.value = before
            return False
        if self.mode.startswith("zh"):
            eta = float(self.mode[2:])
            self.slack = (eta * self.q * self.slack * before + best.value) / (eta * self.q + 1) / best.value
            self.q = eta * self.q + 1
            self.slack = min(self.slack, 1e3)
            if best.damping <= 4 * floor: self.slack = 1.0
        elif self.mode.startswith("gr"):
            m = int(self.mode[2:])
            self.recent = ([v * 1.0 for v in self.recent] + [before])[-m:]
            self.slack = max(max(self.recent) / best.value, 1.0)
            if best.damping <= 4 * floor: self.slack = 1.0
        self.theta = self.theta + best.step
        self.value, self.damping = best.value, best.damping
        return True
