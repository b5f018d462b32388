"""PDE problems: solutions solve them, ansätze meet their data, references are as exact as they say."""

from __future__ import annotations

import functools
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

from deepcd.pde.equations.expressions import leaves
from deepcd.pde.equations.programs import Program
from deepcd.pde.equations.statements import Problem
from deepcd.pde.problems import PROBLEMS, problem
from deepcd.pde.problems.allen_cahn import allen_cahn_solution
from deepcd.pde.problems.evolution import VISCOSITY
from deepcd.pde.problems.obstacles import DISCS, obstacles
from deepcd.pde.problems.peaks import gaussian
from deepcd.pde.problems.periodic import kdv_solution, kuramoto_sivashinsky, kuramoto_sivashinsky_solution
from deepcd.pde.regions.binding import bound, coordinates
from deepcd.pde.regions.sampling import in_box

F64 = NDArray[np.float64]

COMPUTED = ("allen_cahn", "kdv", "kuramoto_sivashinsky", "obstacles")  # by NumPy, so that torch cannot differentiate
CLOSED = [name for name in PROBLEMS if name not in COMPUTED]
PERIODIC = ("convection", "burgers_periodic", "kdv", "kuramoto_sivashinsky")
BY_ANSATZ = [name for name in PROBLEMS if not name.startswith("gaussian")]
STARTS: dict[str, Callable[[F64], F64]] = {
    "burgers": lambda x: -np.sin(pi * x),
    "burgers_periodic": lambda x: -np.sin(pi * x),
    "kdv": lambda x: np.cos(pi * x),
    "kuramoto_sivashinsky": lambda x: np.cos(x / 16) * (1 + np.sin(x / 16)),
    "allen_cahn": lambda x: x**2 * np.cos(pi * x),
    "diffusion": lambda x: np.sin(pi * x),
    "wave": lambda x: np.sin(pi * x) + 0.5 * np.sin(4 * pi * x),
    "convection": np.sin,
    "moving_gaussian": np.zeros_like,
}
SMALL = 64  # cells per axis of a quick obstacle problem


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named(name: str) -> Problem:
    return obstacles(spsolve, cells=SMALL) if name == "obstacles" else problem(name)


def exact(p: Problem, x: Any) -> F64:
    return p.exact(np.asarray(x))[0]


