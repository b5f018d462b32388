"""Points of the rows of a matrix, as a caller gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from deepcd.solvers.arguments import refuse_type
from deepcd.solvers.backends.arrays import host_array


def as_points(points: ArrayLike, n: int) -> NDArray[np.float64]:
    """Convert the points of the rows of A to float64 of shape (n, d), or raise.

    Parameters
    ----------
    points : array_like, shape (n, d)
        Coordinates of the node of each row, in any unit of length, d = 2 or 3.
    n : int
        Number of rows of A.

    Returns
    -------
    ndarray of float64, shape (n, d), in C order
        May share its memory with `points`.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they have another shape, or are not finite.
    """
    array = host_array("points", points, "an array of real numbers, a row of coordinates for each row of A")
    refuse_type("points", array.dtype)
    if array.ndim != 2 or array.shape[1] not in (2, 3) or array.shape[0] != n:
        raise ValueError(
            f"points must have shape ({n}, 2) or ({n}, 3), a row for each row of A, got {array.shape}{_hint(array, n)}"
        )
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        row, axis = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"points must be finite, got {array[row, axis]} at points[{row}, {axis}]")
    return array


def _hint(array: NDArray[Any], n: int) -> str:
    """Return what to do about points of the wrong shape."""
    if array.ndim != 2 or not array.shape[0]:
        return ""
    nodes = array.shape[0]
    if array.shape in ((2, n), (3, n)):
        return ": give points.T"
    if n > nodes and n % nodes == 0 and array.shape[1] in (2, 3):
        return (
            f". With {n // nodes} unknowns for each node, points are of no use; for elasticity give "
            "B=deepcd.pde.rigid_body_modes(points) instead"
        )
    return ""


def is_of_simplices(A: sp.csr_array, points: NDArray[np.float64]) -> bool:
    """Return whether rows have the length that they have on triangles and tetrahedra, but not on Cartesian grids."""
    fewest, most = (5.0, 8.0) if points.shape[1] == 2 else (7.0, 22.0)  # 5 or 9 entries in 2D, 7 or 27 in 3D
    return fewest * A.shape[0] < A.nnz < most * A.shape[0]
