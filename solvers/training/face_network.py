"""Multigrid on face weights as a differentiable torch module, whose networks learn factors of coarse operators.

The levels are those of the solver: `coarsen` makes each from the one above, factors included, and the networks answer
what `face_factors.features` read. Gradients reach the factors of a level through the cycle only, not through the
coarser levels that are made from it. Those have factors of their own, and at an optimum of these nothing is missing: a
change of the operator that they are applied to would not change the loss.

Fields are flat padded boxes, see `kernels/outer.py`; axes that repeat are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepcd.solvers.kernels.faces.records import UNIT, Codes, Faces, Grid
from deepcd.solvers.learned.face_architecture import FACTORS, FEATURES, HIGHEST, KINDS, LOWEST
from deepcd.solvers.preconditioners.multigrid.face_cycle import (
    COARSEST,
    FLAT_RANGE,
    FLAT_STEPS,
    RANGE,
    STEPS,
    chebyshev,
    exact_inverse,
)
from deepcd.solvers.preconditioners.multigrid.face_factors import features, scaled
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel, coarsen
from deepcd.solvers.training.autograd import face_image


class _Transfer:
    """Interpolation to a level along one axis, and its adjoint."""

    def __init__(self, fine: Grid, coarse: Grid, axis: int, near: Any, far: Any) -> None:
        place = np.indices(fine.n)
        here = _entries(fine, place)
        m = coarse.n[axis]
        own = place[axis] // 2
        beyond = np.clip(own + 2 * (place[axis] % 2) - 1, 0, m - 1)
        self.size, self.coarse_size = near.size, (coarse.n[0] + 2) * coarse.s[0]
        self.here = torch.from_numpy(here)
        self.own, self.beyond = (
            torch.from_numpy(_entries(coarse, np.stack([c if a == axis else place[a] for a in range(3)])))
            for c in (own, beyond)
        )
        self.near, self.far = (torch.from_numpy(code[here].astype(np.float32) / UNIT) for code in (near, far))

    def down(self, r: Tensor) -> Tensor:
        """Restrict r."""
        r = r[self.here]
        out = r.new_zeros(self.coarse_size)
        return out.index_add(0, self.own, self.near * r).index_add(0, self.beyond, self.far * r)

    def up(self, e: Tensor) -> Tensor:
        """Interpolate e."""
        values = self.near * e[self.own] + self.far * e[self.beyond]
        return values.new_zeros(self.size).index_add(0, self.here, values)


def _entries(grid: Grid, place: Any) -> Any:
    """Return the flat entries of cells, (3, ...), in order."""
    return ((place[0] + 1) * grid.s[0] + (place[1] + 1) * grid.s[1] + place[2] + 1).ravel()


@dataclass
class TorchLevel:
    """A level: operator, inverse diagonal with its factor, and the transfers to the next coarser one."""

    grid: Grid
    weights: tuple[Tensor, Tensor, Tensor, Tensor]  # faces along three axes, extra diagonal
    inverse: Tensor
    transfers: list[_Transfer] = field(default_factory=list)
    exact: tuple[Tensor, Tensor] | None = None  # of the coarsest level: unknowns, and the inverse on these

    def image(self, x: Tensor) -> Tensor:
        """Return A x."""
        return face_image(self.grid.s, *self.weights, x)


class FaceNetwork(nn.Module):
    """The networks that answer logarithms of factors, one for the second level and one for all deeper ones.

    Parameters
    ----------
    ndim : {2, 3}
    hidden : int, default 32
        Width of the two hidden layers.
    """

    def __init__(self, ndim: int, hidden: int = 32) -> None:
        super().__init__()
        self.ndim = ndim
        self.kinds = nn.ModuleList(
            nn.Sequential(
                nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, FACTORS)
            )
            for _ in range(KINDS)
        )
        for name, parameter in self.named_parameters():
            if ".4." in name:  # every last layer starts at zero: all factors are one
                nn.init.zeros_(parameter)
        self.register_buffer("lowest", torch.tensor(LOWEST), persistent=False)
        self.register_buffer("highest", torch.tensor(HIGHEST), persistent=False)

    def setup(self, grid: Grid, faces: Faces, coarsest: int = COARSEST) -> list[TorchLevel]:
        """Build the levels below an operator, and it."""
        level = FaceLevel.of(grid, faces)
        own = (faces.w0, faces.w1, faces.w2, faces.extra, faces.inverse)
        w0, w1, w2, extra, inverse = map(torch.from_numpy, own)
        levels = [TorchLevel(grid, (w0, w1, w2, extra), inverse)]
        while level.cells > coarsest or len(levels) == 1:
            coarse = coarsen(level)
            levels[-1].transfers = _transfers(level.grid, coarse.level.grid, coarse.codes)
            plane, size = coarse.level.grid.s[0], coarse.level.diagonal.size
            seen = torch.from_numpy(features(coarse, plane, size - plane).T.copy())
            o = self.kinds[min(len(levels), KINDS) - 1](seen).clamp(self.lowest, self.highest).T
            o = nn.functional.pad(o, (plane, plane))
            level = scaled(coarse.level, o.detach().numpy())
            levels.append(_with_gradients(coarse.level, level, o))
        cells, inverse_there = exact_inverse(level)
        levels[-1].exact = torch.from_numpy(cells), torch.from_numpy(inverse_there)
        return levels

    def cycle(self, levels: list[TorchLevel], r: Tensor, depth: int = 0) -> Tensor:
        """Return M r."""
        level = levels[depth]
        if level.exact is not None:
            return _solve(level, r)
        flat = level.grid.s[1] == 0 and depth > 0
        omegas = chebyshev(FLAT_STEPS, *FLAT_RANGE) if flat else chebyshev(STEPS, *RANGE)
        z = _smooth(level, omegas, r, None)
        rc = r - level.image(z)
        for transfer in level.transfers:
            rc = transfer.down(rc)
        e = self.cycle(levels, rc, depth + 1)
        if levels[depth + 1].exact is None:
            e = e + self.cycle(levels, rc - levels[depth + 1].image(e), depth + 1)
        for transfer in reversed(level.transfers):
            e = transfer.up(e)
        return _smooth(level, omegas[::-1], r, z + e)


def _smooth(level: TorchLevel, omegas: Any, r: Tensor, z: Tensor | None) -> Tensor:
    for omega in omegas.tolist():
        z = omega * level.inverse * r if z is None else z + omega * level.inverse * (r - level.image(z))
    assert z is not None
    return z


def _solve(level: TorchLevel, r: Tensor) -> Tensor:
    """Return A^-1 r, with the derivative -A^-1 dA A^-1 r."""
    assert level.exact is not None
    cells, inverse = level.exact
    z = torch.zeros_like(r).index_add(0, cells, inverse @ r[cells])
    image = level.image(z.detach())
    change = (image - image.detach())[cells]
    return z - torch.zeros_like(r).index_add(0, cells, inverse @ change)


def _transfers(fine: Grid, coarse: Grid, codes: Codes) -> list[_Transfer]:
    """Return the transfers along the halved axes, in order."""
    now, steps = fine, []
    for axis in range(3):
        near, far = codes[2 * axis], codes[2 * axis + 1]
        if near.size:
            n = (
                coarse.n[0],
                coarse.n[1] if axis >= 1 else fine.n[1],
                coarse.n[2] if axis >= 2 else fine.n[2],
            )
            row = n[2] + 2
            below = Grid(n, (row, 0) if fine.s[1] == 0 else ((n[1] + 2) * row, row), fine.wrap)
            steps.append(_Transfer(now, below, axis, near, far))
            now = below
    return steps


def _with_gradients(raw: FaceLevel, made: FaceLevel, o: Tensor) -> TorchLevel:
    """Return a level whose values are those of `made`, as functions of the logarithms o of its factors."""
    (_, s, _), f = made.grid, made.faces
    strides = (*s, 1)
    weights: list[Tensor] = []
    for axis, w in enumerate((f.w0, f.w1, f.w2)):
        value = torch.from_numpy(w)
        if axis == 1 and s[1] == 0:
            weights.append(weights[0])
            continue
        mean = 0.5 * (o[axis] + torch.roll(o[axis], -strides[axis]))
        weights.append(value * torch.exp(mean - mean.detach()))
    extra = torch.from_numpy(f.extra) * torch.exp(o[3] - o[3].detach())
    # 1 / d also depends on the factors of the faces
    diagonal = extra
    for axis, stride in enumerate(strides):
        if stride:
            diagonal = diagonal + weights[axis] + torch.roll(weights[axis], stride)
    known = torch.from_numpy(made.diagonal)
    inverse = torch.where(known > 0, torch.exp(o[4]) / torch.where(known > 0, diagonal, torch.ones(())), 0.0)
    return TorchLevel(made.grid, (weights[0], weights[1], weights[2], extra), inverse)
