"""Expressions that a user's equation is traced into: called once with them, it leaves a graph of what it computes.

A graph has coordinates, derivatives of fields, unknown parameters, data and components of the normal as its leaves, and
sums, products, powers and functions of torch above them. Each node exists once in its `Frame`, so that equal parts of
an equation are one object, computed once. Differentiation is the calculus of sums, products and functions on the graph
(`deepcd.pde.equations.rules`), until only derivatives of fields are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

Index = tuple[int, ...]  # orders of a derivative, one per axis
HIGHEST = 4  # highest order of a derivative that networks carry


class Frame:
    """The names that an equation may use, and the nodes made from them.

    Parameters
    ----------
    axes : sequence of str
        Names of the coordinates, in order.
    fields : sequence of str, default ("u",)
        Names of what is computed by a network.
    """

    def __init__(self, axes: Sequence[str], fields: Sequence[str] = ("u",)) -> None:
        self.axes, self.fields = tuple(axes), tuple(fields)
        self._nodes: dict[tuple[Any, ...], Expression] = {}
        self.derivatives: dict[tuple[int, int], Any] = {}  # those that were computed, by the serial numbers
        # Whether derivatives stay as they are, for a check by nested differentiation.
        self.unexpanded = False

    def node(self, op: Any, *args: Any) -> Expression:
        """Return the node of an operation on nodes and constants; the same node for the same operation."""
        # Constants that are equal but of different type, such as 1 and True, stay apart.
        key = (op, *((id(a),) if isinstance(a, Expression) else _key(a) for a in args))
        if key not in self._nodes:
            self._nodes[key] = Expression(self, op, args, len(self._nodes))
        return self._nodes[key]

    def axis(self, name: str) -> Expression:
        """Return a coordinate."""
        return self.node("axis", self.axes.index(name))

    def field(self, name: str, index: Index | None = None) -> Expression:
        """Return the output of the network for a field, or a derivative of it."""
        return self.node("field", name, index or (0,) * len(self.axes))

    def unknown(self, name: str) -> Expression:
        """Return a parameter that is computed with the fields."""
        return self.node("unknown", name)

    def data(self, name: str) -> Expression:
        """Return numbers that come with the points."""
        return self.node("data", name)

    def normal(self) -> Normal:
        """Return the outward unit normal."""
        return Normal(self)

    def multi_index(self, names: Sequence[str]) -> Index:
        """Return how often each axis is among the names."""
        return tuple(list(names).count(axis) for axis in self.axes)


class Normal(Sequence["Expression"]):
    """The outward unit normal: its components by number, or by the name of an axis, such as n.x."""

    def __init__(self, frame: Frame) -> None:
        self._components = tuple(frame.node("normal", i) for i in range(len(frame.axes)))
        self._axes = frame.axes

    def __getattr__(self, name: str) -> Expression:
        if name in self._axes:
            return self._components[self._axes.index(name)]
        raise AttributeError(f"the normal has the components {', '.join(self._axes)}, but no {name!r}")

    def __getitem__(self, i: Any) -> Any:
        return self._components[i]

    def __len__(self) -> int:
        return len(self._components)


class Expression:
    """A node of a graph; made by a `Frame`, by arithmetic, and by functions of torch and NumPy.

    Attributes name derivatives: ``u.t``, ``u.xxy``, and ``u.n`` along the normal; long names of axes go through
    ``u.d("x1", "x1")``.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.equations.expressions import Frame
    >>> frame = Frame("tx")
    >>> x, u = frame.axis("x"), frame.field("u")
    >>> ((1 + x**2) * u.x).x
    ((1 + x^2) u_xx + 2 x u_x)
    >>> torch.sin(u).t
    cos(u) u_t
    """

    __slots__ = ("args", "depends", "frame", "op", "serial")
    __array_priority__ = 1000  # NumPy leaves arithmetic of its numbers with expressions to these

    def __init__(self, frame: Frame, op: Any, args: tuple[Any, ...], serial: int) -> None:
        self.frame, self.op, self.args, self.serial = frame, op, args, serial
        # Whether the network or an unknown parameter is in it. What is not is computed once for all points.
        self.depends: bool = op in ("field", "unknown") or any(isinstance(a, Expression) and a.depends for a in args)

    def d(self, *axes: str) -> Expression:
        """Return the derivative by the axes, one after the other.

        Parameters
        ----------
        *axes : str
            Names of axes; "n" is the direction of the normal.

        Raises
        ------
        ValueError
            If an axis does not exist, or a field is differentiated more than four times.
        TypeError
            If a function without a rule is differentiated.
        """
        from deepcd.pde.equations.rules import derivative

        known, node = self.frame.axes, self
        for name in axes:
            if name in known and self.frame.unexpanded:
                node = self.frame.node("derivative", node, known.index(name))
            elif name in known:
                node = derivative(node, self.frame.axis(name))
            elif name == "n":
                normal = self.frame.normal()
                node = add(*(mul(normal[i], node.d(axis)) for i, axis in enumerate(known)))
            else:
                raise ValueError(f"there is no axis {name!r} to differentiate by; the axes are {', '.join(known)}")
        return node

    def __getattr__(self, name: str) -> Expression:
        if name.startswith("__"):
            raise AttributeError(name)
        known = {*self.frame.axes, "n"}
        if name in known:
            return self.d(name)
        if all(letter in known for letter in name):
            return self.d(*name)
        raise AttributeError(
            f"{self!s:.60} has no {name!r}: derivatives are named by the axes {', '.join(self.frame.axes)}, such as "
            f".{self.frame.axes[-1]}, and by n for the normal"
        )

    def __add__(self, other: Any) -> Expression:
        return add(self, other)

    def __mul__(self, other: Any) -> Expression:
        return mul(self, other)

    def __neg__(self) -> Expression:
        return mul(-1.0, self)

    def __sub__(self, other: Any) -> Expression:
        return add(self, mul(-1.0, other))

    def __rsub__(self, other: Any) -> Expression:
        return add(other, mul(-1.0, self))

    def __truediv__(self, other: Any) -> Expression:
        return mul(self, power(other, -1) if isinstance(other, Expression) else 1.0 / _number(other))

    def __rtruediv__(self, other: Any) -> Expression:
        return mul(other, power(self, -1))

    def __pow__(self, exponent: Any) -> Expression:
        if isinstance(exponent, Expression):
            return self.frame.node(torch.exp, mul(exponent, self.frame.node(torch.log, self)))
        return power(self, _number(exponent))

    def __rpow__(self, base: Any) -> Expression:
        return self.frame.node(torch.exp, mul(math.log(_number(base)), self))

    def __abs__(self) -> Expression:
        return self.frame.node(torch.abs, self)

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> Expression:
        return self.frame.node(torch.lt, self, other)

    def __le__(self, other: Any) -> Expression:
        return self.frame.node(torch.le, self, other)

    def __gt__(self, other: Any) -> Expression:
        return self.frame.node(torch.gt, self, other)

    def __ge__(self, other: Any) -> Expression:
        return self.frame.node(torch.ge, self, other)

    def __eq__(self, other: object) -> Any:
        return self.frame.node(torch.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return self.frame.node(torch.ne, self, other)

    def __and__(self, other: Any) -> Expression:
        return self.frame.node(torch.logical_and, self, other)

    def __or__(self, other: Any) -> Expression:
        return self.frame.node(torch.logical_or, self, other)

    def __invert__(self) -> Expression:
        return self.frame.node(torch.logical_not, self)

    __rand__, __ror__ = __and__, __or__

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        raise TypeError(
            f"the equation branches on the value of {self!s:.60}, but it is called only once, for all points: write "
            "torch.where(condition, a, b)"
        )

    def __float__(self) -> float:
        raise TypeError(
            f"{self!s:.60} is no number here: the equation is called once, for all points, so use functions of torch "
            "or NumPy, such as torch.sin, in place of those of math"
        )

    __int__ = __index__ = __complex__ = __float__  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Expression]:
        raise TypeError(f"{self!s:.60} is one expression, not several")

    def __len__(self) -> int:
        raise TypeError(f"{self!s:.60} is one expression, and has no length")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Expression:
        return _applied(function, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Expression:
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} of an expression has no meaning")
        return self.__array_function__(ufunc, (), args, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Expression:
        name = _OF_NUMPY.get(function.__name__, function.__name__)
        known = getattr(torch, name, None)
        if known is None:
            raise TypeError(f"numpy.{function.__name__} has no counterpart in torch, so an equation cannot use it")
        return _applied(known, args, kwargs)

    def __repr__(self) -> str:
        from deepcd.pde.equations.text import written

        return written(self)


_OF_NUMPY = {"power": "pow", "absolute": "abs", "arctan": "atan", "arctan2": "atan2", "arcsin": "asin"} | {
    "arccos": "acos",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "true_divide": "divide",
}
_ARITHMETIC: dict[Any, Callable[..., Any]] = {
    torch.add: lambda a, b: add(a, b),
    torch.sub: lambda a, b: add(a, mul(-1.0, b)),
    torch.subtract: lambda a, b: add(a, mul(-1.0, b)),
    torch.mul: lambda a, b: mul(a, b),
    torch.multiply: lambda a, b: mul(a, b),
    torch.div: lambda a, b: a / b,
    torch.divide: lambda a, b: a / b,
    torch.neg: lambda a: mul(-1.0, a),
    torch.negative: lambda a: mul(-1.0, a),
    torch.square: lambda a: power(a, 2),
    torch.pow: lambda a, b: a**b,
    torch.reciprocal: lambda a: power(a, -1),
    torch.Tensor.add: lambda a, b: add(a, b),
    torch.Tensor.mul: lambda a, b: mul(a, b),
    torch.Tensor.sub: lambda a, b: add(a, mul(-1.0, b)),
    torch.Tensor.div: lambda a, b: a / b,
    torch.Tensor.__rsub__: lambda a, b: add(b, mul(-1.0, a)),
}


def _applied(function: Any, args: Sequence[Any], kwargs: Any) -> Expression:
    if kwargs:
        raise TypeError(f"{_name(function)} takes no keyword arguments in an equation, got {', '.join(kwargs)}")
    if function in _ARITHMETIC:
        result: Expression = _ARITHMETIC[function](*(a if isinstance(a, Expression) else _number(a) for a in args))
        return result
    frame = next(a.frame for a in args if isinstance(a, Expression))
    return frame.node(function, *(a if isinstance(a, Expression) else _number(a) for a in args))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _key(a: Any) -> tuple[Any, ...]:
    return (type(a), a)


def _number(value: Any) -> float:
    """Return a constant of an equation as a float; integers stay, for the sake of powers and of text."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.ndarray | torch.Tensor) and math.prod(value.shape) == 1:
        return float(value.item())
    raise TypeError(
        f"an equation may hold numbers, not {type(value).__name__} of shape {tuple(np.shape(value))}: write values that "
        "differ from point to point as functions of the axes"
    )


