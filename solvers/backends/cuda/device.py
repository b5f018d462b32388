"""The CUDA device: finding it, arrays that come from it and go back to it, the parts of a system on it.

Grids are found and preconditioners set up on the host; what they came to is uploaded once. The iteration and the
refinement around it are the same code as on the processor, on `CudaVector`s.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from deepcd.solvers.arguments import as_vector
from deepcd.solvers.backends.arrays import is_on_device, is_sparse_tensor, refuse_gradient
from deepcd.solvers.parts import Parts
from deepcd.solvers.recipes import LEARNED, RECIPES, Recipe

if TYPE_CHECKING:
    from deepcd.solvers.backends.cuda.csr import CudaMatrix
    from deepcd.solvers.backends.cuda.vector import CudaVector, Sums

INSTALL = 'pip install "deepcd[cuda]"'


def require() -> str:
    """Return the name of the CUDA device in use.

    Raises
    ------
    RuntimeError
        If the compiler for it, a driver or a device is missing; it says which.
    """
    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"
    if not simulated and find_spec("numba_cuda") is None:
        raise RuntimeError(f"no CUDA compiler: the package numba-cuda is not installed ({INSTALL})")
    from numba import cuda

    try:
        devices = len(list(cuda.gpus))
        if devices:
            return "simulated" if simulated else str(cuda.get_current_device().name)
    except cuda.cudadrv.error.CudaSupportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RuntimeError(f"no CUDA driver: {' '.join(lines[1:2]) or lines[0]}") from error
    raise RuntimeError("no CUDA device: a driver is there, but it sees none (is CUDA_VISIBLE_DEVICES empty?)")


def view(v: Any) -> Any:
    """Return an array on the device as numba knows it, in place. Waits for the stream that has made it, if it says."""
    from numba import cuda

    return cuda.as_cuda_array(v)


def to_host(v: Any) -> Any:
    """Return an array as a NumPy array, a copy if it lies on the device."""
    return view(v).copy_to_host() if is_on_device(v) else np.asarray(v)


def matrix_to_host(A: Any) -> Any:
    """Return a matrix whose arrays lie on the device as one that SciPy knows; any other as it is.

    Parameters
    ----------
    A : object
        torch's sparse CSR tensor, CuPy's csr_matrix, or a dense array with ``__cuda_array_interface__``.
    """
    if is_sparse_tensor(A):
        arrays = A.values(), A.col_indices(), A.crow_indices()
    elif not sp.issparse(A) and hasattr(A, "indptr"):
        arrays = A.data, A.indices, A.indptr
    else:
        return to_host(A) if is_on_device(A) else A
    return sp.csr_array(tuple(to_host(v) for v in arrays), shape=tuple(A.shape))


def as_cuda_vector(name: str, v: Any, n: int, sums: Sums) -> CudaVector:
    """Convert a vector to one on the device; what lies there already is not copied.

    Parameters
    ----------
    name : str
        What the caller calls it, for the error message.
    v : array with ``__cuda_array_interface__`` or array_like, shape (n,) or (n, 1)
    n : int
        Number of rows of A.
    sums : Sums

    Raises
    ------
    TypeError
        If the entries are no real floating-point numbers.
    ValueError
        If v has another shape, or holds NaN or infinity.
    """
    from deepcd.solvers.backends.cuda.vector import CudaVector

    refuse_gradient(name, v)
    if not is_on_device(v):
        return CudaVector.upload(as_vector(name, v, n), sums)
    array = view(v)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} on a CUDA device must be float32 or float64, got {array.dtype}")
    if tuple(array.shape) not in ((n,), (n, 1)):
        raise ValueError(f"{name} must have shape ({n},) or ({n}, 1) to match A, got {tuple(array.shape)}")
    if array.ndim == 2:
        array = array[:, 0]
    vector = CudaVector(array, sums)
    if not array.is_c_contiguous():
        vector = vector.copy()
    space = vector.space
    if not (math.isfinite(space.dot(vector, vector)) or math.isfinite(space.magnitude(vector))):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return vector


def like(x: Any, given: Any) -> Any:
    """Return an answer as the kind of array that the right-hand side was, without a copy if both lie on the device.

    Parameters
    ----------
    x : CudaVector, or ndarray if nothing was done on the device
    given : object
        A torch tensor gets a torch tensor, what else lies on the device an array with ``__cuda_array_interface__``,
        and anything on the host a NumPy array.
    """
    if not is_on_device(given):
        return x if isinstance(x, np.ndarray) else x.host()
    from numba import cuda

    array = cuda.to_device(x) if isinstance(x, np.ndarray) else x.array
    if type(given).__module__.split(".")[0] == "torch":
        import torch

        return torch.as_tensor(array, device=given.device)
    return array


@dataclass(frozen=True, eq=False)
class CudaParts(Parts):
    """The parts of a system on the device. `alone` and its diagonal, few as a rule, stay on the host."""

    def spread(self, v: Any, factor: Any, x: Any, operator: Any = None) -> None:
        """Add factor * v, a vector of the operator, to the coupled rows of x, in place."""
        assert self.operator is not None
        part = x[self.rows]
        self.operator.spread(v, factor, part)
        if not isinstance(self.rows, slice):
            x[self.rows] = part


def on_device(parts: Parts, sums: Sums) -> CudaParts:
    """Upload the parts of a system.

    Parameters
    ----------
    parts : Parts
        With a cycle on a grid, or with Jacobi.
    sums : Sums
    """
    from numba import cuda

    from deepcd.solvers.backends.cuda.csr import CudaCSROperator, CudaGridMatrix, CudaMatrix
    from deepcd.solvers.backends.cuda.jacobi import CudaJacobi
    from deepcd.solvers.operators.csr import CSROperator

    rows: Any = parts.rows if isinstance(parts.rows, slice) else cuda.to_device(parts.rows)
    A: Any = CudaMatrix(parts.A, sums) if sp.issparse(parts.A) else None
    operator: Any = None
    M: Any = parts.M
    if isinstance(parts.operator, CSROperator):
        operator, M = CudaCSROperator(parts.operator, sums), CudaJacobi(parts.operator.A.diagonal(), sums)
    elif parts.operator is not None:
        operator, M = _on_grid(parts, A, sums)
    if A is None:
        A = CudaMatrix(parts.A.tocsr(), sums) if operator is None else CudaGridMatrix(parts.A, operator, rows)
    return CudaParts(
        A, rows, parts.alone, parts.diagonal, operator, parts.scale, M, singular=parts.singular, exact=parts.exact
    )


def _on_grid(parts: Parts, A: CudaMatrix | None, sums: Sums) -> tuple[Any, Any]:
    """Upload the operator and the cycle of a grid; A is the matrix on the device, if its entries are kept."""
    from deepcd.solvers.backends.cuda.csr import CudaMatrix
    from deepcd.solvers.backends.cuda.face_cycle import CudaFaceCycle, uploaded
    from deepcd.solvers.backends.cuda.face_stencil import CudaFaceStencilOperator
    from deepcd.solvers.backends.cuda.multigrid import CudaMultigrid
    from deepcd.solvers.backends.cuda.stencil import CudaStencilOperator
    from deepcd.solvers.grids.stencils import FaceStencil
    from deepcd.solvers.operators.face_stencil import FaceStencilOperator
    from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
    from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle

    operator, M = parts.operator, parts.M
    if isinstance(operator, FaceStencilOperator):
        assert isinstance(M, FaceCycle)
        assert isinstance(operator.stencil, FaceStencil)
        faces = uploaded(operator.stencil.faces)
        matrix = A if A is not None and operator.A is parts.A else CudaMatrix(operator.A, sums)
        return CudaFaceStencilOperator(operator, faces, matrix, sums), CudaFaceCycle(M, faces, sums)
    assert isinstance(M, Cycle)
    if M.name != LEARNED.name:
        raise ValueError(
            f'couplings are equal all over the grid behind A: on a CUDA device there is "{LEARNED.name}" for it, '
            f'not "{M.name}"'
        )
    return CudaStencilOperator(operator, sums), CudaMultigrid(M, sums)


class Cuda:
    """The back end of a CUDA device; each instance has the memory for the sums of one system."""

    name = "cuda"
    where = "on a CUDA device"
    is_host = False

    @cached_property
    def _sums(self) -> Sums:
        from deepcd.solvers.backends.cuda.vector import Sums

        return Sums()

    def runs(self, recipe: Recipe) -> bool:
        """Return whether there are kernels for what a recipe builds."""
        return recipe in (LEARNED, RECIPES["geometric-multigrid"], RECIPES["jacobi"])

    def require(self) -> str:
        """Return the name of the device in use, or raise; see `require`."""
        return require()

    def matrix(self, A: Any) -> Any:
        """Return a matrix with its entries on the host."""
        return matrix_to_host(A)

    def vector(self, name: str, v: Any, n: int, *, columns: bool) -> CudaVector:
        """Return a vector on the device; what lies there already is not copied."""
        return as_cuda_vector(name, v, n, self._sums)

    def back(self, x: Any, given: Any) -> Any:
        """Return an answer as the kind of array that the right-hand side was."""
        return like(x, given)

    def place(self, parts: Parts) -> Parts:
        """Upload the parts of a system."""
        return on_device(parts, self._sums)

    def place_matrix(self, A: Any) -> Any:
        """Upload a matrix."""
        from deepcd.solvers.backends.cuda.csr import CudaMatrix

        return CudaMatrix(A if sp.issparse(A) else A.tocsr(), self._sums)
