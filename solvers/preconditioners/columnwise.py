"""A preconditioner of vectors, applied to several that interleave, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from deepcd.solvers.conjugate_directions import Preconditioner

Vector = NDArray[np.floating[Any]]


class Columnwise:
    """I (x) M on k right-hand sides: entry (i, j) of the (n, k) block is entry i * k + j of a vector.

    Parameters
    ----------
    M : Preconditioner
    k : int
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
