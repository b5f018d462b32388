"""Arrays that lie on a device: how they are told from those of the host."""

from __future__ import annotations

from typing import Any


def is_on_device(v: Any) -> bool:
    """Return whether an array, such as a torch tensor, lies on a CUDA device."""
    return hasattr(v, "__cuda_array_interface__")


def refuse_device(name: str, v: Any) -> None:
    """Raise a TypeError if an array lies on a CUDA device."""
    if is_on_device(v):
        raise TypeError(f'{name} lies on a CUDA device: solve there with DeepCD(device="cuda"), or copy it')
