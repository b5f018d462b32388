"""Linear elliptic equations of second order, read from statements: -div(K grad u) + c u = f, with its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.equations.conditions import Observation, Term
from deepcd.pde.equations.expressions import Expression, add, leaves, mul, plain
from deepcd.pde.equations.frames import Frame
from deepcd.pde.equations.programs import Program
from deepcd.pde.equations.rules import derivative
from deepcd.pde.equations.text import written
from deepcd.pde.regions import Domain, Part
from deepcd.pde.regions.meshing import refuse_unmeshable

POINTS = 1_000  # random points of the domain at which coefficients are looked at
ON_BOUNDARY = 256  # and of each piece of the boundary
OBLIQUE = 1e-6  # sine of the angle at which a derivative is not along the flux
ROUNDING = 1e-9  # size of what counts as zero, relative to what it is the difference of

F64 = NDArray[np.float64]


class Stated(Protocol):
    """What is read of a `deepcd.pde.equations.statements.Problem`, where its attributes are described."""

    axes: tuple[str, ...]
    fields: tuple[str, ...]
    domain: Domain
    conditions: tuple[Any, ...]
    unknowns: dict[str, float]
    start: Any
    ansatz: Any
    frame: Frame

    @property
    def time(self) -> str:
        """The name of the axis that is time."""

    def traced(self, *, unexpanded: bool = False, built_in: bool = True) -> list[Term]:
        """Return the terms, the equation first."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What holds on a part of the boundary: u = value, or n . K grad u + transfer u = flux.

    Attributes
    ----------
    part : Part
    value : Expression, float or None
        None where a flux is given.
    transfer, flux : Expression or float
        Zero where a value is given.
    """

    part: Part
    value: Any
    transfer: Any = 0
    flux: Any = 0


@dataclass(frozen=True, eq=False)
class Elliptic:
    """-div(K grad u) + c u = f; made by `elliptic`.

    Attributes
    ----------
    K : tuple of d tuples of d Expression or float
        Symmetric positive definite.
    reaction, source : Expression or float
        c, not negative, and f; fields that are left in an expression count as zero.
    conditions : tuple of Condition
    """

    K: tuple[tuple[Any, ...], ...]
    reaction: Any
    source: Any
    conditions: tuple[Condition, ...]

    @property
    def determined(self) -> bool:
        """Whether there is one solution, and not another one for each constant."""
        held = any(one.value is not None or nonzero(one.transfer) for one in self.conditions)
        return held or nonzero(self.reaction)


def elliptic(problem: Stated) -> Elliptic:
    """Read the statement of a problem as a linear elliptic equation of second order.

    An ansatz is left out, since conditions are there to be met.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    Elliptic

    Raises
    ------
    ValueError
        If it is something else; the message names the term, or the part of the boundary, that is in the way. Signs and
        directions are checked at random points, always the same.

    Examples
    --------
    >>> from deepcd.pde.equations.elliptic import elliptic
    >>> from deepcd.pde.equations.statements import Problem
    >>> from deepcd.pde.equations.conditions import on
    >>> from deepcd.pde.regions import box
    >>> D = box(x=(0, 1), y=(0, 1))
    >>> read = elliptic(Problem(lambda x, u: ((1 + x) * u.x).x + 3 * u.yy - u + 5, D, on(D.boundary, lambda u: u)))
    >>> read.K, read.reaction
    (((x + 1, 0.0), (0.0, 3.0)), 1.0)
    """
    refuse_unmeshable(problem.domain)
    equation, *conditions = problem.traced(built_in=False)
    _refuse_others(problem, len(equation.residuals))
    residual = equation.residuals[0]
    slopes = _affine(residual, "the equation", 2)
    d = len(problem.axes)
    first = [slopes.get(_orders(d, j), 0) for j in range(d)]
    K = [[mul(1 if i == j else 0.5, slopes.get(_orders(d, i, j), 0)) for j in range(d)] for i in range(d)]
    x = problem.domain.points(POINTS, torch.Generator().manual_seed(0))
    sign = _sign(problem, K, first, x)
    _refuse_advection(problem, K, first, x)
    reaction = mul(-sign, slopes.get(_orders(d), 0))
    if (evaluated(reaction, x) < 0).any():
        term = written(mul(-sign, reaction, problem.frame.field(problem.fields[0])))
        raise ValueError(
            f"the reaction {term} has the sign of the second derivatives, as in the Helmholtz equation, so that the "
            "system may be indefinite"
        )
    flipped = tuple(tuple(mul(sign, entry) for entry in row) for row in K)
    read = tuple(_condition(term, flipped) for term in conditions)
    _refuse_gaps(problem, read)
    return Elliptic(flipped, reaction, mul(sign, residual), read)


def evaluated(expression: Any, x: Tensor, normal: Tensor | None = None) -> F64:
    """Return an expression at points, fields being zero.

    Parameters
    ----------
    expression : Expression or float
    x : Tensor of float64, shape (n, d)
    normal : Tensor of float64, shape (n, d), optional
        The outward unit normals there.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    if not isinstance(expression, Expression):
        return np.full(len(x), float(expression))
    columns: dict[Any, Any] = {"axis": x.T, "normal": None if normal is None else normal.T}
    found = leaves(expression)
    given = {leaf: columns[leaf.op][leaf.args[0]] for leaf in found if leaf.op in columns}
    program = Program([expression])
    zeros = {leaf: torch.zeros(len(x), dtype=torch.float64) for leaf in found if leaf.op == "field"}
    (values,) = program(program.constants(given), zeros)
    return torch.as_tensor(values, dtype=torch.float64).expand(len(x)).numpy()


