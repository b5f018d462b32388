"""The matrix-free operator of a unit stencil on a CUDA device, as `operators/unit_stencil.py` is on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.box import CudaBoxOperator
from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch
from deepcd.solvers.grids.embedding import is_slender

if TYPE_CHECKING:
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator


class CudaStencilOperator(CudaBoxOperator):
    """A / scale on the padded box of an embedding; vectors as on the processor, r and p in float32.

    Parameters
    ----------
    operator : UnitStencilOperator
        The same operator on the processor; its tables are uploaded once.
    sums : Sums
        Sums that the vectors of a system share.
    """

    certain_null_space = True

    def __init__(self, operator: UnitStencilOperator, sums: Sums) -> None:
        super().__init__(operator, sums)
        self.s = tuple(operator.s)
        self.row_bound, self._slender = operator.row_bound, is_slender(operator.embedding.shape)
        self.diagonal = cuda.to_device(operator.diagonal)
        self._inner = self._size - 2 * self.s[0]  # number of entries without the first and the last plane

    def residual(self, b: CudaVector, x: CudaVector, r: CudaVector) -> float:
        """Set r to b - A x and return the square of its norm, before r is rounded."""
        arrays = self.diagonal, b.array, x.array, r.array
        return self._sum(cuda_outer.residual, *arrays)

    def conjugate(self, z: CudaVector, beta: float, p: CudaVector) -> float:
        """Set p to z + beta p and return p.A p. The new p lies in a spare array, which changes places with p's."""
        product = self._sum(cuda_outer.conjugate, self.diagonal, z.array, np.float32(beta), p.array, self._spare)
        p.array, self._spare = self._spare, p.array
        return self.overlap(p, p) if self._slender else product

    def step(self, alpha: float, p: CudaVector, x: CudaVector, r: CudaVector, *, first: bool = False) -> float:
        """Add alpha p to x, or to zero, subtract alpha A p from r, and return the square of |r|."""
        return self._sum(cuda_outer.step, self.diagonal, float(alpha), p.array, x.array, r.array, bool(first))

    def overlap(self, p: CudaVector, z: CudaVector) -> float:
        """Return (A p).z."""
        return self.dot(self.image(p), z)

    def image(self, p: CudaVector) -> CudaVector:
        """Return A p, a new vector."""
        q = self.zeros()
        launch(cuda_outer.image, self._inner, self.s, self.diagonal, p.array, q.array)
        vector: CudaVector = q
        return vector

    def _sum(self, kernel: Any, *args: Any) -> float:
        """Run a kernel over the box and return the sum that it leaves."""
        return self.sums.total(launch(kernel, self._inner, self.s, *args, self.sums.partials))
