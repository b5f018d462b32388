"""Samplers that choose among uniform candidates by the residual, and one that weights points instead.

RAR-G, RAD and RAR-D: Wu, Zhu, Tan, Kartha, Lu, "A comprehensive study of non-adaptive and residual-based adaptive
sampling for physics-informed neural networks", Comput. Methods Appl. Mech. Eng. 403, 2023. R3: Daw, Bu, Wang,
Perdikaris, Karpatne, "Mitigating propagation failures in physics-informed neural networks using retain-resample-release
(R3) sampling", ICML 2023. vRBA: Toscano et al., "A variational framework for residual-based adaptivity in neural PDE
solvers and operator learning", arXiv 2509.14198.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepcd.solvers.arguments import count
from deepcd.solvers.pinn.samplers.contract import Inside, Sampler, State, effective_share

POOL = 100_000  # number of candidates in the study of Wu et al.


class _Kept(Sampler):
    """A sampler whose points stay until an update moves them."""

    fresh = False

    def __init__(self, bounds: Any, *, seed: int = 0, inside: Inside | None = None) -> None:
        super().__init__(bounds, seed=seed, inside=inside)
        self.uniform(1)  # the points of a seed are those that follow this one

    def _forget(self) -> None:
        self._x, self._log_density = self.bounds.T[:0], self.bounds[:0, 0]

    def _remembered(self) -> Tensor:
        return self._x

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the points that are kept, followed by new uniform ones if there are fewer than n."""
        before, self._x = len(self._x), self.filled_up(self._x, n)
        uniform = torch.full((len(self._x) - before,), -self.log_volume, dtype=torch.float64)
        self._log_density = torch.cat([self._log_density, uniform])
        return self._x[:n].clone(), self._log_density[:n].clone()

    def state_dict(self) -> State:
        """Return the random stream and the points."""
        return {**super().state_dict(), "x": self._x, "log_density": self._log_density}

    def load_state_dict(self, state: State) -> None:
        """Continue with the points of that state."""
        super().load_state_dict(state)
        self._x, self._log_density = state["x"].clone(), state["log_density"].clone()


