"""What a cycle asks of its finest level."""

from __future__ import annotations

from typing import Protocol, Self

from deepcd.solvers.kernels.records import F32, Box
from deepcd.solvers.preconditioners.multigrid.levels import Level


class Finest(Protocol):
    """A finest level with its smoother; vectors are float32 on its padded box."""

    @property
    def box(self) -> Box:
        """Its box."""

    @property
    def unknowns(self) -> int:
        """How many there are."""

    @property
    def listed(self) -> int:
        """How many of its cells have coefficients of their own."""

    def zeros(self) -> F32:
        """Return a zero vector."""

    def descend(self, r: F32, top: Level) -> None:
        """Smooth from zero and keep z; leave psi P' phi (r - A z) in r of the level below."""

    def ascend(self, r: F32, z: F32, top: Level) -> float:
        """Add the correction that waits in z of the level below to what was kept, smooth into z, and return r.z."""

    def twin(self, threads: int) -> Self:
        """Return the same level with work vectors and threads of its own."""

    def memory(self) -> int:
        """Return the bytes of all arrays."""
