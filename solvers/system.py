"""A matrix made ready to be solved with, once for many right-hand sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator

from deepcd.pde import Grid
from deepcd.solvers.arguments import norms
from deepcd.solvers.options import Config, Options, with_options
from deepcd.solvers.outcome import Limits, Outcome
from deepcd.solvers.solution import Solution
from deepcd.solvers.space import space_of
from deepcd.solvers.strategies import Strategy
from deepcd.solvers.structure import analyse

if TYPE_CHECKING:
    from deepcd.solvers.grids.embedding import Embedding


class System:
    """A symmetric (semi)definite matrix made ready for `solve`. Made by `DeepCD.setup`.

    It can be copied and pickled, unless it is on a device, and used from several threads, which take turns.

    Attributes
    ----------
    setup_time : float
        Seconds that the preparation took.
    """

    def __init__(
        self,
        config: Config,
        A: Any,
        grid: Grid | None = None,
        *,
        nullspace: ArrayLike | Literal["constant"] | None = None,
        B: ArrayLike | None = None,
        points: ArrayLike | None = None,
        check: bool = True,
        once: bool = False,
    ) -> None:
        start = time.perf_counter()
        self._config, self._check = config, check
        self._structure = analyse(A, config, grid, nullspace=nullspace, B=B, points=points, copy=not once, hasty=once)
        self._strategy = Strategy(self._structure, config, check, once=once)
        self._structure = self._strategy.structure
        self._lock, self._busy = threading.RLock(), False  # preconditioners own their work vectors
        self.setup_time = time.perf_counter() - start

    @property
    def A(self) -> sp.csr_array:
        """The matrix, with its entries; assembled anew where the grid behind it is all that was kept."""
        entries = self._structure.entries()
        return entries if self._structure.sign > 0 else -entries

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of A."""
        return self._structure.n, self._structure.n

    @property
    def embedding(self) -> Embedding | None:
        """The grid behind A, if one was looked for and found."""
        return self._structure.embedding

    @property
    def no_grid(self) -> str:
        """Why A was not taken for a grid, and why points that were given are of no use; empty if all of it was."""
        return self._structure.no_grid

    @property
    def preconditioner(self) -> str:
        """Name of the preconditioner in use."""
        return self._strategy.prepared.preconditioner

    @with_options
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
        {options}
        timeout : float, optional
            No iteration starts after so many seconds; at least one is done.

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
        options = Options.of(
            tol, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback, residuals=residuals, timeout=timeout
        )
        return self.solve_with(options, b, x0)

    def solve_with(self, options: Options, b: ArrayLike, x0: ArrayLike | None = None) -> Solution:
        """Solve A x = b with options that have been validated; see `solve`."""
        start, backend, (n, _) = time.perf_counter(), self._config.backend, self.shape
        right = backend.vector("b", b, n, columns=True)
        guess = None if x0 is None else backend.vector("x0", x0, n, columns=right.ndim == 2)
        if guess is not None and guess.shape != right.shape:
            raise ValueError(f"x0 must have the shape of b, {right.shape}, got {guess.shape}")
        dtype = np.float32 if right.dtype == self._structure.dtype == np.float32 else np.float64
        b64: NDArray[np.float64] = right.astype(np.float64, copy=False)
        x64 = None if guess is None else guess.astype(np.float64, copy=False)
        sizes = norms(b64) if b64.ndim == 2 else np.array([space_of(b64).norm(b64)])
        targets = np.maximum(options.tol * sizes, options.atol)
        tell = options.callback
        told = None if tell is None else lambda x: tell(backend.back(x, b))
        limits = Limits(
            float(targets[0]), options.iterations(n), options.deadline, told, eps=float(np.finfo(right.dtype).eps)
        )
        with self._exclusive():
            if b64.ndim == 1:
                outcome = self._strategy.solve(b64, x64, limits, dtype)
                solution = self._solution(outcome, backend.back(outcome.x, b), time.perf_counter() - start)
            else:
                outcomes, X = self._strategy.solve_block(b64, x64, targets, limits, dtype)
                elapsed = time.perf_counter() - start
                columns = tuple(self._solution(outcome, backend.back(outcome.x, b), elapsed) for outcome in outcomes)
                solution = Solution.of_columns(columns, backend.back(X.astype(dtype, copy=False), b))
        if options.residuals is not None:
            options.residuals[:] = solution.residuals.tolist()
        return solution

    def _solution(self, outcome: Outcome, x: Any, elapsed: float) -> Solution:
        return Solution(
            x,
            outcome.status,
            outcome.residuals,
            preconditioner=self.preconditioner,
            work=self._strategy.prepared.work,
            setup_time=self.setup_time,
            solve_time=elapsed,
            detail=outcome.detail,
            left=outcome.attempts,
        )

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
        long as the new values resemble the old ones. Everything else is prepared anew. A null space that was given to
        `setup` has to be one of the new matrix, too.

        Parameters
        ----------
        A : sparse array, sparse matrix or array_like, shape (n, n)
            Entries where the old matrix has some. Not changed.

        Raises
        ------
        TypeError, ValueError
            If `setup` would refuse A, or if it has another pattern. The system is as before.
        RuntimeError
            If a callback updates the system that is calling it.
        """
        start = time.perf_counter()
        with self._exclusive():
            structure = analyse(A, self._config, previous=self._structure)
            strategy = Strategy(structure, self._config, self._check, previous=self._strategy)
            # Nothing that can fail comes after this.
            self._structure, self._strategy = strategy.structure, strategy
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
        if not self._config.backend.is_host:
            raise ValueError(f"{self.preconditioner} is {self._config.backend.where}: use it through solve")
        if self._structure.sign < 0 and self._strategy.prepared.solvable:
            raise ValueError("A is negative definite, so no positive definite preconditioner suits it: set up -A")
        with self._exclusive():
            self._strategy.strengthen()
        prepared = self._strategy.prepared
        prepared.precondition(np.zeros(self.shape[0]))  # which says why, if it cannot be applied

        def matvec(v: NDArray[Any]) -> NDArray[np.float64]:
            with self._exclusive():
                return prepared.precondition(np.asarray(v, dtype=np.float64).reshape(-1))

        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=np.dtype(np.float64))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which belongs to this process."""
        if not self._config.backend.is_host:
            raise TypeError(f"a system {self._config.backend.where} cannot be copied or pickled: set up another one")
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_busy")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Get a lock of its own."""
        self.__dict__ = state
        self._lock, self._busy = threading.RLock(), False

    def __copy__(self) -> System:
        """Return a deep copy: two systems that shared work vectors would disturb each other."""
        return deepcopy(self)

    def __repr__(self) -> str:
        """Return one line: unknowns and preconditioner."""
        return f"System({self.shape[0]} unknowns, preconditioner {self.preconditioner!r})"

    def __str__(self) -> str:
        """Return a few lines: unknowns, grid or why there is none, levels of the preconditioner and its cost."""
        lines = [f"System of {self.shape[0]} unknowns, set up in {self.setup_time:.3g} s"]
        if self.embedding is not None:
            lines.append(f"grid: {' x '.join(map(str, self.embedding.shape))} cells")
        elif self.no_grid:
            lines.append(f"no grid: {self.no_grid}")
        if self._structure.sign < 0 and self._strategy.prepared.solvable:
            lines.append("negative definite: solved as -A x = -b")
        return "\n".join([*lines, *self._strategy.prepared.describe()])
