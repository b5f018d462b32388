"""Open fractions of faces and cells: exact for planes, of second order for curves, and cut-cell systems with them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from deepcd.pde import Shape, ball, box, box_mesh, diffusion, fractions, half_space, icosphere

F64 = NDArray[np.float64]


def below(normal: F64, level: float, low: F64, width: F64) -> float:
    """Return the fraction of a box in which normal . x < level; no component of the normal is 0.

    Corners are the tips of simplices that are added and taken off (Barrow and Smith, Amer. Math. Monthly 86, 1979).
    """
    slopes = np.abs(normal) * width
    start = level - normal @ low - np.minimum(normal * width, 0).sum()
    total = sum(
        (-1) ** sum(corner) * max(start - slopes @ np.array(corner), 0.0) ** len(low)
        for corner in itertools.product((0, 1), repeat=len(low))
    )
    return float(total / (math.factorial(len(low)) * np.prod(slopes)))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_planes_are_exact(ndim: int, seed: int) -> None:
    """On cells of random widths."""
    rng = np.random.default_rng(seed)
    shape = (4, 5, 3)[:ndim]
    widths = [rng.uniform(0.3, 1.5, n) for n in shape]
    normal = rng.choice([-1, 1], ndim) * rng.uniform(0.2, 1, ndim)
    point = np.array([w.sum() for w in widths]) * rng.uniform(0.3, 0.7, ndim)
    opened = fractions(half_space(tuple(point), tuple(-normal)), shape, spacing=widths)
    corners = [np.r_[0.0, np.cumsum(w)] for w in widths]
    level = float(normal @ point)
    cut = 0
    for cell in np.ndindex(*shape):
        low, width = (np.array([a[d][i] for d, i in enumerate(cell)]) for a in (corners, widths))
        expected = below(normal, level, low, width)
        cut += 0 < expected < 1
        assert opened.volume[cell] == pytest.approx(expected, abs=1e-13)
        for axis in range(ndim):
            others = [d for d in range(ndim) if d != axis]
            rest = below(normal[others], level - normal[axis] * low[axis], low[others], width[others])
            assert opened.faces[axis][cell] == pytest.approx(rest, abs=1e-13)
    assert cut > 3
    assert [face.shape for face in opened.faces] == [
        tuple(n + (d == axis) for d, n in enumerate(shape)) for axis in range(ndim)
    ]


@pytest.mark.parametrize("ndim", [2, 3])
def test_complements_fill_the_box(ndim: int) -> None:
    rng = np.random.default_rng(0)
    distance = rng.standard_normal((5,) * ndim)  # every pattern of signs
    one, other = fractions(distance, (4,) * ndim), fractions(-distance, (4,) * ndim)
    for a, b in zip((*one.faces, one.volume), (*other.faces, other.volume), strict=True):
        np.testing.assert_allclose(a + b, 1.0, rtol=1e-14)
        assert a.min() >= 0


def test_patterns_do_not_depend_on_the_orientation() -> None:
    distance = np.random.default_rng(1).standard_normal((4, 4, 4))
    opened = fractions(distance, (3, 3, 3))
    turned = fractions(np.flip(distance.transpose(2, 0, 1), 0), (3, 3, 3))
    np.testing.assert_allclose(turned.volume, np.flip(opened.volume.transpose(2, 0, 1), 0), rtol=1e-12)
    np.testing.assert_allclose(turned.faces[1], np.flip(opened.faces[0].transpose(2, 0, 1), 0), rtol=1e-12)


def test_a_surface_along_faces_closes_them() -> None:
    opened = fractions(box((1, 1), (3, 3)), (4, 4))
    assert opened.volume.tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert opened.faces[0][:, 1].tolist() == [1, 0, 0, 0, 1]
    assert len(diffusion((4, 4), opened.faces).cells) == 12


@pytest.mark.parametrize(("ndim", "size"), [(2, math.pi), (3, 4 / 3 * math.pi)])
def test_volumes_of_balls_are_of_order_two(ndim: int, size: float) -> None:
    def missing(n: int) -> float:
        opened = fractions(~ball((0.51, 0.48, 0.53)[:ndim], 0.37), (n,) * ndim, spacing=1 / n)
        return abs(float(opened.volume.mean()) - size * 0.37**ndim)

    assert np.log2(missing(10) / missing(40)) / 2 == pytest.approx(2.0, abs=0.2)


def test_meshes_and_combinations() -> None:
    shape = (16, 15, 14)
    mesh = icosphere(4).placed(scale=5, translation=(8, 7.5, 7)).shape()
    opened, exact = fractions(mesh, shape), fractions(ball((8, 7.5, 7), 5), shape)
    assert np.abs(opened.volume - exact.volume).max() < 0.01
    assert max(np.abs(a - b).max() for a, b in zip(opened.faces, exact.faces, strict=True)) < 0.01
    brick = box_mesh((1.25, 2.5, 3.75), (7.5, 8.25, 9.5)).shape() | box((9.5, 2.5, 3.75), (12.25, 8.25, 9.5))
    volume = np.prod([6.25, 5.75, 5.75]) + np.prod([2.75, 5.75, 5.75])
    missing = (1 - fractions(brick, shape).volume).sum()
    assert missing == pytest.approx(volume, rel=0.06)  # edges within a cell are cut off


def no_flux(n: int, ndim: int) -> float:
    """Return the largest error inside a ball whose surface lets nothing through, for -lap u + u = f with a reaction."""
    radius, center = 0.37, (0.51, 0.48, 0.53)[:ndim]
    opened = fractions(~ball(center, radius), (n,) * ndim, spacing=1 / n)
    system = diffusion((n,) * ndim, opened.faces, spacing=1 / n, reaction=opened.volume)
    r = np.sqrt(sum((x - c) ** 2 for x, c in zip(system.centers, center, strict=True)))
    k = math.pi / radius
    u = np.cos(k * r)
    f = (k**2 + 1) * u + (ndim - 1) * k / r * np.sin(k * r)
    return float(np.abs(spsolve(system.A, system.rhs(f * opened.volume)) - system.from_field(u)).max())


@pytest.mark.parametrize(("ndim", "n"), [(2, 24), (3, 10)])
def test_cut_cells_are_of_order_two(ndim: int, n: int) -> None:
    assert np.log2(no_flux(n, ndim) / no_flux(2 * n, ndim)) > 1.8


def test_nothing_flows_into_the_solid() -> None:
    """Row sums are zero, and a sealed half of the box is a component of its own."""
    wall = half_space((4.5, 0.0), (1.0, 0.3)) - half_space((2.5, 0.0), (1.0, 0.3))
    opened = fractions(wall, (6, 5))
    system = diffusion((6, 5), opened.faces, boundary=[("neumann", "dirichlet"), "neumann"])
    assert system.sealed.tolist() == [True, False]
    sums = np.abs(system.A.sum(axis=1))
    assert sums[system.sealed[system.component]].max() < 1e-14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solid": Shape(lambda x: x[0] < 1)}, "solid does not know the distance from its surface; combine balls"),
        ({"solid": np.ones((3, 3))}, r"one distance per corner, shape \(4, 3\), got \(3, 3\)"),
        ({"solid": np.full((4, 3), np.nan)}, "NaN or infinite"),
        ({"solid": ball((0, 0, 0), 1)}, "a shape in 3D"),
        ({"spacing": -1.0}, "spacing must be positive"),
        ({"shape": (3, 2, 2, 2)}, r"shape must be two or three positive numbers of cells"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fractions(**{"solid": ball((1, 1), 0.5), "shape": (3, 2), **arguments})
