"""Algebraic multigrid by PyAMG, for matrices with no grid behind them: smoothed aggregation and Ruge-Stueben.

Bell, Olson, Schroder and Southworth, PyAMG, Journal of Open Source Software 8 (2023). Smoothing is Gauss-Seidel,
forwards before and backwards after the coarse correction, which makes the V-cycle symmetric.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]

_FORWARD = ("gauss_seidel", {"sweep": "forward"})
_BACKWARD = ("gauss_seidel", {"sweep": "backward"})
_COARSEST = ("pinv", {"rtol": 1e-12})  # a null space of A arrives there as singular values above the unit roundoff


class AlgebraicMultigrid:
    """One symmetric V(1,1)-cycle on the hierarchy that PyAMG builds from A.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite.
    method : {"sa", "rs"}, default "sa"
        Smoothed aggregation or classical (Ruge-Stueben) coarsening.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(100, 100), format="csr")
    >>> M = AlgebraicMultigrid(A)
    >>> r, z = np.ones(100), M.zeros()
    >>> rz, _ = M.apply(r, np.zeros(100), z)
    >>> M.name, bool(rz > 0)
    ('pyamg-sa', True)
    """

    symmetric = True

    def __init__(self, A: sp.csr_array, method: Literal["sa", "rs"] = "sa") -> None:
        import pyamg

        build = pyamg.smoothed_aggregation_solver if method == "sa" else pyamg.ruge_stuben_solver
        if A.nnz <= np.iinfo(np.int32).max:  # PyAMG's kernels take 32-bit indices only
            A = sp.csr_array((A.data, A.indices.astype(np.int32), A.indptr.astype(np.int32)), shape=A.shape)
        # PyAMG starts its eigenvalue estimates from NumPy's global generator: make them repeatable, and leave the
        # caller's stream of random numbers as it was.
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(0)  # noqa: NPY002
            self._hierarchy = build(A, presmoother=_FORWARD, postsmoother=_BACKWARD, coarse_solver=_COARSEST)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        self.name = f"pyamg-{method}"
        levels = self._hierarchy.levels
        passes = sum(3 * level.A.nnz + level.P.nnz + level.R.nnz for level in levels[:-1]) + levels[-1].A.nnz
        self.work = 1 + passes / max(A.nnz, 1)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._hierarchy.levels[0].A.shape[0])

    def apply(self, r: Vector, q: Vector, z: Vector) -> tuple[float, float]:
        """Set z <- M r and return (r.z, q.z)."""
        z[...] = self._cycle(0, r)
        return float(r @ z), float(q @ z)

    def _cycle(self, depth: int, b: Vector) -> Vector:
        """Return one V-cycle for A x = b from x = 0 on the level `depth`."""
        level = self._hierarchy.levels[depth]
        if depth == len(self._hierarchy.levels) - 1:
            return np.ravel(self._hierarchy.coarse_solver(level.A, b))
        x = np.zeros_like(b)
        level.presmoother(level.A, x, b)
        x += level.P @ self._cycle(depth + 1, level.R @ (b - level.A @ x))
        level.postsmoother(level.A, x, b)
        return x

    def __str__(self) -> str:
        """Return the smoother and the unknowns per level."""
        sizes = " > ".join(str(level.A.shape[0]) for level in self._hierarchy.levels)
        return f"{self.name}: V(1,1) by forward and backward Gauss-Seidel, levels {sizes}"
