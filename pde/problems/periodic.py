"""Equations in time that are periodic in space: Korteweg-de Vries, Burgers, Kuramoto-Sivashinsky."""

from __future__ import annotations

import functools
from math import pi

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline

from deepcd.pde.equations.statements import Problem
from deepcd.pde.problems.evolution import cole_hopf, in_time
from deepcd.pde.problems.spectral import periodic_solution

DISPERSION = 0.0025  # coefficient of u_xxx in the Korteweg-de Vries equation
VISCOSITY = 0.01  # viscosity in Burgers' equation
LONGEST = 150.0  # last time up to which the error of the Kuramoto-Sivashinsky solution was measured
SUBSTEPS = 4  # time steps between two nodes of a spline in time
FRAMES = 40  # nodes in time, per unit of time, of the spline of Kuramoto and Sivashinsky


def kdv() -> Problem:
    """Return the equation u_t + u u_x + 0.0025 u_xxx = 0, periodic on -1 < x < 1, with u(0, x) = cos(pi x).

    Returns
    -------
    Problem
        The ansatz cos(pi x) + t N meets the initial data. The residual is multiplied by 1.2 - t, since waves that it
        excites early last longer. The solution is computed when it is first requested, which takes less than a second,
        and kept. Compared with 512 modes and half the time steps, its error is at most 3e-10.
    """
    return in_time(
        lambda t, x, u: (1.2 - t) * (u.t + u * u.x + DISPERSION * u.xxx),
        periodic="x",
        ansatz=lambda t, x, u: torch.cos(pi * x) + t * u,
        solution=lambda t, x: kdv_solution().ev(t, x),
        solution_error=1e-9,
        name="kdv",
        title="u_t + u u_x + 0.0025 u_xxx = 0",
        reference="Raissi, Perdikaris, Karniadakis, J. Comput. Phys. 378, 2019, after Zabusky and Kruskal, 1965",
        recommended={"points": 3_000, "depth": 4, "harmonics": 1},
    )


def burgers_periodic() -> Problem:
    """Return the equation u_t + u u_x = 0.01 u_xx, periodic on -1 < x < 1, with u(0, x) = -sin(pi x).

    Returns
    -------
    Problem
        The ansatz -sin(pi x) + t N meets the initial data. The solution is that of Cole and Hopf.
    """
    return in_time(
        lambda t, x, u: u.t + u * u.x - VISCOSITY * u.xx,
        periodic="x",
        ansatz=lambda t, x, u: t * u - torch.sin(pi * x),
        solution=functools.partial(cole_hopf, VISCOSITY),
        solution_error=1e-13,
        name="burgers_periodic",
        reference="arXiv:2607.02194, 2026 (DSGNAR)",
    )


def kuramoto_sivashinsky(T: float = 10.0) -> Problem:
    """Return the equation u_t + u u_x + u_xx + u_xxxx = 0, periodic on 0 < x < 32 pi, for 0 < t < T.

    It starts at u(0, x) = cos(x / 16) (1 + sin(x / 16)), and becomes chaotic.

    Parameters
    ----------
    T : float, default 10.0
        The last time, at most 150.

    Returns
    -------
    Problem
        The ansatz u(0, x) + t N meets the initial data. The solution is computed when it is first requested, which
        takes less than a second for T = 10 and a few seconds for T = 150, and kept. Chaos multiplies its error, which
        is 1.2e-9, 5e-9, 2e-7 and 2e-5 for T = 10, 50, 100 and 150, compared with 512 modes and half the time steps.

    Raises
    ------
    ValueError
        If T is not between 0 and 150.
    """
    if not 0 < T <= LONGEST:
        raise ValueError(f"T must be a time between 0 and {LONGEST:g}, up to which the solution was checked; got {T!r}")
    return in_time(
        lambda t, x, u: u.t + u * u.x + u.xx + u.xxxx,
        until=float(T),
        space=(0.0, 32 * pi),
        periodic="x",
        ansatz=lambda t, x, u: torch.cos(x / 16) * (1 + torch.sin(x / 16)) + t * u,
        solution=lambda t, x: kuramoto_sivashinsky_solution(float(T)).ev(t, x),
        solution_error=2e-9 * float(np.exp(0.08 * T)),
        name="kuramoto_sivashinsky",
        reference="Kassam and Trefethen, SIAM J. Sci. Comput. 26, 2005",
    )


@functools.cache
def kdv_solution(modes: int = 256, frames: int = 1000) -> RectBivariateSpline:
    """Return the solution of the Korteweg-de Vries equation as a function of t and x, see `periodic_solution`."""
    return periodic_solution(
        lambda x: np.cos(pi * x),
        lambda D: -DISPERSION * D**3,
        ends=(-1.0, 1.0),
        until=1.0,
        modes=modes,
        frames=frames,
        substeps=SUBSTEPS,
    )


@functools.cache
def kuramoto_sivashinsky_solution(T: float, modes: int = 256, frames: int = FRAMES) -> RectBivariateSpline:
    """Return the solution of the Kuramoto-Sivashinsky equation as a function of t and x, see `periodic_solution`."""
    return periodic_solution(
        lambda x: np.cos(x / 16) * (1 + np.sin(x / 16)),
        lambda D: -(D**2) - D**4,
        ends=(0.0, 32 * pi),
        until=T,
        modes=modes,
        frames=int(np.ceil(frames * T)) + 5,  # a spline of degree five needs six nodes
        substeps=SUBSTEPS,
    )
