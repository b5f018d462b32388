"""The front door to physics-informed networks: choose the settings of a run, and do its rounds with checkpoints.

>>> from torch import pi, sin
>>> from deepcd import pinn
>>> D = pinn.box(t=(0, 1), x=(0, 1))
>>> run = pinn.solve(lambda t, x, u: u.t - 0.1 * u.xx, D, pinn.on(["x-", "x+"], lambda u: u),
...                  start=lambda x: sin(pi * x), steps=20, points=200, width=8, depth=2)
>>> run.predict([[0.5, 0.5]]).round(2).tolist()
[0.61]
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepcd.data.files import sole_writer
from deepcd.pde.equations.conditions import Observation, On
from deepcd.pde.equations.statements import Problem
from deepcd.pde.problems import PROBLEMS, problem
from deepcd.pde.regions import Domain
from deepcd.solvers.pinn import checkpoints, samplers
from deepcd.solvers.pinn.optimizers.methods import OPTIMIZERS
from deepcd.solvers.pinn.reference import advise, by_deepcd
from deepcd.solvers.pinn.run import Run
from deepcd.solvers.pinn.samplers import Sampler
from deepcd.solvers.pinn.settings import WITH_GRADIENTS, RunSettings, by_budget

LOG = logging.getLogger("deepcd")
CHECKPOINT_SECONDS = 60.0  # least time between two checkpoints, in seconds
MOST_PARAMETERS = 2_500  # number of parameters up to which a dense Gauss-Newton step is the best that is known
MOST_AXES = 10  # number of axes up to which Gauss-Newton was tried, on points that a flow places


def solve(
    equation: str | Problem | Callable[..., Any],
    domain: Domain | None = None,
    *conditions: On | Observation,
    start: Callable[..., Any] | None = None,
    fields: str | Sequence[str] | None = None,
    unknowns: Mapping[str, float] | None = None,
    solution: Callable[..., Any] | None = None,
    ansatz: Callable[..., Any] | None = None,
    sampler: str | Sampler = "aas",
    optimizer: str | None = None,
    seed: int = 0,
    budget: float | None = None,
    steps: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Callable[[Run], object] | None = None,
    **settings: Any,
) -> Run:
    """Approximate the solution of a PDE by a network, trained on points that a sampler moves.

    Parameters
    ----------
    equation : callable, Problem or str
        A function that is zero where the equation holds, such as ``lambda t, x, u: u.t + u * u.x - 0.01 * u.xx``; or a
        problem that is stated already; or the name of one of `deepcd.pinn.PROBLEMS`.
    domain, *conditions, start, fields, unknowns, solution, ansatz
        The rest of the statement, as for `Problem`.
    sampler : str or Sampler, default "aas"
        A name in `deepcd.pinn.SAMPLERS`, or a sampler of your own.
    optimizer : str, optional
        A name in `deepcd.pinn.OPTIMIZERS`; by default what the problem recommends, else "gauss-newton" up to 2,500
        parameters and six axes, and "ssbroyden" above.
    seed : int, default 0
        Seed that decides every number of the run, together with the number of steps and of threads of torch.
    budget : float, optional
        Seconds after which the run ends; by default what the problem recommends, else 30.
    steps : int, optional
        Number of Gauss-Newton steps or gradients after which the run ends. Without a budget, they alone decide.
    out : path, optional
        A folder for checkpoints.
    resume : bool, default False
        Whether to continue, bit for bit, the run that left a checkpoint in `out`.
    callback : callable, optional
        Function that is called with the `Run` after each round; if it returns True, the run stops.
    **settings
        The other attributes of `RunSettings`; by default what the problem recommends, else what suits the optimiser.

    Returns
    -------
    Run

    Raises
    ------
    TypeError, ValueError
        If the statement makes no sense, a name is unknown, a number is out of range, or a checkpoint is another run's.
    NotFiniteError
        If a residual is NaN or infinite; the message names the term and the point. The last checkpoint is kept.
    FileExistsError
        If `out` holds a run already and `resume` is False.
    """
    stated = {"fields": fields, "unknowns": unknowns, "start": start, "ansatz": ansatz, "solution": solution}
    own = _stated(equation, domain, conditions, {name: value for name, value in stated.items() if value is not None})
    advise(own)
    optional = {"optimizer": optimizer, "budget": budget, "steps": steps}
    given = {name: value for name, value in optional.items() if value is not None} | settings
    run = _prepared(own, sampler, seed, given)
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


def _stated(equation: Any, domain: Any, conditions: Sequence[Any], statement: Mapping[str, Any]) -> Problem:
    if isinstance(equation, str | Problem):
        if domain is not None or conditions or statement:
            raise ValueError("a problem has its domain and conditions: give it alone, or state an equation of your own")
        if isinstance(equation, Problem):
            return equation
        if equation not in PROBLEMS:
            raise ValueError(f"unknown problem {equation!r}; known: {', '.join(PROBLEMS)}")
        return problem(equation, solve=by_deepcd)
    if domain is None:
        raise TypeError("an equation needs a domain, such as pinn.solve(equation, pinn.box(x=(0, 1), y=(0, 1)))")
    return Problem(equation, domain, *conditions, **statement)


def _prepared(own: Problem, sampler: str | Sampler, seed: int, given: dict[str, Any]) -> Run:
    """Return a run that has not begun, under the given settings and, for the rest, those the problem recommends."""
    recommended = dict(own.recommended)
    by_sampler = recommended.pop("samplers", {})
    chosen = {**recommended, **given, "seed": seed}
    optimizer = chosen.setdefault("optimizer", _optimizer_for(own, chosen))
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known: {', '.join(OPTIMIZERS)}")
    if optimizer == "gauss-newton":
        chosen = by_budget(chosen.get("budget")) | chosen
    else:
        chosen = WITH_GRADIENTS | chosen
    if "steps" in chosen:
        chosen.setdefault("budget", None)
    if isinstance(sampler, Sampler):
        if "sampler_options" in given:
            raise ValueError("sampler_options are for a sampler that is given by name: pass them to its class")
        return Run(own, RunSettings(sampler=type(sampler).__name__, **chosen), sampler)
    chosen["sampler_options"] = {**by_sampler.get(sampler, {}), **given.get("sampler_options", {})}
    inside = None if own.domain.is_box else own.domain.inside
    made = samplers.sampler(sampler, own.bounds, seed=seed, inside=inside, **chosen["sampler_options"])
    return Run(own, RunSettings(sampler=sampler, **chosen), made)


def _optimizer_for(own: Problem, chosen: Mapping[str, Any]) -> str:
    """Return the optimiser that suits the number of parameters and of axes."""
    width, depth = chosen.get("width", RunSettings.width), chosen.get("depth", RunSettings.depth)
    parameters = (own.dimension + 1 + len(own.fields)) * width + (depth - 1) * width * (width + 1)
    fits = parameters <= MOST_PARAMETERS and own.dimension <= MOST_AXES and not chosen.get("single", False)
    return "gauss-newton" if fits else "ssbroyden"


def _advance(run: Run, path: Path | None, callback: Callable[[Run], object] | None) -> None:
    """Do rounds until the budget is used, and write checkpoints on the way."""
    settings, kept, idle = run.settings, time.perf_counter(), 0
    most = math.inf if settings.steps is None else settings.steps
    budget = math.inf if settings.budget is None else settings.budget
    while run.steps < most and run.seconds < budget and idle < 2:
        going = run.round(budget - run.seconds, None if settings.steps is None else settings.steps - run.steps)
        # Other points may let the optimiser go on, so it ends only if two rounds in a row got nowhere.
        idle = 0 if going else idle + 1
        last = run.history[-1]
        LOG.info(
            "%d steps, loss %.3e, held-out loss %.3e, residual %.3e",
            *(run.steps, last["loss"], last["held-out loss"], math.sqrt(last["mean square"])),
        )
        stop = callback is not None and callback(run) is True
        over = stop or idle == 2 or run.steps >= most or run.seconds >= budget
        if path is not None and (over or time.perf_counter() - kept > CHECKPOINT_SECONDS):
            checkpoints.save(path, run)
            kept = time.perf_counter()
        if stop:
            break
    run.finish()
