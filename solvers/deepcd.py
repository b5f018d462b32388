"""DeepCD, the front door: ``x, info = DeepCD.solve(A, b, tol)``.

Configuration is immutable, work on A alone happens in `setup`, work on b in `System.solve`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.solvers.arguments import count, options
from deepcd.solvers.solution import Solution
from deepcd.solvers.system import ON_CUDA, PRECONDITIONERS, System

if TYPE_CHECKING:
    from deepcd.pde import Grid

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class _OnClassOrInstance(Generic[T, P, R]):
    """A method that works on the class, too: there on an instance made without arguments."""

    def __init__(self, method: Callable[Concatenate[T, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type[T]) -> Callable[P, R]: ...

    @overload
    def __get__(self, instance: T, owner: type[T] | None = None) -> Callable[P, R]: ...

    def __get__(self, instance: T | None, owner: type[T] | None = None) -> Callable[P, R]:
        if instance is None:
            assert owner is not None
            instance = owner()
        return self._method.__get__(instance)


@dataclass(frozen=True)
class DeepCD:
    """Conjugate directions led by a trained network: a solver for symmetric (semi)definite sparse systems.

    Parameters
    ----------
    preconditioner : str, default "auto"
        "learned-multigrid", "geometric-multigrid" or "dcdm" (the network of Kaneda et al.) for matrices with a
        Cartesian grid behind them; "direct" (sparse factors, for small matrices), "pyamg-sa", "pyamg-rs", "jacobi",
        "ic0", "mic0" (incomplete Cholesky), "deflation" (16 Ritz vectors) or "none" for any. "auto" is "direct" for at
        most 2,000 unknowns; else "learned-multigrid" where a grid is found, and "pyamg-rs" after that if the grid's
        walls are too thin for it; else the one of PyAMG's that suits A.
    weights : path, optional
        Weights of the learned multigrid or of "dcdm"; default: those shipped for 2D and for 3D.
    threads : int, optional
        Threads to compute with; default: OMP_NUM_THREADS if that is set, else one per usable core.
    keep : int, optional
        Directions kept for orthogonalisation, from 0; default 1 for a symmetric preconditioner, else 2.
    device : {"cpu", "cuda"}, default "cpu"
        Where to iterate. On a CUDA device there are "learned-multigrid", which is "auto", and "jacobi"; A may then be a
        sparse CSR tensor of torch, b a tensor, and x comes back as what b was. Set-up is done on the host.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    RuntimeError
        If there is no CUDA device, or nothing to compile for it with.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from deepcd import DeepCD
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50), format="csr")
    >>> b = np.ones(50)
    >>> solver = DeepCD(preconditioner="pyamg-sa")
    >>> x, info = solver.solve(A, b, tol=1e-8)
    >>> info, bool(np.linalg.norm(b - A @ x) <= 1e-8 * np.linalg.norm(b))
    (0, True)
    """

    preconditioner: str = "auto"
    weights: str | Path | None = None
    threads: int | None = None
    keep: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot work, before any work is done."""
        if self.preconditioner not in PRECONDITIONERS:
            known = ", ".join(map(repr, PRECONDITIONERS))
            raise ValueError(f"preconditioner must be one of {known}, got {self.preconditioner!r}")
        if self.weights is not None:
            if self.preconditioner not in ("auto", "learned-multigrid", "dcdm"):
                raise ValueError(f"weights are of use to learned-multigrid and dcdm, not to {self.preconditioner!r}")
            if not isinstance(self.weights, str | os.PathLike):
                raise TypeError(f"weights must be the path of a safetensors file, got {type(self.weights).__name__}")
        for name, least in (("threads", 1), ("keep", 0)):
            if getattr(self, name) is not None:
                count(name, getattr(self, name), least=least)
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be 'cpu' or 'cuda', got {self.device!r}")
        if self.device == "cuda":
            if self.preconditioner not in ON_CUDA:
                known = ", ".join(map(repr, ON_CUDA))
                raise ValueError(f"on a CUDA device there are {known}, not {self.preconditioner!r}")
            from deepcd.solvers.backends.cuda import device as cuda

            cuda.require()

    def setup(
        self,
        A: Any,
        grid: Grid | None = None,
        *,
        nullspace: ArrayLike | Literal["constant"] | None = None,
        B: ArrayLike | None = None,
        check: bool = True,
    ) -> System:
        """Do all work that depends on A alone.

        Parameters
        ----------
        A : sparse array, sparse matrix, array_like or Grid, shape (n, n)
            Symmetric positive or negative (semi)definite; or a grid, whose Poisson system is meant. It is copied:
            for new values there is `System.update`.
        grid : Grid, optional
            The grid that A was assembled on; it is compared with A entry by entry instead of being looked for.
        nullspace : array_like, shape (n, m), or "constant", optional
            The null space of a singular A; it is compared with A. Default: constants on the components whose rows sum
            to zero; other null spaces are looked for where there are few unknowns, or where a solve fails.
        B : array_like, shape (n, l), optional
            Near null space for smoothed aggregation, such as the rigid-body modes of elasticity.
        check : bool, default True
            Probe a matrix without a grid for symmetry and definiteness, at the price of two products.

        Returns
        -------
        System
            Solve with it as often as needed: ``system.solve(b)``.

        Raises
        ------
        TypeError, ValueError
            If A is complex, not square, not finite, not `grid`'s, or has no grid though the preconditioner needs one.
        """
        return System(self, A, grid, nullspace=nullspace, B=B, check=check, threads=self._threads())

    def _threads(self) -> int:
        return usable_threads() if self.threads is None else self.threads

    @_OnClassOrInstance
    def solve(
        self,
        A: Any,
        b: ArrayLike,
        tol: float | None = None,
        *,
        rtol: float | None = None,
        x0: ArrayLike | None = None,
        atol: float = 0.0,
        maxiter: int | None = None,
        callback: Callable[[NDArray[np.floating[Any]]], object] | None = None,
        residuals: list[float] | None = None,
        grid: Grid | None = None,
        nullspace: ArrayLike | Literal["constant"] | None = None,
        B: ArrayLike | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Solution:
        """Solve A x = b to ``norm(b - A @ x) <= max(tol * norm(b), atol)``, on an instance or on the class itself.

        Parameters
        ----------
        A : sparse array, sparse matrix, array_like or Grid, shape (n, n)
            Symmetric positive or negative (semi)definite; or a grid, whose Poisson system is meant. Not changed.
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
        grid, nullspace, B, check
            See `setup`.
        timeout : float, optional
            Start no iteration after so many seconds, setup included; at least one iteration is done.

        Returns
        -------
        Solution
            ``x, info`` and more. ``info == 0`` says that the tolerance is met by the true residual, recomputed in
            float64 from A, b and the returned x. float32 only if A and b are.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed. A system that cannot be solved does not raise: see `Solution.status`.

        Examples
        --------
        >>> import numpy as np
        >>> from deepcd import DeepCD
        >>> x, info = DeepCD.solve(np.array([[4.0, 1.0], [1.0, 3.0]]), [1.0, 2.0])
        >>> info, x.round(4).tolist()
        (0, [0.0909, 0.6364])
        """
        start = time.perf_counter()
        options(tol, rtol, atol, maxiter, callback, residuals, timeout)  # before the work on A
        threads = self._threads()
        system = System(self, A, grid, nullspace=nullspace, B=B, check=check, threads=threads, copy=False)
        if timeout is not None:
            timeout = max(timeout - (time.perf_counter() - start), 1e-9)
        return system.solve(
            b,
            tol,
            rtol=rtol,
            x0=x0,
            atol=atol,
            maxiter=maxiter,
            callback=callback,
            residuals=residuals,
            timeout=timeout,
        )


def usable_threads() -> int:
    """Return OMP_NUM_THREADS if that is a positive number, else the number of cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
