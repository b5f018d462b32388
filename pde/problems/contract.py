"""The statement of a PDE problem: a box, a residual, data on its boundary, and a solution to measure errors against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.problems.jets import Jet, Sums

Points = NDArray[np.float64]


def as_box(bounds: Any) -> Points:
    """Return bounds as a new array of float64, shape (d, 2); raise a ValueError if they are not a box.

    Examples
    --------
    >>> from deepcd.pde.problems.contract import as_box
    >>> as_box([(0, 1), (-1, 1)]).tolist()
    [[0.0, 1.0], [-1.0, 1.0]]
    """
    box = np.array(bounds, dtype=np.float64)
    if box.ndim != 2 or box.shape[1] != 2 or not len(box):
        raise ValueError(f"bounds must be a (low, high) pair per axis, got shape {box.shape}")
    if not np.isfinite(box).all() or not (box[:, 0] < box[:, 1]).all():
        raise ValueError(f"bounds must be finite with low < high on each axis, got {box.tolist()}")
    return box


@dataclass(frozen=True, eq=False)
class Condition:
    """Data on a part of the boundary, or at the initial time.

    Attributes
    ----------
    name : str
        "boundary", "initial", "initial velocity" or "periodic"; the name of the term in messages and histories.
    points : callable
        ``points(n, generator)`` returns n random points of that part, float64 of shape (n, d). If they come in pairs
        and n is odd, it returns n + 1.
    residual : callable
        ``residual(x, u)`` returns a Tensor of shape (n,) that is zero where the data are met. x are the coordinates of
        the points and u is the function there, all as `Jet`. Pairs need all points, in their order.
    weight : float
        Weight of the mean square of this residual in the loss; that of the PDE has weight 1.
    """

    name: str
    points: Callable[[int, torch.Generator], Tensor]
    residual: Callable[[Sequence[Jet], Jet], Tensor]
    weight: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A partial differential equation on a box.

    Attributes
    ----------
    name : str
    title : str
        The equation, for figures and tables.
    axes : tuple of d str
        Names of the coordinates, in order, such as ("t", "x").
    bounds : ndarray of float64, shape (d, 2)
        The box.
    sums : tuple of tuples of int
        Sums of second derivatives that `residual` needs, see `Jet`.
    residual : callable
        ``residual(x, u)`` returns a Tensor of shape (n,) that is zero where the PDE holds, from the coordinates and u
        as `Jet`.
    conditions : tuple of Condition
        Data that the ansatz does not meet by construction.
    ansatz : callable or None
        ``ansatz(x, N)`` returns a `Jet` that meets boundary and initial data exactly whatever the network's output N
        is, from the coordinates and N as `Jet`. It is affine in N, so that it need not be evaluated again for another
        N. With None, u = N.
    solution : callable
        ``solution(points)`` returns float64 of shape (n,), exact up to `solution_error`.
    solution_error : float
        Absolute bound on the error of `solution`; zero for a closed form, which has rounding errors only.
    grid : callable
        ``grid()`` returns the points that errors are measured on, float64 of shape (n, d).
    metric : {"relative l2", "mse"}
        The published measure of the error.
    reference : str
        The publication that states the problem.
    domain : callable or None
        ``domain(points)`` returns bool of shape (n,): which points of the box the PDE holds in. With None, all do.
    recommended : mapping of str to object
        Settings of a training, such as ``points`` or ``budget``, that are tuned for this problem; all others keep their
        defaults, see `deepcd.pinn.RunSettings`. The key "samplers" may hold options of samplers, by their name.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    bounds: Points
    sums: Sums
    residual: Callable[[Sequence[Jet], Jet], Tensor]
    conditions: tuple[Condition, ...] = ()
    ansatz: Callable[[Sequence[Jet], Jet], Jet] | None = None
    solution: Callable[[Points], Points]
    solution_error: float = 0.0
    grid: Callable[[], Points]
    metric: str = "relative l2"
    reference: str
    domain: Callable[[Points], NDArray[np.bool_]] | None = None
    recommended: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the box, and copy it."""
        bounds = as_box(self.bounds)
        if len(self.axes) != len(bounds):
            raise ValueError(f"axes must name each of the {len(bounds)} axes of bounds, got {self.axes}")
        bounds.flags.writeable = False
        object.__setattr__(self, "bounds", bounds)

    @property
    def dimension(self) -> int:
        """Number of coordinates, time included."""
        return len(self.bounds)

    def error(self, u: Points, exact: Points | None = None) -> float:
        """Return the published measure of the error of u.

        Parameters
        ----------
        u : ndarray of float64, shape (n,)
            Values at the points of ``grid()``.
        exact : ndarray of float64, shape (n,), optional
            The solution there; computed by default.
        """
        if exact is None:
            exact = self.solution(self.grid())
        if self.metric == "mse":
            return float(np.mean((u - exact) ** 2))
        return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))
