"""Expressions that a user's equation is traced into: called once with them, it leaves a graph of what it computes.

A graph has coordinates, derivatives of fields, unknown parameters, data and components of the normal as its leaves, and
sums, products, powers and functions of torch above them. Each node exists once in its frame, so that equal parts of
an equation are one object, computed once. Differentiation is the calculus of sums, products and functions on the graph
(`deepcd.pde.equations.rules`), until only derivatives of fields are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Protocol

import numpy as np
import torch

Index = tuple[int, ...]  # orders of a derivative, one per axis
HIGHEST = 4  # highest order of a derivative that networks carry


class Nodes(Protocol):
    """What an expression asks of the frame that it lives in: `deepcd.pde.equations.frames.Frame`."""

    axes: tuple[str, ...]
    unexpanded: bool
    derivatives: dict[tuple[int, int], Any]

    def node(self, op: Any, *args: Any) -> Expression:
        """Return the node of an operation."""

    def axis(self, name: str) -> Expression:
        """Return a coordinate."""

    def field(self, name: str, index: Index | None = None) -> Expression:
        """Return a field, or a derivative of it."""

    def normal(self) -> Sequence[Expression]:
        """Return the components of the outward unit normal."""

    def lifted(self, value: Any) -> Expression:
        """Return a number as an expression."""

    def derivative(self, node: Expression, axis: str) -> Expression:
        """Return a derivative by a coordinate."""

    def applied(self, function: Any, args: Sequence[Any], kwargs: Any, *, numpy: bool = False) -> Expression:
        """Return a function of expressions."""

    def written(self, node: Expression) -> str:
        """Return an expression as text."""


class Expression:
    """A node of a graph; made by a `Frame`, by arithmetic, and by functions of torch and NumPy.

    Attributes name derivatives: ``u.t``, ``u.xxy``, and ``u.n`` along the normal; long names of axes go through
    ``u.d("x1", "x1")``.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.equations.frames import Frame
    >>> frame = Frame("tx")
    >>> x, u = frame.axis("x"), frame.field("u")
    >>> ((1 + x**2) * u.x).x
    2 x u_x + (x^2 + 1) u_xx
    >>> torch.sin(u).t
    u_t cos(u)
    """

    __slots__ = ("args", "depends", "frame", "op", "serial")
    __array_priority__ = 1000  # NumPy leaves arithmetic of its numbers with expressions to these

    def __init__(self, frame: Nodes, op: Any, args: tuple[Any, ...], serial: int) -> None:
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
        known, node = self.frame.axes, self
        for name in axes:
            if name in known and self.frame.unexpanded:
                node = self.frame.node("derivative", node, known.index(name))
            elif name in known:
                node = self.frame.derivative(node, name)
            elif name == "n":
                normal = self.frame.normal()
                node = self.frame.lifted(add(*(mul(normal[i], node.d(axis)) for i, axis in enumerate(known))))
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
        return self.frame.lifted(add(self, other))

    def __mul__(self, other: Any) -> Expression:
        return self.frame.lifted(mul(self, other))

    def __neg__(self) -> Expression:
        return self.frame.lifted(mul(-1.0, self))

    def __pos__(self) -> Expression:
        return self

    def __sub__(self, other: Any) -> Expression:
        return self.frame.lifted(add(self, mul(-1.0, other)))

    def __rsub__(self, other: Any) -> Expression:
        return self.frame.lifted(add(other, mul(-1.0, self)))

    def __truediv__(self, other: Any) -> Expression:
        return self.frame.lifted(mul(self, inverse(other)))

    def __rtruediv__(self, other: Any) -> Expression:
        return self.frame.lifted(mul(other, inverse(self)))

    def __pow__(self, exponent: Any) -> Expression:
        exponent = plain(exponent)
        if isinstance(exponent, Expression):
            return torch.exp(exponent * torch.log(self))  # type: ignore[arg-type, return-value]
        return self.frame.lifted(power(self, exponent))

    def __rpow__(self, base: Any) -> Expression:
        if number(base) <= 0:
            raise ValueError(f"{base!r} ** ({self!s:.60}) has no real value in general: the base must be positive")
        return torch.exp(math.log(number(base)) * self)  # type: ignore[arg-type, return-value]

    def __abs__(self) -> Expression:
        return torch.abs(self)  # type: ignore[arg-type, return-value]

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> Expression:
        return self.frame.node(torch.lt, self, plain(other))

    def __le__(self, other: Any) -> Expression:
        return self.frame.node(torch.le, self, plain(other))

    def __gt__(self, other: Any) -> Expression:
        return self.frame.node(torch.gt, self, plain(other))

    def __ge__(self, other: Any) -> Expression:
        return self.frame.node(torch.ge, self, plain(other))

    def __eq__(self, other: object) -> Any:
        return self.frame.node(torch.eq, self, plain(other))

    def __ne__(self, other: object) -> Any:
        return self.frame.node(torch.ne, self, plain(other))

    def __and__(self, other: Any) -> Expression:
        return self.frame.node(torch.logical_and, self, plain(other))

    def __or__(self, other: Any) -> Expression:
        return self.frame.node(torch.logical_or, self, plain(other))

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

    __int__ = __index__ = __complex__ = __float__

    def __iter__(self) -> Iterator[Expression]:
        raise TypeError(f"{self!s:.60} is one expression, not several")

    def __len__(self) -> int:
        raise TypeError(f"{self!s:.60} is one expression, and has no length")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Expression:
        return frame_of(function, args).applied(function, args, kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Expression:
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} of an expression has no meaning")
        return self.__array_function__(ufunc, (), args, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Expression:
        return self.frame.applied(function, args, kwargs, numpy=True)

    def __repr__(self) -> str:
        return self.frame.written(self)


def frame_of(function: Any, args: Sequence[Any]) -> Nodes:
    """Return the frame of the arguments of a function, of which one at least must be an expression."""
    for a in args:
        if isinstance(a, Expression):
            return a.frame
    name = getattr(function, "__name__", str(function))
    raise TypeError(f"{name} must be given one expression per argument in an equation, none in a list or by keyword")


def number(value: Any) -> float:
    """Return a constant of an equation as a float; integers stay, for the sake of powers and of text."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor) and math.prod(value.shape) == 1:
        item = value.item()
        return item if isinstance(item, bool) else float(item)
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, np.ndarray | torch.Tensor) else ""
    raise TypeError(
        f"an equation may hold numbers, not {type(value).__name__}{shape}: write values that differ from point to "
        "point as functions of the axes"
    )


