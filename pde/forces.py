"""Forces on smoke, as accelerations of the face velocity: buoyancy, and the vorticity confinement that spins up eddies.

Both follow Fedkiw, Stam and Jensen, Visual Simulation of Smoke (SIGGRAPH 2001). The last axis points up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Grid
from deepcd.pde.kernels.boxes import by_slabs, three_axes
from deepcd.pde.mac import Velocity, checked_velocity
from deepcd.pde.periodic import narrowed, widened, widened_grid


def buoyancy(
    density: ArrayLike, temperature: ArrayLike, alpha: float, beta: float, *, periodic: bool = False
) -> NDArray[np.float64]:
    """Return the upward acceleration -alpha density + beta temperature on the faces of the last axis.

    Parameters
    ----------
    density : array_like, shape (..., n)
        Density of the smoke, at the centres of cells.
    temperature : array_like, shape (..., n)
        Temperature above that of the surrounding air, at the centres of cells.
    alpha, beta : float
        Downward acceleration per unit of density, and upward acceleration per unit of temperature.
    periodic : bool, default False
        Whether the box repeats along the last axis.

    Returns
    -------
    ndarray of float64, shape (..., n + 1)
        The mean of the values of the cells on both sides; on the faces of the box, the value of the cell inside.

    Raises
    ------
    ValueError
        If the arrays do not have the same shape.

    Examples
    --------
    >>> from deepcd.pde import buoyancy
    >>> buoyancy([[1.0, 0.0]], [[0.0, 3.0]], alpha=2.0, beta=1.0).tolist()
    [[-2.0, 0.5, 3.0]]
    """
    smoke, heat = np.asarray(density, dtype=np.float64), np.asarray(temperature, dtype=np.float64)
    if smoke.shape != heat.shape or smoke.size == 0:
        raise ValueError(f"density and temperature must have the same shape, got {smoke.shape} and {heat.shape}")
    force = beta * heat
    force -= alpha * smoke
    result = np.empty((*force.shape[:-1], force.shape[-1] + 1))
    np.add(force[..., 1:], force[..., :-1], out=result[..., 1:-1])
    result[..., 1:-1] *= 0.5
    result[..., 0], result[..., -1] = force[..., 0], force[..., -1]
    if periodic:
        result[..., [0, -1]] = 0.5 * (force[..., :1] + force[..., -1:])
    return result


def vorticity_confinement(grid: Grid, velocity: Sequence[ArrayLike], epsilon: float, threads: int = 1) -> Velocity:
    """Return epsilon h N x curl u, where N is the direction in which |curl u| grows; the force drives every eddy on.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, on the faces of the grid, in units of velocity. It is differentiated across the faces of
        solids, so solids need a velocity, too; see :func:`extrapolate_velocity`.
    epsilon : float
        Strength, in units of 1 / time, from 0 up.
    threads : int, default 1
        Number of threads, which share the planes; the result does not depend on it.

    Returns
    -------
    tuple of ndarray of float64
        One array per axis, in units of acceleration; zero on faces that are not between two fluid cells.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import domain, vorticity_confinement
    >>> grid = domain((8, 8), walls="air")
    >>> push, _ = vorticity_confinement(grid, [np.ones((9, 8)), np.ones((8, 9))], epsilon=0.3)
    >>> bool((push == 0).all())
    True
    """
    from deepcd.pde.kernels import confinement as kernels

    faces = checked_velocity(grid, velocity)
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and from 0 up, got {epsilon!r}")
    if threads < 1:
        raise ValueError(f"threads must be a number from 1 up, got {threads!r}")
    if grid.periodic:
        axes, width = grid.periodic, 3  # a force depends on velocities two cells away and a half
        wide = [widened(face, axes, width, axis) for axis, face in enumerate(faces)]
        push = vorticity_confinement(widened_grid(grid, width), wide, epsilon, threads)
        return tuple(narrowed(face, axes, width, axis) for axis, face in enumerate(push))
    n0, n1, n2 = n = three_axes(grid.shape)
    shapes = (n0 + 1, n1, n2), (n0, n1 + 1, n2), (n0, n1, n2 + 1)
    flow = list(faces) if len(faces) == 3 else [faces[0], np.zeros(shapes[1]), faces[1]]
    u, v, w = (np.ascontiguousarray(c).reshape(shape) for c, shape in zip(flow, shapes, strict=True))
    at_centres, curl, size = np.empty((3, *n)), np.empty((3, *n)), np.empty(n)
    by_slabs(kernels.centre, n0, threads, u, v, w, at_centres)
    by_slabs(kernels.curl, n0, threads, at_centres, curl, size)
    by_slabs(kernels.force, n0, threads, curl, size, at_centres)
    result = tuple(np.empty(shape) for shape in shapes)
    by_slabs(kernels.to_faces, n0, threads, at_centres, grid.fluid.reshape(n), epsilon, *result)
    return tuple(
        r.reshape(face.shape) for r, face in zip((result[0], *result[3 - len(faces) + 1 :]), faces, strict=True)
    )
