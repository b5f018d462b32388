"""Right-hand sides for benchmarks and tests: white noise and smooth noise on the unknowns of a grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepcd.data.random_domains import resample
from deepcd.pde import CellSystem

RHS_KINDS = ("random", "smooth")


def right_hand_side(
    system: CellSystem, kind: Literal["random", "smooth"], rng: np.random.Generator, wavelength: float = 4.0
) -> NDArray[np.float64]:
    """Draw a right-hand side of a Poisson or diffusion system.

    Parameters
    ----------
    system : CellSystem
        System that the right-hand side is for.
    kind : {"random", "smooth"}
        White noise, or noise on a coarse lattice that is interpolated linearly.
    rng : numpy.random.Generator
        Source of the random numbers.
    wavelength : float, default 4.0
        Distance between lattice points of the smooth kind, in cells.

    Returns
    -------
    ndarray of float64, shape (unknowns,)
        Its mean on every sealed component is zero, so that a solution exists.

    Raises
    ------
    ValueError
        If the kind is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.data import right_hand_side
    >>> from deepcd.pde import domain, poisson
    >>> b = right_hand_side(poisson(domain((8, 8))), "smooth", np.random.default_rng(0))
    >>> b.shape, bool(abs(b.sum()) < 1e-12)
    ((64,), True)
    """
    if kind == "random":
        b = rng.standard_normal(len(system.cells))
    elif kind == "smooth":
        shape = system.shape
        field = rng.standard_normal([max(2, round(n / wavelength) + 1) for n in shape])
        for axis, n in enumerate(shape):
            field = resample(field, axis, n)
        b = field.ravel()[system.cells]
    else:
        raise ValueError(f"kind must be one of {', '.join(RHS_KINDS)}; got {kind!r}")
    sealed = system.sealed
    if sealed.any():
        component = system.component
        mean = np.bincount(component, weights=b, minlength=len(sealed)) / np.bincount(component, minlength=len(sealed))
        b = b - np.where(sealed, mean, 0.0)[component]
    return np.asarray(b, dtype=np.float64)
