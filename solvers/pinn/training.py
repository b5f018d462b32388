"""The front door to physics-informed networks: choose the settings of a run, and do its rounds with checkpoints."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.data.files import sole_writer
from deepcd.pde.problems import PROBLEMS, Problem, problem
from deepcd.solvers.pinn import checkpoints, samplers
from deepcd.solvers.pinn.run import Points, Run, RunSettings
from deepcd.solvers.pinn.samplers import Sampler

LOG = logging.getLogger("deepcd")
CHECKPOINT_SECONDS = 60.0  # least time between two checkpoints, in seconds


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
        The name of a problem of `deepcd.pde.problems`, or a problem of your own.
    sampler : str or Sampler, default "aas"
        A name in `deepcd.pinn.SAMPLERS`, or a sampler of your own.
    optimizer : {"adam", "soap", "lbfgs", "ssbroyden", "ssbfgs"}, optional
        By default the one that the problem recommends, which is "ssbroyden" for most.
    seed : int, default 0
        Seed that decides, together with the number of threads of torch, every number of the run.
    budget : int, optional
        Number of gradients of the loss to compute; by default the number that the problem recommends, else 5,000.
    out : path, optional
        A folder for checkpoints.
    resume : bool, default False
        Whether to continue, bit for bit, the run that left a checkpoint in `out`.
    callback : callable, optional
        Function that is called with the `Run` after each round; if it returns True, the run stops.
    **settings
        The other attributes of `RunSettings`: points, period, width, depth, features, frequency, rate, warmup, single,
        sampler_options. By default, those that the problem recommends, else those of `RunSettings`.

    Returns
    -------
    Run
        The trained network, with ``predict(x)``, ``error()``, ``residual(x)`` and ``history``.

    Raises
    ------
    ValueError
        If a problem, sampler or optimiser is unknown, a number is out of range, or a checkpoint is that of another run.
    NotFiniteError
        If a residual is NaN or infinite; the message names the term and the point. The last checkpoint is kept.
    FileExistsError
        If `out` holds a run already and `resume` is False.

    Examples
    --------
    >>> from deepcd import pinn
    >>> run = pinn.solve("diffusion", sampler="rad", budget=20, points=50, width=8, depth=2, warmup=10)
    >>> run.predict([[0.0, 0.5]]).round(6).tolist()
    [1.0]
    """
    if isinstance(equation, str):
        if equation not in PROBLEMS:
            raise ValueError(f"unknown problem {equation!r}; known: {', '.join(PROBLEMS)}")
        equation = problem(equation, solve=_by_deepcd)
    optional = {"optimizer": optimizer, "budget": budget}
    given = {name: value for name, value in optional.items() if value is not None} | settings
    run = _prepared(equation, sampler, seed, given)
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


def _prepared(equation: Problem, sampler: str | Sampler, seed: int, given: dict[str, Any]) -> Run:
    """Return a run that has not begun, under the given settings and, for the rest, those the problem recommends."""
    recommended = dict(equation.recommended)
    by_sampler = recommended.pop("samplers", {})
    chosen = {**recommended, **given, "seed": seed}
    if isinstance(sampler, Sampler):
        if "sampler_options" in given:
            raise ValueError("sampler_options are for a sampler that is given by name: pass them to its class")
        return Run(equation, RunSettings(sampler=type(sampler).__name__, **chosen), sampler)
    chosen["sampler_options"] = {**by_sampler.get(sampler, {}), **given.get("sampler_options", {})}
    made = samplers.sampler(sampler, equation.bounds, seed=seed, **chosen["sampler_options"])
    return Run(equation, RunSettings(sampler=sampler, **chosen), made)


def _advance(run: Run, path: Path | None, callback: Callable[[Run], object] | None) -> None:
    """Do rounds until the budget is used, and write checkpoints on the way."""
    kept, idle = time.perf_counter(), 0
    while run.objective.evaluations < run.settings.budget and idle < 2:
        before = run.objective.evaluations
        going = run.round()
        # Other points may let the optimiser go on, so it ends only if two rounds in a row got nowhere.
        idle = 0 if going or run.objective.evaluations > before + 1 else idle + 1
        last = run.history[-1]
        LOG.info("%d gradients, loss %.3e, error %.3e", last["gradients"], last["loss"], last["error"])
        stop = callback is not None and callback(run) is True
        over = stop or idle == 2 or run.objective.evaluations >= run.settings.budget
        if path is not None and (over or time.perf_counter() - kept > CHECKPOINT_SECONDS):
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
