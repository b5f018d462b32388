"""Points that are drawn: by rejection, evenly spread for estimates, and in numbers proportional to measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CANDIDATES = 100_000  # a set in which none of so many candidates lies counts as empty

Tensors = TypeVar("Tensors", tuple[Tensor], tuple[Tensor, Tensor])


def accepted(draw: Callable[[int], Tensors], n: int, refusal: str) -> Tensors:
    """Draw by rejection.

    Parameters
    ----------
    draw : callable
        ``draw(m)`` draws m candidates and returns tensors of those that it accepts, in random order unless it accepts
        all of them.
    n : int
        Number of points, at least one.
    refusal : str
        Message of the error if nothing is accepted.

    Returns
    -------
    tuple of Tensor
        The first n points; the shapes are those of `draw` but for the first axis.

    Raises
    ------
    ValueError
        If n is less than one, or none of 100,000 candidates is accepted.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions.drawing import accepted
    >>> len(accepted(lambda m: (torch.arange(m)[::7],), 100, "empty")[0])
    100
    """
    if n < 1:
        raise ValueError(f"n must be a positive number of points, got {n!r}")
    found: list[Tensors] = []
    got = tried = 0
    m = n
    while got < n:
        found.append(draw(m))
        got, tried = got + len(found[-1][0]), tried + m
        if not got and tried >= CANDIDATES:
            raise ValueError(refusal)
        wanted = 1.2 * (n - got) * tried / max(got, 1)
        m = min(CANDIDATES, math.ceil(wanted) + 16)
    return tuple(torch.cat(tensors)[:n] for tensors in zip(*found, strict=True))  # type: ignore[return-value]


def evenly(n: int, d: int) -> Tensor:
    """Return points of the unit cube for estimates of measures: always the same scrambled Sobol points.

    Parameters
    ----------
    n, d : int
        Number of points, best a power of two, and of coordinates.

    Returns
    -------
    Tensor of float64, shape (n, d)

    Examples
    --------
    >>> from deepcd.pde.regions.drawing import evenly
    >>> round(float((evenly(2**14, 2).norm(dim=1) < 1).double().mean()) * 4, 2)
    3.14
    """
    return torch.quasirandom.SobolEngine(d, scramble=True, seed=0).draw(n, dtype=torch.float64)


def numbers(measures: Sequence[float], n: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Share out n points among sets in proportion to their measures.

    Each set gets the proportional number rounded down or up, so that the expected number is exactly proportional: the
    sets are put end to end, and n equidistant points with a random offset are counted (systematic sampling).

    Parameters
    ----------
    measures : sequence of float
        The measures, positive.
    n : int
        Number of points in all.
    generator : torch.Generator
        A random stream on the CPU.

    Returns
    -------
    ndarray of int64, shape of `measures`

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions.drawing import numbers
    >>> numbers([1.0, 2.0, 1.0], 8, torch.Generator().manual_seed(0)).tolist()
    [2, 4, 2]
    """
    ends = np.cumsum(np.array(measures)) / np.sum(measures) * n
    ends[-1] = n  # whatever rounding did
    offset = float(torch.rand(1, dtype=torch.float64, generator=generator))
    return np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
