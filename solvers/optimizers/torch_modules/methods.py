"""Gauss-Newton steps and the self-scaled Broyden method, for any module of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepcd.solvers.optimizers import gauss_newton
from deepcd.solvers.optimizers.self_scaled_broyden import SelfScaledBroyden
from deepcd.solvers.optimizers.torch_modules.dense import Dense
from deepcd.solvers.optimizers.torch_modules.vectors import F64, REAL, refuse_infinite, transposed_jacobian, vector


class GaussNewton(Dense[gauss_newton.GaussNewton]):
    """Gauss-Newton steps on a sum of squares, with damping and geodesic acceleration, for any module.

    Parameters
    ----------
    params : torch.nn.Module, or iterable of tensors
        float32 or float64, at most `LARGEST` numbers in all, in one group. Those that require a gradient are moved.
    damping : float
        Damping mu of the first step, (J'J + mu I) d = -J'r; the method adapts it from step to step.

    Raises
    ------
    TypeError
        If a parameter is complex or of another precision.
    ValueError
        If `damping` is not positive, there are several groups, no parameter that requires a gradient, or too many.

    Notes
    -----
    With P parameters and N residuals, a step costs N backward passes through the graph, in chunks that torch's vmap
    carries out together (one after the other where it does not know an operation), some evaluations of the residuals,
    and about N P^2 + P^3 / 3 multiplications for each damping that is tried. It needs 8 P N bytes for the Jacobian and
    16 P^2 for J'J and its factor. Where each residual belongs to a point of its own, a Jacobian takes no more than a
    few backward passes in all: `deepcd.pinn` computes it so for its networks.

    There is no learning rate: torch's schedulers refuse this optimiser with ``KeyError: 'lr'``. Parameters that are
    frozen or thawed between two steps let the damping begin anew. Gradients in ``.grad`` are neither used nor changed.

    Examples
    --------
    >>> import torch
    >>> from deepcd.optim import GaussNewton
    >>> _ = torch.manual_seed(0)
    >>> x = torch.linspace(-3, 3, 60)[:, None]
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    >>> optimizer = GaussNewton(network)
    >>> for _ in range(15):
    ...     value = optimizer.step(lambda: (network(x) - torch.sin(x)).squeeze(1))
    >>> value < 1e-3
    True
    """

    def __init__(self, params: torch.nn.Module | Iterable[Any], damping: float = 1e-3) -> None:
        if not 0 < damping < math.inf:
            raise ValueError(f"damping={damping}: pass a positive number, such as 1e-3")
        super().__init__(params, damping=damping)

    def _begin(self, theta: F64, options: Mapping[str, Any]) -> gauss_newton.GaussNewton:
        return gauss_newton.GaussNewton(theta, damping=options["damping"])

    def step(self, closure: Callable[[], Tensor]) -> float:  # type: ignore[override]
        """Do one step.

        Parameters
        ----------
        closure : callable
            closure() -> r, the residuals at the parameters as they are: a float32 or float64 tensor of shape (N,) with
            its graph, the same function at each call within a step.

        Returns
        -------
        float
            The sum of the squares of r at the new parameters; they stay where they are if no step is accepted.

        Raises
        ------
        TypeError
            If `closure` does not return a tensor of float32 or float64.
        ValueError
            If the tensor is no vector, is without a graph, does not depend on the parameters or is not finite at the
            current ones, or changes its length. The parameters are then what they were.
        """
        self._ready()
        lengths: list[int] = []

        def graph(theta: F64) -> Tensor:
            self._write(theta)
            with torch.enable_grad():
                r = closure()
            _refuse_residuals(r, *lengths)
            lengths[:] = [len(r)]
            return r

        def jacobian(theta: F64) -> tuple[F64, F64]:
            r = graph(theta)
            refuse_infinite("residuals", r)
            return vector([r]), transposed_jacobian(r, self._moving)

        core = self._core
        try:
            core.step(lambda theta: vector([graph(theta)]), jacobian)
        finally:
            self._write(core.theta)
        return core.value


class SSBroyden(Dense[SelfScaledBroyden]):
    """The self-scaled Broyden method with a dense inverse Hessian, in the place of `torch.optim.LBFGS`.

    Parameters
    ----------
    params : torch.nn.Module, or iterable of tensors
        float32 or float64, at most `LARGEST` numbers in all, in one group. Those that require a gradient are moved.
    variant : {"broyden", "bfgs"}
        SSBroyden, or SSBFGS.
    max_iter : int
        Largest number of iterations in a step; as in LBFGS, a step computes one more gradient than they need.

    Raises
    ------
    TypeError
        If a parameter is complex or of another precision.
    ValueError
        If the variant is unknown, `max_iter` is less than 1, there are several groups, no parameter that requires a
        gradient, or too many.

    Notes
    -----
    The inverse Hessian takes 4 P^2 bytes for P parameters, and an iteration passes over it once. It is kept when the
    function changes between two steps, as it does with new points, and begins anew when parameters are frozen or
    thawed. `deepcd.solvers.optimizers.self_scaled_broyden` has the method and its sources.

    There is no learning rate: torch's schedulers refuse this optimiser with ``KeyError: 'lr'``. Line searches compare
    values, which in float32 have seven digits; float64 goes much further.

    Examples
    --------
    >>> import torch
    >>> from deepcd.optim import SSBroyden
    >>> _ = torch.manual_seed(0)
    >>> x = torch.linspace(-3, 3, 60, dtype=torch.float64)[:, None]
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    >>> optimizer = SSBroyden(network)
    >>> def closure() -> torch.Tensor:
    ...     optimizer.zero_grad()
    ...     loss = ((network(x) - torch.sin(x)) ** 2).mean()
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(10):
    ...     loss = optimizer.step(closure)
    >>> float(loss) < 1e-6
    True
    """

    def __init__(
        self, params: torch.nn.Module | Iterable[Any], variant: str = "broyden", *, max_iter: int = 20
    ) -> None:
        if max_iter < 1:
            raise ValueError(f"max_iter={max_iter}: pass 1 or more")
        super().__init__(params, variant=variant, max_iter=max_iter)

    def _begin(self, theta: F64, options: Mapping[str, Any]) -> SelfScaledBroyden:
        return SelfScaledBroyden(theta, variant=options["variant"])

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Do up to `max_iter` iterations; fewer if no further descent is possible.

        Parameters
        ----------
        closure : callable
            closure() -> loss, a tensor with one entry, after loss.backward(). Gradients are cleared before each call.

        Returns
        -------
        Tensor
            The loss at the new parameters, without a graph. (LBFGS returns the one before the step.)

        Raises
        ------
        TypeError
            If `closure` does not return a tensor of float32 or float64.
        ValueError
            If the tensor has several entries, no parameter has got a gradient, or the loss or the gradient is not
            finite at the current parameters. These are then what they were; after an error that `closure` raises in a
            later iteration, they are those of the last one completed.
        """
        self._ready()

        def evaluate() -> tuple[Tensor, F64]:
            for p in self._moving:
                p.grad = None
            with torch.enable_grad():
                loss = closure()
            _refuse_loss(loss, self._moving)
            return loss.detach(), vector(
                [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in self._moving]
            )

        loss, gradient = evaluate()
        refuse_infinite("loss", loss)
        refuse_infinite("gradient", torch.from_numpy(gradient))
        core = self._core
        known = [(float(loss), gradient)]
        if core.value == known[0][0] and np.array_equal(core.gradient, gradient):
            known.clear()
        else:
            core.moved()

        def fun(theta: F64) -> tuple[float, F64]:
            if known:  # a function that is new to the core is first evaluated at the current point
                return known.pop()
            self._write(theta)
            value, gradient = evaluate()
            return float(value), gradient

        try:
            for _ in range(self.param_groups[0]["max_iter"]):
                if not core.step(fun):
                    break
        finally:
            self._write(core.theta)
        return loss.new_tensor(core.value)


def _refuse_type(given: Any, expected: str) -> None:
    if not isinstance(given, Tensor) or given.dtype not in REAL:
        what = f"a tensor of {given.dtype}" if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"closure returned {what}: return {expected} as a tensor of float32 or float64")


def _refuse_residuals(r: Any, *lengths: int) -> None:
    """Raise unless r is a vector with a graph, and of these lengths."""
    _refuse_type(r, "the residuals")
    if r.ndim != 1 or len(r) == 0:
        raise ValueError(f"closure returned a tensor of shape {tuple(r.shape)}: return the residuals as a vector (N,)")
    if not r.requires_grad:
        raise ValueError("closure returned residuals without a graph: compute them without detach or torch.no_grad")
    if any(length != len(r) for length in lengths):
        raise ValueError(f"closure returned {lengths[0]} residuals and then {len(r)}: keep their number within a step")


def _refuse_loss(loss: Any, parameters: Sequence[Tensor]) -> None:
    """Raise unless the loss is one number, of which some parameter has got a gradient."""
    _refuse_type(loss, "the loss")
    if loss.numel() != 1:
        raise ValueError(
            f"closure returned a tensor of shape {tuple(loss.shape)}: return the loss, which is one number"
        )
    if all(p.grad is None for p in parameters):
        raise ValueError("no parameter has a gradient after closure(): call loss.backward() in it")
