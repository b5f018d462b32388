"""Cartesian grids of fluid, solid and air cells: the domain of a pressure Poisson problem.

Every cell is fluid (an unknown pressure), solid (a Neumann wall) or air (a Dirichlet condition p = 0). This is the
marker-and-cell convention of Harlow and Welch (Physics of Fluids 8, 1965): pressures at cell centres, velocities on
faces.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SLAB = 8  # number of planes that are processed together, so that they stay in the cache

Walls = str | Sequence[str | Sequence[str]]


class Cell(enum.IntEnum):
    """What fills a cell of a grid."""

    FLUID = 0
    SOLID = 1
    AIR = 2


@dataclass(frozen=True, eq=False)
class Grid:
    """A Cartesian box of fluid, solid and air cells.

    Parameters
    ----------
    cells : array_like of int, shape (n0, n1) or (n0, n1, n2)
        Cell types, values of :class:`Cell`. Each axis may have any size from 1 up.
    walls : str or sequence, default "solid"
        The cells beyond the faces of the box: "solid" or "air" for all, or one entry per axis, each of them a str or a
        pair (low, high). Along an axis that is "periodic", of at least three cells, the box repeats.
    spacing : float, default 1.0
        Edge length h of a cell, in units of length.
    air_at : {"center", "face"}, default "center"
        The place where p = 0 holds for air: the centre of the air cell (coefficient 1 / h^2) or the face between fluid
        and air (coefficient 2 / h^2).

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import Grid
    >>> grid = Grid(np.zeros((4, 3, 2), dtype=np.uint8), walls=["solid", "solid", ("solid", "air")])
    >>> grid.shape, grid.unknowns
    ((4, 3, 2), 24)
    """

    cells: NDArray[np.uint8]
    walls: Walls = "solid"
    spacing: float = 1.0
    air_at: Literal["center", "face"] = "center"

    def __init__(
        self,
        cells: ArrayLike,
        walls: Walls = "solid",
        spacing: float = 1.0,
        air_at: Literal["center", "face"] = "center",
    ) -> None:
        array = np.asarray(cells)
        if array.ndim not in (2, 3) or array.size == 0:
            raise ValueError(f"cells must be a non-empty 2D or 3D array of cell types, got shape {array.shape}")
        if not np.isin(array, (Cell.FLUID, Cell.SOLID, Cell.AIR)).all():
            raise ValueError("cells may hold 0 (fluid), 1 (solid) and 2 (air) only; use the members of deepcd.pde.Cell")
        if not (np.isfinite(spacing) and spacing > 0):
            raise ValueError(f"spacing must be a positive finite length, got {spacing!r}")
        if air_at not in ("center", "face"):
            raise ValueError(f'air_at must be "center" or "face", got {air_at!r}')
        fixed = np.array(array, dtype=np.uint8, order="C")
        fixed.setflags(write=False)
        object.__setattr__(self, "cells", fixed)
        pairs = _wall_pairs(walls, array.ndim)
        if any("periodic" in pair and n < 3 for pair, n in zip(pairs, array.shape, strict=True)):
            raise ValueError(f"a periodic axis needs at least three cells, got shape {array.shape}")
        object.__setattr__(self, "walls", pairs)
        object.__setattr__(self, "spacing", float(spacing))
        object.__setattr__(self, "air_at", air_at)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells per axis."""
        return self.cells.shape

    @property
    def periodic(self) -> tuple[int, ...]:
        """The axes along which the box repeats."""
        return tuple(axis for axis, pair in enumerate(self.walls) if "periodic" in pair)

    @property
    def fluid(self) -> NDArray[np.bool_]:
        """Mask of the fluid cells, shape of the grid."""
        return np.equal(self.cells, Cell.FLUID)

    @property
    def unknowns(self) -> int:
        """Number of fluid cells, isolated ones included."""
        return int(np.count_nonzero(self.fluid))

    def couplings(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Count the neighbours of every cell, fluid or not.

        Returns
        -------
        neighbours : ndarray of uint8, shape of the grid
            Number of fluid cells that share a face with the cell.
        dirichlet : ndarray of uint8, shape of the grid
            Number of air cells that share a face with the cell, counted twice where p = 0 lies on the face.

        Examples
        --------
        >>> from deepcd.pde import Grid
        >>> neighbours, dirichlet = Grid([[0, 0, 2], [0, 1, 0]], air_at="face").couplings()
        >>> neighbours.tolist(), dirichlet.tolist()
        ([[2, 1, 2], [1, 3, 0]], [[0, 2, 0], [0, 0, 2]])
        """
        cells, inner = self.padded(), tuple(slice(1, -1) for _ in self.shape)
        neighbours, dirichlet = (np.zeros(self.shape, dtype=np.uint8) for _ in range(2))
        weight = np.uint8(1 if self.air_at == "center" else 2)
        for start in range(0, self.shape[0], SLAB):  # intermediate results of a slab stay in the cache
            slab = cells[start : start + SLAB + 2]
            near, air = neighbours[start : start + SLAB], dirichlet[start : start + SLAB]
            for axis in range(len(self.shape)):
                for side in (slice(None, -2), slice(2, None)):
                    beside = slab[(*inner[:axis], side, *inner[axis + 1 :])]
                    near += beside == Cell.FLUID
                    air += (beside == Cell.AIR) * weight
        return neighbours, dirichlet

    def padded(self) -> NDArray[np.uint8]:
        """Return the cell types with one ring of wall cells around them.

        Returns
        -------
        ndarray of uint8
            An array longer by two along each axis. Edges and corners of the ring are solid; they touch no face of a
            cell.
        """
        full = np.full([n + 2 for n in self.shape], Cell.SOLID, dtype=np.uint8)
        inner = tuple(slice(1, -1) for _ in self.shape)
        full[inner] = self.cells
        for axis, pair in enumerate(self.walls):
            for end, kind in zip((0, -1), pair, strict=True):
                face: list[int | slice] = [*inner]
                face[axis] = end
                other: list[int | slice] = [slice(None)] * full.ndim
                other[axis] = -1 - end  # beyond a periodic end come the cells of the other end
                full[tuple(face)] = self.cells[tuple(other)] if kind == "periodic" else Cell[kind.upper()]
        return full


def _wall_pairs(walls: Walls, ndim: int) -> tuple[tuple[str, str], ...]:
    """Expand the short forms of ``walls`` to one (low, high) pair per axis."""
    entries = [walls] * ndim if isinstance(walls, str) else list(walls)
    if len(entries) != ndim:
        raise ValueError(f"walls needs one entry per axis ({ndim}), got {len(entries)}: {walls!r}")
    pairs = tuple((e, e) if isinstance(e, str) else tuple(e) for e in entries)
    for pair in pairs:
        if pair != ("periodic", "periodic") and (len(pair) != 2 or any(kind not in ("solid", "air") for kind in pair)):
            raise ValueError(f'each wall is "solid", "air" or a pair of them, or an axis is "periodic", got {pair!r}')
    return pairs  # type: ignore[return-value]
