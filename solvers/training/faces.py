"""Training of the factors of multigrid on face weights, through unrolled conjugate-direction iterations.

Each step draws operators of the families of `data/random_coefficients.py` and right-hand sides, and takes an Adam step
on the mean logarithm of the residual that is left after a few iterations. Boxes are small and the coarsest level is
often a tiny one, so that the networks see as many levels as in large boxes.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.data import weight_files
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.learned.face_architecture import architecture
from deepcd.solvers.preconditioners.multigrid.face_cycle import COARSEST
from deepcd.solvers.training.checkpoints import State
from deepcd.solvers.training.face_network import FaceNetwork, TorchLevel
from deepcd.solvers.training.face_samples import SHARES, random_sample
from deepcd.solvers.training.training import run_training, take_step

TINY = 60  # cells of the coarsest level in half of the samples
LEAST = 1e-6  # relative residual below which nothing is gained
LARGEST = 1.5  # eigenvalue of M A on coarse levels above which a penalty is paid


@dataclass(frozen=True)
class FaceSettings:
    """All that decides, together with code and versions, every number of a run."""

    ndim: int
    steps: int
    seed: int
    hidden: int
    rate: float
    batch: int
    start: str = ""  # SHA-256 of the weight file that the run starts from; empty if there is none

    @property
    def architecture(self) -> str:
        """Name of the networks in weight files."""
        return architecture(self.ndim)


def unrolled(
    net: FaceNetwork, levels: list[TorchLevel], constants: Tensor, r: Tensor, steps: int
) -> tuple[list[Tensor], Tensor]:
    """Return the relative residual after each of some conjugate-direction steps from zero, and the last residual."""
    start, history = r.square().sum(), []
    p = q = pq = torch.empty(0)
    for step in range(steps):
        z = net.cycle(levels, r)
        p = z - (z @ q) / pq * p if step else z
        q = levels[0].image(p)
        pq = (p @ q).clamp_min(1e-30)
        r = r - (r @ p) / pq * q
        r = r - constants.T @ (constants @ r)
        history.append((r.square().sum() / start).clamp_min(1e-20).sqrt())
    return history, r


def excess(net: FaceNetwork, levels: list[TorchLevel], rng: np.random.Generator) -> Tensor:
    """Return the squared excess over `LARGEST` of the largest eigenvalue of M A, summed over the coarse levels."""
    total = torch.zeros(())
    for depth in range(1, len(levels) - 1):
        level = levels[depth]
        with torch.no_grad():
            v = torch.from_numpy(rng.standard_normal(level.inverse.numel(), dtype=np.float32)) * (level.inverse > 0)
            for _ in range(6):
                v = net.cycle(levels, level.image(v), depth)
                v = v / v.norm().clamp_min(1e-30)
        image = level.image(v)
        quotient = (image @ net.cycle(levels, image, depth)) / (v @ image).clamp_min(1e-12)
        total = total + torch.relu(quotient - LARGEST).square()
    return total


def sample_loss(
    net: FaceNetwork, rng: np.random.Generator, unroll: int, penalised: bool
) -> tuple[Tensor, list[float], tuple[int, ...]]:
    """Draw a sample; return the loss, log10 of the relative residual after each iteration, and the box."""
    sample = random_sample(net.ndim, rng)
    levels = net.setup(sample.grid, sample.faces, TINY if rng.random() < 0.5 else COARSEST)
    b = sample.b
    if rng.random() < 0.2:
        with torch.no_grad():
            _, b = unrolled(net, levels, sample.constants, b, 3)
            b = b / b.norm().clamp_min(1e-30)
    history, _ = unrolled(net, levels, sample.constants, b, unroll)
    loss = history[-1].clamp_min(LEAST).log10() + 0.3 * history[0].log10()
    if penalised:
        loss = loss + 4 * excess(net, levels, rng)
    return loss, [h.detach().log10().item() for h in history], (1, *sample.grid.n)


def advance(state: State) -> float:
    """Take one step, unless loss or gradient is not finite, and return the learning rate."""
    step, settings = state.step, state.settings
    done = step / settings.steps
    rate = 2e-5 + settings.rate * 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, (step + 1) / 30)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    net, losses, logged = state.net, [], []
    assert isinstance(net, FaceNetwork)
    state.optimizer.zero_grad()
    for k in range(settings.batch):
        rng = np.random.default_rng((settings.seed, step, k))
        loss, residuals, shape = sample_loss(net, rng, 3 if done < 0.5 else 4, (step + k) % 4 == 0)
        (loss / settings.batch).backward()
        losses.append(loss.item())
        logged.append(residuals)
    take_step(state, float(np.mean(losses)), [float(mean) for mean in np.mean(logged, axis=0)], shape)
    return rate


def train_faces(
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
    batch: int = 2,
    progress: bool = True,
) -> None:
    """Train the factors of multigrid on face weights and write them to a file.

    Parameters
    ----------
    ndim : {2, 3}
        Space dimension.
    out : path-like
        The weight file to write. A checkpoint and a figure are written beside it, as by `train`.
    steps : int
        Number of optimiser steps in the whole schedule.
    seed : int, default 0
        Seed of operators, right-hand sides and initial weights.
    start : path-like, optional
        Weight file to start from instead of initial weights, with the same `hidden`; a lower `rate` may suit it.
    resume : bool, default False
        Whether to continue from the checkpoint.
    threads : int, default 1
        Number of threads that torch uses.
    hidden : int, default 32
        Width of the hidden layers.
    rate : float, default 0.003
        The largest learning rate.
    batch : int, default 2
        Number of systems per step.
    progress : bool, default True
        Whether to show a progress bar on standard error if that is a terminal.

    Raises
    ------
    ValueError
        If an argument is out of range, or the checkpoint is damaged or belongs to other settings.
    FileNotFoundError
        If there is no checkpoint to resume from.
    OSError
        If the folder of `out` cannot be written or has no room.
    """
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3, got {ndim!r}")
    digest = "" if start is None else hashlib.sha256(Path(start).read_bytes()).hexdigest()
    settings = FaceSettings(
        ndim, count("steps", steps), count("seed", seed, least=0), count("hidden", hidden), tolerance("rate", rate),
        count("batch", batch), digest,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = FaceNetwork(settings.ndim, settings.hidden)
    if start is not None:
        tensors, _ = weight_files.load(start, settings.architecture)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    state = State(settings, net, torch.optim.Adam(net.parameters(), lr=settings.rate))
    run_training(out, state, advance, _record, resume=resume, threads=threads, progress=progress)


def _record(state: State) -> dict[str, Any]:
    """Describe what was trained on."""
    shapes = Counter("x".join(map(str, shape[1:])) for shape in state.log.shape)
    return {
        "hidden": state.settings.hidden,
        "batch": state.settings.batch,
        "distribution": {
            "families": {name: round(share / sum(SHARES.values()), 4) for name, share in SHARES.items()},
            "distinct_shapes": len(shapes),
        },
    }
