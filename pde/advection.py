"""Advection of cell-centred scalars and of face velocities along a face velocity.

Semi-Lagrangian: a value is fetched from where the flow comes from, traced back by the midpoint rule and interpolated
linearly (Stam, Stable Fluids, SIGGRAPH 1999), stable for any time step and of first order. MacCormack: what is lost on
the way there and back again is added, half of it, and the sum limited to the values that were interpolated between, so
that no new extrema appear (Selle, Fedkiw, Kim, Liu and Rossignac, Journal of Scientific Computing 35, 2008); of second
order where the limiter is idle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.kernels.boxes import by_slabs, three_axes, three_components
from deepcd.pde.mac import Velocity

CENTRES = 3  # where the kernels expect the axis of a face


def advect_scalars(
    scalars: Sequence[ArrayLike],
    velocity: Sequence[ArrayLike],
    dt: float,
    spacing: float = 1.0,
    *,
    maccormack: bool = True,
    inside: ArrayLike | None = None,
    threads: int = 1,
) -> tuple[NDArray[np.float64], ...]:
    """Carry cell-centred scalars along a velocity for a time step.

    Parameters
    ----------
    scalars : sequence of array_like
        At least one, each of the shape of the grid; they share the traces.
    velocity : sequence of array_like
        One array per axis, shape of the grid but one longer along its own axis, in units of velocity. It is followed on
        both sides of the faces of solids: give the solids a velocity first, :func:`extrapolate_velocity`.
    dt : float
        Positive, in units of time.
    spacing : float, default 1.0
        Edge length of a cell, in units of length.
    maccormack : bool, default True
        Of second order instead of first, for about twice the time.
    inside : array_like of bool, shape of the grid, optional
        The cells whose values mean something: a trace that ends in another, or out of the box, is semi-Lagrangian.
        Default: all.
    threads : int, default 1
        They share the planes; the result does not depend on their number.

    Returns
    -------
    tuple of ndarray of float64
        New arrays. Traces that leave the box end on its boundary.

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
    return _advect(np.stack(fields), CENTRES, flow, shape, dt / spacing, maccormack, _cells(inside, shape), threads)


def advect_velocity(
    velocity: Sequence[ArrayLike],
    dt: float,
    spacing: float = 1.0,
    *,
    maccormack: bool = True,
    inside: ArrayLike | None = None,
    threads: int = 1,
) -> Velocity:
    """Carry a face velocity along itself for a time step.

    Parameters
    ----------
    velocity, dt, spacing, maccormack, inside, threads
        As in :func:`advect_scalars`.

    Returns
    -------
    tuple of ndarray of float64
        New arrays, on the same faces. What holds on the faces of solids is for the caller to restore.

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
    cells = _cells(inside, shape)
    last = len(shape) - 1
    result: list[NDArray[np.float64]] = []
    for axis, component in enumerate(flow):
        place = 2 if axis == last else axis  # what 2D lacks is the middle axis
        result += _advect(component[None], place, flow, shape, dt / spacing, maccormack, cells, threads)
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
    """Advect fields that live in one place, stacked."""
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


def _checked_flow(
    velocity: Sequence[ArrayLike], dt: float, spacing: float, threads: int
) -> tuple[Velocity, tuple[int, ...]]:
    """Return the velocity as float64 arrays and the shape of its grid, refused unless they and the step make sense."""
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
