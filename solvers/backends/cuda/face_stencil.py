"""The operator of a grid with face weights on a CUDA device, as `operators/face_stencil.py` is on the processor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.box import CudaBoxOperator
from deepcd.solvers.backends.cuda.kernels import faces as cuda_faces
from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch, start

if TYPE_CHECKING:
    from deepcd.solvers.backends.cuda.csr import CudaMatrix
    from deepcd.solvers.operators.face_stencil import FaceStencilOperator


class CudaFaceStencilOperator(CudaBoxOperator):
    """A / scale on the padded box of an embedding.

    The iteration applies A to differences in float32; residuals are computed from the entries of A in float64.

    Parameters
    ----------
    operator : FaceStencilOperator
        The same operator on the processor; its fields are uploaded once.
    faces : tuple of device arrays
        The fields of `operator.stencil.faces` on the device, shared with the preconditioner.
    A : CudaMatrix
        The matrix whose rows the operator stands for.
    sums : Sums
        Sums that the vectors of a system share.
    """

    def __init__(self, operator: FaceStencilOperator, faces: tuple[Any, ...], A: CudaMatrix, sums: Sums) -> None:
        super().__init__(operator, sums)
        self.A, self.row_bound, self._scale = A, operator.row_bound, operator.stencil.scale
        rows = operator.embedding.rows
        self._rows = rows if isinstance(rows, slice) else cuda.to_device(rows)
        self._place, self._faces = operator.grid, faces[:-1]
        self._shares = cuda_faces.division(operator.n, operator.s)
        sums.reserve(math.prod(self._shares[0]))
        self._q = CudaVector.zeros(self._size, np.float32, sums)  # A p

    @property
    def certain_null_space(self) -> bool:
        """Whether nothing is left to find: null vectors but constants on chambers are not searched for on a device."""
        return not self._sealed

    def residual(self, b: CudaVector, x: CudaVector, r: CudaVector) -> float:
        """Set r to b - A x and return the square of its norm, before r is rounded."""
        left = b.copy()
        product = self._product(x)
        launch(cuda_outer.put, product.size, self.position, product.array, -1 / self._scale, 1.0, left.array)
        self.space.copy(left, out=r)
        return self.dot(left, left)

    def conjugate(self, z: CudaVector, beta: float, p: CudaVector) -> float:
        """Set p to z + beta p and return p.A p. The new p lies in a spare array, which changes places with p's."""
        start(
            cuda_faces.conjugate, *self._shares, *self._place, *self._faces, z.array, np.float32(beta),
            p.array, self._spare, self._q.array, self.sums.partials,
        )  # fmt: skip
        p.array, self._spare = self._spare, p.array
        return self.sums.total(math.prod(self._shares[0]))

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
        product = self._product(p.astype(np.float64, copy=False))
        return self.embed(product, 1 / self._scale)

    def _product(self, x: CudaVector) -> CudaVector:
        """Return the coupled rows of scale A x, from the entries of A."""
        part = self.extract(x)
        if isinstance(self._rows, slice):
            return self.A @ part
        spread = CudaVector.zeros(self.A.shape[0], np.float64, self.sums)
        spread[self._rows] = part
        coupled: CudaVector = (self.A @ spread)[self._rows]
        return coupled
