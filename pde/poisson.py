"""Finite-volume assembly of the pressure Poisson equation -div grad p = f over the fluid cells of a grid.

This is the seven-point (in 2D five-point) Laplacian on a marker-and-cell grid: solid neighbours contribute no flux
(Neumann), air neighbours hold p = 0 (Dirichlet). See Bridson, Fluid Simulation for Computer Graphics (2nd ed. 2015),
chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.pde.cell_systems import CellSystem
from deepcd.pde.grids import Grid


@dataclass(frozen=True, eq=False, repr=False)
class PoissonSystem(CellSystem):
    """The matrix of a pressure Poisson problem and the places of its unknowns; :func:`poisson` makes it.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        The negative Laplacian, symmetric positive semidefinite, in units of 1 / length^2.
    grid : Grid
        The grid on which the matrix was assembled.
    cells : ndarray of int64, shape (n,)
        Flat index (C order) into the grid of each unknown, ascending.
    isolated : ndarray of int64, shape (k,)
        Flat indices of the fluid cells with neither fluid nor air beside them. Their pressure is arbitrary and their
        row of the Laplacian is empty, so they are not unknowns.
    """

    A: csr_array
    grid: Grid
    cells: NDArray[np.int64]
    isolated: NDArray[np.int64]
    opening: ClassVar[str] = "air"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells of the grid per axis."""
        return self.grid.shape

    @cached_property
    def component(self) -> NDArray[np.int32]:
        """Connected component of each unknown, shape (n,): 0, 1, ... in the order of the components' first cells."""
        if self.grid.periodic:  # whose regions go on at the other end
            return np.asarray(connected_components(self.A, directed=False)[1], dtype=np.int32)
        member = np.zeros(self.grid.shape, dtype=bool)
        member.reshape(-1)[self.cells] = True
        labels, _ = ndimage.label(member)
        return np.asarray(labels.reshape(-1)[self.cells] - 1, dtype=np.int32)

    @cached_property
    def sealed(self) -> NDArray[np.bool_]:
        """Mask of the components that no air touches, so that the constant on them is in the null space of A."""
        sealed = np.ones(self.component.max(initial=-1) + 1, dtype=bool)
        faces = self.A.diagonal() * self.grid.spacing**2
        sealed[self.component[faces > np.diff(self.A.indptr) - 0.5]] = False
        return sealed


def poisson(grid: Grid) -> PoissonSystem:
    """Assemble the negative Laplacian over the fluid cells of a grid, in C order.

    Parameters
    ----------
    grid : Grid
        The grid, of any size per axis.

    Returns
    -------
    PoissonSystem
        Row i of its A, times h^2, holds the number of fluid neighbours plus that of air neighbours (counted twice with
        ``air_at="face"``) on the diagonal, and -1 for each fluid neighbour. Column indices are sorted, and they are
        int32 when that suffices.

    Examples
    --------
    >>> from deepcd.pde import box, domain, poisson
    >>> system = poisson(domain((4, 3), walls=["solid", ("solid", "air")]))
    >>> system.A.shape, system.A.nnz
    ((12, 12), 46)
    >>> system.A.diagonal()[:3].tolist()  # three cells in a corner column, the last of them under air
    [2.0, 3.0, 3.0]
    >>> shell = box((1, 1, 1), (7, 7, 7)) - box((2, 2, 2), (5, 5, 5))
    >>> print(poisson(domain((8, 8, 8), solid=shell, walls="air")))
    323 unknowns in 2 connected regions of 8 x 8 x 8 cells
    1 sealed chamber without air, each fixed up to a constant: 27 cells at (2, 2, 2)
    """
    full = grid.padded()
    strides = [int(np.prod(full.shape[axis + 1 :])) for axis in range(full.ndim)]
    before, after = [-s for s in strides], strides[::-1]  # neighbours in ascending order of their index
    kind = full.reshape(-1)
    weight = np.array([1, 0, 2 if grid.air_at == "face" else 1], dtype=np.uint8)[kind]

    fluid = np.flatnonzero(grid.fluid)
    position = np.ravel_multi_index([i + 1 for i in np.unravel_index(fluid, grid.shape)], full.shape)
    diagonal = np.zeros(position.shape, dtype=np.uint8)
    for offset in before + after:
        diagonal += weight[position + offset]
    alone = diagonal == 0
    isolated, cells = fluid[alone], fluid[~alone]
    position, diagonal = position[~alone], diagonal[~alone]

    unknown = np.zeros(kind.shape, dtype=np.uint8)
    unknown[position] = 1
    _continue(unknown.reshape(full.shape), grid.periodic)
    entries = np.ones(position.shape, dtype=np.uint8)
    for offset in before + after:
        entries += unknown[position + offset]
    nnz = int(entries.sum(dtype=np.int64))
    index = np.int32 if nnz <= np.iinfo(np.int32).max else np.int64

    number = np.full(kind.shape, -1, dtype=index)
    number[position] = np.arange(len(position), dtype=index)
    _continue(number.reshape(full.shape), grid.periodic)
    indptr = np.zeros(len(position) + 1, dtype=index)
    np.cumsum(entries, dtype=index, out=indptr[1:])
    scale = grid.spacing**-2
    indices = np.empty(nnz, dtype=index)
    data = np.full(nnz, -scale)
    slot = indptr[:-1].copy()  # places of the next entry of each row
    for offset in [*before, 0, *after]:
        column = number[position + offset]
        there = column >= 0
        indices[slot[there]] = column[there]
        if offset == 0:
            data[slot] = diagonal * scale
        np.add(slot, there, out=slot)
    A = csr_array((data, indices, indptr), shape=(len(position), len(position)))
    if grid.periodic:  # a neighbour beyond an end comes before or after all others
        A.sort_indices()
    A.has_canonical_format = True  # saves SciPy a pass over the matrix
    return PoissonSystem(A=A, grid=grid, cells=cells, isolated=isolated)


def _continue(padded: NDArray[np.generic], axes: tuple[int, ...]) -> None:
    """Set the rings beyond both ends of axes to the entries at the other ends."""
    for axis in axes:
        entries = np.moveaxis(padded, axis, 0)
        entries[0], entries[-1] = entries[-2], entries[1]
