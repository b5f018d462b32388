"""The pressure system of a flow whose cells are cut: by solids, a free surface, or the surface between two phases.

Two numbers belong to a face. What is open of it multiplies the flux through it (Batty, Bertails and Bridson, ACM Trans.
Graphics 26, 2007): the part of a solid lets through what the solid itself moves. A slope multiplies the gradient of the
pressure: 1 within a fluid, 1 / theta where the pressure is 0 on a surface after the part theta of the way to the next
centre (Gibou, Fedkiw, Cheng and Kang, Journal of Computational Physics 176, 2002), and the ratio of densities where
there are several (Kang, Fedkiw and Liu, Journal of Scientific Computing 15, 2000). The matrix couples two cells by the
product of both. As in `deepcd.pde.mac`, time step and density are folded into the pressure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.pde.cell_systems import CellSystem
from deepcd.pde.face_weights import FaceWeights
from deepcd.pde.grids import Cell, Grid
from deepcd.pde.mac import Velocity, checked_velocity, sides

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class CutSystem(CellSystem):
    """The pressure system of a flow in cut cells.

    Parameters
    ----------
    grid : Grid
        The cells: fluid, air at pressure zero, and those of which nothing is open, which are solid.
    opened : tuple of ndarray of float64
        The part of each face that is not in a cut solid, from 0 to 1, one array per axis.
    slopes : tuple of ndarray of float64
        What the gradient of the pressure is multiplied by on each face, not negative; 0 on faces whose velocity is
        given, as that of walls. One array per axis.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import CutSystem, Grid
    >>> opened = np.ones((4, 1)), np.ones((3, 2))
    >>> slopes = np.array([[0.0], [1.0], [2.5], [0.0]]), np.zeros((3, 2))
    >>> system = CutSystem(Grid([[0], [0], [2]]), opened, slopes)  # the surface lies 0.4 cells beside the second centre
    >>> system.A.toarray().tolist()
    [[1.0, -1.0], [-1.0, 3.5]]
    """

    grid: Grid
    opened: Velocity
    slopes: Velocity
    opening: ClassVar[str] = "air"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells of the grid per axis."""
        return self.grid.shape

    @cached_property
    def weights(self) -> FaceWeights:
        """The operator times h^2, as fields over the box."""
        faces, extra = [], np.zeros(self.shape)
        for axis, (part, slope) in enumerate(zip(self.opened, self.slopes, strict=True)):
            low, high = sides(self.grid, axis)
            weight = part * slope
            inner = np.where((low == Cell.FLUID) & (high == Cell.FLUID), weight, 0.0)
            outer = [np.where((a == Cell.FLUID) & (b == Cell.AIR), weight, 0.0) for a, b in ((high, low), (low, high))]
            n = self.shape[axis]
            faces.append(np.take(inner, range(1, n + 1), axis))
            extra += np.take(outer[0], range(n), axis) + np.take(outer[1], range(1, n + 1), axis)
        return FaceWeights(tuple(faces), extra)

    @cached_property
    def cells(self) -> NDArray[np.int64]:  # type: ignore[override]
        """Flat index (C order) of each unknown, ascending: the fluid cells that are coupled to something."""
        return self.weights.cells()

    @cached_property
    def isolated(self) -> NDArray[np.int64]:  # type: ignore[override]
        """Flat indices of the fluid cells that nothing is coupled to; their pressure is arbitrary."""
        return np.setdiff1d(np.flatnonzero(self.grid.fluid), self.cells, assume_unique=True)

    @cached_property
    def A(self) -> csr_array:
        """The matrix, shape (n, n), symmetric positive semidefinite, in units of 1 / length^2."""
        matrix = self.weights.matrix()
        matrix.data *= self.grid.spacing**-2
        return matrix

    @cached_property
    def component(self) -> NDArray[np.int32]:
        """Connected component of each unknown, shape (n,): 0, 1, ... in the order of the components' first cells."""
        return np.asarray(connected_components(self.A, directed=False)[1], dtype=np.int32)

    @cached_property
    def sealed(self) -> NDArray[np.bool_]:
        """Mask of the components that no air touches, so that the constant on them is in the null space of A."""
        return np.bincount(self.component, weights=self.from_field(self.weights.extra) > 0) == 0

    def divergence(self, velocity: Sequence[ArrayLike], motion: Sequence[F64] | None = None) -> F64:
        """Return what leaves each fluid cell per time, over the volume of a whole cell.

        Parameters
        ----------
        velocity : sequence of array_like
            One array per axis, on the faces of the grid, in units of velocity.
        motion : sequence of ndarray of float64, optional
            The velocity of the solids on the same faces. Default: they are at rest.

        Returns
        -------
        ndarray of float64, shape of the grid
            The divergence in units of 1 / time; 0 in cells that are not fluid.

        Raises
        ------
        ValueError
            If an array is of the wrong shape.

        Examples
        --------
        >>> import numpy as np
        >>> from deepcd.pde import CutSystem, Grid
        >>> opened = np.array([[1.0], [0.5]]), np.ones((1, 2))
        >>> system = CutSystem(Grid([[0]], walls="air"), opened, opened)
        >>> system.divergence([[[3.0], [3.0]], [[0.0, 0.0]]]).tolist()
        [[-1.5]]
        """
        total = np.zeros(self.shape)
        for axis, (component, part) in enumerate(zip(checked_velocity(self.grid, velocity), self.opened, strict=True)):
            flux = part * component
            if motion is not None:
                flux += (1.0 - part) * motion[axis]
            total += np.diff(flux, axis=axis)
        total /= self.grid.spacing
        total[~self.grid.fluid] = 0.0
        return total

    def project(self, velocity: Sequence[ArrayLike], pressure: ArrayLike) -> Velocity:
        """Subtract the gradient of a pressure, times the slopes, from a velocity.

        Parameters
        ----------
        velocity : sequence of array_like
            One array per axis, on the faces of the grid, in units of velocity.
        pressure : array_like, shape (n,)
            The solution of A p = -divergence, in units of length^2 / time.

        Returns
        -------
        tuple of ndarray of float64
            The projected velocity, in new arrays; it has a meaning on faces that are open, beside a fluid cell.

        Raises
        ------
        ValueError
            If an array is of the wrong shape.
        """
        result = tuple(component.copy() for component in checked_velocity(self.grid, velocity))
        field = np.pad(self.to_field(pressure), 1)
        for axis in self.grid.periodic:
            ends = np.moveaxis(field, axis, 0)
            ends[0], ends[-1] = ends[-2], ends[1]
        for axis, (component, slope) in enumerate(zip(result, self.slopes, strict=True)):
            low, high = sides(self.grid, axis)
            across = tuple(slice(None) if d == axis else slice(1, -1) for d in range(field.ndim))
            moved = (low == Cell.FLUID) | (high == Cell.FLUID)
            component -= np.where(moved, slope, 0.0) * np.diff(field[across], axis=axis) / self.grid.spacing
        return result
