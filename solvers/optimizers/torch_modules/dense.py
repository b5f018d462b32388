"""An optimiser of torch that moves all parameters as one vector of float64.

What moves the vector, a core, computes on the CPU and knows no torch. It keeps a matrix over all pairs of parameters,
so a few thousand parameters are what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.solvers.optimizers.torch_modules.vectors import F64, REAL, pieces, vector

LARGEST = 20_000  # parameters; the matrix of so many takes 3.2 GB


class Core(Protocol):
    """What the optimisers of this folder have in common."""

    theta: F64
    value: float

    def state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of everything that the next step depends on."""

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue, bit for bit, from such a state."""


C = TypeVar("C", bound=Core)


class Dense(torch.optim.Optimizer, Generic[C]):
    """An optimiser of torch that moves all parameters as one vector, by a core that knows no torch.

    Parameters
    ----------
    params : torch.nn.Module, or iterable of tensors
        float32 or float64, in one group; those that require a gradient are moved, each once.
    **options : object
        What `_begin` takes; it is kept in the group of parameters.

    Raises
    ------
    TypeError
        If a parameter is complex or of another precision.
    ValueError
        If there are several groups, no parameter that requires a gradient, or more than `LARGEST` numbers in them.
    """

    def __init__(self, params: torch.nn.Module | Iterable[Any], **options: Any) -> None:
        if isinstance(params, torch.nn.Module):
            params = params.parameters()
        if not isinstance(params, Tensor | Mapping):
            params = list(params)
            if all(isinstance(p, Tensor) for p in params):
                params = list(dict.fromkeys(params))  # a shared parameter is one parameter
        super().__init__(params, options)
        self._moving = self._trainable()
        self._core = self._begin(vector(self._moving), options)

    def _begin(self, theta: F64, options: Mapping[str, Any]) -> C:
        """Return a core that starts at theta."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take the one group of parameters, and refuse another."""
        if self.param_groups:
            raise ValueError(
                f"{type(self).__name__} moves all parameters together, so it has one group of parameters: "
                "pass them as one list"
            )
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the options and a copy of the state, as tensors; the largest has an entry per pair of parameters.

        Returns
        -------
        dict
            What `torch.save` writes, and `torch.load` reads with ``weights_only=True``. Parameters are kept in float64.
        """
        own = {name: torch.from_numpy(value) for name, value in self._core.state().items()}
        return {**super().state_dict(), "state": {0: own}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue, bit for bit, from the state of an optimiser of the same class on a module of the same shape.

        Parameters
        ----------
        state_dict : mapping
            The return value of `state_dict`. Parameters are not in it for the module's use: load the module's own state
            as well. Where the module has other parameters, the next step starts from those.

        Raises
        ------
        ValueError
            If it is the state of something else; the optimiser stays as it was.
        """
        groups, own = state_dict.get("param_groups") or [{}], state_dict.get("state", {}).get(0, {})
        core = self._begin(vector(self._moving), {**self.defaults, **groups[0]})
        core.load({name: value.cpu().numpy() for name, value in own.items() if isinstance(value, Tensor)})
        # torch would round the state to the precision of the parameters, so it does not get to see it.
        super().load_state_dict({**state_dict, "state": {}})
        self._core = core

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_moving": self._moving, "_core": self._core}

    def _trainable(self) -> list[Tensor]:
        """Return the parameters that require a gradient, after a look at what they are."""
        name, moving = type(self).__name__, [p for p in self.param_groups[0]["params"] if p.requires_grad]
        for p in moving:
            if p.dtype not in REAL:
                raise TypeError(f"a parameter is of {p.dtype}: {name} takes parameters of float32 and float64")
        n = sum(p.numel() for p in moving)
        if n == 0:
            raise ValueError(f"no parameter requires a gradient: pass {name} at least one that does")
        if n > LARGEST:
            raise ValueError(
                f"there are {n:,} parameters, for which {name} would keep a matrix of {8e-9 * n * n:.1f} GB: "
                f"pass at most {LARGEST:,}, or take a method without a matrix, such as torch.optim.LBFGS"
            )
        return moving

    def _ready(self) -> None:
        """Notice what happened to the parameters since the last step: frozen, thawed, or set to other values."""
        moving = self._trainable()
        if [id(p) for p in moving] != [id(p) for p in self._moving]:
            self._core, self._moving = self._begin(vector(moving), self.param_groups[0]), moving
        theta = vector(moving)
        # float32 parameters are rounded from theta, which keeps the digits: small steps add up.
        if not np.array_equal(theta, vector(pieces(self._core.theta, moving))):
            self._core.theta = theta

    def _write(self, theta: F64) -> None:
        """Set the parameters to theta, rounded to their precision."""
        with torch.no_grad():
            for p, piece in zip(self._moving, pieces(theta, self._moving), strict=True):
                p.copy_(piece)
