"""What a caller chooses: a configuration for all systems, and options of one solve. Each is validated once, here."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.backends.backend import Backend
from deepcd.solvers.recipes import AUTOMATIC, RECIPES, Recipe

# What the docstrings of `DeepCD.solve` and `System.solve` say of the options they share.
_SHARED = """b : array_like, shape (n,), (n, 1) or (n, k)
            Right-hand side, or k of them, which are solved for together. A tensor of torch on the CPU is taken, too,
            and x is a tensor then; gradients do not flow through a solve. Entries of pandas objects count by position,
            whatever their index says, as in SciPy.
        tol : float, default 1e-6
            Relative tolerance, positive.
        rtol : float, optional
            SciPy's name for `tol`.
        x0 : array_like, shape (n,), or that of b, optional
            Where to start; default zero. Not changed.
        atol : float, default 0.0
            Absolute tolerance.
        maxiter : int, optional
            Largest number of iterations; default 10 n, but not more than 10,000.
        callback : callable, optional
            Called as ``callback(x)`` after each iteration with the current x, of the shape of b; returning True stops.
        residuals : list, optional
            Its content is replaced by the residual norms; of several columns, by those of the whole block."""

Method = TypeVar("Method", bound=Callable[..., Any])


def with_options(method: Method) -> Method:
    """Complete the docstring of a method by what it shares with others, in the place of ``{options}``."""
    method.__doc__ = method.__doc__ and method.__doc__.replace("{options}", _SHARED)
    return method


Callback = Callable[[NDArray[np.floating[Any]]], object]
MOST_ITERATIONS = 10_000  # unless the caller says otherwise: a method that needs more is the wrong one


@dataclass(frozen=True)
class Config:
    """What a `System` has to know of the `DeepCD` that prepares it.

    Attributes
    ----------
    recipe : Recipe or None
        How to build the preconditioner; None stands for "auto".
    weights : path or None
        Weight file of a trained preconditioner; None stands for those that ship.
    threads : int
        Number of threads to compute with.
    keep : int or None
        Directions kept for orthogonalisation; None: 1 for a symmetric preconditioner, else 2.
    backend : Backend
        Where to iterate.
    """

    recipe: Recipe | None
    weights: str | Path | None
    threads: int
    keep: int | None
    backend: Backend

    @cached_property
    def candidates(self) -> tuple[Recipe, ...]:
        """The recipes that may be used, best first: the one that was named, or those of "auto" on the back end."""
        if self.recipe is not None:
            return (self.recipe,)
        return tuple(recipe for recipe in AUTOMATIC if self.backend.runs(recipe))

    @property
    def seeks_grid(self) -> bool:
        """Whether one of the candidates needs a grid."""
        return any(recipe.needs_grid for recipe in self.candidates)

    @property
    def takes_any_matrix(self) -> bool:
        """Whether one of the candidates works without a grid."""
        return not all(recipe.needs_grid for recipe in self.candidates)

    @property
    def any_matrix(self) -> str:
        """The preconditioner that the back end has for a matrix without a grid."""
        automatic = any(recipe.takes_any and self.backend.runs(recipe) for recipe in AUTOMATIC)
        others = (name for name, recipe in RECIPES.items() if recipe.takes_any and self.backend.runs(recipe))
        return "auto" if automatic else next(others)


@dataclass(frozen=True)
class Options:
    """Options of one solve, validated; made by `Options.of`.

    Attributes
    ----------
    tol : float
        Tolerance relative to the norm of the right-hand side.
    atol : float
        Absolute tolerance.
    maxiter : int or None
        Largest number of iterations; None: 10 n, but not more than 10,000.
    callback : callable or None
        Called with the current x after each iteration.
    residuals : list or None
        Filled with the norms of the residual once the solve is done.
    start, deadline : float
        When the call began, and after when no iteration starts: values of `time.perf_counter`.
    """

    tol: float
    atol: float
    maxiter: int | None
    callback: Callback | None
    residuals: list[float] | None
    start: float
    deadline: float

    @classmethod
    def of(
        cls,
        tol: float | None,
        *,
        rtol: float | None,
        atol: float,
        maxiter: int | None,
        callback: Callback | None,
        residuals: list[float] | None,
        timeout: float | None,
    ) -> Options:
        """Validate the options that `DeepCD.solve` and `System.solve` take, and note the time.

        Raises
        ------
        TypeError, ValueError
            If one of them is malformed, or both `tol` and `rtol` are given.
        """
        start = time.perf_counter()
        if tol is not None and rtol is not None:
            raise TypeError("tol and rtol are two names for one tolerance: give one of them")
        relative = tolerance("tol", tol) if tol is not None else tolerance("rtol", rtol) if rtol is not None else 1e-6
        absolute = tolerance("atol", atol, zero=True)
        check_callback(callback)
        if residuals is not None and not isinstance(residuals, list):
            raise TypeError(f"residuals must be a list to be filled, got {type(residuals).__name__}")
        deadline = math.inf if timeout is None else start + tolerance("timeout", timeout)
        most = None if maxiter is None else count("maxiter", maxiter)
        return cls(relative, absolute, most, callback, residuals, start, deadline)

    def iterations(self, n: int) -> int:
        """Return the largest number of iterations for n unknowns."""
        return min(max(10 * n, 1), MOST_ITERATIONS) if self.maxiter is None else self.maxiter


def check_callback(callback: Any) -> None:
    """Raise a TypeError unless the callback is None or can be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")


def usable_threads() -> int:
    """Return OMP_NUM_THREADS if that is a positive number, else the number of cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
