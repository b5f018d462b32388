"""A run: train the network on points, look at its residual, move the points, and so on until the budget is used.

This is min over theta, max over p of E_p[r^2] - ..., by turns (Tang et al., ICLR 2024). The points of a round stay
where they are, which quasi-Newton methods rely on; between two rounds the sampler learns from the residual and draws
new ones. What comes of it is judged on points that no sampler sees: a fixed Sobol set for the residual, the problem's
grid for the error.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepcd.data.files import sole_writer
from deepcd.pde.problems import PROBLEMS, Problem, problem
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.pinn import checkpoints, samplers
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import Objective
from deepcd.solvers.pinn.optimizers.methods import Method, method
from deepcd.solvers.pinn.samplers import Sampler, Sobol

LOG = logging.getLogger("deepcd")
MONITOR = 8_192  # held-out uniform points
KEEP_EVERY = 60.0  # seconds between two checkpoints
FILM = 64  # pictures

Points = NDArray[np.float64]
Row = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """What decides, with code and versions, every number of a run.

    Attributes
    ----------
    sampler, optimizer : str
    seed : int
        Of the network, the sampler and the points of the conditions.
    budget : int
        Gradients of the loss to compute.
    points : int
        In a round; of each condition a quarter as many.
    period : int
        Gradients in a round.
    width, depth : int
        Hidden units per layer, and hidden layers.
    features : int
        Random Fourier features.
    frequency : float
        Of these.
    rate : float
        Of Adam or SOAP.
    warmup : int
        Gradients that quasi-Newton methods leave to Adam.
    single : bool
        Compute in float32.
    replay : float
        Of AAS: share of the points moved that are taken from earlier samples.
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
    replay: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers that are none."""
        for name in ("budget", "points", "period", "width", "depth"):
            count(name, getattr(self, name))
        for name in ("seed", "features", "warmup"):
            count(name, getattr(self, name), least=0)
        for name in ("frequency", "rate"):
            tolerance(name, getattr(self, name))


# Where a peak fills 1e-8 of the box, points that stay are fitted one by one: they change every few steps instead, which
# quasi-Newton methods would not bear.
IN_TEN_DIMENSIONS = Settings(optimizer="soap", points=3_000, period=20, budget=12_000, width=64, rate=7e-4, single=True)
# Chosen on seeds 100 and above; for other problems, `Settings` itself.
DEFAULTS = {
    "one_peak": Settings(points=1_500, budget=4_000),
    "two_peaks": Settings(points=1_500, budget=6_000, replay=0.0),
    "two_peaks_plain": Settings(points=1_500, budget=6_000, replay=0.0),
    "gaussian_6d": Settings(points=1_500, budget=3_000),
    "gaussian_10d": IN_TEN_DIMENSIONS,
    "gaussian_10d_nonlinear": IN_TEN_DIMENSIONS,
    "diffusion": Settings(points=30, budget=1_500),
    "burgers": Settings(budget=8_000),
    "allen_cahn": Settings(points=1_500),
}


class Run:
    """A network in training, and what is known of it so far. Made by `solve`.

    Attributes
    ----------
    problem : Problem
    settings : Settings
    network : Network
    sampler : Sampler
    history : list of dict
        A row per round: gradients, seconds, loss, error, mean square and largest square of the residual on the monitor
        set, seconds that the sampler took, and what it says of itself.
    film : dict of int to ndarray of float32, shape (n, d)
        The points of some rounds, by the number of the round: evenly spaced, at most 64 of them.
    """

    def __init__(self, problem: Problem, settings: Settings, sampler: Sampler) -> None:
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
        self.generator = torch.Generator().manual_seed(settings.seed)  # of the points of the conditions
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
        """Return the error of u by the problem's own measure: mean square or relative L2 on its grid."""
        return self.problem.error(self.predict(self._grid), self._exact)

    def _points(self, x: Any) -> torch.Tensor:
        points = np.asarray(x, dtype=np.float64)
        d = self.problem.dimension
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError("x must be finite")
        return torch.from_numpy(points.copy())

    def _keep(self, x: torch.Tensor) -> None:
        """Add the points to the film if it is their turn; if it gets too long, drop every second picture."""
        number, stride = len(self.history), 1 << (len(self.history) // FILM).bit_length()
        if number % stride == 0:
            self.film[number] = x.to(torch.float32).numpy()
        self.film = {key: points for key, points in self.film.items() if key % stride == 0}

    def round(self) -> bool:
        """Move the points and train on them; return False if there is nothing left to gain on them."""
        start = time.perf_counter()
        settings, sampler, objective = self.settings, self.sampler, self.objective
        if not self.history:
            sampler.sample(settings.points)  # there have to be points before they can be moved
        diagnostics: dict[str, float] = {}
        if sampler.probes:
            x, log_density = sampler.probe()
            diagnostics = sampler.update(x, log_density, objective.residual(x))
        x, _ = sampler.sample(settings.points)
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


def solve(
    equation: str | Problem,
    *,
    sampler: str | Sampler = "aas",
    optimizer: str | None = None,
    seed: int = 0,
    budget: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Callable[[Run], object] | None = None,
    **settings: Any,
) -> Run:
    """Approximate the solution of a PDE by a network, trained on points that a sampler moves.

    Parameters
    ----------
    equation : str or Problem
        The name of a problem of `deepcd.pde.problems`, or one of your own.
    sampler : str or Sampler, default "aas"
        One of `deepcd.pinn.SAMPLERS`, or one of your own.
    optimizer : {"adam", "soap", "lbfgs", "ssbroyden", "ssbfgs"}, optional
        Default: that of the problem, which is "ssbroyden" for most.
    seed : int, default 0
        Decides, with the number of threads of torch, every number of the run.
    budget : int, optional
        Gradients of the loss to compute; default: what the problem takes.
    out : path, optional
        A folder for checkpoints.
    resume : bool, default False
        Go on, bit for bit, with the run that left a checkpoint there.
    callback : callable, optional
        Called with the `Run` after each round; returning True stops.
    **settings
        Others of `Settings`: points, period, width, depth, features, frequency, rate, warmup, single, replay.

    Returns
    -------
    Run
        With ``predict(x)``, ``error()``, ``residual(x)`` and ``history``.

    Raises
    ------
    ValueError
        If a problem, sampler or optimiser is unknown, or a number is out of range.
    NotFiniteError
        If a residual is NaN: names the term and the point. The last checkpoint is kept.
    FileExistsError
        If there is a run in `out` already, and it is not to be resumed.

    Examples
    --------
    >>> from deepcd import pinn
    >>> run = pinn.solve("diffusion", sampler="rad", budget=20, points=50, width=8, depth=2, warmup=10)
    >>> run.predict([[0.0, 0.5]]).round(6).tolist()
    [1.0]
    """
    if isinstance(equation, str):
        name = equation
        if name not in PROBLEMS:
            raise ValueError(f"unknown problem {name!r}; known: {', '.join(PROBLEMS)}")
        equation = problem(name, solve=_by_deepcd)
    chosen = DEFAULTS.get(equation.name, Settings())
    own = sampler if isinstance(sampler, Sampler) else None
    named: dict[str, Any] = {"sampler": type(own).__name__ if own else sampler, "seed": seed}
    given: dict[str, Any] = {"optimizer": optimizer, "budget": budget}
    chosen = replace(chosen, **named, **{k: v for k, v in given.items() if v is not None}, **settings)
    options = {"replay": chosen.replay} if chosen.sampler == "aas" else {}
    run = Run(equation, chosen, own or samplers.sampler(chosen.sampler, equation.bounds, seed=seed, **options))
    if out is None:
        _advance(run, None, callback)
        return run
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / checkpoints.NAME
    with sole_writer(path):
        if resume:
            checkpoints.load(path, run)
        elif path.exists():
            raise FileExistsError(f"{path} is there already: resume that run, or choose another folder")
        _advance(run, path, callback)
    return run


def _advance(run: Run, path: Path | None, callback: Callable[[Run], object] | None) -> None:
    """Do rounds until the budget is used, keeping checkpoints on the way."""
    kept, idle = time.perf_counter(), 0
    while run.objective.evaluations < run.settings.budget and idle < 2:
        before = run.objective.evaluations
        going = run.round()
        # Other points may let the optimiser go on; the same answer twice will be the same again.
        idle = 0 if going or run.objective.evaluations > before + 1 else idle + 1
        last = run.history[-1]
        LOG.info("%d gradients, loss %.3e, error %.3e", last["gradients"], last["loss"], last["error"])
        stop = callback is not None and callback(run) is True
        over = stop or idle == 2 or run.objective.evaluations >= run.settings.budget
        if path is not None and (over or time.perf_counter() - kept > KEEP_EVERY):
            checkpoints.save(path, run)
            kept = time.perf_counter()
        if stop:
            return


def _by_deepcd(A: Any, b: Points) -> Points:
    from deepcd.solvers.deepcd import DeepCD

    solution = DeepCD.solve(A, b, tol=1e-10)
    if solution.info:
        raise RuntimeError(f"the reference could not be computed. {solution.message}")
    return np.asarray(solution.x, dtype=np.float64)
