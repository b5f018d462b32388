"""Equations in time whose solutions are formulas: diffusion, waves, convection, Burgers, a moving Gaussian.

Diffusion, wave and Burgers as in Wu, Zhu, Tan, Kartha, Lu: "A comprehensive study of non-adaptive and residual-based
adaptive sampling for physics-informed neural networks", Comput. Methods Appl. Mech. Engrg. 403, 2023, whose hard
constraints the ansätze here follow. Time is the first axis and runs from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.problems.contract import Condition, Points, Problem
from deepcd.pde.problems.jets import Jet
from deepcd.pde.problems.sampling import on_face, tensor_grid

RAD = "Wu, Zhu, Tan, Kartha, Lu, Comput. Methods Appl. Mech. Engrg. 403, 2023 (RAD)"
FRAMES = (100, 256)  # numbers of times and of places at which errors are measured

VISCOSITY = 0.01 / pi  # viscosity in Burgers' equation
HERMITE = 100  # nodes of the Gauss-Hermite rule; 80 give errors of 1e-13, more give 4e-15
SPEED = 50.0  # velocity in the convection equation
STEEP = 100.0  # steepness of the moving Gaussian exp(-100 |x - c(t)|^2)


def in_time(space: tuple[float, float] = (-1.0, 1.0), **statement: Any) -> Problem:
    """Return a problem in time, 0 < t < 1, and one space coordinate.

    Parameters
    ----------
    space : tuple of two float
        Low and high end of the space axis.
    **statement
        The other attributes of `Problem`; axes, bounds, the grid of errors and the reference have defaults.
    """
    bounds = np.array([[0.0, 1.0], space])
    common = {"axes": ("t", "x"), "bounds": bounds, "grid": lambda: tensor_grid(bounds, FRAMES), "reference": RAD}
    return Problem(**{**common, **statement})


def diffusion() -> Problem:
    """Return the equation u_t = u_xx + e^-t (pi^2 - 1) sin(pi x) with u = e^-t sin(pi x).

    Returns
    -------
    Problem
        The ansatz sin(pi x) + t (1 - x^2) N meets all data.
    """

    def residual(x: Sequence[Jet], u: Jet) -> Tensor:
        t, y = x[0].value, x[1].value
        return u.gradient[0] - u.second[0] - (pi**2 - 1) * torch.exp(-t) * torch.sin(pi * y)

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        t, y = x
        return (pi * y).sin() + t * (1 - y * y) * N

    return in_time(
        name="diffusion",
        title="u_t = u_xx + s",
        sums=((1,),),
        residual=residual,
        ansatz=ansatz,
        solution=lambda points: np.exp(-points[:, 0]) * np.sin(pi * points[:, 1]),
        recommended={"points": 30, "budget": 1_500},
    )


def wave() -> Problem:
    """Return the equation u_tt = 4 u_xx on 0 < x < 1 with u = sin(pi x) cos(2 pi t) + sin(4 pi x) cos(8 pi t) / 2.

    Returns
    -------
    Problem
        The ansatz u(0, x) + 4 t^2 x (1 - x) N meets all data, including the initial velocity zero.
    """

    def residual(_x: Sequence[Jet], u: Jet) -> Tensor:
        return u.second[0] - 4 * u.second[1]

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        t, y = x
        return (pi * y).sin() + 0.5 * (4 * pi * y).sin() + 4 * t * t * y * (1 - y) * N

    def solution(points: Points) -> Points:
        t, y = points.T
        return np.sin(pi * y) * np.cos(2 * pi * t) + 0.5 * np.sin(4 * pi * y) * np.cos(8 * pi * t)

    return in_time(
        space=(0.0, 1.0),
        name="wave",
        title="u_tt = 4 u_xx",
        sums=((0,), (1,)),
        residual=residual,
        ansatz=ansatz,
        solution=solution,
    )


def convection() -> Problem:
    """Return the equation u_t + 50 u_x = 0, periodic on 0 < x < 2 pi, with u = sin(x - 50 t).

    Returns
    -------
    Problem
        The ansatz sin x + t N meets the initial data. Periodicity is a condition: its points come in pairs, all those
        at x = 0 first, and its residual is the jump from each point to its partner.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.problems.evolution import convection
    >>> periodic, = convection().conditions
    >>> periodic.points(4, torch.Generator().manual_seed(0)).numpy().round(2).tolist()
    [[0.97, 0.0], [0.46, 0.0], [0.97, 6.28], [0.46, 6.28]]
    """

    def residual(_x: Sequence[Jet], u: Jet) -> Tensor:
        return u.gradient[0] + SPEED * u.gradient[1]

    def pairs(n: int, generator: torch.Generator) -> Tensor:
        left = on_face([(0, 1), (0, 2 * pi)], 1, 0, (n + 1) // 2, generator)
        right = torch.stack([left[:, 0], torch.full_like(left[:, 1], 2 * pi)], dim=1)
        return torch.cat([left, right])

    def jump(_x: Sequence[Jet], u: Jet) -> Tensor:
        return u.value - u.value.roll(len(u.value) // 2)

    return in_time(
        space=(0.0, 2 * pi),
        name="convection",
        title="u_t + 50 u_x = 0",
        sums=(),
        residual=residual,
        conditions=(Condition("periodic", pairs, jump),),
        ansatz=lambda x, N: x[1].sin() + x[0] * N,
        solution=lambda points: np.sin(points[:, 1] - SPEED * points[:, 0]),
        reference="Daw, Bu, Wang, Perdikaris, Karpatne, ICML 2023 (R3), after Krishnapriyan et al., NeurIPS 2021",
    )


def burgers() -> Problem:
    """Return the equation u_t + u u_x = 0.01 / pi u_xx with u(0, x) = -sin(pi x) and u = 0 at x = +-1.

    The solution is that of Cole and Hopf, integrated by the Gauss-Hermite rule as in Basdevant et al.: "Spectral and
    finite difference solutions of the Burgers equation", Computers & Fluids 14, 1986.

    Returns
    -------
    Problem
        The ansatz -sin(pi x) + t (1 - x^2) N meets all data.
    """

    def residual(_x: Sequence[Jet], u: Jet) -> Tensor:
        return u.gradient[0] + u.value * u.gradient[1] - VISCOSITY * u.second[0]

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        t, y = x
        return t * (1 - y * y) * N - (pi * y).sin()

    return in_time(
        name="burgers",
        title="u_t + u u_x = (0.01/π) u_xx",
        sums=((1,),),
        residual=residual,
        ansatz=ansatz,
        solution=_cole_hopf,
        solution_error=1e-13,
        recommended={"budget": 8_000},
    )


def moving_gaussian() -> Problem:
    """Return the equation u_t - Laplace u = s on (-1, 1)^2 with u = (1 - e^-5t) exp(-100 |x - c|^2).

    The centre c = (t/2 - 1/2, 0) moves. The ansatz t (1 - x^2) (1 - y^2) N is zero on the boundary, where the solution
    is below 1e-12.

    Returns
    -------
    Problem
        Errors are measured on 11 x 65 x 65 nodes, which is this project's choice.
    """

    def residual(x: Sequence[Jet], u: Jet) -> Tensor:
        t, a, b = (xi.value for xi in x)
        decay = torch.exp(-5 * t)
        along = a + 0.5 - 0.5 * t
        square = along**2 + b**2
        growth = 5 * decay + (1 - decay) * (STEEP * along + 4 * STEEP - 4 * STEEP**2 * square)
        return u.gradient[0] - u.second[0] - growth * torch.exp(-STEEP * square)

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        t, a, b = x
        return t * (1 - a * a) * (1 - b * b) * N

    def solution(points: Points) -> Points:
        t, a, b = points.T
        return (1 - np.exp(-5 * t)) * np.exp(-STEEP * ((a + 0.5 - 0.5 * t) ** 2 + b**2))

    bounds = np.array([[0.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]])
    return Problem(
        name="moving_gaussian",
        title="u_t - Δu = s",
        axes=("t", "x", "y"),
        bounds=bounds,
        sums=((1, 2),),
        residual=residual,
        ansatz=ansatz,
        solution=solution,
        grid=lambda: tensor_grid(bounds, (11, 65, 65)),
        reference="Singh, Silvester, arXiv:2606.06314, 2026 (DAS-PINNs in spacetime), equation 18",
    )


def _cole_hopf(points: Points, nodes: int = HERMITE) -> Points:
    """Return u = -E[sin(pi y) f(y)] / E[f(y)], where y is normal with mean x and variance 2 nu t.

    f(y) = exp(-cos(pi y) / (2 pi nu)) with nu the viscosity.
    """
    t, x = points.T
    above, below = np.zeros_like(x), np.zeros_like(x)
    for z, weight in zip(*np.polynomial.hermite.hermgauss(nodes), strict=True):
        y = x - 2 * np.sqrt(VISCOSITY * t) * z
        f = weight * np.exp(-(1 + np.cos(pi * y)) / (2 * pi * VISCOSITY))
        above += np.sin(pi * y) * f
        below += f
    return -above / below