def add(*terms: Any) -> Any:
    """Return the sum of expressions and numbers; numbers are added up, and zero is left out."""
    nodes: list[Expression] = []
    constant: float = 0
    for term in terms:
        if not isinstance(term, Expression):
            constant = constant + _number(term)
        elif term.op == "add":
            for inner in term.args:
                if isinstance(inner, Expression):
                    nodes.append(inner)
                else:
                    constant = constant + inner
        else:
            nodes.append(term)
    if not nodes:
        return constant
    nodes = _collected(nodes)
    if constant != 0:
        return nodes[0].frame.node("add", constant, *nodes) if nodes else constant
    return nodes[0] if len(nodes) == 1 else nodes[0].frame.node("add", *nodes) if nodes else 0.0


def _collected(nodes: list[Expression]) -> list[Expression]:
    """Add up the numbers before equal terms."""
    factors: dict[int, float] = {}
    rests: dict[int, Expression] = {}
    for node in nodes:
        number, rest = split(node)
        factors[id(rest)] = factors.get(id(rest), 0) + number
        rests[id(rest)] = rest
    return [mul(factors[key], rest) for key, rest in rests.items() if factors[key] != 0]


def split(node: Expression) -> tuple[float, Expression]:
    """Return the number before a term, and the term without it."""
    if node.op == "mul" and not isinstance(node.args[0], Expression):
        return node.args[0], mul(*node.args[1:])
    return 1, node