def _refuse_others(problem: Stated, count: int) -> None:
    """Refuse what is not one equation for one field, or holds besides it."""
    if len(problem.fields) > 1 or count > 1:
        raise ValueError(
            f"there are {count} equations for the fields {', '.join(problem.fields)}, but a system is made of one "
            "equation for one field"
        )
    if problem.unknowns:
        raise ValueError(f"{', '.join(problem.unknowns)} is to be computed too: a system is linear in all unknowns")
    if problem.start is not None:
        raise ValueError("a start makes the problem one of time: a system is for one that is elliptic")
    if any(isinstance(condition, Observation) for condition in problem.conditions):
        raise ValueError("observations are not part of a system: state the conditions of the boundary by pinn.on")
    if problem.ansatz is not None and not problem.conditions:
        raise ValueError("the ansatz builds data in that a system cannot read: state them by pinn.on as well")


def _affine(residual: Any, what: str, highest: int) -> dict[tuple[int, ...], Any]:
    """Return the coefficients of the derivatives of the field, by their orders; refuse what is not linear in them."""
    found: dict[tuple[int, ...], Any] = {}
    for leaf in leaves(residual):
        if leaf.op != "field":
            continue
        try:
            slope = derivative(residual, leaf)
        except TypeError as error:
            raise ValueError(f"{what} is not linear in {leaf}. {error}") from None
        if any(below.op == "field" for below in leaves(slope)):
            raise ValueError(f"{what} is not linear in {leaf}: its coefficient is {written(slope)}")
        if sum(leaf.args[1]) > highest:
            orders = "no derivative of an order above two" if highest == 2 else "only first derivatives"
            raise ValueError(f"{what} has the derivative {leaf}: there may be {orders}")
        found[leaf.args[1]] = slope
    return found


def _orders(d: int, *axes: int) -> tuple[int, ...]:
    """Return the orders of the derivative along some axes."""
    return tuple(axes.count(k) for k in range(d))


def _refuse_advection(problem: Stated, K: list[list[Any]], first: list[Any], x: Tensor) -> None:
    """Refuse first derivatives that are not those of the divergence of K grad u."""
    u = problem.frame.field(problem.fields[0])
    for j, axis in enumerate(problem.axes):
        by = map(problem.frame.axis, problem.axes)
        slopes = [mul(-1, derivative(row[j], one)) for row, one in zip(K, by, strict=True)]
        rest = add(first[j], *slopes)
        size = max(np.abs(evaluated(one, x)).max() for one in (first[j], *slopes))
        if (np.abs(evaluated(rest, x)) > ROUNDING * size).any():
            raise ValueError(
                f"the advection term {written(mul(rest, u.d(axis)))} makes the system not symmetric: if the equation "
                "is a divergence after multiplication by a function, such as (k * u.x).x + (k * u.y).y, write it so"
            )


