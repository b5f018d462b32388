"""Expressions as data that JSON can hold: a list of nodes, each an operation by its name and its arguments.

Functions come from a list. What is not on it is neither written nor read, so a file of expressions can compute nothing
but elementary functions of numbers, and no text in it is ever run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from deepcd.pde.equations.expressions import HIGHEST, Expression, plain
from deepcd.pde.equations.frames import Frame
from deepcd.pde.equations.functions import STEPS
from deepcd.pde.equations.programs import in_order
from deepcd.pde.equations.rules import RULES

MOST_NODES = 20_000  # largest number of nodes that are read
LARGEST = 2**63  # bound on the size of integers

_OF_ONE: tuple[Any, ...] = (torch.floor, torch.ceil, torch.round, torch.trunc, torch.frac, torch.relu, torch.rsqrt)
_OF_ONE += (torch.log10, torch.sinc, torch.erfc, torch.lgamma, torch.digamma, torch.deg2rad, torch.rad2deg, torch.isnan)
_OF_ONE += (torch.isfinite, torch.logit, torch.special.i0, torch.special.i1, torch.special.bessel_j0, torch.logical_not)
_OF_ONE += (torch.special.bessel_j1, torch.special.ndtr, torch.nn.functional.softplus, torch.exp2, torch.log2)
_OF_TWO: tuple[Any, ...] = (torch.hypot, torch.fmod, torch.remainder, torch.copysign, torch.heaviside, torch.logaddexp)
_OF_TWO += (torch.fmax, torch.fmin, torch.logical_xor, torch.xlogy, torch.floor_divide, *(STEPS - {torch.logical_not}))


def _name(function: Any) -> str:
    return str(function.__name__)


# For each name, the function, and how many arguments it may have.
FUNCTIONS: dict[str, tuple[Any, tuple[int, ...]]] = {_name(f): (f, (len(rules),)) for f, rules in RULES.items()}
FUNCTIONS |= {_name(f): (f, (1,)) for f in _OF_ONE} | {_name(f): (f, (2,)) for f in _OF_TWO}
FUNCTIONS |= {"where": (torch.where, (3,)), "clamp": (torch.clamp, (2, 3))}
_NAMES = {function: name for name, (function, _) in FUNCTIONS.items()}


def stored(expressions: Sequence[Any]) -> dict[str, Any]:
    """Return expressions of one frame as data.

    Parameters
    ----------
    expressions : sequence of Expression or float
        Without data of observations and without the normal.

    Returns
    -------
    dict
        "nodes" is a list of [operation, arguments ...], each after its arguments; "results" are the expressions. An
        argument is a number, or [i] for the node i.

    Raises
    ------
    ValueError
        If an operation is not on the list, or a number is not finite.

    Examples
    --------
    >>> from deepcd.pde.equations import Frame
    >>> from deepcd.pde.equations.storage import stored
    >>> u = Frame("tx").field("u")
    >>> stored([2 * u.x])
    {'nodes': [['field', 'u', [0, 1]], ['mul', 2, [0]]], 'results': [[1]]}
    """
    expressions = [plain(one) for one in expressions]
    numbers: dict[int, int] = {}

    def argument(a: Any) -> Any:
        return [numbers[a.serial]] if isinstance(a, Expression) else _number(a)

    nodes = []
    for node in in_order(expressions):
        numbers[node.serial] = len(numbers)
        if node.op in ("axis", "unknown"):
            nodes.append([node.op, node.args[0]])
        elif node.op == "field":
            nodes.append(["field", node.args[0], list(node.args[1])])
        elif node.op in ("add", "mul", "pow") or node.op in _NAMES:
            nodes.append([_NAMES.get(node.op, node.op), *map(argument, node.args)])
        else:
            name = getattr(node.op, "__name__", node.op)
            known = ", ".join(sorted(FUNCTIONS))
            raise ValueError(f"{name} in an equation cannot be saved: use sums, products, powers, or {known}")
    return {"nodes": nodes, "results": [argument(one) for one in expressions]}


def restored(content: Any, frame: Frame, unknowns: Sequence[str] = ()) -> list[Any]:
    """Return the expressions that `stored` has written, in another frame.

    Parameters
    ----------
    content : dict
        What `stored` returned, or anything that claims to be that.
    frame : Frame
        It has the axes and the fields.
    unknowns : sequence of str
        Names of the unknown parameters.

    Returns
    -------
    list of Expression or float

    Raises
    ------
    ValueError
        If the content is anything else; the message says what is wrong with it.

    Examples
    --------
    >>> from deepcd.pde.equations import Frame
    >>> from deepcd.pde.equations.storage import restored, stored
    >>> u = Frame("tx").field("u")
    >>> restored(stored([u * u.x, 0.5]), Frame("tx"))
    [u u_x, 0.5]
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("nodes", "results")):
        raise ValueError('stored expressions must have the lists "nodes" and "results"')
    if len(content["nodes"]) > MOST_NODES:
        raise ValueError(f"there are {len(content['nodes'])} nodes, but {MOST_NODES} at most are read")
    nodes: list[Expression] = []
    for number, item in enumerate(content["nodes"]):
        try:
            nodes.append(_node(item, frame, unknowns, nodes))
        except ValueError as error:
            raise ValueError(f"node {number}: {error}") from None
    return [_argument(one, nodes) for one in content["results"]]


