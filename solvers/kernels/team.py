"""Threads that share a compiled pass by planes.

Python threads rather than numba's: the kernels release the GIL, several solves may run at once, and compilation stays
short. Planes are divided in the same way every time and partial sums added in that order, so results depend on the
number of threads only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SMALLEST = 1 << 15  # cells per thread below which waking a thread costs more than it saves


class Team:
    """A fixed number of threads. It can be copied and pickled, and used in a forked process: new threads are started.

    Parameters
    ----------
    threads : int
        At least 1.
    planes, cells : int
        Size of the box that they share; small boxes get fewer threads.
    """

    def __init__(self, threads: int, planes: int, cells: int) -> None:
        self.threads = max(1, min(threads, planes, cells // SMALLEST))
        self.bounds = [planes * t // self.threads for t in range(self.threads + 1)]
        self.halved = [(bound + 1) // 2 for bound in self.bounds]  # the same of a box with half as many planes
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pool": None}

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads but one, of this process: a fork copies what is known of them, not the threads themselves."""
        pool = self._pool
        if pool is None or pool[0] != os.getpid():
            pool = self._pool = os.getpid(), ThreadPoolExecutor(self.threads - 1, "deepcd")
        return pool[1]

    def run(
        self,
        kernel: Callable[..., Any],
        *args: Any,
        scratch: Sequence[Sequence[Any]] | None = None,
        bounds: Sequence[int] | None = None,
    ) -> list[Any]:
        """Call kernel(*args, *scratch[t], start, stop) for every thread t and return the results in order.

        Parameters
        ----------
        kernel : callable
            Compiled, releases the GIL, works on planes start .. stop - 1.
        *args
            The same for all.
        scratch : sequence of sequences, optional
            Per thread, further arguments of its own.
        bounds : sequence of int, optional
            Where the shares begin and end; default: the planes of the box.
        """
        ends = self.bounds if bounds is None else bounds
        own = scratch if scratch is not None else [()] * self.threads
        if self.threads == 1:
            return [kernel(*args, *own[0], ends[0], ends[-1])]
        pool = self.pool
        futures = [pool.submit(kernel, *args, *own[t], ends[t], ends[t + 1]) for t in range(1, self.threads)]
        first = kernel(*args, *own[0], ends[0], ends[1])
        return [first, *(f.result() for f in futures)]
