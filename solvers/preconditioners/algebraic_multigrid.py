"""Algebraic multigrid for matrices with no grid behind them: smoothed aggregation and Ruge-Stueben.

The hierarchy comes from `aggregation.py`, or from PyAMG (Bell, Olson, Schroder and Southworth, Journal of Open Source
Software 8, 2023): Ruge-Stueben coarsening, and smoothed aggregation with more than one near null vector. The cycle is
compiled here. Every level is scaled to unit diagonal, A = L + I + U, and smoothed by Gauss-Seidel, forwards before and
backwards after the coarse correction. A forward sweep from zero reads L alone and leaves the residual -U x, so a cycle
reads each level's matrix twice. Matrices are float32, vectors float64. With S = (I + L)^-1 the cycle is

    M = S' S + (I - S' A) P Mc P' (I - A S)

and U is made of L: M is symmetric, and positive definite whatever the rounding of A and P, because S'S is.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee

from deepcd.solvers.kernels import aggregation as passes
from deepcd.solvers.kernels import columns, csr
from deepcd.solvers.kernels.rows import lanes
from deepcd.solvers.preconditioners.aggregation import coarsen, galerkin
from deepcd.solvers.preconditioners.direct import NotPositiveDefiniteError
from deepcd.solvers.survey import renumbered

Vector = NDArray[np.floating[Any]]
Method = Literal["aggregation", "sa", "rs"]
Triple = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]  # row pointers, columns, values

_FEW = 150  # number of unknowns down to which to coarsen
# Largest number of unknowns of a coarsest level that is solved exactly. A larger one, of a stall, is only smoothed.
_DENSE = 500
_MANY = 50_000  # number of unknowns from which on their numbering matters
_SCATTERED = 0.3  # share of reads far from those before: 0.8 in no order, 0.1 where levels or kinds of nodes alternate
_NULL = 1e-11  # share of its terms below which a diagonal entry of a coarse level may be rounding for the most part
# Gershgorin's bound is as good as an estimated eigenvalue on the finest level, where that estimate costs most.
_SMOOTH = [("jacobi", {"omega": 4 / 3, "weighting": weighting}) for weighting in ("local", "diagonal")]
_NAMES: dict[Method, str] = {"aggregation": "smoothed-aggregation", "sa": "pyamg-sa", "rs": "pyamg-rs"}
_global_generator = threading.Lock()


@dataclass(frozen=True, eq=False)
class _Level:
    """A level scaled to unit diagonal, and its transfer from the next one; None on a coarsest level."""

    lower: Triple
    upper: Triple
    P: Triple | None


class AlgebraicMultigrid:
    """One symmetric V(1,1)-cycle on a hierarchy that is built from D A D.

    D is diagonal: the identity, or diag(A)^(-1/2) if that makes the smoothest error, a constant in D's units, cheaper
    in energy. So matrices that were scaled badly are scaled well, and naturally scaled ones stay. Where PyAMG fails, or
    what comes is not finite, the levels up to there are kept, and the last one is only smoothed.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric positive (semi)definite with a positive diagonal.
    method : {"aggregation", "sa", "rs"}, default "aggregation"
        This library's smoothed aggregation, PyAMG's, or its classical (Ruge-Stueben) coarsening. The first knows the
        constant only, and leaves matrices with another near null space to the second.
    B : ndarray of float64, shape (n, m), optional
        Near null space, as the rigid-body modes of an elastic body.

    Attributes
    ----------
    name : str
        "smoothed-aggregation", "pyamg-sa" or "pyamg-rs"; "gauss-seidel" if there is no second level.

    Raises
    ------
    ValueError
        If A has more entries than PyAMG can count.
    NotPositiveDefiniteError
        If a coarse operator P'A P has a negative eigenvalue, so that A has one, too.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000), format="csr")
    >>> M = AlgebraicMultigrid(A)
    >>> r, z = np.ones(1000), M.zeros()
    >>> rz = M.apply(r, z)
    >>> M.name, bool(rz > 0)
    ('smoothed-aggregation', True)
    """

    symmetric, linear = True, False

    def __init__(
        self,
        A: sp.csr_array,
        method: Method = "aggregation",
        B: NDArray[np.float64] | None = None,
    ) -> None:
        A = _canonical(A)
        self._pattern = A.indptr, A.indices
        self._order = _order(A)
        A = _permuted(A, self._order)
        self._units = _units(A)
        A = _scaled(A, self._units)
        if B is not None and method != "rs":
            method = "sa"
        if B is not None:
            B = (B if self._order is None else B[self._order]) / self._units[:, None]
        operators, self._transfers = coarsen(A, _FEW) if method == "aggregation" else _hierarchy(A, method, B)
        self._take(operators)
        coarse = bool(self._transfers) or self._bottom is not None
        self.name = _NAMES[method] if coarse else "gauss-seidel"
        self._rows = np.arange(A.shape[0], dtype=np.int32) if self._order is None else self._order
        self._b, self._x = ([np.zeros(size) for size in self.sizes] for _ in range(2))
        self._memory: list[Vector] = []  # of blocks of columns

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_memory": []}

    def fits(self, A: sp.csr_array) -> bool:
        """Return whether A has entries where the matrix of this preconditioner has."""
        return all(map(np.array_equal, self._pattern, (A.indptr, A.indices)))

    def updated(self, A: sp.csr_array) -> AlgebraicMultigrid:
        """Return the preconditioner for new values on the same pattern; this one stays as it is.

        The transfers stay, the operators of all levels are recomputed. Both share their work vectors.

        Parameters
        ----------
        A : csr_array of float64, shape (n, n)
            The new matrix.

        Raises
        ------
        ValueError
            If A has entries in other places.
        """
        A = _canonical(A)
        if not self.fits(A):
            raise ValueError("A has entries in other places than the matrix before: set up a new preconditioner")
        operators = [_scaled(_permuted(A, self._order), self._units)]
        for P in self._transfers:
            operators.append(galerkin(operators[-1], P))
        twin = copy.copy(self)
        twin._take(operators)
        return twin

    def _take(self, operators: list[sp.csr_array]) -> None:
        """Scale the operators of all levels to unit diagonal and split them for the cycle."""
        diagonals = [A.diagonal() for A in operators]
        terms = [np.abs(diagonals[0])]  # the magnitude of what the diagonal entries of coarse levels are differences of
        for P in self._transfers:
            terms.append(np.empty(P.shape[1]))
            passes.energies(P.indptr, P.indices, P.data, terms[-2], terms[-1])
        # A row that may be nothing but rounding is left out, as coarse levels have them for aggregates that B does not
        # see, and for parts of A that are singular.
        roots = [np.sqrt(np.where(d > _NULL * t, d, 0)) for d, t in zip(diagonals, terms, strict=True)]
        scales = [np.divide(1, root, out=np.zeros_like(root), where=root > 0) for root in roots]
        self._scale = scales[0] * self._units
        self._levels = []
        for A, P, root, scale, below in zip(operators, self._transfers, roots, scales, scales[1:], strict=False):
            values = np.empty(P.nnz, dtype=np.float32)
            csr.scale(P.indptr, P.indices, P.data, root, below, values)
            self._levels.append(_Level(*_triangles(A, scale), (P.indptr, P.indices, values)))
        A, scale = operators[-1], scales[-1]
        self._bottom = None
        if A.shape[0] > _DENSE:
            self._levels.append(_Level(*_triangles(A, scale), None))
        else:
            self._bottom = _inverse(A.toarray() * scale * scale[:, None], terms[-1] * scale**2)
        read = 0 if self._bottom is None else self._bottom.size
        for level in self._levels:
            read += 2 * (level.lower[1].size + level.upper[1].size + (0 if level.P is None else level.P[1].size))
        self.work = 1 + read / max(operators[0].nnz, 1)

    @property
    def sizes(self) -> list[int]:
        """Number of unknowns of each level."""
        sizes = [level.lower[0].size - 1 for level in self._levels]
        return sizes if self._bottom is None else [*sizes, len(self._bottom)]

    def zeros(self) -> Vector:
        """Return a new zero vector, float64 of shape (n,)."""
        return np.zeros(self._scale.size)

    def columns(self, k: int) -> MultigridColumns:
        """Return M on k right-hand sides: the same matrices, read once for all columns, and one set of work vectors."""
        if not self._memory or self._memory[0].size < k * self.sizes[0]:
            self._memory = [np.empty(k * size) for size in 2 * self.sizes]
        return MultigridColumns(self, k, [v[: k * size] for v, size in zip(self._memory, 2 * self.sizes, strict=True)])

    def apply(self, r: Vector, z: Vector) -> float:
        """Set z <- M r and return r.z."""
        b, x = self._b, self._x
        csr.gather_scaled(self._rows, self._scale, r, b[0])
        for depth, level in enumerate(self._levels):
            csr.forward_from_zero(*level.lower, b[depth], x[depth])
            if level.P is not None:
                csr.restrict_residual(*level.upper, *level.P, x[depth], b[depth + 1])
        if self._bottom is not None:
            np.matmul(self._bottom, b[-1], out=x[-1])
        for depth in reversed(range(len(self._levels))):
            level = self._levels[depth]
            if level.P is not None:
                csr.prolong_add(*level.P, x[depth + 1], x[depth])
            csr.backward(*level.lower, *level.upper, b[depth], x[depth])
        return float(csr.scatter_scaled(self._rows, self._scale, x[0], r, z))

    def __str__(self) -> str:
        """Return the smoother and the unknowns per level."""
        sizes = " > ".join(map(str, self.sizes))
        return f"{self.name}: V(1,1) by forward and backward Gauss-Seidel, levels {sizes}"


class MultigridColumns:
    """The cycle on a block of k right-hand sides: entry (i, j) of the block is entry i * k + j of a vector.

    Parameters
    ----------
    M : AlgebraicMultigrid
        The cycle; its matrices are shared.
    k : int
        Number of right-hand sides.
    vectors : list of ndarray of float64
        Where to work: on each level for a right-hand side, then on each for an iterate.
    """

    def __init__(self, M: AlgebraicMultigrid, k: int, vectors: list[Vector]) -> None:
        self._M, self._k, self._lanes, self._rz = M, k, lanes(k), np.empty(k)
        self._b, self._x = vectors[: len(vectors) // 2], vectors[len(vectors) // 2 :]

    def apply(self, r: Vector, z: Vector) -> Vector:
        """Set z <- M r and return r.z of each column."""
        M, k, width, b, x = self._M, self._k, self._lanes, self._b, self._x
        columns.gather_scaled(width, M._rows, M._scale, r, b[0])
        for depth, level in enumerate(M._levels):
            columns.forward_from_zero(*level.lower, width, b[depth], x[depth])
            if level.P is not None:
                columns.restrict_residual(*level.upper, *level.P, width, x[depth], b[depth + 1])
        if M._bottom is not None:
            np.matmul(M._bottom, b[-1].reshape(-1, k), out=x[-1].reshape(-1, k))
        for depth in reversed(range(len(M._levels))):
            level = M._levels[depth]
            if level.P is not None:
                columns.prolong_add(*level.P, width, x[depth + 1], x[depth])
            columns.backward(*level.lower, *level.upper, width, b[depth], x[depth])
        columns.scatter_scaled(width, M._rows, M._scale, x[0], r, z, self._rz)
        return self._rz


def _order(A: sp.csr_array) -> NDArray[np.int32] | None:
    """Return a numbering that keeps neighbours together, if A is large and its own one does not; else None.

    Set-up and cycle wait for memory then: reverse Cuthill-McKee halves the time of 512,000 unknowns in random order.
    """
    n = A.shape[0]
    if n < _MANY:
        return None
    if csr.scattered(A.indptr, A.indices) < _SCATTERED:
        return None
    return reverse_cuthill_mckee(A, symmetric_mode=True)


def _permuted(A: sp.csr_array, order: NDArray[np.int32] | None) -> sp.csr_array:
    """Return A with rows and columns in that order."""
    return A if order is None else renumbered(A, order)


def _units(A: sp.csr_array) -> NDArray[np.float64]:
    """Return the diagonal of D: of 1 and diag(A)^(-1/2) the vector v with the smaller v.A v / v.diag(A) v."""
    inverse = 1 / np.sqrt(A.diagonal())
    natural, equilibrated, trace = csr.energies(A.indptr, A.indices, A.data, inverse)
    return inverse if equilibrated / inverse.size < 0.5 * natural / trace else np.ones_like(inverse)


def _scaled(A: sp.csr_array, units: NDArray[np.float64]) -> sp.csr_array:
    """Return diag(units) A diag(units)."""
    if np.all(units == 1):
        return A
    data = np.empty_like(A.data)
    csr.scale(A.indptr, A.indices, A.data, units, units, data)
    return sp.csr_array((data, A.indices, A.indptr), shape=A.shape)


def _hierarchy(
    A: sp.csr_array, method: Literal["sa", "rs"], B: NDArray[np.float64] | None
) -> tuple[list[sp.csr_array], list[sp.csr_array]]:
    """Let PyAMG coarsen A; return the operators of all levels, and the transfers between them."""
    import pyamg

    options = {"presmoother": None, "postsmoother": None, "coarse_solver": None, "max_coarse": _FEW}
    # PyAMG starts its eigenvalue estimates from NumPy's global generator: make them repeatable, and leave the caller's
    # stream of random numbers as it was.
    with _global_generator, np.errstate(all="ignore"):
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(0)  # noqa: NPY002
            if method == "sa":
                built = pyamg.smoothed_aggregation_solver(A, B=B, smooth=_SMOOTH, improve_candidates=None, **options)
            else:
                # Direct interpolation: as many iterations as with PyAMG's default, at half the set-up time in 3D.
                built = pyamg.ruge_stuben_solver(A, interpolation="direct", **options)
        except (ArithmeticError, IndexError, ValueError):  # LinAlgError is a ValueError
            return [A], []
        finally:
            np.random.set_state(state)  # noqa: NPY002
    operators, transfers = [A], []
    for fine, coarse in zip(built.levels, built.levels[1:], strict=False):
        P, below = _with_int32(sp.csr_array(fine.P)), sp.csr_array(coarse.A)
        sound = 0 < below.shape[0] < operators[-1].shape[0] and np.isfinite(P.data).all()
        if not (sound and np.isfinite(below.data).all()):
            break
        transfers.append(P)
        operators.append(below)
    return operators, transfers


def _inverse(A: NDArray[np.float64], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pseudoinverse of A, where `terms` is the magnitude of what its diagonal entries are differences of."""
    values, vectors = np.linalg.eigh(A)
    rounding = 8 * np.finfo(np.float64).eps * (terms @ vectors**2)
    # P'A P is as definite as A, and float32 data is rounded above 1e-7.
    if np.any(values < -np.maximum(1e-6 * values[-1], rounding)):
        raise NotPositiveDefiniteError("A coarse operator has a negative eigenvalue.")
    kept = values > np.maximum(1e-12 * values[-1], rounding)  # a null space of A arrives here as rounding
    return np.asarray((vectors[:, kept] / values[kept]) @ vectors[:, kept].T)


