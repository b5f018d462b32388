"""Training of the learned multigrid cycle through unrolled conjugate-direction iterations.

Each step draws a batch of random domains and takes an Adam step on the loss of `losses.py`. Gradients are clipped at 1,
the learning rate follows a linear warm-up and a cosine, and later phases unroll more iterations.
"""

from __future__ import annotations

import hashlib
import logging
import math
import operator
import os
import platform
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepcd.data import weight_files
from deepcd.data.files import sole_writer
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.learned.architecture import HANDED, KINDS
from deepcd.solvers.learned.torch_threads import torch_threads
from deepcd.solvers.training import checkpoints
from deepcd.solvers.training.checkpoints import CycleSettings, State
from deepcd.solvers.training.figure import draw
from deepcd.solvers.training.losses import sample_loss
from deepcd.solvers.training.network import CycleNetwork
from deepcd.solvers.training.progress import reporting
from deepcd.solvers.training.samples import SHARES

LOG = logging.getLogger("deepcd")
CHECKPOINT_STEPS = 250  # number of steps between two checkpoints, each with a figure


def schedule(step: int, steps: int, rate: float) -> tuple[float, int]:
    """Return the learning rate of a step (linear warm-up, then a cosine) and the number of iterations it unrolls.

    Examples
    --------
    >>> schedule(500, 1000, 3e-3)
    (0.00151, 6)
    """
    done = step / steps
    lr = 1e-5 + rate * 0.5 * (1 + math.cos(math.pi * done)) * min(1, (step + 1) / 50)
    return lr, 3 if done < 0.2 else 4 if done < 0.5 else checkpoints.LONGEST


def advance(state: State) -> float:
    """Take one optimiser step, or skip it if the loss or its gradient is not finite.

    Parameters
    ----------
    state : State
        The state, which is changed in place.

    Returns
    -------
    float
        The learning rate.
    """
    step, settings = state.step, state.settings
    lr, unroll = schedule(step, settings.steps, settings.rate)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    rng = np.random.default_rng((settings.seed, step))
    assert isinstance(state.net, CycleNetwork)
    loss, residuals, shape = sample_loss(state.net, rng, unroll, step % 4 == 0)
    state.optimizer.zero_grad()
    loss.backward()
    take_step(state, loss.item(), residuals, shape)
    return lr


def take_step(state: State, loss: float, residuals: list[float], shape: tuple[int, ...]) -> None:
    """Let the optimiser step along the gradient, clipped at one, and log that; not if a number is not finite.

    Parameters
    ----------
    state : State
        The state, which is changed in place.
    loss : float
        The loss.
    residuals : list of float
        Mean log10 relative residual after each iteration.
    shape : tuple of int
        (batch, n0, n1, n2)
    """
    norm = torch.nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
    if all(math.isfinite(value) for value in (norm.item(), loss, *residuals)):
        state.optimizer.step()
        state.log.step.append(state.step)
        state.log.loss.append(loss)
        state.log.residuals.append(residuals)
        state.log.shape.append(shape)
    else:
        state.log.skipped.append(state.step)
    state.step += 1


