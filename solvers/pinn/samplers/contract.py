"""The contract of samplers: they provide points to train on, and learn from the residual there."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deepcd.pde.problems.contract import as_box
from deepcd.pde.problems.sampling import in_box
from deepcd.solvers.arguments import count

State = dict[str, Tensor]


class Sampler(ABC):
    """Collocation points in a box.

    A training alternates: it trains on ``sample(n)``, evaluates the residual at ``probe()``, and passes it to
    ``update``. Each sampler keeps the number of points, works in float64, and has a random stream of its own.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        The box; finite, low < high on each axis.
    seed : int, default 0
        Seed of the random stream.

    Attributes
    ----------
    probes : int
        Number of points that `probe` returns; with 0 the sampler does not learn from the residual.

    Raises
    ------
    ValueError
        If the bounds are not a box.
    """

    probes = 10_000

    def __init__(self, bounds: Any, *, seed: int = 0) -> None:
        self.bounds = torch.from_numpy(as_box(bounds))
        self.generator = torch.Generator().manual_seed(count("seed", seed, least=0))

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of the box, which is minus the log density of uniform points."""
        return float((self.bounds[:, 1] - self.bounds[:, 0]).log().sum())

    @abstractmethod
    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points to train on.

        Parameters
        ----------
        n : int
            Number of points, at least 1.

        Returns
        -------
        x : Tensor of float64, shape (n, d)
            Points in the box.
        log_density : Tensor of float64, shape (n,)
            Log density, with respect to x, of the distribution that the points were drawn from.
        """

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the points at which `update` needs the residual, in the form of `sample`; uniform ones by default."""
        return self.uniform(self.probes)

    def update(self, x: Tensor, log_density: Tensor, residual: Tensor) -> dict[str, float]:
        """Take the residual into account in the next samples.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points, as returned by `probe`.
        log_density : Tensor, shape (n,)
            Log density of the distribution that the points were drawn from.
        residual : Tensor, shape (n,)
            Residual of the PDE at the points; its sign does not matter.

        Returns
        -------
        dict of str to float
            Diagnostics, by name.

        Raises
        ------
        ValueError
            If shapes differ, or a number is not finite.
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
        """Implement `update` for validated arguments; `size` is the absolute value of the residual."""

    def turn(self, n: int, residual: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Learn from the residual, if this sampler does, and return the next points.

        Parameters
        ----------
        n : int
            Number of points, at least 1. Points that a sampler moves must have been drawn by `sample` before.
        residual : callable
            Function from points, shape (m, d), to the residual of the PDE there, shape (m,).

        Returns
        -------
        x : Tensor of float64, shape (n, d)
        diagnostics : dict of str to float
            What `update` returned.
        """
        diagnostics: dict[str, float] = {}
        if self.probes:
            x, log_density = self.probe()
            diagnostics = self.update(x, log_density, residual(x))
        return self.sample(n)[0], diagnostics

    def weights(self, n: int) -> Tensor:
        """Return the weights that the squared residuals of the last sample have in the loss; ones by default."""
        return torch.ones(n, dtype=torch.float64)

    def state_dict(self) -> State:
        """Return everything that decides the next samples."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: State) -> None:
        """Continue from the state of a sampler of the same class and options."""
        self.generator.set_state(state["generator"])

    def uniform(self, n: int) -> tuple[Tensor, Tensor]:
        """Return uniform points of the box with their log density."""
        x = in_box(self.bounds.numpy(), count("n", n), self.generator)
        return x, torch.full((n,), -self.log_volume, dtype=torch.float64)

    def filled_up(self, x: Tensor, n: int) -> Tensor:
        """Return points x, followed by new uniform points if there are fewer than n."""
        missing = count("n", n) - len(x)
        return torch.cat([x, self.uniform(missing)[0]]) if missing > 0 else x


def effective_share(weights: Tensor) -> float:
    """Return the effective sample size of n weights over n: 1 if all are equal, 1/n if all but one are zero."""
    total = float(weights.sum())
    return total**2 / (len(weights) * float((weights**2).sum())) if total > 0 else math.nan
