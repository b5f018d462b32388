"""A network in training: its settings, and rounds that move the points and train on them.

A round is one turn each in min over theta, max over p of E_p[r^2] - ... (Tang et al., ICLR 2024): the sampler learns
from the residual, and the optimiser trains on points that are drawn from it, of which a part is replaced every few
steps. Which iterate is returned is decided on points that no step has seen: the one with the lowest loss there. The
result is judged on a fixed Sobol set for the residual and, where the solution is known, on the grid of the problem.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.equations.statements import Problem
from deepcd.solvers.pinn.approximation import Approximation, Points
from deepcd.solvers.pinn.check import check
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import At, Objective
from deepcd.solvers.pinn.optimizers.methods import Method, method
from deepcd.solvers.pinn.reference import reference
from deepcd.solvers.pinn.samplers import Sampler, Sobol
from deepcd.solvers.pinn.settings import RunSettings

MONITOR = 8_192  # number of uniform points on which the residual is judged
HELD = 0.5  # number of points that decide which iterate is returned, in units of those of the loss
# Factor of the residuals of noisy observations at first. It falls from round to round to 1, where the equation holds
# much better than the data; at once, a parameter may end where the equation is easy and the data are far away.
EMPHASIS = 100.0
FILM = 64  # largest number of rounds whose points are kept for pictures

Row = dict[str, float]


class Run(Approximation):
    """A network in training and its history. `deepcd.pinn.solve` makes it; it is used as any `Approximation`.

    Attributes
    ----------
    problem : Problem
    settings : RunSettings
    sampler : Sampler
    history : list of dict
        One row per round: steps so far, seconds so far, those among them that the sampler took, the loss on the points
        of the round and on held-out ones, the error if the solution is known, the mean square and the largest square of
        the residual on the monitor set, and the sampler's diagnostics.
    film : dict of int to ndarray of float32, shape (n, d)
        Points of at most 64 evenly spaced rounds, by the number of the round.
    steps : int
        Number of steps so far, which are Gauss-Newton steps, or gradients.
    reference_error : float or None
        Once `error` has compared with a reference that was computed, an estimate of the reference's own error, in the
        problem's metric: its difference from one on cells of twice the width.
    """

    def __init__(self, problem: Problem, settings: RunSettings, sampler: Sampler) -> None:
        self.problem, self.settings, self.sampler = problem, settings, sampler
        check(problem)
        periods = {problem.axes.index(a): problem.bounds[problem.axes.index(a)] for a in problem.domain.periodic}
        network = Network(
            problem.bounds,
            outputs=len(problem.fields),
            width=settings.width,
            depth=settings.depth,
            periodic={axis: float(high - low) for axis, (low, high) in periods.items()},
            harmonics=settings.harmonics,
            seed=settings.seed,
            dtype=torch.float32 if settings.single else torch.float64,
        )
        residuals = problem.terms[0].residuals
        super().__init__(
            network, problem.frame, problem.values(), residuals, bounds=problem.bounds, title=problem.title
        )
        self.history: list[Row] = []
        self.film: dict[int, NDArray[np.float32]] = {}
        self.steps = 0
        self.generator = torch.Generator().manual_seed(settings.seed)  # random stream of the points on the boundary
        self.objective = Objective(problem, self.network)
        self.method: Method = method(settings.optimizer, self.objective, rate=settings.rate, warmup=settings.warmup)
        self._best, self._best_value = self.objective.theta, math.inf
        self._x = torch.zeros(0, problem.dimension, dtype=torch.float64)
        monitor = Sobol(problem.bounds, seed=1_000_003, inside=None if problem.domain.is_box else problem.domain.inside)
        self._monitor, _ = monitor.sample(MONITOR)
        self._grid: Points | None = None
        self._exact: Points | None = None
        self.reference_error: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of computing so far."""
        return self.history[-1]["seconds"] if self.history else 0.0

    @property
    def unknowns(self) -> dict[str, float]:
        """The unknown parameters."""
        values = self.objective.unknowns.detach().to(torch.float64).tolist()
        return dict(zip(self.problem.unknowns, values, strict=True))

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviations of the unknown parameters, if the errors of observations are as stated by sigma."""
        return self.objective.deviation()

    @property
    def residual_rms(self) -> float:
        """Root of the mean square of the residuals of the equation, over points that no sampler has seen."""
        return float((self.objective.residuals(self._monitor) ** 2).sum(0).mean().sqrt())

    def error(self) -> float:
        """Return the error in the problem's metric: mean square or relative L2.

        Where no solution is known but the equation is linear and elliptic, the first call computes a reference, by
        finite elements with some 200,000 unknowns (`deepcd.pinn.Problem.system`) and DeepCD; see `reference_error`.

        Raises
        ------
        ValueError
            If no solution is known, and none can be computed; the message says why.
        """
        if self._grid is None or self._exact is None:
            grid = self.problem.grid()
            self._exact = self._reference(grid) if self.problem.solution is None else self.problem.exact(grid)
            self._grid = grid
        return self.problem.error(self._values(torch.from_numpy(self._grid)), self._exact)

    def round(self, seconds: float = math.inf, steps: int | None = None) -> bool:
        """Do a round: train on points that are replaced bit by bit.

        Parameters
        ----------
        seconds : float, optional
            Time after which the round ends early, in seconds.
        steps : int, optional
            Largest number of steps.

        Returns
        -------
        bool
            False if no further descent is possible on these points.
        """
        start, settings, objective = time.perf_counter(), self.settings, self.objective
        diagnostics = self._prepare()
        spent, going = time.perf_counter() - start, True
        last = self.steps + min(settings.period, settings.period if steps is None else steps)
        while True:
            count = min(settings.turn, last - self.steps)
            going = self.method.run(objective, count, self._done)
            self.steps += count
            self._judge()
            if self.steps >= last or time.perf_counter() - start > seconds:
                break
            begun = time.perf_counter()
            self._replace()
            spent += time.perf_counter() - begun
        self._record(time.perf_counter() - start, spent, diagnostics)
        return going

    def finish(self) -> None:
        """Continue with the iterate that had the lowest loss on points that no step has seen."""
        self.objective.load(self._best)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what the next round depends on, besides network, sampler and optimiser."""
        return {
            "generator": self.generator.get_state().numpy(),
            "unknowns": self.objective.unknowns.detach().numpy(),
            "best": self._best,
            "best value": np.array(min(self._best_value, 1e300)),
            "points": self._x.numpy(),
            "steps": np.array(self.steps),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from a state."""
        self._x, self.steps = torch.from_numpy(state["points"].copy()), int(state["steps"])
        # A run that had ended needs points for the deviations of unknowns; another round chooses its own.
        self.objective.emphasis = _emphasis(len(self.history) - 1)
        self.objective.place(self._x, None, self._boundary(self.settings.boundary))
        self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        with torch.no_grad():
            self.objective.unknowns.copy_(torch.from_numpy(state["unknowns"].copy()))
        self._best, self._best_value = state["best"].copy(), float(state["best value"])

    def _prepare(self) -> Row:
        """Let the sampler learn, and choose the points of the loss and the held-out ones."""
        settings, sampler, objective = self.settings, self.sampler, self.objective
        n = settings.points
        if not self.history:
            sampler.points(n)  # a sampler can only move points that it has drawn
        leaving = self._leaving() if len(self._x) else torch.zeros(0, dtype=torch.bool)
        fresh, diagnostics = sampler.turn(n - int((~leaving).sum()), objective.size)
        self._x = torch.cat([self._x[~leaving], fresh])
        objective.emphasis = _emphasis(len(self.history))
        objective.place(self._x, sampler.weights(n), self._boundary(settings.boundary))
        self._keep(self._x)
        held = round(HELD * n)
        x = sampler.points(held) if sampler.fresh else sampler.uniform(held)[0]
        self._held: list[At] = objective.placed(x, None, self._boundary(max(round(HELD * settings.boundary), 1)))
        theta = objective.theta
        objective.load(self._best)
        self._best_value = objective.mean_square(self._held)
        objective.load(theta)
        self._judge()
        return diagnostics

    def _boundary(self, n: int) -> list[tuple[Tensor, Tensor]]:
        return [one.part.points(n, self.generator) for one in self.problem.terms if one.part is not None]

    def _replace(self) -> None:
        """Replace a part of the points by new ones, unless the sampler keeps its points."""
        if self.sampler.fresh:
            leaving = self._leaving()
            self._x = torch.cat([self._x[~leaving], self.sampler.points(int(leaving.sum()))])
            self.objective.move(self._x, self.sampler.weights(len(self._x)))

    def _leaving(self) -> Tensor:
        """Tell which points are replaced: all, or a share of them, of shape (n,).

        These are the oldest, or random ones among those whose residual is at most the mean, if the sampler wants the
        others to be retained (as R3 does: Daw et al., ICML 2023).
        """
        n = len(self._x)
        leaving = torch.ones(n, dtype=torch.bool)
        k = max(1, round(self.settings.share * n))
        if not self.sampler.fresh or k == n:
            return leaving
        candidates = torch.arange(k)
        if self.sampler.retains:
            size = self.objective.sizes()
            low = (size <= size.mean()).nonzero()[:, 0]
            if len(low):  # none is, where a residual is not a number
                candidates = low[torch.randperm(len(low), generator=self.generator)[:k]]
        leaving[:] = False
        leaving[candidates] = True
        return leaving

    def _judge(self) -> None:
        """Keep the present parameters if their loss on the held-out points is the lowest so far."""
        value = self.objective.mean_square(self._held)
        if value < self._best_value or not math.isfinite(self._best_value):
            self._best, self._best_value = self.objective.theta, value

    @property
    def _done(self) -> float:
        """Share of the budget that has been used, in [0, 1]."""
        settings = self.settings
        seconds = self.seconds / settings.budget if settings.budget else 0.0
        return min(1.0, max(seconds, self.steps / settings.steps if settings.steps else 0.0))

    def _record(self, seconds: float, spent: float, diagnostics: Row) -> None:
        objective = self.objective
        theta, loss = objective.theta, objective.mean_square()
        objective.load(self._best)
        squares = (objective.residuals(self._monitor) ** 2).sum(0)
        earlier = self.history[-1] if self.history else {"seconds": 0.0, "sampler seconds": 0.0}
        row = {
            "steps": float(self.steps),
            "seconds": earlier["seconds"] + seconds,
            "sampler seconds": earlier["sampler seconds"] + spent,
            "loss": loss,
            "held-out loss": self._best_value,
            "error": self.error() if self.problem.solution is not None else math.nan,
            "mean square": float(squares.mean()),
            "largest square": float(squares.max()),
            "variance": float(squares.var()),
            **{f"unknown: {name}": value for name, value in self.unknowns.items()},
            **{f"sampler: {name}": value for name, value in diagnostics.items()},
        }
        self.history.append({name: value for name, value in row.items() if not math.isnan(value)})
        objective.load(theta)

    def _inside(self, x: Tensor) -> Tensor:
        return self.problem.domain.inside(x)

    def _reference(self, grid: Points) -> Points:
        try:
            found = reference(self.problem, grid)
        except ValueError as error:
            reason = f"a reference by finite elements cannot be computed, since {error}"
            raise ValueError(
                f"no solution is known: state one by solution=, or judge the run by residual_rms; {reason}"
            ) from None
        self.reference_error = found.error
        return found.values

    def _keep(self, x: Tensor) -> None:
        """Add the points of every stride-th round to the film; if it gets too long, drop every second picture."""
        number, stride = len(self.history), 1 << (len(self.history) // FILM).bit_length()
        if number % stride == 0:
            self.film[number] = x.to(torch.float32).numpy()
        self.film = {key: points for key, points in self.film.items() if key % stride == 0}


def _emphasis(number: int) -> float:
    """Return the factor of the residuals of noisy observations in a round."""
    return max(1.0, EMPHASIS * 10.0**-number)
