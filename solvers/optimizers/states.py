"""The state of an optimiser as arrays that can be written to a file, and an optimiser that continues from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def state_of(optimizer: Any, attributes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return copies of some attributes as numeric arrays, by their names without underscores around them."""
    return {name.strip("_"): np.array(getattr(optimizer, name)) for name in attributes}


def restore(optimizer: Any, attributes: Sequence[str], state: Mapping[str, NDArray[Any]]) -> None:
    """Set the attributes to what `state_of` returned; nothing changes if something is wrong.

    Raises
    ------
    ValueError
        If an array is missing or of another shape than the attribute is now.
    """
    for attribute in attributes:
        name, expected = attribute.strip("_"), np.shape(getattr(optimizer, attribute))
        if name not in state:
            raise ValueError(f"state has no {name!r}: load what state() returned")
        if np.shape(state[name]) != expected:
            raise ValueError(
                f"state[{name!r}] is of shape {np.shape(state[name])}, expected {expected}: "
                f"load the state of an optimiser of {optimizer.theta.size} parameters"
            )
    for attribute in attributes:
        given = np.array(state[attribute.strip("_")])
        setattr(optimizer, attribute, given if given.ndim else given.item())
