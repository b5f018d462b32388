"""Vectors on a CUDA device, and the space of them: each of its operations is a launch of a kernel or two.

A vector is a handle. What is not here is not done on a device: nothing copies a vector to the host quietly.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import DTypeLike, NDArray

from deepcd.solvers.arguments import power_of_two
from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.space import Space


class Sums:
    """Where inner products are added up: partial sums of blocks, then their sum, on the device.

    A sum that Python looks at is one transfer of eight bytes, and waits for the device.
    """

    def __init__(self) -> None:
        self.space = CudaSpace(self)
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


class CudaVector:
    """A float32 or float64 vector on the device.

    Parameters
    ----------
    array : device array, shape (n,)
        Not copied. Kernels work on it in the order of their launches.
    sums : Sums
        Where its inner products are added up.
    """

    ndim = 1
    __array_ufunc__ = None  # NumPy's functions refuse it, instead of going over its entries

    def __init__(self, array: Any, sums: Sums) -> None:
        self.array, self.sums = array, sums

    @classmethod
    def zeros(cls, size: int, dtype: DTypeLike, sums: Sums) -> CudaVector:
        """Return a zero vector."""
        vector = cls(cuda.device_array(size, dtype=dtype), sums)
        vector.fill(0.0)
        return vector

    @classmethod
    def upload(cls, v: NDArray[np.floating[Any]], sums: Sums) -> CudaVector:
        """Return a copy of a NumPy vector on the device."""
        return cls(cuda.to_device(np.ascontiguousarray(v)), sums)

    @property
    def space(self) -> CudaSpace:
        """What it is worked on with."""
        return self.sums.space

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

    def host(self) -> NDArray[Any]:
        """Return a copy as a NumPy array."""
        return np.asarray(self.array.copy_to_host())

    def empty(self, dtype: DTypeLike | None = None) -> CudaVector:
        """Return a vector of the same length with any content."""
        return CudaVector(cuda.device_array(self.size, dtype=self.dtype if dtype is None else dtype), self.sums)

    def fill(self, number: float) -> None:
        """Set all entries to a number."""
        launch(cuda_outer.fill, self.size, self.dtype.type(number), self.array)

    def copy(self) -> CudaVector:
        """Return a copy."""
        return self.astype(self.dtype)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> CudaVector:
        """Return the vector in another precision; itself if that is its own and `copy` is false."""
        if not copy and self.dtype == dtype:
            return self
        return self.space.copy(self, out=self.empty(dtype))

    def any(self) -> bool:
        """Return whether an entry is not zero."""
        return self.space.dot(self, self) != 0 or self.space.magnitude(self) != 0  # squares may underflow

    def __getitem__(self, index: Any) -> Any:
        """Return the vector itself for [:], and for an index array the entries, which lie where that array does."""
        if isinstance(index, slice) and index == slice(None):
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
        """Set the entries at an index array, on the host or on the device as the values are."""
        if isinstance(index, np.ndarray):
            if not index.size:
                return
            index, value = cuda.to_device(index.astype(np.int64)), cuda.to_device(np.ascontiguousarray(value))
        source = value.array if isinstance(value, CudaVector) else value
        launch(cuda_outer.put, index.size, index, source, 1.0, 0.0, self.array)


class CudaSpace(Space):
    """Operations on vectors of a device; see `Space`.

    Parameters
    ----------
    sums : Sums
        Where inner products are added up.
    """

    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def zeros(self, like: CudaVector) -> CudaVector:
        """Return a new zero vector of the same length and precision."""
        return CudaVector.zeros(like.size, like.dtype, self._sums)

    def empty(self, like: CudaVector) -> CudaVector:
        """Return a new vector of the same length and precision with any content."""
        return like.empty()

    def clear(self, v: CudaVector) -> None:
        """Set v to zero."""
        v.fill(0.0)

    def copy(self, v: CudaVector, out: CudaVector | None = None) -> CudaVector:
        """Set `out`, or a new vector, to v and return it."""
        return self.combine(1.0, v, 0.0, v, v.empty() if out is None else out)

    def cast(self, v: CudaVector, dtype: DTypeLike) -> CudaVector:
        """Return v in another precision: v itself if it has that precision already."""
        return v.astype(dtype, copy=False)

    def scale(self, factor: float, v: CudaVector, out: CudaVector | None = None) -> CudaVector:
        """Set `out`, or a new vector, to factor * v and return it."""
        return self.combine(factor, v, 0.0, v, v.empty() if out is None else out)

    def divide(self, v: CudaVector, number: float) -> None:
        """Divide v by a number, in place."""
        self.combine(1.0 / number, v, 0.0, v, v)

    def subtract(self, u: CudaVector, v: CudaVector, out: CudaVector) -> CudaVector:
        """Set out to u - v, where it may be u or v, and return it."""
        return self.combine(1.0, u, -1.0, v, out)

    def combine(self, alpha: float, u: CudaVector, beta: float, v: CudaVector, out: CudaVector) -> CudaVector:
        """Set out to alpha u + beta v, where it may be u or v, and return it."""
        launch(cuda_outer.combine, out.size, float(alpha), u.array, float(beta), v.array, out.array)
        return out

    def dot(self, u: CudaVector, v: CudaVector) -> float:
        """Return u.v, summed in float64."""
        return self._sums.total(launch(cuda_outer.dot, u.size, u.array, v.array, self._sums.partials))

    def norm(self, v: CudaVector) -> float:
        """Return the Euclidean norm of v, whatever the magnitude of its entries."""
        square = self.dot(v, v)
        if 1e-280 < square < 1e280:
            return math.sqrt(square)
        largest = self.magnitude(v)
        if largest == 0 or not math.isfinite(largest):
            return largest
        unit = power_of_two(largest)
        scaled = self.scale(1 / unit, v)
        return math.sqrt(self.dot(scaled, scaled)) * unit

    def magnitude(self, v: CudaVector) -> float:
        """Return the largest absolute value in v; NaN if v holds NaN."""
        return max(self._largest(v, 1.0), self._largest(v, -1.0))

    def _largest(self, v: CudaVector, sign: float) -> float:
        start(cuda_outer.largest, 1, cuda_outer.THREADS, v.array, sign, self._sums.result)
        return self._sums.fetch()

    def random(self, like: CudaVector, seed: int) -> CudaVector:
        """Return a vector of standard Gaussian numbers: those of the host."""
        drawn = np.random.default_rng(seed).standard_normal(like.size)
        return CudaVector.upload(drawn.astype(like.dtype), self._sums)
