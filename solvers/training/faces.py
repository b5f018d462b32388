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
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scipy import ndimage
from torch import Tensor

from deepcd.data import weight_files
from deepcd.data.random_coefficients import random_coefficients
from deepcd.pde import FaceWeights
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.kernels.faces import forming
from deepcd.solvers.kernels.faces.records import Faces, Grid
from deepcd.solvers.learned.face_architecture import architecture
from deepcd.solvers.preconditioners.multigrid.face_cycle import COARSEST
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel
from deepcd.solvers.training.checkpoints import State
from deepcd.solvers.training.face_network import FaceNetwork, TorchLevel
from deepcd.solvers.training.training import run_training

SHARES = {  # relative frequency of each family of operators
    **{f"log-normal {variance}/{length}": 1.0 for variance in (2, 4) for length in (2, 8, 32)},
    "blocks 1e4": 1.5,
    "blocks 1e6": 1.5,
    "pores": 1.0,
    "two phases": 1.5,
    "cut cells": 1.5,
    "ghost fluid": 1.5,
    "stretched one axis": 1.0,
    "stretched all but one": 1.0,
    "towards walls one axis": 1.0,
    "towards walls all axes": 0.7,
    "screened 1e-3": 0.7,
    "screened 0.1": 0.7,
    "screened 10": 0.3,
    "reservoir 1e-2": 0.8,
    "reservoir 1e-4": 0.8,
    "boxes": 2.0,
    "obstacles": 2.0,
    "sealed log-normal": 0.7,
    "sealed blocks": 0.7,
    "landscape": 1.0,
    "random walker": 0.5,
}
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


class Sample(NamedTuple):
    """An operator, normalised to the largest diagonal entry one, and a right-hand side that it has a solution for."""

    grid: Grid
    faces: Faces
    constants: Tensor  # (components without extra diagonal, padded box): normalised
    b: Tensor


def padded(weights: FaceWeights) -> tuple[Grid, Faces]:
    """Return an operator on the padded box, normalised; axes that repeat are not among those that this can do."""
    n, largest = weights.extra.shape, weights.diagonal().max()

    def field(values: Any) -> Any:
        return np.pad(values / largest, 1).astype(np.float32).ravel()

    along = [field(w) for w in weights.faces]
    closed = (False, False, False)
    if len(n) == 2:
        grid, along = Grid((n[0], 1, n[1]), (n[1] + 2, 0), closed), [along[0], along[0], along[1]]
    else:
        grid = Grid((n[0], n[1], n[2]), ((n[1] + 2) * (n[2] + 2), n[2] + 2), closed)
    faces = Faces(along[0], along[1], along[2], field(weights.extra), np.zeros_like(along[0]))
    forming.invert(FaceLevel.of(grid, faces).diagonal, faces.inverse)
    return grid, faces


def random_shape(ndim: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw a box: often a cube, sometimes a brick."""
    kind = rng.random()
    if ndim == 2:
        if kind < 0.6:
            return (64, 64) if kind < 0.4 else (128, 128)
        return tuple(int(n) for n in rng.integers(24, 140, 2))
    if kind < 0.6:
        return (32, 32, 32) if kind < 0.52 else (48, 48, 48)
    return tuple(int(n) for n in rng.integers(16, 44, 3))


def random_sample(ndim: int, rng: np.random.Generator) -> Sample:
    """Draw an operator, and white noise or noise that is smooth."""
    names, shares = list(SHARES), np.array(list(SHARES.values()))
    weights = random_coefficients(str(rng.choice(names, p=shares / shares.sum())), random_shape(ndim, rng), rng)
    (grid, faces), shape = padded(weights), weights.extra.shape
    b = rng.standard_normal(shape)
    if rng.random() < 0.6:
        b = rng.uniform(0, 0.1) * b + 10 * _smooth(shape, rng)
    b = np.pad(b, 1).ravel() * (faces.inverse > 0)
    constants = _constants(grid, faces)
    b -= constants.T @ (constants @ b)
    return Sample(grid, faces, torch.from_numpy(constants.astype(np.float32)), torch.from_numpy(b.astype(np.float32)))


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return smooth noise of a random wavelength."""
    sigma = 2 ** rng.uniform(0, 4)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect", truncate=2)
    return noise / noise.std()


def _constants(grid: Grid, faces: Faces) -> Any:
    """Return the normalised constants on components without extra diagonal, (components, padded box)."""
    size, pairs = faces.extra.size, []
    for w, stride in zip((faces.w0, faces.w1, faces.w2), (*grid.s, 1), strict=True):
        if stride:
            here = np.flatnonzero(w)
            pairs.append(np.stack([here, here + stride]))
    i, j = np.concatenate(pairs, axis=1)
    graph = sp.coo_array((np.ones(i.size), (i, j)), shape=(size, size))
    component = sp.csgraph.connected_components(graph, directed=False)[1]
    unknown = faces.inverse > 0
    sealed = np.bincount(component, weights=faces.extra) == 0
    chosen = np.unique(component[unknown & sealed[component]])
    rows = [unknown & (component == c) for c in chosen]
    return np.array([row / np.sqrt(row.sum()) for row in rows]).reshape(len(rows), size)


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
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    means = [float(mean) for mean in np.mean(logged, axis=0)]
    if all(map(math.isfinite, (norm.item(), *losses, *means))):
        state.optimizer.step()
        state.log.step.append(step)
        state.log.loss.append(float(np.mean(losses)))
        state.log.residuals.append(means)
        state.log.shape.append(shape)
    else:
        state.log.skipped.append(step)
    state.step = step + 1
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
    """Train the factors of multigrid on face weights and write them to a file."""
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
        "families": {name: round(share / sum(SHARES.values()), 4) for name, share in SHARES.items()},
        "distinct_shapes": len(shapes),
    }
