"""The contract of a back end: where the iteration of a system runs, and what crosses over to it and back.

A matrix is analysed and its preconditioner is set up on the host; `Backend.place` then moves the parts. The loop, the
refinement and the strategies around it are the same code on every back end.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args

from numpy.typing import ArrayLike

from deepcd.solvers.parts import Parts
from deepcd.solvers.recipes import Recipe


class Backend(Protocol):
    """Where vectors live and iterations run."""

    @property
    def name(self) -> str:
        """Name for `DeepCD(device=...)`."""

    @property
    def where(self) -> str:
        """Where that is, for messages: "on the host"."""

    @property
    def is_host(self) -> bool:
        """Whether systems live in the memory of this process: only these are copied, pickled or lent to SciPy."""

    def runs(self, recipe: Recipe) -> bool:
        """Return whether what a recipe builds can be applied there."""

    def require(self) -> str:
        """Return what the back end runs on; raise a RuntimeError that says what is missing if it cannot run here."""

    def matrix(self, A: Any) -> Any:
        """Return a matrix with its entries on the host, where it is analysed."""

    def vector(self, name: str, v: ArrayLike, n: int, *, columns: bool) -> Any:
        """Return a vector of shape (n,), or a block (n, k) if `columns`, where the parts of a system lie, or raise."""

    def back(self, x: Any, like: Any) -> Any:
        """Return an answer as the kind of array that the right-hand side was."""

    def place(self, parts: Parts) -> Parts:
        """Return the same parts where the iteration runs."""

    def place_matrix(self, A: Any) -> Any:
        """Return a csr_array or GridMatrix as something that vectors there are multiplied with."""


Device = Literal["cpu", "cuda"]
NAMES: tuple[str, ...] = get_args(Device)  # the host first


def find(name: str) -> Backend:
    """Return a back end by its name, or raise a ValueError; whether it can run here is for `Backend.require` to say."""
    if name == "cpu":
        from deepcd.solvers.backends.host import Host

        return Host()
    if name == "cuda":
        from deepcd.solvers.backends.cuda.device import Cuda

        return Cuda()
    raise ValueError(f"device must be {' or '.join(map(repr, NAMES))}, got {name!r}")


def devices() -> dict[str, str]:
    """Return what is known of each device but the host, by name: which one it is, or why it cannot be used."""
    found = {}
    for name in NAMES[1:]:
        try:
            found[name] = find(name).require()
        except RuntimeError as error:
            found[name] = str(error)
    return found
