"""KRnet as published: affine couplings that freeze the coordinates one after the other, towards a Gaussian.

Tang, Wan, Liao, "Deep density estimation via invertible block-triangular mapping", Theor. Appl. Mech. Lett. 10, 2020;
on a box as in Tang, Wan, Yang, "DAS-PINNs", J. Comput. Phys. 476, 2023, and the sizes of its code. The box, enlarged by
half a percent of its width on each side, is mapped to R^d by logits. Then, for k = d, ..., 2 coordinates:

    layers x [scale-bias -> bounded affine coupling, the last coordinate and the others in turn]; freeze the last one,

and the coordinate that is left passes a scale-bias layer and a nonlinear distribution function. The prior is the
standard normal density. Next to the bounded KRnet it is the reference, not the choice: its density vanishes at the
faces of the enlarged box, and what it puts beyond the box itself ends on the faces.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import AffineTransform, SigmoidTransform
from zuko.lazy import LazyComposedTransform, UnconditionalTransform
from zuko.nn import MLP
from zuko.transforms import ComposedTransform, CouplingTransform, DependentTransform, LULinearTransform

from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.flows.flow import Flow
from deepcd.solvers.pinn.flows.transforms import Leading, QuadraticCDF

COLLAR = 0.005  # of the width of the box, on each side
LARGEST_LOG = 5.0  # of learned scales
SLOPE = 0.6  # a coupling scales by 1 +- 0.6
REACH = 50.0  # the distribution function is the identity outside of [-50, 50]
RATIO = 1.2  # of the widths of its neighbouring pieces, which grow away from zero


def _scale(log: Tensor) -> Tensor:
    return log.clamp(-LARGEST_LOG, LARGEST_LOG).exp()


class ScaleBias(nn.Module):
    """y = (x + b) exp(a), coordinate by coordinate, which starts as the identity."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Centre a batch and bring its deviations a third of the way to one, in logarithms."""
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-(deviation + 1e-6).log() / 3)

    def forward(self, c: None = None) -> AffineTransform:
        """Return the transform."""
        scale = _scale(self.log_scale)
        return AffineTransform(scale * self.bias, scale, event_dim=1)


class AffineCoupling(nn.Module):
    """y_b = x_b (1 + 0.6 tanh s) + exp(gamma) tanh t with s and t from a network of x_a = y_a; `mask` marks a."""

    def __init__(self, mask: Tensor, width: int) -> None:
        super().__init__()
        given, moved = int(mask.sum()), int((~mask).sum())
        self.register_buffer("mask", mask)
        self.hyper = MLP(given, 2 * moved, 2 * (width,))
        self.log_gamma = nn.Parameter(torch.zeros(moved))

    def forward(self, c: None = None) -> Any:
        """Return the transform."""
        return CouplingTransform(self._given, self.mask)

    def _given(self, x: Tensor) -> AffineTransform:
        s, t = self.hyper(x).chunk(2, dim=-1)
        return AffineTransform(_scale(self.log_gamma) * torch.tanh(t), 1 + SLOPE * torch.tanh(s), event_dim=1)


class NonlinearCDF(nn.Module):
    """A piecewise-quadratic distribution function per coordinate on [-50, 50], and the identity outside."""

    widths: Tensor

    def __init__(self, features: int, bins: int) -> None:
        super().__init__()
        half = RATIO ** torch.arange(bins // 2, dtype=torch.float64)
        self.register_buffer("widths", torch.cat([half.flip(0), half]))
        self.log_heights = nn.Parameter(torch.zeros(features, bins - 1))

    def forward(self, c: None = None) -> Any:
        """Return the transform."""
        inner, w = self.log_heights.exp(), self.widths
        # The end densities are to be the mean, so that the slope of the identity continues the map.
        end = (inner * (w[1:] + w[:-1])).sum(-1, keepdim=True) / (2 * w.sum() - w[0] - w[-1])
        cdf = DependentTransform(QuadraticCDF(w, torch.cat([end, inner, end], -1)), 1)
        return ComposedTransform(AffineTransform(0, 1 / REACH), cdf, AffineTransform(0, REACH))


class Squeezed(nn.Module):
    """A layer that acts on the first `active` coordinates only."""

    def __init__(self, layer: nn.Module, active: int) -> None:
        super().__init__()
        self.layer, self.active = layer, active

    def forward(self, c: None = None) -> Leading:
        """Return the transform."""
        return Leading(self.layer(), self.active)


class KRnet(Flow):
    """A density on a box, slightly enlarged, by the published KRnet.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        The box; finite, low < high on each axis.
    layers : int, default 6
        Coupling layers before a coordinate is frozen, an even number.
    bins : int, default 32
        Pieces of the distribution function of the last coordinate, an even number.
    width : int, default 24
        Of the two hidden layers of each network.
    rotation : bool, default False
        Mix the coordinates by a learned matrix L U, which starts as the identity, before each group of couplings.
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
    >>> from deepcd.solvers.pinn.flows import KRnet
    >>> flow = KRnet([(-1, 1), (-1, 1)])
    >>> generator = torch.Generator().manual_seed(0)
    >>> flow.initialise(2 * torch.rand(1000, 2, generator=generator) - 1)
    >>> flow.sample(5, generator).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        bounds: Any,
        *,
        layers: int = 6,
        bins: int = 32,
        width: int = 24,
        rotation: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(bounds, dtype)
        for name, value in (("layers", layers), ("bins", bins)):
            if count(name, value, least=2) % 2:
                raise ValueError(f"{name} must be even, got {value}")
        count("width", width)
        d = len(self.low)
        collar = self.slack()
        stages = [
            UnconditionalTransform(
                AffineTransform, self.low - collar, self.high - self.low + 2 * collar, buffer=True, event_dim=1
            ).inv,
            UnconditionalTransform(SigmoidTransform).inv,
        ]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(count("seed", seed, least=0))
            for active in range(d, 1, -1):
                group: list[nn.Module] = []
                if rotation:
                    group.append(UnconditionalTransform(LULinearTransform, torch.eye(active)))
                last = torch.arange(active) == active - 1
                for i in range(layers):
                    group += [ScaleBias(active), AffineCoupling(last if i % 2 else ~last, width)]
                stages += [Squeezed(layer, active) for layer in group]
        stages += [Squeezed(layer, 1) for layer in (ScaleBias(1), NonlinearCDF(1, bins))]
        self.transform = LazyComposedTransform(*stages)
        self.to(dtype)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set the scale-bias layers, one after the other, from the mean and deviation of what a batch has become there.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points of the box.
        """
        y = x.to(self.low.dtype)
        for stage in self.transform.transforms:
            if isinstance(stage, Squeezed) and isinstance(stage.layer, ScaleBias):
                stage.layer.initialise(y[:, : stage.active])
            y = stage()(y)

    def slack(self) -> Tensor:
        """Return how far the density reaches beyond the box, per axis."""
        return COLLAR * (self.high - self.low)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Return the log density of the standard normal prior."""
        return -0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def prior_sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n standard normal vectors."""
        shape, like = (n, len(self.low)), self.low
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like)
