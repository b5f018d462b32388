"""PDE problems: solutions solve them, ansätze meet their data, points lie where they should, references are as exact
as they say."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from math import pi
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve
from torch import Tensor

from deepcd.pde.problems import PROBLEMS, Jet, Problem, coordinates, problem
from deepcd.pde.problems.allen_cahn import _spline
from deepcd.pde.problems.evolution import VISCOSITY
from deepcd.pde.problems.obstacles import DISCS, obstacles
from deepcd.pde.problems.peaks import gaussian
from deepcd.pde.problems.sampling import in_box, on_face, on_faces, tensor_grid

CLOSED = [name for name in PROBLEMS if name not in ("burgers", "allen_cahn", "obstacles")]
TIMED = [name for name in PROBLEMS if name != "obstacles" and "t" in problem(name).axes]
BY_ANSATZ = [name for name in PROBLEMS if not name.startswith("gaussian")]
SMALL = 64  # cells per axis of a quick obstacle problem


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named(name: str) -> Problem:
    return obstacles(spsolve, cells=SMALL) if name == "obstacles" else problem(name)


def bump(x: Sequence[Jet], sharpness: float, centre: Sequence[Jet | float] | None = None) -> Jet:
    apart = [xi - c for xi, c in zip(x, centre or [0.0] * len(x), strict=True)]
    return (sum((d * d for d in apart[1:]), start=apart[0] * apart[0]) * -sharpness).exp()


def exact(name: str, x: Sequence[Jet]) -> Jet:
    """The solutions once more, as jets."""
    match name:
        case "one_peak":
            return bump(x, 1000, (0.5, 0.5))
        case "two_peaks" | "two_peaks_plain":
            return bump(x, 1000, (0.5, 0.5)) + bump(x, 1000, (-0.5, -0.5))
        case "diffusion":
            return (-x[0]).exp() * (pi * x[1]).sin()
        case "wave":
            t, y = x
            return (pi * y).sin() * (2 * pi * t).cos() + 0.5 * (4 * pi * y).sin() * (8 * pi * t).cos()
        case "convection":
            return (x[1] - 50 * x[0]).sin()
        case "moving_gaussian":
            t, a, b = x
            return bump((a, b), 100, (0.5 * t - 0.5, 0.0)) * (1 - (-5 * t).exp())
    return bump(x, 10)


def scattered(problem: Problem, n: int = 400, seed: int = 0) -> Tensor:
    """Points of the box, half of them close to where the peaks are."""
    x = in_box(problem.bounds, n, seeded(seed))
    near = x[: n // 2]
    if "peak" in problem.name:
        near.copy_(0.5 * torch.where(near[:, :1] < 0, -1.0, 1.0) + 0.08 * near)
    elif "gaussian" in problem.name:
        near[:, -2:] *= 0.1
        near[:, :-2] *= 1 if problem.axes[0] == "t" else 0.1
    return x


def wavy(x: Sequence[Jet], seed: int = 3) -> Jet:
    """The sine of a random linear form, in place of a network."""
    weights = torch.randn(len(x), generator=seeded(seed), dtype=torch.float64).tolist()
    return sum((w * xi for w, xi in zip(weights, x, strict=True)), start=0.4 * x[0] + 0.9).sin()


def differences(problem: Problem, points: NDArray[np.float64], steps: Sequence[float]) -> Jet:
    """The solution with derivatives by central differences of order four."""

    def at(axis: int, k: int) -> NDArray[np.float64]:
        return problem.solution(points + k * steps[axis] * np.eye(len(steps))[axis])

    value = problem.solution(points)
    first, second = [], []
    for axis, h in enumerate(steps):
        a, b, c, d = (at(axis, k) for k in (-2, -1, 1, 2))
        first.append((a - 8 * b + 8 * c - d) / (12 * h))
        second.append((-a + 16 * b - 30 * value + 16 * c - d) / (12 * h * h))
    sums = [np.sum([second[a] for a in axes], axis=0) for axes in problem.sums]
    u, gradient, laplacians = (torch.from_numpy(np.array(values)) for values in (value, first, sums))
    return Jet(u, gradient, laplacians, problem.sums)


@pytest.mark.parametrize("name", CLOSED)
def test_the_solution_solves_the_equation(name: str) -> None:
    p = problem(name)
    x = scattered(p)
    at = coordinates(x, p.sums)
    u = exact(name, at)
    assert np.abs(u.value.numpy() - p.solution(x.numpy())).max() < 1e-14
    assert p.solution(x.numpy()).max() > 0.1  # the points see it
    torch.testing.assert_close(p.residual(at, u), torch.zeros(len(x), dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"), [("burgers", (2e-4, 1e-4), 1e-5), ("allen_cahn", (1e-3, 5e-4), 1e-5)]
)
def test_the_reference_solves_the_equation(name: str, steps: Sequence[float], tolerance: float) -> None:
    p = problem(name)
    x = in_box([(0.01, 0.99), (-0.99, 0.99)], 3000, seeded())
    x[::3, 1] *= 0.02  # where the front of Burgers' equation is
    u = differences(p, x.numpy(), steps)
    assert float(u.gradient.abs().max()) > 5
    assert float(p.residual(coordinates(x, p.sums), u).abs().max()) < tolerance


def faces_with_data(p: Problem) -> list[Tensor]:
    """Points of each face that the ansatz has to serve."""
    spatial = [] if p.name == "convection" else [i for i, axis in enumerate(p.axes) if axis != "t"]
    faces = [(i, end) for i in spatial for end in (0, 1)] + [(0, 0)] * ("t" in p.axes)
    return [on_face(p.bounds, axis, end, 50, seeded(axis)) for axis, end in faces]


@pytest.mark.parametrize("name", BY_ANSATZ)
def test_the_ansatz_meets_the_data_whatever_the_network(name: str) -> None:
    p = named(name)
    assert p.ansatz is not None
    for x in faces_with_data(p):
        at = coordinates(x, p.sums)
        assert np.abs(p.ansatz(at, wavy(at)).value.numpy() - p.solution(x.numpy())).max() < 1e-12


@pytest.mark.parametrize("name", BY_ANSATZ)
def test_the_ansatz_leaves_the_interior_to_the_network(name: str) -> None:
    p = named(name)
    assert p.ansatz is not None
    inner = np.stack([0.9 * p.bounds[:, 0] + 0.1 * p.bounds[:, 1], 0.1 * p.bounds[:, 0] + 0.9 * p.bounds[:, 1]], 1)
    at = coordinates(in_box(inner, 200, seeded()), p.sums)
    change = (p.ansatz(at, wavy(at) + 1) - p.ansatz(at, wavy(at))).value.abs()
    allowed = torch.ones(200, dtype=torch.bool) if p.domain is None else _outside(at)
    assert float(change[allowed].min()) > 1e-3


def _outside(x: Sequence[Jet]) -> Tensor:
    distance = [torch.hypot(x[0].value - cx, x[1].value - cy) - r for cx, cy, r in DISCS]
    return torch.stack(distance).amin(0) > 0.02


def test_the_wave_starts_at_rest() -> None:
    p = problem("wave")
    assert p.ansatz is not None
    at = coordinates(on_face(p.bounds, 0, 0, 50, seeded()), p.sums)
    assert float(p.ansatz(at, wavy(at)).gradient[0].abs().max()) == 0


@pytest.mark.parametrize("d", [2, 4, 6, 8, 10])
def test_the_boundary_of_a_gaussian_is_a_condition(d: int) -> None:
    p = problem(f"gaussian_{d}d")
    (boundary,) = p.conditions
    x = boundary.points(2000, seeded())
    at = coordinates(x, ())
    assert x.shape == (2000, d)
    assert float(x.abs().max()) == 1
    assert float(boundary.residual(at, exact(p.name, at)).abs().max()) < 1e-18
    twice = 2 * exact(p.name, at).value
    torch.testing.assert_close(boundary.residual(at, 3.0 * exact(p.name, at)), twice, rtol=1e-12, atol=0)


def test_periodicity_is_a_condition_on_pairs() -> None:
    p = problem("convection")
    (periodic,) = p.conditions
    for n in (30, 31):
        x = periodic.points(n, seeded())
        left, right = x.chunk(2)
        assert len(x) == 2 * ((n + 1) // 2)
        torch.testing.assert_close(left[:, 0], right[:, 0], rtol=0, atol=0)
        assert set(left[:, 1].tolist()) | set(right[:, 1].tolist()) == {0.0, 2 * pi}
        at = coordinates(x, ())
        assert float(periodic.residual(at, exact("convection", at)).abs().max()) < 1e-12
        torch.testing.assert_close(periodic.residual(at, at[1]).abs(), torch.full((len(x),), 2 * pi).double())


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_describes_itself(name: str) -> None:
    p = named(name)
    grid = p.grid()
    assert p.name == name
    assert p.title
    assert p.reference
    assert p.metric == ("mse" if "peak" in name else "relative l2")
    assert grid.shape[1] == p.dimension == len(p.axes)
    assert (grid >= p.bounds[:, 0]).all()
    assert (grid <= p.bounds[:, 1]).all()
    assert (p.ansatz is None) == name.startswith("gaussian")
    if p.domain is not None:
        assert p.domain(grid).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_sum_is_needed(name: str) -> None:
    p = named(name)
    at = coordinates(in_box(p.bounds, 300, seeded()), p.sums)
    u = wavy(at)
    for k in range(len(p.sums)):
        second = u.second.clone()
        second[k] += 1
        changed = p.residual(at, dataclasses.replace(u, second=second)) - p.residual(at, u)
        assert float(changed.abs().max()) > 1e-4
    assert p.sums or name == "convection"


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_work_is_done_in_the_dtype_of_the_points(name: str) -> None:
    p = named(name)
    x = scattered(p, 100)

    def residual(x: Tensor) -> Tensor:
        at = coordinates(x, p.sums)
        return p.residual(at, p.ansatz(at, wavy(at)) if p.ansatz else wavy(at))

    single, double = residual(x.float()), residual(x)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert float((single - double).norm() / double.norm()) < 1e-4


@pytest.mark.parametrize(
    ("name", "score"),
    [("one_peak", 3.90e-4), ("two_peaks", 7.79e-4), ("two_peaks_plain", 7.79e-4), ("gaussian_4d", 1), ("wave", 1)],
)
def test_nothing_scores_nothing(name: str, score: float) -> None:
    p = problem(name)
    grid = p.grid()
    assert p.error(np.zeros(len(grid))) == pytest.approx(score, rel=2e-3)
    assert p.error(p.solution(grid)) == 0
    twos = np.full(len(grid), 2.0)
    assert p.error(twos + 1, twos) == (1 if p.metric == "mse" else 0.5)


@pytest.mark.parametrize(("d", "nodes"), [(2, 65**2), (4, 9**4), (6, 5**6), (8, 3**8), (10, 3**10)])
def test_gaussians_are_measured_near_the_origin(d: int, nodes: int) -> None:
    grid = problem(f"gaussian_{d}d").grid()
    assert grid.shape == (nodes, d)
    assert np.abs(grid).max() == 0.1


def test_the_front_of_burgers_equation_is_as_steep_as_published() -> None:
    """Basdevant et al. 1986: the largest slope is 152.00516, at pi t = 1.6037."""
    times = np.linspace(1.6, 1.61, 101) / pi
    front = np.stack([times, np.zeros(101)], axis=1)
    slopes = -differences(problem("burgers"), front, (1e-3, 5e-5)).gradient[1].numpy()
    assert slopes.max() == pytest.approx(152.00516, abs=1e-5)
    assert pi * times[np.argmax(slopes)] == pytest.approx(1.6037, abs=1e-4)


def test_cole_and_hopf_by_the_trapezoidal_rule() -> None:
    p = problem("burgers")
    x = in_box(p.bounds, 500, seeded()).numpy()
    x[::2, 1] *= 0.02
    z = np.linspace(-13, 13, 4001)
    y = x[:, 1:] - 2 * np.sqrt(VISCOSITY * x[:, :1]) * z
    weight = np.exp(-(z**2) - 50 * (1 + np.cos(pi * y)))
    u = -(np.sin(pi * y) * weight).sum(1) / weight.sum(1)
    assert np.abs(u - p.solution(x)).max() <= p.solution_error


def test_allen_cahn_is_converged() -> None:
    p = problem("allen_cahn")
    x = in_box(p.bounds, 20000, seeded()).numpy()
    x[::2, 0] = 10 ** (-8 * x[::2, 0])  # in half of the points, close to t = 0
    x[::4, 1] = 1 - 10 ** (-3 - 3 * np.abs(x[::4, 1]))  # and close to the corner
    t, y = x.T
    finer = _spline(639, 800).ev(np.sqrt(t), np.arccos(np.abs(y)))
    assert np.abs(finer - p.solution(x)).max() <= p.solution_error


@pytest.mark.parametrize("name", TIMED)
def test_the_solution_meets_the_data(name: str) -> None:
    initial: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "burgers": lambda x: -np.sin(pi * x[0]),
        "allen_cahn": lambda x: x[0] ** 2 * np.cos(pi * x[0]),
        "diffusion": lambda x: np.sin(pi * x[0]),
        "wave": lambda x: np.sin(pi * x[0]) + 0.5 * np.sin(4 * pi * x[0]),
        "convection": lambda x: np.sin(x[0]),
        "moving_gaussian": lambda x: 0 * x[0],
    }
    p = problem(name)
    x = on_face(p.bounds, 0, 0, 200, seeded()).numpy()
    assert np.abs(p.solution(x) - initial[name](x[:, 1:].T)).max() < 1e-12 + p.solution_error
    if name != "convection":
        for end in (0, 1):
            x = on_face(p.bounds, 1, end, 200, seeded()).numpy()
            assert np.abs(p.solution(x) + (name == "allen_cahn")).max() < 1e-12 + p.solution_error


def torsion(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """-Laplace u = 1 around the discs: the square's Fourier series, harmonic polynomials, poles at the centres.

    Coefficients by least squares on the boundary (Trefethen, ANZIAM J. 60, 2018), which u meets to 5e-8.
    """

    def square(z: NDArray[np.complex128]) -> NDArray[np.float64]:
        total = (1 - z.real**2) / 2
        for k in range(1, 200, 2):
            a = k * pi / 2
            ends = (np.exp(a * (np.abs(z.imag) - 1)) + np.exp(-a * (np.abs(z.imag) + 1))) / (1 + np.exp(-2 * a))
            total -= (16 / pi**3) * np.sin(a) / k**3 * np.cos(a * z.real) * ends
        return total

    def basis(z: NDArray[np.complex128]) -> NDArray[np.float64]:
        terms = [z**k for k in range(41)]
        for cx, cy, r in DISCS:
            pole = r / (z - complex(cx, cy))
            terms += [np.log(np.abs(pole)), *(pole**k for k in range(1, 26))]
        return np.concatenate([np.real(terms), np.imag(terms)]).T

    m = (np.arange(300) + 0.5) / 300
    side = np.cos(pi * m)
    circles = np.concatenate([complex(cx, cy) + r * np.exp(2j * pi * m) for cx, cy, r in DISCS])
    boundary = np.concatenate([side + 1j, side - 1j, 1 + 1j * side, -1 + 1j * side, circles])
    target = np.concatenate([np.zeros(1200), -square(circles)])
    coefficients = np.linalg.lstsq(basis(boundary), target, rcond=1e-14)[0]
    assert np.abs(basis(boundary) @ coefficients - target).max() < 5e-8
    z = x[:, 0] + 1j * x[:, 1]
    return square(z) + basis(z) @ coefficients


@pytest.mark.parametrize("cells", [64, 128, 256])
def test_the_obstacles_are_as_exact_as_they_say(cells: int) -> None:
    p = obstacles(spsolve, cells)
    grid = p.grid()
    error = np.abs(p.solution(grid) - torsion(grid)).max()
    assert 0.2 * p.solution_error < error <= p.solution_error == 0.4 / cells


@pytest.mark.compiled
def test_deepcd_solves_the_obstacles() -> None:
    from deepcd import DeepCD

    p = problem("obstacles", lambda A, b: DeepCD.solve(A, b, tol=1e-8)[0])
    grid = p.grid()
    assert p.error(torsion(grid)) < 4e-4
    assert np.abs(p.solution(grid) - torsion(grid)).max() < p.solution_error < 2e-4


def test_discs_are_no_part_of_the_obstacle_problem() -> None:
    calls = []
    p = obstacles(lambda A, b: calls.append(1) or spsolve(A, b), SMALL)  # type: ignore[func-returns-value]
    x = in_box(p.bounds, 1000, seeded())
    at = coordinates(x, p.sums)
    inside = np.any([np.hypot(*(x.numpy() - (cx, cy)).T) < r for cx, cy, r in DISCS], axis=0)
    assert p.domain is not None
    assert p.ansatz is not None
    np.testing.assert_array_equal(p.domain(x.numpy()), ~inside)
    np.testing.assert_array_equal(p.residual(at, at[0] * 0.0).numpy(), np.where(inside, 0.0, -1.0))
    assert not calls
    assert not p.solution(x.numpy())[inside].any()
    assert p.solution(x.numpy())[~inside].min() > 0
    assert calls == [1]
    for cx, cy, r in DISCS:
        angle = torch.linspace(0, 6, 20, dtype=torch.float64)
        circle = coordinates(torch.stack([cx + r * angle.cos(), cy + r * angle.sin()], 1), p.sums)
        assert float(p.ansatz(circle, wavy(circle)).value.abs().max()) < 1e-15


@pytest.mark.parametrize(
    ("solve", "error", "message"),
    [
        (lambda A, b: 0 * b, ValueError, "residual below 1e-6"),
        (lambda A, b: b[1:], TypeError, "array of shape"),
        (lambda A, b: (b, 0), TypeError, "x alone"),
    ],
)
def test_a_solve_that_does_not_is_refused(solve: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        obstacles(solve, SMALL).solution(np.zeros((1, 2)))


def test_points_fall_evenly_on_the_faces_of_a_box() -> None:
    bounds = np.array([[0.0, 4.0], [-1.0, 1.0], [2.0, 3.0]])
    x = on_faces(bounds, 20000, seeded())
    on = torch.stack([x[:, axis] == bounds[axis, end] for axis in range(3) for end in (0, 1)])
    np.testing.assert_array_equal(on.sum(0), 1)
    np.testing.assert_allclose(on.sum(1) / 20000, np.array([2, 2, 4, 4, 8, 8]) / 28, atol=0.01)
    top = x[on[5]].numpy()
    np.testing.assert_allclose(top[:, :2].mean(0), [2, 0], atol=0.06)
    np.testing.assert_allclose(top[:, :2].std(0), np.array([4, 2]) / 12**0.5, rtol=0.03)


def test_random_points_are_in_the_box_and_reproducible() -> None:
    bounds = [(0.0, 4.0), (-1.0, 1.0)]
    x = in_box(bounds, 1000, seeded(1))
    assert x.dtype == torch.float64
    np.testing.assert_allclose(x.amin(0), [0, -1], atol=0.02)
    np.testing.assert_allclose(x.amax(0), [4, 1], atol=0.02)
    assert torch.equal(x, in_box(bounds, 1000, seeded(1)))
    assert not torch.equal(x, in_box(bounds, 1000, seeded(2)))
    for draw in (in_box, on_faces):
        with pytest.raises(ValueError, match="positive number of points, got 0"):
            draw(bounds, 0, seeded())


def test_a_grid_needs_nodes_for_every_axis() -> None:
    assert tensor_grid([(0, 1), (0, 2)], (3, 2))[3].tolist() == [0.5, 2]
    with pytest.raises(ValueError, match="zip"):
        tensor_grid([(0, 1), (0, 2)], (3,))


def test_bad_input_is_answered_with_what_is_good() -> None:
    with pytest.raises(ValueError, match=r"one_peak, two_peaks.*got 'poisson'"):
        problem("poisson")
    with pytest.raises(ValueError, match="pass solve"):
        problem("obstacles")
    with pytest.raises(ValueError, match="2, 4, 6, 8, 10, got 3"):
        gaussian(3)
    with pytest.raises(ValueError, match=r"from 64 up.*got 8"):
        obstacles(spsolve, cells=8)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([[0, 1], [1, 0]], "low < high"),
        ([[0, 1], [0, np.inf]], "finite"),
        ([[0, 1], [np.nan, 1]], "finite"),
        ([0, 1], "pair per axis"),
        (np.empty((0, 2)), "pair per axis"),
        ([[0, 1]], "name each of the 1 axes"),
    ],
)
def test_a_box_that_is_none_is_refused(bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(problem("wave"), bounds=bounds)


def test_bounds_are_fixed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        problem("wave").bounds[0, 0] = 5


def test_grids_and_domains_come_without_torch() -> None:
    program = "import sys, deepcd.pde; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "False\n"
    )
