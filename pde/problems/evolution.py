"""Equations in time whose solutions are formulas: diffusion, waves, convection, Burgers, a moving Gaussian.

Diffusion, wave and Burgers as in Wu, Zhu, Tan, Kartha, Lu: "A comprehensive study of non-adaptive and residual-based
adaptive sampling for physics-informed neural networks", Comput. Methods Appl. Mech. Engrg. 403, 2023, whose hard
constraints the ansätze here follow. Time is the first axis and runs from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import box
from deepcd.pde.regions.sampling import tensor_grid

RAD = "Wu, Zhu, Tan, Kartha, Lu, Comput. Methods Appl. Mech. Engrg. 403, 2023 (RAD)"
FRAMES = (100, 256)  # numbers of times and of places at which errors are measured

VISCOSITY = 0.01 / pi  # viscosity in Burgers' equation
HERMITE = 100  # nodes of the Gauss-Hermite rule; 80 give errors of 1e-13, more give 4e-15
SPEED = 50.0  # velocity in the convection equation
STEEP = 100.0  # steepness of the moving Gaussian exp(-100 |x - c(t)|^2)


def in_time(
    equation: Callable[..., Any],
    *,
    until: float = 1.0,
    space: tuple[float, float] = (-1.0, 1.0),
    periodic: str = "",
    **statement: Any,
) -> Problem:
    """Return a problem in time t, from 0 on, and one space coordinate x.

    Parameters
    ----------
    equation : callable
    until : float
        The last time.
    space : tuple of two float
        Low and high end of the space axis.
    periodic : str
        "x" if the problem is periodic in space.
    **statement
        The other parameters of `Problem`; the grid of errors and the reference have defaults.
    """
    domain = box(t=(0.0, until), x=space, periodic=periodic)
    common = {"grid": lambda: tensor_grid(domain.bounds, FRAMES), "reference": RAD}
    return Problem(equation, domain, **{**common, **statement})


def diffusion() -> Problem:
    """Return the equation u_t = u_xx + e^-t (pi^2 - 1) sin(pi x) with u = e^-t sin(pi x).

    Returns
    -------
    Problem
        The ansatz sin(pi x) + t (1 - x^2) N meets all data.
    """
    return in_time(
        lambda t, x, u: u.t - u.xx - (pi**2 - 1) * torch.exp(-t) * torch.sin(pi * x),
        ansatz=lambda t, x, u: torch.sin(pi * x) + t * (1 - x**2) * u,
        solution=lambda t, x: torch.exp(-t) * torch.sin(pi * x),
        name="diffusion",
        title="u_t = u_xx + s",
    )


def wave() -> Problem:
    """Return the equation u_tt = 4 u_xx on 0 < x < 1 with u = sin(pi x) cos(2 pi t) + sin(4 pi x) cos(8 pi t) / 2.

    Returns
    -------
    Problem
        The ansatz u(0, x) + 4 t^2 x (1 - x) N meets all data, including the initial velocity zero.
    """
    return in_time(
        lambda t, x, u: u.tt - 4 * u.xx,
        space=(0.0, 1.0),
        ansatz=lambda t, x, u: torch.sin(pi * x) + 0.5 * torch.sin(4 * pi * x) + 4 * t**2 * x * (1 - x) * u,
        solution=lambda t, x: (
            torch.sin(pi * x) * torch.cos(2 * pi * t) + 0.5 * torch.sin(4 * pi * x) * torch.cos(8 * pi * t)
        ),
        name="wave",
        title="u_tt = 4 u_xx",
    )


def convection() -> Problem:
    """Return the equation u_t + 50 u_x = 0, periodic on 0 < x < 2 pi, with u = sin(x - 50 t).

    Returns
    -------
    Problem
        The ansatz sin x + t N meets the initial data.
    """
    return in_time(
        lambda t, x, u: u.t + SPEED * u.x,
        space=(0.0, 2 * pi),
        periodic="x",
        ansatz=lambda t, x, u: torch.sin(x) + t * u,
        solution=lambda t, x: torch.sin(x - SPEED * t),
        name="convection",
        reference="Daw, Bu, Wang, Perdikaris, Karpatne, ICML 2023 (R3), after Krishnapriyan et al., NeurIPS 2021",
    )


def burgers() -> Problem:
    """Return the equation u_t + u u_x = 0.01 / pi u_xx with u(0, x) = -sin(pi x) and u = 0 at x = +-1.

    Returns
    -------
    Problem
        The ansatz -sin(pi x) + t (1 - x^2) N meets all data. The solution is that of Cole and Hopf.
    """
    return in_time(
        lambda t, x, u: u.t + u * u.x - VISCOSITY * u.xx,
        ansatz=lambda t, x, u: t * (1 - x**2) * u - torch.sin(pi * x),
        solution=partial(cole_hopf, VISCOSITY),
        solution_error=1e-13,
        name="burgers",
        title="u_t + u u_x = (0.01/π) u_xx",
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

    def exact(t: Any, x: Any, y: Any) -> Any:
        return (1 - torch.exp(-5 * t)) * torch.exp(-STEEP * ((x + 0.5 - 0.5 * t) ** 2 + y**2))

    def left(u: Any) -> Any:
        return u.t - u.xx - u.yy

    domain = box(t=(0, 1), x=(-1, 1), y=(-1, 1))
    return Problem(
        lambda t, x, y, u: left(u) - left(exact(t, x, y)),
        domain,
        ansatz=lambda t, x, y, u: t * (1 - x**2) * (1 - y**2) * u,
        solution=exact,
        name="moving_gaussian",
        title="u_t - Δu = s",
        grid=lambda: tensor_grid(domain.bounds, (11, 65, 65)),
        reference="Singh, Silvester, arXiv:2606.06314, 2026 (DAS-PINNs in spacetime), equation 18",
    )


def cole_hopf(viscosity: float, t: Tensor, x: Tensor, nodes: int = HERMITE) -> Tensor:
    """Return the solution of Burgers' equation that starts at -sin(pi x), on the whole line.

    It is u = -E[sin(pi y) f(y)] / E[f(y)], where y is normal with mean x and variance 2 nu t, nu is the viscosity, and
    f(y) = exp(-cos(pi y) / (2 pi nu)). Expectations are integrated by the Gauss-Hermite rule as in Basdevant et al.:
    "Spectral and finite difference solutions of the Burgers equation", Computers & Fluids 14, 1986.

    Parameters
    ----------
    viscosity : float
    t, x : Tensor of float64, shape (n,)
    nodes : int
        Number of nodes of the rule.

    Returns
    -------
    Tensor of float64, shape (n,)
    """
    above, below = torch.zeros_like(x), torch.zeros_like(x)
    for z, weight in zip(*np.polynomial.hermite.hermgauss(nodes), strict=True):
        y = x - 2 * torch.sqrt(viscosity * t) * z
        f = weight * torch.exp(-(1 + torch.cos(pi * y)) / (2 * pi * viscosity))
        above = above + torch.sin(pi * y) * f
        below = below + f
    return -above / below
