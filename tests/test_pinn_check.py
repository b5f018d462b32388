"""The check of planned derivatives: it passes on what users state, and fails when a rule or a kernel is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, cos, exp, pi, sqrt

from deepcd.pde.equations import rules
from deepcd.pde.equations.conditions import observe, on
from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import box, polygon
from deepcd.solvers.kernels import tanh_series
from deepcd.solvers.pinn import terms
from deepcd.solvers.pinn.check import check

sin: Any = torch.sin  # of expressions, which mypy takes for tensors
where: Any = torch.where
SQUARE = box(x=(0, 1), y=(0, 1))
L = polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))


def flow(u: Any, v: Any, p: Any, Re: float = 100) -> list[Any]:  # noqa: N803
    return [
        u * u.x + v * u.y + p.x - (u.xx + u.yy) / Re,
        u * v.x + v * v.y + p.y - (v.xx + v.yy) / Re,
        u.x + v.y,
    ]


def stress(u: Any, v: Any, lam: float = 1.0, mu: float = 0.5) -> tuple[Any, Any, Any]:
    trace = u.x + v.y
    return lam * trace + 2 * mu * u.x, lam * trace + 2 * mu * v.y, mu * (u.y + v.x)


def balance(u: Any, v: Any) -> list[Any]:
    xx, yy, xy = stress(u, v)
    return [xx.x + xy.y, xy.x + yy.y - 1]


def traction(u: Any, v: Any, n: Any) -> list[Any]:
    xx, yy, xy = stress(u, v)
    return [xx * n.x + xy * n.y, xy * n.x + yy * n.y]


STATEMENTS: dict[str, Callable[[], Problem]] = {
    "Korteweg and de Vries": lambda: Problem(
        lambda u: u.t + u * u.x + 0.0025 * u.xxx,
        box(t=(0, 1), x=(-1, 1), periodic="x"),
        start=lambda x: cos(pi * x),
    ),
    "Kuramoto and Sivashinsky": lambda: Problem(
        lambda u: u.t + u * u.x + u.xx + u.xxxx,
        box(t=(0, 10), x=(0, 32 * pi), periodic="x"),
        start=lambda x: cos(x / 16) * (1 + sin(x / 16)),
    ),
    "Helmholtz": lambda: Problem(
        lambda x, y, u: u.xx + u.yy + 400 * u - sin(4 * pi * x) * y, SQUARE, on(SQUARE.boundary, lambda u: u)
    ),
    "lid-driven cavity": lambda: Problem(
        flow,
        SQUARE,
        on(SQUARE["x-", "x+", "y-"], lambda u, v: [u, v]),
        on(SQUARE["y+"], lambda x, u, v: [u - (1 - (2 * x - 1) ** 16) ** 2, v]),
        fields="uvp",
    ),
    "unknown conductivity": lambda: Problem(
        lambda u, k: u.t - k * u.xx,
        box(t=(0, 1), x=(0, 1)),
        on(("x-", "x+"), lambda u: u),
        observe([[0.5, 0.5]], u=[0.1], sigma=0.01),
        start=lambda x: sin(pi * x),
        unknowns={"k": 1.0},
    ),
    "three kinds of sides": lambda: Problem(
        lambda u: u.xx + u.yy + 1,
        L,
        on(L[0, 1, 2], lambda u: u),
        on(L[3, 4], lambda u: u.n),
        on(L[5], lambda u: u.n + 3 * u - 1),
    ),
    "elasticity": lambda: Problem(
        balance, L, on(L[0], lambda u, v: [u, v]), on(L[1, 2, 3, 4, 5], traction), fields="uv"
    ),
    "minimal surface": lambda: Problem(
        lambda u: (u.x / sqrt(1 + u.x**2 + u.y**2)).x + (u.y / sqrt(1 + u.x**2 + u.y**2)).y,
        SQUARE,
        ansatz=lambda x, y, u: exp(x * y) + x * (1 - x) * y * (1 - y) * u,
    ),
    "biharmonic": lambda: Problem(lambda u: u.xxxx + 2 * u.xxyy + u.yyyy - 1, SQUARE),
    "a branch that has no slope": lambda: Problem(
        lambda x, u: where(x > 2, sqrt(x - 2), u).x + u.yy, box(x=(0, 1), y=(0, 1))
    ),
    "micrometres, and a sum that vanishes": lambda: Problem(
        lambda u: [(u * u.x).y - (u.y * u).x, u.xx + u.yy], box(x=(0, 1e-6), y=(0, 1e-6))
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_pass(name: str) -> None:
    check(STATEMENTS[name]())


def refused(problem: Callable[[], Problem]) -> None:
    with pytest.raises(ArithmeticError, match=r"residual \d of the .* by the planned derivatives, but .* by nested"):
        check(problem())


class TestFailures:
    def test_a_wrong_rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = {**rules.RULES, torch.exp: (lambda e: torch.exp(e) + 1e-6,)}
        monkeypatch.setattr(rules, "RULES", wrong)
        refused(STATEMENTS["minimal surface"])

    def test_a_wrong_rule_in_a_condition(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "RULES", {**rules.RULES, torch.sin: (lambda e: -torch.cos(e),)})
        refused(lambda: Problem(lambda u: u.xx + u.yy, SQUARE, on("x-", lambda u: sin(u).n)))

    @pytest.mark.parametrize(
        "name", ["Korteweg and de Vries", "Helmholtz", "elasticity", "biharmonic", "lid-driven cavity"]
    )
    def test_a_wrong_kernel(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        right = tanh_series.run

        def wrong(x: Any, w: Any, code: Any, factors: Any, slots: int, out: Any) -> None:
            right(x, w, code, factors, slots, out)
            out[:, -1] *= 1 + 1e-6

        monkeypatch.setattr(tanh_series, "run", wrong)
        refused(STATEMENTS[name])

    def test_a_kernel_that_gives_nan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tanh_series, "run", lambda *args: args[-1].fill(float("nan")))
        refused(STATEMENTS["Helmholtz"])

    def test_a_wrong_instruction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = tanh_series.run

        def wrong(x: Any, w: Any, code: Any, factors: Any, slots: int, out: Any) -> None:
            changed = factors.copy()
            changed[code[:, 0] == tanh_series.ADD, 0] *= 1.001
            right(x, w, code, changed, slots, out)

        monkeypatch.setattr(tanh_series, "run", wrong)
        refused(STATEMENTS["Korteweg and de Vries"])

    def test_sums_that_must_not_be_collapsed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def all_second(residuals: Any, derivatives: Any) -> Any:
            return [(((0, 2), 1.0), ((2, 0), 1.0))]

        monkeypatch.setattr(terms, "_collapsed", all_second)
        refused(lambda: Problem(lambda x, u: x * u.xx + u.yy, SQUARE))

    def test_a_wrong_factor_of_a_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terms, "factorial", lambda index: 1)
        refused(lambda: Problem(lambda u: u.xx * u + u.y, SQUARE))


def test_nothing_is_wrong_where_nested_differentiation_has_no_value() -> None:
    def masked(x: Any, y: Any, u: Any) -> Any:
        return where(x * y < 0.3, u.xx, torch.sqrt(x * y - 0.3)).y + u.yy

    check(Problem(masked, SQUARE))
    x = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(torch.where(x < 0.3, x, torch.sqrt(x - 0.3)).sum(), x)
    assert isinstance(slope, Tensor)
    assert slope.isnan().all()
