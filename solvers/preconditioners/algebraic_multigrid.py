"""Algebraic multigrid for matrices with no grid behind them: smoothed aggregation and Ruge-Stueben.

PyAMG builds the hierarchy (Bell, Olson, Schroder and Southworth, Journal of Open Source Software 8, 2023); the cycle is
compiled here. Every level is scaled to unit diagonal, which makes float32 safe and divisions needless, and smoothing is
Gauss-Seidel, forwards before and backwards after the coarse correction, which makes the V-cycle symmetric. A forward
sweep from zero reads the lower triangle alone and leaves the residual -U x: a cycle reads each level's matrix twice.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels import csr
from deepcd.solvers.preconditioners.by_columns import ByColumns

Vector = NDArray[np.floating[Any]]
Triple = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]  # row pointers, columns, values

_DENSE = 1000  # unknowns of a coarsest level at most that is solved exactly; a larger one is only smoothed
_global_generator = threading.Lock()


@dataclass
class _Level:
    """A level scaled to unit diagonal, A = L + I + U, and its transfer P from the next one; work vectors b and x."""

    lower: Triple
    upper: Triple
    P: Triple | None
    transfer: sp.csr_array | None  # P as the hierarchy has it, unscaled
    b: NDArray[np.float32] = field(init=False)
    x: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        n = self.lower[0].size - 1
        self.b, self.x = np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.float32)

    @property
    def entries(self) -> int:
        """Of A and P that a cycle reads."""
        return 2 * (self.lower[1].size + self.upper[1].size + (0 if self.P is None else self.P[1].size))


class AlgebraicMultigrid:
    """One symmetric V(1,1)-cycle, in float32, on the hierarchy that PyAMG builds from S A S.

    S is diagonal: the identity, or diag(A)^(-1/2) if that makes the smoother error, a constant in S's units, cheaper
    in energy. So matrices that were scaled badly are scaled well, and naturally scaled ones stay.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal.
    method : {"auto", "sa", "rs"}, default "auto"
        Smoothed aggregation or classical (Ruge-Stueben) coarsening. See `choose` for "auto".
    B : ndarray of float64, shape (n, m), optional
        Near null space for smoothed aggregation; default: the constant.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000), format="csr")
    >>> M = AlgebraicMultigrid(A, "sa")
    >>> r, z = np.ones(1000), M.zeros()
    >>> rz, _ = M.apply(r, np.zeros(1000), z)
    >>> M.name, bool(rz > 0)
    ('pyamg-sa', True)
    """

    symmetric = True

    def __init__(
        self,
        A: sp.csr_array,
        method: Literal["auto", "sa", "rs"] = "auto",
        B: NDArray[np.float64] | None = None,
    ) -> None:
        A = _with_int32(A)
        self._units = _units(A)
        A = self._scaled(A)
        if method == "auto":
            method = "sa" if B is not None else choose(A)
        self.name = f"pyamg-{method}"
        hierarchy = _hierarchy(A, method, None if B is None else B / self._units[:, None])
        self._transfers = [sp.csr_array(level.P) for level in hierarchy.levels[:-1]]
        self._take([sp.csr_array(level.A) for level in hierarchy.levels])

    def update(self, A: sp.csr_array) -> None:
        """Take new values on the same pattern: transfers stay, the operators of all levels are recomputed.

        Parameters
        ----------
        A : csr_array of float64, shape (n, n)
        """
        operators = [self._scaled(_with_int32(A))]
        for P in self._transfers:
            operators.append(sp.csr_array(P.T @ (operators[-1] @ P)))
        self._take(operators)

    def _scaled(self, A: sp.csr_array) -> sp.csr_array:
        """Return S A S."""
        data = A.data * np.repeat(self._units, np.diff(A.indptr)) * self._units[A.indices]
        return sp.csr_array((data, A.indices, A.indptr), shape=A.shape)

    def _take(self, operators: list[sp.csr_array]) -> None:
        """Scale the operators of all levels to unit diagonal and split them for the cycle."""
        scales = [1 / np.sqrt(np.maximum(A.diagonal(), np.finfo(np.float64).tiny)) for A in operators]
        self._scale = scales[0] * self._units
        self._levels = []
        for A, P, scale, below in zip(operators, self._transfers, scales, scales[1:], strict=False):
            values = P.data / np.repeat(scale, np.diff(P.indptr)) * below[P.indices]
            scaled = (P.indptr, P.indices, values.astype(np.float32))
            self._levels.append(_Level(*_triangles(A, scale), scaled, P))
        A, scale = operators[-1], scales[-1]
        self._bottom = np.zeros((0, 0))
        if A.shape[0] > _DENSE:
            self._levels.append(_Level(*_triangles(A, scale), None, None))
        else:
            values, vectors = np.linalg.eigh(A.toarray() * scale * scale[:, None])
            kept = values > 1e-12 * values[-1]  # a null space of A arrives here as rounding
            self._bottom = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        self._b, self._x = np.zeros((2, len(self._bottom)))
        passes = sum(level.entries for level in self._levels) + self._bottom.size
        self.work = 1 + passes / max(operators[0].nnz, 1)

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._scale.size)

    def columns(self, k: int) -> ByColumns:
        """Return I (x) M on k vectors that interleave."""
        return ByColumns(self, k)

    def apply(self, r: Vector, q: Vector, z: Vector) -> tuple[float, float]:
        """Set z <- M r and return (r.z, q.z)."""
        levels, size = self._levels, csr.scaled_maximum(self._scale, r)
        if not 0 < size < np.inf:
            z[:] = r
            return float(r @ z), float(q @ z)
        right = [*(level.b for level in levels), self._b]
        csr.scale_down(1 / size, self._scale, r, right[0])
        for level, below in zip(levels, right[1:], strict=False):
            csr.forward_from_zero(*level.lower, level.b, level.x)
            if level.P is not None:
                csr.restrict_residual(*level.upper, level.x, *level.P, below)
        np.matmul(self._bottom, self._b, out=self._x)
        error: Vector = self._x
        for level in reversed(levels):
            if level.P is not None:
                csr.prolong_add(*level.P, error, level.x)
            csr.backward(*level.lower, *level.upper, level.b, level.x)
            error = level.x
        rz, qz = csr.scale_up(size, self._scale, error, r, q, z)
        return rz, qz

    def __str__(self) -> str:
        """Return the smoother and the unknowns per level."""
        sizes = [str(level.b.size) for level in self._levels] + [str(len(self._bottom))] * bool(self._bottom.size)
        return f"{self.name}: V(1,1) by forward and backward Gauss-Seidel in float32, levels {' > '.join(sizes)}"


def choose(A: sp.csr_array) -> Literal["sa", "rs"]:
    """Return the coarsening that suits A by the dimension of its graph: smoothed aggregation in 3D, else Ruge-Stueben.

    Ruge-Stueben needs fewer iterations almost everywhere, and keeps more entries on coarse levels; in 2D that costs
    little, in 3D it makes the set-up twice as long. A graph in which twice the distance reaches five to sixteen times
    as many rows is taken for 3D. Loses where few iterations are worth a long set-up: many solves with one 3D matrix.
    """
    reached = np.zeros(A.shape[0], dtype=np.bool_)
    reached[A.shape[0] // 2] = True
    counts, rows = [1], np.array([A.shape[0] // 2])
    while rows.size and counts[-1] < min(3000, A.shape[0] // 4):
        beside = np.concatenate([A.indices[A.indptr[row] : A.indptr[row + 1]] for row in rows])
        rows = np.unique(beside[~reached[beside]])
        reached[rows] = True
        counts.append(counts[-1] + rows.size)
    radius = len(counts) - 1
    return "sa" if radius > 1 and 5 <= counts[radius // 2 * 2] / counts[radius // 2] <= 16 else "rs"


def _units(A: sp.csr_array) -> NDArray[np.float64]:
    """Return the diagonal of S: of 1 and diag(A)^(-1/2) the vector v with the smaller v.A v / v.D v."""
    diagonal = A.diagonal()
    inverse = 1 / np.sqrt(diagonal)
    natural = float(A.data.sum()) / float(diagonal.sum())
    equilibrated = float(inverse @ (A @ inverse)) / inverse.size
    return inverse if equilibrated < 0.5 * natural else np.ones_like(inverse)


def _hierarchy(A: sp.csr_array, method: str, B: NDArray[np.float64] | None) -> Any:
    """Let PyAMG coarsen A."""
    import pyamg

    options = {"presmoother": None, "postsmoother": None, "coarse_solver": None, "max_coarse": 150}
    # PyAMG starts its eigenvalue estimates from NumPy's global generator: make them repeatable, and leave the caller's
    # stream of random numbers as it was.
    with _global_generator:
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(0)  # noqa: NPY002
            if method == "sa":
                return pyamg.smoothed_aggregation_solver(A, B=B, **options)
            return pyamg.ruge_stuben_solver(A, **options)
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _with_int32(A: sp.csr_array) -> sp.csr_array:
    """Return A with the 32-bit indices that PyAMG's kernels take."""
    if A.nnz > np.iinfo(np.int32).max:
        raise ValueError(f"PyAMG takes at most 2^31 - 1 entries, A has {A.nnz}: use preconditioner='none'")
    indices, indptr = (array.astype(np.int32, copy=False) for array in (A.indices, A.indptr))
    return sp.csr_array((A.data, indices, indptr), shape=A.shape)


def _triangles(A: sp.csr_array, scale: NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Return the strict triangles of diag(scale) A diag(scale) in float32."""
    A = _with_int32(A)
    below, above = np.empty_like(A.indptr), np.empty_like(A.indptr)
    csr.count_triangles(A.indptr, A.indices, below, above)
    lower, upper = (
        (count, np.empty(count[-1], dtype=np.int32), np.empty(count[-1], dtype=np.float32)) for count in (below, above)
    )
    csr.split_triangles(A.indptr, A.indices, A.data, scale, *lower, *upper)
    return lower, upper
