"""DeepCD, the front door: ``x, info = DeepCD.solve(A, b, tol)``.

Configuration is immutable, work on A alone happens in `setup`, work on b in `System.solve`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.solvers.arguments import count
from deepcd.solvers.backends import backend as backends
from deepcd.solvers.options import Config, Options, usable_threads, with_options
from deepcd.solvers.recipes import RECIPES, Recipe, recipe_of
from deepcd.solvers.small import solve_small
from deepcd.solvers.solution import Solution
from deepcd.solvers.system import System

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
    preconditioner : str, Recipe or callable, default "auto"
        For matrices with a Cartesian grid behind them: "learned-multigrid", "geometric-multigrid", or "dcdm" (the
        network of Kaneda et al., ICML 2023). For the matrix of a mesh whose points are given: "auxiliary-grid" (the
        learned cycle on a lattice over the mesh). For any matrix: "direct" (sparse factors), "smoothed-aggregation"
        (algebraic multigrid), "pyamg-sa" and "pyamg-rs" (PyAMG's smoothed aggregation, which "smoothed-aggregation" is
        where B is given, and its Ruge-Stueben coarsening), "approximate-cholesky" (sampled factors of the Laplacians of
        graphs and networks of resistors, over many decades: A should be diagonally dominant and its couplings
        negative), "jacobi", "ssor" (over-relaxation), "ic0" and "mic0" (incomplete Cholesky), "deflation" (16 Ritz
        vectors) or "none".
        "auto" takes "direct" for at most 2,000 unknowns and for chains, "auxiliary-grid" where points are given and of
        use, and where a grid is found "learned-multigrid" (and another method if the walls in the grid turn out to be
        too thin). On any other matrix it begins with "jacobi" or "ssor", which need no set-up, and leaves them for
        "direct", "smoothed-aggregation" or "approximate-cholesky" where the first iterations tell that these are
        cheaper in all; `Solution.attempts` says so. For a single solve of at most 40,000 unknowns a grid is looked for
        only then.
        A callable of your own is given the coupled rows of A as a csr_array and returns an approximate inverse that is
        symmetric positive definite: a matrix, a LinearOperator, or an object with the methods of `Preconditioner`.
    weights : path, optional
        Weights for "learned-multigrid" or "dcdm"; default: those that ship for two and for three axes.
    threads : int, optional
        Number of threads to compute with; default: OMP_NUM_THREADS if that is set, else one per usable core.
    keep : int, optional
        Number of directions kept for orthogonalisation, from 0; default 1 for a symmetric preconditioner, else 2.
    device : {"cpu", "cuda"}, default "cpu"
        Where to iterate; set-up is done on the host. A CUDA device runs "learned-multigrid" where all couplings of a
        grid are equal, "geometric-multigrid" where faces have weights of their own ("auto" there means the one or the
        other), and "jacobi". A may then be a sparse CSR tensor of torch, b a tensor, and x comes back as what b was.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.
    RuntimeError
        If the device, or what compiles for it, is missing.

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

    preconditioner: str | Recipe | Callable[[Any], Any] = "auto"
    weights: str | Path | None = None
    threads: int | None = None
    keep: int | None = None
    device: backends.Device = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot work, before any work is done."""
        recipe = recipe_of(self.preconditioner)
        if self.weights is not None:
            if recipe is not None and not recipe.takes_weights:
                takers = " and ".join(known.name for known in RECIPES.values() if known.takes_weights)
                raise ValueError(f"weights are of use to {takers}, not to {recipe.name!r}")
            if not isinstance(self.weights, str | os.PathLike):
                raise TypeError(f"weights must be the path of a safetensors file, got {type(self.weights).__name__}")
        for name, least in (("threads", 1), ("keep", 0)):
            if getattr(self, name) is not None:
                count(name, getattr(self, name), least=least)
        backend = backends.find(self.device)
        if recipe is not None and not backend.runs(recipe):
            there = (name for name, known in RECIPES.items() if backend.runs(known))
            known = ", ".join(map(repr, ("auto", *there)))
            raise ValueError(f"{backend.where} there are {known}, not {recipe.name!r}")
        backend.require()

    @property
    def config(self) -> Config:
        """What a system has to know of this solver."""
        threads = usable_threads() if self.threads is None else self.threads
        recipe, backend = recipe_of(self.preconditioner), backends.find(self.device)
        return Config(recipe, self.weights, threads, self.keep, backend)

    def setup(
        self,
        A: Any,
        grid: Grid | None = None,
        *,
        nullspace: ArrayLike | Literal["constant"] | None = None,
        B: ArrayLike | None = None,
        points: ArrayLike | None = None,
        check: bool = True,
    ) -> System:
        """Do all work that depends on A alone.

        Parameters
        ----------
        A : sparse array, sparse matrix, array_like or Grid, shape (n, n)
            Symmetric positive or negative (semi)definite; or a grid, whose Poisson system is meant. Tensors of torch
            on the CPU are taken, dense or sparse (CSR, CSC, COO). It is copied: for new values there is
            `System.update`.
        grid : Grid, optional
            The grid that A was assembled on; it is compared with A entry by entry instead of being looked for.
        nullspace : array_like, shape (n, m), or "constant", optional
            The null space of a singular A; it is compared with A. Default: constants on the components whose rows sum
            to zero; other null spaces are looked for where there are few unknowns, or where a solve fails.
        B : array_like, shape (n, l), optional
            Near null space for smoothed aggregation, such as the rigid-body modes of elasticity.
        points : array_like, shape (n, d), optional
            Coordinates of the node of each row of A, d = 2 or 3, for a matrix of a mesh: "auto" then lays a lattice
            over the mesh and leads by multigrid there ("auxiliary-grid"), if couplings are about equally long all over.
            Where that is not so, `System.no_grid` says why, and the points are left aside.
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
        return System(self.config, A, grid, nullspace=nullspace, B=B, points=points, check=check)

    @_OnClassOrInstance
    @with_options
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
        points: ArrayLike | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Solution:
        """Solve A x = b to ``norm(b - A @ x) <= max(tol * norm(b), atol)``, on an instance or on the class itself.

        Parameters
        ----------
        A : sparse array, sparse matrix, array_like or Grid, shape (n, n)
            Symmetric positive or negative (semi)definite; or a grid, whose Poisson system is meant. Tensors of torch
            on the CPU are taken, dense or sparse (CSR, CSC, COO). Not changed.
        {options}
        grid, nullspace, B, points, check
            See `setup`.
        timeout : float, optional
            No iteration starts after so many seconds, set-up included; at least one is done.

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
        options = Options.of(
            tol, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback, residuals=residuals, timeout=timeout
        )  # before the work on A
        nothing_else = all(given is None for given in (x0, grid, nullspace, B, points))
        if nothing_else and self.preconditioner == "auto" and self.device == "cpu":
            solution = solve_small(A, b, options, backends.find(self.device))
            if solution is not None:
                return solution
        system = System(self.config, A, grid, nullspace=nullspace, B=B, points=points, check=check, once=True)
        return system.solve_with(options, b, x0)
