"""What the tests of both multigrid cycles share: small boxes of every kind, meaningless weights, M as a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import Grid, box, domain
from deepcd.solvers.grid_discovery import Embedding
from deepcd.solvers.operators.stencil import StencilOperator


def random_weights(ndim: int, scale: float, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return a network of narrow layers whose parameters differ from the untrained ones by noise."""
    import torch

    from deepcd.solvers.training.network import LearnedMultigrid as Network

    torch.manual_seed(seed)
    state = Network(ndim, hidden=6).state_dict()
    return {k: (v + scale * torch.randn(v.shape) * (0.1 if k == "tap" else 1)).numpy() for k, v in state.items()}


def chambers(shape: tuple[int, ...]) -> Grid:
    """A wall across the first axis: a sealed chamber and one under air at the face."""
    wall = box((2,) + (0,) * (len(shape) - 1), (3, *shape[1:]))
    return domain(shape, solid=wall, walls=[("solid", "air")] + ["solid"] * (len(shape) - 1), air_at="face")


def some_grids() -> dict[str, Grid]:
    grids = {
        f"{family} {shape}": random_grid(family, shape, np.random.default_rng(3))
        for family, shape in [
            ("mixed-walls", (5, 4, 6)),
            ("pure-neumann", (4, 5, 3)),
            ("porous", (3, 6, 5)),
            ("baffles", (6, 7)),
            ("closed-cube", (2, 5, 4)),
            ("free-surface", (7, 9)),
            ("closed-cube", (1, 7)),
            ("pure-neumann", (2, 2)),
        ]
    }
    return grids | {
        "chambers 3D": chambers((6, 3, 4)),
        "chambers 2D": chambers((7, 6)),
        "3 x 1 x 5": domain((3, 1, 5), walls="air"),
    }


GRIDS = some_grids()


def dense(M: Any, embedding: Embedding) -> NDArray[np.float64]:
    """Return M on the unknowns, one application per column, and check the inner products that come with them."""
    columns = []
    for p in embedding.position:
        r, z = np.zeros(embedding.diagonal.size, dtype=np.float32), M.zeros()
        r[p] = 1
        assert M.apply(r, z) == z[p]
        assert not z[embedding.diagonal.ravel() == 0].any()
        columns.append(z[embedding.position].astype(float))
    return np.stack(columns, axis=1)


def iterations(M: Any, embedding: Embedding, tol: float = 1e-6, most: int = 60) -> int:
    """Solve with a random right-hand side by preconditioned conjugate gradients; return the iterations."""
    operator = StencilOperator(embedding)
    b, x, p, r, z = operator.workspace(M)
    operator.embed(np.random.default_rng(1).standard_normal(len(embedding.position)), out=b)
    operator.project(b)
    r[...] = b
    first, before = operator.dot(r, r), 0.0
    for k in range(most):
        M.apply(r, z)
        operator.project(z)
        rz = operator.dot(r, z)
        energy = operator.conjugate(z, rz / before if k else 0.0, p)
        before = rz
        if operator.step(rz / energy, p, x, r) <= tol**2 * first:
            return k + 1
    return most
