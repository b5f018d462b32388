"""A preconditioner of vectors on several that interleave: in its own way, or one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.space import Preconditioner

Vector = NDArray[np.floating[Any]]


def columns(M: Preconditioner, k: int) -> Preconditioner:
    """Return I (x) M on k right-hand sides: what M itself has for it as ``columns(k)``, or `Columnwise`."""
    own: Preconditioner = M.columns(k) if hasattr(M, "columns") else Columnwise(M, k)
    return own


class Columnwise:
    """I (x) M on k right-hand sides: entry (i, j) of the (n, k) block is entry i * k + j of a vector.

    Parameters
    ----------
    M : Preconditioner
        What is applied to one column after the other.
    k : int
        Number of right-hand sides.
    """

    def __init__(self, M: Preconditioner, k: int) -> None:
        self._M, self._k = M, k
        self.name, self.symmetric, self.linear, self.work = M.name, M.symmetric, M.linear, M.work

    def zeros(self) -> Vector:
        """Return a new zero vector, (n k,)."""
        return np.repeat(self._M.zeros(), self._k)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z to M r, column by column, and return r.z."""
        total, own = 0.0, self._M.zeros()
        for j in range(self._k):
            total += self._M.apply(np.ascontiguousarray(r[j :: self._k]), own)
            z[j :: self._k] = own
        return total
