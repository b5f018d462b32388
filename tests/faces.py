"""Small boxes with face weights, as arrays, and as what compiled passes read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels.faces import forming
from deepcd.solvers.kernels.faces.records import Faces, Grid
from deepcd.solvers.kernels.faces.reference import Weights

Shape = tuple[int, int, int]
Wrap = tuple[bool, bool, bool]

BOXES: tuple[tuple[Shape, Wrap], ...] = (
    ((6, 7, 8), (False, False, False)),
    ((7, 6, 5), (True, False, True)),
    ((5, 1, 9), (False, False, False)),
    ((8, 1, 6), (True, False, False)),
    ((6, 1, 7), (False, False, True)),
    ((4, 5, 6), (True, True, True)),
    ((2, 3, 4), (False, True, False)),
    ((3, 3, 3), (True, True, True)),
)


def random_weights(
    n: Shape,
    wrap: Wrap,
    rng: np.random.Generator,
    *,
    decades: float = 2.0,
    walls: float = 0.2,
    holes: float = 0.1,
) -> Weights:
    """Return weights over some decades, with extra diagonals in a share of the cells, and without some faces."""
    w = []
    for axis in range(3):
        own = 10.0 ** rng.uniform(-decades, 0, n) * (rng.random(n) >= holes)
        if not wrap[axis] or n[axis] == 1:
            own[(slice(None),) * axis + (slice(-1, None),)] = 0
        w.append(own.astype(np.float32).astype(float))
    extra = np.where(rng.random(n) < walls, 10.0 ** rng.uniform(-decades, 0, n), 0.0).astype(np.float32)
    return Weights((w[0], w[1], w[2]), extra.astype(float), wrap)


def padded(v: NDArray[Any]) -> NDArray[np.float32]:
    """Return a field of shape (n0, n1, n2) as a flat padded box, without middle axis if n1 is one."""
    flat = v[:, 0] if v.shape[1] == 1 else v
    return np.pad(flat, 1).astype(np.float32).ravel()


def cropped(v: NDArray[Any], n: tuple[int, int, int]) -> NDArray[Any]:
    """Return the field in a flat padded box."""
    shape = (n[0] + 2, n[2] + 2) if n[1] == 1 else (n[0] + 2, n[1] + 2, n[2] + 2)
    return v.reshape(shape)[(slice(1, -1),) * len(shape)].reshape(n)


def compiled(op: Weights) -> tuple[Grid, Faces]:
    """Return weights as compiled passes read them."""
    n = op.extra.shape
    s = geometry((n[0], n[2]) if n[1] == 1 else n)[1]
    w0, w1, w2 = (padded(w) for w in op.w)
    if n[1] == 1:
        w1 = w0
    extra, diagonal, inverse = padded(op.extra), padded(0 * op.extra), padded(0 * op.extra)
    forming.close_faces(n, s, op.wrap, w0, w1, w2)
    forming.form_diagonal(n, s, w0, w1, w2, extra, diagonal)
    forming.invert(diagonal, inverse)
    return Grid(n, s, op.wrap), Faces(w0, w1, w2, extra, inverse)
