"""PDE problems that networks are trained on, by name.

>>> from deepcd.pde.problems import problem
>>> problem("burgers").title
'u_t + u u_x = (0.01/π) u_xx'
"""

from collections.abc import Callable
from functools import partial

from deepcd.pde.extras import require

require("torch", extra="pinn", by="deepcd.pde.problems")

from deepcd.pde.equations.statements import Problem as Problem
from deepcd.pde.problems.allen_cahn import allen_cahn
from deepcd.pde.problems.evolution import burgers, convection, diffusion, moving_gaussian, wave
from deepcd.pde.problems.obstacles import Solve, obstacles
from deepcd.pde.problems.peaks import gaussian, one_peak, two_peaks, two_peaks_plain
from deepcd.pde.problems.periodic import burgers_periodic, kdv, kuramoto_sivashinsky

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "one_peak": one_peak,
    "two_peaks": two_peaks,
    "two_peaks_plain": two_peaks_plain,
    "gaussian_2d": partial(gaussian, 2),
    "gaussian_4d": partial(gaussian, 4),
    "gaussian_6d": partial(gaussian, 6),
    "gaussian_8d": partial(gaussian, 8),
    "gaussian_10d": partial(gaussian, 10),
    "gaussian_10d_nonlinear": partial(gaussian, 10, nonlinear=True),
    "diffusion": diffusion,
    "wave": wave,
    "convection": convection,
    "burgers": burgers,
    "burgers_periodic": burgers_periodic,
    "kdv": kdv,
    "kuramoto_sivashinsky": kuramoto_sivashinsky,
    "allen_cahn": allen_cahn,
    "moving_gaussian": moving_gaussian,
    "obstacles": obstacles,
}


def problem(name: str, solve: Solve | None = None) -> Problem:
    """Return the problem with a given name.

    Parameters
    ----------
    name : str
        A key of `PROBLEMS`.
    solve : callable, optional
        ``solve(A, b) -> x``, which computes the reference solution of "obstacles"; other problems do not need it.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        If there is no problem with this name, or `solve` is missing where it is needed.

    Examples
    --------
    >>> from deepcd.pde.problems import problem
    >>> problem("gaussian_4d").axes
    ('x1', 'x2', 'x3', 'x4')
    """
    if name not in PROBLEMS:
        raise ValueError(f"name must be one of {', '.join(PROBLEMS)}; got {name!r}")
    return obstacles(solve) if name == "obstacles" else PROBLEMS[name]()
