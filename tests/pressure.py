"""Direct solvers of pressure systems, for tests of what is built on the projection."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import splu

from deepcd.pde import CutSystem, PoissonSystem


class Direct:
    """Solves A p = b; factorises when the system is another object than the last time.

    In a sealed chamber the pressure of the first cell is set to that of x0, or zero.
    """

    def __init__(self) -> None:
        self.system: PoissonSystem | CutSystem | None = None
        self.factorised = 0

    def __call__(self, system: PoissonSystem | CutSystem, b: np.ndarray, x0: np.ndarray | None = None) -> np.ndarray:
        if system is not self.system:
            first = np.unique(system.component, return_index=True)[1]
            self.free = np.ones(len(b), dtype=bool)
            self.free[first[system.sealed]] = False
            self.factors = splu(system.A[self.free][:, self.free].tocsc()) if self.free.any() else None
            self.system = system
            self.factorised += 1
        p = np.where(self.free, 0.0, 0.0 if x0 is None else x0)
        if self.factors is not None:
            p[self.free] = self.factors.solve((b - system.A @ p)[self.free])
        return p


def exact_pressure(system: PoissonSystem | CutSystem, b: np.ndarray, x0: np.ndarray | None = None) -> np.ndarray:
    """Solve one system directly."""
    return Direct()(system, b, x0)
