"""Problems whose solutions are nearly zero except in small balls, which uniform collocation points miss.

They are from Tang, Wan, Yang: "DAS-PINNs: A deep adaptive sampling method for solving high-dimensional partial
differential equations", J. Comput. Phys. 476, 2023 (peaks in two dimensions, Gaussians in d dimensions), and Tang,
Zhai, Wan, Yang: "Adversarial Adaptive Sampling: Unify PINN and Optimal Transport for the Approximation of PDEs", ICLR
2024 (the nonlinear one). The sources are closed forms on plain tensors, since every step of a training evaluates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.problems.contract import Condition, Points, Problem
from deepcd.pde.problems.jets import Jet
from deepcd.pde.problems.sampling import on_faces, tensor_grid

DAS = "Tang, Wan, Yang, J. Comput. Phys. 476, 2023 (DAS-PINNs)"
AAS = "Tang, Zhai, Wan, Yang, ICLR 2024 (adversarial adaptive sampling)"
SHARP = 1000.0  # steepness of the peaks exp(-1000 |x - c|^2) in two dimensions
WIDE = 10.0  # steepness of the Gaussians exp(-10 |x|^2) in d dimensions
NODES = {2: 65, 4: 9, 6: 5, 8: 3, 10: 3}  # nodes per axis of the grid near the origin, by dimension
# In ten dimensions the peak fills 1e-8 of the box. Points that stay would be fitted one by one, so they change every
# few steps, which quasi-Newton methods do not tolerate.
IN_TEN_DIMENSIONS = {
    "optimizer": "soap",
    "points": 3_000,
    "period": 20,
    "budget": 12_000,
    "width": 64,
    "rate": 7e-4,
    "single": True,
}
RECOMMENDED: dict[int, dict[str, Any]] = {6: {"points": 1_500, "budget": 3_000}, 10: IN_TEN_DIMENSIONS}
TWO_PEAKS = {"points": 1_500, "budget": 6_000, "samplers": {"aas": {"replay": 0.0}}}

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
    return _peaks("one_peak", ((0.5, 0.5),), drift=False, recommended={"points": 1_500, "budget": 4_000})


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
    >>> import numpy as np
    >>> from deepcd.pde.problems.peaks import gaussian
    >>> problem = gaussian(4)
    >>> problem.grid().shape, problem.error(np.zeros(9**4))
    ((6561, 4), 1.0)
    """
    d = dimension
    if d not in NODES:
        raise ValueError(f"dimension must be one of {', '.join(map(str, NODES))}, got {dimension!r}")
    bounds = np.tile([-1.0, 1.0], (d, 1))

    def residual(x: Sequence[Jet], u: Jet) -> Tensor:
        square = _square(x)
        exact = torch.exp(-WIDE * square)
        source = (2 * WIDE * d - 4 * WIDE**2 * square) * exact
        if not nonlinear:
            return -u.second[0] - source
        return -u.second[0] + u.value - u.value**3 - (source + exact - exact**3)

    def mismatch(x: Sequence[Jet], u: Jet) -> Tensor:
        return u.value - torch.exp(-WIDE * _square(x))

    return Problem(
        name=f"gaussian_{d}d_nonlinear" if nonlinear else f"gaussian_{d}d",
        title="-Δu + u - u³ = s" if nonlinear else "-Δu = s",
        axes=tuple(f"x{i + 1}" for i in range(d)),
        bounds=bounds,
        sums=(tuple(range(d)),),
        residual=residual,
        conditions=(Condition("boundary", partial(on_faces, bounds), mismatch),),
        solution=lambda points: np.exp(-WIDE * (points**2).sum(1)),
        grid=lambda: tensor_grid(0.1 * bounds, (NODES[d],) * d),
        reference=AAS if nonlinear else DAS,
        recommended=RECOMMENDED.get(d, {}),
    )


def _peaks(name: str, centres: Centres, drift: bool, recommended: dict[str, Any]) -> Problem:
    bounds = np.tile([-1.0, 1.0], (2, 1))

    def residual(x: Sequence[Jet], u: Jet) -> Tensor:
        a, b = x[0].value, x[1].value
        value, outward, laplacian = (torch.zeros_like(a) for _ in range(3))  # those of the solution
        for ca, cb in centres:
            da, db = a - ca, b - cb
            square = da**2 + db**2
            peak = torch.exp(-SHARP * square)
            value = value + peak
            outward = outward - 2 * SHARP * (a * da + b * db) * peak  # x . grad u
            laplacian = laplacian + 4 * SHARP * (SHARP * square - 1) * peak
        if not drift:
            return laplacian - u.second[0]
        # div(u grad |x|^2) = 2 x . grad u + 4 u
        left = u.second[0] - 2 * (a * u.gradient[0] + b * u.gradient[1]) - 4 * u.value
        return left - (laplacian - 2 * outward - 4 * value)

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        return (1 - x[0] * x[0]) * (1 - x[1] * x[1]) * N

    def solution(points: Points) -> Points:
        peaks = [np.exp(-SHARP * ((points - centre) ** 2).sum(1)) for centre in centres]
        return np.sum(peaks, axis=0)

    return Problem(
        name=name,
        title="-∇·(u∇|x|²) + Δu = s" if drift else "-Δu = s",
        axes=("x", "y"),
        bounds=bounds,
        sums=((0, 1),),
        residual=residual,
        ansatz=ansatz,
        solution=solution,
        grid=lambda: tensor_grid(bounds, (256, 256)),
        metric="mse",
        reference=DAS,
        recommended=recommended,
    )


def _square(x: Sequence[Jet]) -> Tensor:
    """Return |x|^2, shape (n,)."""
    return torch.stack([xi.value for xi in x]).square().sum(0)
