"""Pieces of a boundary, and what becomes of them when domains are cut, joined and multiplied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.pde.regions.drawing import CANDIDATES, accepted, numbers

STEP = 1e-7  # in edges of the bounds: how far from a boundary its two sides are looked at
TRIALS = 1 << 14  # number of points by which the measure of a cut piece is estimated, to 0.4 % of the whole piece

Name = str | int
Contains = Callable[[Tensor], Tensor]  # points (n, d) -> bool (n,)
Operation = Callable[[Tensor, Tensor], Tensor]  # of two masks
Tests = tuple[Contains, ...]
Cut = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # points and normals -> those that remain


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of the boundary of a domain that has a name of its own.

    Attributes
    ----------
    name : str or int
        Such as "x-", "surface", or the number of a side of a polygon.
    measure : float
        Length, area, ..., in units of the coordinates; of a point, 1.
    sample : callable
        ``sample(n, generator)`` returns n points that are uniformly random on the piece and the outward unit normals
        there, float64 of shape (n, d) each.
    axis : str or None
        The axis that the piece is perpendicular to, if it is a face of a box.
    """

    name: Name
    measure: float
    sample: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    axis: str | None = None


def drawn(chosen: Sequence[tuple[Piece, Tests]], generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Draw candidates from pieces, in proportion to their measures, and return those that pass tests.

    Parameters
    ----------
    chosen : sequence of (Piece, tuple of callable)
        The pieces, each with the tests that its points have to pass.
    generator : torch.Generator
        A random stream on the CPU.
    n : int
        Number of candidates, at least one.

    Returns
    -------
    x, normal : Tensor of float64, shape (m, d) each
        The points that pass, m <= n, in random order, and the outward unit normals there.
    """
    found = []
    shares = numbers([piece.measure for piece, _ in chosen], n, generator)
    for (piece, tests), share in zip(chosen, shares.tolist(), strict=True):
        if share:
            x, normal = piece.sample(share, generator)
            left = ~failed(tests, x)
            found.append((x[left], normal[left]))
    x, normal = (torch.cat(tensors) for tensors in zip(*found, strict=True))
    order = torch.randperm(len(x), generator=generator)
    return x[order], normal[order]


def failed(tests: Tests, x: Tensor) -> Tensor:
    """Return which points, float64 of shape (n, d), fail one of the tests, as bool of shape (n,)."""
    result = torch.zeros(len(x), dtype=torch.bool)
    for test in tests:
        result |= ~test(x)
    return result


def cut_piece(piece: Piece, cut: Cut) -> Piece | None:
    """Return what remains of a piece, with a measure estimated by the share of points that remain.

    Parameters
    ----------
    piece : Piece
    cut : callable
        ``cut(x, normal)`` returns the points that remain with their normals, float64 of shape (m, d).

    Returns
    -------
    Piece or None
        None if none of 16,384 points remains.
    """
    remaining = len(cut(*piece.sample(TRIALS, torch.Generator().manual_seed(0)))[0])
    if not remaining:
        return None

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        refusal = f"the piece {piece.name} has no points: none of {CANDIDATES:,} candidates remains"
        return accepted(lambda m: cut(*piece.sample(m, generator)), n, refusal)

    return replace(piece, measure=piece.measure * remaining / TRIALS, sample=sample)


def joint_pieces(
    first: tuple[tuple[Piece, ...], Contains],
    second: tuple[tuple[Piece, ...], Contains],
    operation: Operation,
    edges: NDArray[np.float64],
) -> tuple[Piece, ...]:
    """Return the boundary of a union, an intersection or a difference of two domains.

    A point of either boundary belongs to the new one if the new domain is on one side of it only; the normal points to
    the other side. Where the boundaries coincide, the points are those of the first.

    Parameters
    ----------
    first, second : (tuple of Piece, callable)
        The boundary of each domain, and the test whether points are inside.
    operation : callable
        Maps the two answers, bool of shape (n,), to that of the new domain.
    edges : ndarray of float64, shape (d,)
        Lengths of the new domain along each axis: the units in which points count as near.

    Returns
    -------
    tuple of Piece
        What remains of the pieces, those of the first before those of the second. Names are kept, but a name of the
        second that the first has too gets a prime: "x-'".
    """
    (own, in_first), (its, in_second) = first, second
    scale = torch.tensor(edges)

    def sides(x: Tensor, normal: Tensor, contains: Contains) -> tuple[Tensor, Tensor]:
        """Tell whether another domain is on the inner and on the outer side of points of a boundary."""
        aside = (
            STEP * scale**2 * normal / (scale * normal).norm(dim=1, keepdim=True)
        )  # of length STEP in units of edges
        return contains(x - aside), contains(x + aside)

    def cut_first(x: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        before, behind = sides(x, normal, in_second)
        true = torch.ones_like(before)
        return changing(x, normal, operation(true, before), operation(~true, behind))

    def cut_second(x: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        before, behind = sides(x, normal, in_first)
        apart, true = before == behind, torch.ones_like(before)
        inner, outer = operation(before, true), operation(behind, ~true)
        return changing(x[apart], normal[apart], inner[apart], outer[apart])

    def changing(x: Tensor, normal: Tensor, inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
        kept = inner != outer
        return x[kept], torch.where(outer[:, None], 0.0 - normal, normal)[kept]

    cut_own = [cut_piece(piece, cut_first) for piece in own]
    cut_its = [cut_piece(piece, cut_second) for piece in primed(own, its)]
    return tuple(piece for piece in (*cut_own, *cut_its) if piece)


def primed(first: Iterable[Piece], second: Iterable[Piece]) -> list[Piece]:
    """Return the second pieces, with primes at the names that the first have already."""
    taken: set[Name] = {piece.name for piece in first}
    pieces = []
    for piece in second:
        name = piece.name
        while name in taken:
            name = f"{name}'"
        taken.add(name)
        pieces.append(replace(piece, name=name))
    return pieces


def times(piece: Piece, points: Callable[[int, torch.Generator], Tensor], volume: float, last: bool) -> Piece:
    """Return the product of a piece and a domain.

    Parameters
    ----------
    piece : Piece
    points : callable
        ``points(n, generator)`` returns n uniformly random points of the domain, float64 of shape (n, d).
    volume : float
        The volume of the domain.
    last : bool
        Whether the coordinates of the domain come after those of the piece.

    Returns
    -------
    Piece
    """

    def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, normal = piece.sample(n, generator)
        y = points(n, generator)
        rows = (x, y), (normal, torch.zeros_like(y))
        across, outward = (torch.cat(row if last else row[::-1], dim=1) for row in rows)
        return across, outward

    return replace(piece, measure=piece.measure * volume, sample=sample)
