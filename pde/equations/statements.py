"""A problem as its user states it: an equation, a domain, conditions, and a solution if one is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepcd.pde.equations.conditions import Observation, On, Term
from deepcd.pde.equations.expressions import Expression, add, leaves, mul
from deepcd.pde.equations.frames import Frame
from deepcd.pde.equations.text import written
from deepcd.pde.regions import Domain, Part
from deepcd.pde.regions.binding import bound, coordinates
from deepcd.pde.regions.sampling import Points

if TYPE_CHECKING:
    from deepcd.pde.equations.systems import EllipticSystem

GRID = 10_000  # number of points at which errors are measured by default
JUDGES = 2_000_003  # seed of these points


class Problem:
    """A partial differential equation, or a system of them, with all that determines its solution.

    Parameters
    ----------
    equation : callable
        A function that is zero where the equation holds: one residual, or a list of them. Its arguments are named after
        axes of the domain, fields and unknowns. Derivatives are attributes of fields and of expressions. Where no axis,
        field or unknown is called "x", an argument ``x`` is the tuple of all coordinates but "t", here as in all other
        functions: ``lambda x, u: u - sum(xi**2 for xi in x)``.
    domain : Domain
    *conditions : On or Observation
    fields : str or sequence of str, default "u"
        Names of the fields: a string of letters, or names one by one.
    unknowns : mapping of str to float, optional
        Parameters that are computed with the fields, and where they start.
    start : callable, optional
        The fields at the beginning, as a function of the other axes, which is built in exactly: one value, or one for
        each field, with None for fields that have none. The axis of time is "t", or else the first axis.
    ansatz : callable, optional
        The fields as functions of axes and of the outputs of the network, which have the names of the fields, so that
        data are met exactly: ``ansatz=lambda x, u: x * (1 - x) * u``.
    solution : callable, optional
        The fields as a function of axes, tensors of float64 of shape (n,), if they are known: one tensor, or one for
        each field.
    name, title, reference : str, optional
        For tables and figures; the title is the equation itself by default.
    grid : callable, optional
        ``grid()`` returns the points at which errors are measured, float64 of shape (n, d); by default, 10,000 points
        of the domain.
    metric : {"relative l2", "mse"}
        The measure of the error.
    solution_error : float, default 0.0
        Absolute bound on the error of `solution`; zero for a closed form, which has rounding errors only.
    recommended : mapping of str to object, optional
        Settings of a training that are tuned for this problem; see `deepcd.pinn.RunSettings`.

    Attributes
    ----------
    axes, fields : tuple of str
    unknowns : dict of str to float
    terms : list of Term
        The equation first.

    Raises
    ------
    TypeError, ValueError
        If the statement makes no sense; the message says what is wrong, and what to write.

    Examples
    --------
    >>> from deepcd.pde.equations.statements import Problem
    >>> from deepcd.pde.regions import box
    >>> burgers = Problem(lambda t, x, u: u.t + u * u.x - 0.01 * u.xx, box(t=(0, 1), x=(-1, 1), periodic="x"),
    ...                   start=lambda x: -x)
    >>> burgers.title
    'u_t + u u_x - 0.01 u_xx = 0'
    """

    def __init__(
        self,
        equation: Callable[..., Any],
        domain: Domain,
        *conditions: On | Observation,
        fields: str | Sequence[str] = "u",
        unknowns: Mapping[str, float] | None = None,
        start: Callable[..., Any] | None = None,
        ansatz: Callable[..., Any] | None = None,
        solution: Callable[..., Any] | None = None,
        name: str = "own",
        title: str | None = None,
        reference: str = "",
        grid: Callable[[], Points] | None = None,
        metric: str = "relative l2",
        solution_error: float = 0.0,
        recommended: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(domain, Domain):
            raise TypeError(f"domain must be a domain, such as pinn.box(x=(0, 1), y=(0, 1)), got {domain!r:.60}")
        if start is not None and ansatz is not None:
            raise ValueError("start and ansatz both build data in: put the data of the start into the ansatz")
        self.equation, self.domain, self.conditions = equation, domain, conditions
        self.axes, self.bounds = domain.axes, domain.bounds
        self.fields = tuple(fields)
        self.unknowns = {name: _start_of(name, value) for name, value in (unknowns or {}).items()}
        self._names_differ()
        self.start, self.ansatz, self.solution = start, ansatz, solution
        self.name, self.reference, self.metric, self.solution_error = name, reference, metric, solution_error
        if metric not in ("relative l2", "mse"):
            raise ValueError(f'metric must be "relative l2" or "mse", got {metric!r}')
        self.recommended = dict(recommended or {})
        self._grid = grid
        self.frame = Frame(self.axes, self.fields)
        self.terms = self.traced()
        self._check()
        plain = _listed(bound(equation, self._known(built_in=False), "the equation"))
        self.title = title or ", ".join(f"{written(one)} = 0" for one in plain)

    @property
    def dimension(self) -> int:
        """Number of coordinates, time included."""
        return len(self.axes)

    @property
    def time(self) -> str:
        """The name of the axis that is time, if anything depends on time."""
        return "t" if "t" in self.axes else self.axes[0]

    def traced(self, *, unexpanded: bool = False, built_in: bool = True) -> list[Term]:
        """Return the terms; `unexpanded` ones leave derivatives as they are, for a check.

        Unless data are `built_in`, they are those of the fields themselves, without ansatz or start.
        """
        self.frame.unexpanded = unexpanded
        try:
            known = self._known(built_in=built_in)
            equations = _listed(bound(self.equation, known, "the equation"))
            terms = [Term("equation", _numbers(equations, "the equation"), 1.0)]
            for k, condition in enumerate(self.conditions, start=1):
                terms.append(self._condition(condition, k, known))
            return terms
        finally:
            self.frame.unexpanded = False

    def values(self) -> list[Any]:
        """Return the fields as expressions of the network's outputs, ansatz or start included."""
        known = self._known()
        return [known[field] for field in self.fields]

    def grid(self) -> Points:
        """Return the points at which errors are measured, float64 of shape (n, d)."""
        if self._grid is not None:
            return self._grid()
        return self.domain.points(GRID, torch.Generator().manual_seed(JUDGES)).numpy()

    def exact(self, points: Points) -> Points:
        """Return the solution at points, float64 of shape (n, d), as an array of shape (fields, n).

        Raises
        ------
        ValueError
            If no solution is known, or it returns something else.
        """
        if self.solution is None:
            raise ValueError("no solution is known: state one by solution=, or judge the run by residual_rms")
        x = torch.from_numpy(np.array(points, dtype=np.float64))
        found = bound(self.solution, coordinates(self.axes, x.T), "the solution")
        parts = [torch.as_tensor(one, dtype=torch.float64).expand(len(x)) for one in _listed(found)]
        if len(parts) != len(self.fields):
            raise ValueError(
                f"the solution must give {len(self.fields)} fields, {', '.join(self.fields)}; got {len(parts)}"
            )
        return torch.stack(parts).numpy()

    def system(self, n: int) -> EllipticSystem:
        """Return the sparse system of linear finite elements, if the equation is linear and elliptic, of second order.

        Parameters
        ----------
        n : int
            Number of cells along the longest edge of the domain's bounds; see `deepcd.pde.regions.meshing.meshed`.

        Returns
        -------
        EllipticSystem
            ``A, b, points = problem.system(n)``.

        Raises
        ------
        ValueError
            If the problem is something else; the message says what is in the way.
        MissingExtraError
            If the extra "fem" is not installed.

        Examples
        --------
        >>> from deepcd.pde.equations.statements import Problem
        >>> from deepcd.pde.equations.conditions import on
        >>> from deepcd.pde.regions import box
        >>> D = box(x=(0, 1), y=(0, 1))
        >>> heat = Problem(lambda x, u: ((1 + x) * u.x).x + u.yy, D,
        ...                on(D["x-"], lambda u: u - 1), on(D["x+"], lambda u: u), on(D.elsewhere, lambda u: u.n))
        >>> heat.system(8).A.shape
        (63, 63)
        """
        from deepcd.pde.equations.systems import system

        return system(self, n)

    def error(self, u: Points, exact: Points) -> float:
        """Return the measure of the error of fields, from their values and the exact ones at the points of `grid`."""
        if self.metric == "mse":
            return float(np.mean((u - exact) ** 2))
        return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))

    def _names_differ(self) -> None:
        names = [*self.axes, *self.fields, *self.unknowns, "n"]
        for name in names:
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"axes, fields and unknowns are named by identifiers, got {name!r}")
        if "d" in self.axes:
            raise ValueError("an axis cannot be named d, which differentiates, as in u.d('x1')")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} names more than one of the axes, fields, unknowns and the normal n")

    def _known(self, *, built_in: bool = True) -> dict[str, Any]:
        """Return what names stand for in an equation."""
        frame = self.frame
        known = coordinates(self.axes, map(frame.axis, self.axes))
        known |= {name: frame.unknown(name) for name in self.unknowns}
        outputs = {field: frame.field(field) for field in self.fields}
        if built_in and self.ansatz is not None:
            outputs = self._fields(bound(self.ansatz, known | outputs, "the ansatz"), "the ansatz", outputs)
        elif built_in and self.start is not None:
            time = self.time
            others = [axis for axis in self.axes if axis != time]
            data = bound(self.start, coordinates(others, map(frame.axis, others)), "the start")
            since = add(known[time], -float(self.bounds[self.axes.index(time), 0]))
            given = self._fields(data, "the start", dict.fromkeys(self.fields))
            outputs = {f: u if given[f] is None else add(given[f], mul(since, u)) for f, u in outputs.items()}
        return known | outputs

    def _fields(self, found: Any, what: str, absent: Mapping[str, Any]) -> dict[str, Any]:
        parts = _listed(found)
        if len(parts) != len(self.fields):
            raise ValueError(f"{what} must give {len(self.fields)} fields, {', '.join(self.fields)}; got {len(parts)}")
        return {
            f: absent[f] if part is None else self._built(part, what)
            for f, part in zip(self.fields, parts, strict=True)
        }

    def _built(self, part: Any, what: str) -> Expression:
        if not isinstance(part, Expression | int | float):
            raise TypeError(f"{what} must give expressions or numbers, got {type(part).__name__}")
        return self.frame.lifted(part)

    def _condition(self, condition: Any, number: int, known: Mapping[str, Any]) -> Term:
        if isinstance(condition, Observation):
            return self._observation(condition, number, known)
        if not isinstance(condition, On):
            raise TypeError(f"conditions are made by pinn.on or pinn.observe, got {condition!r:.60}")
        parts = {id(c): self._part(c) for c in self.conditions if isinstance(c, On)}
        part = parts.pop(id(condition))
        if part.elsewhere:
            part = part.less(list(parts.values()))
        if self.start is not None:
            part = part.without(self.time)
        what = f"condition {number} on {part.names}"
        residuals = _listed(bound(condition.residual, {**known, "n": self.frame.normal()}, what))
        if not any(leaf.op == "field" for leaf in leaves(*residuals)):
            raise ValueError(f"{what} names no field: its residual must have {' or '.join(self.fields)} in it")
        return Term(what, _numbers(residuals, what), condition.weight, part=part)

    def _part(self, condition: On) -> Part:
        return condition.part if isinstance(condition.part, Part) else self.domain[condition.part]

    def _observation(self, seen: Observation, number: int, known: Mapping[str, Any]) -> Term:
        what = f"observation {number}"
        if seen.points.shape[1] != self.dimension:
            raise ValueError(
                f"{what} has points with {seen.points.shape[1]} coordinates, but the domain has the axes "
                f"{', '.join(self.axes)}"
            )
        if strange := sorted(set(seen.values) - set(self.fields)):
            raise ValueError(f"{what} is of {', '.join(strange)}, but the fields are {', '.join(self.fields)}")
        residuals = [known[field] - self.frame.data(f"observed {field}") for field in seen.values]
        data = {f"observed {field}": values for field, values in seen.values.items()}
        return Term(what, residuals, 1.0, points=seen.points, data=data)

    def _check(self) -> None:
        """Refuse what no equation determines."""
        equation = self.terms[0]
        if any(leaf.op == "normal" for leaf in leaves(*equation.residuals)):
            raise ValueError("the equation names the normal n, which only conditions have")
        named = {leaf.args[0] for leaf in leaves(*equation.residuals) if leaf.op == "field"}
        if missing := [field for field in self.fields if field not in named]:
            raise ValueError(
                f"no equation determines {', '.join(missing)}: name it in the equation, or leave it out of fields"
            )
        used = {leaf.args[0] for term in self.terms for leaf in leaves(*term.residuals) if leaf.op == "unknown"}
        if idle := [name for name in self.unknowns if name not in used]:
            raise ValueError(f"the unknown {', '.join(idle)} is in no equation and in no condition")


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple | list) else [found]


def _numbers(residuals: Sequence[Any], what: str) -> list[Any]:
    for one in residuals:
        if not isinstance(one, Expression | int | float) or isinstance(one, bool):
            raise TypeError(f"{what} must return a residual, or a list of them, got {type(one).__name__}")
    return list(residuals)


def _start_of(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the unknown {name} must start at a finite number, got {value!r}")
    return float(value)
