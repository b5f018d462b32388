"""Finite volumes of diffusion: every entry against a plain loop, orders of accuracy, jumps, conservation, ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from deepcd.data import right_hand_side
from deepcd.pde import Cell, DiffusionSystem, FaceWeights, Grid, diffusion, poisson

F64 = NDArray[np.float64]
SHAPES = [(4, 5), (1, 6), (3, 4, 5), (4, 1, 3)]


def stretched(n: int, length: float = 1.0) -> F64:
    """Return n widths that vary smoothly by a factor of four."""
    t = np.linspace(0, 1, n + 1)
    return length * np.diff(t + 0.6 * np.sin(2 * np.pi * t) / (2 * np.pi))


def random_cells(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.choice([Cell.FLUID, Cell.SOLID, Cell.AIR], size=shape, p=[0.7, 0.2, 0.1]).astype(np.uint8)


def plain_matrix(grid: Grid, k: F64, widths: list[F64], c: F64, ends: list[Any]) -> F64:
    """Return the dense matrix over all cells by one loop over cells and their faces."""
    number = np.arange(k.size).reshape(k.shape)
    A = np.zeros((k.size, k.size))
    for cell in np.ndindex(*k.shape):
        if grid.cells[cell] != Cell.FLUID:
            continue
        i, h = number[cell], [w[j] for w, j in zip(widths, cell, strict=True)]
        A[i, i] += c[cell] * np.prod(h)
        for axis, (end, step) in itertools.product(range(k.ndim), enumerate((-1, 1))):
            place, n = list(cell), k.shape[axis]
            place[axis] += step
            area, own = np.prod(h) / h[axis], h[axis] / (2 * k[cell])
            if ends[axis] != "periodic" and not 0 <= place[axis] < n:
                kind = ends[axis][end]
                if kind == "dirichlet":
                    A[i, i] += area / own
                elif kind != "neumann":
                    A[i, i] += area / (own + 1 / kind[1])
                continue
            place[axis] %= n
            other = tuple(place)
            resistance = own + widths[axis][other[axis]] / (2 * k[other])
            if grid.cells[other] == Cell.FLUID:
                A[i, i] += area / resistance
                A[i, number[other]] -= area / resistance
            elif grid.cells[other] == Cell.AIR:
                A[i, i] += area / (own if grid.air_at == "face" else resistance)
    return A


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("air_at", ["center", "face"])
@pytest.mark.parametrize("seed", range(3))
def test_every_entry(shape: tuple[int, ...], air_at: Literal["center", "face"], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid(random_cells(shape, rng), air_at=air_at)
    k, c = 10 ** rng.uniform(-4, 4, shape), rng.random(shape) * (rng.random(shape) < 0.5)
    widths = [rng.uniform(0.1, 2.0, n) for n in shape]
    kinds: list[Any] = ["dirichlet", "neumann", ("robin", 0.7)]
    ends: list[Any] = [tuple(kinds[i] for i in rng.integers(0, 3, 2)) for _ in shape]
    if shape[-1] >= 3:
        ends[-1] = "periodic"
    system = diffusion(grid, k, spacing=widths, reaction=c, boundary=ends)
    dense = plain_matrix(grid, k, widths, c, ends)
    np.testing.assert_array_equal(system.cells, np.flatnonzero(np.diag(dense)))
    np.testing.assert_allclose(system.A.toarray(), dense[np.ix_(system.cells, system.cells)], rtol=1e-12)
    np.testing.assert_array_equal(np.sort(np.r_[system.cells, system.isolated]), np.flatnonzero(grid.fluid))
    assert not (system.A - system.A.T).data.any()


@pytest.mark.parametrize("shape", [(7, 6), (5, 6, 4)], ids=str)
@pytest.mark.parametrize("air_at", ["center", "face"])
@pytest.mark.parametrize("seed", range(3))
def test_a_constant_coefficient_gives_the_pressure_matrix(
    shape: tuple[int, ...], air_at: Literal["center", "face"], seed: int
) -> None:
    """Times the volume of a cell."""
    rng = np.random.default_rng(seed)
    walls = ["periodic", *(tuple(rng.choice(["solid", "air"], size=2)) for _ in shape[1:])]
    grid = Grid(random_cells(shape, rng), walls, spacing=0.5, air_at=air_at)
    system, other = diffusion(grid), poisson(grid)
    np.testing.assert_allclose(system.A.toarray(), other.A.toarray() * 0.5 ** len(shape), rtol=1e-14)
    for name in ("cells", "isolated", "component", "sealed"):
        np.testing.assert_array_equal(getattr(system, name), getattr(other, name))


def error(system: DiffusionSystem, u: F64, b: F64) -> float:
    return float(np.abs(spsolve(system.A, b) - system.from_field(u)).max())


def smooth(n: int, ndim: int, widths: Callable[[int], F64]) -> float:
    """Return the largest error for a smooth coefficient and reaction, with every kind of end."""
    lengths = [1.0, 1.2, 0.9][:ndim]
    spacing = [length * widths(n) for length in lengths]
    ends: list[Any] = ["dirichlet", (("robin", 2.0), "neumann"), ("neumann", "dirichlet")][:ndim]
    x = diffusion((n,) * ndim, spacing=spacing).centers
    phase, rate = [0.3, 0.5, 0.2], [2.0, 1.5, 2.5]

    def factors(of: Callable[[F64], F64], at: tuple[F64, ...], only: int) -> F64:
        """Return the product of sines in which one factor is another function."""
        result: F64 = np.ones(())
        for d in range(ndim):
            t = rate[d] * at[d] + phase[d]
            result = result * (of(t) if d == only else np.sin(t))
        return result

    def k(at: tuple[F64, ...]) -> F64:
        return np.asarray(np.exp(sum((0.5 + 0.3 * d) * at[d] for d in range(ndim))))

    u = factors(np.sin, x, 0)
    slopes = [rate[d] * factors(np.cos, x, d) for d in range(ndim)]
    f = (
        k(x) * (sum(r**2 for r in rate[:ndim]) * u - sum((0.5 + 0.3 * d) * slopes[d] for d in range(ndim)))
        + (1 + u) * u
    )
    values = []
    for d in range(ndim):
        pair = []
        for end, kind in enumerate(ends[d] if isinstance(ends[d], tuple) else (ends[d],) * 2):
            at = tuple(np.full((1,) * ndim, end * lengths[d]) if a == d else x[a] for a in range(ndim))
            flux = (2 * end - 1) * k(at) * rate[d] * factors(np.cos, at, d)
            here = factors(np.sin, at, d)
            data = here if kind == "dirichlet" else flux if kind == "neumann" else flux + kind[1] * here
            pair.append(np.squeeze(np.broadcast_to(data, [1 if a == d else n for a in range(ndim)]), axis=d))
        values.append(tuple(pair))
    system = diffusion((n,) * ndim, k(x), spacing=spacing, reaction=1 + u, boundary=ends)
    return error(system, u, system.rhs(f, values))


@pytest.mark.parametrize(("ndim", "n"), [(2, 32), (3, 8)])
@pytest.mark.parametrize("widths", [lambda n: np.full(n, 1 / n), stretched], ids=["uniform", "stretched"])
def test_smooth_coefficients_are_of_order_two(ndim: int, n: int, widths: Callable[[int], F64]) -> None:
    coarse, fine = smooth(n, ndim, widths), smooth(2 * n, ndim, widths)
    assert np.log2(coarse / fine) > 1.85
    assert fine < 1e-2


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_piecewise_linear_solutions_across_a_jump_are_exact(ndim: int, axis: int) -> None:
    """With a coefficient of 1 : 1e6 in layers along an axis and cells of random widths."""
    rng = np.random.default_rng(axis)
    widths = [rng.uniform(0.2, 1.0, 7) for _ in range(ndim)]
    k = np.where(np.arange(7) // 2 % 2, 1e6, 1.0)
    resistance = np.cumsum(widths[axis] / k)
    exact = (resistance - 0.5 * widths[axis] / k) / resistance[-1]
    shape = [7 if d == axis else 1 for d in range(ndim)]
    ends = ["dirichlet" if d == axis else "neumann" for d in range(ndim)]
    values = [(0.0, 1.0) if d == axis else 0.0 for d in range(ndim)]
    system = diffusion((7,) * ndim, np.broadcast_to(k.reshape(shape), (7,) * ndim), spacing=widths, boundary=ends)
    u = np.broadcast_to(exact.reshape(shape), (7,) * ndim)
    u = system.from_field(u)
    assert (np.abs(system.A @ u - system.rhs(values=values)) <= 1e-14 * (abs(system.A) @ u)).all()


def test_jumps_at_faces_are_of_order_two() -> None:
    """Of 1 : 1e6 along x = 1/2, with u = g(x) cos(pi y) / k, where g is 0 at the jump."""

    def largest(n: int) -> float:
        x, y = diffusion((n, n), spacing=1 / n).centers
        k = np.where(x < 0.5, 1.0, 1e6) * np.ones((n, n))
        g = np.sin(3 * (x - 0.5)) * np.cos(np.pi * y)
        system = diffusion((n, n), k, spacing=1 / n, boundary=["dirichlet", "neumann"])
        sides = [(np.sin(3 * s) * np.cos(np.pi * y[0]) / rate) for s, rate in ((-0.5, 1.0), (0.5, 1e6))]
        b = system.rhs((9 + np.pi**2) * g, [tuple(sides), 0.0])
        return float(np.abs(k * (system.to_field(spsolve(system.A, b)) - g / k)).max())

    assert np.log2(largest(16) / largest(32)) > 1.9


def test_a_coefficient_on_faces_is_that_of_the_flux() -> None:
    """Harmonic means of cells, given on the faces, are the same operator; a face with 0 is closed."""
    rng = np.random.default_rng(0)
    k = 10 ** rng.uniform(-1, 1, (4, 5))
    inner = [2 / (1 / np.delete(k, -1, axis) + 1 / np.delete(k, 0, axis)) for axis in range(2)]
    ends = [np.take(k, [end], axis) for axis in range(2) for end in (0, -1)]
    on_faces = tuple(np.concatenate([ends[2 * a], inner[a], ends[2 * a + 1]], axis=a) for a in range(2))
    for boundary in ("neumann", "dirichlet"):
        expected = diffusion((4, 5), k, boundary=boundary).A
        np.testing.assert_allclose(diffusion((4, 5), on_faces, boundary=boundary).A.toarray(), expected.toarray())
    on_faces[0][2] = 0.0
    assert diffusion((4, 5), on_faces).component.max() == 1


def test_what_leaves_a_cell_enters_its_neighbour() -> None:
    """The sum of A u is what flows out through Dirichlet ends, and nothing if there is none."""
    rng = np.random.default_rng(1)
    k, widths = 10 ** rng.uniform(-3, 3, (6, 5, 4)), [rng.uniform(0.5, 2, n) for n in (6, 5, 4)]
    u = rng.standard_normal(k.size)
    closed = diffusion(k.shape, k, spacing=widths, boundary=["neumann", "periodic", "neumann"])
    assert abs((closed.A @ u).sum()) < 1e-10 * np.abs(closed.A @ u).sum()
    np.testing.assert_allclose(closed.A.sum(axis=1), 0, atol=1e-12 * closed.A.max())
    assert closed.sealed.all()
    opened = diffusion(k.shape, k, spacing=widths, boundary=[("dirichlet", "neumann"), "periodic", "neumann"])
    outflow = (2 * k[0] * u.reshape(k.shape)[0] / widths[0][0] * np.outer(widths[1], widths[2])).sum()
    np.testing.assert_allclose((opened.A @ u).sum(), outflow, rtol=1e-8)
    assert not opened.sealed.any()


def test_sources_and_fluxes_balance() -> None:
    system = diffusion((3, 4), 2.0, spacing=[np.array([1.0, 2.0, 3.0]), 0.5])
    assert system.volumes.sum() == 12.0
    assert system.rhs(source=1.5).sum() == 18.0
    np.testing.assert_allclose(system.rhs(values=[(1.0, 2.0), ([1, 2, 3], 0.0)]).sum(), 2.0 + 4.0 + 1 + 4 + 9)


@pytest.mark.parametrize("widths", [lambda n: np.full(n, 1 / n), stretched], ids=["uniform", "stretched"])
def test_periodic_boxes_are_of_order_two(widths: Callable[[int], F64]) -> None:
    def largest(n: int) -> float:
        system = diffusion((n, n), spacing=[widths(n)] * 2)
        x, y = (2 * np.pi * c for c in system.centers)
        k, u = 2 + np.sin(x), np.cos(x) * np.sin(y)
        f = 4 * np.pi**2 * (2 * k * u + np.cos(x) * np.sin(x) * np.sin(y)) + u
        shape = np.ones((n, n))
        system = diffusion((n, n), k * shape, spacing=[widths(n)] * 2, reaction=1.0, boundary="periodic")
        return error(system, u, system.rhs(f))

    assert np.log2(largest(24) / largest(48)) > 1.9


def test_periodic_boxes_do_not_know_where_they_begin() -> None:
    """Moving the coefficient and the widths around the ring renumbers the matrix."""
    rng = np.random.default_rng(2)
    k, width = rng.random((4, 5)), rng.random(5)
    A = diffusion((4, 5), k, spacing=[1.0, width], boundary="periodic").A.toarray()
    moved = diffusion((4, 5), np.roll(k, 2, 1), spacing=[1.0, np.roll(width, 2)], boundary="periodic").A.toarray()
    order = np.roll(np.arange(20).reshape(4, 5), 2, 1).ravel()
    np.testing.assert_allclose(moved, A[np.ix_(order, order)], rtol=1e-14)
    on_faces = tuple(rng.random([n + (d == axis) for d, n in enumerate((4, 5))]) for axis in range(2))
    first = diffusion((4, 5), on_faces, boundary="periodic").A
    on_faces[0][-1] = 7.0  # the last face is the first
    assert not (diffusion((4, 5), on_faces, boundary="periodic").A - first).data.any()


def test_positive_semidefinite_with_the_null_space_that_it_names() -> None:
    k = np.ones((6, 5))
    k[2] = 0.0  # a wall
    system = diffusion((6, 5), k, boundary=[("dirichlet", "neumann"), "neumann"])
    values, vectors = np.linalg.eigh(system.A.toarray())
    assert values[0] > -1e-14
    assert values[1] > 1e-3
    assert (len(system.isolated), system.sealed.tolist()) == (5, [False, True])
    chamber = system.sealed[system.component].astype(float)
    np.testing.assert_allclose(np.abs(vectors[:, 0]), chamber / np.linalg.norm(chamber), atol=1e-12)
    assert str(system) == (
        "25 unknowns in 2 connected regions of 6 x 5 cells\n"
        "1 sealed chamber without boundary values or reaction, each fixed up to a constant: 15 cells at (3, 0)\n"
        "5 isolated fluid cells left out: (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)"
    )
    assert repr(system) == "<DiffusionSystem: 25 unknowns of 6 x 5 cells>"
    assert not diffusion((6, 5), k, reaction=1e-3).sealed.any()


def test_random_right_hand_sides_are_in_the_range() -> None:
    k = np.ones((6, 5))
    k[2] = 0.0
    system = diffusion((6, 5), k, boundary=[("dirichlet", "neumann"), "neumann"])
    b = right_hand_side(system, "smooth", np.random.default_rng(0))
    assert abs(b[system.component == 1].sum()) < 1e-13
    assert abs(b[system.component == 0].sum()) > 1e-3


def test_the_weights_are_the_matrix() -> None:
    grid = Grid(random_cells((5, 4, 3), np.random.default_rng(3)))
    system = diffusion(grid, 3.0, spacing=2.0, reaction=0.1)
    assert isinstance(system.weights, FaceWeights)
    assert not (system.weights.matrix() - system.A).data.any()
    u = np.arange(len(system.cells), dtype=float)
    np.testing.assert_array_equal(system.from_field(system.to_field(u, np.nan)), u)
    assert system.shape == grid.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (4,)}, r"grid must be a Grid, or two or three positive numbers of cells, got \(4,\)"),
        ({"grid": (4, 0)}, r"got \(4, 0\)"),
        ({"grid": (4, 2.5)}, r"got \(4, 2.5\)"),
        ({"coefficient": -1.0}, r"coefficient must be finite and not negative, but is -1.0 at \(0, 0\)"),
        ({"coefficient": np.nan}, "but is nan"),
        ({"coefficient": [[1, 1], [1, 1], [1, np.inf]]}, r"but is inf at \(2, 1\)"),
        ({"coefficient": np.ones((2, 3))}, r"an array of shape \(3, 2\), got shape \(2, 3\)"),
        ({"coefficient": (np.ones((4, 2)),)}, r"a tuple of one array per axis \(2\), got 1"),
        (
            {"coefficient": (np.ones((4, 2)), np.ones((3, 2)))},
            r"faces of axis 1 must .* \(3, 3\), got .*\(3, 2\)",
        ),
        ({"coefficient": (np.ones((4, 2)), -np.ones((3, 3)))}, r"on the faces of axis 1 must be finite and not neg"),
        ({"reaction": -1e-9}, "reaction must be finite and not negative"),
        ({"reaction": np.ones(3)}, r"reaction must be a number or an array of shape \(3, 2\)"),
        ({"spacing": 0.0}, "spacing must be positive and finite, but along axis 0 is 0.0"),
        ({"spacing": [1.0, np.nan]}, "but along axis 1 is nan"),
        ({"spacing": [1.0, 1.0, 1.0]}, r"one entry per axis \(2\)"),
        ({"spacing": [1.0, np.ones(3)]}, r"along axis 1 must be a number or an array with one width per cell \(2\)"),
        ({"boundary": "open"}, "got 'open'"),
        ({"boundary": "periodic"}, r"a periodic axis needs at least three cells, got shape \(3, 2\)"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diffusion(**{"grid": (3, 2), **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": np.ones(6)}, r"source must be a number or an array of shape \(3, 2\), got shape \(6,\)"),
        ({"values": [1.0]}, r"one entry per axis \(2\)"),
        ({"values": [1.0, (1.0, 2.0, 3.0)]}, r"along axis 1 must be a number or a pair \(low, high\)"),
        ({"values": [(np.ones(3), 0.0), 1.0]}, r"an end of axis 0 must be a number or an array of shape \(2,\)"),
    ],
)
def test_right_hand_sides_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diffusion((3, 2)).rhs(**arguments)
