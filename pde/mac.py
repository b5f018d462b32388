"""Velocities on the marker-and-cell grid: their divergence, the right-hand side of the pressure and the projection.

The normal velocity lives on the faces of the cells (Harlow and Welch, Physics of Fluids 8, 1965): component d is an
array with one more entry than the grid along axis d. The projection is Chorin's (Mathematics of Computation 22, 1968);
time step and density are folded into the pressure, so that u - grad p is free of divergence and p has the unit
length^2 / time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.grids import Cell, Grid
from deepcd.pde.periodic import joined
from deepcd.pde.poisson import PoissonSystem

Velocity = tuple[NDArray[np.float64], ...]


def swirling_flow(
    grid: Grid,
    seed: int | np.random.Generator = 0,
    *,
    stream: Sequence[float] | None = None,
    swirls: int = 8,
    solid_velocity: Sequence[ArrayLike] | None = None,
) -> Velocity:
    """Return a uniform stream with random vortices in it, cut by the solids.

    Each vortex is w x (x - c) exp(-|x - c|^2 / (2 R^2)), which is free of divergence. All divergence of the result
    comes from the cut.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    seed : int or numpy.random.Generator, default 0
        Seed of the centres, axes and sizes of the vortices.
    stream : sequence of float, optional
        The uniform part, one component per axis, in units of velocity. Default: 1 along the first axis.
    swirls : int, default 8
        Number of vortices; the speed of each is at most 1, and its radius R a tenth to a quarter of the longest edge.
    solid_velocity : sequence, optional
        As in :func:`no_penetration`.

    Returns
    -------
    tuple of ndarray of float64
        One array per axis, in units of velocity.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> from deepcd.pde import ball, domain, swirling_flow
    >>> u, v = swirling_flow(domain((12, 8), solid=ball((4, 4), 2)), seed=1)
    >>> u.shape, v.shape
    ((13, 8), (12, 9))
    """
    ndim = len(grid.shape)
    uniform = np.eye(ndim)[0] if stream is None else np.asarray(stream, dtype=float)
    if uniform.shape != (ndim,) or not np.isfinite(uniform).all():
        raise ValueError(f"stream must be one finite velocity per axis ({ndim}), got {stream!r}")
    if swirls < 0:
        raise ValueError(f"swirls must be a number of vortices from 0 up, got {swirls!r}")
    rng = np.random.default_rng(seed)
    edges = np.array(grid.shape) * grid.spacing
    center = rng.uniform(size=(swirls, ndim)) * edges
    radius = rng.uniform(0.1, 0.25, size=(swirls, 1)) * edges.max()
    spin = rng.standard_normal((swirls, 3))
    if ndim == 2:
        spin[:, :2] = 0.0  # the axis of a plane vortex is perpendicular to the plane
    # r exp(-r^2 / (2 R^2)) is at most R / sqrt(e), so this makes the largest speed of a vortex 1.
    spin *= np.exp(0.5) / (radius * np.linalg.norm(spin, axis=1, keepdims=True))

    velocity = []
    for axis, (faces, mean) in enumerate(zip(face_shapes(grid), uniform, strict=True)):
        # A vortex is a product of functions of one coordinate each, so all are summed by one contraction.
        arm, bell = [], []
        for d, n in enumerate(faces):
            x = (np.arange(n) + (0.0 if d == axis else 0.5)) * grid.spacing - center[:, d : d + 1]
            bell.append(np.exp(-0.5 * (x / radius) ** 2))
            arm.append(x * bell[-1])
        component = np.full(faces, mean)
        for i, j, sign in (((axis + 1) % 3, (axis + 2) % 3, 1.0), ((axis + 2) % 3, (axis + 1) % 3, -1.0)):
            if j < ndim:
                factors = [arm[d] if d == j else bell[d] for d in range(ndim)]
                factors[0] = factors[0] * (sign * spin[:, i : i + 1])
                subscripts = "ka,kb->ab" if ndim == 2 else "ka,kb,kc->abc"
                component += np.einsum(subscripts, *factors, optimize=True)
        velocity.append(component)
    return no_penetration(grid, velocity, solid_velocity)


def no_penetration(
    grid: Grid, velocity: Sequence[ArrayLike], solid_velocity: Sequence[ArrayLike] | None = None
) -> Velocity:
    """Return the velocity with the normal component on the faces of solids set to the solids' own velocity.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, shape of the grid but one longer along its own axis, in units of velocity. Where the box
        repeats, the first and the last face are the same, and the first counts.
    solid_velocity : sequence, optional
        Velocity of the obstacles, one entry per axis: a float, or an array over the faces of that axis. By default they
        are at rest. The walls around the box are always at rest.

    Returns
    -------
    tuple of ndarray of float64
        The velocity, in new arrays.

    Raises
    ------
    ValueError
        If an array is of the wrong shape.
    """
    result = tuple(component.copy() for component in checked_velocity(grid, velocity))
    if solid_velocity is None:
        solid_velocity = [0.0] * len(result)
    if len(solid_velocity) != len(result):
        raise ValueError(f"solid_velocity needs one entry per axis ({len(result)}), got {len(solid_velocity)}")
    for axis, (component, motion) in enumerate(zip(result, solid_velocity, strict=True)):
        own = np.asarray(motion, dtype=float)
        if own.shape not in ((), component.shape):
            raise ValueError(
                f"solid_velocity along axis {axis} must be a float or of shape {component.shape}, got {own.shape}"
            )
        low, high = sides(grid, axis)
        solid = (low == Cell.SOLID) | (high == Cell.SOLID)
        np.copyto(component, own, where=solid)
        for end, kind in zip((0, -1), grid.walls[axis], strict=True):
            if kind == "solid":
                component[_at(axis, end, component.ndim)] = 0.0
        if axis in grid.periodic:
            joined(component, axis)
    return result


def divergence(grid: Grid, velocity: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the divergence of a face velocity in each fluid cell.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, shape of the grid but one longer along its own axis, in units of velocity.

    Returns
    -------
    ndarray of float64, shape of the grid
        The divergence in units of 1 / time; 0 in cells that are not fluid.

    Raises
    ------
    ValueError
        If an array is of the wrong shape.
    """
    total = np.zeros(grid.shape)
    for axis, component in enumerate(checked_velocity(grid, velocity)):
        total += np.diff(component, axis=axis)
    total /= grid.spacing
    total[~grid.fluid] = 0.0
    return total


