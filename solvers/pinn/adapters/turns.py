"""The part that the adapters share: a sampler takes its turn in a training that another library runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepcd.solvers.pinn.objective import CHUNK
from deepcd.solvers.pinn.samplers import Sampler


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
        self._sampler = sampler
        self._begun = False

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
            If a residual is not finite.
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
            return self._sampler.turn(n, size)[0]
