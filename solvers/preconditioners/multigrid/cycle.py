"""The cycle: a finest level, coarse levels and their smoothing, and the exact solution on the last of them."""

from __future__ import annotations

from typing import Any

from deepcd.solvers.kernels.layout import WEIGHT, Memory
from deepcd.solvers.kernels.records import F32
from deepcd.solvers.preconditioners.multigrid.coarse import Coarse
from deepcd.solvers.preconditioners.multigrid.exact import Exact
from deepcd.solvers.preconditioners.multigrid.finest import Finest
from deepcd.solvers.preconditioners.multigrid.levels import Hierarchy, Level
from deepcd.solvers.preconditioners.multigrid.spectrum import BOUND, second_visit


class Cycle:
    """M of a multigrid cycle.

    Parameters
    ----------
    name : str
        Name of the preconditioner.
    finest : Finest
    hierarchy : Hierarchy
        Coarse levels, complete.
    coarse : Coarse
        Their smoothing.
    exact : Exact
        Solution on the last of them.
    note : str, optional
        Further information to be printed.
    linear : bool, default True
        Whether the iteration may rely on M being the same linear map each time, its rounding in float32 apart.
    unweighed : int, default 0
        Second visits are weighed at this application, or at the first one that finds r.z negative; 0 if they are
        weighed already. It takes as long as a few iterations, and hardly any system needs it: on a grid without narrow
        passages all weights are one, and the iteration has ended before it comes to this.
    """

    symmetric = True
    work = 4.0  # passes over the finest level: down, up, and the outer two

    def __init__(
        self,
        name: str,
        finest: Finest,
        hierarchy: Hierarchy,
        coarse: Coarse,
        exact: Exact,
        note: str = "",
        linear: bool = True,
        unweighed: int = 0,
    ) -> None:
        self.name, self.finest, self.hierarchy, self.coarse = name, finest, hierarchy, coarse
        self.exact, self.note, self.linear, self.unweighed = exact, note, linear, unweighed
        self.memory_map = Memory(hierarchy.table, hierarchy.numbers, hierarchy.pool, *exact)

    def __reduce__(self) -> tuple[Any, ...]:
        return Cycle, (self.name, self.finest, self.hierarchy, self.coarse, *self._rest)

    @property
    def _rest(self) -> tuple[Exact, str, bool, int]:
        return self.exact, self.note, self.linear, self.unweighed

    def __str__(self) -> str:
        boxes = [self.finest.box, *(level.box for level in self.levels)]
        sizes = ", ".join("x".join(str(k) for k in box.n if k > 1) or "1" for box in boxes)
        unknowns, memory = max(self.finest.unknowns, 1), self.memory()
        return (
            f"{self.name}, {len(boxes)} levels: {sizes}; the last solved exactly ({len(self.exact.cells)} unknowns)\n"
            f"{self.work:g} passes over the finest grid per iteration, outer loop included; "
            f"{self.finest.listed / unknowns:.0%} of its cells have coefficients of their own; "
            f"{memory / 2**20:.1f} MiB, {memory / unknowns:.0f} bytes per unknown{self.note}"
        )

    @property
    def levels(self) -> list[Level]:
        """The coarse levels."""
        return self.hierarchy.levels

    def memory(self) -> int:
        """Return the bytes of all arrays that the cycle keeps."""
        return self.finest.memory() + self.hierarchy.memory() + self.exact.cells.nbytes + self.exact.inverse.nbytes

    def twin(self, threads: int) -> Cycle:
        """Return the same M with work vectors and threads of its own."""
        finest, hierarchy = self.finest.twin(threads), self.hierarchy.twin(threads)
        return Cycle(self.name, finest, hierarchy, self.coarse, *self._rest)

    def zeros(self) -> F32:
        """Return a zero vector of the kind that `apply` writes: float32 on the padded box."""
        return self.finest.zeros()

    def apply(self, r: F32, z: F32) -> float:
        """Set z to M r and return r.z."""
        product = self._apply(r, z)
        if self.unweighed:
            self.unweighed -= 1
            if (self.unweighed == 0 or product < 0) and self.weigh_second_visits():
                self.linear = False  # M is another one from here on
                product = self._apply(r, z)
        return product

    def _apply(self, r: F32, z: F32) -> float:
        top = self.levels[0]
        self.finest.descend(r, top)
        self.visit(0)
        return self.finest.ascend(r, z, top)

    def visit(self, depth: int) -> None:
        """Set z of a level to psi times what two cycles, or the exact solution on the last one, make of its r."""
        self.coarse.visit(self.levels, self.memory_map, depth)

    def apply_below(self, depth: int, r: F32, out: F32) -> None:
        """Set `out` to M r on a coarse level, M being one cycle."""
        level, lower = self.levels[depth : depth + 2]
        self.coarse.descend(level, lower, r, out)
        self.visit(depth + 1)
        self.coarse.ascend(level, lower, r, out)

    def weigh_second_visits(self, bound: float = BOUND) -> bool:
        """Let second visits count for as much as positive definiteness allows; return whether that is less than full.

        From the last levels up, since what a level allows depends on those below.
        """
        self.unweighed = 0
        weights = self.hierarchy.numbers[:-1, WEIGHT]
        for depth in reversed(range(len(weights))):

            def once(r: F32, out: F32, depth: int = depth) -> None:
                self.apply_below(depth, r, out)

            weights[depth] = second_visit(self.levels[depth], once, bound)
        return bool((weights < 1).any())
