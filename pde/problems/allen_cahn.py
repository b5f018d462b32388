"""The Allen-Cahn equation u_t = 0.001 u_xx + 5 (u - u^3), and its solution by a spectral method.

The problem is that of Wu, Zhu, Tan, Kartha, Lu, Comput. Methods Appl. Mech. Engrg. 403, 2023. Space is discretised by
Chebyshev collocation (Trefethen, Spectral Methods in MATLAB, 2000), time by the exponential Runge-Kutta method of order
four, whose coefficients are contour integrals (Cox and Matthews, J. Comput. Phys. 176, 2002; Kassam and Trefethen, SIAM
J. Sci. Comput. 26, 2005, equations 2.3 to 2.5). The eigenvectors of the Chebyshev Laplacian are well conditioned, so
those coefficients are computed as functions of its eigenvalues.

At the corners t = 0, x = +-1 the initial and boundary data disagree about u_t, which causes a layer of width
sqrt(0.001 t). The time steps, and the spline that interpolates, are therefore graded: uniform in sqrt(t) and in
arccos |x|. Compared with degree 799 and 1600 steps, the error is at most 1.4e-9 in that layer and 8e-10 elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from deepcd.pde.problems.contract import Points, Problem
from deepcd.pde.problems.evolution import in_time
from deepcd.pde.problems.jets import Jet

DIFFUSIVITY, RATE = 1e-3, 5.0
DEGREE = 575  # degree of the Chebyshev expansion; odd, so that no node lies at x = 0
STEPS = 500  # time steps
FINER = 3  # nodes of the spline per Chebyshev node


def allen_cahn() -> Problem:
    """Return the equation u_t = 0.001 u_xx + 5 (u - u^3) with u(0, x) = x^2 cos(pi x) and u = -1 at x = +-1.

    Returns
    -------
    Problem
        The ansatz x^2 cos(pi x) + t (1 - x^2) N meets all data. The solution is computed when it is first requested,
        which takes a second or two, and kept.
    """

    def residual(_x: Sequence[Jet], u: Jet) -> Tensor:
        return u.gradient[0] - DIFFUSIVITY * u.second[0] - RATE * (u.value - u.value**3)

    def ansatz(x: Sequence[Jet], N: Jet) -> Jet:
        t, y = x
        return y * y * (pi * y).cos() + t * (1 - y * y) * N

    def solution(points: Points) -> Points:
        t, x = points.T
        return np.asarray(_spline(DEGREE, STEPS).ev(np.sqrt(t), np.arccos(np.minimum(np.abs(x), 1))))

    return in_time(
        name="allen_cahn",
        title="u_t = 0.001 u_xx + 5 (u - u³)",
        sums=((1,),),
        residual=residual,
        ansatz=ansatz,
        solution=solution,
        solution_error=5e-9,
        recommended={"points": 1_500},
    )


@functools.cache
def _spline(degree: int, steps: int) -> RectBivariateSpline:
    """Return u as a function of sqrt(t) and arccos |x|."""
    angle = pi * np.arange(degree + 1) / degree
    half = (degree - 1) // 2  # u is even: the nodes with 0 < x < 1 are enough
    x = np.cos(angle[1 : half + 1])
    laplacian = (_differentiation(angle) @ _differentiation(angle))[1:-1, 1:-1]
    eigenvalues, V = np.linalg.eig(laplacian[:half, :half] + laplacian[:half, : half - 1 : -1])
    eigenvalues, V = DIFFUSIVITY * eigenvalues.real, V.real
    inverse = np.linalg.inv(V)

    root = np.linspace(0, 1, steps + 1)
    w = inverse @ (x**2 * np.cos(pi * x) + 1)  # coefficients of u + 1, which is zero at the ends
    history = [w]
    for dt in np.diff(root**2):
        w = _step(w, dt, eigenvalues, V, inverse)
        history.append(w)

    fine = np.linspace(0, pi / 2, FINER * half + 1)
    even = np.arange(0, degree, 2)
    at_nodes = np.cos(np.outer(angle[: half + 1], even))
    u = np.pad(np.array(history) @ V.T - 1, ((0, 0), (1, 0)), constant_values=-1)
    coefficients = np.linalg.solve(at_nodes, u.T)
    return RectBivariateSpline(root, fine, (np.cos(np.outer(fine, even)) @ coefficients).T, kx=5, ky=5)


def _differentiation(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Chebyshev differentiation matrix at the nodes x = cos(angle)."""
    n = len(angle)
    # x_i - x_j without cancellation
    apart = 2 * np.sin((angle[:, None] + angle) / 2) * np.sin((angle - angle[:, None]) / 2) + np.eye(n)
    c = (-1.0) ** np.arange(n)
    c[[0, -1]] *= 2
    D = np.outer(c, 1 / c) / apart
    return D - np.diag(D.sum(1))


def _step(
    w: NDArray[np.float64],
    dt: float,
    eigenvalues: NDArray[np.float64],
    V: NDArray[np.float64],
    inverse: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Advance w, the coefficients of u + 1 in the eigenvectors V, by a time step dt."""
    z = dt * eigenvalues[:, None] + np.exp(1j * pi * (np.arange(16) + 0.5) / 16)  # the upper half circle suffices
    e = np.exp(z)

    def mean(f: NDArray[Any]) -> NDArray[np.float64]:
        return dt * f.mean(axis=1).real

    q = mean((np.exp(z / 2) - 1) / z)
    f1 = mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3)
    f2 = 2 * mean((2 + z + e * (z - 2)) / z**3)
    f3 = mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3)
    half, full = np.exp(dt * eigenvalues / 2), np.exp(dt * eigenvalues)

    def reaction(w: NDArray[np.float64]) -> NDArray[np.float64]:
        u = V @ w - 1
        return inverse @ (RATE * (u - u**3))

    r0 = reaction(w)
    a = half * w + q * r0
    ra = reaction(a)
    b = half * w + q * ra
    rb = reaction(b)
    c = half * a + q * (2 * rb - r0)
    return full * w + f1 * r0 + f2 * (ra + rb) + f3 * reaction(c)
