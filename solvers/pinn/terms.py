"""A term of the loss: residuals that are to vanish at some points, and the derivatives of fields that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepcd.pde.equations.expressions import Expression, Index, leaves, split
from deepcd.pde.equations.programs import Program, Values
from deepcd.pde.equations.rules import derivative
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.series import Series, Sum, factorial

CHUNK = 10_000  # number of points that are evaluated at a time where no gradient is needed
Coefficients = dict[tuple[int, str], Any]  # by residual and field: of one derivative, expressions or numbers


class Placed(NamedTuple):
    """What a term needs to know about its points; no parameter of the network decides it."""

    inputs: Tensor
    constants: Values


class Term:
    """Residuals, with the series of the network that they are computed from.

    Parameters
    ----------
    residuals : sequence of Expression or float
    fields : sequence of str
        Names of the fields, in the order of the network's outputs.
    d : int
        Number of axes.
    """

    def __init__(self, residuals: Sequence[Any], fields: Sequence[str], d: int) -> None:
        self.size = len(residuals)
        self.program = Program(residuals)
        found = leaves(*residuals)
        self.given = [leaf for leaf in found if leaf.op in ("axis", "normal", "data")]
        self.unknowns = [leaf for leaf in found if leaf.op == "unknown"]
        derivatives = [leaf for leaf in found if leaf.op == "field"]
        sums = _collapsed(residuals, derivatives)
        collapsed = {index for one in sums for index, _ in one}
        self.series = Series({leaf.args[1] for leaf in derivatives} - collapsed, sums, d)
        # For each derivative, the field, the row, and the factor of the row. Where residuals depend on c_1 D^a u and
        # c_2 D^b u through their sum alone, the sum is handed over as the first of its terms, and zero as the others.
        self._read: dict[Expression, tuple[int, int, float]] = {}
        for leaf in derivatives:
            field, index = fields.index(leaf.args[0]), leaf.args[1]
            if index not in collapsed:
                self._read[leaf] = field, self.series.row(index), float(factorial(index))
            else:
                k = next(k for k, one in enumerate(sums) if index in dict(one))
                first, _ = sums[k][0]  # its weight is one
                self._read[leaf] = field, len(self.series.rows) + k, float(index == first)

    def place(self, network: Network, x: Tensor, given: Mapping[Expression, Tensor]) -> Placed:
        """Compute what depends on points alone.

        Parameters
        ----------
        network : Network
        x : Tensor, shape (n, d)
        given : mapping of Expression to Tensor of shape (n,)
            Values of the components of the normal and of data, where the residuals need them.
        """
        known = {leaf: x[:, leaf.args[0]] if leaf.op == "axis" else given[leaf] for leaf in self.given}
        return Placed(network.inputs(x, self.series), self.program.constants(known))

    def residuals(self, placed: Placed, rows: Tensor, unknowns: Mapping[str, Tensor]) -> Tensor:
        """Return the residuals, shape (size, n), from the series of the fields, shape (fields, rows, n)."""
        n = rows.shape[2]
        given: dict[Expression, Any] = {leaf: unknowns[leaf.args[0]] for leaf in self.unknowns}
        for leaf, (field, row, factor) in self._read.items():
            given[leaf] = factor * rows[field, row] if factor else 0.0
        values = self.program(placed.constants, given)
        return torch.stack([v.expand(n) if isinstance(v, Tensor) else rows.new_full((n,), v) for v in values])

    def values(self, network: Network, x: Tensor, unknowns: Mapping[str, Tensor]) -> Tensor:
        """Return the residuals at points of the domain, shape (n, d), as float64 of shape (size, n), without a graph.

        Parameters
        ----------
        network : Network
        x : Tensor of float64, shape (n, d)
        unknowns : mapping of str to Tensor of shape ()
        """
        parts = []
        with torch.no_grad():
            for part in x.to(network.weights[0].dtype).split(CHUNK):
                placed = self.place(network, part, {})
                rows, _ = network.run(placed.inputs, self.series)
                given = {name: value.expand(len(part)) for name, value in unknowns.items()}
                parts.append(self.residuals(placed, rows, given).to(torch.float64))
        return torch.cat(parts, dim=1)


def _collapsed(residuals: Sequence[Any], derivatives: Sequence[Expression]) -> list[Sum]:
    """Return the sums of derivatives of highest order through which alone the residuals depend on these."""
    needed = {leaf.args[1] for leaf in derivatives}
    tops = sorted(a for a in needed if any(a) and not any(a != b and _at_most(a, b) for b in needed))
    leading = {leaf for leaf in derivatives if leaf.args[1] in tops}
    bent = _inside_functions(residuals)
    groups: list[tuple[Coefficients, list[tuple[Index, float]]]] = []
    for a in tops:
        same = [leaf for leaf in derivatives if leaf.args[1] == a]
        own = None if bent & set(same) else _coefficients(residuals, same, leading)
        if own is None:
            continue
        for coefficients, group in groups:
            ratio = _ratio(own, coefficients)
            if ratio is not None:
                group.append((a, ratio))
                break
        else:
            groups.append((own, [(a, 1.0)]))
    return [tuple(group) for _, group in groups if len(group) > 1]


def _inside_functions(residuals: Sequence[Any]) -> set[Expression]:
    """Return the leaves below functions, on which a residual may depend although its derivative vanishes or is none.

    Such a function is the sign. The branches of where, but not its condition, are as good as terms of a sum.
    """
    found: set[Expression] = set()
    seen: set[Expression] = set()
    stack = [one for one in residuals if isinstance(one, Expression)]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if callable(node.op):
            found |= set(leaves(*(node.args[:1] if node.op is torch.where else node.args)))
        stack.extend(a for a in node.args if isinstance(a, Expression))
    return found


def _at_most(a: Index, b: Index) -> bool:
    return all(i <= j for i, j in zip(a, b, strict=True))


def _coefficients(
    residuals: Sequence[Any], same: Sequence[Expression], leading: Set[Expression]
) -> Coefficients | None:
    """Return the coefficients of a derivative, by residual and field; None where one depends on a leading one."""
    found = {}
    for e, residual in enumerate(residuals):
        for leaf in same:
            coefficient = derivative(residual, leaf)
            if not leading.isdisjoint(leaves(coefficient)):
                return None
            if isinstance(coefficient, Expression) or coefficient != 0:
                found[e, leaf.args[0]] = coefficient
    return found


def _ratio(a: Coefficients, b: Coefficients) -> float | None:
    """Return the number c with a = c b, if there is one."""
    if a.keys() != b.keys():
        return None
    ratios = set()
    for key, one in a.items():
        other = b[key]
        if isinstance(one, Expression) != isinstance(other, Expression):
            return None
        (p, rest), (q, other_rest) = (split(e) if isinstance(e, Expression) else (e, None) for e in (one, other))
        if rest is not other_rest:
            return None
        ratios.add(p / q)
    return float(ratios.pop()) if len(ratios) == 1 else None
