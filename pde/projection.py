"""The pressure step of a simulation, through whatever solver the caller hands in, and a record of what it solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.cut_systems import CutSystem
from deepcd.pde.mac import Velocity, divergence, project
from deepcd.pde.poisson import PoissonSystem

SolveFunction = Callable[[Any, NDArray[np.float64], NDArray[np.float64]], ArrayLike]


@dataclass(frozen=True, eq=False)
class PressureSolve:
    """One linear system A x = b of a simulation, where the solver started from, and what it answered.

    Parameters
    ----------
    system : PoissonSystem or CutSystem
        The system, with n unknowns. As long as the grid stays the same, all steps share one object.
    b : ndarray of float64, shape (n,)
        Right-hand side in units of 1 / time, as :func:`pressure_rhs` returns it.
    x0 : ndarray of float64, shape (n,)
        Pressure of the step before, in units of length^2 / time.
    answer : object, optional
        What the solver returned, facts of its own included. None if it was not called, since there was no unknown.
    left : float, default nan
        The largest divergence of a cell after the step, in units of 1 / time; nan if no velocity was projected.
    """

    system: PoissonSystem | CutSystem
    b: NDArray[np.float64]
    x0: NDArray[np.float64]
    answer: object = None
    left: float = float("nan")


def pressure_step(
    system: PoissonSystem | CutSystem,
    velocity: Velocity,
    pressure: ArrayLike,
    solve: SolveFunction,
    motion: Sequence[NDArray[np.float64]] | None = None,
) -> tuple[Velocity, NDArray[np.float64], PressureSolve]:
    """Take the divergence out of a velocity.

    Parameters
    ----------
    system : PoissonSystem or CutSystem
        The pressure system, with n unknowns.
    velocity : tuple of ndarray of float64
        One array per axis, on the faces of the grid, in units of velocity.
    pressure : array_like, shape of the grid
        A guess, usually the pressure of the step before, in units of length^2 / time.
    solve : callable
        ``solve(system, b, x0)`` returns x with A x = b for the A of the system: an array, or an object with
        ``__array__`` that holds facts of its own. The residual is the divergence that stays. Over each sealed chamber b
        sums up to zero, and x is determined up to a constant.
    motion : sequence of ndarray of float64, optional
        The velocity of the solids that cut the cells of a CutSystem, one array per axis over the faces.

    Returns
    -------
    velocity : tuple of ndarray of float64
        The velocity without the divergence; its arrays are new.
    pressure : ndarray of float64, shape of the grid
        The pressure in units of length^2 / time; 0 in cells that are not unknowns.
    solved : PressureSolve
        The system that was solved, and the answer.

    Raises
    ------
    ValueError
        If an array is of the wrong shape, or if `solve` does not return n finite numbers.
    """

    def leaving(flow: Velocity) -> NDArray[np.float64]:
        if isinstance(system, CutSystem):
            return system.divergence(flow, motion)
        return divergence(system.grid, flow)

    b, x0 = system.balanced(-system.from_field(leaving(velocity))), system.from_field(pressure)
    answer = solve(system, b, x0.copy()) if x0.size else None
    x = np.asarray(answer, dtype=np.float64) if x0.size else x0
    if x.shape != b.shape or not np.isfinite(x).all():
        raise ValueError(
            f"solve must return one finite number per unknown, shape {b.shape}; got shape {x.shape}"
            + (" with NaN or infinite values" if x.shape == b.shape else "")
        )
    flow = system.project(velocity, x) if isinstance(system, CutSystem) else project(system, velocity, x)
    left = float(np.abs(leaving(flow)).max())
    return flow, system.to_field(x), PressureSolve(system, b, x0, answer, left)


def time_step(velocity: Sequence[NDArray[np.float64]], spacing: float, cfl: float, longest: float) -> float:
    """Return the time in which the fastest component crosses `cfl` cells, or the longest step if that is shorter.

    Parameters
    ----------
    velocity : sequence of ndarray of float64
        One array per axis, in units of velocity.
    spacing : float
        Edge length of a cell, in units of length.
    cfl : float
        Number of cells that may be crossed.
    longest : float
        Upper bound of the step, in units of time.

    Returns
    -------
    float
        Length of the step, in units of time.

    Raises
    ------
    ValueError
        If a velocity is NaN or infinite.
    """
    fastest = max(max(float(u.max()), -float(u.min())) for u in velocity)
    if not np.isfinite(fastest):
        raise ValueError(
            "velocity holds NaN or infinite values; look for a step that was too long or a solve that failed"
        )
    return min(longest, cfl * spacing / fastest) if fastest > 0 else longest


def require_positive(**numbers: float) -> None:
    """Refuse numbers that are not positive and finite.

    Parameters
    ----------
    **numbers : float
        The numbers, by the names that the message gives them.

    Raises
    ------
    ValueError
        If a number is not positive and finite; the message names the first one.
    """
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be positive and finite, got {number!r}")
