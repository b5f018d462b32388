"""Training of the learned multigrid cycle through unrolled conjugate-direction iterations."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepcd.solvers.training.network import LearnedMultigrid, Level, apply
from deepcd.solvers.training.samples import Batch, random_batch, random_rhs, remove_constants


def dot(u: Tensor, v: Tensor) -> Tensor:
    """Inner product per sample, kept as (batch, 1, 1, 1)."""
    return (u * v).sum((1, 2, 3), keepdim=True)


def unrolled(net: LearnedMultigrid, levels: list[Level], batch: Batch, r: Tensor, steps: int) -> tuple[list[Tensor], Tensor]:
    """Run conjugate-direction steps from x = 0 with one kept direction.

    Returns
    -------
    list of Tensor (batch,)
        Relative residual after each step.
    Tensor
        The last residual.
    """
    start = dot(r, r).clamp_min(1e-30)
    p = q = pq = None
    history = []
    for _ in range(steps):
        z = net.cycle(levels, r)
        if p is None:
            p = z
        else:
            p = z - dot(z, q) / pq * p
        q = apply(levels[0], p)
        pq = dot(p, q).clamp_min(1e-30)
        r = remove_constants(r - dot(r, p) / pq * q, batch.sealed) * batch.fluid
        history.append((dot(r, r) / start).flatten().clamp_min(1e-20).sqrt())
    return history, r


def spectral_excess(net: LearnedMultigrid, levels: list[Level], rng: np.random.Generator, limit: float) -> Tensor:
    """Penalty on the largest eigenvalue of S A above `limit`, over the levels; power iteration, then one differentiable quotient."""
    total = torch.zeros(())
    for level in levels[:-1]:
        with torch.no_grad():
            v = torch.from_numpy(rng.standard_normal(tuple(level.mask.shape), dtype=np.float32)) * level.mask
            for _ in range(6):
                v = smooth(level, apply(level, v))
                v = v / dot(v, v).clamp_min(1e-30).sqrt()
        av = apply(level, v)
        quotient = dot(av, smooth(level, av)) / dot(v, av).clamp_min(1e-12)
        total = total + torch.relu(quotient - limit).square().mean()
    return total


def smooth(level: Level, r: Tensor) -> Tensor:
    """Return S r."""
    from deepcd.solvers.training.autograd import sweep

    return sweep(level.a, level.c, r, 1.0)


def train(ndim: int, out: str, steps: int, seed: int = 0, resume: bool = False, threads: int = 1, hidden: int = 32, rate: float = 3e-3) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    net = LearnedMultigrid(ndim, hidden)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    started, log = time.time(), []
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            group["lr"] = 1e-5 + rate * 0.5 * (1 + math.cos(math.pi * done)) * min(1, (step + 1) / 50)
        unroll = 3 if done < 0.2 else 4 if done < 0.5 else 6
        rng = np.random.default_rng((seed, step))
        batch = random_batch(ndim, rng)
        levels = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
        b = random_rhs(batch, rng)
        if rng.random() < 0.2:
            with torch.no_grad():
                _, b = unrolled(net, levels, batch, b, 3)
                b = b / dot(b, b).clamp_min(1e-30).sqrt()
        history, _ = unrolled(net, levels, batch, b, unroll)
        loss = history[-1].log10().mean() + 0.3 * history[0].log10().mean()
        if step % 4 == 0:
            loss = loss + 4 * spectral_excess(net, levels, rng, 1.75)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        log.append([h.detach().log10().mean().item() for h in history])
        if step % 50 == 49:
            recent = [x for x in log[-50:] if len(x) == unroll]
            print(step + 1, f"{time.time() - started:.0f}s", np.round(np.mean(recent, 0), 2).tolist(), "tap", [round(t, 3) for t in net.tap.tolist()], flush=True)
        if step % 250 == 249 or step == steps - 1:
            torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "seconds": time.time() - started, "log": log}, out + ".tmp")
            Path(out + ".tmp").replace(out)


if __name__ == "__main__":
    import sys

    train(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
