"""Random systems whose points are coupled to all eight or 26 around them, by name, as bare matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.sparse import csr_array, diags_array

from deepcd.data.random_fields import ranks, smooth_noise
from deepcd.pde.wide_systems import all_neighbours, elements

Shape = tuple[int, ...]
Rng = np.random.Generator


def laplace(shape: Shape, rng: Rng, *, longest: float = 1.0) -> csr_array:
    """Return multilinear elements of the Laplace operator, zero at the ends; the last axis may be stretched."""
    widths = (*(1.0 for _ in shape[1:]), longest)
    return _inner(elements(np.ones([size + 1 for size in shape]), widths), shape)


def log_normal_elements(shape: Shape, rng: Rng) -> csr_array:
    """Return multilinear elements of a log-normal coefficient of variance 4, zero at the ends."""
    box = [size + 1 for size in shape]
    return _inner(elements(np.exp(2.0 * smooth_noise(box, 8, rng))), shape)


def eight_neighbours(shape: Shape, rng: Rng) -> csr_array:
    """Return a landscape: conductances over four decades in patches, with holes, whose rows are their own; singular."""
    k = 10.0 ** np.floor(5 * ranks(smooth_noise(shape, 8, rng)))
    k[smooth_noise(shape, 6, rng) > rng.uniform(0.8, 1.5)] = 0.0
    A = all_neighbours(k)
    return csr_array(A + diags_array(np.where(A.diagonal() > 0, 0.0, 1.0)))


def _inner(A: csr_array, shape: Shape) -> csr_array:
    """Return the rows and columns of the nodes inside a box of one more element along each axis."""
    nodes = [size + 2 for size in shape]
    kept = np.arange(math.prod(nodes)).reshape(nodes)[(slice(1, -1),) * len(shape)].ravel()
    return csr_array(A[kept][:, kept])


WIDE: dict[str, Callable[[Shape, Rng], csr_array]] = {
    "q1": laplace,
    "q1 stretched": partial(laplace, longest=10.0),
    "q1 log-normal": log_normal_elements,
    "eight neighbours": eight_neighbours,
}


def random_wide(family: str, shape: Sequence[int], rng: np.random.Generator) -> csr_array:
    """Draw a system of a named family.

    Parameters
    ----------
    family : str
        A name in `WIDE`.
    shape : sequence of int
        Number of unknowns along each of two or three axes.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    csr_array
        Symmetric and positive semidefinite; row i is point i of the box in C order.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data import random_wide
    >>> A = random_wide("q1", (3, 3), np.random.default_rng(0))
    >>> np.round(A.toarray()[4] * 3, 6)
    array([-1., -1., -1., -1.,  8., -1., -1., -1., -1.])
    """
    return WIDE[family](tuple(shape), rng)
