"""Training of the DCDM network on the matrix of a box, as published: one iteration on mixtures of Ritz vectors.

Kaneda et al., ICML 2023, and the authors' released code. With the direction q = network(b), |b| = 1, the loss is the
squared residual after an exact line search along q,

    |b - alpha A q|^2,   alpha = (q.b) / (q.A q),

which does not depend on the length of q. Here each batch mixes the Ritz vectors anew, whereas the authors made 20,000
right-hand sides once, and the learning rate falls along a cosine; `PAPER` has their settings. For comparison, there are
three other kinds of right-hand side and two other losses.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.data import weight_files
from deepcd.data.right_hand_sides import right_hand_side
from deepcd.data.ritz_vectors import mixtures, ritz_pairs
from deepcd.pde import Grid, domain, poisson
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import padded
from deepcd.solvers.learned.dcdm_network import VARIANTS, DCDMNetwork
from deepcd.solvers.training.checkpoints import State
from deepcd.solvers.training.training import run_training, take_step

KINDS = ("ritz", "white", "smooth", "harvested")
LOSSES = ("residual", "unscaled", "energy")
DEEPEST = 12  # harvested residuals are those after fewer iterations than this
# Settings of the paper that differ from the defaults. At 64^3, 10,000 Lanczos vectors take 21 GB.
PAPER: dict[str, Any] = {"size": 64, "ritz": 10_000, "rate": 1e-4, "constant": True, "batch": 10}


@dataclass(frozen=True)
class DCDMSettings:
    """All that decides, together with code and versions, every number of a run.

    Attributes
    ----------
    variant : {"64", "128", "2d"}
        Variant of the network.
    size : int
        Number of cells per edge of the closed box.
    other_size : int
        Number of cells per edge of a second box, which every other step uses; 0 for none.
    steps : int
        Number of optimiser steps.
    seed : int
        Seed of right-hand sides and initial weights.
    batch : int
        Number of right-hand sides per step.
    rate : float
        Largest learning rate of Adam.
    constant : bool
        Whether the rate stays instead of falling along a cosine.
    ritz : int
        Number of Ritz vectors.
    kind : {"ritz", "white", "smooth", "harvested"}
        Kind of the right-hand sides. Harvested ones are residuals after some iterations with the network itself. They
        teach nothing to a network that has learned nothing, so they need `start`.
    loss : {"residual", "unscaled", "energy"}
        See `Box.loss`.
    start : str
        SHA-256 of the weight file that the run starts from; empty if there is none.
    grid : str
        SHA-256 of the grid; empty for the closed box.
    """

    variant: str = "64"
    size: int = 32
    other_size: int = 0
    steps: int = 2_000
    seed: int = 0
    batch: int = 4
    rate: float = 1e-3
    constant: bool = False
    ritz: int = 1_000
    kind: str = "ritz"
    loss: str = "residual"
    start: str = ""
    grid: str = ""

    def __post_init__(self) -> None:
        """Validate the settings."""
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, got {self.variant!r}")
        for name in ("steps", "batch", "ritz"):
            count(name, getattr(self, name))
        count("size", self.size, least=4)
        if self.other_size:
            count("other_size", self.other_size, least=4)
        count("seed", self.seed, least=0)
        tolerance("rate", self.rate)
        for name, known in (("kind", KINDS), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def architecture(self) -> str:
        """The network's name in weight files."""
        return f"dcdm-{self.variant}/1"


class Box:
    """A unit stencil in torch, on boxes (batch, n0, ...): A / scale is the diagonal minus the adjacent unknowns."""

    def __init__(self, diagonal: NDArray[np.uint8]) -> None:
        inside = (slice(1, -1),) * diagonal.ndim
        self.diagonal = torch.from_numpy(diagonal[inside].astype(np.float32))
        self.unknown = (self.diagonal > 0).to(torch.float32)

    def apply(self, x: Tensor) -> Tensor:
        """Return A x for an x that is zero where there is no unknown."""
        total = self.diagonal * x
        for axis in range(1, x.ndim):
            n = x.shape[axis]
            moved = torch.zeros_like(x)
            moved.narrow(axis, 1, n - 1).add_(x.narrow(axis, 0, n - 1))
            moved.narrow(axis, 0, n - 1).add_(x.narrow(axis, 1, n - 1))
            total = total - moved
        return total * self.unknown

    def loss(self, b: Tensor, q: Tensor, kind: str = "residual") -> Tensor:
        """Return the mean loss of directions q for right-hand sides b of length one.

        "residual" is the published loss. "unscaled" is |b - A q|^2, without the line search. "energy" is the change of
        the squared energy norm of the error in the line search, -(q.b)^2 / (q.A q).
        """
        q = q * self.unknown
        b, q, image = b.flatten(1), q.flatten(1), self.apply(q).flatten(1)
        if kind == "unscaled":
            return ((b - image) ** 2).sum(1).mean()
        overlap, energy = (q * b).sum(1), (q * image).sum(1).clamp_min(1e-30)
        if kind == "energy":
            return -(overlap**2 / energy).mean()
        return ((b - (overlap / energy)[:, None] * image) ** 2).sum(1).mean()


