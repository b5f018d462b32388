"""Coarse levels in the three states of their set-up, and the array that they all lie in.

A hierarchy is laid out first, its fields zero. From the finest level down, each level is then `Aggregated` from the
one above, turned into an operator (`Formed`) and given a smoother and transfer scalings by whoever builds the cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import layout, setup
from deepcd.solvers.kernels.layout import FAR, NEAR, NUMBERS, SETS, WEIGHT, Fields
from deepcd.solvers.kernels.records import F32, Box, Coefficients, Scratch, Taps, Transfer, scratch_for, taps
from deepcd.solvers.kernels.team import Team

COARSEST = 200  # largest box, in cells, that is solved exactly; an inverse for 512 takes 10 ms and helps nothing
NEGLIGIBLE = 1e-6  # diagonal entry, in nominal face weights, up to which a coarse cell is no unknown


def halved(box: Box) -> Box:
    """Return the box of half as many cells per axis, rounded up."""
    n = box.n
    m = (n[0] + 1) // 2, (n[1] + 1) // 2, (n[2] + 1) // 2
    return Box(m, (m[2] + 2, 0) if box.s[1] == 0 else ((m[1] + 2) * (m[2] + 2), m[2] + 2))


@dataclass(frozen=True)
class Level:
    """A coarse level: parts of the hierarchy's arrays, and the threads that share it."""

    box: Box
    fields: Fields
    taps: Taps  # to the next coarser level
    team: Team
    scratch: list[tuple[Scratch]]  # of every thread
    coefficients: Coefficients = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", layout.coefficients_of(self.fields))

    def set_taps(self, q: float) -> None:
        """Interpolate from the next coarser level with weights 1 - q and q along axes that are halved."""
        self.taps.near[:], self.taps.far[:] = taps(q, self.box.n)

    def transfer(self, lower: Level) -> Transfer:
        """Return how this level is connected with the next coarser one."""
        return Transfer(*lower.box, *self.taps)


class Hierarchy:
    """All coarse levels, of which the first is the one below the finest.

    Parameters
    ----------
    table : int64 (levels, columns)
        See `kernels/layout.py`, also for the next two.
    numbers : float32 (levels, columns)
    pool : float32
    threads : int
    """

    def __init__(self, table: NDArray[np.int64], numbers: F32, pool: F32, threads: int) -> None:
        self.table, self.numbers, self.pool, self.threads = table, numbers, pool, threads
        self.levels: list[Level] = []
        for row, own in zip(table.tolist(), numbers, strict=True):
            box, own_taps = layout.box_of(row), Taps(own[NEAR:FAR], own[FAR:WEIGHT])
            team = Team(threads, box.n[0], box.size)
            fields, scratch = layout.fields_of(row, pool), [(scratch_for(box, SETS),) for _ in range(team.threads)]
            self.levels.append(Level(box, fields, own_taps, team, scratch))

    @classmethod
    def below(cls, box: Box, coarsest: int, threads: int) -> Hierarchy:
        """Return the levels below a finest box, down to one of at most `coarsest` cells; all fields are zero."""
        boxes = [halved(box)]
        while math.prod(boxes[-1].n) > coarsest:
            boxes.append(halved(boxes[-1]))
        table, numbers = layout.table_of(boxes), np.zeros((len(boxes), NUMBERS), dtype=np.float32)
        numbers[:, WEIGHT] = 1
        return cls(table, numbers, np.zeros(table[-1, layout.END], dtype=np.float32), threads)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hierarchy, (self.table, self.numbers, self.pool, self.threads)

    def twin(self, threads: int) -> Hierarchy:
        """Return the same levels with work vectors and threads of their own."""
        return Hierarchy(self.table, self.numbers.copy(), self.pool.copy(), threads)

    def memory(self) -> int:
        """Return the bytes of all arrays."""
        return sum(a.nbytes for a in (self.table, self.numbers, self.pool)) + sum(
            bytes_of(level.scratch) for level in self.levels
        )


def bytes_of(scratch: list[tuple[Scratch]]) -> int:
    """Return the bytes of the scratch of all threads of a level."""
    return sum(array.nbytes for (own,) in scratch for array in own)


class Above(Protocol):
    """An operator that the next coarser level is aggregated from: the finest one, or a `Formed` level."""

    @property
    def box(self) -> Box:
        """Its box."""

    @property
    def nominal(self) -> tuple[float, float, float]:
        """Its face weight per axis in an undisturbed interior."""

    @property
    def capacity(self) -> float:
        """How many finest cells are in one of its cells."""

    def aggregate(self, sums: Aggregated) -> None:
        """Add up unknowns, Dirichlet and face weights over the coarse cells."""


@dataclass(frozen=True)
class Aggregated:
    """What is known of a coarse level once the level above has been summed over its cells; flat padded boxes."""

    level: Level  # whose face weights are set
    step: tuple[int, int, int]  # cells of the level above in one cell per axis: 2 if the axis is halved, else 1
    nominal: tuple[float, float, float]
    capacity: float
    volume: F32  # unknowns of the finest level
    dirichlet: F32
    inside: F32  # (3, box): face weights inside the cells

    @classmethod
    def of(cls, above: Above, level: Level, share: float) -> Aggregated:
        """Sum the level above over the cells of a level whose fields are zero.

        Face weights are halved along halved axes, where distances double; Dirichlet weights keep a `share`.
        """
        n, size = above.box.n, level.box.size
        step = min(n[0], 2), min(n[1], 2), min(n[2], 2)
        total = math.prod(step)
        x, y, z = (w * total / k / (2 if k == 2 else 1) for w, k in zip(above.nominal, step, strict=True))
        volume, dirichlet = (np.zeros(size, dtype=np.float32) for _ in range(2))
        inside = np.zeros((3, size), dtype=np.float32)
        sums = cls(level, step, (x, y, z), above.capacity * total, volume, dirichlet, inside)
        above.aggregate(sums)
        for axis in range(3):
            if step[axis] == 2:
                level.fields.w[axis] *= np.float32(0.5)
        dirichlet *= np.float32(share)
        return sums

    @property
    def sums(self) -> tuple[Any, ...]:
        """The arguments of kernels that add to the sums."""
        box = self.level.box
        return box.n, box.s, self.step, self.volume, self.dirichlet, self.inside, self.level.fields.w

    def form(self) -> Formed:
        """Form the diagonal from face and Dirichlet weights."""
        box, own, inverse = self.level.box, self.level.fields, np.zeros_like(self.volume)
        smallest = np.float32(NEGLIGIBLE * max(self.nominal))
        setup.form_diagonal(box.strides, own.w, self.dirichlet, smallest, own.diagonal, inverse)
        own.diagonal[inverse == 0] = 0
        return Formed(self.level, self.nominal, self.capacity, self.volume, self.dirichlet, inverse)


@dataclass(frozen=True)
class Formed:
    """A coarse level with an operator."""

    level: Level
    nominal: tuple[float, float, float]
    capacity: float
    volume: F32
    dirichlet: F32
    inverse: F32  # of the diagonal, 0 where there is no unknown

    @property
    def box(self) -> Box:
        """The level's box."""
        return self.level.box

    def aggregate(self, sums: Aggregated) -> None:
        """Add up unknowns, Dirichlet and face weights over the next level's cells."""
        box, w = self.box, self.level.fields.w
        setup.aggregate_faces(box.n, box.s, w, self.volume, self.dirichlet, *sums.sums)
