"""The part that the adapters share: a sampler takes its turn in a training that another library runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deepcd.solvers.pinn.samplers import Inside, Sampler
from deepcd.solvers.pinn.terms import CHUNK

ROUNDING = 1e-5  # share of a side by which a box that another library keeps in float32 may be off


class Turns:
    """A sampler that another library's training asks for new points from time to time.

    Parameters
    ----------
    sampler : Sampler

    Raises
    ------
    TypeError
        If `sampler` is not a Sampler.
    ValueError
        If the sampler weights its points, which the losses of other libraries do not support.

    Examples
    --------
    >>> from deepcd import pinn
    >>> from deepcd.solvers.pinn.adapters.turns import Turns
    >>> turns = Turns(pinn.sampler("rad", bounds=[(0, 1)], pool=1000))
    >>> x = turns.points(100, lambda x: x**8)
    >>> bool(x.mean() > 0.6)
    True
    """

    def __init__(self, sampler: Sampler) -> None:
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler must be a Sampler, as of deepcd.pinn.sampler, got {sampler!r}")
        if type(sampler).weights is not Sampler.weights:
            name = type(sampler).__name__
            raise ValueError(f"{name} weights points by their residual, which is lost here: choose one that moves them")
        self._sampler, self._own = sampler, sampler.inside
        self._domain: Any = None
        self._begun = False

    def confine(self, domain: Any, inside: Inside, *, extent: Tensor, points: Tensor) -> None:
        """Keep the sampler in a domain of the other library, and make sure that it can draw there.

        What the sampler's own `inside` leaves out stays out. If the domain is that of the last call, nothing happens.

        Parameters
        ----------
        domain : object
            The library's domain.
        inside : callable
            Function from points, float64 of shape (m, d), to whether they lie in the domain, bool of shape (m,).
        extent : Tensor of float64, shape (d, 2)
            A box around the domain, as the library knows it.
        points : Tensor of float64, shape (n, d)
            Points of the domain that are to be moved, n > 0.

        Raises
        ------
        ValueError
            If the sampler's box neither holds all points nor lies in the extent, so that its axes are likely to be in
            another order, or if the domain takes too little of the box for points to be found.
        """
        if domain is self._domain:
            return
        low, high = self._sampler.bounds.T
        # Some geometries of DeepXDE have points outside their bounding boxes, ellipses for one.
        least, most = torch.minimum(extent[:, 0], points.amin(dim=0)), torch.maximum(extent[:, 1], points.amax(dim=0))
        slack = ROUNDING * torch.minimum(high - low, most - least)
        holds = ((points >= low - slack) & (points <= high + slack)).all()
        lies_within = ((low >= least - slack) & (high <= most + slack)).all()
        if not holds and not lies_within:
            box, around = self._sampler.bounds.tolist(), torch.stack([least, most], dim=1).tolist()
            raise ValueError(
                f"the sampler's box {box} must hold the whole domain, or lie within the domain's {around}: "
                "check that its axes are in the order of the points'"
            )
        own = self._own
        with torch.device("cpu"):
            self._sampler.confine(inside if own is None else lambda x: own(x) & inside(x))
            self._sampler.sample(len(points))
            if self._sampler.probes:  # which may be more points than can be found in a thin domain
                state = self._sampler.generator.get_state()
                self._sampler.probe()
                self._sampler.generator.set_state(state)
        self._domain, self._begun = domain, True

    def points(self, n: int, residuals: Callable[[Tensor], Tensor]) -> Tensor:
        """Let the sampler learn from the residual, and return its next points.

        Parameters
        ----------
        n : int
            Number of points; the same each time.
        residuals : callable
            Function from points, float64 of shape (m, d), to the residuals of k PDEs there, shape (m, k). The sampler
            receives the root of the sum of their squares. Not called if the sampler does not learn from the residual.

        Returns
        -------
        Tensor of float64, shape (n, d)
            Points on the CPU. The points that `residuals` receives are on the CPU as well.

        Raises
        ------
        ValueError
            If a residual is not finite, or a point of the sampler lies outside its domain.
        """
        outside = torch.get_default_device()  # DeepXDE makes a GPU the default if there is one

        def size(x: Tensor) -> Tensor:
            with torch.device(outside):
                parts = [torch.linalg.vector_norm(residuals(part).to(torch.float64), dim=1) for part in x.split(CHUNK)]
            return torch.cat(parts)

        with torch.device("cpu"):  # where samplers work
            if not self._begun:
                self._sampler.sample(n)  # a sampler can only move points that it has drawn
                self._begun = True
            x = self._sampler.turn(n, size)[0]
            held = self._sampler.holds(x)
            if not held.all():
                name, point = type(self._sampler).__name__, x[~held][0].tolist()
                raise ValueError(f"{name} returned the point {point}, where its `inside` is False")
            return x