def _sign(problem: Stated, K: list[list[Any]], first: list[Any], x: Tensor) -> int:
    """Return 1 if K is positive definite at points, -1 if it is negative definite; refuse everything else."""
    u = problem.frame.field(problem.fields[0])
    for j, axis in enumerate(problem.axes):
        if any(nonzero(row[j]) for row in K):
            continue
        if nonzero(first[j]):
            name = "time derivative" if axis == problem.time else "derivative"
            raise ValueError(
                f"the {name} {written(mul(first[j], u.d(axis)))}, without a second one along {axis}, makes the "
                "equation not elliptic"
            )
        raise ValueError(f"the equation has no second derivative along {axis}, so it is not elliptic")
    values = np.array([[evaluated(entry, x) for entry in row] for row in K])
    eigenvalues = np.linalg.eigvalsh(values.transpose(2, 0, 1))
    if (eigenvalues > 0).all():
        return 1
    if (eigenvalues < 0).all():
        return -1
    k = int((eigenvalues.min(axis=1) / eigenvalues.max(axis=1)).argmin())
    raise ValueError(
        f"the second derivatives are not elliptic: their matrix has the eigenvalues {eigenvalues[k].tolist()} at "
        f"{', '.join(problem.axes)} = {x[k].tolist()}"
    )


def _condition(term: Term, K: Sequence[Sequence[Any]]) -> Condition:
    """Read a condition, which must be on u, or on the flux n . K grad u."""
    part, what = term.part, term.name
    assert part is not None
    if len(term.residuals) > 1:
        raise ValueError(f"{what} has {len(term.residuals)} residuals: an equation of second order takes one")
    residual, d = term.residuals[0], len(K)
    slopes = _affine(residual, what, 1)
    beta = slopes.pop(_orders(d), 0)
    if not slopes:
        if any(leaf.op == "normal" for leaf in leaves(residual)):
            raise ValueError(
                f"{what} prescribes a value that depends on the normal, which nodes at corners do not have"
            )
        return Condition(part, -residual / beta)
    normal = residual.frame.normal()
    conormal = [add(*(mul(K[i][j], normal[j]) for j in range(d))) for i in range(d)]
    p = [slopes.get(_orders(d, i), 0) for i in range(d)]
    along = add(*(mul(a, b) for a, b in zip(p, conormal, strict=True)))
    square = add(*(mul(b, b) for b in conormal))
    x, n = part.points(ON_BOUNDARY, torch.Generator().manual_seed(0))
    size = evaluated(square, x, n)
    crossed = size > 0  # where the conormal vanishes, as on an axis of rotation, nothing flows whatever is stated
    scale = evaluated(along, x, n) / np.where(crossed, size, 1.0)
    aside = np.array([evaluated(a, x, n) - scale * evaluated(b, x, n) for a, b in zip(p, conormal, strict=True)])
    length = np.sqrt(sum(evaluated(a, x, n) ** 2 for a in p))
    if (np.sqrt((aside**2).sum(axis=0)) > OBLIQUE * length)[crossed].any() or not scale[crossed].all():
        raise ValueError(
            f"the derivative in {what} is not along the flux n . K grad u everywhere, which is what a symmetric system "
            f"takes: {written(residual)}"
        )
    transfer, flux = beta * square / along, -residual * square / along
    if not crossed.all():
        transfer, flux = (torch.where(square > 0, one, 0.0) if nonzero(one) else 0 for one in (transfer, flux))
    if (evaluated(transfer, x, n) < 0).any():
        raise ValueError(f"{what} feeds the flux by u, so that the system may be indefinite: {written(residual)}")
    return Condition(part, None, transfer, flux)


def _refuse_gaps(problem: Stated, conditions: Sequence[Condition]) -> None:
    """Refuse pieces of the boundary where no condition holds, or more than one."""
    generator = torch.Generator().manual_seed(0)
    for piece in problem.domain.pieces:
        x, _ = piece.sample(ON_BOUNDARY, generator)
        count = sum((held_at(one.part, piece, x).astype(int) for one in conditions), np.zeros(len(x), dtype=int))
        for wrong, what in ((count == 0, "no condition"), (count > 1, "more than one condition")):
            if wrong.any():
                where = "" if wrong.all() else f" for {wrong.mean():.0%} of its points, such as {x[wrong][0].tolist()}"
                raise ValueError(
                    f"the boundary {piece.name} has {what}{where}: an elliptic equation takes one everywhere"
                )


def held_at(part: Part, piece: Any, x: Tensor) -> NDArray[np.bool_]:
    """Return which points of a piece, shape (n, d), are on a part of the boundary, as bool of shape (n,)."""
    held = np.zeros(len(x), dtype=bool)
    for chosen, tests in part.chosen:
        if chosen is piece:
            passed = torch.ones(len(x), dtype=torch.bool)
            for test in tests:
                passed &= test(x)
            held |= passed.numpy()
    return held


def nonzero(expression: Any) -> bool:
    """Return whether an expression is anything but the number zero."""
    expression = plain(expression)
    return isinstance(expression, Expression) or expression != 0
