"""The state of a torch optimiser as named arrays, which files can hold.

An optimiser's `state_dict` nests dicts and lists of tensors and numbers. Here the path to each names its array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

State = dict[str, NDArray[Any]]


def state_of(optimizer: Any) -> State:
    """Return copies of the moments and numbers of a torch optimiser.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.optimizers.torch_state import load_state, state_of
    >>> x = torch.nn.Parameter(torch.ones(2))
    >>> adam, other = (torch.optim.Adam([x], lr=rate) for rate in (0.1, 0.2))
    >>> x.grad = torch.ones(2)
    >>> adam.step()
    >>> load_state(other, state_of(adam))
    >>> other.param_groups[0]["lr"], sorted(other.state[x])
    (0.1, ['exp_avg', 'exp_avg_sq', 'step'])
    """
    kept = optimizer.state_dict()
    groups = [{k: v for k, v in group.items() if k != "params"} for group in kept["param_groups"]]
    return _flat({"state": kept["state"], "groups": groups})


def load_state(optimizer: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Restore what `state_of` returned for an optimiser of the same class on parameters of the same shapes."""
    kept, tree = optimizer.state_dict(), _tree(state)
    kept["state"] = dict(enumerate(tree.get("state", [])))  # empty before the first step
    for group, values in zip(kept["param_groups"], tree["groups"], strict=True):
        group |= {name: value.item() for name, value in values.items() if isinstance(value, torch.Tensor)}
    optimizer.load_state_dict(kept)


def _flat(tree: Any, path: str = "") -> State:
    """Return the numbers in nested dicts and lists by their paths; an empty list becomes a number named "[]"."""
    if isinstance(tree, torch.Tensor):
        return {path: tree.detach().numpy().copy()}
    if isinstance(tree, bool | int | float):
        return {path: np.array(tree)}
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree)) or {"[]": 0}
    items = tree.items() if isinstance(tree, dict) else ()
    return {key: value for name, part in items for key, value in _flat(part, f"{path}/{name}".lstrip("/")).items()}


def _tree(flat: Mapping[str, NDArray[Any]]) -> Any:
    """Return the nested dicts and lists of tensors that `_flat` has flattened."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = torch.from_numpy(np.array(value))

    def listed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if "[]" in part:
            return []
        if all(name.isdigit() for name in part):
            return [listed(part[name]) for name in sorted(part, key=int)]
        return {name: listed(value) for name, value in part.items()}

    return listed(tree)
