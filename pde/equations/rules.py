"""The rules of differentiation of expressions, by a coordinate or by any other leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from deepcd.pde.equations.expressions import HIGHEST, Expression, add, mul, power
from deepcd.pde.equations.functions import STEPS

# For each function, its derivatives by its arguments, in the order of the arguments.
RULES: dict[Any, tuple[Callable[..., Any], ...]] = {
    torch.sin: (torch.cos,),
    torch.cos: (lambda e: -torch.sin(e),),
    torch.tan: (lambda e: 1 + torch.tan(e) ** 2,),
    torch.exp: (torch.exp,),
    torch.log: (lambda e: 1 / e,),
    torch.log1p: (lambda e: 1 / (1 + e),),
    torch.expm1: (torch.exp,),
    torch.sqrt: (lambda e: 0.5 / torch.sqrt(e),),
    torch.sinh: (torch.cosh,),
    torch.cosh: (torch.sinh,),
    torch.tanh: (lambda e: 1 - torch.tanh(e) ** 2,),
    torch.sigmoid: (lambda e: torch.sigmoid(e) * (1 - torch.sigmoid(e)),),
    torch.asin: (lambda e: 1 / torch.sqrt(1 - e**2),),
    torch.acos: (lambda e: -1 / torch.sqrt(1 - e**2),),
    torch.atan: (lambda e: 1 / (1 + e**2),),
    torch.asinh: (lambda e: 1 / torch.sqrt(1 + e**2),),
    torch.acosh: (lambda e: 1 / torch.sqrt(e**2 - 1),),
    torch.atanh: (lambda e: 1 / (1 - e**2),),
    torch.erf: (lambda e: 2 / math.sqrt(math.pi) * torch.exp(-(e**2)),),
    torch.abs: (torch.sign,),
    torch.sign: (lambda e: 0,),
    torch.atan2: (lambda a, b: b / (a**2 + b**2), lambda a, b: -a / (a**2 + b**2)),
    torch.maximum: (lambda a, b: torch.where(a >= b, 1, 0), lambda a, b: torch.where(a >= b, 0, 1)),
    torch.minimum: (lambda a, b: torch.where(a <= b, 1, 0), lambda a, b: torch.where(a <= b, 0, 1)),
}


def derivative(node: Any, by: Expression) -> Any:
    """Return the derivative of an expression.

    Parameters
    ----------
    node : Expression or float
    by : Expression
        A coordinate: the total derivative, in which fields depend on all coordinates. Or another leaf, such as a
        derivative of a field: the partial derivative by it.

    Returns
    -------
    Expression or float

    Raises
    ------
    ValueError
        If a field is differentiated more than four times.
    TypeError
        If a function without a rule is differentiated.
    """
    if not isinstance(node, Expression):
        return 0
    known = node.frame.derivatives
    key = (node.serial, by.serial)
    if key not in known:
        known[key] = _derivative(node, by)
    return known[key]


def _derivative(node: Expression, by: Expression) -> Any:
    if node is by:
        return 1
    if node.op == "field":
        return _raised(node, by) if by.op == "axis" else 0
    if node.op in ("axis", "unknown", "data", "normal", "number"):
        return 0
    parts = [derivative(a, by) for a in node.args]
    if node.op == "add":
        return add(*parts)
    if node.op == "mul":
        others = [[b for j, b in enumerate(node.args) if j != i] for i in range(len(parts))]
        return add(*(mul(part, *other) for part, other in zip(parts, others, strict=True)))
    if node.op == "pow":
        base, exponent = node.args
        return mul(exponent, power(base, exponent - 1), parts[0])
    return _of_function(node, parts)


def _raised(node: Expression, by: Expression) -> Expression:
    """Return the derivative of a derivative of a field."""
    name, index = node.args
    if sum(index) == HIGHEST:
        raise ValueError(
            f"{node} would be differentiated once more, but derivatives go up to order {HIGHEST}: write the equation "
            "as a system, with a further field for a derivative"
        )
    return node.frame.field(name, tuple(k + (i == by.args[0]) for i, k in enumerate(index)))


def _of_function(node: Expression, parts: list[Any]) -> Any:
    if all(not isinstance(part, Expression) and part == 0 for part in parts):
        return 0
    function = node.op
    if function in STEPS:
        return 0
    if function is torch.where:
        return node.frame.node(torch.where, node.args[0], *parts[1:])
    if function not in RULES:
        known = ", ".join(sorted(f.__name__ for f in RULES))
        name = getattr(function, "__name__", function)
        raise TypeError(
            f"{name} in an equation cannot be differentiated: use sums, products, powers, where, or {known}"
        )
    return add(*(mul(part, rule(*node.args)) for part, rule in zip(parts, RULES[function], strict=True)))
