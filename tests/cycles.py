"""What the tests of both multigrid cycles share: small boxes of every kind, meaningless weights, M as a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.data import random_grid
from deepcd.pde import Grid, box, domain
from deepcd.solvers.grid_discovery import Embedding


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
    size = embedding.diagonal.size
    columns, rng = [], np.random.default_rng(0)
    for p in embedding.position:
        r, q, z = np.zeros(size), np.zeros(size), M.zeros()
        r[p], q[embedding.position] = 1, rng.standard_normal(len(embedding.position))
        products = M.apply(r, q, z)
        np.testing.assert_allclose(products, [r @ z, q @ z], atol=1e-12)
        assert not z[embedding.diagonal.ravel() == 0].any()
        columns.append(z[embedding.position].astype(float))
    return np.stack(columns, axis=1)
