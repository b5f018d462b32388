"""Training of the learned multigrid cycle. Since importing torch takes seconds, `train` is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepcd.pde.extras import require

if TYPE_CHECKING:
    from deepcd.solvers.training.training import train as train

__all__ = ["train"]

require("torch", "matplotlib", "rich", extra="train", by="deepcd.solvers.training")


def __getattr__(name: str) -> Any:
    """Import `train` when it is first used (PEP 562)."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepcd.solvers.training.training import train

    globals()[name] = train
    return train


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
