"""The values of expressions at points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deepcd.pde.equations.expressions import Expression

Values = dict[int, Any]  # tensors of shape (n,) or numbers, by the serial number of a node


class Program:
    """Expressions in the order in which their parts are computed.

    What depends on neither fields nor unknown parameters is computed once for all (`constants`).

    Parameters
    ----------
    expressions : sequence of Expression or float
        Results; all from one frame.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.equations.frames import Frame
    >>> from deepcd.pde.equations.programs import Program
    >>> frame = Frame("x")
    >>> x, u = frame.axis("x"), frame.field("u")
    >>> program = Program([x**2 * u.x])
    >>> constants = program.constants({x: torch.tensor([1.0, 2.0])})
    >>> program(constants, {u.x: torch.tensor([5.0, 5.0])})
    [tensor([ 5., 20.])]
    """

    def __init__(self, expressions: Sequence[Any]) -> None:
        self._results = list(expressions)
        nodes = [node for node in in_order(self._results) if not _is_leaf(node)]
        self._early = [node for node in nodes if not node.depends]
        self._late = [node for node in nodes if node.depends]
        used = {a.serial for node in self._late for a in node.args if isinstance(a, Expression)}
        used |= {one.serial for one in self._results if isinstance(one, Expression)}
        self._used = used

    def constants(self, given: Mapping[Expression, Any]) -> Values:
        """Return the values of all parts that depend on coordinates and data alone, from those of these leaves."""
        values = {leaf.serial: value for leaf, value in given.items()}
        dtype = _dtype(values)
        for node in self._early:
            values[node.serial] = _value(node, values, dtype)
        return {serial: value for serial, value in values.items() if serial in self._used}

    def __call__(self, constants: Values, given: Mapping[Expression, Any]) -> list[Any]:
        """Return the values of the expressions.

        Parameters
        ----------
        constants : dict
            What `constants` returned.
        given : mapping of Expression to Tensor of shape (n,), or number
            Values of the derivatives of fields, and of the unknown parameters.

        Returns
        -------
        list of Tensor of shape (n,), or number
        """
        values = {**constants, **{leaf.serial: value for leaf, value in given.items()}}
        dtype = _dtype(values)
        for node in self._late:
            values[node.serial] = _value(node, values, dtype)
        return [values[one.serial] if isinstance(one, Expression) else one for one in self._results]


def nested(
    expressions: Sequence[Any], given: Mapping[Expression, Tensor], x: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the values of expressions whose derivatives were left as they are, by nested differentiation.

    Parameters
    ----------
    expressions : sequence of Expression or float
        Traced under `Frame.unexpanded`.
    given : mapping of Expression to Tensor of shape (n,)
        Values of all leaves; torch knows how they depend on x.
    x : sequence of d Tensors of shape (n,)
        Coordinates that require a gradient.

    Returns
    -------
    values : Tensor, shape (m, n)
    sizes : Tensor, shape (m, n)
        The same with all terms of sums taken as positive: what rounding errors are to be measured by.
    """
    values = {leaf.serial: value for leaf, value in given.items()}
    for node in in_order(expressions):
        if node.op == "derivative":
            of, axis = values[node.args[0].serial], x[node.args[1]]
            gradient = None
            if isinstance(of, Tensor) and of.requires_grad:
                (gradient,) = torch.autograd.grad(of.sum(), axis, create_graph=True, allow_unused=True)
            values[node.serial] = torch.zeros_like(axis) if gradient is None else gradient
        elif not _is_leaf(node):
            values[node.serial] = _value(node, values, torch.float64)
    zero = torch.zeros_like(x[0])
    found = [zero + (values[one.serial] if isinstance(one, Expression) else one) for one in expressions]
    return torch.stack(found), torch.stack([zero + _size(one, values) for one in expressions])


def _size(one: Any, values: Values) -> Any:
    if not isinstance(one, Expression):
        return abs(one)
    if one.op in ("add", "mul"):
        parts = [_size(a, values) for a in one.args]
        return sum(parts) if one.op == "add" else math.prod(parts)
    return abs(values[one.serial])


def _is_leaf(node: Expression) -> bool:
    return node.op in ("field", "axis", "unknown", "data", "normal")


def in_order(expressions: Sequence[Any]) -> list[Expression]:
    """Return all nodes below some expressions, each after its arguments: a frame makes arguments first."""
    found: dict[int, Expression] = {}
    stack = [one for one in expressions if isinstance(one, Expression)]
    while stack:
        node = stack.pop()
        if node.serial not in found:
            found[node.serial] = node
            stack.extend(a for a in node.args if isinstance(a, Expression))
    return [found[serial] for serial in sorted(found)]


def _dtype(values: Values) -> torch.dtype:
    """Return the type of the values, in which numbers are given to functions."""
    found = (v.dtype for v in values.values() if isinstance(v, Tensor) and v.is_floating_point())
    return next(found, torch.float64)


def _value(node: Expression, values: Values, dtype: torch.dtype) -> Any:
    args = [values[a.serial] if isinstance(a, Expression) else a for a in node.args]
    if node.op == "add":
        total = args[0]
        for a in args[1:]:
            total = total + a
        return total
    if node.op == "mul":
        product = args[0]
        for a in args[1:]:
            product = product * a
        return product
    if node.op == "pow":
        return args[0] ** args[1]
    if node.op == "number":
        return args[0]
    types = [torch.bool if isinstance(a, bool) else dtype for a in args]
    tensors = (a if isinstance(a, Tensor) else torch.as_tensor(a, dtype=t) for a, t in zip(args, types, strict=True))
    return node.op(*tensors)
