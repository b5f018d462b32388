"""Vectors on a CUDA device that the solver's own loops, written for NumPy, run on.

NumPy hands its functions over to arguments that bring their own (NEP 13, 18 and 35), so that ``x - y`` or
``np.copyto(p, r)`` of such vectors are kernel launches. Only what the loops use is there; anything else raises a
TypeError instead of quietly copying a vector to the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer


class Sums:
    """Where inner products are added up: partial sums of blocks, then their sum, on the device.

    A sum that Python looks at is one transfer of eight bytes, and waits for the device.
    """

    def __init__(self) -> None:
        self.partials = cuda.device_array(cuda_outer.BLOCKS, dtype=np.float64)
        self.result = cuda.device_array(1, dtype=np.float64)

    def reserve(self, blocks: int) -> None:
        """Make room for the partial sums of so many blocks."""
        if blocks > self.partials.size:
            self.partials = cuda.device_array(blocks, dtype=np.float64)

    def add_up(self, blocks: int) -> None:
        """Set `result` to the sum of the first partial sums, on the device."""
        start(cuda_outer.total, 1, cuda_outer.THREADS, self.partials, blocks, self.result)

    def fetch(self) -> float:
        """Return the result."""
        return float(self.result.copy_to_host()[0])

    def total(self, blocks: int) -> float:
        """Return the sum of the first partial sums."""
        self.add_up(blocks)
        return self.fetch()


_shapes: set[tuple[Any, ...]] = set()


def start(kernel: Any, blocks: Any, threads: Any, *args: Any) -> None:
    """Start a kernel. Small boxes have few blocks, which numba would warn of the first time."""
    if (kernel, blocks, threads) not in _shapes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernel[blocks, threads]
        _shapes.add((kernel, blocks, threads))
    kernel[blocks, threads](*args)


def launch(kernel: Any, size: int, *args: Any) -> int:
    """Start a kernel whose threads take entries one grid apart, and return its number of blocks."""
    blocks = max(1, min(cuda_outer.BLOCKS, -(-size // cuda_outer.THREADS)))
    start(kernel, blocks, cuda_outer.THREADS, *args)
    return blocks


class CudaVector(NDArrayOperatorsMixin):
    """A float32 or float64 vector on the device.

    Parameters
    ----------
    array : device array, shape (n,)
        Not copied. Kernels work on it in the order of their launches.
    sums : Sums
    """

    ndim = 1

    def __init__(self, array: Any, sums: Sums) -> None:
        self.array, self.sums = array, sums

    @classmethod
    def zeros(cls, size: int, dtype: DTypeLike, sums: Sums) -> CudaVector:
        """Return a zero vector."""
        vector = cls(cuda.device_array(size, dtype=dtype), sums)
        launch(cuda_outer.fill, size, vector.array.dtype.type(0), vector.array)
        return vector

    @classmethod
    def upload(cls, v: NDArray[np.floating[Any]], sums: Sums) -> CudaVector:
        """Return a copy of a NumPy vector on the device."""
        return cls(cuda.to_device(np.ascontiguousarray(v)), sums)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return np.dtype(self.array.dtype)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.array.size)

    @property
    def shape(self) -> tuple[int]:
        """Number of entries, as a tuple."""
        return (self.size,)

    def __len__(self) -> int:
        return self.size

    def host(self) -> NDArray[Any]:
        """Return a copy as a NumPy array."""
        return np.asarray(self.array.copy_to_host())

    def empty(self, dtype: DTypeLike | None = None) -> CudaVector:
        """Return a vector of the same length with any content."""
        return CudaVector(cuda.device_array(self.size, dtype=self.dtype if dtype is None else dtype), self.sums)

    def copy(self) -> CudaVector:
        """Return a copy."""
        return self.astype(self.dtype)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> CudaVector:
        """Return the vector in another precision; itself if that is its own and `copy` is false."""
        if not copy and self.dtype == dtype:
            return self
        out = self.empty(dtype)
        combine(1.0, self, 0.0, self, out)
        return out

    def ravel(self) -> CudaVector:
        """Return the vector itself."""
        return self

    def any(self) -> bool:
        """Return whether an entry is not zero."""
        return self @ self != 0 or max(self.max(), -self.min()) != 0  # squares may underflow

    def max(self) -> float:
        """Return the largest entry, NaN if there is one."""
        return self._largest(1.0)

    def min(self) -> float:
        """Return the smallest entry, NaN if there is one."""
        return -self._largest(-1.0)

    def _largest(self, sign: float) -> float:
        start(cuda_outer.largest, 1, cuda_outer.THREADS, self.array, sign, self.sums.result)
        return self.sums.fetch()

    def __matmul__(self, other: CudaVector) -> float:
        """Return the inner product, summed in float64."""
        if not isinstance(other, CudaVector):
            return NotImplemented
        return self.sums.total(launch(cuda_outer.dot, self.size, self.array, other.array, self.sums.partials))

    def __getitem__(self, index: Any) -> Any:
        """Return the vector itself for [:] and entries for an index array, which lie where the index array does."""
        if index is Ellipsis or (isinstance(index, slice) and index == slice(None)):
            return self
        if isinstance(index, int):
            return float(self.array[index])
        on_host = isinstance(index, np.ndarray)
        if on_host and not index.size:
            return np.empty(0, self.dtype)
        places = cuda.to_device(index.astype(np.int64)) if on_host else index
        out = cuda.device_array(index.size, dtype=self.dtype)
        launch(cuda_outer.take, index.size, places, self.array, self.dtype.type(1), out)
        return out.copy_to_host() if on_host else CudaVector(out, self.sums)

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is Ellipsis or (isinstance(index, slice) and index == slice(None)):
            if isinstance(value, CudaVector):
                combine(1.0, value, 0.0, value, self)
            elif np.ndim(value):
                self.array.copy_to_device(np.ascontiguousarray(value, dtype=self.dtype))
            else:
                launch(cuda_outer.fill, self.size, self.dtype.type(value), self.array)
            return
        if isinstance(index, np.ndarray):
            if not index.size:
                return
            index, value = cuda.to_device(index.astype(np.int64)), cuda.to_device(np.ascontiguousarray(value))
        source = value.array if isinstance(value, CudaVector) else value
        launch(cuda_outer.put, index.size, index, source, 1.0, 0.0, self.array)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Do sums, differences, negatives, and products and quotients with numbers."""
        out = kwargs.pop("out", (None,))[0]
        rule = _LINEAR.get(ufunc)
        if method != "__call__" or rule is None or kwargs:
            return NotImplemented
        terms = rule(*inputs)
        if terms is None or not (out is None or isinstance(out, CudaVector)):
            return NotImplemented
        alpha, u, beta, v = terms
        if out is None:
            out = u.empty(np.result_type(u.dtype, v.dtype))
        combine(alpha, u, beta, v, out)
        return out

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        """Do np.copyto, np.empty_like and np.zeros_like, and np.zeros with `like`."""
        own = _FUNCTIONS.get(function)
        return NotImplemented if own is None else own(self, *args, **kwargs)


