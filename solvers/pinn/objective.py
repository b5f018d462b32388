"""The loss of a network on given points, for torch to differentiate and for quasi-Newton methods to call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from deepcd.pde.problems import Condition, Jet, Problem, coordinates
from deepcd.solvers.pinn.network import Network

CHUNK = 10_000  # number of points that are evaluated at a time where no gradient is needed


class NotFiniteError(FloatingPointError):
    """The residual of the PDE or of a condition is NaN or infinite; the message names the term and the point."""


class _Term(NamedTuple):
    """A mean square in the loss, that of the PDE or of a condition, with u = offset + factor N at its points."""

    of: Problem | Condition
    x: Tensor
    weights: Tensor
    at: list[Jet]
    ansatz: tuple[Jet, Jet] | None  # offset and factor; with None, u = N


class Objective:
    """The mean square of the residual over points, plus weighted mean squares of the conditions.

    It is a function of the network's parameters.

    Parameters
    ----------
    problem : Problem
    network : Network

    Attributes
    ----------
    evaluations : int
        Number of gradients computed so far.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from deepcd.pde.problems import problem
    >>> from deepcd.solvers.pinn.network import Network
    >>> from deepcd.solvers.pinn.objective import Objective
    >>> one_peak = problem("one_peak")
    >>> objective = Objective(one_peak, Network(one_peak.bounds))
    >>> objective.place(torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    >>> value, gradient = objective(objective.parameters)
    >>> gradient.shape
    (1981,)
    """

    def __init__(self, problem: Problem, network: Network) -> None:
        self.problem, self.network, self.evaluations = problem, network, 0
        self._terms: list[_Term] = []
        self._dtype = next(network.parameters()).dtype

    @property
    def parameters(self) -> NDArray[np.float64]:
        """All parameters of the network in one vector."""
        return parameters_to_vector(self.network.parameters()).detach().to(torch.float64).numpy().copy()

    def load(self, theta: NDArray[np.float64]) -> None:
        """Set all parameters of the network."""
        vector_to_parameters(torch.from_numpy(theta.copy()).to(self._dtype), self.network.parameters())

    def place(self, x: Tensor, weights: Tensor | None = None, on: Sequence[Tensor] = ()) -> None:
        """Choose the points of the loss.

        Parameters
        ----------
        x : Tensor, shape (n, d)
        weights : Tensor, shape (n,), optional
            Weights of the squared residuals; by default one.
        on : sequence of Tensors
            For each condition of the problem, its points.
        """
        weights = torch.ones(len(x)) if weights is None else weights
        self._terms = [self._term(self.problem, x, weights * self._inside(x))]
        for condition, points in zip(self.problem.conditions, on, strict=True):
            self._terms.append(self._term(condition, points, torch.full((len(points),), condition.weight)))

    def loss(self) -> Tensor:
        """Return the loss as a tensor with its graph."""
        total = torch.zeros(())
        for term in self._terms:
            total = total + (term.weights * self._residual(term) ** 2).mean()
        return total

    def __call__(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Set the parameters and return the loss, infinity if it is not finite, and its gradient."""
        self.load(theta)
        loss = self.backward()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        gradient = parameters_to_vector(gradients).to(torch.float64).numpy()
        return (loss if math.isfinite(loss) else math.inf), gradient

    def backward(self) -> float:
        """Store the gradient of the loss in the parameters, and return the loss."""
        self.evaluations += 1
        self.network.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        return float(loss.detach())

    def residual(self, x: Tensor) -> Tensor:
        """Return the residual of the PDE at points, shape (n, d), as a float64 tensor of shape (n,).

        Raises
        ------
        NotFiniteError
            If the residual is not finite at a point.
        """
        parts = []
        with torch.no_grad():
            for part in x.split(CHUNK):
                term = self._term(self.problem, part, self._inside(part))
                residual = self._residual(term) * term.weights
                if not residual.isfinite().all():
                    raise self._error(term, residual)
                parts.append(residual.to(torch.float64))
        return torch.cat(parts)

    def values(self, x: Tensor) -> Tensor:
        """Return u at points, shape (n, d), as a float64 tensor of shape (n,)."""
        parts = []
        with torch.no_grad():
            for part in x.split(CHUNK):
                x = part.to(self._dtype)
                u, ansatz = self.network(x), self._ansatz(coordinates(x, ()))
                if ansatz is not None:
                    u = ansatz[0].value + ansatz[1].value * u
                parts.append(u.to(torch.float64))
        return torch.cat(parts)

    def fault(self) -> NotFiniteError | None:
        """Return an error that names a term of the loss and a point where it is not finite, if there is one."""
        for term in self._terms:
            with torch.no_grad():
                residual = self._residual(term)
            if not residual.isfinite().all():
                return self._error(term, residual)
        return None

    def _error(self, term: _Term, residual: Tensor) -> NotFiniteError:
        name = f"{term.of.name} condition" if isinstance(term.of, Condition) else "PDE"
        first = int((~residual.isfinite()).nonzero()[0, 0])
        point = dict(zip(self.problem.axes, term.x[first].tolist(), strict=True))
        return NotFiniteError(f"the residual of the {name} of {self.problem.name} is not finite at {point}")

    def _inside(self, x: Tensor) -> Tensor:
        domain = self.problem.domain
        return torch.ones(len(x)) if domain is None else torch.from_numpy(domain(x.to(torch.float64).numpy()))

    def _term(self, of: Problem | Condition, x: Tensor, weights: Any) -> _Term:
        """Compute everything about a term that does not depend on the network."""
        x = x.to(self._dtype)
        at = coordinates(x, self.problem.sums)
        return _Term(of, x, weights.to(self._dtype), at, self._ansatz(at))

    def _ansatz(self, at: list[Jet]) -> tuple[Jet, Jet] | None:
        """Return the offset and the factor of u = offset + factor N, or None without an ansatz."""
        if self.problem.ansatz is None:
            return None
        zero = at[0] * 0.0
        offset = self.problem.ansatz(at, zero)
        return offset, self.problem.ansatz(at, zero + 1.0) - offset

    def _residual(self, term: _Term) -> Tensor:
        u = self.network.jet(term.x, self.problem.sums)
        if term.ansatz is not None:
            u = term.ansatz[1] * u + term.ansatz[0]
        return term.of.residual(term.at, u)
