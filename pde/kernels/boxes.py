"""Shared by the compiled passes: one layout for two and three axes, and threads that divide a pass by planes.

A box of two axes is treated as one of three whose middle axis has a single cell, so every kernel is written once.
Arrays are flat, in C order. Threads are Python's and not numba's, since kernels release the interpreter's lock and
compilation is shorter that way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What compiled passes may do to sums: fused multiply-adds, another order, no signed zeros; NaN and infinity stay.
FAST = {"contract", "reassoc", "nsz"}


def three_axes(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the number of cells per axis of a box with a middle axis, which has one cell in 2D."""
    first, *middle, last = shape
    return first, middle[0] if middle else 1, last


def three_components(velocity: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the face velocities as flat arrays; the middle component, which 2D does not have, is 0 on its faces."""
    first, *middle, last = velocity
    if not middle:
        middle = [np.zeros(2 * first.shape[1] * last.shape[0], dtype=first.dtype)]
    return first.reshape(-1), middle[0].reshape(-1), last.reshape(-1)


def by_slabs(kernel: Callable[..., object], planes: int, threads: int, *args: Any) -> None:
    """Call kernel(*args, start, stop) on slabs of planes that cover 0 .. planes - 1, one per thread.

    Parameters
    ----------
    kernel : callable
        A compiled function that releases the interpreter's lock and writes to planes start .. stop - 1 only.
    planes : int
        Number of planes of the array that is written.
    threads : int
        Number of threads, at least 1.
    *args
        Arguments that all threads share.
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
