"""Rigid-body motions, the near null space of elasticity."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

THIN = 1e-12  # extent along an axis, relative to the coordinates, below which the points have none


def rigid_body_modes(points: ArrayLike) -> NDArray[np.float64]:
    """Return the translations and rotations of a set of points: what smoothed aggregation of elasticity wants as B.

    Parameters
    ----------
    points : array_like, shape (n, d)
        Coordinates of the nodes, d = 2 or 3.

    Returns
    -------
    ndarray of float64, shape (d * n, 3) for d = 2 or (d * n, 6) for d = 3
        A column for each of the d translations, then for the rotation in the plane, or about each axis, around the
        centre of the points. Row d i + j is component j of node i: (u_x, u_y[, u_z]) of node 0, then of node 1, and so
        on, as scikit-fem, PyAMG and most programs number them. Every column has the norm of a translation by one,
        the root of n.

    Raises
    ------
    TypeError, ValueError
        If points are not real and finite, not of that shape, or all on one line in 3D, or in one place in 2D, so that a
        rotation moves none of them.

    Notes
    -----
    Rows of prescribed components are left out together with those of the matrix: ``rigid_body_modes(points)[free]``.
    Why smoothed aggregation wants them: Vanek, Mandel and Brezina, Computing 56 (1996).

    Examples
    --------
    >>> from deepcd.pde import rigid_body_modes
    >>> rigid_body_modes([[0, 0], [2, 0], [2, 2], [0, 2]]).round(3)[:4]
    array([[ 1.   ,  0.   ,  0.707],
           [ 0.   ,  1.   , -0.707],
           [ 1.   ,  0.   ,  0.707],
           [ 0.   ,  1.   ,  0.707]])
    """
    coordinates = np.asarray(points)
    if coordinates.dtype.kind not in "fiu":
        raise TypeError(f"points must be real numbers, got an array of type {coordinates.dtype}")
    if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3) or not coordinates.size:
        raise ValueError(f"points must hold 2 or 3 coordinates per node, shape (n, d), got shape {coordinates.shape}")
    if not np.isfinite(coordinates).all():
        node = int(np.flatnonzero(~np.isfinite(coordinates).all(axis=1))[0])
        raise ValueError(f"points must be finite, got {coordinates[node].tolist()} for node {node}")
    n, d = coordinates.shape
    centred = coordinates - coordinates.mean(axis=0, dtype=np.float64)
    # Extents along the principal axes. One is enough for the rotation of a plane, two are for those of space.
    extents = np.linalg.svd(np.linalg.qr(centred, mode="r"), compute_uv=False)
    if np.count_nonzero(extents > THIN * np.linalg.norm(coordinates)) < d - 1:
        where = "lie on one line" if d == 3 else "coincide"
        raise ValueError(f"points must be those of a body, but all {n} {where}, so that a rotation moves none of them")
    pairs = list(itertools.combinations(range(d), 2))
    modes = np.zeros((n, d, d + len(pairs)))
    for axis in range(d):
        modes[:, axis, axis] = 1.0
    for column, (i, j) in enumerate(pairs, d):
        modes[:, i, column] = -centred[:, j]
        modes[:, j, column] = centred[:, i]
    modes = modes.reshape(n * d, -1)
    modes[:, d:] *= np.sqrt(n) / np.linalg.norm(modes[:, d:], axis=0)
    return modes
