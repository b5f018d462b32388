"""Samplers that draw points from a normalising flow whose density is trained on the residual.

AAS: Tang, Zhai, Wan, Yang, "Adversarial Adaptive Sampling: Unify PINN and Optimal Transport for the Approximation of
PDEs", ICLR 2024. DAS: Tang, Wan, Yang, "DAS-PINNs: A deep adaptive sampling method for solving high-dimensional partial
differential equations", J. Comput. Phys. 476, 2023.

Both train p = (1 - floor) p_flow + floor / |Omega| and draw their points from it. Without a floor, a region that p has
left would never be found again, since the gradient of a density vanishes where the density does. Densities are in units
of the uniform one, rho = p |Omega|, and lengths in half boxes, so that no constant has a dimension.

The published samplers use KRnet. Here the flow is its bounded variant, which starts uniform on the box. In a domain
within the box, Omega is the domain. The flow is trained where the domain is, which draws it in there, and the points
that it sends elsewhere are drawn again, so that their density is that of the flow over the share that stays.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.pinn.flows import BoxKRnet
from deepcd.solvers.pinn.optimizers.torch_state import load_state, state_of
from deepcd.solvers.pinn.samplers.contract import Inside, Sampler, State, effective_share

# Length, in half boxes, of the differences that approximate the derivative of p. Shorter ones miss the kinks of p.
STEP = 0.02
REMEMBERED = 10  # number of earlier samples whose points may be used again
# Bound on the importance of a point, which is 1 / rho of the density that it was drawn from. Half of all probes are
# uniform, so larger ones are not needed.
LARGEST_WEIGHT = 10.0
FOLLOWED = 16_384  # number of points that measure which share of the flow lies in the domain


class Generative(Sampler):
    """A flow with a floor, trained by Adam on importance-weighted points.

    Parameters
    ----------
    bounds, seed, inside
        See `Sampler`.
    floor : float, default 0.5
        Share of uniform points, in (0, 1). With few of them, a network that fits where p is large may be arbitrarily
        wrong elsewhere.
    steps : int, default 5
        Number of Adam steps at each update.
    batch : int, default 1,000
        Number of points in each step, drawn from those of the update.
    rate : float, default 3e-3
        Learning rate of Adam.
    """

    retains = True

    def __init__(
        self,
        bounds: Any,
        *,
        seed: int = 0,
        inside: Inside | None = None,
        floor: float = 0.5,
        steps: int = 5,
        batch: int = 1_000,
        rate: float = 3e-3,
    ) -> None:
        self._seed, self._rate = seed, tolerance("rate", rate)
        super().__init__(bounds, seed=seed, inside=inside)
        if not 0 < floor < 1:
            raise ValueError(f"floor must be in (0, 1), got {floor}: without uniform points lost regions stay lost")
        self._floor, self._steps, self._batch = floor, count("steps", steps), count("batch", batch)

    def _forget(self) -> None:
        self.flow = BoxKRnet(self.bounds.numpy(), seed=self._seed)
        self._adam = torch.optim.Adam(self.flow.parameters(), lr=self._rate)

    def density(self, x: Tensor, staying: float = 1.0) -> Tensor:
        """Return rho = p |Omega|, the density in units of the uniform one, at points x of shape (n, d).

        `staying` is the share of the flow's points that are not rejected. A training leaves it at 1, which makes the
        flow lose density by what it sends out of the domain.
        """
        return self._floor + (1 - self._floor) / staying * (self.flow.log_prob(x) + self.log_volume).exp()

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points drawn from p: those of a scrambled Sobol sequence, mapped by the inverse flow or left uniform.

        A smooth map preserves the evenness of a low-discrepancy sequence, so the mean of r^2 over these points is
        nearer to its expectation than the mean over random points.
        """
        x = self.points(n)
        return x, self._log_density(x)

    def points(self, n: int) -> Tensor:
        """Return the points of a sample, without their densities, which take as long as the points."""
        return self._draw(n)[0]

    def _draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points drawn from p, and the indices of those that the flow has moved, in random order."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        engine = SobolEngine(len(self.bounds), scramble=True, seed=seed)
        unit = engine.draw(count("n", n), dtype=torch.float64)
        x = self._in_box(unit)
        moved = torch.randperm(n, generator=self.generator)[: n - round(self._floor * n)]
        x[moved] = self._through_flow(unit[moved])
        if self.inside is None:
            return x, moved

        def draw_again(rows: Tensor, placed: Callable[[Tensor], Tensor]) -> None:
            x[rows] = self.accepted(lambda m: placed(engine.draw(m, dtype=torch.float64)), int(rows.sum()))

        by_flow = torch.zeros(n, dtype=torch.bool)
        by_flow[moved] = True
        out = ~self.holds(x)
        draw_again(out & by_flow, self._through_flow)
        draw_again(out & ~by_flow, self._in_box)  # apart, so that the share of uniform points stays
        return x, moved

    def _through_flow(self, unit: Tensor) -> Tensor:
        """Return the points of the box to which the inverse flow maps points of the unit cube."""
        low, high = self.bounds.T
        with torch.no_grad():
            return self.flow.inverse((2 * unit - 1).to(torch.float32))[0].to(torch.float64).clamp(low, high)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return points of which half are uniform and half are drawn from p, with the log density of this mixture."""
        half = self.probes // 2
        x = torch.cat([self.uniform(self.probes - half)[0], self._draw(half)[0]])
        rho = (self._log_density(x) + self.log_volume).exp()
        return x, (0.5 + 0.5 * rho).log() - self.log_volume

    def _log_density(self, x: Tensor) -> Tensor:
        staying = self._staying()
        with torch.no_grad():
            parts = [self.density(part.to(torch.float32), staying) for part in x.split(20_000)]
        return torch.cat(parts).to(torch.float64).log() - self.log_volume

    def _staying(self) -> float:
        """Return the share of the flow's points that lie in the domain, at least one in those that are counted."""
        if self.inside is None:
            return 1.0
        unit = SobolEngine(len(self.bounds), scramble=True, seed=0).draw(FOLLOWED, dtype=torch.float64)
        return max(int(self.holds(self._through_flow(unit)).sum()), 1) / FOLLOWED

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        weights = (-log_density - self.log_volume).exp().clamp_max(LARGEST_WEIGHT)
        squares = size**2
        mean = float((weights * squares).sum() / weights.sum())
        self._note(mean)
        if mean == 0:
            return {"mean square": 0.0, "steps": 0.0}
        ratio = self._ratio(squares)
        losses = []
        for _ in range(self._steps):
            chosen = torch.randint(len(x), (min(self._batch, len(x)),), generator=self.generator)
            part = [values[chosen].to(torch.float32) for values in (x, weights, ratio)]
            loss = self._loss(*part)
            self._adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
            self._adam.step()
            losses.append(float(loss.detach()))
        some = slice(None, None, max(1, len(x) // self._batch))
        rho = (self._log_density(x[some]) + self.log_volume).exp()
        importance = effective_share(weights[some] * rho)
        return {"mean square": mean, "loss": losses[-1], "largest density": float(rho.max()), "overlap": importance}

    @abstractmethod
    def _ratio(self, squares: Tensor) -> Tensor:
        """Return r^2 over the mean that it is compared with."""

    @abstractmethod
    def _loss(self, x: Tensor, weights: Tensor, ratio: Tensor) -> Tensor:
        """Return the loss of the flow for float32 points with importance weights."""

    def _note(self, mean: float) -> None:
        """Remember the mean of r^2 over the domain."""
        self._mean = mean

    def state_dict(self) -> State:
        """Return the random stream, the flow and its optimiser's moments."""
        state = super().state_dict()
        for name, value in self.flow.state_dict().items():
            state[f"flow.{name}"] = value.clone()
        return state | {f"adam.{name}": torch.from_numpy(value) for name, value in state_of(self._adam).items()}

    def load_state_dict(self, state: State) -> None:
        """Continue with the flow and the optimiser's moments of that state."""
        super().load_state_dict(state)
        flow, adam = (
            {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
            for own in ("flow.", "adam.")
        )
        self.flow.load_state_dict(flow)
        load_state(self._adam, {name: value.numpy() for name, value in adam.items()})


class AAS(Generative):
    """Points drawn from an adversary p, which maximises the mean of r^2 under p minus a price for the steepness of p.

    This is the max step of min_theta max_p: with r fixed, p maximises E_p[r^2] - beta int |grad p|^2, estimated on
    points with importance weights. The paper's beta is a constant with a dimension. Here, in half boxes, beta =
    stiffness * <r^2>, where <r^2> is a slow average over the updates of the mean square of the residual: when the
    residual falls, the price falls more slowly, so that p flattens as it does with a constant beta. In these units the
    volume of a box is 2^d and p is rho / 2^d, so the price of a given multiple of the uniform density falls with d.
    |grad p|^2 is estimated as d times the squared difference quotient of p along a random direction.

    Parameters
    ----------
    bounds, seed, inside, floor, steps, batch, rate
        See `Generative`.
    replay : float, default 0.5
        Share of the moved points that are taken from earlier samples, in [0, 1). In a game of two, the moves may
        circle forever while their averages over time converge (Brown's fictitious play, 1951). Without earlier points,
        the network would forget a peak once it is fitted and the points have left it.
    stiffness : float, default 0.012
        beta in units of <r^2> and half boxes.
    memory : float, default 0.5
        Decay factor of the geometric average, log <r^2> <- memory log <r^2> + (1 - memory) log mean r^2, in [0, 1).
    beta : float, optional
        A constant beta as in the paper, in units of r^2 and half boxes, which replaces the one from `stiffness`.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.pinn.samplers.generative import AAS
    >>> sampler = AAS([(-1, 1), (-1, 1)], seed=0, steps=100)
    >>> for _ in range(5):
    ...     x, log_density = sampler.probe()
    ...     diagnostics = sampler.update(x, log_density, torch.exp(-10 * ((x - 0.5) ** 2).sum(1)))
    >>> x, _ = sampler.sample(1000)
    >>> bool((x.mean(dim=0) > 0.2).all())
    True
    """

    def __init__(
        self,
        bounds: Any,
        *,
        replay: float = 0.5,
        stiffness: float = 0.012,
        memory: float = 0.5,
        beta: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(bounds, **options)
        if not 0 <= replay < 1:
            raise ValueError(f"replay must be in [0, 1), got {replay}")
        self._replay = replay
        self._stiffness, self._beta = tolerance("stiffness", stiffness), beta
        if not 0 <= memory < 1:
            raise ValueError(f"memory must be in [0, 1), got {memory}")
        if beta is not None:
            tolerance("beta", beta)
        self._memory = memory
        low, high = self.bounds.T
        self._half = ((high - low) / 2).to(torch.float32)

    def _forget(self) -> None:
        super()._forget()
        self._past, self._average = self.bounds.T[:0], math.nan

    def _remembered(self) -> Tensor:
        return self._past

    def points(self, n: int) -> Tensor:
        """Return points drawn from p, some of them at earlier samples."""
        x, moved = self._draw(n)
        again = moved[: min(round(self._replay * len(moved)), len(self._past))]
        fresh = x[moved]
        if len(again):
            x[again] = self._past[torch.randperm(len(self._past), generator=self.generator)[: len(again)]]
            fresh = x[moved[len(again) :]]
        most = REMEMBERED * len(moved)
        if len(self._past) >= most > 0:
            leaves = torch.randperm(len(self._past), generator=self.generator)[: len(self._past) - most + len(fresh)]
            stays = torch.ones(len(self._past), dtype=torch.bool)
            stays[leaves] = False
            self._past = self._past[stays]
        self._past = torch.cat([self._past, fresh])
        return x

    def _note(self, mean: float) -> None:
        super()._note(mean)
        if mean > 0:
            before = math.log(mean) if math.isnan(self._average) else math.log(self._average)
            self._average = math.exp(self._memory * before + (1 - self._memory) * math.log(mean))

    def _ratio(self, squares: Tensor) -> Tensor:
        return squares / self._average

    def _loss(self, x: Tensor, weights: Tensor, ratio: Tensor) -> Tensor:
        n, d = x.shape
        direction = torch.nn.functional.normalize(torch.randn(x.shape, generator=self.generator), dim=1)
        step = STEP * self._half * direction
        low, high = self.bounds.T.to(torch.float32)
        step = torch.where((x + step < low) | (x + step > high), -step, step)
        rho, beside = self.density(torch.cat([x, x + step])).split(n)
        steepness = d * ((beside - rho) / STEP) ** 2
        price = (self._stiffness if self._beta is None else self._beta / self._average) / (2**d * self._fraction)
        return -(weights * (ratio * rho - price * steepness)).mean()

    def state_dict(self) -> State:
        """Return the random stream, the flow, its optimiser's moments, the earlier points, and the slow average."""
        average = torch.tensor(self._average, dtype=torch.float64)
        return {**super().state_dict(), "past": self._past, "average": average}

    def load_state_dict(self, state: State) -> None:
        """Continue with the flow, moments, earlier points and average of that state."""
        super().load_state_dict(state)
        self._past = state["past"].clone()
        self._average = float(state["average"])


class DAS(Generative):
    """Points drawn from a density that is fitted to r^2 / int r^2 by cross-entropy; each sample replaces all points."""

    def _ratio(self, squares: Tensor) -> Tensor:
        return squares / self._mean

    def _loss(self, x: Tensor, weights: Tensor, ratio: Tensor) -> Tensor:
        return -(weights * ratio * self.density(x).log()).mean()


class DASG(DAS):
    """As `DAS`, but each update replaces only some of the initial uniform points.

    Parameters
    ----------
    share : float, default 0.1
        Share of the points that is replaced at each update, in (0, 1].
    **options
        See `DAS`.
    """

    fresh = False

    def __init__(self, bounds: Any, *, share: float = 0.1, **options: Any) -> None:
        super().__init__(bounds, **options)
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self._share = share

    def _forget(self) -> None:
        super()._forget()
        self._x = self.bounds.T[:0]

    def _remembered(self) -> Tensor:
        return self._x

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the points that are kept, followed by new uniform ones if there are fewer than n."""
        x = self.points(n)
        return x, self._log_density(x)

    def points(self, n: int) -> Tensor:
        """Return the points of a sample, without their densities."""
        self._x = self.filled_up(self._x, n)
        return self._x[:n].clone()

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return uniform points."""
        return self.uniform(self.probes)

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        n = len(self._x)
        if not n:
            raise ValueError("update adds to the points of a sample, and there is none yet: call sample first")
        diagnostics = super()._learn(x, log_density, size)
        new = max(1, round(self._share * n))
        self._x = torch.cat([self._draw(new)[0], self._x[: n - new]])
        return {**diagnostics, "added": float(new)}

    def state_dict(self) -> State:
        """Return the random stream, the flow, its optimiser's moments and the points."""
        return {**super().state_dict(), "x": self._x}

    def load_state_dict(self, state: State) -> None:
        """Continue with the flow, moments and points of that state."""
        super().load_state_dict(state)
        self._x = state["x"].clone()
