"""The contract of samplers: points to train on, and what they learn from the residuals there."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from deepcd.pde.problems.contract import as_box
from deepcd.pde.problems.sampling import in_box
from deepcd.solvers.arguments import count

State = dict[str, Tensor]


class Sampler(ABC):
    """Collocation points in a box.

    A run alternates: train on ``sample(n)``, evaluate the residual at ``probe()``, and tell the sampler by ``update``.
    Each sampler keeps the number of points, works in float64, and draws from a random stream of its own.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        The box; finite, low < high on each axis.
    seed : int, default 0

    Attributes
    ----------
    probes : int
        Points that `probe` returns.

    Raises
    ------
    ValueError
        If the bounds are no box.
    """

    probes = 10_000

    def __init__(self, bounds: Any, *, seed: int = 0) -> None:
        self.bounds = torch.from_numpy(as_box(bounds))
        self.generator = torch.Generator().manual_seed(count("seed", seed, least=0))

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of the box: minus the log density of uniform points."""
        return float((self.bounds[:, 1] - self.bounds[:, 0]).log().sum())

    @abstractmethod
    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points to train on.

        Parameters
        ----------
        n : int
            How many, at least 1.

        Returns
        -------
        x : Tensor of float64, shape (n, d)
            In the box.
        log_density : Tensor of float64, shape (n,)
            Of the distribution that they were drawn from, with respect to x.
        """

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return points at which `update` wants to know the residual, as `sample` does; uniform ones by default."""
        return self.uniform(self.probes)

    def update(self, x: Tensor, log_density: Tensor, residual: Tensor) -> dict[str, float]:
        """Take the residual into account in the next samples.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points, as of `probe`.
        log_density : Tensor, shape (n,)
            Of the distribution that they were drawn from.
        residual : Tensor, shape (n,)
            Of the PDE there; its sign does not matter.

        Returns
        -------
        dict of str to float
            What happened, by name.

        Raises
        ------
        ValueError
            If shapes differ, or something is not finite.
        """
        x, log_density = x.detach().to(torch.float64), log_density.detach().to(torch.float64)
        size = residual.detach().to(torch.float64).abs()
        d = len(self.bounds)
        if x.ndim != 2 or x.shape[1] != d or log_density.shape != x.shape[:1] or size.shape != x.shape[:1]:
            shapes = ", ".join(str(tuple(t.shape)) for t in (x, log_density, size))
            raise ValueError(f"update takes x (n, {d}), log_density (n,) and residual (n,), got shapes {shapes}")
        if not len(x):
            raise ValueError("update takes at least one point, got none")
        for name, values in (("x", x), ("log_density", log_density), ("residual", size)):
            if not values.isfinite().all():
                worst = int((~values.isfinite().reshape(len(x), -1).all(dim=1)).nonzero()[0, 0])
                raise ValueError(f"{name} must be finite, but is not at point {x[worst].tolist()}")
        return self._learn(x, log_density, size)

    @abstractmethod
    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        """Do what `update` says, with valid arguments and the absolute value of the residual."""

    def weights(self, n: int) -> Tensor:
        """Return the weights of the squared residuals of the last sample in the loss; ones by default."""
        return torch.ones(n, dtype=torch.float64)

    def state_dict(self) -> State:
        """Return all that makes the next samples what they are."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: State) -> None:
        """Take up the state of a sampler of the same kind and options."""
        self.generator.set_state(state["generator"])

    def uniform(self, n: int) -> tuple[Tensor, Tensor]:
        """Return uniform points of the box with their log density."""
        x = in_box(self.bounds.numpy(), count("n", n), self.generator)
        return x, torch.full((n,), -self.log_volume, dtype=torch.float64)


def effective_share(weights: Tensor) -> float:
    """Return the effective sample size of weights over their number: 1 if all are equal, 1/n if one counts alone."""
    total = float(weights.sum())
    return total**2 / (len(weights) * float((weights**2).sum())) if total > 0 else math.nan
