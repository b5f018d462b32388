"""Statements of problems: what they build in, and the sentences that refuse what makes no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deepcd.pde.equations import Expression
from deepcd.pde.equations.conditions import observe, on
from deepcd.pde.equations.statements import Problem
from deepcd.pde.equations.text import written
from deepcd.pde.regions import box

XY = box(x=(0, 1), y=(0, 1))


def stated(*conditions: Any, equation: Any = lambda u: u.xx + u.yy, **options: Any) -> Problem:
    return Problem(equation, XY, *conditions, **options)


AT = [[0.5, 0.5], [0.2, 0.1]]
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "condition without field": (
        lambda: stated(on("x-", lambda y: y - 1)),
        ValueError,
        r"condition 1 on .*names no field: its residual must have u in it",
    ),
    "unknown argument": (
        lambda: stated(equation=lambda x, w: w.x),
        ValueError,
        "the equation has an argument 'w', which is none of x, y, u",
    ),
    "undetermined field": (
        lambda: stated(fields="up"),
        ValueError,
        "no equation determines p: name it in the equation, or leave it out of fields",
    ),
    "idle unknown": (
        lambda: stated(unknowns={"k": 1.0}),
        ValueError,
        "the unknown k is in no equation and in no condition",
    ),
    "nothing returned": (
        lambda: stated(equation=lambda u: None),
        TypeError,
        "the equation must return a residual, or a list of them, got NoneType",
    ),
    "a comparison with a bool": (lambda: stated(equation=lambda u: True), TypeError, "got bool"),
    "a tensor": (lambda: stated(equation=lambda u: torch.ones(2)), TypeError, "got Tensor"),
    "a condition that returns text": (lambda: stated(on("x-", lambda u: [u, "v"])), TypeError, "condition 1 .*got str"),
    "names used twice": (
        lambda: stated(fields="ux"),
        ValueError,
        "x names more than one of the axes, fields, unknowns and the normal n",
    ),
    "the name of the normal": (lambda: stated(unknowns={"n": 1.0}), ValueError, "n names more than one"),
    "no identifier": (lambda: stated(fields=("u 1",)), ValueError, "named by identifiers, got 'u 1'"),
    "an axis d": (lambda: Problem(lambda u: u.x, box(x=(0, 1), d=(0, 1))), ValueError, "an axis cannot be named d"),
    "start and ansatz": (
        lambda: stated(start=lambda y: y, ansatz=lambda u: u),
        ValueError,
        "start and ansatz both build data in: put the data of the start into the ansatz",
    ),
    "start of wrong length": (
        lambda: stated(start=lambda y: [y, y]),
        ValueError,
        "the start must give 1 fields, u; got 2",
    ),
    "ansatz of wrong type": (lambda: stated(ansatz=lambda u: "u"), TypeError, "ansatz must give expressions.*got str"),
    "no domain": (lambda: Problem(lambda u: u.x, (0, 1)), TypeError, "domain must be a domain"),  # type: ignore[arg-type]
    "no condition": (lambda: stated("x-"), TypeError, "conditions are made by pinn.on or pinn.observe, got 'x-'"),
    "metric": (lambda: stated(metric="l1"), ValueError, 'metric must be "relative l2" or "mse"'),
    "start of an unknown": (
        lambda: stated(equation=lambda u, k: k * u.x, unknowns={"k": math.nan}),
        ValueError,
        "the unknown k must start at a finite number, got nan",
    ),
    "normal in the equation": (lambda: stated(equation=lambda u: u.n), ValueError, "names the normal n"),
    "observed shape": (
        lambda: observe(AT, u=[1.0]),
        ValueError,
        r"there are 2 observed points, so u must have the shape \(2,\), got \(1,\)",
    ),
    "observed points": (lambda: observe([0.5], u=[1.0]), ValueError, r"must have the shape \(n, d\)"),
    "nothing observed": (lambda: observe(AT), ValueError, "an observation needs values of a field"),
    "observed dimension": (
        lambda: stated(observe([[0.5]], u=[1.0])),
        ValueError,
        "observation 1 has points with 1 coordinates, but the domain has the axes x, y",
    ),
    "observed field": (
        lambda: stated(observe(AT, w=[1.0, 2.0])),
        ValueError,
        "observation 1 is of w, but the fields are u",
    ),
    "observed NaN": (lambda: observe(AT, u=[1.0, math.nan]), ValueError, "u of an observation must be finite numbers"),
    "sigma of zero": (
        lambda: observe(AT, u=[1.0, 2.0], sigma=0.0),
        ValueError,
        "sigma must be a positive number, or 2",
    ),
    "sigma of wrong shape": (
        lambda: observe(AT, u=[1.0, 2.0], sigma=[1.0] * 3),
        ValueError,
        "sigma must be a positive",
    ),
    "weight": (
        lambda: on("x-", lambda u: u, weight=-1.0),
        ValueError,
        "weight of a condition must be a positive number",
    ),
    "no function": (lambda: on("x-", 0.0), TypeError, "a condition must be a function such as"),  # type: ignore[arg-type]
    "no solution": (lambda: stated().exact(np.zeros((1, 2))), ValueError, "no solution is known"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_statements_that_make_no_sense_are_refused_in_one_sentence(mistake: str) -> None:
    wrong, kind, sentence = MISTAKES[mistake]
    with pytest.raises(kind, match=sentence):
        wrong()


class TestStatements:
    def test_start_is_built_in_exactly(self) -> None:
        problem = Problem(lambda t, x, u: u.t - u.xx, box(t=(2, 3), x=(0, 1)), start=lambda x: torch.sin(x) + 0)
        assert written(problem.values()[0]) == "(t - 2) u + sin(x)"
        assert problem.title == "u_t - u_xx = 0"

    def test_fields_can_be_numbers(self) -> None:
        problem = Problem(lambda u, v: [u.xx + v.y, v.x + u], XY, fields="uv", ansatz=lambda x, u, v: [u + v, 3])
        assert [repr(one) for one in problem.values()] == ["u + v", "3"]

    def test_solutions_are_tensors_or_numbers_per_field(self) -> None:
        problem = Problem(lambda u, v: [u.x, v.x], XY, fields="uv", solution=lambda y: [y, 2])
        np.testing.assert_array_equal(problem.exact(np.array([[0.0, 1.0], [0.0, 3.0]])), [[1, 3], [2, 2]])

    def test_everything_is_an_expression(self) -> None:
        problem = stated(on("x-", lambda u, n: u.n + n.x * u), observe(AT, u=[1.0, 2.0], sigma=0.1))
        assert [term.name for term in problem.terms] == ["equation", "condition 1 on ('x-',)", "observation 2"]
        assert all(isinstance(one, Expression) for term in problem.terms for one in term.residuals)
