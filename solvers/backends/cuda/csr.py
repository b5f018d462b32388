"""Matrices on a CUDA device: a general one with its operator, and that of a grid without its entries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.box import remove_mean
from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.stencil import CudaStencilOperator
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch, start
from deepcd.solvers.operators.null_space import Constants, Span
from deepcd.solvers.space import Workspace

if TYPE_CHECKING:
    import scipy.sparse as sp

    from deepcd.solvers.operators.csr import CSROperator
    from deepcd.solvers.operators.grid_matrix import GridMatrix


class CudaMatrix:
    """A sparse matrix on the device, in float64.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        The matrix on the host, which is uploaded.
    sums : Sums
        Where inner products are added up.
    """

    def __init__(self, A: sp.csr_array, sums: Sums) -> None:
        self.shape, self.sums = A.shape, sums
        self._arrays = tuple(cuda.to_device(v) for v in (A.indptr, A.indices, A.data))
        self._blocks = max(1, min(cuda_outer.BLOCKS, -(-self.shape[0] // cuda_outer.ROWS)))

    def apply(self, p: CudaVector, q: CudaVector) -> int:
        """Set q to A p and return how many blocks have left a part of p.q."""
        threads = cuda_outer.LANES, cuda_outer.ROWS
        start(cuda_outer.matvec, self._blocks, threads, *self._arrays, p.array, q.array, self.sums.partials)
        return self._blocks

    def __matmul__(self, x: CudaVector) -> CudaVector:
        """Return A x, a new vector."""
        y = x.empty(np.float64)
        self.apply(x.astype(np.float64, copy=False), y)
        return y


class CudaGridMatrix:
    """The matrix of a grid on the device: an operator on its coupled rows, a diagonal on the others.

    Parameters
    ----------
    A : GridMatrix
        The same matrix on the host.
    operator : CudaStencilOperator
        A / scale on the coupled rows.
    rows : slice or device array of int64
        The coupled rows.
    """

    def __init__(self, A: GridMatrix, operator: CudaStencilOperator, rows: Any) -> None:
        self.shape, self._operator, self._rows = A.shape, operator, rows
        self._scale, self._alone, self._diagonal = A.operator.stencil.scale, A.alone, A.diagonal

    def __matmul__(self, x: CudaVector) -> CudaVector:
        """Return A x, a new vector."""
        operator = self._operator
        part = operator.extract(operator.image(operator.embed(x[self._rows])))
        x.space.scale(self._scale, part, out=part)
        if isinstance(self._rows, slice):
            return part
        y = CudaVector.zeros(x.size, np.float64, x.sums)
        y[self._rows] = part
        y[self._alone] = self._diagonal * x[self._alone]
        return y


class CudaCSROperator:
    """What `operators/csr.py` is on the processor: A on float64 vectors of shape (n,).

    Parameters
    ----------
    operator : CSROperator
        The same operator on the processor.
    sums : Sums
        Shared by the vectors of a system.
    """

    roundoff = float(np.finfo(np.float64).eps)
    row_bound = math.inf
    certain_null_space = True  # as far as a device goes: null vectors are not searched for there

    def __init__(self, operator: CSROperator, sums: Sums) -> None:
        self.sums, self.space, self.A = sums, sums.space, CudaMatrix(operator.A, sums)
        self._size = operator.A.shape[0]
        self._work: tuple[Any, Workspace] | None = None
        self._q = self.zeros()  # A p
        null = operator.null_space
        self._constants = [cuda.to_device(cells) for cells in null.rows()] if isinstance(null, Constants) else []
        self._null = [CudaVector.upload(v, sums) for v in null.vectors.T] if isinstance(null, Span) else []

    def zeros(self) -> Any:
        """Return a new zero vector, float64 of shape (n,)."""
        return CudaVector.zeros(self._size, np.float64, self.sums)

    def workspace(self, M: Any) -> Workspace:
        """Return vectors to iterate on, until the next call."""
        if self._work is None or self._work[0] is not M:
            b, x, p, r = (self.zeros() for _ in range(4))
            self._work = M, Workspace(b, x, p, r, M.zeros())
        return self._work[1]

    def embed(self, v: CudaVector, scale: float = 1.0, out: Any = None) -> Any:
        """Return scale * v in float64, a new vector or `out`."""
        return self.space.scale(float(scale), v, self.zeros() if out is None else out)

    def spread(self, v: CudaVector, factor: float, x: CudaVector) -> None:
        """Add factor * v to x, in place."""
        self.space.combine(float(factor), v, 1.0, x, x)

    def norm(self, r: CudaVector) -> float:
        """Return the Euclidean norm of r."""
        return math.sqrt(self.dot(r, r))

    def residual(self, b: CudaVector, x: CudaVector, r: CudaVector) -> float:
        """Set r to b - A x and return r.r."""
        self.A.apply(x, self._q)
        self.space.subtract(b, self._q, r)
        return self.dot(r, r)

    def conjugate(self, z: CudaVector, beta: float, p: CudaVector) -> float:
        """Set p to z + beta p and return p.A p; with beta = 0 whatever p was."""
        self.space.combine(1.0, z, beta, p, p)
        return self.sums.total(self.A.apply(p, self._q))

    def step(self, alpha: float, p: CudaVector, x: CudaVector, r: CudaVector, *, first: bool = False) -> float:
        """Add alpha p to x, or to zero, subtract alpha A p from r, p that of the last `conjugate`; return |r|^2."""
        arrays = p.array, self._q.array, x.array, r.array
        kernel = cuda_outer.update
        return self.sums.total(launch(kernel, self._size, float(alpha), *arrays, bool(first), self.sums.partials))

    def overlap(self, p: CudaVector, z: CudaVector) -> float:
        """Return (A p).z, p that of the last `conjugate`."""
        return self.dot(self._q, z)

    def image(self, p: CudaVector) -> CudaVector:
        """Return A p, a new vector."""
        return self.A @ p

    def dot(self, u: CudaVector, v: CudaVector) -> float:
        """Return u.v."""
        return self.space.dot(u, v)

    def project(self, v: CudaVector) -> bool:
        """Remove the null space from v, in place; return whether there is one."""
        for cells in self._constants:
            remove_mean(cells, v, self.sums)
        for vector in self._null:
            self.space.combine(-self.dot(vector, v), vector, 1.0, v, v)
        return bool(self._constants or self._null)
