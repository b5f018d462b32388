"""Problems whose solutions are nearly zero except in small balls, which uniform collocation points miss.

They are from Tang, Wan, Yang: "DAS-PINNs: A deep adaptive sampling method for solving high-dimensional partial
differential equations", J. Comput. Phys. 476, 2023 (peaks in two dimensions, Gaussians in d dimensions), and Tang,
Zhai, Wan, Yang: "Adversarial Adaptive Sampling: Unify PINN and Optimal Transport for the Approximation of PDEs", ICLR
2024 (the nonlinear one).
"""

from __future__ import annotations

from typing import Any

import torch

from deepcd.pde.equations.conditions import on
from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import box
from deepcd.pde.regions.sampling import tensor_grid

DAS = "Tang, Wan, Yang, J. Comput. Phys. 476, 2023 (DAS-PINNs)"
AAS = "Tang, Zhai, Wan, Yang, ICLR 2024 (adversarial adaptive sampling)"
SHARP = 1000.0  # steepness of the peaks exp(-1000 |x - c|^2) in two dimensions
WIDE = 10.0  # steepness of the Gaussians exp(-10 |x|^2) in d dimensions
NODES = {2: 65, 4: 9, 6: 5, 8: 3, 10: 3}  # nodes per axis of the grid near the origin, by dimension
# The square of the distance from a peak takes more units side by side than a default network has. In ten dimensions the
# peak fills 1e-8 of the box; a flow that learns faster does not lose it again.
WIDER = {"width": 24, "depth": 3, "points": 4_000, "samplers": {"aas": {"steps": 20}}}
RECOMMENDED: dict[int, dict[str, Any]] = {8: WIDER, 10: WIDER | {"budget": 300.0}}
# A larger network has not found both peaks after a minute.
TWO_PEAKS = {"width": 14, "points": 4_000, "samplers": {"aas": {"replay": 0.0}}}

Centres = tuple[tuple[float, float], ...]


def one_peak() -> Problem:
    """Return the equation -Laplace u = s with u = exp(-1000 |x - (0.5, 0.5)|^2) on (-1, 1)^2.

    Its ansatz is zero on the boundary, where the solution is below 1e-108. The constant zero scores a mean square error
    of 3.90e-4.

    Returns
    -------
    Problem
        Its metric is the mean square error on 256 x 256 nodes.
    """
    return _peaks("one_peak", ((0.5, 0.5),), drift=False)


def two_peaks() -> Problem:
    """Return the equation -div(u grad |x|^2) + Laplace u = s with peaks as in :func:`one_peak` at +-(0.5, 0.5).

    The constant zero scores a mean square error of 7.79e-4.

    Returns
    -------
    Problem
        Its metric is the mean square error on 256 x 256 nodes.
    """
    return _peaks("two_peaks", ((0.5, 0.5), (-0.5, -0.5)), drift=True, recommended=TWO_PEAKS)


def two_peaks_plain() -> Problem:
    """Return the equation -Laplace u = s with the solution of :func:`two_peaks`.

    Returns
    -------
    Problem
        Its metric is the mean square error on 256 x 256 nodes.
    """
    return _peaks("two_peaks_plain", ((0.5, 0.5), (-0.5, -0.5)), drift=False, recommended=TWO_PEAKS)


def gaussian(dimension: int, nonlinear: bool = False) -> Problem:
    """Return the equation -Laplace u = s with u = exp(-10 |x|^2) on (-1, 1)^d.

    On the faces u is up to exp(-10) = 4.5e-5, so the boundary data are a condition.

    Parameters
    ----------
    dimension : {2, 4, 6, 8, 10}
    nonlinear : bool, default False
        Whether u - u^3 is added to the left-hand side.

    Returns
    -------
    Problem
        Its metric is the relative l2 error on a grid of [-0.1, 0.1]^d with 65^2, 9^4, 5^6, 3^8 or 3^10 nodes.

    Raises
    ------
    ValueError
        If the dimension is not one of these.

    Examples
    --------
    >>> from deepcd.pde.problems.peaks import gaussian
    >>> problem = gaussian(4)
    >>> problem.axes, problem.grid().shape, problem.terms[1].part
    (('x1', 'x2', 'x3', 'x4'), (6561, 4), the boundary x1-, x1+, x2-, x2+, x3-, x3+, x4-, x4+)
    """
    d = dimension
    if d not in NODES:
        raise ValueError(f"dimension must be one of {', '.join(map(str, NODES))}, got {dimension!r}")
    axes: dict[str, Any] = {f"x{i + 1}": (-1, 1) for i in range(d)}
    D = box(**axes)

    def exact(x: Any) -> Any:
        return torch.exp(-WIDE * sum(xi**2 for xi in x))

    def left(u: Any) -> Any:
        return (u - u**3 if nonlinear else 0) - sum(u.d(axis, axis) for axis in axes)

    return Problem(
        lambda x, u: left(u) - left(exact(x)),
        D,
        on(D.boundary, lambda x, u: u - exact(x), weight=1.0),
        solution=exact,
        name=f"gaussian_{d}d_nonlinear" if nonlinear else f"gaussian_{d}d",
        title="-Δu + u - u³ = s" if nonlinear else "-Δu = s",
        grid=lambda: tensor_grid(0.1 * D.bounds, (NODES[d],) * d),
        reference=AAS if nonlinear else DAS,
        recommended=RECOMMENDED.get(d),
    )


def _peaks(name: str, centres: Centres, drift: bool, recommended: dict[str, Any] | None = None) -> Problem:
    D = box(x=(-1, 1), y=(-1, 1))

    def exact(x: Any, y: Any) -> Any:
        return sum(torch.exp(-SHARP * ((x - a) ** 2 + (y - b) ** 2)) for a, b in centres)

    def left(x: Any, y: Any, u: Any) -> Any:
        return u.xx + u.yy - (2 * x * u).x - (2 * y * u).y if drift else -u.xx - u.yy

    return Problem(
        lambda x, y, u: left(x, y, u) - left(x, y, exact(x, y)),
        D,
        ansatz=lambda x, y, u: (1 - x**2) * (1 - y**2) * u,
        solution=exact,
        name=name,
        title="-∇·(u∇|x|²) + Δu = s" if drift else "-Δu = s",
        grid=lambda: tensor_grid(D.bounds, (256, 256)),
        metric="mse",
        reference=DAS,
        recommended=recommended,
    )
