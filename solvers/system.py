"""A matrix made ready to be solved with, once for many right-hand sides."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from deepcd.pde import Grid, poisson
from deepcd.solvers.arguments import as_matrix, as_vector, count, norm, tolerance
from deepcd.solvers.parts import Fault, Parts, on_grid, on_matrix
from deepcd.solvers.refinement import Limits, Outcome, refine
from deepcd.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from deepcd.solvers.grid_discovery import Embedding

ON_GRIDS = ("learned-multigrid", "geometric-multigrid")
PRECONDITIONERS = ("auto", *ON_GRIDS, "pyamg-sa", "pyamg-rs", "none")

_MOST = 10_000  # iterations, unless the caller says otherwise: a method that needs more is the wrong one


class System:
    """A symmetric positive (semi)definite matrix made ready for `solve`. Made by `DeepCD.setup`.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
    embedding : Embedding or None
        The grid behind A, if one was looked for and found.
    no_grid : str
        Why A was not taken for a grid; empty if it was, or if none was looked for.
    preconditioner : str
        Name of the preconditioner in use.
    setup_time : float
        Seconds.
    """

    def __init__(
        self,
        A: Any,
        preconditioner: str,
        weights: Any,
        threads: int,
        keep: int | None,
        grid: Grid | None,
        check: bool,
    ) -> None:
        start = time.perf_counter()
        if isinstance(A, Grid):
            if grid is not None:
                raise TypeError("A is a grid itself: give no other as grid")
            grid, A = A, poisson(A).A
            self.A, self._dtype = as_matrix(A)
        else:
            self.A, self._dtype = as_matrix(A)
            if grid is not None:
                _match(self.A, grid)
        self.embedding: Embedding | None = None
        self.no_grid = ""
        if preconditioner in ("auto", *ON_GRIDS) and self.A.shape[0]:
            self._find_grid(grid, required=preconditioner != "auto")
        parts: Parts | Fault
        if self.embedding is not None:
            exact = self._dtype == np.float64
            parts = on_grid(self.A, self.embedding, preconditioner, weights, threads, exact=exact)
        else:
            parts = on_matrix(self.A, preconditioner, float(np.finfo(self._dtype).eps), check=check)
        if check and isinstance(parts, Parts) and (parts.diagonal < 0).any():
            row = int(parts.alone[int(np.argmin(parts.diagonal))])
            parts = Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative."
        self._parts = parts
        self.preconditioner = parts.M.name if isinstance(parts, Parts) else "none"
        self._keep = keep or (1 if not isinstance(parts, Parts) or parts.M.symmetric else 2)
        self._lock = threading.Lock()  # preconditioners own their work vectors
        self.setup_time = time.perf_counter() - start

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of A."""
        return self.A.shape

    def solve(
        self,
        b: ArrayLike,
        tol: float | None = None,
        *,
        rtol: float | None = None,
        x0: ArrayLike | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        callback: Callable[[NDArray[np.floating[Any]]], object] | None = None,
        residuals: list[float] | None = None,
        timeout: float | None = None,
    ) -> Solution:
        """Solve A x = b to ``norm(b - A @ x) <= max(tol * norm(b), atol)``.

        Parameters
        ----------
        b : array_like, shape (n,) or (n, 1)
            Right-hand side.
        tol : float, default 1e-6
            Relative tolerance, positive.
        rtol : float, optional
            SciPy's name for `tol`.
        x0 : array_like, shape (n,), optional
            Where to start; default zero. Not changed.
        atol : float, default 0.0
            Absolute tolerance.
        maxiter : int, optional
            At most so many iterations; default 10 n, but not more than 10,000.
        callback : callable, optional
            Called as ``callback(x)`` after each iteration with the current x, shape (n,); returning True stops.
        residuals : list, optional
            Its content is replaced by the residual norms.
        timeout : float, optional
            Start no iteration after so many seconds; at least one is done.

        Returns
        -------
        Solution
            ``x, info`` and more. float32 only if A and b are. On a component of A whose rows sum to zero, x has mean
            zero unless `x0` is given.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed: wrong length, complex, NaN, no positive tolerance, both `tol` and `rtol`.
        """
        start = time.perf_counter()
        n = self.A.shape[0]
        if tol is not None and rtol is not None:
            raise TypeError("tol and rtol are two names for one tolerance: give one of them")
        tol = tolerance("tol", tol) if tol is not None else tolerance("rtol", rtol) if rtol is not None else 1e-6
        atol = tolerance("atol", atol, zero=True)
        maxiter = min(max(10 * n, 1), _MOST) if maxiter is None else count("maxiter", maxiter)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        if residuals is not None and not isinstance(residuals, list):
            raise TypeError(f"residuals must be a list to be filled, got {type(residuals).__name__}")
        deadline = math.inf if timeout is None else start + tolerance("timeout", timeout)
        right = as_vector("b", b, n)
        dtype = np.float32 if right.dtype == self._dtype == np.float32 else np.float64
        b64: NDArray[np.float64] = right.astype(np.float64, copy=False)
        guess = None if x0 is None else as_vector("x0", x0, n).astype(np.float64, copy=False)

        size = norm(b64)
        if size == 0:
            outcome = Outcome(np.zeros(n, dtype), Status.CONVERGED, [0.0])
        elif isinstance(self._parts, Parts):
            limits = Limits(max(tol * size, atol), maxiter, deadline, callback)
            with self._lock:
                outcome = refine(self._parts, b64, guess, limits, self._keep, dtype)
        else:
            x = np.zeros(n) if guess is None else guess
            outcome = Outcome(x.astype(dtype), self._parts[0], [norm(b64 - self.A @ x)], self._parts[1])
        if residuals is not None:
            residuals[:] = outcome.residuals
        return Solution(
            outcome.x,
            outcome.status,
            outcome.residuals,
            preconditioner=self.preconditioner,
            work=self._parts.M.work if isinstance(self._parts, Parts) else 0.0,
            setup_time=self.setup_time,
            solve_time=time.perf_counter() - start,
            detail=outcome.detail,
        )

    def aspreconditioner(self) -> LinearOperator:
        """Return one application of the preconditioner as an operator on vectors of A's rows.

        Returns
        -------
        LinearOperator of float64, shape (n, n)
            For SciPy's ``M=`` and PyAMG's ``accel=``. Symmetric and positive; on sealed components up to constants.

        Raises
        ------
        ValueError
            If there is no symmetric preconditioner, which those methods rely on.
        """
        parts = self._parts
        if not isinstance(parts, Parts):
            raise ValueError(f"this system has no preconditioner. {parts[0].value} {parts[1]}".rstrip())
        if not parts.M.symmetric:
            raise ValueError(f"{self.preconditioner} is not symmetric: use it through solve")

        def matvec(v: NDArray[Any]) -> NDArray[np.float64]:
            with self._lock:
                return parts.precondition(np.asarray(v, dtype=np.float64).reshape(-1))

        return LinearOperator(self.A.shape, matvec=matvec, rmatvec=matvec, dtype=np.dtype(np.float64))

    def __str__(self) -> str:
        """Return a few lines: unknowns, grid or why there is none, levels of the preconditioner and its cost."""
        lines = [f"System of {self.A.shape[0]} unknowns, {self.A.nnz} entries, set up in {self.setup_time:.3g} s"]
        if self.embedding is not None:
            lines.append(f"grid: {' x '.join(map(str, self.embedding.shape))} cells")
        elif self.no_grid:
            lines.append(f"no grid: {self.no_grid}")
        if not isinstance(self._parts, Parts):
            return "\n".join([*lines, f"cannot be solved. {self._parts[0].value} {self._parts[1]}".rstrip()])
        if self._parts.alone.size:
            lines.append(f"rows without off-diagonal entries, solved on their own: {self._parts.alone.size}")
        if self._parts.singular:
            lines.append("singular: solved up to a constant on each component whose rows sum to zero")
        lines.append(f"preconditioner: {self._parts.M}")
        lines.append(f"passes over the unknowns per iteration: {self._parts.M.work:.1f}, directions kept: {self._keep}")
        return "\n".join(lines)

    def _find_grid(self, grid: Grid | None, *, required: bool) -> None:
        from deepcd.solvers.kernels import compilation, fused

        compilation.announce(fused.correct_smooth)
        if grid is not None:
            from deepcd.solvers.grid_discovery import embed

            self.embedding = embed(grid)
            return
        from deepcd.solvers.grid_discovery import NotAGrid, discover

        try:
            # In A's own precision: what counts as equal depends on it.
            self.embedding = discover(self.A if self._dtype == np.float64 else self.A.astype(self._dtype))
        except NotAGrid as error:
            if required:
                raise ValueError(f'there is no grid behind A: {error}; preconditioner="auto" takes any A') from error
            self.no_grid = str(error)


def _match(A: sp.csr_array, grid: Grid) -> None:
    """Raise a ValueError unless A is the matrix of the grid, entry by entry."""
    expected = poisson(grid).A
    if A.shape != expected.shape:
        raise ValueError(f"grid has {expected.shape[0]} unknowns, but A has {A.shape[0]} rows; describe A's own grid")
    if not np.array_equal(A.indptr, expected.indptr) or not np.array_equal(A.indices, expected.indices):
        raise ValueError("grid couples other cells than A does; describe A's own grid, numbered in C order")
    if not np.allclose(A.data, expected.data, rtol=8 * float(np.finfo(np.float64).eps), atol=0.0):
        raise ValueError("grid has other coefficients than A: check its spacing, walls and air_at")
