"""What a PDE problem is: a box, a residual, data on its boundary, and a solution to measure errors against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.problems.jets import Jet, Sums

Points = NDArray[np.float64]


def as_box(bounds: Any) -> Points:
    """Return bounds as a new array of float64, shape (d, 2), or raise a ValueError if they are no box.

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
        "boundary", "initial", "initial velocity", "periodic": names the term in messages and histories.
    points : callable
        ``points(n, generator)``: n random points of that part, float64 of shape (n, d); n + 1 if n is odd and they come
        in pairs.
    residual : callable
        ``residual(x, u)``: Tensor of shape (n,) that is zero where the data are met, from the coordinates of the points
        and u there, all `Jet`; pairs need all the points in their order.
    weight : float
        Of the mean square of this residual in the loss, beside that of the PDE.
    """

    name: str
    points: Callable[[int, torch.Generator], Tensor]
    residual: Callable[[Sequence[Jet], Jet], Tensor]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
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
        ``residual(x, u)``: Tensor of shape (n,), from the coordinates and u as `Jet`; zero where the PDE holds.
    conditions : tuple of Condition
        What the ansatz does not meet by construction.
    ansatz : callable or None
        ``ansatz(x, N)``: a `Jet` that meets boundary and initial data exactly whatever the network's output N is, from
        the coordinates and N as `Jet`. Affine in N, so that it need not be evaluated again for another N.
    solution : callable
        ``solution(points)``: float64 of shape (n,), exact up to `solution_error`.
    solution_error : float
        Bound on the error of `solution`: absolute, zero for a closed form but for rounding.
    grid : callable
        ``grid()``: float64 of shape (n, d), the points that errors are measured on.
    metric : {"mse", "relative l2"}
        The published measure of the error.
    reference : str
        Where the problem comes from.
    domain : callable or None
        ``domain(points)``: bool of shape (n,), which points of the box the PDE holds in; None: all.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    bounds: Points
    sums: Sums
    residual: Callable[[Sequence[Jet], Jet], Tensor]
    conditions: tuple[Condition, ...]
    ansatz: Callable[[Sequence[Jet], Jet], Jet] | None
    solution: Callable[[Points], Points]
    grid: Callable[[], Points]
    metric: str
    reference: str
    solution_error: float = 0.0
    domain: Callable[[Points], NDArray[np.bool_]] | None = None

    def __post_init__(self) -> None:
        """Refuse a box that is none."""
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
            The solution there, if it is at hand; default: it is computed.
        """
        if exact is None:
            exact = self.solution(self.grid())
        if self.metric == "mse":
            return float(np.mean((u - exact) ** 2))
        return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))
