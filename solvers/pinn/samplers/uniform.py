"""Samplers that ignore the residual: random points, and low-discrepancy points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.samplers.contract import Inside, Sampler, State


class Uniform(Sampler):
    """Uniform random points, drawn anew for each sample.

    Examples
    --------
    >>> from deepcd.solvers.pinn.samplers.uniform import Uniform
    >>> x, log_density = Uniform([(-1, 1), (-1, 1)], seed=0).sample(100)
    >>> x.shape, round(float(log_density[0].exp()), 3)
    (torch.Size([100, 2]), 0.25)
    """

    probes = 0

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return uniform points."""
        return self.uniform(n)

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        return {"adaptive": 0.0}


class Sobol(Sampler):
    """Points of a scrambled Sobol sequence, which each sample continues."""

    probes = 0

    def __init__(self, bounds: Any, *, seed: int = 0, inside: Inside | None = None) -> None:
        super().__init__(bounds, seed=seed, inside=inside)
        self._engine = SobolEngine(len(self.bounds), scramble=True, seed=seed)

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the next points of the sequence that lie in the domain."""
        x = self.accepted(lambda m: self._in_box(self._engine.draw(m, dtype=torch.float64)), count("n", n))
        return x, torch.full((n,), -self.log_volume, dtype=torch.float64)

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        return {"adaptive": 0.0}

    def state_dict(self) -> State:
        """Return the random stream, and how many points of the sequence have been drawn."""
        return {**super().state_dict(), "drawn": torch.tensor(self._engine.num_generated)}

    def load_state_dict(self, state: State) -> None:
        """Continue the sequence where it was."""
        super().load_state_dict(state)
        self._engine.reset()
        self._engine.fast_forward(int(state["drawn"]))