def combine(alpha: float, u: CudaVector, beta: float, v: CudaVector, out: CudaVector) -> None:
    """Set out to alpha u + beta v."""
    launch(cuda_outer.combine, out.size, float(alpha), u.array, float(beta), v.array, out.array)


Terms = tuple[float, CudaVector, float, CudaVector] | None


def _scaled(u: Any, factor: Any) -> Terms:
    """Return the terms of a vector times a number, which may come first."""
    if isinstance(factor, CudaVector):
        u, factor = factor, u
    return (float(factor), u, 0.0, u) if np.ndim(factor) == 0 and not isinstance(factor, CudaVector) else None


def _sum(sign: float) -> Callable[[Any, Any], Terms]:
    """Return what makes the terms of u + v or u - v."""
    return lambda u, v: (1.0, u, sign, v) if isinstance(u, CudaVector) and isinstance(v, CudaVector) else None


_LINEAR: dict[np.ufunc, Callable[..., Terms]] = {
    np.add: _sum(1.0),
    np.subtract: _sum(-1.0),
    np.negative: lambda u: (-1.0, u, 0.0, u),
    np.multiply: _scaled,
    np.divide: lambda u, v: None if isinstance(v, CudaVector) or np.ndim(v) else (1.0 / float(v), u, 0.0, u),
}


def _copyto(_: CudaVector, out: CudaVector, v: CudaVector, casting: str = "same_kind") -> None:
    out[...] = v


def _empty_like(_: CudaVector, prototype: CudaVector, dtype: DTypeLike | None = None) -> CudaVector:
    return prototype.empty(dtype)


def _zeros_like(_: CudaVector, prototype: CudaVector, dtype: DTypeLike | None = None) -> CudaVector:
    return CudaVector.zeros(prototype.size, prototype.dtype if dtype is None else dtype, prototype.sums)


def _zeros(like: CudaVector, shape: Any, dtype: DTypeLike = np.float64) -> CudaVector:
    return CudaVector.zeros(int(np.prod(shape)), dtype, like.sums)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.copyto: _copyto,
    np.empty_like: _empty_like,
    np.zeros_like: _zeros_like,
    np.zeros: _zeros,
}