def train(
    ndim: int,
    out: str | os.PathLike[str],
    *,
    steps: int,
    seed: int = 0,
    start: str | os.PathLike[str] | None = None,
    resume: bool = False,
    threads: int = 1,
    hidden: int = 32,
    rate: float = 3e-3,
    progress: bool = True,
) -> None:
    """Train the learned multigrid cycle on random domains and write its weights.

    The same arguments give the same weights, bit for bit, on the same machine with the same versions, however often
    the run was interrupted. Ctrl-C and SIGTERM end it after the current step with a checkpoint; a second signal ends it
    immediately.

    Parameters
    ----------
    ndim : {2, 3}
        Space dimension.
    out : path-like
        The weight file to write, see `deepcd.data.weight_files`. A checkpoint (`out` + ".checkpoint") and a figure of
        the losses (`out` with the suffix .png) are written beside it every 250 steps and at the end.
    steps : int
        Number of optimiser steps in the whole schedule.
    seed : int, default 0
        Seed of domains, right-hand sides and initial weights.
    start : path-like, optional
        Weight file to start from instead of initial weights, with the same `hidden`; a lower `rate` may suit it. In
        files of architecture "/1" the finest level has one smoother, which becomes both of the two.
    resume : bool, default False
        Whether to continue from the checkpoint.
    threads : int, default 1
        Number of threads that torch uses.
    hidden : int, default 32
        Width of the hidden layers.
    rate : float, default 0.003
        The largest learning rate.
    progress : bool, default True
        Whether to show a progress bar on standard error if that is a terminal. Otherwise a line every 50 steps goes to
        the logger ``deepcd``.

    Raises
    ------
    ValueError
        If an argument is out of range, or the checkpoint is damaged or belongs to other settings.
    FileNotFoundError
        If there is no checkpoint to resume from.
    OSError
        If the folder of `out` cannot be written or has no room (found before the training starts), or if another
        process trains to the same `out`.
    """
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3, got {ndim!r}")
    if not 0 <= operator.index(seed) < 2**63:
        raise ValueError(f"seed must be from 0 to 2^63 - 1, got {seed}")
    settings = CycleSettings(
        int(ndim),
        count("steps", steps),
        operator.index(seed),
        count("hidden", hidden),
        tolerance("rate", rate),
        "" if start is None else hashlib.sha256(Path(start).read_bytes()).hexdigest(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = CycleNetwork(settings.ndim, settings.hidden)
    if start is not None:
        _start_from(Path(start), net, settings)
    state = State(settings, net, torch.optim.Adam(net.parameters(), lr=settings.rate))
    run_training(out, state, advance, training_record, resume=resume, threads=threads, progress=progress)


def run_training(
    out: str | os.PathLike[str],
    state: State,
    advance: Callable[[State], float],
    record: Callable[[State], dict[str, Any]],
    *,
    resume: bool,
    threads: int,
    progress: bool,
) -> None:
    """Take the remaining steps of a network's training, and write weights, checkpoints and figures.

    Parameters
    ----------
    out, resume, threads, progress
        See `train`.
    state : State
        A fresh state; if the run is resumed, the checkpoint is loaded into it.
    advance : callable
        Function that takes one step and returns the learning rate.
    record : callable
        Function that, at the end, returns the part of the training record that is particular to this network.
    """
    threads, out = count("threads", threads), Path(out)
    if out.is_dir() or out.suffix in (".png", ".checkpoint"):
        raise ValueError(f"out must name the weight file to write, for instance weights.safetensors, got {out}")
    checkpoints.check_room(out, state)
    with sole_writer(out, checkpoints.path_for(out), out.with_suffix(".png")):
        settings, kept = state.settings, checkpoints.path_for(out)
        if resume:
            checkpoints.load(kept, state)
        elif kept.exists():
            LOG.warning(
                "%s will be overwritten after %d steps; to continue from it, stop now and resume",
                kept,
                CHECKPOINT_STEPS,
            )

        source = commit()  # asked now, since the files may change during a long run, but not the code in memory
        started = time.perf_counter() - state.seconds
        with torch_threads(threads), deferred_signals() as received, reporting(state, progress) as report:
            while state.step < settings.steps and not received:
                rate_now = advance(state)
                state.seconds = time.perf_counter() - started
                report(rate_now)
                if state.step % CHECKPOINT_STEPS == 0 or state.step == settings.steps or received:
                    _keep(out, state)
        if state.step == settings.steps:
            weights = {name: value.numpy() for name, value in state.net.state_dict().items()}
            weight_files.save(out, weights, common_record(state, threads) | record(state) | {"commit": source})
        else:
            LOG.warning("stopped after step %d of %d; resume to continue from %s", state.step, settings.steps, kept)
        if received:
            signal.raise_signal(received[0])
            raise SystemExit(128 + received[0])  # reached if the caller's handler returns


def _start_from(path: Path, net: CycleNetwork, settings: CycleSettings) -> None:
    """Load the weights to start from into a network."""
    tensors, record = weight_files.load(path, None)
    if record["architecture"] == settings.architecture.replace("/2", "/1"):
        # The one smoother on the finest level becomes both. Its outputs (a, c, phi) are now in the order phi, a, c.
        orders = {"fine.4": [4, 0, 1, 2, 3, 0, 1, 2, 3, *range(5, 5 + HANDED)]}
        orders |= {f"coarse.{k}.4": [0, 1, 2, 3, 4, 9, 5, 6, 7, 8, *range(10, 10 + HANDED)] for k in range(KINDS - 1)}
        for layer, order in orders.items():
            for name in (f"{layer}.weight", f"{layer}.bias"):
                tensors[name] = tensors[name][order]
    elif record["architecture"] != settings.architecture:
        raise ValueError(
            f"start {path} holds {record['architecture']!r}, needed are weights of {settings.architecture!r}"
        )
    try:
        net.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"start {path} does not fit a network with hidden={settings.hidden}: {error}") from error


def _keep(out: Path, state: State) -> None:
    """Write checkpoint and figure. If the disk is full, log a warning and continue, since there may be room later."""
    try:
        checkpoints.save(checkpoints.path_for(out), state)
        draw(out.with_suffix(".png"), state.log, state.settings)
    except OSError as error:
        LOG.warning("step %d: checkpoint or figure not written (%s); the last good one is kept", state.step, error)


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list instead of acting on them; the second signal of a kind acts immediately.

    An exception in the middle of an optimiser step would leave half of the parameters updated.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():  # other threads may not set handlers
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def common_record(state: State, threads: int) -> dict[str, Any]:
    """Describe how the weights were trained, for the header of their file."""
    settings, log = state.settings, state.log
    return {
        "architecture": settings.architecture,
        "seed": settings.seed,
        "steps": settings.steps,
        "steps_skipped": len(log.skipped),
        "rate": settings.rate,
        "start": settings.start,
        "seconds": round(state.seconds, 3),
        "threads": threads,
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "versions": checkpoints.versions(),
        "log10_residuals": [round(r, 3) for r in log.recent(CHECKPOINT_STEPS)],
    }


def training_record(state: State) -> dict[str, Any]:
    """Describe the domains that the cycle was trained on, and the width of its networks."""
    log = state.log
    axes = slice(1, None) if state.settings.ndim == 3 else slice(1, None, 2)
    shapes = Counter("x".join(map(str, shape[axes])) for shape in log.shape)
    edges = [n for shape in log.shape for n in shape[axes]]
    often = {shape: round(n / len(log.shape), 4) for shape, n in shapes.most_common() if n >= 0.02 * len(log.shape)}
    return {
        "hidden": state.settings.hidden,
        "distribution": {
            "families": {name: round(share / sum(SHARES.values()), 4) for name, share in SHARES.items()},
            "shapes": often,
            "distinct_shapes": len(shapes),
            "edges": [min(edges), max(edges)] if edges else [],
        },
    }


def commit() -> str:
    """Return the commit of this source tree, followed by "-dirty" if files differ, or "unknown"."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # An environment may lie inside another repository, whose commit says nothing about this file.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True)
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
