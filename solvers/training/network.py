"""The learned multigrid cycle as a differentiable torch module: the definition that is trained.

One symmetric V step per level, everything local and linear in the residual; the coefficients come from small
convolutional networks that read the local geometry. `solvers/preconditioners/multigrid/learned.py` runs the same
cycle compiled, and a test compares the two.

On each level, A is a five- or seven-point operator with face weights w, Dirichlet weights, and diagonal d:

* The smoother S has the sparsity of A. It has c_ij = c0 exp(mean of both cells' outputs) w_ij / (d_i d_j) on the faces
  and sum_j c_ij + a0 exp(output) / d_i on the diagonal, so it is diagonally dominant and positive definite. The finest
  level has two smoothers, applied one after the other before the coarse correction and in reverse order after it.
* The transfer to the finer level is x -> phi P (psi x). P has the four taps (q, 1 - q, 1 - q, q) per axis, and phi and
  psi are learned per cell. The transfer to the coarser level is its adjoint.
* The coarse operator has half the summed fine face weights times exp(output), and likewise for Dirichlet weights.
* Every cell hands learned features down to its coarse cell, which thus knows the geometry below its own resolution.

From the second level down, every level is visited twice (z + M (r - A z)). The coarsest is solved exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deepcd.solvers.learned.architecture import (
    COARSE,
    DIRICHLET,
    FEATURES,
    FINE,
    HALF_DIRICHLET,
    HANDED,
    KINDS,
    OCCUPIED,
    SMOOTHER,
    Output,
    first_of,
)
from deepcd.solvers.training.autograd import prolong, restrict, sweep

SOLVED_EXACTLY = 64  # largest box, in cells, that is solved exactly in training


@dataclass
class Smoother:
    """The smoother S of a level: its diagonal and its face weights, tensors (batch, n0, n1, n2)."""

    a: Tensor
    c: list[Tensor]


@dataclass
class LevelBatch:
    """One grid of the hierarchy; tensors (batch, n0, n1, n2)."""

    shape: tuple[int, int, int]
    nominal: tuple[float, float, float]  # face weight per axis of an undisturbed interior without learning
    capacity: float  # number of cells of the finest grid in one cell
    volume: Tensor  # number of unknowns among these
    faces: list[Tensor]  # face weights towards the next cell per axis
    dirichlet: Tensor
    diagonal: Tensor = field(init=False)
    mask: Tensor = field(init=False)
    inverse: Tensor = field(init=False)  # 1 / diagonal, 0 outside
    smoothers: list[Smoother] = field(init=False)
    phi: Tensor = field(init=False)
    handed: Tensor = field(init=False)  # (HANDED, batch, n0, n1, n2)
    psi: Tensor = field(init=False)
    exact: Tensor = field(init=False)  # on the coarsest level: (batch, cells, cells)

    def finish(self) -> None:
        """Form the diagonal once faces and Dirichlet weights are known."""
        self.diagonal = self.dirichlet + sum(w + shifted(w, d) for d, w in enumerate(self.faces, 1))
        self.mask = (self.diagonal > 1e-6 * max(self.nominal)).float()
        self.inverse = self.mask / (self.diagonal + 1 - self.mask)


def shifted(w: Tensor, d: int) -> Tensor:
    """Shift w by one cell along dimension d, so that each cell has the weight of its face to the previous cell."""
    return torch.cat([torch.zeros_like(w.narrow(d, 0, 1)), w.narrow(d, 0, w.shape[d] - 1)], d)


def between(o: Tensor, d: int) -> Tensor:
    """Average over a cell and the next along dimension d (the last cell stays itself; its face has weight 0)."""
    return (o + torch.cat([o.narrow(d, 1, o.shape[d] - 1), o.narrow(d, o.shape[d] - 1, 1)], d)) / 2


def made(o: Tensor, outputs: tuple[Output, ...], k: int, d: int | None = None) -> Tensor:
    """Return the coefficient that output k makes, in the cells or on the faces along dimension d."""
    own = o[k].clamp(outputs[k].lowest, outputs[k].highest)
    value = torch.exp(own if d is None else between(own, d))
    return value if outputs[k].scale == 1 else outputs[k].scale * value


def children(t: Tensor) -> Tensor:
    """Pad t to even sizes, but for axes of one cell, and return it with shape (batch, m0, f0, m1, f1, m2, f2)."""
    n = t.shape[1:]
    t = nn.functional.pad(t, [x for k in reversed(n) for x in (0, k % 2 if k > 1 else 0)])
    return t.reshape(len(t), *(x for k in t.shape[1:] for x in ((k // 2, 2) if k > 1 else (1, 1))))


class CycleNetwork(nn.Module):
    """The networks of the cycle.

    Parameters
    ----------
    ndim : {2, 3}
    hidden : int, default 32
        Width of the two hidden layers.
    """

    def __init__(self, ndim: int, hidden: int = 32) -> None:
        super().__init__()
        self.ndim = ndim
        cells = 3**ndim
        kernel, padding = ((3, 1, 3), (1, 0, 1)) if ndim == 2 else ((3, 3, 3), (1, 1, 1))
        self.fine = nn.Sequential(
            nn.Linear(2 * cells, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(FINE) + HANDED),
        )
        self.coarse = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(FEATURES, hidden, kernel, padding=padding),
                nn.ReLU(),
                nn.Conv3d(hidden, hidden, 1),
                nn.ReLU(),
                nn.Conv3d(hidden, len(COARSE) + HANDED, 1),
            )
            for _ in range(KINDS - 1)
        )
        for name, parameter in self.named_parameters():
            if ".4." in name:  # every last layer starts at zero, so that the cycle starts with constant coefficients
                nn.init.zeros_(parameter)
        self.tap = nn.Parameter(torch.tensor([0.2] + [0.15] * (KINDS - 1)))

    def setup(self, fluid: Tensor, dirichlet: Tensor, ids: Tensor, patterns: Tensor) -> list[LevelBatch]:
        """Build the hierarchy of a batch of domains.

        Parameters
        ----------
        fluid : Tensor (batch, n0, n1, n2)
            1 where there is an unknown.
        dirichlet : Tensor of the same shape
            The Dirichlet count of each cell.
        ids : int64 Tensor of the same shape
            The number of each cell's pattern; 0 where there is no unknown.
        patterns : uint8 Tensor (count, cells)
            The codes of each pattern; row 0 stands for cells without an unknown.

        Returns
        -------
        list of LevelBatch
        """
        shape: tuple[int, int, int] = tuple(fluid.shape[1:])  # type: ignore[assignment]
        faces = []
        for d in (1, 2, 3):
            w = torch.zeros_like(fluid)
            w.narrow(d, 0, fluid.shape[d] - 1).copy_(
                fluid.narrow(d, 1, fluid.shape[d] - 1) * fluid.narrow(d, 0, fluid.shape[d] - 1)
            )
            faces.append(w)
        level = LevelBatch(shape, (1.0, 1.0, 1.0), 1.0, fluid, faces, dirichlet)
        level.finish()
        table = self.fine(torch.cat([torch.from_numpy(t)[patterns.long()] for t in (OCCUPIED, HALF_DIRICHLET)], 1))
        self._smoothers(level, table[ids.flatten()].reshape(*fluid.shape, -1).movedim(-1, 0), FINE)
        levels = [level]
        while len(levels) == 1 or math.prod(level.shape) > SOLVED_EXACTLY:
            level = self._coarsen(level, min(len(levels), KINDS - 1))
            levels.append(level)
        level.exact = pseudo_inverse(level)
        return levels

    def _smoothers(self, level: LevelBatch, o: Tensor, outputs: tuple[Output, ...]) -> None:
        """Set phi, S and what is handed down from outputs (channels, batch, n0, n1, n2)."""
        level.phi = made(o, outputs, first_of(outputs, "phi")) * level.mask
        level.smoothers = []
        for first in range(first_of(outputs, "a"), len(outputs), len(SMOOTHER)):
            c = []
            for d, w in enumerate(level.faces, 1):
                after = torch.cat([level.inverse.narrow(d, 1, w.shape[d] - 1), torch.zeros_like(w.narrow(d, 0, 1))], d)
                c.append(made(o, outputs, first + d, d) * w * level.inverse * after)
            a = made(o, outputs, first) * level.inverse
            level.smoothers.append(Smoother(a + sum(w + shifted(w, d) for d, w in enumerate(c, 1)), c))
        level.handed = o[-HANDED:] * (level.volume > 0)

    def _coarsen(self, fine: LevelBatch, kind: int) -> LevelBatch:
        halved = [n > 1 for n in fine.shape]
        shape: tuple[int, int, int] = tuple((n + 1) // 2 for n in fine.shape)  # type: ignore[assignment]
        fold, split = (2, 4, 6), [children(w) for w in fine.faces]
        crossing, inside = [], []
        for d in range(3):
            last = split[d].shape[2 + 2 * d] - 1
            crossing.append(
                split[d].select(2 + 2 * d, last).sum(tuple(x - (x > 2 + 2 * d) for x in fold if x != 2 + 2 * d))
            )
            inside.append(split[d].sum(fold) - crossing[d] if halved[d] else torch.zeros_like(crossing[d]))
        nominal = []
        for d in range(3):
            others = math.prod(2 if halved[x] else 1 for x in range(3) if x != d)
            nominal.append(fine.nominal[d] * others * (0.5 if halved[d] else 1.0))
        volume, dirichlet = children(fine.volume).sum(fold), DIRICHLET * children(fine.dirichlet).sum(fold)
        faces = [w * (0.5 if halved[d] else 1.0) for d, w in enumerate(crossing)]
        capacity = fine.capacity * 2.0 ** sum(halved)
        features = [volume / capacity, dirichlet / max(nominal)]
        features += [u / (max(nominal[d], 1e-12) * 2) for d, u in enumerate(inside)]
        features += [w / nominal[d] for d, w in enumerate(faces)]
        features += [children(h).sum(fold) / 2.0 ** sum(halved) for h in fine.handed]
        o = self.coarse[kind - 1](torch.stack(features, 1)).movedim(1, 0)
        faces = [w * made(o, COARSE, d - 1, d) for d, w in enumerate(faces, 1)]
        dirichlet = dirichlet * made(o, COARSE, first_of(COARSE, "dirichlet"))
        level = LevelBatch(shape, (nominal[0], nominal[1], nominal[2]), capacity, volume, faces, dirichlet)
        level.finish()
        level.psi = made(o, COARSE, first_of(COARSE, "psi")) * level.mask
        self._smoothers(level, o, COARSE)
        return level

    def cycle(self, levels: list[LevelBatch], r: Tensor, depth: int = 0) -> Tensor:
        """Apply M of a level to r (batch, n0, n1, n2)."""
        level = levels[depth]
        if depth == len(levels) - 1:
            return (level.exact @ r.flatten(1)[:, :, None])[:, :, 0].reshape(r.shape)
        coarse, q = levels[depth + 1], self.tap[min(depth, KINDS - 1)]
        z = smooth(level.smoothers[0], r)
        for S in level.smoothers[1:]:
            z = z + smooth(S, r - apply(level, z))
        rc = restrict((r - apply(level, z)) * level.phi, q) * coarse.psi
        e = self.cycle(levels, rc, depth + 1)
        if depth + 1 < len(levels) - 1:
            e = e + self.cycle(levels, rc - apply(coarse, e), depth + 1)
        z = z + prolong(e * coarse.psi, q, level.shape) * level.phi
        for S in reversed(level.smoothers):
            z = z + smooth(S, r - apply(level, z))
        return z


def apply(level: LevelBatch, x: Tensor) -> Tensor:
    """Return A x on a level."""
    return sweep(level.diagonal, level.faces, x, -1.0)


def smooth(S: Smoother, r: Tensor) -> Tensor:
    """Return S r."""
    return sweep(S.a, S.c, r, 1.0)


def pseudo_inverse(level: LevelBatch) -> Tensor:
    """Return the dense pseudo-inverse of A, (batch, cells, cells); components without Dirichlet data lose constants.

    It is (A + s V V')^-1 - V V' / s, where the columns of V are the normalised constants on those components, and s is
    as large as the diagonal.
    """
    batch, cells = len(level.mask), math.prod(level.shape)
    number = torch.arange(cells).reshape(level.shape)
    mask = level.mask.reshape(batch, cells)
    dense = torch.diag_embed(level.diagonal.reshape(batch, cells) * mask + 1 - mask)
    for d, w in enumerate(level.faces, 1):
        n = w.shape[d] - 1
        low, high = number.narrow(d - 1, 0, n).flatten(), number.narrow(d - 1, 1, n).flatten()
        weights = w.narrow(d, 0, n).flatten(1)
        off = torch.zeros(batch, cells, cells)
        off[:, low, high] = weights
        dense = dense - off - off.transpose(1, 2)
    with torch.no_grad():
        reach = ((dense != 0) * mask[:, :, None] * mask[:, None, :]).float()
        for _ in range(math.ceil(math.log2(max(cells, 2)))):
            reach = ((reach @ reach) > 0).float()
        anchored = (reach @ (level.dirichlet.reshape(batch, cells, 1) * mask[:, :, None]))[:, :, 0] > 1e-6 * max(
            level.nominal
        )
        floating = mask * (~anchored).float()
        projector = reach * floating[:, :, None] / reach.sum(2, keepdim=True).clamp_min(1)
        scale = 2.0 * max(level.nominal)
    inverse = torch.linalg.inv(dense + scale * projector) - projector / scale
    return inverse * mask[:, :, None] * mask[:, None, :]
