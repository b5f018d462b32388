"""What holds: conditions on parts of the boundary and observations at points, besides the equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deepcd.pde.regions import Part
from deepcd.pde.regions.pieces import Name

WEIGHT = 10.0  # weight of the mean square of a condition in the loss, where that of the equation has weight 1


@dataclass(frozen=True, eq=False)
class On:
    """A condition on a part of the boundary; made by `on`."""

    part: Part | tuple[Name, ...]
    residual: Callable[..., Any]
    weight: float


@dataclass(frozen=True, eq=False)
class Observation:
    """Measured values of fields at points; made by `observe`."""

    points: Tensor
    values: dict[str, Tensor]
    sigma: Tensor | None


class Term(NamedTuple):
    """Residuals that are to vanish, and where.

    Attributes
    ----------
    name : str
        For messages.
    residuals : list of Expression or float
    weight : float
        Weight of the mean square of each residual in the loss.
    part : Part or None
        The part of the boundary where the residuals are to vanish; None in the domain, or at `points`.
    points : Tensor of shape (n, d) or None
        The points of an observation.
    data : mapping of str to Tensor of shape (n,)
        Values of leaves at `points`.
    """

    name: str
    residuals: list[Any]
    weight: float
    part: Part | None = None
    points: Tensor | None = None
    data: Mapping[str, Tensor] = MappingProxyType({})


def on(part: Part | Name | Sequence[Name], residual: Callable[..., Any], *, weight: float = WEIGHT) -> On:
    """State a condition on a part of the boundary.

    Parameters
    ----------
    part : Part, str, int, or sequence of str or int
        A part of the domain's boundary, such as ``D.boundary`` or ``D["x-"]``, or the names of pieces.
    residual : callable
        A function that is zero where the condition holds: one residual, or a list of them. Its arguments name axes,
        fields, unknowns, and ``n``, the outward unit normal; ``u.n`` is the derivative of u along it.
    weight : float, default 10.0
        Weight of the mean square of each residual in the loss, where that of the equation has weight 1.

    Returns
    -------
    On

    Examples
    --------
    >>> from deepcd import pinn
    >>> D = pinn.box(x=(0, 1), y=(0, 1))
    >>> insulated = pinn.on(D["x-", "x+"], lambda u: u.n)
    """
    if not callable(residual):
        raise TypeError(f"a condition must be a function such as lambda u: u - 1, got {residual!r:.60}")
    if not (isinstance(weight, int | float) and 0 < weight < np.inf):
        raise ValueError(f"the weight of a condition must be a positive number, got {weight!r}")
    if isinstance(part, str | int):
        part = (part,)
    return On(part if isinstance(part, Part) else tuple(part), residual, float(weight))


def observe(points: Any, *, sigma: Any = None, **values: Any) -> Observation:
    """State measured values.

    Parameters
    ----------
    points : array_like of float, shape (n, d)
        Where the values were measured.
    sigma : float or array_like of float, shape (n,), optional
        Standard deviation of the errors of the values. By default, values are exact.
    **values : array_like of float, shape (n,)
        For each measured field, its values.

    Returns
    -------
    Observation

    Raises
    ------
    ValueError
        If shapes differ, or a number is not finite.

    Examples
    --------
    >>> from deepcd import pinn
    >>> readings = pinn.observe([[0.1, 0.5], [0.2, 0.5]], u=[0.82, 0.67], sigma=0.01)
    """
    x = _finite(points, "points")
    if x.ndim != 2 or not len(x):
        raise ValueError(f"observed points must have the shape (n, d), n at least 1, got {tuple(x.shape)}")
    if not values:
        raise ValueError("an observation needs values of a field: write observe(points, u=values)")
    arrays = {name: _finite(value, name) for name, value in values.items()}
    for name, value in arrays.items():
        if value.shape != x.shape[:1]:
            raise ValueError(
                f"there are {len(x)} observed points, so {name} must have the shape ({len(x)},), got "
                f"{tuple(value.shape)}"
            )
    deviation = None
    if sigma is not None:
        deviation = _finite(sigma, "sigma")
        if deviation.shape not in ((), x.shape[:1]) or not (deviation > 0).all():
            raise ValueError(f"sigma must be a positive number, or {len(x)} of them, got {sigma!r:.60}")
        deviation = deviation.expand(len(x)).clone()
    return Observation(x, arrays, deviation)


def _finite(value: Any, name: str) -> Tensor:
    array = np.array(value.detach() if isinstance(value, Tensor) else value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} of an observation must be finite numbers")
    return torch.from_numpy(array)
