"""What compiled passes share: one layout for two and three axes, and threads that divide a pass by planes.

A box of two axes is one of three whose middle axis has a single cell, so every kernel is written once. Arrays are flat,
in C order. Python threads rather than numba's: kernels release the interpreter's lock, and compilation stays short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAST = {"contract", "reassoc", "nsz"}


def three_axes(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the cells per axis of a box with a middle axis, which has one cell in 2D."""
    first, *middle, last = shape
    return first, middle[0] if middle else 1, last


def three_components(velocity: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the face velocities as flat arrays; what 2D lacks is at rest on the two faces of its single cell."""
    first, *middle, last = velocity
    if not middle:
        middle = [np.zeros(2 * first.shape[1] * last.shape[0], dtype=first.dtype)]
    return first.reshape(-1), middle[0].reshape(-1), last.reshape(-1)


def by_slabs(kernel: Callable[..., object], planes: int, threads: int, *args: Any) -> None:
    """Call kernel(*args, start, stop) on slabs of planes that cover 0 .. planes - 1, one per thread.

    Parameters
    ----------
    kernel : callable
        Compiled, releases the interpreter's lock, writes to planes start .. stop - 1 only.
    planes : int
        Of the array that is written.
    threads : int
        At least 1.
    *args
        The same for all.
    """
    ends = [planes * t // threads for t in range(threads + 1)]
    if threads == 1:
        kernel(*args, 0, planes)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(kernel, *args, ends[t], ends[t + 1]) for t in range(1, threads)]
        kernel(*args, ends[0], ends[1])
        for share in others:
            share.result()