def pressure_rhs(system: PoissonSystem, velocity: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the b for which the solution of A p = b makes the velocity free of divergence.

    Since A is the negative Laplacian, b is minus the divergence.

    Parameters
    ----------
    system : PoissonSystem
        The pressure system, with n unknowns.
    velocity : sequence of array_like
        One array per axis, on the faces of the grid, in units of velocity. Its values on the faces of solids are taken
        as their motion; see :func:`no_penetration`.

    Returns
    -------
    ndarray of float64, shape (n,)
        The right-hand side in units of 1 / time. Its sum over each sealed chamber is zero up to rounding. Where moving
        solids change the volume of a chamber, no flow in it is free of divergence: its mean is taken out of b, and it
        remains after the projection.

    Raises
    ------
    ValueError
        If an array is of the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse.linalg import spsolve
    >>> from deepcd.pde import ball, divergence, domain, poisson, pressure_rhs, project, swirling_flow
    >>> grid = domain((16, 12), solid=ball((6, 6), 3), walls=["air", "solid"])
    >>> system, velocity = poisson(grid), swirling_flow(grid)
    >>> p = spsolve(system.A, pressure_rhs(system, velocity))
    >>> bool(np.abs(divergence(grid, project(system, velocity, p))).max() < 1e-12)
    True
    """
    return system.balanced(-system.from_field(divergence(system.grid, velocity)))


def project(system: PoissonSystem, velocity: Sequence[ArrayLike], pressure: ArrayLike) -> Velocity:
    """Subtract the pressure gradient from a velocity, on the faces between fluid and fluid or air.

    Parameters
    ----------
    system : PoissonSystem
        The pressure system, with n unknowns.
    velocity : sequence of array_like
        One array per axis, on the faces of the grid, in units of velocity.
    pressure : array_like, shape (n,)
        The solution of A p = b, in units of length^2 / time (the physical pressure times dt / density).

    Returns
    -------
    tuple of ndarray of float64
        The projected velocity, in new arrays; faces of solids and faces between air cells are unchanged.

    Raises
    ------
    ValueError
        If an array is of the wrong shape.
    """
    grid = system.grid
    result = tuple(component.copy() for component in checked_velocity(grid, velocity))
    field = np.pad(system.to_field(pressure), 1)
    for axis in grid.periodic:
        ends = np.moveaxis(field, axis, 0)
        ends[0], ends[-1] = ends[-2], ends[1]
    for axis, component in enumerate(result):
        low, high = sides(grid, axis)
        # The distance to p = 0 at the face of an air cell is only half a cell.
        nearer = 2.0 if grid.air_at == "face" else 1.0
        per_length = np.array([[1.0, 0.0, nearer], [0.0, 0.0, 0.0], [nearer, 0.0, 0.0]]) / grid.spacing
        across = tuple(slice(None) if d == axis else slice(1, -1) for d in range(field.ndim))
        component -= per_length[low, high] * np.diff(field[across], axis=axis)
    return result


def face_shapes(grid: Grid) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of face velocities, one per axis."""
    return [tuple(n + (d == axis) for d, n in enumerate(grid.shape)) for axis in range(len(grid.shape))]


def faces_of(cells: NDArray[np.bool_], grid: Grid, axis: int) -> NDArray[np.bool_]:
    """Mark the faces of an axis with a marked cell on either side."""
    beyond = [(int(d == axis),) * 2 for d in range(cells.ndim)]
    padded = np.pad(cells, beyond, mode="wrap" if axis in grid.periodic else "constant")
    low, high = (
        tuple(part if d == axis else slice(None) for d in range(cells.ndim)) for part in (slice(-1), slice(1, None))
    )
    return np.asarray(padded[low] | padded[high])


def checked_velocity(grid: Grid, velocity: Sequence[ArrayLike]) -> Velocity:
    """Return face velocities as float64 arrays; refuse them unless they fit the grid.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    velocity : sequence of array_like
        One array per axis, shape of the grid but one longer along its own axis, in units of velocity.

    Returns
    -------
    tuple of ndarray of float64
        The arrays; those that have this type already are not copied.

    Raises
    ------
    ValueError
        If an array is of the wrong shape.
    """
    arrays = tuple(np.asarray(component, dtype=np.float64) for component in velocity)
    if [array.shape for array in arrays] != face_shapes(grid):
        raise ValueError(
            f"velocity must hold one array per axis, of shapes {face_shapes(grid)} on the faces of the grid, "
            f"got {[array.shape for array in arrays]}"
        )
    return arrays


def sides(grid: Grid, axis: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the cell types on the low and the high side of every face of an axis, walls included.

    Parameters
    ----------
    grid : Grid
        A grid in two or three dimensions.
    axis : int
        The axis, from 0 up.

    Returns
    -------
    low, high : ndarray of uint8, shape of the faces of that axis
        Cell types, values of :class:`Cell`.
    """
    padded = grid.padded()
    across = tuple(slice(None) if d == axis else slice(1, -1) for d in range(padded.ndim))
    kinds = padded[across]
    return kinds[_at(axis, slice(None, -1), kinds.ndim)], kinds[_at(axis, slice(1, None), kinds.ndim)]


def _at(axis: int, where: int | slice, ndim: int) -> tuple[int | slice, ...]:
    """Return the index that selects `where` on one axis and everything on the others."""
    return tuple(where if d == axis else slice(None) for d in range(ndim))
