"""The exact solution on the coarsest level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels.records import F32
from deepcd.solvers.preconditioners.multigrid.levels import NEGLIGIBLE, Formed


class Exact(NamedTuple):
    """A dense pseudo-inverse."""

    cells: NDArray[np.int64]  # unknowns of the level
    inverse: F32  # on these


def solve_exactly(last: Formed) -> Exact:
    """Return the pseudo-inverse of a level's operator."""
    cells = np.flatnonzero(last.level.fields.diagonal)
    return Exact(cells, pseudo_inverse(last, cells))


def pseudo_inverse(last: Formed, cells: NDArray[np.intp]) -> F32:
    """Return the dense pseudo-inverse of a level's operator on its unknowns.

    Components without Dirichlet data lose their constant: (A + s V V')^-1 - V V' / s with V their normalised constants.
    """
    import scipy.linalg
    import scipy.sparse

    level, own = last.level, last.level.fields
    number = np.full(level.box.size, -1)
    number[cells] = np.arange(len(cells))
    if not len(cells):
        return np.zeros((0, 0), dtype=np.float32)
    dense = np.diag(own.diagonal[cells].astype(float))
    pairs = []
    for axis, stride in enumerate(level.box.strides):
        if stride:
            low = cells[(own.w[axis, cells] > 0) & (number[np.minimum(cells + stride, number.size - 1)] >= 0)]
            i, j = number[low], number[low + stride]
            dense[i, j] = dense[j, i] = -own.w[axis, low]
            pairs.append((i, j))
    i, j = np.concatenate(pairs, axis=1)
    graph = scipy.sparse.coo_array((np.ones(len(i)), (i, j)), shape=dense.shape)
    _, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    anchored = np.bincount(label, weights=last.dirichlet[cells], minlength=1) > NEGLIGIBLE * max(last.nominal)
    constants = np.zeros_like(dense)
    for component in np.flatnonzero(~anchored[: label.max(initial=-1) + 1]):
        members = np.flatnonzero(label == component)
        constants[np.ix_(members, members)] = 1 / len(members)
    scale = 2 * max(last.nominal)
    shifted = dense + scale * constants
    factor, fault = scipy.linalg.lapack.dpotrf(shifted.T, lower=True)  # .T in the order of LAPACK, or it would copy
    if fault:  # Dirichlet data so weak that rounding outweighs them: what they leave is a null vector
        values, vectors = np.linalg.eigh(shifted)
        sound = values > NEGLIGIBLE * values[-1]
        inverse = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
        inverse = (inverse + inverse.T) / 2
    else:  # half the work of other factors
        upper = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)[0].T
        inverse = np.triu(upper)
        inverse += np.triu(upper, 1).T
    inverse -= constants / scale
    return np.ascontiguousarray(inverse, dtype=np.float32)
