"""What the adapters share: how a sampler takes its turn in a training that another library runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepcd.solvers.pinn.objective import CHUNK
from deepcd.solvers.pinn.samplers import Sampler


class Turns:
    """A sampler that is asked for the next points from time to time.

    Parameters
    ----------
    sampler : Sampler

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it weights its points: the losses of the other libraries have no place for that.

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
            How many; the same each time.
        residuals : callable
            From points, float64 of shape (m, d), to the residuals of k PDEs there, shape (m, k). The sampler is told
            the root of the sum of their squares. Not asked if the sampler has no points to probe.

        Returns
        -------
        Tensor of float64, shape (n, d)
            On the CPU, as are the points that the residuals are asked for.

        Raises
        ------
        ValueError
            If a residual is not finite.
        """
        if not self._begun:
            self._sample(n)  # there have to be points before they can be moved
            self._begun = True
        if self._sampler.probes:
            with torch.device("cpu"):
                x, log_density = self._sampler.probe()
            parts = [torch.linalg.vector_norm(residuals(part).to(torch.float64), dim=1) for part in x.split(CHUNK)]
            with torch.device("cpu"):
                self._sampler.update(x, log_density, torch.cat(parts))
        return self._sample(n)

    def _sample(self, n: int) -> Tensor:
        with torch.device("cpu"):  # where samplers work, while DeepXDE makes a GPU the default if there is one
            return self._sampler.sample(n)[0]
