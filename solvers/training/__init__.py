"""Training of the learned multigrid cycles. Importing torch takes seconds: functions are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepcd.pde.extras import require

if TYPE_CHECKING:
    from deepcd.solvers.training.faces import train_faces as train_faces
    from deepcd.solvers.training.training import train as train

_MODULES = {"train": "training", "train_faces": "faces"}
__all__ = ["train", "train_faces"]

require("torch", "matplotlib", "rich", extra="train", by="deepcd.solvers.training")


def __getattr__(name: str) -> Any:
    """Import a function when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
