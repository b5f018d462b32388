"""The frame of an equation: the names that it may use, and all nodes of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepcd.pde.equations.expressions import Expression, Index, number, plain
from deepcd.pde.equations.functions import applied, of_numpy
from deepcd.pde.equations.rules import derivative
from deepcd.pde.equations.text import written


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
        if op != "number":
            args = tuple(plain(a) if isinstance(a, Expression) else a for a in args)
        if any(isinstance(a, Expression) and a.frame is not self for a in args):
            raise ValueError("an equation uses an expression of another one: make expressions anew in each function")
        # Constants that are equal but of different type, such as 1 and True, stay apart.
        parts = [(id(a),) if isinstance(a, Expression) else (type(a), a) for a in args]
        key = (op, frozenset(parts)) if op == "add" else (op, *parts)  # a sum keeps the order in which it is met first
        if key not in self._nodes:
            self._nodes[key] = Expression(self, op, args, len(self._nodes))
        return self._nodes[key]

    def lifted(self, value: Any) -> Expression:
        """Return a number as an expression, so that it can be differentiated; an expression stays as it is."""
        return value if isinstance(value, Expression) else self.node("number", number(value))

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

    def derivative(self, node: Expression, axis: str) -> Expression:
        """Return the derivative of an expression by a coordinate."""
        return self.lifted(derivative(node, self.axis(axis)))

    def applied(self, function: Any, args: Sequence[Any], kwargs: Any, *, numpy: bool = False) -> Expression:
        """Return a function of torch, or of NumPy, of expressions."""
        return applied(of_numpy(function) if numpy else function, args, kwargs)

    def written(self, node: Expression) -> str:
        """Return an expression as text."""
        return written(node)


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
