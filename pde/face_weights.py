"""A symmetric operator on a box of cells, given by the weights of its faces and an extra diagonal.

    (A y)_i = extra_i y_i + sum over the faces of cell i of w (y_i - y_j),    w >= 0, extra >= 0

Every finite-volume matrix of a diffusion equation on a Cartesian box has this form. It is positive semidefinite, and
weights and extra say exactly what the diagonal of A knows only up to rounding: whether rows sum up to zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


class FaceWeights(NamedTuple):
    """The weights between neighbouring cells of a box, and what ties cells to given values.

    Parameters
    ----------
    faces : tuple of ndarray of float64
        One array per axis, each of the shape of the box and not negative: entry i is the weight between cell i and the
        next cell along the axis. The last entries along an axis are 0, or belong to the first cells if the axis is
        periodic.
    extra : ndarray of float64, shape of the box
        What the diagonal has beyond the sum of the weights, not negative: couplings to Dirichlet data, and reaction.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import FaceWeights
    >>> along, across = np.array([[2.0, 3.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    >>> weights = FaceWeights((along, across), np.array([[0.5, 0.0], [0.0, 0.0]]))
    >>> weights.matrix().toarray().tolist()
    [[3.5, -1.0, -2.0, 0.0], [-1.0, 4.0, 0.0, -3.0], [-2.0, 0.0, 2.0, 0.0], [0.0, -3.0, 0.0, 3.0]]
    """

    faces: tuple[NDArray[np.float64], ...]
    extra: NDArray[np.float64]

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal of A as a field, of the shape of the box."""
        total = self.extra.copy()
        for axis, weight in enumerate(self.faces):
            total += weight
            total += np.roll(weight, 1, axis)
        return total

    def cells(self) -> NDArray[np.int64]:
        """Return the flat indices (C order) of the unknowns, ascending: the cells whose row of A is not empty."""
        return np.flatnonzero(self.diagonal().ravel() > 0)

    def matrix(self) -> csr_array:
        """Assemble A.

        Returns
        -------
        csr_array of float64, shape (n, n)
            The matrix over the n unknowns, :meth:`cells`, symmetric to the last bit. Column indices are sorted, they
            are int32 when that suffices, and no zeros are stored.

        Raises
        ------
        ValueError
            If an axis of fewer than three cells is periodic.
        """
        shape, ndim = self.extra.shape, len(self.faces)
        closed = [not np.take(weight, -1, axis).any() for axis, weight in enumerate(self.faces)]
        if any(n < 3 and not end for n, end in zip(shape, closed, strict=True)):
            raise ValueError(f"a periodic axis needs at least three cells, got shape {shape}")
        diagonal = self.diagonal()
        cells = np.flatnonzero(diagonal.ravel() > 0)
        before = [np.roll(weight, 1, axis) for axis, weight in enumerate(self.faces)]
        entries = np.ones(cells.shape, dtype=np.uint8)
        for weight in (*before, *self.faces):
            entries += weight.ravel()[cells] > 0
        nnz = int(entries.sum(dtype=np.int64))
        index = np.int32 if nnz <= np.iinfo(np.int32).max else np.int64
        number = np.zeros(shape, dtype=index)
        number.reshape(-1)[cells] = np.arange(len(cells), dtype=index)
        indptr = np.zeros(len(cells) + 1, dtype=index)
        np.cumsum(entries, dtype=index, out=indptr[1:])
        indices, data = np.empty(nnz, dtype=index), np.empty(nnz)
        slot = indptr[:-1].copy()  # places of the next entry of each row
        # The cells before a cell, along the first axis first, then the cell itself, then those after it.
        axes = range(ndim)
        for axis, step in [*((axis, 1) for axis in axes), (0, 0), *((axis, -1) for axis in reversed(axes))]:
            weight = (diagonal, before[axis], self.faces[axis])[step]
            value, column = weight.ravel()[cells], np.roll(number, step, axis).ravel()[cells]
            there = value > 0
            indices[slot[there]] = column[there]
            data[slot[there]] = value[there] if step == 0 else -value[there]
            np.add(slot, there, out=slot)
        A = csr_array((data, indices, indptr), shape=(len(cells), len(cells)))
        if not all(closed):  # a neighbour beyond an end comes before or after all others
            A.sort_indices()
        A.has_canonical_format = True  # saves SciPy a pass over the matrix
        return A
