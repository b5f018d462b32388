"""What the operators of grids have in common on a CUDA device, as `operators/box.py` is on the processor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch
from deepcd.solvers.space import Workspace

if TYPE_CHECKING:
    from deepcd.solvers.operators.box import BoxOperator


class CudaBoxOperator:
    """Vectors on the padded box of an embedding; as on the processor, r and p in float32.

    Parameters
    ----------
    operator : BoxOperator
        The same operator on the processor.
    sums : Sums
        Sums that the vectors of a system share.
    """

    roundoff = float(np.finfo(np.float32).eps)

    def __init__(self, operator: BoxOperator, sums: Sums) -> None:
        self.sums, self.space = sums, sums.space
        self.position = cuda.to_device(operator.embedding.position)
        self._size = operator.size
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

    def dot(self, u: CudaVector, v: CudaVector) -> float:
        """Return u.v, summed in float64."""
        return self.space.dot(u, v)

    def project(self, v: CudaVector) -> bool:
        """Remove the constants on sealed chambers from v in place; return whether there are any."""
        for cells in self._sealed:
            remove_mean(cells, v, self.sums)
        return bool(self._sealed)


def remove_mean(cells: Any, v: CudaVector, sums: Sums) -> None:
    """Subtract from v on some cells its mean over them, without asking the device for it."""
    sums.add_up(launch(cuda_outer.sum_at, cells.size, cells, v.array, sums.partials))
    launch(cuda_outer.subtract_mean, cells.size, cells, v.array, sums.result)
