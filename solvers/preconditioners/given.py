"""An approximate inverse that a caller brings, as a preconditioner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from deepcd.solvers.operators.linear_map import LinearMap
from deepcd.solvers.space import Preconditioner


class Given:
    """M v by a linear operator whose symmetry and definiteness are the caller's word.

    Parameters
    ----------
    M : LinearMap
        Applied to vectors of the operator's kind.
    name : str, default "M"
        What solutions call it.
    """

    symmetric = True
    linear = False
    work = 2.0

    def __init__(self, M: LinearMap, name: str = "M") -> None:
        self._M, self.name = M, name

    def zeros(self) -> NDArray[np.floating[Any]]:
        """Return a new zero vector."""
        return self._M.zeros()

    def apply(self, r: NDArray[Any], z: NDArray[Any]) -> float:
        """Set z <- M r and return r.z."""
        self._M.multiply(r, z)
        return self._M.dot(r, z)

    def __str__(self) -> str:
        """Return what it is."""
        return f"{self.name}: brought by the caller"


def given(M: Any, n: int, name: str) -> Preconditioner:
    """Return what a caller's builder returned as a preconditioner on vectors of shape (n,).

    Parameters
    ----------
    M : sparse array, array_like or LinearOperator, shape (n, n), or an object with the methods of `Preconditioner`
        Approximate inverse, symmetric positive definite.
    n : int
        Number of unknowns.
    name : str
        What solutions call it.

    Raises
    ------
    TypeError, ValueError
        If M is nothing that can be applied, or has another shape.
    """
    if hasattr(M, "apply") and hasattr(M, "zeros"):
        preconditioner: Preconditioner = M
        return preconditioner
    try:
        operator = aslinearoperator(M)
    except TypeError:
        raise TypeError(
            f"preconditioner must return a matrix, a LinearOperator or a Preconditioner, got {type(M).__name__}"
        ) from None
    if operator.shape != (n, n):
        raise ValueError(f"preconditioner must return an M of shape {(n, n)}, got {operator.shape}")
    return Given(LinearMap(operator, np.dtype(np.float64), narrow=True), name)
