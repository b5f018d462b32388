"""The solver of a simulation's pressure systems, prepared once per grid and started from the pressure before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde import PoissonSystem
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.system import System


class NotConvergedError(RuntimeError):
    """A pressure system was not solved to the tolerance; the message is the solver's."""


@dataclass(frozen=True)
class Solved:
    """Facts of one solve: seconds of set-up (0 on a grid that was prepared before) and solve, and iterations."""

    setup: float
    solve: float
    iterations: int
    unknowns: int


class PressureSolver:
    """``solve(system, b, x0)`` of a stepper.

    Parameters
    ----------
    solver : DeepCD
    tol : float
        Of the residual relative to b.

    Attributes
    ----------
    last : Solved
        Of the last call.
    """

    def __init__(self, solver: DeepCD, tol: float) -> None:
        self._solver, self._tol = solver, tol
        self._for: PoissonSystem | None = None
        self._prepared: System | None = None
        self.last = Solved(0.0, 0.0, 0, 0)

    def __call__(
        self, system: PoissonSystem, b: NDArray[np.float64], x0: NDArray[np.float64]
    ) -> NDArray[np.floating[Any]]:
        """Return x with |b - A x| <= tol |b|.

        Raises
        ------
        NotConvergedError
            If the solver says that it has not converged.
        """
        start = time.perf_counter()
        if self._prepared is None or self._for is not system:
            self._prepared, self._for = self._solver.setup(system.grid), system
        ready = time.perf_counter()
        solution = self._prepared.solve(b, self._tol, x0=x0)
        done = time.perf_counter()
        self.last = Solved(ready - start, done - ready, solution.iterations, len(b))
        if solution.info:
            raise NotConvergedError(f"the pressure was not solved for: {solution.message}")
        return solution.x
