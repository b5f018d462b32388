"""Bounded KRnet: a flow that maps a box to [-1, 1]^d, and the density that it transports to the uniform one.

After Zeng, Wan, Zhou, "Bounded KRnet and its applications to density estimation and approximation", arXiv:2305.09063
(SIAM J. Sci. Comput. 47, 2025): each coordinate in turn passes through a distribution function whose pieces depend on
the other coordinates. Nothing has to be clipped, and p may be arbitrarily large on the faces. Three things differ:

1. Positions and densities of a piecewise function are bounded by exp(+-s tanh), s = log 1000, instead of 1 +- 0.99
   tanh. Each layer can do more: eight pieces in four layers replace three pieces in many layers.
2. A first layer treats the coordinates separately, by functions with many pieces, as the nonlinear layer of KRnet
   does. It finds a peak at once and leaves the features that are as wide as the box to the networks.
3. No coordinate is frozen. The bits of the coordinates' indices decide which half conditions the other, so that after
   log2 d pairs of layers any two coordinates have met. In two dimensions this is the published order. In ten, a pass
   costs half of one through 2 (d - 1) layers that freeze coordinate after coordinate, and after the same training time
   the fit is as good (correlated normal densities, two peaks, rings).

KRnet as first published (Tang, Wan, Liao, Theor. Appl. Mech. Lett. 10, 2020) maps an enlarged box to R^d by logits. Its
density vanishes at the faces of the enlarged box, so it is not used here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.lazy import LazyComposedTransform, UnconditionalTransform
from zuko.transforms import DependentTransform

from deepcd.pde.regions.sampling import as_box
from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.flows.transforms import QuadraticCDF

SPREAD = math.log(1e3)  # bound on the absolute logarithms of widths and densities
MARGINAL_BINS = 32  # pieces of each function in the first layer
GAIN = 20.0  # factor on the marginal parameters, so that Adam moves them as fast as the output of a network
ROUNDING = 1e-5  # distance outside the box, in box widths, at which a point still counts as inside


def _bounded_cdf(theta: Tensor) -> QuadraticCDF:
    """Return the map with K pieces that theta, shape (..., 2 K + 1), describes; zeros describe the identity."""
    positive = torch.exp(SPREAD * torch.tanh(theta / SPREAD))
    bins = theta.shape[-1] // 2
    return QuadraticCDF(positive[..., :bins], positive[..., bins:])


def _marginal_cdf(theta: Tensor) -> Any:
    """Return the maps of d separate coordinates from parameters of shape (d, 2 K + 1)."""
    return DependentTransform(_bounded_cdf(GAIN * theta), 1)


class BoxKRnet(nn.Module):
    """A density on a box that starts exactly uniform: p(x) = 2^-d |det df/dx| for a map f of the box to [-1, 1]^d.

    log p is continuous, and differentiable except where pieces meet. ``flow(x)`` is :meth:`forward`.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        Lowest and highest coordinate per axis; finite, low < high.
    layers : int, optional
        Number of coupling layers, each of which moves half of the coordinates; by default 2 ceil(log2 d), but at least
        4. In one dimension there is nothing to couple.
    bins : int, default 8
        Number of pieces of each conditional distribution function.
    width : int, default 32
        Width of the two hidden layers of each network.
    seed : int, default 0
        Seed of the initial weights.
    dtype : torch.dtype, default torch.float32
        Type of parameters, densities and samples.

    Raises
    ------
    ValueError
        If the bounds are not a box, or not one in this precision, or if another number is out of range.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.flows import BoxKRnet
    >>> flow = BoxKRnet([(0, 2), (-1, 1)])
    >>> x = flow.sample(3, torch.Generator().manual_seed(0))
    >>> flow.log_prob(x).exp().tolist()
    [0.25, 0.25, 0.25]
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        bounds: Any,
        *,
        layers: int | None = None,
        bins: int = 8,
        width: int = 32,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        box = as_box(bounds)
        low, high = torch.tensor(box[:, 0], dtype=dtype), torch.tensor(box[:, 1], dtype=dtype)
        if not (torch.isfinite(low) & torch.isfinite(high) & (low < high)).all():
            raise ValueError(f"bounds must be finite with low < high on each axis in {dtype}, got {box.tolist()}")
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        d = len(low)
        bits = max(1, math.ceil(math.log2(d)))
        couplings = max(4, 2 * bits) if layers is None else count("layers", layers, least=0)
        centre, half = 0.5 * (high + low), 0.5 * (high - low)
        stages = [
            UnconditionalTransform(AffineTransform, centre, half, buffer=True, event_dim=1).inv,
            UnconditionalTransform(_marginal_cdf, torch.zeros(d, 2 * MARGINAL_BINS + 1)),
        ]
        parameters, hidden = 2 * count("bins", bins) + 1, 2 * (count("width", width),)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(count("seed", seed, least=0))
            for i in range(couplings if d > 1 else 0):
                side = torch.arange(d) >> (i // 2 % bits) & 1
                coupling = GeneralCouplingTransform(
                    d,
                    mask=side == i % 2,
                    univariate=_bounded_cdf,
                    shapes=[(parameters,)],
                    hidden_features=hidden,
                    activation=nn.Tanh,
                )
                nn.init.zeros_(coupling.hyper[-1].weight)
                nn.init.zeros_(coupling.hyper[-1].bias)
                stages.append(coupling)
        self.transform: Any = LazyComposedTransform(*stages)
        self.to(dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map points of the box to [-1, 1]^d.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points in the box, up to rounding; converted to the dtype of the flow.

        Returns
        -------
        z : Tensor, shape (n, d)
        log_det : Tensor, shape (n,)
            log |det dz/dx|, in the units of the box.

        Raises
        ------
        ValueError
            If x has another shape, or a point is not in the box.
        """
        if x.ndim != 2 or x.shape[1] != len(self.low):
            raise ValueError(f"x must have shape (n, {len(self.low)}) to match the bounds, got {tuple(x.shape)}")
        x = x.to(self.low.dtype)
        slack = ROUNDING * (self.high - self.low)
        outside = ~((x >= self.low - slack) & (x <= self.high + slack))
        if outside.any():
            row, axis = outside.nonzero()[0].tolist()
            raise ValueError(
                f"x must lie in the box, got {x[row, axis].item():.6g} at x[{row}, {axis}], which must be in "
                f"[{self.low[axis].item():.6g}, {self.high[axis].item():.6g}]"
            )
        z, log_det = self.transform().call_and_ladj(x)
        return z, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map points of [-1, 1]^d to the box: the inverse of :meth:`forward`.

        Parameters
        ----------
        z : Tensor, shape (n, d)
            Points in the dtype of the flow.

        Returns
        -------
        x : Tensor, shape (n, d)
        log_det : Tensor, shape (n,)
            log |det dx/dz|.

        Notes
        -----
        An error of one unit roundoff in z becomes an error of x that is larger by the uniform density over p: in
        float32, the inverse of a point where p is 1e-5 of uniform is off by one percent of the box. Samples seldom
        fall there.
        """
        x, log_det = self.transform().inv.call_and_ladj(z)
        return x, log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density at points of the box.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points as for :meth:`forward`.

        Returns
        -------
        Tensor, shape (n,)
            log p with respect to x, in the units of the box. It is twice differentiable in the parameters, and in x
            except on the surfaces where pieces meet.

        Raises
        ------
        ValueError
            As :meth:`forward`.
        """
        z, log_det = self(x)
        return z.new_full(z.shape[:1], -z.shape[1] * math.log(2)) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points from p.

        Parameters
        ----------
        n : int
            Number of points, at least 1.
        generator : torch.Generator
            Random stream that decides all points.

        Returns
        -------
        Tensor, shape (n, d)
            Points in the closed box, in the dtype of the flow.

        Raises
        ------
        ValueError
            If n < 1.
        """
        shape, like = (count("n", n), len(self.low)), self.low
        z = 2 * torch.rand(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like) - 1
        return torch.as_tensor(self.transform().inv(z)).clamp(self.low, self.high)
