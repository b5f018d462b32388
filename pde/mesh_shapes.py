"""The set of points that a closed surface of triangles encloses, as a shape with its distance.

Membership is that of winding numbers, see `deepcd.pde.kernels.winding`; the distance is that of the nearest triangle.
On a lattice both are found per triangle, otherwise per point and triangle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.domains import Points, Shape

Floats = NDArray[np.float64]


def enclosed_shape(vertices: Floats, triangles: NDArray[np.int64], name: str) -> Shape:
    """Return the points with a winding number other than zero.

    Parameters
    ----------
    vertices : ndarray of float64, shape (n, 3)
        Coordinates in units of length.
    triangles : ndarray of int64, shape (m, 3)
        Rows of `vertices`, counterclockwise seen from outside; the surface is closed.
    name : str
        Name of the surface in messages.

    Returns
    -------
    Shape
        The shape, as :meth:`Mesh.shape` describes it.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import box_mesh
    >>> from deepcd.pde.mesh_shapes import enclosed_shape
    >>> brick = box_mesh((0, 0, 0), (2, 3, 4))
    >>> shape = enclosed_shape(brick.vertices, brick.triangles, "brick")
    >>> shape.distance([np.array([0.5, 5.0]), np.array([1.0, 3.0]), np.array([2.0, 8.0])]).tolist()
    [-0.5, 5.0]
    """

    def contains(x: Points) -> NDArray[np.bool_]:
        from deepcd.pde.kernels.winding import winding_number, winding_on_lattice

        if len(x) != 3:
            raise ValueError(f"a mesh, {name}, in 3D was put on a grid in {len(x)}D")
        lines = _lines(x)
        if lines is None:
            points = np.stack(np.broadcast_arrays(*x), axis=-1).astype(np.float64)
            return np.abs(winding_number(vertices, triangles, points)) > 0.5
        inside = winding_on_lattice(vertices, triangles, *lines) != 0
        return np.broadcast_to(inside, np.broadcast_shapes(*(np.shape(a) for a in x)))

    def distance(x: Points) -> Floats:
        from deepcd.pde.kernels import triangles as kernels

        inside, lines = contains(x), _lines(x)
        result = np.empty(inside.shape)
        if lines is None:
            points = np.stack(np.broadcast_arrays(*x), axis=-1).astype(np.float64).reshape(-1, 3)
            kernels.distance(vertices, triangles, points, result.reshape(-1))
        else:
            reach = 2 * max(np.diff(line).max(initial=0.0) for line in lines) or np.inf  # a single point has no gap
            kernels.distance_on_lattice(vertices, triangles, *lines, reach, result)
        return np.where(inside, -result, result)

    return Shape(contains, distance)


def _lines(x: Points) -> tuple[Floats, Floats, Floats] | None:
    """Return the ascending coordinates along each axis if the points are a lattice of them, otherwise None."""
    lines = []
    for axis, values in enumerate(x):
        if np.ndim(values) != 3 or np.size(values) == 0:
            return None
        along = values[tuple(slice(None) if d == axis else slice(1) for d in range(3))]
        line = np.ascontiguousarray(along, dtype=np.float64).ravel()
        if not (np.array_equal(values, np.broadcast_to(along, values.shape)) and (line[1:] >= line[:-1]).all()):
            return None
        lines.append(line)
    return lines[0], lines[1], lines[2]
