"""The volume that a closed triangle surface encloses: winding numbers, by definition and on lattices of points.

The winding number of a surface around a point is the signed solid angle that the surface fills, seen from the point,
over 4 pi. It is 1 inside a surface whose triangles turn counterclockwise seen from outside, 0 outside, and 2 where two
such surfaces overlap (Jacobson, Kavan and Sorkine-Hornung, ACM Trans. Graphics 32, 2013). For a closed surface it is
also the number of times that a ray to infinity leaves through the surface minus the number of times that it enters,
which is what `winding_on_lattice` counts.

Such counts go wrong for rays through edges and vertices. Here every plane of rays cuts the edges first, at points that
depend on the edge only. It joins them to the segments of a polygon that is closed in spite of rounding, and a ray
counts the segments whose half-open range of coordinates it is in. So no ray counts an edge twice or misses it. Ties are
decided as if each point were moved up a little along the last axis, by far less along the one before it, and by still
less along the first: in a box, low <= x < high.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

PAIRS = 1 << 17  # number of pairs of a point and a triangle that are processed together, in about 20 MB

Floats = NDArray[np.float64]


def winding_number(vertices: Floats, triangles: NDArray[np.int64], points: Floats) -> Floats:
    """Return the winding number of a triangle surface around points, by its definition.

    The solid angles of the triangles are those of Van Oosterom and Strackee (IEEE Trans. Biomedical Engineering 30,
    1983).

    Parameters
    ----------
    vertices : ndarray of float64, shape (n, 3)
        Coordinates, in units of length.
    triangles : ndarray of int64, shape (m, 3)
        Rows of `vertices`, counterclockwise seen from outside. The surface need not be closed.
    points : ndarray of float64, shape (..., 3)
        The points, in units of length.

    Returns
    -------
    ndarray of float64, shape (...)
        Winding numbers. For a closed surface they are integers up to about m 1e-16, except for points on the surface.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import icosphere
    >>> from deepcd.pde.kernels.winding import winding_number
    >>> ball = icosphere(2)
    >>> winding_number(ball.vertices, ball.triangles, np.array([[0.3, 0.2, 0.1], [2.0, 0.0, 0.0]])).round(9) + 0.0
    array([1., 0.])
    """
    corners, flat = vertices[triangles], points.reshape(-1, 3)
    winding = np.zeros(len(flat))
    step = max(1, PAIRS // len(triangles))
    for start in range(0, len(flat), step):
        a, b, c = np.moveaxis(corners - flat[start : start + step, None, None], 2, 0)
        x, y, z = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
        volume = (a * np.cross(b, c)).sum(-1)
        cosine = x * y * z + (a * b).sum(-1) * z + (b * c).sum(-1) * x + (c * a).sum(-1) * y
        winding[start : start + step] = np.arctan2(volume, cosine).sum(-1) / (2 * np.pi)
    return winding.reshape(points.shape[:-1])


def winding_on_lattice(
    vertices: Floats, triangles: NDArray[np.int64], x: Floats, y: Floats, z: Floats
) -> NDArray[np.int16]:
    """Return the winding number of a closed triangle surface around the points of a lattice.

    Parameters
    ----------
    vertices : ndarray of float64, shape (n, 3)
        Coordinates, in units of length.
    triangles : ndarray of int64, shape (m, 3)
        Rows of `vertices`, counterclockwise seen from outside; every edge belongs to two triangles, once in each
        direction.
    x, y, z : ndarray of float64, shapes (n0,), (n1,), (n2,)
        The coordinates of the points along each axis, ascending.

    Returns
    -------
    ndarray of int16, shape (n0, n1, n2)
        Winding numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import box_mesh
    >>> from deepcd.pde.kernels.winding import winding_on_lattice
    >>> cube, line = box_mesh((0, 0, 0), (2, 2, 2)), np.arange(4.0)
    >>> winding_on_lattice(cube.vertices, cube.triangles, line, line, line)[1].tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    winding = np.zeros((len(x), len(y), len(z)), dtype=np.int16)
    _add_crossings(vertices, triangles, x, y, z, winding)
    return np.cumsum(winding, axis=2, dtype=np.int16, out=winding)


@njit(cache=True, nogil=True)
def _add_crossings(
    vertices: Floats, triangles: NDArray[np.int64], x: Floats, y: Floats, z: Floats, winding: NDArray[np.int16]
) -> None:
    """Add the direction of each crossing of a triangle by a line along the last axis to the first point above it."""
    for t in range(len(triangles)):
        low = min(vertices[triangles[t, 0], 0], vertices[triangles[t, 1], 0], vertices[triangles[t, 2], 0])
        high = max(vertices[triangles[t, 0], 0], vertices[triangles[t, 1], 0], vertices[triangles[t, 2], 0])
        for i in range(np.searchsorted(x, low), len(x)):
            if x[i] >= high:
                break
            # By the half-open rule, one of the three edges goes up through the plane of x and one goes down.
            y_up = z_up = y_down = z_down = 0.0
            for e in range(3):
                p, q = triangles[t, e], triangles[t, (e + 1) % 3]
                up = vertices[p, 0] <= x[i] < vertices[q, 0]
                if up or vertices[q, 0] <= x[i] < vertices[p, 0]:
                    # Both triangles of the edge interpolate from its lower end, so that they meet in the same point.
                    a, b = (p, q) if up else (q, p)
                    part = (x[i] - vertices[a, 0]) / (vertices[b, 0] - vertices[a, 0])
                    y_cut = vertices[a, 1] + part * (vertices[b, 1] - vertices[a, 1])
                    z_cut = vertices[a, 2] + part * (vertices[b, 2] - vertices[a, 2])
                    if up:
                        y_up, z_up = y_cut, z_cut
                    else:
                        y_down, z_down = y_cut, z_cut
            # Rays along the last axis leave through triangles whose normal points up.
            if y_up < y_down:
                turn, y_low, z_low, y_high, z_high = -1, y_up, z_up, y_down, z_down
            else:
                turn, y_low, z_low, y_high, z_high = 1, y_down, z_down, y_up, z_up
            for j in range(np.searchsorted(y, y_low), len(y)):
                if y[j] >= y_high:
                    break
                z_cut = z_low + (y[j] - y_low) / (y_high - y_low) * (z_high - z_low)
                k = np.searchsorted(z, z_cut)
                if k < len(z):
                    winding[i, j, k] += turn
