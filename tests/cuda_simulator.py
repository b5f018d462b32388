"""What the tests of CUDA kernels in numba's simulator share: `make test` runs them with NUMBA_ENABLE_CUDASIM=1."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from deepcd.data import random_grid
from deepcd.pde import Grid
from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle

from .cycles import learned

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"
only_simulated = [
    pytest.mark.skipif(not SIMULATED, reason="needs NUMBA_ENABLE_CUDASIM=1 from the start"),
    pytest.mark.skipif(find_spec("numba_cuda") is None, reason='needs numba-cuda: pip install "deepcd[cuda]"'),
    # The hash of patterns multiplies modulo 2^64 on purpose.
    pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning"),
    pytest.mark.usefixtures("_simulator"),
]
FAMILIES = ("open-top", "free-surface", "mixed-walls", "pure-neumann")
_LOCK = threading.Lock()


def _shared_array(self: Any, shape: Any, dtype: Any, alignment: None = None) -> Any:
    """Return the block's shared array of a source line. The simulator's own may give two threads two of them."""
    from numba.np import numpy_support

    frame = sys._getframe(1)
    key = frame.f_code.co_filename, frame.f_lineno
    with _LOCK:
        if key not in self._allocations:
            # Whatever is read before it is written shows.
            self._allocations[key] = np.full(shape, np.nan, numpy_support.as_dtype(dtype))
        return self._allocations[key]


@pytest.fixture
def _simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let threads take turns often, and share what they share."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    monkeypatch.setattr(FakeCUDAShared, "array", _shared_array)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def grid_of(family: str, shape: tuple[int, ...]) -> Grid:
    """Return a random grid, always the same."""
    return random_grid(family, shape, np.random.default_rng(0))


def both(
    embedding: Embedding, stencil: UnitStencil, weights: Any = None, **options: Any
) -> tuple[UnitStencilOperator, Cycle, Any, Any]:
    """Return operator and preconditioner on the processor and on the device."""
    from deepcd.solvers.backends.cuda.multigrid import CudaMultigrid
    from deepcd.solvers.backends.cuda.stencil import CudaStencilOperator
    from deepcd.solvers.backends.cuda.vector import Sums

    A, M, sums = UnitStencilOperator(embedding, stencil), learned(embedding, stencil, weights, **options), Sums()
    return A, M, CudaStencilOperator(A, sums), CudaMultigrid(M, sums)


def solve_exactly(coarsest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cycles that systems build solve boxes of so many cells exactly, for more levels than small ones get."""
    defaults = learned_cycle.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "coarsest", coarsest)


def vector(v: Any, sums: Any) -> Any:
    """Return a NumPy vector on the device."""
    from deepcd.solvers.backends.cuda.vector import CudaVector

    return CudaVector.upload(np.asarray(v), sums)


class Log:
    """What kernels did: their launches, transfers to the host in bytes, and the entries of arrays that they touched."""

    def __init__(self) -> None:
        self.launches: list[str] = []
        self.types: set[tuple[str, ...]] = set()  # a kernel's name and the types of its arguments
        self.to_host: list[int] = []
        # Entries by kernel, address, size and bytes of an entry of an array.
        self.reads: dict[tuple[str, int, int, int], set[Any]] = {}
        self.writes: dict[tuple[str, int, int, int], set[Any]] = {}

    def bytes(self, kernel: str, n: tuple[int, int, int], s: tuple[int, int]) -> float:
        """Return the bytes per cell that a kernel touched in arrays over a box; an entry counts once if it was read."""
        box, size = cells_of(n, s), (n[0] + 2) * s[0]
        total = 0.0
        for touched in (self.reads, self.writes):
            for (name, _, entries, itemsize), indices in touched.items():
                if name == kernel and entries in (size, 3 * size):
                    total += itemsize * sum((i[1] if isinstance(i, tuple) else i) in box for i in indices)
        return total / len(box)


def cells_of(n: tuple[int, int, int], s: tuple[int, int]) -> set[int]:
    """Return the flat indices of the cells of a padded box."""
    i, j, k = np.indices(n)
    return set(((i + 1) * s[0] + (j + 1) * s[1] + k + 1).ravel().tolist())


@contextmanager
def watched(touches: bool = False) -> Iterator[Log]:
    """Record launches and transfers, and if wanted the entries that kernels touch."""
    import numba
    from numba.cuda.simulator import kernel
    from numba.cuda.simulator.cudadrv import devicearray

    log, patch = Log(), pytest.MonkeyPatch()
    call, fetch = kernel.FakeCUDAKernel.__call__, devicearray.FakeCUDAArray.copy_to_host
    inside: list[str] = []

    def called(self: Any, *args: Any) -> Any:
        if self._device:
            return call(self, *args)
        name = f"cuda_{self.fn.__module__.rsplit('.', 1)[1]}.{self.fn.__name__}"
        log.launches.append(name)
        log.types.add((name, *(str(numba.typeof(arg)) for arg in args)))
        inside.append(name)
        try:
            return call(self, *args)
        finally:
            inside.pop()

    def fetched(self: Any, *args: Any, **kwargs: Any) -> Any:
        log.to_host.append(self.nbytes)
        return fetch(self, *args, **kwargs)

    def key_of(self: Any) -> tuple[str, int, int, int]:
        array = self._item._ary
        return inside[-1], array.__array_interface__["data"][0], array.size, array.itemsize

    patch.setattr(kernel.FakeCUDAKernel, "__call__", called)
    patch.setattr(devicearray.FakeCUDAArray, "copy_to_host", fetched)
    if touches:
        wrapper = devicearray.FakeWithinKernelCUDAArray
        get, put = wrapper.__getitem__, wrapper.__setitem__

        def got(self: Any, index: Any) -> Any:
            log.reads.setdefault(key_of(self), set()).add(index)
            return get(self, index)

        def set_(self: Any, index: Any, value: Any) -> None:
            log.writes.setdefault(key_of(self), set()).add(index)
            put(self, index, value)

        patch.setattr(wrapper, "__getitem__", got)
        patch.setattr(wrapper, "__setitem__", set_)
    try:
        yield log
    finally:
        patch.undo()
