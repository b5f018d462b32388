"""The settings of a run, and their defaults by optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deepcd.solvers.arguments import count, tolerance

# What suits methods that use gradients: more parameters, fewer points, and points that stay for a hundred gradients, as
# quasi-Newton methods require.
WITH_GRADIENTS: dict[str, Any] = {"points": 2_000, "boundary": 500, "period": 100, "turn": 100, "share": 1.0}
WITH_GRADIENTS |= {"width": 30, "depth": 3}

# Width and number of points that suit a Gauss-Newton run of some length, by the least budget in seconds. Steps are the
# longer the larger a network is, and a small one has learned what it can after some hundred steps.
BY_BUDGET: tuple[tuple[float, dict[str, Any]], ...] = (
    (500.0, {"width": 24, "points": 9_000}),
    (60.0, {"width": 18, "points": 5_000}),
)


def by_budget(budget: float | None) -> dict[str, Any]:
    """Return settings that suit a budget, where they differ from the defaults of `RunSettings`."""
    return next((dict(chosen) for least, chosen in BY_BUDGET if budget is not None and budget >= least), {})


@dataclass(frozen=True)
class RunSettings:
    """All that decides, together with the code and its versions, every number of a run.

    Attributes
    ----------
    sampler, optimizer : str
    seed : int
        Seed of the network, the sampler and the points on the boundary.
    budget : float or None
        Seconds after which the run ends. Which step is the last then depends on the machine.
    steps : int or None
        Number of steps after which the run ends: Gauss-Newton steps, or gradients of the loss.
    points : int
        Number of points in the domain.
    boundary : int
        Number of points of each condition on the boundary.
    period : int
        Number of steps in a round, which begins with a turn of the sampler.
    turn : int
        Number of steps between two replacements of points.
    share : float
        Share of the points that is replaced then.
    width, depth : int
        Number of units per hidden layer, and number of hidden layers.
    harmonics : int
        Number of cosines and sines of each periodic axis.
    rate : float
        Learning rate of Adam or SOAP.
    warmup : int
        Number of gradients that Adam computes before a quasi-Newton method takes over.
    single : bool
        Whether to compute in float32 instead of float64.
    sampler_options : dict
        Further arguments of the sampler's constructor, such as ``{"replay": 0.2}`` for "aas".
    """

    sampler: str = "aas"
    optimizer: str = "gauss-newton"
    seed: int = 0
    budget: float | None = 30.0
    steps: int | None = None
    points: int = 4_000
    boundary: int = 500
    period: int = 10
    turn: int = 2
    share: float = 0.2
    width: int = 14
    depth: int = 5
    harmonics: int = 3
    rate: float = 5e-3
    warmup: int = 500
    single: bool = False
    sampler_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the numeric settings."""
        for name in ("points", "boundary", "period", "turn", "width", "depth", "harmonics"):
            count(name, getattr(self, name))
        for name in ("seed", "warmup"):
            count(name, getattr(self, name), least=0)
        tolerance("rate", self.rate)
        if self.budget is not None:
            tolerance("budget", self.budget)
        if self.steps is not None:
            count("steps", self.steps)
        if self.budget is None and self.steps is None:
            raise ValueError("a run needs an end: give a budget in seconds, or a number of steps")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if self.single and self.optimizer == "gauss-newton":
            raise ValueError("Gauss-Newton needs float64: leave single out, or choose another optimizer")
