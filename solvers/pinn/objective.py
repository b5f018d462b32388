"""The residuals of a network on given points: as a vector with its Jacobian, and as a loss with its gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepcd.pde.equations.conditions import WEIGHT, Observation
from deepcd.pde.equations.conditions import Term as Stated
from deepcd.pde.equations.expressions import Expression
from deepcd.pde.equations.statements import Problem
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.terms import Placed, Term

# Weight of the mean square of noisy observations, relative to exact ones. The equation has to hold much better than it
# would if the network could exchange a residual for the noise of the data; then the deviations of unknowns are right.
NOISY = 1e-4

F64 = NDArray[np.float64]


class NotFiniteError(FloatingPointError):
    """The residual of an equation or of a condition is NaN or infinite; the message names the term and the point."""


class At(NamedTuple):
    """A term at its points; `scale` holds the roots of the weights of the squared residuals in the loss."""

    stated: Stated
    term: Term
    x: Tensor
    placed: Placed
    scale: Tensor


class Objective:
    """The sum of squares of residuals over points, as a function of the network's parameters and of the unknowns.

    The loss is the mean square of each residual of the equation, plus weighted mean squares of those of conditions.

    Parameters
    ----------
    problem : Problem
    network : Network

    Attributes
    ----------
    unknowns : Parameter, shape (k,)
        The unknown parameters of the problem.
    emphasis : float
        Factor of the scaled residuals of noisy observations, from the next choice of points on.
    evaluations : int
        Number of gradients and Jacobians computed so far.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.problems import problem
    >>> from deepcd.solvers.pinn.network import Network
    >>> from deepcd.solvers.pinn.objective import Objective
    >>> one_peak = problem("one_peak")
    >>> objective = Objective(one_peak, Network(one_peak.bounds))
    >>> objective.place(torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    >>> residual, transposed = objective.jacobian(objective.theta)
    >>> transposed.shape
    (921, 1)
    """

    def __init__(self, problem: Problem, network: Network) -> None:
        self.problem, self.network, self.evaluations = problem, network, 0
        self.dtype = network.weights[0].dtype
        self.unknowns = nn.Parameter(torch.tensor(list(problem.unknowns.values()), dtype=self.dtype))
        d = problem.dimension
        self._terms = [(one, Term(one.residuals, problem.fields, d)) for one in problem.terms]
        self._placed: list[At] = []
        self._observations = [c for c in problem.conditions if isinstance(c, Observation)]
        self._unit, self.emphasis = _unit_of(self._observations), 1.0

    @property
    def rows(self) -> list[int]:
        """For each term of the loss, the number of coefficients that a unit of the network carries."""
        return [len(term.series) for _, term in self._terms]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights and biases of each layer in turn, and the unknowns."""
        pairs = zip(self.network.weights, self.network.biases, strict=True)
        return [*(p for pair in pairs for p in pair), self.unknowns]

    @property
    def theta(self) -> F64:
        """A copy of all parameters in one vector."""
        flat = torch.cat([p.detach().reshape(-1).to(torch.float64) for p in self.parameters])
        return np.array(flat.numpy())

    def load(self, theta: F64) -> None:
        """Set all parameters from one vector."""
        flat, first = torch.from_numpy(theta), 0
        with torch.no_grad():
            for p in self.parameters:
                p.copy_(flat[first : first + p.numel()].view(p.shape))
                first += p.numel()

    def placed(
        self, x: Tensor, weights: Tensor | None = None, boundary: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> list[At]:
        """Return the terms at points.

        Parameters
        ----------
        x : Tensor of float64, shape (n, d)
            Points in the domain.
        weights : Tensor, shape (n,), optional
            Weights of the squared residuals; by default one.
        boundary : sequence of pairs of Tensors, shape (m, d)
            For each condition on the boundary, its points and the normals there.
        """
        drawn, observed = iter(boundary), iter(self._observations)
        found = []
        for stated, term in self._terms:
            if stated.points is not None:
                found.append(self._at(stated, term, stated.points, self._scale_of(next(observed)), stated.data))
            elif stated.part is not None:
                points, normal = next(drawn)
                scale = torch.full((len(points),), math.sqrt(stated.weight / len(points)), dtype=torch.float64)
                found.append(self._at(stated, term, points, scale, {}, normal))
            else:
                found.append(self._inside(x, weights))
        return found

    def place(self, x: Tensor, weights: Tensor | None = None, boundary: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        """Choose the points of the loss, as those of `placed`."""
        self._placed = self.placed(x, weights, boundary)

    def move(self, x: Tensor, weights: Tensor | None = None) -> None:
        """Choose other points of the loss in the domain; those on the boundary stay."""
        self._placed[0] = self._inside(x, weights)

    def mean_square(self, placed: Sequence[At] | None = None) -> float:
        """Return the loss, or what it would be at other points."""
        placed = self._placed if placed is None else placed
        return float(sum(float(((self._evaluated(at) * at.scale) ** 2).sum()) for at in placed))

    def residual(self, theta: F64) -> F64:
        """Return all scaled residuals, whose sum of squares is the loss, as a vector."""
        self.load(theta)
        return torch.cat([(self._evaluated(at) * at.scale).reshape(-1) for at in self._placed]).numpy()

    def jacobian(self, theta: F64) -> tuple[F64, F64]:
        """Return all scaled residuals, and their derivatives by all parameters, shape (parameters, residuals)."""
        self.load(theta)
        self.evaluations += 1
        sizes = [at.term.size * len(at.x) for at in self._placed]
        inner = len(theta) - len(self.unknowns)
        transposed = torch.zeros(len(theta), sum(sizes), dtype=self.dtype)
        parts, first = [], 0
        for at in self._placed:
            n = len(at.x)
            rows, tape = self.network.run(at.placed.inputs, at.term.series)
            rows.requires_grad_()
            unknowns = {name: value.requires_grad_() for name, value in self._unknowns(n).items()}
            with torch.enable_grad():
                values = at.term.residuals(at.placed, rows, unknowns)
            for k in range(at.term.size):
                leaves = [rows, *unknowns.values()]
                by: Sequence[Tensor | None] = [None] * len(leaves)
                if values.requires_grad:
                    by = torch.autograd.grad(values[k].sum(), leaves, retain_graph=True, allow_unused=True)
                columns = transposed[:, first : first + n]
                if by[0] is not None:
                    cotangents = self.network.pull(tape, by[0].contiguous(), at.term.series)
                    self.network.jacobian(tape, cotangents, at.scale, columns)
                for j, column in enumerate(by[1:]):
                    if column is not None:
                        columns[inner + j] = column * at.scale
                first += n
            parts.append((values.detach() * at.scale).reshape(-1))
        return torch.cat(parts).numpy(), transposed.numpy()

    def loss(self) -> Tensor:
        """Return the loss as a tensor with its graph."""
        total = torch.zeros((), dtype=self.dtype)
        for at in self._placed:
            rows = self.network.series(at.placed.inputs, at.term.series)
            total = total + ((self._of(at, rows) * at.scale) ** 2).sum()
        return total

    def backward(self) -> float:
        """Store the gradient of the loss in the parameters, and return the loss."""
        self.evaluations += 1
        for p in self.parameters:
            p.grad = None
        loss = self.loss()
        loss.backward()
        return float(loss.detach())

    def __call__(self, theta: F64) -> tuple[float, F64]:
        """Set the parameters and return the loss, infinity if it is not finite, and its gradient."""
        self.load(theta)
        loss = self.backward()
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        return (loss if math.isfinite(loss) else math.inf), torch.cat(flat).to(torch.float64).numpy()

    def residuals(self, x: Tensor) -> Tensor:
        """Return the residuals of the equation at points, shape (n, d), as float64 of shape (equations, n).

        Raises
        ------
        NotFiniteError
            If a residual is not finite at a point.
        """
        stated, term = self._terms[0]
        values = term.values(self.network, x, dict(zip(self.problem.unknowns, self.unknowns, strict=True)))
        if not values.isfinite().all():
            raise self._error(stated, x, values)
        return values

    def sizes(self) -> Tensor:
        """Return what `size` does, at the points of the loss."""
        return torch.linalg.vector_norm(self._evaluated(self._placed[0]), dim=0)

    def size(self, x: Tensor) -> Tensor:
        """Return the root of the sum of squares of the residuals of the equation, shape (n,), as samplers ask for."""
        return torch.linalg.vector_norm(self.residuals(x), dim=0)

    def deviation(self) -> dict[str, float]:
        """Return the standard deviations of the unknowns: roots of the diagonal of the inverse of J'J.

        Residuals are in units of the standard deviations of the observations. Without observations that state these,
        there are no deviations, and the result is empty.
        """
        if not self._unit or not len(self.unknowns):
            return {}
        _, transposed = self.jacobian(self.theta)
        # A triangular factor of J, whose last diagonal block belongs to the unknowns, keeps the digits that J'J loses.
        ridge = 3e-8 * np.linalg.norm(transposed) * np.eye(len(transposed))
        factor: F64 = np.linalg.qr(np.vstack([transposed.T, ridge]), mode="r")  # type: ignore[assignment]
        k = len(self.unknowns)
        inverse = np.linalg.inv(factor[-k:, -k:])
        deviations = self.emphasis * self._unit * np.linalg.norm(inverse, axis=1)
        return dict(zip(self.problem.unknowns, deviations.tolist(), strict=True))

    def fault(self) -> NotFiniteError | None:
        """Return an error that names a term of the loss and a point where it is not finite, if there is one."""
        for at in self._placed:
            values = self._evaluated(at)
            if not values.isfinite().all():
                return self._error(at.stated, at.x, values)
        return None

    def _error(self, stated: Stated, x: Tensor, values: Tensor) -> NotFiniteError:
        first = int((~values.isfinite()).any(dim=0).nonzero()[0, 0])
        point = ", ".join(f"{a} = {v:.6g}" for a, v in zip(self.problem.axes, x[first].tolist(), strict=True))
        return NotFiniteError(f"the residual of the {stated.name} of {self.problem.name!r} is not finite at {point}")

    def _unknowns(self, n: int) -> dict[str, Tensor]:
        """Return the unknowns, once for each point, so that torch tells their derivatives point by point."""
        return {name: self.unknowns[k].detach().expand(n).clone() for k, name in enumerate(self.problem.unknowns)}

    def _evaluated(self, at: At) -> Tensor:
        """Return the residuals of a term at its points, shape (size, n), without a graph."""
        with torch.no_grad():
            return self._of(at, self.network.run(at.placed.inputs, at.term.series)[0])

    def _of(self, at: At, rows: Tensor) -> Tensor:
        unknowns = {name: self.unknowns[k].expand(len(at.x)) for k, name in enumerate(self.problem.unknowns)}
        return at.term.residuals(at.placed, rows, unknowns)

    def _inside(self, x: Tensor, weights: Tensor | None) -> At:
        """Return the equation at points of the domain."""
        weights = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
        stated, term = self._terms[0]
        return self._at(stated, term, x, (weights / len(x)).sqrt(), {})

    def _at(
        self,
        stated: Stated,
        term: Term,
        x: Tensor,
        scale: Tensor,
        data: Mapping[str, Tensor],
        normal: Tensor | None = None,
    ) -> At:
        x = x.to(self.dtype)
        given: dict[Expression, Tensor] = {}
        for leaf in term.given:
            if leaf.op == "data":
                given[leaf] = data[leaf.args[0]].to(self.dtype)
            elif leaf.op == "normal" and normal is not None:
                given[leaf] = normal[:, leaf.args[0]].to(self.dtype)
        return At(stated, term, x, term.place(self.network, x, given), scale.to(self.dtype))

    def _scale_of(self, seen: Observation) -> Tensor:
        """Return the roots of the weights of observations."""
        if seen.sigma is None:
            n = len(seen.points)
            return torch.full((n,), math.sqrt(WEIGHT / n), dtype=torch.float64)
        return self.emphasis * self._unit / seen.sigma


def _unit_of(observations: Sequence[Observation]) -> float:
    """Return the scaled residual of a noisy value that is off by its standard deviation; zero if none is noisy.

    It is the same for all of them, however many an observation has, so that each counts by what it tells.
    """
    noisy = [seen.sigma for seen in observations if seen.sigma is not None]
    if not noisy:
        return 0.0
    sigma = torch.cat(noisy)
    return math.sqrt(NOISY * WEIGHT / float((sigma**-2).sum()))