def mul(*factors: Any) -> Any:
    """Return the product of expressions and numbers, the number first; a factor of one is left out."""
    nodes: list[Expression] = []
    constant: float = 1
    pending = list(reversed(factors))
    while pending:
        factor = pending.pop()
        if not isinstance(factor, Expression):
            constant = constant * _number(factor)
        elif factor.op == "mul":
            pending.extend(reversed(factor.args))
        else:
            nodes.append(factor)
    if constant == 0 or not nodes:
        return constant if not nodes else 0
    nodes = _gathered(nodes)
    if not nodes:
        return constant
    # What depends on coordinates alone comes first, as one factor, which is computed once for all.
    nodes.sort(key=lambda node: (node.depends, node.serial))
    early = [node for node in nodes if not node.depends]
    if 1 < len(early) < len(nodes):
        nodes = [early[0].frame.node("mul", *early), *nodes[len(early) :]]
    if constant != 1:
        return nodes[0].frame.node("mul", constant, *nodes)
    return nodes[0] if len(nodes) == 1 else nodes[0].frame.node("mul", *nodes)


def _gathered(nodes: list[Expression]) -> list[Expression]:
    """Write powers for equal factors."""
    exponents: dict[Expression, float] = {}
    for node in nodes:
        base, exponent = (node.args[0], node.args[1]) if node.op == "pow" else (node, 1)
        exponents[base] = exponents.get(base, 0) + exponent
    powers = [power(base, exponent) for base, exponent in exponents.items()]
    return [node for node in powers if isinstance(node, Expression)]


def power(base: Any, exponent: float) -> Any:
    """Return a power with a number as its exponent."""
    if not isinstance(base, Expression):
        return _number(base) ** exponent
    if exponent == 0:
        return 1
    if exponent == 1:
        return base
    if base.op == "pow" and float(exponent).is_integer() and float(base.args[1]).is_integer():
        return power(base.args[0], base.args[1] * exponent)
    return base.frame.node("pow", base, exponent)


def leaves(*nodes: Any) -> list[Expression]:
    """Return the leaves below some nodes, each once, in the order in which they are met."""
    found: dict[int, Expression] = {}
    seen: set[int] = set()
    stack = [node for node in reversed(nodes) if isinstance(node, Expression)]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        inner = [a for a in node.args if isinstance(a, Expression)]
        if not inner and isinstance(node.op, str):
            found[id(node)] = node
        stack.extend(reversed(inner))
    return list(found.values())
