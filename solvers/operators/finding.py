"""The operator of a grid whose couplings differ: the kinds of such grids are looked for in turn."""

from __future__ import annotations

import scipy.sparse as sp

from deepcd.solvers.grids.embedding import NotAGrid
from deepcd.solvers.grids.faces import discover_faces
from deepcd.solvers.operators.face_stencil import FaceStencilOperator


def find_faces(own: sp.csr_array, A: sp.csr_array, threads: int, around: bool) -> FaceStencilOperator:
    """Return the operator of a grid whose cells are coupled across faces, or else to all around them.

    Parameters
    ----------
    own : csr_array
        The matrix in its own precision, which says what counts as equal.
    A : csr_array
        The same matrix, or its negative, for the operator to read. Not copied.
    threads : int
        Number of threads that share a pass.
    around : bool
        Whether cells may be coupled to all around them; there are no such kernels for devices.

    Raises
    ------
    NotAGrid
        If there is none, with the reason why it is not on faces, unless it would have to be of the other kind.
    """
    from deepcd.solvers.grids.wide import NoWideBox, discover_wide

    try:
        return FaceStencilOperator(*discover_faces(own), A, threads)
    except NotAGrid as error:
        if not around:
            raise
        try:
            return FaceStencilOperator(*discover_wide(own), A, threads)
        except NoWideBox:
            raise error from None
