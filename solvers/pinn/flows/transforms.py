"""A monotone piecewise-quadratic map with a closed-form inverse, which the flow needs and zuko lacks.

It is a `Transform` in the sense of zuko and torch: `call_and_ladj` returns y and log |det dy/dx|.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Transform, constraints


class QuadraticCDF(Transform):
    """The map y = 2 F(x) - 1 of [-1, 1] to itself, where F is the distribution function of a piecewise-linear density.

    On a piece that starts at x_i, with width h_i and the densities w_i and w_i+1 at its ends, and with t = x - x_i,

        F = F_i + w_i t + (w_i+1 - w_i) t^2 / (2 h_i).

    The inverse, in which nothing cancels, is t = 2 q / (w_i + sqrt(w_i^2 + 2 (w_i+1 - w_i) q / h_i)) with q = F - F_i
    (Zeng, Wan, Zhou, "Bounded KRnet and its applications to density estimation and approximation", arXiv:2305.09063).
    The densities at the ends are free, so a flow made of such maps can rise towards a face of the box. Outside [-1, 1]
    the map is a shift, which continues it smoothly if the densities at the ends are 1/2.

    Parameters
    ----------
    widths : Tensor, shape (..., K)
        Widths of the pieces, positive, in any unit: they are scaled to fill the interval.
    heights : Tensor, shape (..., K + 1)
        Densities at the K + 1 ends of pieces, positive, in any unit: they are scaled so that they integrate to one.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.flows.transforms import QuadraticCDF
    >>> cdf = QuadraticCDF(torch.ones(1), torch.tensor([0.0, 1.0]))  # F(x) = ((x + 1) / 2)^2
    >>> cdf(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [-1.0, -0.5, 1.0]
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, widths: Tensor, heights: Tensor) -> None:
        super().__init__()
        self.widths, self.heights = widths, heights
        self.ends = widths.cumsum(-1)
        self.masses = (0.5 * widths * (heights[..., 1:] + heights[..., :-1])).cumsum(-1)

    def _piece(self, position: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
        """Return the start, F at the start, the width and both end densities of the piece that holds each position."""
        shape = position.shape
        with torch.no_grad():
            k = (ends[..., :-1] <= position.unsqueeze(-1)).sum(-1, keepdim=True)

        def of(values: Tensor, index: Tensor = k) -> Tensor:
            return values.expand(*shape, -1).gather(-1, index).squeeze(-1)

        width, left, right = of(self.widths), of(self.heights), of(self.heights, k + 1)
        return of(self.ends) - width, of(self.masses) - 0.5 * width * (left + right), width, left, right

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log dy/dx, both of the shape of x."""
        length, mass = self.ends[..., -1], self.masses[..., -1]
        inside = x.clamp(-1, 1)
        position = 0.5 * (inside + 1) * length
        start, before, width, left, right = self._piece(position, self.ends)
        t = position - start
        rise = (right - left) / width * t
        y = 2 * (before + t * (left + 0.5 * rise)) / mass - 1
        return y + (x - inside), ((left + rise) * length / mass).log()

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log dy/dx at x."""
        return self.call_and_ladj(x)[1]

    def _inverse(self, y: Tensor) -> Tensor:
        inside = y.clamp(-1, 1)
        position = 0.5 * (inside + 1) * self.masses[..., -1]
        start, before, width, left, right = self._piece(position, self.masses)
        q = position - before
        # Rounding may leave q just outside its piece.
        root = (left**2 + 2 * (right - left) * q / width).clamp_min(0).sqrt()
        t = torch.minimum(2 * q / (left + root), width).clamp_min(0)
        return 2 * (start + t) / self.ends[..., -1] - 1 + (y - inside)