def copied(expressions: Sequence[Any], frame: Frame) -> list[Any]:
    """Return the same expressions in another frame, where their parts are made in the same order."""
    expressions = [plain(one) for one in expressions]
    nodes: dict[int, Expression] = {}

    def argument(a: Any) -> Any:
        return nodes[a.serial] if isinstance(a, Expression) else a

    for node in in_order(expressions):
        nodes[node.serial] = frame.node(node.op, *map(argument, node.args))
    return [argument(one) for one in expressions]


def _node(item: Any, frame: Frame, unknowns: Sequence[str], nodes: Sequence[Expression]) -> Expression:
    """Return the node that an item describes, or refuse it."""
    if not isinstance(item, list) or not item or not isinstance(item[0], str):
        raise ValueError(f"an operation with its arguments was expected, got {item!r:.60}")
    op, args = item[0], item[1:]
    if op in ("axis", "field", "unknown"):
        return _leaf(op, args, frame, unknowns)
    arguments = [_argument(a, nodes) for a in args]
    inner = [isinstance(a, Expression) for a in arguments]
    if op in ("add", "mul"):
        if len(args) < 2 or not all(inner[1:]):
            raise ValueError(
                f"{op} takes two arguments or more, of which the first alone may be a number, got {item!r:.60}"
            )
        return frame.node(op, *arguments)
    if op == "pow":
        if inner != [True, False]:
            raise ValueError(f"pow takes a node and a number, got {item!r:.60}")
        return frame.node(op, *arguments)
    if op not in FUNCTIONS:
        raise ValueError(f"there is no function {op!r:.60}")
    function, counts = FUNCTIONS[op]
    if len(args) not in counts or not any(inner):
        raise ValueError(
            f"{op} takes {' or '.join(map(str, counts))} arguments with a node among them, got {item!r:.60}"
        )
    return frame.node(function, *arguments)


def _leaf(op: str, args: Sequence[Any], frame: Frame, unknowns: Sequence[str]) -> Expression:
    d, whole = len(frame.axes), all(type(a) is int for a in args)
    if op == "axis" and len(args) == 1 and whole and 0 <= args[0] < d:
        return frame.axis(frame.axes[args[0]])
    if op == "unknown" and len(args) == 1 and args[0] in unknowns:
        return frame.unknown(args[0])
    if op == "field" and len(args) == 2 and args[0] in frame.fields and isinstance(args[1], list):
        orders = args[1]
        if len(orders) == d and all(type(k) is int and k >= 0 for k in orders) and sum(orders) <= HIGHEST:
            return frame.field(args[0], tuple(orders))
    raise ValueError(f"there is no {op} {str(args)[1:-1]:.60}")


def _argument(a: Any, nodes: Sequence[Expression]) -> Any:
    if not isinstance(a, list):
        return _number(a)
    if len(a) == 1 and type(a[0]) is int and 0 <= a[0] < len(nodes):
        return nodes[a[0]]
    raise ValueError(f"an argument must be a number, or [i] for an earlier node, got {a!r:.60}")


def _number(value: Any) -> Any:
    if type(value) not in (bool, int, float):
        raise ValueError(f"a number was expected, got {value!r:.60}")
    if abs(value) >= LARGEST if isinstance(value, int) else not math.isfinite(value):
        raise ValueError(f"the number {value!r:.60} cannot be saved: it must be finite, and integers below 2^63")
    return value
