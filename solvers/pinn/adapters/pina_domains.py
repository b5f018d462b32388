"""Domains of PINA, asked about many points at once.

PINA's own `is_inside` takes one point and a tenth of a millisecond or more for it. The functions here say the same of
all points in a few operations, save that a simplex holds the points that it samples: PINA 0.3.2 denies that where the
labels of its vertices are not in alphabetical order. A domain of none of PINA's classes is asked point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Way = Callable[[Any, Tensor, list[str]], Tensor]

EDGE = 1e-6  # barycentric coordinates at which PINA lets a simplex end


def inside(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    """Return which points are inside a domain, as its `is_inside` says; nothing is inside a mere surface.

    Parameters
    ----------
    domain : PINA domain
    x : Tensor, shape (n, d)
    axes : list of d str
        Names of the columns.

    Returns
    -------
    Tensor of bool, shape (n,)

    Examples
    --------
    >>> import torch
    >>> from pina.domain import EllipsoidDomain  # doctest: +SKIP
    >>> disk = EllipsoidDomain({"x": [-1, 1], "y": [-1, 1]})  # doctest: +SKIP
    >>> inside(disk, torch.tensor([[0.9, 0.9], [0.0, 0.0]]), ["x", "y"])  # doctest: +SKIP
    tensor([False,  True])
    """
    return _ways().get(type(domain).is_inside, _one_by_one)(domain, x, axes)


def extent(domain: Any, axes: list[str]) -> Tensor:
    """Return a box around a domain, float64 of shape (d, 2); that of set operations is one around all their parts."""
    parts = getattr(domain, "geometries", None)
    if parts is not None:
        boxes = torch.stack([extent(part, axes) for part in parts])
        return torch.stack([boxes[..., 0].amin(dim=0), boxes[..., 1].amax(dim=0)], dim=1)
    if hasattr(domain, "vert_matrix"):
        vertices = _vertices(domain, axes)
        return torch.stack([vertices.amin(dim=0), vertices.amax(dim=0)], dim=1)
    ends = [domain.range[axis] if axis in domain.range else [domain.fixed[axis]] * 2 for axis in axes]
    return torch.tensor(ends, dtype=torch.float64)


def _one_by_one(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    from pina import LabelTensor

    return torch.tensor([bool(domain.is_inside(LabelTensor(point[None], axes))) for point in x])


def _of_parts(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    """Return which points are inside each part of a set operation, shape (parts, n)."""
    return torch.stack([inside(part, x, axes) for part in domain.geometries])


def _difference(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    first, *others = _of_parts(domain, x, axes)
    return first & ~torch.stack([torch.zeros_like(first), *others]).any(dim=0)


def _in_box(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    low, high = extent(domain, axes).to(x.dtype).T  # PINA compares with rounded ends
    return torch.where(low == high, x == low, (x > low) & (x < high)).all(dim=1)


def _in_ellipsoid(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    if domain.sample_surface:
        return torch.zeros(len(x), dtype=torch.bool)
    low, high = extent(domain, axes).T
    ranged = low < high
    squares = ((2 * x - low - high)[:, ranged] / (high - low)[ranged]) ** 2
    return (squares.sum(dim=1) < 1) & (x == low)[:, ~ranged].all(dim=1)


def _in_simplex(domain: Any, x: Tensor, axes: list[str]) -> Tensor:
    if domain.sample_surface:
        return torch.zeros(len(x), dtype=torch.bool)
    *corners, last = _vertices(domain, axes)
    shares = torch.linalg.solve((torch.stack(corners) - last).T, (x.to(torch.float64) - last).T)
    shares = torch.cat([shares, 1 - shares.sum(dim=0, keepdim=True)])
    return ((shares > EDGE) & (shares < 1 - EDGE)).all(dim=0)


def _vertices(domain: Any, axes: list[str]) -> Tensor:
    return domain.vert_matrix.extract(axes).as_subclass(Tensor).to(torch.float64)


@cache
def _ways() -> dict[Any, Way]:
    """Return what stands for each `is_inside` of PINA; a subclass that has one of its own is asked itself."""
    from pina import domain as of_pina

    return {
        of_pina.CartesianDomain.is_inside: _in_box,
        of_pina.EllipsoidDomain.is_inside: _in_ellipsoid,
        of_pina.SimplexDomain.is_inside: _in_simplex,
        of_pina.Union.is_inside: lambda *given: _of_parts(*given).any(dim=0),
        of_pina.Intersection.is_inside: lambda *given: _of_parts(*given).all(dim=0),
        of_pina.Difference.is_inside: _difference,
        of_pina.Exclusion.is_inside: lambda *given: _of_parts(*given).sum(dim=0) == 1,
    }
