"""The matrix-free operator of a unit stencil on a CUDA device, as `operators/unit_stencil.py` is on the processor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch
from deepcd.solvers.grids.embedding import is_slender
from deepcd.solvers.space import Workspace

if TYPE_CHECKING:
    from deepcd.solvers.operators.unit_stencil import UnitStencilOperator


class CudaStencilOperator:
    """A / scale on the padded box of an embedding; vectors as on the processor, r and p in float32.

    Parameters
    ----------
    operator : UnitStencilOperator
        The same operator on the processor; its tables are uploaded once.
    sums : Sums
        Sums that the vectors of a system share.
    """

    roundoff = float(np.finfo(np.float32).eps)
    certain_null_space = True

    def __init__(self, operator: UnitStencilOperator, sums: Sums) -> None:
        self.sums, self.space, self.s = sums, sums.space, tuple(operator.s)
        self.row_bound, self._slender = operator.row_bound, is_slender(operator.embedding.shape)
        self.diagonal = cuda.to_device(operator.diagonal)
        self.position = cuda.to_device(operator.embedding.position)
        self._size = operator.diagonal.size
        self._inner = self._size - 2 * self.s[0]  # number of entries without the first and the last plane
        self._work: tuple[Any, Workspace] | None = None
        self._spare: Any = None
        self._sealed = [cuda.to_device(cells) for cells in operator.sealed]

    def zeros(self) -> Any:
        """Return a zero vector on the padded box, float64."""
        return CudaVector.zeros(self._size, np.float64, self.sums)

    def workspace(self, M: Any) -> Workspace:
        """Return work vectors to iterate on, which may be used until the next call."""
        if self._work is None or self._work[0] is not M:
            p, r, spare = (CudaVector.zeros(self._size, np.float32, self.sums) for _ in range(3))
            self._spare = spare.array
            self._work = M, Workspace(self.zeros(), self.zeros(), p, r, M.zeros())
        return self._work[1]

    def embed(self, v: CudaVector, scale: float = 1.0, out: Any = None) -> Any:
        """Return scale * v on the padded box; v has one entry per row of the embedding."""
        box = self.zeros() if out is None else out
        launch(cuda_outer.put, v.size, self.position, v.array, float(scale), 0.0, box.array)
        return box

    def extract(self, box: CudaVector) -> CudaVector:
        """Return the entries of the unknowns, in the order of the embedding's rows."""
        entries: CudaVector = box[self.position]
        return entries

    def spread(self, box: CudaVector, factor: float, v: CudaVector) -> None:
        """Add factor * box on the unknowns to v, which has one entry per row of the embedding, in place."""
        self.space.combine(float(factor), box[self.position], 1.0, v, v)

    def norm(self, r: CudaVector) -> float:
        """Return the norm of r."""
        return math.sqrt(self.dot(r, r))

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

    def dot(self, u: CudaVector, v: CudaVector) -> float:
        """Return u.v, summed in float64."""
        return self.space.dot(u, v)

    def project(self, v: CudaVector) -> bool:
        """Remove the constants on sealed chambers from v in place; return whether there are any."""
        for cells in self._sealed:
            remove_mean(cells, v, self.sums)
        return bool(self._sealed)

    def _sum(self, kernel: Any, *args: Any) -> float:
        """Run a kernel over the box and return the sum that it leaves."""
        return self.sums.total(launch(kernel, self._inner, self.s, *args, self.sums.partials))


def remove_mean(cells: Any, v: CudaVector, sums: Sums) -> None:
    """Subtract from v on some cells its mean over them, without asking the device for it."""
    sums.add_up(launch(cuda_outer.sum_at, cells.size, cells, v.array, sums.partials))
    launch(cuda_outer.subtract_mean, cells.size, cells, v.array, sums.result)
