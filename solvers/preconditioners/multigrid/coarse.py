"""How coarse levels are smoothed and visited."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from deepcd.solvers.kernels import coarse, cycle, gauss_seidel, layout
from deepcd.solvers.kernels.records import F32
from deepcd.solvers.preconditioners.multigrid.levels import Level

NOTHING = np.zeros(0, dtype=np.float32)


class Coarse(Protocol):
    """A kind of smoothing on coarse levels."""

    def descend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Smooth from zero into `out`; leave psi P' phi (r - A out) in r of the next level."""

    def ascend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Add the correction that waits in z of the next level and smooth into `out`."""

    def visit(self, levels: list[Level], memory: layout.Memory, depth: int) -> None:
        """Set z of a level to psi times what two cycles, or the exact solution on the last one, make of its r."""


class LearnedCoarse:
    """One step with a smoother of the operator's sparsity, (a, c), on the way down and on the way up."""

    def descend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Set `out` to S r and restrict the residual."""
        level.team.run(
            coarse.descend, level.box, level.coefficients, r, out, level.transfer(lower), lower.fields.psi,
            lower.fields.r, scratch=level.scratch, bounds=level.team.halved,
        )  # fmt: skip

    def ascend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Add the correction to `out`, then S (r - A out)."""
        level.fields.y[:] = out
        self._ascend(level, lower, r, level.fields.y, out)

    @staticmethod
    def _ascend(level: Level, lower: Level, r: F32, z: F32, out: F32) -> None:
        level.team.run(
            coarse.ascend, level.box, level.coefficients, r, z, out, level.transfer(lower), lower.fields.z,
            scratch=level.scratch,
        )  # fmt: skip

    def visit(self, levels: list[Level], memory: layout.Memory, depth: int) -> None:
        """Visit a level in one call if it has one thread, else pass by pass."""
        if levels[depth].team.threads == 1 or depth == len(levels) - 1:
            cycle.visit(memory, depth)
        else:
            self.visit_shared(levels, memory, depth)

    def visit_shared(self, levels: list[Level], memory: layout.Memory, depth: int) -> None:
        """Do by several threads what `kernels.cycle.visit` does."""
        level, lower = levels[depth : depth + 2]
        own, below = level.fields, lower.fields
        self.descend(level, lower, own.r, own.y)
        self.visit(levels, memory, depth + 1)
        level.team.run(
            coarse.turn, level.box, level.coefficients, own.r, own.y, own.e, own.t, own.z, level.transfer(lower),
            below.z, below.psi, below.r, scratch=level.scratch, bounds=level.team.halved,
        )  # fmt: skip
        self.visit(levels, memory, depth + 1)
        self._ascend(level, lower, own.t, own.z, own.y)
        coarse.combine(memory.numbers[depth, layout.WEIGHT], own.e, own.psi, own.y, own.z)


class RedBlackCoarse:
    """Gauss-Seidel sweeps, red first on the way down and black first on the way up, by one thread.

    In the place of the smoother's `a` there is the inverse of the diagonal.
    """

    def __init__(self, sweeps: int) -> None:
        self.sweeps = sweeps

    def descend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Smooth from zero and restrict the residual."""
        gauss_seidel.descend_coarse(
            level.box, level.coefficients, self.sweeps, r, out, level.transfer(lower), lower.fields.psi,
            lower.fields.r, *level.scratch[0],
        )  # fmt: skip

    def ascend(self, level: Level, lower: Level, r: F32, out: F32) -> None:
        """Add the correction and smooth."""
        gauss_seidel.ascend_coarse(
            level.box, level.coefficients, self.sweeps, r, out, level.transfer(lower), lower.fields.z, NOTHING,
            *level.scratch[0],
        )  # fmt: skip

    def visit(self, levels: list[Level], memory: layout.Memory, depth: int) -> None:
        """Visit a level in one call."""
        cycle.visit_red_black(memory, self.sweeps, depth)
