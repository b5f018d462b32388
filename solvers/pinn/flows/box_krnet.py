"""Bounded KRnet: a flow that maps a box to itself, from any density on it to the uniform one.

After Zeng, Wan, Zhou, "Bounded KRnet and its applications to density estimation and approximation", arXiv:2305.09063
(SIAM J. Sci. Comput. 47, 2025): each coordinate in turn passes through a distribution function whose pieces depend on
the others, so that nothing has to be clipped, and p may be as large as it likes on the faces. What differs:

1. Positions and densities of a piecewise function are bounded by exp(+-s tanh), s = log 1000, not by 1 +- 0.99 tanh,
   which makes more of each layer: eight pieces in four layers take the place of three pieces in many.
2. A first layer treats the coordinates one by one, by functions of their own with many pieces, as the nonlinear layer
   of KRnet does. It finds a peak at once, and leaves to the networks what is as wide as the box.
3. No coordinate is frozen. The halves that condition one another are taken from the bits of the coordinates' indices,
   so that after log2 d pairs of layers each two coordinates have met. In two dimensions that is the published order. In
   ten a pass costs half of that through 2 (d - 1) layers which freeze coordinate after coordinate, and after the same
   time of training it fits as well: correlated normal densities, two peaks, rings.
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

from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.flows.flow import Flow
from deepcd.solvers.pinn.flows.transforms import QuadraticCDF

SPREAD = math.log(1e3)  # of the logarithms of widths and densities, up and down
MARGINAL_BINS = 32
GAIN = 20.0  # of the marginal parameters: with Adam's steps they keep pace with the output of a network


def _bounded_cdf(theta: Tensor) -> QuadraticCDF:
    """Return the map with K pieces that 2 K + 1 numbers stand for, shape (..., 2 K + 1); of zeros, the identity."""
    positive = torch.exp(SPREAD * torch.tanh(theta / SPREAD))
    bins = theta.shape[-1] // 2
    return QuadraticCDF(positive[..., :bins], positive[..., bins:])


def _marginal_cdf(theta: Tensor) -> Any:
    """Return the maps of d coordinates one by one, from parameters of shape (d, 2 K + 1)."""
    return DependentTransform(_bounded_cdf(GAIN * theta), 1)


class BoxKRnet(Flow):
    """A density on a box that starts exactly uniform.

    Its logarithm is continuous, and differentiable but where pieces meet.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        The box; finite, low < high on each axis.
    layers : int, optional
        Coupling layers, each of which moves half of the coordinates; by default 2 ceil(log2 d), but at least 4. In one
        dimension there is nothing to couple.
    bins : int, default 8
        Pieces of each conditional distribution function.
    width : int, default 32
        Of the two hidden layers of each network.
    seed : int, default 0
        Of the initial weights.
    dtype : torch.dtype, default torch.float32

    Raises
    ------
    ValueError
        If the bounds are no box, or another number is out of range.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.flows import BoxKRnet
    >>> flow = BoxKRnet([(0, 2), (-1, 1)])
    >>> x = flow.sample(3, torch.Generator().manual_seed(0))
    >>> flow.log_prob(x).exp().tolist()
    [0.25, 0.25, 0.25]
    """

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
        super().__init__(bounds, dtype)
        d = len(self.low)
        bits = max(1, math.ceil(math.log2(d)))
        couplings = max(4, 2 * bits) if layers is None else count("layers", layers, least=0)
        centre, half = 0.5 * (self.high + self.low), 0.5 * (self.high - self.low)
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
        self.transform = LazyComposedTransform(*stages)
        self.to(dtype)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Return the log density of the uniform prior on [-1, 1]^d."""
        return z.new_full(z.shape[:1], -z.shape[1] * math.log(2))

    def prior_sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n uniform points of [-1, 1]^d."""
        shape, like = (n, len(self.low)), self.low
        return 2 * torch.rand(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like) - 1
