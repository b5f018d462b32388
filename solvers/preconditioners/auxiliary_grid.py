"""A mesh whose points are known: Gauss-Seidel on its matrix, and the learned cycle on a lattice laid over it.

With A = L + D + U, S = (L + D)^-1, interpolation P from the lattice and the cycle B there, an application is

    M = S' D S + (I - S' A) P B P' (I - A S)

as in a cycle of multigrid whose second level is the lattice (Xu, Computing 56, 1996). It is symmetric, and positive
definite for any B that is not negative, since S' D S is. A forward sweep from zero reads L, its residual -U x reads U,
and the backward sweep reads both: A is read twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.grids.lattice import Lattice
from deepcd.solvers.kernels import lattice as passes
from deepcd.solvers.kernels.faces.records import Grid
from deepcd.solvers.kernels.ssor import locate_diagonal
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle

COARSEST = 256  # largest number of points of a level that is solved exactly: set-up is half of all work here

Vector = NDArray[np.floating[Any]]


class AuxiliaryGrid:
    """M of a mesh with a lattice over it.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal; sorted.
    lattice : Lattice
        Laid over the nodes of A's rows.
    parameters : dict of str to ndarray
        Parameters of the networks that lead the cycle on the lattice, as they are stored.
    threads : int, default 1
        For the cycle; sweeps are sequential.
    """

    symmetric = linear = True
    name = "auxiliary-grid"

    def __init__(self, A: sp.csr_array, lattice: Lattice, parameters: dict[str, Any], threads: int = 1) -> None:
        n = A.shape[0]
        self._matrix, self._middle = (A.indptr, A.indices, A.data), np.empty(n, dtype=A.indptr.dtype)
        locate_diagonal(A.indptr, A.indices, self._middle)
        self._inverse = 1 / A.data[self._middle]
        self._lattice, self._flat = lattice, len(lattice.shape) == 2
        self._where = lattice.base, lattice.fraction, lattice.strides
        grid = Grid(*geometry(lattice.shape), (False, False, False))
        self._cycle = FaceCycle(
            grid, lattice.faces, threads, coarsest=COARSEST, parameters=parameters, sealed=lattice.sealed
        )
        self.work = 3 + self._cycle.work * np.count_nonzero(lattice.faces.inverse) / n
        self._x, self._coarse, self._correction = np.zeros(n), self._cycle.zeros(), self._cycle.zeros()

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._x.size)

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""
        A, middle, inverse, x = self._matrix, self._middle, self._inverse, self._x
        passes.forward(*A, middle, inverse, r, x)
        restrict, prolong = (
            (passes.restrict_flat, passes.prolong_flat) if self._flat else (passes.restrict, passes.prolong)
        )
        restrict(*A, middle, x, *self._where, 1 / self._lattice.unit, self._coarse)
        self._cycle.apply(self._coarse, self._correction)
        prolong(self._correction, *self._where, x)
        return float(passes.backward(*A, middle, inverse, r, x, z))

    def __str__(self) -> str:
        """Return the smoother, the lattice and the cycle on it."""
        size = " x ".join(map(str, self._lattice.shape))
        return f"{self.name}: Gauss-Seidel on the mesh, and on a lattice of {size} points\n{self._cycle}"