def scattered(p: Problem, n: int = 400, seed: int = 0) -> Tensor:
    """Points of the box, half of them close to where the peaks are."""
    x = in_box(p.bounds, n, seeded(seed))
    near = x[: n // 2]
    if "peak" in p.name:
        near.copy_(0.5 * torch.where(near[:, :1] < 0, -1.0, 1.0) + 0.08 * near)
    elif "gaussian" in p.name:
        near[:, -2:] *= 0.1
        near[:, :-2] *= 1 if p.axes[0] == "t" else 0.1
    return x


def differences(f: Callable[[F64], F64], points: F64, orders: Sequence[int], steps: Sequence[float]) -> F64:
    """A derivative by the differences of nine values along each axis."""
    for axis, (order, h) in enumerate(zip(orders, steps, strict=True)):
        if order:
            nodes = np.arange(-4.0, 5.0)
            weights = np.linalg.solve(np.vander(nodes, increasing=True).T, np.eye(9)[order])
            factor = float(np.prod(np.arange(1, order + 1))) / h**order
            shift, rest = h * np.eye(len(steps))[axis], [k if i != axis else 0 for i, k in enumerate(orders)]
            values = [differences(f, points + k * shift, rest, steps) for k in nodes]
            return np.asarray(factor * np.tensordot(weights, values, axes=1))
    return f(points)


def plain(p: Problem) -> Problem:
    """The same equation and conditions of a function itself, without an ansatz."""
    return Problem(p.equation, p.domain, *p.conditions)


def evaluated(residuals: Sequence[Any], x: Tensor, derivative: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Values of expressions, shape (m, n), from the derivatives of the field at points."""
    given = {leaf: x[:, leaf.args[0]] for leaf in leaves(*residuals) if leaf.op == "axis"}
    fields = {leaf: derivative(leaf.args[1]) for leaf in leaves(*residuals) if leaf.op == "field"}
    program = Program(residuals)
    return torch.stack([torch.as_tensor(v).expand(len(x)) for v in program(program.constants(given), fields)])


def wavy(x: Tensor, seed: int = 3) -> Tensor:
    """The sine of a random linear form, in place of a network."""
    return (x @ torch.randn(x.shape[1], generator=seeded(seed), dtype=x.dtype) + 0.4 * x[:, 0] + 0.9).sin()


def built(p: Problem, x: Tensor, network: Tensor) -> Tensor:
    """The field that a network's output makes."""
    return evaluated(p.values(), x, lambda _: network)[0]


@pytest.mark.parametrize("name", CLOSED)
def test_the_solution_solves_the_equation(name: str) -> None:
    p = problem(name)
    x = scattered(p)
    columns = [column.clone().requires_grad_() for column in x.T]
    u = bound(p.solution or float, coordinates(p.axes, columns), "the solution")

    def derivative(orders: tuple[int, ...]) -> Tensor:
        value = u
        for column in (c for c, order in zip(columns, orders, strict=True) for _ in range(order)):
            (value,) = torch.autograd.grad(value.sum(), column, create_graph=True)
        return value.detach()

    residual = evaluated(plain(p).terms[0].residuals, x, derivative)
    assert float(u.detach().max()) > 0.1  # the points see it
    assert float(residual.abs().max()) < 1e-8


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [
        ("allen_cahn", (1e-3, 5e-4), 1e-5),
        ("kdv", (5e-4, 2e-3), 1e-5),
        ("kuramoto_sivashinsky", (1e-2, 0.15), 1e-5),
        ("obstacles", (1e-2, 1e-2), 1e-8),
    ],
)
def test_the_reference_solves_the_equation(name: str, steps: Sequence[float], tolerance: float) -> None:
    p = named(name)
    x = in_box(p.bounds + np.outer(np.ptp(p.bounds, axis=1), (0.05, -0.05)), 1000, seeded())
    x = x[p.domain.inside(x)]
    f = torsion if name == "obstacles" else functools.partial(exact, p)
    found = {}

    def derivative(orders: tuple[int, ...]) -> Tensor:
        found[orders] = torch.from_numpy(differences(f, x.numpy(), orders, steps))
        return found[orders]

    residual = evaluated(plain(p).terms[0].residuals, x, derivative)
    assert float(residual.abs().max()) < tolerance * float(torch.stack([*found.values()]).abs().max())


@pytest.mark.parametrize("name", BY_ANSATZ)
def test_the_ansatz_meets_the_data_whatever_the_network(name: str) -> None:
    p = named(name)
    assert not p.conditions
    for piece in p.domain.pieces:
        if piece.name != "t+":
            x, _ = piece.sample(50, seeded())
            assert np.abs(built(p, x, wavy(x)).numpy() - exact(p, x)).max() < 1e-12 + p.solution_error


@pytest.mark.parametrize("name", BY_ANSATZ)
def test_the_ansatz_leaves_the_interior_to_the_network(name: str) -> None:
    p = named(name)
    x = in_box(p.bounds + np.outer(np.ptp(p.bounds, axis=1), (0.1, -0.1)), 200, seeded())
    if name == "obstacles":
        x = x[torch.stack([torch.hypot(x[:, 0] - a, x[:, 1] - b) - r for a, b, r in DISCS]).amin(0) > 0.02]
    change = built(p, x, wavy(x) + 1) - built(p, x, wavy(x))
    assert float(change.abs().min()) > 1e-3


@pytest.mark.parametrize("name", PERIODIC)
def test_what_is_periodic_is_so_in_its_domain(name: str) -> None:
    p = problem(name)
    assert p.domain.periodic == ("x",)
    assert p.domain.boundary.names == ("t-", "t+")
    left, right = (x := in_box(p.bounds, 100, seeded())).clone(), x
    left[:, 1], right[:, 1] = map(float, p.bounds[1])
    network = wavy(left)
    torch.testing.assert_close(built(p, left, network), built(p, right, network), rtol=0, atol=1e-12)
    np.testing.assert_allclose(exact(p, left), exact(p, right), rtol=0, atol=1e-12 + p.solution_error)


def test_the_wave_starts_at_rest() -> None:
    p = problem("wave")
    x = torch.stack([torch.zeros(50), torch.linspace(0, 1, 50)], dim=1).double()
    velocity = evaluated([p.values()[0].t], x, lambda orders: wavy(x, seed=sum(orders)))
    assert float(velocity.abs().max()) == 0


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith("gaussian")])
def test_a_gaussian_has_a_condition_on_the_boundary_and_is_measured_near_the_origin(name: str) -> None:
    p = problem(name)
    assert len(p.grid()) == {2: 65, 4: 9, 6: 5, 8: 3, 10: 3}[p.dimension] ** p.dimension
    assert np.abs(p.grid()).max() == 0.1
    _, condition = p.terms
    assert condition.part is not None
    x, _ = condition.part.points(2000, seeded())
    assert x.shape == (2000, p.dimension)
    assert ((x.abs() == 1).sum(1) == 1).all()
    u = torch.from_numpy(exact(p, x))
    assert float(evaluated(condition.residuals, x, lambda _: u).abs().max()) < 1e-18
    torch.testing.assert_close(evaluated(condition.residuals, x, lambda _: 3 * u)[0], 2 * u, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_describes_itself(name: str) -> None:
    p = named(name)
    grid = p.grid()
    assert p.name == name
    assert p.title
    assert p.reference
    assert p.metric == ("mse" if "peak" in name else "relative l2")
    assert grid.shape[1] == p.dimension == len(p.axes)
    assert p.domain.inside(torch.from_numpy(grid)).all()
    assert (p.ansatz is None) == name.startswith("gaussian")


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_work_is_done_in_the_dtype_of_the_points(name: str) -> None:
    p = named(name)
    x = scattered(p, 100)

    def residual(x: Tensor) -> Tensor:
        return evaluated(p.terms[0].residuals, x, lambda orders: wavy(x, seed=sum(orders)))

    single, double = residual(x.float()), residual(x)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert float((single - double).norm() / double.norm()) < 1e-4


@pytest.mark.parametrize(
    ("name", "score"),
    [("one_peak", 3.90e-4), ("two_peaks", 7.79e-4), ("two_peaks_plain", 7.79e-4), ("gaussian_4d", 1), ("wave", 1)],
)
def test_nothing_scores_nothing(name: str, score: float) -> None:
    p = problem(name)
    u = p.exact(p.grid())
    assert p.error(0 * u, u) == pytest.approx(score, rel=2e-3)
    assert p.error(u, u) == 0


def test_the_front_of_burgers_equation_is_as_steep_as_published() -> None:
    """Basdevant et al. 1986: the largest slope is 152.00516, at pi t = 1.6037."""
    times = np.linspace(1.6, 1.61, 101) / pi
    front = np.stack([times, np.zeros(101)], axis=1)
    slopes = -differences(functools.partial(exact, problem("burgers")), front, (0, 1), (1e-3, 5e-5))
    assert slopes.max() == pytest.approx(152.00516, abs=1e-5)
    assert pi * times[np.argmax(slopes)] == pytest.approx(1.6037, abs=1e-4)


@pytest.mark.parametrize(("name", "viscosity"), [("burgers", VISCOSITY), ("burgers_periodic", 0.01)])
def test_cole_and_hopf_by_the_trapezoidal_rule(name: str, viscosity: float) -> None:
    p = problem(name)
    x = in_box(p.bounds, 500, seeded()).numpy()
    x[::2, 1] *= 0.02
    z = np.linspace(-13, 13, 4001)
    y = x[:, 1:] - 2 * np.sqrt(viscosity * x[:, :1]) * z
    weight = np.exp(-(z**2) - (1 + np.cos(pi * y)) / (2 * pi * viscosity))
    u = -(np.sin(pi * y) * weight).sum(1) / weight.sum(1)
    assert np.abs(u - exact(p, x)).max() <= p.solution_error


def test_allen_cahn_is_converged() -> None:
    p = problem("allen_cahn")
    x = in_box(p.bounds, 20000, seeded()).numpy()
    x[::2, 0] = 10 ** (-8 * x[::2, 0])  # in half of the points, close to t = 0
    x[::4, 1] = 1 - 10 ** (-3 - 3 * np.abs(x[::4, 1]))  # and close to the corner
    t, y = x.T
    finer = allen_cahn_solution(639, 800).ev(np.sqrt(t), np.arccos(np.abs(y)))
    assert 0.1 * p.solution_error < np.abs(finer - exact(p, x)).max() <= p.solution_error


@pytest.mark.parametrize("name", ["kdv", "kuramoto_sivashinsky"])
def test_periodic_solutions_are_converged(name: str) -> None:
    finer = kdv_solution(384, 1500) if name == "kdv" else kuramoto_sivashinsky_solution(10.0, 384, 80)
    p = problem(name)
    x = in_box(p.bounds, 20000, seeded()).numpy()
    assert 0.1 * p.solution_error < np.abs(finer.ev(*x.T) - exact(p, x)).max() <= p.solution_error


def test_kdv_keeps_mass_and_energy() -> None:
    x = np.stack(np.meshgrid([0.3, 1.0], np.linspace(-1, 1, 513)[1:], indexing="ij"), axis=-1)
    u = exact(problem("kdv"), x.reshape(-1, 2)).reshape(2, -1)
    np.testing.assert_allclose(u.mean(1), 0, atol=1e-10)
    np.testing.assert_allclose((u**2).mean(1), 0.5, atol=1e-9)
    assert u[1].max() > 2  # a train of solitons, from a wave of height one


@pytest.mark.parametrize("name", STARTS)
def test_the_solution_meets_the_data(name: str) -> None:
    p = problem(name)
    x = p.domain["t-"].points(200, seeded())[0].numpy()
    assert np.abs(exact(p, x) - STARTS[name](x[:, 1])).max() < 1e-12 + p.solution_error
    for side in (piece for piece in p.domain.pieces if piece.axis != "t"):
        x = side.sample(200, seeded())[0].numpy()
        assert np.abs(exact(p, x) + (name == "allen_cahn")).max() < 1e-12 + p.solution_error


def torsion(x: F64) -> F64:
    """-Laplace u = 1 around the discs: the square's Fourier series, harmonic polynomials, poles at the centres.

    Coefficients by least squares on the boundary (Trefethen, ANZIAM J. 60, 2018), which u meets to 5e-8.
    """

    def square(z: NDArray[np.complex128]) -> F64:
        total = (1 - z.real**2) / 2
        for k in range(1, 200, 2):
            a = k * pi / 2
            ends = (np.exp(a * (np.abs(z.imag) - 1)) + np.exp(-a * (np.abs(z.imag) + 1))) / (1 + np.exp(-2 * a))
            total -= (16 / pi**3) * np.sin(a) / k**3 * np.cos(a * z.real) * ends
        return total

    def basis(z: NDArray[np.complex128]) -> F64:
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
    error = np.abs(exact(p, grid) - torsion(grid)).max()
    assert 0.2 * p.solution_error < error <= p.solution_error == 0.4 / cells


@pytest.mark.compiled
def test_deepcd_solves_the_obstacles() -> None:
    from deepcd import DeepCD

    p = problem("obstacles", lambda A, b: DeepCD.solve(A, b, tol=1e-8)[0])
    grid = p.grid()
    assert p.error(torsion(grid), exact(p, grid)) < 4e-4
    assert np.abs(exact(p, grid) - torsion(grid)).max() < p.solution_error < 2e-4


def test_discs_are_no_part_of_the_obstacle_problem() -> None:
    calls = []
    p = obstacles(lambda A, b: calls.append(1) or spsolve(A, b), SMALL)  # type: ignore[func-returns-value]
    x = in_box(p.bounds, 1000, seeded())
    inside = np.any([np.hypot(*(x.numpy() - (a, b)).T) < r for a, b, r in DISCS], axis=0)
    np.testing.assert_array_equal(p.domain.inside(x).numpy(), ~inside)
    assert not calls
    assert not exact(p, x)[inside].any()
    assert exact(p, x)[~inside].min() > 0
    assert calls == [1]
    for a, b, r in DISCS:
        angle = torch.linspace(0, 6, 20, dtype=torch.float64)
        circle = torch.stack([a + r * angle.cos(), b + r * angle.sin()], dim=1)
        assert float(built(p, circle, wavy(circle)).abs().max()) < 1e-15


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
        obstacles(solve, SMALL).exact(np.zeros((1, 2)))


def test_bad_input_is_answered_with_what_is_good() -> None:
    with pytest.raises(ValueError, match=r"one_peak, two_peaks.*got 'poisson'"):
        problem("poisson")
    with pytest.raises(ValueError, match="pass solve"):
        problem("obstacles")
    with pytest.raises(ValueError, match="2, 4, 6, 8, 10, got 3"):
        gaussian(3)
    with pytest.raises(ValueError, match=r"from 64 up.*got 8"):
        obstacles(spsolve, cells=8)
    for T in (0, 151, float("nan")):
        with pytest.raises(ValueError, match=f"between 0 and 150.*got {T}"):
            kuramoto_sivashinsky(T)


def test_grids_and_domains_come_without_torch() -> None:
    program = "import sys, deepcd.pde; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"
