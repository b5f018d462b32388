"""What the flows on a box have in common: the density p(x) = p_Z(f(x)) |det df/dx|, and samples x = f^-1(z)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from deepcd.pde.problems.contract import as_box
from deepcd.solvers.arguments import count


class Flow(nn.Module, ABC):
    """An invertible map f of a box to where a simple density p_Z lives.

    A subclass sets `transform`, a lazy transform of zuko, and the prior p_Z. A module is called as ``flow(x)``, which
    is :meth:`forward`.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        Lowest and highest coordinate per axis.
    dtype : torch.dtype
        Of parameters, densities and samples.

    Raises
    ------
    ValueError
        If the bounds are no box, or none in this precision.
    """

    transform: Any
    low: Tensor
    high: Tensor

    def __init__(self, bounds: Any, dtype: torch.dtype) -> None:
        super().__init__()
        box = as_box(bounds)
        low, high = torch.tensor(box[:, 0], dtype=dtype), torch.tensor(box[:, 1], dtype=dtype)
        if not (torch.isfinite(low) & torch.isfinite(high) & (low < high)).all():
            raise ValueError(f"bounds must be finite with low < high on each axis in {dtype}, got {box.tolist()}")
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    @abstractmethod
    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Return log p_Z, shape (n,), at z of shape (n, d)."""

    @abstractmethod
    def prior_sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples of p_Z, shape (n, d)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map points of the box.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            In the box, but for rounding; converted to the dtype of the flow.

        Returns
        -------
        z : Tensor, shape (n, d)
        log_det : Tensor, shape (n,)
            log |det dz/dx|, in the units of the box.

        Raises
        ------
        ValueError
            If x has another shape, or a point that is not in the box.
        """
        if x.ndim != 2 or x.shape[1] != len(self.low):
            raise ValueError(f"x must have shape (n, {len(self.low)}) to match the bounds, got {tuple(x.shape)}")
        x = x.to(self.low.dtype)
        slack = self.slack()
        outside = ~((x >= self.low - slack) & (x <= self.high + slack))
        if outside.any():
            row, axis = outside.nonzero()[0].tolist()
            raise ValueError(
                f"x must lie in the box, got {x[row, axis].item():.6g} at x[{row}, {axis}], which must be in "
                f"[{self.low[axis].item():.6g}, {self.high[axis].item():.6g}]"
            )
        z, log_det = self.transform().call_and_ladj(x)
        return z, log_det

    def slack(self) -> Tensor:
        """Return how far outside of the box, per axis, a point may be: by rounding."""
        return 1e-5 * (self.high - self.low)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map points back: the inverse of :meth:`forward`.

        Parameters
        ----------
        z : Tensor, shape (n, d)
            Of the dtype of the flow.

        Returns
        -------
        x : Tensor, shape (n, d)
        log_det : Tensor, shape (n,)
            log |det dx/dz|.

        Notes
        -----
        z is known to the unit roundoff, so x to that times the uniform density over p: in float32, the inverse of a
        point where p is 1e-5 of uniform is off by a percent of the box. Samples seldom fall there.
        """
        x, log_det = self.transform().inv.call_and_ladj(z)
        return x, log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density at points of the box.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            As for :meth:`forward`.

        Returns
        -------
        Tensor, shape (n,)
            log p with respect to x, in the units of the box. Twice differentiable in x, but on the surfaces where
            pieces meet, and in the parameters.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        z, log_det = self(x)
        return self.prior_log_prob(z) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points.

        Parameters
        ----------
        n : int
            At least 1.
        generator : torch.Generator
            Decides everything.

        Returns
        -------
        Tensor, shape (n, d)
            In the closed box, of the dtype of the flow. What falls outside of it, by rounding or because the density
            reaches further, is moved to the nearest face.

        Raises
        ------
        ValueError
            If n < 1.
        """
        z = self.prior_sample(count("n", n), generator)
        return torch.as_tensor(self.transform().inv(z)).clamp(self.low, self.high)
