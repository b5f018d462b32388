"""The multigrid cycle on face weights on a CUDA device, with the levels that its set-up on the processor made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import cuda

from deepcd.solvers.backends.cuda.kernels import faces as cuda_faces
from deepcd.solvers.backends.cuda.vector import CudaVector, Sums, launch, start
from deepcd.solvers.kernels.faces import levels
from deepcd.solvers.kernels.faces.records import F32, Codes, Faces, Grid
from deepcd.solvers.kernels.lanes import widened
from deepcd.solvers.preconditioners.multigrid.face_levels import halved_box

if TYPE_CHECKING:
    from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle


class CudaFaceCycle:
    """M of the cycle on face weights on the device.

    Parameters
    ----------
    M : FaceCycle
        The cycle, set up on the processor.
    faces : tuple of device arrays
        The fields of the finest level on the device, in float32, shared with the operator.
    sums : Sums
        Shared with the operator.
    """

    def __init__(self, M: FaceCycle, faces: tuple[Any, ...], sums: Sums) -> None:
        self.name, self.symmetric, self.linear, self.work = M.name, M.symmetric, M.linear, M.work
        self._text, self._size, self._sums = str(M), M.fields.extra.size, sums
        table, omegas, weights, fields, _, codes, cells, inverse = M.memory_map
        self._finest = DeviceLevel(M.grid, faces, M.omegas, M.codes, sums)
        self._levels: list[CoarseLevel] = []
        for row, lengths in zip(table.tolist(), omegas, strict=True):
            grid, own_faces = levels.grid_of(row), Faces(*map(widened, levels.faces_of(row, fields)))
            own = levels.codes_of(row, codes)
            self._levels.append(CoarseLevel(grid, uploaded(own_faces), lengths[: row[levels.STEPS]], own, sums))
        self._weights = weights.tolist()
        self._cells, self._inverse = cuda.to_device(cells), cuda.to_device(inverse)

    def __str__(self) -> str:
        return f"{self._text}; on a CUDA device"

    def zeros(self) -> Any:
        """Return a zero vector of the kind that `apply` writes: float32 on the padded box."""
        return CudaVector.zeros(self._size, np.float32, self._sums)

    def apply(self, r: CudaVector, z: CudaVector) -> float:
        """Set z to M r and return r.z."""
        self._cycle(self._finest, 0, r, z)
        return self._sums.space.dot(r, z)

    def _cycle(self, level: DeviceLevel, below: int, r: CudaVector, out: CudaVector) -> None:
        """Set `out` to what one cycle makes of r on a level; `below` is the number of the next one."""
        lower = self._levels[below]
        level.begin(r)
        level.restrict(r, lower.r)
        self._visit(below)
        level.correct(lower.z)
        level.smooth(r, out)

    def _visit(self, depth: int) -> None:
        """Set z of a coarse level to what two cycles, or the exact solution on the last one, make of its r."""
        level = self._levels[depth]
        if depth == len(self._levels) - 1:
            launch(cuda_faces.solve, self._cells.size, self._cells, self._inverse, level.r.array, level.z.array)
            return
        if self._weights[depth] == 0:
            self._cycle(level, depth + 1, level.r, level.z)
            return
        self._cycle(level, depth + 1, level.r, level.e)
        level.residual(level.r, level.e, level.t)
        self._cycle(level, depth + 1, level.t, level.z)
        self._sums.space.combine(1.0, level.e, self._weights[depth], level.z, level.z)


class _Halving(NamedTuple):
    """A transfer along one axis."""

    axis: int
    longer: Grid
    shorter: Grid
    near: Any  # codes on the device
    far: Any


class DeviceLevel:
    """A level on the device: its operator, its smoothing steps, and the transfer to the next one.

    Parameters
    ----------
    grid : Grid
        Its box.
    faces : tuple of device arrays
        The fields of its operator.
    omegas : ndarray of float32, shape (steps,)
        Lengths of its smoothing steps.
    codes : Codes
        Those of the transfer to the next level, on the processor; empty on the last one.
    sums : Sums
        Those that vectors share.
    """

    def __init__(self, grid: Grid, faces: tuple[Any, ...], omegas: F32, codes: Codes, sums: Sums) -> None:
        self._operator, self._inverse, self._omegas = (*grid, *faces[:-1]), faces[-1], list(omegas)
        self._shares = cuda_faces.division(grid.n, grid.s)
        self._halvings = _halvings(grid, codes)
        # Vectors on the boxes between this level's and the next one's, and two that are smoothed in turns
        self._between = [_zeros(step.shorter, sums) for step in self._halvings[:-1]]
        self._y, self._spare = _zeros(grid, sums), _zeros(grid, sums)

    def begin(self, r: CudaVector) -> None:
        """Smooth from zero."""
        launch(cuda_faces.begin, r.size, self._omegas[0], self._inverse, r.array, self._y.array)
        self._relax(r, self._omegas[1:])

    def smooth(self, r: CudaVector, out: CudaVector) -> None:
        """Smooth on, into `out`."""
        self._relax(r, self._omegas[:-1])
        self._step(self._omegas[-1], r, self._y, out)

    def _relax(self, r: CudaVector, omegas: list[np.float32]) -> None:
        for omega in omegas:
            self._step(omega, r, self._y, self._spare)
            self._y, self._spare = self._spare, self._y

    def _step(self, omega: np.float32, r: CudaVector, x: CudaVector, out: CudaVector) -> None:
        fields = *self._operator, self._inverse, omega
        start(cuda_faces.relax, *self._shares, *fields, r.array, x.array, out.array)

    def residual(self, r: CudaVector, x: CudaVector, out: CudaVector) -> None:
        """Set `out` to r - A x."""
        start(cuda_faces.residual, *self._shares, *self._operator, r.array, x.array, out.array)

    def restrict(self, r: CudaVector, coarse: CudaVector) -> None:
        """Set a vector of the next level to P' (r - A y), y being what has been smoothed."""
        v = self._spare
        self.residual(r, self._y, v)
        for (axis, longer, shorter, *codes), out in zip(self._halvings, [*self._between, coarse], strict=True):
            shares = cuda_faces.division(shorter.n, shorter.s)
            start(cuda_faces.ALONG[axis].gather, *shares, *longer, *shorter[:2], *codes, v.array, out.array)
            v = out

    def correct(self, coarse: CudaVector) -> None:
        """Add P e to what has been smoothed, e being a vector of the next level."""
        e = coarse
        outs = [*reversed(self._between), self._y]
        for (axis, longer, shorter, *codes), out in zip(reversed(self._halvings), outs, strict=True):
            shares, add = cuda_faces.division(longer.n, longer.s), out is self._y
            start(cuda_faces.ALONG[axis].spread, *shares, *longer, *shorter[:2], *codes, e.array, add, out.array)
            e = out


