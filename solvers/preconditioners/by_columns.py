"""Any preconditioner on several right-hand sides, one column after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.conjugate_directions import Preconditioner

Vector = NDArray[np.floating[Any]]


class ByColumns:
    """I (x) M: M applied to each of k interleaved vectors.

    Parameters
    ----------
    M : Preconditioner
        Of one vector. Its work vectors are used: not to be applied elsewhere at the same time.
    k : int
        Columns; entry j of unknown i lies at k * i + j.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.solvers.preconditioners.identity import Identity
    >>> M = ByColumns(Identity(3), 2)
    >>> r, z = np.arange(6.0), M.zeros()
    >>> M.apply(r, np.ones(6), z), z.tolist()
    ((55.0, 15.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    """

    def __init__(self, M: Preconditioner, k: int) -> None:
        self.M = M
        self.name, self.symmetric, self.work = M.name, M.symmetric, M.work
        self._k = k
        self._z = M.zeros()
        self._r, self._q = np.zeros(self._z.size), np.zeros(self._z.size)

    def zeros(self) -> Vector:
        """Return a new zero vector of the kind that `apply` writes."""
        return np.zeros(self._k * self._z.size, dtype=self._z.dtype)

    def apply(self, r: Vector, q: Vector, z: Vector) -> tuple[float, float]:
        """Set z <- M r column by column and return (r.z, q.z) of the whole."""
        rz, qz = 0.0, 0.0
        rs, qs, zs = (v.reshape(-1, self._k) for v in (r, q, z))
        for j in range(self._k):
            np.copyto(self._r, rs[:, j])
            np.copyto(self._q, qs[:, j])
            parts = self.M.apply(self._r, self._q, self._z)
            np.copyto(zs[:, j], self._z)
            rz += parts[0]
            qz += parts[1]
        return rz, qz

    def __str__(self) -> str:
        """Return what is applied to each column."""
        return str(self.M)
