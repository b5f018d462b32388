"""Truncated Taylor series: the tanh of all derivatives up to fourth order, its adjoint, and sums that are collapsed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.pde.equations.expressions import Index
from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import Domain, box
from deepcd.solvers.kernels import tanh_series
from deepcd.solvers.pinn.series import Series, factorial
from deepcd.solvers.pinn.terms import Term

LAPLACIAN = (((2, 0), 1.0), ((0, 2), 1.0))
BIHARMONIC = (((4, 0), 1.0), ((2, 2), 2.0), ((0, 4), 1.0))
MIXED_ORDERS = (((1, 0), 1.0), ((0, 2), -0.5))


def indices(d: int, order: int) -> list[Index]:
    return [a for a in itertools.product(range(order + 1), repeat=d) if sum(a) <= order]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tanh(series: Series, z: Tensor) -> Tensor:
    """The rows of the tanh of a series, shape (width, rows, n), by the compiled instructions."""
    w = torch.empty_like(z)
    torch.tanh(z[:, 0], out=w[:, 0])
    tanh_series.run(z.numpy(), w.numpy(), *series.forward, series.slots, w.numpy())
    return w


def adjoint(series: Series, w: Tensor, cotangent: Tensor) -> Tensor:
    out = torch.empty_like(w)
    tanh_series.run(cotangent.numpy(), w.numpy(), *series.backward, series.slots, out.numpy())
    return out


def nested(f: Tensor, x: Sequence[Tensor], index: Index) -> Tensor:
    for axis, times in enumerate(index):
        for _ in range(times):
            (f,) = torch.autograd.grad(f.sum(), x[axis], create_graph=True)
    return f


def polynomial(d: int, order: int, seed: int = 0) -> Callable[[Sequence[Tensor]], Tensor]:
    """A polynomial of several variables with random coefficients, whose derivatives all differ."""
    given = {a: torch.randn((), generator=generator(seed + k)).item() for k, a in enumerate(indices(d, order))}

    def p(x: Sequence[Tensor]) -> Tensor:
        terms = (c * torch.stack([one**k for one, k in zip(x, a, strict=True)]).prod(0) for a, c in given.items())
        return 0.3 * torch.stack(list(terms)).sum(0)

    return p


def coefficients(f: Tensor, x: Sequence[Tensor], series: Series) -> Tensor:
    """The series of a function, shape (rows, n), by nested differentiation."""
    rows = [nested(f, x, a).detach() / factorial(a) for a in series.rows]
    rows += [torch.stack([c * nested(f, x, a).detach() for a, c in one]).sum(0) for one in series.sums]
    return torch.stack(rows)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_tanh_of_a_series_is_what_nested_differentiation_gives_up_to_fourth_order(d: int) -> None:
    series = Series(indices(d, 4), d=d)
    x = [torch.rand(5, generator=generator(k), dtype=torch.float64).requires_grad_() for k in range(d)]
    z = polynomial(d, 4)(x)
    got = tanh(series, coefficients(z, x, series)[None])[0]
    torch.testing.assert_close(got, coefficients(torch.tanh(z), x, series), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sums", [[LAPLACIAN], [BIHARMONIC], [MIXED_ORDERS], [(((1, 0), 1.0), ((0, 1), 3.0))]], ids=str)
def test_sums_that_are_collapsed_are_the_sums_of_those_that_are_not(sums: Any) -> None:
    collapsed = Series([], sums, d=2)
    full = Series([a for one in sums for a, _ in one], d=2)
    assert len(collapsed) < len(full)
    z = torch.randn(3, len(full), 40, generator=generator(), dtype=torch.float64)
    g = torch.randn(3, len(collapsed), 40, generator=generator(1), dtype=torch.float64)

    def collapse(rows: Tensor) -> Tensor:
        kept = [rows[:, full.row(a)] for a in collapsed.rows]
        sums_of = [sum(c * factorial(a) * rows[:, full.row(a)] for a, c in one) for one in sums]
        return torch.stack([*kept, *sums_of], dim=1)

    w = tanh(full, z)
    got = tanh(collapsed, collapse(z))
    torch.testing.assert_close(got, collapse(w), rtol=1e-12, atol=1e-12)
    # The adjoint of collapsing spreads a cotangent over the terms of its sum.
    spread = torch.zeros_like(z)
    for k, a in enumerate(collapsed.rows):
        spread[:, full.row(a)] = g[:, k]
    for k, one in enumerate(sums, start=len(collapsed.rows)):
        for a, c in one:
            spread[:, full.row(a)] += c * factorial(a) * g[:, k]
    theirs = adjoint(full, w, spread)
    ours = adjoint(collapsed, got, g)
    torch.testing.assert_close(
        ours[:, : len(collapsed.rows)], theirs[:, [full.row(a) for a in collapsed.rows]], rtol=1e-11, atol=1e-11
    )


CASES = {
    "all of order 4 in 2 axes": Series(indices(2, 4), d=2),
    "all of order 3 in 3 axes": Series(indices(3, 3), d=3),
    "Laplacian": Series([], [LAPLACIAN], d=2),
    "biharmonic": Series([(1, 1)], [BIHARMONIC], d=2),
    "orders one and two": Series([], [MIXED_ORDERS], d=2),
    "Laplacian in 10 axes": Series(
        [], [tuple((tuple(2 * int(i == j) for j in range(10)), 1.0) for i in range(10))], 10
    ),
    "values only": Series([], d=2),
}


@pytest.mark.parametrize("n", [1, 511, 1025])  # a block has 512
@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_passes_the_dot_product_test(name: str, n: int) -> None:
    series, step = CASES[name], 1e-6
    z, dz, g = (torch.randn(2, len(series), n, generator=generator(seed), dtype=torch.float64) for seed in (0, 1, 2))
    derivative = (tanh(series, z + step * dz) - tanh(series, z - step * dz)) / (2 * step)
    left, right = (g * derivative).sum((0, 1)), (adjoint(series, tanh(series, z), g) * dz).sum((0, 1))
    torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6 * float(left.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_single_precision_agrees_to_its_digits(name: str) -> None:
    series = CASES[name]
    z, g = (torch.randn(2, len(series), 9, generator=generator(s), dtype=torch.float64) for s in (3, 4))
    w = tanh(series, z)
    single = tanh(series, z.float())
    assert single.dtype == torch.float32
    back = adjoint(series, single, g.float())
    for got, wanted in ((single, w), (back, adjoint(series, w, g))):
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def rows_of(equation: Callable[..., Any], domain: Domain, fields: str = "u") -> int:
    problem = Problem(equation, domain, fields=fields)
    return len(Term(problem.terms[0].residuals, problem.fields, problem.dimension).series)


XY, TX = box(x=(0, 1), y=(0, 1)), box(t=(0, 1), x=(0, 1))


def elasticity(u: Any, v: Any) -> list[Any]:
    xx, yy, xy = 2 * u.x + v.y, u.x + 2 * v.y, 0.5 * (u.y + v.x)
    return [xx.x + xy.y, xy.x + yy.y]


@pytest.mark.parametrize(
    ("equation", "fields", "rows"),
    [
        (lambda u: u.xx + u.yy, "u", 4),
        (lambda u: u.xxxx + 2 * u.xxyy + u.yyyy, "u", 11),
        (lambda u: u.xxxx * u + u.xxyy + u.yyyy**2, "u", 13),
        (elasticity, "uv", 6),
        (lambda u, k=2.0: ((1 + u**2) * u.x).x + ((1 + u**2) * u.y).y - k, "u", 4),
        (lambda u: u.xx * u.yy, "u", 5),
        (lambda u: torch.sign(u.xx) + u.xx + u.yy, "u", 5),
        (lambda u: torch.where(u.xx > 0, 1, 2) + u.xx + u.yy, "u", 5),
        (lambda x, u: torch.where(x > 0, u.xx + u.yy, u), "u", 4),
        (lambda x, u: x * u.xx + (1 - x) * u.yy, "u", 5),
        (lambda u, v: [u.xx + u.yy + v, v.xx - v.yy], "uv", 5),
    ],
)
def test_number_of_rows(equation: Callable[..., Any], fields: str, rows: int) -> None:
    assert rows_of(equation, XY, fields) == rows


@pytest.mark.parametrize("d", [1, 2, 3, 6, 10])
def test_a_laplacian_in_d_axes_takes_d_plus_two_rows(d: int) -> None:
    domain = box((), **{f"x{k}": (0.0, 1.0) for k in range(d)})
    assert rows_of(lambda u: sum(u.d(axis, axis) for axis in domain.axes), domain) == d + 2


def test_a_wave_has_a_value_two_first_derivatives_and_one_sum() -> None:
    assert rows_of(lambda u: u.tt - 4 * u.xx, TX) == 4


def test_what_is_carried_on_its_own_cannot_be_collapsed() -> None:
    with pytest.raises(ValueError, match="cannot be collapsed"):
        Series([(2, 1)], [LAPLACIAN], d=2)


def test_series_of_waves_and_of_coordinates_are_those_of_nested_differentiation() -> None:
    series = Series(indices(2, 3), [(((0, 4), 1.0), ((4, 0), 2.0))], d=2)
    x = [torch.rand(6, generator=generator(k), dtype=torch.float64).requires_grad_() for k in (0, 1)]
    slope = torch.tensor([[0.0, 3.0], [2.0, -1.0]], dtype=torch.float64)
    phase = slope @ torch.stack(x) + 0.5
    got = series.of_waves(phase.detach(), slope)
    for k in range(2):
        torch.testing.assert_close(got[k], coefficients(torch.cos(phase[k]) + 0 * (x[0] * x[1]) ** 5, x, series))
    line = 3 * x[1] - 1 + 0 * (x[0] * x[1]) ** 5
    torch.testing.assert_close(series.of_coordinate(line.detach(), 1, 3.0), coefficients(line, x, series))
    first = Series([], [(((1, 0), 1.0), ((0, 1), 3.0))], d=2)
    assert np.allclose(first.of_coordinate(line.detach(), 1, 3.0)[1], 9)
