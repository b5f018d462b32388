"""Linear systems whose unknowns are cells of a box: vectors and fields become each other, and regions have names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

NAMED = 5  # number of chambers and of isolated cells that `describe` lists; it counts the others


class CellSystem(ABC):
    """A matrix and the places of its unknowns; :func:`poisson` and :func:`diffusion` make such systems.

    Attributes
    ----------
    A : csr_array of float64, shape (n, n)
        The matrix, symmetric positive semidefinite.
    cells : ndarray of int64, shape (n,)
        Flat index (C order) into the box of each unknown, ascending.
    isolated : ndarray of int64, shape (k,)
        Flat indices of the fluid cells whose row is empty, so that they are not unknowns.
    opening : str
        What a region lacks if it is sealed, for :meth:`describe`.
    """

    A: csr_array
    cells: NDArray[np.int64]
    isolated: NDArray[np.int64]
    opening: ClassVar[str]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Number of cells of the box per axis."""

    @property
    @abstractmethod
    def component(self) -> NDArray[np.int32]:
        """Connected component of each unknown, shape (n,): 0, 1, ... in the order of the components' first cells."""

    @property
    @abstractmethod
    def sealed(self) -> NDArray[np.bool_]:
        """Mask of the components on which the constant is in the null space of A."""

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
        field = np.full(self.shape, fill, dtype=np.float64)
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
        if array.shape != self.shape:
            raise ValueError(f"field must have the shape of the grid, {self.shape}, got {array.shape}")
        return array.reshape(-1)[self.cells]

    def balanced(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a right-hand side without its mean over each sealed component, where A has no solution with it.

        Parameters
        ----------
        b : ndarray of float64, shape (n,)
            The right-hand side.

        Returns
        -------
        ndarray of float64, shape (n,)
            A new array, unless nothing is sealed.
        """
        if self.sealed.any():
            size = np.bincount(self.component)
            # Two passes are needed: the first mean has a rounding error relative to a large offset.
            for _ in range(2):
                mean = np.bincount(self.component, weights=b) / size
                b = b - np.where(self.sealed, mean, 0.0)[self.component]
        return b

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
            lines.append(f"{found} without {self.opening}, each fixed up to a constant: {_some(names)}")
        if len(self.isolated):
            names = [str(self._index(cell)) for cell in self.isolated]
            lines.append(f"{_count(len(names), 'isolated fluid cell')} left out: {_some(names)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return :meth:`describe`."""
        return self.describe()

    def __repr__(self) -> str:
        """Return one line with the numbers of unknowns and cells."""
        return f"<{type(self).__name__}: {len(self.cells)} unknowns of {self._box()} cells>"

    def _box(self) -> str:
        return " x ".join(map(str, self.shape))

    def _index(self, cell: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(cell, self.shape))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
