"""DeepCD as the pressure solver of a simulation, prepared once per system and started from the pressure before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde import CutSystem
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.system import System

F64 = NDArray[np.float64]


class NotConvergedError(RuntimeError):
    """A pressure system was not solved to the tolerance; the message is the solver's."""


@dataclass(frozen=True, eq=False)
class PressureAnswer:
    """The pressure of one step, and what it took to compute it.

    Parameters
    ----------
    x : ndarray of float, shape (unknowns,)
        The pressure; NumPy sees this object as that array.
    setup, solve : float
        Seconds of set-up, assembly of the matrix included (nearly 0 for a system that was prepared before), and of the
        solve.
    iterations : int
        Iterations of the solve.
    """

    x: NDArray[np.floating[Any]]
    setup: float
    solve: float
    iterations: int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pressure as an array."""
        return np.array(self.x, dtype) if copy else np.asarray(self.x, dtype)


Pressure = Callable[[CutSystem, F64, F64], PressureAnswer]  # the `solve` of a stepper in a simulation


class DeepCDPressure:
    """The function ``solve(system, b, x0)`` of a stepper, by DeepCD, which is given the bare matrix.

    Parameters
    ----------
    solver : DeepCD
        The solver and its options.
    tol : float
        Tolerance for the residual relative to the norm of b.
    """

    def __init__(self, solver: DeepCD, tol: float) -> None:
        self._solver, self._tol = solver, tol
        self._for: CutSystem | None = None
        self._prepared: System | None = None

    def __call__(self, system: CutSystem, b: F64, x0: F64) -> PressureAnswer:
        """Return x with |b - A x| <= tol |b|.

        Raises
        ------
        NotConvergedError
            If the solver says that it has not converged.
        """
        start = time.perf_counter()
        if self._prepared is None or self._for is not system:
            self._prepared, self._for = self._solver.setup(system.A), system
        ready = time.perf_counter()
        solution = self._prepared.solve(b, self._tol, x0=x0)
        done = time.perf_counter()
        if solution.info:
            raise NotConvergedError(f"the pressure was not solved for: {solution.message}")
        return PressureAnswer(solution.x, ready - start, done - ready, solution.iterations)
