"""Functions of torch and NumPy in equations: each becomes a node, under one name, if it acts point by point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from deepcd.pde.equations.expressions import Expression, add, frame_of, inverse, mul, number, plain, power

_OF_NUMPY = {"absolute": "abs", "true_divide": "divide", "power": "pow", "float_power": "pow", "invert": "logical_not"}
_OF_NUMPY |= {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq"}
_OF_NUMPY |= {"not_equal": "ne", "bitwise_and": "logical_and", "bitwise_or": "logical_or"}

# Names of the same function.
_SAME: dict[Any, Any] = {torch.absolute: torch.abs, torch.arctan2: torch.atan2, torch.arctan: torch.atan}
_SAME |= {torch.arcsin: torch.asin, torch.arccos: torch.acos, torch.arcsinh: torch.asinh, torch.arccosh: torch.acosh}
_SAME |= {torch.arctanh: torch.atanh, torch.special.expit: torch.sigmoid, torch.special.erf: torch.erf}
_SAME |= {torch.special.expm1: torch.expm1, torch.special.log1p: torch.log1p, torch.clip: torch.clamp}
_SAME |= {torch.Tensor.abs: torch.abs, torch.fix: torch.trunc}
_SAME |= {torch.less: torch.lt, torch.less_equal: torch.le, torch.greater: torch.gt, torch.greater_equal: torch.ge}
_SAME |= {torch.not_equal: torch.ne, torch.Tensor.eq: torch.eq, torch.Tensor.ne: torch.ne, torch.Tensor.lt: torch.lt}
_SAME |= {torch.Tensor.le: torch.le, torch.Tensor.gt: torch.gt, torch.Tensor.ge: torch.ge}

STEPS = {torch.lt, torch.le, torch.gt, torch.ge, torch.eq, torch.ne, torch.logical_and, torch.logical_or}
STEPS |= {torch.logical_not}  # type: ignore[arg-type]

_ARITHMETIC: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.add, torch.Tensor.add), add),
    **dict.fromkeys((torch.sub, torch.subtract, torch.Tensor.sub), lambda a, b: add(a, mul(-1.0, b))),
    torch.Tensor.__rsub__: lambda a, b: add(b, mul(-1.0, a)),
    **dict.fromkeys((torch.mul, torch.multiply, torch.Tensor.mul), mul),
    **dict.fromkeys((torch.div, torch.divide, torch.true_divide, torch.Tensor.div), lambda a, b: mul(a, inverse(b))),
    **dict.fromkeys((torch.neg, torch.negative), lambda a: mul(-1.0, a)),
    **dict.fromkeys((torch.pow, torch.Tensor.pow, torch.Tensor.__pow__), lambda a, b: a**b),
    torch.Tensor.__rpow__: lambda a, b: b**a,
    torch.square: lambda a: power(a, 2),
    torch.reciprocal: inverse,
    torch.positive: lambda a: a,
}


def of_numpy(function: Any) -> Any:
    """Return the function of torch that computes what a function of NumPy does.

    Raises
    ------
    TypeError
        If there is none.
    """
    found = getattr(torch, _OF_NUMPY.get(function.__name__, function.__name__), None)
    if found is None:
        raise TypeError(f"numpy.{function.__name__} has no counterpart in torch, so an equation cannot use it")
    return found


def applied(function: Any, args: Sequence[Any], kwargs: Any = None) -> Expression:
    """Return a function of expressions and numbers as an expression.

    Parameters
    ----------
    function : callable
        A function of torch.
    args : sequence of Expression or float
        At least one is an Expression.
    kwargs : mapping, optional
        Refused, unless it is empty.

    Raises
    ------
    TypeError
        If it has keyword arguments, or an argument that is no number, or does not act on each point by itself.
    """
    name = getattr(function, "__name__", str(function))
    if kwargs:
        raise TypeError(f"{name} takes no keyword arguments in an equation, got {', '.join(kwargs)}")
    frame = frame_of(function, args)
    values = [plain(a) for a in args]
    function = _SAME.get(function, function)
    if not any(isinstance(a, Expression) for a in values):
        folded = function(*(torch.as_tensor(a, dtype=None if isinstance(a, bool) else torch.float64) for a in values))
        return frame.lifted(number(folded))
    if function in _ARITHMETIC:
        return frame.lifted(_ARITHMETIC[function](*values))
    if function is torch.where and isinstance(values[0], bool):
        return frame.lifted(values[1] if values[0] else values[2])
    if function not in STEPS and function is not torch.where:
        _act_on_points(function, name, values)
    return frame.node(function, *values)


def _act_on_points(function: Any, name: str, values: Sequence[Any]) -> None:
    """Refuse a function that makes one number of those of all points, or mixes them, such as a sum or a mean."""
    points = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    given = [
        (points > 0.5 if a.op in STEPS else points) if isinstance(a, Expression) else points * 0 + a for a in values
    ]
    try:
        whole = function(*given)
        alone = [function(*(a[i : i + 1] for a in given)) for i in range(3)]
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise TypeError(f"an equation cannot use {name} of {values[0]!s:.60}: {error}") from error
    shapes = [tuple(getattr(one, "shape", ())) for one in (whole, *alone)]
    if shapes != [(3,), (1,), (1,), (1,)] or not torch.isclose(whole, torch.cat(alone), equal_nan=True).all():
        raise TypeError(f"an equation holds at each point by itself, but {name} mixes the values at different points")
