"""A matrix made ready to be solved with, once for many right-hand sides."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from deepcd.pde import Grid, poisson
from deepcd.solvers.arguments import as_columns, as_matrix, as_null_space, as_vector, norm, norms, options
from deepcd.solvers.columns import iterate_together
from deepcd.solvers.diagnosis import as_singular
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.parts import CLASSICAL, Fault, Parts, alone, on_grid, on_matrix
from deepcd.solvers.preconditioners.direct import LARGEST
from deepcd.solvers.refinement import refine
from deepcd.solvers.solution import Solution, Status
from deepcd.solvers.space import space_of

if TYPE_CHECKING:
    from deepcd.solvers.backends.cuda.vector import Sums
    from deepcd.solvers.deepcd import DeepCD
    from deepcd.solvers.grid_discovery import Embedding, Scanned
    from deepcd.solvers.operators.grid_matrix import GridMatrix

ON_GRIDS = ("learned-multigrid", "geometric-multigrid", "dcdm")
PRECONDITIONERS = ("auto", *ON_GRIDS, "direct", "pyamg-sa", "pyamg-rs", *CLASSICAL)
ON_CUDA = ("auto", "learned-multigrid", "jacobi")

_PATIENCE = 50  # iterations of a learned cycle after which its progress is looked at
_WORTH = 400  # of them take as long as the set-up of Ruge-Stueben coarsening: more to come, and that is the better way
_MOST = 10_000  # iterations, unless the caller says otherwise: a method that needs more is the wrong one


class System:
    """A symmetric (semi)definite matrix made ready for `solve`. Made by `DeepCD.setup`.

    It can be copied and pickled, unless it is on a CUDA device, and used from several threads, which take turns.

    Attributes
    ----------
    shape : tuple of two ints
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
        solver: DeepCD,
        A: Any,
        grid: Grid | None = None,
        *,
        nullspace: ArrayLike | Literal["constant"] | None = None,
        B: ArrayLike | None = None,
        check: bool = True,
        threads: int = 1,
        copy: bool = True,
    ) -> None:
        start = time.perf_counter()
        self._solver, self._grid, self._check, self._threads = solver, grid, check, threads
        self._scanned: Scanned | None = None
        self._parts: Parts | Fault
        self._lock, self._busy = threading.RLock(), False  # preconditioners own their work vectors
        self._sums: Sums | None = None  # of the device that vectors live on
        if solver.device == "cuda":
            from deepcd.solvers.backends.cuda.vector import Sums

            self._sums = Sums()
        A = self._hosted(A)
        matrix: sp.csr_array | GridMatrix
        if isinstance(A, Grid):
            if grid is not None:
                raise TypeError("A is a grid itself: give no other as grid")
            self._grid = A
            matrix, self._dtype = _on(A, threads), np.dtype(np.float64)
        else:
            matrix, self._dtype = as_matrix(A, self._scan)
            if self._grid is not None:
                _match(matrix, self._grid)
        self._matrix = matrix
        self._null = None if nullspace is None else as_null_space(nullspace, self.A, self._eps)
        self._B = None if B is None else as_columns("B", B, self.shape[0])
        self._prepare(A if copy else None)
        self.setup_time = time.perf_counter() - start

    @property
    def A(self) -> sp.csr_array:
        """The matrix, with its entries; assembled anew where the grid behind it is all that was kept."""
        return self._matrix if sp.issparse(self._matrix) else self._matrix.tocsr()

    def _scan(self, matrix: sp.csr_array) -> bool:
        """Return whether every entry says that the matrix is sound and may well be a grid's."""
        wanted = self._solver.preconditioner
        if self._grid is None and (wanted in ON_GRIDS or (wanted == "auto" and matrix.shape[0] > LARGEST)):
            from deepcd.solvers.grid_discovery import scan

            self._scanned = scan(matrix)
        return self._scanned is not None

    @property
    def _eps(self) -> float:
        """Unit roundoff that the entries of A carry."""
        return float(np.finfo(self._dtype).eps)

    def _prepare(self, given: Any = None, previous: Parts | None = None) -> None:
        """Look for structure in A and build its parts, none of which shares memory with the matrix that was given."""
        wanted, n, A = self._solver.preconditioner, self.shape[0], self._matrix
        self.embedding: Embedding | None = None
        self.no_grid, self._sign = "", 1
        if isinstance(A, sp.csr_array) and n:
            # The Laplacian has two signs in use. A look at one row tells whether a look at all of them is worth it.
            diagonal = A[:1].diagonal()
            if diagonal[0] < 0:
                diagonal = A.diagonal()
            if diagonal.max() <= 0 and diagonal.min() < 0:
                self._sign, A = -1, -A
        small = wanted == "auto" and self._grid is None and n <= LARGEST and self._sums is None
        if wanted in ("auto", *ON_GRIDS) and n and not small:
            self._find_grid(A, required=wanted != "auto" or self._sums is not None)
        parts: Parts | Fault
        exact = self._dtype == np.float64
        if self.embedding is not None and self.embedding.exact and exact and self._sign > 0 and sp.issparse(A):
            from deepcd.solvers.operators.grid_matrix import GridMatrix

            # Nothing is lost: the caller's matrix is neither kept nor copied.
            rows = slice(None) if self.embedding.rows is None else self.embedding.rows
            self._matrix = A = GridMatrix(self.embedding, n, *alone(A, rows), self._threads)
        elif isinstance(self._matrix, sp.csr_array) and _shared(self._matrix, given):
            kept = self._matrix.copy()
            A, self._matrix = kept if A is self._matrix else A, kept
        if self.embedding is not None:
            parts = on_grid(A, self.embedding, wanted, self._solver.weights, self._threads, exact=exact)
        else:
            A = A if sp.issparse(A) else A.tocsr()
            parts = on_matrix(A, wanted, self._eps, check=self._check, B=self._B, null=self._null, previous=previous)
        if isinstance(parts, Parts) and (parts.diagonal < 0).any():
            row = int(parts.alone[int(np.argmin(parts.diagonal))])
            parts = Status.INDEFINITE_MATRIX, f"A[{row}, {row}] is negative, and other diagonal entries are not."
        if self._sums is not None and isinstance(parts, Parts):
            from deepcd.solvers.backends.cuda import device as cuda

            parts = cuda.on_device(parts, self._sums)
        self._use(parts)

    def _use(self, parts: Parts | Fault) -> None:
        self._parts = parts
        self._twins: list[Parts] = []
        self.preconditioner = parts.M.name if isinstance(parts, Parts) else "none"
        usual = 1 if not isinstance(parts, Parts) or parts.M.symmetric else 2
        self._keep = usual if self._solver.keep is None else self._solver.keep

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of A."""
        return self._matrix.shape

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
        """Solve A x = b to ``norm(b - A @ x) <= max(tol * norm(b), atol)``, for each column if b has several.

        Parameters
        ----------
        b : array_like, shape (n,), (n, 1) or (n, k)
            Right-hand side, or k of them, which are solved for together.
        tol : float, default 1e-6
            Relative tolerance, positive.
        rtol : float, optional
            SciPy's name for `tol`.
        x0 : array_like, shape (n,), or that of b, optional
            Where to start; default zero. Not changed.
        atol : float, default 0.0
            Absolute tolerance.
        maxiter : int, optional
            At most so many iterations; default 10 n, but not more than 10,000.
        callback : callable, optional
            Called as ``callback(x)`` after each iteration with the current x, of the shape of b; returning True stops.
        residuals : list, optional
            Its content is replaced by the residual norms; of several columns, by those of the whole block.
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
        RuntimeError
            If a callback calls the system that is calling it.
        """
        start = time.perf_counter()
        n = self.shape[0]
        tol, maxiter = options(tol, rtol, atol, maxiter, callback, residuals, timeout)
        maxiter = min(max(10 * n, 1), _MOST) if maxiter is None else maxiter
        deadline = math.inf if timeout is None else start + timeout
        right = self._vector("b", b, columns=True)
        guess = None if x0 is None else self._vector("x0", x0, columns=right.ndim == 2)
        if guess is not None and guess.shape != right.shape:
            raise ValueError(f"x0 must have the shape of b, {right.shape}, got {guess.shape}")
        dtype = np.float32 if right.dtype == self._dtype == np.float32 else np.float64
        b64: NDArray[np.float64] = right.astype(np.float64, copy=False)
        x64 = None if guess is None else guess.astype(np.float64, copy=False)
        sizes = norms(b64) if b64.ndim == 2 else np.array([space_of(b64).norm(b64)])
        targets = np.maximum(tol * sizes, atol)
        limits = Limits(float(targets[0]), maxiter, deadline, self._told(callback, b))
        with self._exclusive():
            if b64.ndim == 1:
                outcome = self._solve_vector(b64, x64, limits, dtype)
                outcome = replace(outcome, x=self._handed_back(outcome.x, b))
                solution = self._solution(outcome, time.perf_counter() - start)
            else:
                outcomes, X = self._solve_block(b64, x64, targets, limits, dtype)
                elapsed = time.perf_counter() - start
                x: NDArray[np.floating[Any]] = X.astype(dtype, copy=False)
                solution = _block(tuple(self._solution(outcome, elapsed) for outcome in outcomes), x, elapsed)
        if residuals is not None:
            residuals[:] = solution.residuals.tolist()
        return solution

    def _vector(self, name: str, v: ArrayLike, columns: bool) -> NDArray[Any]:
        """Convert an argument to a vector, or several, that lie where the parts of A do."""
        if self._sums is None:
            return as_vector(name, v, self.shape[0], columns=columns)
        from deepcd.solvers.backends.cuda import device as cuda

        if not isinstance(self._parts, Parts):  # the status is all there is to tell
            return as_vector(name, cuda.to_host(v), self.shape[0], columns=columns)
        vector: Any = cuda.as_cuda_vector(name, v, self.shape[0], self._sums)
        return vector

    def _hosted(self, A: Any) -> Any:
        """Return a matrix with its entries on the host, where grids are found."""
        if self._sums is None:
            return A
        from deepcd.solvers.backends.cuda import device as cuda

        return cuda.matrix_to_host(A)

    def _handed_back(self, x: NDArray[np.floating[Any]], b: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return x as the kind of array that b is, if that may be one on a device."""
        if self._sums is None:
            return x
        from deepcd.solvers.backends.cuda import device as cuda

        return cuda.like(x, b)

    def _told(
        self, callback: Callable[[NDArray[np.floating[Any]]], object] | None, b: ArrayLike
    ) -> Callable[[NDArray[np.floating[Any]]], object] | None:
        """Return a callback that is told of x as the kind of array that b is."""
        return callback if callback is None or self._sums is None else lambda x: callback(self._handed_back(x, b))

    def _solve_vector(
        self, b: NDArray[np.float64], x0: NDArray[np.float64] | None, limits: Limits, dtype: type[np.floating[Any]]
    ) -> Outcome:
        """Solve for one right-hand side; if that fails, find out whether another way leads further."""
        if not b.any():
            space = space_of(b)
            return Outcome(space.cast(space.zeros(b), dtype), Status.CONVERGED, [0.0])
        if not isinstance(self._parts, Parts):
            x = np.zeros(len(b)) if x0 is None else x0
            return Outcome(x.astype(dtype), self._parts[0], [norm(b - self._matrix @ x)], self._parts[1])
        if self._sign < 0:
            b = space_of(b).scale(-1.0, b)
        outcome = refine(self._parts, b, x0, self._patient(limits), self._keep, dtype)
        spent = len(outcome.residuals) - 1
        if outcome.status in (Status.MAXITER, Status.INDEFINITE_PRECONDITIONER) and self._may_switch:
            if spent < limits.maxiter:
                if outcome.status is not Status.MAXITER or _left(outcome.residuals, limits.target) > _WORTH:
                    self._switch()
                rest = replace(limits, maxiter=limits.maxiter - spent)
                outcome = outcome.then(refine(self._parts, b, outcome.x.astype(float), rest, self._keep, dtype))
        elif outcome.is_puzzling and spent:
            singular = as_singular(self._parts, b, x0, limits.target, spent, limits.deadline)
            if singular is not None:
                outcome = refine(singular, b, x0, limits, self._keep, dtype)
        if self._sign < 0:
            outcome = replace(
                outcome, detail=f"{outcome.detail} The diagonal of A is negative: -A x = -b was solved.".lstrip()
            )
        return outcome

    def _solve_block(
        self,
        B: NDArray[np.float64],
        start: NDArray[np.float64] | None,
        targets: NDArray[np.float64],
        limits: Limits,
        dtype: type[np.floating[Any]],
    ) -> tuple[list[Outcome], NDArray[np.float64]]:
        """Solve for several right-hand sides: together, then each that has not converged on its own."""
        on_grid = self.embedding is not None and isinstance(self._parts, Parts)
        if on_grid:  # column by column: they had better lie one after the other
            B = _by_columns(B)
            start = None if start is None else _by_columns(start)
        X = np.zeros_like(B) if start is None else np.where(B.any(axis=0), start, 0.0)
        tell = limits.callback
        outcomes = [Outcome(x, Status.MAXITER, []) for x in X.T]
        halted = None
        if on_grid and tell is None and self._threads > 1:
            outcomes = self._side_by_side(B, X, start is not None, targets, limits, dtype)
        elif isinstance(self._parts, Parts) and self._parts.operator is not None and not on_grid:
            told = limits if tell is None else replace(limits, callback=lambda block: tell(block.astype(dtype)))
            outcomes = iterate_together(self._parts, self._sign * B, X, targets, self._patient(told))
        for j, before in enumerate(outcomes):
            if before.status is Status.CONVERGED:
                continue

            def tell_all(x: NDArray[np.floating[Any]], j: int = j) -> object:
                X[:, j] = x
                assert tell is not None
                return tell(X.astype(dtype))

            stopped = halted if halted is not None else before.status
            rest = max(limits.maxiter - max(len(before.residuals) - 1, 0), 0)
            if stopped in (Status.CALLBACK, Status.TIMEOUT):
                rest = 0
            own = Limits(targets[j], rest, limits.deadline, None if tell is None else tell_all)
            x0 = None if not before.residuals and start is None else X[:, j].copy()
            after = self._solve_vector(np.ascontiguousarray(B[:, j]), x0, own, dtype)
            if rest == 0 and after.status is Status.MAXITER:
                after = replace(after, status=stopped)
            if after.status in (Status.CALLBACK, Status.TIMEOUT):
                halted = after.status  # of the others, no iteration starts
            after = _placed(after, X[:, j], dtype)
            outcomes[j] = before.then(after) if before.residuals else after
        return outcomes, X

    def _side_by_side(
        self,
        B: NDArray[np.float64],
        X: NDArray[np.float64],
        started: bool,
        targets: NDArray[np.float64],
        limits: Limits,
        dtype: type[np.floating[Any]],
    ) -> list[Outcome]:
        """Solve for the columns on a grid, each by one thread alone: no thread waits for another at every pass.

        X holds where to start if `started`, and the answers afterwards.

        Several columns in one pass, interleaved, are slower than one after the other: what bounds a pass is memory, and
        the vectors of one column are more likely to stay in a cache.
        """
        assert isinstance(self._parts, Parts)
        count = min(self._threads, B.shape[1])
        while len(self._twins) < count:
            self._twins.append(self._parts.twin())
        outcomes: list[Outcome] = [Outcome(x, Status.MAXITER, []) for x in B.T]

        def work(first: int) -> None:
            for j in range(first, B.shape[1], count):
                own = self._patient(Limits(targets[j], limits.maxiter, limits.deadline, None))
                x0 = X[:, j].copy() if started else None
                outcome = refine(self._twins[first], self._sign * B[:, j], x0, own, self._keep, dtype)
                outcomes[j] = _placed(outcome, X[:, j], dtype)

        with ThreadPoolExecutor(count, "deepcd") as pool:
            list(pool.map(work, range(count)))
        return outcomes

    @property
    def _may_switch(self) -> bool:
        """Whether another preconditioner may take the place of the one in use."""
        chosen = self._solver.preconditioner == "auto" and self.preconditioner in ON_GRIDS
        return self.embedding is not None and chosen and self._sums is None

    def _patient(self, limits: Limits) -> Limits:
        """Return the limits, with no more iterations than it takes to see whether to switch."""
        return replace(limits, maxiter=min(limits.maxiter, _PATIENCE)) if self._may_switch else limits

    def _switch(self) -> None:
        """Replace a cycle that does badly on this grid, as it does where walls are thinner than coarse cells."""
        self._use(on_matrix(self._sign * self.A, "pyamg-rs", self._eps, check=False))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let other threads wait, and refuse a callback that calls its own system."""
        with self._lock:
            if self._busy:
                raise RuntimeError("a callback called the system that is calling it: use a copy.deepcopy of the system")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def update(self, A: Any) -> None:
        """Take new values on the same pattern of entries.

        Algebraic multigrid keeps its transfers and recomputes its coarse operators, which saves most of its set-up as
        long as the new values resemble the old ones. Everything else is prepared anew.

        Parameters
        ----------
        A : sparse array, sparse matrix or array_like, shape (n, n)
            Entries where the old matrix has some. Not changed.

        Raises
        ------
        TypeError, ValueError
            If A is malformed or has another pattern; the system is as before.
        """
        start = time.perf_counter()
        self._scanned = None
        A = self._hosted(A)
        new, dtype = as_matrix(A, self._scan)
        if new.shape != self.shape:
            raise ValueError(f"update takes a matrix of the shape of the old one, {self.shape}, got {new.shape}")
        if not _same_pattern(new, self.A):
            raise ValueError("update takes new values on the old pattern, but the pattern differs: set up a new system")
        with self._exclusive():
            self._grid = None
            self._matrix, self._dtype = new, dtype
            self._prepare(A, self._parts if isinstance(self._parts, Parts) else None)
            self.setup_time = time.perf_counter() - start

    def aspreconditioner(self) -> LinearOperator:
        """Return one application of the preconditioner as an operator on vectors of A's rows.

        Returns
        -------
        LinearOperator of float64, shape (n, n)
            For SciPy's ``M=`` and PyAMG's ``accel=``. Symmetric and positive; on sealed components up to constants.

        Raises
        ------
        ValueError
            If there is no symmetric positive definite preconditioner, which those methods rely on.
        """
        parts = self._parts
        if not isinstance(parts, Parts):
            raise ValueError(f"this system has no preconditioner. {parts[0].value} {parts[1]}".rstrip())
        if not parts.M.symmetric or self._sums is not None:
            why = "not symmetric" if self._sums is None else "on a CUDA device"
            raise ValueError(f"{self.preconditioner} is {why}: use it through solve")
        if self._sign < 0:
            raise ValueError("A is negative definite, so no positive definite preconditioner suits it: set up -A")

        def matvec(v: NDArray[Any]) -> NDArray[np.float64]:
            with self._exclusive():
                return parts.precondition(np.asarray(v, dtype=np.float64).reshape(-1))

        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=np.dtype(np.float64))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which belongs to this process."""
        if self._sums is not None:
            raise TypeError("a system on a CUDA device cannot be copied or pickled: set up another one")
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_busy")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Get a lock of its own."""
        self.__dict__ = state
        self._lock, self._busy = threading.RLock(), False

    def __copy__(self) -> System:
        """Return a deep copy: two systems that shared work vectors would disturb each other."""
        return deepcopy(self)

    def __str__(self) -> str:
        """Return a few lines: unknowns, grid or why there is none, levels of the preconditioner and its cost."""
        lines = [f"System of {self.shape[0]} unknowns, set up in {self.setup_time:.3g} s"]
        if self.embedding is not None:
            lines.append(f"grid: {' x '.join(map(str, self.embedding.shape))} cells")
        elif self.no_grid:
            lines.append(f"no grid: {self.no_grid}")
        if not isinstance(self._parts, Parts):
            return "\n".join([*lines, f"cannot be solved. {self._parts[0].value} {self._parts[1]}".rstrip()])
        if self._sign < 0:
            lines.append("negative definite: solved as -A x = -b")
        if self._parts.alone.size:
            lines.append(f"rows without off-diagonal entries, solved on their own: {self._parts.alone.size}")
        if self._parts.singular:
            lines.append("singular: solved up to a vector of the null space, such as a constant on a sealed component")
        lines.append(f"preconditioner: {self._parts.M}")
        lines.append(f"passes over the unknowns per iteration: {self._parts.M.work:.1f}, directions kept: {self._keep}")
        return "\n".join(lines)

    def _solution(self, outcome: Outcome, elapsed: float) -> Solution:
        return Solution(
            outcome.x,
            outcome.status,
            outcome.residuals,
            preconditioner=self.preconditioner,
            work=self._parts.M.work if isinstance(self._parts, Parts) else 0.0,
            setup_time=self.setup_time,
            solve_time=elapsed,
            detail=outcome.detail,
        )

    def _find_grid(self, A: sp.csr_array, *, required: bool) -> None:
        from deepcd.solvers.kernels import compilation, fused

        compilation.announce(fused.ascend)
        if not sp.issparse(self._matrix):
            self.embedding = self._matrix.embedding
            return
        if self._grid is not None:
            from deepcd.solvers.grid_discovery import embed

            self.embedding = embed(self._grid)
            return
        from deepcd.solvers.grid_discovery import NotAGrid, discover

        try:
            # In A's own precision: what counts as equal depends on it.
            scanned, self._scanned = self._scanned, None
            self.embedding = discover(A if self._dtype == np.float64 else A.astype(self._dtype), scanned)
        except NotAGrid as error:
            if required:
                other = "jacobi" if self._sums is not None else "auto"
                raise ValueError(f'there is no grid behind A: {error}; preconditioner="{other}" takes any A') from error
            self.no_grid = str(error)


