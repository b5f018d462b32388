"""Advection of cell-centred scalars and of face velocities along a face velocity.

The semi-Lagrangian method fetches a value from the point that the flow comes from: it traces back by the midpoint rule
and interpolates linearly (Stam, Stable Fluids, SIGGRAPH 1999). It is stable for any time step, and of first order. The
MacCormack method carries the result back again, adds half of what was lost on the way there and back, and limits the
sum to the range of the interpolated values, so that no new extrema appear (Selle, Fedkiw, Kim, Liu and Rossignac,
Journal of Scientific Computing 35, 2008). It is of second order wherever the limiter does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.kernels.boxes import by_slabs, three_axes, three_components
from deepcd.pde.mac import Velocity
from deepcd.pde.periodic import narrowed, widened

CENTRES = 3  # the kernels' number for cell centres, in the place of the axis of a face


def advect_scalars(
    scalars: Sequence[ArrayLike],
    velocity: Sequence[ArrayLike],
    dt: float,
    spacing: float = 1.0,
    *,
    maccormack: bool = True,
    inside: ArrayLike | None = None,
    periodic: Sequence[int] = (),
    threads: int = 1,
) -> tuple[NDArray[np.float64], ...]:
    """Carry cell-centred scalars along a velocity for a time step.

    Parameters
    ----------
    scalars : sequence of array_like
        One or more arrays of the shape of the grid; they share the traces.
    velocity : sequence of array_like
        One array per axis, shape of the grid but one longer along its own axis, in units of velocity. Traces run on
        both sides of the faces of solids, so solids need a velocity, too; see :func:`extrapolate_velocity`.
    dt : float
        Time step, positive, in units of time.
    spacing : float, default 1.0
        Edge length of a cell, in units of length.
    maccormack : bool, default True
        Whether to use the MacCormack method, of second order, which takes about twice as long as the first-order one.
    inside : array_like of bool, shape of the grid, optional
        The cells whose values are valid. Traces that end in another cell or outside the box are semi-Lagrangian.
        Default: all cells.
    periodic : sequence of int, default ()
        The axes along which the box repeats; see `Grid.periodic`.
    threads : int, default 1
        Number of threads, which share the planes; the result does not depend on it.

    Returns
    -------
    tuple of ndarray of float64
        The scalars after the step, in new arrays. Traces that leave the box end on its boundary.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import advect_scalars
    >>> east = np.ones((5, 3)), np.zeros((4, 4))
    >>> (carried,) = advect_scalars([[[8.0] * 3, [4.0] * 3, [2.0] * 3, [1.0] * 3]], east, dt=1.0)
    >>> carried[:, 0].tolist()
    [8.0, 8.0, 4.0, 2.0]
    """
    flow, shape = _checked_flow(velocity, dt, spacing, threads)
    if not scalars:
        raise ValueError("scalars must hold at least one array, got none")
    fields = [_finite(scalar, "a scalar") for scalar in scalars]
    if any(field.shape != shape for field in fields):
        raise ValueError(f"scalars must have the shape of the grid, {shape}, got {[field.shape for field in fields]}")
    c, cells = dt / spacing, _cells(inside, shape)
    if periodic:
        reach = _reach(flow, c)
        fields = [widened(field, periodic, reach) for field in fields]
        flow, cells = _widened(flow, periodic, reach), widened(cells, periodic, reach)
    result = _advect(np.stack(fields), CENTRES, flow, cells.shape, c, maccormack, cells, threads)
    return tuple(narrowed(field, periodic, reach) for field in result) if periodic else result


def advect_velocity(
    velocity: Sequence[ArrayLike],
    dt: float,
    spacing: float = 1.0,
    *,
    maccormack: bool = True,
    inside: ArrayLike | None = None,
    periodic: Sequence[int] = (),
    threads: int = 1,
) -> Velocity:
    """Carry a face velocity along itself for a time step.

    Parameters
    ----------
    velocity, dt, spacing, maccormack, inside, periodic, threads
        As in :func:`advect_scalars`.

    Returns
    -------
    tuple of ndarray of float64
        The velocity after the step, in new arrays. The caller has to restore the values on the faces of solids.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import advect_velocity
    >>> u, v = advect_velocity([np.full((5, 3), 0.5), np.zeros((4, 4))], dt=0.7)
    >>> bool((u == 0.5).all() and (v == 0).all())
    True
    """
    flow, shape = _checked_flow(velocity, dt, spacing, threads)
    cells, c = _cells(inside, shape), dt / spacing
    if periodic:
        reach = _reach(flow, c)
        flow, cells = _widened(flow, periodic, reach), widened(cells, periodic, reach)
    last = len(shape) - 1
    result: list[NDArray[np.float64]] = []
    for axis, component in enumerate(flow):
        place = 2 if axis == last else axis  # in 2D the middle axis is the missing one
        result += _advect(component[None], place, flow, cells.shape, c, maccormack, cells, threads)
    if periodic:
        result = [narrowed(component, periodic, reach, axis) for axis, component in enumerate(result)]
    return tuple(result)


def _advect(
    fields: NDArray[np.float64],
    axis: int,
    flow: Velocity,
    shape: tuple[int, ...],
    c: float,
    maccormack: bool,
    inside: NDArray[np.bool_],
    threads: int,
) -> tuple[NDArray[np.float64], ...]:
    """Advect a stack of fields that live on the faces of the same axis, or at centres."""
    from deepcd.pde.kernels import advection as kernels

    flat = fields.reshape(len(fields), -1)
    n, planes = three_axes(shape), fields.shape[1]
    result, low, high = (np.empty_like(flat) for _ in range(3))
    given = n, axis, three_components(flow), inside.reshape(-1), c
    by_slabs(kernels.predict, planes, threads, *given, flat, result, low, high)
    if maccormack:
        predicted, result = result, np.empty_like(flat)
        by_slabs(kernels.correct, planes, threads, *given, flat, predicted, low, high, result)
    return tuple(result.reshape(fields.shape))


def _reach(flow: Velocity, c: float) -> int:
    """Return how many cells away a value can come from: there and back, and a cell for each interpolation."""
    return 2 * (math.ceil(max(float(np.abs(component).max()) for component in flow) * c) + 2)


def _widened(flow: Velocity, periodic: Sequence[int], reach: int) -> Velocity:
    return tuple(widened(component, periodic, reach, axis) for axis, component in enumerate(flow))


def _checked_flow(
    velocity: Sequence[ArrayLike], dt: float, spacing: float, threads: int
) -> tuple[Velocity, tuple[int, ...]]:
    """Return the velocity as float64 arrays and the shape of its grid; refuse what does not fit together."""
    flow = tuple(_finite(component, "velocity") for component in velocity)
    shapes = [component.shape for component in flow]
    ndim = len(flow)
    shape = tuple(s[d] - (d == 0) for d, s in enumerate(shapes[:1] * ndim)) if ndim and len(shapes[0]) == ndim else ()
    faces = [tuple(n + (d == axis) for d, n in enumerate(shape)) for axis in range(ndim)]
    if ndim not in (2, 3) or shapes != faces or min(shape) < 1:
        raise ValueError(
            "velocity must hold one array per axis, two or three, each one longer than the grid along its own axis, "
            f"got shapes {shapes}"
        )
    for name, value in (("dt", dt), ("spacing", spacing)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value!r}")
    if threads < 1:
        raise ValueError(f"threads must be a number from 1 up, got {threads!r}")
    return flow, shape


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return a C-ordered float64 array without infinities and NaN."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise ValueError(
            f"{name} holds NaN or infinite values; look for a step that was too long or a solve that failed"
        )
    return array


def _cells(inside: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if inside is None:
        return np.ones(shape, dtype=bool)
    cells = np.ascontiguousarray(inside, dtype=bool)
    if cells.shape != shape:
        raise ValueError(f"inside must have the shape of the grid, {shape}, got {cells.shape}")
    return cells
