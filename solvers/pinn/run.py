"""A network in training: its settings, and rounds that move the points and train on them.

A round is one turn each in min over theta, max over p of E_p[r^2] - ... (Tang et al., ICLR 2024): the sampler learns
from the residual and draws new points, and the optimiser trains on them. During a round the points stay, as
quasi-Newton methods require. The result is judged on points that no sampler sees: a fixed Sobol set for the residual,
and the problem's own grid for the error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepcd.pde.problems import Problem
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import Objective
from deepcd.solvers.pinn.optimizers.methods import Method, method
from deepcd.solvers.pinn.samplers import Sampler, Sobol

MONITOR = 8_192  # number of uniform points on which the residual is judged
FILM = 64  # largest number of rounds whose points are kept for pictures

Points = NDArray[np.float64]
Row = dict[str, float]


@dataclass(frozen=True)
class RunSettings:
    """All that decides, together with the code and its versions, every number of a run.

    Attributes
    ----------
    sampler, optimizer : str
    seed : int
        Seed of the network, the sampler and the points of the conditions.
    budget : int
        Number of gradients of the loss to compute.
    points : int
        Number of points in a round; each condition gets a quarter as many.
    period : int
        Number of gradients in a round.
    width, depth : int
        Number of units per hidden layer, and number of hidden layers.
    features : int
        Number of random Fourier features; 0 for none.
    frequency : float
        Standard deviation of the features' frequencies, in radians per half box.
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
    optimizer: str = "ssbroyden"
    seed: int = 0
    budget: int = 5_000
    points: int = 2_000
    period: int = 100
    width: int = 30
    depth: int = 3
    features: int = 0
    frequency: float = 1.0
    rate: float = 5e-3
    warmup: int = 500
    single: bool = False
    sampler_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the numeric settings."""
        for name in ("budget", "points", "period", "width", "depth"):
            count(name, getattr(self, name))
        for name in ("seed", "features", "warmup"):
            count(name, getattr(self, name), least=0)
        for name in ("frequency", "rate"):
            tolerance(name, getattr(self, name))


class Run:
    """A network in training and its history. `deepcd.pinn.solve` makes it.

    Attributes
    ----------
    problem : Problem
    settings : RunSettings
    network : Network
    sampler : Sampler
    history : list of dict
        One row per round: gradients so far, seconds so far, those among them that the sampler took, the loss, the
        error, the mean square and the largest square of the residual on the monitor set, and the sampler's diagnostics.
    film : dict of int to ndarray of float32, shape (n, d)
        Points of at most 64 evenly spaced rounds, by the number of the round.
    """

    def __init__(self, problem: Problem, settings: RunSettings, sampler: Sampler) -> None:
        self.problem, self.settings, self.sampler = problem, settings, sampler
        self.network = Network(
            problem.bounds,
            width=settings.width,
            depth=settings.depth,
            features=settings.features,
            frequency=settings.frequency,
            seed=settings.seed,
            dtype=torch.float32 if settings.single else torch.float64,
        )
        self.history: list[Row] = []
        self.film: dict[int, NDArray[np.float32]] = {}
        self.generator = torch.Generator().manual_seed(settings.seed)  # random stream of the conditions' points
        self.objective = Objective(problem, self.network)
        self.method: Method = method(settings.optimizer, self.objective, rate=settings.rate, warmup=settings.warmup)
        self._monitor, _ = Sobol(problem.bounds, seed=1_000_003).sample(MONITOR)
        self._grid = problem.grid()
        self._exact = problem.solution(self._grid)

    def predict(self, x: Any) -> Points:
        """Return u at points.

        Parameters
        ----------
        x : array_like of float, shape (n, d)

        Returns
        -------
        ndarray of float64, shape (n,)

        Raises
        ------
        ValueError
            If x has another shape, or is not finite.
        """
        return self.objective.values(self._points(x)).numpy()

    def residual(self, x: Any) -> Points:
        """Return the residual of the PDE at points, shape (n, d), as an array of shape (n,)."""
        return self.objective.residual(self._points(x)).numpy()

    def error(self) -> float:
        """Return the error of u on the problem's grid in the problem's metric: mean square or relative L2."""
        return self.problem.error(self.predict(self._grid), self._exact)

    def round(self) -> bool:
        """Move the points and train on them; return False if no further descent is possible on these points."""
        start = time.perf_counter()
        settings, sampler, objective = self.settings, self.sampler, self.objective
        if not self.history:
            sampler.sample(settings.points)  # a sampler can only move points that it has drawn
        x, diagnostics = sampler.turn(settings.points, objective.residual)
        spent = time.perf_counter() - start
        on = [c.points(max(settings.points // 4, 1), self.generator) for c in self.problem.conditions]
        objective.place(x, sampler.weights(len(x)), on)
        self._keep(x)
        before = objective.evaluations
        gradients = min(settings.period, settings.budget - before)
        going = self.method.run(objective, gradients, before / settings.budget)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            loss = float(objective.loss())
        squares = objective.residual(self._monitor) ** 2
        earlier = self.history[-1] if self.history else {"seconds": 0.0, "sampler seconds": 0.0}
        self.history.append(
            {
                "gradients": float(objective.evaluations),
                "seconds": earlier["seconds"] + seconds,
                "sampler seconds": earlier["sampler seconds"] + spent,
                "loss": loss,
                "error": self.error(),
                "mean square": float(squares.mean()),
                "largest square": float(squares.max()),
                "variance": float(squares.var()),
                **{f"sampler: {name}": value for name, value in diagnostics.items()},
            }
        )
        return going

    def _points(self, x: Any) -> torch.Tensor:
        points = np.asarray(x, dtype=np.float64)
        d = self.problem.dimension
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("x must be finite")
        return torch.from_numpy(points.copy())

    def _keep(self, x: torch.Tensor) -> None:
        """Add the points of every stride-th round to the film; if it gets too long, drop every second picture."""
        number, stride = len(self.history), 1 << (len(self.history) // FILM).bit_length()
        if number % stride == 0:
            self.film[number] = x.to(torch.float32).numpy()
        self.film = {key: points for key, points in self.film.items() if key % stride == 0}
