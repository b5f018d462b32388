"""No preconditioner: the direction is the residual, and conjugate directions are conjugate gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.space import BlockPreconditioner

Vector = NDArray[np.floating[Any]]


class Identity:
    """M = I on vectors of shape (n,).

    Parameters
    ----------
    n : int
        Number of unknowns.
    """

    name = "none"
    symmetric = linear = True
    work = 1.0

    def __init__(self, n: int) -> None:
        self._n = n

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._n)

    def twin(self, threads: int) -> Identity:
        """Return the identity: it has no work vectors."""
        return self

    def columns(self, k: int) -> BlockPreconditioner:
        """Return the identity on k right-hand sides."""
        from deepcd.solvers.kernels import columns
        from deepcd.solvers.preconditioners.columnwise import PassOverColumns

        return PassOverColumns(columns.scale, (np.ones(self._n),), k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- r and return r.z."""
        np.copyto(z, r)
        return float(r @ z)

    def __str__(self) -> str:
        """Return what it is."""
        return "none: plain conjugate gradients"
