"""Samplers of collocation points under one contract, `Sampler`: uniform, residual-based, and generative ones."""

from __future__ import annotations

from typing import Any

from deepcd.solvers.pinn.samplers.contract import Inside as Inside
from deepcd.solvers.pinn.samplers.contract import Sampler as Sampler
from deepcd.solvers.pinn.samplers.generative import AAS as AAS
from deepcd.solvers.pinn.samplers.generative import DAS as DAS
from deepcd.solvers.pinn.samplers.generative import DASG as DASG
from deepcd.solvers.pinn.samplers.residual_based import R3 as R3
from deepcd.solvers.pinn.samplers.residual_based import RAD as RAD
from deepcd.solvers.pinn.samplers.residual_based import RARD as RARD
from deepcd.solvers.pinn.samplers.residual_based import RARG as RARG
from deepcd.solvers.pinn.samplers.residual_based import VRBA as VRBA
from deepcd.solvers.pinn.samplers.uniform import Sobol as Sobol
from deepcd.solvers.pinn.samplers.uniform import Uniform as Uniform

SAMPLERS: dict[str, type[Sampler]] = {
    "uniform": Uniform,
    "sobol": Sobol,
    "rar-g": RARG,
    "rar-d": RARD,
    "rad": RAD,
    "r3": R3,
    "vrba": VRBA,
    "das": DAS,
    "das-g": DASG,
    "aas": AAS,
}


def sampler(name: str, bounds: Any, *, seed: int = 0, inside: Inside | None = None, **options: Any) -> Sampler:
    """Return a sampler by its name.

    Parameters
    ----------
    name : str
        A key of `SAMPLERS`.
    bounds : array_like of float, shape (d, 2)
        The box.
    seed : int, default 0
        Seed of everything that is random about the sampler.
    inside : callable, optional
        Function from points, float64 of shape (n, d), to whether they lie in the domain, bool of shape (n,). Default:
        the domain is the box.
    **options
        Further arguments of the sampler's class.

    Returns
    -------
    Sampler

    Raises
    ------
    TypeError
        If `inside` is no such function.
    ValueError
        If there is no such sampler, the bounds are not a box, or the domain has no volume in it.

    Examples
    --------
    >>> from deepcd import pinn
    >>> points, log_density = pinn.sampler("aas", bounds=[(-1, 1), (-1, 1)], seed=0).sample(1000)
    >>> points.shape
    torch.Size([1000, 2])
    >>> disk = pinn.sampler("sobol", bounds=[(-1, 1), (-1, 1)], inside=lambda x: x.norm(dim=1) < 1)
    >>> bool((disk.sample(1000)[0].norm(dim=1) < 1).all())
    True
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[name](bounds, seed=seed, inside=inside, **options)
