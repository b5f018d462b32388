"""The pressure step of a simulation, through whatever solver the caller hands in, and a record of what it solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.mac import Velocity, pressure_rhs, project
from deepcd.pde.poisson import PoissonSystem

PressureSolver = Callable[[PoissonSystem, NDArray[np.float64], NDArray[np.float64]], ArrayLike]


@dataclass(frozen=True, eq=False)
class PressureSolve:
    """One linear system A x = b of a simulation, and where the solver started from.

    Parameters
    ----------
    system : PoissonSystem
        With n unknowns. As long as the grid stays the same, all steps share one object.
    b : ndarray of float64, shape (n,)
        In units of 1 / time, as :func:`pressure_rhs` returns it.
    x0 : ndarray of float64, shape (n,)
        The pressure of the step before, in units of length^2 / time.
    """

    system: PoissonSystem
    b: NDArray[np.float64]
    x0: NDArray[np.float64]


def pressure_step(
    system: PoissonSystem, velocity: Velocity, pressure: ArrayLike, solve: PressureSolver
) -> tuple[Velocity, NDArray[np.float64], PressureSolve]:
    """Take the divergence out of a velocity.

    Parameters
    ----------
    system : PoissonSystem
        With n unknowns.
    velocity : tuple of ndarray of float64
        One array per axis, on the faces of the grid, in units of velocity.
    pressure : array_like, shape of the grid
        A guess, in units of length^2 / time: the pressure of the step before.
    solve : callable
        ``solve(system, b, x0)`` returns x with A x = b for the A of the system; the residual is the divergence that
        stays. Over each sealed chamber b sums up to zero, and x is fixed up to a constant.

    Returns
    -------
    velocity : tuple of ndarray of float64
        New arrays.
    pressure : ndarray of float64, shape of the grid
        0 in cells that are no unknowns.
    solved : PressureSolve

    Raises
    ------
    ValueError
        If an array is of the wrong shape, or `solve` returns something else than n finite numbers.
    """
    solved = PressureSolve(system, pressure_rhs(system, velocity), system.from_field(pressure))
    x = solved.x0
    if x.size:
        x = np.asarray(solve(system, solved.b, solved.x0.copy()), dtype=np.float64)
    if x.shape != solved.b.shape or not np.isfinite(x).all():
        raise ValueError(
            f"solve must return one finite number per unknown, shape {solved.b.shape}; got shape {x.shape}"
            + (" with NaN or infinite values" if x.shape == solved.b.shape else "")
        )
    return project(system, velocity, x), system.to_field(x), solved


def time_step(velocity: Sequence[NDArray[np.float64]], spacing: float, cfl: float, longest: float) -> float:
    """Return the time in which the fastest component crosses `cfl` cells, or the longest step if that is shorter.

    Parameters
    ----------
    velocity : sequence of ndarray of float64
        One array per axis, in units of velocity.
    spacing : float
        Edge length of a cell, in units of length.
    cfl : float
        Number of cells.
    longest : float
        In units of time.

    Returns
    -------
    float

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
        By the name that the message gives them.

    Raises
    ------
    ValueError
        Naming the first that is not.
    """
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be positive and finite, got {number!r}")
