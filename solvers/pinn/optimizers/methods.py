"""The optimisers of a run under one contract: each computes a number of gradients on fixed points, and has a state.

They are Adam (Kingma and Ba, 2015), SOAP (Vyas et al., "SOAP: Improving and stabilizing Shampoo using Adam", 2024, from
the package pytorch-optimizer), torch's L-BFGS with a strong Wolfe line search, and this project's self-scaled methods.
Quasi-Newton methods begin with some steps of Adam, because far from a minimum curvature is not worth its cost.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepcd.solvers.optimizers.gauss_newton import GaussNewton
from deepcd.solvers.optimizers.self_scaled_broyden import SelfScaledBroyden
from deepcd.solvers.pinn.objective import Objective
from deepcd.solvers.pinn.optimizers.torch_state import State, load_state, state_of

OPTIMIZERS = ("gauss-newton", "ssbroyden", "ssbfgs", "soap", "lbfgs", "adam")


class Method(ABC):
    """An optimiser in a run."""

    @abstractmethod
    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Minimise the objective further; its points may have changed since the last call.

        Parameters
        ----------
        objective : Objective
            The objective whose network is trained.
        steps : int
            Number of Gauss-Newton steps, or largest number of gradients; a line search may exceed it to finish.
        done : float
            Share of the budget that has been used, in [0, 1].

        Returns
        -------
        bool
            False if no descent is possible on these points.
        """

    @abstractmethod
    def state(self) -> State:
        """Return everything that this method remembers between rounds."""

    @abstractmethod
    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the state of a method of the same class on the same network."""


class FirstOrder(Method):
    """A first-order optimiser whose learning rate falls along a cosine to a hundredth.

    Parameters
    ----------
    objective : Objective
    name : {"adam", "soap"}
    rate : float
        Learning rate at the start.
    """

    def __init__(self, objective: Objective, name: str, rate: float) -> None:
        self._rate = rate
        parameters = [p for p in objective.parameters if p.numel()]
        if name == "soap":
            from pytorch_optimizer import SOAP

            self._optimizer: Any = SOAP(parameters, lr=rate, weight_decay=0.0, precondition_frequency=2)
        else:
            self._optimizer = torch.optim.Adam(parameters, lr=rate)

    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Take as many steps as gradients are allowed."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for _ in range(steps):
            if not math.isfinite(objective.backward()):
                raise objective.fault() or FloatingPointError("the loss is not finite")
            self._optimizer.step()
        self.load(self.state())  # lays SOAP's transposed factors out as after a resume, so that products round alike
        return True

    def state(self) -> State:
        """Return the optimiser's moments."""
        return state_of(self._optimizer)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue with the moments of that state."""
        load_state(self._optimizer, state)


class LBFGS(Method):
    """L-BFGS with a hundred pairs. It starts anew on new points, since pairs of another function would mislead it."""

    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Minimise the objective on its present points."""
        optimizer = torch.optim.LBFGS(
            [p for p in objective.parameters if p.numel()],
            max_iter=steps,
            max_eval=steps,
            history_size=100,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )
        before = objective.evaluations
        loss = optimizer.step(lambda: torch.tensor(objective.backward()))
        if not math.isfinite(float(loss)):
            raise objective.fault() or FloatingPointError("the loss is not finite")
        return objective.evaluations - before >= steps

    def state(self) -> State:
        """Return an empty state: nothing is remembered between rounds."""
        return {}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing, since the state is empty."""


class DampedGaussNewton(Method):
    """Gauss-Newton steps. The damping is kept when the points move."""

    def __init__(self, objective: Objective) -> None:
        self._optimizer = GaussNewton(objective.theta)

    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Take some steps on the present points; return False if the last one was refused."""
        optimizer, going = self._optimizer, True
        optimizer.theta = objective.theta
        try:
            for _ in range(steps):
                going = optimizer.step(objective.residual, objective.jacobian)
        except FloatingPointError as error:
            raise objective.fault() or error from None
        finally:
            objective.load(optimizer.theta)
        return going

    def state(self) -> State:
        """Return the optimiser's state."""
        return self._optimizer.state()

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue with the optimiser's state."""
        self._optimizer.load(state)


class SelfScaled(Method):
    """SSBroyden or SSBFGS. The inverse Hessian is kept when the points move, without a pair across the change."""

    def __init__(self, objective: Objective, variant: str) -> None:
        self._optimizer = SelfScaledBroyden(objective.theta, variant=variant)
        self._started = False

    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Minimise the objective on its present points."""
        optimizer = self._optimizer
        if not self._started:
            optimizer.theta[:] = objective.theta
            self._started = True
        optimizer.moved()
        last = objective.evaluations + steps
        going = True
        try:
            while going and objective.evaluations < last:
                going = optimizer.step(objective)
        except FloatingPointError as error:
            raise objective.fault() or error from None
        objective.load(optimizer.theta)
        return going

    def state(self) -> State:
        """Return the optimiser's state, which includes the inverse Hessian."""
        if not self._started:
            return {}
        # Files hold finite numbers only. Numbers that are NaN now are replaced when the next round begins.
        return {name: np.nan_to_num(value) for name, value in self._optimizer.state().items()}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue with the optimiser's state."""
        if state:
            self._optimizer.load(state)
            self._started = True


class WarmStart(Method):
    """Adam for a number of gradients, then another method.

    Parameters
    ----------
    objective : Objective
    method : Method
    gradients : int
        Number of gradients for Adam.
    rate : float
        Learning rate of Adam.
    """

    def __init__(self, objective: Objective, method: Method, gradients: int, rate: float) -> None:
        self._adam, self._method = FirstOrder(objective, "adam", rate), method
        self._most, self._spent = gradients, 0

    def run(self, objective: Objective, steps: int, done: float) -> bool:
        """Run Adam while it has gradients left, then the other method."""
        share = min(steps, self._most - self._spent)
        if share > 0:
            self._adam.run(objective, share, self._spent / self._most)
            self._spent += share
        return self._method.run(objective, steps - share, done) if steps > share else True

    def state(self) -> State:
        """Return the states of both methods."""
        parts = {"adam": self._adam, "method": self._method} if self._spent else {}
        state = {f"{name}/{key}": value for name, part in parts.items() for key, value in part.state().items()}
        return {**state, "spent": np.array(self._spent)}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from the states of both methods."""
        self._spent = int(state["spent"])
        for name, part in (("adam", self._adam), ("method", self._method)):
            own = {k.removeprefix(f"{name}/"): v for k, v in state.items() if k.startswith(f"{name}/")}
            if own:
                part.load(own)


def method(name: str, objective: Objective, *, rate: float = 5e-3, warmup: int = 500) -> Method:
    """Return an optimiser by its name.

    Parameters
    ----------
    name : {"gauss-newton", "ssbroyden", "ssbfgs", "soap", "lbfgs", "adam"}
    objective : Objective
    rate : float, default 5e-3
        Learning rate of Adam and SOAP at the start.
    warmup : int, default 500
        Number of gradients that Adam computes before a quasi-Newton method takes over.

    Returns
    -------
    Method

    Raises
    ------
    ValueError
        If there is no such optimiser.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    if name in ("adam", "soap"):
        return FirstOrder(objective, name, rate)
    if name == "gauss-newton":
        return DampedGaussNewton(objective)
    second = LBFGS() if name == "lbfgs" else SelfScaled(objective, name.removeprefix("ss"))
    return WarmStart(objective, second, warmup, rate) if warmup else second
