"""Laplacians of boxes, masks and graphs, by Kronecker products and masks, without code of `deepcd.pde`."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def chain(n: int, ends: str = "dirichlet") -> sp.csr_array:
    """Return the second difference of n points with ends "dirichlet", "neumann" or "periodic"."""
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    if ends == "neumann":
        T[0, 0] = T[-1, -1] = 1.0
    if ends == "periodic":
        T[0, n - 1] = T[n - 1, 0] = -1.0
    return sp.csr_array(T)


def lattice(shape: tuple[int, ...], *ends: str, weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> sp.csr_array:
    """Return the Laplacian of a box; `ends` for all axes, or one per axis."""
    total = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis, n in enumerate(shape):
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        term = sp.kron(sp.kron(sp.eye_array(before), chain(n, ends[axis % len(ends)])), sp.eye_array(after))
        total = sp.csr_array(total + weights[axis] * term)
    total.sort_indices()
    return total


def among(fluid: NDArray[np.bool_], held: NDArray[np.bool_] | None = None) -> sp.csr_array:
    """Return the Laplacian of the cells of a mask, with walls around; `held` cells have a Dirichlet neighbour."""
    cells = np.flatnonzero(fluid)
    off = sp.csr_array(lattice(fluid.shape, "dirichlet")[cells][:, cells])
    off = sp.csr_array(off - sp.diags_array(off.diagonal()))
    extra = np.zeros(len(cells)) if held is None else held.ravel()[cells].astype(float)
    A = sp.csr_array(off + sp.diags_array(np.abs(off).sum(axis=1) + extra))
    A.eliminate_zeros()
    return A


def changed(A: Any, *entries: tuple[int, int, float]) -> sp.csr_array:
    """Return A with some entries replaced."""
    matrix = sp.coo_array(A)
    wanted = {(i, j): value for i, j, value in entries}
    rows, cols = matrix.coords
    keep = np.ones(matrix.nnz, dtype=bool)
    for i, j in wanted:
        keep &= (rows != i) | (cols != j)
    i, j = np.array(list(wanted)).T
    data = np.concatenate([matrix.data[keep], list(wanted.values())])
    new = (np.concatenate([rows[keep], i]), np.concatenate([cols[keep], j]))
    return sp.csr_array((data, new), shape=matrix.shape)


def without(A: Any, index: Any, diagonal: float, *, cols: bool) -> sp.csr_array:
    """Return A with these rows (and columns) emptied, apart from this diagonal entry; explicit zeros are removed."""
    keep = np.ones(A.shape[0])
    keep[index] = 0
    K = sp.diags_array(keep)
    matrix = sp.csr_array((K @ A @ K if cols else K @ A) + sp.diags_array(diagonal * (1 - keep)))
    matrix.eliminate_zeros()
    return matrix


def serpentine(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask of one channel, one cell wide, that winds through each plane."""
    fluid = np.zeros(shape, dtype=bool)
    fluid[..., ::2, :] = True
    fluid[..., 1::4, -1] = True
    fluid[..., 3::4, 0] = True
    return fluid


def star(n: int) -> sp.csr_array:
    """Return the Laplacian of a star, its centre coupled to all others, plus the identity."""
    arms, centre = np.arange(1, n), np.zeros(n - 1, dtype=int)
    off = sp.coo_array((-np.ones(2 * n - 2), (np.r_[arms, centre], np.r_[centre, arms])), shape=(n, n))
    return sp.csr_array(off + sp.diags_array(1 - off.sum(axis=1)))