def _on(grid: Grid, threads: int) -> sp.csr_array | GridMatrix:
    """Return the Poisson matrix of a grid, without assembling it if it has off-diagonal entries at all."""
    from deepcd.solvers.grid_discovery import NotAGrid, embed
    from deepcd.solvers.operators.grid_matrix import GridMatrix

    try:
        embedding = embed(grid)
    except NotAGrid:
        return poisson(grid).A
    lonely: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    diagonal: NDArray[np.float64] = np.empty(0)
    n = embedding.position.size
    if embedding.rows is not None:
        neighbours, dirichlet = grid.couplings()
        unknown = grid.fluid & (neighbours + dirichlet > 0)
        lonely, n = np.flatnonzero(neighbours[unknown] == 0), int(np.count_nonzero(unknown))
        diagonal = dirichlet[unknown][lonely].astype(np.float64) * embedding.scale
    return GridMatrix(embedding, n, lonely, diagonal, threads)


def _by_columns(B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return B in Fortran order."""
    if B.flags.f_contiguous:
        return B
    from deepcd.solvers.kernels import csr

    rows = np.empty(B.shape[::-1])
    csr.transpose(B, rows)
    return rows.T


def _placed(outcome: Outcome, column: NDArray[np.float64], dtype: type[np.floating[Any]]) -> Outcome:
    """Write the answer to its column, and return the outcome without another copy: its memory serves the next one."""
    column[:] = outcome.x
    return replace(outcome, x=column.astype(dtype, copy=False))


def _left(residuals: list[float], target: float) -> float:
    """Return how many iterations are left at the rate of the second half of those done."""
    half = len(residuals) // 2
    rate = math.log(residuals[half] / residuals[-1]) / (len(residuals) - 1 - half) if residuals[-1] > 0 else math.inf
    return math.log(residuals[-1] / max(target, 1e-300)) / rate if rate > 0 else math.inf


def _shared(matrix: sp.csr_array, A: Any) -> bool:
    """Return whether the matrix that A was converted to may share memory with it."""
    return sp.issparse(A) and (matrix is A or np.may_share_memory(matrix.data, getattr(A, "data", None)))


def _same_pattern(A: sp.csr_array, B: sp.csr_array) -> bool:
    return np.array_equal(A.indptr, B.indptr) and np.array_equal(A.indices, B.indices)


def _match(A: sp.csr_array, grid: Grid) -> None:
    """Raise a ValueError unless A is the matrix of the grid, entry by entry."""
    expected = poisson(grid).A
    if A.shape != expected.shape:
        raise ValueError(f"grid has {expected.shape[0]} unknowns, but A has {A.shape[0]} rows; describe A's own grid")
    if not _same_pattern(A, expected):
        raise ValueError("grid couples other cells than A does; describe A's own grid, numbered in C order")
    if not np.allclose(A.data, expected.data, rtol=8 * float(np.finfo(np.float64).eps), atol=0.0):
        raise ValueError("grid has other coefficients than A: check its spacing, walls and air_at")


def _block(columns: tuple[Solution, ...], x: NDArray[np.floating[Any]], elapsed: float) -> Solution:
    """Return one solution for several right-hand sides: the status is that of the first that failed."""
    failed = [j for j, column in enumerate(columns) if column.info]
    worst = columns[failed[0]] if failed else columns[0]
    histories = [column.residuals for column in columns]
    length = max(map(len, histories))
    padded = np.array([np.pad(history, (0, length - len(history)), mode="edge") for history in histories])
    detail = f"{len(failed)} of {len(columns)} columns failed, the first one is {failed[0]}. " if failed else ""
    return Solution(
        x,
        worst.status,
        np.hypot.reduce(padded, axis=0),
        preconditioner=worst.preconditioner,
        work=worst.work,
        setup_time=worst.setup_time,
        solve_time=elapsed,
        detail=(detail + worst.detail).rstrip(),
        columns=columns,
    )