class _Watched(_Kept):
    """A sampler that needs the residual at its own points."""

    @property
    def probes(self) -> int:  # type: ignore[override]
        """Number of points that are kept."""
        return len(self._x)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Return the points of the last sample."""
        return self._x.clone(), self._log_density.clone()


class RAD(Sampler):
    """Points that are all drawn anew from candidates, without replacement.

    The probability of a candidate is proportional to |r|^k / mean |r|^k + c.

    Parameters
    ----------
    bounds, seed, inside
        See `Sampler`.
    k, c : float, default 1.0
        Exponent and offset of the probabilities.
    pool : int, default 100,000
        Number of uniform candidates for each update.
    """

    def __init__(
        self,
        bounds: Any,
        *,
        seed: int = 0,
        inside: Inside | None = None,
        k: float = 1.0,
        c: float = 1.0,
        pool: int = POOL,
    ) -> None:
        super().__init__(bounds, seed=seed, inside=inside)
        self._k, self._c, self.probes = k, c, count("pool", pool)

    def _forget(self) -> None:
        self._candidates, self._p = self.bounds.T[:0], self.bounds[:0, 0]

    def _remembered(self) -> Tensor:
        return self._candidates

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """Return points drawn from the candidates of the last update; before the first, uniform points."""
        if not len(self._candidates):
            if n > self.probes:
                raise ValueError(f"n must not exceed the {self.probes} candidates of an update, got {n}")
            return self.uniform(n)
        if n > len(self._candidates):
            raise ValueError(f"n must not exceed the {len(self._candidates)} candidates of the last update, got {n}")
        chosen = torch.multinomial(self._p, count("n", n), generator=self.generator)
        return self._candidates[chosen], _log_ratio(self._p, chosen) - self.log_volume

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        self._candidates, self._p = x, _probabilities(size, self._k, self._c)
        return {"effective share": effective_share(self._p)}

    def state_dict(self) -> State:
        """Return the random stream, the candidates and their probabilities."""
        return {**super().state_dict(), "candidates": self._candidates, "p": self._p}

    def load_state_dict(self, state: State) -> None:
        """Continue with the candidates of that state."""
        super().load_state_dict(state)
        self._candidates, self._p = state["candidates"].clone(), state["p"].clone()


class RARD(_Kept):
    """Uniform points, some of which are replaced at each update by candidates.

    The probability of a candidate is proportional to |r|^k / mean |r|^k + c. The number of points stays: the added
    points replace up to half of the initial ones, so that the last sample is that of the published method, half of it
    uniform and half added.

    Parameters
    ----------
    bounds, seed, inside
        See `Sampler`.
    k, c : float, default 2.0 and 0.0
        Exponent and offset of the probabilities.
    share : float, default 0.02
        Share of the points that is added at each update, in (0, 0.5].
    pool : int, default 100,000
        Number of uniform candidates for each update.
    """

    def __init__(
        self,
        bounds: Any,
        *,
        seed: int = 0,
        inside: Inside | None = None,
        k: float = 2.0,
        c: float = 0.0,
        share: float = 0.02,
        pool: int = POOL,
    ) -> None:
        super().__init__(bounds, seed=seed, inside=inside)
        if not 0 < share <= 0.5:
            raise ValueError(f"share must be in (0, 0.5], got {share}")
        self._k, self._c, self._share, self.probes = k, c, share, count("pool", pool)

    def _forget(self) -> None:
        super()._forget()
        self._added = 0

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        n = len(self._x)
        if not n:
            raise ValueError("update adds to the points of a sample, and there is none yet: call sample first")
        new = min(max(1, round(self._share * n)), n // 2 - self._added, len(x))
        if new <= 0:
            return {"added": 0.0, "added in all": float(self._added)}
        p = _probabilities(size, self._k, self._c)
        chosen = self._choose(p, new)
        place = slice(n - self._added - new, n - self._added)
        self._x[place] = x[chosen]
        self._log_density[place] = _log_ratio(p, chosen) - self.log_volume
        self._added += new
        return {"added": float(new), "added in all": float(self._added)}

    def _choose(self, p: Tensor, new: int) -> Tensor:
        return torch.multinomial(p.clamp_min(1e-300), new, generator=self.generator)

    def state_dict(self) -> State:
        """Return the random stream, the points, and how many of them were added."""
        return {**super().state_dict(), "added": torch.tensor(self._added)}

    def load_state_dict(self, state: State) -> None:
        """Continue with the points of that state."""
        super().load_state_dict(state)
        self._added = int(state["added"])


class RARG(RARD):
    """As `RARD`, but each update adds the candidates with the largest residuals."""

    def _choose(self, p: Tensor, new: int) -> Tensor:
        return p.topk(new).indices


class R3(_Watched):
    """Points that are retained while their residual is above average, and drawn anew otherwise."""

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        retained = size > size.mean()
        fresh, log_uniform = self.uniform(len(x))
        self._x = torch.where(retained[:, None], x, fresh)
        self._log_density = torch.where(retained, log_density, log_uniform)
        return {"retained": float(retained.double().mean())}


class VRBA(_Watched):
    """Points that stay, with weights that follow the residual: lambda <- gamma lambda + (1 - gamma) |r| / max |r|.

    The loss is the mean of (lambda r)^2, which is the quadratic potential of the variational framework.

    Parameters
    ----------
    bounds, seed, inside
        See `Sampler`.
    memory : float, default 0.9
        The decay factor gamma, in [0, 1).
    """

    def __init__(self, bounds: Any, *, seed: int = 0, inside: Inside | None = None, memory: float = 0.9) -> None:
        super().__init__(bounds, seed=seed, inside=inside)
        if not 0 <= memory < 1:
            raise ValueError(f"memory must be in [0, 1), got {memory}")
        self._memory = memory

    def _forget(self) -> None:
        super()._forget()
        self._lambda = torch.empty(0, dtype=torch.float64)

    def weights(self, n: int) -> Tensor:
        """Return lambda^2 at the points of the last sample."""
        ones = torch.ones(max(n - len(self._lambda), 0), dtype=torch.float64)
        return torch.cat([self._lambda, ones])[:n] ** 2

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        before = self.weights(len(size)).sqrt()
        self._lambda = self._memory * before + (1 - self._memory) * size / size.max().clamp_min(1e-300)
        return {"effective share": effective_share(self._lambda**2)}

    def state_dict(self) -> State:
        """Return the random stream, the points and their weights."""
        return {**super().state_dict(), "lambda": self._lambda}

    def load_state_dict(self, state: State) -> None:
        """Continue with the points and weights of that state."""
        super().load_state_dict(state)
        self._lambda = state["lambda"].clone()


def _probabilities(size: Tensor, k: float, c: float) -> Tensor:
    """Return |r|^k / mean |r|^k + c, divided by its sum; uniform if the residual is zero everywhere."""
    power = (size / size.max().clamp_min(1e-300)) ** k
    mean = power.mean()
    p = power / mean + c if mean > 0 else torch.ones_like(power)
    return p / p.sum()


def _log_ratio(p: Tensor, chosen: Tensor) -> Tensor:
    """Return the log density of points chosen from uniform candidates, in units of the uniform density."""
    return (p[chosen] / p.mean()).clamp_min(1e-300).log()
