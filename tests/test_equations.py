"""Equations that are traced: their derivatives, values and text, and the sentences that refuse what cannot be meant."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.pde.equations import Frame
from deepcd.pde.equations.functions import STEPS, applied
from deepcd.pde.equations.programs import Program
from deepcd.pde.equations.rules import RULES, derivative
from deepcd.pde.equations.statements import Problem
from deepcd.pde.equations.text import LONGEST, written
from deepcd.pde.regions import box

where: Any = torch.where  # of expressions, which mypy takes for tensors
floor: Any = torch.floor
maximum: Any = torch.maximum
TX = box(t=(0, 1), x=(-1, 1))


class Names:
    """A frame with two axes and two fields, and its expressions by name."""

    def __init__(self) -> None:
        self.frame = Frame("tx", "uv")
        self.t: Any  # mypy does not know that functions of torch and NumPy take expressions
        self.x: Any
        self.u: Any
        self.v: Any
        self.t, self.x = self.frame.axis("t"), self.frame.axis("x")
        self.u, self.v = self.frame.field("u"), self.frame.field("v")


@pytest.fixture
def names() -> Names:
    return Names()


def points(n: int = 7, low: float = 0.1, high: float = 0.9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


def value(expression: Any, **given: Tensor) -> Tensor:
    """The value of an expression of axes alone."""
    program = Program([expression])
    frame = expression.frame
    result = program(program.constants({frame.axis(name): x for name, x in given.items()}), {})[0]
    return torch.as_tensor(result, dtype=torch.float64).expand(len(next(iter(given.values()))))


class TestDerivatives:
    @pytest.mark.parametrize("function", RULES, ids=lambda f: f.__name__)
    @pytest.mark.parametrize("times", [1, 2])
    def test_rules_are_those_of_autograd(self, names: Names, function: Any, times: int) -> None:
        scale = 2.0 if function is torch.acosh else 0.7  # where all functions are smooth, and acosh and log exist
        t, x = points(seed=1).requires_grad_(), points(seed=2).requires_grad_()
        arguments = len(RULES[function])
        ours = function(*(scale * a + 0.4 * b for a, b in ((names.t, names.x), (names.x, names.t))[:arguments]))
        theirs = function(*(scale * a + 0.4 * b for a, b in ((t + 0, x), (x, t))[:arguments]))
        if function is torch.acosh:
            ours, theirs = function(1.2 + scale * names.t + 0.4 * names.x), function(1.2 + scale * t + 0.4 * x)
        for axis, leaf in (("t", t), ("x", x)):
            wanted = theirs
            for _ in range(times):
                wanted = wanted + 0 * (t * x).sum() ** 3  # keeps what is constant in the graph
                (wanted,) = torch.autograd.grad(wanted.sum(), leaf, create_graph=True)
            got = value(ours.d(*[axis] * times), t=t.detach(), x=x.detach())
            torch.testing.assert_close(got, wanted.detach(), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(
        "f",
        [
            lambda t, x: (t + 2) ** x,
            lambda t, x: 2**x / (t + 3),
            lambda t, x: (x * t) ** -1.5 - t / x,
            lambda t, x: torch.where((x > 0.5) | ~(t < 0.5), x**3 * t, torch.sin(x * t)),
            lambda t, x: torch.where((x > 0.5) & (t >= 0.2), x**2 * t, 1.0),
            lambda t, x: torch.exp(-(x**2) / (1 + t)) * torch.sqrt(x + t) + abs(x - 0.5) ** 3,
            lambda t, x: -(3 - x) * (x - 2 * t) ** 2 * (+t),
        ],
    )
    @pytest.mark.parametrize("index", ["t", "x", "tx", "xx", "txx"])
    def test_composite_expressions_too(self, names: Names, f: Callable[..., Any], index: str) -> None:
        t, x = points(seed=3).requires_grad_(), points(seed=4).requires_grad_()
        wanted = f(t, x)
        for axis in index:
            (wanted,) = torch.autograd.grad(wanted.sum(), t if axis == "t" else x, create_graph=True)
        got = value(f(names.t, names.x).d(*index), t=t.detach(), x=x.detach())
        torch.testing.assert_close(got, wanted.detach(), rtol=1e-11, atol=1e-11)

    def test_fields_are_differentiated_by_all_axes_and_along_the_normal(self, names: Names) -> None:
        u, v, n = names.u, names.v, names.frame.normal()
        assert (u * v).tx is u.tx * v + u.t * v.x + u.x * v.t + u * v.tx
        assert u.n is n[0] * u.t + n.x * u.x
        assert u.d("x", "t", "x") is u.txx
        assert (names.x**2 * u).nn.d("x").frame is names.frame

    def test_partial_derivatives_are_by_one_leaf(self, names: Names) -> None:
        u, v = names.u, names.v
        assert derivative(u * u.x + 3 * u.xx * v, u.xx) is 3 * v
        assert derivative(u * u.x, u.xx) == 0

    def test_numbers_can_be_differentiated_and_go_into_functions(self, names: Names) -> None:
        x = names.x
        assert repr(x.x.x) == repr((2 * x).x.t) == repr(x.nt) == "0"
        assert repr(torch.cos(0 * x) + np.exp(x.t)) == "2"
        assert (names.u * x.x) is names.u
        assert repr(where(x > 0.5, x.x, 0 * x).x) == "0"


class TestFunctions:
    @pytest.mark.parametrize("name", ["sin", "exp", "tanh", "sqrt", "arctan", "absolute", "square", "reciprocal"])
    def test_functions_of_numpy_are_those_of_torch(self, names: Names, name: str) -> None:
        assert getattr(np, name)(names.u) is getattr(torch, name)(names.u)

    def test_functions_of_two_arguments_too(self, names: Names) -> None:
        u, x = names.u, names.x
        assert np.arctan2(u, x) is torch.atan2(u, x)
        assert np.maximum(u, 0.5) is maximum(u, torch.tensor(0.5))
        assert np.where(x > 0, u, 0) is where(x > 0, u, 0)
        assert np.power(u, 3) is u**3 is torch.pow(u, 3)

    def test_scalars_of_numpy_and_torch_are_numbers(self, names: Names) -> None:
        u = names.u
        for two in (np.float64(2), np.array(2.0), torch.tensor(2.0), np.float32(2)):
            assert two + u is u + 2.0
            assert two - u is 2.0 - u
            assert two * u is 2.0 * u
            assert two / u is 2.0 / u
            assert two**u is 2.0**u
            assert repr(two < u) in ("lt(2, u)", "gt(u, 2)")
            assert (u == two) is (u == 2.0)

    @pytest.mark.parametrize("step", sorted(STEPS, key=str), ids=lambda f: f.__name__)
    def test_comparisons_are_steps_without_slope(self, names: Names, step: Any) -> None:
        true = names.x > 0.5
        node = step(true) if step is torch.logical_not else step(true, names.x < 0.9)
        if step.__name__ in ("lt", "le", "gt", "ge", "eq", "ne"):
            node = step(names.x, 0.5)
        assert value(torch.where(node, 1.0, 2.0), x=points()).unique().numel() <= 2
        assert derivative(node, names.x) == 0

    def test_types_of_values_are_those_of_the_points(self, names: Names) -> None:
        expression = maximum(names.x, 0.5 * names.x).x * torch.atan2(names.x, torch.tensor(1.0))
        program = Program([expression])
        (got,) = program(program.constants({names.x: points().float()}), {})
        assert got.dtype == torch.float32

    @pytest.mark.parametrize("f", [torch.sum, torch.mean, np.max, np.sum, torch.rand_like, torch.sort])
    def test_what_mixes_points_is_refused(self, names: Names, f: Any) -> None:
        with pytest.raises(TypeError, match=r"at each point by itself, but .* mixes the values"):
            f(names.u)

    def test_what_does_not_take_expressions_is_refused(self, names: Names) -> None:
        with pytest.raises(TypeError, match="stack must be given one expression per argument"):
            torch.stack([names.u, names.v])
        with pytest.raises(TypeError, match="cumsum takes no keyword arguments in an equation, got dim"):
            torch.cumsum(names.u, dim=0)
        with pytest.raises(TypeError, match="cannot use cumsum of u"):
            applied(torch.cumsum, (names.u, 0))
        with pytest.raises(TypeError, match=r"numpy\.cbrt has no counterpart in torch"):
            np.cbrt(names.u)
        with pytest.raises(TypeError, match=r"numpy\.add\.reduce of an expression has no meaning"):
            np.add.reduce(names.u)

    def test_functions_without_a_rule_serve_until_they_are_differentiated(self, names: Names) -> None:
        x = points()
        torch.testing.assert_close(value(torch.floor(3 * names.x), x=x), torch.floor(3 * x))
        with pytest.raises(TypeError, match=r"floor in an equation cannot be differentiated: use sums, .*tanh"):
            floor(names.u).x  # noqa: B018


class TestGraph:
    def test_constants_are_folded(self, names: Names) -> None:
        u, x = names.u, names.x
        assert (2 * u) * 3 is 6 * u
        assert u + 1 - 1 is u
        assert u / 4 is 0.25 * u
        assert repr(u - u) == repr(0 * u) == "0"
        assert 2 * u + 3 * u is 5 * u
        assert u * u * x / u is u * x
        assert (u**2) ** 3 is u**6
        assert (x**2) ** 0.5 is not x

    def test_common_parts_are_one_node(self, names: Names) -> None:
        u, x = names.u, names.x
        assert x * u is u * x
        assert x + u is u + x
        assert torch.sin(x) * (u.x + 1) is (u.x + 1) * torch.sin(x)
        assert (x > 1) is (x > 1)
        assert (x + 1) * u is not (x + 1.5) * u
        assert (x > True) is not (x > 1)  # equal constants of different types

    def test_a_program_computes_parts_of_coordinates_alone_once(self, names: Names) -> None:
        program = Program([torch.sin(names.x) * names.u, 3.0])
        x, u = points(), points(seed=1)
        constants = program.constants({names.x: x})
        got = program(constants, {names.u: u})
        torch.testing.assert_close(got[0], torch.sin(x) * u)
        assert got[1] == 3.0
        assert names.x.serial not in constants

    def test_expressions_of_another_equation_are_refused(self, names: Names) -> None:
        with pytest.raises(ValueError, match="an expression of another one"):
            names.u * Names().u

    def test_text(self, names: Names) -> None:
        t, x, u, v = names.t, names.x, names.u, names.v
        assert written(u.t + u * u.x - 0.0025 * u.xxx) == "u_t + u u_x - 0.0025 u_xxx"
        assert written(1 - u + (x * u) ** 2) == "-u + (x u)^2 + 1"
        assert written((u**0.5) ** 3.5 + (u + v) ** 2) == "(u^0.5)^3.5 + (u + v)^2"
        assert written(torch.where(x > 0, -u.tx, 1e-9 * t)) == "where(gt(x, 0), -u_tx, 1e-09 t)"
        assert written(names.frame.normal().x * names.frame.unknown("k")) == "n_x k"
        assert written(2.5) == "2.5"
        long = written(sum(torch.sin(k * u) for k in range(1, 99)))
        assert len(long) == LONGEST
        assert long.endswith(" ...")

    def test_order_and_text_do_not_depend_on_hash_seeds(self) -> None:
        code = (
            "from deepcd.pde.equations.statements import Problem\n"
            "from deepcd.pde.regions import box\n"
            "import torch\n"
            "p = Problem(lambda u, v, k: [(torch.exp(u) * u.x).x + k * u.yy + v, v.xx + u * v.yy - u.x * u.y],\n"
            "            box(x=(0, 1), y=(0, 1)), fields='uv', unknowns={'k': 1.0})\n"
            "nodes = p.frame._nodes.values()\n"
            "print(p.title, [(n.serial, str(n)) for n in nodes])\n"
        )
        seen = set()
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            command = [sys.executable, "-c", code]
            seen.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        assert len(seen) == 1
        assert "u_x" in seen.pop()


class TestRefusals:
    def test_branches_on_values(self, names: Names) -> None:
        with pytest.raises(TypeError, match=r"branches on the value of gt\(u, 0\).*torch\.where"):
            Problem(lambda u: u.x if u > 0 else u.t, TX)
        with pytest.raises(TypeError, match="branches on the value"):
            max(names.u, names.x)

    @pytest.mark.parametrize("f", [math.sin, float, int, complex])
    def test_functions_of_math(self, names: Names, f: Callable[[Any], Any]) -> None:
        with pytest.raises(TypeError, match=r"u is no number here.*torch\.sin, in place of those of math"):
            f(names.u)

    def test_unknown_axes(self, names: Names) -> None:
        with pytest.raises(AttributeError, match=r"u has no 'y': derivatives are named by the axes t, x, such as \.x"):
            names.u.y  # noqa: B018
        with pytest.raises(ValueError, match="there is no axis 'y' to differentiate by; the axes are t, x"):
            names.u.d("y")
        with pytest.raises(AttributeError, match="the normal has the components t, x, but no 'z'"):
            names.frame.normal().z  # noqa: B018

    def test_fifth_derivatives(self, names: Names) -> None:
        with pytest.raises(
            ValueError, match="u_xxxx would be differentiated once more, but derivatives go up to order 4"
        ):
            names.u.xxxxx  # noqa: B018

    @pytest.mark.parametrize("array", [np.ones(3), torch.ones(3)])
    def test_arrays(self, names: Names, array: Any) -> None:
        for f in (
            lambda: names.u * array,
            lambda: array * names.u,
            lambda: names.u > array,
            lambda: np.add(names.u, array),
        ):
            with pytest.raises(TypeError, match=r"may hold numbers, not \w+ of shape \(3,\).*functions of the axes"):
                f()

    def test_several_in_one(self, names: Names) -> None:
        with pytest.raises(TypeError, match="one expression, not several"):
            _, _ = names.u
        with pytest.raises(TypeError, match="one expression, and has no length"):
            len(names.u)

    def test_powers_and_quotients_without_a_value(self, names: Names) -> None:
        with pytest.raises(ValueError, match="the base must be positive"):
            (-2) ** names.u
        with pytest.raises(ZeroDivisionError, match="divides by zero"):
            names.u / 0
