"""DeepCD as the pressure solver of a simulation, prepared once per system and started from the pressure before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

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
    """The function ``solve(system, b, x0)`` of a stepper, by DeepCD, which is given a bare matrix over the whole box.

    Its grid is found in half the time that it takes to find the places of the liquid's cells where drops fly about.

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
            self._prepared, self._for = self._solver.setup(over_the_box(system)), system
        ready = time.perf_counter()
        right, guess = (system.to_field(v).ravel() for v in (b, x0))
        solution = self._prepared.solve(right, self._tol, x0=guess)
        done = time.perf_counter()
        if solution.info:
            raise NotConvergedError(f"the pressure was not solved for: {solution.message}")
        return PressureAnswer(solution.x[system.cells], ready - start, done - ready, solution.iterations)


def over_the_box(system: CutSystem) -> csr_array:
    """Return the matrix of a pressure system with a row for every cell of its box.

    Parameters
    ----------
    system : CutSystem
        The system, with unknowns in some of the cells.

    Returns
    -------
    csr_array of float64
        The rows of other cells have a diagonal entry only.

    Examples
    --------
    >>> from deepcd.pde import domain
    >>> from deepcd.pde.solids import Solids
    >>> from deepcd.solvers.simulation.pressure import over_the_box
    >>> over_the_box(Solids(domain((3, 1), walls=[("solid", "air"), "solid"])).system()).toarray().tolist()
    [[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]]
    """
    A, n = system.A, int(np.prod(system.shape))
    counts = np.ones(n, dtype=np.int64)
    counts[system.cells] = np.diff(A.indptr)
    coupled = np.zeros(n, dtype=bool)
    coupled[system.cells] = True
    own = np.repeat(coupled, counts)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(A.indptr.dtype)
    indices = np.repeat(np.arange(n, dtype=A.indptr.dtype), counts)
    data = np.full(len(indices), system.grid.spacing**-2)
    indices[own], data[own] = system.cells[A.indices], A.data
    box = csr_array((data, indices, indptr), shape=(n, n))
    box.has_canonical_format = True
    return box
