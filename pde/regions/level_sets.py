"""Domains where a function is negative, with random points on its level set.

A point near the level set is brought onto it by Newton's method along the gradient. Points of a thin shell around it
arrive with a density that is uniform to first order in its thickness. Everything is done in units of the edges of the
box, so that axes of different units make no difference; points are then thinned out to be uniform in the coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepcd.pde.regions.binding import bound
from deepcd.pde.regions.boxes import box
from deepcd.pde.regions.contract import Domain
from deepcd.pde.regions.drawing import CANDIDATES, accepted, evenly
from deepcd.pde.regions.pieces import Piece, cut_piece

SHELL = 0.01  # half the thickness of the shell, in edges of the box
ITERATIONS = 8
EXACT = 1e-10  # distance from the level set, in edges of the box
ESTIMATE = 1 << 17  # number of points by which the measure of the surface is estimated, to 1 or 2 %


def level_set(phi: Callable[..., Tensor], /, periodic: str | Sequence[str] = (), **axes: tuple[float, float]) -> Domain:
    """Return the points of a box where a function is negative.

    Parameters
    ----------
    phi : callable
        A function of coordinates, which its arguments name in any order, such as ``lambda x, y: x**2 + y**2 - 1``. It
        takes tensors of float64, shape (n,), and returns one, by functions of torch. Its gradient must not vanish where
        it is zero. Features of its level set should be larger than a fiftieth of the edges of the box.
    periodic : str or sequence of str
        Names of axes that are periodic, as those of `box`; phi then has to be periodic along them.
    **axes : (low, high)
        The ends of each axis, by its name, in the order of the coordinates.

    Returns
    -------
    Domain
        Its boundary has the piece "surface", where phi is zero, if there is such a place, and the pieces "x-", "x+" and
        so on where phi is negative on faces of the box.

    Raises
    ------
    ValueError
        If phi is negative nowhere, returns anything but one number per point, is not a number somewhere, or has no
        gradient; or an argument is malformed.

    Examples
    --------
    >>> import torch
    >>> from deepcd.pde.regions import level_set
    >>> half = level_set(lambda y, x: x**2 + y**2 - 1, x=(0, 2), y=(-2, 2))
    >>> [(piece.name, round(piece.measure, 1)) for piece in half.pieces]
    [('surface', 3.1), ('x-', 2.0)]
    >>> x, normal = half["surface"].points(100, torch.Generator().manual_seed(0))
    >>> bool(((x - normal).abs() < 1e-8).all())
    True
    """
    frame = box(periodic, **axes)
    function = _Function(phi, frame)
    faces = [cut_piece(piece, function.negative) for piece in frame.pieces]
    pieces = [piece for piece in (function.surface(), *faces) if piece]
    return Domain(frame.axes, frame.bounds, pieces, contains=lambda x: function.values(x) < 0, periodic=frame.periodic)


class _Function:
    """The function of a level set on its box."""

    def __init__(self, phi: Callable[..., Tensor], frame: Domain) -> None:
        self.phi, self.axes = phi, frame.axes
        self.low, high = torch.tensor(frame.bounds).T
        self.edges = high - self.low

    def _call(self, x: Tensor) -> Tensor:
        result = bound(self.phi, dict(zip(self.axes, x.T, strict=True)), "phi")
        if not isinstance(result, Tensor) or result.shape != x.shape[:1] or not result.is_floating_point():
            got = f"{result.dtype} of shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"{result!r:.80}"
            raise ValueError(f"phi must return one real number per point, a tensor of shape ({len(x)},), got {got}")
        return result

    def values(self, x: Tensor) -> Tensor:
        """Return phi at points, and refuse what is not a number."""
        result = self._call(x)
        bad = result.isnan().nonzero()
        if len(bad):
            place = ", ".join(
                f"{axis} = {value:g}" for axis, value in zip(self.axes, x[bad[0, 0]].tolist(), strict=True)
            )
            raise ValueError(f"phi must be a number everywhere in the box, but it is NaN at {place}")
        return result

    def negative(self, x: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points where phi is negative, with their normals."""
        inside = self.values(x) < 0
        return x[inside], normal[inside]

    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return phi and its gradient at points; either may be NaN outside of the box."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            f = self._call(x)
            if not f.requires_grad:
                raise ValueError("phi has no gradient: write it with functions of torch, of the arguments that it gets")
            (gradient,) = torch.autograd.grad(f.sum(), x)
        return f.detach(), gradient

    def projected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the points of the level set that points of the unit cube are brought to.

        Parameters
        ----------
        u : Tensor of float64, shape (n, d)
            They stand for points of the box and of a margin around it, from where the shell reaches in.

        Returns
        -------
        x, normal : Tensor of float64, shape (m, d) each
        kept : Tensor of float64, shape (m,)
            The shares of the points that have to be kept for a uniform density.
        """
        edges = self.edges
        x = self.low + edges * (u * (1 + 4 * SHELL) - 2 * SHELL)
        f, gradient = self.slopes(x)
        x = start = x[f.abs() < SHELL * (edges * gradient).norm(dim=1)]
        for _ in range(ITERATIONS):
            f, gradient = self.slopes(x)
            square = (edges * gradient).square().sum(dim=1)
            x = x - (f / square)[:, None] * edges**2 * gradient
        f, gradient = self.slopes(x)
        slope, steepness = gradient.norm(dim=1), (edges * gradient).norm(dim=1)
        y = (x - self.low) / edges
        found = (f.abs() <= EXACT * steepness) & ((y >= -EXACT) & (y <= 1 + EXACT)).all(dim=1)
        found &= ((x - start) / edges).norm(dim=1) < 2 * SHELL
        x = self.low + edges * y.clamp(0, 1)
        normal, kept = gradient / slope[:, None], edges.min() * slope / steepness
        return x[found], normal[found], kept[found]

    def surface(self) -> Piece | None:
        """Return the level set as a piece of the boundary, or None if phi does not change its sign."""
        d = len(self.edges)
        u = evenly(ESTIMATE, d)
        kept = self.projected(u)[2]
        if not len(kept):
            f = self.values(self.low + self.edges * u)
            if (f < 0).any() and (f > 0).any():
                raise ValueError("phi changes its sign, but has no gradient there: give a function that crosses zero")
            return None
        share = float(kept.sum()) / ESTIMATE * (1 + 4 * SHELL) ** d
        measure = share / (2 * SHELL) * float(self.edges.prod() / self.edges.min())

        def draw(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, normal, kept = self.projected(torch.rand(m, d, dtype=torch.float64, generator=generator))
            chosen = torch.rand(len(x), dtype=torch.float64, generator=generator) < kept
            return x[chosen], normal[chosen]

        def sample(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            refusal = f"no point of the surface of phi was found from {CANDIDATES:,} points of the box"
            return accepted(lambda m: draw(m, generator), n, refusal)

        return Piece("surface", measure, sample)
