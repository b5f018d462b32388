"""A Poisson problem around three discs, whose reference solution is a sparse linear system on a grid.

-Laplace u = 1 holds in the square without the discs, and u = 0 on all boundaries: the torsion of a shaft with holes, or
slow flow through a channel around three rods. Two of the discs are 0.06 apart. The ansatz is a product of functions,
each of which vanishes on one part of the boundary (Lagaris, Likas, Fotiadis, IEEE Trans. Neural Networks 9, 1998). The
reference is computed by the five-point scheme with the discs as air cells, see `deepcd.pde.poisson`, and interpolated
bilinearly between cell centres.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse import csr_array
from torch import Tensor

from deepcd.pde.domains import ball, domain
from deepcd.pde.equations.statements import Problem
from deepcd.pde.poisson import poisson
from deepcd.pde.regions import level_set
from deepcd.pde.regions.sampling import Points, tensor_grid

Solve = Callable[[csr_array, NDArray[np.float64]], NDArray[Any]]

DISCS = ((-0.30, 0.30, 0.30), (0.36, 0.30, 0.30), (0.05, -0.45, 0.25))  # x, y and radius
FEWEST_CELLS = 64  # least number of cells per axis, with two cells in the gap


def obstacles(solve: Solve | None = None, cells: int = 2048) -> Problem:
    """Return the equation -Laplace u = 1 on (-1, 1)^2 around three discs, with u = 0 on all boundaries.

    Parameters
    ----------
    solve : callable
        ``solve(A, b) -> x`` for a symmetric positive definite csr_array A; called once, when the solution is first
        requested.
    cells : int, default 2048
        Number of cells per axis of the reference solution, at least 64.

    Returns
    -------
    Problem
        Its `solution_error` is 0.2 h, where h is the edge of a cell, because staircases approximate circles to first
        order. Compared with a series that is exact to 1e-6, the largest error is 0.10 h to 0.16 h for 64 to 2048 cells.
        With 2048 cells it is 1.1e-4, where u is up to 0.066, and the relative l2 error is 3.5e-4.

    Raises
    ------
    ValueError
        If `solve` is missing, `cells` is too small or, when the solution is requested, `solve` does not solve the
        system.
    TypeError
        If `solve` then returns anything but a vector.

    Examples
    --------
    >>> from scipy.sparse.linalg import spsolve
    >>> from deepcd.pde.problems.obstacles import obstacles
    >>> problem = obstacles(spsolve, cells=64)
    >>> problem.exact([[-0.7, -0.5], [0.36, 0.3]]).round(3).tolist()
    [[0.061, 0.0]]
    """
    if solve is None:
        raise ValueError(
            "the solution of the obstacles is computed: pass solve(A, b) -> x for a sparse symmetric positive definite "
            "A, such as scipy.sparse.linalg.spsolve, or lambda A, b: DeepCD.solve(A, b)[0]"
        )
    if cells != int(cells) or cells < FEWEST_CELLS:
        raise ValueError(
            f"cells must be an integer from {FEWEST_CELLS} up, to resolve the gap between the discs; got {cells!r}"
        )
    D = level_set(lambda x, y: -_clearance(x, y), x=(-1, 1), y=(-1, 1))
    interpolator = functools.cache(functools.partial(_reference, solve, cells))

    def ansatz(x: Any, y: Any, u: Any) -> Any:
        factors = [(square - r**2) / (square + r**2) for square, r in _squares(x, y)]
        return functools.reduce(operator.mul, factors, (1 - x**2) * (1 - y**2) * u)

    def solution(x: Tensor, y: Tensor) -> Points:
        return np.where(_clearance(x, y) > 0, interpolator()(np.stack([x, y], axis=1)), 0.0)

    def grid() -> Points:
        nodes = tensor_grid(D.bounds, (129, 129))
        return nodes[D.inside(torch.from_numpy(nodes)).numpy()]

    return Problem(
        lambda u: -u.xx - u.yy - 1,
        D,
        ansatz=ansatz,
        solution=solution,
        solution_error=0.2 * 2 / cells,
        name="obstacles",
        title="-Δu = 1 around three discs",
        grid=grid,
        reference="this project; ansatz after Lagaris, Likas, Fotiadis, IEEE Trans. Neural Networks 9, 1998",
    )


def _reference(solve: Solve, cells: int) -> RegularGridInterpolator:
    """Compute the reference solution on a grid of cells, and interpolate it."""
    h = 2 / cells
    air = functools.reduce(operator.or_, [ball((1 + cx, 1 + cy), r) for cx, cy, r in DISCS])
    system = poisson(domain((cells, cells), air=air, walls="air", spacing=h, air_at="face"))
    b = np.ones(len(system.cells))
    x = solve(system.A, b)
    if not isinstance(x, np.ndarray) or x.shape != b.shape:
        raise TypeError(f"solve(A, b) must return x alone, an array of shape {b.shape}; got {x!r:.80}")
    residual = float(np.linalg.norm(b - system.A @ x) / np.linalg.norm(b))
    if not residual < 1e-6:
        raise ValueError(f"solve(A, b) must leave a relative residual below 1e-6, got {residual:.1e}")
    axis = np.concatenate([[-1], -1 + (np.arange(cells) + 0.5) * h, [1]])
    return RegularGridInterpolator((axis, axis), np.pad(system.to_field(x), 1))


def _squares(x: Any, y: Any) -> list[tuple[Any, float]]:
    """Return the squared distances from the centres of the discs, and the radii."""
    return [((x - a) ** 2 + (y - b) ** 2, r) for a, b, r in DISCS]


def _clearance(x: Tensor, y: Tensor) -> Tensor:
    """Return a function that is positive outside of all discs."""
    return functools.reduce(torch.minimum, [square - r**2 for square, r in _squares(x, y)])
