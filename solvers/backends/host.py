"""The host: the iteration runs on NumPy vectors in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from deepcd.solvers.arguments import as_vector
from deepcd.solvers.backends.arrays import as_given
from deepcd.solvers.parts import Parts
from deepcd.solvers.recipes import Recipe


@dataclass(frozen=True)
class Host:
    """The back end of the processor; everything is where it belongs already."""

    name = "cpu"
    where = "on the host"
    is_host = True

    def runs(self, recipe: Recipe) -> bool:
        """Return True: whatever a recipe builds is applied on the host."""
        return True

    def require(self) -> str:
        """Return what it is."""
        return "the processor"

    def matrix(self, A: Any) -> Any:
        """Return A."""
        return A

    def vector(self, name: str, v: ArrayLike, n: int, *, columns: bool) -> NDArray[Any]:
        """Return v as float32 or float64, shape (n,), or (n, k) if `columns`; see `as_vector`."""
        return as_vector(name, v, n, columns=columns)

    def back(self, x: Any, like: Any) -> Any:
        """Return x, as a tensor if the right-hand side was one."""
        return as_given(x, like)

    def place(self, parts: Parts) -> Parts:
        """Return the parts."""
        return parts

    def place_matrix(self, A: Any) -> Any:
        """Return the matrix."""
        return A
