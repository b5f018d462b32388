"""The loss of the training: the residual after a few unrolled conjugate-direction iterations, and a bound on S A.

The loss is that of the solver which the cycle will precondition, so that the cycle does not learn what conjugate
directions achieve without it. One fifth of the right-hand sides are residuals harvested from the solver.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deepcd.solvers.training.network import CycleNetwork, LevelBatch, apply, smooth
from deepcd.solvers.training.samples import Batch, random_batch, random_rhs, remove_constants


def sample_loss(
    net: CycleNetwork, rng: np.random.Generator, unroll: int, penalised: bool
) -> tuple[Tensor, list[float], tuple[int, ...]]:
    """Draw a batch and unroll the solver on it.

    Parameters
    ----------
    net : CycleNetwork
    rng : numpy.random.Generator
    unroll : int
        Number of iterations to unroll.
    penalised : bool
        Whether eigenvalues of S A above 1.75 are penalised.

    Returns
    -------
    loss : Tensor ()
        Mean log10 of the last relative residual, plus 0.3 times that of the first.
    residuals : list of float
        Mean log10 relative residual after each iteration.
    shape : tuple of int
        (batch, n0, n1, n2)
    """
    batch = random_batch(net.ndim, rng)
    levels = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
    b = random_rhs(batch, rng)
    if rng.random() < 0.2:
        with torch.no_grad():
            _, b = unrolled(net, levels, batch, b, 3)
            b = b / dot(b, b).clamp_min(1e-30).sqrt()
    history, _ = unrolled(net, levels, batch, b, unroll)
    loss = history[-1].log10().mean() + 0.3 * history[0].log10().mean()
    if penalised:
        loss = loss + 4 * spectral_excess(levels, rng, 1.75)
    return loss, [h.detach().log10().mean().item() for h in history], tuple(batch.fluid.shape)


def dot(u: Tensor, v: Tensor) -> Tensor:
    """Return the inner product of each sample, shape (batch, 1, 1, 1)."""
    return (u * v).sum((1, 2, 3), keepdim=True)


def unrolled(
    net: CycleNetwork, levels: list[LevelBatch], batch: Batch, r: Tensor, steps: int
) -> tuple[list[Tensor], Tensor]:
    """Run conjugate-direction steps from x = 0 with one kept direction.

    Parameters
    ----------
    net : CycleNetwork
    levels : list of LevelBatch
        The hierarchy that `net.setup` has built for the batch.
    batch : Batch
    r : Tensor (batch, n0, n1, n2)
        Right-hand side.
    steps : int

    Returns
    -------
    list of Tensor (batch,)
        Relative residual after each step.
    Tensor
        The last residual.
    """
    start = dot(r, r).clamp_min(1e-30)
    p = q = pq = torch.empty(0)  # direction, its image and their product in the previous step
    history = []
    for step in range(steps):
        z = net.cycle(levels, r)
        p = z - dot(z, q) / pq * p if step else z
        q = apply(levels[0], p)
        pq = dot(p, q).clamp_min(1e-30)
        r = remove_constants(r - dot(r, p) / pq * q, batch.sealed) * batch.fluid
        history.append((dot(r, r) / start).flatten().clamp_min(1e-20).sqrt())
    return history, r


def spectral_excess(levels: list[LevelBatch], rng: np.random.Generator, limit: float) -> Tensor:
    """Return the penalty on eigenvalues of S A above `limit`, summed over the levels.

    Power iteration finds the eigenvector, and one differentiable quotient gives the gradient.

    Parameters
    ----------
    levels : list of LevelBatch
    rng : numpy.random.Generator
    limit : float

    Returns
    -------
    Tensor ()
        Sum of the mean squares of the excess.
    """
    total = torch.zeros(())
    for level in levels[:-1]:
        for S in level.smoothers:
            with torch.no_grad():
                v = torch.from_numpy(rng.standard_normal(tuple(level.mask.shape), dtype=np.float32)) * level.mask
                for _ in range(6):
                    v = smooth(S, apply(level, v))
                    v = v / dot(v, v).clamp_min(1e-30).sqrt()
            av = apply(level, v)
            quotient = dot(av, smooth(S, av)) / dot(v, av).clamp_min(1e-12)
            total = total + torch.relu(quotient - limit).square().mean()
    return total
