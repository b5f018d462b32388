"""Exponential time steps, and periodic solutions by Fourier series.

Cox and Matthews, "Exponential time differencing for stiff systems", J. Comput. Phys. 176, 2002, in the form of Kassam
and Trefethen, "Fourth-order time-stepping for stiff PDEs", SIAM J. Sci. Comput. 26, 2005, equations 2.3 to 2.5.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

Array = NDArray[Any]

# Points of the circle around each eigenvalue over which coefficients are averaged. The functions are entire, and the
# error of the average is their Taylor coefficient of this order, below 1e-16.
CIRCLE = 16
FINER = 4  # nodes of the spline per node of the Fourier grid
MARGIN = 32  # nodes of the spline beyond each end of the period; what happens at its ends fades by 0.43 per node


def exponential_step(linear: Array, nonlinear: Callable[[Array], Array], dt: float) -> Callable[[Array], Array]:
    """Return one time step for w' = linear w + nonlinear(w), of order four.

    Parameters
    ----------
    linear : ndarray of float64 or complex128, shape (n,)
        A diagonal matrix, which is solved for exactly.
    nonlinear : callable
        Maps w, shape (n,), to an array of the same shape.
    dt : float
        The step in time.

    Returns
    -------
    callable
        Maps w to its value after the step.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.problems.spectral import exponential_step
    >>> step = exponential_step(np.array([-1.0]), lambda w: w - w**2, 0.1)
    >>> round(float(step(np.array([1.0]))[0]), 6), round(1 / 1.1, 6)
    (0.909091, 0.909091)
    """
    z = dt * linear[:, None] + np.exp(2j * pi * (np.arange(CIRCLE) + 0.5) / CIRCLE)
    e = np.exp(z)

    def mean(f: Array) -> Array:
        average: Array = dt * f.mean(axis=1)
        return average if np.iscomplexobj(linear) else average.real

    q = mean((np.exp(z / 2) - 1) / z)
    f1 = mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3)
    f2 = 2 * mean((2 + z + e * (z - 2)) / z**3)
    f3 = mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3)
    half, full = np.exp(dt * linear / 2), np.exp(dt * linear)

    def step(w: Array) -> Array:
        r0 = nonlinear(w)
        a = half * w + q * r0
        ra = nonlinear(a)
        b = half * w + q * ra
        rb = nonlinear(b)
        c = half * a + q * (2 * rb - r0)
        result: Array = full * w + f1 * r0 + f2 * (ra + rb) + f3 * nonlinear(c)
        return result

    return step


def periodic_solution(
    start: Callable[[Array], Array],
    linear: Callable[[Array], Array],
    *,
    ends: tuple[float, float],
    until: float,
    modes: int,
    frames: int,
    substeps: int,
) -> RectBivariateSpline:
    """Return the periodic solution of u_t + u u_x = L u, where L has constant coefficients.

    Parameters
    ----------
    start : callable
        Maps places, float64 of shape (modes,), to u at time 0.
    linear : callable
        The symbol of L as a function of the symbol of d/dx, such as ``lambda D: D**2``; complex of shape (m,).
    ends : (float, float)
        The period in space.
    until : float
        The last time.
    modes : int
        Number of nodes in space, even.
    frames, substeps : int
        Number of intervals of time between the nodes of the spline, and of time steps in each of them.

    Returns
    -------
    RectBivariateSpline
        The function u(t, x), of degree five in both.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.problems.spectral import periodic_solution
    >>> diffusing = periodic_solution(lambda x: 1e-6 * np.sin(x), lambda D: D**2, ends=(0, 2 * np.pi), until=1.0,
    ...                               modes=16, frames=10, substeps=1)
    >>> round(1e6 * float(diffusing.ev(1.0, 2.0)), 4), round(float(np.exp(-1) * np.sin(2)), 4)
    (0.3345, 0.3345)
    """
    low, length = ends[0], ends[1] - ends[0]
    derivative = 2j * pi / length * np.arange(modes // 2 + 1)

    def steepening(w: Array) -> Array:
        return -0.5 * derivative * np.fft.rfft(np.fft.irfft(w, modes) ** 2)

    step = exponential_step(linear(derivative), steepening, until / (frames * substeps))
    w = np.fft.rfft(start(low + length * np.arange(modes) / modes))
    history = [w]
    for _ in range(frames):
        for _ in range(substeps):
            w = step(w)
        history.append(w)

    fine = FINER * modes
    u = np.pad(FINER * np.fft.irfft(history, fine), ((0, 0), (MARGIN, MARGIN)), mode="wrap")
    x = low + length * np.arange(-MARGIN, fine + MARGIN) / fine
    return RectBivariateSpline(np.linspace(0, until, frames + 1), x, u, kx=5, ky=5)