class CoarseLevel(DeviceLevel):
    """A level that is visited: r and its answer z, the answer e of the first visit, and the residual t after it.

    The parameters are those of `DeviceLevel`.
    """

    def __init__(self, grid: Grid, faces: tuple[Any, ...], omegas: F32, codes: Codes, sums: Sums) -> None:
        super().__init__(grid, faces, omegas, codes, sums)
        self.r, self.z, self.t, self.e = (_zeros(grid, sums) for _ in range(4))


def _zeros(box: Grid, sums: Sums) -> CudaVector:
    """Return a zero vector on a box."""
    return CudaVector.zeros((box.n[0] + 2) * box.s[0], np.float32, sums)


def uploaded(faces: Faces) -> tuple[Any, ...]:
    """Return the fields of an operator on the device; those of a box with two axes have one field twice."""
    w0, w1, *others = faces
    first = cuda.to_device(w0)
    return first, first if w1.ctypes.data == w0.ctypes.data else cuda.to_device(w1), *map(cuda.to_device, others)


def _halvings(grid: Grid, codes: Codes) -> list[_Halving]:
    """Return the transfers that lead to the next level, axis by axis."""
    found: list[_Halving] = []
    for axis in range(3):
        near, far = codes[2 * axis : 2 * axis + 2]
        if near.size:
            shorter = Grid(*halved_box(grid.n, grid.s, axis), grid.wrap)
            found.append(_Halving(axis, grid, shorter, cuda.to_device(near), cuda.to_device(far)))
            grid = shorter
    return found
