"""Coefficients beside surfaces given by level sets: free surfaces and two phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from deepcd.pde import Cell, DiffusionSystem, Grid, diffusion, fractions, free_surface, half_space, two_phase
from deepcd.pde.interfaces import liquid_shares

F64 = NDArray[np.float64]
CENTER = (0.51, 0.48, 0.53)


def pool(phi: F64, coefficient: Any = None, **how: Any) -> DiffusionSystem:
    """Return the system of a liquid with u = 0 on its surface."""
    return diffusion(Grid(np.where(phi < 0, Cell.FLUID, Cell.AIR)), free_surface(phi, coefficient), **how)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.999])
def test_the_pressure_under_a_flat_surface_is_exact(ndim: int, part: float) -> None:
    """It is linear, and 0 at the surface, wherever between two centres that lies; the last cell has another width."""
    width = np.array([1.0, 2.0, 0.5, 1.5, 1.0])
    z = np.cumsum(width) - width / 2
    level = (1 - part) * z[2] + part * z[3]
    phi = np.broadcast_to(z - level, (3,) * (ndim - 1) + (5,))
    system = pool(phi, spacing=[1.0] * (ndim - 1) + [width])
    u = system.from_field(-phi)
    values: list[Any] = [0.0] * (ndim - 1) + [(1.0, 0.0)]  # the slope at the bottom
    assert np.abs(system.A @ u - system.rhs(values=values)).max() < 1e-12


@pytest.mark.parametrize(("ndim", "n"), [(2, 24), (3, 16)])
def test_free_surfaces_are_of_order_two(ndim: int, n: int) -> None:
    """A disc and a ball, for u = exp(x) (R^2 - r^2)."""

    def largest(n: int) -> float:
        x = diffusion((n,) * ndim, spacing=1 / n).centers
        square = sum((a - c) ** 2 for a, c in zip(x, CENTER, strict=False))
        inside = 0.37**2 - square
        system = pool(np.sqrt(square) - 0.37, spacing=1 / n)
        source = np.exp(x[0]) * (4 * (x[0] - CENTER[0]) + 2 * ndim - inside)
        error = spsolve(system.A, system.rhs(source)) - system.from_field(np.exp(x[0]) * inside)
        return float(np.abs(error).max())

    assert np.log2(largest(n) / largest(2 * n)) > 1.75


def test_a_surface_at_a_centre_counts_as_a_little_beside_it() -> None:
    phi = np.array([[-1.0, -1e-9, 1.0]])
    np.testing.assert_allclose(pool(phi).A.toarray(), [[1, -1], [-1, 1001]])
    np.testing.assert_allclose(pool(np.array([[-1.0, 0.0]])).A.toarray(), [[1.0]])


def test_surfaces_meet_solids() -> None:
    """The coefficient of the open part of each face is divided; faces away from the surface keep theirs."""
    opened = fractions(half_space((0.0, 0.25), (0.0, 1.0)), (4, 3)).faces
    phi = np.broadcast_to(np.array([[-1.6], [-0.6], [0.4], [1.4]]), (4, 3))
    faces = free_surface(phi, opened)
    np.testing.assert_allclose(faces[0][2], opened[0][2] / 0.6)
    np.testing.assert_array_equal(np.delete(faces[0], 2, 0), np.delete(opened[0], 2, 0))
    np.testing.assert_array_equal(faces[1], opened[1])
    assert opened[0][2].tolist() == [0.75, 1.0, 1.0]  # what was given is left as it was


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("part", [0.001, 0.4])
def test_two_phases_at_rest_are_exact(axis: int, part: float) -> None:
    """Where gravity pulls 1000 : 1 along an axis, the pressure is linear in either phase, and the flux is constant."""
    place = np.arange(6) + 0.5
    level = (1 - part) * place[2] + part * place[3]
    phi = np.broadcast_to(np.moveaxis((place - level).reshape(-1, 1, 1), 0, axis), (6, 6, 6))
    p = np.where(phi < 0, -1000.0 * phi, -phi)
    system = diffusion((6, 6, 6), two_phase(phi, 1000.0, 1.0))
    values: list[Any] = [(1.0, -1.0) if d == axis else 0.0 for d in range(3)]
    residual = system.A @ p.ravel() - system.rhs(values=values)
    assert np.abs(residual).max() < 1e-10


@pytest.mark.parametrize("densities", [(1000.0, 1.0), (1.0, 1000.0)])
@pytest.mark.parametrize(("ndim", "n"), [(2, 24), (3, 12)])
def test_two_phases_converge(densities: tuple[float, float], ndim: int, n: int) -> None:
    """With order two, for a drop and a bubble on whose surface the pressure is constant."""
    inner, outer = densities

    def largest(n: int) -> float:
        x = diffusion((n,) * ndim, spacing=1 / n).centers

        def pressure(at: list[F64]) -> F64:
            square = np.asarray(sum((a - c) ** 2 for a, c in zip(at, CENTER, strict=False)))
            return np.where(square < 0.31**2, inner * square, outer * square + (inner - outer) * 0.31**2)

        values = []
        for axis in range(ndim):
            at = [[np.full((1,) * ndim, end) if d == axis else x[d] for d in range(ndim)] for end in (0.0, 1.0)]
            values.append(tuple(np.squeeze(pressure(a), axis) for a in at))
        r = np.sqrt(sum((a - c) ** 2 for a, c in zip(x, CENTER, strict=False)))
        system = diffusion((n,) * ndim, two_phase(r - 0.31, inner, outer), spacing=1 / n, boundary="dirichlet")
        error = spsolve(system.A, system.rhs(-2.0 * ndim, values)) - system.from_field(pressure(list(x)))
        return float(np.abs(error).max())

    assert np.log2(largest(n) / largest(2 * n)) > 1.7


def test_densities_are_means_along_lines() -> None:
    phi = np.array([[-3.0, -1.0, 3.0], [-1.0, -1.0, 1.0]])
    along, across = two_phase(phi, 10.0, 2.0)
    np.testing.assert_allclose(1 / across, [[10, 10, 4, 2], [10, 10, 6, 2]])
    np.testing.assert_allclose(1 / along[0], [10, 10, 2])
    np.testing.assert_array_equal(along[0], along[2])
    ring = two_phase(phi, 10.0, 2.0, periodic=[1])[1]
    np.testing.assert_allclose(1 / ring[:, 0], [6, 6])
    np.testing.assert_array_equal(ring[:, 0], ring[:, -1])


def test_free_surfaces_around_a_ring() -> None:
    phi = np.array([[-1.0, -1.0, 3.0, 1.0]])
    faces = free_surface(phi, periodic=[1])[1]
    assert faces.tolist() == [[2.0, 1.0, 4.0, 1.0, 2.0]]
    assert liquid_shares(phi, periodic=[1])[1].tolist() == [[0.5, 1.0, 0.25, 0.0, 0.5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phi": np.zeros(4)}, r"two or three axes, got shape \(4,\)"),
        ({"phi": np.full((2, 2), np.inf)}, "NaN or infinite"),
        ({"periodic": [-1]}, r"axes from 0 to 1, got \[-1\]"),
        (
            {"coefficient": [np.ones((2, 2))] * 2},
            r"\[\(3, 2\), \(2, 3\)\] on the faces, got \[\(2, 2\), \(2, 2\)",
        ),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        free_surface(**{"phi": np.ones((2, 2)), **arguments})


def test_densities_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gas must be positive and finite, got 0\.0"):
        two_phase(np.ones((2, 2)), 1.0, 0.0)
