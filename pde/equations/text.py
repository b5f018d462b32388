"""Expressions as text, for messages, titles and tables."""

from __future__ import annotations

from typing import Any

from deepcd.pde.equations.expressions import Expression

LONGEST = 400  # number of characters after which a text is cut


def written(node: Any) -> str:
    """Return an expression as it would be written by hand.

    Parameters
    ----------
    node : Expression or float

    Examples
    --------
    >>> from deepcd.pde.equations.frames import Frame
    >>> from deepcd.pde.equations.text import written
    >>> frame = Frame("tx")
    >>> u = frame.field("u")
    >>> written(u.t + u * u.x - 0.0025 * u.xxx)
    'u_t + u u_x - 0.0025 u_xxx'
    """
    text = _sum(node) if isinstance(node, Expression) and node.op == "add" else _part(node)
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."


def _sum(node: Expression) -> str:
    # Terms with fields first, numbers last.
    order = sorted(node.args, key=lambda a: int(not a.depends) if isinstance(a, Expression) else 2)
    texts = [_part(a) for a in order]
    return " ".join([texts[0], *(f"- {t[1:].lstrip()}" if t.startswith("-") else f"+ {t}" for t in texts[1:])])


def _part(node: Any) -> str:
    if not isinstance(node, Expression):
        return f"{node:.6g}"
    op, args, axes = node.op, node.args, node.frame.axes
    if op == "field":
        orders = "".join(axis * k for axis, k in zip(axes, args[1], strict=True))
        return f"{args[0]}_{orders}" if orders else str(args[0])
    if op in ("axis", "normal"):
        return axes[args[0]] if op == "axis" else f"n_{axes[args[0]]}"
    if op in ("unknown", "data"):
        return str(args[0])
    if op == "number":
        return _part(args[0])
    if op == "add":
        return f"({_sum(node)})"
    if op == "mul":
        return _product(args)
    if op == "pow":
        base = _part(args[0])
        return f"({base})^{_part(args[1])}" if args[0].op in ("mul", "pow") else f"{base}^{_part(args[1])}"
    return f"{getattr(op, '__name__', op)}({', '.join(written(a) for a in args)})"


def _product(args: tuple[Any, ...]) -> str:
    if isinstance(args[0], Expression):
        return " ".join(map(_part, args))
    sign, size = ("-" if args[0] < 0 else ""), abs(args[0])
    parts = " ".join(map(_part, args[1:]))
    return f"{sign}{parts}" if size == 1 else f"{sign}{size:.6g} {parts}"