def residuals(box: Box, b: Tensor, network: Callable[[Tensor], Tensor], iterations: int) -> Tensor:
    """Return the residual of A x = b, scaled to length one, after some iterations that keep two directions."""
    r = b
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    dims = tuple(range(1, b.ndim))

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).sum(dims, keepdim=True)

    for _ in range(iterations):
        r = r / dot(r, r).sqrt().clamp_min(1e-30)
        p = network(r) * box.unknown
        for old, image, energy in kept:
            p = p - dot(image, p) / energy * old
        image = box.apply(p)
        energy = dot(p, image).clamp_min(1e-30)
        r = r - dot(r, p) / energy * image
        kept = [*kept[-1:], (p, image, energy)]
    return r / dot(r, r).sqrt().clamp_min(1e-30)


class Source:
    """Right-hand sides of length one on a grid, without a component in the null space.

    Parameters
    ----------
    grid : Grid
    settings : DCDMSettings
        Settings of the run, which include the kind of the right-hand sides.
    """

    def __init__(self, grid: Grid, settings: DCDMSettings) -> None:
        self.settings = settings
        self.embedding, stencil = embed(grid)
        self.box = Box(stencil.diagonal)
        self.system = poisson(grid)
        if settings.kind in ("ritz", "harvested"):
            A = self.system.A[self.embedding.rows][:, self.embedding.rows]
            self.ritz = ritz_pairs(A, settings.ritz, np.random.default_rng((settings.seed, 1)))

    def draw(self, rng: np.random.Generator, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a batch, shape (batch, n0, ...)."""
        settings = self.settings
        if settings.kind in ("white", "smooth"):
            kind: Any = "random" if settings.kind == "white" else "smooth"
            rows = self.embedding.rows
            b = np.array([right_hand_side(self.system, kind, rng)[rows] for _ in range(settings.batch)])
            b = (b / np.linalg.norm(b, axis=1, keepdims=True)).astype(np.float32)
        else:
            b = mixtures(self.ritz, settings.batch, rng)
        boxes = np.zeros((settings.batch, *padded(self.embedding.shape)), dtype=np.float32)
        boxes.reshape(settings.batch, -1)[:, self.embedding.position] = b
        inside = (slice(None), *(slice(1, -1) for _ in self.embedding.shape))
        batch = torch.from_numpy(np.ascontiguousarray(boxes[inside]))
        if settings.kind == "harvested":
            with torch.no_grad():
                batch = residuals(self.box, batch, network, int(rng.integers(DEEPEST)))
        return batch


def train_dcdm(
    out: str | os.PathLike[str],
    *,
    grid: Grid | None = None,
    start: str | os.PathLike[str] | None = None,
    resume: bool = False,
    threads: int = 1,
    progress: bool = True,
    **settings: Any,
) -> None:
    """Train the published network on the matrix of one box and write its weights.

    Parameters
    ----------
    out : path-like
        The weight file to write. A checkpoint and a figure are written beside it, as by `train`.
    grid : Grid, optional
        The grid to train on; by default a closed box of `size` cells per edge, that is, pure Neumann conditions.
    start : path-like, optional
        Weight file of the same variant to start from.
    resume : bool, default False
        Whether to continue from the checkpoint.
    threads : int, default 1
        Number of threads that torch uses.
    progress : bool, default True
        Whether to show a progress bar on standard error if that is a terminal.
    **settings
        The other attributes of `DCDMSettings`: variant, size, other_size, steps, seed, batch, rate, constant, ritz,
        kind, loss. `PAPER` has those of the paper.

    Raises
    ------
    ValueError
        If an argument is out of range, or the checkpoint is damaged or belongs to other settings.
    FileNotFoundError
        If there is no checkpoint to resume from.
    OSError
        If the folder of `out` cannot be written.
    """
    digest = "" if start is None else hashlib.sha256(Path(start).read_bytes()).hexdigest()
    own = "" if grid is None else hashlib.sha256(embed(grid)[1].diagonal.tobytes()).hexdigest()
    chosen = DCDMSettings(start=digest, grid=own, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.seed)
        net = DCDMNetwork(chosen.variant)
    if start is not None:
        tensors, _ = weight_files.load(start, chosen.architecture)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    source = Source(domain((chosen.size,) * net.ndim) if grid is None else grid, chosen)
    if len(source.embedding.shape) != net.ndim:
        axes = len(source.embedding.shape)
        raise ValueError(f"variant {chosen.variant!r} is for {net.ndim} axes, but the grid has {axes}")
    sources = [source]
    if chosen.other_size:
        sources.append(Source(domain((chosen.other_size,) * net.ndim), chosen))
    state: State = State(chosen, net, torch.optim.Adam(net.parameters(), lr=chosen.rate))
    record = {**asdict(chosen), "shape": list(source.embedding.shape)}
    run_training(
        out,
        state,
        lambda state: _advance(state, sources[state.step % len(sources)]),
        lambda _: record,
        resume=resume,
        threads=threads,
        progress=progress,
    )


def _advance(state: State, source: Source) -> float:
    """Take one step, and return the learning rate."""
    settings, step = state.settings, state.step
    fall = 1.0 if settings.constant else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    rate = settings.rate * fall * min(1.0, (step + 1) / 50)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    b = source.draw(np.random.default_rng((settings.seed, 2, step)), state.net)
    q = state.net(b)
    loss = source.box.loss(b, q, settings.loss)
    state.optimizer.zero_grad()
    loss.backward()
    with torch.no_grad():
        left = float(source.box.loss(b, q, "residual"))
    residual = 0.5 * math.log10(left) if left > 0 else math.nan
    box = (1,) * (4 - b.ndim) + tuple(b.shape[1:])
    take_step(state, float(loss.detach()), [residual], (len(b), *box))
    return rate
