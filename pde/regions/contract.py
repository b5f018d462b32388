"""Domains that networks are trained on: where they are, random points in them, and the parts of their boundary.

A domain is a box of coordinates and a test which of its points are inside. Its boundary consists of pieces with names
(:class:`Piece`); conditions hold on parts of it (:class:`Part`): on pieces, and on points of pieces that pass tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.regions.binding import listed, tested
from deepcd.pde.regions.drawing import CANDIDATES, accepted, evenly
from deepcd.pde.regions.pieces import (
    Contains,
    Name,
    Operation,
    Piece,
    Tests,
    drawn,
    failed,
    joint_pieces,
    primed,
    times,
)
from deepcd.pde.regions.sampling import in_box

ESTIMATE = 1 << 16  # number of points by which volumes are estimated

Floats = NDArray[np.float64]
Ends = Callable[[Floats, Floats], tuple[Floats, Floats]]


class Domain:
    """A domain in the space of its named axes, made by `box`, `polygon`, `level_set` or `body`.

    ``a | b``, ``a & b`` and ``a - b`` are union, intersection and difference; ``a * b`` is the product of domains with
    different axes, such as an interval of time and a polygon. In all of them, names of pieces are kept, but a name of
    the second domain that the first has too gets a prime: "x-'". Measures of pieces that are cut are estimated.

    Parameters
    ----------
    axes : sequence of d str
        Names of the coordinates, in order, such as ("t", "x").
    bounds : array_like of float, shape (d, 2)
        The low and the high end of each axis.
    pieces : sequence of Piece
        The pieces of the boundary, with names that differ.
    contains : callable, optional
        ``contains(x)`` tells which points, float64 of shape (n, d) and within the bounds, are inside, as bool of shape
        (n,). By default all are.
    volume : float, optional
        The volume; estimated by default, always with the same points.
    periodic : sequence of str
        Names of the axes that are periodic, along which the domain has no ends.

    Attributes
    ----------
    axes, bounds, pieces, volume, periodic
        As given; bounds are read-only, and sequences are tuples.
    is_box : bool
        Whether all points of the bounds are inside.

    Raises
    ------
    ValueError
        If the domain has no points.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions import box
    >>> square = box(x=(0, 2), y=(0, 2))
    >>> corner = square - box(x=(1, 2), y=(1, 2))
    >>> [piece.name for piece in corner.pieces]
    ['x-', 'x+', 'y-', 'y+', "x-'", "y-'"]
    >>> corner.inside(torch.tensor([[0.5, 1.5], [1.5, 1.5]], dtype=torch.float64)).tolist()
    [True, False]
    >>> x, normal = corner["x-'"].points(2, torch.Generator().manual_seed(0))
    >>> normal.tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        axes: Sequence[str],
        bounds: Any,
        pieces: Sequence[Piece],
        *,
        contains: Contains | None = None,
        volume: float | None = None,
        periodic: Sequence[str] = (),
    ) -> None:
        self.axes, self.pieces, self.periodic = tuple(axes), tuple(pieces), tuple(periodic)
        self.bounds: Floats = np.array(bounds, dtype=np.float64)
        self.bounds.setflags(write=False)
        self.is_box = contains is None
        self._contains = contains
        self.volume = self._estimated() if volume is None else volume

    def __repr__(self) -> str:
        return f"<Domain {self._extent()}; boundary {listed(piece.name for piece in self.pieces)}>"

    def inside(self, x: Tensor) -> Tensor:
        """Tell which points are inside.

        Parameters
        ----------
        x : Tensor of float64, shape (n, d)

        Returns
        -------
        Tensor of bool, shape (n,)

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        if x.ndim != 2 or x.shape[1] != len(self.axes):
            raise ValueError(f"points must have the shape (n, {len(self.axes)}), got {tuple(x.shape)}")
        with torch.no_grad():
            low, high = torch.tensor(self.bounds).T
            result = ((x >= low) & (x <= high)).all(dim=1)
            if self._contains is not None and result.any():
                result[result.clone()] = self._contains(x[result])
        return result

    def points(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points uniformly from the inside, by rejection from the bounds.

        Parameters
        ----------
        n : int
            Number of points, at least one.
        generator : torch.Generator
            A random stream on the CPU.

        Returns
        -------
        Tensor of float64, shape (n, d)

        Raises
        ------
        ValueError
            If n is less than one, or no point is found.
        """

        def draw(m: int) -> tuple[Tensor]:
            x = in_box(self.bounds, m, generator)
            return (x if self.is_box else x[self.inside(x)],)

        return accepted(draw, n, f"none of {CANDIDATES:,} points with {self._extent()} is inside the domain")[0]

    @cached_property
    def boundary(self) -> Part:
        """All of the boundary."""
        return Part(self, tuple((piece, ()) for piece in self.pieces))

    @cached_property
    def elsewhere(self) -> Part:
        """The boundary without what the other conditions of a problem use, which ``less(others)`` takes away."""
        return replace(self.boundary, elsewhere=True)

    def __getitem__(self, names: Name | slice | Sequence[Name]) -> Part:
        """Return the part of the boundary that consists of named pieces, or of those with a range of numbers."""
        known = {piece.name: piece for piece in self.pieces}
        if isinstance(names, slice):
            numbered = [name for name in known if isinstance(name, int)]
            wanted: list[Name] = [k for k in range(max(numbered, default=-1) + 1)[names] if k in known]
        else:
            wanted = list(names) if isinstance(names, tuple | list) else [names]  # type: ignore[list-item]
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            what = listed(map(repr, unknown)) if unknown else f"with a number in {names}"
            repeats = f" ({listed(self.periodic)} periodic)" if self.periodic else ""
            raise ValueError(f"the boundary has no piece {what}; its pieces are {listed(known)}{repeats}")
        return Part(self, tuple((known[name], ()) for name in dict.fromkeys(wanted)))

    def where(self, test: Callable[..., Tensor]) -> Part:
        """Return the part of the boundary where a test holds; see :meth:`Part.where`."""
        return self.boundary.where(test)

    def __sub__(self, other: Domain) -> Domain:
        """Return the difference."""
        return self._joined(other, lambda a, b: a & ~b, lambda low, high: (low[0], high[0]), cut=True)

    def __or__(self, other: Domain) -> Domain:
        """Return the union."""
        return self._joined(other, torch.logical_or, lambda low, high: (low.min(axis=0), high.max(axis=0)))

    def __and__(self, other: Domain) -> Domain:
        """Return the intersection."""
        return self._joined(other, torch.logical_and, lambda low, high: (low.max(axis=0), high.min(axis=0)))

    def __mul__(self, other: Domain) -> Domain:
        """Return the product of two domains without a common axis."""
        if not isinstance(other, Domain):
            raise TypeError(f"a domain can be multiplied with a domain only, got {other!r:.80}")
        common = [axis for axis in self.axes if axis in other.axes]
        if common:
            raise ValueError(f"the domains of a product must have different axes, but both have {listed(common)}")
        d = len(self.axes)
        first = [times(piece, other.points, other.volume, last=True) for piece in self.pieces]
        second = [times(piece, self.points, self.volume, last=False) for piece in other.pieces]
        whole = self.is_box and other.is_box
        return Domain(
            (*self.axes, *other.axes),
            np.vstack([self.bounds, other.bounds]),
            (*first, *primed(first, second)),
            contains=None if whole else lambda x: self.inside(x[:, :d]) & other.inside(x[:, d:]),
            volume=self.volume * other.volume,
            periodic=(*self.periodic, *other.periodic),
        )

    def _joined(self, other: Domain, operation: Operation, ends: Ends, cut: bool = False) -> Domain:
        """Return a union, an intersection or a difference, whose bounds are `ends` of both lower and both upper ends.

        Axes that are periodic stay so if they are in both domains, or in that which is `cut`.
        """
        if not isinstance(other, Domain):
            raise TypeError(f"a domain can be joined or cut with a domain only, got {other!r:.80}")
        if self.axes != other.axes:
            both = f"{listed(self.axes)} and {listed(other.axes)}"
            raise ValueError(f"domains that are joined or cut must have the same axes in the same order, not {both}")
        for k, axis in enumerate(self.axes):
            own, its = axis in self.periodic, axis in other.periodic
            if (own and not its and not cut) or (its and not (own and (self.bounds[k] == other.bounds[k]).all())):
                raise ValueError(f"the axis {axis} must be periodic with the same ends in both domains, or in neither")
        low, high = ends(*np.moveaxis(np.stack([self.bounds, other.bounds]), 2, 0))
        if (low >= high).any():
            raise ValueError(f"the domains have no points in common: {self._extent()}, and {other._extent()}")
        own_side, its_side = (self.pieces, self.inside), (other.pieces, other.inside)
        return Domain(
            self.axes,
            np.stack([low, high], axis=1),
            joint_pieces(own_side, its_side, operation, high - low),
            contains=lambda x: operation(self.inside(x), other.inside(x)),
            periodic=self.periodic,
        )

    def _estimated(self) -> float:
        """Return the volume by the share of evenly spread points of the bounds that are inside; refuse none."""
        low, high = torch.tensor(self.bounds).T
        share = float(self.inside(low + (high - low) * evenly(ESTIMATE, len(low))).double().mean())
        if not share:
            raise ValueError(f"the domain has no points: none of {ESTIMATE:,} with {self._extent()} is inside")
        return share * float((high - low).prod())

    def _extent(self) -> str:
        """Return the bounds in words."""
        return listed(f"{axis} from {a:g} to {b:g}" for axis, (a, b) in zip(self.axes, self.bounds, strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """A part of the boundary of a domain: some of its pieces, or those points of them that pass tests.

    Attributes
    ----------
    domain : Domain
    chosen : tuple of (Piece, tuple of callable)
        Pieces of the domain, each with the tests that points of it have to pass: float64 of shape (n, d) to bool of
        shape (n,).
    elsewhere : bool
        Whether the part is only a marker for what other conditions leave, so that :meth:`less` has to be called first.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions import box
    >>> square = box(x=(0, 1), y=(0, 1))
    >>> warm = square.where(lambda x: x > 0.5)
    >>> x, normal = square.elsewhere.less([warm, square["y-"]]).points(1000, torch.Generator().manual_seed(0))
    >>> round(float(x[:, 0].max()), 2), float(x[:, 1].min()) > 0
    (0.5, True)
    """

    domain: Domain
    chosen: tuple[tuple[Piece, Tests], ...]
    elsewhere: bool = False

    @property
    def names(self) -> tuple[Name, ...]:
        """The names of the pieces."""
        return tuple(piece.name for piece, _ in self.chosen)

    def __repr__(self) -> str:
        where = " where tests hold" if any(tests for _, tests in self.chosen) else ""
        return f"{'elsewhere on ' if self.elsewhere else ''}the boundary {listed(self.names)}{where}"

    def points(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points uniformly from the part.

        Each piece gets a number in proportion to its measure, rounded down or up at random; points that fail tests are
        rejected and drawn again.

        Parameters
        ----------
        n : int
            Number of points, at least one.
        generator : torch.Generator
            A random stream on the CPU.

        Returns
        -------
        x, normal : Tensor of float64, shape (n, d) each
            The points, and the unit normals that point out of the domain there.

        Raises
        ------
        ValueError
            If n is less than one, the part is empty, or it is a marker that :meth:`less` has not resolved.
        """
        if self.elsewhere:
            raise ValueError(f"{self} is what other conditions leave: call less(others) to say which they are")
        if not self.chosen:
            raise ValueError(f"no piece of the boundary is left of {listed(p.name for p in self.domain.pieces)}")

        draw = partial(drawn, self.chosen, generator)
        return accepted(draw, n, f"{self} is empty: none of {CANDIDATES:,} candidates is on it")

    def where(self, test: Callable[..., Tensor]) -> Part:
        """Return the points of this part where a test holds.

        Parameters
        ----------
        test : callable
            A function of coordinates that its arguments name in any order, such as ``lambda x, z: (x > 0) & (z < 1)``.
            It takes float64 and returns bool, of shape (n,) each.

        Returns
        -------
        Part

        Raises
        ------
        ValueError
            If the test has an argument that is none of the axes, or returns anything but bool of shape (n,).
        """
        holds = partial(tested, test, self.domain.axes)
        holds(torch.tensor(self.domain.bounds.T))  # whatever is wrong with it is said at once
        return replace(self, chosen=tuple((piece, (*tests, holds)) for piece, tests in self.chosen))

    def less(self, others: Sequence[Part]) -> Part:
        """Return what remains of this part without the points of others.

        Parameters
        ----------
        others : sequence of Part
            Parts of the same domain. Markers for what is elsewhere take nothing away.

        Returns
        -------
        Part

        Raises
        ------
        ValueError
            If one of them is part of another domain.
        """
        chosen: list[tuple[Piece, Tests]] = []
        for other in others:
            if other.domain is not self.domain:
                raise ValueError(f"{self} is of {self.domain}, but {other} is of {other.domain}, another domain")
        for piece, tests in self.chosen:
            taken = [its for other in others if not other.elsewhere for p, its in other.chosen if p is piece]
            if () not in taken:
                chosen.append((piece, (*tests, *(partial(failed, its) for its in taken))))
        return Part(self.domain, tuple(chosen))

    def without(self, axis: str) -> Part:
        """Return this part without the faces that are perpendicular to an axis, such as the first and the last time.

        Parameters
        ----------
        axis : str
            The name of an axis of the domain.

        Returns
        -------
        Part

        Raises
        ------
        ValueError
            If there is no such axis.
        """
        if axis not in self.domain.axes:
            raise ValueError(f"the domain has no axis {axis!r}; its axes are {listed(self.domain.axes)}")
        return replace(self, chosen=tuple((piece, tests) for piece, tests in self.chosen if piece.axis != axis))
