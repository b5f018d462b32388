"""Grid discovery: the Cartesian grid behind a bare sparse matrix, or behind the description of one.

``values.py`` reads coefficients off the entries, ``places.py`` puts the rows into a box, and every entry of the matrix
is compared with the operator of the box before it is believed.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from deepcd.pde import Grid
from deepcd.solvers.grids import places, values
from deepcd.solvers.grids.embedding import Embedding, NotAGrid, geometry, index_type
from deepcd.solvers.grids.stencils import UnitStencil, sealed_components
from deepcd.solvers.kernels import placement
from deepcd.solvers.kernels.components import find_runs, label_runs


def discover(A: csr_array, scanned: values.Scanned | None = None) -> tuple[Embedding, UnitStencil]:
    """Find the grid whose operator a matrix is.

    Parameters
    ----------
    A : csr_array, shape (n, n)
        Real; rows without off-diagonal entries are left out of the box. Explicit zeros and unsorted indices are fine.
    scanned : Scanned, optional
        What `values.scan` returned for A.

    Returns
    -------
    Embedding, UnitStencil
        Verified against every entry of A. With one connected component `position` ascends.

    Raises
    ------
    NotAGrid
        If A is not such an operator, with the reason.

    Examples
    --------
    >>> from deepcd.pde import ball, domain, poisson
    >>> from deepcd.solvers.grids.discovery import discover
    >>> embedding, stencil = discover(poisson(domain((9, 8, 7), solid=ball((4, 4, 4), 2.5))).A)
    >>> embedding.shape, stencil.scale, stencil.sealed
    ((9, 8, 7), 1.0, array([ True]))
    """
    scanned = values.scan(A) if scanned is None else scanned
    if scanned is None:
        A, scanned = values.scan_closely(A)
    pattern = places.coupled(A, scanned.degree)
    diagonal, scale, exact = scanned.diagonal[pattern.rows], scanned.scale, scanned.exact
    is_open = diagonal > scanned.degree[pattern.rows]
    starts = None if scanned.starts is None else places.runs_among(pattern.rows, scanned.starts)
    if starts is not None and not scanned.planar and (walked := places.walk(pattern, starts, diagonal)) is not None:
        embedding, box = walked
        return embedding, UnitStencil(box, scale, sealed_components(embedding.component, 1, is_open), exact)
    pieces = places.Pieces(pattern, scanned.planar)
    sealed = sealed_components(pieces.component, pieces.count, is_open)
    mismatch = None
    while True:
        wrong = pieces.misplaced()
        if not wrong.any():
            found = pieces.arrange(diagonal)
            if found is None:
                break
            embedding, box = found
            stencil = UnitStencil(box, scale, sealed, exact)
            if starts is not None and pieces.count == 1 and places.fits(pattern, starts, embedding, box):
                component = np.broadcast_to(np.int32(0), pattern.m)  # takes no memory
                return Embedding(embedding.shape, pattern.rows, embedding.position, component), stencil
            mismatch = values.compare(A, scanned.eps, embedding, stencil, wrong)
            wrong[embedding.component[places.shared(embedding, box)]] = True
            if not wrong.any():
                return found[0], stencil
        if not pieces.search(wrong):
            break
    raise NotAGrid(
        mismatch
        or f"no arrangement of the {pattern.m} coupled rows of A in a box of reasonable size agrees with all couplings "
        "(rows not in C order, a tree of narrow channels, or no grid); pass grid= if there is one"
    )


def embed(grid: Grid) -> tuple[Embedding, UnitStencil]:
    """Return place and coefficients of the Poisson matrix of a known grid.

    Parameters
    ----------
    grid : Grid
        The rows are its fluid cells in C order but for the isolated ones, as in :func:`deepcd.pde.poisson`.

    Returns
    -------
    Embedding, UnitStencil
        The box is the grid itself, without axes of one cell.

    Raises
    ------
    NotAGrid
        If no two fluid cells touch, or the box repeats.

    Examples
    --------
    >>> from deepcd.pde import Grid
    >>> from deepcd.solvers.grids.discovery import embed
    >>> embedding, stencil = embed(Grid([[0, 0, 2], [0, 1, 0]]))
    >>> stencil.diagonal[1:-1, 1:-1]
    array([[2, 2, 0],
           [1, 0, 0]], dtype=uint8)
    """
    if grid.periodic:
        raise NotAGrid(f"the box repeats along axis {grid.periodic[0]}: the matrix is solved as any other")
    kept = [axis for axis, size in enumerate(grid.shape) if size > 1]
    shape = (1,) * (2 - len(kept)) + tuple(grid.shape[axis] for axis in kept)
    neighbours, dirichlet = grid.couplings()
    touching = grid.fluid & (neighbours > 0)
    lonely = grid.fluid & (neighbours == 0) & (dirichlet > 0)  # unknowns outside the box
    if not touching.any():
        raise NotAGrid(f"no two fluid cells of the grid of shape {grid.shape} touch: solve the unknowns one by one")
    m = int(np.count_nonzero(touching))
    neighbours += dirichlet
    neighbours *= touching
    box = np.pad(neighbours.reshape(shape), 1)
    position = np.empty(m, dtype=index_type(box.size))
    placement.number_cells(box.reshape(-1), position)
    starts, ends = find_runs(box.reshape(-1))
    label, is_open = np.empty(starts.size, dtype=np.int32), touching & (dirichlet > 0)
    count = label_runs(starts, ends, geometry(shape)[1], label)
    component = np.broadcast_to(np.int32(0), m) if count == 1 else np.repeat(label, ends - starts)
    sealed = sealed_components(component, count, is_open if count == 1 else is_open[touching])
    rows = np.flatnonzero(touching[touching | lonely]) if lonely.any() else slice(None)
    return Embedding(shape, rows, position, component), UnitStencil(box, grid.spacing**-2, sealed, exact=True)