def _canonical(A: sp.csr_array) -> sp.csr_array:
    """Return A with 32-bit indices, sorted: PyAMG sorts in place otherwise, the caller's indices without the values."""
    A = _with_int32(A)
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A


def _with_int32(A: sp.csr_array) -> sp.csr_array:
    """Return A with the 32-bit indices that PyAMG's kernels take."""
    if A.nnz > np.iinfo(np.int32).max:
        raise ValueError(f"PyAMG takes at most 2^31 - 1 entries, A has {A.nnz}: use preconditioner='none'")
    indices, indptr = (array.astype(np.int32, copy=False) for array in (A.indices, A.indptr))
    return sp.csr_array((A.data, indices, indptr), shape=A.shape)


def _triangles(A: sp.csr_array, scale: NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Return the strict lower triangle of diag(scale) A diag(scale) in float32, and its transpose."""
    A = _with_int32(A)
    below, above = np.empty_like(A.indptr), np.empty_like(A.indptr)
    csr.count_triangles(A.indptr, A.indices, below, above)
    lower, upper = (
        (count, np.empty(count[-1], dtype=np.int32), np.empty(count[-1], dtype=np.float32)) for count in (below, above)
    )
    csr.split_triangles(A.indptr, A.indices, A.data, scale, *lower, *upper)
    return lower, upper
