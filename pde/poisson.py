"""Finite-volume assembly of the pressure Poisson equation -div grad p = f over the fluid cells of a grid.

This is the seven-point (in 2D five-point) Laplacian on a marker-and-cell grid: solid neighbours contribute no flux
(Neumann), air neighbours hold p = 0 (Dirichlet). See Bridson, Fluid Simulation for Computer Graphics (2nd ed. 2015),
chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.pde.grids import Grid

NAMED = 5  # number of chambers and of isolated cells that `describe` lists; it counts the others


@dataclass(frozen=True, eq=False, repr=False)
class PoissonSystem:
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

    def to_field(self, x: ArrayLike, fill: float = 0.0) -> NDArray[np.float64]:
        """Spread a vector over the grid.

        Parameters
        ----------
        x : array_like, shape (n,)
            One number per unknown.
        fill : float, default 0.0
            The value of all other cells.

        Returns
        -------
        ndarray of float64, shape of the grid
            The values as a field.

        Raises
        ------
        ValueError
            If x is of another length.
        """
        vector = np.asarray(x, dtype=np.float64)
        if vector.shape != self.cells.shape:
            raise ValueError(f"x must hold one number per unknown, shape {self.cells.shape}, got {vector.shape}")
        field = np.full(self.grid.shape, fill, dtype=np.float64)
        field.reshape(-1)[self.cells] = vector
        return field

    def from_field(self, field: ArrayLike) -> NDArray[np.float64]:
        """Gather the values of the unknowns from an array over the grid.

        Parameters
        ----------
        field : array_like, shape of the grid
            One number per cell; the numbers of cells that are not unknowns are ignored.

        Returns
        -------
        ndarray of float64, shape (n,)
            The values of the unknowns.

        Raises
        ------
        ValueError
            If the field is of another shape.
        """
        array = np.asarray(field, dtype=np.float64)
        if array.shape != self.grid.shape:
            raise ValueError(f"field must have the shape of the grid, {self.grid.shape}, got {array.shape}")
        return array.reshape(-1)[self.cells]

    def describe(self) -> str:
        """Describe the system: its regions, sealed chambers and isolated cells.

        Returns
        -------
        str
            One line per finding; places are the indices of first cells in C order.
        """
        first, size = np.unique(self.component, return_index=True, return_counts=True)[1:]
        lines = [f"{len(self.cells)} unknowns in {_count(len(size), 'connected region')} of {self._box()} cells"]
        if self.sealed.any():
            chambers = sorted(zip(-size[self.sealed], self.cells[first[self.sealed]], strict=True))  # largest first
            names = [f"{_count(-n, 'cell')} at {self._index(cell)}" for n, cell in chambers]
            found = _count(len(names), "sealed chamber")
            lines.append(f"{found} without air, each fixed up to a constant: {_some(names)}")
        if len(self.isolated):
            names = [str(self._index(cell)) for cell in self.isolated]
            lines.append(f"{_count(len(names), 'isolated fluid cell')} left out: {_some(names)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return :meth:`describe`."""
        return self.describe()

    def __repr__(self) -> str:
        """Return one line with the numbers of unknowns and cells."""
        return f"<PoissonSystem: {len(self.cells)} unknowns of {self._box()} cells>"

    def _box(self) -> str:
        return " x ".join(map(str, self.grid.shape))

    def _index(self, cell: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(cell, self.grid.shape))


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


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