def plain(value: Any) -> Any:
    """Return a constant as a number; any other expression stays as it is."""
    if isinstance(value, Expression):
        return value.args[0] if value.op == "number" else value
    return number(value)


def add(*terms: Any) -> Any:
    """Return the sum of expressions and numbers; numbers are added up, and zero is left out."""
    nodes: list[Expression] = []
    constant: float = 0
    for term in map(plain, terms):
        if not isinstance(term, Expression):
            constant = constant + term
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
    return nodes[0] if len(nodes) == 1 else nodes[0].frame.node("add", *nodes) if nodes else 0


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
    pending = list(map(plain, reversed(factors)))
    while pending:
        factor = pending.pop()
        if not isinstance(factor, Expression):
            constant = constant * factor
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
    base = plain(base)
    if not isinstance(base, Expression):
        return base**exponent
    if exponent == 0:
        return 1
    if exponent == 1:
        return base
    if base.op == "pow" and float(exponent).is_integer() and float(base.args[1]).is_integer():
        return power(base.args[0], base.args[1] * exponent)
    return base.frame.node("pow", base, exponent)


def inverse(value: Any) -> Any:
    """Return one divided by a number or an expression."""
    value = plain(value)
    if isinstance(value, Expression):
        return power(value, -1)
    if value == 0:
        raise ZeroDivisionError("an equation divides by zero, at all points")
    return 1.0 / value


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
        if not inner and isinstance(node.op, str) and node.op != "number":
            found[id(node)] = node
        stack.extend(reversed(inner))
    return list(found.values())
