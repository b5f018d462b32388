"""The contract of samplers: they provide points to train on, and learn from the residual there."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from deepcd.pde.regions.sampling import as_box, in_box
from deepcd.solvers.arguments import count

State = dict[str, Tensor]
Inside = Callable[[Tensor], Tensor]

COUNTED = 65_536  # points that measure a domain: the area of a disk comes out right to 1e-4
# Points that are drawn at most before a domain is found too thin: so many, or so many for each point that is wanted.
CANDIDATES, CANDIDATES_EACH = 1_000_000, 100
PART = 10_000  # number of points that `inside` is asked about at once, so that it may take memory for each


class Sampler(ABC):
    """Collocation points in a box, or in a domain of any shape within a box.

    A training alternates: it trains on ``sample(n)``, evaluates the residual at ``probe()``, and passes it to
    ``update``. Each sampler keeps the number of points, works in float64, and has a random stream of its own.

    Points outside the domain are rejected, and others drawn in their place. The volume of the domain is that of the box
    times the share of 65,536 points of a Sobol sequence that lie inside.

    Parameters
    ----------
    bounds : array_like of float, shape (d, 2)
        The box; finite, low < high on each axis.
    seed : int, default 0
        Seed of the random stream.
    inside : callable, optional
        Function from points, float64 of shape (n, d), to whether they lie in the domain, bool of shape (n,). Default:
        the domain is the box.

    Attributes
    ----------
    probes : int
        Number of points that `probe` returns; with 0 the sampler does not learn from the residual.
    fresh : bool
        Whether each sample consists of new points; otherwise a sampler keeps its points, and replaces some of them.
    retains : bool
        Whether, where points are replaced bit by bit, those whose residual is above average are to stay.
    inside : callable or None
        See above; `confine` changes it.

    Raises
    ------
    TypeError
        If `inside` is not callable, or does not return a Tensor of bool.
    ValueError
        If the bounds are not a box, or the domain has no point in it that a count could find.
    """

    probes = 10_000
    fresh = True
    retains = False

    def __init__(self, bounds: Any, *, seed: int = 0, inside: Inside | None = None) -> None:
        self.bounds = torch.from_numpy(as_box(bounds))
        self.generator = torch.Generator().manual_seed(count("seed", seed, least=0))
        self.inside: Inside | None = None
        self._fraction = 1.0
        self._forget()
        if inside is not None:
            self.confine(inside)

    def confine(self, inside: Inside | None) -> None:
        """Set the domain, and begin anew if it is another one than before; only the random stream goes on.

        Parameters
        ----------
        inside : callable or None
            As for the class; None means the whole box.

        Raises
        ------
        TypeError, ValueError
            As for the class. The sampler then stays as it was.

        Examples
        --------
        >>> from deepcd import pinn
        >>> sampler = pinn.sampler("uniform", bounds=[(-1, 1), (-1, 1)])
        >>> sampler.confine(lambda x: x.norm(dim=1) < 1)
        >>> x, log_density = sampler.sample(1000)
        >>> bool((x.norm(dim=1) < 1).all()), round(float(1 / log_density[0].exp()), 2)
        (True, 3.14)
        """
        if not (inside is None or callable(inside)):
            raise TypeError(f"inside must be a function from points to bool, or None, got {inside!r}")
        unit = SobolEngine(len(self.bounds), scramble=True, seed=0).draw(COUNTED, dtype=torch.float64)
        x = self._in_box(unit)
        held, before = _held(inside, x), self.holds(x)
        if not held.any():
            raise ValueError(
                f"none of {COUNTED:,} points of the box {self.bounds.tolist()} is inside the domain: "
                "choose a box that fits it closely, and a domain that has a volume"
            )
        self.inside, self._fraction = inside, float(held.double().mean())
        if not torch.equal(held, before) or not self.holds(self._remembered()).all():
            self._forget()

    def _forget(self) -> None:  # noqa: B027 # some samplers learn nothing
        """Forget what was drawn and learned."""

    def _remembered(self) -> Tensor:
        """Return the points that may be returned again."""
        return self.bounds.T[:0]

    def _in_box(self, unit: Tensor) -> Tensor:
        """Return the points of the box that correspond to points of the unit cube."""
        low, high = self.bounds.T
        return (low + (high - low) * unit).clamp(low, high)

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of the domain, which is minus the log density of uniform points."""
        return float((self.bounds[:, 1] - self.bounds[:, 0]).log().sum()) + math.log(self._fraction)

    @abstractmethod
    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points to train on.

        Parameters
        ----------
        n : int
            Number of points, at least 1.

        Returns
        -------
        x : Tensor of float64, shape (n, d)
            Points in the domain.
        log_density : Tensor of float64, shape (n,)
            Log density, with respect to x, of the distribution that the points were drawn from.
        """

    def points(self, n: int) -> Tensor:
        """Return the points of a sample, without their densities."""
        return self.sample(n)[0]

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the points at which `update` needs the residual, in the form of `sample`; uniform ones by default."""
        return self.uniform(self.probes)

    def update(self, x: Tensor, log_density: Tensor, residual: Tensor) -> dict[str, float]:
        """Take the residual into account in the next samples.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Points, as returned by `probe`.
        log_density : Tensor, shape (n,)
            Log density of the distribution that the points were drawn from.
        residual : Tensor, shape (n,)
            Residual of the PDE at the points; its sign does not matter.

        Returns
        -------
        dict of str to float
            Diagnostics, by name.

        Raises
        ------
        ValueError
            If shapes differ, or a number is not finite.
        """
        x, log_density = x.detach().to(torch.float64), log_density.detach().to(torch.float64)
        size = residual.detach().to(torch.float64).abs()
        d = len(self.bounds)
        if x.ndim != 2 or x.shape[1] != d or log_density.shape != x.shape[:1] or size.shape != x.shape[:1]:
            shapes = ", ".join(str(tuple(t.shape)) for t in (x, log_density, size))
            raise ValueError(f"update takes x (n, {d}), log_density (n,) and residual (n,), got shapes {shapes}")
        if not len(x):
            raise ValueError("update takes at least one point, got none")
        for name, values in (("x", x), ("log_density", log_density), ("residual", size)):
            if not values.isfinite().all():
                worst = int((~values.isfinite().reshape(len(x), -1).all(dim=1)).nonzero()[0, 0])
                raise ValueError(f"{name} must be finite, but is not at point {x[worst].tolist()}")
        return self._learn(x, log_density, size)

    @abstractmethod
    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        """Implement `update` for validated arguments; `size` is the absolute value of the residual."""

    def turn(self, n: int, residual: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Learn from the residual, if this sampler does, and return the next points.

        Parameters
        ----------
        n : int
            Number of points, at least 1. Points that a sampler moves must have been drawn by `sample` before.
        residual : callable
            Function from points, shape (m, d), to the residual of the PDE there, shape (m,).

        Returns
        -------
        x : Tensor of float64, shape (n, d)
        diagnostics : dict of str to float
            What `update` returned.
        """
        diagnostics: dict[str, float] = {}
        if self.probes:
            x, log_density = self.probe()
            diagnostics = self.update(x, log_density, residual(x))
        return self.points(n), diagnostics

    def weights(self, n: int) -> Tensor:
        """Return the weights that the squared residuals of the last sample have in the loss; ones by default."""
        return torch.ones(n, dtype=torch.float64)

    def state_dict(self) -> State:
        """Return everything that decides the next samples."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: State) -> None:
        """Continue from the state of a sampler of the same class and options."""
        self.generator.set_state(state["generator"])

    def uniform(self, n: int) -> tuple[Tensor, Tensor]:
        """Return uniform points of the domain with their log density."""
        x = self.accepted(lambda m: in_box(self.bounds.numpy(), m, self.generator), count("n", n))
        return x, torch.full((n,), -self.log_volume, dtype=torch.float64)

    def accepted(self, draw: Callable[[int], Tensor], n: int) -> Tensor:
        """Return the first n points inside the domain among those that a function draws.

        Parameters
        ----------
        draw : callable
            ``draw(m)`` returns m points of the box, float64 of shape (m, d), and other ones at each call.
        n : int

        Returns
        -------
        Tensor of float64, shape (n, d)

        Raises
        ------
        ValueError
            If a million points, or a hundred for each one that is wanted, are not enough.
        """
        if self.inside is None:
            return draw(n)
        kept, found, tried, wanted = [self.bounds.T[:0]], 0, 0, n
        most = max(CANDIDATES, CANDIDATES_EACH * n)
        while found < n:
            if tried >= most:
                raise ValueError(
                    f"{found:,} of {tried:,} points drawn from the box are inside the domain, an acceptance rate of "
                    f"{found / tried:.2g} where {n:,} points are wanted: choose a box that fits the domain more closely"
                )
            x = draw(min(wanted, most - tried))
            kept.append(x[self.holds(x)])
            tried, found = tried + len(x), found + len(kept[-1])
            wanted = min(math.ceil((n - found) * tried / max(found, 1)), 10 * PART)
        return torch.cat(kept)[:n]

    def holds(self, x: Tensor) -> Tensor:
        """Return whether points of the box lie in the domain, a Tensor of bool, shape (n,)."""
        return _held(self.inside, x)

    def filled_up(self, x: Tensor, n: int) -> Tensor:
        """Return points x, followed by new uniform points if there are fewer than n."""
        missing = count("n", n) - len(x)
        return torch.cat([x, self.uniform(missing)[0]]) if missing > 0 else x


def _held(inside: Inside | None, x: Tensor) -> Tensor:
    """Return what `inside` says of points, asked about some of them at a time, or raise a TypeError."""
    if inside is None or not len(x):
        return torch.ones(len(x), dtype=torch.bool)
    parts = []
    for part in x.split(PART):
        held = inside(part)
        if not isinstance(held, Tensor) or held.dtype != torch.bool or held.shape != (len(part),):
            got = f"{held.dtype}, {tuple(held.shape)}" if isinstance(held, Tensor) else type(held).__name__
            raise TypeError(f"inside must return a Tensor of bool, shape ({len(part)},), for as many points, got {got}")
        parts.append(held)
    return torch.cat(parts)


def effective_share(weights: Tensor) -> float:
    """Return the effective sample size of n weights over n: 1 if all are equal, 1/n if all but one are zero."""
    total = float(weights.sum())
    return total**2 / (len(weights) * float((weights**2).sum())) if total > 0 else math.nan
